use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{worker::Scene, *};

/// What the targets take together is three seconds.
const TIME_MAX: Duration = Duration::from_millis(500);
const INPUTS_MAX: u64 = 20_000;
/// A longer run, with inputs of its own, where nobody has a fuzzer.
const SECONDS: &str = "MAISHOU_FUZZ_SECONDS";

/// Valid inputs with a few bytes, pieces or lengths changed, the same ones each time.
fn mutated(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let longer: Option<u64> = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    let seed = longer.map_or(5, |_| rand::random());
    let time_max = longer.map_or(TIME_MAX, Duration::from_secs);
    let inputs_max = longer.map_or(INPUTS_MAX, |_| u64::MAX);
    let (seeds, mut rng, start) = ((target.seeds)(), SmallRng::seed_from_u64(seed), Instant::now());
    seeds.iter().for_each(|seed| (target.run)(seed));
    for count in 0..inputs_max {
        let mut input = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..5) {
            mutate(&mut input, &seeds, &mut rng);
        }
        (target.run)(&input);
        if start.elapsed() > time_max {
            return println!("{name}: {count} inputs of seed {seed}");
        }
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut SmallRng) {
    let at = rng.random_range(0..input.len().max(1));
    match rng.random_range(0..6) {
        0 if at < input.len() => input[at] = rng.random(),
        1 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        2 if at < input.len() => input[at] = [0, 0xff, 0x7f, 0x80][rng.random_range(0..4)],
        3 => input.truncate(at),
        4 => {
            let other = &seeds[rng.random_range(0..seeds.len())];
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let end = (at + rng.random_range(0..40)).min(input.len());
            let part = input[at.min(end)..end].to_vec();
            input.extend_from_slice(&part);
        }
    }
}

/// A length of 0xFFFF words: the crate's parser of one kind of packet adds one to it, and must not be asked alone.
const REPORT_OF_ANY_LENGTH: &[u8] = b"\xff\x00\x00\xfb\x03\xff\x87\xff\xff\xff\x00\x04\x00\x00";

#[test]
fn what_a_fuzzer_found_breaks_nothing_any_more() {
    super::feedback(REPORT_OF_ANY_LENGTH);
}

#[test]
fn no_datagram_breaks_a_worker() {
    mutated("worker");
}

#[test]
fn no_check_breaks_the_server() {
    mutated("stun");
}

#[test]
fn no_payload_breaks_a_codec() {
    mutated("payload");
}

#[test]
fn no_offer_breaks_the_negotiation() {
    mutated("sdp");
}

#[test]
fn no_packet_breaks_a_channel() {
    mutated("channel");
}

#[test]
fn no_report_breaks_the_estimate() {
    mutated("feedback");
}

/// The seeds reach what they are for: else the fuzzer would try in vain.
#[test]
fn the_scene_of_the_worker_shows_a_picture_and_takes_reports() {
    let mut scene = Scene::new();
    for input in seeds::worker() {
        let mut input = &input[..];
        while let Some((what, bytes)) = chunk(&mut input) {
            scene.play(what, bytes);
        }
    }
    let counts = &scene.worker.counts;
    assert!(counts.packets_in >= 30 && counts.packets_out >= 5, "{counts:?}");
    assert!(counts.pli_in > 0 && counts.nack_in > 0, "{counts:?}");
}

/// Found by the target: a message of one byte that the crate has for its own use made it panic.
#[test]
fn a_control_message_of_the_crates_own_is_passed_over() {
    let data = [0, 3, 0, 17, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 50, 0, 0, 0, 0];
    run("channel", &piece(0, &data));
}
