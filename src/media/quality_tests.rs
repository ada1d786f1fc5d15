//! What a session's quality says after reports that are known.

use super::*;

const INTERVAL: Duration = Duration::from_secs(1);

fn block(ssrc: u32, highest: u32, fraction_lost: u8) -> ReceptionReport {
    ReceptionReport { ssrc, last_sequence_number: highest, fraction_lost, ..Default::default() }
}

fn sent(ssrc: u32, ntp_time: u64, octet_count: u32) -> SenderReport {
    SenderReport { ssrc, ntp_time, octet_count, ..Default::default() }
}

fn after(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn the_round_trip_is_the_echo_less_the_time_that_the_viewer_kept_it() {
    let start = Instant::now();
    let quality = Quality::new(start);
    quality.reported_to_viewer(&[sent(1, 0x1111_2222_3333_4444, 0)], start);
    quality.reported_to_viewer(&[sent(1, 0x1113_2222_3333_4444, 0)], after(start, 2_000));
    let echo = |last_sender_report, delay| ReceptionReport { last_sender_report, delay, ..block(1, 100, 0) };

    quality.heard_from_viewer(&[echo(0x0bad_0bad, 0)], after(start, 2_010));
    assert_eq!(quality.read().round_trip, None, "nobody sent that report");
    // Kept for half a second.
    quality.heard_from_viewer(&[echo(0x2222_3333, 1 << 15)], after(start, 580));
    assert_eq!(quality.read().round_trip, Some(Duration::from_millis(80)));
    // A delay longer than the time that passed is no round trip.
    quality.heard_from_viewer(&[echo(0x2222_3333, 5 << 16)], after(start, 900));
    assert_eq!(quality.read().round_trip, Some(Duration::from_millis(80)));
    quality.heard_from_viewer(&[echo(0x2222_3333, 0)], after(start, 60_000));
    assert_eq!(quality.read().round_trip, Some(Duration::from_millis(80)), "an echo of a minute ago is of then");
    quality.heard_from_viewer(&[echo(0x2222_3333, 0)], after(start, 160));
    assert_eq!(quality.read().round_trip, Some(Duration::from_millis(100)), "and a new one counts for a quarter");
}

#[test]
fn loss_is_weighed_by_what_was_expected() {
    let quality = Quality::new(Instant::now());
    quality.heard_from_viewer(&[block(1, 1_000, 0), block(2, 9_000, 0)], Instant::now());
    assert_eq!(quality.read().loss, Some(0.0));
    // 300 expected of one stream with a quarter lost, 100 of the other with none; smoothed with the zero before.
    quality.heard_from_viewer(&[block(1, 1_300, 64), block(2, 9_100, 0)], Instant::now());
    assert_eq!(quality.read().loss, Some(0.1875 / 2.0));
    for step in 2..30 {
        quality.heard_from_viewer(&[block(1, 1_000 + step * 300, 64)], Instant::now());
    }
    assert!((quality.read().loss.unwrap() - 0.25).abs() < 0.001);
}

#[test]
fn bitrates_are_of_the_last_interval_and_survive_the_wrap_of_a_counter() {
    let start = Instant::now();
    let viewer = Quality::new(start);
    viewer.reported_to_viewer(&[sent(1, 1, 0xffff_ff00), sent(2, 1, 0)], after(start, 1_000));
    viewer.reported_to_viewer(
        &[sent(1, 2, 0xffff_ff00_u32.wrapping_add(250_000)), sent(2, 2, 10_000)],
        after(start, 3_000),
    );
    assert_eq!(viewer.read().bits, Some(260_000 * 8 / 2));

    let publisher = Quality::new(start);
    for packet in 0..100 {
        publisher.received(1_250, packet % 4 == 3);
    }
    publisher.reported_to_publisher(&[], after(start, 1_000));
    assert_eq!((publisher.read().bits, publisher.read().frames), (Some(1_000_000), Some(25.0)));
    publisher.reported_to_publisher(&[], after(start, 2_000));
    assert_eq!((publisher.read().bits, publisher.read().frames), (Some(0), Some(0.0)), "she has stopped");
}

#[test]
fn what_a_viewer_tells_is_counted_once_and_never_more_than_can_be() {
    let start = Instant::now();
    let quality = Quality::new(start);
    let first_frame = Some(Duration::from_millis(140));
    let told = |freezes, ms| Watched { first_frame, freezes, frozen: Duration::from_millis(ms) };

    let news = quality.told(told(2, 700), INTERVAL, after(start, 5_000)).unwrap();
    assert_eq!(news, told(2, 700));
    let wait = quality.told(told(3, 900), INTERVAL, after(start, 5_400)).unwrap_err().wait;
    assert_eq!(wait, Duration::from_millis(600));
    let news = quality.told(told(3, 900), INTERVAL, after(start, 7_000)).unwrap();
    assert_eq!(news, Watched { first_frame: None, freezes: 1, frozen: Duration::from_millis(200) });

    // Who boasts of an hour of freezes in three seconds had at most three seconds of them; who takes back takes nothing.
    let news = quality.told(told(u32::MAX, 3_600_000), INTERVAL, after(start, 10_000)).unwrap();
    assert_eq!((news.freezes, news.frozen), (20, Duration::from_secs(3)));
    let news = quality.told(told(0, 0), INTERVAL, after(start, 20_000)).unwrap();
    assert_eq!((news.freezes, news.frozen), (0, Duration::ZERO));
    assert_eq!(quality.read().watched.first_frame, first_frame);
}

#[test]
fn streams_without_end_take_no_memory_without_end() {
    let quality = Quality::new(Instant::now());
    for ssrc in 0..10_000 {
        quality.heard_from_viewer(&[block(ssrc, 1, 0)], Instant::now());
    }
    assert_eq!(quality.book().streams.len(), STREAMS_MAX);
}
