//! A server of our own for one run: beside us, with an empty folder, open to this machine only.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::server::{Child, free_address};

const PROGRAM: &str = "maishou";
const MESSAGES: &str = "messages.log";
const ENDS_IN: Duration = Duration::from_secs(15);
/// The end of the server's messages that is shown when it does not start.
const MESSAGES_LEN: usize = 1_000;

pub struct House {
    child: Child,
    pub address: SocketAddr,
    pub secret: String,
    folder: PathBuf,
    is_kept: bool,
}

impl House {
    /// Starts `maishou`, or the one beside us, with these settings (`section.key`). Its files are in `keep`, or in a
    /// temporary folder that goes with it.
    pub fn open(
        program: Option<&Path>,
        settings: &BTreeMap<String, String>,
        keep: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let program = program.map_or_else(beside_us, |program| Ok(program.to_owned()))?;
        let name = format!("maishou-loadtest-{:016x}", rand::random::<u64>());
        let folder = keep.map_or_else(|| std::env::temp_dir().join(name), Path::to_owned);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let (secret, address) = (format!("{:032x}", rand::random::<u128>()), free_address()?);
        let mut command = command(&program, &folder, address, &secret, settings);
        let messages = fs::File::create(folder.join(MESSAGES))?;
        let child = Child::start_alone(&mut command, messages)
            .with_context(|| format!("{} cannot be started (--maishou names another)", program.display()))?;
        let mut house = Self { child, address, secret, folder, is_kept: keep.is_some() };
        if let Err(error) = house.child.wait_for(address) {
            let messages = fs::read_to_string(house.folder.join(MESSAGES)).unwrap_or_default();
            let all = messages.chars().count();
            let shown: String = messages.chars().skip(all.saturating_sub(MESSAGES_LEN)).collect();
            bail!("the server of our own does not start: {error}; its last words: {}", shown.trim());
        }
        Ok(house)
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.is_running()
    }

    /// Where the tapes are; whole when the server has ended.
    pub fn tape(&self) -> PathBuf {
        self.folder.join("tape")
    }

    /// Ends it in order; its files stay until this is dropped.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.child.end_within(ENDS_IN)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.child.kill();
        if !self.is_kept {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

fn command(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    secret: &str,
    settings: &BTreeMap<String, String>,
) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--listen", &address.to_string(), "--media-listen", "127.0.0.1:0"]);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("MAISHOU_")) {
        command.env_remove(key);
    }
    command.env("MAISHOU_AUTH__SECRET", secret);
    command.env("MAISHOU_STORE__PATH", folder.join("store")).env("MAISHOU_TAPE__PATH", folder.join("tape"));
    for (key, value) in [
        ("limits.exempt", r#"["127.0.0.0/8"]"#),
        ("limits.arrivals_per_second", "0"),
        ("payment.provider", "sandbox"),
        ("log.level", "warn"),
    ] {
        command.env(variable(key), value);
    }
    for (key, value) in settings {
        command.env(variable(key), value);
    }
    command
}

/// The environment's name of a setting.
fn variable(key: &str) -> String {
    format!("MAISHOU_{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// The server's program in the folder of ours, or in the one above where tests and benchmarks run.
fn beside_us() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join(PROGRAM));
    places.into_iter().find(|place| place.is_file()).with_context(|| {
        format!(
            "no server to start: {PROGRAM} is not beside {} (cargo build --release builds it, --maishou names one, \
             --server takes one that runs)",
            own.display()
        )
    })
}
