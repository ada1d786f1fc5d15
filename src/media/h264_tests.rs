use proptest::prelude::*;

use super::*;

/// Sets of x264 for pictures of 1,280 by 720 pixels, and a slice that refers to them.
const SEQUENCE: &str = "6742c01fd9005005bb011000000300100000030320f1832480";
const PICTURE: &str = "68cb83cb20";
const SLICE: &[u8] = &[0x65, 0x88, 0x84, 0x21, 0xFF];
const FIRST_FRAGMENT: &[u8] = &[0x7C, 0x85, 0x88, 0x84, 0x21];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn aggregate(units: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for unit in units {
        payload.extend((unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    payload
}

/// Of some id, with a content of its own.
fn sequence(id: u8, content: u8) -> Vec<u8> {
    // `ue` of 0 to 2 in three bits.
    vec![0x67, 66, 0, 30, [0b1000_0000, 0b0100_0000, 0b0110_0000][usize::from(id)] | 1, content]
}

fn picture(id: u8, sequence: u8, content: u8) -> Vec<u8> {
    let ue = |value: u8| [0b1u8, 0b010, 0b011][usize::from(value)];
    let bits = |value: u8| if value == 0 { 1 } else { 3 };
    let at = 16 - bits(id) - bits(sequence);
    let first = u16::from(ue(id)) << (16 - bits(id)) | u16::from(ue(sequence)) << at;
    [&[0x68][..], &first.to_be_bytes(), &[content]].concat()
}

/// What [`taken`] is to tell.
fn start(is_one: bool, sets: Option<&[&[u8]]>) -> (bool, Option<Vec<u8>>) {
    (is_one, sets.map(aggregate))
}

fn taken(sets: &mut Sets, number: u64, payload: &[u8]) -> (bool, Option<Vec<u8>>) {
    let Start { is_one, sets, .. } = sets.take(number, payload);
    (is_one, sets.map(|payload| payload.to_vec()))
}

#[test]
fn a_keyframe_without_sets_carries_the_ones_that_came_before() {
    let (sequence, picture) = (&bytes(SEQUENCE)[..], &bytes(PICTURE)[..]);
    let mut sets = Sets::default();
    assert_eq!(taken(&mut sets, 1, SLICE), start(false, None), "nobody can decode this");
    assert_eq!(taken(&mut sets, 2, sequence), start(true, None));
    assert_eq!(taken(&mut sets, 3, FIRST_FRAGMENT), start(false, None), "half of the sets");
    assert_eq!(taken(&mut sets, 4, picture), start(false, None));
    let both = start(true, Some(&[sequence, picture]));
    for (number, payload) in [(5, SLICE), (6, FIRST_FRAGMENT), (7, &aggregate(&[&[0x09, 0x10], &[0x06, 5], SLICE]))] {
        assert_eq!(taken(&mut sets, number, payload), both, "{payload:x?}");
    }
    for payload in [&[0x41, 0x9A, 0x24][..], &[0x7C, 0x05, 0x88, 0x84], &[0x7C, 0x81, 0x9A], &[0x06, 5], &[]] {
        assert_eq!(taken(&mut sets, 8, payload), start(false, None), "{payload:x?}");
    }
    let all_in_one = aggregate(&[&[0x09, 0x10], sequence, picture, SLICE]);
    assert_eq!(taken(&mut sets, 9, &all_in_one), start(true, None), "they are in it");
}

#[test]
fn sets_of_an_offer_serve_until_others_come() {
    let (offered, newer) = (sequence(0, 1), sequence(0, 2));
    let picture = picture(0, 0, 1);
    let mut sets = Sets::announced(&[offered.clone().into(), picture.clone().into(), Bytes::new()]);
    assert_eq!(taken(&mut sets, 1, SLICE), start(true, Some(&[&offered, &picture])));
    taken(&mut sets, 2, &newer);
    assert_eq!(taken(&mut sets, 3, SLICE), start(true, Some(&[&newer, &picture])));
}

#[test]
fn the_newest_set_of_each_name_counts_in_whatever_order_they_come() {
    let mut sets = Sets::default();
    let (first, other, late, picture) = (sequence(0, 1), sequence(1, 1), sequence(0, 3), picture(0, 0, 1));
    taken(&mut sets, 10, &aggregate(&[&first, &picture]));
    taken(&mut sets, 12, &other);
    taken(&mut sets, 9, &late);
    assert_eq!(taken(&mut sets, 13, SLICE), start(true, Some(&[&first, &other, &picture])), "older by its number");
    taken(&mut sets, 20, &first);
    taken(&mut sets, 15, &late);
    assert_eq!(taken(&mut sets, 21, SLICE), start(true, Some(&[&first, &other, &picture])), "it was said again");
    assert_eq!(taken(&mut sets, 11, SLICE), start(false, None), "not with sets from behind it");
    assert!(taken(&mut sets, 14, SLICE).0, "what is only repeated behind it belongs to it too");
    taken(&mut sets, 22, &late);
    assert_eq!(taken(&mut sets, 23, SLICE), start(true, Some(&[&other, &late, &picture])));
}

#[test]
fn what_is_kept_fits_into_a_packet() {
    let mut sets = Sets::default();
    let own = [sequence(0, 1), picture(0, 0, 1)];
    let long = |id: u8| [&picture(id, 0, 7)[..], &[7; 600]].concat();
    own.iter().for_each(|unit| drop(taken(&mut sets, 5, unit)));
    taken(&mut sets, 4, &long(1));
    assert_eq!(taken(&mut sets, 6, SLICE).1.unwrap().len(), 1 + 3 * 2 + own[0].len() + own[1].len() + long(1).len());
    taken(&mut sets, 7, &long(2));
    let kept = taken(&mut sets, 8, SLICE).1.unwrap();
    assert_eq!(kept, aggregate(&[&own[0], &own[1], &long(2)]), "the oldest goes");
    taken(&mut sets, 9, &[&sequence(0, 2)[..], &[7; 2_000]].concat());
    assert_eq!(taken(&mut sets, 10, SLICE), start(false, None), "the old one is not valid, the new one too long");
}

#[test]
fn a_picture_has_the_height_that_its_own_sets_say() {
    for (hex, expected) in [
        ("6742c00cd901419f9f011000000300100000030320f142a480", 180),
        ("67640028acd940780227e5c044000003000400000300c83c60c658", 1_080),
        ("67640028acd94078044fde0220000003002000000643e2c5b2c0", 1_080),
        ("6742c01fd900b40a1b011000000300100000030320f1832480", 1_280),
    ] {
        assert_eq!(height(&bytes(hex)).map(NonZeroU16::get), Some(expected), "{hex}");
    }
    let mut too_large_for_its_level = bytes("67640028acd940780227e5c044000003000400000300c83c60c658");
    too_large_for_its_level[3] = 10;
    assert_eq!(height(&too_large_for_its_level).map(NonZeroU16::get), Some(1_080));

    let mut sets = Sets::default();
    sets.take(1, &bytes(SEQUENCE));
    sets.take(2, &bytes(PICTURE));
    assert_eq!(sets.take(3, SLICE).height.map(NonZeroU16::get), Some(720));
    sets.take(4, &sequence(1, 9));
    let after = sets.take(5, SLICE);
    assert_eq!((after.is_one, after.height.map(NonZeroU16::get)), (true, Some(720)), "the other set is not its own");
}

proptest! {
    /// Anything, and real sets with a few bytes changed.
    #[test]
    fn no_payload_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..64),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        level in any::<u8>(),
    ) {
        let mut real = bytes(SEQUENCE);
        changes.iter().for_each(|(place, byte)| *place.get_mut(&mut real) = *byte);
        let mut odd = noise.clone();
        odd.splice(0..0, [0x67, 100, 0, level]);
        let mut sets = Sets::announced(&[noise.clone().into()]);
        for (number, payload) in (0u64..).zip([&noise[..], &real, &odd, &aggregate(&[&noise, &real]), SLICE]) {
            sets.take(number, payload);
            prop_assert!(sets.bundle_len() <= BUNDLE_LEN_MAX && sets.kept.len() <= SETS_MAX);
        }
        let _ = (height(&noise), height(&real), height(&odd));
    }
}
