//! The crowds of a run, here and on other machines, as one, and with them those who watch the video.

use std::time::Instant;

use anyhow::Context as _;

use crate::{
    crowd::{Crowd, Outcome},
    rtc::{Seen, WatchPlan, Watchers, Watching},
    tally::{Second, Tally},
    timeline::Teller,
    workers::Remote,
};

/// A part of the audience, wherever it is.
pub enum Part {
    Here { crowd: Crowd, watchers: Option<Box<Watchers>> },
    There(Remote),
}

pub struct Team(pub Vec<Part>);

impl Team {
    /// Lets those come who watch the video, an equal part of them at each.
    pub fn watch(&mut self, plan: WatchPlan) -> anyhow::Result<()> {
        let plans = plan.split(self.0.len());
        self.0.iter_mut().zip(plans).try_for_each(|(part, plan)| match part {
            Part::Here { watchers, .. } => {
                *watchers = Some(Box::new(Watchers::start(plan, 0)?));
                Ok(())
            }
            Part::There(remote) => remote.watch(plan),
        })
    }

    /// How many watch now.
    pub fn watching(&self) -> anyhow::Result<Watching> {
        let mut sum = Watching::default();
        for part in &self.0 {
            match part {
                Part::Here { watchers: Some(watchers), .. } => sum.add(&watchers.now()?),
                Part::Here { watchers: None, .. } => {}
                Part::There(remote) => sum.add(&remote.watching()),
            }
        }
        Ok(sum)
    }

    /// The measured time begins at `at`.
    pub fn begin(&mut self, at: Instant) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|part| match part {
            Part::Here { crowd, watchers } => {
                crowd.begin(at);
                watchers.as_mut().map_or(Ok(()), |watchers| watchers.begin())
            }
            Part::There(remote) => remote.begin(at),
        })
    }

    /// Nothing new is begun, and what is seen is no longer measured.
    pub fn quiet(&mut self) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|part| match part {
            Part::Here { crowd, watchers } => {
                crowd.quiet();
                watchers.as_mut().map_or(Ok(()), |watchers| watchers.quiet())
            }
            Part::There(remote) => remote.quiet(),
        })
    }

    /// A recent count of all of them.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for part in &self.0 {
            match part {
                Part::Here { crowd, .. } => sum.add(&crowd.tally()),
                Part::There(remote) => sum.add(&remote.tally()),
            }
        }
        sum
    }

    /// The seconds that have passed since this was asked last.
    pub fn seconds(&self) -> Vec<(Teller, Second)> {
        let seconds = self.0.iter().enumerate().flat_map(|(place, part)| {
            let seconds = match part {
                Part::Here { crowd, .. } => crowd.seconds(),
                Part::There(remote) => remote.seconds(),
            };
            seconds.into_iter().map(move |second| (Teller::Crowd(place), second))
        });
        seconds.collect()
    }

    /// The events between which everybody stood a moment ago.
    pub fn stands(&self) -> (u64, u64) {
        let stands = self.0.iter().map(|part| match part {
            Part::Here { crowd, .. } => crowd.stands(),
            Part::There(remote) => remote.stands(),
        });
        stands.fold((u64::MAX, 0), |(slowest, fastest), (s, f)| (slowest.min(s), fastest.max(f)))
    }

    pub fn is_running(&self) -> bool {
        self.0.iter().all(|part| match part {
            Part::Here { crowd, .. } => crowd.is_running(),
            Part::There(remote) => remote.is_running(),
        })
    }

    /// How far each worker's clock is ahead, and how wrong that may be, in milliseconds.
    pub fn clocks(&self) -> Vec<(String, f64, f64)> {
        let remotes = self.0.iter().filter_map(|part| match part {
            Part::Here { .. } => None,
            Part::There(remote) => Some(remote.clock()),
        });
        remotes.collect()
    }

    /// Everybody leaves, and tells everything.
    pub fn stop(self) -> anyhow::Result<(Vec<Outcome>, Seen)> {
        let (mut outcomes, mut sum) = (Vec::new(), Seen::default());
        for part in self.0 {
            let (outcome, seen) = match part {
                Part::Here { crowd, watchers } => {
                    (crowd.stop()?, watchers.map(|watchers| watchers.stop()).transpose()?)
                }
                Part::There(remote) => remote.stop().context("a worker")?,
            };
            outcomes.push(outcome);
            seen.iter().for_each(|seen| sum.add(seen));
        }
        Ok((outcomes, sum))
    }
}
