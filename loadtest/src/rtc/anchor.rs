use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use maishou::{
    client::{Config, Http, Server},
    id::RoomId,
};
use mio::{Events, Poll};
use rtcp::{
    payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};

use super::{
    handshake::{Handshakes, Identity},
    link::{Buffers, Link, Took, wall_time},
    show::{Shape, Show},
    terms::{Introduction, Remote, Wishes},
};

/// Sealed packets that are kept to be sent again.
const KEPT: usize = 1_024;
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Keyframes beyond the shape's own come at most this often.
const KEYFRAME_EVERY: Duration = Duration::from_millis(300);
const BEAT: Duration = Duration::from_millis(10);
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

pub struct AnchorPlan {
    pub server: SocketAddr,
    pub room: RoomId,
    pub token: String,
    pub shape: Shape,
}

/// What the anchor did.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnchorTally {
    pub packets: u64,
    pub keyframes: u64,
    pub keyframe_requests: u64,
    pub resent: u64,
}

/// Publishes a [`Show`] from a thread of her own.
pub struct Anchor {
    thread: Option<JoinHandle<anyhow::Result<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pause: AtomicBool,
    is_live: AtomicBool,
    tally: Mutex<AnchorTally>,
}

impl Anchor {
    /// Posts her offer, and publishes as soon as she is connected.
    pub fn start(plan: AnchorPlan) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let http = Http::new(Server::at(plan.server), Config::default());
        let path = format!("/whip/{}", plan.room);
        Self::meet(plan.shape, |offer| Ok(runtime.block_on(http.offer(&path, &plan.token, offer))?.sdp))
    }

    /// Publishes to whoever answers her offer.
    pub fn meet(shape: Shape, answer: impl FnOnce(String) -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let identity = Arc::new(Identity::make()?);
        let introduction = Introduction::new(0, &identity.fingerprint, Wishes::default());
        let remote = Remote::parse(&answer(introduction.publish())?)?;

        let shared = Arc::new(Shared::default());
        let stage = Stage::new(shape, shared.clone(), identity, &introduction, remote)?;
        let thread = thread::Builder::new().name("anchor".to_owned()).spawn(move || stage.run())?;
        Ok(Self { thread: Some(thread), shared })
    }

    /// Whether she is connected.
    pub fn is_live(&self) -> bool {
        self.shared.is_live.load(Ordering::Acquire)
    }

    /// Nothing is sent while this is on; afterwards the show is where it would have been.
    pub fn pause(&self, on: bool) {
        self.shared.pause.store(on, Ordering::Release);
    }

    pub fn tally(&self) -> AnchorTally {
        *self.shared.tally.lock().expect("nobody panics with it")
    }

    /// Ends the broadcast, with a goodbye to the server.
    pub fn stop(mut self) -> anyhow::Result<AnchorTally> {
        self.shared.stop.store(true, Ordering::Release);
        let thread = self.thread.take().context("she was stopped before")?;
        thread.join().expect("the anchor does not panic")?;
        Ok(self.tally())
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The anchor's thread.
struct Stage {
    shared: Arc<Shared>,
    poll: Poll,
    link: Link,
    handshakes: Handshakes,
    show: Show,
    shape: Shape,
    kept: VecDeque<(u32, u16, Vec<u8>)>,
    wants_keyframe: bool,
    keyframe_at: Instant,
    next_report: Instant,
    tally: AnchorTally,
    octets: [(u32, u32, u32); 2],
}

impl Stage {
    fn new(
        shape: Shape,
        shared: Arc<Shared>,
        identity: Arc<Identity>,
        introduction: &Introduction,
        remote: Remote,
    ) -> anyhow::Result<Self> {
        let (poll, handshakes, now) = (Poll::new()?, Handshakes::new(identity), Instant::now());
        let local = remote.address.ip().is_loopback().then(|| remote.address.ip());
        let link = Link::open(0, local, introduction, remote, poll.registry(), &handshakes, now)?;
        let show = Show::new(shape);
        let octets = show.timestamps(wall_time()).map(|(ssrc, _)| (ssrc, 0, 0));
        Ok(Self {
            shared,
            poll,
            link,
            handshakes,
            show,
            shape,
            kept: VecDeque::with_capacity(KEPT),
            wants_keyframe: true,
            keyframe_at: now,
            next_report: now,
            tally: AnchorTally::default(),
            octets,
        })
    }

    fn run(mut self) -> anyhow::Result<()> {
        let (mut events, mut buffers) = (Events::with_capacity(8), Buffers::default());
        let mut next_beat = Instant::now();
        while !self.shared.stop.load(Ordering::Acquire) {
            let wait = self.show.next_due().saturating_sub(wall_time()).min(BEAT);
            self.poll.poll(&mut events, Some(if self.link.is_open() { wait } else { BEAT }))?;
            while self.link.receive(&mut buffers) {
                for (datagram, _) in buffers.datagrams() {
                    self.take(datagram)?;
                }
            }
            let now = Instant::now();
            if now >= next_beat {
                next_beat = now + BEAT;
                self.link.beat(&mut self.handshakes, now)?;
            }
            self.play(now);
            *self.shared.tally.lock().expect("nobody panics with it") = self.tally;
        }
        self.link.leave(self.poll.registry(), &mut self.handshakes, Instant::now());
        Ok(())
    }

    fn take(&mut self, datagram: &[u8]) -> anyhow::Result<()> {
        match self.link.take(datagram, &mut self.handshakes, Instant::now())? {
            Took::Open => {
                self.show = Show::new(self.shape);
                self.shared.is_live.store(true, Ordering::Release);
            }
            Took::Media => self.wishes(datagram),
            Took::Closed => anyhow::bail!("the server said goodbye to the anchor"),
            _ => {}
        }
        Ok(())
    }

    /// Reports and requests of the server.
    fn wishes(&mut self, datagram: &[u8]) {
        let Some(keys) = &mut self.link.keys else { return };
        let Ok(plain) = keys.incoming.decrypt_rtcp(datagram) else { return };
        for packet in rtcp::packet::unmarshal(&mut plain.freeze()).unwrap_or_default() {
            if packet.as_any().is::<PictureLossIndication>() {
                self.tally.keyframe_requests += 1;
                self.wants_keyframe = true;
            }
            let Some(lost) = packet.as_any().downcast_ref::<TransportLayerNack>() else { continue };
            for number in lost.nacks.iter().flat_map(|pair| pair.packet_list()) {
                let found = self.kept.iter().find(|(ssrc, kept, _)| (*ssrc, *kept) == (lost.media_ssrc, number));
                if let Some((_, _, sealed)) = found {
                    self.link.send(sealed);
                    self.tally.resent += 1;
                }
            }
        }
    }

    fn play(&mut self, now: Instant) {
        let Self { link, kept, tally, octets, .. } = self;
        if !link.is_open() {
            return;
        }
        let time = wall_time();
        if self.shared.pause.load(Ordering::Acquire) {
            return self.show.skip_to(time);
        }
        let may = now.saturating_duration_since(self.keyframe_at) >= KEYFRAME_EVERY;
        let had_keyframe = self.show.play(time, self.wants_keyframe && may, |packet| {
            let Some(keys) = &mut link.keys else { return };
            let Ok(sealed) = keys.outgoing.encrypt_rtp(packet) else { return };
            link.send(&sealed);
            tally.packets += 1;
            let number = u16::from_be_bytes([packet[2], packet[3]]);
            let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
            if let Some((_, packets, octets)) = octets.iter_mut().find(|(of, ..)| *of == ssrc) {
                *packets = packets.wrapping_add(1);
                *octets = octets.wrapping_add(packet.len() as u32 - 12);
            }
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back((ssrc, number, sealed.to_vec()));
        });
        if had_keyframe {
            self.tally.keyframes += 1;
            self.wants_keyframe = false;
            self.keyframe_at = now;
        }
        if now >= self.next_report {
            self.next_report = now + REPORT_EVERY;
            self.report(time);
        }
    }

    fn report(&mut self, time: Duration) {
        let fraction = (u64::from(time.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp_time = ((time.as_secs() + NTP_EPOCH) << 32) + fraction;
        for ((ssrc, rtp_time), (_, packet_count, octet_count)) in
            self.show.timestamps(time).into_iter().zip(self.octets)
        {
            let report = SenderReport { ssrc, ntp_time, rtp_time, packet_count, octet_count, ..Default::default() };
            self.link.send_rtcp(&[Box::new(report)]);
        }
    }
}
