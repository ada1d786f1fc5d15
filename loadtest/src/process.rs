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
        "{viewers} viewers need as many file descriptors, and a process may have {most} here: raise the limit (ulimit -Hn, \
         LimitNOFILE=), take at most {} (--viewers), or share them out (--workers)",
        most.saturating_sub(SPARE)
    );
    limit.rlim_cur = most;
    // SAFETY: the pointer is to a limit on this stack, which the call reads.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

/// Refuses more connections to one distant address than this machine has ports for. On the machine itself the crowd
/// has many addresses of its own.
pub fn check_ports(viewers: usize, is_local: bool) -> anyhow::Result<()> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = range.split_whitespace().filter_map(|port| port.parse::<usize>().ok());
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else { return Ok(()) };
    check_port_count(viewers, last.saturating_sub(first) + 1, is_local)
}

fn check_port_count(viewers: usize, ports: usize, is_local: bool) -> anyhow::Result<()> {
    ensure!(
        is_local || viewers <= ports,
        "{viewers} viewers need as many ports towards the server, and this machine gives out {ports}: widen \
         net.ipv4.ip_local_port_range, take fewer (--viewers), or share them out over machines (--workers)"
    );
    Ok(())
}

/// What the scheduler says of a thread: how long it ran, and how long it waited for a core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schedule {
    ran: Duration,
    waited: Duration,
}

impl Schedule {
    /// Zeros where the system does not say.
    pub fn of_this_thread() -> Self {
        let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut nanos = stat.split_whitespace().filter_map(|nanos| nanos.parse().ok()).map(Duration::from_nanos);
        Self { ran: nanos.next().unwrap_or_default(), waited: nanos.next().unwrap_or_default() }
    }

    /// Seconds run and waited since an earlier look.
    pub fn since(&self, earlier: &Self) -> (f64, f64) {
        let since = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64();
        (since(self.ran, earlier.ran), since(self.waited, earlier.waited))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_or_ports_are_named_with_the_remedy() {
        let refused = allow_sockets(100_000_000).unwrap_err().to_string();
        assert!(refused.contains("ulimit") && refused.contains("--workers"), "{refused}");
        let refused = check_port_count(30_000, 28_232, false).unwrap_err().to_string();
        assert!(refused.contains("ip_local_port_range") && refused.contains("28232"), "{refused}");
        assert!(check_port_count(30_000, 28_232, true).is_ok());
        assert!(check_ports(1, false).is_ok());
    }
}
