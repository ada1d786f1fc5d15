//! What rooms' media is like, as metrics and for the operator's page.

use std::time::Duration;

use prometheus::proto::{Bucket, Gauge, Histogram, LabelPair, Metric, MetricType};
use serde_json::{Value, json};

use super::{App, metrics::Page};
use crate::{
    id::SessionId,
    media::{RoomQuality, SeenQuality, SessionQuality, Spread},
};

/// A figure of one room: its name, its help, and how it is read.
type RoomGauge = (&'static str, &'static str, fn(&RoomQuality) -> Option<f64>);

const ROOM_GAUGES: &[RoomGauge] = &[
    ("maishou_room_bits_in", "Media per second from a room's publisher.", |room| {
        Some(room.uplink.as_ref()?.1.bits? as f64)
    }),
    ("maishou_room_bits_out", "Media per second to a room's viewers, as of their last sender reports.", |room| {
        Some(room.bits_out as f64)
    }),
    ("maishou_room_watching", "Video sessions that watch a room.", |room| Some(room.watching as f64)),
    ("maishou_room_uplink_loss", "Part of the publisher's packets that were lost at the first attempt.", |room| {
        room.uplink.as_ref()?.1.loss.map(f64::from)
    }),
    ("maishou_room_frames_in", "Whole pictures per second from a room's publisher.", |room| {
        room.uplink.as_ref()?.1.frames.map(f64::from)
    }),
];

/// A figure of a room's viewers, of which the middle and the bad end are told.
type RoomSpread = (&'static str, &'static str, fn(&RoomQuality) -> Spread);

const ROOM_SPREADS: &[RoomSpread] = &[
    ("maishou_room_loss", "Part of packets that viewers of a room lost at the first attempt.", |room| room.loss),
    ("maishou_room_round_trip_seconds", "Round trip to the viewers of a room.", |room| room.round_trip),
];

/// Figures over all rooms, and of those with the most viewers.
pub(super) fn write(app: &App, page: &mut Page) {
    let survey = app.shop.media.survey();
    let seen = &survey.seen;
    page.counter("maishou_freezes_total", "Times that a viewer's picture stood still, as viewers tell.", seen.freezes);
    let frozen = u64::try_from(seen.frozen.as_millis()).unwrap_or(u64::MAX);
    page.counter("maishou_freeze_milliseconds_total", "How long viewers' pictures stood still.", frozen);
    page.family(
        "maishou_first_frame_seconds",
        "From a viewer's wish to watch to the first picture on her screen, as viewers tell.",
        MetricType::HISTOGRAM,
        [first_frames(seen)],
    );

    let rooms = &survey.rooms[..survey.rooms.len().min(app.metrics.rooms_max)];
    for (name, help, read) in ROOM_GAUGES {
        let metrics = rooms.iter().filter_map(|room| Some(gauge(&[("room", room.room.as_str())], read(room)?)));
        page.family(name, help, MetricType::GAUGE, metrics);
    }
    for (name, help, read) in ROOM_SPREADS {
        let metrics = rooms.iter().flat_map(|room| {
            let spread = read(room);
            [("0.5", spread.p50), ("0.95", spread.p95)]
                .map(|(quantile, value)| gauge(&[("room", room.room.as_str()), ("quantile", quantile)], value))
        });
        page.family(name, help, MetricType::GAUGE, metrics);
    }
}

fn first_frames(seen: &SeenQuality) -> Metric {
    let bucket = |(end, count): &(Duration, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(end.as_secs_f64());
        bucket.set_cumulative_count(*count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(seen.first_frame_buckets.iter().map(bucket).collect());
    histogram.set_sample_count(seen.first_frames);
    histogram.set_sample_sum(seen.first_frame_sum.as_secs_f64());
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let label = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    metric.set_label(labels.iter().map(label).collect());
    metric
}

/// The rooms with media, as the operator's page shows them.
pub(super) fn rooms(app: &App) -> Vec<Value> {
    app.shop.media.survey().rooms.iter().take(app.metrics.rooms_max).map(|room| row(app, room)).collect()
}

fn row(app: &App, room: &RoomQuality) -> Value {
    let worst = room.worst.iter().map(|(session, quality)| viewer(app, *session, quality));
    let seen = &room.seen;
    json!({
        "room": room.room,
        "uplink": room.uplink.as_ref().map(|(_, quality)| connection(quality)),
        "watching": room.watching,
        "bits_out": room.bits_out,
        "loss": spread(room.loss, 1.0),
        "round_trip_ms": spread(room.round_trip, 1e3),
        "layers": room.layers,
        "first_frame_ms": spread(seen.first_frame, 1e3),
        "first_frames": seen.first_frames,
        "freezes": seen.freezes,
        "freeze_ms": seen.frozen.as_millis() as u64,
        "worst": worst.collect::<Vec<_>>(),
    })
}

/// One of the sampled viewers, by the name that the room knows her by.
fn viewer(app: &App, session: SessionId, quality: &SessionQuality) -> Value {
    let mut viewer = connection(quality);
    viewer["who"] = json!(app.shop.presence.media(session).map(|owner| owner.who));
    viewer["layer"] = json!(quality.layer);
    viewer["freezes"] = json!(quality.watched.freezes);
    viewer["freeze_ms"] = json!(quality.watched.frozen.as_millis() as u64);
    viewer["first_frame_ms"] = json!(quality.watched.first_frame.map(|time| time.as_millis() as u64));
    viewer
}

fn connection(quality: &SessionQuality) -> Value {
    json!({
        "bits": quality.bits,
        "frames": quality.frames,
        "loss": quality.loss,
        "round_trip_ms": quality.round_trip.map(|time| time.as_secs_f64() * 1e3),
    })
}

fn spread(values: Spread, scale: f64) -> Value {
    json!({ "p50": values.p50 * scale, "p95": values.p95 * scale, "p99": values.p99 * scale })
}
