//! What every store must do. One test, run on each.

use crate::{
    clock::UnixMs,
    id::{HoldId, Money, Sub},
    order::{
        chain::Chains,
        config::Config,
        entry::Digest,
        hold::{State, View},
        ledger::{Ledger, Restored, Restorer},
        request::{HoldAsk, Key, KeyId, Party, ProductTerms, Seed},
        store::{Batch, Failure, OrdersAsk, OrdersOf, Reader, Store},
        tx::Tx,
    },
    protocol::{LineRequest, PrivateBody},
};

/// A ledger over a store.
pub(super) struct Scribe {
    pub ledger: Ledger,
    pub chains: Chains,
    pub now: UnixMs,
}

impl Scribe {
    pub fn take_up(store: &mut dyn Store) -> Result<Self, Failure> {
        let now = UnixMs(1_700_000_000_000).max(store.newest()?);
        let mut restorer = Restorer::new(Config::default(), UnixMs(0));
        store.load(UnixMs(0), &mut restorer)?;
        let Restored { ledger, skus, .. } = restorer.finish();
        Ok(Self { ledger, chains: Chains::restore(&skus), now })
    }

    fn define(&mut self) -> Tx {
        let terms = ProductTerms {
            product: "scarf".parse().unwrap(),
            merchant: "main".parse().unwrap(),
            price: Money { amount: 100, currency: "CNY".parse().unwrap() },
            limit_per_user: None,
            limit_per_order: None,
            on_sale_at: None,
            skus: vec![("red".parse().unwrap(), 500), ("blue".parse().unwrap(), 500)],
        };
        self.ledger.define(&terms, self.now).unwrap().tx.unwrap()
    }

    fn hold(&mut self, who: &str, n: u8) -> (View, Tx) {
        self.now = UnixMs(self.now.0 + i64::from(n % 3));
        let line = |sku: &str| LineRequest { sku: sku.parse().unwrap(), quantity: 1, price: None };
        let ask = HoldAsk {
            sub: who.parse().unwrap(),
            key: Key { id: KeyId([n; 16]), body: [0; 16] },
            room: Some("hall".parse().unwrap()),
            show: Some("show".into()),
            shown_as: Some("买".into()),
            lines: vec![line("red"), line("blue")],
            seed: Seed { id: [n; 10], nonce: [n; 16] },
        };
        let held = self.ledger.hold(&ask, self.now).unwrap();
        (held.answer, held.tx.unwrap())
    }

    fn confirm(&mut self, id: HoldId) -> Tx {
        let by = Party::Admin { sub: "root".parse().unwrap() };
        self.ledger.confirm(&by, id, Some("pay".into()), self.now).unwrap().tx.unwrap()
    }

    pub fn commit(&mut self, store: &mut dyn Store, txs: &[Tx]) -> Result<(), Failure> {
        let mut seals = Vec::new();
        self.chains.seal(txs, &mut seals);
        let heads: Vec<_> = self.chains.take_grown().into_iter().map(|grown| grown.head).collect();
        store.commit(&Batch { txs, seals: &seals, heads: &heads })
    }
}

/// `open` opens what was there before again; the store given before is gone by then.
pub fn keeps_to_the_contract(mut open: impl FnMut() -> Box<dyn Store>) {
    let mut store = open();
    assert_eq!(store.newest().unwrap(), UnixMs(0));
    let seed = store.signing_seed().unwrap();
    let mut scribe = Scribe::take_up(store.as_mut()).unwrap();

    let mut txs = vec![scribe.define()];
    let mut holds = Vec::new();
    for n in 0..200u8 {
        let (view, tx) = scribe.hold(if n % 2 == 0 { "ann" } else { "bob" }, n);
        txs.push(tx);
        txs.push(scribe.confirm(view.held.id));
        holds.push(view);
        if n % 10 == 9 {
            scribe.commit(store.as_mut(), &txs).unwrap();
            txs.clear();
        }
        if n == 99 || n == 149 {
            let checkpoint = scribe.ledger.checkpoint();
            store.checkpoint(&checkpoint).unwrap();
        }
    }
    let before = ledger_facts(&scribe.ledger);
    assert_eq!(store.newest().unwrap(), scribe.now);
    what_is_committed_can_be_read(store.reader().unwrap().as_mut(), &scribe, &holds);

    a_batch_is_whole_or_not_at_all(store.as_mut(), &mut scribe);
    drop(store);
    let mut store = open();
    assert_eq!(store.signing_seed().unwrap(), seed);
    assert_eq!(ledger_facts(&Scribe::take_up(store.as_mut()).unwrap().ledger), before);
}

fn ledger_facts(ledger: &Ledger) -> impl PartialEq + std::fmt::Debug + use<> {
    let count = |sku: &str| ledger.books().find(&sku.parse().unwrap()).map(|book| (book.stock, book.count));
    let ann: Sub = "ann".parse().unwrap();
    let newest = (ledger.newest_message(&ann), ledger.newest_order(&Party::Buyer(ann)));
    let mut keys: Vec<_> = ledger.hold_keys().collect();
    keys.sort();
    (count("red"), count("blue"), newest, keys, ledger.open_holds())
}

fn what_is_committed_can_be_read(reader: &mut dyn Reader, scribe: &Scribe, holds: &[View]) {
    for made in holds {
        let found = reader.hold(made.held.id).unwrap().expect("a committed hold is found");
        assert_eq!((&found.held, found.standing.state), (&made.held, State::Paid));
    }
    assert_eq!(reader.hold(HoldId::make()).unwrap(), None);
    assert_eq!(reader.hold(HoldId::from_bytes([0; 16])).unwrap(), None);

    let ann: Sub = "ann".parse().unwrap();
    let newest = scribe.ledger.newest_order(&Party::Buyer(ann.clone()));
    let ask = OrdersAsk { of: OrdersOf::Buyer, newest, after: None, state: None, limit: 30, look_max: 30 };
    let orders = reader.orders(&ask).unwrap().views;
    let expected: Vec<_> = holds.iter().rev().filter(|view| view.held.sub == ann).take(30).collect();
    assert!(orders.iter().map(|view| view.held.id).eq(expected.iter().map(|view| view.held.id)));
    let next = reader.orders(&OrdersAsk { after: Some(orders[29].held.id), limit: 1, ..ask }).unwrap();
    assert_eq!((next.views[0].held.id, next.next), (holds[138].held.id, Some(holds[138].held.id)));
    let none = reader.orders(&OrdersAsk { state: Some(State::Refunded), ..ask }).unwrap();
    assert_eq!((none.views.len(), none.next), (0, Some(orders[29].held.id)), "it says where to look on");
    let last = reader.orders(&OrdersAsk { state: Some(State::Refunded), look_max: 1_000, ..ask }).unwrap();
    assert_eq!((last.views.len(), last.next), (0, None));

    let newest = scribe.ledger.newest_message(&ann);
    let messages = reader.messages(&ann, newest, 190, 5, 100).unwrap();
    assert_eq!(messages.iter().map(|message| message.n).collect::<Vec<_>>(), [191, 192, 193, 194, 195]);
    assert!(matches!(&messages[0].body, PrivateBody::HoldCreated { hold } if hold.id == holds[190].held.id));
    assert!(matches!(&messages[1].body, PrivateBody::OrderPaid { order } if order.id == holds[190].held.id));
    assert_eq!(reader.messages(&ann, newest, 0, 1_000, 7).unwrap()[0].n, 194, "only the last ones are kept");

    let red = "red".parse().unwrap();
    let last = scribe.ledger.books().find(&red).unwrap().count.entry;
    let entries = reader.entries(scribe.chains.row(&red).unwrap(), last, 0).unwrap();
    assert_eq!(entries.len() as u64, last);
    let mut prev = Digest::ZERO;
    for entry in &entries {
        assert_eq!((entry.prev, entry.hash), (prev, entry.digest("red")));
        prev = entry.hash;
    }
}

/// Transactions that contradict what is kept fail, and what came before them in the batch is not kept either.
fn a_batch_is_whole_or_not_at_all(store: &mut dyn Store, scribe: &mut Scribe) {
    let newest = store.newest().unwrap();
    let (view, first) = scribe.hold("eve", 250);
    let (_, mut second) = scribe.hold("eve", 251);
    second.no = first.no;
    let crate::order::tx::What::Hold(step) = &mut second.what else { unreachable!("a hold is a step") };
    step.held = view.held.clone();
    scribe.now = UnixMs(scribe.now.0 + 1);
    assert!(scribe.commit(store, &[first, second]).is_err());
    assert_eq!(store.newest().unwrap(), newest);
    assert_eq!(store.reader().unwrap().hold(view.held.id).unwrap(), None);
}
