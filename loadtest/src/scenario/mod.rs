//! What is to happen, and what must be true of it: one TOML file.
//!
//! Every key has a default, so that a scenario says only what is special to it; a key that is not one is refused
//! with the nearest that is. It knows no server: rates are of the whole audience, times are in seconds.

mod check;
mod read;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A scenario. The shipped ones are in `config/loadtest`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// What reports call it.
    pub name: String,
    /// One sentence for who reads the report.
    pub about: String,
    /// The same in Chinese, for the page.
    pub about_zh: String,
    pub audience: Audience,
    pub acts: Acts,
    pub show: Show,
    /// What happens one after another; together they are the measured time.
    pub phases: Vec<Phase>,
    pub targets: Targets,
    /// Settings for the server that the tester starts itself: `"order.hold_seconds" = "30"`.
    pub server: BTreeMap<String, String>,
}

/// Who watches, and how they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audience {
    /// Viewers over a WebSocket; only they can comment, like and buy.
    pub websocket: usize,
    /// Viewers over server-sent events, who only read.
    pub sse: usize,
    /// Viewers of the video, by WHEP.
    pub webrtc: usize,
    pub arrive: Arrival,
    /// With `arrive = "ramp"`.
    pub arrivals_per_second: u32,
    /// The part of them, 0 to 1, that reads only `slow_bytes_per_second`.
    pub slow: f64,
    pub slow_bytes_per_second: u32,
    /// The part, 0 to 1, whose connection breaks about every `flaky_seconds`; they come back and resume.
    pub flaky: f64,
    pub flaky_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// Evenly, `arrivals_per_second`.
    #[default]
    Ramp,
    /// All at once.
    Spike,
    /// All at once, and all connections are cut and come back at the beginning of every phase.
    Storm,
}

/// What people do, all of them together, per second. A phase multiplies these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acts {
    /// The server lets one person comment twice a second.
    pub comments: f64,
    pub likes: f64,
    /// Looks at a product over REST.
    pub looks: f64,
    /// Presses of the buy button, each a hold with a key of its own, by one person after another.
    pub orders: f64,
    /// Pieces of one order.
    pub pieces: u32,
    /// The part of the holds, 0 to 1, that is paid; needs `payment.provider = "sandbox"`.
    pub pays: f64,
    /// The part of the holds that is cancelled. What is neither paid nor cancelled expires.
    pub gives_up: f64,
    /// Between a hold and its payment or cancellation: at most this long, at random.
    pub think_ms: u64,
    /// People who leave, each to come back after `away_ms`.
    pub leaves: f64,
    pub away_ms: u64,
}

/// What the anchor does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Show {
    pub products: usize,
    pub skus_per_product: usize,
    /// The opening stock of each SKU.
    pub stock: u64,
    /// How long each product is pinned, in the show's own time; after the last comes the first. 0: nothing is pinned.
    pub seconds_each: f64,
    /// How much faster than the clock the show's own time runs.
    pub speed: f64,
    pub script: Vec<Step>,
}

/// One thing that the anchor or the merchant does, `at` seconds of the show's own time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub at: f64,
    pub act: StepAct,
    /// The product, counted from 1.
    #[serde(default = "first")]
    pub product: usize,
    /// With `stock`: pieces added to each SKU of it, or taken away.
    #[serde(default)]
    pub delta: i64,
    /// With `price`: the new price in minor units.
    #[serde(default)]
    pub amount: i64,
}

fn first() -> usize {
    1
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepAct {
    Pin,
    Unpin,
    Stock,
    Price,
}

/// A stretch of the run. The rates are factors on those of `acts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    pub seconds: f64,
    pub comments: f64,
    pub likes: f64,
    pub looks: f64,
    pub orders: f64,
    pub leaves: f64,
    /// All orders are for this product, counted from 1; absent: for any of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rush_on: Option<usize>,
    /// The part of all connections, 0 to 1, that is cut at the beginning and comes back at once.
    pub cut: f64,
}

/// Bounds that fail the run; what is absent is only measured. That nothing is oversold or lost is a proof, and needs
/// no target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// From an event's time to a viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_p99_ms: Option<f64>,
    /// From when a comment was to be sent to a viewer who reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_p99_ms: Option<f64>,
    /// From when a command was to be sent to its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pay_p99_ms: Option<f64>,
    /// From the beginning of a connection to a complete view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_p99_ms: Option<f64>,
    /// Connections that may break without our doing.
    pub lost_max: u64,
    /// The part of the video's packets, 0 to 1, that may be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_max: Option<f64>,
    /// Freezes of the picture for each viewer and minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freezes_max: Option<f64>,
    /// Cores that the server may keep busy, where it runs on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cores_max: Option<f64>,
}

impl Default for Audience {
    fn default() -> Self {
        Self {
            websocket: 1_000,
            sse: 0,
            webrtc: 0,
            arrive: Arrival::Ramp,
            arrivals_per_second: 1_000,
            slow: 0.0,
            slow_bytes_per_second: 2_000,
            flaky: 0.0,
            flaky_seconds: 10.0,
        }
    }
}

impl Default for Acts {
    fn default() -> Self {
        Self {
            comments: 0.0,
            likes: 0.0,
            looks: 0.0,
            orders: 0.0,
            pieces: 1,
            pays: 1.0,
            gives_up: 0.0,
            think_ms: 0,
            leaves: 0.0,
            away_ms: 1_000,
        }
    }
}

impl Default for Show {
    fn default() -> Self {
        Self { products: 1, skus_per_product: 1, stock: 1_000, seconds_each: 0.0, speed: 1.0, script: Vec::new() }
    }
}

impl Default for Phase {
    fn default() -> Self {
        Self {
            name: "show".to_owned(),
            seconds: 10.0,
            comments: 1.0,
            likes: 1.0,
            looks: 1.0,
            orders: 1.0,
            leaves: 1.0,
            rush_on: None,
            cut: 0.0,
        }
    }
}

impl Scenario {
    /// How long is measured, after everybody is there.
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(|phase| phase.seconds).sum()
    }

    /// Viewers whose events we read.
    pub fn readers(&self) -> usize {
        self.audience.websocket + self.audience.sse
    }

    /// The same with so many viewers of the same kinds, and so long, every phase shortened alike.
    pub fn with(mut self, viewers: Option<usize>, seconds: Option<f64>) -> Self {
        if let Some(viewers) = viewers {
            let Audience { websocket, sse, webrtc, .. } = self.audience;
            let all = (websocket + sse + webrtc).max(1) as f64;
            let part = |count: usize| (count as f64 * viewers as f64 / all).round() as usize;
            (self.audience.sse, self.audience.webrtc) = (part(sse), part(webrtc));
            self.audience.websocket = viewers.saturating_sub(self.audience.sse + self.audience.webrtc);
        }
        if let Some(seconds) = seconds {
            let factor = seconds / self.seconds().max(f64::MIN_POSITIVE);
            self.phases.iter_mut().for_each(|phase| phase.seconds *= factor);
        }
        self
    }

    /// The phase at so many seconds, by its number.
    pub fn phase_at(&self, seconds: f64) -> usize {
        let ends = self.phases.iter().scan(0.0, |end, phase| {
            *end += phase.seconds;
            Some(*end)
        });
        ends.take_while(|end| *end <= seconds).count().min(self.phases.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests;
