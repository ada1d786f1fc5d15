//! WHIP (RFC 9725) and WHEP as any encoder or player sees them.

use hyper::Method;

use super::{ROOM, Studio};
use crate::support::{
    offer::{encoder, player, stranger},
    rest::Answer,
};

const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const CANDIDATE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host\r\n";

#[tokio::test]
async fn an_offer_without_candidates_is_answered_with_a_session() {
    let studio = Studio::open().await;
    for (kind, offer) in [("whip", encoder()), ("whep", player())] {
        let made = studio.post(kind, &offer).await;
        assert_eq!((made.status, made.header("content-type")), (201, Some("application/sdp")), "{}", made.text());
        let location = made.header("location").expect("a session has an address");
        assert!(location.starts_with(&format!("/{kind}/{ROOM}/")), "{location}");
        let etag = made.header("etag").expect("a session has an ETag");
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "a strong ETag: {etag}");
        assert_eq!(made.header("accept-patch"), Some(FRAGMENT));
        is_an_answer(&made.text(), kind);
    }
}

#[tokio::test]
async fn an_answer_names_what_both_sides_can_do_and_nothing_else() {
    let studio = Studio::open().await;
    let made = studio.post("whip", &stranger()).await;
    assert_eq!((made.status, made.problem().as_str()), (400, "bad_offer"), "no codec in common");
    assert_eq!(studio.shop.snapshot(&studio.server).await["media"]["live"], false);
}

#[tokio::test]
async fn asking_without_an_offer_says_what_may_be_done() {
    let studio = Studio::open().await;
    let rest = studio.server.rest();
    for kind in ["whip", "whep"] {
        let endpoint = format!("/{kind}/{ROOM}");
        assert!((200..300).contains(&rest.get(&endpoint).send().await.status));
        let options = rest.call(Method::OPTIONS, &endpoint).send().await;
        assert!((200..300).contains(&options.status));
        assert_eq!(options.header("accept-post"), Some("application/sdp"));
        assert!(options.header("allow").is_some_and(|allow| allow.contains("POST")));
    }
}

#[tokio::test]
async fn a_patch_needs_the_sessions_etag_and_never_restarts_ice() {
    let studio = Studio::open().await;
    for (kind, offer) in [("whip", encoder()), ("whep", player())] {
        let made = studio.post(kind, &offer).await;
        let (location, etag) =
            (made.header("location").expect("an address").to_owned(), made.header("etag").expect("an ETag").to_owned());
        let patch = |tag: Option<&str>, content_type: &str| {
            let call = studio.server.rest().call(Method::PATCH, &location).token(&studio.token(kind));
            let call = match tag {
                Some(tag) => call.header("if-match", tag),
                None => call,
            };
            call.body(content_type, CANDIDATE).send()
        };
        for (tag, content_type, status) in [
            (Some(etag.as_str()), FRAGMENT, 204),
            (None, FRAGMENT, 428),
            (Some("\"another\""), FRAGMENT, 412),
            (Some("*"), FRAGMENT, 422),
            (Some(etag.as_str()), "application/sdp", 415),
        ] {
            let answer = patch(tag, content_type).await;
            assert_eq!(answer.status, status, "{kind} {tag:?} {content_type}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn delete_ends_a_session_once() {
    let studio = Studio::open().await;
    for (kind, offer) in [("whip", encoder()), ("whep", player())] {
        let made = studio.post(kind, &offer).await;
        let location = made.header("location").expect("an address").to_owned();
        let delete = || studio.server.rest().delete(&location).token(&studio.token(kind)).send();
        assert!((200..300).contains(&delete().await.status));
        let again = delete().await;
        assert_eq!((again.status, again.problem().as_str()), (404, "not_found"), "{kind}");
    }
}

impl Studio {
    fn token(&self, kind: &str) -> String {
        match kind {
            "whip" => self.shop.anchor_token(&self.server),
            _ => self.shop.viewer_token(&self.server, "player"),
        }
    }

    async fn post(&self, kind: &str, offer: &str) -> Answer {
        let call = self.server.rest().post(&format!("/{kind}/{ROOM}")).token(&self.token(kind));
        call.body("application/sdp", offer.to_owned()).send().await
    }
}

/// ICE-lite, passive or not, one fingerprint, our candidates, a section for each of the offer's.
fn is_an_answer(sdp: &str, kind: &str) {
    for line in ["a=ice-lite", "a=fingerprint:sha-256 ", "a=candidate:", "a=setup:passive", "a=mid:0", "a=mid:1"] {
        assert!(sdp.lines().any(|found| found.starts_with(line)), "{line} in\n{sdp}");
    }
    let direction = if kind == "whip" { "a=recvonly" } else { "a=sendonly" };
    assert_eq!(sdp.lines().filter(|line| *line == direction).count(), 2, "{direction} in\n{sdp}");
    assert_eq!(sdp.lines().filter(|line| line.starts_with("m=")).count(), 2, "{sdp}");
    assert!(sdp.contains("VP8/90000") && sdp.contains("opus/48000/2"), "{sdp}");
}
