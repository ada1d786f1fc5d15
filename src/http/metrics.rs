//! `/metrics` in the Prometheus text format, read from the modules' own counters when asked.

use std::sync::atomic::Ordering;

use axum::{
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use prometheus::{
    Encoder, TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use serde::Deserialize;

use super::{Answer, App, extract::bearer, quality, query};
use crate::{
    id::RoomId,
    protocol::{ErrorCode, Fault},
};

#[derive(Deserialize)]
struct MetricsQuery {
    room: Option<RoomId>,
}

/// Open in the demo; else for an admin, or the scraper's own token.
/// `?room=` of a rehearsal: that one's rooms and orders in place of the real ones.
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Answer {
    let asked: MetricsQuery = query(&uri)?;
    if !app.demo {
        let token = bearer(&headers)?.ok_or_else(|| Fault::new(ErrorCode::Unauthorized, "metrics need a token"))?;
        let scraper = !app.metrics.token.is_empty()
            && aws_lc_rs::constant_time::verify_slices_are_equal(token.as_bytes(), app.metrics.token.as_bytes())
                .is_ok();
        if !scraper {
            app.shop.person(token)?.may_operate()?;
        }
    }
    let app = match asked.room {
        Some(room) => App { shop: app.rehearsals.at(&room)?, ..app },
        None => app,
    };
    Ok(text(&app).into_response())
}

fn text(app: &App) -> Response {
    let mut page = Page(Vec::new());
    connections(app, &mut page);
    rooms(app, &mut page);
    orders(app, &mut page);
    media(app, &mut page);
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&page.0, &mut text).expect("metrics of our own making can be encoded");
    ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response()
}

fn connections(app: &App, page: &mut Page) {
    let fanout = app.fanout.stats();
    let streams = app.streams.load(Ordering::Relaxed);
    let kinds =
        [("plain", fanout.plain), ("tls", fanout.tls), ("sse", streams), ("channel", app.channels.len() as u64)];
    page.gauges("maishou_connections", "Open sessions, by what carries them.", "transport", kinds);
    page.counter("maishou_deliveries_total", "Frames given to viewers' sockets.", fanout.deliveries);
    page.counter("maishou_bytes_out_total", "Bytes written to sockets, without TLS's own.", fanout.bytes_out);
    page.counter("maishou_commands_total", "Messages of clients.", fanout.messages_in);
    page.counter("maishou_replies_total", "Replies and private messages written.", fanout.replies);
    page.counter("maishou_overruns_total", "Viewers too slow for the ring, who took a snapshot.", fanout.overruns);
    page.counter("maishou_early_sweeps_total", "Sweeps out of turn for a state event.", fanout.early_sweeps);
    page.counter("maishou_early_refused_total", "State events that had to wait for a tick.", fanout.early_refused);
    let tick = fanout.tick.as_secs_f64();
    page.gauge("maishou_fanout_tick_seconds", "How often a viewer is written to at most; longest of a shard.", tick);
    let sweeping = u64::try_from(fanout.sweep_time.as_millis()).unwrap_or(u64::MAX);
    page.counter("maishou_sweep_milliseconds_total", "Time that shards spent writing to viewers.", sweeping);
    let closed = fanout.closed.iter().map(|(code, count)| (code.to_string(), *count));
    page.counters("maishou_closed_total", "Sockets ended, by close code; 0 is any other.", "code", closed);
    let limits = app.shop.limits.refused();
    page.counter("maishou_rate_limited_total", "Requests, commands and connections refused by a limit.", limits);
    let turned_away = app.shop.limits.turned_away();
    page.counter(
        "maishou_turned_away_total",
        "Newcomers told to come again, because too many came at once.",
        turned_away,
    );
    page.gauge("maishou_uptime_seconds", "Seconds since the start.", app.started.elapsed().as_secs_f64());
    let replies = [("replies", fanout.queued)];
    page.gauges("maishou_fanout_queue", "Messages waiting in the shards.", "queue", replies);
}

fn rooms(app: &App, page: &mut Page) {
    let rooms = app.shop.rooms.list();
    page.gauge("maishou_rooms", "Rooms of this server.", rooms.len() as f64);
    page.gauge(
        "maishou_rooms_live",
        "Rooms whose video arrives.",
        rooms.iter().filter(|r| r.brief().live).count() as f64,
    );
    let sum = |count: fn(&crate::room::Stats) -> &std::sync::atomic::AtomicU64| {
        rooms.iter().map(|r| count(r.stats()).load(Ordering::Relaxed)).sum::<u64>()
    };
    page.counter("maishou_events_total", "Events logged, shown or left out.", sum(|s| &s.events));
    page.counter(
        "maishou_comments_left_out_total",
        "Comments that sampling did not show.",
        sum(|s| &s.comments_left_out),
    );
    page.counter("maishou_sales_left_out_total", "Sales that sampling did not show.", sum(|s| &s.sales_left_out));
    page.counter("maishou_frames_total", "Frames encoded.", sum(|s| &s.frames));
    page.counter(
        "maishou_demand_dropped_total",
        "Demand lines that a busy room left off its tape.",
        sum(|s| &s.demand_dropped),
    );
    page.counter(
        "maishou_notices_left_out_total",
        "Adjustments and sales that a stuck room left out of its log.",
        sum(|s| &s.notices_left_out),
    );
    let viewers = rooms.iter().map(|r| r.audience().tally().viewers).sum::<u64>();
    page.gauge("maishou_viewers", "Persons in the audience, simulated ones not counted.", viewers as f64);
    let waiting = rooms.iter().map(|r| r.mailbox_len()).sum::<usize>();
    page.gauges("maishou_room_queue", "Commands waiting for their rooms.", "queue", [("mailbox", waiting as u64)]);
}

fn orders(app: &App, page: &mut Page) {
    let desk = app.shop.desk.stats();
    page.counters("maishou_holds_total", "Holds asked for, by outcome.", "outcome", hold_outcomes(&desk.holds));
    let steps = [
        ("confirmed", desk.steps.confirmed),
        ("refund_due", desk.steps.refund_due),
        ("cancelled", desk.steps.cancelled),
        ("extended", desk.steps.extended),
        ("expired", desk.steps.expired),
        ("refunded", desk.steps.refunded),
        ("adjusted", desk.steps.adjusted),
    ];
    page.counters("maishou_order_steps_total", "What became of holds, orders and stock.", "step", steps);
    page.gauge("maishou_holds_open", "Holds that wait for payment.", desk.open_holds as f64);
    let queues = [("mailbox", desk.mailbox as u64), ("events", desk.events_waiting as u64)];
    page.gauges("maishou_desk_queue", "Commands waiting for the owner, events waiting to be routed.", "queue", queues);
    page.counter(
        "maishou_desk_events_left_out_total",
        "Events that were not told because too many waited.",
        desk.events_left_out,
    );
    page.gauge(
        "maishou_disk_low",
        "1 when free disk is below the reserve and holds are refused.",
        f64::from(u8::from(desk.disk_low)),
    );
    page.counter("maishou_commits_total", "Transactions of the journal.", desk.commit_us.count);
    let us = |us: u64| us as f64 / 1e6;
    let quantiles = [("0.5", us(desk.commit_us.p50)), ("0.99", us(desk.commit_us.p99)), ("1", us(desk.commit_us.max))];
    let quantiles = quantiles.map(|(q, value)| gauge(Some(("quantile", q.to_owned())), value));
    page.family(
        "maishou_commit_seconds",
        "How long a commit took, over the server's life.",
        MetricType::GAUGE,
        quantiles,
    );
}

/// Holds asked for, by how they ended.
pub(super) fn hold_outcomes(holds: &crate::order::stats::HoldOutcomes) -> [(&'static str, u64); 10] {
    [
        ("accepted", holds.accepted),
        ("replayed", holds.replayed),
        ("sold_out", holds.sold_out),
        ("sold_out_fast", holds.sold_out_fast),
        ("limit_reached", holds.limit_reached),
        ("price_changed", holds.price_changed),
        ("not_started", holds.not_started),
        ("key_reused", holds.key_reused),
        ("busy", holds.busy),
        ("invalid", holds.invalid),
    ]
}

fn media(app: &App, page: &mut Page) {
    let media = app.shop.media.stats();
    page.gauge("maishou_peers", "WebRTC sessions.", media.peers as f64);
    let ways = |inward: u64, outward: u64| [("in", inward), ("out", outward)];
    page.counters("maishou_rtp_packets_total", "RTP packets.", "way", ways(media.packets_in, media.packets_out));
    page.counters("maishou_rtp_bytes_total", "Bytes of RTP.", "way", ways(media.bytes_in, media.bytes_out));
    page.counters(
        "maishou_media_drops_total",
        "Datagrams, packets and messages that went no further.",
        "reason",
        media.dropped.iter().map(|(r, c)| (*r, *c)),
    );
    page.counter("maishou_keyframe_requests_total", "PLIs sent to publishers.", media.pli_sent);
    page.counter("maishou_nacks_total", "Packets that viewers asked for again.", media.nack_in);
    page.counter("maishou_retransmissions_total", "Packets sent again.", media.rtx_out);
    page.counter("maishou_media_joins_total", "WebRTC handshakes done.", media.joins);
    page.counter("maishou_handshake_failures_total", "WebRTC handshakes that failed.", media.handshake_failures);
    page.counter("maishou_handshake_repeats_total", "Flights of WebRTC handshakes sent again.", media.flights_repeated);
    quality::write(app, page);
}

/// The families of one scrape.
pub(super) struct Page(Vec<MetricFamily>);

impl Page {
    pub(super) fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        metrics: impl IntoIterator<Item = Metric>,
    ) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.into_iter().collect());
        // The encoder refuses a family without metrics.
        if !family.get_metric().is_empty() {
            self.0.push(family);
        }
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, MetricType::COUNTER, [counter(None, value)]);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::GAUGE, [gauge(None, value)]);
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl Into<String>, u64)>,
    ) {
        let metrics = values.into_iter().map(|(of, value)| counter(Some((label, of.into())), value));
        self.family(name, help, MetricType::COUNTER, metrics);
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (impl Into<String>, u64)>,
    ) {
        let metrics = values.into_iter().map(|(of, value)| gauge(Some((label, of.into())), value as f64));
        self.family(name, help, MetricType::GAUGE, metrics);
    }
}

fn counter(label: Option<(&str, String)>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric.set_label(label.into_iter().map(pair).collect());
    metric
}

fn gauge(label: Option<(&str, String)>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    metric.set_label(label.into_iter().map(pair).collect());
    metric
}

fn pair((name, value): (&str, String)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}
