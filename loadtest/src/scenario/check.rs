use anyhow::{bail, ensure};

use super::{Phase, Scenario, StepAct};

/// What the server lets one person do in a second, at its defaults.
const COMMENTS_OF_ONE: f64 = 2.0;
const LIKES_OF_ONE: f64 = 20.0;
const ORDERS_OF_ONE: f64 = 5.0;
const PRODUCTS_MAX: usize = 200;
const SKUS_MAX: usize = 100;
const PHASES_MAX: usize = 100;

impl Scenario {
    /// Refuses what cannot happen, and says what would help.
    pub fn check(&self) -> anyhow::Result<()> {
        self.check_numbers()?;
        self.check_show()?;
        ensure!(
            self.audience.arrivals_per_second > 0,
            "audience.arrivals_per_second is 0: nobody would ever come; give a rate, or arrive = \"spike\""
        );
        ensure!(
            self.audience.slow + self.audience.flaky <= 1.0,
            "audience.slow and audience.flaky are parts of one audience: together at most 1"
        );
        self.check_rate("comments", self.acts.comments, |phase| phase.comments, COMMENTS_OF_ONE)?;
        self.check_rate("likes", self.acts.likes, |phase| phase.likes, LIKES_OF_ONE)?;
        self.check_rate("orders", self.acts.orders, |phase| phase.orders, ORDERS_OF_ONE)?;
        ensure!(
            self.acts.pays + self.acts.gives_up <= 1.0,
            "acts.pays and acts.gives_up are parts: together at most 1"
        );
        ensure!(self.acts.pieces > 0, "acts.pieces is 0: an order has at least one piece");
        Ok(())
    }

    /// A rate that so many people can keep without being refused for their haste.
    fn check_rate(&self, what: &str, base: f64, factor: fn(&Phase) -> f64, of_one: f64) -> anyhow::Result<()> {
        for phase in &self.phases {
            let (rate, people) = (base * factor(phase), self.audience.websocket as f64);
            let need = (rate / of_one).ceil();
            ensure!(
                people >= need,
                "impossible rate: {rate} {what} a second in phase {:?} need at least {need} people by WebSocket, because \
                 the server takes {of_one} a second of one person; audience.websocket is {people}",
                phase.name
            );
        }
        Ok(())
    }

    fn check_numbers(&self) -> anyhow::Result<()> {
        let (audience, acts, show) = (&self.audience, &self.acts, &self.show);
        for (name, part) in [
            ("audience.slow", audience.slow),
            ("audience.flaky", audience.flaky),
            ("acts.pays", acts.pays),
            ("acts.gives_up", acts.gives_up),
        ] {
            ensure!((0.0..=1.0).contains(&part), "{name} is {part}: it is a part, from 0 to 1");
        }
        for (name, rate) in [
            ("acts.comments", acts.comments),
            ("acts.likes", acts.likes),
            ("acts.looks", acts.looks),
            ("acts.orders", acts.orders),
            ("acts.leaves", acts.leaves),
            ("show.seconds_each", show.seconds_each),
        ] {
            ensure!((0.0..=1e6).contains(&rate), "{name} is {rate}: it is a number from 0 to a million");
        }
        ensure!(audience.flaky_seconds >= 0.1, "audience.flaky_seconds is {}: at least 0.1", audience.flaky_seconds);
        ensure!(audience.slow_bytes_per_second >= 100, "audience.slow_bytes_per_second: at least 100");
        ensure!((0.01..=1e4).contains(&show.speed), "show.speed is {}: from 0.01 to 10000", show.speed);
        ensure!(self.phases.len() <= PHASES_MAX, "{} phases: at most {PHASES_MAX}", self.phases.len());
        for phase in &self.phases {
            let Phase { name, seconds, comments, likes, looks, orders, leaves, cut, .. } = phase;
            ensure!((0.01..=604_800.0).contains(seconds), "phase {name:?} lasts {seconds} seconds: 0.01 to a week");
            for factor in [comments, likes, looks, orders, leaves] {
                ensure!((0.0..=1e6).contains(factor), "phase {name:?} has a factor of {factor}: 0 to a million");
            }
            ensure!((0.0..=1.0).contains(cut), "phase {name:?}: cut is {cut}: it is a part, from 0 to 1");
        }
        Ok(())
    }

    fn check_show(&self) -> anyhow::Result<()> {
        let show = &self.show;
        ensure!((1..=PRODUCTS_MAX).contains(&show.products), "show.products is {}: 1 to {PRODUCTS_MAX}", show.products);
        let skus = show.skus_per_product;
        ensure!((1..=SKUS_MAX).contains(&skus), "show.skus_per_product is {skus}: 1 to {SKUS_MAX}");
        let named = show.script.iter().map(|step| ("a step of show.script", step.product));
        let rushes = self.phases.iter().filter_map(|phase| phase.rush_on).map(|product| ("rush_on", product));
        for (what, product) in named.chain(rushes) {
            let products = show.products;
            ensure!((1..=products).contains(&product), "{what} names product {product}: there are 1 to {products}");
        }
        for step in &show.script {
            ensure!(step.at >= 0.0, "a step of show.script is at {}: from 0 on", step.at);
            if step.act == StepAct::Price && step.amount <= 0 {
                bail!("a step sets the price to {}: give `amount` in minor units", step.amount);
            }
        }
        Ok(())
    }
}
