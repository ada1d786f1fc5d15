//! A shop's calls: rooms, products, stock, refunds and the public ledger.

use std::collections::BTreeMap;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    client::{Error, Rest},
    id::{MerchantId, Money, OrderId, ProductId, RoomId, SkuId, Sub},
    protocol::{Order, Product, StockCount},
};

/// Who owns products: a merchant's or an admin's calls.
#[derive(Clone, Debug)]
pub struct Merchant(pub Rest);

/// A product and what is left of it.
#[derive(Clone, Debug, Deserialize)]
pub struct ProductStock {
    #[serde(flatten)]
    pub product: Product,
    pub stock: BTreeMap<SkuId, StockCount>,
}

/// What `PUT /v1/products/{id}` takes.
#[derive(Clone, Debug)]
pub struct NewProduct {
    pub id: ProductId,
    pub title: String,
    pub price: Money,
    pub image: Option<String>,
    /// Id, title and opening stock of each SKU.
    pub skus: Vec<(SkuId, String, u64)>,
    pub limit_per_user: Option<u32>,
    pub limit_per_order: Option<u32>,
}

impl Merchant {
    pub async fn make_room(
        &self,
        room: &RoomId,
        title: &str,
        anchor: &Sub,
        merchants: &[MerchantId],
    ) -> Result<(), Error> {
        let mut body = json!({"id": room, "title": title, "anchor": anchor});
        if !merchants.is_empty() {
            body["merchants"] = json!(merchants);
        }
        self.0.post::<Value>("/v1/rooms", None, body).await.map(drop)
    }

    /// Makes or changes a product; the opening stock counts only for SKUs that are new.
    pub async fn put_product(&self, product: &NewProduct) -> Result<ProductStock, Error> {
        let path = format!("/v1/products/{}", product.id);
        self.0.call(Method::PUT, &path, None, Some(product.body())).await
    }

    pub async fn product(&self, id: &ProductId) -> Result<ProductStock, Error> {
        self.0.get(&format!("/v1/products/{id}")).await
    }

    /// Adds to or takes from what is available.
    pub async fn adjust_stock(&self, sku: &SkuId, delta: i64, reason: &str, key: &str) -> Result<StockCount, Error> {
        self.change_stock(sku, json!({"delta": delta, "reason": reason}), key).await
    }

    /// Sets the whole stock: what is available, held and sold together.
    pub async fn set_stock(&self, sku: &SkuId, stock: u64, reason: &str, key: &str) -> Result<StockCount, Error> {
        self.change_stock(sku, json!({"set": stock, "reason": reason}), key).await
    }

    async fn change_stock(&self, sku: &SkuId, change: Value, key: &str) -> Result<StockCount, Error> {
        #[derive(Deserialize)]
        struct Changed {
            stock: StockCount,
        }
        let changed: Changed = self.0.post(&format!("/v1/skus/{sku}/stock"), Some(key), change).await?;
        Ok(changed.stock)
    }

    /// Refunds a whole order; `restock` puts the pieces on sale again.
    pub async fn refund(&self, order: OrderId, restock: bool, reason: &str, key: &str) -> Result<Order, Error> {
        #[derive(Deserialize)]
        struct Refunded {
            order: Order,
        }
        let body = json!({"restock": restock, "reason": reason});
        let refunded: Refunded = self.0.post(&format!("/v1/orders/{order}/refund"), Some(key), body).await?;
        Ok(refunded.order)
    }

    /// A page of a SKU's public ledger, as the contract has it.
    pub async fn ledger(&self, sku: &SkuId, after: u64, limit: u32) -> Result<Value, Error> {
        self.0.get(&format!("/v1/skus/{sku}/ledger?after={after}&limit={limit}")).await
    }
}

impl NewProduct {
    fn body(&self) -> Value {
        let skus = self.skus.iter().map(|(id, title, stock)| json!({"id": id, "title": title, "stock": stock}));
        let mut body = json!({"title": self.title, "price": self.price, "skus": skus.collect::<Vec<_>>()});
        if let Some(image) = &self.image {
            body["image"] = json!(image);
        }
        if let Some(limit) = self.limit_per_user {
            body["limit_per_user"] = json!(limit);
        }
        if let Some(limit) = self.limit_per_order {
            body["limit_per_order"] = json!(limit);
        }
        body
    }
}
