//! One number for where a show has got to: two rooms that saw the same show have the same.
//!
//! It is the SHA-256 (hex) of the canonical JSON (RFC 8785) of what a late joiner would see, without what is different
//! each time a show is played:
//!
//! - times: when the show, a card or a comment began, and until when; the publisher's media time;
//! - ids that the server makes: the room's, numbers of events and of ledger entries, `who`; what people choose stays:
//!   names, products, SKUs;
//! - the epoch, and the tallies: viewers and likes;
//! - the picture: whether it is live is a matter of the connection, and it is not on the tape.
//!
//! Of people who are silenced it has their number. `v` changes with what goes in.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    protocol::{Body, Event, Role},
    room::state::State,
};

/// What goes in, and how it is written.
const VERSION: u32 = 1;

/// The hash of a room's state, in hex.
pub fn state_hash(state: &State) -> String {
    let canonical = serde_json_canonicalizer::to_vec(&seen(state)).expect("a state is plain data with text keys");
    digest(&SHA256, &canonical).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seen(state: &State) -> Value {
    let counts = |count: &crate::protocol::StockCount| json!([count.available, count.held, count.sold]);
    let stock: serde_json::Map<String, Value> =
        state.stock.iter().map(|(sku, count)| (sku.to_string(), counts(count))).collect();
    let explained = state.run_sheet.explained.iter();
    let explained: Vec<Value> = explained.map(|e| json!([e.product, e.title, e.price])).collect();
    json!({
        "v": VERSION,
        "show": [state.show.running, state.show.title],
        "shelf": state.shelf,
        "stock": stock,
        "pinned": state.pinned.as_ref().map(|pinned| &pinned.product),
        "pinned_comment": state.pinned_comment.as_ref().map(|c| said(&c.name, c.role, &c.text)),
        "explained": explained,
        "planned_seconds": state.run_sheet.planned_seconds,
        "slow_mode": state.slow_mode,
        "silenced": [state.mutes.len(), state.kicks.len()],
        "comments": state.comments.iter().filter_map(comment).collect::<Vec<_>>(),
    })
}

#[derive(Serialize)]
struct Said<'a>(&'a str, Role, &'a str);

fn said<'a>(name: &'a str, role: Role, text: &'a str) -> Said<'a> {
    Said(name, role, text)
}

fn comment(event: &Event) -> Option<Said<'_>> {
    match &event.body {
        Body::Comment { name, role, text, .. } => Some(said(name, *role, text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::UnixMs, id::Who, protocol::StockCount};

    fn comment_at(seq: u64, at: i64, who: &str, text: &str) -> Event {
        let body = Body::Comment { who: Who(who.into()), name: "Ann".into(), role: Role::Viewer, text: text.into() };
        Event { seq, at: UnixMs(at), media: None, body }
    }

    fn state(room: &str, shift: i64) -> State {
        let mut state = State::new(room.parse().unwrap(), "Show".into());
        let first = u64::try_from(shift).unwrap() + 1;
        let started = Event { seq: first, at: UnixMs(shift), media: None, body: Body::ShowStarted {} };
        state.fold(&started, true);
        state.fold(&comment_at(first + 1, shift + 5, room, "hello"), true);
        state.stock.insert("red".parse().unwrap(), StockCount { available: 3, held: 1, sold: 0, entry: first });
        state.likes = first;
        state
    }

    #[test]
    fn times_made_ids_and_tallies_do_not_count() {
        assert_eq!(state_hash(&state("a", 0)), state_hash(&state("b", 1_000)));
    }

    #[test]
    fn everything_that_a_late_joiner_sees_counts() {
        let changes: [fn(&mut State); 7] = [
            |s| s.show.running = false,
            |s| s.show.title.push('!'),
            |s| s.slow_mode = 5,
            |s| s.fold(&comment_at(9, 9, "a", "hello"), true),
            |s| s.stock.values_mut().for_each(|count| count.held = 0),
            |s| s.mutes.extend([(Who("x".into()), UnixMs(1))]),
            |s| s.run_sheet.planned_seconds.extend([("scarf".parse().unwrap(), 60)]),
        ];
        let mut seen = vec![state_hash(&state("a", 0))];
        for change in changes {
            let mut state = state("a", 0);
            change(&mut state);
            seen.push(state_hash(&state));
        }
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
