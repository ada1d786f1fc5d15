//! The ledger is reconciled and copied while people buy, and the copy is a ledger.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use serde_json::json;

use super::{BUYERS, Market, PLENTY, ROOM, busy, text, with_config};
use crate::support::{cli::maishou, scratch::Scratch, server::Server, shop::Shop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_while_people_buy_has_all_that_was_acknowledged_before_and_serves() {
    let server = busy().start().await;
    let market = Market::open(&server).await;
    market.has_sold(100).await;
    let folder = Scratch::new("backup");
    let copy = folder.join("ledger.db");
    let before = market.bought();
    let said = with_config(&server, &["backup", text(&copy)]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    assert!(said.stdout.contains("checked, up to transaction "), "{said:?}");
    market.has_sold(20).await;
    let after = market.close().await;

    let files: Vec<_> =
        fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file").path()).collect();
    assert_eq!(files, std::slice::from_ref(&copy), "nothing is left beside it");
    let facts = fs::metadata(&copy).expect("the copy is there");
    assert_eq!(facts.permissions().mode() & 0o777, 0o600, "people are in it");
    assert!(said.stdout.contains(&format!("{} bytes", facts.len())), "{said:?}");
    let again = with_config(&server, &["backup", text(&copy)]).await;
    assert_eq!(again.code, 1, "nothing is overwritten: {again:?}");
    assert!(again.stderr.contains("ledger.db"), "{again:?}");
    let same = fs::metadata(&copy).expect("the copy is there");
    assert_eq!((same.ino(), same.len()), (facts.ino(), facts.len()));

    let said = maishou(&["reconcile", "--file", text(&copy)], &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    drop(server);

    let server = busy().set("STORE__PATH", text(folder.path())).start().await;
    let kept = orders(&server).await;
    assert!(before.iter().all(|order| kept.contains(order)), "all that was acknowledged before is in the copy");
    assert!(kept.len() <= after.len() + BUYERS, "and nothing that nobody bought");
    let shop = Shop::open(&server, ROOM).await;
    let product = json!({
        "title": "Umbrella", "price": { "amount": 5, "currency": "CNY" },
        "skus": [{ "id": PLENTY, "title": "any", "stock": 1 }],
    });
    let admin = server.tokens.admin();
    let product = server.rest().put("/v1/products/umbrella").token(&admin).json(&product).send().await.ok();
    assert_eq!(product["stock"][PLENTY]["sold"], kept.len(), "the stock is that of the copy: {product}");
    let token = shop.viewer_token(&server, "late");
    let body = json!({ "sku": PLENTY, "quantity": 1 });
    server.rest().post("/v1/holds").token(&token).key("k").json(&body).send().await.ok();
}

async fn orders(server: &Server) -> HashSet<String> {
    let (admin, mut found, mut after) = (server.tokens.admin(), HashSet::new(), String::new());
    loop {
        let path = format!("/v1/orders?limit=200{after}");
        let page = server.rest().get(&path).token(&admin).send().await.ok();
        let ids = page["orders"].as_array().expect("orders").iter();
        found.extend(ids.map(|order| order["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next"].as_str() else { return found };
        after = format!("&after={next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconciling_beside_a_running_server_agrees_and_finds_what_was_changed_in_a_copy() {
    let server = busy().start().await;
    let market = Market::open(&server).await;
    for _ in 0..3 {
        market.has_sold(50).await;
        let said = with_config(&server, &["reconcile"]).await;
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        assert!(said.stdout.starts_with("everything agrees: "), "{said:?}");
    }
    market.close().await;

    let folder = Scratch::new("reconcile");
    let copy = folder.join("copy.db");
    assert_eq!(with_config(&server, &["backup", text(&copy)]).await.code, 0);
    let db = rusqlite::Connection::open(&copy).expect("a database");
    db.execute("UPDATE sku SET available = available - 1, sold = sold + 1 WHERE sku = ?1", [PLENTY]).expect("a change");
    drop(db);
    let said = maishou(&["reconcile", "--file", text(&copy)], &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("sku plenty: sold recorded"), "{said:?}");
    let one = maishou(&["reconcile", "--file", text(&copy), "--limit", "1"], &[]).await;
    assert!(one.stdout.contains("and 1 more"), "{one:?}");
}

#[tokio::test]
async fn what_is_no_ledger_is_said_to_be_none() {
    let folder = Scratch::new("no-ledger");
    let missing = folder.join("missing.db");
    let empty = folder.join("empty.db");
    fs::write(&empty, "").expect("the folder can be written");
    let noise = folder.join("noise.db");
    fs::write(&noise, "no database at all, though it is long enough to look at").expect("the folder can be written");
    for file in [&missing, &empty, &noise] {
        let said = maishou(&["reconcile", "--file", text(file)], &[]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.starts_with("maishou: ") && said.stdout.is_empty(), "{said:?}");
    }
    assert!(!missing.exists(), "nothing is made");
    let both = ["reconcile", "--file", "a", "--config", "b"];
    for args in [&both[..], &["backup"], &["orders"], &["orders", "export", "--state", "lost"]] {
        assert_eq!(maishou(args, &[]).await.code, 2, "{args:?}");
    }
    let late = maishou(&["orders", "export", "--after-time", "yesterday"], &[]).await;
    assert_eq!(late.code, 2, "{late:?}");
}
