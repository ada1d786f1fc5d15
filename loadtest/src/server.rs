//! A server started to be measured: a process of its own, on a core of its own if wanted, ended with its owner.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    process::{Child as Process, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::process;

/// How long a server may take until it listens.
const STARTS_IN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub struct Child(Process);

impl Child {
    /// Starts it without input or output.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Starts it with its messages in a file. It hears nothing of a Ctrl-C at our terminal, and does not outlive us.
    pub fn start_alone(command: &mut Command, messages: std::fs::File) -> io::Result<Self> {
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        Ok(Self(command.spawn()?))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and waits until it has, or the time is up.
    pub fn end_within(&mut self, time: Duration) -> anyhow::Result<()> {
        self.ask_to_end()?;
        let deadline = Instant::now() + time;
        while self.is_running() {
            ensure!(Instant::now() < deadline, "the server does not end within {time:?}");
            thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// The same, with all its threads on one core.
    pub fn start_on(core: usize, command: &mut Command) -> io::Result<Self> {
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(move || process::stay_on(core)) };
        Self::start(command)
    }

    /// Waits until it listens on this address.
    pub fn wait_for(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTS_IN;
        while TcpStream::connect(address).is_err() {
            if !self.is_running() || Instant::now() > deadline {
                bail!("a server does not listen on {address}");
            }
            thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// CPU time of all its threads.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        process::cpu_time(self.0.id()).context("the server's CPU time cannot be read")
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        Ok(process::memory_kib(self.0.id()).context("the server's memory cannot be read")? << 10)
    }

    /// Asks it to end in order.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        let pid = libc::pid_t::try_from(self.0.id())?;
        // SAFETY: it signals a child that was not waited for, so its number is still its own.
        ensure!(unsafe { libc::kill(pid, libc::SIGTERM) } == 0, io::Error::last_os_error());
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A local address that nobody listens on.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
