use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::codec::Profile;

const VP8_KEY: &[u8] = &[0x10, 0x00];
const VP8_DELTA: &[u8] = &[0x10, 0x01];
/// Timestamps of two frames that follow each other.
const FRAME: u32 = 3_000;

fn plan(choices: &[(Codec, u8, Option<u8>)]) -> Outgoing {
    let choice = |(codec, payload_type, rtx_payload_type): &(Codec, u8, Option<u8>)| Choice {
        codec: *codec,
        payload_type: *payload_type,
        rtx_payload_type: *rtx_payload_type,
    };
    let choices: Vec<Choice> = choices.iter().map(choice).collect();
    Outgoing { kind: choices[0].codec.kind(), choices, ssrc: 11, rtx_ssrc: 12, transport: Some(5) }
}

fn leg() -> Leg {
    Leg::new(plan(&[(Codec::Vp8, 96, Some(97))]), 77)
}

fn packet(stream: u64, number: u64, timestamp: u32, payload: &'static [u8]) -> Packet {
    Packet {
        track: 0,
        stream,
        number,
        timestamp,
        marker: true,
        starts_keyframe: vp8::Descriptor::read(payload).is_some_and(|found| found.starts_keyframe(payload)),
        sets: None,
        height: None,
        vp8: vp8::Descriptor::read(payload),
        payload: Bytes::from_static(payload),
    }
}

fn tap(ring: &Ring) -> Tap<'_> {
    Tap { track: 0, codec: Codec::Vp8, ring, clock: None }
}

/// A ring with a keyframe at `first` and so many frames behind it.
fn stream(name: u64, first: u64, frames: u64) -> Ring {
    let mut ring = Ring::new(Kind::Video);
    for number in first..=first + frames {
        let payload = if number == first { VP8_KEY } else { VP8_DELTA };
        ring.push(&packet(name, number, (number - first) as u32 * FRAME, payload));
    }
    ring
}

fn all(leg: &mut Leg, ring: &Ring, now: Instant) -> Vec<Stamp> {
    std::iter::from_fn(|| leg.next(ring, now).map(|(stamp, _)| stamp)).collect()
}

#[test]
fn video_begins_at_the_newest_keyframe_and_sound_at_once() {
    let (mut video, now, mut ring) = (leg(), Instant::now(), Ring::new(Kind::Video));
    ring.push(&packet(1, 10, 0, VP8_DELTA));
    assert!(!video.begin(&tap(&ring), None, now), "nothing to begin with");
    ring.push(&packet(1, 11, FRAME, VP8_KEY));
    ring.push(&packet(1, 12, 2 * FRAME, VP8_DELTA));
    assert!(video.begin(&tap(&ring), None, now));
    assert_eq!(all(&mut video, &ring, now).len(), 2, "the frame before the keyframe is left out");
    assert_eq!(video.late(&packet(1, 10, 0, VP8_DELTA), now), Err(Dropped::TooOld));

    let mut sound = Leg::new(plan(&[(Codec::Opus, 111, None)]), 77);
    let mut ring = Ring::new(Kind::Audio);
    for number in 5..8 {
        ring.push(&Packet { starts_keyframe: true, vp8: None, ..packet(1, number, number as u32 * 960, b"x") });
    }
    assert!(sound.begin(&Tap { codec: Codec::Opus, ..tap(&ring) }, None, now));
    assert_eq!(all(&mut sound, &ring, now).len(), 1, "the newest, and what follows");
}

#[test]
fn what_came_before_a_beginning_is_pressed_together_before_the_present() {
    let (mut leg, now, mut ring) = (leg(), Instant::now(), stream(1, 500, 60));
    leg.begin(&tap(&ring), None, now);
    let stamps = all(&mut leg, &ring, now);
    assert_eq!(stamps.len(), 61);
    assert!(stamps.windows(2).all(|pair| pair[1].index == pair[0].index + 1));
    let steps: Vec<u32> = stamps.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp)).collect();
    assert!(steps.iter().all(|step| (1..=FRAME / PRESSED + 1).contains(step)), "two seconds in less than 20 ms");

    ring.push(&packet(1, 561, 61 * FRAME, VP8_DELTA));
    let live = all(&mut leg, &ring, now);
    assert_eq!(live[0].timestamp.wrapping_sub(stamps[60].timestamp), FRAME, "and then by the publisher's clock");
}

#[test]
fn a_new_publisher_goes_on_where_the_old_one_stopped() {
    let (mut leg, start) = (leg(), Instant::now());
    leg.begin(&tap(&stream(1, 500, 1)), None, start);
    let last = all(&mut leg, &stream(1, 500, 1), start)[1];

    let later = start + Duration::from_secs(2);
    let mut next = Ring::new(Kind::Video);
    next.push(&packet(2, 8, 5, VP8_KEY));
    assert!(leg.begin(&tap(&next), None, later));
    let first = all(&mut leg, &next, later)[0];
    assert_eq!(first.index, last.index + 1);
    assert_eq!(first.timestamp, last.timestamp.wrapping_add(180_000));
    assert_eq!(leg.late(&packet(1, 502, 96_000, VP8_DELTA), later), Err(Dropped::TooOld));
}

#[test]
fn layers_of_one_publisher_are_put_in_step_by_her_clock() {
    let now = Instant::now();
    let clock = |seconds: u64, rtp| Some(SenderClock { ntp: seconds << 32, rtp, at: now });
    let (low, mut high) = (stream(1, 500, 3), Ring::new(Kind::Video));
    let mut leg = leg();
    leg.begin(&Tap { clock: clock(10, 0), ..tap(&low) }, None, now);
    let last = all(&mut leg, &low, now)[3];

    // At second 10 the low layer stood at 0 and, by a report two seconds later, the high one at 700,000 - 180,000. Its
    // keyframe is of the frame behind the low one's last, and comes 250 ms late.
    let timestamp = 520_000 + 4 * FRAME;
    high.push(&packet(2, 9, timestamp, VP8_KEY));
    let tap = Tap { track: 1, clock: clock(12, 700_000), ..tap(&high) };
    assert!(leg.begin(&tap, clock(10, 0), now + Duration::from_millis(250)));
    let first = all(&mut leg, &high, now)[0];
    assert_eq!(first.timestamp, last.timestamp.wrapping_add(FRAME));
    assert_eq!(leg.position(), Some((1, 2)));
}

#[test]
fn timestamps_never_go_back_at_a_switch() {
    let now = Instant::now();
    for behind in [0, 1, 7, 60, 500] {
        let (low, high) = (stream(1, 500, 3), stream(2, 90_000, behind));
        let mut leg = leg();
        leg.begin(&tap(&low), None, now);
        let last = all(&mut leg, &low, now)[3];
        assert!(leg.begin(&Tap { track: 1, ..tap(&high) }, None, now));
        let stamps = all(&mut leg, &high, now);
        let mut before = last.timestamp;
        for stamp in stamps {
            assert!((stamp.timestamp.wrapping_sub(before) as i32) > 0, "{behind} frames behind the keyframe");
            before = stamp.timestamp;
        }
    }
}

#[test]
fn picture_ids_go_on_over_a_switch() {
    const KEY: &[u8] = &[0x90, 0x80, 0x8F, 0xFF, 0x00];
    const NEXT: &[u8] = &[0x90, 0x80, 0x90, 0x00, 0x01];
    const OTHER: &[u8] = &[0x90, 0x80, 0x80, 0x05, 0x00];
    let (mut leg, now) = (leg(), Instant::now());
    let (mut low, mut high) = (Ring::new(Kind::Video), Ring::new(Kind::Video));
    low.push(&packet(1, 1, 0, KEY));
    low.push(&packet(1, 2, FRAME, NEXT));
    high.push(&packet(2, 70, 9, OTHER));
    leg.begin(&tap(&low), None, now);
    assert!(all(&mut leg, &low, now).iter().all(|stamp| stamp.shift.is_none()), "nothing is changed before");
    leg.begin(&Tap { track: 1, ..tap(&high) }, None, now);
    let (stamp, packet) = leg.next(&high, now).unwrap();
    let mut payload = packet.payload.to_vec();
    stamp.shift.apply(&packet.vp8.unwrap(), &mut payload);
    assert_eq!(payload, [0x90, 0x80, 0x90, 0x01, 0x00]);
}

#[test]
fn the_payload_type_follows_the_publishers_codec() {
    let h264 = |profile| Codec::H264(profile);
    let plan = plan(&[
        (Codec::Vp8, 96, None),
        (h264(Profile::Baseline), 102, None),
        (h264(Profile::ConstrainedBaseline), 106, None),
    ]);
    let (now, ring) = (Instant::now(), stream(1, 1, 0));
    let payload_type = |codec| {
        let mut leg = Leg::new(plan.clone(), 1);
        leg.begin(&Tap { codec, ..tap(&ring) }, None, now);
        all(&mut leg, &ring, now).first().map(|stamp| stamp.payload_type)
    };
    assert_eq!(payload_type(Codec::Vp8), Some(96));
    assert_eq!(payload_type(h264(Profile::ConstrainedBaseline)), Some(106), "the exact profile before a richer one");
    assert_eq!(payload_type(h264(Profile::High)), None);
}

#[test]
fn the_first_numbers_leave_room_before_the_wrap() {
    for seed in [0, 1, u64::MAX, 0x8000_4000_ffff] {
        let (mut leg, ring) = (Leg::new(plan(&[(Codec::Vp8, 96, Some(97))]), seed), stream(1, 1, 0));
        leg.begin(&tap(&ring), None, Instant::now());
        let stamp = all(&mut leg, &ring, Instant::now())[0];
        assert!((1..32_768).contains(&stamp.index) && (1..32_768).contains(&leg.next_rtx));
    }
}

#[test]
fn a_lost_packet_comes_again_on_the_rtx_stream() {
    let (mut leg, now, ring) = (leg(), Instant::now(), stream(1, 500, 0));
    leg.begin(&tap(&ring), None, now);
    let first = all(&mut leg, &ring, now)[0];

    let (again, packet) = leg.resend(first.index as u16, |_| Some(&ring)).unwrap();
    assert_eq!((again.ssrc, again.payload_type), (12, 97));
    assert_eq!((again.original, again.timestamp), (Some(first.index as u16), first.timestamp));
    assert_eq!(packet.payload, VP8_KEY);
    let (third, _) = leg.resend(first.index as u16, |_| Some(&ring)).unwrap();
    assert_eq!(third.index, again.index + 1, "never a number twice");
}

#[test]
fn without_rtx_the_very_same_packet_comes_again() {
    let mut leg = Leg::new(plan(&[(Codec::Vp8, 96, None)]), 3);
    let (now, ring) = (Instant::now(), stream(1, 500, 0));
    leg.begin(&tap(&ring), None, now);
    let first = all(&mut leg, &ring, now)[0];
    assert_eq!(first.transport, None, "a number of the transport would change the bytes");
    assert_eq!(leg.resend(first.index as u16, |_| Some(&ring)).unwrap().0, first);
}

#[test]
fn what_was_not_sent_is_not_sent_again() {
    let (mut leg, now, ring) = (leg(), Instant::now(), stream(1, 500, 0));
    assert_eq!(leg.resend(5, |_| Some(&ring)).unwrap_err(), Dropped::ResendMissing);
    leg.begin(&tap(&ring), None, now);
    let first = all(&mut leg, &ring, now)[0].index as u16;
    for never_sent in [first.wrapping_sub(1), first + 1] {
        assert_eq!(leg.resend(never_sent, |_| Some(&ring)).unwrap_err(), Dropped::ResendMissing);
    }
    // The next publisher's packets under the old numbers.
    let other = stream(2, 500, 0);
    assert_eq!(leg.resend(first, |_| Some(&other)).unwrap_err(), Dropped::ResendMissing);
}

#[test]
fn a_packet_from_before_a_switch_can_still_be_sent_again() {
    let (mut leg, now, low, high) = (leg(), Instant::now(), stream(1, 500, 3), stream(2, 9_000, 2));
    leg.begin(&tap(&low), None, now);
    let sent = all(&mut leg, &low, now);
    leg.begin(&Tap { track: 1, ..tap(&high) }, None, now);
    let after = all(&mut leg, &high, now);
    for (stamp, track) in sent.iter().map(|s| (s, 0)).chain(after.iter().map(|s| (s, 1))) {
        let ring_of = |asked| Some(if asked == 0 { &low } else { &high });
        let (again, packet) = leg.resend(stamp.index as u16, ring_of).unwrap();
        assert_eq!((again.timestamp, packet.stream), (stamp.timestamp, track + 1));
    }
}

/// A keyframe that takes its parameter sets from elsewhere.
fn needy(number: u64) -> Packet {
    let key = packet(1, number, number as u32 * FRAME, VP8_KEY);
    let sets = Packet { marker: false, payload: Bytes::from_static(b"sets"), ..key.clone() };
    Packet { sets: Some(std::sync::Arc::new(sets)), ..key }
}

#[test]
fn a_beginning_has_the_sets_in_front_and_going_on_has_not() {
    for rtx in [None, Some(97)] {
        let mut leg = Leg::new(plan(&[(Codec::Vp8, 96, rtx)]), 77);
        let (now, mut ring) = (Instant::now(), Ring::new(Kind::Video));
        ring.push(&needy(500));
        leg.begin(&tap(&ring), None, now);
        ring.push(&needy(501));
        let payloads = |leg: &mut Leg, ring: &Ring| -> Vec<(u64, Bytes)> {
            std::iter::from_fn(|| leg.next(ring, now).map(|(stamp, packet)| (stamp.index, packet.payload.clone())))
                .collect()
        };
        let sent = payloads(&mut leg, &ring);
        let first = sent[0].0;
        assert_eq!(sent, [(first, b"sets"[..].into()), (first + 1, VP8_KEY.into()), (first + 2, VP8_KEY.into())]);
        for (index, payload) in sent {
            let (again, packet) = leg.resend(index as u16, |_| Some(&ring)).unwrap();
            assert_eq!((again.original.unwrap_or(again.index as u16), &packet.payload), (index as u16, &payload));
        }

        let other = stream(2, 9_000, 0);
        leg.begin(&Tap { track: 1, ..tap(&other) }, None, now);
        assert_eq!(payloads(&mut leg, &other), [(first + 3, VP8_KEY.into())]);
        let ring_of = |track| Some(if track == 0 { &ring } else { &other });
        assert_eq!(leg.resend(first as u16, ring_of).unwrap().1.payload, b"sets"[..], "from before the switch, too");
    }
}

#[test]
fn who_cannot_decode_gets_the_sets_with_the_next_keyframe() {
    let (mut leg, now, mut ring) = (leg(), Instant::now(), Ring::new(Kind::Video));
    ring.push(&needy(500));
    leg.begin(&tap(&ring), None, now);
    all(&mut leg, &ring, now);
    leg.note_undecodable();
    assert!(!leg.should_begin_for_sets(&ring), "this keyframe is past");
    ring.push(&packet(1, 501, 501 * FRAME, VP8_DELTA));
    assert!(!leg.should_begin_for_sets(&ring));
    all(&mut leg, &ring, now);
    ring.push(&needy(502));
    assert!(leg.should_begin_for_sets(&ring));
    leg.begin(&tap(&ring), None, now);
    let indices: Vec<u64> = all(&mut leg, &ring, now).iter().map(|stamp| stamp.index).collect();
    assert_eq!(indices, [indices[0], indices[0] + 1], "the sets and the keyframe");
    ring.push(&needy(503));
    assert!(!leg.should_begin_for_sets(&ring), "once is enough");

    leg.note_undecodable();
    all(&mut leg, &ring, now);
    ring.push(&packet(1, 504, 504 * FRAME, VP8_KEY));
    ring.push(&needy(505));
    assert!(leg.should_begin_for_sets(&ring));
    leg.note_undecodable();
    all(&mut leg, &ring, now);
    ring.push(&packet(1, 506, 506 * FRAME, VP8_KEY));
    assert!(!leg.should_begin_for_sets(&ring), "this one brings them itself");
}

#[test]
fn resending_has_a_budget() {
    let (mut leg, now, ring) = (leg(), Instant::now(), stream(1, 500, 0));
    leg.begin(&tap(&ring), None, now);
    let lost = all(&mut leg, &ring, now)[0].index as u16;
    let again = (0..1_000).filter(|_| leg.resend(lost, |_| Some(&ring)).is_ok()).count();
    assert_eq!(again, RESENDS_PER_REFILL as usize);
    leg.refill_resends();
    assert!(leg.resend(lost, |_| Some(&ring)).is_ok());
}

#[test]
fn a_sender_report_is_in_the_viewers_timestamps() {
    let (mut leg, now, ring) = (leg(), Instant::now(), stream(1, 500, 0));
    let clock = SenderClock { ntp: 5 << 32, rtp: 0, at: now };
    assert!(leg.report(1, clock, now).is_none(), "nothing was sent yet");
    leg.begin(&tap(&ring), None, now);
    let stamp = all(&mut leg, &ring, now)[0];
    let report = leg.report(1, clock, now + Duration::from_secs(1)).unwrap();
    assert_eq!((report.ntp_time, report.rtp_time), (6 << 32, stamp.timestamp.wrapping_add(90_000)));
    assert_eq!((report.packet_count, report.octet_count), (1, 2));
    assert!(leg.report(2, clock, now).is_none(), "the clock of another stream");
    leg.pause();
    assert!(leg.report(1, clock, now).is_none());
}

#[test]
fn one_who_fell_off_the_ring_goes_on_with_what_is_there() {
    let (mut leg, now, mut ring) = (leg(), Instant::now(), stream(1, 500, 0));
    leg.begin(&tap(&ring), None, now);
    all(&mut leg, &ring, now);
    for number in 501..501 + 3 * ring.len() {
        ring.push(&packet(1, number, (number - 500) as u32 * FRAME, VP8_DELTA));
    }
    assert_eq!(leg.lag(&ring), 3 * ring.len());
    assert_eq!(all(&mut leg, &ring, now).len() as u64, ring.len());
    assert_eq!(leg.lag(&ring), 0);
}

/// One step of a publisher's life as a leg sees it.
#[derive(Clone, Debug)]
enum Step {
    Next { key: bool, skip: u64 },
    Late(u64),
    NewStream { number: u64 },
    Begin,
    Lost(u16),
    Padding,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), prop_oneof![9 => Just(0u64), 1 => 0u64..2_000])
            .prop_map(|(key, skip)| Step::Next { key, skip }),
        3 => (1u64..1_500).prop_map(Step::Late),
        1 => (1u64..200_000).prop_map(|number| Step::NewStream { number }),
        2 => Just(Step::Begin),
        3 => any::<u16>().prop_map(Step::Lost),
        1 => Just(Step::Padding),
    ]
}

proptest! {
    /// Whatever comes, in whatever order, and wherever it begins: one number seals one content, timestamps of a stretch
    /// begin behind the last one's, and a stretch begins right behind the last number.
    #[test]
    fn no_number_ever_seals_two_contents(steps in proptest::collection::vec(step(), 1..400), rtx in any::<bool>()) {
        let choice = (Codec::Vp8, 96, rtx.then_some(97));
        let (mut leg, now, mut ring) = (Leg::new(plan(&[choice]), 9), Instant::now(), Ring::new(Kind::Video));
        let mut sealed: HashMap<(u32, u64), (u64, u64, Stamp)> = HashMap::new();
        let (mut stream, mut top) = (1u64, 1_000u64);
        for step in steps {
            let mut sent = Vec::new();
            match step {
                Step::Next { key, skip } => {
                    top += 1 + skip;
                    ring.push(&packet(stream, top, top as u32 * 100, if key { VP8_KEY } else { VP8_DELTA }));
                }
                Step::Late(by) => {
                    let number = top.saturating_sub(by);
                    let late = packet(stream, number, number as u32 * 100, VP8_DELTA);
                    if ring.push(&late) == crate::media::ring::Arrival::Late && let Ok(stamp) = leg.late(&late, now) {
                        sent.push((stamp, late));
                    }
                }
                Step::NewStream { number } => (stream, top) = (stream + 1, number),
                Step::Begin => {
                    let end = leg.next;
                    if leg.begin(&tap(&ring), None, now) {
                        prop_assert_eq!(leg.stretches.last().unwrap().index, end, "a stretch continues the numbers");
                    }
                }
                Step::Lost(sequence) => {
                    if let Ok((stamp, packet)) = leg.resend(sequence, |_| Some(&ring)) {
                        let content = (packet.stream, packet.number, stamp);
                        let before = sealed.insert((stamp.ssrc, stamp.index), content);
                        prop_assert!(before.is_none_or(|before| before == content));
                    }
                }
                Step::Padding => {
                    if let Some((stamp, packet)) = leg.padding(|_| Some(&ring)) {
                        sent.push((stamp, packet.clone()));
                    }
                }
            }
            while let Some((stamp, packet)) = leg.next(&ring, now) {
                sent.push((stamp, packet.clone()));
            }
            for (stamp, packet) in sent {
                let content = (packet.stream, packet.number, stamp);
                prop_assert!(sealed.insert((stamp.ssrc, stamp.index), content).is_none());
            }
        }
    }
}
