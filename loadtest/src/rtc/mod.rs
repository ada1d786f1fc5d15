//! Light WebRTC peers: thousands of viewers on one thread, each with a socket, ICE, DTLS and SRTP of her own, who count
//! what comes and decode nothing.
//!
//! - [`Audience`] is the crowd: `viewer`s moved by one thread, let in by `arrivals`, told in a [`Tally`]
//! - [`Watchers`] are the audience of a run, and what it saw of it, here or at a worker
//! - [`Anchor`] publishes a synthetic [`Show`] over WHIP, from a thread of her own; [`Feed`] sends one as plain RTP
//! - both connect through a `link`: `terms` (SDP), `check` (STUN), `handshake` (DTLS), then keys
//! - what a viewer makes of a stream: `packet` (headers), `reception` (numbers, gaps, jitter), `frames` (pictures,
//!   freezes), `feedback` (what she reports)
//!
//! A viewer opens packets only until she has her first keyframe, or when she is one of the sampled; of all others only
//! the header is read, which SRTP leaves in the clear.

mod anchor;
mod arrivals;
mod audience;
mod channel;
mod check;
mod feed;
mod feedback;
mod frames;
mod handshake;
mod link;
mod packet;
mod reception;
mod show;
mod tally;
mod terms;
mod viewer;
mod watchers;

#[cfg(test)]
mod tests;

pub use self::{
    anchor::{Anchor, AnchorPlan, AnchorTally},
    arrivals::{Door, Entering, Whep},
    audience::{Audience, Plan},
    feed::Feed,
    handshake::Identity,
    show::{Shape, Show},
    tally::Tally,
    terms::{Introduction, Remote, Wishes},
    watchers::{Seen, WatchPlan, Watchers, Watching},
};
