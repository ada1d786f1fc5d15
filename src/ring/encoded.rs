use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{protocol::Frame, ring::Wire};

/// What a frame of a few events usually comes to; a longer one grows the buffer.
const FRAME_LEN_HINT: usize = 512;

/// One frame of a room's log, encoded once for all its readers. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub prev: u64,
    pub seq: u64,
    /// Carries a state event: swept at once.
    pub urgent: bool,
    /// The JSON, for server-sent events and data channels; a slice of `wire`.
    pub text: Bytes,
    /// The same as a WebSocket frame.
    pub wire: Wire,
    deflated: Deflated,
}

/// A frame compressed by whoever needs it first, for all who negotiated it.
#[derive(Clone, Debug, Default)]
struct Deflated(Arc<OnceLock<Wire>>);

impl Deflated {
    fn of(&self, wire: &Wire) -> &Wire {
        self.0.get_or_init(|| wire.deflated().unwrap_or_else(|| wire.clone()))
    }
}

impl Encoded {
    pub fn frame(frame: &Frame, urgent: bool) -> Self {
        let wire = Wire::text_with(FRAME_LEN_HINT, |json| {
            serde_json::to_writer(json, frame).expect("a frame is plain data");
        });
        Self { prev: frame.prev, seq: frame.seq, urgent, text: wire.payload(), wire, deflated: Deflated::default() }
    }

    /// The WebSocket frame for who negotiated permessage-deflate; the plain one where compressing it gains nothing.
    pub fn deflated(&self) -> &Wire {
        self.deflated.of(&self.wire)
    }
}

/// A room's whole state at `seq`, encoded once: `{"snapshot":{...}}`.
#[derive(Clone, Debug)]
pub struct Snap {
    pub seq: u64,
    /// Where to read on in the ring after it.
    pub position: u64,
    /// The JSON, for server-sent events and data channels; a slice of `wire`.
    pub text: Bytes,
    pub wire: Wire,
    deflated: Deflated,
}

impl Snap {
    /// As [`Encoded::deflated`].
    pub fn deflated(&self) -> &Wire {
        self.deflated.of(&self.wire)
    }

    pub(super) fn new(seq: u64, position: u64, json: &[u8]) -> Self {
        let wire = Wire::text(json);
        Self { seq, position, text: wire.payload(), wire, deflated: Deflated::default() }
    }
}
