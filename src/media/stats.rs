//! What a worker counts.

use std::collections::BTreeMap;

/// Why a datagram, a packet or a message went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// From an address that no peer proved to be its own, or of no protocol that we speak.
    UnknownDatagram,
    /// A connectivity check that is malformed, of nobody we know, or with a wrong password.
    BadCheck,
    /// A DTLS record that is malformed or does not fit.
    BadDtls,
    /// Above what a peer may send before its handshake is done.
    EarlyFlood,
    /// A datagram that made a library panic; its peer was closed.
    Panicked,
    /// An RTP packet that cannot be read, or with a payload type that was not agreed.
    BadRtp,
    /// A report that cannot be read.
    BadRtcp,
    /// Under an SSRC that was neither announced nor proved.
    UnknownSsrc,
    /// The tag does not fit the packet.
    NotAuthentic,
    Replayed,
    /// So late that it cannot be told from a replayed one.
    TooOld,
    /// A publisher's padding; viewers see no gap.
    Padding,
    /// Media from a viewer, or from a publisher who was replaced.
    NotPublishing,
    /// A burst of a track for a viewer who cannot decode its codec.
    NoCommonCodec,
    /// Would have reused an outgoing number. Never expected.
    NumberReused,
    /// The cipher refused.
    SealFailed,
    /// A viewer asked again for a packet that is gone, or that never came.
    ResendMissing,
    /// A viewer asked again for more than its share.
    ResendBudget,
    /// A burst for another worker whose queue is full.
    FeedQueueFull,
    /// The socket takes no more.
    SendQueueFull,
    /// The kernel refused a datagram.
    SendFailed,
    /// A text from a peer above 64 KiB, more channels than anybody needs, data on one that is not ours, or a packet
    /// whose lengths lie.
    BadChannelData,
    /// A text to a peer that is gone or whose channel was closed.
    TextUndelivered,
}

impl Dropped {
    const ALL: [Self; 23] = [
        Self::UnknownDatagram,
        Self::BadCheck,
        Self::BadDtls,
        Self::EarlyFlood,
        Self::Panicked,
        Self::BadRtp,
        Self::BadRtcp,
        Self::UnknownSsrc,
        Self::NotAuthentic,
        Self::Replayed,
        Self::TooOld,
        Self::Padding,
        Self::NotPublishing,
        Self::NoCommonCodec,
        Self::NumberReused,
        Self::SealFailed,
        Self::ResendMissing,
        Self::ResendBudget,
        Self::FeedQueueFull,
        Self::SendQueueFull,
        Self::SendFailed,
        Self::BadChannelData,
        Self::TextUndelivered,
    ];

    /// The label of this reason in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownDatagram => "unknown_datagram",
            Self::BadCheck => "bad_check",
            Self::BadDtls => "bad_dtls",
            Self::EarlyFlood => "early_flood",
            Self::Panicked => "panicked",
            Self::BadRtp => "bad_rtp",
            Self::BadRtcp => "bad_rtcp",
            Self::UnknownSsrc => "unknown_ssrc",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::TooOld => "too_old",
            Self::Padding => "padding",
            Self::NotPublishing => "not_publishing",
            Self::NoCommonCodec => "no_common_codec",
            Self::NumberReused => "number_reused",
            Self::SealFailed => "seal_failed",
            Self::ResendMissing => "resend_missing",
            Self::ResendBudget => "resend_budget",
            Self::FeedQueueFull => "feed_queue_full",
            Self::SendQueueFull => "send_queue_full",
            Self::SendFailed => "send_failed",
            Self::BadChannelData => "bad_channel_data",
            Self::TextUndelivered => "text_undelivered",
        }
    }
}

/// Counters of one worker since its start. Written by that worker alone, copied out once per turn of its loop.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub pli_sent: u64,
    pub pli_in: u64,
    pub nack_in: u64,
    pub nack_sent: u64,
    pub rtx_out: u64,
    pub rtx_in: u64,
    pub joins: u64,
    pub handshake_failures: u64,
    pub flights_repeated: u64,
    pub texts_in: u64,
    pub texts_out: u64,
    pub events_delayed: u64,
    dropped: [u64; Dropped::ALL.len()],
}

impl Counts {
    pub fn drop_one(&mut self, reason: Dropped) {
        self.drop_many(reason, 1);
    }

    pub fn drop_many(&mut self, reason: Dropped, count: u64) {
        self.dropped[reason as usize] += count;
    }
}

/// A snapshot of what the media server counts, over all workers. Everything but `peers` only rises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Publishers and viewers now, those still shaking hands included.
    pub peers: u64,
    /// Authentic media packets of publishers, and their bytes on the wire. Repeats and padding count.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// Media packets handed to the socket, resent ones included, and their bytes with tags.
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Keyframe requests to publishers, and from viewers (PLI and FIR).
    pub pli_sent: u64,
    pub pli_in: u64,
    /// Packets that viewers asked for again, and that we asked publishers for.
    pub nack_in: u64,
    pub nack_sent: u64,
    /// Packets sent to viewers again, and got from publishers again.
    pub rtx_out: u64,
    pub rtx_in: u64,
    /// Peers whose handshake was completed.
    pub joins: u64,
    /// Peers that ended before that, except by leaving.
    pub handshake_failures: u64,
    /// Flights of handshakes said again, because a peer repeated its hello or was silent for long.
    pub flights_repeated: u64,
    /// Texts of the data channel, each way.
    pub texts_in: u64,
    pub texts_out: u64,
    /// Events that had to wait because the events channel was full.
    pub events_delayed: u64,
    /// By reason; every reason is there, most at zero.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub(super) fn of(peers: usize, workers: impl Iterator<Item = Counts>) -> Self {
        let mut stats = Self { peers: peers as u64, ..Self::default() };
        stats.dropped = Dropped::ALL.iter().map(|reason| (reason.name(), 0)).collect();
        for counts in workers {
            stats.add(&counts);
        }
        stats
    }

    fn add(&mut self, counts: &Counts) {
        self.packets_in += counts.packets_in;
        self.bytes_in += counts.bytes_in;
        self.packets_out += counts.packets_out;
        self.bytes_out += counts.bytes_out;
        self.pli_sent += counts.pli_sent;
        self.pli_in += counts.pli_in;
        self.nack_in += counts.nack_in;
        self.nack_sent += counts.nack_sent;
        self.rtx_out += counts.rtx_out;
        self.rtx_in += counts.rtx_in;
        self.joins += counts.joins;
        self.handshake_failures += counts.handshake_failures;
        self.flights_repeated += counts.flights_repeated;
        self.texts_in += counts.texts_in;
        self.texts_out += counts.texts_out;
        self.events_delayed += counts.events_delayed;
        for reason in Dropped::ALL {
            *self.dropped.entry(reason.name()).or_default() += counts.dropped[reason as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_and_a_name_of_its_own() {
        let mut counts = Counts::default();
        for (index, reason) in Dropped::ALL.into_iter().enumerate() {
            counts.drop_many(reason, index as u64 + 1);
        }
        let stats = Stats::of(3, [counts.clone(), counts].into_iter());
        let mut values: Vec<u64> = stats.dropped.values().copied().collect();
        values.sort_unstable();
        assert_eq!(values, (1..=Dropped::ALL.len() as u64).map(|n| 2 * n).collect::<Vec<_>>());
    }
}
