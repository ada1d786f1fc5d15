use std::{fs, io, time::Duration};

use anyhow::ensure;

/// Descriptors that are not a viewer's.
const SPARE: u64 = 300;

/// Allows as many sockets as viewers need, or says that the machine does not.
pub fn allow_sockets(viewers: usize) -> anyhow::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a limit on this stack, which the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    let most = limit.rlim_max;
    ensure!(
        viewers as u64 + SPARE <= most,
        "a process may have {most} sockets here (ulimit -Hn): at most {} viewers",
        most.saturating_sub(SPARE)
    );
    limit.rlim_cur = most;
    // SAFETY: the pointer is to a limit on this stack, which the call reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

/// Resident memory of a process in KiB.
pub fn memory_kib(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok());
    kib.ok_or_else(|| io::Error::other("no VmRSS in its status"))
}

/// CPU time of all threads of a process. The scheduler's own count: ticks alias with work that keeps a beat.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        let Ok(stat) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += stat.split(' ').next().and_then(|ran| ran.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Keeps the calling thread, and those that it starts from here on, on one core.
pub fn stay_on(core: usize) -> io::Result<()> {
    // SAFETY: zeros are an empty set, which the macro adds to; the call reads it.
    let done = unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut cores);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
