//! What the demo's shop has: read from `config/demo`, put there over REST like any shop would.

use serde::Deserialize;

use crate::{
    client::{Config, Http, Merchant, NewProduct, Rest, Server},
    clock::Clock,
    id::{MerchantId, Money, ProductId, RoomId, SkuId, Sub},
    protocol::{Claims, Role, RoomScope},
    session::Keyring,
};

/// `config/demo/shelf.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Show {
    pub room: ShowRoom,
    pub products: Vec<ShowProduct>,
    /// What simulated viewers say.
    pub comments: Vec<String>,
    /// Who they are.
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ShowRoom {
    pub id: RoomId,
    pub title: String,
    pub anchor_name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ShowProduct {
    pub id: ProductId,
    pub title: String,
    pub price: Money,
    pub image: String,
    pub skus: Vec<ShowSku>,
    pub limit_per_user: Option<u32>,
    /// What the anchor says about it.
    pub explain: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ShowSku {
    pub id: SkuId,
    pub title: String,
    pub stock: u64,
}

pub(super) fn show() -> Show {
    serde_json::from_str(include_str!("../../config/demo/shelf.json")).expect("the demo's shelf is tested")
}

pub(super) fn anchor() -> Sub {
    "demo-anchor".parse().expect("a sub")
}

/// A day's token, as the shop's own backend would make it.
pub(super) fn token(keyring: &Keyring, room: &RoomId, role: Role, sub: &Sub, name: &str) -> String {
    keyring.sign(&Claims {
        sub: sub.clone(),
        exp: Clock::start().now().0 / 1_000 + 24 * 3_600,
        room: RoomScope::One(room.clone()),
        role,
        merchant: (role == Role::Merchant).then(MerchantId::main),
        can: None,
        name: Some(name.to_owned()),
        region: None,
        promoter: None,
        sim: false,
        jti: None,
    })
}

/// Makes the room, puts the products, fills the shelf and starts the show.
pub(super) async fn plant(keyring: &Keyring, server: &Server, show: &Show) -> Result<RoomId, crate::client::Error> {
    let room = &show.room.id;
    let http = Http::new(server.clone(), Config::default());
    let keeper: Sub = "demo-merchant".parse().expect("a sub");
    let merchant = Merchant(Rest::new(http.clone(), token(keyring, room, Role::Merchant, &keeper, "Shop")));
    merchant.make_room(room, &show.room.title, &anchor(), &[]).await?;
    for product in &show.products {
        let skus = product.skus.iter().map(|s| (s.id.clone(), s.title.clone(), s.stock)).collect();
        let product = NewProduct {
            id: product.id.clone(),
            title: product.title.clone(),
            price: product.price,
            image: Some(product.image.clone()),
            skus,
            limit_per_user: product.limit_per_user,
            limit_per_order: None,
        };
        merchant.put_product(&product).await?;
    }
    let anchor = Rest::new(http, token(keyring, room, Role::Anchor, &anchor(), &show.room.anchor_name));
    let seconds = u32::try_from(super::host::EXPLAIN.as_secs()).expect("a short time");
    let products: Vec<(ProductId, u32)> = show.products.iter().map(|p| (p.id.clone(), seconds)).collect();
    anchor.run_sheet(room, &products).await?;
    anchor.start_show(room).await?;
    Ok(room.clone())
}
