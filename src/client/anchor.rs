//! An anchor that broadcasts a clip by WHIP, for as long as it is kept.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};

use crate::{
    client::{
        Clip, Config, Error, Http, Server,
        playback::{Kind, Playback},
        publisher::{Publisher, Session},
    },
    id::RoomId,
};

/// A machine that slept sends nothing to catch up; the time line goes on from now.
const LATE_MAX: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AnchorState {
    #[default]
    Publishing,
    /// The connection was lost, or another session took the room; an attempt follows when the room is not live.
    Retrying,
    /// Over: stopped, or refused for good.
    Ended(String),
}

/// What an anchor has sent.
#[derive(Clone, Debug, Default)]
pub struct AnchorStats {
    pub state: AnchorState,
    /// WHIP sessions so far: one, and one for each loss.
    pub sessions: u64,
    pub packets: u64,
    /// Payload bytes, without headers.
    pub bytes: u64,
    pub keyframe_requests: u64,
    /// Keyframe requests that made the clip go on at its next keyframe.
    pub keyframe_skips: u64,
}

/// A running broadcast. Dropping it ends the connection; [`Anchor::stop`] also tells the server.
pub struct Anchor {
    stats: watch::Receiver<AnchorStats>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
    _stop_on_drop: DropGuard,
}

impl Anchor {
    /// Goes live with `clip`, all its layers at once (simulcast) when it has several, in place of whoever is, and returns when the first packets can flow. The first attempt's
    /// failure is returned; later losses are repaired with growing waits, but never at the cost of another session:
    /// an anchor who was replaced waits until the room is free.
    pub async fn publish(
        server: &Server,
        room: &RoomId,
        token: &str,
        clip: Arc<Clip>,
        config: &Config,
    ) -> Result<Self, Error> {
        let http = Http::new(server.clone(), config.clone());
        let publisher = Publisher::new(http, room.clone(), token.to_owned(), &clip);
        let session = publisher.open().await?;

        let (stats, seen) = watch::channel(AnchorStats { sessions: 1, ..AnchorStats::default() });
        let stop = CancellationToken::new();
        let task = AnchorTask { publisher, playback: Playback::new(clip), stats, stop: stop.clone() };
        let task = Some(tokio::spawn(task.run(session)));
        Ok(Self { stats: seen, _stop_on_drop: stop.clone().drop_guard(), stop, task })
    }

    pub fn stats(&self) -> AnchorStats {
        self.stats.borrow().clone()
    }

    /// Follows what is sent.
    pub fn watch(&self) -> watch::Receiver<AnchorStats> {
        self.stats.clone()
    }

    /// Waits until the broadcast is as told.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        mut holds: impl FnMut(&AnchorStats) -> bool,
    ) -> Result<AnchorStats, Error> {
        let mut stats = self.watch();
        let waited = timeout(deadline, stats.wait_for(|stats| holds(stats))).await;
        let stats = waited.map_err(|_| Error::Timeout("the broadcast"))?.map_err(|_| Error::Lost)?.clone();
        Ok(stats)
    }

    /// Ends the session at the server and returns when it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

/// Why a session's sending ended.
enum Ending {
    Stopped,
    Lost,
}

struct AnchorTask {
    publisher: Publisher,
    playback: Playback,
    stats: watch::Sender<AnchorStats>,
    stop: CancellationToken,
}

impl AnchorTask {
    async fn run(mut self, mut session: Session) {
        let why = loop {
            match self.send(&mut session).await {
                Ending::Stopped => {
                    self.publisher.close(session).await;
                    break "stopped".to_owned();
                }
                Ending::Lost => drop(session),
            }
            match self.reopen().await {
                Ok(opened) => session = opened,
                Err(why) => break why,
            }
        };
        self.stats.send_modify(|stats| stats.state = AnchorState::Ended(why));
    }

    /// Tries until there is a session again; fails when stopped, or when no attempt can succeed.
    async fn reopen(&mut self) -> Result<Session, String> {
        self.stats.send_modify(|stats| stats.state = AnchorState::Retrying);
        let mut attempts = 0;
        loop {
            let attempt = tokio::select! {
                () = self.stop.cancelled() => return Err("stopped".into()),
                attempt = self.publisher.open_when_free(attempts) => attempt,
            };
            match attempt {
                Ok(Some(session)) => {
                    self.stats.send_modify(|stats| {
                        stats.state = AnchorState::Publishing;
                        stats.sessions += 1;
                    });
                    return Ok(session);
                }
                Ok(None) => tracing::debug!("another session has the room"),
                Err(why) if why.is_passing() => tracing::debug!(%why, "publishing again failed"),
                Err(why) => return Err(why.to_string()),
            }
            attempts += 1;
        }
    }

    /// Sends the clip at its pace until the session is stopped or lost.
    async fn send(&mut self, session: &mut Session) -> Ending {
        let mut began = Instant::now() - self.playback.next_at();
        let mut skipped_at: Option<Instant> = None;
        let gone = session.peer.gone();
        loop {
            let due_at = began + self.playback.next_at();
            tokio::select! {
                () = self.stop.cancelled() => return Ending::Stopped,
                () = gone.cancelled() => return Ending::Lost,
                request = session.video.track.poll() => match request {
                    Some(TrackLocalEvent::OnRtcpPacket(_)) => self.answer_request(&mut skipped_at),
                    Some(_) => {}
                    None => return Ending::Lost,
                },
                () = sleep_until(due_at) => {
                    if due_at.elapsed() > LATE_MAX {
                        began += due_at.elapsed();
                    }
                    if self.send_next(session).await.is_err() {
                        return Ending::Lost;
                    }
                }
            }
        }
    }

    async fn send_next(&mut self, session: &mut Session) -> Result<(), Error> {
        let due = self.playback.pop();
        let sender = match due.kind {
            Kind::Video => &mut session.video,
            Kind::Audio => session.audio.as_mut().expect("audio is due only when the clip has some"),
        };
        let layers = sender.packetizers.iter_mut().zip(&due.data);
        let packets: Vec<rtp::Packet> = layers.flat_map(|(packetizer, data)| packetizer.packets(&due, data)).collect();
        self.stats.send_modify(|stats| {
            stats.packets += packets.len() as u64;
            stats.bytes += packets.iter().map(|p| p.payload.len() as u64).sum::<u64>();
        });
        for packet in packets {
            sender.track.write_rtp(packet).await?;
        }
        Ok(())
    }

    fn answer_request(&mut self, skipped_at: &mut Option<Instant>) {
        let spacing = self.publisher.config().skip_to_keyframe;
        let may_skip = spacing.is_some_and(|spacing| skipped_at.is_none_or(|at| at.elapsed() >= spacing));
        let skipped = may_skip && self.playback.skip_to_keyframe();
        if skipped {
            *skipped_at = Some(Instant::now());
        }
        self.stats.send_modify(|stats| {
            stats.keyframe_requests += 1;
            stats.keyframe_skips += u64::from(skipped);
        });
    }
}
