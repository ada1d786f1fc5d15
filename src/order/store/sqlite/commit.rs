//! Writing one batch in one transaction.

use rusqlite::{CachedStatement, Connection, TransactionBehavior, params};

use super::rows::{lines_text, pieces_text};
use crate::{
    id::Sub,
    order::{
        hold::Step,
        store::{Batch, Head, MARK_EVERY, Seal},
        tx::{Entry, HoldStep, Notice, OpenedSku, Tx, What},
    },
};

/// What a commit executes, each looked up once.
struct Statements<'db> {
    insert_sku: CachedStatement<'db>,
    update_sku: CachedStatement<'db>,
    insert_adjustment: CachedStatement<'db>,
    insert_person: CachedStatement<'db>,
    insert_hold: CachedStatement<'db>,
    insert_step: CachedStatement<'db>,
    insert_notice: CachedStatement<'db>,
    update_hold: CachedStatement<'db>,
    insert_entry: CachedStatement<'db>,
    insert_mark: CachedStatement<'db>,
}

impl<'db> Statements<'db> {
    fn prepare(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            insert_sku: db
                .prepare_cached("INSERT INTO sku VALUES(?1, ?2, ?3, ?4, 0, 0, 0, 0, 0, 0, 0, zeroblob(32))")?,
            update_sku: db.prepare_cached(
                "UPDATE sku SET stock = ?2, available = ?3, held = ?4, sold = ?5, entry = ?6, head_row = ?7, \
                 head_at = ?8, head_hash = ?9 WHERE no = ?1",
            )?,
            insert_adjustment: db.prepare_cached("INSERT INTO adjustment VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            insert_person: db.prepare_cached("INSERT INTO person VALUES(?1, ?2)")?,
            insert_hold: db.prepare_cached(
                "INSERT INTO hold VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
                 'held', ?12, NULL, NULL, NULL, NULL)",
            )?,
            insert_step: db.prepare_cached(
                "INSERT INTO step VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?,
            insert_notice: db.prepare_cached("INSERT INTO notice VALUES(?1, ?2, ?3, ?4)")?,
            update_hold: db.prepare_cached(
                "UPDATE hold SET state = ?2, expires_at = ?3, order_tx = ?4, order_at = ?5, payment = ?6, \
                 refunded = ?7 WHERE tx = ?1",
            )?,
            insert_entry: db
                .prepare_cached("INSERT INTO entry VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?,
            insert_mark: db.prepare_cached("INSERT INTO mark VALUES(?1, ?2)")?,
        })
    }

    fn write(&mut self, batch: &Batch<'_>) -> rusqlite::Result<()> {
        let mut seals = batch.seals.iter();
        for tx in batch.txs {
            match &tx.what {
                What::Opened(skus) => skus.iter().try_for_each(|sku| self.insert_sku(sku))?,
                What::Adjusted { .. } => self.insert_adjustment(tx)?,
                What::Hold(step) if step.step == Step::Held => self.insert_hold(tx, step)?,
                What::Hold(step) => self.insert_step(tx, step)?,
            }
            for (entry, seal) in tx.entries.iter().zip(&mut seals) {
                self.insert_entry(tx, entry, seal)?;
            }
        }
        batch.heads.iter().try_for_each(|head| self.update_sku(head))
    }

    fn insert_sku(&mut self, new: &OpenedSku) -> rusqlite::Result<()> {
        let names = (new.sku.as_str(), new.product.as_str(), new.merchant.as_str());
        self.insert_sku.execute(params![new.no, names.0, names.1, names.2]).map(drop)
    }

    fn update_sku(&mut self, head: &Head) -> rusqlite::Result<()> {
        let count = head.count;
        let updated = self.update_sku.execute(params![
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

    fn insert_adjustment(&mut self, tx: &Tx) -> rusqlite::Result<()> {
        let (What::Adjusted { count, .. }, Some(key)) = (&tx.what, tx.key) else { return Ok(()) };
        let inserted = self.insert_adjustment.execute(params![
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

    fn insert_hold(&mut self, tx: &Tx, step: &HoldStep) -> rusqlite::Result<()> {
        let held = &step.held;
        if step.new_person {
            self.insert_person(held.person, &held.sub)?;
        }
        let inserted = self.insert_hold.execute(params![
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
        ])?;
        only_one(inserted)
    }

    fn insert_person(&mut self, no: u64, sub: &Sub) -> rusqlite::Result<()> {
        self.insert_person.execute(params![no as i64, sub.as_str()]).map(drop)
    }

    fn insert_notice(&mut self, tx: u64, notice: &Notice) -> rusqlite::Result<()> {
        if notice.new_person {
            self.insert_person(notice.person, &notice.sub)?;
        }
        let values = [tx, notice.person, notice.n, notice.message_before];
        self.insert_notice.execute(values.map(|value| value as i64)).map(drop)
    }

    fn insert_step(&mut self, tx: &Tx, step: &HoldStep) -> rusqlite::Result<()> {
        let refunded = step.standing.placed.as_ref().map(|placed| pieces_text(&placed.refunded));
        self.insert_step.execute(params![
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
            self.insert_notice(tx.no, notice)?;
        }
        self.update_hold(step, refunded.as_deref())
    }

    fn update_hold(&mut self, step: &HoldStep, refunded: Option<&str>) -> rusqlite::Result<()> {
        let placed = step.standing.placed.as_deref();
        let updated = self.update_hold.execute(params![
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

    fn insert_entry(&mut self, tx: &Tx, entry: &Entry, seal: &Seal) -> rusqlite::Result<()> {
        self.insert_entry.execute(params![
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
            self.insert_mark.execute(params![seal.row as i64, entry.sku_no])?;
        }
        Ok(())
    }
}

pub fn commit(db: &mut Connection, batch: &Batch<'_>) -> rusqlite::Result<()> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    Statements::prepare(&change)?.write(batch)?;
    change.commit()
}

/// A row that must be there is: else the file is not what was loaded.
fn only_one(updated: usize) -> rusqlite::Result<()> {
    if updated == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(updated)) }
}
