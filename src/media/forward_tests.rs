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

fn plan(choices: &[(Codec, u8, Option<u8>)]) -> Outgoing {
    let choice = |(codec, payload_type, rtx_payload_type): &(Codec, u8, Option<u8>)| Choice {
        codec: *codec,
        payload_type: *payload_type,
        rtx_payload_type: *rtx_payload_type,
    };
    Outgoing { kind: choices[0].0.kind(), choices: choices.iter().map(choice).collect(), ssrc: 11, rtx_ssrc: 12 }
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
        marker: false,
        starts_keyframe: Codec::Vp8.starts_keyframe(payload),
        payload: Bytes::from_static(payload),
    }
}

#[test]
fn video_starts_at_a_keyframe_and_sound_at_once() {
    let (mut video, now) = (leg(), Instant::now());
    assert_eq!(video.forward(&packet(1, 10, 0, VP8_DELTA), Codec::Vp8, now), Err(Dropped::BeforeKeyframe));
    assert!(video.waits_for_keyframe());
    assert!(video.forward(&packet(1, 11, 0, VP8_KEY), Codec::Vp8, now).is_ok());
    assert!(!video.waits_for_keyframe());
    assert_eq!(video.forward(&packet(1, 10, 0, VP8_DELTA), Codec::Vp8, now), Err(Dropped::TooOld));

    let mut sound = Leg::new(plan(&[(Codec::Opus, 111, None)]), 77);
    let first = Packet { starts_keyframe: Codec::Opus.starts_keyframe(b"x"), ..packet(1, 5, 0, b"x") };
    assert!(sound.forward(&first, Codec::Opus, now).is_ok());
}

#[test]
fn a_new_publisher_goes_on_where_the_old_one_stopped() {
    let (mut leg, start) = (leg(), Instant::now());
    leg.forward(&packet(1, 500, 90_000, VP8_KEY), Codec::Vp8, start).unwrap();
    let last = leg.forward(&packet(1, 501, 93_000, VP8_DELTA), Codec::Vp8, start).unwrap();

    let later = start + Duration::from_secs(2);
    assert_eq!(leg.forward(&packet(2, 7, 5, VP8_DELTA), Codec::Vp8, later), Err(Dropped::BeforeKeyframe));
    let first = leg.forward(&packet(2, 8, 5, VP8_KEY), Codec::Vp8, later).unwrap();
    assert_eq!(first.index, last.index + 1);
    assert_eq!(first.timestamp, last.timestamp.wrapping_add(180_000));
    assert_eq!(leg.forward(&packet(1, 502, 96_000, VP8_DELTA), Codec::Vp8, later), Err(Dropped::TooOld));
}

#[test]
fn the_payload_type_follows_the_publishers_codec() {
    let h264 = |profile| Codec::H264(profile);
    let plan = plan(&[
        (Codec::Vp8, 96, None),
        (h264(Profile::Baseline), 102, None),
        (h264(Profile::ConstrainedBaseline), 106, None),
    ]);
    let now = Instant::now();
    let payload_type = |codec| {
        let key = Packet { starts_keyframe: true, ..packet(1, 1, 0, b"x") };
        Leg::new(plan.clone(), 1).forward(&key, codec, now).map(|stamp| stamp.payload_type)
    };
    assert_eq!(payload_type(Codec::Vp8), Ok(96));
    assert_eq!(payload_type(h264(Profile::ConstrainedBaseline)), Ok(106), "the exact profile before a richer one");
    assert_eq!(payload_type(h264(Profile::High)), Err(Dropped::NoCommonCodec));
}

#[test]
fn the_first_numbers_leave_room_before_the_wrap() {
    for seed in [0, 1, u64::MAX, 0x8000_4000_ffff] {
        let mut leg = Leg::new(plan(&[(Codec::Vp8, 96, Some(97))]), seed);
        let stamp = leg.forward(&packet(1, 1, 0, VP8_KEY), Codec::Vp8, Instant::now()).unwrap();
        assert!((1..32_768).contains(&stamp.index) && (1..32_768).contains(&leg.next_rtx));
    }
}

#[test]
fn a_lost_packet_comes_again_on_the_rtx_stream() {
    let (mut leg, now, mut ring) = (leg(), Instant::now(), Ring::new(Kind::Video));
    let sent = packet(1, 500, 90_000, VP8_KEY);
    ring.push(sent.clone());
    let first = leg.forward(&sent, Codec::Vp8, now).unwrap();

    let (again, packet) = leg.resend(first.index as u16, &ring).unwrap();
    assert_eq!((again.ssrc, again.payload_type), (12, 97));
    assert_eq!((again.original, again.timestamp), (Some(first.index as u16), first.timestamp));
    assert_eq!(packet.payload, sent.payload);
    let (third, _) = leg.resend(first.index as u16, &ring).unwrap();
    assert_eq!(third.index, again.index + 1, "never a number twice");
}

#[test]
fn without_rtx_the_very_same_packet_comes_again() {
    let mut leg = Leg::new(plan(&[(Codec::Vp8, 96, None)]), 3);
    let (now, mut ring) = (Instant::now(), Ring::new(Kind::Video));
    let sent = packet(1, 500, 90_000, VP8_KEY);
    ring.push(sent.clone());
    let first = leg.forward(&sent, Codec::Vp8, now).unwrap();
    assert_eq!(leg.resend(first.index as u16, &ring).unwrap().0, first);
}

#[test]
fn what_was_not_sent_is_not_sent_again() {
    let (mut leg, now, mut ring) = (leg(), Instant::now(), Ring::new(Kind::Video));
    assert_eq!(leg.resend(5, &ring).unwrap_err(), Dropped::ResendMissing);
    let (missed, key) = (packet(1, 499, 0, VP8_DELTA), packet(1, 500, 0, VP8_KEY));
    ring.push(missed);
    ring.push(key.clone());
    let first = leg.forward(&key, Codec::Vp8, now).unwrap().index as u16;
    for never_sent in [first.wrapping_sub(1), first + 1] {
        assert_eq!(leg.resend(never_sent, &ring).unwrap_err(), Dropped::ResendMissing);
    }

    // The ring now holds the next publisher's packets under the old numbers.
    ring.push(packet(2, 500, 0, VP8_KEY));
    assert_eq!(leg.resend(first, &ring).unwrap_err(), Dropped::ResendMissing);
}

#[test]
fn resending_has_a_budget() {
    let (mut leg, now, mut ring) = (leg(), Instant::now(), Ring::new(Kind::Video));
    let key = packet(1, 500, 0, VP8_KEY);
    ring.push(key.clone());
    let lost = leg.forward(&key, Codec::Vp8, now).unwrap().index as u16;
    let again = (0..1_000).filter(|_| leg.resend(lost, &ring).is_ok()).count();
    assert_eq!(again, RESENDS_PER_REFILL as usize);
    leg.refill_resends();
    assert!(leg.resend(lost, &ring).is_ok());
}

#[test]
fn a_sender_report_is_in_the_viewers_timestamps() {
    let (mut leg, now) = (leg(), Instant::now());
    let clock = SenderClock { ntp: 5 << 32, rtp: 90_000, at: now };
    assert!(leg.report(1, clock, now).is_none(), "nothing was sent yet");
    let stamp = leg.forward(&packet(1, 500, 90_000, VP8_KEY), Codec::Vp8, now).unwrap();
    let report = leg.report(1, clock, now + Duration::from_secs(1)).unwrap();
    assert_eq!((report.ntp_time, report.rtp_time), (6 << 32, stamp.timestamp.wrapping_add(90_000)));
    assert_eq!((report.packet_count, report.octet_count), (1, 2));
    assert!(leg.report(2, clock, now).is_none(), "the clock of another stream");
}

/// One step of a publisher's life as a leg sees it.
#[derive(Clone, Debug)]
enum Step {
    Next { key: bool, skip: u64 },
    Late(u64),
    NewStream { number: u64 },
    Lost(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), prop_oneof![9 => Just(0u64), 1 => 0u64..2_000])
            .prop_map(|(key, skip)| Step::Next { key, skip }),
        3 => (1u64..1_500).prop_map(Step::Late),
        1 => (1u64..200_000).prop_map(|number| Step::NewStream { number }),
        3 => any::<u16>().prop_map(Step::Lost),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: one number seals one content, and a stream begins right behind the last.
    #[test]
    fn no_number_ever_seals_two_contents(steps in proptest::collection::vec(step(), 1..400), rtx in any::<bool>()) {
        let choice = (Codec::Vp8, 96, rtx.then_some(97));
        let (mut leg, now, mut ring) = (Leg::new(plan(&[choice]), 9), Instant::now(), Ring::new(Kind::Video));
        let mut sealed: HashMap<(u32, u64), (u64, u64, Stamp)> = HashMap::new();
        let (mut stream, mut top, mut sent) = (1u64, 1_000u64, std::collections::HashSet::new());
        for step in steps {
            let next = match step {
                Step::Next { key, skip } => { top += 1 + skip; Some(packet(stream, top, top as u32, if key { VP8_KEY } else { VP8_DELTA })) }
                Step::Late(by) => Some(packet(stream, top.saturating_sub(by), top as u32, VP8_DELTA)),
                Step::NewStream { number } => { stream += 1; top = number; None }
                Step::Lost(sequence) => {
                    if let Ok((stamp, packet)) = leg.resend(sequence, &ring) {
                        let content = (packet.stream, packet.number, stamp);
                        let before = sealed.insert((stamp.ssrc, stamp.index), content);
                        prop_assert!(before.is_none_or(|before| before == content));
                    }
                    None
                }
            };
            // A publisher's intake lets each number of a stream pass once.
            let Some(next) = next.filter(|next| sent.insert((next.stream, next.number))) else { continue };
            let end = leg.next;
            let began = leg.stream.is_some_and(|current| current.name == next.stream && current.base.is_some());
            ring.push(next.clone());
            let Ok(stamp) = leg.forward(&next, Codec::Vp8, now) else { continue };
            if !began {
                prop_assert_eq!(stamp.index, end, "a stream continues the numbers");
            }
            let content = (next.stream, next.number, stamp);
            prop_assert!(sealed.insert((stamp.ssrc, stamp.index), content).is_none());
        }
    }
}
