//! Maishou (买手): a live-commerce streaming server. See `README.md` for the code map.

pub mod client;
pub mod clock;
pub mod fanout;
pub mod http;
pub mod id;
pub mod media;
pub mod order;
pub mod protocol;
pub mod ring;
pub mod room;
pub mod session;
