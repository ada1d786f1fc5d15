//! Pictures put together by number and timestamp, without a look at what is in them, and how smoothly they come.

use std::{collections::VecDeque, time::Duration};

/// A picture that is not whole after this long is given up.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pictures that wait for one before them; more, and that one is given up.
const WAITING_MAX: usize = 64;
/// Without a new picture for longer than this the viewer sees a freeze.
pub const FREEZE: Duration = Duration::from_millis(500);

/// A packet of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub index: u64,
    pub timestamp: u32,
    /// It is the picture's last.
    pub marker: bool,
    pub starts_keyframe: bool,
}

/// What became of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Whole, and all that it builds on was too. `frozen`: how long nothing was shown before it, when that is a freeze.
    Picture { is_first: bool, frozen: Option<Duration> },
    /// Whole, but a keyframe is missing before it.
    Undecodable,
    /// Parts of it, or all, never came.
    Broken,
}

struct Frame {
    timestamp: u32,
    first: u64,
    last: Option<u64>,
    parts: u64,
    is_key: bool,
    began: Duration,
}

/// Times are of the wall clock, as packets arrive.
pub struct Frames {
    waiting: VecDeque<Frame>,
    /// Where the next picture begins.
    next: Option<u64>,
    needs_keyframe: bool,
    shown_at: Option<Duration>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), next: None, needs_keyframe: true, shown_at: None }
    }
}

impl Frames {
    /// Nothing can be shown before the next keyframe.
    pub fn needs_keyframe(&self) -> bool {
        self.needs_keyframe
    }

    /// Whether a picture was ever shown.
    pub fn is_running(&self) -> bool {
        self.shown_at.is_some()
    }

    /// A freeze that is not over.
    pub fn frozen_since(&self, now: Duration) -> Option<Duration> {
        self.shown_at.map(|at| now.saturating_sub(at)).filter(|gap| *gap > FREEZE)
    }

    pub fn note(&mut self, part: Part, arrived: Duration) {
        if self.next.is_some_and(|next| part.index < next) {
            return;
        }
        let frame = match self.waiting.iter().rposition(|frame| frame.timestamp == part.timestamp) {
            Some(place) => &mut self.waiting[place],
            None => {
                let place = self.waiting.iter().rposition(|frame| frame.first < part.index).map_or(0, |at| at + 1);
                let (timestamp, first) = (part.timestamp, part.index);
                let frame = Frame { timestamp, first, last: None, parts: 0, is_key: false, began: arrived };
                self.waiting.insert(place, frame);
                &mut self.waiting[place]
            }
        };
        frame.first = frame.first.min(part.index);
        frame.parts += 1;
        frame.is_key |= part.starts_keyframe;
        if part.marker {
            frame.last = Some(part.index);
        }
    }

    /// The next picture of which it is known what became of it.
    pub fn poll(&mut self, now: Duration) -> Option<Shown> {
        let front = self.waiting.front()?;
        let follows = self.next.is_none_or(|next| next == front.first);
        let is_whole = front.last.is_some_and(|last| last - front.first + 1 == front.parts);
        if follows && is_whole {
            let frame = self.waiting.pop_front()?;
            self.next = frame.last.map(|last| last + 1);
            self.needs_keyframe &= !frame.is_key;
            return Some(if self.needs_keyframe { Shown::Undecodable } else { self.show(now) });
        }
        if now.saturating_sub(front.began) < PATIENCE && self.waiting.len() <= WAITING_MAX {
            return None;
        }
        self.needs_keyframe = true;
        if is_whole {
            // The one before it is lost altogether.
            self.next = Some(front.first);
        } else {
            let frame = self.waiting.pop_front()?;
            self.next = frame.last.map(|last| last + 1).or_else(|| self.waiting.front().map(|frame| frame.first));
        }
        Some(Shown::Broken)
    }

    fn show(&mut self, now: Duration) -> Shown {
        let before = self.shown_at.replace(now);
        let frozen = before.map(|before| now.saturating_sub(before)).filter(|gap| *gap > FREEZE);
        Shown::Picture { is_first: before.is_none(), frozen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOOTH: Shown = Shown::Picture { is_first: false, frozen: None };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(1_000 + ms)
    }

    /// A picture of three packets each 33 ms, without the packets in `lost`.
    fn play(frames: &mut Frames, pictures: std::ops::Range<u64>, key: u64, lost: &[u64]) -> Vec<Shown> {
        let mut shown = Vec::new();
        for picture in pictures {
            for part in 0..3 {
                let index = 70_000 + picture * 3 + part;
                if lost.contains(&index) {
                    continue;
                }
                let (timestamp, starts_keyframe) = (picture as u32 * 3_000, picture == key && part == 0);
                frames.note(Part { index, timestamp, marker: part == 2, starts_keyframe }, ms(picture * 33));
                shown.extend(std::iter::from_fn(|| frames.poll(ms(picture * 33))));
            }
        }
        shown
    }

    #[test]
    fn nothing_is_shown_before_the_keyframe() {
        let mut frames = Frames::default();
        let shown = play(&mut frames, 0..4, 2, &[]);
        let first = Shown::Picture { is_first: true, frozen: None };
        assert_eq!(shown, [Shown::Undecodable, Shown::Undecodable, first, SMOOTH]);
        assert!(!frames.needs_keyframe());
    }

    #[test]
    fn a_repaired_picture_comes_late_and_in_order() {
        let mut frames = Frames::default();
        play(&mut frames, 0..2, 0, &[]);
        assert!(play(&mut frames, 2..4, 0, &[70_007]).is_empty());
        frames.note(Part { index: 70_007, timestamp: 6_000, marker: false, starts_keyframe: false }, ms(120));
        assert_eq!(
            [frames.poll(ms(120)), frames.poll(ms(120)), frames.poll(ms(120))],
            [Some(SMOOTH), Some(SMOOTH), None]
        );
    }

    #[test]
    fn a_lost_picture_breaks_all_up_to_the_next_keyframe() {
        let mut frames = Frames::default();
        play(&mut frames, 0..2, 0, &[]);
        let shown = play(&mut frames, 2..40, 30, &[70_006, 70_007, 70_008]);
        let count = |kind: Shown| shown.iter().filter(|shown| **shown == kind).count();
        assert_eq!((count(Shown::Broken), count(Shown::Undecodable)), (1, 27), "{shown:?}");
        assert!(matches!(shown[28], Shown::Picture { frozen: Some(_), .. }), "and it was a freeze");
    }

    #[test]
    fn a_pause_is_a_freeze_while_it_lasts_and_after() {
        let mut frames = Frames::default();
        play(&mut frames, 0..2, 0, &[]);
        assert!(frames.frozen_since(ms(433)).is_none() && frames.frozen_since(ms(733)).is_some());
        for part in 0..3 {
            let (index, timestamp) = (70_006 + part, 60_000);
            frames.note(Part { index, timestamp, marker: part == 2, starts_keyframe: false }, ms(833));
        }
        let Some(Shown::Picture { frozen: Some(frozen), .. }) = frames.poll(ms(833)) else { panic!("no freeze") };
        assert_eq!(frozen, Duration::from_millis(800));
    }
}
