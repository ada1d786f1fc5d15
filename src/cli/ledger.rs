//! Commands on the ledger's file. They only read it, and may run beside the server that writes it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use maishou::{
    clock::UnixMs,
    config::Config,
    order::{self, LedgerFile, OrderFilter},
    protocol::OrderState,
};

/// Which ledger: that of a configuration, or a file.
#[derive(Args)]
struct Which {
    /// The configuration of the server whose ledger it is
    #[arg(long, conflicts_with = "file")]
    config: Option<PathBuf>,
    /// A ledger file, such as a backup, in place of the server's
    #[arg(long)]
    file: Option<PathBuf>,
}

impl Which {
    fn open(&self) -> anyhow::Result<LedgerFile> {
        let path = match &self.file {
            Some(file) => file.clone(),
            None => Config::load(self.config.as_deref())?.store.ledger(),
        };
        Ok(LedgerFile::open(&path)?)
    }
}

#[derive(Args)]
pub struct Reconcile {
    #[command(flatten)]
    which: Which,
    /// Differences that are printed; the rest is counted
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl Reconcile {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let started = Instant::now();
        let report = self.which.open()?.reconcile(self.limit)?;
        println!("{report}, {:.2} s", started.elapsed().as_secs_f64());
        Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[derive(Args)]
pub struct Backup {
    /// The copy; refused when there is such a file
    file: PathBuf,
    /// The configuration of the server whose ledger it is
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Backup {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let ledger = LedgerFile::open(&Config::load(self.config.as_deref())?.store.ledger())?;
        let copied = ledger.copy_to(&self.file)?;
        let (file, at) = (self.file.display(), copied.at.to_utc());
        println!("{file}: {} bytes, checked, up to transaction {} of {at}", copied.bytes, copied.tx);
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Subcommand)]
pub enum Orders {
    /// Writes orders as CSV that spreadsheets open safely, one row per line of an order, the oldest first
    Export(Export),
}

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    which: Which,
    /// Only orders of this merchant
    #[arg(long)]
    merchant: Option<String>,
    /// Only orders in this state: paid, refund_due, refunded
    #[arg(long, value_parser = state)]
    state: Option<OrderState>,
    /// Only orders placed later: 2026-11-22, 2026-11-22T20:14:00Z, or milliseconds since 1970
    #[arg(long, value_parser = time, default_value = "0", hide_default_value = true)]
    after_time: UnixMs,
    /// The file to write, made new or replaced whole; standard output without it
    #[arg(long)]
    out: Option<PathBuf>,
}

fn state(text: &str) -> Result<OrderState, String> {
    let parsed = serde_json::from_value(serde_json::Value::String(text.to_owned()));
    parsed.map_err(|_| "one of paid, refund_due, refunded".to_owned())
}

fn time(text: &str) -> Result<UnixMs, String> {
    UnixMs::parse(text).ok_or_else(|| "a date, a time of ISO 8601, or milliseconds since 1970".to_owned())
}

impl Export {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        let merchant = self.merchant.as_deref().map(str::parse).transpose().context("--merchant")?;
        let filter = OrderFilter { merchant, state: self.state, after: self.after_time };
        let ledger = self.which.open()?;
        match &self.out {
            Some(out) => {
                let count = to_file(&ledger, &filter, out)?;
                println!("{}: {count} orders", out.display());
            }
            None => to_stdout(&ledger, &filter)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Written beside and renamed: who reads the file meanwhile reads the one before. It has people in it.
fn to_file(ledger: &LedgerFile, filter: &OrderFilter, out: &Path) -> anyhow::Result<u64> {
    let mut part = out.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let made = write_part(ledger, filter, &part).and_then(|count| {
        fs::rename(&part, out).with_context(|| out.display().to_string())?;
        Ok(count)
    });
    if made.is_err() {
        drop(fs::remove_file(&part));
    }
    made
}

fn write_part(ledger: &LedgerFile, filter: &OrderFilter, part: &Path) -> anyhow::Result<u64> {
    let named = || part.display().to_string();
    drop(fs::remove_file(part));
    let file: File = OpenOptions::new().create_new(true).write(true).mode(0o600).open(part).with_context(named)?;
    let mut to = BufWriter::new(file);
    let count = order::export_orders(ledger, filter, &mut to)?;
    to.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).with_context(named)?;
    Ok(count)
}

/// Whoever reads may have read enough.
fn to_stdout(ledger: &LedgerFile, filter: &OrderFilter) -> anyhow::Result<()> {
    let mut to = BufWriter::new(io::stdout().lock());
    match order::export_orders(ledger, filter, &mut to) {
        Err(order::store::Failure::Io { error, .. }) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        written => written?,
    };
    match to.flush() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        flushed => Ok(flushed?),
    }
}
