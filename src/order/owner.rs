//! The owner thread: drains what waits, decides each command in order, links the entries into their chains, and hands
//! the decisions to the journal.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use crate::{
    clock::{Clock, UnixMs},
    id::{HoldId, SkuId, Sub},
    order::{
        Answered,
        chain::Chains,
        config::Config,
        fast::{Face, Fast},
        handover::{Decisions, Handover, Outcome, Reply, Waiting},
        hold::View,
        ledger::{Decided, Ledger},
        mailbox::Mailbox,
        refusal::Refusal,
        request::{AdjustAsk, HoldAsk, Party, ProductTerms, RefundAsk},
        stats::{Counters, bump},
        tx::Tx,
    },
    protocol::StockCount,
};

/// Commands decided before the next look at the clock.
pub const ROUND_MAX: usize = 256;
/// Keys forgotten in a round.
const FORGET_MAX: usize = 1_024;
/// A hold expires at most this long after its time.
const TICK: Duration = Duration::from_millis(20);
/// How long to wait for a command when more holds are due than the next commit takes.
const BETWEEN_EXPIRIES: Duration = Duration::from_millis(1);
/// How long to wait for a command when no hold is open.
const IDLE: Duration = Duration::from_millis(250);

/// What waits for the owner.
#[derive(Debug)]
pub enum Ask {
    Define(Box<ProductTerms>, Reply<Vec<(SkuId, StockCount)>>),
    Hold(Box<HoldAsk>, Reply<View>),
    Confirm {
        by: Party,
        hold: HoldId,
        payment: Option<Arc<str>>,
        reply: Reply<View>,
    },
    Cancel {
        by: Party,
        hold: HoldId,
        reply: Reply<View>,
    },
    Extend {
        by: Party,
        hold: HoldId,
        reply: Reply<View>,
    },
    Refund(Box<RefundAsk>, Reply<View>),
    Adjust(Box<AdjustAsk>, Reply<StockCount>),
    /// A closed hold as it was read from the store at a time.
    Invite(Box<View>, UnixMs),
    NewestMessage(Sub, Reply<u64>),
    NewestOrder(Party, Reply<u64>),
}

pub struct Owner {
    pub config: Config,
    pub clock: Clock,
    pub ledger: Ledger,
    pub chains: Chains,
    pub mailbox: Arc<Mailbox<Ask>>,
    pub fast: Arc<Fast>,
    /// What callers see of each SKU, by its number.
    pub faces: Vec<Arc<Face>>,
    pub handover: Arc<Handover>,
    pub counters: Arc<Counters>,
    pub decided: Decisions,
    /// Holds are due that the next commit had no room for.
    pub more_are_due: bool,
    /// The last transaction in the checkpoint.
    pub checkpoint_tx: u64,
}

impl Owner {
    /// Until it is stopped, every handle is gone, or the journal has ended.
    pub fn run(mut self) {
        let mut asks = Vec::with_capacity(ROUND_MAX);
        let mut more = true;
        while more {
            more = self.mailbox.take(&mut asks, ROUND_MAX, self.wait());
            more &= self.round(asks.drain(..));
        }
        let tail = self.ledger.last_tx() - self.checkpoint_tx;
        let checkpoint = (tail > self.config.checkpoint_after / 10).then(|| self.ledger.checkpoint());
        self.handover.finish(checkpoint);
    }

    fn wait(&self) -> Duration {
        if self.more_are_due {
            return BETWEEN_EXPIRIES;
        }
        let now = self.clock.now();
        self.ledger.earliest_due().map_or(IDLE, |due| self.clock.to_wait(due.since(now)).min(TICK))
    }

    /// Decides what was taken. `false`: the journal has ended.
    fn round(&mut self, asks: impl Iterator<Item = Ask>) -> bool {
        let now = self.clock.now();
        self.ledger.close(self.counters.disk_low.load(Relaxed));
        self.expire(now);
        for ask in asks {
            self.decide(ask, now);
        }
        for key in self.ledger.forget(now, FORGET_MAX) {
            self.fast.forgotten(key);
        }
        self.ledger.check();
        self.counters.open_holds.store(self.ledger.open_holds(), Relaxed);
        self.decided.is_empty() || self.hand_over()
    }

    /// Links what was decided into the chains, and hands it to the journal.
    fn hand_over(&mut self) -> bool {
        let Decisions { txs, seals, grown, .. } = &mut self.decided;
        self.chains.seal(txs, seals);
        grown.extend(self.chains.take_grown().into_iter().map(|chain| (chain.head.sku_no, chain)));
        self.handover.put(&mut self.decided)
    }

    /// As many as the next commit takes beside what is in it already: a storm of expiries must not make buyers wait for
    /// a long commit.
    fn expire(&mut self, now: UnixMs) {
        let room = self.config.expire_max.saturating_sub(self.handover.waiting());
        for _ in 0..room {
            let Some(expired) = self.ledger.expire_next(now) else { break };
            bump(&self.counters.steps.expired);
            self.record(expired.tx);
        }
        self.more_are_due = self.ledger.earliest_due().is_some_and(|due| due <= now);
    }

    fn decide(&mut self, ask: Ask, now: UnixMs) {
        match ask {
            Ask::Define(terms, reply) => self.define(&terms, reply, now),
            Ask::Hold(ask, reply) => self.hold(&ask, reply, now),
            Ask::Confirm { by, hold, payment, reply } => {
                let decided = self.ledger.confirm(&by, hold, payment, now);
                self.count_confirm(&decided);
                let outcome = self.settle(decided);
                self.decided.answers.push(Waiting::View(reply, outcome));
            }
            Ask::Cancel { by, hold, reply } => {
                let decided = self.ledger.cancel(&by, hold, now);
                let outcome = self.settle_counted(decided, |counters| &counters.steps.cancelled);
                self.decided.answers.push(Waiting::View(reply, outcome));
            }
            Ask::Extend { by, hold, reply } => {
                let decided = self.ledger.extend(&by, hold, now);
                let outcome = self.settle_counted(decided, |counters| &counters.steps.extended);
                self.decided.answers.push(Waiting::View(reply, outcome));
            }
            Ask::Refund(ask, reply) => {
                let decided = self.ledger.refund(&ask, now);
                let outcome = self.settle_counted(decided, |counters| &counters.steps.refunded);
                self.decided.answers.push(Waiting::View(reply, outcome));
            }
            Ask::Adjust(ask, reply) => self.adjust(&ask, reply, now),
            Ask::Invite(view, read_at) => self.ledger.invite(*view, read_at, now),
            Ask::NewestMessage(sub, reply) => {
                let newest = Answered { value: self.ledger.newest_message(&sub), replayed: false };
                self.decided.answers.push(Waiting::Tx(reply, Ok(newest)));
            }
            Ask::NewestOrder(by, reply) => {
                let newest = Answered { value: self.ledger.newest_order(&by), replayed: false };
                self.decided.answers.push(Waiting::Tx(reply, Ok(newest)));
            }
        }
    }

    fn define(&mut self, terms: &ProductTerms, reply: Reply<Vec<(SkuId, StockCount)>>, now: UnixMs) {
        let decided = self.ledger.define(terms, now);
        if decided.is_ok() {
            for book in self.ledger.books().of_product(&terms.product) {
                let face = self.fast.defined(book);
                if book.no as usize == self.faces.len() {
                    self.faces.push(face);
                }
            }
        }
        let outcome = self.settle(decided);
        self.decided.answers.push(Waiting::Counts(reply, outcome));
    }

    /// A refusal is told at once: it changed nothing. An answer waits for the commit.
    fn hold(&mut self, ask: &HoldAsk, reply: Reply<View>, now: UnixMs) {
        match self.ledger.hold(ask, now) {
            Ok(decided) => {
                let holds = &self.counters.holds;
                bump(if decided.replayed { &holds.replayed } else { &holds.accepted });
                if decided.tx.is_some() {
                    self.fast.accepted(ask.key.id);
                }
                let outcome = self.settle(Ok(decided));
                self.decided.answers.push(Waiting::View(reply, outcome));
            }
            Err(refusal) => {
                self.counters.refused(&refusal);
                drop(reply.send(Err(refusal)));
            }
        }
        self.fast.arrived(ask.key.id);
    }

    fn adjust(&mut self, ask: &AdjustAsk, reply: Reply<StockCount>, now: UnixMs) {
        let full = self.counters.events_waiting.load(Relaxed) >= self.config.events_waiting_max;
        let decided = if full { Err(Refusal::BUSY) } else { self.ledger.adjust(ask, now) };
        let outcome = self.settle_counted(decided, |counters| &counters.steps.adjusted);
        self.decided.answers.push(Waiting::Count(reply, outcome));
    }

    fn count_confirm(&self, decided: &Result<Decided<View>, Refusal>) {
        let steps = &self.counters.steps;
        match decided {
            Ok(decided) if decided.replayed => {}
            Ok(decided) if decided.answer.standing.state == crate::order::hold::State::RefundDue => {
                tracing::warn!(order = %decided.answer.held.id, "paid after its stock was gone: a refund is due");
                bump(&steps.refund_due);
            }
            Ok(_) => bump(&steps.confirmed),
            Err(_) => {}
        }
    }

    fn settle_counted<T>(
        &mut self,
        decided: Result<Decided<T>, Refusal>,
        counter: impl FnOnce(&Counters) -> &std::sync::atomic::AtomicU64,
    ) -> Outcome<T> {
        if decided.as_ref().is_ok_and(|decided| !decided.replayed) {
            bump(counter(&self.counters));
        }
        self.settle(decided)
    }

    fn settle<T>(&mut self, decided: Result<Decided<T>, Refusal>) -> Outcome<T> {
        let decided = decided?;
        self.record(decided.tx);
        Ok(Answered { value: decided.answer, replayed: decided.replayed })
    }

    /// Tells callers what is available now, and keeps the transaction for the next commit.
    fn record(&mut self, tx: Option<Tx>) {
        let Some(tx) = tx else { return };
        for entry in &tx.entries {
            self.faces[entry.sku_no as usize].decided(entry.count.available);
        }
        self.decided.txs.push(tx);
    }
}

impl Drop for Owner {
    /// Who still waits for a decision, or asks for one later, does not wait in vain.
    fn drop(&mut self) {
        self.mailbox.close();
        self.mailbox.take(&mut Vec::new(), usize::MAX, Duration::ZERO);
    }
}
