//! One person's REST calls: looking around, buying, and for those who may, running a show.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    client::{Error, Http},
    clock::UnixMs,
    id::{HoldId, OrderId, ProductId, RoomId, SkuId},
    protocol::{Hold, LineRequest, Order, Private, Role, Snapshot},
};

/// A person's calls: the server and the token that they are made with.
#[derive(Clone, Debug)]
pub struct Rest {
    http: Http,
    token: Option<String>,
}

/// A hold, and the server's time when it answered: what is left is `hold.expires_at - server_time`.
#[derive(Clone, Debug, Deserialize)]
pub struct Held {
    pub hold: Hold,
    pub server_time: UnixMs,
}

#[derive(Deserialize)]
pub(super) struct OneHold {
    pub hold: Hold,
}

#[derive(Deserialize)]
struct OneOrder {
    order: Order,
}

#[derive(Deserialize)]
struct Orders {
    orders: Vec<Order>,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Private>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Rest {
    pub fn new(http: Http, token: impl Into<String>) -> Self {
        Self { http, token: Some(token.into()) }
    }

    /// A stranger: public calls only.
    pub fn anonymous(http: Http) -> Self {
        Self { http, token: None }
    }

    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The token, empty for a stranger.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// A token from a demo server; other servers have no such call.
    pub async fn dev_token(http: &Http, room: &RoomId, role: Role, user: &str) -> Result<String, Error> {
        let body = json!({"room": room, "role": role, "user": user});
        let token: Token = http.call(Method::POST, "/v1/dev/token", None, None, Some(body)).await?;
        Ok(token.token)
    }

    pub async fn room(&self, room: &RoomId) -> Result<Snapshot, Error> {
        self.get(&format!("/v1/rooms/{room}")).await
    }

    pub async fn rooms(&self) -> Result<Value, Error> {
        self.get("/v1/rooms").await
    }

    pub async fn start_show(&self, room: &RoomId) -> Result<(), Error> {
        self.show(room, "start").await
    }

    pub async fn end_show(&self, room: &RoomId) -> Result<(), Error> {
        self.show(room, "end").await
    }

    async fn show(&self, room: &RoomId, action: &str) -> Result<(), Error> {
        self.post::<Value>(&format!("/v1/rooms/{room}/show"), None, json!({"action": action})).await.map(drop)
    }

    /// Puts these products on the shelf, in this order, in place of what was there.
    pub async fn shelf(&self, room: &RoomId, products: &[ProductId]) -> Result<(), Error> {
        let body = json!({"products": products});
        self.call::<Value>(Method::PUT, &format!("/v1/rooms/{room}/shelf"), None, Some(body)).await.map(drop)
    }

    /// As [`Rest::shelf`], with the seconds that each product is meant to be explained for.
    pub async fn run_sheet(&self, room: &RoomId, products: &[(ProductId, u32)]) -> Result<(), Error> {
        let ids: Vec<&ProductId> = products.iter().map(|(id, _)| id).collect();
        let planned: BTreeMap<&ProductId, u32> = products.iter().map(|(id, seconds)| (id, *seconds)).collect();
        let body = json!({"products": ids, "planned_seconds": planned});
        self.call::<Value>(Method::PUT, &format!("/v1/rooms/{room}/shelf"), None, Some(body)).await.map(drop)
    }

    pub async fn pin(&self, room: &RoomId, product: &ProductId, explain_seconds: Option<u32>) -> Result<(), Error> {
        let mut body = json!({"product": product});
        if let Some(seconds) = explain_seconds {
            body["explain_seconds"] = seconds.into();
        }
        self.post::<Value>(&format!("/v1/rooms/{room}/pin"), None, body).await.map(drop)
    }

    pub async fn unpin(&self, room: &RoomId) -> Result<(), Error> {
        self.call::<Value>(Method::DELETE, &format!("/v1/rooms/{room}/pin"), None, None).await.map(drop)
    }

    /// Holds stock. The same `key` again gives the same hold: a caller that lost the answer asks again with it.
    pub async fn hold(&self, lines: &[LineRequest], key: &str) -> Result<Held, Error> {
        self.post("/v1/holds", Some(key), json!({"lines": lines})).await
    }

    /// Holds one SKU at whatever its price is.
    pub async fn hold_one(&self, sku: &SkuId, quantity: u32, key: &str) -> Result<Held, Error> {
        self.post("/v1/holds", Some(key), json!({"sku": sku, "quantity": quantity})).await
    }

    pub async fn hold_state(&self, hold: HoldId) -> Result<Held, Error> {
        self.get(&format!("/v1/holds/{hold}")).await
    }

    /// Pays: the buyer herself with the sandbox provider, or a merchant who got the money.
    pub async fn confirm(&self, hold: HoldId, payment: Option<&str>) -> Result<Order, Error> {
        let body = payment.map_or_else(|| json!({}), |payment| json!({"payment": payment}));
        let paid: OneOrder = self.post(&format!("/v1/holds/{hold}/confirm"), None, body).await?;
        Ok(paid.order)
    }

    pub async fn cancel(&self, hold: HoldId) -> Result<Hold, Error> {
        self.post::<OneHold>(&format!("/v1/holds/{hold}/cancel"), None, json!({})).await.map(|one| one.hold)
    }

    pub async fn extend(&self, hold: HoldId) -> Result<Hold, Error> {
        self.post::<OneHold>(&format!("/v1/holds/{hold}/extend"), None, json!({})).await.map(|one| one.hold)
    }

    /// Orders after the one named, the oldest first: a buyer's own, a merchant's, or all for an admin.
    pub async fn orders(&self, after: Option<OrderId>, limit: u32) -> Result<Vec<Order>, Error> {
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        let page: Orders = self.get(&format!("/v1/orders?limit={limit}{after}")).await?;
        Ok(page.orders)
    }

    pub async fn order(&self, order: OrderId) -> Result<Order, Error> {
        let one: OneOrder = self.get(&format!("/v1/orders/{order}")).await?;
        Ok(one.order)
    }

    /// Private messages after number `after`.
    pub async fn messages(&self, after: u64) -> Result<Vec<Private>, Error> {
        let page: Messages = self.get(&format!("/v1/me/messages?after={after}")).await?;
        Ok(page.messages)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.call(Method::GET, path, None, None).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        key: Option<&str>,
        body: Value,
    ) -> Result<T, Error> {
        self.call(Method::POST, path, key, Some(body)).await
    }

    /// Any call of the contract, for those that have no method here.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<Value>,
    ) -> Result<T, Error> {
        self.http.call(method, path, self.token.as_deref(), key, body).await
    }
}
