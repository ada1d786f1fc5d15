//! Products as cards show them.

use serde::{Deserialize, Serialize};

use crate::id::{MerchantId, Money, ProductId, SkuId};

/// A product: what a card shows. Stock is told separately, per SKU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    pub id: ProductId,
    pub title: String,
    pub price: Money,
    /// An absolute URL, or a path on this server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    pub merchant: MerchantId,
    pub skus: Vec<ProductSku>,
    /// Pieces of this product that one person may hold and have ordered, together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_per_user: Option<u32>,
    /// Pieces of this product in one hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_per_order: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSku {
    pub id: SkuId,
    pub title: String,
}
