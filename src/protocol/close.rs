//! Why the server ends a connection. 3000-3499: come back, with jitter; 3500-3999: do not.

/// A WebSocket close code (RFC 6455 section 7.4.2: 3000-3999 belong to applications).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The server drains; the reason names the milliseconds to wait before coming back.
    Bye = 3000,
    /// The client reads more slowly than its replies arrive.
    Slow = 3001,
    /// Nothing was heard from the client for too long.
    Silent = 3002,
    /// The token was wrong, or ended during the show.
    BadToken = 3500,
    /// A moderator removed the person from the room.
    Kicked = 3501,
    /// The client broke the protocol: no join in time, binary or oversized messages.
    Protocol = 3502,
    /// The person, the address or the server has too many connections.
    TooMany = 3503,
}

impl CloseCode {
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Whether a client may come back by itself.
    pub fn reconnects(code: u16) -> bool {
        !(3500..4000).contains(&code)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bye => "bye",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::BadToken => "bad_token",
            Self::Kicked => "kicked",
            Self::Protocol => "protocol",
            Self::TooMany => "too_many",
        }
    }
}
