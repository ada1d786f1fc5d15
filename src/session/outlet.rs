//! `Outlet`: where a session speaks to, whatever carries it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    fanout,
    protocol::CloseCode,
    ring::{Ring, Snap},
};

/// One connection's way out. Clones speak to the same connection, in order.
#[derive(Clone)]
pub enum Outlet {
    Socket(fanout::Outlet),
    /// A data channel or an event stream: a bounded queue to the task that drives it.
    Queue(mpsc::Sender<Out>),
}

/// What a driven connection is asked to do. Every such connection keeps room for 32 of them.
pub enum Out {
    Text(Bytes),
    Follow(Box<Follow>),
    Close(CloseCode, Box<str>),
}

pub struct Follow {
    pub ring: Arc<Ring>,
    pub position: u64,
    pub first: Option<Snap>,
}

impl Outlet {
    /// Sends a reply or a private message. A connection whose queue is full is ended: it cannot be told the truth.
    pub fn send(&self, text: Bytes) {
        match self {
            // A full outlet closes itself with 3001.
            Self::Socket(socket) => drop(socket.send(text)),
            Self::Queue(queue) => drop(queue.try_send(Out::Text(text))),
        }
    }

    /// From here on the room's frames follow, behind `first`.
    pub fn follow(&self, ring: Arc<Ring>, position: u64, first: Option<Snap>) {
        match self {
            Self::Socket(socket) => socket.follow(ring, position, first),
            Self::Queue(queue) => {
                let follow = Follow { ring, position, first };
                drop(queue.try_send(Out::Follow(Box::new(follow))));
            }
        }
    }

    pub fn close(&self, code: CloseCode, reason: &str) {
        match self {
            Self::Socket(socket) => socket.close(code, reason),
            Self::Queue(queue) => drop(queue.try_send(Out::Close(code, reason.into()))),
        }
    }
}
