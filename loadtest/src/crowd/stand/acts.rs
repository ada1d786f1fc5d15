//! What people do when it is due.

use std::time::{Duration, Instant};

use maishou::id::HoldId;
use rand::RngExt as _;

use super::Stand;
use crate::crowd::{
    deeds::{What, comment},
    director::Act,
    timers::Due,
    viewer::{End, FollowUp},
};

impl Stand {
    /// What the scenario says is to be done by now. Nobody does anything while nobody is there.
    pub(super) fn act(&mut self, now: Instant) {
        let Some((begin, _)) = self.begin.zip(self.phase) else { return };
        let elapsed = now.saturating_duration_since(begin).as_secs_f64();
        while let Some(who) = self.somebody() {
            let Some((act, due)) = self.director.next(elapsed) else { return };
            let due = begin + Duration::from_secs_f64(due);
            if self.present_since.is_some_and(|since| due >= since) {
                self.notes.pace.late.record_time(Instant::now().saturating_duration_since(due));
            }
            self.turn = who + 1;
            self.acts += 1;
            match act {
                Act::Comment => self.ask(who, What::Comment, due),
                Act::Like => self.ask(who, What::Like, due),
                Act::Order => {
                    let what = self.order(due);
                    self.ask(who, what, due);
                }
                Act::Leave => self.leave(who),
                Act::Look => {}
            }
        }
        self.present_since = None;
    }

    /// The next one over a WebSocket who is in.
    fn somebody(&mut self) -> Option<usize> {
        let count = self.plan.websocket;
        let found = (0..count).map(|step| (self.turn + step) % count).find(|who| self.viewers[*who].is_in());
        if found.is_some() {
            self.present_since.get_or_insert_with(Instant::now);
        }
        found
    }

    fn order(&self, due: Instant) -> What {
        let phase = self
            .begin
            .map_or(0, |begin| self.plan.scenario.phase_at(due.saturating_duration_since(begin).as_secs_f64()));
        let mut rng = rand::rng();
        let products = self.plan.goods.len();
        let product = self.plan.scenario.phases[phase].rush_on.map_or_else(|| rng.random_range(0..products), |n| n - 1);
        let skus = &self.plan.goods[product.min(products - 1)];
        let sku = skus[rng.random_range(0..skus.len())].clone();
        What::Hold { sku, pieces: self.plan.scenario.acts.pieces, key: format!("{}-{}", self.plan.run, self.acts) }
    }

    fn ask(&mut self, who: usize, what: What, due: Instant) {
        let text = match what {
            What::Comment => comment(self.acts, self.plan.base.at_us(due)),
            _ => String::new(),
        };
        if self.viewers[who].ask(what, &text, due).is_err() {
            self.ended(who, End::Lost);
        }
    }

    /// A payment or cancellation. Who is away does it when she is back.
    pub(super) fn deed(&mut self, who: usize, what: What, due: Instant) {
        if self.viewers[who].is_in() {
            self.ask(who, what, due);
        } else {
            self.timers.at(Instant::now() + Duration::from_millis(100), who, Due::Do(what));
        }
    }

    pub(super) fn follow_up(&mut self) {
        for (who, follow_up) in std::mem::take(&mut self.follow_ups) {
            let (wait, what) = match follow_up {
                FollowUp::Again(what, wait) => (wait, what),
                FollowUp::Decide(hold) => match self.decide(hold) {
                    Some(decided) => decided,
                    None => continue,
                },
            };
            self.timers.at(Instant::now() + wait, who, Due::Do(what));
        }
    }

    /// She pays, cancels, or lets it expire.
    fn decide(&self, hold: HoldId) -> Option<(Duration, What)> {
        let acts = &self.plan.scenario.acts;
        let mut rng = rand::rng();
        let wait = Duration::from_millis(rng.random_range(0..=acts.think_ms));
        let part: f64 = rng.random();
        if part < acts.pays {
            Some((wait, What::Pay { hold }))
        } else if part < acts.pays + acts.gives_up {
            Some((wait, What::Cancel { hold }))
        } else {
            None
        }
    }
}
