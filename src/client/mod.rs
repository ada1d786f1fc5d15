//! A viewer, an anchor and a merchant that speak the real protocol, for the demo, the tests and the load tester.
//!
//! [`Rest`] is one person's REST calls and [`Merchant`] those of a shop; [`Viewer`] is one session in a room, over a
//! WebSocket or a data channel, folded into a [`View`]; [`Anchor`] publishes a [`Clip`] by WHIP and [`Watcher`] plays
//! it by WHEP. Each of them is a handle: dropping it ends its task. Plain `http` and `ws` only, for now.
//!
//! It imports `protocol`, `id` and `clock`, and knows nothing of how the server does its part: what it can do, any
//! stranger's client can.

mod error;
mod server;

mod http;
mod merchant;
mod rest;

mod conversation;
mod link;
mod view;
mod viewer;
mod wire;

mod anchor;
mod clip;
mod codec;
mod keyframes;
mod layers;
mod peer;
mod pictures;
mod playback;
mod publisher;
mod repairs;
mod watcher;

pub use anchor::{Anchor, AnchorState, AnchorStats};
pub use clip::Clip;
pub use error::Error;
pub use http::{Http, SdpAnswer};
pub use merchant::{Merchant, NewProduct, ProductStock};
pub use pictures::PictureStats;
pub use rest::{Held, Rest};
pub use server::Server;
pub use view::{Applied, Counters, Link, View};
pub use viewer::Viewer;
pub use watcher::{TrackStats, Watcher, WatcherStats};

use std::{net::IpAddr, time::Duration};

/// Deadlines and bounds of the client side.
#[derive(Clone, Debug)]
pub struct Config {
    /// To open a TCP connection, and for the WebSocket handshake on it.
    pub connect_timeout: Duration,
    /// For one REST call, and for the answer to one command.
    pub request_timeout: Duration,
    /// A session that hears nothing for so long counts as lost.
    pub silence_max: Duration,
    /// Whether a lost session comes back by itself.
    pub reconnect: bool,
    /// Full jitter: the wait before attempt n is random up to `reconnect_base * 2^n`, at most `reconnect_max`.
    pub reconnect_base: Duration,
    pub reconnect_max: Duration,
    /// Commands of one viewer that wait to be sent or answered, of each; full: the caller waits.
    pub commands_max: usize,
    /// Comments, private messages, mutes and kicks that a view keeps, of each; full: one goes, the oldest message.
    pub keep_max: usize,
    /// The longest message or body that is read; a longer one fails the session or call.
    pub message_len_max: usize,
    /// From the POST of an offer to a connected peer.
    pub media_timeout: Duration,
    /// The local address that connections start from; a crowd spreads over 127.0.0.2, .3, ...
    pub bind: Option<IpAddr>,
    /// A keyframe request makes the anchor go on at the clip's next keyframe, at most this often; `None`: it only counts.
    pub skip_to_keyframe: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            silence_max: Duration::from_secs(25),
            reconnect: true,
            reconnect_base: Duration::from_millis(250),
            reconnect_max: Duration::from_secs(10),
            commands_max: 64,
            keep_max: 1_000,
            message_len_max: 4 << 20,
            media_timeout: Duration::from_secs(10),
            bind: None,
            skip_to_keyframe: Some(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod media_tests;
#[cfg(test)]
mod viewer_tests;
