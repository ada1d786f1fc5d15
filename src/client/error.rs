//! What can go wrong on the client's side of the wire.

use std::io;

use crate::protocol::{CloseCode, ErrorCode, Fault};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server understood and said no.
    #[error("refused: {}: {}", .0.code.as_str(), .0.message)]
    Refused(Fault),
    /// An HTTP status without a readable problem body.
    #[error("the server answered {status}")]
    Status { status: u16, body: String },
    #[error("no answer in time: {0}")]
    Timeout(&'static str),
    #[error("cannot reach the server: {0}")]
    Connect(#[source] io::Error),
    #[error("the call failed: {0}")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection went away before the answer; whether the command was done is not known.
    #[error("the connection was lost")]
    Lost,
    /// The server closed the session for good, or the session's owner ended it.
    #[error("the session is over ({})", .code.map_or("closed", close_name))]
    Ended { code: Option<u16> },
    /// The server's message is not what the protocol promises.
    #[error("not understood: {0}")]
    Protocol(String),
    #[error("not a usable address: {0}")]
    Address(String),
    #[error("webrtc: {0}")]
    Webrtc(#[from] webrtc::error::Error),
    #[error("not a usable clip: {0}")]
    Clip(&'static str),
}

impl Error {
    /// The refusal's code, when the server refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(fault) => Some(fault.code),
            _ => None,
        }
    }

    /// Whether a later attempt may well succeed without anything changing on this side.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(fault) => passes(fault),
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Timeout(_) | Self::Connect(_) | Self::Http(_) | Self::Lost | Self::Webrtc(_) => true,
            Self::Ended { .. } | Self::Protocol(_) | Self::Address(_) | Self::Clip(_) => false,
        }
    }
}

/// Whether a refusal may well be none a little later.
pub(super) fn passes(fault: &Fault) -> bool {
    use ErrorCode::{AlreadyLive, Busy, Internal, RateLimited};
    matches!(fault.code, AlreadyLive | Busy | Internal | RateLimited)
}

fn close_name(code: u16) -> &'static str {
    const CODES: [CloseCode; 7] = [
        CloseCode::Bye,
        CloseCode::Slow,
        CloseCode::Silent,
        CloseCode::BadToken,
        CloseCode::Kicked,
        CloseCode::Protocol,
        CloseCode::TooMany,
    ];
    CODES.iter().find(|c| c.number() == code).map_or("closed", |c| c.name())
}
