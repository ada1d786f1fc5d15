//! Which layer of the picture a viewer gets.
//!
//! Down is at once, when the estimate does not carry the layer; up is when it has carried the next one with something
//! to spare for a while, and a longer while when the last step up did not hold. Below the lowest layer the picture
//! goes and the sound stays.

use std::time::{Duration, Instant};

/// A layer that the publisher sends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its name for as long as the publisher lives; the layers rise with it.
    pub id: u8,
    /// What it took lately.
    pub bitrate_bps: u32,
    /// Of the picture, in pixels, if known.
    pub height: Option<u16>,
}

/// What a viewer asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    #[default]
    Auto,
    /// This layer, or the next lower one while the link does not carry it.
    Layer(u8),
    AudioOnly,
}

/// What a viewer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    AudioOnly,
    Layer(u8),
}

/// How slowly the choice moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// What the estimate must have above a layer's bitrate for a step up, in percent.
    pub spare_percent: u32,
    /// For how long; up to four times as long after steps that did not hold.
    pub up: Duration,
    /// How long the lowest layer is tried on a link that does not carry it.
    pub audio_only: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { spare_percent: 5, up: Duration::from_secs(2), audio_only: Duration::from_secs(3) }
    }
}

const UP_LONGER_MAX: u32 = 4;
/// A step up that was taken back sooner did not hold.
const HELD: Duration = Duration::from_secs(10);

/// One viewer's choice.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    patience: Patience,
    current: Option<Target>,
    wish: Wish,
    carried_since: Option<Instant>,
    uncarried_since: Option<Instant>,
    up_at: Option<Instant>,
    up_longer: u32,
}

impl Layers {
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            current: None,
            wish: Wish::Auto,
            carried_since: None,
            uncarried_since: None,
            up_at: None,
            up_longer: 1,
        }
    }

    /// What the viewer should get from now on. `live` rises; `estimate_bps` is what the link has for the picture;
    /// `screen_height` is that of the picture on the viewer's screen. Called a few times a second.
    pub fn choose(
        &mut self,
        live: &[Layer],
        estimate_bps: u32,
        wish: Wish,
        screen_height: Option<u16>,
        now: Instant,
    ) -> Target {
        let is_new_wish = std::mem::replace(&mut self.wish, wish) != wish;
        let useful = useful(live, wish, screen_height);
        let Some(lowest) = useful.first().filter(|_| wish != Wish::AudioOnly) else {
            (self.current, self.carried_since, self.uncarried_since) = (None, None, None);
            return Target::AudioOnly;
        };

        let carried = best(useful, estimate_bps, 0);
        self.uncarried_since = carried.map_or(self.uncarried_since.or(Some(now)), |_| None);
        let is_poor = self.uncarried_since.is_some_and(|since| now - since >= self.patience.audio_only);
        let spared = best(useful, estimate_bps, self.patience.spare_percent);
        let target = match self.current {
            _ if is_poor => Target::AudioOnly,
            Some(Target::AudioOnly) => spared.map_or(Target::AudioOnly, |layer| Target::Layer(layer.id)),
            Some(Target::Layer(id)) if useful.iter().any(|layer| layer.id == id) => {
                let kept = carried.map_or(lowest.id, |layer| layer.id.min(id));
                let risen = spared.map(|layer| layer.id).filter(|better| *better > id);
                Target::Layer(if self.may_rise(risen.is_some(), is_new_wish, now) {
                    risen.unwrap_or(kept)
                } else {
                    kept
                })
            }
            _ => Target::Layer(carried.unwrap_or(*lowest).id),
        };
        self.take(target, is_new_wish, now)
    }

    /// What the estimate must reach for the next step up: a reason to probe. None at the top.
    pub fn wanted_bps(&self, live: &[Layer], screen_height: Option<u16>) -> Option<u32> {
        let above = |layer: &&Layer| match self.current {
            Some(Target::Layer(id)) => layer.id > id,
            _ => true,
        };
        let next = useful(live, self.wish, screen_height).iter().find(above).filter(|_| self.wish != Wish::AudioOnly);
        next.map(|layer| with_spare(layer.bitrate_bps, self.patience.spare_percent))
    }

    fn may_rise(&mut self, is_carried: bool, is_new_wish: bool, now: Instant) -> bool {
        if !is_carried {
            self.carried_since = None;
            return false;
        }
        let since = *self.carried_since.get_or_insert(now);
        is_new_wish || now - since >= self.patience.up * self.up_longer
    }

    fn take(&mut self, target: Target, is_new_wish: bool, now: Instant) -> Target {
        let rank = |target| match target {
            Target::AudioOnly => -1,
            Target::Layer(id) => i16::from(id),
        };
        let before = self.current.replace(target).unwrap_or(target);
        if rank(target) > rank(before) {
            (self.carried_since, self.up_at) = (None, Some(now));
        } else if rank(target) < rank(before) {
            self.carried_since = None;
            let did_not_hold = self.up_at.take().is_some_and(|up_at| now - up_at < HELD) && !is_new_wish;
            self.up_longer = if did_not_hold { (self.up_longer * 2).min(UP_LONGER_MAX) } else { 1 };
        }
        target
    }
}

/// The layers up to the wished one, and up to the first that fills the screen.
fn useful(live: &[Layer], wish: Wish, screen_height: Option<u16>) -> &[Layer] {
    let wished = match wish {
        Wish::Layer(id) => live.iter().take_while(|layer| layer.id <= id).count().max(1),
        Wish::Auto | Wish::AudioOnly => live.len(),
    };
    let fills = |layer: &Layer| screen_height.is_some_and(|screen| layer.height.is_some_and(|own| own >= screen));
    let seen = live.iter().position(fills).map_or(live.len(), |first| first + 1);
    &live[..wished.min(seen).min(live.len())]
}

fn best(useful: &[Layer], estimate_bps: u32, spare_percent: u32) -> Option<Layer> {
    useful.iter().rev().find(|layer| with_spare(layer.bitrate_bps, spare_percent) <= estimate_bps).copied()
}

fn with_spare(bitrate_bps: u32, spare_percent: u32) -> u32 {
    let wanted = u64::from(bitrate_bps) * (100 + u64::from(spare_percent)) / 100;
    wanted.min(u32::MAX.into()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIVE: [Layer; 3] = [
        Layer { id: 0, bitrate_bps: 150_000, height: Some(180) },
        Layer { id: 1, bitrate_bps: 500_000, height: Some(360) },
        Layer { id: 2, bitrate_bps: 1_500_000, height: Some(720) },
    ];

    struct Viewer {
        layers: Layers,
        start: Instant,
    }

    impl Viewer {
        fn new() -> Self {
            Self { layers: Layers::new(Patience::default()), start: Instant::now() }
        }

        fn at(&mut self, ms: u64, estimate_bps: u32) -> Target {
            self.wishes(ms, estimate_bps, Wish::Auto)
        }

        fn wishes(&mut self, ms: u64, estimate_bps: u32, wish: Wish) -> Target {
            self.layers.choose(&LIVE, estimate_bps, wish, None, self.start + Duration::from_millis(ms))
        }
    }

    #[test]
    fn down_is_at_once_and_up_only_after_some_time_with_something_to_spare() {
        let mut viewer = Viewer::new();
        assert_eq!(viewer.at(0, 1_600_000), Target::Layer(2));
        assert_eq!(viewer.at(100, 600_000), Target::Layer(1));
        assert_eq!(viewer.at(200, 1_600_000), Target::Layer(1));
        assert_eq!(viewer.at(2_100, 1_510_000), Target::Layer(1), "carried, but nothing to spare");
        assert_eq!(viewer.at(2_200, 1_600_000), Target::Layer(1), "the time begins anew");
        assert_eq!(viewer.at(4_200, 1_600_000), Target::Layer(2));
    }

    #[test]
    fn a_step_up_that_did_not_hold_is_tried_again_later() {
        let mut viewer = Viewer::new();
        viewer.at(0, 500_000);
        let mut ups = Vec::new();
        for ms in (0..60_000).step_by(100) {
            // The link carries the layer only as long as nobody sends it.
            let holds = viewer.layers.current != Some(Target::Layer(2));
            let before = viewer.layers.current;
            if viewer.at(ms, if holds { 1_600_000 } else { 600_000 }) == Target::Layer(2) && before.is_some() {
                ups.push(ms);
            }
        }
        let waits: Vec<u64> = ups.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000).collect();
        assert_eq!(waits[..3], [4, 8, 8], "{ups:?}");
    }

    #[test]
    fn sound_alone_when_the_lowest_layer_is_not_carried_for_three_seconds_and_back_when_it_is() {
        let mut viewer = Viewer::new();
        assert_eq!(viewer.at(0, 100_000), Target::Layer(0));
        assert_eq!(viewer.at(2_900, 100_000), Target::Layer(0));
        assert_eq!(viewer.at(3_000, 100_000), Target::AudioOnly);
        assert_eq!(viewer.at(3_100, 151_000), Target::AudioOnly, "nothing to spare");
        assert_eq!(viewer.layers.wanted_bps(&LIVE, None), Some(157_500));
        assert_eq!(viewer.at(3_200, 160_000), Target::Layer(0));
    }

    #[test]
    fn a_layer_that_is_gone_is_left_at_once() {
        let mut viewer = Viewer::new();
        viewer.at(0, 2_000_000);
        let now = viewer.start + Duration::from_millis(50);
        assert_eq!(viewer.layers.choose(&LIVE[..2], 2_000_000, Wish::Auto, None, now), Target::Layer(1));
        let rest = [LIVE[2]];
        assert_eq!(viewer.layers.choose(&rest, 400_000, Wish::Auto, None, now), Target::Layer(2), "better than none");
        assert_eq!(viewer.layers.choose(&[], 400_000, Wish::Auto, None, now), Target::AudioOnly);
        assert_eq!(viewer.layers.choose(&LIVE, 600_000, Wish::Auto, None, now), Target::Layer(1), "without a wait");
    }

    #[test]
    fn a_wish_is_followed_at_once_as_far_as_the_link_carries_it() {
        let mut viewer = Viewer::new();
        assert_eq!(viewer.wishes(0, 2_000_000, Wish::Layer(0)), Target::Layer(0));
        assert_eq!(viewer.layers.wanted_bps(&LIVE, None), None);
        assert_eq!(viewer.wishes(10, 2_000_000, Wish::Layer(2)), Target::Layer(2));
        assert_eq!(viewer.wishes(20, 600_000, Wish::Layer(2)), Target::Layer(1));
        assert_eq!(viewer.wishes(30, 2_000_000, Wish::AudioOnly), Target::AudioOnly);
        assert_eq!(viewer.wishes(40, 2_000_000, Wish::Auto), Target::Layer(2));
    }

    #[test]
    fn nobody_gets_more_than_her_screen_shows() {
        let mut layers = Layers::new(Patience::default());
        let now = Instant::now();
        assert_eq!(layers.choose(&LIVE, 9_000_000, Wish::Auto, Some(200), now), Target::Layer(1));
        assert_eq!(layers.wanted_bps(&LIVE, Some(200)), None);
        assert_eq!(layers.wanted_bps(&LIVE, Some(500)), Some(1_575_000));
    }

    proptest! {
        /// Whatever is asked for: what comes is live, within the wish, and carried unless it is the lowest.
        #[test]
        fn a_choice_is_always_one_that_can_be_given(
            steps in proptest::collection::vec((0..3_000_000u32, 0..8u8, 0..5u8, 0..2_000u64), 1..80),
        ) {
            let (mut layers, mut now) = (Layers::new(Patience::default()), Instant::now());
            for (estimate, mask, wish, ms) in steps {
                now += Duration::from_millis(ms);
                let live: Vec<Layer> = LIVE.into_iter().filter(|layer| mask & 1 << layer.id != 0).collect();
                let wish = match wish { 0..3 => Wish::Layer(wish), 3 => Wish::Auto, _ => Wish::AudioOnly };
                let Target::Layer(id) = layers.choose(&live, estimate, wish, None, now) else {
                    let lowest = live.first().map_or(u32::MAX, |layer| layer.bitrate_bps);
                    prop_assert!(wish == Wish::AudioOnly || estimate < with_spare(lowest, 5));
                    continue;
                };
                let layer = live.iter().find(|layer| layer.id == id);
                prop_assert!(layer.is_some() && wish != Wish::AudioOnly);
                let is_lowest = live.first().is_some_and(|lowest| lowest.id == id);
                prop_assert!(is_lowest || layer.is_some_and(|layer| layer.bitrate_bps <= estimate));
                prop_assert!(is_lowest || !matches!(wish, Wish::Layer(wished) if id > wished));
            }
        }
    }
}
