//! The video of a run: an anchor who publishes, and those who watch it by WHEP.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use hdrhistogram::Histogram;
use maishou::{id::RoomId, protocol::Role};

use crate::{
    report::{Quantiles, VideoReport},
    rtc::{Anchor, AnchorPlan, Audience, Plan, Shape, Tally, Whep},
    scenario::{Arrival, Scenario},
    token::{Tokens, person},
};

/// How long coming in may take beyond what the rate of arrivals says.
const ARRIVAL_SPARE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// People of the video are numbered from here, so that they are no others of the audience.
const FIRST: usize = 1_000_000;

pub struct Video {
    anchor: Anchor,
    audience: Audience,
    viewers: usize,
    /// What was noted until the measured time began.
    before: Tally,
}

impl Video {
    /// Publishes, and lets everybody in.
    pub async fn start(
        scenario: &Scenario,
        server: SocketAddr,
        room: &RoomId,
        tokens: &Tokens,
        anchor: &str,
    ) -> anyhow::Result<Self> {
        let viewers = scenario.audience.webrtc;
        let token = tokens.one(room, Role::Anchor, anchor).await?;
        let plan = AnchorPlan { server, room: room.clone(), token, shape: Shape::default() };
        // She talks to the server on a runtime of her own.
        let anchor = tokio::task::spawn_blocking(move || Anchor::start(plan)).await.context("the anchor")?;
        let anchor = anchor.context("the anchor of the video is not let in")?;
        wait("the anchor is not live", Duration::ZERO, || Ok(anchor.is_live())).await?;

        let mut keys = Vec::with_capacity(viewers);
        for number in 0..viewers {
            keys.push(tokens.one(room, Role::Viewer, &person(FIRST + number)).await?);
        }
        let mut plan = Plan::new(Arc::new(Whep::new(server, room, keys)), server.ip(), viewers);
        if scenario.audience.arrive == Arrival::Ramp {
            plan.arrivals_per_second = f64::from(scenario.audience.arrivals_per_second);
        }
        let time = Duration::from_secs_f64(viewers as f64 / plan.arrivals_per_second);
        let audience = Audience::start(plan)?;
        let all_watch = wait("not all viewers of the video see a picture", time, || {
            let tally = audience.tally()?;
            if tally.refused + tally.failed > 0 {
                bail!(
                    "{} viewers of the video were refused, {} failed: {:?}",
                    tally.refused,
                    tally.failed,
                    tally.examples
                );
            }
            Ok(tally.watching >= viewers as u64)
        });
        all_watch.await?;
        Ok(Self { anchor, audience, viewers, before: Tally::default() })
    }

    /// From here on it counts.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.before = self.audience.take()?;
        Ok(())
    }

    /// How many watch now.
    pub fn inside(&self) -> u64 {
        self.audience.tally().map_or(0, |tally| tally.inside)
    }

    /// What was measured in so many seconds.
    pub fn report(&self, seconds: f64) -> anyhow::Result<VideoReport> {
        let tally = self.audience.tally()?;
        let came = tally.packets + tally.lost();
        let minutes = self.viewers as f64 * seconds / 60.0;
        Ok(VideoReport {
            viewers: self.viewers as u64,
            watching: tally.watching,
            failed: tally.failed + self.before.failed,
            packets: tally.packets,
            bytes: tally.bytes,
            lost: tally.lost(),
            loss: tally.lost() as f64 / came.max(1) as f64,
            pictures: tally.pictures,
            freezes: tally.freezes,
            freezes_per_viewer_minute: tally.freezes as f64 / minutes.max(f64::MIN_POSITIVE),
            first_picture: quantiles(&self.before.first_picture),
            delay: quantiles(&tally.delay),
            jitter: quantiles(&tally.jitter),
        })
    }

    /// Everybody leaves.
    pub fn stop(self) -> anyhow::Result<()> {
        self.audience.stop()?;
        self.anchor.stop()?;
        Ok(())
    }
}

async fn wait(what: &str, time: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + time + ARRIVAL_SPARE;
    while !holds()? {
        if Instant::now() > deadline {
            return Err(anyhow!("{what}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn quantiles(micros: &Histogram<u64>) -> Quantiles {
    let at = |quantile| micros.value_at_quantile(quantile) as f64 / 1e3;
    if micros.is_empty() {
        return Quantiles::default();
    }
    let (count, max) = (micros.len(), micros.max() as f64 / 1e3);
    Quantiles { count, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
}
