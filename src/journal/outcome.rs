//! How an outcome gets into the database: its row, and with it the camera's totals.

use std::collections::HashMap;

use rusqlite::{Transaction, params};

use super::JournalError;
use super::ranges::{by_session, minus};
use crate::model::{CommitNo, DestinationName, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, UnixMicros};

/// The rows of the destinations that frames go to.
pub(super) type Destinations = HashMap<DestinationName, i64>;

/// What of an outcome was news.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Nothing: all of its seqs have an outcome already.
    Nothing,
    /// All of it, in one row.
    Whole,
    /// It was parted where sessions begin, or some of its seqs had an outcome.
    Parts(Vec<Settled>),
}

/// Writes an outcome under the next commit number and adds it to the camera's totals. The first word on a seq counts.
pub(super) fn record(
    transaction: &Transaction<'_>,
    num: i64,
    settled: &Settled,
    destinations: &Destinations,
    next_commit: &mut CommitNo,
) -> Result<Recorded, JournalError> {
    let free = minus([settled.seqs], outcomes_in(transaction, num, settled.seqs)?);
    if free == [settled.seqs] && !wants_session(settled) {
        insert(transaction, num, settled, destinations, next_commit)?;
        return Ok(Recorded::Whole);
    }
    let mut parts = Vec::new();
    for range in free {
        let runs = match wants_session(settled) {
            true => by_session(range, &sessions_in(transaction, num, range)?),
            false => vec![(range, settled.session)],
        };
        for (seqs, session) in runs {
            let part = Settled { seqs, session, ..settled.clone() };
            insert(transaction, num, &part, destinations, next_commit)?;
            parts.push(part);
        }
    }
    Ok(if parts.is_empty() { Recorded::Nothing } else { Recorded::Parts(parts) })
}

/// Whether its session is to be looked up: whoever drops frames that are not in memory does not know it. What the
/// capture process has lost while there was no session is of none.
fn wants_session(settled: &Settled) -> bool {
    let outside = matches!(
        settled.outcome,
        Outcome::Stored(_) | Outcome::Lost { reason: LostReason::Overrun | LostReason::Corrupt, .. }
    );
    settled.session.is_none() && !outside
}

/// The outcomes that there are of these seqs; the first may begin before them.
pub(super) fn outcomes_in(
    transaction: &Transaction<'_>,
    num: i64,
    seqs: SeqRange,
) -> Result<Vec<SeqRange>, JournalError> {
    let mut statement = transaction.prepare_cached(
        "SELECT seq, last FROM frame WHERE camera = ?1 AND seq <= ?3 AND last >= ?2
         AND seq >= coalesce((SELECT max(seq) FROM frame WHERE camera = ?1 AND seq <= ?2), ?2) ORDER BY seq",
    )?;
    let rows = statement.query_map(params![num, seqs.first as i64, seqs.last as i64], |row| {
        Ok(SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The sessions that these seqs may be of, with their first seqs, rising.
pub(super) fn sessions_in(
    transaction: &Transaction<'_>,
    num: i64,
    seqs: SeqRange,
) -> Result<Vec<(SessionNo, Seq)>, JournalError> {
    let mut statement =
        transaction.prepare_cached("SELECT session, first_seq FROM session WHERE camera = ?1 ORDER BY session DESC")?;
    let mut rows = statement.query([num])?;
    let mut sessions = Vec::new();
    // From the newest back: a camera may have had very many, and those wanted are mostly late ones.
    while let Some(row) = rows.next()? {
        let (session, first_seq) = (row.get(0)?, row.get::<_, i64>(1)? as Seq);
        if first_seq <= seqs.last {
            sessions.push((session, first_seq));
        }
        if first_seq <= seqs.first {
            break;
        }
    }
    sessions.reverse();
    Ok(sessions)
}

fn insert(
    transaction: &Transaction<'_>,
    num: i64,
    settled: &Settled,
    destinations: &Destinations,
    next_commit: &mut CommitNo,
) -> Result<(), JournalError> {
    let commit = *next_commit as i64;
    let (first, last) = (settled.seqs.first as i64, settled.seqs.last as i64);
    let count = settled.seqs.len() as i64;
    let (stored, lost) = match &settled.outcome {
        Outcome::Stored(s) => {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO frame
                 (camera, seq, last, session, key, captured_at, stored_at, bytes, crc32c, width, height, commit_no,
                  destination, damaged)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?;
            statement.execute(params![
                num,
                first,
                last,
                settled.session,
                s.key,
                s.captured_at.0,
                s.stored_at.0,
                s.bytes as i64,
                s.crc32c,
                s.width,
                s.height,
                commit,
                destinations.get(&s.destination),
                s.damaged
            ])?;
            (count, 0)
        }
        Outcome::Lost { reason, maybe_stored } => {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO frame (camera, seq, last, session, lost, maybe_stored, stored_at, commit_no)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let now = UnixMicros::now().0;
            statement.execute(params![
                num,
                first,
                last,
                settled.session,
                reason.as_str(),
                maybe_stored,
                now,
                commit
            ])?;
            transaction
                .prepare_cached(
                    "INSERT INTO lost (camera, reason, frames) VALUES (?1, ?2, ?3)
                     ON CONFLICT (camera, reason) DO UPDATE SET frames = frames + excluded.frames",
                )?
                .execute(params![num, reason.as_str(), count])?;
            (0, count)
        }
    };
    *next_commit += 1;
    // With a spool seqs are not reserved: the outcome itself keeps its number from being given again.
    transaction
        .prepare_cached(
            "UPDATE camera SET stored = stored + ?2, lost = lost + ?3, reserved_until = max(reserved_until, ?4)
             WHERE num = ?1",
        )?
        .execute(params![num, stored, lost, last + 1])?;
    Ok(())
}
