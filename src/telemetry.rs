//! Logs: spans per connection and room, as text for people or JSON for machines.
//!
//! Nothing secret is logged at any level: no token, ICE password, SDP, comment or name. The libraries under us speak
//! only of what goes wrong, whatever level is set for ourselves.

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Settings of the log.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `text` or `json`.
    pub format: Format,
    /// `error`, `warn`, `info` or `debug`.
    pub level: Level,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

/// Libraries that warn of what any stranger can send, or that print what must not be printed.
const SILENT: [&str; 14] = [
    "rtc",
    "rtc_datachannel",
    "rtc_dtls",
    "rtc_ice",
    "rtc_interceptor",
    "rtc_rtcp",
    "rtc_rtp",
    "rtc_sctp",
    "rtc_sdp",
    "rtc_shared",
    "rtc_srtp",
    "rtc_stun",
    "quinn_udp",
    "webrtc",
];

/// Starts logging to stderr. Called once, by `main`.
pub fn start(config: &Config) {
    let level = match config.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    let silent: String = SILENT.iter().map(|library| format!(",{library}=off")).collect();
    let filter = EnvFilter::new(format!("warn,maishou={level}{silent}"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let layer = match config.format {
        Format::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second start, in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
