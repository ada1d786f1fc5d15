use maishou_loadtest::{report::compare, run::Options, scenario::Scenario};

use super::{Scratch, doubts, run};

#[test]
fn a_short_evening_is_proved_from_the_first_frame_to_the_tape() {
    let json = Scratch::new("evening.json");
    let scenario = Scenario::load("evening".as_ref()).unwrap().with(Some(400), Some(4.0));
    let options = Options { json: Some(json.0.clone()), ..Options::default() };
    let report = run(scenario, &options).unwrap();
    assert_eq!(doubts(&report), (vec![], vec![]), "{report}");
    assert_eq!(report.proofs.len(), 7);
    assert_eq!((report.totals.joined, report.totals.lost, report.totals.refused), (400, 0, 0), "{report}");
    assert!(report.funnel.paid > 50 && report.totals.events > 10_000 && report.totals.private > 100, "{report}");
    assert!(report.totals.returned > 0 && report.totals.resumed > 0, "some left and came back: {report}");
    for class in
        ["state", "chat", "private", "tally", "join", "hold", "pay", "cancel", "comment", "like", "look", "pin"]
    {
        assert!(report.all.get(class).is_some_and(|of| of.count > 0), "{class} was timed: {report}");
    }
    assert!(!report.timeline.is_empty() && report.timeline.iter().any(|point| !point.gauges.is_empty()));
    let read = compare::read(&std::fs::read_to_string(&json.0).unwrap()).unwrap();
    assert_eq!((read.passed, read.totals, read.histograms), (report.passed, report.totals, report.histograms));
}

#[test]
fn a_flash_drop_sells_every_piece_once() {
    let scenario = Scenario::load("flash-drop".as_ref()).unwrap().with(Some(1_000), Some(4.0));
    let report = run(scenario, &Options::default()).unwrap();
    assert_eq!(doubts(&report), (vec![], vec![]), "{report}");
    let stock = report.stock.values().next().unwrap();
    assert_eq!((stock.sold, stock.held, stock.available), (500, 0, 0), "{report}");
    assert_eq!((report.funnel.held, report.funnel.paid), (500, 500), "{report}");
    assert_eq!(report.funnel.presses, 2_500, "{report}");
}
