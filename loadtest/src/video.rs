//! The video of a run: an anchor who publishes, and what those saw who watched it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use maishou::protocol::Role;

use crate::{
    report::{Quantiles, VideoReport},
    rtc::{Anchor, AnchorPlan, Seen, Shape, WatchPlan},
    scenario::{Arrival, Scenario},
    stage::{ANCHOR, Stage},
    team::Team,
    token::person,
    venue::Venue,
};

/// How long coming in may take beyond what the rate of arrivals says.
const ARRIVAL_SPARE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// People of the video are numbered from here, so that they are no others of the audience.
const FIRST: usize = 1_000_000;

/// Publishes, and lets everybody in who watches.
pub(crate) async fn start(
    scenario: &Scenario,
    venue: &Venue,
    stage: &Stage,
    team: &mut Team,
) -> anyhow::Result<Anchor> {
    let (server, room) = (venue.address, stage.room.clone());
    let token = venue.tokens.one(&room, Role::Anchor, ANCHOR).await?;
    let plan = AnchorPlan { server, room: room.clone(), token, shape: Shape::default() };
    // She talks to the server on a runtime of her own.
    let anchor = tokio::task::spawn_blocking(move || Anchor::start(plan)).await.context("the anchor")?;
    let anchor = anchor.context("the anchor of the video is not let in")?;
    wait("the anchor is not live", Duration::ZERO, || Ok(anchor.is_live())).await?;

    let viewers = scenario.audience.webrtc;
    let mut tokens = Vec::with_capacity(viewers);
    for number in 0..viewers {
        tokens.push(venue.tokens.one(&room, Role::Viewer, &person(FIRST + number)).await?);
    }
    let is_ramp = scenario.audience.arrive == Arrival::Ramp;
    let arrivals_per_second = is_ramp.then(|| f64::from(scenario.audience.arrivals_per_second));
    let time = Duration::from_secs_f64(arrivals_per_second.map_or(0.0, |rate| viewers as f64 / rate));
    team.watch(WatchPlan { server, room, tokens, arrivals_per_second })?;
    let all_watch = wait("not all viewers of the video see a picture", time, || {
        let now = team.watching()?;
        if now.refused + now.failed > 0 {
            bail!("{} viewers of the video were refused, {} failed: {:?}", now.refused, now.failed, now.examples);
        }
        Ok(now.watching >= viewers as u64)
    });
    all_watch.await?;
    Ok(anchor)
}

/// What was seen in so many seconds.
pub fn report(viewers: usize, seen: &Seen, seconds: f64) -> VideoReport {
    let Seen { before, measured } = seen;
    let came = measured.packets + measured.lost();
    let minutes = viewers as f64 * seconds / 60.0;
    VideoReport {
        viewers: viewers as u64,
        watching: measured.watching,
        failed: measured.failed + before.failed,
        packets: measured.packets,
        bytes: measured.bytes,
        lost: measured.lost(),
        loss: measured.lost() as f64 / came.max(1) as f64,
        pictures: measured.pictures,
        freezes: measured.freezes,
        freezes_per_viewer_minute: measured.freezes as f64 / minutes.max(f64::MIN_POSITIVE),
        first_picture: Quantiles::of(&before.first_picture),
        delay: Quantiles::of(&measured.delay),
        jitter: Quantiles::of(&measured.jitter),
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
