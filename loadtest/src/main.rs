//! `maishou-loadtest`: simulated audiences for a Maishou server, and a report to believe.
//!
//! - `scenario`: what is to happen, read from a file
//! - `stage`: the room and the goods it happens with; `token`: who may
//! - `crowd`: thousands of cheap `viewer`s on a thread; `frames` and `cursor` are what one of them understands, and
//!   `tally` what they noted together; in a `rush` many of them press buy at once
//! - `people`: those who comment, buy and pin, as ordinary clients; `outcomes` is how their commands were answered
//! - `process`: what the server's process and ours use
//! - `run`: a scenario from curtain to curtain; `report`: what was measured, and what must be true of it

mod crowd;
mod cursor;
mod frames;
mod outcomes;
mod people;
mod process;
mod report;
mod run;
mod rush;
mod scenario;
mod stage;
mod tally;
mod token;
mod viewer;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

/// Wrong usage, as the outside contract numbers it.
const USAGE: u8 = 2;

#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drives a simulated audience. The exit code is 1 when a proof or a target of the scenario fails.
    Run(Options),
}

#[derive(Args)]
struct Options {
    /// A scenario file, or the name of one in config/loadtest
    scenario: PathBuf,
    /// Where the server is
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    server: String,
    /// A file with the server's `auth.secret`. Without it the server must be a demo, whose room is used
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// In place of the scenario's
    #[arg(long)]
    viewers: Option<usize>,
    /// In place of the scenario's
    #[arg(long)]
    seconds: Option<u64>,
    /// The server's process, where it runs on this machine: its memory and CPU time are reported
    #[arg(long)]
    pid: Option<u32>,
    /// Writes the report to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Command::Run(options) = Cli::parse().command;
    let scenario = match scenario::Scenario::load(&options.scenario) {
        Ok(scenario) => scenario.with(options.viewers, options.seconds),
        Err(error) => {
            eprintln!("maishou-loadtest: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    match run::run(&scenario, &options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("maishou-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
