//! The handle that everybody else holds.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use crate::{
    clock::{Clock, UnixMs},
    id::{HoldId, MerchantId, OrderId, SkuId, Sub},
    order::{
        Answered,
        chain::Committed,
        config::Config,
        export::{LedgerExport, SignedHead, page},
        fast::Fast,
        handover::{Outcome, Reply},
        hold::{State, View},
        mailbox::{Mailbox, Unsent},
        owner::Ask,
        poison::Poison,
        readers::Readers,
        refusal::Refusal,
        request::{
            AdjustAsk, HoldAsk, HoldRequest, Key, KeyId, Party, ProductTerms, RefundAsk, RefundLine, Seed, StockChange,
            adjust_body, checked_payment, checked_reason, refund_body,
        },
        signer::{PublicKey, Signer},
        stats::{Counters, Stats, bump},
        store::{OrdersAsk, OrdersOf},
    },
    protocol::{Hold, LineRequest, Order, OrderPage, OrderState, Private, StockCount},
};

/// The order desk. Clones share it; it ends when it is shut down or the last clone goes.
#[derive(Clone)]
pub struct Desk {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub config: Config,
    pub clock: Clock,
    pub mailbox: Arc<Mailbox<Ask>>,
    pub fast: Arc<Fast>,
    pub readers: Readers,
    pub signer: Signer,
    pub counters: Arc<Counters>,
    pub poison: Arc<Poison>,
    pub threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl Desk {
    /// Tells the terms of a product's SKUs and opens the stock of those that are new; the stock of others stays. The
    /// counts are durable when they are answered.
    ///
    /// To be told of every product at the start and after each change: SKUs without terms are unknown to buyers.
    /// Refused when a SKU or the product belongs to another product or merchant.
    pub async fn define(&self, terms: ProductTerms) -> Result<Vec<(SkuId, StockCount)>, Refusal> {
        Ok(self.ask(|reply| Ask::Define(Box::new(terms), reply)).await?.value)
    }

    /// Sets stock aside for a buyer for a while, all lines or none.
    pub async fn hold(&self, request: HoldRequest) -> Result<Answered<Hold>, Refusal> {
        let checked = self.check_hold(&request);
        let (lines, key) = checked.inspect_err(|refusal| self.shared.counters.refused(refusal))?;
        let fast = &self.shared.fast;
        if let Some(sold_out) = fast.sold_out(&lines, self.shared.clock.now(), key) {
            bump(&self.shared.counters.holds.sold_out_fast);
            // A path that never waits would keep its thread from others.
            tokio::task::consume_budget().await;
            return Err(sold_out);
        }
        let body = request.body();
        let ask = HoldAsk {
            sub: request.sub,
            key: Key { id: key, body },
            room: request.room,
            show: request.show.map(Arc::from),
            shown_as: request.shown_as.map(Arc::from),
            lines,
            seed: Seed::random(),
        };
        let (reply, answer) = oneshot::channel();
        fast.on_its_way(key);
        self.send(Ask::Hold(Box::new(ask), reply)).inspect_err(|_| fast.arrived(key))?;
        Ok(heard(answer).await?.map(|view| view.hold_with_nonce()))
    }

    fn check_hold(&self, request: &HoldRequest) -> Result<(Vec<LineRequest>, KeyId), Refusal> {
        let lines = request.lines_summed(&self.shared.config)?;
        Ok((lines, KeyId::of(&request.sub, &request.key)?))
    }

    /// Makes a hold an order. By a merchant or admin it says that money was taken, and is never refused for time or
    /// stock: then the order is `refund_due`.
    pub async fn confirm(&self, by: Party, hold: HoldId, payment: Option<String>) -> Result<Answered<Order>, Refusal> {
        checked_payment(payment.as_deref())?;
        let payment: Option<Arc<str>> = payment.map(Arc::from);
        let ask = |reply| Ask::Confirm { by: by.clone(), hold, payment: payment.clone(), reply };
        Ok(self.ask_of_hold(&by, hold, ask).await?.map(|view| view.order(&by)))
    }

    /// Gives a hold's stock back at once.
    pub async fn cancel(&self, by: Party, hold: HoldId) -> Result<Answered<Hold>, Refusal> {
        let ask = |reply| Ask::Cancel { by: by.clone(), hold, reply };
        Ok(self.ask_of_hold(&by, hold, ask).await?.map(|view| view.hold(&by)))
    }

    /// Gives a hold more time, once.
    pub async fn extend(&self, by: Party, hold: HoldId) -> Result<Answered<Hold>, Refusal> {
        let ask = |reply| Ask::Extend { by: by.clone(), hold, reply };
        Ok(self.ask_of_hold(&by, hold, ask).await?.map(|view| view.hold(&by)))
    }

    /// Refunds lines of an order, or all that is left; `restock` puts the pieces back on sale. Only for the order's
    /// merchant and admins.
    pub async fn refund(
        &self,
        by: Party,
        order: OrderId,
        key: String,
        lines: Option<Vec<RefundLine>>,
        restock: bool,
        reason: String,
    ) -> Result<Answered<Order>, Refusal> {
        checked_reason(&reason)?;
        if lines.as_ref().is_some_and(|lines| lines.len() > self.shared.config.lines_per_hold_max) {
            return Err(Refusal::malformed("lines", "too many lines"));
        }
        let body = refund_body(&order.to_string(), lines.as_deref(), restock, &reason);
        let key = Key { id: KeyId::of(by.sub(), &key)?, body };
        let ask = RefundAsk { by: by.clone(), order, key, lines, restock, reason: reason.into() };
        let asked = self.ask_of_hold(&by, order, |reply| Ask::Refund(Box::new(ask.clone()), reply)).await;
        Ok(asked?.map(|view| view.order(&by)))
    }

    /// Changes a SKU's stock. Only for its merchant and admins.
    pub async fn adjust(
        &self,
        by: Party,
        sku: &SkuId,
        key: String,
        change: StockChange,
        reason: String,
    ) -> Result<Answered<StockCount>, Refusal> {
        checked_reason(&reason)?;
        let change = change.checked()?;
        let key = Key { id: KeyId::of(by.sub(), &key)?, body: adjust_body(sku, change, &reason) };
        let ask = AdjustAsk { by, sku: sku.clone(), key, change, reason: reason.into() };
        self.ask(|reply| Ask::Adjust(Box::new(ask), reply)).await
    }

    pub async fn hold_of(&self, by: Party, hold: HoldId) -> Result<Hold, Refusal> {
        let view = self.read_hold(&by, hold).await?.ok_or(Refusal::UnknownHold)?;
        Ok(view.hold(&by))
    }

    pub async fn order(&self, by: Party, order: OrderId) -> Result<Order, Refusal> {
        let view = self.read_hold(&by, order).await?.filter(View::is_order).ok_or(Refusal::UnknownOrder)?;
        Ok(view.order(&by))
    }

    /// The orders that `by` may see, the newest first, on from the order `after`.
    ///
    /// With `state` only those in it, among the next `orders_looked_at_max`: a page may have fewer than `limit`, or
    /// none, and still name a `next`.
    pub async fn orders(
        &self,
        by: Party,
        state: Option<OrderState>,
        after: Option<OrderId>,
        limit: usize,
    ) -> Result<OrderPage, Refusal> {
        if let Some(after) = after {
            self.order(by.clone(), after).await?;
        }
        let newest = self.ask(|reply| Ask::NewestOrder(by.clone(), reply)).await?.value;
        let of = match by {
            Party::Buyer(_) => OrdersOf::Buyer,
            Party::Merchant { .. } => OrdersOf::Merchant,
            Party::Admin { .. } => OrdersOf::All,
        };
        let limit = limit.min(self.shared.config.page_max);
        let look_max = state.map_or(limit, |_| self.shared.config.orders_looked_at_max);
        let ask = OrdersAsk { of, newest, after, state: state.map(State::of_order), limit, look_max };
        let found = self.shared.readers.read(move |reader| reader.orders(&ask)).await?;
        Ok(OrderPage { orders: found.views.iter().map(|view| view.order(&by)).collect(), next: found.next })
    }

    /// The counts after the last committed entry.
    pub fn count(&self, sku: &SkuId) -> Option<StockCount> {
        self.shared.fast.count(sku)
    }

    /// The last committed counts of a SKU, and the hash (hex) of the entry they stand at.
    pub fn stock(&self, sku: &SkuId) -> Option<(StockCount, String)> {
        self.shared.fast.stock(sku).map(|(count, hash)| (count, hash.to_string()))
    }

    /// Whose goods a SKU is: its merchant from its opening on.
    pub fn merchant_of(&self, sku: &SkuId) -> Option<MerchantId> {
        self.shared.fast.merchant(sku)
    }

    /// Entries of a SKU's chain numbered above `after`, and the signed head.
    pub async fn ledger(&self, sku: &SkuId, after: u64, limit: usize) -> Result<LedgerExport, Refusal> {
        let head: Committed = self.shared.fast.committed(sku).ok_or(Refusal::UnknownSku)?;
        let signed = SignedHead::new(&self.shared.signer, sku, &head, self.shared.clock.now());
        let limit = limit.min(self.shared.config.page_max) as u64;
        let entries = self.shared.readers.read(move |reader| page(reader, &head, after, limit)).await?;
        Ok(LedgerExport { sku: sku.clone(), entries, head: signed })
    }

    /// A person's private messages numbered above `after`, in their order. Of a person's messages the last
    /// `messages_kept_per_person` can be read.
    pub async fn messages(&self, sub: &Sub, after: u64, limit: usize) -> Result<Vec<Private>, Refusal> {
        let newest = self.ask(|reply| Ask::NewestMessage(sub.clone(), reply)).await?.value;
        let limit = limit.min(self.shared.config.page_max);
        let (kept, sub) = (self.shared.config.messages_kept_per_person, sub.clone());
        self.shared.readers.read(move |reader| reader.messages(&sub, newest, after, limit, kept)).await
    }

    /// What heads of chains are signed with.
    pub fn public_key(&self) -> PublicKey {
        self.shared.signer.public_key()
    }

    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        shared.counters.read(shared.mailbox.len(), shared.config.mailbox_max)
    }

    /// Takes holds: neither shutting down, nor after a failed commit, nor with a disk that is nearly full.
    pub fn ready(&self) -> bool {
        self.trouble().is_none()
    }

    /// Why it takes no holds, in a word for operators.
    pub fn trouble(&self) -> Option<&'static str> {
        if self.shared.poison.is_poisoned() {
            Some("commit_failed")
        } else if self.shared.mailbox.is_closed() {
            Some("closing")
        } else {
            self.shared.counters.disk_low.load(Relaxed).then_some("disk_nearly_full")
        }
    }

    /// Decides what was asked, commits it, and ends. Blocks until then. Other clones answer `busy` from now on.
    pub fn shutdown(self) {
        self.shared.mailbox.close();
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            drop(thread.join());
        }
    }

    async fn read_hold(&self, by: &Party, hold: HoldId) -> Result<Option<View>, Refusal> {
        let view = self.shared.readers.read(move |reader| reader.hold(hold)).await?;
        Ok(view.filter(|view| view.visible_to(by)))
    }

    /// Asks about one hold; one that is only in the store is brought to the owner first.
    async fn ask_of_hold(&self, by: &Party, hold: HoldId, ask: impl Fn(Reply<View>) -> Ask) -> Outcome<View> {
        let answer = self.ask(&ask).await;
        if !matches!(answer, Err(Refusal::UnknownHold | Refusal::UnknownOrder)) {
            return answer;
        }
        let read_at: UnixMs = self.shared.clock.now();
        let Some(view) = self.read_hold(by, hold).await? else {
            return answer;
        };
        self.send(Ask::Invite(Box::new(view), read_at))?;
        self.ask(&ask).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<Outcome<T>>) -> Ask) -> Outcome<T> {
        let (reply, answer) = oneshot::channel();
        self.send(ask(reply))?;
        heard(answer).await
    }

    fn send(&self, ask: Ask) -> Result<(), Refusal> {
        if self.shared.poison.is_poisoned() {
            return Err(Refusal::BUSY);
        }
        self.shared.mailbox.send(ask).map_err(|unsent| {
            if let Unsent::Full(Ask::Hold(..)) = unsent {
                bump(&self.shared.counters.holds.busy);
            }
            Refusal::BUSY
        })
    }
}

/// Without an answer the desk has ended; whether it was committed only the next start knows.
async fn heard<T>(answer: oneshot::Receiver<Outcome<T>>) -> Outcome<T> {
    answer.await.unwrap_or(Err(Refusal::BUSY))
}
