//! What must be true of every run, whatever its targets: nothing oversold, nothing lost, everybody told the same.
//!
//! A proof compares what the crowd was told with what the server says afterwards, and what both say with chains that
//! the product's own verifier checks. It trusts neither; where it cannot look, it says that it proved nothing.

mod frames;
mod orders;
mod private;
mod resolve;
mod stock;
mod tape;

use serde::{Deserialize, Serialize};

pub use frames::{frames, state};
pub use orders::orders;
pub use private::private;
pub use resolve::{answers, refresh};
pub use stock::{Chains, chains, stock};
pub use tape::tape;

/// Evidence that is told; beyond this it is only counted.
const EVIDENCE_MAX: usize = 5;

/// Something that must be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub name: String,
    /// None: it could not be looked at.
    pub held: Option<bool>,
    /// What was looked at, and what came of it.
    pub said: String,
    pub evidence: Vec<String>,
}

impl Proof {
    fn new(name: &str, said: String, evidence: Vec<String>) -> Self {
        let count = evidence.len();
        let held = Some(count == 0);
        let said = if count == 0 { said } else { format!("{said}; {count} times it is not so.") };
        let evidence = evidence.into_iter().take(EVIDENCE_MAX).collect();
        Self { name: name.to_owned(), held, said, evidence }
    }

    /// It could not be looked at.
    pub fn none(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.to_owned(), held: None, said: why.into(), evidence: Vec::new() }
    }

    /// Looking failed, which is as bad as what it looked for.
    pub fn failed(name: &str, error: &anyhow::Error) -> Self {
        Self::new(name, "it could not be looked at".to_owned(), vec![format!("{error:#}")])
    }
}
