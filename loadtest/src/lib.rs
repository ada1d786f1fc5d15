//! Simulated audiences for a Maishou server, and a report to believe: what `maishou-loadtest` and the benchmarks are
//! made of.
//!
//! - `scenario`: what is to happen, read from a file
//! - `house`, `server`: a server of our own; `hall`: one with a show, for benchmarks; `token`: who may
//! - `stage`: the room and the goods it happens with; `hosts`: the anchor, the merchant, those who look at cards
//! - `crowd`: thousands of cheap viewers on a thread, who comment, buy, leave and come back; `frames` and `cursor` are
//!   what one of them understands, `witness` reads each distinct frame once for all
//! - `team`, `workers`: the crowds of several machines as one
//! - `hist`, `tally`, `timeline`, `progress`, `gauges`: what was measured, while it runs and after
//! - `replay`: a recorded show played again, to the same end
//! - `run`: a scenario from curtain to curtain; `venue`: the server it is at; `measured`: its seconds
//! - `finish`, `proof`: what must be true of it; `report`: all of it told
//! - `rtc`: light WebRTC viewers and an anchor, who do everything but decode; `video`: their part of a run
//! - `process`: what the server's process and ours use

pub mod crowd;
pub mod cursor;
pub mod frames;
pub mod hall;
pub mod hist;
pub mod process;
pub mod proof;
pub mod replay;
pub mod report;
pub mod rtc;
pub mod run;
pub mod scenario;
pub mod server;
pub mod stamp;
pub mod tally;
pub mod witness;
pub mod workers;

mod callers;
mod finish;
mod gauges;
mod hosts;
pub mod house;
mod measured;
mod progress;
mod stage;
mod team;
mod timeline;
mod token;
mod venue;
mod video;
