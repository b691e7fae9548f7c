//! Retention: a list loses its oldest entries once they have been in it for long enough.
//!
//! What goes is always a prefix of a camera's list, so that one number, `pruned_to`, tells consumers what they can
//! still have. Totals, seqs and session numbers go on as if nothing had gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::{Journal, JournalError, Ledger, Ledgers, ReadError, Reader, manifests};
use crate::model::{CameraId, CommitNo, Seq, UnixMicros};

/// Entries that go in one transaction. The journal's thread does nothing else meanwhile.
const CHUNK: usize = 500;

/// How often lists are looked at.
const EVERY: Duration = Duration::from_secs(60);

/// How much faster than the monotonic clock the wall clock may run between two looks.
const SLACK: Duration = Duration::from_secs(60);

/// How far the wall clock may be ahead, at the start, of the last time that was believed. A daemon that rested for longer
/// removes less than it could: it catches up by [`SLACK`] a look.
const AHEAD: Duration = Duration::from_secs(24 * 3_600);

/// The wall clock, as far as it can be believed: a clock that leaps ahead, as after a start without a battery, must not
/// make all lists old at once, in this run of the daemon or in the next one.
#[derive(Debug)]
struct Believed {
    /// The latest time that it can be; it never goes back.
    latest: UnixMicros,
    at: Instant,
}

impl Believed {
    /// What is believed at the start, when an earlier run believed `before` at last. Where none has left word of that, the
    /// newest entry's time counts, which is `newest`.
    fn new(wall: UnixMicros, at: Instant, before: Option<UnixMicros>, newest: Option<UnixMicros>) -> Self {
        let latest = match before.or(newest) {
            Some(known) => wall.min(known.after(AHEAD)).max(known),
            None => wall,
        };
        Self { latest, at }
    }

    /// What is believed now. It never runs ahead of the monotonic clock by more than [`SLACK`] a look.
    fn look(&mut self, wall: UnixMicros, at: Instant) -> UnixMicros {
        let gone = self.latest.after(at.duration_since(self.at));
        let most = gone.after(SLACK);
        if wall > most {
            warn!(clock = %wall, believed = %most, "the clock has leapt ahead: entries are kept as if it had not");
        }
        let now = wall.min(most);
        *self = Self { latest: gone.max(now), at };
        now
    }
}

/// How old entries may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// What was recorded earlier is too old.
    pub before: UnixMicros,
    /// What was recorded later was recorded by a clock that had leapt ahead: it is as old as what follows on it.
    pub now: UnixMicros,
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
/// journal is closed. With `manifested`, only what a stored manifest holds. Where nothing is to be removed it still leaves
/// word of the time, so that the clock can be judged once something is.
pub async fn retain(journal: Journal, reader: Reader, ledgers: Ledgers, keep: Option<Duration>, manifested: bool) {
    let read = move || Ok::<_, ReadError>((reader.believed()?, reader.newest_entry()?));
    let (before, newest) = match tokio::task::spawn_blocking(read).await {
        Ok(Ok(times)) => times,
        failed => {
            let error =
                failed.map_or_else(|e| e.to_string(), |read| read.err().map_or_else(String::new, |e| e.to_string()));
            error!(error, "the newest entry cannot be read: no entries are removed in this run");
            return;
        }
    };
    let mut believed = Believed::new(UnixMicros::now(), Instant::now(), before, newest);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = believed.look(UnixMicros::now(), Instant::now());
        journal.believe(believed.latest);
        let Some(keep) = keep else { continue };
        let age = Age { before: now.before(keep), now };
        for ledger in ledgers.all() {
            if shorten(&journal, &ledger, age, manifested).await.is_none() {
                return;
            }
        }
    }
}

/// Removes in steps what is too old; between two of them the journal does what else there is to do.
async fn shorten(journal: &Journal, ledger: &Arc<Ledger>, age: Age, manifested: bool) -> Option<()> {
    let mut entries = 0;
    loop {
        let pruned = journal.prune(ledger.clone(), age, manifested).await?;
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
/// on that is not too old, and with `manifested` none that is in no stored manifest.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    camera: &CameraId,
    watermark: Seq,
    age: Age,
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
            "SELECT last, commit_no, stored_at FROM frame WHERE camera = ?1 AND seq > ?2 AND last <= ?3
             ORDER BY seq LIMIT ?4",
        )?;
        let mut rows = oldest.query(params![num, pruned_to, watermark as i64, CHUNK as i64])?;
        let mut follows = None;
        while let Some(row) = rows.next()? {
            let recorded = match row.get::<_, Option<i64>>(2)? {
                // One look is enough for all that the clock made then: the next honest entry is the same.
                Some(at) if at > age.now.0 => match follows {
                    Some(follows) => follows,
                    None => *follows.insert(honest_after(transaction, num, row.get(0)?, watermark, age.now)?),
                },
                at => {
                    follows = None;
                    at
                }
            };
            if recorded.is_none_or(|at| at >= age.before.0) {
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

/// When the first entry after `seq` was recorded that was recorded no later than now.
fn honest_after(
    transaction: &Transaction<'_>,
    num: i64,
    seq: i64,
    watermark: Seq,
    now: UnixMicros,
) -> rusqlite::Result<Option<i64>> {
    transaction
        .prepare_cached(
            "SELECT stored_at FROM frame WHERE camera = ?1 AND seq > ?2 AND last <= ?3 AND stored_at <= ?4
             ORDER BY seq LIMIT 1",
        )?
        .query_row(params![num, seq, watermark as i64, now.0], |row| row.get(0))
        .optional()
}

/// Leaves word of the time that is believed.
pub(super) fn believe(transaction: &Transaction<'_>, at: UnixMicros) -> Result<(), JournalError> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('believed', ?1)")?
        .execute([at.0.to_string()])?;
    Ok(())
}

impl Reader {
    /// The time that an earlier run believed at last.
    fn believed(&self) -> Result<Option<UnixMicros>, ReadError> {
        self.with(|connection| {
            let at: Option<i64> = connection
                .prepare_cached("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'believed'")?
                .query_row([], |row| row.get(0))
                .optional()?;
            Ok(at.map(UnixMicros))
        })
    }
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
        let mut believed = Believed::new(wall, at, None, None);
        assert_eq!(believed.look(wall.after(minute), at + minute), wall.after(minute));
        let leapt = wall.after(400 * DAY);
        assert_eq!(believed.look(leapt, at + 2 * minute), wall.after(2 * minute + SLACK));
        // Set right again, it is believed at once; so is one that goes back.
        assert_eq!(believed.look(wall.after(3 * minute), at + 3 * minute), wall.after(3 * minute));
        assert_eq!(believed.look(wall, at + 4 * minute), wall);
        // Behind for a while and set right, it is no leap.
        assert_eq!(believed.look(wall.after(200 * minute), at + 200 * minute), wall.after(200 * minute));
    }

    #[test]
    fn a_restart_believes_no_more_than_the_run_before() {
        let (wall, at) = (UnixMicros(1_000_000_000_000), Instant::now());
        let minute = Duration::from_secs(60);
        let mut believed = Believed::new(wall, at, None, None);
        let leapt = wall.after(5_000 * DAY);
        believed.look(leapt, at + minute);
        // What was recorded meanwhile says the same as the clock.
        let mut next = Believed::new(leapt, at, Some(believed.latest), Some(leapt));
        assert!(next.look(leapt, at + minute) <= wall.after(AHEAD + 3 * minute + 2 * SLACK), "{next:?}");
        // A clock without a battery begins in 1970, and is set right before long.
        let mut next = Believed::new(UnixMicros(0), at, Some(wall), Some(wall));
        assert_eq!(next.look(UnixMicros(0).after(minute), at + minute), UnixMicros(0).after(minute));
        assert_eq!(next.look(wall.after(2 * minute), at + 2 * minute), wall.after(2 * minute));
    }

    #[test]
    fn a_clock_far_ahead_of_the_newest_entry_is_not_believed_at_the_start() {
        let (newest, at) = (UnixMicros(1_000_000_000_000), Instant::now());
        assert_eq!(Believed::new(newest.after(DAY / 2), at, None, Some(newest)).latest, newest.after(DAY / 2));
        assert_eq!(Believed::new(newest.after(90 * DAY), at, None, Some(newest)).latest, newest.after(AHEAD));
    }
}
