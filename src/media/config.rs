//! What an operator can set, and which addresses the server tells its peers.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Peers of one worker are told apart by small numbers; more workers than this is a typing mistake.
const WORKERS_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// UDP address of the first worker; worker i listens on port + i. Port 0: each worker takes any free port.
    pub listen: SocketAddr,
    /// Addresses that peers are told to send to. Empty: the listen address, or all local ones when that is 0.0.0.0.
    pub candidates: Vec<IpAddr>,
    /// Worker threads, each with a port of its own. 0: one per core.
    pub workers: usize,
    /// Peers (publishers and viewers together) on this server. One more is refused as full.
    pub peers_max: usize,
    /// The longest offer or trickle fragment that is looked at, in bytes.
    pub offer_bytes_max: usize,
    /// A peer that has not finished its handshake after this many seconds is closed.
    pub handshake_seconds: u64,
    /// A peer whose connectivity checks stop for this many seconds is closed (RFC 7675).
    pub consent_seconds: u64,
    /// A peer from whom no good connectivity check has come after this many seconds is closed.
    pub ice_seconds: u64,
    /// A publisher without a media packet for this many seconds is no longer live; she is again with the next one.
    pub stall_seconds: u64,
    /// The least time between two keyframe requests to one publisher, in milliseconds.
    pub keyframe_interval_ms: u64,
    /// A viewer who comes in begins at the last keyframe if no more bytes than this came since; otherwise a new one is
    /// asked for.
    pub fast_start_bytes_max: usize,
    /// What a viewer's link is taken to carry before she reported on it, and the most it is ever taken to, in bits per
    /// second.
    pub viewer_bitrate_start: u32,
    pub viewer_bitrate_max: u32,
    /// A viewer whose link does not carry the smallest layer for this many seconds gets the sound alone.
    pub audio_only_seconds: u64,
    /// What a publisher's encoder may rise to, in bits per second.
    pub publisher_bitrate_max: u32,
    /// How long packets are gathered before they go out together, in milliseconds. 0: not at all.
    pub coalesce_ms: u64,
    /// How long a packet of sound waits for a picture to go out with, in milliseconds: a send costs more than what is
    /// in it.
    pub sound_coalesce_ms: u64,
    /// Seconds between two sender reports to a viewer.
    pub report_seconds: u64,
    /// Bytes that a worker holds for a socket that takes no more. Full: packets are dropped and counted.
    pub send_queue_bytes_max: usize,
    /// Send and receive buffer asked of the kernel for each socket, in bytes; the kernel may give less.
    pub socket_buffer_bytes: usize,
    /// Bursts of packets waiting at a worker from the other workers. Full: the burst is dropped and counted.
    pub feed_queue_max: usize,
    /// Joins and texts waiting at a worker. Full: a join waits, a text is refused.
    pub mailbox_max: usize,
    /// Text bytes sent to one peer and not yet acknowledged by it. Full: `send` refuses.
    pub channel_backlog_bytes_max: usize,
    /// Texts from peers that wait at a worker for the events channel. Full: their senders are slowed by flow control.
    pub events_backlog_max: usize,
    /// The least time between two reports of one viewer about what she sees, in milliseconds.
    pub quality_interval_ms: u64,
    /// Viewers of one room with the worst connections that the operator's page names.
    pub quality_worst_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            candidates: Vec::new(),
            workers: 0,
            peers_max: 10_000,
            offer_bytes_max: 64 * 1024,
            handshake_seconds: 15,
            consent_seconds: 30,
            ice_seconds: 10,
            stall_seconds: 2,
            keyframe_interval_ms: 500,
            fast_start_bytes_max: 512 * 1024,
            viewer_bitrate_start: 1_000_000,
            viewer_bitrate_max: 20_000_000,
            audio_only_seconds: 3,
            publisher_bitrate_max: 4_000_000,
            coalesce_ms: 1,
            sound_coalesce_ms: 15,
            report_seconds: 2,
            send_queue_bytes_max: 32 * 1024 * 1024,
            socket_buffer_bytes: 4 * 1024 * 1024,
            feed_queue_max: 256,
            mailbox_max: 4096,
            channel_backlog_bytes_max: 256 * 1024,
            events_backlog_max: 1024,
            quality_interval_ms: 2_000,
            quality_worst_max: 5,
        }
    }
}

impl Config {
    /// Names what cannot work.
    pub fn check(&self) -> io::Result<()> {
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if self.workers > WORKERS_MAX {
            return wrong("media.workers is above 256");
        }
        if self.listen.port() != 0 && usize::from(self.listen.port()) + self.worker_count() > usize::from(u16::MAX) + 1
        {
            return wrong("media.listen leaves no port for the last worker");
        }
        if self.feed_queue_max == 0 || self.mailbox_max == 0 || self.peers_max == 0 {
            return wrong("media.feed_queue_max, media.mailbox_max and media.peers_max must be at least 1");
        }
        if self.candidates.iter().any(IpAddr::is_unspecified) {
            return wrong("media.candidates names an address that nobody can send to");
        }
        Ok(())
    }

    pub(super) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    /// Where worker `index` listens.
    pub(super) fn listen_of(&self, index: usize) -> SocketAddr {
        let mut address = self.listen;
        if address.port() != 0 {
            let offset = u16::try_from(index).expect("check() leaves a port for every worker");
            address.set_port(address.port() + offset);
        }
        address
    }

    /// The addresses that go into answers, the best first.
    pub(super) fn candidate_addresses(&self) -> io::Result<Vec<IpAddr>> {
        if !self.candidates.is_empty() {
            return Ok(self.candidates.clone());
        }
        if !self.listen.ip().is_unspecified() {
            return Ok(vec![self.listen.ip()]);
        }
        let local: Vec<IpAddr> = shared::ifaces::ifaces()?
            .into_iter()
            .filter_map(|interface| interface.addr.map(|address| address.ip()))
            .filter(|ip| self.listen.is_ipv6() || ip.is_ipv4())
            .collect();
        let outside: Vec<IpAddr> = local.iter().copied().filter(|ip| is_reachable(*ip)).collect();
        Ok(if outside.is_empty() { local } else { outside })
    }

    pub(super) fn handshake_time(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    pub(super) fn consent_time(&self) -> Duration {
        Duration::from_secs(self.consent_seconds)
    }

    pub(super) fn ice_time(&self) -> Duration {
        Duration::from_secs(self.ice_seconds)
    }

    pub(super) fn quality_interval(&self) -> Duration {
        Duration::from_millis(self.quality_interval_ms)
    }

    pub(super) fn stall_time(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub(super) fn keyframe_interval(&self) -> Duration {
        Duration::from_millis(self.keyframe_interval_ms)
    }

    pub(super) fn audio_only_time(&self) -> Duration {
        Duration::from_secs(self.audio_only_seconds)
    }

    pub(super) fn coalesce_time(&self) -> Duration {
        Duration::from_millis(self.coalesce_ms)
    }

    pub(super) fn sound_coalesce_time(&self) -> Duration {
        Duration::from_millis(self.sound_coalesce_ms)
    }

    pub(super) fn report_interval(&self) -> Duration {
        Duration::from_secs(self.report_seconds.max(1))
    }
}

/// Neither this machine alone nor one link alone.
fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_a_port_of_its_own() {
        let config = Config { listen: "127.0.0.1:9000".parse().unwrap(), workers: 3, ..Config::default() };
        assert_eq!(config.listen_of(2).port(), 9002);
        let any = Config { listen: "127.0.0.1:0".parse().unwrap(), ..config };
        assert_eq!(any.listen_of(2).port(), 0);
    }

    #[test]
    fn a_port_range_that_does_not_fit_is_refused() {
        let config = Config { listen: "127.0.0.1:65535".parse().unwrap(), workers: 2, ..Config::default() };
        assert!(config.check().is_err());
        assert!(Config { workers: 1, ..config }.check().is_ok());
    }

    #[test]
    fn a_wildcard_is_answered_with_local_addresses() {
        let config = Config { listen: "0.0.0.0:0".parse().unwrap(), ..Config::default() };
        let addresses = config.candidate_addresses().unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(|ip| ip.is_ipv4() && !ip.is_unspecified()));
    }
}
