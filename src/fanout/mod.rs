//! Many sockets, one writer per core: what a room says reaches its viewers, and what they say reaches their sessions.
//!
//! A shard is a thread with a single-threaded runtime. A socket moves to one after its upgrade and stays. Reading is a
//! small task per connection, out of one buffer per shard; writing is ours alone: a sweep visits the connections of a shard in
//! staggered slots and gives each the frames between its position in the room's ring and the head. Frames are encoded
//! once and shared; a connection owns a position, the rest of a half-written frame, and a small bounded queue for
//! replies that exists only while it is used. It deliberately does not know rooms, tokens or commands: it carries
//! text up to an [`Inbound`] and frames down through an [`Outlet`].

mod batch;
mod config;
mod connection;
#[expect(clippy::module_inception, reason = "the file is named for its type")]
mod fanout;
mod incoming;
mod inflate;
mod mailbox;
mod outlet;
mod pace;
mod reader;
mod shard;
mod sink;
mod stats;
mod sweep;

#[cfg(test)]
mod tests;

use std::pin::Pin;

use bytes::Bytes;

pub use config::Config;
pub use fanout::{Error, Fanout, Refused};
pub use outlet::{Full, Outlet};
pub use stats::Stats;

/// A socket after its HTTP upgrade was answered.
pub struct Socket {
    pub stream: std::net::TcpStream,
    /// With TLS, whose handshake is done.
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// What was read of the client beyond the upgrade, deciphered.
    pub read_ahead: Bytes,
    /// permessage-deflate was agreed on, without context takeover on either side (RFC 7692).
    pub deflates: bool,
}

/// What a connection says, told to whoever sits above.
pub trait Inbound: Send + 'static {
    /// The connection is there; `outlet` is the way down to it.
    fn open(&mut self, outlet: Outlet);

    /// One message of the client. The next one is read when this future is done, which is the back-pressure; it is
    /// never dropped half-way, except when the shard itself stops. It runs on the shard's thread: it must not block
    /// nor compute for long.
    fn message<'a>(&'a mut self, text: &str) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// The connection is gone, called once and last. `code` is the close code we gave, else the client's, else 1005
    /// (it gave none) or 1006 (it vanished).
    fn closed(&mut self, code: u16);
}
