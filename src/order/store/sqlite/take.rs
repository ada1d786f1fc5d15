//! Taking rows one after another, with the place of what cannot be taken.

use std::{panic::resume_unwind, sync::mpsc::sync_channel, thread};

use rusqlite::{Connection, Row};

use super::rows;
use crate::order::store::Damage;

/// Rows that are read ahead, in chunks.
const CHUNK: usize = 1_024;
const CHUNKS_AHEAD: usize = 8;

/// Takes every row of a query. What cannot be taken is named by `table` and the row's first column.
pub fn each(
    db: &Connection,
    table: &str,
    query: &str,
    mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut query = db.prepare(query)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        take(row).map_err(|error| {
            let place = row.get::<_, i64>(0).map_or_else(|_| table.to_owned(), |no| format!("{table} {no}"));
            located(&place, error)
        })?;
    }
    Ok(())
}

/// The error with the place where it was met. A failure of SQLite itself has none.
pub fn located(place: &str, error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(..) => error,
        rusqlite::Error::FromSqlConversionFailure(_, _, what) => rows::damaged(0, Damage(format!("{place}: {what}"))),
        rusqlite::Error::QueryReturnedNoRows => rows::damaged(0, Damage(format!("{place} is missing"))),
        other => rows::damaged(0, Damage(format!("{place}: {other}"))),
    }
}

/// What a ledger did not take is damage to the file.
pub fn taken(taken: Result<(), Damage>) -> rusqlite::Result<()> {
    taken.map_err(|damage| rows::damaged(0, damage))
}

/// A table and the number of a row in it.
pub type Place = (&'static str, u64);

/// Reads on a thread of its own while what was read is taken: at a start with very many transactions each is half of
/// the work. `read` gives everything to what it is handed, with the table and row it is of; that fails once something
/// could not be taken.
pub fn each_ahead<T: Send>(
    read: impl FnOnce(&mut dyn FnMut(Place, T) -> rusqlite::Result<()>) -> rusqlite::Result<()> + Send,
    mut take: impl FnMut(T) -> Result<(), Damage>,
) -> rusqlite::Result<()> {
    let (to, from) = sync_channel::<Vec<(Place, T)>>(CHUNKS_AHEAD);
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            read(&mut |place, told| {
                chunk.push((place, told));
                let full = chunk.len() == CHUNK;
                let gone = full && to.send(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))).is_err();
                if gone { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
            })?;
            // Nobody takes it when something before could not be taken.
            let _nobody = to.send(chunk);
            Ok(())
        });
        let mut told = from.into_iter().flatten();
        let taken = told.try_for_each(|((table, no), told)| {
            taken(take(told)).map_err(|error| located(&format!("{table} {no}"), error))
        });
        drop(told);
        let read = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
        taken.and(read)
    })
}
