//! Bounds on peers: those that never come, and those of one address.

use crate::support::{
    offer::player,
    server::Plan,
    shop::Shop,
    wait::{DEADLINE, wait_until},
};

#[tokio::test]
async fn a_peer_that_no_check_comes_from_is_forgotten() {
    let server = Plan::default().set("MEDIA__ICE_SECONDS", "1").start().await;
    let shop = Shop::open(&server, super::ROOM).await;
    let token = shop.viewer_token(&server, "silent");
    let path = format!("/whep/{}", super::ROOM);
    let made = server.rest().post(&path).token(&token).body("application/sdp", player()).send().await;
    assert_eq!(made.status, 201, "{}", made.text());
    let session = made.header("location").expect("a session").to_owned();

    let admin = server.tokens.admin();
    let started = std::time::Instant::now();
    wait_until("the peer to be gone", DEADLINE, async || {
        let metrics = server.rest().get("/metrics").token(&admin).send().await.text();
        metrics.contains("maishou_peers 0\n").then_some(())
    })
    .await;
    assert!(started.elapsed().as_secs_f64() > 0.5, "it had its time");
    wait_until("the session to be gone", DEADLINE, async || {
        (server.rest().delete(&session).token(&token).send().await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_has_its_share_of_video_sessions_and_gets_places_back() {
    let server = Plan::default().set("LIMITS__VIDEOS_PER_ADDRESS", "2").start().await;
    let shop = Shop::open(&server, super::ROOM).await;
    let path = format!("/whep/{}", super::ROOM);
    let watch = async |sub: &str| {
        let token = shop.viewer_token(&server, sub);
        server.rest().post(&path).token(&token).body("application/sdp", player()).send().await
    };
    let (first, second) = (watch("one").await, watch("two").await);
    assert_eq!((first.status, second.status), (201, 201));
    let refused = watch("three").await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate_limited"));
    assert!(refused.header("retry-after").is_some(), "and says when to come again");

    let location = first.header("location").expect("a session");
    let token = shop.viewer_token(&server, "one");
    assert_eq!(server.rest().delete(location).token(&token).send().await.status, 200);
    assert_eq!(watch("three").await.status, 201, "a place was given back");
}
