//! The room in which a scenario plays, and what is sold there.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, anyhow, bail};
use hyper::Method;
use maishou::{
    client::{Config, Error, Http, Merchant, NewProduct, Rest, Server, Viewer},
    id::{Money, ProductId, RoomId, SkuId, Sub},
    protocol::{ErrorCode, Role, Snapshot},
};
use serde_json::{Value, json};
use tokio::time::interval;

use crate::{scenario::Scenario, token::Tokens};

const DEMO_ROOM: &str = "demo";
/// The anchor of rooms that we make.
pub const ANCHOR: &str = "loadtest-anchor";
const MERCHANT: &str = "loadtest-merchant";
const ADMIN: &str = "loadtest-admin";
const OPEN: &str = "loadtest-reader";
/// Looks at a room that has nothing on its shelf yet, a tenth of a second apart.
const SHELF_LOOKS_MAX: usize = 100;

/// Which world a run is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum World {
    /// The server is there for us: a room of our own.
    Own,
    /// The same on a server of others, which allows simulated people in real rooms.
    Real,
    /// A rehearsal of this room, or of one that we make.
    Rehearsal(Option<RoomId>),
    /// A demo, whose room is used as it is.
    Demo,
}

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
    /// A room with goods and a running show. Rooms and goods of our own are called `name`.
    pub async fn set(
        scenario: &Scenario,
        server: &Server,
        tokens: &Tokens,
        name: &str,
        world: &World,
    ) -> anyhow::Result<Self> {
        let http = Http::new(server.clone(), Config::default());
        match world {
            World::Demo => Self::demo(http, tokens).await,
            World::Rehearsal(Some(room)) => Self::rehearse(http, tokens, room, name).await,
            World::Own | World::Real | World::Rehearsal(None) => {
                let room: RoomId = name.parse()?;
                let rest = async |role, user| anyhow::Ok(Rest::new(http.clone(), tokens.one(&room, role, user).await?));
                let merchant = Merchant(rest(Role::Merchant, MERCHANT).await?);
                let anchor = rest(Role::Anchor, ANCHOR).await?;
                let goods = goods(scenario, &room)?;
                make(scenario, &merchant, &anchor, &room, &goods).await.map_err(explain)?;
                if *world == World::Real {
                    let token = tokens.one(&room, Role::Viewer, OPEN).await?;
                    may_act(server, &room, &token).await?;
                }
                if *world == World::Rehearsal(None) {
                    return Self::rehearse(http.clone(), tokens, &room, name).await;
                }
                anchor.start_show(&room).await?;
                let open = rest(Role::Viewer, OPEN).await?;
                Ok(Self { opening: opening(&goods), anchor, merchant: Some(merchant), goods, open, room })
            }
        }
    }

    /// A twin of a room, where simulated people may act; it has the goods that are on the room's shelf.
    async fn rehearse(http: Http, tokens: &Tokens, of: &RoomId, name: &str) -> anyhow::Result<Self> {
        let room: RoomId = format!("rehearsal.{name}").parse()?;
        let maker = Rest::new(http.clone(), tokens.one(of, Role::Admin, ADMIN).await?);
        let body = json!({"rehearsal_of": of, "id": room});
        let made = maker.call::<Value>(Method::POST, "/v1/rooms", None, Some(body)).await;
        made.map_err(|error| match error {
            Error::Refused(fault) if fault.code == ErrorCode::NotFound => anyhow!("there is no room {of} to rehearse"),
            error => explain(error),
        })?;
        let admin = Rest::new(http.clone(), tokens.one(&room, Role::Admin, ADMIN).await?);
        let open = Rest::new(http, tokens.one(&room, Role::Viewer, OPEN).await?);
        let goods = goods_of(&with_shelf(&open, &room).await?);
        admin.start_show(&room).await?;
        let merchant = Some(Merchant(admin.clone()));
        Ok(Self { opening: opening(&goods), room, anchor: admin, merchant, goods, open })
    }

    async fn demo(http: Http, tokens: &Tokens) -> anyhow::Result<Self> {
        let room: RoomId = DEMO_ROOM.parse()?;
        let open = Rest::anonymous(http.clone());
        let anchor = Rest::new(http, tokens.one(&room, Role::Anchor, ANCHOR).await?);
        let goods = goods_of(&with_shelf(&open, &room).await?);
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

    /// Calls of somebody who may read what everybody may.
    pub fn open(&self) -> &Rest {
        &self.open
    }

    /// The SKUs of each product that has any.
    pub fn skus(&self) -> Vec<Vec<SkuId>> {
        let skus = self.goods.iter().map(|product| product.skus.iter().map(|(sku, ..)| sku.clone()).collect());
        skus.filter(|skus: &Vec<SkuId>| !skus.is_empty()).collect()
    }

    /// Ends the show of a room of ours.
    pub async fn close(&self) -> anyhow::Result<()> {
        if self.is_ours() {
            self.anchor.end_show(&self.room).await.context("the show could not be ended")?;
        }
        Ok(())
    }

    /// Removes a rehearsal with all its files; a room stays.
    pub async fn clear(&self) -> anyhow::Result<()> {
        if self.room.as_str().starts_with("rehearsal.") {
            let path = format!("/v1/rooms/{}", self.room);
            self.anchor.call::<Value>(Method::DELETE, &path, None, None).await.context("the rehearsal stays")?;
        }
        Ok(())
    }
}

fn opening(goods: &[NewProduct]) -> BTreeMap<SkuId, u64> {
    goods.iter().flat_map(|product| &product.skus).map(|(sku, _, stock)| (sku.clone(), *stock)).collect()
}

/// The goods on a shelf, with the pieces that there are.
fn goods_of(snapshot: &Snapshot) -> Vec<NewProduct> {
    let total = |sku: &SkuId| snapshot.stock.get(sku).map_or(0, |count| count.available + count.held + count.sold);
    let goods = snapshot.shelf.iter().map(|product| NewProduct {
        id: product.id.clone(),
        title: product.title.clone(),
        price: product.price,
        image: product.image.clone(),
        skus: product.skus.iter().map(|sku| (sku.id.clone(), sku.title.clone(), total(&sku.id))).collect(),
        limit_per_user: product.limit_per_user,
        limit_per_order: product.limit_per_order,
    });
    goods.collect()
}

/// A like of somebody simulated, which counts nowhere, shows whether they may do anything.
async fn may_act(server: &Server, room: &RoomId, token: &str) -> anyhow::Result<()> {
    let viewer = Viewer::join(server, room, token, &Config::default()).await?;
    let liked = viewer.like(1).await;
    viewer.leave().await;
    match liked {
        Err(Error::Refused(fault)) if fault.code == ErrorCode::RehearsalOnly => bail!(
            "simulated people may not act in real rooms of this server: set loadtest.allow = true there, or leave --real \
             out and a rehearsal is made"
        ),
        liked => Ok(liked.map(drop)?),
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
    anchor.shelf(room, &shelf).await
}
