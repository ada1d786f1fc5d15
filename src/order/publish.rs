//! Events about what was committed, on their way to whoever routes them.
//!
//! Stock is paced: at most one event per SKU in each interval, the first at once, then the latest counts.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::mpsc::{Sender, error::TrySendError};

use crate::{
    clock::UnixMs,
    id::{HoldId, RoomId, SkuId, Sub},
    order::{
        chain::Grown,
        config::Config,
        entry::{Digest, EntryType},
        hold::{Step, View},
        stats::{Counters, bump},
        tx::{HoldStep, Tx, What},
    },
    protocol::{Private, StockCount},
};

/// What was committed, for the rooms and persons that it concerns.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The latest counts of a SKU; `hash` is that of entry `count.entry`.
    Stock {
        sku: SkuId,
        count: StockCount,
        hash: String,
    },
    /// Somebody changed a SKU's stock. Never left out or merged.
    Adjusted {
        sku: SkuId,
        delta: i64,
        reason: String,
        entry: u64,
    },
    /// A line of an order that was paid.
    Sold {
        room: Option<RoomId>,
        sku: SkuId,
        quantity: u32,
        shown_as: Option<String>,
    },
    Private {
        sub: Sub,
        told: Told,
    },
}

/// A private message, put into words only for who is there to read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    n: u64,
    at: UnixMs,
    to: To,
    view: View,
    /// With [`Step::Refunded`]: pieces came back to be sold.
    restocked: bool,
}

/// What is refunded of an order, all in all, and whether the pieces of the last refund are sold again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundTold {
    pub lines: Vec<(SkuId, u32)>,
    pub restocked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum To {
    Buyer(Step),
    /// Who confirmed an order for which no stock was left.
    Confirmer,
}

impl Told {
    pub fn message(&self) -> Private {
        let body = match self.to {
            To::Buyer(step) => step.told(&self.view),
            To::Confirmer => self.view.told_confirmer(),
        };
        Private { n: self.n, at: self.at, body }
    }

    /// What the buyer was told of: the room, the hold and its step. `None` without a room, and for who else is told.
    pub fn step(&self) -> Option<(&RoomId, HoldId, Step)> {
        match self.to {
            To::Buyer(step) => Some((self.view.held.room.as_ref()?, self.view.held.id, step)),
            To::Confirmer => None,
        }
    }

    pub fn refund(&self) -> Option<RefundTold> {
        let placed = self.view.standing.placed.as_ref().filter(|_| self.to == To::Buyer(Step::Refunded))?;
        let lines = self.view.held.lines.iter().zip(&placed.refunded);
        let lines = lines.map(|(line, refunded)| (line.sku.clone(), *refunded)).collect();
        Some(RefundTold { lines, restocked: self.restocked })
    }
}

/// When each SKU's counts may be told again.
#[derive(Debug)]
struct Pacer {
    interval: Duration,
    told: HashMap<SkuId, Paced>,
    /// SKUs with counts to tell, by when they may be.
    due: BTreeSet<(UnixMs, SkuId)>,
}

#[derive(Debug)]
struct Paced {
    at: UnixMs,
    next: Option<(StockCount, Digest)>,
}

impl Pacer {
    fn changed(&mut self, sku: &SkuId, count: StockCount, hash: Digest, now: UnixMs) {
        if let Some(told) = self.told.get_mut(sku) {
            if told.next.replace((count, hash)).is_none() {
                self.due.insert((told.at.plus(self.interval), sku.clone()));
            }
            return;
        }
        self.told.insert(sku.clone(), Paced { at: now, next: Some((count, hash)) });
        self.due.insert((now, sku.clone()));
    }

    fn next(&mut self, now: UnixMs) -> Option<Event> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        let (_, sku) = self.due.pop_first()?;
        let told = self.told.get_mut(&sku)?;
        let (count, hash) = told.next.take()?;
        told.at = now;
        Some(Event::Stock { sku, count, hash: hash.to_string() })
    }
}

/// Sends events in order; what finds the channel full waits here, up to a bound.
#[derive(Debug)]
pub struct Publisher {
    to: Sender<Event>,
    waiting: VecDeque<Event>,
    waiting_max: usize,
    pacer: Pacer,
    counters: Arc<Counters>,
}

impl Publisher {
    pub fn new(config: &Config, to: Sender<Event>, counters: Arc<Counters>) -> Self {
        let interval = Duration::from_millis(config.stock_interval_ms.into());
        let pacer = Pacer { interval, told: HashMap::new(), due: BTreeSet::new() };
        Self { to, waiting: VecDeque::new(), waiting_max: config.events_waiting_max, pacer, counters }
    }

    /// Something waits to be sent.
    pub fn has_more(&self) -> bool {
        !self.waiting.is_empty() || !self.pacer.due.is_empty()
    }

    pub fn committed<'a>(&mut self, txs: &[Tx], grown: impl Iterator<Item = &'a Grown>, now: UnixMs) {
        for tx in txs {
            match &tx.what {
                What::Opened(_) => {}
                What::Adjusted { sku, reason, .. } => self.adjusted(tx, sku, reason),
                What::Hold(step) => self.stepped(step, tx),
            }
        }
        for grown in grown {
            self.pacer.changed(&grown.sku, grown.head.count, grown.head.hash, now);
        }
        self.send(now);
    }

    fn adjusted(&mut self, tx: &Tx, sku: &SkuId, reason: &str) {
        for entry in tx.entries.iter().filter(|entry| entry.kind == EntryType::Adjusted) {
            self.waiting.push_back(Event::Adjusted {
                sku: sku.clone(),
                delta: entry.quantity,
                reason: reason.to_owned(),
                entry: entry.count.entry,
            });
        }
    }

    fn stepped(&mut self, step: &HoldStep, tx: &Tx) {
        let held = &step.held;
        let view = || View { held: held.clone(), standing: step.standing.clone() };
        let restocked = tx.entries.iter().any(|entry| entry.kind == EntryType::Refunded && entry.quantity > 0);
        let told = |n, to| Told { n, at: tx.at, to, view: view(), restocked };
        self.add(|| Event::Private { sub: held.sub.clone(), told: told(step.n, To::Buyer(step.step)) });
        if let Some(notice) = &step.notice {
            self.add(|| Event::Private { sub: notice.sub.clone(), told: told(notice.n, To::Confirmer) });
        }
        if step.step == Step::Paid {
            for line in held.lines.iter() {
                self.add(|| Event::Sold {
                    room: held.room.clone(),
                    sku: line.sku.clone(),
                    quantity: line.quantity,
                    shown_as: held.shown_as.as_deref().map(str::to_owned),
                });
            }
        }
    }

    fn add(&mut self, event: impl FnOnce() -> Event) {
        if self.waiting.len() < self.waiting_max {
            self.waiting.push_back(event());
        } else {
            bump(&self.counters.events_left_out);
        }
    }

    /// Sends what may be sent now and has room. With nobody to hear them, events are dropped.
    pub fn send(&mut self, now: UnixMs) {
        loop {
            let event = self.waiting.pop_front().or_else(|| self.pacer.next(now));
            let Some(event) = event else { break };
            match self.to.try_send(event) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(event)) => {
                    self.wait_again(event);
                    break;
                }
            }
        }
        self.counters.events_waiting.store(self.waiting.len(), Relaxed);
    }

    /// Counts that found no room wait in the pacer, where newer ones replace them.
    fn wait_again(&mut self, event: Event) {
        match event {
            Event::Stock { sku, count, hash } => {
                let hash = crate::order::entry::from_hex(&hash).map_or(Digest::ZERO, Digest);
                if let Some(told) = self.pacer.told.get_mut(&sku) {
                    self.pacer.due.insert((told.at, sku));
                    told.next = Some((count, hash));
                }
            }
            event => self.waiting.push_front(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    fn publisher(room: usize) -> (Publisher, Receiver<Event>) {
        let (to, from) = channel(room);
        let config = Config { events_waiting_max: 4, ..Config::default() };
        (Publisher::new(&config, to, Arc::new(Counters::new())), from)
    }

    fn sell(publisher: &mut Publisher, entry: u64, now: i64) {
        let count = StockCount { available: 100 - entry, held: entry, sold: 0, entry };
        publisher.pacer.changed(&"scarf".parse().unwrap(), count, Digest::ZERO, UnixMs(now));
        publisher.send(UnixMs(now));
    }

    fn entries(from: &mut Receiver<Event>) -> Vec<u64> {
        let mut entries = Vec::new();
        while let Ok(Event::Stock { count, .. }) = from.try_recv() {
            entries.push(count.entry);
        }
        entries
    }

    #[test]
    fn the_first_change_is_told_at_once_and_then_the_latest_once_an_interval() {
        let (mut publisher, mut from) = publisher(10);
        for (entry, now) in [(1, 0), (2, 10), (3, 99)] {
            sell(&mut publisher, entry, now);
        }
        assert_eq!(entries(&mut from), [1]);
        publisher.send(UnixMs(100));
        assert_eq!(entries(&mut from), [3]);
        publisher.send(UnixMs(1_000));
        assert_eq!(entries(&mut from), [] as [u64; 0]);
        sell(&mut publisher, 4, 1_000);
        assert_eq!(entries(&mut from), [4], "after a quiet while the first change is told at once again");
        assert!(!publisher.has_more());
    }

    #[test]
    fn counts_merge_while_nobody_takes_them() {
        let (mut publisher, mut from) = publisher(1);
        sell(&mut publisher, 1, 0);
        for entry in 2..50 {
            sell(&mut publisher, entry, entry as i64 * 1_000);
        }
        assert_eq!(entries(&mut from), [1]);
        publisher.send(UnixMs(60_000));
        assert_eq!(entries(&mut from), [49]);
    }

    #[test]
    fn adjustments_wait_and_the_rest_is_left_out_when_too_much_waits() {
        let (mut publisher, mut from) = publisher(1);
        let sold = || Event::Sold { room: None, sku: "scarf".parse().unwrap(), quantity: 1, shown_as: None };
        for _ in 0..10 {
            publisher.add(sold);
        }
        publisher.send(UnixMs(0));
        assert_eq!(publisher.counters.events_left_out.load(Relaxed), 6);
        let adjusted = Event::Adjusted { sku: "scarf".parse().unwrap(), delta: 4, reason: String::new(), entry: 2 };
        publisher.waiting.push_back(adjusted.clone());
        let mut last = None;
        while publisher.has_more() || last.is_none() {
            last = from.try_recv().ok();
            publisher.send(UnixMs(0));
        }
        assert_eq!(from.try_recv().ok().or(last), Some(adjusted));
    }
}
