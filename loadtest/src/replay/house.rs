//! The server that a replay is played at: one of our own in a folder that goes with it, or somebody's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use maishou::{
    client::Server,
    clock::Clock,
    id::{MerchantId, RoomId, Sub},
    protocol::{Claims, Role, RoomScope},
    session::Keyring,
};

use super::{Options, Show};
use crate::server::{Child, free_address};

const ANCHOR: &str = "replay-anchor";
const TOKEN_SECONDS: i64 = 24 * 3_600;
/// Long enough that no hold of a replay expires by itself: the tape says when it did.
const HOLD_SECONDS: &str = "31536000";

pub struct House {
    pub server: Server,
    /// The room to rehearse; `None` is one that is to be made.
    pub room: Option<RoomId>,
    pub anchor: Sub,
    pub keyring: Keyring,
    own: Option<Own>,
}

/// A server of our own.
struct Own {
    process: Child,
    folder: PathBuf,
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl House {
    pub fn open(options: &Options, _show: &Show) -> anyhow::Result<Self> {
        let (Some(server), Some(room), Some(secret)) = (&options.server, &options.room, &options.secret_file) else {
            let beside = std::env::current_exe()?.with_file_name("maishou");
            let program = options.maishou.clone().unwrap_or(beside);
            ensure!(program.is_file(), "{} is not there: --maishou names the server's program", program.display());
            return Self::of_our_own(&program);
        };
        let secret = fs::read_to_string(secret).with_context(|| secret.display().to_string())?;
        if secret.trim().is_empty() {
            bail!("--secret-file is empty");
        }
        Ok(Self {
            server: server.parse()?,
            room: Some(room.parse().context("--room")?),
            anchor: options.anchor.parse().context("--anchor")?,
            keyring: Keyring::new(secret.trim(), ""),
            own: None,
        })
    }

    /// Starts a server for one replay.
    pub fn of_our_own(program: &Path) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("maishou-replay-{:016x}", rand::random::<u64>()));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let secret: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", &address.to_string(), "--media-listen", "127.0.0.1:0"]);
        let (store, tape) = (folder.join("store"), folder.join("tape"));
        command.env("MAISHOU_STORE__PATH", store).env("MAISHOU_TAPE__PATH", tape);
        let settings = [
            ("AUTH__SECRET", secret.as_str()),
            ("ORDER__HOLD_SECONDS", HOLD_SECONDS),
            ("ORDER__HOLDS_OPEN_PER_PERSON_MAX", "1000000"),
            ("LIMITS__EXEMPT", r#"["127.0.0.0/8"]"#),
            ("LIMITS__ARRIVALS_PER_SECOND", "0"),
            ("LIMITS__CONNECTIONS_PER_PERSON", "1000000"),
            ("LIMITS__COMMENTS_PER_SECOND", "1000"),
            ("LIMITS__HOLDS_PER_SECOND", "1000"),
            ("LIMITS__COMMANDS_PER_SECOND", "1000"),
            ("LIMITS__LIKES_PER_SECOND", "1000000"),
            // Every comment that is played was shown.
            ("ROOM__CHAT_PER_SECOND", "0"),
            ("ROOM__TICK_MS", "1"),
        ];
        for (key, value) in settings {
            command.env(format!("MAISHOU_{key}"), value);
        }
        let process = Child::start(&mut command).with_context(|| program.display().to_string())?;
        let mut own = Own { process, folder };
        own.process.wait_for(address)?;
        let keyring = Keyring::new(&secret, "");
        Ok(Self { server: Server::at(address), room: None, anchor: ANCHOR.parse()?, keyring, own: Some(own) })
    }

    /// A token for somebody in a room, or in all of them.
    pub fn token(&self, room: Option<&RoomId>, role: Role, sub: &Sub, name: Option<&str>, sim: bool) -> String {
        self.keyring.sign(&Self::claims(room, role, sub, name, sim))
    }

    /// For who keeps a merchant's goods.
    pub fn merchant_token(&self, room: &RoomId, merchant: &MerchantId, sim: bool) -> String {
        let sub = "replay-keeper".parse().expect("a sub");
        let claims = Self::claims(Some(room), Role::Merchant, &sub, None, sim);
        self.keyring.sign(&Claims { merchant: Some(merchant.clone()), ..claims })
    }

    fn claims(room: Option<&RoomId>, role: Role, sub: &Sub, name: Option<&str>, sim: bool) -> Claims {
        Claims {
            sub: sub.clone(),
            exp: Clock::start().now().0 / 1_000 + TOKEN_SECONDS,
            room: room.map_or(RoomScope::Any, |room| RoomScope::One(room.clone())),
            role,
            merchant: None,
            can: None,
            name: name.map(str::to_owned),
            region: None,
            promoter: None,
            sim,
            jti: None,
        }
    }

    /// Where a server of our own keeps its tapes.
    pub fn tapes(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|own| own.folder.join("tape"))
    }

    /// Asks a server of our own to end, and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        own.process.ask_to_end()?;
        while own.process.is_running() {
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        Ok(())
    }

    /// Ends a server of our own, and removes its files.
    pub fn close(self) {
        drop(self.own);
    }
}
