//! The command line: exit codes, and messages that name what is wrong.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    cli::maishou,
    scratch::Scratch,
    server::Server,
    shop::{CORAL, Shop},
    ws::Ws,
};

const SECRET: &str = "a secret of more than thirty-two bytes";

#[tokio::test]
async fn a_busy_port_names_the_option_that_moves_it_and_ends_with_1() {
    let server = Server::start().await;
    let folder = Scratch::new("busy");
    let (store, tape) = (folder.join("store"), folder.join("tape"));
    let env = [
        ("MAISHOU_AUTH__SECRET", SECRET),
        ("MAISHOU_STORE__PATH", store.to_str().expect("a readable path")),
        ("MAISHOU_TAPE__PATH", tape.to_str().expect("a readable path")),
    ];
    let taken = server.http.to_string();
    let said = maishou(&["serve", "--listen", &taken, "--media-listen", "127.0.0.1:0"], &env).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("--listen") && said.stderr.contains(&taken), "{}", said.stderr);

    let taken = server.media[0].to_string();
    let said = maishou(&["serve", "--listen", "127.0.0.1:0", "--media-listen", &taken], &env).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("--media-listen"), "{}", said.stderr);
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    for args in [&[][..], &["dance"], &["serve", "--loud"], &["token", "--room", "r"], &["demo", "--listen", "here"]] {
        let said = maishou(args, &[]).await;
        assert_eq!(said.code, 2, "{args:?}: {said:?}");
        assert!(!said.stderr.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn check_accepts_what_is_right_and_names_the_key_that_is_wrong() {
    let folder = Scratch::new("check");
    let file = folder.join("server.toml");
    let path = file.to_str().expect("a readable path");
    let good = format!("[auth]\nsecret = \"{SECRET}\"\n");
    for (more, named) in [
        ("[http]\nlistn = \"127.0.0.1:1\"\n", "listn"),
        ("[http]\nlisten = \"nowhere\"\n", "listen"),
        ("[order]\nhold_seconds = 0\n", "order.hold_seconds"),
        ("[order]\nhold_seconds = -1\n", "hold_seconds"),
        ("[room]\ntick_ms = 0\n", "room.tick_ms"),
        ("[shelf]\n", "shelf"),
        ("[payment]\nprovider = \"magic\"\n", "provider"),
        ("[limits]\nexempt = [\"everyone\"]\n", "everyone"),
        ("[store\n", "store"),
    ] {
        fs::write(&file, good.clone() + more).expect("the folder can be written");
        let said = maishou(&["check", "--config", path], &[]).await;
        assert_eq!(said.code, 1, "{more}: {said:?}");
        let is_named = named.split('.').all(|word| said.stderr.contains(word));
        assert!(is_named, "{more}: {}", said.stderr);
    }
    fs::write(&file, &good).expect("the folder can be written");
    let said = maishou(&["check", "--config", path], &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let said = maishou(&["check", "--config", path], &[("MAISHOU_HTTP__LISTN", "127.0.0.1:1")]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("MAISHOU_HTTP__LISTN"), "{}", said.stderr);
}

#[tokio::test]
async fn check_warns_when_viewers_could_reach_pages_but_no_video() {
    let env = [("MAISHOU_AUTH__SECRET", SECRET), ("MAISHOU_HTTP__LISTEN", "0.0.0.0:8080")];
    let said = maishou(&["check"], &env).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("media"), "{}", said.stdout);

    let env = [env[0], env[1], ("MAISHOU_MEDIA__CANDIDATES", r#"["192.0.2.1"]"#)];
    let said = maishou(&["check"], &env).await;
    assert!(!said.stdout.contains("media candidate"), "{}", said.stdout);
}

#[tokio::test]
async fn serve_refuses_to_start_without_a_secret_and_with_a_short_one() {
    for secret in ["", "thirty-one bytes are too few..."] {
        let said = maishou(&["serve"], &[("MAISHOU_AUTH__SECRET", secret)]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains("auth.secret"), "{}", said.stderr);
        assert!(secret.is_empty() || !said.stderr.contains(secret), "the secret itself is not printed");
    }
}

#[tokio::test]
async fn a_printed_token_opens_the_door() {
    let server = Server::start().await;
    let shop = Shop::open(&server, "show").await;
    let config = server.data("server.toml");
    let config = ["--config", config.to_str().expect("a readable path")];
    let anchor = ["token", "--room", "show", "--role", "anchor", "--user", &shop.anchor, "--name", "Mei 梅"];
    let said = maishou(&[&anchor[..], &config].concat(), &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let mut ws: Ws = server.ws("show").await;
    let joined = ws.join(said.stdout.trim()).await;
    assert_eq!((&joined["role"], &joined["name"]), (&json!("anchor"), &json!("Mei 梅")));
    ws.ok("pin", json!({ "product": "scarf" })).await;

    let merchant = ["token", "--room", "*", "--role", "merchant", "--user", "m"];
    let said = maishou(&[&merchant[..], &config].concat(), &[]).await;
    assert_eq!(said.code, 1, "a merchant's token names the merchant: {said:?}");
    let said = maishou(&[&merchant[..], &["--merchant", "main"], &config].concat(), &[]).await;
    let orders = server.rest().get("/v1/orders").token(said.stdout.trim()).send().await;
    assert_eq!(orders.status, 200, "{}", orders.text());
}

#[tokio::test]
async fn verify_accepts_a_real_export_and_rejects_one_that_was_touched() {
    let server = Server::start().await;
    let shop = Shop::open(&server, "show").await;
    let token = shop.viewer_token(&server, "buyer");
    for key in ["a", "b", "c"] {
        let body = json!({ "sku": CORAL, "quantity": 1 });
        server.rest().post("/v1/holds").token(&token).key(key).json(&body).send().await.ok();
    }
    let export = server.rest().get(&format!("/v1/skus/{CORAL}/ledger")).send().await.ok();
    assert_eq!(export["entries"].as_array().map(Vec::len), Some(4), "{export}");

    let folder = Scratch::new("verify");
    let said = verify(&folder, &export).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("does not"), "it says what it does not prove: {}", said.stdout);

    let mut more = export.clone();
    more["entries"][0]["quantity"] = 21.into();
    let mut fewer = export.clone();
    fewer["entries"].as_array_mut().expect("entries").remove(2);
    let mut shorter = export.clone();
    shorter["entries"].as_array_mut().expect("entries").pop();
    let mut other = export.clone();
    other["sku"] = "scarf-sea".into();
    let mut unsigned = export.clone();
    unsigned["head"]["at"] = 1.into();
    for touched in [more, fewer, shorter, other, unsigned] {
        let said = verify(&folder, &touched).await;
        assert_eq!(said.code, 1, "{touched}: {said:?}");
    }
}

async fn verify(folder: &Scratch, export: &Value) -> crate::support::cli::Said {
    let file = folder.join("ledger.json");
    fs::write(&file, export.to_string()).expect("the folder can be written");
    maishou(&["verify", file.to_str().expect("a readable path")], &[]).await
}
