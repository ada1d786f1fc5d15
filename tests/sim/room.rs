//! A room under random commands: every viewer folds to what the room is, and its tape leads back to the same state.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use maishou::{
    client::{Applied, View},
    clock::{Clock, UnixMs},
    id::{MerchantId, Money, ProductId, RoomId, SkuId, Who},
    protocol::{ClientMessage, Frame, Moderation, Product, ProductSku, Role, Snapshot, StockCount},
    ring::{self, Read, Ring},
    room::{self, Author, Catalogue, Command, Handle, Outside, RoomFacts, Rooms, Tape, tape},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::sync::mpsc;

use crate::support::{scratch::Scratch, wait::DEADLINE};

/// Random lives that each run tries; more with `MAISHOU_SIM_SEEDS`.
const SEEDS: u64 = 12;
const COMMANDS: usize = 150;

pub(super) type Counts = Arc<Mutex<HashMap<SkuId, StockCount>>>;

/// A world with one room, on a disk of its own.
struct World {
    rooms: Rooms,
    room: RoomId,
    clock: Clock,
    counts: Counts,
    shown: mpsc::Receiver<room::Shown>,
}

impl World {
    async fn open(folder: &Path, clock: Clock, counts: Counts) -> Self {
        let (shown, shown_rx) = mpsc::channel(10_000);
        let outside = Outside {
            media_time: Box::new(|_| None),
            stock: Box::new({
                let counts = counts.clone();
                move |sku| counts.lock().unwrap().get(sku).map(|count| (*count, "00".to_owned()))
            }),
            shown,
        };
        let tape = Tape::start(tape::Config { path: folder.join("tape"), ..Default::default() }).unwrap();
        let catalogue = Catalogue::open(&folder.join("catalogue.db")).unwrap();
        let config = room::Config { tick_ms: 1, chat_per_second: 10, sold_per_second: 1, ..Default::default() };
        let rooms =
            Rooms::open(config, ring::Config::default(), clock.clone(), tape, catalogue, outside).await.unwrap();
        let room: RoomId = "sim".parse().unwrap();
        if rooms.get(&room).is_none() {
            let facts = RoomFacts {
                rehearsal: None,
                id: room.clone(),
                title: "A random life".into(),
                anchor: "anchor".parse().unwrap(),
                merchants: vec![MerchantId::main()],
                created_at: clock.now(),
            };
            rooms.create(facts).await.unwrap();
        }
        Self { rooms, room, clock, counts, shown: shown_rx }
    }

    fn handle(&self) -> Handle {
        self.rooms.get(&self.room).unwrap()
    }
}

/// A viewer that reads the ring as a socket would, text by text.
struct Watcher {
    ring: Arc<Ring>,
    position: u64,
    view: View,
}

impl Watcher {
    fn join(handle: &Handle) -> Self {
        #[derive(serde::Deserialize)]
        struct Wrapped {
            snapshot: Snapshot,
        }
        let snap = handle.ring().snapshot();
        let Wrapped { snapshot } = serde_json::from_slice(&snap.text).unwrap();
        let mut view = View::new(10_000);
        view.take_snapshot(snapshot);
        Self { ring: handle.ring().clone(), position: snap.position, view }
    }

    fn read(&mut self) {
        let mut frames = Vec::new();
        let Read::UpTo(next) = self.ring.read(self.position, usize::MAX, &mut frames) else {
            panic!("the ring is longer than this life")
        };
        self.position = next;
        for frame in frames {
            let frame: Frame = serde_json::from_slice(&frame.text).unwrap();
            assert_ne!(self.view.apply(frame), Applied::Gap, "a viewer on the ring misses nothing");
        }
    }

    async fn read_to(&mut self, seq: u64) {
        let reached = async {
            loop {
                self.read();
                if self.view.seq >= seq {
                    return;
                }
                self.ring.changed(self.position).await;
            }
        };
        tokio::time::timeout(DEADLINE, reached).await.expect("the ring brings what the room decided");
    }
}

pub(super) fn product(n: u32, price: i64) -> Product {
    let id: ProductId = format!("p{n}").parse().unwrap();
    Product {
        title: format!("Product {n}"),
        price: Money { amount: price, currency: "CNY".parse().unwrap() },
        image: None,
        merchant: MerchantId::main(),
        skus: vec![ProductSku { id: sku(n), title: String::new() }],
        limit_per_user: None,
        limit_per_order: None,
        id,
    }
}

pub(super) fn sku(n: u32) -> SkuId {
    format!("p{n}-one").parse().unwrap()
}

pub(super) fn random_command(rng: &mut StdRng, counts: &Counts, last_seq: u64) -> Command {
    let who = |n: u32| Who(format!("who-{n}").into());
    let person = rng.random_range(0..6u32);
    match rng.random_range(0..100) {
        0..40 => {
            let role = if person == 0 { Role::Anchor } else { Role::Viewer };
            let author = Author { who: who(person), name: format!("N{person}"), role };
            Command::Comment { author, text: format!("text {}", rng.random::<u16>()) }
        }
        40..50 => {
            let shelf: Vec<Product> = (0..6).filter(|_| rng.random_ratio(2, 3)).map(|n| product(n, 100)).collect();
            let planned = shelf.iter().filter(|_| rng.random_ratio(1, 2)).map(|p| (p.id.clone(), 90)).collect();
            Command::SetShelf { items: shelf, planned_seconds: planned }
        }
        50..60 => {
            let explain_seconds = rng.random_ratio(1, 2).then(|| rng.random_range(1..600));
            Command::Pin { product: format!("p{}", rng.random_range(0..6)).parse().unwrap(), explain_seconds }
        }
        60..63 => Command::Unpin,
        63..68 => Command::ProductChanged(Box::new(product(rng.random_range(0..6), rng.random_range(1..900)))),
        68..83 => {
            let sku = sku(rng.random_range(0..6));
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(sku.clone()).or_default();
            *count = StockCount { available: rng.random_range(0..99), entry: count.entry + 1, ..*count };
            Command::Stock { sku, count: *count, hash: "00".into() }
        }
        83..86 => Command::StartShow,
        86..88 => Command::EndShow,
        88..91 => Command::Moderate(Moderation::Mute { who: who(person), seconds: Some(rng.random_range(1..5)) }),
        91..93 => Command::Moderate(Moderation::Unmute { who: who(person) }),
        93..94 => Command::Moderate(Moderation::Kick { who: who(person) }),
        94..97 => {
            let comment = rng.random_range(0..=last_seq);
            Command::Moderate(match rng.random_ratio(1, 2) {
                true => Moderation::DeleteComment { comment },
                false => Moderation::PinComment { comment: Some(comment) },
            })
        }
        97..98 => Command::Moderate(Moderation::SlowMode { seconds: rng.random_range(0..3) }),
        98..99 => Command::Sold { sku: sku(rng.random_range(0..6)), quantity: 1, buyer: None },
        _ => Command::Media { live: rng.random_ratio(1, 2), tracks: vec![] },
    }
}

/// Everything that converges; sums of likes and viewers do not belong to the log.
fn converged(mut snapshot: Snapshot) -> Snapshot {
    snapshot.tally = Default::default();
    snapshot.epoch = String::new();
    snapshot
}

pub(super) fn assert_same(view: &View, snapshot: &Snapshot, seed: u64) {
    assert_eq!(view.seq, snapshot.seq, "seed {seed}");
    assert_eq!(view.show, snapshot.show, "seed {seed}");
    assert_eq!(view.shelf, snapshot.shelf, "seed {seed}");
    assert_eq!(view.stock, snapshot.stock, "seed {seed}");
    assert_eq!(view.pinned, snapshot.pinned, "seed {seed}");
    assert_eq!(view.pinned_comment, snapshot.pinned_comment, "seed {seed}");
    assert_eq!(view.run_sheet.explained, snapshot.explained, "seed {seed}");
    assert_eq!(view.run_sheet.planned_seconds, snapshot.planned_seconds, "seed {seed}");
    assert_eq!(view.next(), snapshot.next, "seed {seed}");
    assert_eq!(view.media, snapshot.media, "seed {seed}");
    assert_eq!(view.slow_mode, snapshot.slow_mode, "seed {seed}");
    let last: Vec<_> = view.comments.iter().rev().take(snapshot.comments.len()).rev().cloned().collect();
    assert_eq!(last, snapshot.comments, "seed {seed}");
}

async fn live(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let folder = Scratch::new("sim-room");
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    let world = World::open(folder.path(), clock.clone(), Counts::default()).await;
    let handle = world.handle();
    let mut watchers = vec![Watcher::join(&handle)];
    let mut last_seq = 0;
    for _ in 0..COMMANDS {
        world.clock.advance(Duration::from_millis(rng.random_range(0..400)));
        let command = random_command(&mut rng, &world.counts, last_seq);
        if let Ok(events) = handle.act(command).await {
            last_seq = events.last().map_or(last_seq, |e| e.seq);
        }
        if rng.random_ratio(1, 30) {
            watchers.push(Watcher::join(&handle));
        }
    }
    let now = handle.snapshot().await.unwrap();
    for watcher in &mut watchers {
        watcher.read_to(now.seq).await;
        assert_same(&watcher.view, &now, seed);
    }

    // A crash here: the kernel has what was written, and the last line may be torn.
    let after = Scratch::new("sim-room-crashed");
    copy_torn(folder.path(), after.path(), &mut rng);
    let again = World::open(after.path(), clock, world.counts.clone()).await;
    let recovered = again.handle().snapshot().await.unwrap();
    let (before, recovered) = (converged(now), converged(recovered));
    // The picture is certainly gone, and counts are read from the ledger, not from the tape.
    let same =
        Snapshot { seq: recovered.seq, media: recovered.media.clone(), stock: recovered.stock.clone(), ..before };
    assert_eq!(recovered, same, "seed {seed}");
    assert!(!recovered.media.live, "seed {seed}");
    for (sku, count) in &recovered.stock {
        assert_eq!(world.counts.lock().unwrap().get(sku), Some(count), "seed {seed}");
    }
    assert_ne!(handle.ring().epoch(), again.handle().ring().epoch());
    again.rooms.shutdown().await;
    world.rooms.shutdown().await;
}

/// Copies a folder as a crash would leave it: half a line may follow what was written whole.
fn copy_torn(from: &Path, to: &Path, rng: &mut StdRng) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_torn(&path, &target, rng);
            continue;
        }
        // A segment may be packed away while we look; its packed form is copied instead.
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        if path.extension().is_some_and(|e| e == "jsonl") && rng.random_ratio(1, 2) {
            bytes.extend_from_slice(br#"{"v":1,"kind":"event","event":{"seq":99"#);
        }
        std::fs::write(&target, bytes).unwrap();
    }
}

#[tokio::test]
async fn every_viewer_and_the_tape_fold_to_the_same_room() {
    for seed in 0..super::seeds(SEEDS) {
        live(seed).await;
    }
}

/// Who comes in looks at the brief before she is among the connections, and again after: a kick has to be there first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_to_be_ended_who_could_still_come_in() {
    let folder = Scratch::new("sim-kicks");
    let mut world = World::open(folder.path(), Clock::manual(UnixMs(1_700_000_000_000)), Counts::default()).await;
    let handle = world.handle();
    let kicking = tokio::spawn({
        let handle = handle.clone();
        async move {
            for number in 0..500 {
                let who = Who(format!("who-{number}").into());
                handle.act(Command::Moderate(Moderation::Kick { who })).await.unwrap();
            }
        }
    });
    for _ in 0..500 {
        let room::Shown::Kicked { who, .. } = world.shown.recv().await.unwrap();
        assert!(handle.brief().kicks.contains(&who), "{who:?} could come in behind her own kick");
    }
    kicking.await.unwrap();
    world.rooms.shutdown().await;
}

#[tokio::test]
async fn what_the_tape_does_not_take_is_not_shown() {
    let folder = Scratch::new("sim-full");
    let clock = Clock::manual(UnixMs(1_700_000_000_000));
    let world = World::open(folder.path(), clock, Counts::default()).await;
    let handle = world.handle();
    let shelf = Command::SetShelf { items: vec![product(0, 100)], planned_seconds: Default::default() };
    handle.act(shelf).await.unwrap();
    let before = handle.snapshot().await.unwrap();

    // A show's start begins a new segment: a file where the folder was makes that fail.
    let (tape, aside) = (folder.path().join("tape/sim"), folder.path().join("aside"));
    std::fs::rename(&tape, &aside).unwrap();
    std::fs::write(&tape, "in the way").unwrap();
    let refused = handle.act(Command::StartShow).await;
    assert!(refused.is_err(), "a tick that is not logged is not answered as done");
    assert_eq!(converged(handle.snapshot().await.unwrap()), converged(before.clone()));

    // Out of the way again, the same is taken; and the tape has it once.
    std::fs::remove_file(&tape).unwrap();
    std::fs::rename(&aside, &tape).unwrap();
    handle.act(Command::StartShow).await.unwrap();
    assert_eq!(handle.snapshot().await.unwrap().seq, before.seq + 1);
    let on_tape = tape::newest(&tape).unwrap().unwrap();
    assert!(on_tape.show.running && on_tape.seq == before.seq + 1);
    world.rooms.shutdown().await;
}

#[test]
fn a_message_of_a_client_is_never_a_panic() {
    let mut rng = StdRng::seed_from_u64(7);
    let seedling =
        r#"{"id":1,"hold":{"lines":[{"sku":"a","quantity":1,"price":{"amount":1,"currency":"CNY"}}],"key":"k"}}"#;
    for _ in 0..20_000 {
        let mut bytes = seedling.as_bytes().to_vec();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = rng.random_range(32..127);
        }
        let _ = ClientMessage::decode(&String::from_utf8(bytes).unwrap());
    }
}
