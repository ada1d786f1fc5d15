use std::time::{Duration, Instant};

use maishou::id::SkuId;
use serde_json::{Value, json};

use crate::outcomes::Outcomes;

/// Ids of a buyer's commands, after the join's.
const HOLD: u64 = 2;
const CONFIRM: u64 = 3;

/// Viewers of the crowd who press buy, evenly over a short while.
#[derive(Clone, Debug)]
pub struct Rush {
    pub buyers: usize,
    pub within: Duration,
    pub sku: SkuId,
    /// Who got a hold pays at once, as a `sandbox` lets her.
    pub pays: bool,
    /// What makes the keys of this run its own.
    pub run: String,
}

/// What became of a rush. Holds are timed from when the button was to be pressed, whenever we got to it.
#[derive(Clone, Debug, Default)]
pub struct RushTally {
    pub holds: Outcomes,
    pub orders: Outcomes,
}

/// One buyer, from her press to the last answer.
#[derive(Debug)]
pub struct Purchase {
    since: Instant,
    pays: bool,
}

impl Rush {
    /// When the buyer with this number presses, after the beginning.
    pub fn due(&self, number: usize) -> Duration {
        self.within.mul_f64(number as f64 / self.buyers.max(1) as f64)
    }

    /// A buyer's press, which was due at `due`, and the command that it makes.
    pub fn press(&self, number: usize, due: Instant) -> (Purchase, String) {
        let key = format!("rush-{}-{number}", self.run);
        let hold = json!({"id": HOLD, "hold": {"sku": self.sku, "quantity": 1, "key": key}});
        (Purchase { since: due, pays: self.pays }, hold.to_string())
    }
}

impl Purchase {
    /// Notes an answer; what she says next. `None` for the answer: it is not one to her.
    pub fn hear(&mut self, text: &[u8], tally: &mut RushTally) -> Option<Option<String>> {
        let answer: Value = serde_json::from_slice(text).ok()?;
        let code = if answer.get("ok").is_some() { "ok" } else { answer["error"]["code"].as_str()? };
        let took = self.since.elapsed();
        match answer["re"].as_u64()? {
            HOLD => tally.holds.note(code, took),
            CONFIRM => tally.orders.note(code, took),
            _ => return None,
        }
        let hold = answer["ok"]["hold"]["id"].as_str().filter(|_| self.pays);
        Some(hold.map(|hold| {
            self.since = Instant::now();
            json!({"id": CONFIRM, "confirm": {"hold": hold}}).to_string()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buyer_pays_for_what_she_got_and_for_nothing_else() {
        let rush = Rush {
            buyers: 4,
            within: Duration::from_secs(1),
            sku: "red".parse().unwrap(),
            pays: true,
            run: "x".to_owned(),
        };
        assert_eq!([0, 2, 4].map(|n| rush.due(n).as_millis()), [0, 500, 1_000]);
        let mut tally = RushTally::default();
        let (mut won, said) = rush.press(1, Instant::now());
        assert!(said.contains(r#""sku":"red""#) && said.contains("rush-x-1"), "{said}");
        let pays = won.hear(br#"{"re":2,"ok":{"hold":{"id":"h1"}}}"#, &mut tally).unwrap();
        assert!(pays.unwrap().contains(r#""confirm":{"hold":"h1"}"#));
        assert_eq!(won.hear(br#"{"re":3,"ok":{"order":{"id":"h1"}}}"#, &mut tally), Some(None));
        let (mut lost, _) = rush.press(2, Instant::now());
        let answer = lost.hear(br#"{"re":2,"error":{"code":"sold_out"}}"#, &mut tally);
        assert_eq!(answer, Some(None));
        assert_eq!(lost.hear(br#"{"re":9,"ok":{}}"#, &mut tally), None);
        assert_eq!((tally.holds.count("ok"), tally.holds.count("sold_out"), tally.orders.total()), (1, 1, 1));
    }
}
