use proptest::prelude::*;
use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc,
};

use super::{
    link::{Link, PACKET, Viewer, report},
    *,
};
use crate::media::layers::{Layer, Layers, Patience, Target, Wish};

const SECOND: u64 = 1_000_000;
const SEEDS: std::ops::Range<u64> = 0..12;

fn run(
    link: &mut Link,
    viewers: &mut [Viewer],
    seconds: std::ops::Range<f64>,
    mut each: impl FnMut(u64, &mut [Viewer]),
) {
    let (from, to) = ((seconds.start * 1e3) as u64, (seconds.end * 1e3) as u64);
    for at in (from..to).map(|ms| ms * 1_000) {
        viewers.iter_mut().for_each(|viewer| viewer.step(link, at));
        each(at, viewers);
    }
}

/// Seconds until the estimate is what it should be, or the end.
fn time_to(link: &mut Link, viewer: &mut Viewer, seconds: std::ops::Range<f64>, is_right: impl Fn(f64) -> bool) -> f64 {
    let mut right_at = None;
    let from = seconds.start;
    let until = seconds.end;
    run(link, std::slice::from_mut(viewer), seconds, |at, viewers| {
        if right_at.is_none() && is_right(viewers[0].bandwidth.estimate().into()) {
            right_at = Some(at as f64 / 1e6 - from);
        }
    });
    right_at.unwrap_or(until - from)
}

#[test]
fn a_wide_link_is_found_within_four_seconds() {
    for seed in SEEDS {
        for wanted in [1_200_000, 1_800_000, 2_500_000] {
            let mut link = Link::new(3e6, seed);
            let mut viewer = Viewer::new(Instant::now(), wanted);
            let took = time_to(&mut link, &mut viewer, 0.0..8.0, |estimate| estimate >= wanted.into());
            assert!(took < 4.0, "seed {seed}, {wanted} b/s: {took} s, {}", viewer.bandwidth.estimate());
        }
    }
}

#[test]
fn a_narrowed_link_is_obeyed_within_three_seconds_its_queue_drains_and_width_is_found_again() {
    for seed in SEEDS {
        for queue_bytes_max in [10_000.0, 60_000.0, 200_000.0] {
            let mut link = Link::new(3e6, seed);
            link.queue_bytes_max = queue_bytes_max;
            let mut viewer = Viewer::new(Instant::now(), 2_500_000);
            time_to(&mut link, &mut viewer, 0.0..10.0, |_| true);
            link.rate_bps = 6e5;
            let took = time_to(&mut link, &mut viewer, 10.0..15.0, |estimate| estimate < 6e5);
            assert!(took < 3.0, "seed {seed}, queue {queue_bytes_max}: {took} s, {}", viewer.bandwidth.estimate());
            let mut least = u32::MAX;
            run(&mut link, std::slice::from_mut(&mut viewer), 15.0..40.0, |at, viewers| {
                if at > 20 * SECOND {
                    least = least.min(viewers[0].bandwidth.estimate());
                }
            });
            assert!(least > 350_000, "seed {seed}, queue {queue_bytes_max}: fell to {least}");
            let waited = link.queue_us(40 * SECOND);
            assert!(waited < 150_000, "seed {seed}: {waited} us");
            link.rate_bps = 3e6;
            let took = time_to(&mut link, &mut viewer, 40.0..60.0, |estimate| estimate >= 2.5e6);
            assert!(took < 12.0, "seed {seed}, queue {queue_bytes_max}: {took} s, {}", viewer.bandwidth.estimate());
        }
    }
}

#[test]
fn random_loss_alone_does_not_take_the_rate_away() {
    for seed in SEEDS {
        let mut link = Link::new(5e6, seed);
        (link.loss, link.overtaking) = (0.05, 0.01);
        let mut viewer = Viewer::new(Instant::now(), 1_500_000);
        let took = time_to(&mut link, &mut viewer, 0.0..6.0, |estimate| estimate >= 1.5e6);
        assert!(took < 6.0, "seed {seed}: {}", viewer.bandwidth.estimate());
        let mut least = u32::MAX;
        run(&mut link, std::slice::from_mut(&mut viewer), 6.0..60.0, |_, viewers| {
            least = least.min(viewers[0].bandwidth.estimate());
        });
        assert!(least > 1_200_000, "seed {seed}: {least}");
        assert!((0.02..0.10).contains(&viewer.bandwidth.loss()), "{}", viewer.bandwidth.loss());
    }
}

#[test]
fn sending_little_neither_lowers_nor_lifts_the_estimate() {
    for seed in SEEDS {
        let mut link = Link::new(3e6, seed);
        let mut viewer = Viewer::new(Instant::now(), 2_000_000);
        time_to(&mut link, &mut viewer, 0.0..6.0, |_| true);
        let before = viewer.bandwidth.estimate();
        viewer.media_bps = 2e5;
        viewer.wanted_bps = 0;
        time_to(&mut link, &mut viewer, 6.0..66.0, |_| true);
        let after = viewer.bandwidth.estimate();
        assert!(after == before, "seed {seed}: {before} became {after}");
    }
}

#[test]
fn keyframes_that_come_at_once_do_not_take_the_rate_away() {
    for seed in SEEDS {
        let mut link = Link::new(2.5e6, seed);
        let mut viewer = Viewer::new(Instant::now(), 1_500_000);
        viewer.keyframe_bytes = 50_000.0;
        (viewer.media_bps, viewer.is_elastic) = (1.3e6, false);
        time_to(&mut link, &mut viewer, 0.0..6.0, |_| true);
        let mut least = u32::MAX;
        run(&mut link, std::slice::from_mut(&mut viewer), 6.0..60.0, |_, viewers| {
            least = least.min(viewers[0].bandwidth.estimate());
        });
        assert!(least > 1_400_000, "seed {seed}: {least}");
    }
}

#[test]
fn two_viewers_of_one_link_come_to_similar_shares() {
    for seed in SEEDS {
        let mut link = Link::new(2e6, seed);
        let start = Instant::now();
        let mut viewers = [Viewer::new(start, 2_500_000), Viewer::new(start, 2_500_000)];
        run(&mut link, &mut viewers[..1], 0.0..10.0, |_, _| {});
        let mut second = Viewer::new(start + Duration::from_secs(10), 2_500_000);
        second.start = start;
        second.bandwidth = Bandwidth::new(Limits::default(), start);
        viewers[1] = second;
        run(&mut link, &mut viewers, 10.0..70.0, |_, _| {});
        viewers.iter_mut().for_each(|viewer| viewer.arrived_bytes = 0);
        run(&mut link, &mut viewers, 70.0..130.0, |_, _| {});
        let shares = viewers.map(|viewer| viewer.arrived_bytes as f64 * 8.0 / 60.0);
        let factor = shares[0].max(shares[1]) / shares[0].min(shares[1]);
        assert!(factor < 2.5, "seed {seed}: {shares:?}");
        assert!(shares[0] + shares[1] > 1.2e6, "seed {seed}: {shares:?}");
    }
}

/// The server's way: a layer, or sound alone, and probes for the next layer.
fn choose(viewer: &mut Viewer, layers: &mut Layers, at: u64) -> Target {
    const SOUND_BPS: u32 = 40_000;
    const LIVE: [Layer; 3] = [
        Layer { id: 0, bitrate_bps: 150_000, height: None },
        Layer { id: 1, bitrate_bps: 500_000, height: None },
        Layer { id: 2, bitrate_bps: 1_500_000, height: None },
    ];
    let left = viewer.bandwidth.estimate().saturating_sub(SOUND_BPS);
    let target = layers.choose(&LIVE, left, Wish::Auto, None, viewer.start + Duration::from_micros(at));
    let layer_bps = match target {
        Target::AudioOnly => 0,
        Target::Layer(id) => LIVE[usize::from(id)].bitrate_bps,
    };
    viewer.media_bps = f64::from(layer_bps + SOUND_BPS);
    viewer.wanted_bps = layers.wanted_bps(&LIVE, None).map_or(0, |bps| bps + SOUND_BPS);
    target
}

#[test]
fn the_right_layer_comes_within_five_seconds_of_narrowing_and_within_fifteen_of_widening() {
    for seed in SEEDS {
        for (queue_bytes_max, narrow_for) in [(8_000.0, 20.0), (30_000.0, 60.0), (60_000.0, 41.5)] {
            let mut link = Link::new(3e6, seed);
            link.queue_bytes_max = queue_bytes_max;
            let mut viewer = Viewer::new(Instant::now(), 0);
            viewer.is_elastic = false;
            let mut layers = Layers::new(Patience::default());
            let mut shown = Vec::new();
            let mut watch = |link: &mut Link, seconds: std::ops::Range<f64>| {
                shown.clear();
                run(link, std::slice::from_mut(&mut viewer), seconds, |at, viewers| {
                    if at % 100_000 == 0 {
                        shown.push(choose(&mut viewers[0], &mut layers, at));
                    }
                });
                let is_settled = |target: Target| shown.iter().rposition(|was| *was != target).map_or(0, |at| at + 1);
                let first = |target: Target| shown.iter().position(|was| *was == target);
                (is_settled(Target::Layer(1)), first(Target::Layer(2)), shown.last().copied())
            };
            let (_, top, last) = watch(&mut link, 0.0..20.0);
            assert!(top.is_some_and(|tenths| tenths < 50) && last == Some(Target::Layer(2)), "seed {seed}: {top:?}");
            link.rate_bps = 6e5;
            let (settled, ..) = watch(&mut link, 20.0..20.0 + narrow_for);
            assert!(settled <= 50, "seed {seed}, queue {queue_bytes_max}: {settled} tenths\n{shown:?}");
            link.rate_bps = 3e6;
            let (_, top, last) = watch(&mut link, 20.0 + narrow_for..50.0 + narrow_for);
            assert!(top.is_some_and(|tenths| tenths < 150), "seed {seed}, queue {queue_bytes_max}: {top:?}");
            assert_eq!(last, Some(Target::Layer(2)), "seed {seed}");
        }
    }
}

#[test]
fn numbers_and_the_viewers_clock_go_on_where_they_wrap() {
    let mut link = Link::new(2e7, 1);
    let mut viewer = Viewer::new(Instant::now(), 9_000_000);
    viewer.bandwidth.set(9e6);
    let mut least = u32::MAX;
    // 70,000 packets, and 128 ms of the clock's 64 behind its wrap at 6.4 s.
    run(&mut link, std::slice::from_mut(&mut viewer), 0.0..75.0, |_, viewers| {
        least = least.min(viewers[0].bandwidth.estimate());
    });
    assert!(viewer.arrived_bytes > 66_000 * PACKET as u64);
    assert!(least >= 8_900_000, "{least}");
    assert_eq!(viewer.bandwidth.loss(), 0.0);
    assert!(viewer.bandwidth.round_trip().unwrap() < Duration::from_millis(100));
}

#[test]
fn reports_that_are_lost_do_no_harm() {
    for seed in SEEDS {
        let mut link = Link::new(3e6, seed);
        let mut viewer = Viewer::new(Instant::now(), 1_800_000);
        viewer.reports_lost = 0.3;
        let took = time_to(&mut link, &mut viewer, 0.0..20.0, |estimate| estimate >= 1.8e6);
        assert!(took < 8.0, "seed {seed}: {took} s, {}", viewer.bandwidth.estimate());
        let took = time_to(&mut link, &mut viewer, 20.0..40.0, |estimate| estimate < 1.5e6);
        assert!(took >= 20.0, "seed {seed}: fell after {took} s to {}", viewer.bandwidth.estimate());
    }
}

#[test]
fn without_any_report_the_estimate_decays_and_comes_back() {
    let mut link = Link::new(3e6, 3);
    let mut viewer = Viewer::new(Instant::now(), 1_800_000);
    time_to(&mut link, &mut viewer, 0.0..6.0, |_| true);
    viewer.reports_lost = 1.0;
    let took = time_to(&mut link, &mut viewer, 6.0..20.0, |estimate| estimate < 1e6);
    assert!((2.0..8.0).contains(&took), "{took}");
    viewer.reports_lost = 0.0;
    let took = time_to(&mut link, &mut viewer, 20.0..40.0, |estimate| estimate >= 1.8e6);
    assert!(took < 5.0, "{took}");
}

#[test]
fn nobody_is_probed_who_does_not_report_or_has_enough() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(Limits::default(), start);
    assert_eq!(bandwidth.probe(2_000_000, start), None);
    let number = bandwidth.sent(PACKET, start);
    let now = start + Duration::from_millis(50);
    bandwidth.feedback(&report(number, &[(number, 30_000)]).unwrap(), now);
    assert_eq!(bandwidth.probe(200_000, now), None);
    let probe = bandwidth.probe(2_000_000, now).unwrap();
    assert_eq!(probe.rate_bps, 900_000);
    assert!(bandwidth.padding(now) > 0 && bandwidth.padding(now + Duration::from_secs(1)) == 0);
    assert_eq!(bandwidth.probe(2_000_000, now), None, "one at a time");
}

#[test]
fn a_report_that_is_repeated_or_on_nothing_that_was_sent_says_nothing() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(Limits::default(), start);
    let sent: Vec<u16> = (0..100).map(|_| bandwidth.sent(PACKET, start)).collect();
    let half: Vec<(u16, u64)> = sent.iter().filter(|number| *number % 2 == 0).map(|number| (*number, 1_000)).collect();
    let half = report(0, &half).unwrap();
    let now = start + Duration::from_millis(600);
    bandwidth.feedback(&half, now);
    let (loss, estimate) = (bandwidth.loss(), bandwidth.estimate());
    assert!(loss > 0.1);
    for round in 1..20 {
        let later = now + Duration::from_secs(1) * round;
        bandwidth.feedback(&half, later);
        let unsent = report(5_000, &[(5_000, 1_000), (6_000, 2_000)]).unwrap();
        bandwidth.feedback(&unsent, later);
    }
    assert_eq!((bandwidth.loss(), bandwidth.estimate()), (loss, estimate));
}

#[test]
fn a_viewers_estimate_takes_three_kibibytes_at_most() {
    let bytes = size_of::<Bandwidth>() + History::default().heap_bytes() + size_of::<Layers>();
    assert!(bytes <= 3 * 1024, "{bytes}");
}

/// Prints what a packet and a report take: `cargo test --release -- --ignored --nocapture what_the_hot_path`.
#[test]
#[ignore = "a measurement"]
fn what_the_hot_path_costs() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(Limits::default(), start);
    let (mut sent_ns, mut report_ns) = (Vec::new(), Vec::new());
    for round in 0..2_000u32 {
        let now = start + Duration::from_millis(100) * round;
        let before = Instant::now();
        let numbers: [u16; 30] = std::array::from_fn(|_| bandwidth.sent(std::hint::black_box(PACKET), now));
        sent_ns.push(before.elapsed().as_nanos() / 30);
        let arrived: Vec<_> = numbers
            .iter()
            .zip(0u64..)
            .map(|(number, step)| (*number, u64::from(round) * 100_000 + step * 1_000))
            .collect();
        let report = report(numbers[0], &arrived).unwrap();
        let before = Instant::now();
        bandwidth.feedback(std::hint::black_box(&report), now + Duration::from_millis(80));
        report_ns.push(before.elapsed().as_nanos());
    }
    sent_ns.sort_unstable();
    report_ns.sort_unstable();
    println!("sent {} ns, a report on 30 packets {} ns (medians)", sent_ns[1_000], report_ns[1_000]);
}

fn symbol() -> impl Strategy<Value = SymbolTypeTcc> {
    (0..4u16).prop_map(SymbolTypeTcc::from)
}

fn chunk() -> impl Strategy<Value = PacketStatusChunk> {
    let run = (symbol(), any::<u16>()).prop_map(|(packet_status_symbol, run_length)| {
        PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            type_tcc: StatusChunkTypeTcc::RunLengthChunk,
            packet_status_symbol,
            run_length,
        })
    });
    let vector = proptest::collection::vec(symbol(), 0..20).prop_map(|symbol_list| {
        PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
            type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
            symbol_size: SymbolSizeTypeTcc::TwoBit,
            symbol_list,
        })
    });
    prop_oneof![run, vector]
}

fn anything() -> impl Strategy<Value = TransportLayerCc> {
    let delta = prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>(), -9_000_000..9_000_000i64, 0..64_000i64];
    let deltas = proptest::collection::vec((symbol(), delta), 0..60);
    let deltas = deltas.prop_map(|deltas| {
        deltas.into_iter().map(|(type_tcc_packet, delta)| RecvDelta { type_tcc_packet, delta }).collect()
    });
    let reference = prop_oneof![0..40u32, any::<u32>()];
    (any::<u8>(), any::<u16>(), reference, proptest::collection::vec(chunk(), 0..6), deltas).prop_map(
        |(base, packet_status_count, reference_time, packet_chunks, recv_deltas)| TransportLayerCc {
            base_sequence_number: base.into(),
            packet_status_count,
            reference_time,
            packet_chunks,
            recv_deltas,
            ..Default::default()
        },
    )
}

proptest! {
    /// Whatever a viewer says, nothing panics, and the estimate stays within its limits.
    #[test]
    fn no_report_leads_out_of_the_limits(
        steps in proptest::collection::vec(
            (anything(), 0..2_000u64, 0..40usize, 0..=u8::MAX, any::<u32>(), any::<u32>()), 1..40,
        ),
        limits in (0..u32::MAX, 0..u32::MAX, 0..u32::MAX),
        reports in any::<bool>(),
    ) {
        let (start_bps, min_bps, max_bps) = limits;
        let mut now = Instant::now();
        let mut bandwidth = Bandwidth::new(Limits { start_bps, min_bps, max_bps }, now);
        for (mut feedback, ms, packets, lost, remb, wanted) in steps {
            now += Duration::from_millis(ms);
            for _ in 0..packets {
                let newest = bandwidth.sent(wanted as usize, now);
                feedback.base_sequence_number = newest.wrapping_sub(feedback.base_sequence_number % 300);
            }
            if reports {
                bandwidth.feedback(&feedback, now);
            }
            bandwidth.reported(lost, Some(remb), Some(Duration::from_millis(wanted.into())), now);
            bandwidth.turn(now);
            if let Some(probe) = bandwidth.probe(wanted, now) {
                prop_assert!(probe.rate_bps <= max_bps.max(min_bps) && probe.time <= Duration::from_secs(1));
            }
            let estimate = bandwidth.estimate();
            prop_assert!((min_bps..=max_bps.max(min_bps)).contains(&estimate), "{estimate}");
            prop_assert!((0.0..=1.0).contains(&bandwidth.loss()));
        }
    }
}
