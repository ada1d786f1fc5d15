//! `Shop`: everything a person can reach, and every act, checked against who may.
//!
//! The acts themselves are in `hosting.rs` (the show), `goods.rs` (products and stock), `buying.rs` (holds and orders)
//! and `watching.rs` (media).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::{
    clock::Clock,
    id::{RoomId, Sub},
    media::Media,
    order::Desk,
    protocol::{ErrorCode, Fault, Private},
    room::{Handle, Rooms},
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
    /// Products are put one after another, so that ledger and catalogue agree.
    pub putting: Arc<Mutex<()>>,
}

impl Shop {
    pub fn person(&self, token: &str) -> Result<Person, Fault> {
        self.keyring.person(token, self.clock.now())
    }

    pub fn room(&self, room: &RoomId) -> Result<Handle, Fault> {
        self.rooms.get(room).ok_or_else(|| Fault::not_found("room"))
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
