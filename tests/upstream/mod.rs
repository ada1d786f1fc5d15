//! Faults of the crates below `media` that others would meet too, as they are today: when one of these tests fails, an
//! upgrade repaired it, and what stands against it here may go. Described in the README beside this file.

mod datachannel;
mod dtls;
mod ice;
mod interceptor;
mod rtcp;
mod sctp;
mod srtp;

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

fn address() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

/// Set in a process of our own that runs one test.
const ALONE: &str = "MAISHOU_UPSTREAM_ALONE";

/// How much memory `work` takes and keeps, in KiB; none if that was asked of another process, where `test` passed.
fn kept_kib<T>(test: &str, work: impl FnOnce() -> T) -> Option<u64> {
    if std::env::var_os(ALONE).is_some() {
        let before = resident_kib();
        let kept = work();
        let after = resident_kib();
        drop(kept);
        return Some(after.saturating_sub(before));
    }
    let name = format!("{}::{test}", module_path!().split_once("::").map_or("", |(_, path)| path));
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let alone = alone.args(["--exact", name.trim_start_matches("::")]).env(ALONE, "1").stdin(Stdio::null());
    let output = alone.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    None
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
