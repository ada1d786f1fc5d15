//! What a player without mercy would show of a video track: each picture when it and all before it are whole, or, after a
//! loss that nobody repairs, from the next whole keyframe on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Packets behind a hole that are kept; some seconds of video.
const WAITING_MAX: usize = 4_096;
/// A stop of the picture that is called a freeze, as browsers count it: three times the usual step, or this much over it.
const FREEZE_STEPS: u32 = 3;
const FREEZE_OVER: Duration = Duration::from_millis(150);
/// Shown for so long, with packets still coming, a picture is stuck.
const STUCK_AFTER: Duration = Duration::from_millis(300);

/// What was shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureStats {
    pub shown: u64,
    /// Pictures that could not be shown, or came too late for it.
    pub lost: u64,
    pub freezes: u32,
    /// How long the picture stood still, all freezes together.
    pub frozen: Duration,
    /// The longest time between two pictures.
    pub longest: Duration,
}

/// One packet of the track.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub sequence: u16,
    pub timestamp: u32,
    /// The last packet of its picture.
    pub ends: bool,
    /// The first packet of a keyframe.
    pub starts_key: bool,
}

#[derive(Debug, Default)]
pub struct Pictures {
    waiting: BTreeMap<u64, Arrival>,
    highest: Option<u64>,
    /// The number that the next picture begins with; none before the first keyframe.
    next: Option<u64>,
    /// When the first packet came, which may be of no keyframe.
    began: Option<Instant>,
    last: Option<(u32, Instant)>,
    /// The ticks between the last two pictures that followed each other.
    ticks: Option<u32>,
    usual: Option<Duration>,
    stats: PictureStats,
}

impl Pictures {
    pub fn stats(&self) -> PictureStats {
        self.stats
    }

    pub fn arrived(&mut self, arrival: Arrival, now: Instant) {
        self.began.get_or_insert(now);
        let number = self.number(arrival.sequence);
        if self.next.is_none() && arrival.starts_key {
            self.next = Some(number);
        }
        if self.next.is_none_or(|next| number < next) {
            return;
        }
        self.waiting.insert(number, arrival);
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
        }
        while let Some(end) = self.next.and_then(|next| self.whole_from(next)) {
            self.show_up_to(end, now);
        }
        if let Some((key, end)) = self.whole_key() {
            let ticks = self.ticks;
            self.count_lost(self.waiting[&key].timestamp);
            self.waiting = self.waiting.split_off(&key);
            self.show_up_to(end, now);
            self.ticks = ticks;
        }
    }

    /// Whether packets wait behind a hole, or for the first keyframe, for so long that one should be asked for.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let waits = self.next.is_none() || !self.waiting.is_empty();
        let since = self.last.map(|(_, at)| at).or(self.began);
        waits && since.is_some_and(|at| now.saturating_duration_since(at) > STUCK_AFTER)
    }

    /// The sequence number with its cycles.
    fn number(&mut self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            // The first cycle is ours, so that what comes before the first packet has a number.
            let first = (1 << 16) + u64::from(sequence);
            self.highest = Some(first);
            return first;
        };
        let ahead = sequence.wrapping_sub(highest as u16) as i16;
        let number = highest.saturating_add_signed(i64::from(ahead));
        self.highest = Some(highest.max(number));
        number
    }

    /// The last number of the picture that begins with `first`, when all of it is there.
    fn whole_from(&self, first: u64) -> Option<u64> {
        let run = self.waiting.range(first..).zip(first..).take_while(|((number, _), expected)| *number == expected);
        run.map(|((number, arrival), _)| (*number, arrival.ends)).find(|(_, ends)| *ends).map(|(number, _)| number)
    }

    /// The newest whole keyframe behind a hole.
    fn whole_key(&self) -> Option<(u64, u64)> {
        let keys = self.waiting.iter().rev().filter(|(_, arrival)| arrival.starts_key);
        keys.map(|(number, _)| *number).find_map(|key| Some((key, self.whole_from(key)?)))
    }

    fn show_up_to(&mut self, end: u64, now: Instant) {
        let timestamp = self.waiting[&end].timestamp;
        self.waiting = self.waiting.split_off(&(end + 1));
        self.next = Some(end + 1);
        self.stats.shown += 1;
        let Some((before, at)) = self.last.replace((timestamp, now)) else { return };
        let ticks = timestamp.wrapping_sub(before);
        if ticks > 0 {
            self.ticks = Some(ticks);
        }
        self.note_gap(now.saturating_duration_since(at));
    }

    fn note_gap(&mut self, gap: Duration) {
        self.stats.longest = self.stats.longest.max(gap);
        let Some(usual) = self.usual else {
            self.usual = Some(gap);
            return;
        };
        if gap >= (usual * FREEZE_STEPS).max(usual + FREEZE_OVER) {
            self.stats.freezes += 1;
            self.stats.frozen += gap;
        } else {
            self.usual = Some((usual * 31 + gap) / 32);
        }
    }

    /// Those between the last picture and a keyframe.
    fn count_lost(&mut self, key: u32) {
        let (Some((last, _)), Some(ticks)) = (self.last, self.ticks) else { return };
        let steps = (u64::from(key.wrapping_sub(last)) + u64::from(ticks / 2)) / u64::from(ticks);
        self.stats.lost += steps.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(40);

    /// Pictures of three packets each, at 25 a second; every fiftieth is a keyframe.
    fn packet(number: u64) -> Arrival {
        let picture = number / 3;
        Arrival {
            sequence: (60_000 + number) as u16,
            timestamp: (picture as u32).wrapping_mul(3_600).wrapping_sub(90_000),
            ends: number % 3 == 2,
            starts_key: number.is_multiple_of(150),
        }
    }

    fn at(start: Instant, number: u64) -> Instant {
        start + STEP * (number / 3) as u32
    }

    #[test]
    fn over_wraps_of_numbers_and_times_every_picture_is_shown_once() {
        let (mut pictures, start) = (Pictures::default(), Instant::now());
        for number in 0..30_000 {
            pictures.arrived(packet(number), at(start, number));
            pictures.arrived(packet(number), at(start, number));
        }
        let expected = PictureStats { shown: 10_000, longest: STEP, ..PictureStats::default() };
        assert_eq!(pictures.stats(), expected);
    }

    #[test]
    fn a_late_packet_holds_all_up_and_then_none_is_lost() {
        let (mut pictures, start) = (Pictures::default(), Instant::now());
        for number in (0..120).filter(|number| *number != 61) {
            pictures.arrived(packet(number), at(start, number));
        }
        assert_eq!(pictures.stats().shown, 20);
        assert!(pictures.is_stuck(at(start, 120)) && !pictures.is_stuck(at(start, 60)));
        pictures.arrived(packet(61), at(start, 120));
        let PictureStats { shown, lost, freezes, longest, .. } = pictures.stats();
        assert_eq!((shown, lost, freezes, longest), (40, 0, 1, STEP * 21));
    }

    #[test]
    fn a_hole_that_stays_costs_the_pictures_up_to_the_next_whole_keyframe() {
        let (mut pictures, start) = (Pictures::default(), Instant::now());
        // One of the pictures and the keyframe's middle are lost; the keyframe after it comes in disorder.
        for number in (0..300).filter(|number| ![70, 151].contains(number)) {
            pictures.arrived(packet(number), at(start, number));
        }
        assert_eq!(pictures.stats().shown, 23);
        for number in [302, 300, 301] {
            pictures.arrived(packet(number), at(start, 302));
        }
        assert_eq!((pictures.stats().shown, pictures.stats().lost), (24, 100 - 23));
        pictures.arrived(packet(151), at(start, 303));
        assert_eq!(pictures.stats().shown, 24, "what is over is over");
    }

    #[test]
    fn nothing_is_shown_before_a_keyframe_and_memory_has_an_end() {
        let (mut pictures, start) = (Pictures::default(), Instant::now());
        for number in 1..150 {
            pictures.arrived(packet(number), at(start, number));
        }
        assert_eq!(pictures.stats(), PictureStats::default());
        assert!(!pictures.is_stuck(start) && pictures.is_stuck(at(start, 30)), "and one is asked for");
        pictures.arrived(packet(150), start);
        for number in (152..20_000_u64).filter(|number| !number.is_multiple_of(150)) {
            pictures.arrived(packet(number), start);
        }
        assert!(pictures.waiting.len() <= WAITING_MAX);
    }
}
