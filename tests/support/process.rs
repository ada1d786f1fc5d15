//! The `maishou` program as a child process whose output is kept.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::wait::{DEADLINE, wait_until};

const END_DEADLINE: Duration = Duration::from_secs(30);
const LINES_SHOWN: usize = 30;

/// A running `maishou`. Dropping it kills it.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where this process began to write in a log that may have older lines.
    begins: usize,
}

impl Process {
    /// Starts `maishou` with `args`; stdout and stderr are added to `log`.
    pub fn start(args: &[&str], env: &[(String, String)], folder: &Path, log: PathBuf) -> Self {
        Self::start_in(None, args, env, folder, log)
    }

    /// As [`Process::start`], in a network namespace if one is named.
    pub fn start_in(
        namespace: Option<&str>,
        args: &[&str],
        env: &[(String, String)],
        folder: &Path,
        log: PathBuf,
    ) -> Self {
        let begins = read(&log).len();
        let out = OpenOptions::new().create(true).append(true).open(&log).expect("the log can be opened");
        let program = env!("CARGO_BIN_EXE_maishou");
        let mut command = Command::new(if namespace.is_some() { "ip" } else { program });
        if let Some(namespace) = namespace {
            command.args(["netns", "exec", namespace, program]);
        }
        command
            .args(args)
            .current_dir(folder)
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file handle can be cloned"))
            .stderr(out);
        end_with_parent(&mut command);
        let child = command.spawn().expect("the program can be started");
        Self { child, log, begins }
    }

    /// Waits for a line that begins with `start`; panics when the process ends first.
    pub async fn says(&mut self, start: &str) -> String {
        let what = format!("a line that begins with {start:?}");
        wait_until(&what, DEADLINE, async || {
            let exited = self.child.try_wait().expect("the child can be asked");
            let said = self.said();
            if let Some(status) = exited {
                panic!("maishou ended at once with {status}:\n{said}");
            }
            let (whole_lines, _) = said.rsplit_once('\n')?;
            whole_lines.lines().map(str::trim_start).find(|line| line.starts_with(start)).map(str::to_owned)
        })
        .await
    }

    /// Everything that this process wrote so far.
    pub fn said(&self) -> String {
        read(&self.log).get(self.begins..).unwrap_or_default().to_owned()
    }

    /// Whether it has a file of this name open now.
    pub fn has_open(&self, name: &str) -> bool {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().flatten();
        open.filter_map(|file| fs::read_link(file.path()).ok()).any(|path| path.ends_with(name))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.pid()).expect("process ids fit");
        // SAFETY: `kill` takes two integers, and the child has not been waited for, so the id is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the process can be signalled");
    }

    /// Waits until it has ended by itself or by a signal.
    pub async fn ended(mut self) -> ExitStatus {
        wait_until("the process to end", END_DEADLINE, async || self.child.try_wait().expect("the child can be asked"))
            .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("the last lines of maishou:");
            lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).for_each(|line| eprintln!("  {line}"));
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

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}
