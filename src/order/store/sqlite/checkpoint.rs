//! The checkpoint's tables: written whole, read whole.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::{
    names::Shared,
    rows::{damaged, number, parsed, tx_number},
    take::each,
};
use crate::{
    id::Sub,
    order::store::{Checkpoint, Damage, PersonThen, PiecesThen},
};

/// Reads it; each person is told to `meet` before the next is read.
pub fn load(
    db: &Connection,
    meet: &mut dyn FnMut(u64, &Sub) -> rusqlite::Result<()>,
) -> rusqlite::Result<Option<Checkpoint>> {
    let read = |row: &Row<'_>| Ok((tx_number(row, 0)?, number(row, 1)?));
    let Some((tx, people)) = db.query_row("SELECT tx, people FROM checkpoint", [], read).optional()? else {
        return Ok(None);
    };
    let mut found = Checkpoint { tx, ..Checkpoint::default() };
    each(db, "checkpoint_person", "SELECT person, n, message_tx, order_tx, sub FROM checkpoint_person", |row| {
        let (no, message_n, sub) = (number(row, 0)?, number(row, 1)?, parsed(row, 4)?);
        meet(no, &sub)?;
        found.people.push(PersonThen { no, sub, message_n, message_tx: number(row, 2)?, order_tx: number(row, 3)? });
        Ok(())
    })?;
    if found.people.len() as u64 != people {
        let what = format!("it is of {people} persons, {} are there", found.people.len());
        return Err(damaged(1, Damage(what)));
    }
    let (mut products, mut merchants, mut shows) = (Shared::default(), Shared::default(), Shared::default());
    each(db, "checkpoint_pieces", "SELECT person, product, merchant, show, pieces FROM checkpoint_pieces", |row| {
        found.pieces.push(PiecesThen {
            person: number(row, 0)?,
            product: products.parsed(row.get_ref(1)?.as_str()?)?,
            merchant: merchants.parsed(row.get_ref(2)?.as_str()?)?,
            show: row.get_ref(3)?.as_str_or_null()?.map(|show| shows.text(show)),
            pieces: row.get(4)?,
        });
        Ok(())
    })?;
    each(db, "checkpoint_sale", "SELECT merchant, order_tx FROM checkpoint_sale", |row| {
        found.sales.push((parsed(row, 0)?, number(row, 1)?));
        Ok(())
    })?;
    each(db, "checkpoint_open", "SELECT hold FROM checkpoint_open", |row| {
        found.open.push(number(row, 0)?);
        Ok(())
    })?;
    Ok(Some(found))
}

pub fn save(db: &mut Connection, checkpoint: &Checkpoint) -> rusqlite::Result<()> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute_batch(
        "DELETE FROM checkpoint; DELETE FROM checkpoint_person; DELETE FROM checkpoint_pieces; \
         DELETE FROM checkpoint_sale; DELETE FROM checkpoint_open",
    )?;
    change.execute("INSERT INTO checkpoint VALUES(?1, ?2)", [checkpoint.tx as i64, checkpoint.people.len() as i64])?;
    {
        let mut insert = change.prepare("INSERT INTO checkpoint_person VALUES(?1, ?2, ?3, ?4, ?5)")?;
        for person in &checkpoint.people {
            let PersonThen { no, sub, message_n, message_tx, order_tx } = person;
            let sub = sub.as_str();
            insert.execute(params![*no as i64, sub, *message_n as i64, *message_tx as i64, *order_tx as i64])?;
        }
        let mut insert = change.prepare(
            "INSERT INTO checkpoint_pieces(person, product, merchant, show, pieces) VALUES(?1, ?2, ?3, ?4, ?5)",
        )?;
        for then in &checkpoint.pieces {
            let (product, merchant) = (then.product.as_str(), then.merchant.as_str());
            insert.execute(params![then.person as i64, product, merchant, then.show.as_deref(), then.pieces])?;
        }
        let mut insert = change.prepare("INSERT INTO checkpoint_sale(merchant, order_tx) VALUES(?1, ?2)")?;
        for (merchant, tx) in &checkpoint.sales {
            insert.execute(params![merchant.as_str(), *tx as i64])?;
        }
        let mut insert = change.prepare("INSERT INTO checkpoint_open VALUES(?1)")?;
        for hold in &checkpoint.open {
            insert.execute([*hold as i64])?;
        }
    }
    change.commit()
}
