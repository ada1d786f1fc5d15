use std::collections::BTreeMap;

use super::{Own, Quantiles, Report, Target, VideoReport};
use crate::{scenario::Targets, tally::Tally};

/// Deeds later than this, at the 99th percentile, are the tester's own doing.
const LATE_MS: f64 = 20.0;
/// Turns longer than this delay what is timed in them.
const TURN_MS: f64 = 50.0;
const WAITED: f64 = 0.10;
const BUSY: f64 = 0.90;

/// Why the figures may be those of the tester and not of the server.
pub fn self_measured(own: &Own, tally: &Tally) -> Vec<String> {
    let mut why = Vec::new();
    let mut note = |so: bool, text: String| {
        if so {
            why.push(text);
        }
    };
    let Own { late, turns, crowd_cores, crowd_waited, .. } = own;
    note(late.p99 > LATE_MS, format!("one deed in a hundred was done {:.0} ms late or more", late.p99));
    note(turns.p99 > TURN_MS, format!("one look at the sockets in a hundred took {:.0} ms or more", turns.p99));
    note(*crowd_waited > WAITED, format!("the crowd waited for a core {:.0} % of the time", crowd_waited * 100.0));
    note(*crowd_cores > BUSY, format!("the crowd kept its core busy {:.0} % of the time", crowd_cores * 100.0));
    for (error, count) in &tally.socket_errors {
        note(true, format!("this machine refused {count} sockets: {error}"));
    }
    why
}

/// The targets of a scenario held against what was measured.
pub fn targets(
    targets: &Targets,
    all: &BTreeMap<String, Quantiles>,
    tally: &Tally,
    cores: Option<f64>,
    video: Option<&VideoReport>,
) -> Vec<Target> {
    let p99 = |class: &str| all.get(class).filter(|of| of.count > 0).map(|of| of.p99);
    let rows = [
        ("state p99 ms", targets.state_p99_ms, p99("state")),
        ("chat p99 ms", targets.chat_p99_ms, p99("chat")),
        ("private p99 ms", targets.private_p99_ms, p99("private")),
        ("comment p99 ms", targets.comment_p99_ms, p99("comment")),
        ("hold p99 ms", targets.hold_p99_ms, p99("hold")),
        ("pay p99 ms", targets.pay_p99_ms, p99("pay")),
        ("join p99 ms", targets.join_p99_ms, p99("join")),
        ("lost connections", Some(targets.lost_max as f64), Some(tally.lost as f64)),
        ("refused viewers", Some(0.0), Some(tally.refused as f64)),
        ("video loss", targets.loss_max, video.map(|video| video.loss)),
        ("video freezes", targets.freezes_max, video.map(|video| video.freezes_per_viewer_minute)),
        ("viewers without video", video.map(|_| 0.0), video.map(|video| (video.viewers - video.watching) as f64)),
        ("server cores", targets.server_cores_max.filter(|_| cores.is_some()), cores),
    ];
    let asked = rows.into_iter().filter_map(|(name, at_most, measured)| Some((name, at_most?, measured)));
    let judged = asked.map(|(name, at_most, measured)| Target {
        name: name.to_owned(),
        at_most,
        measured,
        held: measured.is_some_and(|measured| measured <= at_most),
    });
    judged.collect()
}

impl Report {
    /// Whether it may be called a success: every proof and every target holds.
    pub fn judge(&mut self) {
        let proofs = self.proofs.iter().all(|proof| proof.held != Some(false));
        self.passed = proofs && self.targets.iter().all(|target| target.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tester_that_was_slow_itself_says_so() {
        assert!(self_measured(&Own::default(), &Tally::default()).is_empty());
        let slow = Quantiles { p99: 80.0, ..Quantiles::default() };
        let own = Own { late: slow, turns: slow, crowd_cores: 0.99, crowd_waited: 0.5, cores: 1.0 };
        let mut tally = Tally::default();
        tally.socket_error(&std::io::Error::other("no ports"));
        assert_eq!(self_measured(&own, &tally).len(), 5);
    }

    #[test]
    fn a_target_of_something_that_never_happened_is_missed() {
        let wanted = Targets { hold_p99_ms: Some(100.0), chat_p99_ms: Some(100.0), ..Targets::default() };
        let chat = Quantiles { count: 5, p99: 99.0, ..Quantiles::default() };
        let all = BTreeMap::from([("chat".to_owned(), chat)]);
        let judged = targets(&wanted, &all, &Tally { lost: 1, ..Tally::default() }, None, None);
        let held: Vec<(&str, bool)> = judged.iter().map(|target| (&*target.name, target.held)).collect();
        let expected =
            [("chat p99 ms", true), ("hold p99 ms", false), ("lost connections", false), ("refused viewers", true)];
        assert_eq!(held, expected);
    }
}
