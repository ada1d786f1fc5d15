//! What the areas share: the server as a child process, tokens, the three ways to talk to it, and waiting.
//!
//! Nothing here imports the server's own client: a mistake that both sides share would pass.

#![allow(dead_code, reason = "an area uses what it needs")]

pub mod chain;
pub mod chrome;
pub mod cli;
pub mod devtools;
pub mod namespace;
pub mod offer;
pub mod page;
pub mod process;
pub mod relay;
pub mod rest;
pub mod scratch;
pub mod server;
pub mod shop;
pub mod sse;
pub mod tape;
pub mod token;
pub mod view;
pub mod wait;
pub mod ws;
