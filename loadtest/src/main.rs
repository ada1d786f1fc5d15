//! `maishou-loadtest`: the command line.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use maishou_loadtest::{
    replay,
    report::{Report, compare},
    run::{self, Options},
    scenario::Scenario,
    workers::{self, Serve},
};
use tokio_util::sync::CancellationToken;

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
    /// Drives a simulated audience. The exit code is 1 when a proof or a target of the scenario fails
    Run(Box<Options>),
    /// Lists the shipped scenarios, or prints one of them, to begin one's own with
    Scenarios { name: Option<String> },
    /// Brings a part of an audience, for `run --workers`
    Worker(Serve),
    /// What changed from one run to another, and whether it is more than noise
    Compare {
        /// Reports as JSON, of `run --json`
        before: PathBuf,
        after: PathBuf,
    },
    /// Plays a recorded show again, in a rehearsal; exit 1 when it does not arrive at the state that the tape leads to
    Replay(replay::Options),
    /// The page of a report
    Page {
        /// A report as JSON
        report: PathBuf,
        /// Where the page is written
        html: PathBuf,
    },
}

fn main() -> ExitCode {
    match command(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("maishou-loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(options) => return drive(&options),
        Command::Scenarios { name: None } => {
            for name in Scenario::shipped() {
                println!("{name:<16} {}", Scenario::load(name.as_ref())?.about);
            }
        }
        Command::Scenarios { name: Some(name) } => {
            let text =
                Scenario::shipped_file(&name).with_context(|| format!("no shipped scenario is called {name}"))?;
            print!("{text}");
        }
        Command::Replay(options) => {
            return replay::run(&options).map(|same| if same { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Worker(options) => workers::serve(&options)?,
        Command::Compare { before, after } => {
            drop(write!(std::io::stdout(), "{}", compare::compare(&read(&before)?, &read(&after)?)))
        }
        Command::Page { report, html } => {
            let page = maishou_loadtest::report::page(&read(&report)?);
            std::fs::write(&html, page).with_context(|| html.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn drive(options: &Options) -> anyhow::Result<ExitCode> {
    let scenario = Scenario::load(&options.scenario).map(|scenario| scenario.with(options.viewers, options.seconds));
    let scenario = match scenario.and_then(|scenario| scenario.check().map(|()| scenario)) {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("maishou-loadtest: {error:#}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let stop = CancellationToken::new();
    end_at_ctrl_c(stop.clone())?;
    let report = run::run(scenario, options, &stop)?;
    // Who reads it may have read enough.
    let _ = writeln!(std::io::stdout(), "{report}");
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first Ctrl-C ends the run in order, the second at once.
fn end_at_ctrl_c(stop: CancellationToken) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                eprintln!("ending in order; once more ends at once");
                stop.cancel();
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(1);
                }
            }
        });
    })?;
    Ok(())
}

fn read(path: &std::path::Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    compare::read(&text).with_context(|| path.display().to_string())
}
