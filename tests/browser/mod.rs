//! The pages in a real Chromium. Needs one on the path; `tests/run` sees to that.

mod driver;
mod h264;
mod hardship;
mod late;
mod layers;
mod newcomer;
mod pictures;
mod quality;
mod rehearsal;
mod secrets;
mod show;
mod stage;
mod talk;
mod uplink;
