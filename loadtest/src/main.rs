//! `maishou-loadtest`: the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use maishou_loadtest::{
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
}

fn main() -> ExitCode {
    let Command::Run(options) = Cli::parse().command;
    let scenario = match Scenario::load(&options.scenario) {
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
