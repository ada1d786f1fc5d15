//! Seeded models: what must hold whatever happens, over many random lives. A seed that found a bug becomes a constant.

mod late;
mod room;
mod viewers;

/// How many lives are tried: `usual`, or as many as `MAISHOU_SIM_SEEDS` says.
fn seeds(usual: u64) -> u64 {
    std::env::var("MAISHOU_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}
