//! The fold against a naive oracle: whatever a network does to the frames, a view is a prefix of the log, folded.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::protocol::Role;

/// The room's log in its simplest form: a snapshot of nothing, then events.
fn snapshot_at(log: &[Event], seq: u64) -> Snapshot {
    let mut stock = BTreeMap::new();
    let mut slow_mode = 0;
    let mut comments = Vec::new();
    for event in log.iter().filter(|e| e.seq <= seq) {
        match &event.body {
            Body::Comment { .. } => comments.push(event.clone()),
            Body::SlowMode { seconds } => slow_mode = *seconds,
            Body::Stock { sku, available, held, sold, entry, .. } => {
                let count = StockCount { available: *available, held: *held, sold: *sold, entry: *entry };
                stock.insert(sku.clone(), count);
            }
            _ => {}
        }
    }
    comments.drain(..comments.len().saturating_sub(30));
    Snapshot {
        rehearsal_of: None,
        room: "r".parse().unwrap(),
        epoch: "e".into(),
        seq,
        show: ShowState::default(),
        shelf: Vec::new(),
        stock,
        pinned: None,
        pinned_comment: None,
        explained: Vec::new(),
        planned_seconds: BTreeMap::new(),
        next: Vec::new(),
        drops: Vec::new(),
        media: MediaState::default(),
        slow_mode,
        tally: Tally::default(),
        comments,
    }
}

fn body(kind: u8, seq: u64) -> Body {
    match kind {
        0 | 1 => Body::Comment { who: Who("w".into()), name: "n".into(), role: Role::Viewer, text: seq.to_string() },
        2 => Body::SlowMode { seconds: seq as u32 },
        _ => Body::Stock {
            sku: format!("sku{}", kind % 3).parse().unwrap(),
            available: seq,
            held: 0,
            sold: 0,
            entry: seq,
            hash: String::new(),
        },
    }
}

/// A log whose numbers rise with holes, and the ends of its ticks.
fn logs() -> impl Strategy<Value = (Vec<Event>, Vec<u64>)> {
    prop::collection::vec((1u64..4, 0u8..6, any::<bool>()), 1..80).prop_map(|steps| {
        let (mut seq, mut log, mut ends) = (0, Vec::new(), vec![0]);
        for (step, kind, closes) in steps {
            seq += step;
            log.push(Event { seq, at: UnixMs(0), media: None, body: body(kind, seq) });
            if closes {
                ends.push(seq);
            }
        }
        ends.push(seq + 1);
        (log, ends)
    })
}

/// Any frame that a server may cut from the log, tick borders kept: from one end to another.
fn frame(log: &[Event], ends: &[u64], from: usize, ticks: usize) -> Frame {
    let from = from % ends.len();
    let to = (from + ticks).min(ends.len() - 1);
    let (prev, seq) = (ends[from], ends[to]);
    let events = log.iter().filter(|e| e.seq > prev && e.seq <= seq).cloned().collect();
    Frame { prev, seq, events, tally: None, left_out: None, sales_left_out: None }
}

fn same_state(view: &View, oracle: &Snapshot) {
    assert_eq!(view.seq, oracle.seq);
    assert_eq!(view.stock, oracle.stock);
    assert_eq!(view.slow_mode, oracle.slow_mode);
    let newest: Vec<&Event> = view.comments.iter().rev().take(oracle.comments.len()).rev().collect();
    assert_eq!(newest, oracle.comments.iter().collect::<Vec<_>>());
    assert!(view.comments.iter().is_sorted_by(|a, b| a.seq < b.seq), "one order, nothing twice");
}

proptest! {
    #[test]
    fn a_view_is_the_fold_of_the_log_up_to_its_cursor(
        (log, ends) in logs(),
        cuts in prop::collection::vec((any::<usize>(), 0usize..6, 0u8..10), 0..60),
    ) {
        let mut view = View::new(1_000);
        view.take_snapshot(snapshot_at(&log, 0));
        for (from, ticks, snapshots) in cuts {
            let before = view.seq;
            let frame = frame(&log, &ends, from, ticks);
            let (prev, seq) = (frame.prev, frame.seq);
            let wanted = if before < prev {
                Applied::Gap
            } else if before >= seq {
                Applied::Stale
            } else {
                Applied::Advanced(log.iter().filter(|e| e.seq > before && e.seq <= seq).count())
            };
            prop_assert_eq!(view.apply(frame), wanted);
            prop_assert_eq!(view.seq, if matches!(wanted, Applied::Advanced(_)) { seq } else { before });

            // A server may answer a gap, or nothing at all, with a snapshot of any time.
            if snapshots == 0 || (wanted == Applied::Gap && snapshots < 5) {
                view.take_snapshot(snapshot_at(&log, ends[from % ends.len()]));
            }
            same_state(&view, &snapshot_at(&log, view.seq));
        }
    }

    #[test]
    fn it_keeps_no_more_than_it_is_told(kept in 0usize..5, comments in 0u64..20) {
        let mut view = View::new(kept);
        view.take_snapshot(snapshot_at(&[], 0));
        for seq in 1..=comments {
            let events = vec![Event { seq, at: UnixMs(0), media: None, body: body(0, seq) }];
            view.apply(Frame { prev: seq - 1, seq, events, tally: None, left_out: None, sales_left_out: None });
        }
        prop_assert_eq!(view.comments.len(), kept.min(comments as usize));
        prop_assert_eq!(view.counters.forgotten, comments - view.comments.len() as u64);
        prop_assert_eq!(view.comments.back().map(|c| c.seq), (kept > 0 && comments > 0).then_some(comments));
    }
}

#[test]
fn nothing_applies_before_the_first_snapshot() {
    let mut view = View::new(10);
    let tally = Some(Tally { viewers: 3, likes: 9 });
    let frame = Frame { prev: 0, seq: 5, events: Vec::new(), tally, left_out: None, sales_left_out: None };
    assert_eq!(view.apply(frame), Applied::Gap);
    assert_eq!(view.cursor(), None);
    assert_eq!(view.tally.viewers, 3, "a tally counts in any case");
}

#[test]
fn a_new_epoch_starts_the_comments_anew() {
    let comment = |seq| Event { seq, at: UnixMs(0), media: None, body: body(0, seq) };
    let mut view = View::new(10);
    view.take_snapshot(snapshot_at(&[comment(1), comment(2)], 2));
    let newer = Snapshot { epoch: "f".into(), ..snapshot_at(&[comment(1)], 1) };
    view.take_snapshot(newer);
    assert_eq!(view.texts().collect::<Vec<_>>(), ["1"]);
    assert_eq!(view.cursor(), Some(("f", 1)));
}

#[test]
fn a_price_changes_wherever_it_is_shown() {
    let product = |amount: i64| -> Product {
        serde_json::from_value(serde_json::json!({
            "id": "p", "title": "t", "price": {"amount": amount, "currency": "CNY"}, "merchant": "main", "skus": []
        }))
        .unwrap()
    };
    let mut view = View::new(10);
    let pinned = Some(Pinned { product: product(100), explain_until: None, media: None });
    view.take_snapshot(Snapshot { shelf: vec![product(100)], pinned, ..snapshot_at(&[], 0) });
    let price = Body::Price { product: "p".parse().unwrap(), price: product(80).price };
    let event = Event { seq: 1, at: UnixMs(0), media: None, body: price };
    view.apply(Frame { prev: 0, seq: 1, events: vec![event], tally: None, left_out: None, sales_left_out: None });
    assert_eq!(view.shelf[0].price.amount, 80);
    assert_eq!(view.pinned.unwrap().product.price.amount, 80);
}

#[test]
fn a_private_message_counts_once() {
    let message = |n| -> Private {
        let hold = serde_json::json!({
            "id": crate::id::HoldId::make(), "state": "expired", "lines": [],
            "total": {"amount": 1, "currency": "CNY"}, "expires_at": 0, "nonce": ""
        });
        serde_json::from_value(serde_json::json!({"n": n, "at": 0, "type": "hold.expired", "hold": hold})).unwrap()
    };
    let mut view = View::new(10);
    for n in [1, 3, 3, 2, 4] {
        view.take_private(message(n));
    }
    assert_eq!(view.private.iter().map(|m| m.n).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(view.counters.private_missed, 1, "and the one that did not come is noticed");
}
