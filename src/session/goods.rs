//! Acts on products and stock.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    id::{MerchantId, Money, ProductId, SkuId},
    order::{ProductTerms, StockChange},
    protocol::{ErrorCode, Fault, Product, ProductSku, StockCount},
    session::{
        Person, Shop,
        shop::{checked_key, checked_text, internal},
    },
};

const TITLE_CHARS_MAX: usize = 200;
const IMAGE_LEN_MAX: usize = 2_048;
const REASON_CHARS_MAX: usize = 200;
/// A price stays below this, in minor units: ten million yuan.
const PRICE_MAX: i64 = 1_000_000_000;
/// Stock of one SKU stays below this.
pub(super) const STOCK_MAX: u64 = 1_000_000_000;

/// The body of `PUT /v1/products/{id}`.
#[derive(Debug, Deserialize)]
pub struct ProductBody {
    title: String,
    price: Money,
    image: Option<String>,
    skus: Vec<SkuBody>,
    limit_per_user: Option<u32>,
    limit_per_order: Option<u32>,
    merchant: Option<MerchantId>,
}

#[derive(Debug, Deserialize)]
struct SkuBody {
    id: SkuId,
    #[serde(default)]
    title: String,
    /// Opening stock of a SKU that is new; ignored on one that exists.
    #[serde(default)]
    stock: u64,
}

/// A product and the real counts of its SKUs.
#[derive(Debug, Serialize)]
pub struct Stocked {
    #[serde(flatten)]
    pub product: Arc<Product>,
    pub stock: std::collections::BTreeMap<SkuId, StockCount>,
}

impl ProductBody {
    fn checked(
        self,
        id: ProductId,
        merchant: MerchantId,
        skus_max: usize,
    ) -> Result<(Product, Vec<(SkuId, u64)>), Fault> {
        let title = checked_text("title", &self.title, TITLE_CHARS_MAX)?;
        if !(0..=PRICE_MAX).contains(&self.price.amount) {
            return Err(Fault::malformed("price", format!("a price is 0 to {PRICE_MAX} minor units")));
        }
        if !(1..=skus_max).contains(&self.skus.len()) {
            return Err(Fault::malformed("skus", format!("a product has 1 to {skus_max} SKUs")));
        }
        if [self.limit_per_user, self.limit_per_order].contains(&Some(0)) {
            return Err(Fault::malformed("limit_per_user", "a limit is at least 1; leave it out for none"));
        }
        let image = self.image.map(checked_image).transpose()?;
        let (mut skus, mut opening) = (Vec::new(), Vec::new());
        for sku in self.skus {
            if opening.iter().any(|(known, _)| *known == sku.id) {
                return Err(Fault::malformed("skus", "a SKU is named once"));
            }
            if sku.stock > STOCK_MAX {
                return Err(Fault::malformed("stock", format!("stock is at most {STOCK_MAX}")));
            }
            let title = if sku.title.trim().is_empty() {
                String::new()
            } else {
                checked_text("skus", &sku.title, TITLE_CHARS_MAX)?
            };
            opening.push((sku.id.clone(), sku.stock));
            skus.push(ProductSku { id: sku.id, title });
        }
        let (price, limit_per_user, limit_per_order) = (self.price, self.limit_per_user, self.limit_per_order);
        Ok((Product { id, title, price, image, merchant, skus, limit_per_user, limit_per_order }, opening))
    }
}

/// Pages show images from this server or over https.
fn checked_image(image: String) -> Result<String, Fault> {
    let shown = image.starts_with("https://") || image.starts_with('/') && !image.starts_with("//");
    match shown && image.len() <= IMAGE_LEN_MAX && image.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(image),
        false => Err(Fault::malformed("image", "an image is an https address or a path on this server")),
    }
}

impl Shop {
    /// Keeps a product, new or changed, and tells the rooms that shelve it. The answer shows the real counts.
    pub async fn put_product(&self, person: &Person, id: ProductId, body: ProductBody) -> Result<Stocked, Fault> {
        self.may_act(person)?;
        let merchant = match self.rooms.catalogue().product(&id) {
            Some(known) => {
                person.may_keep(&known.merchant, "product")?;
                if body.merchant.as_ref().is_some_and(|named| *named != known.merchant) {
                    return Err(Fault::new(ErrorCode::Conflict, "a product stays with the merchant of its first PUT"));
                }
                known.merchant.clone()
            }
            None => person.keeps_goods_of(body.merchant.as_ref())?,
        };
        let (product, opening) = body.checked(id, merchant, self.rooms.config().skus_per_product_max)?;

        let _one_after_another = self.putting.lock().await;
        let catalogue = self.rooms.catalogue();
        if catalogue.product(&product.id).is_none() && catalogue.product_count() >= self.rooms.config().products_max {
            return Err(Fault::new(ErrorCode::LimitReached, "this server has all the products it may have"));
        }
        // The ledger first: a crash in between leaves counts that the next PUT finds, never a card without stock.
        let counts = self.desk.define(terms_of(&product, opening)).await?;
        let kept = catalogue.put_product(product).await.map_err(internal)?;
        let product = kept.map_err(|_| Fault::not_found("product"))?;
        self.rooms.product_changed(&product);
        Ok(Stocked { product, stock: counts.into_iter().collect() })
    }

    pub fn product(&self, id: &ProductId) -> Result<Stocked, Fault> {
        let product = self.rooms.catalogue().product(id).ok_or_else(|| Fault::not_found("product"))?;
        let counts = product.skus.iter().filter_map(|s| Some((s.id.clone(), self.desk.count(&s.id)?)));
        let stock = counts.collect();
        Ok(Stocked { product, stock })
    }

    /// Tells the ledger, at the start, the terms of every product of the catalogue.
    pub async fn define_all(rooms: &crate::room::Catalogue, desk: &crate::order::Desk) -> Result<(), Fault> {
        for product in rooms.products() {
            let opening = product.skus.iter().map(|s| (s.id.clone(), 0)).collect();
            desk.define(terms_of(&product, opening)).await?;
        }
        Ok(())
    }

    pub async fn adjust_stock(
        &self,
        person: &Person,
        sku: &SkuId,
        key: String,
        change: StockChange,
        reason: &str,
    ) -> Result<(StockCount, bool), Fault> {
        self.may_act(person)?;
        checked_key(&key)?;
        let reason = checked_text("reason", reason, REASON_CHARS_MAX)?;
        let owner = self.desk.merchant_of(sku).ok_or_else(|| Fault::not_found("sku"))?;
        if !self.counts_for_a_room(person, sku) {
            person.may_keep(&owner, "sku")?;
        }
        let party = crate::order::Party::Merchant { sub: person.sub().clone(), merchant: owner };
        let answered = self.desk.adjust(party, sku, key, change, reason).await?;
        Ok((answered.value, answered.replayed))
    }

    fn counts_for_a_room(&self, person: &Person, sku: &SkuId) -> bool {
        let mut rooms = self.rooms.list().into_iter();
        rooms.any(|room| person.may_count_for(room.facts()) && room.brief().skus.contains(sku))
    }
}

pub(super) fn terms_of(product: &Product, skus: Vec<(SkuId, u64)>) -> ProductTerms {
    ProductTerms {
        product: product.id.clone(),
        merchant: product.merchant.clone(),
        price: product.price,
        limit_per_user: product.limit_per_user,
        limit_per_order: product.limit_per_order,
        on_sale_at: None,
        skus,
    }
}
