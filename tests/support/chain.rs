//! A SKU's public chain as an outsider checks it: every hash anew, every count added up from the entries.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, UnparsedPublicKey},
};
use serde_json::{Value, json};

use super::server::Server;

const PAGE: usize = 500;

/// A chain whose hashes, numbers and signature hold.
#[derive(Debug, Default)]
pub struct Chain {
    pub entries: Vec<Value>,
    pub available: i64,
    pub held: i64,
    pub sold: i64,
    /// Opening stock and all adjustments.
    pub stock: i64,
}

impl Chain {
    /// Reads the whole chain and checks it. Panics on the first thing that does not hold.
    pub async fn read(server: &Server, sku: &str) -> Self {
        let mut chain = Self::default();
        loop {
            let path = format!("/v1/skus/{sku}/ledger?after={}&limit={PAGE}", chain.entries.len());
            let page = server.rest().get(&path).send().await.ok();
            let entries = page["entries"].as_array().unwrap_or_else(|| panic!("entries in {page}"));
            for entry in entries {
                chain.link(sku, entry);
            }
            let length = chain.entries.len() as u64;
            if page["head"]["n"] == length {
                check_head(sku, &page["head"], chain.entries.last());
                return chain;
            }
            assert!(!entries.is_empty() && page["head"]["n"].as_u64() > Some(length), "{sku} ends early, at {length}");
        }
    }

    /// `[available, held, sold]`, as a snapshot has them.
    pub fn counts(&self) -> [u64; 3] {
        [self.available, self.held, self.sold].map(|count| u64::try_from(count).expect("counts were checked"))
    }

    /// What stood after entry `n`.
    pub fn counts_at(&self, n: u64) -> [u64; 3] {
        let mut then = Self::default();
        let entries = self.entries.iter().take_while(|entry| entry["n"].as_u64() <= Some(n));
        entries.for_each(|entry| then.count("then", entry));
        then.counts()
    }

    pub fn number_of(&self, kind: &str) -> usize {
        self.entries.iter().filter(|entry| entry["type"] == kind).count()
    }

    fn link(&mut self, sku: &str, entry: &Value) {
        let prev = self.entries.last().map_or_else(|| "0".repeat(64).into(), |last| last["hash"].clone());
        assert_eq!(entry["prev"], prev, "{sku}: {entry} follows its predecessor");
        assert_eq!(entry["n"], self.entries.len() + 1, "{sku}: no number is left out");
        let mut content = entry.clone();
        content.as_object_mut().expect("an entry is an object").remove("hash");
        content["sku"] = sku.into();
        assert_eq!(entry["hash"], sha256(&content), "{sku}: {entry}");
        self.count(sku, entry);
        self.entries.push(entry.clone());
    }

    fn count(&mut self, sku: &str, entry: &Value) {
        let quantity = entry["quantity"].as_i64().expect("a quantity");
        match entry["type"].as_str().expect("a type") {
            "opened" | "adjusted" => {
                self.stock += quantity;
                self.available += quantity;
            }
            "held" => self.shift(quantity, |chain| (&mut chain.available, &mut chain.held)),
            "confirmed" => self.shift(quantity, |chain| (&mut chain.held, &mut chain.sold)),
            "cancelled" | "expired" => self.shift(quantity, |chain| (&mut chain.held, &mut chain.available)),
            "refunded" => self.shift(quantity, |chain| (&mut chain.sold, &mut chain.available)),
            other => panic!("{sku}: an entry of type {other}"),
        }
        let counts = [self.available, self.held, self.sold];
        assert!(counts.iter().all(|count| *count >= 0), "{sku}: oversold at {entry}: {counts:?}");
        assert_eq!(counts.iter().sum::<i64>(), self.stock, "{sku}: {entry}");
    }

    fn shift(&mut self, quantity: i64, sides: impl FnOnce(&mut Self) -> (&mut i64, &mut i64)) {
        let (from, to) = sides(self);
        *from -= quantity;
        *to += quantity;
    }
}

fn check_head(sku: &str, head: &Value, last: Option<&Value>) {
    assert_eq!(head["hash"], last.expect("a chain has its opening")["hash"], "{sku}");
    let text = |name: &str| head[name].as_str().unwrap_or_else(|| panic!("{name} in {head}"));
    let signed = json!({ "at": head["at"], "hash": head["hash"], "n": head["n"], "sku": sku });
    let key = UnparsedPublicKey::new(&ED25519, bytes(text("key")));
    let signed = serde_json_canonicalizer::to_vec(&signed).expect("plain data");
    key.verify(&signed, &bytes(text("signature"))).expect("the head is signed");
}

fn sha256(content: &Value) -> String {
    let canonical = serde_json_canonicalizer::to_vec(content).expect("plain data");
    digest(&SHA256, &canonical).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(digit).collect()
}
