//! The demo's world: what `config/demo` holds is whole before anybody starts it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use maishou::id::{Money, ProductId, SkuId};
use serde_json::Value;

const CLIP_BYTES_MAX: usize = 1_400_000;
const RATE: u64 = 25;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/demo").join(name)
}

fn read(name: &str) -> Vec<u8> {
    fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn shelf() -> Value {
    serde_json::from_slice(&read("shelf.json")).expect("the shelf is JSON")
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name} is a list"))
}

#[test]
fn every_product_of_the_demo_is_whole_and_has_its_picture() {
    let shelf = shelf();
    let mut skus = BTreeSet::new();
    let mut products = BTreeSet::new();
    for product in list(&shelf, "products") {
        let id: ProductId = serde_json::from_value(product["id"].clone()).expect("a product id");
        let price: Money = serde_json::from_value(product["price"].clone()).expect("a price");
        assert!(price.amount > 0, "{id}");
        assert!(product["explain"].as_str().is_some_and(|words| words.len() > 20), "{id} is explained");
        let title = product["title"].as_str().expect("a title");
        let [english, chinese] =
            [char::is_ascii_alphabetic, is_chinese].map(|is| title.chars().any(|letter| is(&letter)));
        assert!(english && chinese, "{title} is in both languages");

        let picture = product["image"].as_str().and_then(|path| path.strip_prefix("/demo/")).expect("a picture");
        let drawing = String::from_utf8(read(picture)).expect("a drawing is text");
        assert!(drawing.starts_with("<svg ") && drawing.trim_end().ends_with("</svg>"), "{picture}");
        assert!(!drawing.contains("<script") && !drawing.contains("href"), "{picture} is only a drawing");

        for sku in list(product, "skus") {
            let sku_id: SkuId = serde_json::from_value(sku["id"].clone()).expect("a SKU id");
            assert!(sku["stock"].as_u64().is_some_and(|stock| stock > 0), "{sku_id} has stock");
            assert!(skus.insert(sku_id.to_string()), "{sku_id} is there twice");
        }
        assert!(products.insert(id.to_string()), "{id} is there twice");
    }
    assert!(products.len() >= 10, "{products:?}");
}

#[test]
fn the_simulated_crowd_has_something_to_say() {
    let shelf = shelf();
    let comments: BTreeSet<&str> = list(&shelf, "comments").iter().filter_map(Value::as_str).collect();
    let names: BTreeSet<&str> = list(&shelf, "names").iter().filter_map(Value::as_str).collect();
    assert!(comments.len() >= 40 && names.len() >= 20, "{} comments, {} names", comments.len(), names.len());
    assert!(comments.iter().all(|comment| (1..=200).contains(&comment.chars().count())));
}

/// A viewer who joins sees a picture within two seconds even when nobody asks for one.
#[test]
fn the_clip_is_a_small_upright_vp8_with_a_keyframe_every_two_seconds() {
    let clip = read("clip.ivf");
    assert_eq!((&clip[..4], &clip[8..12]), (&b"DKIF"[..], &b"VP80"[..]));
    let number = |at: usize| u64::from(u16::from_le_bytes([clip[at], clip[at + 1]]));
    assert_eq!((number(12), number(14)), (720, 1280));

    let mut frames = 0;
    let mut since_keyframe = u64::MAX - 1;
    let mut rest = &clip[usize::try_from(number(6)).expect("a header length")..];
    while let [a, b, c, d, _, _, _, _, _, _, _, _, frame @ ..] = rest {
        let length = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).expect("a frame length");
        let is_keyframe = frame[0] & 1 == 0;
        since_keyframe = if is_keyframe { 0 } else { since_keyframe + 1 };
        assert!(since_keyframe < 2 * RATE, "frame {frames}");
        frames += 1;
        rest = &frame[length..];
    }
    assert!((12 * RATE..=15 * RATE).contains(&frames), "{frames} frames");
    assert!(clip.len() + read("clip.ogg").len() <= CLIP_BYTES_MAX);
}

#[test]
fn the_sound_is_opus_in_frames_of_twenty_milliseconds() {
    let sound = read("clip.ogg");
    assert_eq!(&sound[..4], b"OggS");
    assert_eq!(&sound[28..36], b"OpusHead");

    let mut packets = 0;
    let mut at = 0;
    while at < sound.len() {
        assert_eq!(&sound[at..at + 4], b"OggS");
        let segments = usize::from(sound[at + 26]);
        let table = &sound[at + 27..at + 27 + segments];
        let mut packet = at + 27 + segments;
        let mut starts = true;
        for length in table {
            if starts && packets >= 2 {
                let config = sound[packet] >> 3;
                assert!(is_twenty_milliseconds(config) && sound[packet] & 3 == 0, "packet {packets}: config {config}");
            }
            starts = *length < 255;
            packets += usize::from(starts);
            packet += usize::from(*length);
        }
        at = packet;
    }
    // Two header packets, then 50 a second.
    assert!((12 * 50..=15 * 50 + 4).contains(&packets), "{packets} packets");
}

fn is_chinese(letter: &char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(letter)
}

/// RFC 6716, table 2: the configuration numbers whose frames last 20 ms.
fn is_twenty_milliseconds(config: u8) -> bool {
    match config {
        0..=11 => config % 4 == 1,
        12..=15 => config % 2 == 1,
        _ => config % 4 == 3,
    }
}
