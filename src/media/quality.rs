//! What one connection is like: its bitrate, what its reports tell of loss and round trip, what its viewer saw.
//!
//! The session's worker writes, anybody reads. Nothing here is exact enough to decide by; it is for people to look at.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rtcp::{reception_report::ReceptionReport, sender_report::SenderReport};

/// Rates are over at least this time.
const RATE_TIME_MIN: Duration = Duration::from_millis(900);
/// Sender reports whose echo is recognised: some seconds of two tracks.
const SENT_REPORTS: usize = 8;
/// Streams of one session whose reports are told apart; those of simulcast are the most.
const STREAMS_MAX: usize = 8;
/// The part of a new value in the smoothed one.
const LOSS_GAIN: f32 = 0.5;
const ROUND_TRIP_GAIN: f64 = 0.25;
/// An echo that is older says nothing about now.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);
/// The shortest stop of the picture that anybody counts as one.
const FREEZE_TIME_MIN: Duration = Duration::from_millis(150);
/// Longer is not waiting for a picture any more.
const FIRST_FRAME_MAX: Duration = Duration::from_secs(60);

/// What a session is like now. What is not known yet is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SessionQuality {
    /// Media per second, without headers that are not ours: in from a publisher, out to a viewer.
    pub bits: Option<u64>,
    /// Whole pictures per second; of a publisher only.
    pub frames: Option<f32>,
    /// The part of her packets that did not arrive at the first attempt, lately; 0 to 1.
    pub loss: Option<f32>,
    pub round_trip: Option<Duration>,
    /// What a viewer's link is estimated to carry, a second.
    pub link_bits: Option<u64>,
    /// Which of the publisher's layers a viewer gets, from 0 for the smallest.
    pub layer: Option<u8>,
    pub watched: Watched,
}

/// What a viewer's link is estimated to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// What it carries, a second.
    pub bits: u32,
    pub loss: f32,
    pub round_trip: Option<Duration>,
}

/// What a viewer's player counted since her session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// From her wish to watch to the first picture on the screen.
    pub first_frame: Option<Duration>,
    pub freezes: u32,
    /// How long the picture stood still, all freezes together.
    pub frozen: Duration,
}

/// She told less than the least time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSoon {
    pub wait: Duration,
}

/// The quality of one session.
#[derive(Debug)]
pub struct Quality {
    bytes: AtomicU64,
    frames: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    rates: Rates,
    streams: Vec<ReportedStream>,
    loss: Option<f32>,
    sent: [Option<(u32, Instant)>; SENT_REPORTS],
    next_sent: usize,
    round_trip: Option<Duration>,
    layer: Option<u8>,
    link: Option<Link>,
    watched: Watched,
    told_at: Instant,
    has_told: bool,
}

#[derive(Clone, Copy, Debug)]
struct ReportedStream {
    ssrc: u32,
    /// The highest number that was received of it, with its cycles.
    highest: u32,
    /// What a sender report said was sent of it.
    octets: u32,
}

#[derive(Debug)]
struct Rates {
    at: Instant,
    bytes: u64,
    frames: u64,
    bits: Option<u64>,
    frames_per_second: Option<f32>,
}

impl Quality {
    pub fn new(now: Instant) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            book: Mutex::new(Book {
                rates: Rates { at: now, bytes: 0, frames: 0, bits: None, frames_per_second: None },
                streams: Vec::new(),
                loss: None,
                sent: [None; SENT_REPORTS],
                next_sent: 0,
                round_trip: None,
                layer: None,
                link: None,
                watched: Watched::default(),
                told_at: now,
                has_told: false,
            }),
        }
    }

    /// A publisher's packet came; whether it ended a picture.
    pub fn received(&self, bytes: usize, ends_frame: bool) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.frames.fetch_add(u64::from(ends_frame), Ordering::Relaxed);
    }

    /// What we tell a publisher about her streams, about once a second.
    pub fn reported_to_publisher(&self, blocks: &[ReceptionReport], now: Instant) {
        let mut book = self.book();
        book.note_loss(blocks);
        book.rates.measure(self.bytes.load(Ordering::Relaxed), Some(self.frames.load(Ordering::Relaxed)), now);
    }

    /// What we told a viewer about the streams that she gets.
    pub fn reported_to_viewer(&self, reports: &[SenderReport], now: Instant) {
        let mut book = self.book();
        let sent: u64 = reports.iter().map(|report| book.note_sent(report, now)).sum();
        let bytes = self.bytes.fetch_add(sent, Ordering::Relaxed) + sent;
        book.rates.measure(bytes, None, now);
    }

    /// What a viewer tells about streams of ours that reached her.
    pub fn heard_from_viewer(&self, blocks: &[ReceptionReport], now: Instant) {
        let mut book = self.book();
        book.note_loss(blocks);
        book.note_echoes(blocks, now);
    }

    /// The layer that a viewer gets from now on, and why.
    pub fn switched(&self, layer: Option<u8>, link: Link) {
        let mut book = self.book();
        (book.layer, book.link) = (layer, Some(link));
    }

    /// What a viewer's player counted, at most once per `interval`. Returns what is new in it. Nobody's word makes more
    /// of it than can have been: no picture stands still for longer than the time that passed.
    pub fn told(&self, watched: Watched, interval: Duration, now: Instant) -> Result<Watched, TooSoon> {
        self.book().told(watched, interval, now)
    }

    pub fn read(&self) -> SessionQuality {
        let book = self.book();
        SessionQuality {
            bits: book.rates.bits,
            frames: book.rates.frames_per_second,
            loss: book.loss.or(book.link.map(|link| link.loss)),
            round_trip: book.round_trip.or(book.link.and_then(|link| link.round_trip)),
            link_bits: book.link.map(|link| u64::from(link.bits)),
            layer: book.layer,
            watched: book.watched,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Weighs each stream's loss with what was expected of it since its last report.
    fn note_loss(&mut self, blocks: &[ReceptionReport]) {
        let (mut expected, mut lost) = (0.0, 0.0);
        for block in blocks {
            let Some(stream) = self.stream(block.ssrc) else { continue };
            let since_last = block.last_sequence_number.wrapping_sub(stream.highest);
            stream.highest = block.last_sequence_number;
            // The first report of a stream is about an unknown number, one that is out of order about none.
            let weight = if since_last < 1 << 16 { since_last as f32 } else { 1.0 };
            expected += weight;
            lost += weight * f32::from(block.fraction_lost) / 256.0;
        }
        if expected > 0.0 {
            let now = lost / expected;
            self.loss = Some(self.loss.map_or(now, |before| before + (now - before) * LOSS_GAIN));
        }
    }

    /// Remembers a sender report; returns the bytes that it counts and the last one did not.
    fn note_sent(&mut self, report: &SenderReport, now: Instant) -> u64 {
        self.sent[self.next_sent % SENT_REPORTS] = Some((middle(report.ntp_time), now));
        self.next_sent = self.next_sent.wrapping_add(1);
        let Some(stream) = self.stream(report.ssrc) else { return 0 };
        let since_last = report.octet_count.wrapping_sub(stream.octets);
        stream.octets = report.octet_count;
        u64::from(since_last)
    }

    fn note_echoes(&mut self, blocks: &[ReceptionReport], now: Instant) {
        for block in blocks.iter().filter(|block| block.last_sender_report != 0) {
            let sent = self.sent.iter().flatten().find(|(middle, _)| *middle == block.last_sender_report);
            let Some((_, at)) = sent else { continue };
            // The delay is in units of 2^-16 seconds.
            let delay = Duration::from_micros((u64::from(block.delay) * 1_000_000) >> 16);
            let Some(trip) = now.saturating_duration_since(*at).checked_sub(delay) else { continue };
            if trip > ROUND_TRIP_MAX {
                continue;
            }
            let smooth = |before: Duration| {
                Duration::from_secs_f64(
                    before.as_secs_f64() * (1.0 - ROUND_TRIP_GAIN) + trip.as_secs_f64() * ROUND_TRIP_GAIN,
                )
            };
            self.round_trip = Some(self.round_trip.map_or(trip, smooth));
        }
    }

    /// None for a stream beyond those that a session can have.
    fn stream(&mut self, ssrc: u32) -> Option<&mut ReportedStream> {
        if let Some(place) = self.streams.iter().position(|stream| stream.ssrc == ssrc) {
            return self.streams.get_mut(place);
        }
        // A publisher who changed her encoder has new ones.
        if self.streams.len() == STREAMS_MAX {
            self.streams.remove(0);
        }
        // Far from any number that comes, so that the first report is known as such.
        self.streams.push(ReportedStream { ssrc, highest: u32::MAX >> 1, octets: 0 });
        self.streams.last_mut()
    }

    fn told(&mut self, watched: Watched, interval: Duration, now: Instant) -> Result<Watched, TooSoon> {
        let passed = now.saturating_duration_since(self.told_at);
        if self.has_told && passed < interval {
            return Err(TooSoon { wait: interval - passed });
        }
        (self.has_told, self.told_at) = (true, now);

        let freezes_max = u32::try_from(passed.as_millis() / FREEZE_TIME_MIN.as_millis()).unwrap_or(u32::MAX);
        let freezes = watched.freezes.saturating_sub(self.watched.freezes).min(freezes_max);
        let frozen = watched.frozen.saturating_sub(self.watched.frozen).min(passed);
        let first_frame = watched.first_frame.filter(|time| *time <= FIRST_FRAME_MAX && !time.is_zero());
        let first_frame = first_frame.filter(|_| self.watched.first_frame.is_none());

        self.watched.freezes = self.watched.freezes.saturating_add(freezes);
        self.watched.frozen += frozen;
        self.watched.first_frame = self.watched.first_frame.or(first_frame);
        Ok(Watched { first_frame, freezes, frozen })
    }
}

impl Rates {
    fn measure(&mut self, bytes: u64, frames: Option<u64>, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        if passed < RATE_TIME_MIN {
            return;
        }
        let seconds = passed.as_secs_f64();
        self.bits = Some((bytes.saturating_sub(self.bytes) as f64 * 8.0 / seconds) as u64);
        self.frames_per_second = frames.map(|frames| (frames.saturating_sub(self.frames) as f64 / seconds) as f32);
        (self.at, self.bytes, self.frames) = (now, bytes, frames.unwrap_or(0));
    }
}

/// The part of an NTP time that a receiver sends back (RFC 3550, 6.4.1).
fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

#[cfg(test)]
#[path = "quality_tests.rs"]
mod tests;
