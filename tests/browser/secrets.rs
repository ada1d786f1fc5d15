//! A whole show with the log at its most talkative: nothing in it that a reader of logs must not know.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    stage::{ROOM, Stage, buy_pinned, comment, go_live, picture_runs, shows_card, shows_comment, state_is},
    talk::NO_WEBSOCKET,
};
use crate::support::{
    chrome::Habits,
    page::Page,
    server::{Plan, Server},
    shop::TOTE,
    wait::{DEADLINE, within},
};

/// Names that no log line has by chance.
const ALICE: &str = "zephyrine";
const BOB: &str = "quillon";
const SAID: [&str; 2] = ["a marmalade sentence", "橘子味的句子"];

#[tokio::test]
async fn the_log_of_a_whole_show_holds_no_token_password_comment_or_name() {
    let plan = Plan::default().set("LOG__LEVEL", "debug");
    let mut stage = Stage::open_with(Habits::default(), plan).await;
    let mut secrets = a_whole_show(&stage).await;
    secrets.extend(wrong_tokens(&stage.server).await);
    secrets.extend(events_by_address(&stage).await);
    secrets.extend([&stage.server.secret, ALICE, BOB, SAID[0], SAID[1]].map(str::to_owned));
    stage.server.stop().await;

    let log = stage.server.log();
    assert!(log.lines().filter(|line| line.contains("DEBUG")).count() > 10, "the log is talkative:\n{log}");
    assert!(log.contains(ROOM), "the log speaks of this room");
    // Every token begins with {"typ" or {"alg" in base64.
    assert!(!log.contains("eyJ"), "a token is in the log:\n{}", around(&log, "eyJ"));
    let lower = log.to_lowercase();
    for secret in secrets {
        assert!(secret.len() > 6, "{secret:?} is looked for");
        assert!(!lower.contains(&secret.to_lowercase()), "{secret:?} is in the log:\n{}", around(&log, &secret));
    }
}

/// Picture, WebSocket, data channel, comments, an order; returns what must stay unsaid.
async fn a_whole_show(stage: &Stage) -> Vec<String> {
    let studio = stage.studio().await;
    go_live(&studio).await;
    let alice = stage.watch(ALICE).await;
    picture_runs(&alice, 10).await;
    let bob = stage.watch_prepared(BOB, NO_WEBSOCKET).await;
    bob.wait_for(&state_is("transport", "channel")).await;

    comment(&alice, SAID[0]).await;
    bob.wait_for(&shows_comment(SAID[0])).await;
    comment(&bob, SAID[1]).await;
    studio.wait_for(&shows_comment(SAID[1])).await;
    stage.shop.pin(&stage.server, TOTE).await;
    alice.wait_for(&shows_card("Leather tote")).await;
    buy_pinned(&alice).await;

    let mut secrets = vec![];
    for page in [&studio, &alice, &bob] {
        secrets.extend(ice_passwords(page).await);
    }
    secrets
}

/// The passwords of both sides of the page's connection.
async fn ice_passwords(page: &Page) -> Vec<String> {
    const READ: &str = "[window.maishou.pc.localDescription, window.maishou.pc.remoteDescription]
        .flatMap(({ sdp }) => [...sdp.matchAll(/a=ice-pwd:(\\S+)/g)].map(([, password]) => password))";
    let passwords: Vec<String> = page.eval(READ).await;
    assert!(passwords.len() >= 2, "{passwords:?}");
    passwords
}

/// What is refused is not quoted either.
async fn wrong_tokens(server: &Server) -> Vec<String> {
    let wrong =
        [server.tokens.forged(ROOM, ALICE), server.tokens.expired(ROOM, ALICE), server.tokens.unsigned(ROOM, BOB)];
    for token in &wrong {
        assert_eq!(server.rest().get("/v1/orders").token(token).send().await.problem(), "unauthorized");
        let mut socket = server.ws(ROOM).await;
        socket.send_text(&serde_json::json!({ "id": 1, "join": { "token": token } }).to_string()).await;
        assert_eq!(socket.close_code().await, 3500);
    }
    wrong.to_vec()
}

/// The one place where a token stands in an address: server-sent events.
async fn events_by_address(stage: &Stage) -> Vec<String> {
    let token = stage.shop.viewer_token(&stage.server, ALICE);
    let mut socket = TcpStream::connect(stage.server.http).await.expect("the server accepts");
    let request = format!("GET /v1/rooms/{ROOM}/events?token={token} HTTP/1.1\r\nHost: {}\r\n\r\n", stage.server.http);
    socket.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut heard = vec![];
    within("the snapshot by server-sent events", DEADLINE, async {
        while !String::from_utf8_lossy(&heard).contains("\"snapshot\"") {
            assert!(socket.read_buf(&mut heard).await.expect("bytes") > 0, "{}", String::from_utf8_lossy(&heard));
        }
    })
    .await;
    vec![token]
}

fn around(log: &str, secret: &str) -> String {
    let lines = log.lines().filter(|line| line.to_lowercase().contains(&secret.to_lowercase()));
    lines.take(3).collect::<Vec<_>>().join("\n")
}
