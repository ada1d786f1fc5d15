//! Rooms and products that outlive the process, in a file of their own beside the ledger's.
//!
//! Everything is in memory too: reads never touch the disk. A write is durable before it is answered; it is not on any
//! purchase's path.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use dashmap::DashMap;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::{
    clock::UnixMs,
    id::{MerchantId, ProductId, RoomId, Sub},
    protocol::Product,
};

/// The version of the file's tables.
const VERSION: u32 = 1;

/// What a room is, apart from what happens in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomFacts {
    pub id: RoomId,
    pub title: String,
    pub anchor: Sub,
    pub merchants: Vec<MerchantId>,
    pub created_at: UnixMs,
    /// What this room is a rehearsal of; `None` for a real one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearses>,
}

/// How a room that is a rehearsal came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rehearses {
    pub of: RoomId,
    pub made_by: Sub,
    /// Seconds that pass in it in one second.
    pub speed: u32,
}

impl RoomFacts {
    /// The room that this one is a rehearsal of.
    pub fn rehearsal_of(&self) -> Option<&RoomId> {
        self.rehearsal.as_ref().map(|rehearses| &rehearses.of)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("catalogue {path}: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("catalogue {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("catalogue {path} has version {found}; this server reads up to {known}")]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("catalogue {path} holds something that is not a {what}: {source}")]
    Unreadable { path: PathBuf, what: &'static str, source: serde_json::Error },
    #[error("the catalogue's worker was cancelled")]
    Cancelled,
}

#[derive(Clone)]
pub struct Catalogue(Arc<Inner>);

struct Inner {
    path: PathBuf,
    file: Mutex<Connection>,
    rooms: DashMap<RoomId, Arc<RoomFacts>>,
    products: DashMap<ProductId, Arc<Product>>,
}

impl Catalogue {
    /// Opens or makes the file and loads it whole.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let sqlite = |source| Error::Sqlite { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        }
        let file = Connection::open(path).map_err(sqlite)?;
        prepare(&file).map_err(sqlite)?;
        let found: u32 = file.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(sqlite)?;
        if found > VERSION {
            return Err(Error::Newer { path: path.to_owned(), found, known: VERSION });
        }
        let (rooms, products) = (DashMap::new(), DashMap::new());
        for room in load::<RoomFacts>(&file, path, "SELECT facts FROM room", "room")? {
            rooms.insert(room.id.clone(), Arc::new(room));
        }
        for product in load::<Product>(&file, path, "SELECT facts FROM product", "product")? {
            products.insert(product.id.clone(), Arc::new(product));
        }
        Ok(Self(Arc::new(Inner { path: path.to_owned(), file: Mutex::new(file), rooms, products })))
    }

    pub fn rooms(&self) -> Vec<Arc<RoomFacts>> {
        let mut rooms: Vec<_> = self.0.rooms.iter().map(|r| r.value().clone()).collect();
        rooms.sort_by(|a, b| a.id.cmp(&b.id));
        rooms
    }

    pub fn room_count(&self) -> usize {
        self.0.rooms.len()
    }

    pub fn product_count(&self) -> usize {
        self.0.products.len()
    }

    pub fn product(&self, id: &ProductId) -> Option<Arc<Product>> {
        self.0.products.get(id).map(|p| p.value().clone())
    }

    pub fn products(&self) -> Vec<Arc<Product>> {
        self.0.products.iter().map(|p| p.value().clone()).collect()
    }

    /// Keeps a new room. `false`: there is one of that id, and nothing changed.
    pub async fn add_room(&self, room: RoomFacts) -> Result<bool, Error> {
        let this = self.clone();
        self.blocking(move |file| {
            let facts = serde_json::to_string(&room).expect("facts are plain data");
            let sql = "INSERT INTO room (id, facts) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            let added = file.prepare_cached(sql)?.execute(params![room.id.as_str(), facts])? == 1;
            if added {
                this.0.rooms.insert(room.id.clone(), Arc::new(room));
            }
            Ok(added)
        })
        .await
    }

    /// Keeps a product, new or changed. `Err(owner)` inside when it belongs to another merchant: nothing changed.
    pub async fn put_product(&self, product: Product) -> Result<Result<Arc<Product>, MerchantId>, Error> {
        let this = self.clone();
        self.blocking(move |file| {
            let sql = "SELECT facts FROM product WHERE id = ?1";
            let known: Option<String> =
                file.prepare_cached(sql)?.query_row([product.id.as_str()], |r| r.get(0)).optional()?;
            let owner = known.and_then(|f| serde_json::from_str::<Product>(&f).ok()).map(|p| p.merchant);
            if let Some(owner) = owner.filter(|o| *o != product.merchant) {
                return Ok(Err(owner));
            }
            let facts = serde_json::to_string(&product).expect("facts are plain data");
            let sql = "INSERT INTO product (id, facts) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET facts = ?2";
            file.prepare_cached(sql)?.execute(params![product.id.as_str(), facts])?;
            let product = Arc::new(product);
            this.0.products.insert(product.id.clone(), product.clone());
            Ok(Ok(product))
        })
        .await
    }

    /// Takes over products of another catalogue, all or none.
    pub async fn take_over(&self, products: Vec<Arc<Product>>) -> Result<(), Error> {
        let this = self.clone();
        self.blocking(move |file| {
            let together = file.unchecked_transaction()?;
            for product in &products {
                let facts = serde_json::to_string(&**product).expect("facts are plain data");
                let sql = "INSERT INTO product (id, facts) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET facts = ?2";
                together.prepare_cached(sql)?.execute(params![product.id.as_str(), facts])?;
            }
            together.commit()?;
            for product in products {
                this.0.products.insert(product.id.clone(), product);
            }
            Ok(())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let file = this.0.file.lock().expect("no holder panics");
            work(&file)
        });
        let outcome = done.await.map_err(|_| Error::Cancelled)?;
        outcome.map_err(|source| Error::Sqlite { path: self.0.path.clone(), source })
    }
}

fn prepare(file: &Connection) -> rusqlite::Result<()> {
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "FULL")?;
    let version: u32 = file.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if version == 0 {
        file.execute_batch(
            "BEGIN;
             CREATE TABLE room (id TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
             CREATE TABLE product (id TEXT PRIMARY KEY, facts TEXT NOT NULL) STRICT;
             PRAGMA user_version = 1;
             COMMIT;",
        )?;
    }
    Ok(())
}

fn load<T: serde::de::DeserializeOwned>(
    file: &Connection,
    path: &Path,
    sql: &str,
    what: &'static str,
) -> Result<Vec<T>, Error> {
    let sqlite = |source| Error::Sqlite { path: path.to_owned(), source };
    let mut query = file.prepare(sql).map_err(sqlite)?;
    let rows = query.query_map([], |row| row.get::<_, String>(0)).map_err(sqlite)?;
    let mut all = Vec::new();
    for row in rows {
        let facts = row.map_err(sqlite)?;
        let unreadable = |source| Error::Unreadable { path: path.to_owned(), what, source };
        all.push(serde_json::from_str(&facts).map_err(unreadable)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Money;

    fn scarf(merchant: &str, amount: i64) -> Product {
        Product {
            id: "scarf".parse().unwrap(),
            title: "Silk scarf".into(),
            price: Money { amount, currency: "CNY".parse().unwrap() },
            image: None,
            merchant: merchant.parse().unwrap(),
            skus: vec![],
            limit_per_user: None,
            limit_per_order: None,
        }
    }

    #[tokio::test]
    async fn rooms_and_products_are_there_after_a_restart() {
        let folder = tempfile();
        let path = folder.join("catalogue.db");
        let catalogue = Catalogue::open(&path).unwrap();
        let room = RoomFacts {
            id: "r".parse().unwrap(),
            title: "夜场".into(),
            anchor: "a".parse().unwrap(),
            merchants: vec![MerchantId::main()],
            created_at: UnixMs(5),
            rehearsal: None,
        };
        assert!(catalogue.add_room(room.clone()).await.unwrap());
        assert!(!catalogue.add_room(RoomFacts { title: "other".into(), ..room.clone() }).await.unwrap());
        assert!(catalogue.put_product(scarf("main", 100)).await.unwrap().is_ok());
        assert!(catalogue.put_product(scarf("other", 1)).await.unwrap().is_err());
        drop(catalogue);

        let catalogue = Catalogue::open(&path).unwrap();
        assert_eq!(*catalogue.rooms()[0], room);
        assert_eq!(*catalogue.product(&"scarf".parse().unwrap()).unwrap(), scarf("main", 100));
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn tempfile() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("maishou-catalogue-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}
