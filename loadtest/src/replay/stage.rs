//! The rehearsal that a tape is played in: its goods, its stock and its shelf as the tape begins.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use hyper::Method;
use maishou::{
    client::{Config, Error, Http, Merchant, NewProduct, ProductStock, Rest},
    id::{HoldId, MerchantId, ProductId, RoomId, SkuId, Sub},
    protocol::{Product, Role, StockCount},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{House, Show};

/// Pieces that one of the buyers before the tape buys at most.
const PIECES_MAX: u64 = 1_000;

pub struct Stage<'a> {
    pub house: &'a House,
    pub room: RoomId,
    pub http: Http,
    /// Who may do everything in the rehearsal, and who hosts it.
    pub admin: Rest,
    pub anchor: Rest,
    /// Who ends it.
    owner: Rest,
}

/// What a rehearsal says of itself beside its snapshot.
#[derive(Deserialize)]
struct Made {
    id: RoomId,
}

impl<'a> Stage<'a> {
    pub async fn set(show: &Show, house: &'a House, speed: u32) -> anyhow::Result<Self> {
        let http = Http::new(house.server.clone(), Config::default());
        let somebody: Sub = "replay".parse()?;
        let owner = Rest::new(http.clone(), house.token(None, Role::Admin, &somebody, None, false));
        let of = match &house.room {
            Some(room) => room.clone(),
            None => make_room(show, house, &owner).await.context("the room of the replay")?,
        };
        let body = json!({ "rehearsal_of": of, "speed": speed });
        let made: Made = owner.call(Method::POST, "/v1/rooms", None, Some(body)).await.context("the rehearsal")?;
        let room = made.id;
        let rest = |role, sub: &Sub| Rest::new(http.clone(), house.token(Some(&room), role, sub, Some("Anchor"), true));
        let (admin, anchor) = (rest(Role::Admin, &somebody), rest(Role::Anchor, &house.anchor));
        let stage = Self { house, room: room.clone(), http: http.clone(), admin, anchor, owner };
        stage.furnish(show).await.context("the goods of the tape")?;
        stage.open(show).await.context("the room as the tape begins")?;
        Ok(stage)
    }

    /// Ends the rehearsal: its files go with it.
    pub async fn strike(&self) -> anyhow::Result<()> {
        let path = format!("/v1/rooms/{}", self.room);
        self.owner.call::<Value>(Method::DELETE, &path, None, None).await?;
        Ok(())
    }

    /// The state's hash, and the snapshot that it is of.
    pub async fn state(&self) -> anyhow::Result<(String, Value)> {
        let snapshot: Value = self.admin.call(Method::GET, &format!("/v1/rooms/{}", self.room), None, None).await?;
        let hash = snapshot["state_hash"].as_str().context("the server tells no state hash of a rehearsal")?;
        Ok((hash.to_owned(), snapshot))
    }

    pub fn shop_of(&self, merchant: &MerchantId) -> Merchant {
        Merchant(Rest::new(self.http.clone(), self.house.merchant_token(&self.room, merchant, true)))
    }

    pub async fn put(&self, product: &Product, stock: &BTreeMap<SkuId, StockCount>) -> anyhow::Result<ProductStock> {
        let opening = |sku| stock.get(sku).map_or(0, total);
        let skus = product.skus.iter().map(|sku| (sku.id.clone(), sku.title.clone(), opening(&sku.id))).collect();
        let new = NewProduct {
            id: product.id.clone(),
            title: product.title.clone(),
            price: product.price,
            image: product.image.clone(),
            skus,
            limit_per_user: product.limit_per_user,
            limit_per_order: product.limit_per_order,
        };
        Ok(self.shop_of(&product.merchant).put_product(&new).await?)
    }

    pub async fn shelve(&self, products: &[ProductId], planned: &BTreeMap<ProductId, u32>) -> anyhow::Result<()> {
        let body = json!({ "products": products, "planned_seconds": planned });
        let path = format!("/v1/rooms/{}/shelf", self.room);
        self.anchor.call::<Value>(Method::PUT, &path, None, Some(body)).await?;
        Ok(())
    }

    /// Refunds pieces of an order, which has the id of its hold.
    pub async fn refund(&self, order: HoldId, lines: Vec<Value>, restock: bool, key: &str) -> Result<(), Error> {
        let body = json!({ "lines": lines, "restock": restock, "reason": "as on the tape" });
        let path = format!("/v1/orders/{order}/refund");
        self.admin.call::<Value>(Method::POST, &path, Some(key), Some(body)).await.map(drop)
    }

    /// Every product that will be seen, with the counts that the tape begins with: what was sold before is bought by
    /// people who are on no tape.
    async fn furnish(&self, show: &Show) -> anyhow::Result<()> {
        let counts = show.first_counts();
        for product in show.goods().values() {
            let there = self.put(product, &counts).await?;
            for sku in &product.skus {
                let Some(wanted) = counts.get(&sku.id) else { continue };
                let found = there.stock.get(&sku.id);
                if found.map(total) != Some(total(wanted)) {
                    let key = format!("open-{}", sku.id);
                    let shop = self.shop_of(&product.merchant);
                    shop.set_stock(&sku.id, total(wanted), "as the tape begins", &key).await?;
                }
                self.sell_before(product, &sku.id, wanted.sold).await?;
            }
        }
        Ok(())
    }

    async fn sell_before(&self, product: &Product, sku: &SkuId, mut pieces: u64) -> anyhow::Result<()> {
        let limits = [product.limit_per_user, product.limit_per_order].into_iter().flatten().map(u64::from);
        let each = limits.min().unwrap_or(PIECES_MAX).min(PIECES_MAX);
        for number in 0.. {
            if pieces == 0 {
                break;
            }
            let buys = u32::try_from(each.min(pieces))?;
            let sub: Sub = format!("before-{sku}-{number}").parse()?;
            let token = self.house.token(Some(&self.room), Role::Viewer, &sub, None, true);
            let held = Rest::new(self.http.clone(), token).hold_one(sku, buys, "before").await?;
            self.admin.confirm(held.hold.id, None).await?;
            pieces -= u64::from(buys);
        }
        Ok(())
    }

    async fn open(&self, show: &Show) -> anyhow::Result<()> {
        let state = &show.opening;
        let products: Vec<ProductId> = state.shelf.iter().map(|product| product.id.clone()).collect();
        self.shelve(&products, &state.run_sheet.planned_seconds).await?;
        let explained = state.run_sheet.explained.iter().map(|explained| &explained.product);
        let pinned = state.pinned.iter().map(|pinned| &pinned.product.id);
        let up: Vec<&ProductId> = explained.chain(pinned).filter(|id| products.contains(id)).collect();
        if state.show.running || !up.is_empty() {
            self.anchor.start_show(&self.room).await?;
        }
        for product in &up {
            self.anchor.pin(&self.room, product, None).await?;
        }
        if state.pinned.is_none() && !up.is_empty() {
            self.anchor.unpin(&self.room).await?;
        }
        if !state.show.running && !up.is_empty() {
            self.anchor.end_show(&self.room).await?;
        }
        Ok(())
    }
}

fn total(count: &StockCount) -> u64 {
    count.available + count.held + count.sold
}

async fn make_room(show: &Show, house: &House, owner: &Rest) -> anyhow::Result<RoomId> {
    let room: RoomId = format!("replay-{:08x}", rand::random::<u32>()).parse()?;
    let title = &show.opening.show.title;
    ensure!(!title.is_empty(), "the tape names no title");
    Merchant(owner.clone()).make_room(&room, title, &house.anchor, &show.merchants()).await?;
    Ok(room)
}
