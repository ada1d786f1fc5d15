//! Values between rows and memory.

use std::sync::Arc;

use rusqlite::{Row, types::Type};
use smallvec::SmallVec;

use super::{
    names::Names,
    record::{Facts, MadeFacts, Record},
};
use crate::{
    clock::UnixMs,
    id::{HoldId, Money, SEQ_MAX},
    order::{
        hold::{Held, Placed, Standing, State},
        store::{HoldRow, TX_MAX},
    },
    protocol::HoldLine,
};

/// Pieces of each line.
pub fn pieces_text(pieces: &[u32]) -> String {
    serde_json::to_string(pieces).expect("numbers are JSON")
}

/// A column that does not hold what it must: the file is damaged.
pub fn damaged(column: usize, what: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, Box::new(what))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

/// A text column as one of our types.
pub fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?.as_str()?.parse().map_err(|error| damaged(column, error))
}

pub fn shared_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.map(Arc::from))
}

pub fn bytes<const N: usize>(row: &Row<'_>, column: usize) -> rusqlite::Result<[u8; N]> {
    let blob = row.get_ref(column)?.as_blob()?;
    blob.try_into().map_err(|error| damaged(column, error))
}

/// A number that can be counted on from.
pub fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    below(SEQ_MAX, row, column)
}

/// The number of a transaction after which there is room for as many more.
pub fn tx_number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    below(TX_MAX / 2, row, column)
}

/// Where an entry is.
pub fn entry_row(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    below(1 << 63, row, column)
}

fn below(bound: u64, row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    let number = u64::try_from(number).map_err(|error| damaged(column, error))?;
    if number < bound { Ok(number) } else { Err(damaged(column, Unreadable("a number that is too large"))) }
}

pub fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixMs> {
    number(row, column).map(|ms| UnixMs(ms as i64))
}

pub fn pieces(row: &Row<'_>, column: usize) -> rusqlite::Result<Box<[u32]>> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| damaged(column, error))
}

/// Transactions as [`record`] reads them.
pub fn records(condition: &str) -> String {
    format!("SELECT no, facts FROM tx WHERE {condition} ORDER BY no")
}

/// Transactions as [`record`] reads them, with how their holds stand as [`recorded_standing`] does.
pub fn records_with_standing(condition: &str) -> String {
    format!(
        "SELECT no, facts, state, expires_at, order_tx, order_at, payment, refunded \
         FROM tx LEFT JOIN standing ON standing.hold = tx.no WHERE {condition} ORDER BY no"
    )
}

/// A transaction and its number.
pub fn record<'r>(row: &'r Row<'_>) -> rusqlite::Result<(u64, Record<'r>)> {
    let no = tx_number(row, 0)?;
    let record = Record::unpack(no, row.get_ref(1)?.as_blob()?).map_err(|error| damaged(1, error))?;
    Ok((no, record))
}

/// The hold that a row of [`records_with_standing`] made, and the transaction of the message to its buyer before.
pub fn made_hold(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<(HoldRow, u64)> {
    let (no, record) = record(row)?;
    let Facts::Made(made) = &record.what else {
        return Err(damaged(0, Unreadable("it made no hold")));
    };
    let held = held(no, record.at, made, names)?;
    let standing = standing(row, &held)?;
    let found = HoldRow { held: Arc::new(held), standing, n: made.n, key: made.key };
    Ok((found, made.message_before))
}

pub fn held(tx: u64, made_at: UnixMs, made: &MadeFacts<'_>, names: &mut Names) -> rusqlite::Result<Held> {
    let currency = names.currencies.parsed(made.currency)?;
    let line = |line: &super::record::LineFacts| {
        let sku = names.sku(line.sku_no)?;
        let price = Money { amount: line.price, currency };
        Ok(HoldLine { sku: sku.sku.clone(), product: sku.product.clone(), quantity: line.quantity, price })
    };
    let lines: SmallVec<[HoldLine; 1]> = made.lines.iter().map(line).collect::<rusqlite::Result<_>>()?;
    let twice = |at: usize| made.lines[..at].iter().any(|before| before.sku_no == made.lines[at].sku_no);
    if (0..made.lines.len()).any(twice) || lines.iter().any(|line| line.quantity == 0) {
        return Err(damaged(0, Unreadable("lines that no hold has")));
    }
    let first = made.lines.first().ok_or_else(|| damaged(0, Unreadable("a hold without lines")))?;
    let merchant = names.sku(first.sku_no)?.merchant.clone();
    for line in &made.lines {
        if names.sku(line.sku_no)?.merchant != merchant {
            return Err(damaged(0, Unreadable("lines of several merchants")));
        }
    }
    Ok(Held {
        tx,
        id: HoldId::from_bytes(made.id),
        person: made.person,
        sub: names.sub(made.person, made.sub)?,
        merchant,
        room: made.room.map(|room| names.rooms.parsed(room)).transpose()?,
        show: made.show.map(|show| names.texts.text(show)),
        shown_as: made.shown_as.map(|shown_as| names.texts.text(shown_as)),
        lines: names.lines(lines),
        total: Money { amount: made.total, currency },
        made_at,
        held_until: made.held_until,
        nonce: made.nonce,
    })
}

const STATE: usize = 2;

/// The state of the hold of a row; as it was made when nothing happened to it since.
pub fn state(row: &Row<'_>) -> rusqlite::Result<State> {
    match row.get_ref(STATE)?.as_str_or_null()? {
        None => Ok(State::Held),
        Some(state) => State::parse(state).ok_or_else(|| damaged(STATE, Unreadable("no such state of a hold"))),
    }
}

/// How a hold stands, as far as that is possible.
pub fn standing(row: &Row<'_>, held: &Held) -> rusqlite::Result<Standing> {
    let standing = recorded_standing(row, held)?;
    let placed = standing.placed.as_ref();
    if matches!(standing.state, State::Paid | State::RefundDue | State::Refunded) != placed.is_some() {
        return Err(damaged(STATE, Unreadable("a state that does not go with its order")));
    }
    Ok(standing)
}

/// How a hold is said to stand, also in a state that does not go with its order.
pub fn recorded_standing(row: &Row<'_>, held: &Held) -> rusqlite::Result<Standing> {
    if row.get_ref(STATE)? == rusqlite::types::ValueRef::Null {
        return Ok(Standing::new(held));
    }
    let order_tx: Option<i64> = row.get(STATE + 2)?;
    let placed = match order_tx {
        None => None,
        Some(_) => {
            let refunded = pieces(row, STATE + 5)?;
            let fits = held.lines.iter().zip(&refunded).all(|(line, pieces)| *pieces <= line.quantity);
            if refunded.len() != held.lines.len() || !fits {
                return Err(damaged(STATE + 5, Unreadable("the refunded pieces are not those of its lines")));
            }
            let (tx, at, payment) = (number(row, STATE + 2)?, time(row, STATE + 3)?, shared_text(row, STATE + 4)?);
            Some(Arc::new(Placed { tx, at, payment, refunded }))
        }
    };
    Ok(Standing { state: state(row)?, expires_at: time(row, STATE + 1)?, placed })
}
