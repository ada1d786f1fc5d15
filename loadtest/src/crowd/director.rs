use crate::scenario::{Phase, Scenario};

/// What is to be done at a time that is fixed beforehand, whoever does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Comment,
    Like,
    Look,
    Order,
    Leave,
}

/// When acts are due. The times follow from the scenario alone: an open loop, which no slow answer can hold up.
#[derive(Clone, Debug)]
pub struct Director {
    paces: Vec<Pace>,
}

#[derive(Clone, Debug)]
struct Pace {
    act: Act,
    /// End of each phase, and the acts that are due until then.
    steps: Vec<(f64, f64)>,
    done: u64,
}

impl Director {
    /// The given acts of a scenario, of which `share` are ours.
    pub fn new(scenario: &Scenario, acts: &[Act], share: f64) -> Self {
        let paces = acts.iter().map(|act| Pace { act: *act, steps: steps(scenario, *act, share), done: 0 });
        Self { paces: paces.collect() }
    }

    /// The next act that is due until `now`, and when it was: seconds since the beginning.
    pub fn next(&mut self, now: f64) -> Option<(Act, f64)> {
        let dues = self.paces.iter().enumerate().filter_map(|(at, pace)| Some((at, pace.due()?)));
        let (at, due) = dues.filter(|(_, due)| *due <= now).min_by(|a, b| a.1.total_cmp(&b.1))?;
        self.paces[at].done += 1;
        Some((self.paces[at].act, due))
    }

    /// When the next act is due.
    pub fn due(&self) -> Option<f64> {
        self.paces.iter().filter_map(Pace::due).min_by(f64::total_cmp)
    }
}

impl Pace {
    /// When the next one is due: in the middle of its share, so that a phase has no burst at its beginning.
    fn due(&self) -> Option<f64> {
        let wanted = self.done as f64 + 0.5;
        let phase = self.steps.iter().position(|(_, acts)| *acts > wanted)?;
        let (began, before) = if phase == 0 { (0.0, 0.0) } else { self.steps[phase - 1] };
        let (ended, after) = self.steps[phase];
        Some(began + (ended - began) * (wanted - before) / (after - before))
    }
}

fn steps(scenario: &Scenario, act: Act, share: f64) -> Vec<(f64, f64)> {
    let acts = &scenario.acts;
    let (base, factor): (f64, fn(&Phase) -> f64) = match act {
        Act::Comment => (acts.comments, |phase| phase.comments),
        Act::Like => (acts.likes, |phase| phase.likes),
        Act::Look => (acts.looks, |phase| phase.looks),
        Act::Order => (acts.orders, |phase| phase.orders),
        Act::Leave => (acts.leaves, |phase| phase.leaves),
    };
    let (mut end, mut total) = (0.0, 0.0);
    let steps = scenario.phases.iter().map(|phase| {
        end += phase.seconds;
        total += phase.seconds * base * factor(phase) * share;
        (end, total)
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, share: f64) -> Vec<f64> {
        let mut director = Director::new(&Scenario::parse(text).unwrap(), &[Act::Order], share);
        std::iter::from_fn(|| director.next(f64::INFINITY)).map(|(_, due)| due).collect()
    }

    const RUSH: &str = "[audience]\nwebsocket = 5000\n[acts]\norders = 100\n[[phases]]\nseconds = 2\norders = 0\n\
        [[phases]]\nseconds = 1\norders = 38\n[[phases]]\nseconds = 5\n";

    #[test]
    fn every_phase_has_its_rate_and_the_whole_its_number() {
        let times = times(RUSH, 1.0);
        let within = |from: f64, to: f64| times.iter().filter(|due| (from..to).contains(*due)).count();
        assert_eq!([within(0.0, 2.0), within(2.0, 3.0), within(3.0, 8.0), times.len()], [0, 3_800, 500, 4_300]);
        assert!(times.is_sorted());
        assert_eq!(within(2.0, 2.5), 1_900, "evenly");
    }

    #[test]
    fn the_parts_of_several_workers_are_the_whole() {
        assert_eq!(times(RUSH, 0.25).len() + times(RUSH, 0.75).len(), times(RUSH, 1.0).len());
    }

    #[test]
    fn acts_that_were_missed_keep_their_times() {
        let text = "[acts]\ncomments = 10\n[[phases]]\nseconds = 3";
        let mut director = Director::new(&Scenario::parse(text).unwrap(), &[Act::Comment, Act::Like], 1.0);
        assert_eq!(director.next(0.04), None);
        assert_eq!(director.next(2.0), Some((Act::Comment, 0.05)), "it was due long ago");
        assert!(director.due().is_some_and(|due| (due - 0.15).abs() < 1e-9));
    }
}
