//! Writing one batch in one transaction.

use rusqlite::{Connection, TransactionBehavior, params};

use super::rows::{lines_text, pieces_text};
use crate::{
    id::Sub,
    order::{
        hold::Step,
        store::{Batch, Head, MARK_EVERY, Seal},
        tx::{Entry, HoldStep, Notice, OpenedSku, Tx, What},
    },
};

pub fn commit(db: &mut Connection, batch: &Batch<'_>) -> rusqlite::Result<()> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut seals = batch.seals.iter();
    for tx in batch.txs {
        match &tx.what {
            What::Opened(skus) => skus.iter().try_for_each(|sku| insert_sku(&change, sku))?,
            What::Adjusted { .. } => insert_adjustment(&change, tx)?,
            What::Hold(step) if step.step == Step::Held => insert_hold(&change, tx, step)?,
            What::Hold(step) => insert_step(&change, tx, step)?,
        }
        for (entry, seal) in tx.entries.iter().zip(&mut seals) {
            insert_entry(&change, tx, entry, seal)?;
        }
    }
    batch.heads.iter().try_for_each(|head| update_sku(&change, head))?;
    change.commit()
}

fn insert_sku(db: &Connection, new: &OpenedSku) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO sku VALUES(?1, ?2, ?3, ?4, 0, 0, 0, 0, 0, 0, 0, zeroblob(32))")?;
    insert.execute(params![new.no, new.sku.as_str(), new.product.as_str(), new.merchant.as_str()]).map(drop)
}

fn update_sku(db: &Connection, head: &Head) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "UPDATE sku SET stock = ?2, available = ?3, held = ?4, sold = ?5, entry = ?6, head_row = ?7, head_at = ?8, \
         head_hash = ?9 WHERE no = ?1",
    )?;
    let count = head.count;
    let updated = update.execute(params![
        head.sku_no,
        head.stock as i64,
        count.available as i64,
        count.held as i64,
        count.sold as i64,
        count.entry as i64,
        head.row as i64,
        head.at.0,
        head.hash.0,
    ])?;
    only_one(updated)
}

/// A row that must be there is: else the file is not what was loaded.
fn only_one(updated: usize) -> rusqlite::Result<()> {
    if updated == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(updated)) }
}

fn insert_adjustment(db: &Connection, tx: &Tx) -> rusqlite::Result<()> {
    let (What::Adjusted { count, .. }, Some(key)) = (&tx.what, tx.key) else { return Ok(()) };
    let mut insert = db.prepare_cached("INSERT INTO adjustment VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    let inserted = insert.execute(params![
        tx.no as i64,
        tx.at.0,
        key.id.0,
        key.body,
        count.available as i64,
        count.held as i64,
        count.sold as i64,
        count.entry as i64,
    ])?;
    only_one(inserted)
}

fn insert_hold(db: &Connection, tx: &Tx, step: &HoldStep) -> rusqlite::Result<()> {
    let held = &step.held;
    if step.new_person {
        insert_person(db, held.person, &held.sub)?;
    }
    let mut insert = db.prepare_cached(
        "INSERT INTO hold VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, \
         ?19, NULL, NULL, NULL, NULL)",
    )?;
    let inserted = insert.execute(params![
        held.tx as i64,
        held.id.as_bytes(),
        held.person as i64,
        held.merchant.as_str(),
        held.room.as_ref().map(|room| room.as_str()),
        held.show.as_deref(),
        held.shown_as.as_deref(),
        lines_text(&held.lines),
        held.total.amount,
        held.total.currency.as_str(),
        held.made_at.0,
        held.held_until.0,
        held.nonce,
        tx.key.map(|key| key.id.0),
        tx.key.map(|key| key.body),
        step.n as i64,
        step.message_before as i64,
        step.standing.state.as_str(),
        step.standing.expires_at.0,
    ])?;
    only_one(inserted)
}

fn insert_person(db: &Connection, no: u64, sub: &Sub) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO person VALUES(?1, ?2)")?;
    insert.execute(params![no as i64, sub.as_str()]).map(drop)
}

fn insert_notice(db: &Connection, tx: u64, notice: &Notice) -> rusqlite::Result<()> {
    if notice.new_person {
        insert_person(db, notice.person, &notice.sub)?;
    }
    let mut insert = db.prepare_cached("INSERT INTO notice VALUES(?1, ?2, ?3, ?4)")?;
    insert.execute([tx, notice.person, notice.n, notice.message_before].map(|value| value as i64)).map(drop)
}

fn insert_step(db: &Connection, tx: &Tx, step: &HoldStep) -> rusqlite::Result<()> {
    let refunded = step.standing.placed.as_ref().map(|placed| pieces_text(&placed.refunded));
    let mut insert =
        db.prepare_cached("INSERT INTO step VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")?;
    insert.execute(params![
        tx.no as i64,
        tx.at.0,
        step.held.tx as i64,
        step.step.as_str(),
        step.held.person as i64,
        step.n as i64,
        step.message_before as i64,
        step.order_before.map(|before| before.of_buyer as i64),
        step.order_before.map(|before| before.of_merchant as i64),
        step.order_before.map(|before| before.of_all as i64),
        tx.key.map(|key| key.id.0),
        tx.key.map(|key| key.body),
        pieces_text(&step.counted_before),
        refunded,
    ])?;
    if let Some(notice) = &step.notice {
        insert_notice(db, tx.no, notice)?;
    }
    update_hold(db, step, refunded.as_deref())
}

fn update_hold(db: &Connection, step: &HoldStep, refunded: Option<&str>) -> rusqlite::Result<()> {
    let mut update = db.prepare_cached(
        "UPDATE hold SET state = ?2, expires_at = ?3, order_tx = ?4, order_at = ?5, payment = ?6, refunded = ?7 \
         WHERE tx = ?1",
    )?;
    let placed = step.standing.placed.as_deref();
    let updated = update.execute(params![
        step.held.tx as i64,
        step.standing.state.as_str(),
        step.standing.expires_at.0,
        placed.map(|placed| placed.tx as i64),
        placed.map(|placed| placed.at.0),
        placed.and_then(|placed| placed.payment.as_deref()),
        refunded,
    ])?;
    only_one(updated)
}

fn insert_entry(db: &Connection, tx: &Tx, entry: &Entry, seal: &Seal) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO entry VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?;
    insert.execute(params![
        seal.row as i64,
        entry.sku_no,
        entry.count.entry as i64,
        tx.at.0,
        entry.kind.as_str(),
        entry.quantity,
        tx.no as i64,
        seal.holder.as_ref().map(|holder| holder.0),
        tx.reason(),
        seal.row_before as i64,
        seal.hash.0,
    ])?;
    if entry.count.entry.is_multiple_of(MARK_EVERY) {
        let mut insert = db.prepare_cached("INSERT INTO mark VALUES(?1, ?2)")?;
        insert.execute(params![seal.row as i64, entry.sku_no])?;
    }
    Ok(())
}
