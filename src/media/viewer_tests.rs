use std::sync::Arc;

use bytes::Bytes;
use crypto::RTCCryptoProvider;
use srtp::protection_profile::ProtectionProfile;

use super::*;
use crate::media::{
    codec::Codec,
    dtls::Keys,
    egress::{Egress, Path},
    negotiate::{Choice, Outgoing},
    open::Opener,
    registry::{Burst, Source},
    seal::{Master, Sealer},
    stage::Stage,
    stats::Counts,
    vp8::Descriptor,
};

const VIDEO: u32 = 11;
const RTX: u32 = 12;
const AUDIO: u32 = 21;
/// Of a frame of 30 a second.
const TICKS: u32 = 3_000;
const FRAME: Duration = Duration::from_millis(33);

/// A publisher with some layers and sound, and one viewer of hers.
struct Scene {
    stage: Stage,
    source: Arc<Source>,
    viewer: Viewer,
    keys: Keys,
    egress: Egress,
    counts: Counts,
    now: Instant,
    frame: u32,
    /// The number of each layer's next packet.
    next: Vec<u64>,
    /// Bytes of one frame of each layer.
    sizes: Vec<usize>,
    /// Layers that send a keyframe with the next frame.
    asked: u32,
    wants: u32,
    lags: bool,
}

fn plan(codec: Codec, ssrc: u32, rtx: Option<u8>, transport: Option<u8>) -> Outgoing {
    let choices = vec![Choice { codec, payload_type: 96, rtx_payload_type: rtx }];
    Outgoing { kind: codec.kind(), choices, ssrc, rtx_ssrc: RTX, transport }
}

impl Scene {
    fn new(sizes: &[usize], reports: bool) -> Self {
        let now = Instant::now();
        let transport = reports.then_some(5);
        let legs = vec![
            Leg::new(plan(Codec::Vp8, VIDEO, Some(97), transport), 7),
            Leg::new(plan(Codec::Opus, AUDIO, None, transport), 9),
        ];
        let provider = Arc::new(crypto::providers::AwsLcRsProvider::new());
        let master = Master { key: &[5; 16], salt: &[6; 12], profile: ProtectionProfile::AeadAes128Gcm };
        let sealer = Sealer::new(&master, provider.crypto()).unwrap();
        let mut codecs = vec![Codec::Vp8; sizes.len()];
        codecs.push(Codec::Opus);
        Self {
            stage: Stage::default(),
            source: Arc::new(Source::example(codecs, 1)),
            viewer: Viewer::new(legs, reports, &Config::default(), now),
            keys: Keys { sealer, opener: Opener::new(&master, provider).unwrap() },
            egress: Egress::new(8 << 20, 40),
            counts: Counts::default(),
            now,
            frame: 0,
            next: vec![1_000; sizes.len()],
            sizes: sizes.to_vec(),
            asked: u32::MAX,
            wants: 0,
            lags: false,
        }
    }

    /// The packets of the next frame of every layer, and of the sound.
    fn burst(&mut self) -> Burst {
        let mut packets = Vec::new();
        for (track, size) in self.sizes.iter().enumerate() {
            let is_key = self.asked & 1 << track != 0;
            let parts = size.div_ceil(1_200);
            for part in 0..parts {
                let mut payload = vec![7u8; size / parts];
                payload[..2].copy_from_slice(&[if part == 0 { 0x10 } else { 0 }, u8::from(!is_key)]);
                packets.push(Packet {
                    track: track as u8,
                    stream: 1 + track as u64,
                    number: self.next[track] + part as u64,
                    timestamp: self.frame * TICKS + 77 * track as u32,
                    marker: part + 1 == parts,
                    starts_keyframe: is_key && part == 0,
                    vp8: Descriptor::read(&payload),
                    payload: payload.into(),
                });
            }
            self.next[track] += parts as u64;
        }
        packets.push(Packet {
            track: self.source.codecs.len() as u8 - 1,
            stream: 90,
            number: u64::from(self.frame) + 1,
            timestamp: self.frame * 1_600,
            marker: false,
            starts_keyframe: true,
            vp8: None,
            payload: Bytes::from_static(b"sound"),
        });
        (self.frame, self.asked) = (self.frame + 1, 0);
        let room = "room-1".parse().unwrap();
        Burst { room, source: self.source.clone(), packets, clocks: Vec::new() }
    }

    /// One frame goes by; nobody is served.
    fn unwatched(&mut self) {
        let burst = self.burst();
        assert!(self.stage.admit(&burst, 0, self.now));
        self.now += FRAME;
    }

    /// One frame goes by, and comes to the viewer. What she was sent: SSRC, number, timestamp.
    fn watched(&mut self) -> Vec<(u32, u16, u32)> {
        let burst = self.burst();
        assert!(self.stage.admit(&burst, 0, self.now));
        let mut sent = self.serve();
        for _ in 0..6 {
            self.now += FRAME / 6;
            sent.extend(self.serve());
        }
        sent
    }

    fn serve(&mut self) -> Vec<(u32, u16, u32)> {
        let Self { stage, viewer, keys, egress, counts, .. } = self;
        let path = Path { remote: "127.0.0.1:9".parse().unwrap(), local: None };
        let mut sending = Sending { keys, path, egress, counts };
        let served = viewer.serve(stage.feed.as_ref().unwrap(), &[], &mut sending, self.now);
        (self.wants, self.lags) = (self.wants | served.wants, served.lags);
        let mut sent = Vec::new();
        self.egress.flush(|group| {
            for (_, contents) in group.iter() {
                for packet in contents.chunks(group.segment.unwrap_or(contents.len())) {
                    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
                    sent.push((word(8), word(0) as u16, word(4)));
                }
            }
            Ok(group.iter().len())
        });
        sent
    }

    fn layer(&self) -> Option<u8> {
        self.viewer.layer_shown(self.stage.feed.as_ref().unwrap())
    }

    /// What the publisher is asked for, she gives with the next frame.
    fn play(&mut self, frames: u32) -> Vec<(u32, u16, u32)> {
        let mut sent = Vec::new();
        for _ in 0..frames {
            self.asked |= std::mem::take(&mut self.wants);
            sent.extend(self.watched());
        }
        sent
    }
}

fn only(sent: &[(u32, u16, u32)], ssrc: u32) -> Vec<(u16, u32)> {
    sent.iter().filter(|(of, ..)| *of == ssrc).map(|(_, number, timestamp)| (*number, *timestamp)).collect()
}

fn goes_on(sent: &[(u16, u32)]) -> bool {
    let step = |pair: &[(u16, u32)]| (pair[1].0.wrapping_sub(pair[0].0), pair[1].1.wrapping_sub(pair[0].1) as i32);
    sent.windows(2).map(step).all(|(number, time)| number == 1 && time >= 0)
}

#[test]
fn who_comes_late_gets_the_picture_at_once() {
    let mut scene = Scene::new(&[5_000], false);
    (0..45).for_each(|_| scene.unwatched());
    let sent = scene.watched();
    let video = only(&sent, VIDEO);
    assert_eq!(scene.wants, 0, "no keyframe is asked for");
    assert!(goes_on(&video) && video.len() > 20, "{} packets in the first frame's time", video.len());
    assert_eq!(only(&sent, AUDIO).len(), 1);
    let rest = only(&scene.play(30), VIDEO);
    assert!(goes_on(&[video, rest.clone()].concat()));
    assert!(
        !scene.lags && rest.last().unwrap().1.wrapping_sub(rest[rest.len() - 6].1) == TICKS,
        "and is at the present"
    );
}

#[test]
fn a_beginning_is_spread_over_time_and_sound_does_not_wait_for_it() {
    let mut scene = Scene::new(&[12_000], false);
    (0..30).for_each(|_| scene.unwatched());
    let first = scene.serve();
    assert!(scene.lags && only(&first, VIDEO).len() < 200, "of 300 packets");
    scene.unwatched();
    assert_eq!(only(&scene.serve(), AUDIO).len(), 1);
}

#[test]
fn with_too_much_behind_the_keyframe_a_new_one_is_asked_for() {
    let mut scene = Scene::new(&[30_000], false);
    (0..40).for_each(|_| scene.unwatched());
    assert!(only(&scene.serve(), VIDEO).is_empty());
    assert_eq!(scene.wants, 1);
    assert!(goes_on(&only(&scene.play(3), VIDEO)));
    assert_eq!(scene.layer(), Some(0));
}

#[test]
fn a_wish_is_followed_at_a_keyframe_and_numbers_go_on() {
    let mut scene = Scene::new(&[600, 2_000, 6_000], false);
    let mut sent = scene.play(40);
    assert_eq!(scene.layer(), Some(2), "the best, for one who reports on nothing");
    for (wish, layer) in [(Wish::Layer(0), 0), (Wish::Layer(9), 2), (Wish::Layer(1), 1), (Wish::Auto, 2)] {
        scene.viewer.view.wish = wish;
        sent.extend(scene.play(8));
        assert_eq!(scene.layer(), Some(layer), "{wish:?}");
    }
    let video = only(&sent, VIDEO);
    assert!(goes_on(&video), "over every switch");
    assert_eq!(scene.wants, 0, "and nothing is asked for after it");
}

#[test]
fn she_stays_where_she_is_until_the_other_layer_has_a_keyframe() {
    let mut scene = Scene::new(&[600, 6_000], false);
    scene.play(60);
    scene.viewer.view.wish = Wish::Layer(0);
    for _ in 0..400 {
        scene.watched();
        if scene.wants != 0 {
            break;
        }
    }
    let layer = scene.layer();
    assert!((scene.wants, layer) == (1, Some(1)) || layer == Some(0), "asked for the small one: {layer:?}");
}

#[test]
fn sound_alone_and_back() {
    let mut scene = Scene::new(&[2_000], false);
    let before = only(&scene.play(10), VIDEO);
    scene.viewer.view.wish = Wish::AudioOnly;
    scene.play(5);
    let sent = scene.play(60);
    assert!(only(&sent, VIDEO).is_empty() && only(&sent, AUDIO).len() == 60);
    scene.viewer.view.wish = Wish::Auto;
    let after = only(&scene.play(10), VIDEO);
    assert!(!after.is_empty() && goes_on(&after));
    assert!(after[0].0.wrapping_sub(before.last().unwrap().0) < 30, "numbers go on");
}

#[test]
fn a_layer_that_stops_is_left() {
    let mut scene = Scene::new(&[600, 6_000], false);
    scene.play(40);
    assert_eq!(scene.layer(), Some(1));
    scene.sizes.truncate(1);
    assert!(goes_on(&only(&scene.play(120), VIDEO)));
    assert_eq!(scene.layer(), Some(0));
}

#[test]
fn one_who_was_away_goes_on_at_a_newer_keyframe() {
    let mut scene = Scene::new(&[6_000], false);
    scene.play(5);
    for _ in 0..100 {
        scene.unwatched();
    }
    scene.asked = 1;
    scene.unwatched();
    let sent = only(&scene.watched(), VIDEO);
    assert!(sent.len() < 40 && goes_on(&sent), "{} packets: only from the newest keyframe on", sent.len());
}

#[test]
fn who_missed_the_beginning_begins_again_at_the_keyframe_that_is_here() {
    let mut scene = Scene::new(&[3_000], false);
    let mut sent = scene.play(12);
    let feed = scene.stage.feed.take().unwrap();
    assert!(!scene.viewer.begin_again(&feed, scene.now + Duration::from_secs(1)), "her publisher has stopped");
    assert!(scene.viewer.begin_again(&feed, scene.now));
    assert!(!scene.viewer.begin_again(&feed, scene.now), "only once");
    scene.stage.feed = Some(feed);
    let before = only(&sent, VIDEO).len();
    sent.extend(scene.play(3));
    let video = only(&sent, VIDEO);
    assert!(goes_on(&video) && video.len() >= before + 36, "{before} packets, then {}", video.len() - before);
    assert_eq!(scene.wants, 0, "the publisher is not asked");
}

#[test]
fn a_keyframe_is_asked_for_at_once_when_the_first_one_did_not_come() {
    let mut scene = Scene::new(&[3_000], false);
    scene.asked = 0;
    assert!(only(&scene.watched(), VIDEO).is_empty());
    assert_eq!(scene.wants, 1);
    assert!(goes_on(&only(&scene.play(3), VIDEO)));
}
