//! Minute 90 of a show with fifty products: what somebody is told who comes only now.

use std::{collections::BTreeMap, time::Duration};

use maishou::{
    client::View,
    clock::UnixMs,
    id::{Money, Who},
    protocol::{Product, ProductSku, Role, Snapshot, StockCount},
    ring::{self, Ring, Wire},
    room::{
        self, Author, Command,
        room::Room,
        showing::{Showing, snapshot_text},
        state::State,
    },
};

const PRODUCTS: usize = 50;
const EXPLAINED: usize = 30;
const PLANNED_SECONDS: u32 = 180;
/// What may be added to a snapshot for who comes late.
const CATCH_UP_BYTES_MAX: usize = 8 << 10;

#[test]
fn who_comes_at_minute_ninety_is_told_what_was_explained_what_is_left_and_what_comes_next() {
    let (snapshot, text) = minute_ninety();
    assert_eq!(snapshot.explained.len(), EXPLAINED);
    let mut view = View::new(100);
    view.take_snapshot(snapshot.clone());
    for (place, seen) in snapshot.explained.iter().enumerate() {
        assert_eq!((seen.product.as_str(), seen.price.amount), (id(place).as_str(), price(place)), "the price then");
        assert_eq!(view.left(&seen.product), 100 - place as u64, "and what is left now");
    }
    let now = began().plus(Duration::from_secs(90 * 60));
    let next: Vec<_> =
        view.next().iter().map(|n| (n.product.as_str().to_owned(), n.at.unwrap().since(now).as_secs())).collect();
    let planned = u64::from(PLANNED_SECONDS);
    assert_eq!(next, [(id(30), 0), (id(31), planned), (id(32), 2 * planned)]);
    assert_eq!(snapshot.next, view.next());

    let told = serde_json::json!({
        "explained": snapshot.explained, "planned_seconds": snapshot.planned_seconds, "next": snapshot.next,
    });
    let catch_up = told.to_string().len();
    println!("catching up takes {catch_up} bytes of a snapshot of {}", text.len());
    assert!(catch_up < CATCH_UP_BYTES_MAX, "{catch_up} bytes");
    assert!(text.len() < 40 << 10, "the whole snapshot: {} bytes", text.len());
    // As browsers take it, with the shelf, the stock and the comments in it.
    let compressed = Wire::text(text.as_bytes()).deflated().expect("it gets shorter").bytes().len();
    println!("compressed, the whole snapshot takes {compressed} bytes");
    assert!(compressed < CATCH_UP_BYTES_MAX, "the whole snapshot, compressed: {compressed} bytes");
}

#[test]
fn what_everybody_missed_of_a_show_in_which_all_was_explained_stays_small() {
    let (mut room, mut showing) = show(PRODUCTS);
    // All of it was taken from the shelf meanwhile, and takes its titles along.
    act(&mut room, &mut showing, end(), Command::Unpin);
    act(&mut room, &mut showing, end(), Command::SetShelf { items: vec![], planned_seconds: BTreeMap::new() });
    let explained = serde_json::to_string(&showing.snapshot(0).explained).unwrap();
    assert!(explained.len() < CATCH_UP_BYTES_MAX, "{} bytes", explained.len());
}

fn minute_ninety() -> (Snapshot, String) {
    let (_, showing) = show(EXPLAINED);
    let text = snapshot_text(showing.state(), showing.ring().epoch(), 12_345);
    (showing.snapshot(12_345), text)
}

/// A show in which so many products had their three minutes.
fn show(explained: usize) -> (Room, Showing) {
    let state = State::new("evening".parse().unwrap(), "Autumn edit with Lin · 秋日好物直播间".into());
    let ring = Ring::new(ring::Config::default(), "epochepoch12".into(), 0, "{}");
    let (mut room, mut showing) = (Room::new(state.clone(), &room::Config::default()), Showing::new(state, ring));
    let items: Vec<Product> = (0..PRODUCTS).map(product).collect();
    let planned_seconds = items.iter().map(|p| (p.id.clone(), PLANNED_SECONDS)).collect();
    act(&mut room, &mut showing, began(), Command::StartShow);
    act(&mut room, &mut showing, began(), Command::SetShelf { items: items.clone(), planned_seconds });
    for (place, item) in items.iter().enumerate() {
        for sku in &item.skus {
            let left = 100 - place as u64;
            let available = if *sku == item.skus[0] { left } else { 0 };
            let count = StockCount { available, held: 3, sold: 1_234, entry: 2_345 };
            act(&mut room, &mut showing, began(), Command::Stock { sku: sku.id.clone(), count, hash: "0".repeat(64) });
        }
    }
    for (place, item) in items.iter().enumerate().take(explained) {
        let now = began().plus(Duration::from_secs(place as u64 * u64::from(PLANNED_SECONDS)));
        act(&mut room, &mut showing, now, Command::Pin { product: item.id.clone(), explain_seconds: None });
        for number in 0..5 {
            let author = Author {
                who: Who(format!("kJ3v_9aTq0L{number}").into()),
                name: "小红薯 Ava".into(),
                role: Role::Viewer,
            };
            let text = "这个颜色还有吗？ Does the coral one come in medium?".to_owned();
            act(&mut room, &mut showing, now, Command::Comment { author, text });
        }
        // The price of the last one falls when she has gone on: what was seen stays as it was.
        if let Some(before) = place.checked_sub(1) {
            let price = Money { amount: price(before) - 500, ..item.price };
            let cheaper = Product { price, ..items[before].clone() };
            act(&mut room, &mut showing, now, Command::ProductChanged(Box::new(cheaper)));
        }
    }
    (room, showing)
}

fn act(room: &mut Room, showing: &mut Showing, now: UnixMs, command: Command) {
    let events = room.apply(command, now, None).unwrap();
    showing.show(&events, 12_345);
}

fn began() -> UnixMs {
    UnixMs(1_795_357_004_318)
}

fn end() -> UnixMs {
    began().plus(Duration::from_secs(3 * 3_600))
}

fn id(place: usize) -> String {
    format!("autumn-{place:02}")
}

fn price(place: usize) -> i64 {
    26_900 + place as i64 * 100
}

fn product(place: usize) -> Product {
    let sku = |colour: &str, title: &str| ProductSku {
        id: format!("{}-{colour}", id(place)).parse().unwrap(),
        title: title.to_owned(),
    };
    Product {
        id: id(place).parse().unwrap(),
        title: format!("Silk scarf {place:02} 真丝围巾"),
        price: Money { amount: price(place), currency: "CNY".parse().unwrap() },
        image: Some(format!("https://cdn.example/autumn/{place:02}.webp")),
        merchant: "main".parse().unwrap(),
        skus: vec![sku("coral", "Coral 珊瑚红"), sku("sea", "Sea blue 海水蓝")],
        limit_per_user: Some(3),
        limit_per_order: None,
    }
}
