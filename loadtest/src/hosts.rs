//! Who acts by REST: the anchor and the merchant with their script, and those who look at cards.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use maishou::{
    client::{Error, Rest},
    id::SkuId,
};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    crowd::director::{Act, Director},
    hist::Class,
    scenario::{Scenario, Step, StepAct},
    stage::Stage,
    tally::Notes,
};

/// Looks that wait for their answers; those beyond are not made, and counted so.
const LOOKS_OPEN_MAX: usize = 256;
/// How long what was begun may take to end.
const ENDS_IN: Duration = Duration::from_secs(10);

/// What the hosts did.
#[derive(Default)]
pub struct Ledgered {
    pub notes: Notes,
    /// Pieces that acknowledged edits added to each SKU.
    pub added: BTreeMap<SkuId, i64>,
    /// Edits of stock whose answers were lost.
    pub unsure: u64,
}

/// Those at work. Called within a [`tokio::task::LocalSet`]; dropping it ends them at once.
pub struct Hosts {
    tasks: JoinSet<()>,
    done: Rc<RefCell<Ledgered>>,
    stop: CancellationToken,
}

#[derive(Clone)]
struct Desk {
    scenario: Rc<Scenario>,
    stage: Rc<Stage>,
    done: Rc<RefCell<Ledgered>>,
    begin: Instant,
}

impl Hosts {
    /// Everything has its time, counted from `begin`.
    pub fn start(scenario: &Rc<Scenario>, stage: &Rc<Stage>, begin: Instant, looker: Rest) -> Self {
        let mut hosts = Self { tasks: JoinSet::new(), done: Rc::default(), stop: CancellationToken::new() };
        let desk = Desk { scenario: scenario.clone(), stage: stage.clone(), done: hosts.done.clone(), begin };
        let stop = hosts.stop.clone();
        let script = desk.clone();
        hosts.tasks.spawn_local(async move {
            let _ = stop.run_until_cancelled(script.play()).await;
        });
        let stop = hosts.stop.clone();
        hosts.tasks.spawn_local(async move {
            let _ = stop.run_until_cancelled(desk.look(looker)).await;
        });
        hosts
    }

    /// Counts so far.
    pub fn tally(&self) -> crate::tally::Tally {
        self.done.borrow().notes.tally.clone()
    }

    /// Latencies since this was asked last.
    pub fn second(&self) -> crate::hist::Latencies {
        std::mem::take(&mut self.done.borrow_mut().notes.second)
    }

    /// Everybody stops.
    pub async fn stop(mut self) -> Ledgered {
        self.stop.cancel();
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        drop(timeout(ENDS_IN, ending).await);
        self.done.take()
    }
}

impl Desk {
    /// The script, in its order; a slow answer holds up nothing that comes later.
    async fn play(self) {
        let mut answers = JoinSet::new();
        for step in script(&self.scenario) {
            let due = self.begin + Duration::from_secs_f64(step.at / self.scenario.show.speed);
            sleep_until(due).await;
            let desk = self.clone();
            answers.spawn_local(async move { desk.step(&step, due).await });
        }
        while answers.join_next().await.is_some() {}
    }

    async fn step(&self, step: &Step, due: Instant) {
        let Some(product) = self.stage.goods.get(step.product - 1) else { return };
        let (room, anchor) = (&self.stage.room, &self.stage.anchor);
        match step.act {
            StepAct::Pin => self.note(Class::Pin, due, &anchor.pin(room, &product.id, Some(60)).await),
            StepAct::Unpin => self.note(Class::Pin, due, &anchor.unpin(room).await),
            StepAct::Price => {
                let Some(merchant) = &self.stage.merchant else { return };
                let mut product = product.clone();
                product.price.amount = step.amount;
                self.note(Class::Stock, due, &merchant.put_product(&product).await);
            }
            StepAct::Stock => {
                let Some(merchant) = &self.stage.merchant else { return };
                for (sku, ..) in &product.skus {
                    let key = format!("{room}-{sku}-{}", step.at);
                    let done = merchant.adjust_stock(sku, step.delta, "load test", &key).await;
                    self.note(Class::Stock, due, &done);
                    let mut ledgered = self.done.borrow_mut();
                    match &done {
                        Ok(_) => *ledgered.added.entry(sku.clone()).or_default() += step.delta,
                        Err(error) if error.code().is_none() => ledgered.unsure += 1,
                        Err(_) => {}
                    }
                }
            }
        }
    }

    /// People look at one product after another.
    async fn look(self, looker: Rest) {
        let mut director = Director::new(&self.scenario, &[Act::Look], 1.0);
        let (mut looks, open) = (JoinSet::new(), Arc::new(Semaphore::new(LOOKS_OPEN_MAX)));
        let mut turn = 0;
        while let Some((_, at)) = director.next(f64::INFINITY) {
            let due = self.begin + Duration::from_secs_f64(at);
            sleep_until(due).await;
            while looks.try_join_next().is_some() {}
            let Ok(permit) = open.clone().try_acquire_owned() else {
                self.done.borrow_mut().notes.tally.outcome(Class::Look, "too_many_open");
                continue;
            };
            let (desk, looker) = (self.clone(), looker.clone());
            turn += 1;
            looks.spawn_local(async move {
                let product = &desk.stage.goods[turn % desk.stage.goods.len()].id;
                let path = format!("/v1/products/{product}");
                let seen = looker.call::<Value>(hyper::Method::GET, &path, None, None).await;
                desk.note(Class::Look, due, &seen);
                drop(permit);
            });
        }
        while looks.join_next().await.is_some() {}
    }

    fn note<T>(&self, class: Class, due: Instant, done: &Result<T, Error>) {
        let outcome = match done {
            Ok(_) => "ok",
            Err(error) => error.code().map_or("no_answer", |code| code.as_str()),
        };
        let phase = self.scenario.phase_at(due.saturating_duration_since(self.begin).as_secs_f64());
        let notes = &mut self.done.borrow_mut().notes;
        notes.enter(Some(phase));
        notes.answered(class, outcome, due.elapsed());
    }
}

/// The whole script of the measured time: pins one after another, and what is written down beside them.
fn script(scenario: &Scenario) -> Vec<Step> {
    let show = &scenario.show;
    let end = scenario.seconds() * show.speed;
    let mut steps: Vec<Step> = show.script.iter().filter(|step| step.at < end).cloned().collect();
    if show.seconds_each > 0.0 {
        let pins = (0..).map(|turn| (turn, turn as f64 * show.seconds_each)).take_while(|(_, at)| *at < end);
        steps.extend(pins.map(|(turn, at)| {
            let product = turn % show.products + 1;
            Step { at, act: StepAct::Pin, product, delta: 0, amount: 0 }
        }));
    }
    steps.sort_by(|a, b| a.at.total_cmp(&b.at));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_products_are_pinned_in_their_turn_and_edits_fall_between() {
        let scenario = Scenario::load("fifty-products".as_ref()).unwrap();
        let steps = script(&scenario);
        let pins: Vec<usize> = steps.iter().filter(|step| step.act == StepAct::Pin).map(|step| step.product).collect();
        assert_eq!(pins, (1..=50).collect::<Vec<_>>(), "each of the fifty once");
        assert_eq!(steps.len(), 53);
        assert!(steps.is_sorted_by(|a, b| a.at <= b.at));
    }
}
