//! Offers as text: what a player and an encoder without trickle and without candidates send.

const TRANSPORT: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:\
    01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF\r\n";

/// Wants VP8 and Opus.
pub fn player() -> String {
    offer("recvonly", "VP8/90000", "")
}

/// Sends VP8 and Opus, as OBS would.
pub fn encoder() -> String {
    offer("sendonly", "VP8/90000", "a=ssrc:70SECTION cname:encoder\r\n")
}

/// Has nothing that we can do.
pub fn stranger() -> String {
    offer("sendonly", "AV1/90000", "").replace("opus/48000/2", "L16/44100/2")
}

fn offer(direction: &str, video: &str, source: &str) -> String {
    let section = |mid: &str, media: &str, payload: &str, codec: &str| {
        format!(
            "m={media} 9 UDP/TLS/RTP/SAVPF {payload}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na={direction}\r\n\
             a=rtcp-mux\r\na=rtpmap:{payload} {codec}\r\n{}{TRANSPORT}",
            source.replace("SECTION", mid)
        )
    };
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n".to_owned()
        + &section("0", "audio", "111", "opus/48000/2")
        + &section("1", "video", "96", video)
}
