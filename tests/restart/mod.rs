//! What a restart keeps, how a server ends, and what the command line says.

mod commands;

use serde_json::{Value, json};

use crate::support::{
    server::{Plan, Server},
    shop::{CORAL, SCARF, Shop, TAN, TOTE},
    sse::Sse,
    view::state_of,
    ws::Ws,
};

const ROOM: &str = "evening";

#[tokio::test]
async fn everything_is_there_after_sigterm_under_a_new_epoch() {
    let mut server = Server::start().await;
    let evening = Evening::prepare(&server).await;
    assert!(server.stop().await.success());
    server.restart().await;
    evening.goes_on(&server).await;
}

#[tokio::test]
async fn everything_is_there_after_kill_9_under_a_new_epoch() {
    let mut server = Server::start().await;
    let evening = Evening::prepare(&server).await;
    server.kill().await;
    server.restart().await;
    evening.goes_on(&server).await;
}

#[tokio::test]
async fn a_drain_tells_sockets_when_to_come_back_and_ends_with_0() {
    let plan = Plan::default().set("HTTP__DRAIN_SECONDS", "3").set("HTTP__RESTART_SECONDS", "2");
    let mut server = plan.start().await;
    let shop = Shop::open(&server, ROOM).await;
    let (mut viewers, mut listeners) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let token = shop.viewer_token(&server, &format!("listener-{number}"));
        let call = server.rest().get(&format!("/v1/rooms/{ROOM}/events")).token(&token);
        listeners.push(Sse::open(call).await);
    }
    for number in 0..5 {
        let mut ws = server.ws(ROOM).await;
        ws.join(&shop.viewer_token(&server, &format!("viewer-{number}"))).await;
        viewers.push(ws);
    }
    let told = async {
        for ws in &mut viewers {
            assert_eq!(ws.close_code().await, 3000);
            let (_, reason) = ws.closed.clone().expect("it was closed");
            let wait: u64 = reason.parse().expect("the reason is a number of milliseconds");
            assert!((2_000..5_000).contains(&wait), "not before the restart is over: {wait}");
        }
        let mut waits = Vec::new();
        for listener in &mut listeners {
            listener.end().await;
            let (_, last) = listener.heard.last().expect("a last word");
            assert_eq!(last["close"]["code"], 3000, "{last}");
            waits.push(last["close"]["reason"].as_str().and_then(|ms| ms.parse::<u64>().ok()).expect("milliseconds"));
        }
        waits.sort_unstable();
        assert_eq!(waits, [2_000, 3_000, 4_000], "streams are spread too");
    };
    let (status, ()) = tokio::join!(server.stop(), told);
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_hold_that_ran_out_while_the_server_was_down_has_given_its_stock_back() {
    let mut server = Plan::default().set("ORDER__HOLD_SECONDS", "1").start().await;
    let shop = Shop::open(&server, ROOM).await;
    let token = shop.viewer_token(&server, "late");
    let body = json!({ "sku": TAN, "quantity": 2 });
    let held = server.rest().post("/v1/holds").token(&token).key("k").json(&body).send().await.ok();
    let hold = format!("/v1/holds/{}", held["hold"]["id"].as_str().expect("a hold"));
    server.kill().await;
    server.restart().await;

    let mut ws = server.ws(ROOM).await;
    ws.join(&token).await;
    ws.until("the hold to run out", |view| view.part("stock")[TAN]["entry"] == 3).await;
    assert_eq!(ws.view.available(TAN), Some(5));
    let found = server.rest().get(&hold).token(&token).send().await.ok();
    assert_eq!(found["hold"]["state"], "expired");
    let late = server.rest().post(&format!("{hold}/confirm")).token(&token).send().await;
    assert_eq!((late.status, late.problem().as_str()), (409, "hold_expired"));
}

/// A show in the middle: everything that has to survive, and what it was.
struct Evening {
    shop: Shop,
    snapshot: Value,
    products: Vec<Value>,
    hold: Value,
    order: Value,
    messages: Value,
    muted: String,
    kicked: String,
}

impl Evening {
    async fn prepare(server: &Server) -> Self {
        let shop = Shop::open(server, ROOM).await;
        shop.start_show(server).await;
        shop.pin(server, SCARF).await;
        let mut anchor = joined(server, &shop.anchor_token(server)).await;
        let muted = who(&mut joined(server, &shop.viewer_token(server, "loud")).await).await;
        let kicked = who(&mut joined(server, &shop.viewer_token(server, "rude")).await).await;
        let said = anchor.ok("comment", json!({ "text": "欢迎 welcome" })).await["event"]["seq"].clone();
        for act in [
            json!({ "action": "mute", "who": muted, "seconds": 3600 }),
            json!({ "action": "kick", "who": kicked }),
            json!({ "action": "slow_mode", "seconds": 300 }),
            json!({ "action": "pin_comment", "comment": said }),
        ] {
            anchor.ok("moderate", act).await;
        }

        let admin = server.tokens.admin();
        let set = json!({ "delta": 7, "reason": "found in the van" });
        server.rest().post(&format!("/v1/skus/{TAN}/stock")).token(&admin).key("van").json(&set).send().await.ok();
        let hold = hold(server, &shop, "hold", CORAL).await.ok()["hold"].clone();
        let paid = hold_id(&self::hold(server, &shop, "order", TAN).await.ok());
        let buyer = shop.viewer_token(server, "buyer");
        let path = format!("/v1/holds/{paid}/confirm");
        let order = server.rest().post(&path).token(&buyer).send().await.ok()["order"].clone();

        let mut evening = Self {
            snapshot: Value::Null,
            products: products(server).await,
            messages: messages(server, &shop).await,
            shop,
            hold,
            order,
            muted,
            kicked,
        };
        evening.shop.stock_settles(server, TAN, [11, 0, 1]).await;
        evening.shop.stock_settles(server, CORAL, [19, 1, 0]).await;
        evening.snapshot = evening.shop.snapshot(server).await;
        evening
    }

    async fn goes_on(&self, server: &Server) {
        self.shows_the_same(server).await;
        self.remembers_purchases(server).await;
        self.remembers_people(server).await;
    }

    async fn shows_the_same(&self, server: &Server) {
        let snapshot = self.shop.snapshot(server).await;
        assert_ne!(snapshot["epoch"], self.snapshot["epoch"], "a restart begins a new epoch");
        let counts = |snapshot: &Value| snapshot["stock"].clone();
        assert_eq!(counts(&snapshot), counts(&self.snapshot));
        assert_eq!(state_of(&snapshot), state_of(&self.snapshot));
        for (part, expected) in [("running", json!(true)), ("title", json!("Autumn edit 秋日好物"))] {
            assert_eq!(snapshot["show"][part], expected);
        }
        assert_eq!((&snapshot["slow_mode"], &snapshot["pinned"]["product"]["id"]), (&json!(300), &json!(SCARF)));
        assert_eq!(snapshot["pinned_comment"]["text"], "欢迎 welcome");
        assert_eq!(snapshot["comments"], self.snapshot["comments"]);
        assert_eq!(products(server).await, self.products);
        let rooms = server.rest().get("/v1/rooms").send().await.ok();
        assert_eq!((&rooms["rooms"][0]["id"], &rooms["rooms"][0]["show"]["running"]), (&json!(ROOM), &json!(true)));

        let mut ws = server.ws(ROOM).await;
        let from = json!({
            "token": self.shop.viewer_token(server, "back"),
            "epoch": self.snapshot["epoch"], "seq": self.snapshot["seq"],
        });
        assert_eq!(ws.ok("join", from).await["resumed"], false, "the old epoch cannot be resumed");
        ws.until("the snapshot", |view| view.snapshots == 1).await;
        assert!(ws.view.seq >= self.snapshot["seq"].as_u64().expect("a number"), "numbers only rise");
    }

    async fn remembers_purchases(&self, server: &Server) {
        let buyer = self.shop.viewer_token(server, "buyer");
        let get = |path: String| server.rest().get(&path).token(&buyer).send();
        assert_eq!(get(format!("/v1/holds/{}", hold_id_of(&self.hold))).await.ok()["hold"], self.hold);
        assert_eq!(get(format!("/v1/orders/{}", hold_id_of(&self.order))).await.ok()["order"], self.order);
        assert_eq!(self.shop.orders(server, "buyer").await, vec![self.order.clone()]);

        let again = hold(server, &self.shop, "hold", CORAL).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
        assert_eq!(again.json()["hold"], self.hold, "the key has the same answer");
        assert_eq!(hold(server, &self.shop, "hold", TAN).await.problem(), "key_reused");

        let before = messages(server, &self.shop).await;
        assert_eq!(before, self.messages, "private messages can be read again");
        let last = before.as_array().and_then(|all| all.last()).expect("there were messages")["n"].clone();
        let cancelled = format!("/v1/holds/{}/cancel", hold_id_of(&self.hold));
        server.rest().post(&cancelled).token(&buyer).send().await.ok();
        let after = get(format!("/v1/me/messages?after={last}")).await.ok();
        let [message] = after["messages"].as_array().expect("messages").as_slice() else { panic!("one more: {after}") };
        assert_eq!(message["type"], "hold.cancelled");
        assert_eq!(message["n"].as_u64(), last.as_u64().map(|n| n + 1), "the numbering goes on");
    }

    async fn remembers_people(&self, server: &Server) {
        let mut loud = joined(server, &self.shop.viewer_token(server, "loud")).await;
        assert_eq!(who(&mut loud).await, self.muted, "a person is the same after a restart");
        assert_eq!(loud.refused("comment", json!({ "text": "hello?" })).await, "muted");
        let mut rude = server.ws(ROOM).await;
        let token = self.shop.viewer_token(server, "rude");
        assert_eq!(rude.refused("join", json!({ "token": token })).await, "kicked");
        assert_eq!(rude.close_code().await, 3501);

        self.shop.end_show(server).await;
        let mut rude = joined(server, &token).await;
        assert_eq!(who(&mut rude).await, self.kicked, "a kick ends with the show");
    }
}

async fn joined(server: &Server, token: &str) -> Ws {
    let mut ws = server.ws(ROOM).await;
    ws.join(token).await;
    ws
}

/// Asks for the person's public name: it is in the answer to a join.
async fn who(ws: &mut Ws) -> String {
    let joined = ws.heard.iter().find_map(|message| message["ok"]["who"].as_str());
    joined.expect("the answer to a join says who").to_owned()
}

async fn hold(server: &Server, shop: &Shop, key: &str, sku: &str) -> crate::support::rest::Answer {
    let buyer = shop.viewer_token(server, "buyer");
    let body = json!({ "sku": sku, "quantity": 1 });
    server.rest().post("/v1/holds").token(&buyer).key(key).json(&body).send().await
}

async fn products(server: &Server) -> Vec<Value> {
    let mut products = Vec::new();
    for id in [SCARF, TOTE] {
        let mut product = server.rest().get(&format!("/v1/products/{id}")).send().await.ok();
        product.as_object_mut().expect("a product").remove("stock");
        products.push(product);
    }
    products
}

async fn messages(server: &Server, shop: &Shop) -> Value {
    let buyer = shop.viewer_token(server, "buyer");
    let messages = server.rest().get("/v1/me/messages").token(&buyer).send().await.ok()["messages"].clone();
    assert!(messages.as_array().is_some_and(|all| !all.is_empty()), "a buyer is told what happens: {messages}");
    messages
}

fn hold_id(answer: &Value) -> String {
    hold_id_of(&answer["hold"])
}

fn hold_id_of(of: &Value) -> String {
    of["id"].as_str().unwrap_or_else(|| panic!("an id in {of}")).to_owned()
}
