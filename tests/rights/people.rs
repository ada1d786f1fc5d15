//! Everybody who could knock.

use serde_json::json;

use super::{OTHER_ROOM, ROOM};
use crate::support::token::{Tokens, claims, with};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// Of this room.
    Anchor,
    /// With an anchor's token for this room, but not the one that the room names.
    Rival,
    /// The anchor of another room.
    OtherAnchor,
    /// Not narrowed by `can`.
    Assistant,
    /// Narrowed to nothing.
    Idle,
    Pinner,
    Moderator,
    Shelver,
    Counter,
    OtherAssistant,
    Viewer,
    Neighbour,
    /// With a token for another room.
    Foreigner,
    /// Whose products they are.
    Owner,
    OtherMerchant,
    Promoter,
    Admin,
    Nobody,
    Forger,
    Latecomer,
}

use Person::{
    Admin, Anchor, Assistant, Counter, Foreigner, Forger, Idle, Latecomer, Moderator, Neighbour, Nobody, OtherAnchor,
    OtherAssistant, OtherMerchant, Owner, Pinner, Promoter, Rival, Shelver, Viewer,
};

pub const EVERYBODY: &[Person] = &[
    Anchor,
    Rival,
    OtherAnchor,
    Assistant,
    Idle,
    Pinner,
    Moderator,
    Shelver,
    Counter,
    OtherAssistant,
    Viewer,
    Neighbour,
    Foreigner,
    Owner,
    OtherMerchant,
    Promoter,
    Admin,
    Nobody,
    Forger,
    Latecomer,
];

/// Without a token that anybody should take.
pub const UNKNOWN: &[Person] = &[Nobody, Forger, Latecomer];

/// With a good token that is for another room.
pub const ELSEWHERE: &[Person] = &[OtherAnchor, OtherAssistant, Foreigner];

impl Person {
    pub fn token(self, tokens: &Tokens, anchor: &str) -> Option<String> {
        let of = |role: &str, room: &str, sub: &str| tokens.mint(&claims(room, role, sub));
        Some(match self {
            Anchor => tokens.anchor(ROOM, anchor),
            Rival => tokens.anchor(ROOM, "rival"),
            OtherAnchor => tokens.anchor(OTHER_ROOM, "other-anchor"),
            Assistant => of("assistant", ROOM, "assistant"),
            Idle => tokens.assistant(ROOM, "idle", &[]),
            Pinner => tokens.assistant(ROOM, "pinner", &["pin"]),
            Moderator => tokens.assistant(ROOM, "moderator", &["moderate"]),
            Shelver => tokens.assistant(ROOM, "shelver", &["shelf"]),
            Counter => tokens.assistant(ROOM, "counter", &["stock"]),
            OtherAssistant => of("assistant", OTHER_ROOM, "other-assistant"),
            Viewer => tokens.viewer(ROOM, "viewer"),
            Neighbour => tokens.viewer(ROOM, "neighbour"),
            Foreigner => tokens.viewer(OTHER_ROOM, "foreigner"),
            Owner => tokens.merchant("main"),
            OtherMerchant => tokens.merchant("other"),
            Promoter => tokens.mint(&with(claims(ROOM, "promoter", "promoter"), json!({ "ref": "P1" }))),
            Admin => tokens.admin(),
            Nobody => return None,
            Forger => tokens.forged(ROOM, anchor),
            Latecomer => tokens.expired(ROOM, "latecomer"),
        })
    }

    pub fn is_known(self) -> bool {
        !UNKNOWN.contains(&self)
    }

    pub fn is_in_the_room(self) -> bool {
        self.is_known() && !ELSEWHERE.contains(&self)
    }
}
