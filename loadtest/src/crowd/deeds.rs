use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use maishou::{
    id::{HoldId, SkuId},
    protocol::Event,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{hist::Class, stamp, tally::Notes, witness::event_print};

/// What a crowd did that must be there in the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Deeds {
    pub bought: Vec<Bought>,
    pub unanswered: Vec<Unanswered>,
    /// Acknowledged comments: number and fingerprint of the event.
    pub comments: Vec<(u64, u64)>,
    #[serde(skip)]
    pub(crate) by_hold: HashMap<HoldId, usize>,
}

/// A hold that was acknowledged, and what became of it by all we were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bought {
    pub who: usize,
    pub hold: HoldId,
    pub sku: SkuId,
    pub pieces: u32,
    pub state: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Held,
    Paid,
    Cancelled,
    Expired,
}

/// A command whose answer was lost with its connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    pub who: usize,
    pub what: What,
}

/// What was asked of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Comment,
    Like,
    Hold { sku: SkuId, pieces: u32, key: String },
    Pay { hold: HoldId },
    Cancel { hold: HoldId },
}

impl What {
    pub fn class(&self) -> Class {
        match self {
            Self::Comment => Class::Comment,
            Self::Like => Class::Like,
            Self::Hold { .. } => Class::Hold,
            Self::Pay { .. } => Class::Pay,
            Self::Cancel { .. } => Class::Cancel,
        }
    }

    /// The command with this id; `text` is what a comment says.
    pub fn command(&self, id: u64, text: &str) -> String {
        let command = match self {
            Self::Comment => json!({"id": id, "comment": {"text": text}}),
            Self::Like => json!({"id": id, "like": {"count": 1}}),
            Self::Hold { sku, pieces, key } => json!({"id": id, "hold": {"sku": sku, "quantity": pieces, "key": key}}),
            Self::Pay { hold } => json!({"id": id, "confirm": {"hold": hold}}),
            Self::Cancel { hold } => json!({"id": id, "cancel": {"hold": hold}}),
        };
        command.to_string()
    }
}

/// A command that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    pub id: u64,
    /// When it was to be sent.
    pub since: Instant,
    pub what: What,
    /// Not on a network that is slow by our doing.
    pub is_timed: bool,
}

impl Pending {
    fn note(&self, outcome: &str, notes: &mut Notes) {
        match self.is_timed {
            true => notes.answered(self.what.class(), outcome, self.since.elapsed()),
            false => notes.tally.outcome(self.what.class(), outcome),
        }
    }
}

#[derive(Deserialize)]
pub struct Answer {
    pub re: u64,
    ok: Option<Ok>,
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
}

#[derive(Default, Deserialize)]
struct Ok {
    hold: Option<Held>,
    order: Option<Ordered>,
    event: Option<Event>,
}

#[derive(Deserialize)]
struct Held {
    id: HoldId,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Ordered {
    id: HoldId,
    lines: Vec<Line>,
}

#[derive(PartialEq, Eq, Deserialize)]
struct Line {
    sku: SkuId,
    quantity: u32,
}

/// What an answer leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// She has a hold now: she will pay, cancel or forget it.
    Decide(HoldId),
    /// A limit of the server: the same again, a little later.
    Again(Duration),
}

impl Deeds {
    /// Notes an answer to a command. `Err` says why it is none.
    pub fn answered(&mut self, who: usize, asked: &Pending, answer: Answer, notes: &mut Notes) -> Result<Next, String> {
        let ok = match (answer.ok, answer.error) {
            (Some(ok), None) => ok,
            (None, Some(refused)) => {
                asked.note(&refused.code, notes);
                let is_money = matches!(asked.what, What::Pay { .. } | What::Cancel { .. });
                let is_passing = is_money && matches!(&*refused.code, "rate_limited" | "busy");
                return Ok(if is_passing { Next::Again(Duration::from_millis(500)) } else { Next::Nothing });
            }
            _ => return Err("an answer is either ok or an error".to_owned()),
        };
        asked.note("ok", notes);
        match &asked.what {
            What::Like => Ok(Next::Nothing),
            What::Comment => {
                let event = ok.event.ok_or("a comment is answered with its event")?;
                self.comments.push((event.seq, event_print(&event)));
                Ok(Next::Nothing)
            }
            What::Hold { sku, pieces, .. } => {
                let held = ok.hold.ok_or("a hold is answered with itself")?;
                if held.lines != [Line { sku: sku.clone(), quantity: *pieces }] {
                    return Err("the hold is not what was asked for".to_owned());
                }
                let (sku, pieces) = (sku.clone(), *pieces);
                if self.by_hold.insert(held.id, self.bought.len()).is_some() {
                    return Err("the hold is somebody else's".to_owned());
                }
                self.bought.push(Bought { who, hold: held.id, sku, pieces, state: Fate::Held });
                Ok(Next::Decide(held.id))
            }
            What::Pay { hold } => {
                let order = ok.order.ok_or("a payment is answered with its order")?;
                let mine = self.by_hold.get(hold).map(|at| &self.bought[*at]);
                let is_mine = mine.is_some_and(|mine| {
                    order.lines == [Line { sku: mine.sku.clone(), quantity: mine.pieces }] && order.id == mine.hold
                });
                self.came_to(*hold, Fate::Paid);
                if is_mine { Ok(Next::Nothing) } else { Err("the order is not of the hold that was paid".to_owned()) }
            }
            What::Cancel { hold } => {
                self.came_to(*hold, Fate::Cancelled);
                Ok(Next::Nothing)
            }
        }
    }

    /// What became of a hold.
    pub fn came_to(&mut self, hold: HoldId, fate: Fate) {
        if let Some(at) = self.by_hold.get(&hold) {
            self.bought[*at].state = fate;
        }
    }

    /// Joins what another crowd did.
    pub fn add(&mut self, other: Self) {
        self.bought.extend(other.bought);
        self.unanswered.extend(other.unanswered);
        self.comments.extend(other.comments);
    }
}

/// The comment of an audience, with the time at which it was to be said.
pub fn comment(number: u64, us: i64) -> String {
    const WORDS: [&str; 6] = [
        "好看！",
        "How much is the blue one?",
        "主播试一下这个颜色",
        "Just ordered two",
        "有没有大一号的？",
        "哈哈哈哈",
    ];
    stamp::write(WORDS[(number % 6) as usize], us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(what: What) -> Pending {
        Pending { id: 2, since: Instant::now(), what, is_timed: true }
    }

    fn answer(text: &str) -> Answer {
        serde_json::from_str(text).unwrap()
    }

    const HOLD: &str = "0199d0a0-0000-7000-8000-000000000001";

    fn hold() -> What {
        What::Hold { sku: "red".parse().unwrap(), pieces: 1, key: "k".to_owned() }
    }

    fn held(quantity: u32) -> Answer {
        answer(&format!(
            r#"{{"re":2,"ok":{{"hold":{{"id":"{HOLD}","lines":[{{"sku":"red","quantity":{quantity}}}]}}}}}}"#
        ))
    }

    #[test]
    fn a_purchase_is_followed_from_the_press_to_the_payment() {
        let (mut deeds, mut notes) = (Deeds::default(), Notes::default());
        let id: HoldId = HOLD.parse().unwrap();
        assert_eq!(deeds.answered(7, &ask(hold()), held(1), &mut notes), Ok(Next::Decide(id)));
        assert_eq!(deeds.bought[0].state, Fate::Held);
        let paid = format!(r#"{{"re":3,"ok":{{"order":{{"id":"{HOLD}","lines":[{{"sku":"red","quantity":1}}]}}}}}}"#);
        let pay = ask(What::Pay { hold: id });
        assert_eq!(deeds.answered(7, &pay, answer(&paid), &mut notes), Ok(Next::Nothing));
        assert_eq!(deeds.bought[0].state, Fate::Paid);
        let refused = r#"{"re":2,"error":{"code":"sold_out","message":"m"}}"#;
        assert_eq!(deeds.answered(8, &ask(hold()), answer(refused), &mut notes), Ok(Next::Nothing));
        assert_eq!((notes.tally.count(Class::Hold, "ok"), notes.tally.count(Class::Hold, "sold_out")), (1, 1));
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let (mut deeds, mut notes) = (Deeds::default(), Notes::default());
        assert!(deeds.answered(7, &ask(hold()), held(2), &mut notes).is_err(), "two in place of one");
        assert!(deeds.answered(7, &ask(hold()), answer(r#"{"re":2,"ok":{}}"#), &mut notes).is_err());
        assert!(deeds.answered(7, &ask(hold()), answer(r#"{"re":2}"#), &mut notes).is_err());
        assert!(deeds.answered(7, &ask(hold()), held(1), &mut notes).is_ok());
        assert!(deeds.answered(8, &ask(hold()), held(1), &mut notes).is_err(), "one hold for two");
    }
}
