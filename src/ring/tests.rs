use std::{sync::Arc, thread};

use proptest::prelude::*;

use crate::{
    clock::UnixMs,
    protocol::{Body, Event, Frame, Tally},
    ring::{Config, Encoded, Read, Ring},
};

fn state(seq: u64) -> Event {
    Event { seq, at: UnixMs(0), media: None, body: Body::SlowMode { seconds: seq as u32 } }
}

fn frame(prev: u64, seq: u64, events: impl IntoIterator<Item = u64>) -> Encoded {
    let events: Vec<Event> = events.into_iter().map(state).collect();
    let urgent = !events.is_empty();
    let tally = events.is_empty().then(Tally::default);
    Encoded::frame(&Frame { prev, seq, events, tally, left_out: None, sales_left_out: None }, urgent)
}

fn snapshot(seq: u64) -> String {
    format!("{{\"snapshot\":{{\"seq\":{seq}}}}}")
}

fn ring(config: Config) -> Arc<Ring> {
    Ring::new(config, "e1".to_owned(), 0, snapshot(0))
}

/// A client that keeps to the frame rule, and what it has seen.
#[derive(Default)]
struct Client {
    position: u64,
    cursor: u64,
    seen: Vec<u64>,
    fell_off: usize,
}

impl Client {
    fn read(&mut self, ring: &Ring, bytes_max: usize) {
        let mut frames = Vec::new();
        match ring.read(self.position, bytes_max, &mut frames) {
            Read::UpTo(position) => {
                assert_eq!(position, self.position + frames.len() as u64);
                assert!(position <= ring.head(), "the head is behind what can be read");
                self.position = position;
                frames.iter().for_each(|frame| self.apply(frame));
            }
            Read::FellOff => self.take_snapshot(ring),
        }
    }

    fn apply(&mut self, encoded: &Encoded) {
        let frame: Frame = serde_json::from_slice(&encoded.text).unwrap();
        assert!(frame.prev <= self.cursor, "a gap: at {} came ({}, {}]", self.cursor, frame.prev, frame.seq);
        if self.cursor >= frame.seq {
            return;
        }
        let news = frame.events.iter().map(|event| event.seq).filter(|seq| *seq > self.cursor);
        self.seen.extend(news);
        self.cursor = frame.seq;
    }

    /// A snapshot stands for every state event up to its number.
    fn take_snapshot(&mut self, ring: &Ring) {
        let snap = ring.snapshot();
        self.fell_off += 1;
        if snap.seq < self.cursor {
            return ring.want_snapshot();
        }
        self.seen.extend(self.cursor + 1..=snap.seq);
        self.cursor = snap.seq;
        self.position = snap.position;
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A frame over so many numbers; every number is a state event, zero is a tally.
    Push(u64),
    /// The snapshot of the state so many numbers ago.
    Snapshot(u64),
    Read {
        reader: usize,
        bytes_max: usize,
    },
    Resume {
        reader: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4u64).prop_map(Step::Push),
        1 => (0..6u64).prop_map(Step::Snapshot),
        3 => (0..3usize, 0..600usize).prop_map(|(reader, bytes_max)| Step::Read { reader, bytes_max }),
        1 => (0..3usize).prop_map(|reader| Step::Resume { reader }),
    ]
}

proptest! {
    #[test]
    fn a_reader_sees_every_state_event_once_and_in_order(
        steps in prop::collection::vec(step(), 1..120),
        frames_max in 1..12usize,
        bytes_max in 1..2_000usize,
    ) {
        let ring = ring(Config { frames_max, bytes_max });
        let mut seq = 0;
        let mut clients = [Client::default(), Client::default(), Client::default()];

        for step in steps {
            match step {
                Step::Push(count) => {
                    ring.push(frame(seq, seq + count, seq + 1..=seq + count));
                    seq += count;
                }
                Step::Snapshot(ago) => ring.set_snapshot(seq.saturating_sub(ago), snapshot(seq.saturating_sub(ago))),
                Step::Read { reader, bytes_max } => clients[reader].read(&ring, bytes_max),
                Step::Resume { reader } => {
                    let client = &mut clients[reader];
                    match ring.position_after(client.cursor) {
                        Some(position) => client.position = position,
                        None => client.take_snapshot(&ring),
                    }
                }
            }
        }

        ring.set_snapshot(seq, snapshot(seq));
        for client in &mut clients {
            while client.position < ring.head() {
                client.read(&ring, 300);
            }
            prop_assert_eq!(client.cursor, seq);
            prop_assert_eq!(&client.seen, &(1..=seq).collect::<Vec<_>>());
        }
    }
}

#[test]
fn readers_on_other_threads_see_one_order_without_gaps() {
    const FRAMES: u64 = 20_000;
    let ring = ring(Config { frames_max: 64, bytes_max: 1 << 20 });

    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let mut client = Client::default();
                while client.cursor < FRAMES {
                    client.read(&ring, 4_096);
                }
                assert_eq!(client.seen, (1..=FRAMES).collect::<Vec<_>>());
            });
        }
        for seq in 1..=FRAMES {
            ring.push(frame(seq - 1, seq, [seq]));
            if ring.snapshot_wanted() {
                ring.set_snapshot(seq, snapshot(seq));
            }
        }
    });
}

#[test]
fn a_ring_forgets_its_oldest_frames_and_says_so() {
    let ring = ring(Config { frames_max: 8, bytes_max: 1 << 20 });
    (1..=20).for_each(|seq| ring.push(frame(seq - 1, seq, [seq])));

    assert_eq!(ring.head(), 20);
    assert_eq!(ring.read(11, 1 << 20, &mut Vec::new()), Read::FellOff);
    assert_eq!(ring.read(12, 1 << 20, &mut Vec::new()), Read::UpTo(20));
    assert_eq!(ring.read(21, 1 << 20, &mut Vec::new()), Read::FellOff, "a position that was never reached");
    assert_eq!(ring.position_after(11), None);
    assert_eq!(ring.position_after(12), Some(12));
    assert_eq!(ring.position_after(20), Some(20));
    assert_eq!(ring.position_after(21), None);
}

#[test]
fn bytes_are_bounded_but_the_newest_frame_stays() {
    let ring = ring(Config { frames_max: 100, bytes_max: 1 });
    (1..=3).for_each(|seq| ring.push(frame(seq - 1, seq, [seq])));

    let mut frames = Vec::new();
    assert_eq!(ring.read(2, 1, &mut frames), Read::UpTo(3));
    assert_eq!(frames.len(), 1);
    assert_eq!(ring.read(1, 1, &mut frames), Read::FellOff);
}

#[test]
fn a_fresh_snapshot_is_wanted_long_before_readers_would_fall_behind_it() {
    let ring = ring(Config { frames_max: 40, bytes_max: 1 << 20 });
    let wanted_at = (1..=40).find(|seq| {
        ring.push(frame(seq - 1, *seq, [*seq]));
        ring.snapshot_wanted()
    });
    assert_eq!(wanted_at, Some(11));

    ring.set_snapshot(11, snapshot(11));
    assert!(!ring.snapshot_wanted());
    assert_eq!(ring.snapshot().position, 11);
}

#[tokio::test]
async fn a_waiting_reader_hears_of_a_frame_and_of_the_end() {
    let ring = ring(Config::default());
    let waiting = tokio::spawn({
        let ring = ring.clone();
        async move {
            ring.changed(0).await;
            let first = ring.head();
            ring.changed(first).await;
            (first, ring.is_closed())
        }
    });

    ring.push(frame(0, 1, [1]));
    tokio::task::yield_now().await;
    ring.close();
    assert_eq!(waiting.await.unwrap(), (1, true));
}

#[test]
fn the_text_of_a_frame_is_a_slice_of_its_wire() {
    let encoded = frame(0, 1, [1]);
    let wire = encoded.wire.bytes();
    assert_eq!(encoded.text.as_ptr(), wire[wire.len() - encoded.text.len()..].as_ptr());
    assert_eq!(wire[0], 0x81);
}

#[test]
#[should_panic(expected = "follows on")]
fn a_frame_that_leaves_a_gap_is_a_bug_of_the_writer() {
    ring(Config::default()).push(frame(1, 2, [2]));
}
