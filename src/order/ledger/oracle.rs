//! The ledger once more, as naively as possible: it keeps every hold that was ever made and adds up what it needs
//! each time it is asked. Only for tests.

use crate::{
    clock::UnixMs,
    id::HoldId,
    order::{
        hold::{State, Step},
        refusal::Refusal,
    },
};

pub const DAY_MS: i64 = 24 * 3_600_000;
/// What the models count: SKU 0 and 1 are one product, SKU 2 is another merchant's.
pub const SKUS: [&str; 3] = ["red", "blue", "green"];
pub const PRODUCT_OF: [usize; 3] = [0, 0, 1];
pub const OPENING: u64 = 6;
pub const LIMIT_PER_USER: u32 = 4;
pub const LIMIT_PER_ORDER: u32 = 3;
pub const OPEN_MAX: u32 = 3;
pub const HOLD_MS: i64 = 300_000;
pub const EXTEND_MS: i64 = 200_000;
/// The number of the person who acts for merchants.
pub const CLERK: usize = 100;

#[derive(Clone, Debug)]
pub struct OracleHold {
    pub id: HoldId,
    pub who: usize,
    pub in_show: bool,
    pub lines: Vec<(usize, u32)>,
    pub state: State,
    pub expires_at: i64,
    pub extended: bool,
    /// It got stock when it was paid.
    pub stocked: bool,
    pub refunded: Vec<u32>,
    pub restocked: Vec<u32>,
}

#[derive(Clone, Debug)]
pub struct OracleKey {
    who: usize,
    key: u8,
    body: String,
    at: i64,
    answer: OracleAnswer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OracleAnswer {
    Hold { hold: usize, state: State, expires_at: i64, replayed: bool },
    Refund { hold: usize, state: State, refunded: Vec<u32>, replayed: bool },
    Count { counts: [u64; 3], replayed: bool },
}

impl OracleAnswer {
    fn again(&self) -> Self {
        let mut again = self.clone();
        match &mut again {
            Self::Hold { replayed, .. } | Self::Refund { replayed, .. } | Self::Count { replayed, .. } => {
                *replayed = true;
            }
        }
        again
    }
}

#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub now: i64,
    pub holds: Vec<OracleHold>,
    pub adjusted: Vec<(usize, i64)>,
    pub keys: Vec<OracleKey>,
    /// Every private message: to whom, about which hold's step.
    pub told: Vec<(usize, usize, Step)>,
}

type Verdict = Result<OracleAnswer, Refusal>;

impl Oracle {
    fn pieces(&self, sku: usize, count: impl Fn(&OracleHold, usize) -> u64) -> u64 {
        let of_hold = |hold: &OracleHold| -> u64 {
            let lines = hold.lines.iter().enumerate().filter(|(_, line)| line.0 == sku);
            lines.map(|(index, _)| count(hold, index)).sum()
        };
        self.holds.iter().map(of_hold).sum()
    }

    /// Available, held, sold.
    pub fn counts(&self, sku: usize) -> [u64; 3] {
        let held = self.pieces(sku, |hold, i| if hold.state == State::Held { hold.lines[i].1.into() } else { 0 });
        let sold =
            self.pieces(sku, |hold, i| if hold.stocked { u64::from(hold.lines[i].1 - hold.restocked[i]) } else { 0 });
        let adjusted: i64 = self.adjusted.iter().filter(|(s, _)| *s == sku).map(|(_, delta)| delta).sum();
        [OPENING.strict_add_signed(adjusted) - held - sold, held, sold]
    }

    fn counted(&self, who: usize, product: usize, in_show: bool) -> u32 {
        let of_hold = |hold: &OracleHold| -> u32 {
            if hold.who != who || hold.in_show != in_show || !(hold.state == State::Held || hold.stocked) {
                return 0;
            }
            let lines = hold.lines.iter().zip(&hold.refunded).filter(|((sku, _), _)| PRODUCT_OF[*sku] == product);
            lines.map(|((_, quantity), refunded)| quantity - refunded).sum()
        };
        self.holds.iter().map(of_hold).sum()
    }

    fn recall(&self, who: usize, key: u8, body: &str) -> Option<Verdict> {
        let known = self.keys.iter().find(|known| (known.who, known.key) == (who, key))?;
        Some(if known.body == body { Ok(known.answer.again()) } else { Err(Refusal::KeyReused) })
    }

    fn remember(&mut self, who: usize, key: u8, body: String, answer: &OracleAnswer) {
        self.keys.push(OracleKey { who, key, body, at: self.now, answer: answer.clone() });
    }

    pub fn forget(&mut self) {
        self.keys.retain(|key| key.at > self.now - DAY_MS);
    }

    /// `lines` have each SKU once; 3 is one that does not exist.
    pub fn hold(&mut self, who: usize, key: u8, lines: &[(usize, u32)], in_show: bool, right_price: bool) -> Verdict {
        let body = format!("hold {lines:?} {right_price}");
        if lines.iter().any(|(sku, _)| *sku >= SKUS.len()) {
            return Err(Refusal::UnknownSku);
        }
        if let Some(known) = self.recall(who, key, &body) {
            return known;
        }
        if lines.iter().any(|(sku, _)| PRODUCT_OF[*sku] != PRODUCT_OF[lines[0].0]) {
            return Err(Refusal::malformed("lines", "one hold is of one merchant"));
        }
        if !right_price {
            let sku = SKUS[lines[0].0].parse().expect("an id");
            return Err(Refusal::PriceChanged { sku, price: super::tests::price() });
        }
        let wanted: u32 = lines.iter().map(|(_, quantity)| quantity).sum();
        if wanted > LIMIT_PER_ORDER {
            return Err(Refusal::LimitReached { limit: LIMIT_PER_ORDER, have: 0 });
        }
        let have = self.counted(who, PRODUCT_OF[lines[0].0], in_show);
        if have + wanted > LIMIT_PER_USER {
            return Err(Refusal::LimitReached { limit: LIMIT_PER_USER, have });
        }
        let open = self.holds.iter().filter(|hold| hold.who == who && hold.state == State::Held).count() as u32;
        if open >= OPEN_MAX {
            return Err(Refusal::LimitReached { limit: OPEN_MAX, have: open });
        }
        for (sku, quantity) in lines {
            let available = self.counts(*sku)[0];
            if available < u64::from(*quantity) {
                return Err(Refusal::SoldOut { sku: SKUS[*sku].parse().expect("an id"), available });
            }
        }
        let expires_at = self.now + HOLD_MS;
        self.holds.push(OracleHold {
            id: HoldId::from_bytes([0; 16]),
            who,
            in_show,
            lines: lines.to_vec(),
            state: State::Held,
            expires_at,
            extended: false,
            stocked: false,
            refunded: vec![0; lines.len()],
            restocked: vec![0; lines.len()],
        });
        let hold = self.holds.len() - 1;
        self.tell(hold, Step::Held);
        let answer = OracleAnswer::Hold { hold, state: State::Held, expires_at, replayed: false };
        self.remember(who, key, body, &answer);
        Ok(answer)
    }

    pub fn tell(&mut self, hold: usize, step: Step) {
        self.told.push((self.holds[hold].who, hold, step));
    }

    fn answer(&self, hold: usize, replayed: bool) -> Verdict {
        let OracleHold { state, expires_at, .. } = self.holds[hold];
        Ok(OracleAnswer::Hold { hold, state, expires_at, replayed })
    }

    pub fn confirm(&mut self, hold: usize, money_taken: bool) -> Verdict {
        let OracleHold { state, expires_at, .. } = self.holds[hold];
        let over = state != State::Held || expires_at <= self.now;
        match state {
            State::Paid | State::RefundDue | State::Refunded => return self.answer(hold, true),
            _ if over && !money_taken => return Err(Refusal::HoldExpired),
            _ => {}
        }
        let lines = self.holds[hold].lines.clone();
        let enough =
            state == State::Held || lines.iter().all(|(sku, quantity)| self.counts(*sku)[0] >= u64::from(*quantity));
        self.holds[hold].stocked = enough;
        self.holds[hold].state = if enough { State::Paid } else { State::RefundDue };
        self.tell(hold, if enough { Step::Paid } else { Step::RefundDue });
        if !enough {
            self.told.push((CLERK, hold, Step::RefundDue));
        }
        self.answer(hold, false)
    }

    pub fn cancel(&mut self, hold: usize) -> Verdict {
        match self.holds[hold].state {
            State::Held => self.holds[hold].state = State::Cancelled,
            State::Cancelled => return self.answer(hold, true),
            State::Expired => return Err(Refusal::HoldExpired),
            _ => return Err(Refusal::AlreadyConfirmed),
        }
        self.tell(hold, Step::Cancelled);
        self.answer(hold, false)
    }

    pub fn extend(&mut self, hold: usize) -> Verdict {
        let now = self.now;
        let it = &mut self.holds[hold];
        match it.state {
            State::Held if it.expires_at > now => {}
            State::Held | State::Cancelled | State::Expired => return Err(Refusal::HoldExpired),
            _ => return Err(Refusal::AlreadyConfirmed),
        }
        let replayed = std::mem::replace(&mut it.extended, true);
        if !replayed {
            it.expires_at += EXTEND_MS;
            self.tell(hold, Step::Extended);
        }
        self.answer(hold, replayed)
    }

    /// Whether a hold is due, and the earliest time of those that are.
    pub fn earliest_due(&self) -> Option<UnixMs> {
        let open = self.holds.iter().filter(|hold| hold.state == State::Held && hold.expires_at <= self.now);
        open.map(|hold| UnixMs(hold.expires_at)).min()
    }

    pub fn refund(&mut self, by: usize, hold: usize, key: u8, pieces: Option<u32>, restock: bool) -> Verdict {
        let it = &self.holds[hold];
        if !matches!(it.state, State::Paid | State::RefundDue | State::Refunded) {
            return Err(Refusal::UnknownOrder);
        }
        let body = format!("refund {hold} {pieces:?} {restock}");
        if let Some(known) = self.recall(by, key, &body) {
            return known;
        }
        let left: Vec<u32> = it.lines.iter().zip(&it.refunded).map(|((_, quantity), gone)| quantity - gone).collect();
        let mut asked = left.clone();
        if let Some(pieces) = pieces {
            asked.fill(0);
            asked[0] = pieces;
            if pieces == 0 {
                return Err(Refusal::malformed("lines", "nothing to refund"));
            }
            if it.state == State::RefundDue && asked != left {
                return Err(Refusal::malformed("lines", "an order without stock is refunded whole"));
            }
        }
        if asked.iter().all(|asked| *asked == 0) || asked.iter().zip(&left).any(|(asked, left)| asked > left) {
            return Err(Refusal::RefundTooLarge);
        }
        let it = &mut self.holds[hold];
        for (index, asked) in asked.iter().enumerate() {
            it.refunded[index] += asked;
            it.restocked[index] += if restock { *asked } else { 0 };
        }
        if it.lines.iter().zip(&it.refunded).all(|((_, quantity), gone)| quantity == gone) {
            it.state = State::Refunded;
        }
        let (state, refunded) = (it.state, it.refunded.clone());
        self.tell(hold, Step::Refunded);
        let answer = OracleAnswer::Refund { hold, state, refunded, replayed: false };
        self.remember(by, key, body, &answer);
        Ok(answer)
    }

    pub fn adjust(&mut self, by: usize, sku: usize, key: u8, delta: i64) -> Verdict {
        let body = format!("adjust {sku} {delta}");
        if let Some(known) = self.recall(by, key, &body) {
            return known;
        }
        let [available, held, sold] = self.counts(sku);
        if available.checked_add_signed(delta).is_none() {
            return Err(Refusal::StockBelowHeld { held, sold });
        }
        self.adjusted.push((sku, delta));
        let answer = OracleAnswer::Count { counts: self.counts(sku), replayed: false };
        self.remember(by, key, body, &answer);
        Ok(answer)
    }
}
