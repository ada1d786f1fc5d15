//! Error codes: the stable names that clients branch on. Messages are for people and may change.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A refusal's name on the wire, the same over REST, socket and data channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    Malformed,
    UnknownCommand,
    NotJoined,
    TooLarge,
    UnsupportedMediaType,
    MethodNotAllowed,
    Unauthorized,
    Forbidden,
    NotFound,
    SoldOut,
    HoldExpired,
    NotStarted,
    LimitReached,
    PriceChanged,
    StockBelowHeld,
    AlreadyLive,
    AlreadyExists,
    Conflict,
    KeyReused,
    BadOffer,
    PreconditionRequired,
    PreconditionFailed,
    RateLimited,
    Muted,
    Kicked,
    SlowMode,
    RehearsalOnly,
    Busy,
    Internal,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownCommand => "unknown_command",
            Self::NotJoined => "not_joined",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::SoldOut => "sold_out",
            Self::HoldExpired => "hold_expired",
            Self::NotStarted => "not_started",
            Self::LimitReached => "limit_reached",
            Self::PriceChanged => "price_changed",
            Self::StockBelowHeld => "stock_below_held",
            Self::AlreadyLive => "already_live",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::KeyReused => "key_reused",
            Self::BadOffer => "bad_offer",
            Self::PreconditionRequired => "precondition_required",
            Self::PreconditionFailed => "precondition_failed",
            Self::RateLimited => "rate_limited",
            Self::Muted => "muted",
            Self::Kicked => "kicked",
            Self::SlowMode => "slow_mode",
            Self::RehearsalOnly => "rehearsal_only",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

/// A refusal as the client sees it: the `error` of a socket reply, the extra members of a problem+json body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub code: ErrorCode,
    pub message: Cow<'static, str>,
    /// The field or parameter that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<Cow<'static, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What a client may show beside the refusal: the price now, the number left, the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

impl Fault {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), param: None, retry_after_ms: None, detail: None }
    }

    pub fn malformed(param: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorCode::Malformed, message) }
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    pub fn not_found(what: &'static str) -> Self {
        Self { param: Some(what.into()), ..Self::new(ErrorCode::NotFound, format!("no such {what}")) }
    }

    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    pub fn detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = Some(detail);
        self
    }
}
