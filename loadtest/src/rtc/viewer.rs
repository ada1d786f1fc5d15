use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use mio::Registry;
use rtcp::sender_report::SenderReport;

use super::{
    channel::Channel,
    feedback::{self, Arrivals},
    frames::{Frames, Part, Shown},
    handshake::Handshakes,
    link::{Buffers, Link, Took, wall_time},
    packet::{Header, begins_keyframe, extension, header_len},
    reception::{Arrival, Reception},
    show::made_at,
    tally::Tally,
    terms::Payload,
};

/// Streams of one viewer: picture, sound and repair, with some to spare.
const STREAMS_MAX: usize = 8;
const REPORT_EVERY: Duration = Duration::from_secs(1);
const FEEDBACK_EVERY: Duration = Duration::from_millis(100);
/// How often a keyframe is asked for while none comes.
const KEYFRAME_EVERY: Duration = Duration::from_secs(1);
/// How often, and how often at most, a missing packet is asked for, and how long it is waited for.
const NACK_EVERY: Duration = Duration::from_millis(100);
const NACKS_MAX: u32 = 10;
const NACK_PATIENCE: Duration = Duration::from_secs(2);
/// A stream of which packets are not opened has one opened this often, so that the rollover counter is not lost.
const OPEN_EVERY: u64 = 8_192;

/// What viewers of an audience have in common.
#[derive(Clone, Debug)]
pub struct Habits {
    pub nack: bool,
    pub reports: bool,
    /// Throws away one video packet in so many before looking at it.
    pub drop_one_in: Option<NonZeroU32>,
    pub hello: Option<String>,
    pub clock_ahead_us: i64,
}

/// One light viewer.
pub struct Viewer {
    link: Link,
    /// When her offer was to be sent, by the wall clock.
    intended: Duration,
    /// Every packet of hers is opened.
    is_sampled: bool,
    ssrc: u32,
    streams: Vec<Stream>,
    frames: Frames,
    arrivals: Option<Arrivals>,
    channel: Option<Box<Channel>>,
    has_packet: bool,
    until_drop: u32,
    next_report: Instant,
    next_feedback: Instant,
    next_keyframe_request: Instant,
}

struct Stream {
    reception: Reception,
    payload: Payload,
    opened: u64,
}

impl Viewer {
    pub fn new(link: Link, intended: Duration, is_sampled: bool, now: Instant) -> Self {
        let ssrc = rand::random::<u32>() | 1;
        // Reports of thousands do not fall together.
        let phase = Duration::from_millis(u64::from(ssrc % 1_000));
        Self {
            arrivals: link.remote.transport_cc.map(|_| Arrivals::default()),
            link,
            intended,
            is_sampled,
            ssrc,
            streams: Vec::new(),
            frames: Frames::default(),
            channel: None,
            has_packet: false,
            until_drop: ssrc % 97,
            next_report: now + phase,
            next_feedback: now + phase / 10,
            next_keyframe_request: now,
        }
    }

    pub fn is_in(&self) -> bool {
        self.link.is_open()
    }

    pub fn is_watching(&self) -> bool {
        self.frames.is_running()
    }

    pub fn is_frozen(&self, now: Duration) -> bool {
        self.frames.frozen_since(now).is_some()
    }

    pub fn has_channel(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| channel.is_open())
    }

    pub fn jitters(&self) -> impl Iterator<Item = Duration> {
        self.streams.iter().filter(|stream| stream.payload != Payload::Repair).map(|stream| stream.reception.jitter())
    }

    /// Reads what waits. An error ends her.
    pub fn look(
        &mut self,
        buffers: &mut Buffers,
        handshakes: &mut Handshakes,
        habits: &Habits,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        let now = Instant::now();
        while self.link.receive(buffers) {
            for (datagram, arrived) in buffers.datagrams() {
                match self.link.take(datagram, handshakes, now)? {
                    Took::Nothing => {}
                    Took::Open => self.enter(handshakes, tally, now)?,
                    Took::Data(data) => self.hear(data, handshakes, habits, tally, now),
                    Took::Media => self.media(datagram, arrived, habits, tally, now),
                    Took::Closed => anyhow::bail!("the server said goodbye"),
                }
            }
            if !buffers.is_full() {
                break;
            }
        }
        Ok(())
    }

    fn enter(&mut self, handshakes: &mut Handshakes, tally: &mut Tally, now: Instant) -> anyhow::Result<()> {
        tally.joined += 1;
        self.next_keyframe_request = now + KEYFRAME_EVERY;
        if self.link.remote.channel {
            self.channel = Some(Box::new(Channel::new(now)?));
            self.flush_channel(handshakes, now);
        }
        Ok(())
    }

    fn hear(&mut self, data: BytesMut, handshakes: &mut Handshakes, habits: &Habits, tally: &mut Tally, now: Instant) {
        let Some(channel) = &mut self.channel else { return };
        tally.texts += channel.receive(data.freeze(), habits.hello.as_deref(), now).texts;
        self.flush_channel(handshakes, now);
    }

    fn flush_channel(&mut self, handshakes: &mut Handshakes, now: Instant) {
        let Some(channel) = &mut self.channel else { return };
        while let Some(packets) = channel.poll_transmit(now) {
            for packet in packets {
                handshakes.write(self.link.number, &packet, now);
            }
        }
        self.link.flush(handshakes);
    }

    /// Media or reports, sealed.
    fn media(&mut self, datagram: &[u8], arrived: Duration, habits: &Habits, tally: &mut Tally, now: Instant) {
        if datagram.get(1).is_some_and(|second| (192..224).contains(second)) {
            return self.reports(datagram, tally, now);
        }
        let Some(header) = Header::read(datagram) else { return };
        let payload = self.link.remote.payloads[usize::from(header.payload_type)];
        let is_video = matches!(payload, Payload::Vp8 | Payload::H264);
        if is_video && habits.drop_one_in.is_some_and(|every| self.drops(every)) {
            tally.dropped += 1;
            return;
        }
        tally.packets += 1;
        tally.bytes += datagram.len() as u64;
        if let (Some(arrivals), Some(id)) = (&mut self.arrivals, self.link.remote.transport_cc)
            && let Some(number) = extension(datagram, id)
        {
            arrivals.note(header.ssrc, number, arrived);
        }
        if !std::mem::replace(&mut self.has_packet, true) {
            tally.first_packet.record_time(arrived.saturating_sub(self.intended));
        }
        match payload {
            Payload::Unknown => tally.strange += 1,
            Payload::Repair => self.take_repair(&header, datagram, arrived, tally),
            _ => self.take_media(&header, payload, datagram, (arrived, now), habits, tally),
        }
        if is_video || payload == Payload::Repair {
            self.show(arrived, tally);
        }
    }

    fn drops(&mut self, every: NonZeroU32) -> bool {
        // What comes before the first picture is left alone: it is the start that would be measured.
        if !self.frames.is_running() {
            return false;
        }
        self.until_drop = self.until_drop.checked_sub(1).unwrap_or(every.get() - 1);
        self.until_drop == 0
    }

    fn take_media(
        &mut self,
        header: &Header,
        payload: Payload,
        datagram: &[u8],
        (arrived, now): (Duration, Instant),
        habits: &Habits,
        tally: &mut Tally,
    ) {
        let Some(place) = self.stream(header.ssrc, payload) else {
            tally.strange += 1;
            return;
        };
        let stream = &mut self.streams[place];
        let index = match stream.reception.note(header.number, header.timestamp, arrived, now) {
            Arrival::Newest { index, missed } => {
                tally.missed += missed;
                index
            }
            Arrival::Late { index } => {
                tally.repaired += 1;
                index
            }
            Arrival::Repeated => {
                tally.repeated += 1;
                return;
            }
        };
        let is_video = payload != Payload::Audio;
        let is_due = index >= stream.opened + OPEN_EVERY;
        let opens = self.is_sampled || is_due || (is_video && self.frames.needs_keyframe());
        let mut starts_keyframe = false;
        if opens {
            stream.opened = index;
            match self.open(datagram) {
                Some(opened) => {
                    starts_keyframe = is_video && begins_keyframe(payload, &opened);
                    if let Some(made) = made_at(&opened) {
                        let ahead = Duration::from_micros(habits.clock_ahead_us.unsigned_abs());
                        let arrived =
                            if habits.clock_ahead_us < 0 { arrived + ahead } else { arrived.saturating_sub(ahead) };
                        tally.delay.record_time(arrived.saturating_sub(made));
                    }
                }
                None => tally.unopened += 1,
            }
        }
        if is_video {
            let Header { timestamp, marker, .. } = *header;
            self.frames.note(Part { index, timestamp, marker, starts_keyframe }, arrived);
        }
    }

    /// RFC 4588: the first two bytes are the number that the packet had.
    fn take_repair(&mut self, header: &Header, datagram: &[u8], arrived: Duration, tally: &mut Tally) {
        let Some(opened) = self.open(datagram) else {
            tally.unopened += 1;
            return;
        };
        let (Some([a, b]), Some(video)) = (opened.first_chunk::<2>(), self.streams.iter_mut().find(|s| s.is_video()))
        else {
            return;
        };
        let Some(index) = video.reception.repair(u16::from_be_bytes([*a, *b])) else {
            tally.repeated += 1;
            return;
        };
        tally.repaired += 1;
        let starts_keyframe = begins_keyframe(video.payload, &opened.slice(2..));
        let Header { timestamp, marker, .. } = *header;
        self.frames.note(Part { index, timestamp, marker, starts_keyframe }, arrived);
    }

    fn show(&mut self, now: Duration, tally: &mut Tally) {
        while let Some(shown) = self.frames.poll(now) {
            match shown {
                Shown::Picture { is_first, frozen } => {
                    tally.pictures += 1;
                    if is_first {
                        tally.first_picture.record_time(now.saturating_sub(self.intended));
                    }
                    if let Some(frozen) = frozen {
                        tally.freezes += 1;
                        tally.freeze_time += frozen;
                    }
                }
                Shown::Undecodable => tally.undecodable += 1,
                Shown::Broken => tally.broken += 1,
            }
        }
    }

    fn stream(&mut self, ssrc: u32, payload: Payload) -> Option<usize> {
        if let Some(place) = self.streams.iter().position(|stream| stream.reception.ssrc == ssrc) {
            return Some(place);
        }
        let clock_rate = if payload == Payload::Audio { 48_000 } else { 90_000 };
        let stream = Stream { reception: Reception::new(ssrc, clock_rate), payload, opened: 0 };
        (self.streams.len() < STREAMS_MAX).then(|| {
            self.streams.push(stream);
            self.streams.len() - 1
        })
    }

    /// The payload of a packet, without header, extensions and seal.
    fn open(&mut self, datagram: &[u8]) -> Option<Bytes> {
        let opened = self.link.keys.as_mut()?.incoming.decrypt_rtp(datagram).ok()?;
        let len = header_len(&opened)?;
        Some(opened.freeze().slice(len..))
    }

    fn reports(&mut self, datagram: &[u8], tally: &mut Tally, now: Instant) {
        let Some(keys) = &mut self.link.keys else { return };
        let Ok(plain) = keys.incoming.decrypt_rtcp(datagram) else {
            tally.unopened += 1;
            return;
        };
        for packet in rtcp::packet::unmarshal(&mut plain.freeze()).unwrap_or_default() {
            let Some(report) = packet.as_any().downcast_ref::<SenderReport>() else { continue };
            tally.sender_reports += 1;
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.reception.ssrc == report.ssrc) {
                stream.reception.note_sender((report.ntp_time >> 16) as u32, now);
            }
        }
    }

    /// Everything that is due by time. An error ends her.
    pub fn beat(
        &mut self,
        handshakes: &mut Handshakes,
        habits: &Habits,
        tally: &mut Tally,
        now: Instant,
    ) -> anyhow::Result<()> {
        self.link.beat(handshakes, now)?;
        if !self.link.is_open() {
            return Ok(());
        }
        if let Some(channel) = &mut self.channel {
            channel.handle_timeout(now);
            self.flush_channel(handshakes, now);
        }
        if habits.nack {
            self.ask_for_missing(tally, now);
        }
        if self.has_packet && self.frames.needs_keyframe() && now >= self.next_keyframe_request {
            self.ask_for_keyframe(tally, now);
        }
        if now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK_EVERY;
            if let Some(told) = self.arrivals.as_mut().and_then(|arrivals| arrivals.tell(self.ssrc)) {
                self.link.send_rtcp(&told);
            }
        }
        if habits.reports && now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            let reports: Vec<_> = self.streams.iter_mut().filter_map(|stream| stream.reception.report(now)).collect();
            if !reports.is_empty() {
                self.link.send_rtcp(&feedback::receiver_report(self.ssrc, reports));
            }
        }
        // A picture that stays incomplete is given up by time too.
        self.show(wall_time(), tally);
        Ok(())
    }

    fn ask_for_missing(&mut self, tally: &mut Tally, now: Instant) {
        for stream in self.streams.iter_mut().filter(|stream| stream.is_video() && stream.reception.has_missing()) {
            let lost = stream.reception.due(now, NACK_EVERY, NACKS_MAX, NACK_PATIENCE);
            if !lost.is_empty() {
                tally.nacks += lost.len() as u64;
                self.link.send_rtcp(&feedback::nack(self.ssrc, stream.reception.ssrc, &lost));
            }
        }
    }

    fn ask_for_keyframe(&mut self, tally: &mut Tally, now: Instant) {
        self.next_keyframe_request = now + KEYFRAME_EVERY;
        if let Some(video) = self.streams.iter().find(|stream| stream.is_video()) {
            tally.keyframe_requests += 1;
            self.link.send_rtcp(&feedback::keyframe_request(self.ssrc, video.reception.ssrc));
        }
    }

    pub fn leave(&mut self, registry: &Registry, handshakes: &mut Handshakes, now: Instant) {
        self.link.leave(registry, handshakes, now);
    }
}

impl Stream {
    fn is_video(&self) -> bool {
        matches!(self.payload, Payload::Vp8 | Payload::H264)
    }
}
