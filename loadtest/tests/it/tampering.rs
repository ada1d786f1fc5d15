use std::collections::BTreeMap;

use maishou_loadtest::{
    house::House,
    report::{Report, chinese},
    run::Options,
    scenario::Scenario,
};

use super::{
    Scratch, doubts,
    proxy::{self, Lie, Rule},
    run,
};

const SCENARIO: &str = r#"
    [audience]
    websocket = 40
    arrive = "spike"
    [acts]
    comments = 30
    likes = 30
    orders = 40
    pays = 0.6
    gives_up = 0.2
    [show]
    seconds_each = 0.5
    [[phases]]
    seconds = 2
"#;

/// A run through a proxy that lies as the rule says.
fn through(rule: &Rule) -> Report {
    let mut settings = BTreeMap::new();
    settings.insert("room.show_sold".to_owned(), "true".to_owned());
    let house = House::open(None, &settings, None).unwrap();
    let address = proxy::start(house.address, rule.clone());
    let secret = Scratch::with("secret", &house.secret);
    let options = Options {
        server: Some(format!("http://{address}")),
        secret_file: Some(secret.0.clone()),
        ..Options::default()
    };
    run(Scenario::parse(SCENARIO).unwrap(), &options).unwrap()
}

/// The lie was told and found, by one of these proofs.
fn is_found(lie: Lie, begins: &'static str, has: &'static str, by: &[&str]) {
    let rule = Rule::new(lie, begins, has);
    let report = through(&rule);
    assert!(rule.was_told(), "{lie:?}: there was nothing to lie about");
    assert!(!report.passed, "{lie:?} was not found: {report}");
    let (failed, _) = doubts(&report);
    assert!(failed.iter().any(|proof| by.contains(proof)), "{lie:?} was found by {failed:?}: {report}");
    assert!(report.proofs.iter().any(|proof| proof.held == Some(false) && !proof.evidence.is_empty()));
    for said in report.proofs.iter().flat_map(|proof| proof.evidence.iter().chain([&proof.said])) {
        assert_ne!(chinese(said), *said, "the Chinese page says it in Chinese");
    }
}

const FRAME: &str = "{\"prev\":";
const ANSWER: &str = "{\"re\":";

#[test]
fn an_honest_proxy_is_believed() {
    let report = through(&Rule::new(Lie::None, FRAME, ""));
    assert_eq!(doubts(&report), (vec![], vec!["tape"]), "{report}");
}

#[test]
fn a_frame_that_is_dropped_is_found() {
    is_found(Lie::Drop, FRAME, "\"events\"", &["frames"]);
}

#[test]
fn a_frame_that_is_repeated_is_found() {
    is_found(Lie::Repeat, FRAME, "\"events\"", &["frames"]);
}

#[test]
fn frames_that_change_places_are_found() {
    is_found(Lie::Swap, FRAME, "\"events\"", &["frames"]);
}

#[test]
fn a_frame_that_is_altered_is_found() {
    is_found(Lie::Alter("\"comment\"", "\"comnent\""), FRAME, "\"comment\"", &["frames"]);
}

#[test]
fn a_stock_count_that_is_altered_for_one_is_found() {
    is_found(Lie::Alter("\"available\":9", "\"available\":8"), FRAME, "\"available\":9", &["frames"]);
}

#[test]
fn likes_that_nobody_gave_are_found() {
    is_found(Lie::Nines("\"likes\":"), FRAME, "\"likes\":", &["state"]);
}

#[test]
fn an_answer_that_is_dropped_is_found() {
    is_found(Lie::Drop, ANSWER, "\"hold\"", &["answers", "stock"]);
}

#[test]
fn an_answer_that_is_repeated_is_found() {
    is_found(Lie::Repeat, ANSWER, "\"hold\"", &["frames"]);
}

#[test]
fn a_hold_that_is_altered_is_found() {
    is_found(Lie::Alter("\"id\":\"01", "\"id\":\"f1"), ANSWER, "\"state\":\"held\"", &["answers", "frames", "stock"]);
}

#[test]
fn a_hold_that_is_denied_is_found() {
    is_found(Lie::Refuse, ANSWER, "\"state\":\"held\"", &["stock"]);
}

#[test]
fn a_private_message_that_is_dropped_is_found() {
    is_found(Lie::Drop, "{\"you\":", "", &["private"]);
}

#[test]
fn a_forged_ledger_is_found() {
    is_found(Lie::Forge("\"type\":\"held\",\"quantity\":1", "\"type\":\"held\",\"quantity\":2"), "", "", &["stock"]);
}
