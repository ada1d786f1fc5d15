//! The crowds of a run, here and on other machines, as one.

use std::{io, time::Instant};

use crate::{
    crowd::{Crowd, Outcome},
    tally::{Second, Tally},
    timeline::Teller,
    workers::Remote,
};

/// One crowd, wherever it is.
pub enum Part {
    Here(Crowd),
    There(Remote),
}

pub struct Team(pub Vec<Part>);

impl Team {
    /// The measured time begins at `at`.
    pub fn begin(&self, at: Instant) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|part| match part {
            Part::Here(crowd) => {
                crowd.begin(at);
                Ok(())
            }
            Part::There(remote) => remote.begin(at),
        })
    }

    /// Nothing new is begun.
    pub fn quiet(&self) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|part| match part {
            Part::Here(crowd) => {
                crowd.quiet();
                Ok(())
            }
            Part::There(remote) => remote.quiet(),
        })
    }

    /// A recent count of all of them.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for part in &self.0 {
            match part {
                Part::Here(crowd) => sum.add(&crowd.tally()),
                Part::There(remote) => sum.add(&remote.tally()),
            }
        }
        sum
    }

    /// The seconds that have passed since this was asked last.
    pub fn seconds(&self) -> Vec<(Teller, Second)> {
        let seconds = self.0.iter().enumerate().flat_map(|(place, part)| {
            let seconds = match part {
                Part::Here(crowd) => crowd.seconds(),
                Part::There(remote) => remote.seconds(),
            };
            seconds.into_iter().map(move |second| (Teller::Crowd(place), second))
        });
        seconds.collect()
    }

    /// The events between which everybody stood a moment ago.
    pub fn stands(&self) -> (u64, u64) {
        let stands = self.0.iter().map(|part| match part {
            Part::Here(crowd) => crowd.stands(),
            Part::There(remote) => remote.stands(),
        });
        stands.fold((u64::MAX, 0), |(slowest, fastest), (s, f)| (slowest.min(s), fastest.max(f)))
    }

    pub fn is_running(&self) -> bool {
        self.0.iter().all(|part| match part {
            Part::Here(crowd) => crowd.is_running(),
            Part::There(remote) => remote.is_running(),
        })
    }

    /// How far each worker's clock is ahead, and how wrong that may be, in milliseconds.
    pub fn clocks(&self) -> Vec<(String, f64, f64)> {
        let remotes = self.0.iter().filter_map(|part| match part {
            Part::Here(_) => None,
            Part::There(remote) => Some(remote.clock()),
        });
        remotes.collect()
    }

    /// Everybody leaves, and tells everything.
    pub fn stop(self) -> io::Result<Vec<Outcome>> {
        let outcomes = self.0.into_iter().map(|part| match part {
            Part::Here(crowd) => crowd.stop(),
            Part::There(remote) => remote.stop(),
        });
        outcomes.collect()
    }
}
