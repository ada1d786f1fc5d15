//! Whoever begins with an H.264 stream can decode it: publishers that send their parameter sets in every way there is, over
//! a network that delays and repeats, and a viewer who begins anew at any moment.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{
    codec::{Codec, Kind, Profile},
    extension::Extensions,
    forward::{Leg, Stamp, Tap},
    intake::Intake,
    negotiate::{Choice, Incoming, Outgoing},
    offer::Announced,
    open::Opened,
    ring::{Arrival, Ring},
    track::Packet,
};

const CODEC: Codec = Codec::H264(Profile::ConstrainedBaseline);
const FRAMES: u32 = 300;
/// No packet is so late that the next keyframe is here before it.
const DELAY_MAX: usize = 12;
const FRAMES_BETWEEN_KEYFRAMES: std::ops::Range<u32> = 12..30;

/// How a keyframe and its parameter sets are sent.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Without,
    BehindDelimiter,
    Aggregated,
    Apart,
    /// Apart, with a timestamp of their own.
    Before,
    InOne,
}

/// What the publisher puts on the wire, in order; the content of sets and pictures is a version.
struct Encoder {
    rng: SmallRng,
    version: u8,
    index: u64,
    wire: Vec<Opened>,
}

fn sequence(version: u8) -> Vec<u8> {
    vec![0x67, 66, 0, 30, 0x80, version]
}

fn picture(version: u8) -> Vec<u8> {
    vec![0x68, 0xC0, version]
}

/// A slice that refers to the sets of id 0.
fn slice(version: u8) -> Vec<u8> {
    vec![0x65, 0x88, 0x80, version, 1, 2, 3]
}

fn aggregate(units: &[&[u8]]) -> Vec<u8> {
    let framed = units.iter().flat_map(|unit| [&(unit.len() as u16).to_be_bytes()[..], unit].concat());
    [0x78].into_iter().chain(framed).collect()
}

impl Encoder {
    fn send(&mut self, timestamp: u32, payload: Vec<u8>) {
        let opened = Opened {
            ssrc: 7,
            payload_type: 96,
            index: self.index,
            timestamp,
            marker: false,
            rid: None,
            repaired_rid: None,
            transport: None,
            payload: payload.into(),
        };
        self.index += 1;
        self.wire.push(opened);
    }

    /// True if the sets before the keyframe are new and have a timestamp of their own.
    fn keyframe(&mut self, timestamp: u32, is_first: bool) -> bool {
        use Sent::*;

        let mut way = [Without, BehindDelimiter, Aggregated, Apart, Before, InOne][self.rng.random_range(0..6)];
        if is_first && matches!(way, Without | BehindDelimiter) {
            way = Apart;
        }
        let is_new = !matches!(way, Without | BehindDelimiter) && self.rng.random_bool(0.5);
        self.version += u8::from(is_new);
        let (sequence, picture, slice) = (sequence(self.version), picture(self.version), slice(self.version));
        match way {
            Without => self.send(timestamp, slice),
            BehindDelimiter => {
                self.send(timestamp, vec![0x09, 0xF0]);
                self.send(timestamp, vec![0x06, 5]);
                self.send(timestamp, slice);
            }
            Aggregated => {
                self.send(timestamp, aggregate(&[&[0x09, 0xF0], &sequence, &picture]));
                // The first fragment of a slice, and the last.
                self.send(timestamp, [&[0x7C, 0x85], &slice[1..]].concat());
                self.send(timestamp, vec![0x7C, 0x45, 1, 2]);
            }
            Apart | Before => {
                let theirs = if way == Before { timestamp.wrapping_sub(10) } else { timestamp };
                self.send(theirs, sequence);
                self.send(theirs, picture);
                self.send(timestamp, slice);
            }
            InOne => self.send(timestamp, aggregate(&[&sequence, &picture, &slice])),
        }
        way == Before && is_new
    }

    fn frames(mut self) -> Vec<Opened> {
        let (mut delayed, mut next_key): (Vec<usize>, u32) = (Vec::new(), 0);
        for frame in 0..FRAMES {
            let timestamp = (frame * 3_000).wrapping_add(u32::MAX - 50_000);
            let first = self.wire.len();
            let mut is_fragile = false;
            if frame == next_key {
                is_fragile = self.keyframe(timestamp, frame == 0);
                next_key += self.rng.random_range(FRAMES_BETWEEN_KEYFRAMES);
            } else {
                (0..self.rng.random_range(1..3)).for_each(|_| self.send(timestamp, vec![0x41, 0x9A, 1]));
            }
            // New sets of another timestamp that come late are not waited for; see `Ring`.
            let may_be_late = !is_fragile && frame > 0;
            delayed.extend((first..self.wire.len()).map(|at| match may_be_late && self.rng.random_bool(0.1) {
                true => at + self.rng.random_range(1..DELAY_MAX),
                false => at,
            }));
        }
        let mut order: Vec<usize> = (0..self.wire.len()).collect();
        order.sort_by_key(|at| (delayed[*at], *at));
        order.into_iter().map(|at| self.wire[at].clone()).collect()
    }
}

/// A viewer, and everything that she was sent since she began last.
struct Viewer {
    leg: Leg,
    /// Under each number that was ever sent: timestamp and payload.
    sealed: HashMap<u64, (u32, Bytes)>,
    began: Option<u64>,
    newest: u64,
}

impl Viewer {
    fn new(seed: u64) -> Self {
        let choices = vec![Choice { codec: CODEC, payload_type: 96, rtx_payload_type: None }];
        let plan = Outgoing { kind: Kind::Video, choices, ssrc: 11, rtx_ssrc: 12, transport: None };
        Self { leg: Leg::new(plan, seed), sealed: HashMap::new(), began: None, newest: 0 }
    }

    fn begin(&mut self, ring: &Ring, now: Instant) -> bool {
        let tap = Tap { track: 0, codec: CODEC, ring, clock: None };
        let begins = self.leg.begin(&tap, None, now);
        if begins {
            self.began = None;
        }
        begins
    }

    fn gets(&mut self, stamp: &Stamp, packet: &Packet) {
        self.began.get_or_insert(stamp.index);
        let before = self.sealed.insert(stamp.index, (stamp.timestamp, packet.payload.clone()));
        assert!(before.is_none(), "number {} was used before", stamp.index);
        self.newest = self.newest.max(stamp.index);
    }

    fn serve(&mut self, ring: &Ring, late: Option<&Packet>, now: Instant) {
        if let Some(packet) = late
            && let Ok(stamp) = self.leg.late(packet, now)
        {
            self.gets(&stamp, packet);
        }
        while let Some((stamp, packet)) = self.leg.next(ring, now) {
            self.gets(&stamp, packet);
        }
    }

    /// A lost packet comes again as it was, whatever it was.
    fn loses(&mut self, index: u64, ring: &Ring) -> bool {
        self.leg.refill_resends();
        let Ok((stamp, packet)) = self.leg.resend(index as u16, |_| Some(ring)) else { return false };
        assert_eq!((stamp.index, &(stamp.timestamp, packet.payload.clone())), (index, &self.sealed[&index]));
        true
    }

    /// What a decoder that began where she did makes of it, up to the first packet that is missing: how many keyframes it
    /// decoded. Fails on one for which it has no sets, or others than that was encoded with.
    fn decoded(&self) -> usize {
        let (mut sets, mut count) = ([None, None], 0);
        for index in self.began.into_iter().flat_map(|began| began..=self.newest) {
            let Some((_, payload)) = self.sealed.get(&index) else { break };
            for unit in units(payload) {
                match unit[0] & 0x1F {
                    7 => sets[0] = Some(unit[5]),
                    8 => sets[1] = Some(unit[2]),
                    5 => {
                        assert_eq!(sets, [Some(unit[3]); 2], "a keyframe under number {index}");
                        count += 1;
                    }
                    _ => {}
                }
            }
        }
        count
    }
}

/// The units that begin in a payload, with their own headers.
fn units(payload: &[u8]) -> Vec<Vec<u8>> {
    match payload[0] & 0x1F {
        24 => {
            let (mut rest, mut units) = (&payload[1..], Vec::new());
            while let Some((length, tail)) = rest.split_first_chunk::<2>() {
                let (unit, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)));
                units.push(unit.to_vec());
                rest = tail;
            }
            units
        }
        28 if payload[1] & 0x80 != 0 => vec![[&[0x60 | payload[1] & 0x1F], &payload[2..]].concat()],
        28 => vec![],
        _ => vec![payload.to_vec()],
    }
}

fn intake() -> Intake {
    intake_with(Vec::new())
}

fn intake_with(sets: Vec<Bytes>) -> Intake {
    let agreed = Incoming {
        codec: CODEC,
        payload_type: 96,
        rtx_payload_type: None,
        announced: Announced::default(),
        nack: true,
        rid: None,
        sets,
        extensions: Extensions::default(),
    };
    Intake::new(vec![agreed], Arc::new(AtomicU64::new(1)), Instant::now())
}

#[test]
fn whoever_begins_has_the_sets_that_her_first_picture_needs() {
    let (mut began, mut decoded, mut resent) = (0, 0, 0);
    for seed in 0..400 {
        // The publisher's sequence numbers wrap on the way.
        let rng = SmallRng::seed_from_u64(seed);
        let encoder = Encoder { rng, version: 0, index: 2 * 65_536 - 40, wire: Vec::new() };
        let (mut rng, now) = (SmallRng::seed_from_u64(seed + 1_000_000), Instant::now());
        let (mut intake, mut ring, mut viewer) = (intake(), Ring::new(Kind::Video), Viewer::new(seed));
        for opened in encoder.frames() {
            let Ok(packet) = intake.receive(opened.clone(), now) else { panic!("it is new") };
            let arrival = ring.push(&packet);
            viewer.serve(&ring, Some(&packet).filter(|_| arrival == Arrival::Late), now);
            if rng.random_bool(0.1) {
                assert!(intake.receive(opened, now).is_err(), "repeated by the network");
            }
            if rng.random_bool(0.1) {
                decoded += viewer.decoded();
                began += usize::from(viewer.begin(&ring, now));
                viewer.serve(&ring, None, now);
            }
            if rng.random_bool(0.3) && viewer.newest > 0 {
                let index = viewer.newest.saturating_sub(rng.random_range(0..8));
                resent += usize::from(viewer.sealed.contains_key(&index) && viewer.loses(index, &ring));
            }
        }
        decoded += viewer.decoded();
    }
    println!("{began} beginnings, {decoded} keyframes decoded, {resent} packets sent again");
    assert!(began > 2_000 && decoded > 4_000 && resent > 2_000);
}

/// Numbers of one stream mean nothing in another.
#[test]
fn sets_of_another_stream_help_nobody() {
    let (mut intake, now) = (intake(), Instant::now());
    let mut receive = |ssrc, index, payload: Vec<u8>| {
        let (timestamp, payload) = (index as u32 * 3_000, payload.into());
        let opened = Opened {
            ssrc,
            payload_type: 96,
            index,
            timestamp,
            marker: true,
            rid: None,
            repaired_rid: None,
            transport: None,
            payload,
        };
        intake.receive(opened, now).unwrap()
    };
    receive(1, 70_000, aggregate(&[&sequence(1), &picture(1)]));
    let hers = receive(1, 70_001, slice(1));
    let sets = hers.sets.expect("they came before");
    assert_eq!(
        (&sets.payload[..], sets.timestamp, sets.marker),
        (&aggregate(&[&sequence(1), &picture(1)])[..], 210_003_000, false)
    );
    let other = receive(2, 90_000, slice(1));
    assert!(!other.starts_keyframe && other.sets.is_none());
}

#[test]
fn sets_of_the_offer_are_every_streams_own() {
    let offered = [sequence(1), picture(1)];
    let (mut intake, now) = (intake_with(offered.clone().map(Bytes::from).into()), Instant::now());
    for ssrc in [1, 2] {
        let opened = Opened {
            ssrc,
            payload_type: 96,
            index: 70_000,
            timestamp: 3_000,
            marker: true,
            rid: None,
            repaired_rid: None,
            transport: None,
            payload: slice(1).into(),
        };
        let packet = intake.receive(opened, now).unwrap();
        let sets = packet.sets.map(|sets| sets.payload.to_vec());
        assert_eq!((packet.starts_keyframe, sets), (true, Some(aggregate(&[&offered[0], &offered[1]]))));
    }
}
