//! `Shop`: everything a person can reach, and every act, checked against who may.
//!
//! The acts themselves are in `hosting.rs` (the show), `goods.rs` (products and stock), `buying.rs` (holds and orders)
//! and `watching.rs` (media).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    clock::Clock,
    id::{RoomId, Sub, Who},
    media::Media,
    order::Desk,
    protocol::{ErrorCode, Fault, Private},
    room::{Demand, Handle, Rooms},
    session::{Keyring, Limits, Person, Presence},
};

/// Who says that money was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payment {
    /// The merchant's own system: only merchants and admins confirm.
    #[default]
    External,
    /// Nobody pays: buyers confirm their own holds. For demos and tests.
    Sandbox,
}

/// The parts of the server that acts need. Clones share them.
#[derive(Clone)]
pub struct Shop {
    pub clock: Clock,
    pub keyring: Keyring,
    pub rooms: Rooms,
    pub desk: Desk,
    pub media: Media,
    pub presence: Arc<Presence>,
    pub limits: Arc<Limits>,
    pub payment: Payment,
    pub ledger_public: bool,
    /// The room that this shop rehearses. Nothing that is done in a rehearsal reaches the real shop: it has a ledger,
    /// a catalogue, a tape, people and limits of its own.
    pub rehearsal_of: Option<RoomId>,
    /// Whether simulated people may act here: in rehearsals, and where `loadtest.allow` says so.
    pub simulated_act: bool,
    /// Products are put one after another, so that ledger and catalogue agree.
    pub putting: Arc<Mutex<()>>,
}

impl Shop {
    pub fn person(&self, token: &str) -> Result<Person, Fault> {
        self.keyring.person(token, self.clock.wall())
    }

    pub fn room(&self, room: &RoomId) -> Result<Handle, Fault> {
        self.rooms.get(room).ok_or_else(|| Fault::not_found("room"))
    }

    /// A simulated person only watches in a real room.
    pub fn may_act(&self, person: &Person) -> Result<(), Fault> {
        match person.claims().sim && !self.simulated_act {
            true => Err(Fault::new(ErrorCode::RehearsalOnly, "simulated people act in rehearsals only")),
            false => Ok(()),
        }
    }

    /// Whether a person is left out of the counts of viewers and likes.
    pub fn is_uncounted(&self, person: &Person) -> bool {
        person.claims().sim && self.rehearsal_of.is_none()
    }

    /// Notes on the tape that somebody came. Who is not counted and does nothing leaves no trace.
    pub(super) fn note_join(&self, person: &Person, room: &Handle, who: &Who) {
        if self.may_act(person).is_ok() {
            room.note(self.clock.now(), who, Demand::Join { sim: person.claims().sim });
        }
    }

    /// A person's private messages after number `after`, oldest first.
    pub async fn messages(&self, sub: &Sub, after: u64, limit: usize) -> Result<Vec<Private>, Fault> {
        Ok(self.desk.messages(sub, after, limit).await?)
    }
}

/// Keys are 1 to 128 visible ASCII characters.
pub(super) fn checked_key(key: &str) -> Result<(), Fault> {
    match (1..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Fault::malformed("key", "an idempotency key has 1 to 128 visible ASCII characters")),
    }
}

pub(super) fn checked_text(param: &'static str, text: &str, chars_max: usize) -> Result<String, Fault> {
    let text = text.trim();
    let fits = (1..=chars_max).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => {
            Err(Fault::malformed(param, format!("{param} has 1 to {chars_max} characters and no control characters")))
        }
    }
}

pub(super) fn internal(error: impl std::fmt::Display) -> Fault {
    tracing::error!(%error, "an act failed");
    Fault::new(ErrorCode::Internal, "the server could not do this; it is in its log")
}
