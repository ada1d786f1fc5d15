//! The whole configuration: every module's own, one file, and the environment above it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    fanout, http, media, order, ring, room,
    session::{self, Payment, SECRET_LEN_MIN, rehearsal::SPEED_MAX},
    telemetry,
};

/// Environment variables above the file: `MAISHOU_HTTP__LISTEN` is `http.listen`.
const PREFIX: &str = "MAISHOU_";

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub http: http::Config,
    pub media: media::Config,
    pub auth: session::AuthConfig,
    pub store: StoreConfig,
    pub tape: room::tape::Config,
    pub payment: PaymentConfig,
    pub order: order::Config,
    pub ledger: LedgerConfig,
    pub room: room::Config,
    pub ring: ring::Config,
    pub fanout: fanout::Config,
    pub limits: session::LimitsConfig,
    pub rehearsal: session::rehearsal::Config,
    pub loadtest: LoadtestConfig,
    pub clock: ClockConfig,
    pub metrics: http::MetricsConfig,
    pub log: telemetry::Config,
}

/// Where money and goods are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// A folder: `ledger.db` (stock, holds, orders) and `catalogue.db` (rooms, products) are in it.
    pub path: PathBuf,
}

impl StoreConfig {
    /// The file of stock, holds and orders.
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.db")
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { path: "data/store".into() }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaymentConfig {
    /// `external`: merchants confirm what was paid. `sandbox`: buyers confirm their own holds, nobody pays.
    pub provider: Payment,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerConfig {
    /// Whether anybody may read the chains of stock entries. No person is in them.
    pub public: bool,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self { public: true }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadtestConfig {
    /// Whether simulated people (tokens with `sim`) may buy, comment and like in real rooms. For servers that are there
    /// to be tested.
    pub allow: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockConfig {
    /// Seconds that pass on this server in one second: more than 1 only on a server that is there to be tested.
    pub speed: u32,
}

impl Default for ClockConfig {
    fn default() -> Self {
        Self { speed: 1 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {why}")]
    Parse { path: PathBuf, why: String },
    #[error("{name}: {why}")]
    Environment { name: String, why: String },
    #[error("{key}: {why}")]
    Wrong { key: String, why: String },
}

impl Config {
    /// Reads the file, if one is named, and the environment above it.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let table = match path {
            None => toml::Table::new(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
                let parse = |e: toml::de::Error| Error::Parse { path: path.to_owned(), why: e.to_string() };
                // Once by itself, so that an error names its line.
                toml::from_str::<Self>(&text).map_err(parse)?;
                text.parse().map_err(parse)?
            }
        };
        Self::with_environment(table, std::env::vars())
    }

    fn with_environment(mut table: toml::Table, vars: impl Iterator<Item = (String, String)>) -> Result<Self, Error> {
        let mut named: Vec<(String, String)> = vars.filter(|(name, _)| is_key(name)).collect();
        named.sort();
        for (name, value) in named {
            let wrong = |why: String| Error::Environment { name: name.clone(), why };
            let path = name[PREFIX.len()..].to_ascii_lowercase();
            let (section, key) = path.split_once("__").ok_or_else(|| wrong("names no SECTION__KEY".into()))?;
            let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let section = section.as_table_mut().ok_or_else(|| wrong("is not a section".into()))?;
            let value = value.parse::<toml::Value>().unwrap_or(toml::Value::String(value));
            let old = section.insert(key.to_owned(), value);
            // A word such as `json` is a text; a text key that looks like a number stays a text.
            if let (Some(toml::Value::String(_)), Some(new)) = (old, section.get_mut(key))
                && !matches!(new, toml::Value::String(_))
            {
                *new = toml::Value::String(new.to_string());
            }
            toml::Value::Table(table.clone()).try_into::<Self>().map_err(|e| wrong(e.to_string()))?;
        }
        toml::Value::Table(table)
            .try_into()
            .map_err(|e: toml::de::Error| Error::Parse { path: "configuration".into(), why: e.to_string() })
    }

    /// What `serve` refuses to start with.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |key: &str, why: String| Err(Error::Wrong { key: key.to_owned(), why });
        let secret = &self.auth.secret;
        if secret.len() < SECRET_LEN_MIN {
            let why = format!(
                "must be set to at least {SECRET_LEN_MIN} bytes (it has {}); MAISHOU_AUTH__SECRET sets it too. \
                 A good one: head -c 32 /dev/urandom | base64",
                secret.len()
            );
            return wrong("auth.secret", why);
        }
        if !self.auth.previous_secret.is_empty() && self.auth.previous_secret.len() < SECRET_LEN_MIN {
            return wrong("auth.previous_secret", format!("must be empty or at least {SECRET_LEN_MIN} bytes"));
        }
        if self.room.tick_ms == 0 || self.room.tick_ms > 1_000 {
            return wrong("room.tick_ms", "must be 1 to 1000".into());
        }
        if !(1..=SPEED_MAX).contains(&self.clock.speed) {
            return wrong("clock.speed", format!("must be 1 to {SPEED_MAX}"));
        }
        if self.clock.speed > 1 && !(self.loadtest.allow && self.http.listen.ip().is_loopback()) {
            let why = "runs ahead of the wall only on a server that is there to be tested: with loadtest.allow, and \
                       with http.listen on this machine alone. A rehearsal has a speed of its own";
            return wrong("clock.speed", why.into());
        }
        if let Err(key) = self.order.check() {
            return wrong(&format!("order.{key}"), "must not be 0".into());
        }
        if let Err(e) = self.media.check() {
            return wrong("media", e.to_string());
        }
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let bounds = [
            ("http.body_bytes_max", self.http.body_bytes_max),
            ("http.connections_max", self.http.connections_max),
            ("http.head_seconds", count(self.http.head_seconds)),
            ("http.body_seconds", count(self.http.body_seconds)),
            ("http.tls_seconds", count(self.http.tls_seconds)),
            ("limits.json_depth_max", self.limits.json_depth_max),
            ("room.silenced_max", self.room.silenced_max),
            ("tape.segment_mb", count(self.tape.segment_mb)),
            ("tape.mailbox", self.tape.mailbox),
            ("room.mailbox", self.room.mailbox),
            ("room.shelf_max", self.room.shelf_max),
            ("room.rooms_max", self.room.rooms_max),
            ("room.products_max", self.room.products_max),
            ("room.skus_per_product_max", self.room.skus_per_product_max),
            ("rehearsal.keep_hours", count(self.rehearsal.keep_hours.into())),
            ("rehearsal.products_max", self.rehearsal.products_max),
            ("ring.frames_max", self.ring.frames_max),
            ("ring.bytes_max", self.ring.bytes_max),
        ];
        if let Some((key, _)) = bounds.into_iter().find(|(_, bound)| *bound == 0) {
            return wrong(key, "must not be 0".into());
        }
        if self.http.tls_certificate.is_some() != self.http.tls_key.is_some() {
            return wrong("http.tls_key", "tls_certificate and tls_key are set together".into());
        }
        Ok(())
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let media = &self.media;
        let local = |ip: &IpAddr| ip.is_loopback();
        let media_is_local =
            if media.candidates.is_empty() { local(&media.listen.ip()) } else { media.candidates.iter().all(local) };
        if !self.http.listen.ip().is_loopback() && media_is_local {
            warnings.push(
                "http.listen is reachable from outside, but every media candidate is loopback: viewers elsewhere will \
                 see no video. Set media.listen to 0.0.0.0:8081, or media.candidates to this host's public address"
                    .into(),
            );
        }
        if self.loadtest.allow && !self.http.listen.ip().is_loopback() {
            warnings.push("loadtest.allow: simulated people may buy real stock".into());
        }
        if self.payment.provider == Payment::Sandbox && !self.http.listen.ip().is_loopback() {
            warnings.push("payment.provider is sandbox: buyers confirm their own holds, nobody pays".into());
        }
        if !self.http.listen.ip().is_loopback() && self.http.tls_certificate.is_none() {
            warnings.push(
                "no TLS: browsers give a camera to https pages and to localhost only. Set http.tls_certificate and \
                 http.tls_key, or put a TLS proxy in front"
                    .into(),
            );
        }
        warnings
    }
}

fn is_key(name: &str) -> bool {
    name.starts_with(PREFIX) && name[PREFIX.len()..].contains("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(vars: &[(&str, &str)]) -> Result<Config, Error> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::with_environment(toml::Table::new(), vars)
    }

    #[test]
    fn the_environment_sets_any_key() {
        let config = with(&[
            ("MAISHOU_HTTP__LISTEN", "127.0.0.1:9000"),
            ("MAISHOU_ROOM__CHAT_PER_SECOND", "0"),
            ("MAISHOU_LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#),
            ("MAISHOU_LOG__FORMAT", "json"),
            ("MAISHOU_LEDGER__PUBLIC", "false"),
        ])
        .unwrap();
        assert_eq!(config.http.listen.to_string(), "127.0.0.1:9000");
        assert_eq!(config.room.chat_per_second, 0);
        assert_eq!(config.limits.exempt.len(), 1);
        assert_eq!(config.log.format, telemetry::Format::Json);
        assert!(!config.ledger.public);
    }

    #[test]
    fn a_wrong_key_is_named() {
        for (name, value) in
            [("MAISHOU_HTTP__LISTN", "1"), ("MAISHOU_HTTP__LISTEN", "nowhere"), ("MAISHOU_NO__KEY", "1")]
        {
            let wrong = with(&[(name, value)]).unwrap_err().to_string();
            assert!(wrong.contains(name), "{wrong}");
        }
    }

    #[test]
    fn the_file_names_every_key_with_its_default() {
        let text = include_str!("../config/server.toml");
        let file: toml::Table = text.parse().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in &defaults {
            let named =
                file.get(section).and_then(|s| s.as_table()).unwrap_or_else(|| panic!("[{section}] is missing"));
            for (key, default) in keys.as_table().unwrap() {
                assert_eq!(named.get(key), Some(default), "{section}.{key}");
            }
        }
        toml::from_str::<Config>(text).expect("no key is unknown");
        // Keys without a default are named in a comment.
        for optional in ["tls_certificate", "tls_key"] {
            assert!(text.contains(&format!("# {optional} =")), "{optional}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_printed() {
        let mut config = Config::default();
        assert!(config.check().is_err());
        config.auth.secret = "0123456789abcdef0123456789abcdef".into();
        assert!(config.check().is_ok());
        assert!(!format!("{config:?}").contains("0123456789"));
    }

    #[test]
    fn a_clock_runs_fast_only_on_a_server_that_is_there_to_be_tested() {
        let mut config = Config::default();
        config.auth.secret = "0123456789abcdef0123456789abcdef".into();
        config.clock.speed = 20;
        assert!(config.check().unwrap_err().to_string().contains("clock.speed"));
        config.loadtest.allow = true;
        assert!(config.check().is_ok());
        config.http.listen = "0.0.0.0:8080".parse().unwrap();
        assert!(config.check().is_err());
        config.http.listen = "127.0.0.1:8080".parse().unwrap();
        config.clock.speed = SPEED_MAX + 1;
        assert!(config.check().is_err());
    }

    #[test]
    fn loopback_media_behind_a_public_page_is_warned_of() {
        let mut config = Config::default();
        assert!(config.warnings().is_empty());
        config.http.listen = "0.0.0.0:8080".parse().unwrap();
        assert!(config.warnings()[0].contains("media candidate"));
        config.media.candidates = vec!["192.0.2.1".parse().unwrap()];
        assert!(!config.warnings().iter().any(|w| w.contains("media candidate")));
    }
}
