//! A real Chromium: found, started headless with a profile of its own, and ended with all its processes.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    devtools::DevTools,
    page::Page,
    process::end_with_parent,
    scratch::Scratch,
    wait::{DEADLINE, wait_until},
};

const NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// The flags of every test browser.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en-US",
    "--remote-debugging-port=0",
];

/// A browser encodes and decodes video; more than one test's at a time and a small machine measures only itself.
static TURN: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(1));

/// How the browser is to treat what people are asked about.
#[derive(Clone, Copy)]
pub struct Habits {
    /// Video may start with sound without a gesture.
    pub autoplay: bool,
    /// The camera question is answered with yes (and a fake camera).
    pub camera: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { autoplay: true, camera: true }
    }
}

/// A test's right to run browsers; held for as long as any of its browsers runs.
pub struct Turn(#[expect(dead_code, reason = "held, not read")] SemaphorePermit<'static>);

impl Turn {
    pub async fn wait() -> Self {
        Self(TURN.acquire().await.expect("the semaphore is never closed"))
    }
}

/// A running Chromium. Dropping it kills the whole process group.
pub struct Chrome {
    devtools: DevTools,
    habits: Habits,
    child: Child,
    profile: Scratch,
}

impl Chrome {
    pub async fn launch(_turn: &Turn, habits: Habits) -> Self {
        let profile = Scratch::new("chrome");
        let mut child = spawn(&profile, habits);
        let endpoint = profile.join("DevToolsActivePort");
        let (port, path) = wait_until("Chromium to listen", DEADLINE, async || {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                let log = fs::read_to_string(profile.join("chrome.log")).unwrap_or_default();
                panic!("Chromium ended at once with {status}:\n{log}");
            }
            let text = fs::read_to_string(&endpoint).ok()?;
            let (port, path) = text.split_once('\n')?;
            path.starts_with('/').then(|| (port.parse::<u16>().expect("a port"), path.trim().to_owned()))
        })
        .await;
        Self { devtools: DevTools::connect(port, &path).await, habits, child, profile }
    }

    /// Opens a window with storage of its own, as another person's browser would have.
    pub async fn open(&self, url: &str) -> Page {
        let page = self.blank().await;
        page.goto(url).await;
        page
    }

    /// An empty window, to be prepared before [`Page::goto`].
    pub async fn blank(&self) -> Page {
        let context = text(&self.devtools.call("Target.createBrowserContext", json!({})).await["browserContextId"]);
        if !self.habits.camera {
            self.deny(&context, "camera").await;
            self.deny(&context, "microphone").await;
        }
        let wanted = json!({ "url": "about:blank", "browserContextId": context, "newWindow": true });
        let target = text(&self.devtools.call("Target.createTarget", wanted).await["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&self.devtools.call("Target.attachToTarget", attach).await["sessionId"]);
        Page::adopt(self.devtools.clone(), session, target).await
    }

    async fn deny(&self, context: &str, name: &str) {
        let denied = json!({ "browserContextId": context, "permission": { "name": name }, "setting": "denied" });
        self.devtools.call("Browser.setPermission", denied).await;
    }
}

impl Drop for Chrome {
    fn drop(&mut self) {
        // The browser leads a process group: its renderers and helpers go with it.
        let group = libc::pid_t::try_from(self.child.id()).expect("process ids fit");
        // SAFETY: `kill` takes two integers; the leader has not been waited for, so the group is still ours.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = self.child.wait();
    }
}

/// The Chromium of this machine: `$CHROMIUM`, or the first known name on the path.
pub fn find() -> PathBuf {
    if let Some(named) = env::var_os("CHROMIUM") {
        return named.into();
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let candidates = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|path| is_program(path)).expect("a Chromium: install one, or start with tests/run")
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn spawn(profile: &Scratch, habits: Habits) -> Child {
    let log = fs::File::create(profile.join("chrome.log")).expect("the profile folder can be written");
    let mut command = Command::new(find());
    command
        .args(FLAGS)
        .args(habits.camera.then_some("--use-fake-ui-for-media-stream"))
        .args(habits.autoplay.then_some("--autoplay-policy=no-user-gesture-required"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg("about:blank")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file handle can be cloned"))
        .stderr(log)
        .process_group(0);
    end_with_parent(&mut command);
    command.spawn().expect("Chromium can be started")
}

fn text(value: &Value) -> String {
    value.as_str().expect("the browser names what it made").to_owned()
}
