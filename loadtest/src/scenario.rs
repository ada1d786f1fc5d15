use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What is to happen, and what must be true of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// Cheap viewers.
    pub viewers: usize,
    /// How long is measured, after everybody is there.
    pub seconds: u64,
    /// Viewers that come per second.
    pub arrivals_per_second: u32,
    pub comments: Comments,
    pub holds: Holds,
    pub pins: Pins,
    pub rush: Rush,
    pub targets: Targets,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Comments {
    /// Of all commenters together.
    pub per_second: f64,
    /// The server lets one person comment twice a second.
    pub people: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Holds {
    /// Of all buyers together.
    pub per_second: f64,
    pub people: usize,
    /// The opening stock of the product that is bought, where the room is ours.
    pub stock: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pins {
    /// 0: the anchor pins nothing.
    pub every_seconds: u64,
}

/// Viewers who press buy at once. All pieces are `holds.stock`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rush {
    /// How many press, once each. 0: there is no rush.
    pub buyers: usize,
    /// From the first press to the last.
    pub within_ms: u64,
    /// Into the measured time.
    pub after_seconds: u64,
    /// Who got a hold pays at once; the server's `payment.provider` must be `sandbox`.
    pub pays: bool,
}

/// Bounds that fail the run; what is absent is only measured. That no viewer sees a gap, that all stand at the same
/// event in the end, and that nothing is oversold are proofs, and need no target.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// From an event's time to its receipt.
    pub latency_p99_ms: Option<f64>,
    pub latency_p999_ms: Option<f64>,
    /// From a command to its answer.
    pub hold_p99_ms: Option<f64>,
    /// From a press in the rush to its answer.
    pub rush_p99_ms: Option<f64>,
    /// Viewers that may be lost on the way.
    #[serde(default)]
    pub lost_max: usize,
}

impl Scenario {
    /// Reads a scenario file; a bare name means `config/loadtest/NAME.toml`.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let path = if path.is_file() { path.to_owned() } else { by_name(path) };
        let text = std::fs::read_to_string(&path).with_context(|| format!("no scenario at {}", path.display()))?;
        let scenario: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        scenario.check().with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    pub fn with(mut self, viewers: Option<usize>, seconds: Option<u64>) -> Self {
        self.viewers = viewers.unwrap_or(self.viewers);
        self.seconds = seconds.unwrap_or(self.seconds);
        self
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.seconds > 0, "seconds must not be 0");
        ensure!(self.arrivals_per_second > 0, "arrivals_per_second must not be 0");
        ensure!(self.comments.per_second <= 0.0 || self.comments.people > 0, "comments need people");
        ensure!(self.rush.buyers <= self.viewers, "the buyers of a rush are viewers: there are fewer");
        ensure!(self.rush.buyers == 0 || self.rush.after_seconds < self.seconds, "the rush is after the end");
        ensure!(self.holds.per_second <= 0.0 || self.holds.people > 0, "holds need people");
        Ok(())
    }
}

fn by_name(path: &Path) -> PathBuf {
    Path::new("config/loadtest").join(path).with_extension("toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_is_handed_out_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/loadtest");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            Scenario::load(&file).unwrap();
        }
    }
}
