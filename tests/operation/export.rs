//! Orders as a table: what people chose to be called stays text, and every line is there.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use super::{ROOM, text, with_config};
use crate::support::{
    cli::maishou,
    scratch::Scratch,
    server::Server,
    shop::{CORAL, Shop, TAN},
};

const HOSTILE: &str = "=cmd|' /C calc'!A0";
const PAYMENT: &str = "+1-2 \"quoted\", 付款";

type Row = HashMap<String, String>;

/// The rows of an export, in their order.
fn rows(csv: &str) -> Vec<Row> {
    let table = csv.strip_prefix('\u{feff}').expect("a byte order mark, so that Excel shows Chinese");
    assert!(table.ends_with("\r\n") && table.matches('\n').count() == table.matches("\r\n").count(), "{table:?}");
    csv::Reader::from_reader(table.as_bytes()).deserialize().map(|row| row.expect("a row")).collect()
}

async fn buys(server: &Server, shop: &Shop, who: &str, key: &str, lines: Value) -> String {
    let token = shop.viewer_token(server, who);
    let body = json!({ "lines": lines });
    let held = server.rest().post("/v1/holds").token(&token).key(key).json(&body).send().await.ok();
    let hold = held["hold"]["id"].as_str().expect("an id").to_owned();
    let paid = json!({ "payment": PAYMENT });
    server.rest().post(&format!("/v1/holds/{hold}/confirm")).token(&token).json(&paid).send().await.ok();
    hold
}

#[tokio::test]
async fn an_export_is_a_safe_table_of_every_line_the_oldest_first() {
    let server = Server::start().await;
    let shop = Shop::open(&server, ROOM).await;
    let two = json!([{ "sku": CORAL, "quantity": 2 }, { "sku": TAN, "quantity": 1 }]);
    let first = buys(&server, &shop, HOSTILE, "a", two).await;
    let second = buys(&server, &shop, "00861380013800012345", "b", json!([{ "sku": TAN, "quantity": 2 }])).await;
    let back = json!({ "lines": [{ "sku": CORAL, "quantity": 1 }], "restock": true, "reason": "torn" });
    let path = format!("/v1/orders/{first}/refund");
    server.rest().post(&path).token(&server.tokens.merchant("main")).key("r").json(&back).send().await.ok();

    let said = with_config(&server, &["orders", "export"]).await;
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let all = rows(&said.stdout);
    let column = |name: &str| all.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("order"), [first.clone(), first.clone(), second.clone()]);
    assert_eq!(column("sku"), [CORAL, TAN, TAN]);
    assert_eq!(column("buyer"), [format!("'{HOSTILE}"), format!("'{HOSTILE}"), "'00861380013800012345".into()]);
    assert_eq!(column("payment"), [const { PAYMENT }; 3].map(|payment| format!("'{payment}")));
    assert_eq!((column("quantity"), column("refunded")), (words("2 1 2"), words("1 0 0")));
    assert_eq!(column("unit_price_minor")[0], "26900");
    assert_eq!((column("unit_price")[0].as_str(), column("line_total")[0].as_str()), ("269.00", "538.00"));
    assert_eq!((column("currency")[0].as_str(), column("room")[0].as_str()), ("CNY", ROOM));
    assert!(column("placed_at").iter().all(|at| at.ends_with('Z') && at.contains('T')), "{all:?}");
    let at = |row: usize| column("placed_at_ms")[row].parse::<i64>().expect("a time");
    let of_rest = server.rest().get(&format!("/v1/orders/{second}")).token(&server.tokens.admin()).send().await.ok();
    assert_eq!(of_rest["order"]["at"], at(2));

    only_what_is_asked_for(&server, &second, at(0)).await;
    to_a_file(&server, &said.stdout).await;
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

async fn only_what_is_asked_for(server: &Server, second: &str, first_at: i64) {
    for (more, expected) in [
        (["--after-time", &first_at.to_string()], 1),
        (["--after-time", "2020-02-29"], 3),
        (["--after-time", "2199-01-01T00:00:00+08:00"], 0),
        (["--merchant", "main"], 3),
        (["--merchant", "wang"], 0),
        (["--state", "paid"], 3),
        (["--state", "refund_due"], 0),
    ] {
        let said = with_config(server, &[&["orders", "export"][..], &more].concat()).await;
        let found = rows(&said.stdout);
        assert_eq!(found.len(), expected, "{more:?}: {said:?}");
        assert!(expected != 1 || found[0]["order"] == second, "{found:?}");
    }
}

async fn to_a_file(server: &Server, expected: &str) {
    let folder = Scratch::new("export");
    let out = folder.join("orders.csv");
    fs::write(&out, "yesterday's").expect("the folder can be written");
    let said = with_config(server, &["orders", "export", "--out", text(&out)]).await;
    assert_eq!((said.code, said.stdout.ends_with(": 2 orders\n")), (0, true), "{said:?}");
    assert_eq!(fs::read_to_string(&out).expect("a text"), expected);
    assert_eq!(fs::metadata(&out).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
    let copy = folder.join("copy.db");
    assert_eq!(with_config(server, &["backup", text(&copy)]).await.code, 0);
    let of_copy = maishou(&["orders", "export", "--file", text(&copy)], &[]).await;
    assert_eq!(of_copy.stdout, expected, "a backup is as good");
}
