use std::fmt;

use super::{Report, Target, chinese::chinese, plot::figure, words};
use crate::proof::Proof;

/// Something for which a run is no success. It is written in English; [`Failure::chinese`] says the same.
pub enum Failure<'a> {
    Proof(&'a Proof),
    Target(&'a Target),
}

impl Report {
    /// What is wrong: proofs first, then targets.
    pub fn failures(&self) -> Vec<Failure<'_>> {
        let proofs = self.proofs.iter().filter(|proof| proof.held == Some(false)).map(Failure::Proof);
        proofs.chain(self.targets.iter().filter(|target| !target.held).map(Failure::Target)).collect()
    }
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proof(proof) => {
                write!(f, "{}: {}", proof.name, proof.said)?;
                proof.evidence.first().map_or(Ok(()), |first| write!(f, " First evidence: {first}"))
            }
            Self::Target(Target { name, at_most, measured: Some(measured), .. }) => {
                write!(f, "{name} is {}, the target at most {}", figure(*measured), figure(*at_most))
            }
            Self::Target(Target { name, at_most, .. }) => {
                write!(f, "{name} was not measured, the target is at most {}", figure(*at_most))
            }
        }
    }
}

impl Failure<'_> {
    pub fn chinese(&self) -> String {
        match self {
            Self::Proof(proof) => {
                let first = proof.evidence.first().map(|first| format!("。第一条证据：{}", chinese(first)));
                format!("{}：{}{}", words::proof(&proof.name).1, chinese(&proof.said), first.unwrap_or_default())
            }
            Self::Target(Target { name, at_most, measured: Some(measured), .. }) => {
                format!("{}为 {}，目标不超过 {}", words::target(name), figure(*measured), figure(*at_most))
            }
            Self::Target(Target { name, at_most, .. }) => {
                format!("{}没有测到，目标不超过 {}", words::target(name), figure(*at_most))
            }
        }
    }
}
