//! Datagrams on their way out: one arena, in which packets to one peer of one size become one segmented send, and such
//! sends to many peers one system call.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// What the kernel takes in one segmented send.
const RUN_BYTES_MAX: usize = 60_000;
/// Runs in one system call; more bring nothing.
pub const GROUP_MAX: usize = 64;

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

impl Run {
    fn cut(&self) -> Option<usize> {
        (self.count > 1).then_some(self.segment)
    }

    /// The same datagrams, each by itself.
    fn parts(&self) -> impl Iterator<Item = Run> {
        (0..self.count).map(|part| {
            let begin = part * self.segment;
            let len = self.segment.min(self.len - begin);
            Run { path: self.path, offset: self.offset + begin, len, segment: len, count: 1, is_closed: true }
        })
    }
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

/// Runs that the kernel may be given in one call: of one segment size, from one of our addresses. Never empty.
pub struct Group<'a> {
    pub local: Option<IpAddr>,
    /// In how many bytes each run is cut; none for runs of one datagram.
    pub segment: Option<usize>,
    arena: &'a [u8],
    runs: &'a [Run],
}

impl<'a> Group<'a> {
    /// Of runs from the front of `runs`.
    fn of(arena: &'a [u8], runs: &'a [Run]) -> Option<Self> {
        let first = runs.first()?;
        let (local, segment) = (first.path.local, first.cut());
        let fits = |run: &&Run| run.path.local == local && run.cut() == segment;
        let len = runs.iter().take(GROUP_MAX).take_while(fits).count();
        Some(Self { local, segment, arena, runs: &runs[..len] })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (SocketAddr, &'a [u8])> {
        self.runs.iter().map(|run| (run.path.remote, &self.arena[run.offset..run.offset + run.len]))
    }
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

    /// Bytes that were not yet sent, and those before them.
    pub fn waiting(&self) -> usize {
        self.used
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

    /// Hands everything to `send`, in order, until it would block; `send` takes one run of a group or more and says how
    /// many. Returns how many datagrams failed otherwise.
    pub fn flush(&mut self, mut send: impl FnMut(&Group) -> io::Result<usize>) -> u64 {
        let mut failed = 0;
        while let Some(group) = Group::of(&self.arena, &self.runs[self.sent_runs..]) {
            match send(&group) {
                Ok(sent) => self.sent_runs += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return failed,
                Err(_) => {
                    failed += self.send_parts(&mut send);
                    self.sent_runs += 1;
                }
            }
        }
        self.runs.clear();
        self.sent_runs = 0;
        self.used = 0;
        failed
    }

    /// The run at the front was refused. A device without segmentation offload refuses a whole run, now and later: its
    /// datagrams may go one by one. Returns how many did not.
    fn send_parts(&mut self, send: &mut impl FnMut(&Group) -> io::Result<usize>) -> u64 {
        let run = &self.runs[self.sent_runs];
        if run.count == 1 {
            return 1;
        }
        self.segments_max = 1;
        let sends = |part: Run| Group::of(&self.arena, &[part]).is_some_and(|group| send(&group).is_ok());
        run.parts().map(sends).filter(|went| !went).count() as u64
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
        egress.flush(|group| {
            for (to, contents) in group.iter() {
                let segment = group.segment.unwrap_or(contents.len());
                all.extend(contents.chunks(segment).map(|part| (to.port(), part.to_vec())));
            }
            Ok(group.iter().len())
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

    /// For each call: into what the kernel cuts, and the bytes for each peer.
    fn calls(egress: &mut Egress) -> Vec<(Option<usize>, Vec<usize>)> {
        let mut calls = Vec::new();
        egress.flush(|group| {
            calls.push((group.segment, group.iter().map(|(_, contents)| contents.len()).collect()));
            Ok(group.iter().len())
        });
        calls
    }

    #[test]
    fn equal_packets_to_one_peer_are_one_run() {
        let mut egress = Egress::new(1 << 20, 40);
        for len in [1200, 1200, 1200, 300, 1200] {
            egress.push(path(1), &vec![7; len]).unwrap();
        }
        assert_eq!(calls(&mut egress), [(Some(1200), vec![3_900]), (None, vec![1_200])]);
    }

    #[test]
    fn the_same_picture_to_many_is_one_call() {
        let mut egress = Egress::new(1 << 20, 40);
        for port in 1..=3 {
            for len in [1200, 1200, 100 * usize::from(port)] {
                egress.push(path(port), &vec![7; len]).unwrap();
            }
        }
        (1..=2).for_each(|port| egress.push(path(port), &[7; 90]).unwrap());
        egress.push(Path { local: Some([127, 0, 0, 2].into()), ..path(3) }, &[7; 90]).unwrap();
        let expected = [(Some(1200), vec![2_500, 2_600, 2_700]), (None, vec![90, 90]), (None, vec![90])];
        assert_eq!(calls(&mut egress), expected);
    }

    #[test]
    fn a_call_is_no_longer_than_the_kernel_gains_by() {
        let mut egress = Egress::new(1 << 20, 40);
        (0..150).for_each(|port| egress.push(path(port), &[7; 90]).unwrap());
        let lens: Vec<_> = calls(&mut egress).into_iter().map(|(_, contents)| contents.len()).collect();
        assert_eq!(lens, [64, 64, 22]);
    }

    #[test]
    fn what_a_call_left_goes_with_the_next() {
        let mut egress = Egress::new(1 << 20, 40);
        (0..5).for_each(|port| egress.push(path(port), &[port as u8; 90]).unwrap());
        let mut went = Vec::new();
        let failed = egress.flush(|group| match went.len() {
            2 => {
                went.push(99);
                Err(io::ErrorKind::PermissionDenied.into())
            }
            _ => {
                went.extend(group.iter().take(2).map(|(to, _)| to.port()));
                Ok(2)
            }
        });
        assert_eq!((failed, went), (1, vec![0, 1, 99, 3, 4]));
        assert!(egress.is_empty());
    }

    #[test]
    fn a_blocked_socket_loses_nothing_until_the_queue_is_full() {
        let mut egress = Egress::new(3_000, 40);
        egress.push(path(1), &[1; 1_000]).unwrap();
        egress.push(path(2), &[2; 1_000]).unwrap();
        let mut calls = 0;
        let failed = egress.flush(|_| {
            calls += 1;
            if calls == 1 { Ok(1) } else { Err(io::ErrorKind::WouldBlock.into()) }
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
        for len in [100, 100, 30] {
            egress.push(path(1), &vec![1; len]).unwrap();
        }
        let mut single = Vec::new();
        let failed = egress.flush(|group| match group.segment {
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => {
                single.extend(group.iter().map(|(_, contents)| contents.len()));
                Ok(1)
            }
        });
        assert_eq!((failed, single), (0, vec![100, 100, 30]));
    }

    #[test]
    fn what_was_not_written_is_not_sent() {
        let mut egress = Egress::new(1 << 16, 40);
        assert_eq!(egress.write(path(1), 100, |_| false), Err(Refused::Unwritten));
        assert!(datagrams(&mut egress).is_empty());
    }
}
