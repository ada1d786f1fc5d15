//! Business over a store, by a seed, with a note of what the ledger was after each commit.

use std::{collections::BTreeMap, path::Path, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::disk::Disk;
use crate::{
    clock::UnixMs,
    id::{HoldId, Money, SkuId, Sub},
    order::{
        entry::Digest,
        hold::View,
        ledger::Ledger,
        request::{AdjustAsk, HoldAsk, Key, KeyId, Party, ProductTerms, RefundAsk, RefundLine, Seed, StockChange},
        store::{
            Checkpoint, Failure, Store,
            contract::Scribe,
            sqlite::{Ground, Sqlite, tampering},
        },
        tx::{Tx, What},
    },
    protocol::{LineRequest, StockCount},
};

const SKUS: [&str; 3] = ["red", "blue", "green"];
const PEOPLE: [&str; 3] = ["ann", "bob", "eve"];
/// Who confirms for the merchant, and hears when a refund is due.
const CLERK: &str = "clerk";

/// All that a ledger remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    counts: Vec<Option<(u64, StockCount)>>,
    /// Persons, limits, lists and open holds.
    rest: Checkpoint,
    keys: Vec<KeyId>,
}

impl Facts {
    fn of(ledger: &Ledger) -> Self {
        let book = |sku: &&str| ledger.books().find(&sku.parse().unwrap()).map(|book| (book.stock, book.count));
        let mut rest = ledger.checkpoint();
        rest.pieces.sort();
        rest.sales.sort();
        let mut keys: Vec<_> = ledger.hold_keys().collect();
        keys.sort();
        Self { counts: SKUS.iter().map(book).collect(), rest, keys }
    }
}

/// What was committed, commit by commit.
#[derive(Debug)]
pub struct History {
    /// The ledger before anything, and after each commit.
    facts: Vec<Facts>,
    /// How each hold stood after which commit.
    holds: Vec<(usize, View)>,
    /// The hash of each entry, with its SKU.
    entries: BTreeMap<(SkuId, u64), Digest>,
    seed: Option<[u8; 32]>,
    chance: StdRng,
    asked: u64,
}

impl History {
    pub fn new(seed: u64) -> Self {
        let nothing = Facts { counts: vec![None; SKUS.len()], rest: Checkpoint::default(), keys: Vec::new() };
        Self {
            facts: vec![nothing],
            holds: Vec::new(),
            entries: BTreeMap::new(),
            seed: None,
            chance: StdRng::seed_from_u64(seed),
            asked: seed << 32,
        }
    }

    /// The history up to and with a commit, which goes on from there in another way.
    pub fn until(&self, commit: usize) -> Self {
        let counts = &self.facts[commit].counts;
        let then = |name: &SkuId| SKUS.iter().zip(counts).find(|(sku, _)| **sku == name.as_str()).and_then(|(_, c)| *c);
        let there = |sku: &SkuId, n: u64| then(sku).is_some_and(|(_, count)| n <= count.entry);
        let entries = self.entries.iter().filter(|((sku, n), _)| there(sku, *n));
        Self {
            facts: self.facts[..=commit].to_vec(),
            holds: self.holds.iter().filter(|(at, _)| *at <= commit).cloned().collect(),
            entries: entries.map(|(place, hash)| (place.clone(), *hash)).collect(),
            seed: self.seed,
            chance: StdRng::seed_from_u64(self.asked ^ commit as u64),
            asked: self.asked,
        }
    }

    pub fn commits(&self) -> usize {
        self.facts.len() - 1
    }

    /// Does business in the file at `path` until `commits` more are done, telling `disk` of each that has returned.
    pub fn go_on(&mut self, path: &Path, ground: Ground<'_>, disk: &Disk, commits: usize) -> Result<(), Failure> {
        disk.acknowledge(self.commits());
        let mut store = Sqlite::open_on(path, ground)?;
        let mut scribe = Scribe::take_up(&mut store)?;
        self.seed = Some(store.signing_seed()?);
        for _ in 0..commits {
            let mut txs = Vec::new();
            while txs.is_empty() {
                (0..self.chance.random_range(1..8)).for_each(|_| txs.extend(self.command(&mut scribe)));
            }
            let commit = self.commits() + 1;
            self.note(commit, &scribe.ledger, &txs);
            scribe.commit(&mut store, &txs)?;
            self.seal(&store, &txs);
            disk.acknowledge(commit);
            if self.chance.random_bool(0.15) {
                Store::checkpoint(&mut store, &scribe.ledger.checkpoint())?;
            }
            store.tidy(self.chance.random_bool(0.3))?;
            if self.chance.random_bool(0.1) {
                drop(store);
                store = Sqlite::open_on(path, ground)?;
                let now = scribe.now;
                scribe = Scribe { now, ..Scribe::take_up(&mut store)? };
            }
        }
        Ok(())
    }

    fn note(&mut self, commit: usize, ledger: &Ledger, txs: &[Tx]) {
        self.facts.push(Facts::of(ledger));
        for tx in txs {
            if let What::Hold(step) = &tx.what {
                self.holds.push((commit, View { held: step.held.clone(), standing: step.standing.clone() }));
            }
        }
    }

    /// Reads back the hashes of what was committed just now.
    fn seal(&mut self, store: &Sqlite, txs: &[Tx]) {
        for tx in txs.iter().filter(|tx| !tx.entries.is_empty()) {
            for (entry, found) in
                tx.entries.iter().zip(tampering::read(&store.db, tx.no, |record| record.entries.clone()))
            {
                let sku = SKUS[entry.sku_no as usize].parse().unwrap();
                self.entries.insert((sku, entry.count.entry), found.hash);
            }
        }
    }

    /// One command, which may be refused.
    fn command(&mut self, scribe: &mut Scribe) -> Option<Tx> {
        scribe.now = UnixMs(scribe.now.0 + self.chance.random_range(0..400));
        if scribe.ledger.books().find(&"red".parse().unwrap()).is_none_or(|book| book.terms.is_none()) {
            let told = scribe.ledger.define(&terms(), scribe.now).unwrap();
            if told.tx.is_some() {
                return told.tx;
            }
        }
        let now = scribe.now;
        let known = self.holds.len().checked_sub(1).map(|last| self.chance.random_range(0..=last));
        let view = known.map(|at| self.holds[at].1.clone());
        let id = view.as_ref().map_or(HoldId::from_bytes([0; 16]), |view| view.held.id);
        let buyer = Party::Buyer(view.as_ref().map_or("ann".parse().unwrap(), |view| view.held.sub.clone()));
        let shop = Party::Merchant { sub: CLERK.parse().unwrap(), merchant: "main".parse().unwrap() };
        let ledger = &mut scribe.ledger;
        match self.chance.random_range(0..20) {
            0..8 => ledger.hold(&self.hold(), now).ok().and_then(|held| held.tx),
            8..11 => ledger.confirm(&buyer, id, Some("p".into()), now).ok().and_then(|paid| paid.tx),
            11 => ledger.confirm(&shop, id, None, now).ok().and_then(|paid| paid.tx),
            12 => ledger.cancel(&buyer, id, now).ok().and_then(|cancelled| cancelled.tx),
            13 => ledger.extend(&buyer, id, now).ok().and_then(|extended| extended.tx),
            14..16 => {
                let sku = view.as_ref().map(|view| view.held.lines[0].sku.clone())?;
                let lines = self.chance.random_bool(0.5).then(|| vec![RefundLine { sku, quantity: 1 }]);
                let (key, restock) = (self.key(), self.chance.random_bool(0.5));
                let ask = RefundAsk { by: shop, order: id, key, lines, restock, reason: "back".into() };
                ledger.refund(&ask, now).ok().and_then(|refunded| refunded.tx)
            }
            16..18 => {
                let sku = SKUS[self.chance.random_range(0..SKUS.len())].parse().unwrap();
                let (key, delta) = (self.key(), self.chance.random_range(-5..20));
                let ask = AdjustAsk { by: shop, sku, key, change: StockChange::Delta(delta), reason: "盘点".into() };
                ledger.adjust(&ask, now).ok().and_then(|adjusted| adjusted.tx)
            }
            _ => {
                scribe.now = now.plus(Duration::from_secs(self.chance.random_range(0..200)));
                scribe.ledger.expire_next(scribe.now).and_then(|expired| expired.tx)
            }
        }
    }

    fn key(&mut self) -> Key {
        self.asked += 1;
        let mut id = [7; 16];
        id[..8].copy_from_slice(&self.asked.to_be_bytes());
        Key { id: KeyId(id), body: [1; 16] }
    }

    fn hold(&mut self) -> HoldAsk {
        let key = self.key();
        let line = |sku: &&str| LineRequest { sku: sku.parse().unwrap(), quantity: 1, price: None };
        let lines = self.chance.random_range(1..=SKUS.len());
        let sub: Sub = PEOPLE[self.chance.random_range(0..PEOPLE.len())].parse().unwrap();
        HoldAsk {
            sub,
            key,
            room: Some("hall".parse().unwrap()),
            show: self.chance.random_bool(0.5).then(|| "show".into()),
            shown_as: None,
            lines: SKUS[..lines].iter().map(line).collect(),
            seed: Seed { id: self.chance.random(), nonce: self.chance.random() },
        }
    }

    /// Holds what is in the file at `path` against this history: all of the first `acknowledged` commits, whole, and
    /// nothing that was never committed. Returns how many are there.
    pub fn agrees_with(&self, path: &Path, acknowledged: usize) -> Result<usize, String> {
        let said = |failure: Failure| failure.to_string();
        let mut store = Sqlite::open(path).map_err(said)?;
        let sound: String =
            store.db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|error| error.to_string())?;
        expect(sound == "ok", || sound)?;
        let mut scribe = Scribe::take_up(&mut store).map_err(said)?;
        let found = Facts::of(&scribe.ledger);
        let commit = self.facts.iter().rposition(|facts| facts.rest.tx == found.rest.tx);
        let commit = commit.ok_or_else(|| format!("half a commit: transaction {} is the last", found.rest.tx))?;
        expect(commit >= acknowledged, || format!("{acknowledged} commits were acknowledged, {commit} are there"))?;
        expect(self.facts[commit] == found, || format!("{:?} became {found:?}", self.facts[commit]))?;
        let seed = store.signing_seed().map_err(said)?;
        expect(acknowledged == 0 || self.seed == Some(seed), || "the signing key is another".to_owned())?;
        self.holds_agree(&store, commit)?;
        self.chains_agree(&store, &scribe, &found)?;
        messages_agree(&store, &scribe, &found)?;
        scribe.ledger.check();
        Ok(commit)
    }

    fn holds_agree(&self, store: &Sqlite, commit: usize) -> Result<(), String> {
        let mut reader = store.reader().map_err(|failure| failure.to_string())?;
        let mut then: BTreeMap<HoldId, Option<&View>> = BTreeMap::new();
        for (at, view) in &self.holds {
            let known = then.entry(view.held.id).or_default();
            if *at <= commit {
                *known = Some(view);
            }
        }
        for (id, view) in then {
            let found = reader.hold(id).map_err(|failure| failure.to_string())?;
            expect(found.as_ref() == view, || format!("hold {id}: {view:?} became {found:?}"))?;
        }
        Ok(())
    }

    fn chains_agree(&self, store: &Sqlite, scribe: &Scribe, found: &Facts) -> Result<(), String> {
        let mut reader = store.reader().map_err(|failure| failure.to_string())?;
        for (name, count) in SKUS.iter().zip(&found.counts) {
            let Some((_, count)) = count else { continue };
            let sku: SkuId = name.parse().unwrap();
            let row = scribe.chains.row(&sku).expect("a SKU has a chain");
            let entries = reader.entries(row, count.entry, 0).map_err(|failure| failure.to_string())?;
            let (mut prev, mut then) = (Digest::ZERO, StockCount::default());
            for entry in &entries {
                let noted = self.entries.get(&(sku.clone(), entry.n)).copied().unwrap_or(entry.hash);
                let whole = entry.hash == entry.digest(name) && entry.prev == prev && entry.hash == noted;
                expect(whole, || format!("{name}: entry {} is not what it was", entry.n))?;
                then = entry.kind.moves(then, entry.quantity).ok_or_else(|| format!("{name}: {}", entry.n))?;
                prev = entry.hash;
            }
            expect(then == *count, || format!("{name}: the chain says {then:?}, the books {count:?}"))?;
        }
        Ok(())
    }
}

fn messages_agree(store: &Sqlite, scribe: &Scribe, found: &Facts) -> Result<(), String> {
    let mut reader = store.reader().map_err(|failure| failure.to_string())?;
    let mut told = 0;
    for who in PEOPLE.into_iter().chain([CLERK]) {
        let who = who.parse().unwrap();
        let newest = scribe.ledger.newest_message(&who);
        let messages = reader.messages(&who, newest, 0, 10_000, 10_000).map_err(|failure| failure.to_string())?;
        expect(messages.iter().map(|message| message.n).eq(1..=messages.len() as u64), || {
            format!("{who:?}: {messages:?}")
        })?;
        told += messages.len() as u64;
    }
    let all: u64 = found.rest.people.iter().map(|person| person.message_n).sum();
    expect(told == all, || format!("{told} of {all} messages"))
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn terms() -> ProductTerms {
    ProductTerms {
        product: "scarf".parse().unwrap(),
        merchant: "main".parse().unwrap(),
        price: Money { amount: 100, currency: "CNY".parse().unwrap() },
        limit_per_user: None,
        limit_per_order: None,
        on_sale_at: None,
        skus: SKUS.iter().map(|sku| (sku.parse().unwrap(), 12)).collect(),
    }
}
