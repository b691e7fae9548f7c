//! Retention: a list loses its oldest entries once they have been in it for long enough.
//!
//! What goes is always a prefix of a camera's list, so that one number, `pruned_to`, tells consumers what they can
//! still have. Totals, seqs and session numbers go on as if nothing had gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{Journal, JournalError, Ledger, Ledgers, Reader, manifests};
use crate::model::{CameraId, CommitNo, Seq, UnixMicros};

/// Entries that go in one transaction. The journal's thread does nothing else meanwhile.
const CHUNK: usize = 500;

/// How often lists are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// How much faster than the monotonic clock the wall clock may run between two looks.
const SLACK: Duration = Duration::from_secs(60);

/// How far the wall clock may be ahead of the newest entry at the start. A daemon that rested for longer removes less
/// than it could, until new entries come.
const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// The wall clock, as far as it can be believed: a clock that leaps ahead, as after a start without a battery, must not
/// make all lists old at once.
#[derive(Debug)]
struct Believed {
    wall: UnixMicros,
    at: Instant,
}

impl Believed {
    /// What is believed at the start, when the newest entry was recorded at `newest`.
    fn new(wall: UnixMicros, at: Instant, newest: Option<UnixMicros>) -> Self {
        let most = newest.map_or(wall, |newest| newest.after(AHEAD));
        Self { wall: wall.min(most), at }
    }

    /// What is believed now. It never runs ahead of the monotonic clock by more than [`SLACK`] a look.
    fn look(&mut self, wall: UnixMicros, at: Instant) -> UnixMicros {
        let most = self.wall.after(at.duration_since(self.at) + SLACK);
        if wall > most {
            warn!(clock = %wall, believed = %most, "the clock has leapt ahead: entries are kept as if it had not");
        }
        *self = Self { wall: wall.min(most), at };
        self.wall
    }
}

/// What one step removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// How many entries.
    pub entries: usize,
    /// Whether there may be more to remove.
    pub more: bool,
}

/// Removes from all lists what has been in them for longer than `keep`, at once and then every minute, until the
/// journal is closed. With `manifested`, only what a stored manifest holds.
pub async fn retain(journal: Journal, reader: Reader, ledgers: Ledgers, keep: Duration, manifested: bool) {
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let newest = match tokio::task::spawn_blocking(move || reader.newest_entry()).await {
        Ok(Ok(newest)) => newest,
        failed => {
            let error =
                failed.map_or_else(|e| e.to_string(), |read| read.err().map_or_else(String::new, |e| e.to_string()));
            error!(error, "the newest entry cannot be read: no entries are removed in this run");
            return;
        }
    };
    let mut believed = Believed::new(UnixMicros::now(), Instant::now(), newest);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let before = UnixMicros(believed.look(UnixMicros::now(), Instant::now()).0.saturating_sub(keep));
        for ledger in ledgers.all() {
            if shorten(&journal, &ledger, before, manifested).await.is_none() {
                return;
            }
        }
    }
}

/// Removes in steps what is older than `before`; between two of them the journal does what else there is to do.
async fn shorten(journal: &Journal, ledger: &Arc<Ledger>, before: UnixMicros, manifested: bool) -> Option<()> {
    let mut entries = 0;
    loop {
        let pruned = journal.prune(ledger.clone(), before, manifested).await?;
        entries += pruned.entries;
        if !pruned.more {
            break;
        }
    }
    if entries > 0 {
        info!(camera = %ledger.camera(), entries, "the oldest entries of the list have gone, as `list.keep` has it");
    }
    Some(())
}

/// Removes entries from the beginning of a camera's list: at most [`CHUNK`], none past `watermark`, none from the first
/// on that was recorded at `before` or later, and with `manifested` none that is in no stored manifest.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    camera: &CameraId,
    watermark: Seq,
    before: UnixMicros,
    manifested: bool,
) -> Result<Pruned, JournalError> {
    let found = transaction
        .prepare_cached("SELECT num, pruned_to FROM camera WHERE id = ?1")?
        .query_row([camera.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    // A camera's accounts may be there before its row is.
    let Some((num, pruned_to)) = found else { return Ok(Pruned::default()) };
    let watermark = if manifested { watermark.min(manifests::through(transaction, num)?) } else { watermark };
    let (mut entries, mut last, mut newest) = (0, pruned_to, 0);
    {
        let mut oldest = transaction.prepare_cached(
            "SELECT last, commit_no, coalesce(stored_at < ?4, 0) FROM frame WHERE camera = ?1 AND seq > ?2 AND last <= ?3
             ORDER BY seq LIMIT ?5",
        )?;
        let mut rows = oldest.query(params![num, pruned_to, watermark as i64, before.0, CHUNK as i64])?;
        while let Some(row) = rows.next()? {
            if !row.get::<_, bool>(2)? {
                break;
            }
            (entries, last, newest) = (entries + 1, row.get(0)?, row.get::<_, i64>(1)?.max(newest));
        }
    }
    if entries == 0 {
        return Ok(Pruned::default());
    }
    transaction
        .prepare_cached("DELETE FROM frame WHERE camera = ?1 AND seq > ?2 AND seq <= ?3")?
        .execute(params![num, pruned_to, last])?;
    // The session that reaches into what is left stays: a crash range may have to name it.
    transaction
        .prepare_cached(
            "DELETE FROM session WHERE camera = ?1 AND session <
             (SELECT max(session) FROM session WHERE camera = ?1 AND first_seq <= ?2)",
        )?
        .execute(params![num, last])?;
    // Together with the watermark: a recovery would take what has gone for unresolved.
    transaction
        .prepare_cached("UPDATE camera SET pruned_to = ?2, watermark = max(watermark, ?2) WHERE num = ?1")?
        .execute(params![num, last])?;
    let newest = pruned_commit(transaction)?.max(newest as CommitNo);
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('pruned_commit', ?1)")?
        .execute([newest.to_string()])?;
    Ok(Pruned { entries, more: entries == CHUNK })
}

/// The highest commit number that retention has removed, 0 for none: from there on the order of commits is complete.
pub(super) fn pruned_commit(connection: &Connection) -> rusqlite::Result<CommitNo> {
    let number: Option<i64> = connection
        .prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'pruned_commit'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(number.unwrap_or(0) as CommitNo)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    #[test]
    fn a_clock_that_leaps_ahead_is_not_believed() {
        let (wall, at) = (UnixMicros(1_000_000_000_000), Instant::now());
        let minute = Duration::from_secs(60);
        let mut believed = Believed::new(wall, at, None);
        assert_eq!(believed.look(wall.after(minute), at + minute), wall.after(minute));
        let leapt = wall.after(400 * DAY);
        assert_eq!(believed.look(leapt, at + 2 * minute), wall.after(2 * minute + SLACK));
        // Set right again, it is believed at once; so is one that goes back.
        assert_eq!(believed.look(wall.after(3 * minute), at + 3 * minute), wall.after(3 * minute));
        assert_eq!(believed.look(wall, at + 4 * minute), wall);
    }

    #[test]
    fn a_clock_far_ahead_of_the_newest_entry_is_not_believed_at_the_start() {
        let (newest, at) = (UnixMicros(1_000_000_000_000), Instant::now());
        assert_eq!(Believed::new(newest.after(DAY / 2), at, Some(newest)).wall, newest.after(DAY / 2));
        assert_eq!(Believed::new(newest.after(90 * DAY), at, Some(newest)).wall, newest.after(AHEAD));
    }
}
