use maishou_loadtest::{house::House, run::Options, scenario::Scenario};

use super::{Scratch, run};

fn refusal(scenario: &str, options: &Options) -> String {
    match run(Scenario::parse(scenario).unwrap(), options) {
        Ok(report) => panic!("it is refused: {report}"),
        Err(error) => format!("{error:#}"),
    }
}

const FEW: &str = "[audience]\nwebsocket = 5\n[[phases]]\nseconds = 1\n";

#[test]
fn a_server_that_is_down_is_named_with_the_remedy() {
    let secret = Scratch::with("secret", "a secret that is as long as it has to be");
    let address = maishou_loadtest::server::free_address().unwrap();
    let options = Options {
        server: Some(format!("http://{address}")),
        secret_file: Some(secret.0.clone()),
        ..Options::default()
    };
    let refused = refusal(FEW, &options);
    assert!(refused.contains("start it, or leave --server out"), "{refused}");
}

#[test]
fn a_wrong_secret_is_named_with_the_remedy() {
    let house = House::open(None, &Default::default(), None).unwrap();
    let secret = Scratch::with("secret", "a secret that is as long as it has to be");
    let server = Some(format!("http://{}", house.address));
    let options = Options { server, secret_file: Some(secret.0.clone()), ..Options::default() };
    let refused = refusal(FEW, &options);
    assert!(refused.contains("auth.secret"), "{refused}");
    let missing = Options { secret_file: Some("no-such-file".into()), ..options };
    assert!(refusal(FEW, &missing).contains("no-such-file"));
}

#[test]
fn what_a_machine_cannot_do_is_refused_before_anything_is_started() {
    let many = "[audience]\nwebsocket = 90000000\n";
    let refused = refusal(many, &Options::default());
    assert!(refused.contains("ulimit") && refused.contains("--workers"), "{refused}");
    let missing = Options { maishou: Some("no-such-server".into()), ..Options::default() };
    assert!(refusal(FEW, &missing).contains("--maishou names another"));
    let settings = format!("{FEW}[server]\n\"order.no_such_key\" = \"1\"\n");
    let refused = refusal(&settings, &Options::default());
    assert!(refused.contains("no_such_key"), "{refused}");
}

#[test]
fn a_worker_that_is_down_is_named_with_the_remedy() {
    let worker = maishou_loadtest::server::free_address().unwrap().to_string();
    let refused = refusal(FEW, &Options { workers: vec![worker.clone()], ..Options::default() });
    assert!(refused.contains(&format!("maishou-loadtest worker --listen {worker}")), "{refused}");
}
