//! One connection's talk, without the connection: what to say, and what was heard.
//!
//! Pure: texts in and out. It numbers commands, matches answers, folds the rest into the [`View`] and says when to
//! join again.

use std::collections::HashMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use crate::{
    client::view::{Applied, Link, View},
    protocol::{ErrorCode, Event, Fault, Frame, Private, Snapshot, Tally, command::Join},
};

/// What a message meant for the caller; everything else went into the view.
#[derive(Debug)]
pub enum Heard<T> {
    Nothing,
    /// The answer to a command.
    Answer(T, Result<Value, Fault>),
    /// The view is complete and current.
    Live,
    /// The server did not let us in.
    JoinRefused(Fault),
    /// Something was missed: join again.
    Missed,
    /// The token ends soon, the server wants another.
    TokenWanted,
    /// The server ends a session that has no close frames.
    Closed {
        code: u16,
        reason: String,
    },
}

/// The state of one connection. `T` is whatever waits for a command's answer.
#[derive(Debug)]
pub struct Conversation<T> {
    next_id: u64,
    waiting: HashMap<u64, T>,
    join: Joining,
    /// Where the last gap was found.
    missed_at: Option<u64>,
    /// Resuming led to the same gap again: the next join asks for a snapshot.
    stuck: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Joining {
    /// Nothing said yet.
    Silent,
    /// The join with this id is not answered; whether a snapshot came meanwhile.
    Asked {
        id: u64,
        snapshot: bool,
    },
    /// Let in, the snapshot is still to come.
    AwaitsSnapshot,
    Done,
}

/// Any message of a server. All fields are optional: which are there says what it is.
#[derive(Deserialize)]
struct Message {
    re: Option<u64>,
    ok: Option<Value>,
    error: Option<Value>,
    snapshot: Option<Box<Snapshot>>,
    you: Option<OrUnknown<Private>>,
    auth: Option<Value>,
    close: Option<Close>,
    prev: Option<u64>,
    seq: Option<u64>,
    #[serde(default)]
    events: Vec<OrUnknown<Event>>,
    tally: Option<Tally>,
    left_out: Option<u32>,
    sales_left_out: Option<u32>,
}

/// How a data channel says what a socket's close frame says.
#[derive(Deserialize)]
struct Close {
    code: u16,
    reason: String,
}

/// A thing of a type that this client knows, or of one that it does not.
#[derive(Deserialize)]
#[serde(untagged)]
enum OrUnknown<T> {
    Known(T),
    Unknown(IgnoredAny),
}

impl<T> OrUnknown<T> {
    fn known(self, unreadable: &mut u64) -> Option<T> {
        match self {
            Self::Known(known) => Some(known),
            Self::Unknown(_) => {
                *unreadable += 1;
                None
            }
        }
    }
}

impl<T> Conversation<T> {
    pub fn new() -> Self {
        Self { next_id: 1, waiting: HashMap::new(), join: Joining::Silent, missed_at: None, stuck: false }
    }

    /// How many commands wait for their answers.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The `join` to send: with the view's cursor, or without it when resuming there just failed.
    pub fn join(&mut self, token: &str, view: &View) -> String {
        let cursor = view.cursor().filter(|_| !self.stuck);
        let join = Join {
            token: token.to_owned(),
            epoch: cursor.map(|(epoch, _)| epoch.to_owned()),
            seq: cursor.map(|(_, seq)| seq),
            // Somebody who comes back wants what she missed, also when she had no message before.
            you: (view.you > 0 || cursor.is_some()).then_some(view.you),
        };
        let id = self.next();
        self.join = Joining::Asked { id, snapshot: false };
        json!({"id": id, "join": join}).to_string()
    }

    /// A command to send; its answer comes back as [`Heard::Answer`] with `waiter`.
    pub fn ask(&mut self, name: &str, body: Value, waiter: T) -> String {
        let id = self.next();
        self.waiting.insert(id, waiter);
        json!({"id": id, name: body}).to_string()
    }

    /// Forgets those who stopped waiting.
    pub fn forget(&mut self, gone: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, waiter| !gone(waiter));
    }

    /// Everybody who still waits, when the connection is gone.
    pub fn abandon(&mut self) -> impl Iterator<Item = T> {
        self.join = Joining::Silent;
        self.waiting.drain().map(|(_, waiter)| waiter)
    }

    /// Reads one message.
    pub fn hear(&mut self, text: &str, view: &mut View) -> Heard<T> {
        let Ok(message) = serde_json::from_str::<Message>(text) else {
            view.counters.unreadable += 1;
            return Heard::Nothing;
        };
        if let Some(re) = message.re {
            return self.hear_answer(re, message.ok, message.error, view);
        }
        if let Some(snapshot) = message.snapshot {
            view.take_snapshot(*snapshot);
            return self.hear_snapshot(view);
        }
        if let Some(private) = message.you {
            if let Some(private) = private.known(&mut view.counters.unreadable) {
                view.take_private(private);
            }
            return Heard::Nothing;
        }
        if message.auth.is_some() {
            view.token_expiring = true;
            return Heard::TokenWanted;
        }
        if let Some(Close { code, reason }) = message.close {
            return Heard::Closed { code, reason };
        }
        self.hear_frame(message, view)
    }

    fn hear_answer(&mut self, re: u64, ok: Option<Value>, error: Option<Value>, view: &mut View) -> Heard<T> {
        let answer = match (ok, error) {
            (Some(ok), _) => Ok(ok),
            (None, Some(error)) => Err(readable_fault(error)),
            (None, None) => {
                view.counters.unreadable += 1;
                return Heard::Nothing;
            }
        };
        match self.join {
            Joining::Asked { id, snapshot } if id == re => match answer {
                Ok(ok) => self.hear_welcome(&ok, snapshot, view),
                Err(fault) => Heard::JoinRefused(fault),
            },
            _ => self.waiting.remove(&re).map_or(Heard::Nothing, |waiter| Heard::Answer(waiter, answer)),
        }
    }

    fn hear_welcome(&mut self, ok: &Value, snapshot: bool, view: &mut View) -> Heard<T> {
        let resumed = ok.get("resumed").and_then(Value::as_bool).unwrap_or(false);
        view.counters.resumes += u64::from(resumed);
        if resumed || snapshot {
            return self.complete(view);
        }
        self.join = Joining::AwaitsSnapshot;
        Heard::Nothing
    }

    fn hear_snapshot(&mut self, view: &mut View) -> Heard<T> {
        (self.missed_at, self.stuck) = (None, false);
        match &mut self.join {
            Joining::Asked { snapshot, .. } => {
                *snapshot = true;
                Heard::Nothing
            }
            Joining::AwaitsSnapshot => self.complete(view),
            Joining::Silent | Joining::Done => Heard::Nothing,
        }
    }

    fn complete(&mut self, view: &mut View) -> Heard<T> {
        self.join = Joining::Done;
        view.link = Link::Live;
        Heard::Live
    }

    fn hear_frame(&mut self, message: Message, view: &mut View) -> Heard<T> {
        let (prev, seq) = match (message.prev, message.seq, message.tally) {
            (Some(prev), Some(seq), _) => (prev, seq),
            // A tally alone covers no numbers.
            (_, _, Some(tally)) => {
                view.take_tally(tally);
                return Heard::Nothing;
            }
            _ => {
                view.counters.unreadable += 1;
                return Heard::Nothing;
            }
        };
        let unreadable = &mut view.counters.unreadable;
        let events = message.events.into_iter().filter_map(|event| event.known(unreadable)).collect();
        let Message { tally, left_out, sales_left_out, .. } = message;
        let frame = Frame { prev, seq, events, tally, left_out, sales_left_out };
        match view.apply(frame) {
            Applied::Gap if self.join == Joining::Done => {
                self.stuck = self.missed_at == Some(view.seq);
                self.missed_at = Some(view.seq);
                Heard::Missed
            }
            _ => Heard::Nothing,
        }
    }

    fn next(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }
}

/// A refusal with a code that this client does not know is still a refusal.
fn readable_fault(error: Value) -> Fault {
    serde_json::from_value(error.clone()).unwrap_or_else(|_| {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("refused").to_owned();
        Fault { detail: Some(error), ..Fault::new(ErrorCode::Internal, message) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &str = r#"{"snapshot":{"room":"r","epoch":"e","seq":5,"show":{"running":true,"started_at":1,
        "title":"t"},"shelf":[],"stock":{},"pinned":null,"pinned_comment":null,"media":{"live":false,"tracks":[]},
        "slow_mode":0,"tally":{"viewers":1,"likes":0},"comments":[]}}"#;

    fn joined() -> (Conversation<&'static str>, View) {
        let (mut talk, mut view) = (Conversation::new(), View::new(10));
        assert_eq!(talk.join("T", &view), r#"{"id":1,"join":{"token":"T"}}"#);
        let welcome = r#"{"re":1,"ok":{"resumed":false,"server_time":1}}"#;
        assert!(matches!(talk.hear(welcome, &mut view), Heard::Nothing));
        assert_eq!(view.link, Link::Joining, "not live before the snapshot");
        assert!(matches!(talk.hear(SNAPSHOT, &mut view), Heard::Live));
        (talk, view)
    }

    #[test]
    fn answers_find_who_asked_in_any_order() {
        let (mut talk, mut view) = joined();
        talk.ask("ping", json!({}), "first");
        assert_eq!(talk.ask("like", json!({"count": 2}), "second"), r#"{"id":3,"like":{"count":2}}"#);
        let busy = r#"{"re":3,"error":{"code":"busy","message":"later","retry_after_ms":9}}"#;
        let Heard::Answer("second", Err(fault)) = talk.hear(busy, &mut view) else { panic!("an answer") };
        assert_eq!((fault.code, fault.retry_after_ms), (ErrorCode::Busy, Some(9)));
        assert!(matches!(talk.hear(r#"{"re":2,"ok":{}}"#, &mut view), Heard::Answer("first", Ok(_))));
        assert!(matches!(talk.hear(r#"{"re":2,"ok":{}}"#, &mut view), Heard::Nothing), "answered once");
        assert_eq!(talk.waiting(), 0);
    }

    #[test]
    fn a_gap_resumes_and_the_same_gap_again_starts_over() {
        let (mut talk, mut view) = joined();
        let late = r#"{"prev":7,"seq":9,"events":[]}"#;
        assert!(matches!(talk.hear(late, &mut view), Heard::Missed));
        assert_eq!(talk.join("T", &view), r#"{"id":2,"join":{"epoch":"e","seq":5,"token":"T","you":0}}"#);
        assert!(matches!(talk.hear(late, &mut view), Heard::Nothing), "one join at a time");
        assert!(matches!(talk.hear(r#"{"re":2,"ok":{"resumed":true}}"#, &mut view), Heard::Live));
        assert!(matches!(talk.hear(late, &mut view), Heard::Missed));
        assert_eq!(talk.join("T", &view), r#"{"id":3,"join":{"token":"T"}}"#);
        assert_eq!((view.counters.gaps, view.counters.resumes), (3, 1));
    }

    #[test]
    fn what_this_client_does_not_know_is_counted_and_passed_over() {
        let (mut talk, mut view) = joined();
        let known = r#"{"seq":7,"at":1,"type":"slow_mode","seconds":4}"#;
        let unknown = r#"{"seq":6,"at":1,"type":"confetti","colour":"red"}"#;
        let frame = format!(r#"{{"prev":5,"seq":7,"events":[{unknown},{known}],"weather":"fine"}}"#);
        talk.hear(&frame, &mut view);
        assert_eq!((view.seq, view.slow_mode, view.counters.unreadable), (7, 4, 1));
        for junk in ["", "[]", "{}", "{\"re\":1}", "nonsense", "{\"you\":{\"n\":1,\"type\":\"gift\"}}"] {
            assert!(matches!(talk.hear(junk, &mut view), Heard::Nothing), "{junk}");
        }
        assert_eq!(view.counters.unreadable, 7);
        let odd = r#"{"re":9,"error":{"code":"a_code_of_tomorrow","message":"no"}}"#;
        talk.next_id = 9;
        talk.ask("ping", json!({}), "asks");
        assert!(matches!(talk.hear(odd, &mut view), Heard::Answer("asks", Err(_))));
    }

    #[test]
    fn a_tally_alone_moves_no_cursor() {
        let (mut talk, mut view) = joined();
        talk.hear(r#"{"tally":{"viewers":8,"likes":2}}"#, &mut view);
        assert_eq!((view.seq, view.tally.viewers), (5, 8));
        assert!(matches!(talk.hear(r#"{"auth":"expiring"}"#, &mut view), Heard::TokenWanted));
        assert!(view.token_expiring);
    }

    #[test]
    fn a_join_may_be_refused() {
        let (mut talk, mut view) = (Conversation::<()>::new(), View::new(10));
        talk.join("T", &view);
        let no = r#"{"re":1,"error":{"code":"unauthorized","message":"no"}}"#;
        assert!(matches!(talk.hear(no, &mut view), Heard::JoinRefused(_)));
    }
}
