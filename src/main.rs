//! The command line.

mod cli;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand};
use maishou::{
    app::{self, Demo},
    clock::Clock,
    config::Config,
    demo, order,
    protocol::{Claims, Role, RoomScope},
    session::Keyring,
    telemetry,
};

#[derive(Parser)]
#[command(
    name = "maishou",
    version,
    about = "Maishou (买手): a live-commerce streaming server",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A world of its own: a seeded show with a synthetic anchor and a few viewers, in a temporary folder
    Demo {
        /// Where pages and sockets are served
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Where the first media worker listens (UDP)
        #[arg(long, default_value = "127.0.0.1:8081")]
        media_listen: SocketAddr,
        /// Leave out the simulated viewers
        #[arg(long)]
        no_crowd: bool,
    },
    /// The server
    Serve {
        #[arg(long)]
        config: Option<PathBuf>,
        /// In place of http.listen
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// In place of media.listen
        #[arg(long)]
        media_listen: Option<SocketAddr>,
    },
    /// Validates a configuration and names the key that is wrong
    Check {
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints a signed token
    Token {
        /// A room, or * for all
        #[arg(long)]
        room: String,
        #[arg(long, value_parser = role)]
        role: Role,
        /// The person's id in the shop
        #[arg(long)]
        user: String,
        #[arg(long)]
        merchant: Option<String>,
        /// The name that others see
        #[arg(long)]
        name: Option<String>,
        /// How long it lasts: 90s, 30m, 12h, 7d
        #[arg(long, default_value = "12h", value_parser = seconds)]
        ttl: i64,
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Checks a stock ledger export offline, and says what it does not prove
    Verify {
        /// One export of GET /v1/skus/{sku}/ledger, or its pages one after another
        file: PathBuf,
        /// The server's public key in hex, as GET /v1/keys tells it
        #[arg(long)]
        key: Option<String>,
    },
    /// Recomputes every counter of a ledger from its entries and reports differences; beside a running server too
    Reconcile(cli::ledger::Reconcile),
    /// Copies the ledger of a server, running or not, to a file, and checks the copy
    Backup(cli::ledger::Backup),
    /// What was bought
    #[command(subcommand)]
    Orders(cli::ledger::Orders),
    /// Makes a rehearsal of a room of the server that runs with this configuration: a twin that sells nothing real
    Rehearse(cli::rehearse::Rehearse),
    /// What is on a tape
    #[command(subcommand)]
    Tape(cli::tape::Tape),
}

fn role(text: &str) -> Result<Role, String> {
    let parsed = serde_json::from_value(serde_json::Value::String(text.to_owned()));
    parsed.map_err(|_| "one of anchor, assistant, viewer, merchant, promoter, admin".to_owned())
}

fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || "a number and s, m, h or d, such as 12h".to_owned();
    let unit = match text.chars().last().ok_or_else(wrong)? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    count.checked_mul(unit).filter(|s| *s > 0).ok_or_else(wrong)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("maishou: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo { listen, media_listen, no_crowd } => {
            telemetry::start(&telemetry::Config { level: telemetry::Level::Warn, ..Default::default() });
            block_on(demo::run(demo::Options { listen, media_listen, crowd: !no_crowd }))?;
        }
        Command::Serve { config, listen, media_listen } => {
            let mut config = Config::load(config.as_deref())?;
            config.http.listen = listen.unwrap_or(config.http.listen);
            config.media.listen = media_listen.unwrap_or(config.media.listen);
            config.check()?;
            telemetry::start(&config.log);
            block_on(serve(config))?;
        }
        Command::Check { config } => {
            let config = Config::load(config.as_deref())?;
            config.check()?;
            for warning in config.warnings() {
                println!("warning: {warning}");
            }
            println!("the configuration is valid");
        }
        Command::Token { room, role, user, merchant, name, ttl, config } => {
            let config = Config::load(config.as_deref())?;
            config.check()?;
            println!("{}", token(&config, &room, role, &user, merchant.as_deref(), name, ttl)?);
        }
        Command::Verify { file, key } => return verify(&file, key.as_deref()),
        Command::Reconcile(reconcile) => return reconcile.run(),
        Command::Backup(backup) => return backup.run(),
        Command::Rehearse(rehearse) => block_on(async { rehearse.run().await.map(drop) })?,
        Command::Tape(tape) => return tape.run(),
        Command::Orders(cli::ledger::Orders::Export(export)) => return export.run(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Blocking work that is still under way when everything has ended gets a moment, and no more.
const LAST_MOMENT: Duration = Duration::from_secs(3);

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_MOMENT);
    outcome
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let ended = demo::interrupted()?;
    for warning in config.warnings() {
        eprintln!("maishou: warning: {warning}");
    }
    let running = app::start(config, Demo::default()).await?;
    let media: Vec<String> = running.media.iter().map(ToString::to_string).collect();
    println!("maishou serving http={} media={}", running.http, media.join(","));
    ended.await;
    running.drain().await?;
    Ok(())
}

fn token(
    config: &Config,
    room: &str,
    role: Role,
    user: &str,
    merchant: Option<&str>,
    name: Option<String>,
    ttl: i64,
) -> anyhow::Result<String> {
    anyhow::ensure!(role != Role::Merchant || merchant.is_some(), "a merchant's token needs --merchant");
    let room = if room == "*" { RoomScope::Any } else { RoomScope::One(room.parse().context("--room")?) };
    let claims = Claims {
        sub: user.parse().context("--user")?,
        exp: Clock::start().now().0 / 1_000 + ttl,
        room,
        role,
        merchant: merchant.map(str::parse).transpose().context("--merchant")?,
        can: None,
        name,
        region: None,
        promoter: None,
        sim: false,
        jti: None,
    };
    Ok(Keyring::new(&config.auth.secret, "").sign(&claims))
}

fn verify(file: &Path, key: Option<&str>) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    match order::verify(&text, key) {
        Ok(report) => {
            println!("{report}");
            Ok(ExitCode::SUCCESS)
        }
        Err(broken) => {
            println!("{}: {broken}", file.display());
            Ok(ExitCode::FAILURE)
        }
    }
}
