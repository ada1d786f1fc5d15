//! Datagrams on their way out: one arena, in which packets to one peer of one size become one system call.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// What the kernel takes in one segmented send.
const RUN_BYTES_MAX: usize = 60_000;

/// Between a peer and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub remote: SocketAddr,
    /// Our address that the peer uses; told to the kernel where it would have a choice.
    pub local: Option<IpAddr>,
}

/// Datagrams to one peer, all of `segment` bytes but the last, which may be shorter.
struct Run {
    path: Path,
    offset: usize,
    len: usize,
    segment: usize,
    count: usize,
    is_closed: bool,
}

pub struct Egress {
    arena: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    sent_runs: usize,
    bytes_max: usize,
    segments_max: usize,
}

/// Why a datagram was not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The socket takes less than is sent, for longer than the queue lasts.
    Full,
    /// The caller had nothing fit to send.
    Unwritten,
}

/// One send of the run at the front.
pub struct Batch<'a> {
    pub path: Path,
    pub contents: &'a [u8],
    pub segment: Option<usize>,
}

impl Egress {
    pub fn new(bytes_max: usize, segments_max: usize) -> Self {
        Self {
            arena: Vec::new(),
            used: 0,
            runs: Vec::new(),
            sent_runs: 0,
            bytes_max,
            segments_max: segments_max.max(1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.sent_runs == self.runs.len()
    }

    /// Reserves `len` bytes for `write`; when that returns false, nothing is sent.
    pub fn write(&mut self, path: Path, len: usize, write: impl FnOnce(&mut [u8]) -> bool) -> Result<(), Refused> {
        let end = self.used + len;
        if end > self.bytes_max {
            return Err(Refused::Full);
        }
        if self.arena.len() < end {
            self.arena.resize(end.next_power_of_two().min(self.bytes_max), 0);
        }
        if !write(&mut self.arena[self.used..end]) {
            return Err(Refused::Unwritten);
        }
        self.append(path, len);
        self.used = end;
        Ok(())
    }

    pub fn push(&mut self, path: Path, datagram: &[u8]) -> Result<(), Refused> {
        self.write(path, datagram.len(), |buffer| {
            buffer.copy_from_slice(datagram);
            true
        })
    }

    fn append(&mut self, path: Path, len: usize) {
        let is_unsent = self.sent_runs < self.runs.len();
        if let Some(run) = self.runs.last_mut().filter(|_| is_unsent) {
            let fits = !run.is_closed && run.count < self.segments_max && run.len + len <= RUN_BYTES_MAX;
            if fits && run.path == path && len <= run.segment {
                run.len += len;
                run.count += 1;
                run.is_closed = len < run.segment;
                return;
            }
        }
        self.runs.push(Run { path, offset: self.used, len, segment: len, count: 1, is_closed: false });
    }

    /// Hands everything to `send`, in order, until it would block. Returns how many datagrams failed otherwise.
    pub fn flush(&mut self, mut send: impl FnMut(Batch) -> io::Result<()>) -> u64 {
        let mut failed = 0;
        while let Some(run) = self.runs.get(self.sent_runs) {
            let contents = &self.arena[run.offset..run.offset + run.len];
            let segment = (run.count > 1).then_some(run.segment);
            match send(Batch { path: run.path, contents, segment }) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return failed,
                // A device without segmentation offload refuses the whole run; its datagrams may go one by one.
                Err(_) if segment.is_some() => {
                    self.segments_max = 1;
                    for contents in contents.chunks(run.segment) {
                        failed += u64::from(send(Batch { path: run.path, contents, segment: None }).is_err());
                    }
                }
                Err(_) => failed += 1,
            }
            self.sent_runs += 1;
        }
        self.runs.clear();
        self.sent_runs = 0;
        self.used = 0;
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(port: u16) -> Path {
        Path { remote: SocketAddr::from(([127, 0, 0, 1], port)), local: None }
    }

    /// The datagrams that a kernel makes of what is sent.
    fn datagrams(egress: &mut Egress) -> Vec<(u16, Vec<u8>)> {
        let mut all = Vec::new();
        egress.flush(|batch| {
            let segment = batch.segment.unwrap_or(batch.contents.len());
            all.extend(batch.contents.chunks(segment).map(|part| (batch.path.remote.port(), part.to_vec())));
            Ok(())
        });
        all
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(lens in proptest::collection::vec((1u16..4, 1usize..1400), 1..200)) {
            let mut egress = Egress::new(1 << 20, 40);
            let sent: Vec<_> = lens.iter().enumerate().map(|(n, (port, len))| (*port, vec![n as u8; *len])).collect();
            for (port, datagram) in &sent {
                egress.push(path(*port), datagram).unwrap();
            }
            prop_assert_eq!(datagrams(&mut egress), sent);
            prop_assert!(egress.is_empty());
        }
    }

    #[test]
    fn equal_packets_to_one_peer_are_one_call() {
        let mut egress = Egress::new(1 << 20, 40);
        for len in [1200, 1200, 1200, 300, 1200] {
            egress.push(path(1), &vec![7; len]).unwrap();
        }
        let mut calls = Vec::new();
        egress.flush(|batch| {
            calls.push(batch.contents.len());
            Ok(())
        });
        assert_eq!(calls, [3_900, 1_200]);
    }

    #[test]
    fn a_blocked_socket_loses_nothing_until_the_queue_is_full() {
        let mut egress = Egress::new(3_000, 40);
        egress.push(path(1), &[1; 1_000]).unwrap();
        egress.push(path(2), &[2; 1_000]).unwrap();
        let mut calls = 0;
        let failed = egress.flush(|_| {
            calls += 1;
            if calls == 1 { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        assert!(failed == 0 && !egress.is_empty());
        egress.push(path(2), &[3; 1_000]).unwrap();
        assert_eq!(egress.push(path(2), &[4; 1]), Err(Refused::Full));
        assert_eq!(datagrams(&mut egress), [(2, vec![2; 1_000]), (2, vec![3; 1_000])]);
        egress.push(path(2), &[4; 1]).unwrap();
    }

    #[test]
    fn a_refused_run_goes_one_by_one() {
        let mut egress = Egress::new(1 << 16, 40);
        for _ in 0..3 {
            egress.push(path(1), &[1; 100]).unwrap();
        }
        let mut single = 0;
        let failed = egress.flush(|batch| match batch.segment {
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => {
                single += 1;
                Ok(())
            }
        });
        assert_eq!((failed, single), (0, 3));
    }

    #[test]
    fn what_was_not_written_is_not_sent() {
        let mut egress = Egress::new(1 << 16, 40);
        assert_eq!(egress.write(path(1), 100, |_| false), Err(Refused::Unwritten));
        assert!(datagrams(&mut egress).is_empty());
    }
}
