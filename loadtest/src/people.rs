use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use maishou::{
    client::{Config, Error, Server, Viewer},
    id::{HoldId, RoomId, SkuId},
    protocol::Role,
};
use rand::seq::IndexedRandom;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    outcomes::Outcomes,
    scenario::{Comments, Holds, Pins, Scenario},
    stage::Stage,
    token::Tokens,
};

/// Holds that one buyer keeps; she cancels the oldest before she asks for more.
const OPEN_MAX: usize = 8;

/// What the people of a scenario have done.
#[derive(Clone, Default)]
pub struct Deeds {
    pub comments: Outcomes,
    pub holds: Outcomes,
    pub cancels: Outcomes,
    pub pins: Outcomes,
    /// Holds that were acknowledged and not cancelled since, by SKU.
    pub open: BTreeMap<SkuId, u64>,
}

/// Those who comment, buy and pin, as ordinary clients. Dropping them ends them at once.
pub struct People {
    tasks: JoinSet<()>,
    deeds: Rc<RefCell<Deeds>>,
    stop: CancellationToken,
}

/// Notes how a command was answered that was given at `began`.
fn note<T>(outcomes: &mut Outcomes, began: Instant, outcome: &Result<T, Error>) {
    let name = match outcome {
        Ok(_) => "ok",
        Err(error) => error.code().map_or("no_answer", |code| code.as_str()),
    };
    outcomes.note(name, began.elapsed());
}

impl People {
    /// Lets everybody in, and to work. Called within a [`tokio::task::LocalSet`].
    pub async fn start(scenario: &Scenario, server: &Server, stage: &Stage, tokens: &Tokens) -> anyhow::Result<Self> {
        let mut people = Self { tasks: JoinSet::new(), deeds: Rc::default(), stop: CancellationToken::new() };
        people.let_commenters_in(&scenario.comments, server, stage, tokens).await?;
        people.let_buyers_in(&scenario.holds, server, stage, tokens).await?;
        people.let_anchor_in(&scenario.pins, stage);
        Ok(people)
    }

    async fn let_commenters_in(
        &mut self,
        comments: &Comments,
        server: &Server,
        stage: &Stage,
        tokens: &Tokens,
    ) -> anyhow::Result<()> {
        let Some(pace) = Pace::of(comments.per_second, comments.people) else { return Ok(()) };
        for number in 0..comments.people {
            let viewer = join(server, &stage.room, tokens, &format!("commenter-{number}")).await?;
            self.work(pace, number, async move |deeds| comment(&viewer, deeds).await);
        }
        Ok(())
    }

    async fn let_buyers_in(
        &mut self,
        holds: &Holds,
        server: &Server,
        stage: &Stage,
        tokens: &Tokens,
    ) -> anyhow::Result<()> {
        let Some(pace) = Pace::of(holds.per_second, holds.people) else { return Ok(()) };
        let skus: Rc<[SkuId]> = stage.stock.keys().cloned().collect();
        for number in 0..holds.people {
            let viewer = join(server, &stage.room, tokens, &format!("buyer-{number}")).await?;
            let mut buyer = Buyer { viewer, skus: skus.clone(), open: VecDeque::new() };
            self.work(pace, number, async move |deeds| buyer.buy(deeds).await);
        }
        Ok(())
    }

    fn let_anchor_in(&mut self, pins: &Pins, stage: &Stage) {
        if pins.every_seconds == 0 || stage.products.is_empty() {
            return;
        }
        let every = Duration::from_secs(pins.every_seconds);
        let (anchor, room, products) = (stage.anchor.clone(), stage.room.clone(), stage.products.clone());
        let mut turn = 0;
        self.work(Pace { every, between: every }, 0, async move |deeds| {
            let began = Instant::now();
            let pinned = anchor.pin(&room, &products[turn % products.len()], Some(60)).await;
            turn += 1;
            note(&mut deeds.borrow_mut().pins, began, &pinned);
        });
    }

    /// Everybody finishes what they are at.
    pub async fn stop(mut self) -> Deeds {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.deeds.borrow().clone()
    }

    /// Does something again and again; people begin one after another, not all at once.
    fn work(&mut self, pace: Pace, number: usize, mut act: impl AsyncFnMut(&RefCell<Deeds>) + 'static) {
        let (deeds, stop) = (self.deeds.clone(), self.stop.clone());
        self.tasks.spawn_local(async move {
            let first = Instant::now() + pace.between.mul_f64(number as f64);
            let mut turns = interval_at(first, pace.every);
            turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stop.run_until_cancelled(turns.tick()).await.is_some() {
                act(&deeds).await;
            }
        });
    }
}

/// How often each of several people acts, so that all together keep a rate.
#[derive(Clone, Copy)]
struct Pace {
    every: Duration,
    /// Between one person's turn and the next one's.
    between: Duration,
}

impl Pace {
    fn of(per_second: f64, people: usize) -> Option<Self> {
        let is_any = per_second > 0.0 && people > 0;
        is_any.then(|| Self {
            every: Duration::from_secs_f64(people as f64 / per_second),
            between: Duration::from_secs_f64(1.0 / per_second),
        })
    }
}

async fn join(server: &Server, room: &RoomId, tokens: &Tokens, user: &str) -> anyhow::Result<Viewer> {
    let token = tokens.one(room, Role::Viewer, user).await?;
    Ok(Viewer::join(server, room, &token, &Config::default()).await?)
}

async fn comment(viewer: &Viewer, deeds: &RefCell<Deeds>) {
    const WORDS: [&str; 6] = [
        "好看！",
        "How much is the blue one?",
        "主播试一下这个颜色",
        "Just ordered two",
        "有没有大一号的？",
        "哈哈哈哈",
    ];
    let began = Instant::now();
    let said = viewer.comment(WORDS.choose(&mut rand::rng()).expect("there are words")).await;
    note(&mut deeds.borrow_mut().comments, began, &said);
}

struct Buyer {
    viewer: Viewer,
    skus: Rc<[SkuId]>,
    open: VecDeque<(SkuId, HoldId)>,
}

impl Buyer {
    async fn buy(&mut self, deeds: &RefCell<Deeds>) {
        if self.open.len() >= OPEN_MAX {
            self.cancel_oldest(deeds).await;
        }
        let Some(sku) = self.skus.choose(&mut rand::rng()) else { return };
        let key = format!("{:032x}", rand::random::<u128>());
        let began = Instant::now();
        let held = self.viewer.hold_one(sku, 1, &key).await;
        note(&mut deeds.borrow_mut().holds, began, &held);
        if let Ok(held) = held {
            *deeds.borrow_mut().open.entry(sku.clone()).or_default() += 1;
            self.open.push_back((sku.clone(), held.hold.id));
        }
    }

    async fn cancel_oldest(&mut self, deeds: &RefCell<Deeds>) {
        let Some((sku, hold)) = self.open.pop_front() else { return };
        let began = Instant::now();
        let cancelled = self.viewer.cancel(hold).await;
        let mut deeds = deeds.borrow_mut();
        note(&mut deeds.cancels, began, &cancelled);
        if cancelled.is_ok() {
            *deeds.open.entry(sku).or_default() -= 1;
        }
    }
}
