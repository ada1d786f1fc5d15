//! Writing one batch in one transaction.

use rusqlite::{CachedStatement, Connection, params};
use smallvec::SmallVec;

use super::{
    record::{AdjustedFacts, EntryFacts, Facts, LineFacts, MadeFacts, NoticeFacts, OpenedFacts, Record, StepFacts},
    rows::pieces_text,
};
use crate::order::{
    hold::Step,
    store::{Batch, Head, MARK_EVERY, Seal, row},
    tx::{Entry, HoldStep, OpenedSku, Tx, What},
};

/// What a commit executes, each looked up once.
struct Statements<'db> {
    insert_sku: CachedStatement<'db>,
    update_sku: CachedStatement<'db>,
    insert_tx: CachedStatement<'db>,
    set_standing: CachedStatement<'db>,
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
            insert_tx: db.prepare_cached("INSERT INTO tx VALUES(?1, ?2)")?,
            set_standing: db.prepare_cached("INSERT OR REPLACE INTO standing VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            insert_mark: db.prepare_cached("INSERT INTO mark VALUES(?1, ?2)")?,
        })
    }

    fn write(&mut self, batch: &Batch<'_>, scratch: &mut Vec<u8>) -> rusqlite::Result<()> {
        let mut seals = batch.seals;
        for tx in batch.txs {
            let sealed;
            (sealed, seals) = seals.split_at(tx.entries.len());
            if let What::Opened(skus) = &tx.what {
                skus.iter().try_for_each(|sku| self.insert_sku(sku))?;
            }
            facts(tx, sealed).pack(tx.no, scratch);
            self.insert_tx.execute(params![tx.no as i64, &scratch[..]])?;
            match &tx.what {
                What::Hold(step) if step.step != Step::Held => self.set_standing(step)?,
                _ => {}
            }
            self.mark(tx)?;
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
        // A row that must be there is: else the file is not what was loaded.
        if updated == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(updated)) }
    }

    fn set_standing(&mut self, step: &HoldStep) -> rusqlite::Result<()> {
        let placed = step.standing.placed.as_deref();
        let set = self.set_standing.execute(params![
            step.held.tx as i64,
            step.standing.state.as_str(),
            step.standing.expires_at.0,
            placed.map(|placed| placed.tx as i64),
            placed.map(|placed| placed.at.0),
            placed.and_then(|placed| placed.payment.as_deref()),
            placed.map(|placed| pieces_text(&placed.refunded)),
        ]);
        set.map(drop)
    }

    fn mark(&mut self, tx: &Tx) -> rusqlite::Result<()> {
        for (index, entry) in tx.entries.iter().enumerate() {
            if entry.count.entry.is_multiple_of(MARK_EVERY) {
                self.insert_mark.execute(params![row(tx.no, index) as i64, entry.sku_no])?;
            }
        }
        Ok(())
    }
}

fn facts<'t>(tx: &'t Tx, seals: &[Seal]) -> Record<'t> {
    let entry = |(entry, seal): (&Entry, &Seal)| EntryFacts {
        sku_no: entry.sku_no,
        kind: entry.kind,
        quantity: entry.quantity,
        n: entry.count.entry,
        row_before: seal.row_before,
        hash: seal.hash,
    };
    let what = match &tx.what {
        What::Opened(skus) => Facts::Opened(skus.iter().map(opened).collect()),
        What::Adjusted { count, .. } => {
            let key = tx.key.expect("an adjustment has a key");
            Facts::Adjusted(AdjustedFacts { key, count: *count })
        }
        What::Hold(step) if step.step == Step::Held => Facts::Made(made(tx, step)),
        What::Hold(step) => Facts::Step(stepped(tx, step, seals)),
    };
    Record { at: tx.at, reason: tx.reason(), entries: tx.entries.iter().zip(seals).map(entry).collect(), what }
}

fn opened(new: &OpenedSku) -> OpenedFacts<'_> {
    let OpenedSku { no, sku, product, merchant } = new;
    OpenedFacts { no: *no, sku: sku.as_str(), product: product.as_str(), merchant: merchant.as_str() }
}

fn made<'t>(tx: &'t Tx, step: &'t HoldStep) -> MadeFacts<'t> {
    let held = &step.held;
    let lines = held.lines.iter().zip(&tx.entries);
    MadeFacts {
        id: *held.id.as_bytes(),
        person: held.person,
        sub: held.sub.as_str(),
        room: held.room.as_ref().map(|room| room.as_str()),
        show: held.show.as_deref(),
        shown_as: held.shown_as.as_deref(),
        lines: lines
            .map(|(line, entry)| LineFacts { sku_no: entry.sku_no, quantity: line.quantity, price: line.price.amount })
            .collect(),
        total: held.total.amount,
        currency: held.total.currency.as_str(),
        held_until: held.held_until,
        nonce: held.nonce,
        key: tx.key.expect("a hold has a key"),
        n: step.n,
        message_before: step.message_before,
    }
}

fn stepped<'t>(tx: &Tx, step: &'t HoldStep, seals: &[Seal]) -> StepFacts<'t> {
    let notice = step.notice.as_deref().map(|notice| NoticeFacts {
        person: notice.person,
        sub: notice.sub.as_str(),
        n: notice.n,
        message_before: notice.message_before,
    });
    StepFacts {
        step: step.step,
        hold: step.held.tx,
        holder: seals.first().and_then(|seal| seal.holder),
        person: step.held.person,
        n: step.n,
        message_before: step.message_before,
        counted: step.counted_before.iter().copied().collect(),
        refunded: step.standing.placed.as_ref().map(|placed| SmallVec::from_slice(&placed.refunded)),
        order_before: step.order_before,
        key: tx.key,
        notice,
    }
}

pub fn commit(db: &Connection, batch: &Batch<'_>, scratch: &mut Vec<u8>) -> rusqlite::Result<()> {
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let written = Statements::prepare(db).and_then(|mut statements| statements.write(batch, scratch));
    let done = written.and_then(|()| db.prepare_cached("COMMIT")?.execute([]));
    if let Err(failure) = done {
        // After a failure nothing is asked of the store again; what was begun is not to stay.
        drop(db.execute_batch("ROLLBACK"));
        return Err(failure);
    }
    Ok(())
}
