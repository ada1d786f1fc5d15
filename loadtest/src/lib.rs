//! Simulated audiences for a Maishou server, and a report to believe: what `maishou-loadtest` and the benchmarks are
//! made of.
//!
//! - `scenario`: what is to happen, read from a file
//! - `stage`: the room and the goods it happens with; `token`: who may
//! - `crowd`: thousands of cheap `viewer`s on a thread; `frames` and `cursor` are what one of them understands, and
//!   `tally` what they noted together; in a `rush` many of them press buy at once
//! - `people`: those who comment, buy and pin, as ordinary clients; `outcomes` is how their commands were answered
//! - `rtc`: light WebRTC viewers and an anchor, who do everything but decode
//! - `process`: what the server's process and ours use
//! - `run`: a scenario from curtain to curtain; `report`: what was measured, and what must be true of it

pub mod crowd;
pub mod cursor;
pub mod frames;
pub mod hall;
mod outcomes;
mod people;
pub mod process;
mod report;
pub mod rtc;
pub mod run;
pub mod rush;
pub mod scenario;
pub mod server;
mod stage;
mod tally;
mod token;
mod viewer;
