use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, bail};
use maishou::{
    client::{Http, Merchant, NewProduct, Rest, Server},
    clock::Clock,
    id::{Money, ProductId, RoomId, SkuId, Sub},
    protocol::{Role, Snapshot, StockCount},
};
use tokio::time::interval;

use crate::{scenario::Scenario, token::Tokens};

const DEMO_ROOM: &str = "demo";
const ANCHOR: &str = "loadtest-anchor";
/// Looks at a room that has nothing on its shelf yet, a tenth of a second apart.
const SHELF_LOOKS_MAX: usize = 100;

/// The room in which a scenario plays, and what is sold there.
pub struct Stage {
    pub room: RoomId,
    pub anchor: Rest,
    pub products: Vec<ProductId>,
    /// The stock as the curtain rose.
    pub stock: BTreeMap<SkuId, StockCount>,
    /// Made for this run: nobody else is in it.
    pub is_ours: bool,
    open: Rest,
}

impl Stage {
    /// A room of its own with a product and a running show, or the demo's.
    pub async fn set(scenario: &Scenario, server: &Server, tokens: &Tokens, clock: &Clock) -> anyhow::Result<Self> {
        let http = Http::new(server.clone(), maishou::client::Config::default());
        let is_ours = matches!(tokens, Tokens::Minted { .. });
        let room: RoomId = if is_ours { format!("loadtest-{}", clock.now().0).parse()? } else { DEMO_ROOM.parse()? };
        let anchor = if is_ours {
            make(scenario, &http, tokens, &room).await.context("the room could not be made")?
        } else {
            Rest::new(http.clone(), tokens.one(&room, Role::Anchor, ANCHOR).await?)
        };

        let open = Rest::anonymous(http);
        let snapshot = with_shelf(&open, &room).await?;
        let products = snapshot.shelf.into_iter().map(|product| product.id).collect();
        Ok(Self { room, anchor, products, stock: snapshot.stock, is_ours, open })
    }

    /// The room's newest sequence number and its stock.
    pub async fn now(&self) -> anyhow::Result<(u64, BTreeMap<SkuId, StockCount>)> {
        let snapshot = self.open.room(&self.room).await?;
        Ok((snapshot.seq, snapshot.stock))
    }

    pub async fn close(&self) -> anyhow::Result<()> {
        if self.is_ours {
            self.anchor.end_show(&self.room).await?;
        }
        Ok(())
    }
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

async fn make(scenario: &Scenario, http: &Http, tokens: &Tokens, room: &RoomId) -> anyhow::Result<Rest> {
    let merchant = Merchant(Rest::new(http.clone(), tokens.one(room, Role::Merchant, "loadtest-merchant").await?));
    let anchor = Rest::new(http.clone(), tokens.one(room, Role::Anchor, ANCHOR).await?);
    let anchor_sub: Sub = ANCHOR.parse()?;
    merchant.make_room(room, &format!("Load test: {}", scenario.name), &anchor_sub, &[]).await?;

    let product: ProductId = format!("{room}-goods").parse()?;
    let sku: SkuId = format!("{room}-goods-one").parse()?;
    let price = Money { amount: 9_900, currency: "CNY".parse()? };
    let skus = vec![(sku, "One size".to_owned(), scenario.holds.stock)];
    let title = "Goods".to_owned();
    let new = NewProduct {
        id: product.clone(),
        title,
        price,
        image: None,
        skus,
        limit_per_user: None,
        limit_per_order: None,
    };
    merchant.put_product(&new).await?;
    anchor.shelf(room, &[product]).await?;
    anchor.start_show(room).await?;
    Ok(anchor)
}
