use proptest::prelude::*;

use super::*;
use crate::media::codec::Profile;

const FINGERPRINT: &str =
    "AB:CD:EF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:AB:CD:EF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC";

/// The head that browsers write.
fn head(mids: &str) -> String {
    format!("v=0\r\no=- 46117 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\na=msid-semantic: WMS\r\n")
}

fn transport_lines() -> String {
    format!(
        "c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\n\
         a=ice-options:trickle\r\na=fingerprint:sha-256 {FINGERPRINT}\r\na=setup:actpass\r\n"
    )
}

const TRANSPORT: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// A page with a camera, as Chromium offers it: every codec it has, retransmission, extensions, a channel.
fn chromium(direction: &str) -> String {
    let mut video = String::new();
    let feedback = |payload_type: u8| {
        ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"]
            .map(|kind| format!("a=rtcp-fb:{payload_type} {kind}\r\n"))
            .concat()
    };
    let codecs = [
        (96, "VP8/90000", ""),
        (102, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
        (104, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"),
        (106, "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        (39, "AV1/90000", "level-idx=5;profile=0;tier=0"),
        (98, "VP9/90000", "profile-id=0"),
    ];
    for (payload_type, rtpmap, fmtp) in codecs {
        video += &format!("a=rtpmap:{payload_type} {rtpmap}\r\n{}", feedback(payload_type));
        if !fmtp.is_empty() {
            video += &format!("a=fmtp:{payload_type} {fmtp}\r\n");
        }
        video +=
            &format!("a=rtpmap:{} rtx/90000\r\na=fmtp:{} apt={payload_type}\r\n", payload_type + 1, payload_type + 1);
    }
    let transport = transport_lines();
    head("0 1 2")
        + "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 104 105 106 107 39 40 98 99 45\r\n"
        + &transport
        + "a=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:toffset\r\n"
        + &format!("a=extmap:3 {TRANSPORT}\r\na={direction}\r\na=msid:- x\r\n")
        + "a=rtcp-mux\r\na=rtcp-rsize\r\n"
        + &video
        + "a=ssrc-group:FID 1111 2222\r\na=ssrc:1111 cname:c\r\na=ssrc:2222 cname:c\r\n"
        + "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8\r\n"
        + &transport
        + &format!(
            "a=mid:1\r\na={direction}\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n"
        )
        + "a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\n"
        + "a=ssrc:3333 cname:c\r\n"
        + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        + &transport
        + "a=mid:2\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
}

/// What Firefox does otherwise: credentials in the head, lower-case feedback for all types, both directions by default.
fn firefox() -> String {
    format!(
        "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 7 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
         a=fingerprint:sha-256 {FINGERPRINT}\r\na=group:BUNDLE 0 1\r\na=ice-options:trickle\r\na=msid-semantic:WMS *\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 109 9 0 8 101\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\na=fmtp:109 maxplaybackrate=48000;stereo=1\r\n\
         a=ice-pwd:0123456789abcdefghijklmn\r\na=ice-ufrag:abcd\r\na=mid:0\r\na=rtcp-mux\r\na=rtpmap:109 opus/48000/2\r\na=setup:actpass\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 120 124 126 127\r\nc=IN IP4 0.0.0.0\r\na=recvonly\r\n\
         a=fmtp:126 profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode=1\r\na=fmtp:124 apt=120\r\na=fmtp:127 apt=126\r\n\
         a=ice-pwd:0123456789abcdefghijklmn\r\na=ice-ufrag:abcd\r\na=mid:1\r\na=rtcp-fb:* nack\r\na=rtcp-fb:* nack pli\r\na=rtcp-mux\r\n\
         a=rtpmap:120 VP8/90000\r\na=rtpmap:124 rtx/90000\r\na=rtpmap:126 H264/90000\r\na=rtpmap:127 rtx/90000\r\na=setup:actpass\r\n"
    )
}

/// OBS: no candidates, no trickle, one codec each, no retransmission stream, credentials in the head.
fn obs() -> String {
    format!(
        "v=0\r\no=rtc 3767197920 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=group:LS 0 1\r\na=msid-semantic:WMS *\r\n\
         a=setup:actpass\r\na=ice-ufrag:jyzc\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=ice-options:trickle\r\na=fingerprint:sha-256 {FINGERPRINT}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendonly\r\na=ssrc:7001 cname:obs\r\na=rtcp-mux\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendonly\r\na=ssrc:7002 cname:obs\r\na=rtcp-mux\r\n\
         a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-remb\r\n\
         a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n"
    )
}

fn server() -> Server<'static> {
    static CANDIDATES: std::sync::OnceLock<Vec<SocketAddr>> = std::sync::OnceLock::new();
    let candidates =
        CANDIDATES.get_or_init(|| vec!["192.0.2.7:8081".parse().unwrap(), "[2001:db8::7]:8081".parse().unwrap()]);
    Server { ufrag: "ours", password: "our-password-of-24-bytes", fingerprint: FINGERPRINT, candidates }
}

fn published(offer: &str) -> Result<Agreed<Incoming>, Error> {
    publish(&Offer::parse(offer)?, &server())
}

fn watched(offer: &str) -> Result<Agreed<Outgoing>, Error> {
    watch(&Offer::parse(offer)?, &server())
}

fn refusal(offer: &str) -> String {
    match published(offer).map(|_| ()).unwrap_err() {
        Error::BadOffer(what) => what,
        other => other.to_string(),
    }
}

const CONSTRAINED: Codec = Codec::H264(Profile::ConstrainedBaseline);
const BASELINE: Codec = Codec::H264(Profile::Baseline);

#[test]
fn a_browsers_camera_is_taken_with_its_first_codec() {
    let agreed = published(&chromium("sendonly")).unwrap();
    let video = &agreed.streams[0];
    assert_eq!((video.codec, video.payload_type, video.rtx_payload_type), (Codec::Vp8, 96, Some(97)));
    assert_eq!(video.announced, Announced { media: Some(1111), rtx: Some(2222) });
    assert_eq!((agreed.streams[1].codec, agreed.streams[1].announced.media), (Codec::Opus, Some(3333)));
    assert!(video.nack && !agreed.streams[1].nack && agreed.channel);

    for line in [
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n",
        "a=recvonly\r\n",
        "a=rtcp-fb:96 goog-remb\r\n",
        "a=rtcp-fb:96 transport-cc\r\n",
        &format!("a=extmap:3 {TRANSPORT}\r\n"),
        "a=setup:passive\r\n",
    ] {
        assert!(agreed.sdp.contains(line), "{line}");
    }
    assert!(agreed.sdp.contains("a=group:BUNDLE 0 1 2\r\n") && agreed.sdp.contains("a=ice-lite\r\n"));
    assert_eq!(video.extensions.transport, Some(3));
    assert!(!agreed.sdp.contains("toffset"), "what we do not speak");
    let silent = published(&chromium("sendonly").replace("transport-cc", "x")).unwrap();
    assert_eq!(silent.streams[0].extensions.transport, None);
    assert!(!silent.sdp.contains("extmap"), "numbers on which nobody reports");
}

/// Chromium with three layers, as it writes them.
fn layered() -> String {
    let names = "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
                 a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                 a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n";
    let layers = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;~f\r\n";
    chromium("sendonly")
        .replacen("a=mid:0\r\n", &format!("a=mid:0\r\n{names}{layers}"), 1)
        .replace("a=ssrc-group:FID 1111 2222\r\na=ssrc:1111 cname:c\r\na=ssrc:2222 cname:c\r\n", "")
}

#[test]
fn layers_are_taken_by_their_names() {
    let agreed = published(&layered()).unwrap();
    let rids: Vec<_> = agreed.streams.iter().map(|stream| stream.rid.as_deref()).collect();
    assert_eq!(rids, [Some("q"), Some("h"), Some("f"), None], "three layers of the picture, and the sound");
    let extensions = agreed.streams[0].extensions;
    assert_eq!((extensions.rid, extensions.repaired_rid, extensions.transport), (Some(10), Some(11), Some(3)));
    for line in ["a=rid:q recv\r\n", "a=simulcast:recv q;h;f\r\n", "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp"] {
        assert!(agreed.sdp.contains(line), "{line}");
    }
}

#[test]
fn what_is_offered_as_layers_and_cannot_be_is_one_picture() {
    let names = |offer: &str| -> Vec<Option<String>> {
        published(offer).unwrap().streams.into_iter().map(|stream| stream.rid).collect()
    };
    let without_ids = layered().replace("rtp-stream-id", "x");
    assert_eq!(names(&without_ids), [None, None], "packets could not say which layer they are of");
    assert_eq!(names(&layered().replace("send q;h;~f", "send q;z")), [None, None], "one that is described");
    assert_eq!(names(&layered().replace("send q;h;~f", "recv q;h;f")), [None, None]);
    let many = layered().replace("a=simulcast:send q;h;~f", "a=rid:a send\r\na=simulcast:send q;h;f;a;q");
    assert_eq!(names(&many).len(), 4, "no more than three");
}

#[test]
fn every_candidate_is_in_the_answer() {
    let sdp = published(&chromium("sendrecv")).unwrap().sdp;
    assert!(sdp.contains(" 192.0.2.7 8081 typ host\r\n") && sdp.contains(" 2001:db8::7 8081 typ host\r\n"));
    assert!(sdp.contains("a=end-of-candidates\r\n"));
}

#[test]
fn a_viewer_is_offered_every_codec_both_sides_know() {
    let agreed = watched(&chromium("recvonly")).unwrap();
    let video: Vec<_> =
        agreed.streams[0].choices.iter().map(|c| (c.codec, c.payload_type, c.rtx_payload_type)).collect();
    assert_eq!(
        video,
        [(Codec::Vp8, 96, Some(97)), (BASELINE, 102, Some(103)), (CONSTRAINED, 106, Some(107))],
        "H.264 with packetization-mode 1 only"
    );
    assert!(agreed.sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 106 107\r\n"));
    assert!(agreed.sdp.contains("a=sendonly\r\n") && !agreed.sdp.contains("goog-remb"));
    assert_eq!(agreed.streams[0].transport, Some(3));
    assert!(
        agreed.sdp.contains("a=rtcp-fb:96 transport-cc\r\n") && agreed.sdp.contains(&format!("a=extmap:3 {TRANSPORT}"))
    );
    let (ssrc, rtx) = (agreed.streams[0].ssrc, agreed.streams[0].rtx_ssrc);
    assert!(agreed.sdp.contains(&format!("a=ssrc-group:FID {ssrc} {rtx}\r\n")));
    let mut ssrcs = vec![ssrc, rtx, agreed.streams[1].ssrc, agreed.streams[1].rtx_ssrc];
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), 4);
}

#[test]
fn firefox_can_watch() {
    let agreed = watched(&firefox()).unwrap();
    assert_eq!(agreed.streams.iter().map(|s| s.kind).collect::<Vec<_>>(), [Kind::Audio, Kind::Video]);
    let video: Vec<_> = agreed.streams[1].choices.iter().map(|c| (c.codec, c.rtx_payload_type)).collect();
    assert_eq!(video, [(Codec::Vp8, Some(124)), (CONSTRAINED, Some(127))]);
    assert!(!agreed.channel && agreed.sdp.contains("a=rtcp-fb:120 nack pli\r\n"));
}

#[test]
fn obs_can_publish() {
    let agreed = published(&obs()).unwrap();
    assert_eq!(agreed.streams.iter().map(|s| s.codec).collect::<Vec<_>>(), [Codec::Opus, CONSTRAINED]);
    assert_eq!(agreed.streams[1].rtx_payload_type, None);
    assert_eq!(agreed.streams[1].announced.media, Some(7002));
}

#[test]
fn parameter_sets_of_an_offer_are_taken() {
    assert!(published(&obs()).unwrap().streams[1].sets.is_empty());
    let offer =
        obs().replace(";packetization-mode=1", ";packetization-mode=1;sprop-parameter-sets=Z0IAHoAB,aMAB,!,Zw==");
    let agreed = published(&offer).unwrap();
    assert!(
        agreed.sdp.contains("a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n")
    );
    let sets = &agreed.streams[1].sets[..];
    assert_eq!(sets, [&[0x67, 66, 0, 30, 0x80, 1][..], &[0x68, 0xC0, 1], &[0x67]]);
}

#[test]
fn lines_may_end_in_a_bare_newline() {
    assert!(published(&obs().replace("\r\n", "\n")).is_ok());
}

#[test]
fn sections_that_are_not_served_are_rejected_one_by_one() {
    let second_video = chromium("recvonly").replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1 2 3")
        + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
        + &transport_lines()
        + "a=mid:3\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";
    let sdp = watched(&second_video).unwrap().sdp;
    assert!(sdp.contains("m=video 0 UDP/TLS/RTP/SAVPF 96\r\n") && sdp.contains("a=group:BUNDLE 0 1 2\r\n"));
    assert!(refusal(&second_video.replace("recvonly", "sendonly")).contains("more than one video track"));
}

#[test]
fn an_offer_that_cannot_work_is_refused_with_its_reason() {
    let good = chromium("sendonly");
    assert!(refusal("hello").contains("not a session description"));
    assert!(refusal("").contains("not a session description") || refusal("").contains("no media"));
    assert!(refusal(&head("0")).contains("no media section"));
    assert!(refusal(&good.replace("BUNDLE 0 1 2", "BUNDLE 0")).contains("BUNDLE"));
    assert!(refusal(&good.replace("a=rtcp-mux\r\n", "")).contains("rtcp-mux"));
    assert!(refusal(&good.replace("setup:actpass", "setup:passive")).contains("passive"));
    assert!(refusal(&good.replace("sha-256", "sha-1")).contains("fingerprint"));
    assert!(refusal(&good.replace("AB:CD", "AB:XX")).contains("fingerprint"));
    assert!(refusal(&good.replacen("AB:CD", "AB:CE", 1)).contains("two"));
    assert!(refusal(&good.replace("a=ice-pwd", "a=x-pwd")).contains("ICE"));
    assert!(refusal(&good.replace("sendonly", "recvonly")).contains("sends neither"));
    let other_codecs = good.replace("VP8/", "VP7/").replace("H264/", "H263/").replace("opus/", "speex/");
    assert!(matches!(published(&other_codecs), Err(Error::NoCommonCodec)));
    let too_many = good.clone() + &"m=video 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:9\r\n".repeat(20);
    assert!(refusal(&too_many).contains("more than 16"));
}

#[test]
fn a_refusal_never_repeats_the_offer() {
    let password = "0123456789abcdefghijklmn";
    for broken in [chromium("sendonly").replace("a=ice-pwd:", "a ice-pwd:"), obs().replace("t=0 0\r\n", "")] {
        assert!(!refusal(&broken).contains(password));
    }
}

#[test]
fn a_channel_alone_is_enough_to_watch() {
    let offer = head("0")
        + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        + &transport_lines()
        + "a=mid:0\r\na=sctp-port:5000\r\n";
    let agreed = watched(&offer).unwrap();
    assert!(agreed.channel && agreed.streams.is_empty());
    assert!(agreed.sdp.contains("a=sctp-port:5000\r\n") && agreed.sdp.contains("a=max-message-size:65536\r\n"));
}

#[test]
fn an_answer_can_be_read_again() {
    for sdp in [watched(&chromium("recvonly")).unwrap().sdp, published(&obs()).unwrap().sdp] {
        let session = SessionDescription::unmarshal(&mut std::io::Cursor::new(sdp.as_bytes())).unwrap();
        assert!(session.media_descriptions.iter().all(|media| media.has_attribute("mid")));
    }
}

#[test]
fn a_fragment_is_checked_before_it_is_forgotten() {
    let check = |fragment: &str| crate::media::offer::check_fragment(fragment, "abcd");
    let candidate = "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
    assert!(
        check(&format!(
            "a=ice-ufrag:abcd\r\na=ice-pwd:x\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n{candidate}\r\n"
        ))
        .is_ok()
    );
    assert!(check("a=end-of-candidates\r\n").is_ok());
    assert!(check(candidate.trim_start_matches("a=")).is_ok(), "as a browser's event has it");
    for bad in ["", "hello", "x=1", "a=ice-ufrag:other", "a=candidate:1 1 udp", "candidate:1 1"] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Mutated offers are answered or refused; nothing panics.
    #[test]
    fn no_offer_panics(
        which in 0usize..4,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), "[ -~\r\n]{0,6}", 0usize..40), 1..6),
    ) {
        let mut offer: Vec<char> = [chromium("sendrecv"), firefox(), obs(), layered()][which].chars().collect();
        for (place, text, cut) in edits {
            let at = place.index(offer.len().max(1)).min(offer.len());
            let end = (at + cut).min(offer.len());
            offer.splice(at..end, text.chars());
        }
        let offer: String = offer.into_iter().collect();
        let _ = published(&offer);
        let _ = watched(&offer);
        let _ = crate::media::offer::check_fragment(&offer, "abcd");
    }

    #[test]
    fn no_text_panics(offer in "(v=0\r\n)?\\PC{0,200}") {
        let _ = published(&offer);
        let _ = watched(&offer);
    }
}
