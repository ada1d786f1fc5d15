//! Seeded models: what must hold whatever happens, over many random lives. A seed that found a bug becomes a constant.

mod room;
