//! Values between rows and memory.

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use rusqlite::{Row, types::Type};
use serde::Deserialize;
use smallvec::SmallVec;

use super::names::Names;
use crate::{
    clock::UnixMs,
    id::{Currency, HoldId, Money, SEQ_MAX},
    order::{
        hold::{Held, Placed, Standing, State},
        request::{Key, KeyId},
    },
    protocol::HoldLine,
};

/// One line of a hold: SKU, product, quantity, price in the hold's currency.
#[derive(Deserialize)]
struct LineRow<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>, u32, i64);

/// As JSON by hand: ids have no character that JSON would escape.
pub fn lines_text(lines: &[HoldLine]) -> String {
    let mut text = String::with_capacity(64 * lines.len());
    for line in lines {
        let HoldLine { sku, product, quantity, price } = line;
        text.push_str(if text.is_empty() { "[" } else { "," });
        write!(text, "[\"{sku}\",\"{product}\",{quantity},{}]", price.amount).expect("a String takes every write");
    }
    text.push(']');
    text
}

/// Pieces of each line.
pub fn pieces_text(pieces: &[u32]) -> String {
    serde_json::to_string(pieces).expect("numbers are JSON")
}

/// A column that does not hold what it must: the file is damaged.
pub fn damaged(column: usize, what: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Null, Box::new(what))
}

#[derive(Debug, thiserror::Error)]
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
    let number: i64 = row.get(column)?;
    let number = u64::try_from(number).map_err(|error| damaged(column, error))?;
    if number < SEQ_MAX { Ok(number) } else { Err(damaged(column, Unreadable("a number that is too large"))) }
}

pub fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<UnixMs> {
    number(row, column).map(|ms| UnixMs(ms as i64))
}

pub fn pieces(row: &Row<'_>, column: usize) -> rusqlite::Result<Box<[u32]>> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| damaged(column, error))
}

const HOLD_COLUMNS: &str = "hold.merchant, hold.room, hold.show, hold.shown_as, hold.lines, hold.total, hold.currency, \
     hold.made_at, hold.held_until, hold.nonce, hold.state, hold.expires_at, hold.order_tx, hold.order_at, \
     hold.payment, hold.refunded, hold.n, hold.key, hold.key_body, hold.message_before";

/// What [`hold`] and [`standing`] read, with the person's name as it is found, or NULL for a reader who knows her number.
pub fn hold_columns(person: &str) -> String {
    format!("hold.tx, hold.id, hold.person, {person}, {HOLD_COLUMNS}")
}

/// Holds with the names of their persons.
pub fn named_holds(condition: &str) -> String {
    let columns = hold_columns("person.sub");
    format!("SELECT {columns} FROM hold LEFT JOIN person ON person.no = hold.person WHERE {condition} ORDER BY hold.tx")
}

/// Holds for a reader who knows every person by number.
pub fn numbered_holds(condition: &str) -> String {
    format!("SELECT {} FROM hold WHERE {condition} ORDER BY hold.tx", hold_columns("NULL"))
}

const STATE: usize = 14;
const N: usize = 20;

pub fn hold(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<Held> {
    let currency: Currency = parsed(row, 10)?;
    Ok(Held {
        tx: number(row, 0)?,
        id: HoldId::from_bytes(bytes(row, 1)?),
        person: number(row, 2)?,
        sub: names.sub(row, 2, 3)?,
        merchant: names.merchants.of(row, 4)?,
        room: names.rooms.of_if(row, 5)?,
        show: names.shows.text_if(row, 6)?,
        shown_as: shared_text(row, 7)?,
        lines: lines(row, 8, currency, names)?,
        total: Money { amount: row.get(9)?, currency },
        made_at: time(row, 11)?,
        held_until: time(row, 12)?,
        nonce: bytes(row, 13)?,
    })
}

fn lines(row: &Row<'_>, column: usize, currency: Currency, names: &mut Names) -> rusqlite::Result<Arc<[HoldLine]>> {
    let text = row.get_ref(column)?.as_str()?;
    let rows: Vec<LineRow<'_>> = serde_json::from_str(text).map_err(|error| damaged(column, error))?;
    let mut lines = SmallVec::<[HoldLine; 4]>::new();
    for LineRow(sku, product, quantity, amount) in rows {
        let (sku, product) = (names.skus.parsed(&sku, column)?, names.products.parsed(&product, column)?);
        lines.push(HoldLine { sku, product, quantity, price: Money { amount, currency } });
    }
    let twice = lines.iter().enumerate().any(|(at, line)| lines[..at].iter().any(|before| before.sku == line.sku));
    if lines.is_empty() || twice || lines.iter().any(|line| line.quantity == 0) {
        return Err(damaged(column, Unreadable("lines that no hold has")));
    }
    Ok(lines.iter().cloned().collect())
}

pub fn state(row: &Row<'_>) -> rusqlite::Result<State> {
    State::parse(row.get_ref(STATE)?.as_str()?).ok_or_else(|| damaged(STATE, Unreadable("no such state of a hold")))
}

/// How a hold stands, as far as that is possible.
pub fn standing(row: &Row<'_>, held: &Held) -> rusqlite::Result<Standing> {
    let standing = recorded_standing(row)?;
    let placed = standing.placed.as_ref();
    if matches!(standing.state, State::Paid | State::RefundDue | State::Refunded) != placed.is_some() {
        return Err(damaged(STATE, Unreadable("a state that does not go with its order")));
    }
    if placed.is_some_and(|placed| !possible(&placed.refunded, held)) {
        return Err(damaged(STATE + 5, Unreadable("refunded pieces that are not those of its lines")));
    }
    Ok(standing)
}

/// How a hold is said to stand, possible or not.
pub fn recorded_standing(row: &Row<'_>) -> rusqlite::Result<Standing> {
    let order_tx: Option<i64> = row.get(STATE + 2)?;
    let placed = match order_tx {
        None => None,
        Some(_) => Some(Arc::new(Placed {
            tx: number(row, STATE + 2)?,
            at: time(row, STATE + 3)?,
            payment: shared_text(row, STATE + 4)?,
            refunded: pieces(row, STATE + 5)?,
        })),
    };
    Ok(Standing { state: state(row)?, expires_at: time(row, STATE + 1)?, placed })
}

/// No more pieces of each line than it has.
fn possible(pieces: &[u32], held: &Held) -> bool {
    pieces.len() == held.lines.len() && held.lines.iter().zip(pieces).all(|(line, pieces)| *pieces <= line.quantity)
}

/// The number of the message that told of the hold's making.
pub fn first_message(row: &Row<'_>) -> rusqlite::Result<u64> {
    number(row, N)
}

pub fn hold_key(row: &Row<'_>) -> rusqlite::Result<Key> {
    key(row, N + 1)
}

/// The transaction of the message to the same person before the one about the hold's making.
pub fn message_before(row: &Row<'_>) -> rusqlite::Result<u64> {
    number(row, N + 3)
}

/// A key in two columns.
pub fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Key> {
    Ok(Key { id: KeyId(bytes(row, column)?), body: bytes(row, column + 1)? })
}
