//! Commands that are more than a line of `main.rs`.

pub mod ledger;
pub mod rehearse;
pub mod tape;
