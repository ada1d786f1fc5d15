//! The real server as a child process, on ports that it chooses, with data in a folder of its own.

use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{
    rest::Rest,
    scratch::Scratch,
    token::Tokens,
    wait::{DEADLINE, wait_until},
    ws::Ws,
};

/// How a server is to be started; `Plan::default()` is one with nothing changed.
#[derive(Default)]
pub struct Plan {
    env: Vec<(String, String)>,
    toml: String,
}

impl Plan {
    /// Overrides one key from the environment, as an operator would: `set("ORDER__HOLD_SECONDS", "2")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.env.push((format!("MAISHOU_{key}"), value.to_owned()));
        self
    }

    /// Adds lines to the end of the configuration file.
    pub fn toml(mut self, lines: &str) -> Self {
        self.toml.push_str(lines);
        self
    }

    pub async fn start(self) -> Server {
        let folder = Scratch::new("server");
        let secret: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let config = folder.join("server.toml");
        fs::write(&config, config_text(&folder, &secret) + &self.toml).expect("the folder can be written");

        let tokens = Tokens::new(&secret);
        let http = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server =
            Server { child: None, http, media: vec![], tokens, secret, env: self.env, log_seen: 0, folder };
        server.run().await;
        server
    }
}

/// A running server. Dropping it kills the process.
pub struct Server {
    /// Where it serves HTTP. The same after [`Server::restart`].
    pub http: SocketAddr,
    /// Where its media workers listen.
    pub media: Vec<SocketAddr>,
    pub tokens: Tokens,
    pub secret: String,
    env: Vec<(String, String)>,
    child: Option<Child>,
    log_seen: usize,
    folder: Scratch,
}

impl Server {
    pub async fn start() -> Self {
        Plan::default().start().await
    }

    pub fn rest(&self) -> Rest {
        Rest::new(self.http)
    }

    /// Opens a WebSocket to `room` that has not joined yet.
    pub async fn ws(&self, room: &str) -> Ws {
        Ws::connect(self.http, room).await
    }

    /// `http://127.0.0.1:PORT/watch/show1#token=...`, for a page of the server.
    pub fn page(&self, path: &str, token: &str) -> String {
        format!("http://{}{path}#token={token}", self.http)
    }

    /// Everything that the server wrote to stdout and stderr, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// A path under the folder that holds all data: `store`, `tape`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Asks it to drain and end (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.ended().await
    }

    /// `kill -9`: nothing is flushed, nobody is told.
    pub async fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.ended().await;
    }

    /// Starts it again on the same address with the same data, after [`Server::stop`] or [`Server::kill`].
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "stop or kill the server first");
        self.run().await;
    }

    /// Starts the process and waits for its one line on stdout that says where it serves.
    async fn run(&mut self) {
        self.log_seen = self.log().len();
        self.child = Some(self.spawn());
        let line = wait_until("the server to say that it serves", DEADLINE, async || {
            let exited = self.child.as_mut()?.try_wait().expect("the child can be asked");
            let log = self.log();
            let fresh = log.get(self.log_seen..).unwrap_or_default();
            if let Some(status) = exited {
                panic!("the server ended at once with {status}:\n{fresh}");
            }
            let (whole_lines, _) = fresh.rsplit_once('\n')?;
            whole_lines.lines().find(|line| line.starts_with("maishou serving ")).map(str::to_owned)
        })
        .await;
        self.http = addresses(&line, "http=").remove(0);
        self.media = addresses(&line, "media=");
    }

    fn spawn(&self) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).expect("the log can be opened");
        let mut command = Command::new(env!("CARGO_BIN_EXE_maishou"));
        command
            .args(["serve", "--config"])
            .arg(self.folder.join("server.toml"))
            .current_dir(self.folder.path())
            .env("MAISHOU_HTTP__LISTEN", self.http.to_string())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log);
        end_with_parent(&mut command);
        command.spawn().expect("the server's binary can be started")
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.pid()).expect("process ids fit");
        // SAFETY: `kill` takes two integers, and the child has not been waited for, so the id is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the server can be signalled");
    }

    async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let deadline = Duration::from_secs(30);
        wait_until("the server to end", deadline, async || child.try_wait().expect("the child can be asked")).await
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the server's last lines:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// A test run that is killed takes its children with it.
pub fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

fn config_text(folder: &Scratch, secret: &str) -> String {
    let (store, tape) = (folder.join("store"), folder.join("tape"));
    format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[media]\nlisten = \"127.0.0.1:0\"\n\n[auth]\nsecret = \"{secret}\"\n\n\
         [store]\npath = {store:?}\n\n[tape]\npath = {tape:?}\n\n[payment]\nprovider = \"sandbox\"\n\n"
    )
}

fn addresses(line: &str, key: &str) -> Vec<SocketAddr> {
    let list = line.split(' ').find_map(|word| word.strip_prefix(key)).unwrap_or_else(|| panic!("{key} in {line:?}"));
    list.split(',').map(|address| address.parse().unwrap_or_else(|_| panic!("an address in {line:?}"))).collect()
}
