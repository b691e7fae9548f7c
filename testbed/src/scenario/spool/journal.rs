//! The journal's file, read by another program than the daemon, of which nobody must be running.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

const FILE: &str = "journal.sqlite";

/// Prints what the file says of each camera: its accounts, and what its rows come to, ranges that meet made one.
const READ: &str = "
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
found = {}
for num, id, stored, lost, reserved_until, pruned_to in db.execute(
        'SELECT num, id, stored, lost, reserved_until, pruned_to FROM camera'):
    ranges, rows_stored, rows_lost, by_reason = [], 0, 0, {}
    for seq, last, reason in db.execute('SELECT seq, last, lost FROM frame WHERE camera = ? ORDER BY seq', (num,)):
        if reason is None:
            rows_stored += 1
        else:
            rows_lost += last - seq + 1
            by_reason[reason] = by_reason.get(reason, 0) + last - seq + 1
        if ranges and ranges[-1][1] + 1 == seq:
            ranges[-1][1] = last
        else:
            ranges.append([seq, last])
    told = dict(db.execute('SELECT reason, frames FROM lost WHERE camera = ?', (num,)))
    found[id] = {'stored': stored, 'lost': lost, 'reserved_until': reserved_until, 'pruned_to': pruned_to,
        'rows_stored': rows_stored, 'rows_lost': rows_lost, 'lost_by': told, 'rows_lost_by': by_reason, 'ranges': ranges}
print(json.dumps(found))
";

/// A camera in the journal.
#[derive(Debug, Deserialize)]
pub(super) struct Ledger {
    /// By its row of totals.
    stored: u64,
    lost: u64,
    lost_by: BTreeMap<String, u64>,
    /// By its frames' rows.
    rows_stored: u64,
    rows_lost: u64,
    rows_lost_by: BTreeMap<String, u64>,
    /// Seqs that have an outcome.
    ranges: Vec<(u64, u64)>,
    /// The first seq that it has not.
    reserved_until: u64,
    pruned_to: u64,
}

impl Ledger {
    /// What does not agree.
    pub(super) fn wrong(&self) -> Vec<&'static str> {
        let in_ranges: u64 = self.ranges.iter().map(|(first, last)| (last + 1).saturating_sub(*first)).sum();
        let last = self.ranges.last().map_or(0, |(_, last)| *last);
        [
            (self.stored == self.rows_stored, "stored is not what its rows count"),
            (self.lost == self.rows_lost, "lost is not what its rows count"),
            (self.lost_by == self.rows_lost_by, "lost by reason is not what its rows count"),
            (in_ranges == self.stored + self.lost, "a seq has two outcomes"),
            (self.ranges.is_sorted_by(|a, b| a.1 < b.0), "rows overlap"),
            (last < self.reserved_until, "a seq with an outcome may be given again"),
            (self.pruned_to == 0, "rows were removed"),
        ]
        .into_iter()
        .filter_map(|(holds, wrong)| (!holds).then_some(wrong))
        .collect()
    }

    /// Seqs below the highest that this or the spool knows of, and of which neither has anything.
    pub(super) fn holes(&self, spooled: &BTreeSet<u64>) -> BTreeSet<u64> {
        let next = self.reserved_until.max(spooled.last().map_or(0, |last| last + 1));
        let mut holes = BTreeSet::new();
        let mut seq = 1;
        for (first, last) in self.ranges.iter().copied().chain([(next, next)]) {
            holes.extend((seq..first).filter(|seq| !spooled.contains(seq)));
            seq = last + 1;
        }
        holes
    }
}

/// What the journal in a state directory says of each camera.
///
/// # Errors
///
/// When it cannot be read.
pub(super) fn read(state: &Path) -> anyhow::Result<BTreeMap<String, Ledger>> {
    // What a kill has left in the log beside it is taken into the file by whoever opens it, so that is a copy.
    let copy = tempfile::tempdir().context("no place for a copy of the journal")?;
    for suffix in ["", "-wal"] {
        let name = format!("{FILE}{suffix}");
        if suffix.is_empty() || state.join(&name).exists() {
            fs::copy(state.join(&name), copy.path().join(&name)).with_context(|| format!("cannot copy {name}"))?;
        }
    }
    let said = python(READ, &copy.path().join(FILE))?;
    serde_json::from_str(&said).with_context(|| format!("the journal's reader has said {said}"))
}

/// What SQLite's own check says of it.
pub(super) fn integrity(state: &Path) -> anyhow::Result<String> {
    const CHECK: &str = "import sqlite3, sys\n\
                         for row in sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check'): print(row[0])";
    let path = state.join(FILE);
    ensure!(path.is_file(), "there is no {}", path.display());
    python(CHECK, &path).or_else(|error| Ok(format!("{error:#}")))
}

fn python(program: &str, path: &Path) -> anyhow::Result<String> {
    let arguments = ["-I", "-c", program].map(OsStr::new);
    let output = Command::new("/usr/bin/python3").args(arguments).arg(path).output().context("cannot run python3")?;
    let failed = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "{}: {}", path.display(), failed());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(ranges: &[(u64, u64)], reserved_until: u64) -> Ledger {
        let lost_by = BTreeMap::from([("overrun".to_owned(), 1)]);
        Ledger {
            stored: 4,
            lost: 1,
            lost_by: lost_by.clone(),
            rows_stored: 4,
            rows_lost: 1,
            rows_lost_by: lost_by,
            ranges: ranges.to_vec(),
            reserved_until,
            pruned_to: 0,
        }
    }

    #[test]
    fn holes_are_what_nobody_knows_of() {
        let spooled = BTreeSet::from([5, 8, 12]);
        assert_eq!(ledger(&[(1, 3), (9, 10)], 11).holes(&spooled), BTreeSet::from([4, 6, 7, 11]));
        assert_eq!(ledger(&[(1, 3)], 4).holes(&BTreeSet::new()), BTreeSet::new());
        assert_eq!(ledger(&[], 3).holes(&BTreeSet::new()), BTreeSet::from([1, 2]));
    }

    #[test]
    fn accounts_that_are_off_are_seen() {
        assert_eq!(ledger(&[(1, 3), (9, 10)], 11).wrong(), [""; 0]);
        assert_eq!(ledger(&[(1, 3), (9, 10)], 10).wrong(), ["a seq with an outcome may be given again"]);
        assert_eq!(ledger(&[(1, 3), (9, 9)], 11).wrong(), ["a seq has two outcomes"]);
        assert_eq!(Ledger { rows_stored: 3, ..ledger(&[(1, 5)], 6) }.wrong(), ["stored is not what its rows count"]);
    }
}
