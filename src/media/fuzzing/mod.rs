//! Doors for the fuzzer: each takes bytes from anybody and gives them to one part of the media server.
//!
//! What a target owns is a place where strangers' bytes are first looked at. Nothing here is part of the server: the
//! module is built for tests and for the fuzz targets beside the integration tests.

mod channel;
mod seeds;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::{
    bandwidth::{Bandwidth, Limits},
    dtls::Identity,
    h264::Sets,
    negotiate::{self, Server},
    offer::{self, Offer},
    stun::Request,
    vp8::{Descriptor, Pictures, Shift},
};

/// One target: its name, what it does with an input, and inputs to begin with.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 6] = [
    Target { name: "worker", run: worker::run, seeds: seeds::worker },
    Target { name: "stun", run: stun, seeds: seeds::stun },
    Target { name: "payload", run: payload, seeds: seeds::payload },
    Target { name: "sdp", run: sdp, seeds: seeds::sdp },
    Target { name: "channel", run: channel::run, seeds: seeds::channel },
    Target { name: "feedback", run: feedback, seeds: seeds::feedback },
];

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    (target.run)(data);
}

/// Making a certificate costs more than most inputs.
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::make().expect("a certificate"));

/// The first fragment of an H.264 picture that needs no other.
const IDR: &[u8] = &[0x7C, 0x85, 0x88, 0x84, 0x00];
const PASSWORD: &str = "a password of 24 letters";

/// A connectivity check, as far as one gets without knowing the password.
fn stun(data: &[u8]) {
    let Some(mut request) = Request::parse(data) else { return };
    let crypto = IDENTITY.provider.crypto();
    let _ = request.is_authentic(PASSWORD, crypto);
    let answer = request.answer("[2001:db8::1]:4000".parse().expect("an address"), PASSWORD, crypto);
    assert!(answer.is_some_and(|(answer, _)| answer.len() <= 200), "no answer is longer than its question may be");
}

/// A payload as H.264 that brings parameter sets, and a VP8 descriptor that is written again.
fn payload(data: &[u8]) {
    let mut sets = Sets::announced(&[Bytes::copy_from_slice(data)]);
    for (number, payload) in [(1, data), (3, data), (2, data), (3, IDR)] {
        let start = sets.take(number, payload);
        assert!(start.sets.is_none_or(|sets| sets.len() <= 1_100), "sets fit into a packet");
    }
    let Some(descriptor) = Descriptor::read(data) else { return };
    let _ = (descriptor.starts_keyframe(data), descriptor.height(data));
    let starts = descriptor.starts_keyframe(data);
    let (descriptor, wide) = Pictures::default().widen(Bytes::copy_from_slice(data));
    let descriptor = descriptor.expect("it was one before");
    assert_eq!(Some(descriptor), Descriptor::read(&wide));
    let shift = Shift::behind(Shift::default().moved(&descriptor), &descriptor);
    let mut written = wide.to_vec();
    shift.apply(&descriptor, &mut written);
    assert_eq!(written.len(), wide.len());
    let again = Descriptor::read(&written).expect("a descriptor that was rewritten is one");
    assert_eq!((again.starts_keyframe(&written), descriptor.starts_keyframe(&wide)), (starts, starts));
}

/// An offer from either side, and a fragment of one.
fn sdp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = offer::check_fragment(text, "abcd");
    let Ok(offer) = Offer::parse(text) else { return };
    let candidates = ["127.0.0.1:8081".parse().expect("an address")];
    let server =
        Server { ufrag: "ours", password: PASSWORD, fingerprint: &IDENTITY.fingerprint, candidates: &candidates };
    let published = negotiate::publish(&offer, &server).map(|agreed| agreed.sdp);
    let watched = negotiate::watch(&offer, &server).map(|agreed| agreed.sdp);
    for answer in [published, watched].into_iter().flatten() {
        let read = sdp::SessionDescription::unmarshal(&mut std::io::Cursor::new(answer.as_bytes()));
        let read = read.unwrap_or_else(|error| panic!("an answer that is no SDP ({error}):\n{answer}"));
        assert_eq!(read.media_descriptions.len(), offer.sections.len(), "a section for each that was offered");
    }
}

/// Reports on what was sent, one behind the other: the first byte of each says how many packets went out before.
fn feedback(mut data: &[u8]) {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(Limits::default(), start);
    for round in 1u32.. {
        let Some((packets, report)) = chunk(&mut data) else { return };
        let now = start + Duration::from_millis(100) * round;
        for _ in 0..packets {
            bandwidth.sent(1_200, now);
        }
        let _ = bandwidth.probe(2_500_000, now);
        let reports = rtcp::packet::unmarshal(&mut &report[..]).unwrap_or_default();
        for report in reports.iter().filter_map(|report| report.as_any().downcast_ref::<TransportLayerCc>()) {
            bandwidth.feedback(report, now + Duration::from_millis(40));
        }
        bandwidth.turn(now);
        let limits = Limits::default();
        assert!((limits.min_bps..=limits.max_bps).contains(&bandwidth.estimate()));
    }
}

/// The next piece of an input that is several things: a byte that says what, two for the length, and the bytes.
fn chunk<'a>(data: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[what, high, low], rest) = data.split_first_chunk::<3>()?;
    let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let (bytes, rest) = rest.split_at(len);
    *data = rest;
    Some((what, bytes))
}

/// The other way round.
fn piece(what: u8, bytes: &[u8]) -> Vec<u8> {
    [&[what][..], &(bytes.len() as u16).to_be_bytes(), bytes].concat()
}
