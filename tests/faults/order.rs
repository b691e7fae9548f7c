//! In which order files are written, synced and removed, by strace's log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;

/// A call that has returned.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen<'a> {
    name: &'a str,
    /// The file it was made on, or that it named.
    file: &'a str,
    arguments: &'a str,
    /// What it returned, and what is said of that.
    answer: String,
}

impl Seen<'_> {
    fn failed(&self) -> bool {
        self.answer.starts_with("-1")
    }

    fn is_sync(&self) -> bool {
        matches!(self.name, "fsync" | "fdatasync")
    }

    fn changes(&self) -> bool {
        matches!(self.name, "write" | "pwrite64" | "pwritev" | "pwritev2" | "ftruncate")
    }

    /// Bytes of records that it wrote: a header, a picture and what fills it up.
    fn record_bytes(&self) -> u64 {
        let record = self.name.starts_with("pwritev") && self.arguments.contains("], 3,");
        record.then(|| self.answer.parse().ok()).flatten().unwrap_or(0)
    }
}

/// The calls of a log in the order in which they returned, but writes and removals in the order in which they were
/// made: a write counts from its beginning, a sync from its end.
fn seen(log: &str) -> Vec<Seen<'_>> {
    let mut seen = Vec::new();
    let mut unfinished: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for line in log.lines() {
        // The thread's number stands first where several are watched.
        let (thread, line) = match line.split_once(' ') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => (number, rest.trim_start()),
            _ => ("", line),
        };
        if line.starts_with("<... ") {
            if let Some(mut call) = unfinished.remove(thread) {
                call.answer = line.rsplit_once(" = ").map(|(_, answer)| answer.to_owned()).unwrap_or_default();
                seen.push(call);
            }
            continue;
        }
        let Some((name, arguments)) = line.split_once('(') else { continue };
        let quoted = matches!(name, "unlink" | "unlinkat" | "rename" | "mkdir");
        let file = if quoted { arguments.split('"').nth(1) } else { within(arguments) };
        let file = file.unwrap_or_default();
        let answer = arguments.rsplit_once(" = ").map(|(_, answer)| answer.to_owned()).unwrap_or_default();
        let call = Seen { name, file, arguments, answer };
        if line.ends_with("<unfinished ...>") && call.is_sync() {
            unfinished.insert(thread, call);
        } else {
            seen.push(call);
        }
    }
    seen
}

/// `/a/b` of `3</a/b>, ...`
fn within(arguments: &str) -> Option<&str> {
    arguments.split_once('<')?.1.split_once('>').map(|(file, _)| file)
}

fn is_segment(file: &str) -> bool {
    file.ends_with(".segment")
}

fn is_journal(file: &str) -> bool {
    file.ends_with("/journal.sqlite") || file.ends_with("/journal.sqlite-wal")
}

/// After a sync of a segment has failed it is never synced again, as its next sync could say that all is well, and the
/// records that the failed one was to make last are written to another segment, which is synced. Returns how many
/// failed.
///
/// # Errors
///
/// The first segment of which that is not so. The log is that of the spool's thread alone.
pub fn after_failed_syncs(log: &str) -> anyhow::Result<usize> {
    let mut failed: BTreeSet<&str> = BTreeSet::new();
    let mut unsynced: BTreeMap<&str, u64> = BTreeMap::new();
    // Bytes of records that are to be written again, and where the last of them were.
    let mut owed = 0;
    let mut faults = 0;
    for call in seen(log).into_iter().filter(|call| is_segment(call.file)) {
        let file = call.file;
        if call.changes() && !call.failed() {
            ensure!(!failed.contains(file) || call.record_bytes() == 0, "{file} is written after its sync has failed");
            *unsynced.entry(file).or_default() += call.record_bytes();
        }
        if call.is_sync() {
            ensure!(!failed.contains(file), "{file} is synced again after its sync has failed");
            let bytes = unsynced.remove(file).unwrap_or(0);
            if call.failed() {
                faults += 1;
                failed.insert(file);
                owed += bytes;
            } else {
                owed = u64::saturating_sub(owed, bytes);
            }
        }
    }
    ensure!(owed == 0, "{owed} bytes of records whose sync failed are not on disk elsewhere");
    Ok(faults)
}

/// How often something was said, or removed, that had to be on disk before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Order {
    pub durable: usize,
    pub settled: usize,
    pub removed: usize,
}

/// A frame is called durable, by which its upload begins, when no write to a segment lacks its sync; an outcome is
/// told, and a segment removed, when none to the journal does. True of a program that does one thing after the other.
///
/// # Errors
///
/// What was said or removed too early.
pub fn of_durability(log: &str) -> anyhow::Result<Order> {
    let mut order = Order::default();
    let mut unsynced: BTreeMap<&str, usize> = BTreeMap::new();
    for call in seen(log) {
        let owing =
            |which: fn(&str) -> bool| unsynced.iter().find(|(file, _)| which(file)).map(|(file, n)| (*file, *n));
        if call.changes() && (is_segment(call.file) || is_journal(call.file)) {
            *unsynced.entry(call.file).or_default() += 1;
        } else if call.is_sync() && !call.failed() {
            unsynced.remove(call.file);
        } else if call.name == "write" && call.arguments.contains("\"durable ") {
            order.durable += 1;
            if let Some((file, writes)) = owing(is_segment) {
                anyhow::bail!("{}: {writes} writes to {file} are not synced", call.arguments);
            }
        } else if call.name == "write" && call.arguments.contains("\"settled ") {
            order.settled += 1;
            if let Some((file, writes)) = owing(is_journal) {
                anyhow::bail!("{}: {writes} writes to {file} are not synced", call.arguments);
            }
        } else if call.name.starts_with("unlink") && is_segment(call.file) {
            order.removed += 1;
            if let Some((file, writes)) = owing(is_journal) {
                anyhow::bail!("{} is removed, and {writes} writes to {file} are not synced", call.file);
            }
            // By its directory's descriptor it is named without its path.
            unsynced.retain(|file, _| !file.ends_with(call.file));
        }
    }
    Ok(order)
}

#[test]
fn a_second_sync_after_a_failed_one_is_seen() {
    let record = |segment, at| format!("pwritev(3</s/{segment}.segment>, [...], 3, {at}) = 100");
    let sync = |segment, answer| format!("fdatasync(3</s/{segment}.segment>) = {answer}");
    let failed = "-1 EIO (Input/output error) (INJECTED)";
    let log = |lines: &[String]| after_failed_syncs(&lines.join("\n"));
    assert_eq!(log(&[record(1, 64), sync(1, failed), record(2, 64), sync(2, "0")]).unwrap(), 1);
    assert!(log(&[record(1, 64), sync(1, failed), sync(1, "0"), record(2, 64), sync(2, "0")]).is_err());
    assert!(log(&[record(1, 64), sync(1, failed), record(1, 164), record(2, 64), sync(2, "0")]).is_err());
    assert!(log(&[record(1, 64), sync(1, failed), record(2, 64)]).is_err());
    assert!(log(&[record(1, 64), sync(1, failed)]).is_err());
}

#[test]
fn what_comes_before_its_sync_is_seen() {
    let [wal, segment] = ["5</d/state/journal.sqlite-wal>", "9</d/spool/default/000000000001.segment>"];
    let written = format!("12 pwritev({segment}, [...], 3, 64) = 100");
    let begun = format!("12 fdatasync({segment} <unfinished ...>");
    let synced = "12 <... fdatasync resumed>) = 0".to_owned();
    let durable = "11 write(1<pipe:[7]>, \"durable a 1 1\\n\", 14) = 14".to_owned();
    let committed = [format!("13 pwrite64({wal}, \"\"..., 24, 0) = 24"), format!("13 fsync({wal}) = 0")];
    let settled = "11 write(1<pipe:[7]>, \"settled a 1 1 stored\\n\", 21) = 21".to_owned();
    let removed = "12 unlinkat(4</d/spool/default>, \"000000000001.segment\", 0) = 0".to_owned();
    let [write, sync] = committed;
    let log = |lines: &[&String]| of_durability(&lines.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n"));
    let all = [&written, &begun, &synced, &durable, &write, &sync, &settled, &removed];
    assert_eq!(log(&all).unwrap(), Order { durable: 1, settled: 1, removed: 1 });
    assert!(log(&[&written, &begun, &durable, &synced]).is_err());
    assert!(log(&[&write, &settled, &sync]).is_err());
    assert!(log(&[&write, &removed, &sync]).is_err());
    assert!(log(&[&write, &removed]).is_err());
    // What is removed needs no sync any more.
    assert!(log(&[&written, &removed, &durable]).is_ok());
}
