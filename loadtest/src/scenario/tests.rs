use super::*;

fn refusal(text: &str) -> String {
    format!("{:#}", Scenario::parse(text).expect_err("it is refused"))
}

#[test]
fn every_shipped_scenario_can_be_read_and_named() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/loadtest");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let scenario = Scenario::load(&file).unwrap();
        assert_eq!(scenario.name, name);
        assert!(!scenario.about.is_empty() && !scenario.about_zh.is_empty(), "{name} says what it is about");
        assert_eq!(Scenario::load(name.as_ref()).unwrap(), scenario, "the shipped {name} is the file");
        files += 1;
    }
    assert_eq!(files, Scenario::shipped().count());
}

#[test]
fn double_eleven_orders_thirty_eight_times_as_much_within_a_minute() {
    let scenario = Scenario::load("double-eleven".as_ref()).unwrap();
    let rates: Vec<f64> = scenario.phases.iter().map(|phase| phase.orders).collect();
    let (calm, rush) = (rates[0], rates.iter().copied().fold(0.0, f64::max));
    assert_eq!(rush / calm, 38.0);
    let before: f64 = scenario.phases.iter().skip(1).take_while(|p| p.orders < rush).map(|p| p.seconds).sum();
    assert!(before <= 60.0, "{before} s from calm to rush");
    assert!(Scenario::load("soak".as_ref()).unwrap().seconds() == 77.0 * 60.0);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_right_one() {
    let refused = refusal("[audience]\nwebsockets = 10\n");
    assert!(refused.contains("websockets") && refused.contains("did you mean `websocket`?"), "{refused}");
    let refused = refusal("[[phases]]\nsecond = 10\n");
    assert!(refused.contains("did you mean `seconds`?"), "{refused}");
    let refused = refusal("[audience]\narrive = \"spyke\"\n");
    assert!(refused.contains("did you mean `spike`?"), "{refused}");
    assert!(!refusal("zzz = 1").contains("did you mean"));
    let refused = format!("{:#}", Scenario::load("evning".as_ref()).unwrap_err());
    assert!(refused.contains("did you mean evening?") && refused.contains("flash-drop"), "{refused}");
}

#[test]
fn what_cannot_happen_is_refused_and_says_what_would_help() {
    for (text, word) in [
        ("[audience]\nwebsocket = 10\n[acts]\ncomments = 100", "at least 50 people"),
        ("[audience]\nwebsocket = 10\n[acts]\norders = 10\n[[phases]]\norders = 38", "at least 76 people"),
        ("[audience]\narrivals_per_second = 0", "arrivals_per_second"),
        ("[audience]\nslow = 0.6\nflaky = 0.6", "together"),
        ("[acts]\npays = 1.5", "from 0 to 1"),
        ("[acts]\ncomments = nan", "acts.comments"),
        ("[acts]\nlikes = -1.0", "acts.likes"),
        ("[[phases]]\nseconds = 0", "0.01 to a week"),
        ("[[phases]]\nrush_on = 2", "there are 1 to 1"),
        ("[show]\nproducts = 0", "show.products"),
        ("[show]\nspeed = 0", "show.speed"),
        ("[[show.script]]\nat = 1\nact = \"price\"", "minor units"),
    ] {
        let refused = refusal(text);
        assert!(refused.contains(word), "{text}: {refused}");
    }
}

#[test]
fn a_scenario_is_made_smaller_and_shorter_in_its_proportions() {
    let text = "[audience]\nwebsocket = 900\nsse = 100\n[[phases]]\nseconds = 10\n[[phases]]\nseconds = 30";
    let scenario = Scenario::parse(text).unwrap().with(Some(50), Some(4.0));
    assert_eq!((scenario.audience.websocket, scenario.audience.sse), (45, 5));
    assert_eq!(scenario.phases.iter().map(|phase| phase.seconds).collect::<Vec<_>>(), [1.0, 3.0]);
    assert_eq!([0.0, 0.9, 1.0, 3.9, 99.0].map(|at| scenario.phase_at(at)), [0, 0, 1, 1, 1]);
}

#[test]
fn a_scenario_reads_the_same_after_it_was_written() {
    for name in Scenario::shipped() {
        let scenario = Scenario::load(name.as_ref()).unwrap();
        let json = serde_json::to_string(&scenario).unwrap();
        assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario, "{name}");
    }
}
