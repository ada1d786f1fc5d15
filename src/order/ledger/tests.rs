//! The ledger against a naive oracle, over all commands, clock moves, commits, crashes and starts.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    oracle::{self, CLERK, DAY_MS, Oracle, OracleAnswer, SKUS},
    *,
};
use crate::{
    id::{HoldId, Money, SkuId},
    order::{
        chain::Chains,
        hold::State,
        refusal::Refusal,
        request::{AdjustAsk, HoldAsk, ProductTerms, RefundAsk, RefundLine, Seed, StockChange},
        store::{Batch, Checkpoint, LedgerFile, Reader, Sqlite, Store},
        tests::Folder,
        verify::verify,
    },
    protocol::{LineRequest, PrivateBody, StockCount},
};

pub fn price() -> Money {
    Money { amount: 900, currency: "CNY".parse().unwrap() }
}

#[derive(Clone, Debug)]
enum Op {
    Hold {
        who: usize,
        key: u8,
        lines: Vec<(usize, u32)>,
        in_show: bool,
        right_price: bool,
    },
    Confirm {
        hold: usize,
        money_taken: bool,
    },
    Cancel {
        hold: usize,
    },
    Extend {
        hold: usize,
    },
    Expire,
    Refund {
        hold: usize,
        key: u8,
        pieces: Option<u32>,
        restock: bool,
    },
    Adjust {
        sku: usize,
        key: u8,
        delta: i64,
    },
    Wait {
        ms: i64,
    },
    Commit,
    Checkpoint,
    /// Ends and starts again; what was not committed is lost.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let lines = vec((0..20usize, 1..=3u32), 1..=3).prop_map(|lines| {
        let mut lines: Vec<_> =
            lines.into_iter().map(|(sku, quantity)| ([0, 1, 2, 3][(sku / 6).min(3)], quantity)).collect();
        lines.sort_unstable();
        lines.dedup_by_key(|line| line.0);
        lines
    });
    let hold = (0..BUYERS, 0..12u8, lines, any::<bool>(), prop::bool::weighted(0.95));
    prop_oneof![
        12 => hold.prop_map(|(who, key, lines, in_show, right_price)| Op::Hold { who, key, lines, in_show, right_price }),
        5 => (0..40usize, any::<bool>()).prop_map(|(hold, money_taken)| Op::Confirm { hold, money_taken }),
        3 => (0..40usize).prop_map(|hold| Op::Cancel { hold }),
        2 => (0..40usize).prop_map(|hold| Op::Extend { hold }),
        4 => Just(Op::Expire),
        3 => (0..40usize, 0..4u8, option::of(0..3u32), any::<bool>())
            .prop_map(|(hold, key, pieces, restock)| Op::Refund { hold, key, pieces, restock }),
        2 => (0..3usize, 0..4u8, -3..4i64).prop_map(|(sku, key, delta)| Op::Adjust { sku, key, delta }),
        4 => select(vec![1, 1_000, 150_000, 299_999, 300_000, 3_600_000, DAY_MS, DAY_MS + 3_600_000])
            .prop_map(|ms| Op::Wait { ms }),
        3 => Just(Op::Commit),
        1 => Just(Op::Checkpoint),
        2 => Just(Op::Crash),
    ]
}

/// People who buy in the models.
const BUYERS: usize = 4;

fn config() -> Config {
    Config {
        hold_seconds: (oracle::HOLD_MS / 1_000) as u32,
        extend_seconds: (oracle::EXTEND_MS / 1_000) as u32,
        holds_open_per_person_max: oracle::OPEN_MAX,
        holds_expected: 0,
        ..Config::default()
    }
}

fn terms(product: usize) -> ProductTerms {
    let of_product = (0..SKUS.len()).filter(|sku| oracle::PRODUCT_OF[*sku] == product);
    ProductTerms {
        product: ["scarf", "tea"][product].parse().unwrap(),
        merchant: merchant(product),
        price: price(),
        limit_per_user: Some(oracle::LIMIT_PER_USER),
        limit_per_order: Some(oracle::LIMIT_PER_ORDER),
        on_sale_at: None,
        skus: of_product.map(|sku| (SKUS[sku].parse().unwrap(), oracle::OPENING)).collect(),
    }
}

fn merchant(product: usize) -> MerchantId {
    ["main", "wang"][product].parse().unwrap()
}

fn buyer(who: usize) -> Sub {
    format!("buyer-{who}").parse().unwrap()
}

fn clerk(product: usize) -> Party {
    Party::Merchant { sub: "clerk".parse().unwrap(), merchant: merchant(product) }
}

fn key(who: &Sub, key: u8, body: &str) -> Key {
    let id = KeyId::of(who, &key.to_string()).unwrap();
    Key { id, body: Digest16::of(body) }
}

struct Digest16;

impl Digest16 {
    fn of(body: &str) -> [u8; 16] {
        crate::order::entry::Digest::of(body.as_bytes()).0[..16].try_into().unwrap()
    }
}

/// A ledger with a real store, and what the oracle says of both.
struct World {
    folder: Folder,
    store: Option<Sqlite>,
    ledger: Ledger,
    chains: Chains,
    pending: Vec<Tx>,
    oracle: Oracle,
    /// The oracle as of the last commit.
    committed: Oracle,
    seeds: u64,
}

impl World {
    fn new() -> Self {
        let folder = Folder::new();
        let mut store = Sqlite::open(&folder.file()).unwrap();
        let (ledger, chains) = start(&mut store, UnixMs(0));
        let oracle = Oracle { now: 1_700_000_000_000, ..Oracle::default() };
        let committed = oracle.clone();
        let (store, pending) = (Some(store), Vec::new());
        let mut world = Self { folder, store, ledger, chains, pending, oracle, committed, seeds: 0 };
        world.define();
        world.commit();
        world
    }

    fn now(&self) -> UnixMs {
        UnixMs(self.oracle.now)
    }

    fn define(&mut self) {
        for product in 0..2 {
            let decided = self.ledger.define(&terms(product), self.now()).unwrap();
            self.pending.extend(decided.tx);
        }
    }

    fn commit(&mut self) {
        self.ledger.check();
        let mut seals = Vec::new();
        self.chains.seal(&self.pending, &mut seals);
        let heads: Vec<_> = self.chains.take_grown().into_iter().map(|grown| grown.head).collect();
        let batch = Batch { txs: &self.pending, seals: &seals, heads: &heads };
        self.store.as_mut().unwrap().commit(&batch).unwrap();
        self.pending.clear();
        self.committed = self.oracle.clone();
    }

    fn crash(&mut self) {
        drop(self.store.take());
        let lost = !self.pending.is_empty();
        let now = self.oracle.now;
        self.oracle = Oracle { now, ..self.committed.clone() };
        self.oracle.forget();
        self.pending.clear();
        let mut store = Sqlite::open(&self.folder.file()).unwrap();
        let expected = (!lost).then(|| sorted(self.ledger.checkpoint()));
        (self.ledger, self.chains) = start(&mut store, UnixMs(now - DAY_MS));
        let found = sorted(self.ledger.checkpoint());
        assert!(expected.is_none_or(|expected| expected == found), "nothing is lost or made up");
        self.store = Some(store);
        self.check_messages();
        self.reconciles();
        self.define();
        assert!(self.pending.is_empty(), "what was opened is not opened again");
    }

    /// Does what the desk does with a hold that is no longer in memory.
    fn with_guest<T>(
        &mut self,
        id: HoldId,
        mut ask: impl FnMut(&mut Ledger) -> Result<Decided<T>, Refusal>,
    ) -> Result<Decided<T>, Refusal> {
        let answer = ask(&mut self.ledger);
        if !matches!(answer, Err(Refusal::UnknownHold | Refusal::UnknownOrder)) {
            return answer;
        }
        let mut reader = self.store.as_ref().unwrap().reader().unwrap();
        let Some(view) = reader.hold(id).unwrap() else { return answer };
        self.ledger.invite(view, self.now(), self.now());
        ask(&mut self.ledger)
    }

    fn run(&mut self, op: &Op) {
        let count = self.oracle.holds.len();
        match op {
            Op::Hold { who, key, lines, in_show, right_price } => self.hold(*who, *key, lines, *in_show, *right_price),
            Op::Confirm { hold, money_taken } if count > 0 => self.confirm(hold % count, *money_taken),
            Op::Cancel { hold } if count > 0 => self.cancel(hold % count),
            Op::Extend { hold } if count > 0 => self.extend(hold % count),
            Op::Refund { hold, key, pieces, restock } if count > 0 => {
                self.refund(hold % count, *key, *pieces, *restock)
            }
            Op::Expire => self.expire(),
            Op::Adjust { sku, key, delta } => self.adjust(*sku, *key, *delta),
            Op::Wait { ms } => {
                // The desk commits within moments, long before anything is forgotten.
                self.commit();
                self.oracle.now += ms;
                self.oracle.forget();
                self.ledger.forget(self.now(), usize::MAX);
            }
            Op::Commit => self.commit(),
            Op::Checkpoint => {
                self.commit();
                let checkpoint = self.ledger.checkpoint();
                self.store.as_mut().unwrap().checkpoint(&checkpoint).unwrap();
            }
            Op::Crash => self.crash(),
            Op::Confirm { .. } | Op::Cancel { .. } | Op::Extend { .. } | Op::Refund { .. } => {}
        }
        self.ledger.check();
        self.compare();
    }

    fn hold(&mut self, who: usize, key_no: u8, lines: &[(usize, u32)], in_show: bool, right_price: bool) {
        let body = format!("hold {lines:?} {right_price}");
        self.seeds += 1;
        let mut id = [0; 10];
        id[..8].copy_from_slice(&self.seeds.to_be_bytes());
        let price = if right_price { price() } else { Money { amount: 1, ..price() } };
        let line = |(sku, quantity): &(usize, u32)| LineRequest {
            sku: [SKUS[0], SKUS[1], SKUS[2], "ghost"][*sku].parse().unwrap(),
            quantity: *quantity,
            price: Some(price),
        };
        let ask = HoldAsk {
            sub: buyer(who),
            key: key(&buyer(who), key_no, &body),
            room: None,
            show: in_show.then(|| "show".into()),
            shown_as: None,
            lines: lines.iter().map(line).collect(),
            seed: Seed { id, nonce: [1; 16] },
        };
        let decided = self.ledger.hold(&ask, self.now());
        let expected = self.oracle.hold(who, key_no, lines, in_show, right_price);
        if let (Ok(decided), Ok(OracleAnswer::Hold { hold, replayed: false, .. })) = (&decided, &expected) {
            self.oracle.holds[*hold].id = decided.answer.held.id;
        }
        self.agree(decided, expected);
    }

    fn agree(&mut self, decided: Result<Decided<View>, Refusal>, expected: Result<OracleAnswer, Refusal>) {
        let found = decided.map(|decided| {
            self.pending.extend(decided.tx);
            let (view, replayed) = (decided.answer, decided.replayed);
            let hold = self.oracle.holds.iter().position(|hold| hold.id == view.held.id).unwrap();
            let (state, expires_at) = (view.standing.state, view.standing.expires_at.0);
            match &expected {
                Ok(OracleAnswer::Refund { .. }) => {
                    let refunded = view.standing.placed.unwrap().refunded.to_vec();
                    OracleAnswer::Refund { hold, state, refunded, replayed }
                }
                _ => OracleAnswer::Hold { hold, state, expires_at, replayed },
            }
        });
        assert_eq!(found, expected);
    }

    fn by(&self, hold: usize, money_taken: bool) -> Party {
        let hold = &self.oracle.holds[hold];
        if money_taken { clerk(oracle::PRODUCT_OF[hold.lines[0].0]) } else { Party::Buyer(buyer(hold.who)) }
    }

    fn confirm(&mut self, hold: usize, money_taken: bool) {
        let (by, now, id) = (self.by(hold, money_taken), self.now(), self.oracle.holds[hold].id);
        let decided = self.with_guest(id, |ledger| ledger.confirm(&by, id, Some("pay".into()), now));
        let expected = self.oracle.confirm(hold, money_taken);
        self.agree(decided, expected);
    }

    fn cancel(&mut self, hold: usize) {
        let (by, now, id) = (self.by(hold, false), self.now(), self.oracle.holds[hold].id);
        let decided = self.with_guest(id, |ledger| ledger.cancel(&by, id, now));
        let expected = self.oracle.cancel(hold);
        self.agree(decided, expected);
    }

    fn extend(&mut self, hold: usize) {
        let (by, now, id) = (self.by(hold, false), self.now(), self.oracle.holds[hold].id);
        let decided = self.with_guest(id, |ledger| ledger.extend(&by, id, now));
        let expected = self.oracle.extend(hold);
        self.agree(decided, expected);
    }

    fn expire(&mut self) {
        let due = self.oracle.earliest_due();
        let expired = self.ledger.expire_next(self.now());
        assert_eq!(expired.as_ref().map(|decided| decided.answer.standing.expires_at), due);
        if let Some(decided) = expired {
            let id = decided.answer.held.id;
            let at = self.oracle.holds.iter().position(|hold| hold.id == id).unwrap();
            assert_eq!(std::mem::replace(&mut self.oracle.holds[at].state, State::Expired), State::Held);
            self.oracle.tell(at, Step::Expired);
            self.pending.extend(decided.tx);
        }
    }

    fn refund(&mut self, hold: usize, key_no: u8, pieces: Option<u32>, restock: bool) {
        let (by, now, id) = (self.by(hold, true), self.now(), self.oracle.holds[hold].id);
        let body = format!("refund {hold} {pieces:?} {restock}");
        let sku = SKUS[self.oracle.holds[hold].lines[0].0].parse().unwrap();
        let ask = RefundAsk {
            key: key(by.sub(), key_no, &body),
            by,
            order: id,
            lines: pieces.map(|quantity| vec![RefundLine { sku, quantity }]),
            restock,
            reason: "why".into(),
        };
        let decided = self.with_guest(id, |ledger| ledger.refund(&ask, now));
        let expected = self.oracle.refund(CLERK, hold, key_no, pieces, restock);
        self.agree(decided, expected);
    }

    fn adjust(&mut self, sku: usize, key_no: u8, delta: i64) {
        let by = clerk(oracle::PRODUCT_OF[sku]);
        let body = format!("adjust {sku} {delta}");
        let ask = AdjustAsk {
            key: key(by.sub(), key_no, &body),
            by,
            sku: SKUS[sku].parse().unwrap(),
            change: StockChange::Delta(delta),
            reason: "count".into(),
        };
        let decided = self.ledger.adjust(&ask, self.now()).map(|decided| {
            self.pending.extend(decided.tx);
            let StockCount { available, held, sold, .. } = decided.answer;
            OracleAnswer::Count { counts: [available, held, sold], replayed: decided.replayed }
        });
        assert_eq!(decided, self.oracle.adjust(CLERK, sku, key_no, delta));
    }

    fn compare(&self) {
        for (index, sku) in SKUS.iter().enumerate() {
            let StockCount { available, held, sold, .. } = self.ledger.books.find(&sku.parse().unwrap()).unwrap().count;
            assert_eq!([available, held, sold], self.oracle.counts(index), "{sku}");
        }
        let open = self.oracle.holds.iter().filter(|hold| hold.state == State::Held).count();
        assert_eq!(self.ledger.open_holds(), open);
    }

    /// What is on disk agrees with itself, read while the store is open.
    fn reconciles(&self) {
        let report = LedgerFile::open(&self.folder.file()).unwrap().reconcile(20).unwrap();
        assert!(report.agrees(), "{report}");
    }

    /// Everybody can read what she was told, numbered without gaps.
    fn check_messages(&self) {
        let mut reader = self.store.as_ref().unwrap().reader().unwrap();
        for who in (0..BUYERS).chain([CLERK]) {
            let sub = if who == CLERK { clerk(0).sub().clone() } else { buyer(who) };
            let newest = self.ledger.newest_message(&sub);
            let messages = reader.messages(&sub, newest, 0, usize::MAX, usize::MAX).unwrap();
            assert!(messages.iter().map(|message| message.n).eq(1..=messages.len() as u64));
            let found: Vec<_> = messages.iter().map(|message| about(&message.body)).collect();
            let of_hold = |(_, hold, step): &(usize, usize, Step)| (self.oracle.holds[*hold].id, *step);
            let expected: Vec<_> = self.oracle.told.iter().filter(|told| told.0 == who).map(of_hold).collect();
            assert_eq!(found, expected, "{who}");
        }
    }

    /// The chains on disk are whole and add up to what is in memory.
    fn check_chains(&mut self) {
        self.commit();
        let mut reader = self.store.as_ref().unwrap().reader().unwrap();
        for (index, sku) in SKUS.iter().enumerate() {
            let report = verify(&export(reader.as_mut(), self, sku), None).unwrap();
            let StockCount { available, held, sold, .. } = report.count;
            assert_eq!([available, held, sold], self.oracle.counts(index), "{sku}");
        }
    }
}

fn about(body: &PrivateBody) -> (HoldId, Step) {
    match body {
        PrivateBody::HoldCreated { hold } => (hold.id, Step::Held),
        PrivateBody::HoldExtended { hold } => (hold.id, Step::Extended),
        PrivateBody::HoldCancelled { hold } => (hold.id, Step::Cancelled),
        PrivateBody::HoldExpired { hold } => (hold.id, Step::Expired),
        PrivateBody::OrderPaid { order } => (order.id, Step::Paid),
        PrivateBody::OrderRefundDue { order } => (order.id, Step::RefundDue),
        PrivateBody::OrderRefunded { order } => (order.id, Step::Refunded),
    }
}

fn export(reader: &mut dyn Reader, world: &World, sku: &str) -> String {
    use crate::order::{LedgerExport, SignedHead, chain::Committed, signer::Signer};
    let sku: SkuId = sku.parse().unwrap();
    let count = world.ledger.books.find(&sku).unwrap().count;
    let row = world.chains.row(&sku).unwrap();
    let entries = reader.entries(row, count.entry, 0).unwrap();
    let head = Committed { count, hash: entries.last().unwrap().hash, row, marks: Vec::new() };
    let head = SignedHead::new(&Signer::new(&[1; 32]), &sku, &head, world.now());
    serde_json::to_string(&LedgerExport { sku, entries, head }).unwrap()
}

fn sorted(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.pieces.sort();
    checkpoint.sales.sort();
    checkpoint
}

fn start(store: &mut Sqlite, recent: UnixMs) -> (Ledger, Chains) {
    let mut restorer = Restorer::new(config(), recent);
    store.load(recent, &mut restorer).unwrap();
    let Restored { ledger, skus, .. } = restorer.finish();
    (ledger, Chains::restore(&skus))
}

proptest! {
    #![proptest_config(model())]

    #[test]
    fn the_ledger_does_what_the_oracle_says(ops in vec(op(), 1..150)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.check_chains();
        world.check_messages();
        world.reconciles();
    }
}

/// `ORDER_MODEL_CASES` asks for more than a test run wants to wait for.
fn model() -> ProptestConfig {
    let cases = std::env::var("ORDER_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    ProptestConfig { cases, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn the_clock_of_the_ledger_does_not_go_back() {
    let mut world = World::new();
    world.run(&Op::Hold { who: 0, key: 0, lines: vec![(0, 1)], in_show: false, right_price: true });
    let id = world.oracle.holds[0].id;
    let earlier = UnixMs(world.oracle.now - 60_000);
    let cancelled = world.ledger.cancel(&Party::Buyer(buyer(0)), id, earlier).unwrap();
    assert_eq!(cancelled.tx.unwrap().at, world.now());
}
