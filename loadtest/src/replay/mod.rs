//! A recorded show played again: the tape's people and its anchor do what they did, through real connections, in a
//! rehearsal whose clock runs as fast as wanted; it has to arrive at the state that the tape leads to.
//!
//! - `show`: what is on the tape, and what must have been so before it begins
//! - `house`: a server of our own, or somebody's; `stage`: the rehearsal, its goods and its room as the tape begins
//! - `cast`: the people, each with a connection of her own once she has come
//! - `player`: line after line. Each waits for the answer to the one before, so that the order is the recorded one;
//!   what comes too late by that is said in the report
//!
//! A tape has no payment and no picture: a paid hold is confirmed by the shop, an expired one is given back at the moment
//! it expired. Comments that sampling left out are not played, and are counted. Who holds what a tape finds held as it
//! begins is not on it: such a segment is refused, and is played together with the one before it.

mod cast;
mod house;
mod player;
mod show;
mod stage;

use std::{fmt, path::PathBuf, time::Duration};

use clap::Args;

pub use house::House;
pub use show::Show;

use player::Player;
use stage::Stage;

/// What a replay is asked for on the command line.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A room's folder of tapes, or one segment of it (.jsonl, .jsonl.zst)
    pub tape: PathBuf,
    /// How much faster than it was
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub speed: u32,
    /// A server that runs; without it one is started for the replay
    #[arg(long, requires_all = ["room", "secret_file"])]
    pub server: Option<String>,
    /// The room of that server to rehearse in; its title must be the tape's for the hashes to agree
    #[arg(long)]
    pub room: Option<String>,
    /// The `sub` of that room's anchor
    #[arg(long, default_value = "anchor")]
    pub anchor: String,
    /// A file with that server's `auth.secret`
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// The program `maishou`, where it is not beside this one
    #[arg(long)]
    pub maishou: Option<PathBuf>,
}

/// What came of a replay.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The hash of the state that the tape leads to, and of that which the replay arrived at.
    pub recorded: String,
    pub replayed: String,
    /// Parts of the room that are not as they were.
    pub differs: Vec<String>,
    pub deeds: Deeds,
    /// How long the recorded show was, how long its replay, and how far that fell behind at most.
    pub recorded_time: Duration,
    pub time: Duration,
    pub late: Duration,
}

/// What was played, and what was not.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    pub people: usize,
    pub commands: u64,
    pub comments: u64,
    pub likes: u64,
    pub holds: u64,
    pub steps: u64,
    pub stock_edits: u64,
    /// Hold attempts that were answered otherwise than then.
    pub holds_otherwise: u64,
    /// Comments that sampling left out then.
    pub left_out: u64,
    pub refunds_not_played: u64,
    /// What the server refused, with the line it was about.
    pub refused: Vec<String>,
}

impl Outcome {
    pub fn is_the_same(&self) -> bool {
        self.recorded == self.replayed
    }
}

/// Plays a tape. False when the replay does not arrive where the tape does.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let show = Show::read(&options.tape)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let house = House::open(options, &show)?;
        let outcome = play(&show, &house, options.speed).await;
        house.close();
        outcome
    })?;
    println!("{outcome}");
    Ok(outcome.is_the_same())
}

/// Plays a show in a rehearsal at this server.
pub async fn play(show: &Show, house: &House, speed: u32) -> anyhow::Result<Outcome> {
    let stage = Stage::set(show, house, speed).await?;
    let outcome = Player::new(&stage, show, speed).play().await;
    stage.strike().await?;
    outcome
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_the_same() { "the same state" } else { "ANOTHER STATE" };
        let speed = self.recorded_time.as_secs_f64() / self.time.as_secs_f64().max(0.001);
        writeln!(f, "{verdict}\n  recorded {}\n  replayed {}", self.recorded, self.replayed)?;
        for part in &self.differs {
            writeln!(f, "  not as it was: {part}")?;
        }
        let d = &self.deeds;
        writeln!(
            f,
            "{:.1} s of the show in {:.1} s ({speed:.1} times as fast), at most {:.2} s behind",
            self.recorded_time.as_secs_f64(),
            self.time.as_secs_f64(),
            self.late.as_secs_f64()
        )?;
        writeln!(
            f,
            "{} people, {} commands of the anchor, {} stock edits, {} comments, {} likes, {} hold attempts ({} answered \
             otherwise), {} steps of holds",
            d.people, d.commands, d.stock_edits, d.comments, d.likes, d.holds, d.holds_otherwise, d.steps
        )?;
        if d.left_out + d.refunds_not_played > 0 {
            let (comments, refunds) = (d.left_out, d.refunds_not_played);
            writeln!(f, "not played: {comments} comments that viewers were not shown, {refunds} refunds")?;
        }
        for refused in d.refused.iter().take(10) {
            writeln!(f, "refused: {refused}")?;
        }
        write!(f, "{} refused in all", d.refused.len())
    }
}
