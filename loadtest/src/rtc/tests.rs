//! Light peers at a real media server, on the loopback.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use maishou::{
    id::RoomId,
    media::{Config, Media},
};
use tokio::{runtime::Runtime, sync::mpsc};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A media server with a show in it.
struct Stage {
    media: Media,
    room: RoomId,
    anchor: Anchor,
    runtime: Runtime,
}

impl Stage {
    fn open(shape: Shape) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = Config { listen: "127.0.0.1:0".parse().unwrap(), workers: 1, ..Config::default() };
        let (events, mut heard) = mpsc::channel(1_024);
        let media = Media::start(config, events).unwrap();
        runtime.spawn(async move { while heard.recv().await.is_some() {} });
        let room: RoomId = "hall".parse().unwrap();
        let answer = |offer: String| Ok(runtime.block_on(media.publish(&room, &offer))?.sdp);
        let anchor = Anchor::meet(shape, answer).unwrap();
        Self { media, room, anchor, runtime }
    }

    fn plan(&self, viewers: usize) -> Plan {
        let door = Inside { media: self.media.clone(), room: self.room.clone() };
        let sample_one_in = NonZeroU32::MIN;
        Plan { sample_one_in, ..Plan::new(Arc::new(door), HOST, viewers) }
    }

    fn close(self) {
        self.media.shutdown();
        drop(self.anchor);
        self.runtime.shutdown_background();
    }
}

/// A door without HTTP.
struct Inside {
    media: Media,
    room: RoomId,
}

impl Door for Inside {
    fn enter<'a>(&'a self, _: usize, _: Option<IpAddr>, introduction: &'a Introduction) -> Entering<'a> {
        Box::pin(async move { Remote::parse(&self.media.watch(&self.room, &introduction.watch()).await?.sdp) })
    }
}

/// Looks at what was noted until it is as wanted.
fn until(what: &str, audience: &Audience, mut holds: impl FnMut(&Tally) -> bool) -> Tally {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let tally = audience.tally().unwrap();
        if holds(&tally) {
            return tally;
        }
        assert!(Instant::now() < deadline, "{what}: {tally:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn viewers_see_a_picture_and_miss_nothing() {
    let stage = Stage::open(Shape::default());
    let audience = Audience::start(stage.plan(20)).unwrap();
    let tally = until("all see 30 pictures", &audience, |tally| tally.watching == 20 && tally.pictures >= 600);
    assert_eq!((tally.joined, tally.refused, tally.failed), (20, 0, 0), "{:?}", tally.examples);
    assert_eq!((tally.missed, tally.broken, tally.unopened, tally.strange), (0, 0, 0, 0));
    assert_eq!((tally.first_picture.count(), tally.first_packet.count()), (20, 20));
    assert!(tally.delay.count() >= 600 && tally.delay.ms_at(0.5) < 1_000.0, "{:?}", tally.delay);
    // Four packets of 1,200 bytes and their seals to a picture.
    assert!(tally.bytes > tally.pictures * 4 * 1_200, "{} bytes", tally.bytes);
    let end = audience.stop().unwrap();
    assert_eq!(end.inside, 20);
    stage.close();
}

#[test]
fn what_is_dropped_on_the_way_is_asked_for_and_repaired() {
    let stage = Stage::open(Shape::default());
    let plan = Plan { drop_one_in: NonZeroU32::new(20), ..stage.plan(2) };
    let audience = Audience::start(plan).unwrap();
    let tally = until("much is repaired", &audience, |tally| tally.repaired >= 20);
    assert!(tally.dropped >= 20 && tally.nacks >= tally.repaired, "{tally:?}");
    assert_eq!((tally.broken, tally.undecodable), (0, 0), "no picture suffers from it");
    audience.stop().unwrap();

    let plan = Plan { drop_one_in: NonZeroU32::new(20), nack: false, ..stage.plan(1) };
    let audience = Audience::start(plan).unwrap();
    let tally = until("pictures break", &audience, |tally| tally.broken >= 1);
    assert_eq!((tally.repaired, tally.nacks), (0, 0));
    audience.stop().unwrap();
    stage.close();
}

#[test]
fn a_pause_of_the_publisher_is_a_freeze_of_every_viewer() {
    let stage = Stage::open(Shape::default());
    let audience = Audience::start(stage.plan(3)).unwrap();
    until("all watch", &audience, |tally| tally.watching == 3);
    let before = audience.take().unwrap();
    assert_eq!((before.freezes, before.frozen), (0, 0));

    stage.anchor.pause(true);
    until("all are frozen", &audience, |tally| tally.frozen == 3);
    stage.anchor.pause(false);
    let after = until("all go on", &audience, |tally| tally.frozen == 0 && tally.freezes == 3);
    assert!(after.freeze_time >= 3 * Duration::from_millis(500), "{:?}", after.freeze_time);
    assert_eq!(after.missed, 0);
    audience.stop().unwrap();
    stage.close();
}

#[test]
fn the_server_opens_the_data_channel_of_those_who_want_it() {
    let stage = Stage::open(Shape::default());
    let mut plan = stage.plan(3);
    plan.wishes.channel = true;
    let audience = Audience::start(plan).unwrap();
    until("all have it", &audience, |tally| tally.channels == 3 && tally.watching == 3);
    audience.stop().unwrap();
    stage.close();
}

#[test]
fn those_who_leave_say_goodbye() {
    let stage = Stage::open(Shape::default());
    let audience = Audience::start(stage.plan(3)).unwrap();
    until("all watch", &audience, |tally| tally.watching == 3);
    audience.stop().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    // The publisher stays.
    while stage.media.stats().peers > 1 {
        assert!(Instant::now() < deadline, "the server still has them");
        thread::park_timeout(Duration::from_millis(5));
    }
    stage.close();
}
