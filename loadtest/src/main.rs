//! `maishou-loadtest`: the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use maishou_loadtest::{
    replay,
    run::{self, Options},
    scenario::Scenario,
};

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
    /// Plays a recorded show again, in a rehearsal; exit 1 when it does not arrive at the state that the tape leads to.
    Replay(replay::Options),
}

fn main() -> ExitCode {
    let options = match Cli::parse().command {
        Command::Run(options) => options,
        Command::Replay(options) => return ended(replay::run(&options)),
    };
    let scenario = match Scenario::load(&options.scenario) {
        Ok(scenario) => scenario.with(options.viewers, options.seconds),
        Err(error) => {
            eprintln!("maishou-loadtest: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    ended(run::run(&scenario, &options))
}

fn ended(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("maishou-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
