//! What is told while a run goes on: a bar that changes on a terminal, plain lines elsewhere.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    hist::Class,
    tally::Second,
    timeline::{Sample, rates},
};

const LINE_EVERY: Duration = Duration::from_secs(5);

pub struct Progress {
    bar: Option<ProgressBar>,
    told: Option<Instant>,
}

impl Progress {
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").expect("the template is right");
            ProgressBar::new(1).with_style(style)
        });
        Self { bar, told: None }
    }

    /// So far of so much, and what to say of it.
    pub fn tell(&mut self, done: u64, of: u64, line: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(of);
                bar.set_position(done);
                bar.set_message(line());
            }
            None if self.told.is_none_or(|told| told.elapsed() >= LINE_EVERY) => {
                self.told = Some(Instant::now());
                if of > 1 {
                    eprint!("{done}/{of} ");
                }
                eprintln!("{}", line());
            }
            None => {}
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One second in one line.
pub fn line(phase: &str, now: &Second, before: Option<&Second>, sample: Option<&Sample>) -> String {
    let none = Second::default();
    let before = before.unwrap_or(&none);
    let seconds = (now.at_ms.saturating_sub(before.at_ms) as f64 / 1e3).max(0.1);
    let rates = rates(&before.tally, &now.tally, seconds);
    let mut line = format!(
        "{phase}: {} ws, {} sse; {:.0} events/s, {:.0} comments/s, {:.0} presses/s, {:.0} paid/s",
        rates.websocket, rates.sse, rates.deliveries, rates.comments, rates.presses, rates.paid
    );
    for class in [Class::State, Class::Chat, Class::Hold] {
        if let Some(hist) = now.latencies.of(class) {
            let _ = write!(line, "; {} p50 {:.0} p99 {:.0} ms", class.name(), hist.ms_at(0.5), hist.ms_at(0.99));
        }
    }
    let errors = errors(now);
    for (code, count) in &errors {
        let _ = write!(line, "; {count} {code}");
    }
    if let Some(sample) = sample.filter(|sample| !sample.gauges.is_empty()) {
        let gauge = |name: &str| sample.gauges.get(name).copied().unwrap_or(0.0);
        let _ = write!(
            line,
            "; server: tick {:.0} ms, {} wait for the room, {} for the desk, {} holds open",
            gauge("tick_s") * 1e3,
            gauge("room_queue"),
            gauge("desk_queue"),
            gauge("holds_open")
        );
    }
    line
}

/// Refusals and losses so far, by code.
fn errors(now: &Second) -> BTreeMap<String, u64> {
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    for (code, count) in now.tally.outcomes.values().flatten().filter(|(code, _)| *code != "ok") {
        *errors.entry(code.clone()).or_default() += count;
    }
    if now.tally.lost > 0 {
        errors.insert("lost".to_owned(), now.tally.lost);
    }
    errors
}
