use std::time::{Duration, Instant};

use anyhow::ensure;
use maishou::client::Rest;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::{
    gauges,
    hosts::Hosts,
    process,
    progress::{Progress, line},
    scenario::Scenario,
    stage::Stage,
    tally::Second,
    team::Team,
    timeline::{Sample, Teller, Timeline},
    venue::Venue,
};

/// The measured time, second by second.
pub(crate) struct Measured<'a> {
    pub scenario: &'a Scenario,
    pub stage: &'a Stage,
    pub venue: &'a Venue,
    pub team: &'a Team,
    pub hosts: &'a Hosts,
    pub began: Instant,
    pub admin: Option<Rest>,
}

impl Measured<'_> {
    pub async fn watch(
        &self,
        timeline: &mut Timeline,
        progress: &mut Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let all = self.scenario.seconds();
        let mut look = interval(Duration::from_secs(1));
        look.tick().await;
        while self.began.elapsed().as_secs_f64() < all && !stop.is_cancelled() {
            let left = Duration::from_secs_f64((all - self.began.elapsed().as_secs_f64()).max(0.0));
            tokio::select! {
                _ = look.tick() => {}
                () = tokio::time::sleep(left) => {}
                () = stop.cancelled() => {}
            }
            ensure!(self.team.is_running(), "a crowd ended before its time");
            let at = self.began.elapsed();
            self.gather(timeline, at).await;
            let phase = &self.scenario.phases[self.scenario.phase_at(at.as_secs_f64())].name;
            if let Some((now, before)) = timeline.newest() {
                let told = || line(phase, &now, before.as_ref(), timeline.newest_sample());
                progress.tell(at.as_secs(), all.ceil() as u64, told);
            }
        }
        Ok(())
    }

    async fn gather(&self, timeline: &mut Timeline, at: Duration) {
        self.team.seconds().iter().for_each(|(teller, second)| timeline.add(*teller, second));
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(0);
        let hosts = Second { at_ms, tally: self.hosts.tally(), latencies: self.hosts.second() };
        timeline.add(Teller::Hosts, &hosts);
        let mut sample = Sample { webrtc: self.team.watching().map_or(0, |now| now.inside), ..Sample::default() };
        if let Some(pid) = self.venue.pid {
            sample.server_cpu = process::cpu_time(pid).ok();
            sample.server_mb = process::memory_kib(pid).ok().map(|kib| kib as f64 / 1_024.0);
        }
        sample.own_cpu = process::cpu_time(std::process::id()).unwrap_or_default();
        sample.own_mb = process::memory_kib(std::process::id()).unwrap_or(0) as f64 / 1_024.0;
        if let Ok(snapshot) = self.stage.snapshot().await {
            sample.take_stock(&snapshot);
        }
        if let Some(admin) = &self.admin {
            sample.gauges = gauges::look(self.venue.address, admin.token()).await.unwrap_or_default();
        }
        timeline.sample(at.as_millis().div_ceil(1_000) as u64, sample);
    }
}
