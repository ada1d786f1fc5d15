//! Maishou (买手): a live-commerce streaming server.
//!
//! The code map, from the bottom up. Imports point down only; `tests/tidy.rs` keeps it so.
//!
//! | module | what it is for |
//! |---|---|
//! | [`id`] | names of things, money |
//! | [`clock`], [`telemetry`] | time that never steps, logs without secrets |
//! | [`protocol`] | what crosses the wire: commands, events, frames, codes |
//! | [`ring`] | frames encoded once, and positions in them |
//! | [`order`] | the ledger: holds, orders, stock, limits; durable before it answers |
//! | [`media`] | the WebRTC SFU |
//! | [`fanout`] | shards that sweep frames to sockets |
//! | [`room`] | a live room and its tape |
//! | [`session`] | one person: tokens, who may, the commands of a connection |
//! | [`http`] | REST, WHIP, WHEP, the upgrade, pages, metrics |
//! | [`config`], [`app`], [`demo`] | the configuration, the composition root, a world to look at |
//! | [`client`] | a viewer, an anchor, a merchant speaking the real protocol; for tests, demo and load tests |

pub mod id;

pub mod clock;
pub mod telemetry;

pub mod protocol;
pub mod ring;

pub mod fanout;
pub mod media;
pub mod order;

pub mod room;
pub mod session;

pub mod http;

pub mod app;
pub mod config;
pub mod demo;

pub mod client;
