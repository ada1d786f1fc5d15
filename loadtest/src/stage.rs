//! The room in which a scenario plays, and what is sold there.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use maishou::{
    client::{Error, Http, Merchant, NewProduct, Rest, Server},
    id::{Money, ProductId, RoomId, SkuId, Sub},
    protocol::{Role, Snapshot},
};
use tokio::time::interval;

use crate::{scenario::Scenario, token::Tokens};

const DEMO_ROOM: &str = "demo";
const ANCHOR: &str = "loadtest-anchor";
const MERCHANT: &str = "loadtest-merchant";
/// Looks at a room that has nothing on its shelf yet, a tenth of a second apart.
const SHELF_LOOKS_MAX: usize = 100;

pub struct Stage {
    pub room: RoomId,
    pub anchor: Rest,
    /// Whose goods they are; none in a demo.
    pub merchant: Option<Merchant>,
    pub goods: Vec<NewProduct>,
    /// The opening stock.
    pub opening: BTreeMap<SkuId, u64>,
    open: Rest,
}

impl Stage {
    /// A room of its own with goods and a running show, or the demo's.
    pub async fn set(scenario: &Scenario, server: &Server, tokens: &Tokens, name: &str) -> anyhow::Result<Self> {
        let http = Http::new(server.clone(), maishou::client::Config::default());
        let open = Rest::anonymous(http.clone());
        if matches!(tokens, Tokens::Demo { .. }) {
            return Self::demo(http, open, tokens).await;
        }
        let room: RoomId = name.parse()?;
        let merchant = Merchant(Rest::new(http.clone(), tokens.one(&room, Role::Merchant, MERCHANT).await?));
        let anchor = Rest::new(http, tokens.one(&room, Role::Anchor, ANCHOR).await?);
        let goods = goods(scenario, &room)?;
        make(scenario, &merchant, &anchor, &room, &goods).await.map_err(explain)?;
        let opening = goods.iter().flat_map(|product| &product.skus).map(|(sku, _, stock)| (sku.clone(), *stock));
        Ok(Self { opening: opening.collect(), room, anchor, merchant: Some(merchant), goods, open })
    }

    async fn demo(http: Http, open: Rest, tokens: &Tokens) -> anyhow::Result<Self> {
        let room: RoomId = DEMO_ROOM.parse()?;
        let anchor = Rest::new(http, tokens.one(&room, Role::Anchor, ANCHOR).await?);
        let snapshot = with_shelf(&open, &room).await?;
        let total = |sku: &SkuId| snapshot.stock.get(sku).map_or(0, |count| count.available + count.held + count.sold);
        let goods = snapshot.shelf.iter().map(|product| NewProduct {
            id: product.id.clone(),
            title: product.title.clone(),
            price: product.price,
            image: None,
            skus: product.skus.iter().map(|sku| (sku.id.clone(), sku.title.clone(), total(&sku.id))).collect(),
            limit_per_user: None,
            limit_per_order: None,
        });
        let goods: Vec<NewProduct> = goods.collect();
        Ok(Self { room, anchor, merchant: None, opening: BTreeMap::new(), goods, open })
    }

    /// Made for this run: nobody else is in it.
    pub fn is_ours(&self) -> bool {
        self.merchant.is_some()
    }

    /// The room as the server has it.
    pub async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Ok(self.open.room(&self.room).await?)
    }

    /// A stranger's calls.
    pub fn open(&self) -> &Rest {
        &self.open
    }

    /// The SKUs of each product.
    pub fn skus(&self) -> Vec<Vec<SkuId>> {
        self.goods.iter().map(|product| product.skus.iter().map(|(sku, ..)| sku.clone()).collect()).collect()
    }

    /// Ends the show of a room of ours.
    pub async fn close(&self) -> anyhow::Result<()> {
        if self.is_ours() {
            self.anchor.end_show(&self.room).await.context("the show could not be ended")?;
        }
        Ok(())
    }
}

/// What is wrong with a server that does not let us make a room.
fn explain(error: Error) -> anyhow::Error {
    let remedy = match &error {
        Error::Refused(fault) if fault.code.as_str() == "unauthorized" => {
            "the server does not know our tokens: --secret-file (or MAISHOU_AUTH__SECRET) must hold its auth.secret"
        }
        Error::Connect(_) | Error::Http(_) | Error::Timeout(_) => {
            "the server does not answer: start it, or leave --server out and one is started for the run"
        }
        _ => "the room of the run could not be made",
    };
    anyhow::Error::new(error).context(remedy)
}

/// The room as it is once something is on its shelf: a demo that just began still fills it.
async fn with_shelf(open: &Rest, room: &RoomId) -> anyhow::Result<Snapshot> {
    let mut look = interval(Duration::from_millis(100));
    for _ in 0..SHELF_LOOKS_MAX {
        look.tick().await;
        let snapshot = open.room(room).await.context("the room cannot be read")?;
        if !snapshot.shelf.is_empty() {
            return Ok(snapshot);
        }
    }
    bail!("nothing is on the shelf of {room}")
}

fn goods(scenario: &Scenario, room: &RoomId) -> anyhow::Result<Vec<NewProduct>> {
    let product = |number: usize| -> anyhow::Result<NewProduct> {
        let id: ProductId = format!("{room}-p{number}").parse()?;
        let sku = |n: usize| -> anyhow::Result<(SkuId, String, u64)> {
            Ok((format!("{id}-s{n}").parse()?, format!("Kind {n}"), scenario.show.stock))
        };
        let skus = (1..=scenario.show.skus_per_product).map(sku).collect::<anyhow::Result<_>>()?;
        let price = Money { amount: 9_900 + number as i64, currency: "CNY".parse()? };
        let title = format!("Goods {number} 商品 {number}");
        Ok(NewProduct { id, title, price, image: None, skus, limit_per_user: None, limit_per_order: None })
    };
    (1..=scenario.show.products).map(product).collect()
}

async fn make(
    scenario: &Scenario,
    merchant: &Merchant,
    anchor: &Rest,
    room: &RoomId,
    goods: &[NewProduct],
) -> Result<(), Error> {
    let anchor_sub: Sub = ANCHOR.parse().expect("the name is a sub");
    merchant.make_room(room, &format!("Load test: {}", scenario.name), &anchor_sub, &[]).await?;
    for product in goods {
        merchant.put_product(product).await?;
    }
    let shelf: Vec<ProductId> = goods.iter().map(|product| product.id.clone()).collect();
    anchor.shelf(room, &shelf).await?;
    anchor.start_show(room).await
}
