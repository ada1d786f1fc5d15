//! Plays a tape, line after line.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use anyhow::Context;
use maishou::{
    client::{Error, Merchant, Viewer},
    id::{HoldId, MerchantId, ProductId, SkuId, Who},
    protocol::{Body, ErrorCode, Event, LineRequest, Product, Role},
    room::{Demand, Refund, tape::Line},
};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use super::{Deeds, Outcome, Show, cast::Cast, show::at, stage::Stage};

/// How long the last counts may take to be shown.
const SETTLES_IN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A comment that comes too soon by the rounding of times is said again so often.
const SAYS_AGAIN_MAX: u32 = 20;
const LIKES_AT_ONCE: u32 = 50;
const REFUSED_KEPT_MAX: usize = 1_000;

pub struct Player<'a> {
    stage: &'a Stage<'a>,
    show: &'a Show,
    speed: u32,
    cast: Cast<'a>,
    deeds: Deeds,
    goods: BTreeMap<ProductId, Product>,
    /// Comments of the tape by their numbers then, with those that they have now.
    comments: HashMap<u64, u64>,
    holds: HashMap<HoldId, (Who, HoldId)>,
    /// Pieces that were refunded so far, by the hold of then.
    refunded: HashMap<HoldId, BTreeMap<SkuId, u32>>,
    /// What came before something that was noted a moment later: tried again behind every line.
    waiting: Vec<Deed>,
    keys: u64,
}

/// Something that can come too early: two lines of one moment may stand in either order.
#[derive(Clone, Debug)]
enum Deed {
    Hold { who: Who, lines: Vec<(SkuId, u32)>, hold: HoldId },
    Step { hold: HoldId, step: String },
    Refund { hold: HoldId, refund: Refund },
    Stock { sku: SkuId, delta: i64, reason: String },
}

impl<'a> Player<'a> {
    pub fn new(stage: &'a Stage<'a>, show: &'a Show, speed: u32) -> Self {
        Self {
            stage,
            show,
            speed,
            cast: Cast::new(stage, show),
            deeds: Deeds::default(),
            goods: show.goods(),
            comments: HashMap::new(),
            holds: HashMap::new(),
            refunded: HashMap::new(),
            waiting: Vec::new(),
            keys: 0,
        }
    }

    pub async fn play(mut self) -> anyhow::Result<Outcome> {
        self.before_the_tape().await.context("what was said before the tape begins")?;
        let began = Instant::now();
        let (from, to) = (self.show.begins_at().unwrap_or_default(), self.show.ends_at().unwrap_or_default());
        let mut late = Duration::ZERO;
        for (number, line) in self.show.lines.iter().enumerate() {
            let due = began + at(line).since(from) / self.speed;
            sleep_until(due).await;
            late = late.max(due.elapsed());
            if let Err(error) = self.line(line).await {
                let name = match line {
                    Line::Event { event, .. } => event.body.name(),
                    _ => "demand",
                };
                self.refused(format!("line {} ({name}): {error:#}", number + 1));
            }
            self.try_again().await;
        }
        let time = began.elapsed();
        for deed in std::mem::take(&mut self.waiting) {
            self.refused(format!("{deed:?}"));
        }

        let recorded = self.show.hash();
        let (replayed, snapshot) = self.settle(&recorded).await?;
        let differs = match recorded == replayed {
            true => vec![],
            false => differences(self.show, &snapshot),
        };
        self.deeds.people = self.cast.len();
        let recorded_time = to.since(from);
        Ok(Outcome { recorded, replayed, differs, deeds: self.deeds, recorded_time, time, late })
    }

    /// The comments of a late joiner's snapshot, who is silenced, and how slowly people speak.
    async fn before_the_tape(&mut self) -> anyhow::Result<()> {
        let opening = &self.show.opening;
        if let Some(pinned) = &opening.pinned_comment
            && opening.comments.iter().all(|event| event.seq != pinned.comment)
        {
            let (role, name, text) = (pinned.role, &pinned.name, &pinned.text);
            self.say(pinned.comment, &pinned.who, role, name, text).await?;
        }
        for event in &opening.comments {
            if let Body::Comment { who, name, role, text } = &event.body {
                self.say(event.seq, who, *role, name, text).await?;
            }
        }
        let host = self.cast.host().await?;
        if let Some(pinned) = &opening.pinned_comment {
            host.pin_comment(self.comments.get(&pinned.comment).copied()).await?;
        }
        let began = self.show.begins_at().unwrap_or_default();
        for (who, until) in &opening.mutes {
            host.mute(&self.cast.who(who)?, Some(seconds(until.since(began)))).await?;
        }
        for who in &opening.kicks {
            host.kick(&self.cast.who(who)?).await?;
        }
        if opening.slow_mode > 0 {
            host.slow_mode(opening.slow_mode).await?;
        }
        self.deeds.comments = 0;
        Ok(())
    }

    async fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        match line {
            Line::Event { event, left_out: true } => {
                self.deeds.left_out += u64::from(matches!(event.body, Body::Comment { .. }));
                Ok(())
            }
            Line::Event { event, .. } => self.event(event).await,
            Line::Demand { who, demand, .. } => self.demand(who, demand).await,
            Line::Head { .. } | Line::Snapshot { .. } | Line::Tally { .. } => Ok(()),
        }
    }

    async fn event(&mut self, event: &Event) -> anyhow::Result<()> {
        let (room, anchor) = (&self.stage.room, &self.stage.anchor);
        match &event.body {
            Body::ShowStarted {} => anchor.start_show(room).await?,
            Body::ShowEnded {} => anchor.end_show(room).await?,
            Body::CardPinned { product, explain_until } => {
                let left = explain_until.map(|until| seconds(until.since(event.at)));
                anchor.pin(room, &product.id, left).await?;
            }
            Body::CardUnpinned {} => anchor.unpin(room).await?,
            Body::Shelf { products, items, planned_seconds } => {
                for product in items {
                    self.change(product).await?;
                }
                self.stage.shelve(products, planned_seconds).await?;
            }
            Body::Price { product, price } => {
                let known = self.goods.get(product).context("the price of a product that the tape does not know")?;
                self.change(&Product { price: *price, ..known.clone() }).await?;
            }
            Body::StockAdjusted { sku, delta, reason, .. } => {
                self.deeds.stock_edits += 1;
                let (sku, delta, reason) = (sku.clone(), *delta, reason.clone());
                return self.attempt(Deed::Stock { sku, delta, reason }).await;
            }
            Body::Comment { who, name, role, text } => return self.say(event.seq, who, *role, name, text).await,
            Body::CommentPinned { .. }
            | Body::CommentDeleted { .. }
            | Body::Mute { .. }
            | Body::Kick { .. }
            | Body::SlowMode { .. } => self.moderate(event).await?,
            // Facts, which the rehearsal's own ledger makes anew; and a picture is not on the tape.
            Body::Stock { .. } | Body::Sold { .. } | Body::Media { .. } => return Ok(()),
        }
        self.deeds.commands += 1;
        Ok(())
    }

    async fn moderate(&mut self, event: &Event) -> anyhow::Result<()> {
        let host = self.cast.host().await?;
        let now = |seq: &u64| self.comments.get(seq).copied().context("a comment that was not played");
        match &event.body {
            Body::CommentPinned { comment: None } => host.pin_comment(None).await?,
            Body::CommentPinned { comment: Some(pinned) } => host.pin_comment(Some(now(&pinned.comment)?)).await?,
            Body::CommentDeleted { comment } => host.delete_comment(now(comment)?).await?,
            Body::Mute { who, until: Some(until) } => {
                host.mute(&self.cast.who(who)?, Some(seconds(until.since(event.at)))).await?;
            }
            Body::Mute { who, until: None } => host.unmute(&self.cast.who(who)?).await?,
            Body::Kick { who } => host.kick(&self.cast.who(who)?).await?,
            Body::SlowMode { seconds } => host.slow_mode(*seconds).await?,
            _ => {}
        }
        Ok(())
    }

    async fn change(&mut self, product: &Product) -> anyhow::Result<()> {
        if self.goods.get(&product.id) != Some(product) {
            self.stage.put(product, &BTreeMap::new()).await?;
            self.goods.insert(product.id.clone(), product.clone());
        }
        Ok(())
    }

    async fn say(&mut self, seq: u64, who: &Who, role: Role, name: &str, text: &str) -> anyhow::Result<()> {
        let speaker = self.cast.speaker(who, role, name).await?;
        for _ in 0..SAYS_AGAIN_MAX {
            match speaker.comment(text).await {
                Ok(event) => {
                    self.comments.insert(seq, event.seq);
                    self.deeds.comments += 1;
                    return Ok(());
                }
                Err(Error::Refused(fault)) if is_too_soon(fault.code) => {
                    let wait = Duration::from_millis(fault.retry_after_ms.unwrap_or(10).max(5));
                    sleep(wait / self.speed).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("it comes too soon, however often it is said")
    }

    async fn demand(&mut self, who: &Who, demand: &Demand) -> anyhow::Result<()> {
        match demand {
            Demand::Join { .. } => self.cast.viewer(who).await.map(drop),
            Demand::Like { count } => {
                let viewer = self.cast.viewer(who).await?;
                self.deeds.likes += u64::from(*count);
                like(&viewer, *count).await
            }
            Demand::Hold { lines, hold: Some(hold), .. } => {
                self.deeds.holds += 1;
                self.attempt(Deed::Hold { who: who.clone(), lines: lines.clone(), hold: *hold }).await
            }
            Demand::Hold { lines, hold: None, .. } => {
                self.deeds.holds += 1;
                self.hold_in_vain(who, lines).await
            }
            Demand::Order { hold, refund: Some(refund), .. } => {
                self.deeds.steps += 1;
                self.attempt(Deed::Refund { hold: *hold, refund: refund.clone() }).await
            }
            // Older tapes do not say what was refunded.
            Demand::Order { step, .. } if step == "refunded" => {
                self.deeds.refunds_not_played += 1;
                Ok(())
            }
            Demand::Order { hold, step, .. } => {
                self.deeds.steps += 1;
                self.attempt(Deed::Step { hold: *hold, step: step.clone() }).await
            }
        }
    }

    /// Does what is to be done, or puts it off until what it needs has happened.
    async fn attempt(&mut self, deed: Deed) -> anyhow::Result<()> {
        if !self.is_done(&deed).await? {
            self.waiting.push(deed);
        }
        Ok(())
    }

    async fn try_again(&mut self) {
        for deed in std::mem::take(&mut self.waiting) {
            match self.is_done(&deed).await {
                Ok(true) => {}
                Ok(false) => self.waiting.push(deed),
                Err(error) => self.refused(format!("{deed:?}: {error:#}")),
            }
        }
    }

    async fn is_done(&mut self, deed: &Deed) -> anyhow::Result<bool> {
        match deed {
            Deed::Hold { who, lines, hold } => {
                let viewer = self.cast.viewer(who).await?;
                match viewer.hold(&requests(lines), &self.key()).await {
                    Ok(held) => drop(self.holds.insert(*hold, (who.clone(), held.hold.id))),
                    Err(Error::Refused(fault)) if fault.code == ErrorCode::SoldOut => return Ok(false),
                    Err(error) => return Err(error.into()),
                }
                Ok(true)
            }
            Deed::Step { hold, step } => match self.holds.get(hold).cloned() {
                None => Ok(false),
                Some((who, hold)) => self.step(&who, hold, step).await.map(|()| true),
            },
            Deed::Refund { hold, refund } => match self.holds.get(hold).map(|(_, now)| *now) {
                None => Ok(false),
                Some(order) => self.refund(*hold, order, refund).await,
            },
            Deed::Stock { sku, delta, reason } => {
                let key = self.key();
                let changed = self.keeper_of(sku)?.adjust_stock(sku, *delta, reason, &key).await;
                match changed {
                    Ok(_) => Ok(true),
                    Err(Error::Refused(fault)) if fault.code == ErrorCode::StockBelowHeld => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// The tape tells what is refunded all in all: the rest of it is done now. An order may be paid a moment later.
    async fn refund(&mut self, then: HoldId, now: HoldId, refund: &Refund) -> anyhow::Result<bool> {
        let key = self.key();
        let done = self.refunded.entry(then).or_default();
        let left = refund.lines.iter().map(|(sku, all)| (sku, all - done.get(sku).copied().unwrap_or(0).min(*all)));
        let lines: Vec<Value> = left
            .filter(|(_, pieces)| *pieces > 0)
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        match self.stage.refund(now, lines, refund.restock, &key).await {
            Ok(()) => {
                done.extend(refund.lines.iter().cloned());
                Ok(true)
            }
            Err(Error::Refused(fault)) if fault.code == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the money came is not on the tape: the shop says so. What expired then is given back now.
    async fn step(&mut self, who: &Who, hold: HoldId, step: &str) -> anyhow::Result<()> {
        match step {
            "paid" | "refund_due" => drop(self.stage.admin.confirm(hold, None).await?),
            "extended" => drop(self.cast.viewer(who).await?.extend(hold).await?),
            "cancelled" | "expired" => match self.cast.viewer(who).await?.cancel(hold).await {
                Ok(_) => {}
                Err(Error::Refused(fault)) if fault.code == ErrorCode::HoldExpired => {}
                Err(error) => return Err(error.into()),
            },
            other => anyhow::bail!("a step that this replay does not know: {other}"),
        }
        Ok(())
    }

    /// What was refused then takes nothing now, even where it would be given.
    async fn hold_in_vain(&mut self, who: &Who, lines: &[(SkuId, u32)]) -> anyhow::Result<()> {
        let viewer = self.cast.viewer(who).await?;
        if let Ok(held) = viewer.hold(&requests(lines), &self.key()).await {
            self.deeds.holds_otherwise += 1;
            viewer.cancel(held.hold.id).await?;
        }
        Ok(())
    }

    fn keeper_of(&self, sku: &SkuId) -> anyhow::Result<Merchant> {
        let owner = self.goods.values().find(|product| product.skus.iter().any(|own| own.id == *sku));
        let merchant: &MerchantId = &owner.with_context(|| format!("nobody sells {sku}"))?.merchant;
        Ok(self.stage.shop_of(merchant))
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("replay-{}", self.keys)
    }

    fn refused(&mut self, what: String) {
        if self.deeds.refused.len() < REFUSED_KEPT_MAX {
            self.deeds.refused.push(what);
        }
    }

    /// The state that the rehearsal comes to rest in: counts reach a room a moment after they were committed.
    async fn settle(&self, wanted: &str) -> anyhow::Result<(String, Value)> {
        let mut look = interval(LOOK_EVERY);
        let settled = timeout(SETTLES_IN, async {
            loop {
                look.tick().await;
                let state = self.stage.state().await?;
                if state.0 == wanted {
                    return anyhow::Ok(state);
                }
            }
        });
        match settled.await {
            Ok(settled) => settled,
            Err(_) => self.stage.state().await,
        }
    }
}

async fn like(viewer: &Viewer, mut count: u32) -> anyhow::Result<()> {
    while count > 0 {
        let now = count.min(LIKES_AT_ONCE);
        viewer.like(now).await?;
        count -= now;
    }
    Ok(())
}

fn requests(lines: &[(SkuId, u32)]) -> Vec<LineRequest> {
    lines.iter().map(|(sku, quantity)| LineRequest { sku: sku.clone(), quantity: *quantity, price: None }).collect()
}

fn is_too_soon(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::SlowMode | ErrorCode::RateLimited | ErrorCode::Muted | ErrorCode::Busy)
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

/// Parts of the room that are not as the tape leaves them, in words.
fn differences(show: &Show, snapshot: &Value) -> Vec<String> {
    let wanted = serde_json::to_value(show.end.snapshot("", 0)).unwrap_or_default();
    let said = |room: &Value| -> Vec<Value> {
        let comments = room["comments"].as_array().cloned().unwrap_or_default();
        comments.into_iter().map(|c| Value::from(vec![c["name"].clone(), c["text"].clone()])).collect()
    };
    let counts = |room: &Value| -> BTreeMap<String, [Value; 3]> {
        let stock = room["stock"].as_object().cloned().unwrap_or_default();
        let of = |count: &Value| ["available", "held", "sold"].map(|part| count[part].clone());
        stock.iter().map(|(sku, count)| (sku.clone(), of(count))).collect()
    };
    let mut differs = Vec::new();
    for path in [
        "/show/running",
        "/show/title",
        "/shelf",
        "/pinned/product",
        "/pinned_comment/text",
        "/slow_mode",
        "/planned_seconds",
    ] {
        let (then, now) = (wanted.pointer(path), snapshot.pointer(path));
        if then != now {
            differs.push(format!("{path}: {} then, {} now", shown(then), shown(now)));
        }
    }
    if said(&wanted) != said(snapshot) {
        let (then, now) = (said(&wanted), said(snapshot));
        let first = (0..then.len().max(now.len())).find(|at| then.get(*at) != now.get(*at)).unwrap_or_default();
        differs.push(format!("comment {first}: {} then, {} now", shown(then.get(first)), shown(now.get(first))));
    }
    let now = counts(snapshot);
    for (sku, then) in counts(&wanted) {
        if now.get(&sku) != Some(&then) {
            differs.push(format!("{sku}: {then:?} available, held, sold then, {:?} now", now.get(&sku)));
        }
    }
    differs
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}
