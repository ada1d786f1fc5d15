//! The real server as a child process, on ports that it chooses, with data in a folder of its own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitStatus,
};

use super::{
    namespace::Namespace,
    process::Process,
    rest::Rest,
    scratch::Scratch,
    token::Tokens,
    wait::{DEADLINE, within},
    ws::Ws,
};

/// How a server is to be started; `Plan::default()` is one with nothing changed.
#[derive(Default)]
pub struct Plan {
    env: Vec<(String, String)>,
    toml: String,
    inside: Option<String>,
    address: Option<IpAddr>,
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

    /// Runs it in a network of its own, at the address there.
    pub fn inside(self, namespace: &Namespace) -> Self {
        let media = format!("{}:0", namespace.there);
        let plan = self.set("MEDIA__LISTEN", &media);
        Self { inside: Some(namespace.name.clone()), address: Some(namespace.there), ..plan }
    }

    pub async fn start(self) -> Server {
        let folder = Scratch::new("server");
        let secret: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
        let config = folder.join("server.toml");
        fs::write(&config, config_text(&folder, &secret) + &self.toml).expect("the folder can be written");

        let tokens = Tokens::new(&secret);
        let http = SocketAddr::new(self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
        let (env, inside) = (self.env, self.inside);
        let mut server = Server { process: None, http, media: vec![], tokens, secret, env, inside, folder };
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
    inside: Option<String>,
    process: Option<Process>,
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
        self.running().pid()
    }

    /// Overrides one key from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        let key = format!("MAISHOU_{key}");
        self.env.retain(|(known, _)| *known != key);
        self.env.push((key, value.to_owned()));
    }

    /// Asks it to drain and end (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.running().signal(libc::SIGTERM);
        self.process.take().expect("the server runs").ended().await
    }

    /// Stops it in its tracks (SIGSTOP): its sockets stay, and nothing comes out of them.
    pub fn pause(&self) {
        self.running().signal(libc::SIGSTOP);
    }

    /// Lets it go on after [`Server::pause`].
    pub fn go_on(&self) {
        self.running().signal(libc::SIGCONT);
    }

    /// `kill -9`: nothing is flushed, nobody is told.
    pub async fn kill(&mut self) {
        self.running().signal(libc::SIGKILL);
        self.process.take().expect("the server runs").ended().await;
    }

    /// Starts it again on the same address with the same data, after [`Server::stop`] or [`Server::kill`].
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "stop or kill the server first");
        self.run().await;
    }

    /// Starts it again, and kills it as soon as it has opened `file` of its data, or serves.
    pub async fn kill_while_starting(&mut self, file: &str) {
        assert!(self.process.is_none(), "stop or kill the server first");
        let process = self.process();
        let what = format!("the server to open {file}");
        within(&what, DEADLINE, async {
            while !process.has_open(file) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.process = Some(process);
        self.kill().await;
    }

    fn process(&self) -> Process {
        let config = self.folder.join("server.toml");
        let config = config.to_str().expect("a path in UTF-8");
        let mut env = vec![("MAISHOU_HTTP__LISTEN".to_owned(), self.http.to_string())];
        env.extend(self.env.iter().cloned());
        let inside = self.inside.as_deref();
        Process::start_in(inside, &["serve", "--config", config], &env, self.folder.path(), self.log_path())
    }

    /// Starts the process and waits for its one line on stdout that says where it serves.
    async fn run(&mut self) {
        let mut process = self.process();
        let line = process.says("maishou serving ").await;
        self.process = Some(process);
        self.http = addresses(&line, "http=").remove(0);
        self.media = addresses(&line, "media=");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.take().expect("the server runs").ended().await
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the server runs")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
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
