//! `quality`: a viewer tells what her player counted, and hears what the server sees of her connection. The anchor
//! hears of her uplink.

use serde::{Deserialize, Serialize};

use crate::id::SessionId;

/// The command. A session that watches tells what it counted since it began; without a session it asks for the
/// room's publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualityReport {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// From the wish to watch to the first picture on the screen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_frame_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freezes: Option<u32>,
    /// How long the picture stood still, all freezes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_ms: Option<u64>,
}

impl QualityReport {
    /// Whether it says more than it asks.
    pub fn tells(&self) -> bool {
        self.first_frame_ms.is_some() || self.freezes.is_some() || self.freeze_ms.is_some()
    }
}

/// The command `view`: what a viewer wants of the picture of her session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRequest {
    pub session: SessionId,
    #[serde(default)]
    pub layer: LayerWish,
    /// Of the picture on her screen, in pixels: no larger layer is sent than fills it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
}

/// Which of the anchor's layers; the link may not carry it, and then the next smaller one comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerWish {
    /// The best that the link and the screen take.
    #[default]
    Auto,
    High,
    Middle,
    Low,
    /// The sound alone.
    Audio,
}

/// The answer. What is not known yet is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Media per second: in from a publisher, out to a viewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u64>,
    /// Whole pictures per second from a publisher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<f32>,
    /// The part of packets that did not arrive at the first attempt; 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// What a viewer's link is estimated to carry, a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bits: Option<u64>,
    /// The layer that a viewer gets, from 0 for the smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u8>,
}
