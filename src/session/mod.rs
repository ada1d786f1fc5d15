//! One person and what they may do: tokens, rights, limits, and the commands of a live connection.
//!
//! [`Shop`] is every act that a person can ask for, checked against who may; REST and sockets call the same ones.
//! [`Rehearsals`] says which shop that is, the real one or that of a rehearsal. [`Live`] is one joined connection, over a WebSocket or a data channel. It knows no HTTP: no status, no header.

mod allow;
mod arrival;
mod auth;
mod buying;
mod channel;
mod door;
mod goods;
mod hosting;
mod limits;
mod live;
mod outlet;
mod presence;
pub mod rehearsal;
pub mod routing;
mod shop;
mod stream;
mod watching;

use serde::{Deserialize, Serialize};

pub use arrival::Arrival;
pub use auth::{Keyring, Person, SECRET_LEN_MIN};
pub use channel::Channels;
pub use goods::ProductBody;
pub use hosting::RoomBody;
pub use limits::{Config as LimitsConfig, Limits, Network};
pub use live::Live;
pub use outlet::Outlet;
pub use presence::{ConnectionId, Presence};
pub use rehearsal::{RehearsalBody, Rehearsals, is_rehearsal};
pub use shop::{Payment, Shop};
pub use stream::{Heard, Listener, Next};

/// Settings of tokens.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The key that tokens are signed with: at least 32 bytes. It has no default.
    pub secret: String,
    /// The key before: its tokens are still taken, none is signed with it.
    pub previous_secret: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |secret: &str| if secret.is_empty() { "(none)" } else { "(masked)" };
        f.debug_struct("AuthConfig")
            .field("secret", &shown(&self.secret))
            .field("previous_secret", &shown(&self.previous_secret))
            .finish()
    }
}
