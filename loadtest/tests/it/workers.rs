use std::{
    process::Command,
    time::{Duration, Instant},
};

use maishou_loadtest::{
    run::Options,
    scenario::Scenario,
    server::{Child, free_address},
};

use super::{doubts, run};

#[test]
fn two_workers_are_one_audience_and_their_sums_are_exact() {
    let start = || {
        let address = free_address().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_maishou-loadtest"));
        let worker = Child::start(command.args(["worker", "--listen", &address.to_string()])).unwrap();
        (worker, address)
    };
    let mut workers = [start(), start()];
    for (worker, address) in &mut workers {
        let deadline = Instant::now() + Duration::from_secs(10);
        worker.wait_for(*address).unwrap();
        assert!(Instant::now() < deadline);
    }
    let text = "[audience]\nwebsocket = 120\nsse = 10\nwebrtc = 15\narrive = \"spike\"\n[acts]\ncomments = 20\norders = 50\n\
        pays = 0.5\ngives_up = 0.5\n[show]\nseconds_each = 1\n[[phases]]\nseconds = 2\n";
    let names = workers.iter().map(|(_, address)| address.to_string()).collect();
    let report = run(Scenario::parse(text).unwrap(), &Options { workers: names, ..Options::default() }).unwrap();
    assert_eq!(doubts(&report), (vec![], vec![]), "{report}");
    assert_eq!((report.totals.joined, report.funnel.presses), (130, 100), "{report}");
    assert_eq!(report.all["hold"].count, 100, "every press was timed once: {report}");
    assert_eq!(report.clocks.workers.len(), 2);
    let video = report.video.as_ref().expect("some watched the video");
    assert_eq!((video.viewers, video.watching, video.first_picture.count), (15, 15, 15), "{report}");
    assert_eq!((video.lost, video.freezes), (0, 0), "{report}");
    // Two seconds of thirty pictures of four packets, and of fifty sounds, for each; the ends are not sharp.
    assert!((3_500..8_000).contains(&video.packets) && video.delay.count > 0, "{report}");
    assert!(report.clocks.workers.iter().all(|(_, ahead, error)| ahead.abs() < 20.0 && *error < 20.0), "{report}");
}
