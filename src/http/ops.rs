//! Health, readiness, and what the operator's page shows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Answer, App, extract::Bearer, json as answer, metrics::hold_outcomes, ok, quality};

/// Rates are over at least this time; who asks sooner gets those of before.
const RATE_EVERY: Duration = Duration::from_millis(900);

pub(super) async fn healthz() -> Response {
    ok(&json!({ "status": "ok" })).into_response()
}

/// 200 while the server may be given viewers: it is started, not draining, its ledger takes holds and its
/// media workers run. Otherwise `reasons` names what is not so.
pub(super) async fn readyz(State(app): State<App>) -> Response {
    let (serving, trouble) = (app.ready.load(Ordering::Relaxed), app.shop.desk.trouble());
    let (desk, media) = (trouble.is_none(), app.shop.media.is_running());
    let ready = serving && desk && media;
    let reasons = [(!serving).then_some("draining"), trouble, (!media).then_some("media_ended")];
    let reasons: Vec<&str> = reasons.into_iter().flatten().collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer(status, &json!({ "ready": ready, "serving": serving, "desk": desk, "media": media, "reasons": reasons }))
}

/// Rates per second between two looks at the counters.
#[derive(Default)]
pub struct Rates(Mutex<Option<Sample>>);

struct Sample {
    at: Instant,
    counters: BTreeMap<String, u64>,
    rates: BTreeMap<String, f64>,
}

impl Rates {
    fn of(&self, counters: BTreeMap<String, u64>) -> BTreeMap<String, f64> {
        let mut last = self.0.lock().expect("no holder panics");
        let rates = match &*last {
            None => BTreeMap::new(),
            Some(sample) if sample.at.elapsed() < RATE_EVERY => return sample.rates.clone(),
            Some(sample) => {
                let seconds = sample.at.elapsed().as_secs_f64();
                let before = |name: &str| sample.counters.get(name).copied().unwrap_or(0);
                let rate = |(name, now): (&String, &u64)| {
                    let per_second = now.saturating_sub(before(name)) as f64 / seconds;
                    (name.clone(), (per_second * 10.0).round() / 10.0)
                };
                counters.iter().map(rate).collect()
            }
        };
        *last = Some(Sample { at: Instant::now(), counters, rates: rates.clone() });
        rates
    }
}

pub(super) async fn ops(State(app): State<App>, Bearer { person, .. }: Bearer) -> Answer {
    person.may_operate()?;
    Ok(ok(&report(&app)))
}

/// Counted nowhere else.
fn rehearsals(app: &App) -> Vec<Value> {
    let row = |rehearsal: &crate::session::rehearsal::Rehearsal| {
        let facts = rehearsal.room.facts();
        json!({
            "id": facts.id, "rehearsal_of": facts.rehearsal_of(), "title": facts.title,
            "ends_at": app.rehearsals.ends_at(facts), "viewers": rehearsal.room.audience().tally().viewers,
            "connections": rehearsal.room.audience().connections(),
        })
    };
    app.rehearsals.list().iter().map(|rehearsal| row(rehearsal)).collect()
}

fn report(app: &App) -> Value {
    let (fanout, media, desk) = (app.fanout.stats(), app.shop.media.stats(), app.shop.desk.stats());
    let rooms = app.shop.rooms.list();
    let holds: u64 = hold_outcomes(&desk.holds).iter().map(|(_, count)| count).sum();
    let mut counters: BTreeMap<String, u64> = [
        ("events", rooms.iter().map(|r| r.stats().events.load(Ordering::Relaxed)).sum()),
        ("deliveries", fanout.deliveries),
        ("bytes_out", fanout.bytes_out),
        ("commands", fanout.messages_in),
        ("holds", holds),
        ("rtp_in", media.packets_in),
        ("rtp_out", media.packets_out),
        ("bytes_rtp_out", media.bytes_out),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into();
    for room in &rooms {
        counters.insert(format!("room:{}", room.facts().id), room.stats().events.load(Ordering::Relaxed));
    }
    let rates = app.ops.of(counters);
    let rate = |name: &str| rates.get(name).copied().unwrap_or(0.0);

    let rows: Vec<Value> = rooms
        .iter()
        .map(|room| {
            let (brief, tally) = (room.brief(), room.audience().tally());
            let events = rate(&format!("room:{}", room.facts().id));
            json!({
                "id": room.facts().id, "title": room.facts().title,
                "live": brief.live, "running": brief.running,
                "viewers": tally.viewers, "simulated": room.audience().simulated(),
                "connections": room.audience().connections(), "likes": tally.likes,
                "seq": brief.seq, "events_per_second": events,
                "deliveries_per_second": (events * room.audience().connections() as f64 * 10.0).round() / 10.0,
            })
        })
        .collect();
    let shown_rates: BTreeMap<&String, &f64> = rates.iter().filter(|(name, _)| !name.starts_with("room:")).collect();
    json!({
        "uptime_ms": app.started.elapsed().as_millis() as u64,
        "version": env!("CARGO_PKG_VERSION"),
        "connections": {
            "plain": fanout.plain, "tls": fanout.tls,
            "sse": app.streams.load(Ordering::Relaxed), "channel": app.channels.len(), "peers": media.peers,
        },
        "rooms": rows,
        "rehearsals": rehearsals(app),
        "quality": quality::rooms(app),
        "rates": shown_rates,
        "queues": {
            "rooms": rooms.iter().map(|r| r.mailbox_len()).sum::<usize>(),
            "desk": desk.mailbox, "events": desk.events_waiting, "replies": fanout.queued,
        },
        "commit_ms": { "p50": desk.commit_us.p50 as f64 / 1e3, "p99": desk.commit_us.p99 as f64 / 1e3 },
        "drops": media.dropped.iter().filter(|(_, count)| **count > 0).collect::<BTreeMap<_, _>>(),
    })
}
