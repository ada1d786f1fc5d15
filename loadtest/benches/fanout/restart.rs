//! A server that ends in order while everybody watches, and starts again.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::{
    Options,
    listeners::{Farewell, SILENCE},
    measure::{House, comments},
};

/// Over which the viewers are to come back.
const WINDOW_SECONDS: u64 = 10;
const BIN: Duration = Duration::from_millis(100);
const ENDS_IN: Duration = Duration::from_secs(30);
/// As often as somebody may be due.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const TALK: f64 = 20.0;

pub fn restart(options: &Options) -> anyhow::Result<()> {
    println!("\n{} viewers are sent away and come back within {WINDOW_SECONDS} s", options.listeners);
    let window = WINDOW_SECONDS.to_string();
    let settings = [("HTTP__DRAIN_SECONDS", window.as_str()), ("ROOM__CHAT_PER_SECOND", "0")];
    let mut house = House::open(options, &settings)?;
    let (epoch, _) = house.hall.stands_at()?;
    house.listeners.remember(epoch.clone());
    house.listeners.listen(Duration::from_secs(2), comments(TALK), |_| Ok(()))?;

    let ended = Instant::now();
    house.hall.process.ask_to_end()?;
    let farewells = sent_away(options, &mut house)?;
    while house.hall.process.is_running() {
        ensure!(ended.elapsed() < ENDS_IN, "the server does not end");
        house.listeners.listen(LOOK_EVERY, SILENCE, |_| Ok(()))?;
    }
    let down = ended.elapsed();
    house.hall.open_again(&settings)?;
    let up = ended.elapsed();
    let late = come_back(&mut house, &farewells)?;
    house.listeners.listen(Duration::from_secs(2), comments(TALK), |_| Ok(()))?;
    house.listeners.listen(Duration::from_secs(1), SILENCE, |_| Ok(()))?;

    let (here, first, last) = house.listeners.standing();
    let (epoch_after, seq) = house.hall.stands_at()?;
    let fair = options.listeners as f64 / (WINDOW_SECONDS as f64 / BIN.as_secs_f64());
    println!(
        "  down after {:.1} s, up after {:.1} s; at most {} of them in 100 ms (evenly it were {fair:.0}); {late} came \
         before the server was there",
        down.as_secs_f64(),
        up.as_secs_f64(),
        fullest(&farewells)
    );
    println!(
        "  {here} are back; they stand at {first:?} to {last:?}, the room at {seq}{}",
        if epoch == epoch_after { "" } else { " of a new log" }
    );
    ensure!(here == options.listeners && first == Some(seq) && last == Some(seq), "somebody is not where the room is");
    Ok(())
}

/// Waits until everybody was sent away.
fn sent_away(options: &Options, house: &mut House) -> anyhow::Result<Vec<Farewell>> {
    let (mut farewells, began) = (Vec::new(), Instant::now());
    while farewells.len() < options.listeners {
        ensure!(began.elapsed() < ENDS_IN, "only {} were sent away", farewells.len());
        house.listeners.listen(LOOK_EVERY, SILENCE, |_| Ok(()))?;
        farewells.extend(house.listeners.farewells());
    }
    ensure!(farewells.iter().all(|farewell| farewell.code == 3000), "a close was not a goodbye");
    farewells.sort_by_key(|farewell| farewell.at + farewell.wait);
    Ok(farewells)
}

/// Everybody comes back when it was told to; how many of them were due before the server was there.
fn come_back(house: &mut House, farewells: &[Farewell]) -> anyhow::Result<usize> {
    let up = Instant::now();
    let mut due = farewells.iter().peekable();
    while due.peek().is_some() {
        while let Some(farewell) = due.next_if(|farewell| farewell.at + farewell.wait <= Instant::now()) {
            house.listeners.come_back(farewell.listener, house.hall.address)?;
        }
        house.listeners.listen(LOOK_EVERY, SILENCE, |_| Ok(()))?;
    }
    Ok(farewells.iter().filter(|farewell| farewell.at + farewell.wait < up).count())
}

/// The most that are due within any hundred milliseconds.
fn fullest(sorted: &[Farewell]) -> usize {
    let due = |farewell: &Farewell| farewell.at + farewell.wait;
    let (mut from, mut most) = (0, 0);
    for to in 0..sorted.len() {
        while due(&sorted[to]) - due(&sorted[from]) >= BIN {
            from += 1;
        }
        most = most.max(to + 1 - from);
    }
    most
}
