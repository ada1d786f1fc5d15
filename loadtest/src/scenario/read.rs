use std::path::Path;

use anyhow::{Context as _, anyhow, bail};

use super::{Phase, Scenario};

/// Beyond this two words are not alike.
const ALIKE: f64 = 0.6;

/// The shipped scenarios, so that a name alone works from any folder.
const SHIPPED: [(&str, &str); 12] = [
    ("comment-flood", include_str!("../../../config/loadtest/comment-flood.toml")),
    ("crowd", include_str!("../../../config/loadtest/crowd.toml")),
    ("double-eleven", include_str!("../../../config/loadtest/double-eleven.toml")),
    ("evening", include_str!("../../../config/loadtest/evening.toml")),
    ("fifty-products", include_str!("../../../config/loadtest/fifty-products.toml")),
    ("flash-drop", include_str!("../../../config/loadtest/flash-drop.toml")),
    ("idle", include_str!("../../../config/loadtest/idle.toml")),
    ("reconnect-storm", include_str!("../../../config/loadtest/reconnect-storm.toml")),
    ("slow-phones", include_str!("../../../config/loadtest/slow-phones.toml")),
    ("soak", include_str!("../../../config/loadtest/soak.toml")),
    ("soak-short", include_str!("../../../config/loadtest/soak-short.toml")),
    ("video-1000", include_str!("../../../config/loadtest/video-1000.toml")),
];

impl Scenario {
    /// Reads a scenario: a file, or the name of a shipped one.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        if path.is_file() {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            return Self::parse(&text).with_context(|| path.display().to_string());
        }
        let name = path.to_str().unwrap_or_default();
        match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            Some((_, text)) => Self::parse(text).with_context(|| name.to_owned()),
            None => bail!(
                "there is no file {} and no shipped scenario of that name{}; shipped are {}",
                path.display(),
                nearest(name, Self::shipped()).map_or_else(String::new, |name| format!(" (did you mean {name}?)")),
                Self::shipped().collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// The names of the shipped scenarios.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The file of a shipped scenario, by its name.
    pub fn shipped_file(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| *text)
    }

    /// Reads and checks the text of a scenario.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| explain(&error))?;
        if scenario.phases.is_empty() {
            scenario.phases.push(Phase::default());
        }
        scenario.check()?;
        Ok(scenario)
    }
}

/// The parser's own words and place, and for an unknown key the nearest one that there is.
fn explain(error: &toml::de::Error) -> anyhow::Error {
    match unknown_key(error.message()).and_then(|(wrong, keys)| nearest(wrong, keys.into_iter())) {
        Some(right) => anyhow!("{error}did you mean `{right}`?"),
        None => anyhow!("{error}"),
    }
}

/// The key and the known ones in "unknown field `a`, expected one of `b`, `c`".
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    Some((wrong, quoted.collect()))
}

fn nearest<'a>(wrong: &str, keys: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = keys.map(|key| (strsim::jaro_winkler(wrong, key), key));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then_some(best.1)
}
