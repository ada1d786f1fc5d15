use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    fanout::mailbox::{Item, Mailbox},
    protocol::CloseCode,
    ring::{Ring, Snap, Wire},
};

/// The way down to one connection, from any thread. Clones lead to the same connection; none keeps it alive.
#[derive(Clone)]
pub struct Outlet(pub(super) Arc<Mailbox>);

/// The message was not taken: the connection is gone, or its queue was full and it is being closed with 3001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection takes no more messages")]
pub struct Full;

impl Outlet {
    /// Sends a reply or a private message, behind the others. It goes out at once when nothing is pending before it.
    pub fn send(&self, text: Bytes) -> Result<(), Full> {
        if self.0.put(Item::Text(Wire::text(&text))) { Ok(()) } else { Err(Full) }
    }

    /// From here on, behind what was sent before, the connection is given the frames of `ring` from `position` on;
    /// `first` goes before them. A second call changes the ring.
    pub fn follow(&self, ring: Arc<Ring>, position: u64, first: Option<Snap>) {
        self.0.put(Item::Follow { ring, position, first });
    }

    /// Closes the connection, after what was sent before. A client that does not take it or does not answer is cut off
    /// after a while.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.put(Item::Close { code, reason: reason.to_owned() });
    }

    /// A number of this connection, never used twice while the server runs.
    pub fn id(&self) -> u64 {
        self.0.id
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlet({})", self.0.id)
    }
}
