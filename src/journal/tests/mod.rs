//! The journal as a whole: what is written, read again, and gone after its time.

mod destinations;
pub(crate) mod full;
mod manifests;
mod nvrs;
mod recovery;
mod tasks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::retention::{Age, Pruned};
use super::{
    CatalogChange, Commits, Entry, JournalError, Ledger, Ledgers, Opened, ReadError, Reader, SessionEnd, StateDir,
    Totals, schema,
};
use crate::model::{
    Batch, BatchEnd, CameraId, Cursor, DestinationName, Ended, LostReason, ManagedBy, Outcome, RawCameraSpec, Seq,
    SeqRange, Settled, SpooledCamera, Stored, UnixMicros,
};

/// What a spool has found of each camera.
type Spooled = BTreeMap<CameraId, SpooledCamera>;

/// A state directory with cameras in it, and its journal at work.
struct Bench {
    dir: TempDir,
    opened: Opened,
    ledgers: Ledgers,
    /// What the listener was told.
    told: Arc<Mutex<Vec<Settled>>>,
}

impl Bench {
    fn new(cameras: &[&str]) -> Self {
        Self::in_dir(tempfile::tempdir().unwrap(), cameras)
    }

    fn in_dir(dir: TempDir, cameras: &[&str]) -> Self {
        let database = schema::open_writer(&dir.path().join("journal.sqlite")).unwrap();
        for camera in cameras {
            database.execute("INSERT INTO camera (id) VALUES (?1)", [camera]).unwrap();
        }
        Self::open(dir)
    }

    fn open(dir: TempDir) -> Self {
        Self::open_with(dir, &Spooled::new())
    }

    /// As at a start whose spool holds something.
    fn open_with(dir: TempDir, spooled: &Spooled) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = told.clone();
        let hear = move |settled| listener.lock().unwrap().push(settled);
        let opened = take(dir.path()).recover(spooled, hear, |_| ()).unwrap();
        let ledgers = Ledgers::new(opened.cameras.iter().map(|camera| camera.ledger.clone()));
        Self { dir, opened, ledgers, told }
    }

    fn close(self) -> TempDir {
        self.opened.journal.close();
        self.opened.writer.join().unwrap();
        self.dir
    }

    /// As after a crash: what is reserved and has no outcome stays so.
    fn reopen(self) -> Self {
        Self::open(self.close())
    }

    /// As after a crash, with this in the spool.
    fn reopen_with(self, spooled: &Spooled) -> Self {
        Self::open_with(self.close(), spooled)
    }

    fn totals(&self, camera: &str) -> Totals {
        let totals = self.ledger(camera).totals();
        assert_eq!(totals.captured, totals.stored + totals.lost + totals.in_flight, "{totals:?}");
        totals
    }

    fn sql(&self) -> Connection {
        Connection::open(self.dir.path().join("journal.sqlite")).unwrap()
    }

    fn ledger(&self, camera: &str) -> Arc<Ledger> {
        self.ledgers.find(&camera.parse().unwrap()).unwrap()
    }

    async fn issue(&self, camera: &str, count: u64) -> SeqRange {
        let ledger = self.ledger(camera);
        while ledger.available() < count {
            self.opened.journal.reserve(ledger.clone());
            self.opened.journal.barrier().await;
        }
        ledger.issue(count, None).unwrap()
    }

    async fn session(&self, camera: &str) -> u32 {
        let ledger = self.ledger(camera);
        let session = ledger.next_session(UnixMicros(7), Some("h264".to_owned()), (640, 480));
        let number = session.session;
        if number > 1 {
            let camera = ledger.camera().clone();
            let end = SessionEnd { camera, session: number - 1, closed: UnixMicros(8), why: "stall".to_owned() };
            self.opened.journal.close_session(end);
        }
        self.opened.journal.open_session(session).await.unwrap();
        number
    }

    fn settle(&self, camera: &str, seqs: SeqRange, outcome: Outcome) {
        let camera = camera.parse().unwrap();
        self.give(Settled { camera, seqs, session: Some(1), outcome, counted: true });
    }

    fn give(&self, settled: Settled) {
        self.opened.journal.settle(self.ledger(settled.camera.as_str()), settled);
    }

    async fn prune(&self, camera: &str, before: i64) -> Pruned {
        self.prune_at(camera, before, i64::MAX).await
    }

    async fn prune_at(&self, camera: &str, before: i64, now: i64) -> Pruned {
        let age = Age { before: UnixMicros(before), now: UnixMicros(now) };
        self.opened.journal.prune(self.ledger(camera), age, false).await.unwrap()
    }

    /// The whole list from a cursor on, in pages of `limit`.
    fn list(&self, camera: &str, mut after: Cursor, limit: usize) -> Result<Vec<Entry>, ReadError> {
        let (camera, mut entries) = (camera.parse().unwrap(), Vec::new());
        let watermark = self.ledgers.find(&camera).unwrap().watermark();
        loop {
            let page = self.opened.reader.page(&camera, after, limit, watermark)?;
            entries.extend(page.entries);
            after = Cursor::after(page.next);
            if !page.more {
                return Ok(entries);
            }
        }
    }

    /// The order of commits, as (number, camera, first seq).
    fn commits(&self, after: u64) -> Vec<(u64, String, Seq)> {
        let Commits { entries, more } = self.opened.reader.commits(after, 1_000).unwrap();
        assert!(!more);
        let seq = |entry| match entry {
            Entry::Frames { seqs, .. } => seqs.first,
            Entry::Session { .. } => panic!("a session has no commit number"),
        };
        entries.into_iter().map(|(number, camera, entry)| (number, camera.to_string(), seq(entry))).collect()
    }
}

/// Opens a state directory that nobody holds. Until a program that another test starts has begun, it holds all our
/// files, the locked ones too.
fn take(dir: &Path) -> StateDir {
    let begun = Instant::now();
    loop {
        match StateDir::open(dir) {
            Err(JournalError::InUse { .. }) if begun.elapsed() < Duration::from_secs(5) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn stored(at: i64) -> Outcome {
    let (key, at) = (format!("at-{at}"), UnixMicros(at));
    Outcome::Stored(Stored {
        destination: DestinationName::default(),
        key,
        captured_at: at,
        stored_at: at,
        bytes: 9,
        crc32c: 1,
        width: 640,
        height: 480,
        damaged: at.0 % 2 == 1,
    })
}

const LOST: Outcome = Outcome::Lost { reason: LostReason::Overrun, maybe_stored: false };

fn seqs(entries: &[Entry]) -> Vec<(Seq, Seq)> {
    let of = |entry: &Entry| match entry {
        Entry::Frames { seqs, .. } => Some((seqs.first, seqs.last)),
        Entry::Session { .. } => None,
    };
    entries.iter().filter_map(of).collect()
}

#[tokio::test]
async fn every_outcome_gets_the_next_number_also_at_a_recovery() {
    let bench = Bench::new(&["a", "b"]);
    let mut committed = bench.opened.journal.committed();
    assert_eq!(*committed.borrow_and_update(), 0);
    bench.issue("a", 3).await;
    bench.issue("b", 1).await;
    // Out of order, of two cameras, and one of them twice: a second word has no number.
    for (camera, seq) in [("a", 3), ("b", 1), ("a", 1), ("a", 3), ("a", 1)] {
        bench.settle(camera, SeqRange::one(seq), stored(5));
    }
    bench.opened.journal.barrier().await;
    assert_eq!(*committed.borrow_and_update(), 3);
    let expected = [(1, "a".to_owned(), 3), (2, "b".to_owned(), 1), (3, "a".to_owned(), 1)];
    assert_eq!(bench.commits(0), expected);
    assert_eq!(bench.commits(2), expected[2..]);
    assert_eq!(bench.opened.reader.commits(0, 2).unwrap().entries.len(), 2);
    assert!(bench.opened.reader.commits(0, 2).unwrap().more && !bench.opened.reader.commits(1, 2).unwrap().more);

    // Camera a: seq 2, and the rest of its block; camera b: the rest of its block.
    let bench = bench.reopen();
    assert_eq!(*bench.opened.journal.committed().borrow(), 6);
    let tombstones = [(4, "a".to_owned(), 2), (5, "a".to_owned(), 4), (6, "b".to_owned(), 2)];
    assert_eq!(bench.commits(3), tombstones);
    // A start that finds nothing to do counts nothing.
    let bench = bench.reopen();
    assert_eq!(bench.commits(0).len(), 6);
    let next = bench.issue("b", 1).await;
    bench.settle("b", next, stored(6));
    bench.opened.journal.barrier().await;
    assert_eq!(bench.commits(6), [(7, "b".to_owned(), next.first)]);
}

#[tokio::test]
async fn from_every_place_the_list_goes_on_with_what_was_not_told() {
    let bench = Bench::new(&["a"]);
    // Sessions 1 and 2 begin with the same seq, session 4 within a run of lost ones.
    bench.session("a").await;
    bench.session("a").await;
    bench.issue("a", 3).await;
    bench.session("a").await;
    bench.issue("a", 2).await;
    bench.session("a").await;
    bench.issue("a", 5).await;
    for (first, last, outcome) in [(1, 1, stored(1)), (2, 3, LOST), (4, 4, stored(2)), (5, 7, LOST), (8, 8, stored(3))]
    {
        bench.settle("a", SeqRange { first, last }, outcome);
    }
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(8);

    let whole = bench.list("a", Cursor::default(), 1_000).unwrap();
    assert_eq!(seqs(&whole), [(1, 1), (2, 3), (4, 4), (5, 7), (8, 8)]);
    assert_eq!(whole.len(), 9);
    let mut place = Cursor::default();
    for (told, entry) in (1..).zip(&whole) {
        match entry {
            Entry::Session { session, codec, width, height, .. } => {
                assert_eq!((codec.as_deref(), *width, *height), (Some("h264"), Some(640), Some(480)));
                place.session = *session;
            }
            Entry::Frames { seqs, .. } => place = Cursor::after(seqs.last),
        }
        for limit in [1, 2, 1_000] {
            let rest = bench.list("a", place, limit).unwrap();
            assert_eq!(rest, whole[told..], "after {place}, in pages of {limit}");
        }
    }
    for (seq, session) in [(0, 9), (3, 1), (8, 4)] {
        let place = Cursor { seq, session };
        assert!(matches!(bench.list("a", place, 9), Err(ReadError::NoSuchPlace(p)) if p == place), "{place}");
    }
}

#[tokio::test]
async fn a_list_loses_its_beginning_and_nothing_else() {
    let bench = Bench::new(&["a", "b"]);
    bench.session("a").await;
    bench.issue("a", 4).await;
    bench.session("a").await;
    bench.issue("a", 4).await;
    bench.issue("b", 1).await;
    let now = UnixMicros::now().0;
    for (seq, at) in [(1, 10), (2, 20), (3, 90), (4, 30), (5, 40), (6, now), (8, 50)] {
        bench.settle("a", SeqRange::one(seq), stored(at));
    }
    bench.settle("b", SeqRange::one(1), stored(15));
    bench.opened.journal.barrier().await;
    let ledger = bench.ledger("a");
    let totals = ledger.totals();
    ledger.advance_watermark(2);
    assert_eq!(bench.prune("a", 0).await, Pruned { entries: 0, more: false });

    // Not past the watermark, although what follows is old enough.
    assert_eq!(bench.prune("a", 100).await, Pruned { entries: 2, more: false });
    assert!(matches!(bench.list("a", Cursor::after(1), 9), Err(ReadError::Gone { oldest: 2 })));
    assert!(matches!(bench.opened.reader.commits(1, 9), Err(ReadError::Gone { oldest: 2 })));
    let (a, all) = ("a".parse().unwrap(), [SeqRange { first: 1, last: 9 }]);
    assert_eq!(bench.opened.reader.unresolved(&a, &all).unwrap(), [7, 9].map(SeqRange::one));
    assert_eq!(bench.commits(2).len(), 6);
    ledger.advance_watermark(6);
    assert_eq!(seqs(&bench.list("a", Cursor::after(2), 9).unwrap()), [(3, 3), (4, 4), (5, 5), (6, 6)]);

    // Not past the first young one: what lies behind it stays, however old.
    assert_eq!(bench.prune("a", 35).await, Pruned { entries: 0, more: false });
    assert_eq!(bench.prune("a", 100).await, Pruned { entries: 3, more: false });
    assert_eq!(seqs(&bench.list("a", Cursor::after(5), 9).unwrap()), [(6, 6)]);
    // The session that goes on is kept, the one before is not.
    let sessions = |bench: &Bench| -> Vec<u32> {
        let sql = bench.sql();
        let mut statement = sql.prepare("SELECT session FROM session ORDER BY session").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(sessions(&bench), [2]);
    assert_eq!(ledger.totals(), totals);

    // A recovery takes nothing that has gone for unknown, and goes on counting.
    let bench = bench.reopen();
    let rest = bench.list("a", Cursor::after(5), 9).unwrap();
    assert_eq!(seqs(&rest), [(6, 6), (7, 7), (8, 8), (9, 1_024)]);
    assert_eq!(bench.ledger("a").totals().captured, 1_024);
    assert_eq!(bench.ledger("a").totals().stored, 7);
    // Tombstones have an age of their own; with all rows gone the numbers still go on.
    let newest = *bench.opened.journal.committed().borrow();
    bench.prune("a", i64::MAX).await;
    bench.prune("b", i64::MAX).await;
    assert_eq!(bench.sql().query_row("SELECT count(*) FROM frame", [], |row| row.get(0)), Ok(0));
    let bench = bench.reopen();
    assert_eq!(*bench.opened.journal.committed().borrow(), newest);
    assert!(matches!(bench.opened.reader.commits(newest - 1, 9), Err(ReadError::Gone { oldest }) if oldest == newest));
    let next = bench.issue("b", 1).await;
    bench.settle("b", next, LOST);
    bench.opened.journal.barrier().await;
    assert_eq!(bench.commits(newest), [(newest + 1, "b".to_owned(), 1_025)]);
}

#[tokio::test]
async fn much_goes_in_steps() {
    let bench = Bench::new(&["a"]);
    for _ in 0..1_200 {
        let seqs = bench.issue("a", 1).await;
        bench.settle("a", seqs, stored(1));
    }
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(1_200);
    let steps = [bench.prune("a", 2).await, bench.prune("a", 2).await, bench.prune("a", 2).await];
    assert_eq!(steps.map(|step| (step.entries, step.more)), [(500, true), (500, true), (200, false)]);
    assert!(matches!(bench.list("a", Cursor::default(), 9), Err(ReadError::Gone { oldest: 1_200 })));
}

#[tokio::test]
async fn what_a_clock_that_leapt_ahead_has_written_is_as_old_as_what_follows() {
    const LEAPT: i64 = 1_000_000;
    let bench = Bench::new(&["a"]);
    for at in [10, LEAPT, LEAPT, 12, LEAPT, 500, LEAPT, LEAPT] {
        let seqs = bench.issue("a", 1).await;
        bench.settle("a", seqs, stored(at));
    }
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(8);
    assert_eq!(bench.prune_at("a", 100, 1_000).await.entries, 4, "what comes before 12 is older than that");
    assert_eq!(bench.prune_at("a", 100, 1_000).await.entries, 0, "the next one may be as young as 500");
    assert_eq!(bench.prune_at("a", 600, 1_000).await.entries, 2);
    assert_eq!(bench.prune_at("a", 900, 1_000).await.entries, 0, "nothing says how old the last ones are");
    // The clock was right after all.
    assert_eq!(bench.prune_at("a", LEAPT + 1, LEAPT + 2).await.entries, 2);
}

#[tokio::test]
async fn who_only_reads_says_what_an_older_journal_wants() {
    let bench = Bench::new(&["a"]);
    Reader::of(bench.dir.path()).unwrap();
    bench.sql().execute_batch("PRAGMA user_version = 2;").unwrap();
    let error = Reader::of(bench.dir.path()).unwrap_err().to_string();
    assert!(error.ends_with("has format 2, this program reads format 6: start the daemon once"), "{error}");
}

#[tokio::test]
async fn marks_of_damage_are_listed_and_a_journal_of_version_3_gets_room_for_them() {
    let marks = |entries: Vec<Outcome>| -> Vec<bool> {
        entries.iter().map(|outcome| matches!(outcome, Outcome::Stored(Stored { damaged: true, .. }))).collect()
    };
    let frames = |entries: Vec<Entry>| -> Vec<Outcome> {
        let of = |entry| if let Entry::Frames { outcome, .. } = entry { Some(outcome) } else { None };
        entries.into_iter().filter_map(of).collect()
    };
    let bench = Bench::new(&["a"]);
    bench.session("a").await;
    bench.issue("a", 3).await;
    for seq in 1..=3 {
        bench.settle("a", SeqRange::one(seq), stored(seq as i64));
    }
    bench.opened.journal.barrier().await;
    let commits = bench.opened.reader.commits(0, 9).unwrap().entries;
    assert_eq!(marks(frames(commits.into_iter().map(|(_, _, entry)| entry).collect())), [true, false, true]);

    // A start moves the watermark; the rest of the block of seqs is lost with it.
    let bench = bench.reopen();
    assert_eq!(marks(frames(bench.list("a", Cursor::default(), 9).unwrap())), [true, false, true, false]);

    let dir = bench.close();
    let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    sql.execute_batch(BACK_TO_5).unwrap();
    sql.execute_batch(
        "DROP TABLE batch; ALTER TABLE frame DROP COLUMN damaged; ALTER TABLE session DROP COLUMN time_source;
         PRAGMA user_version = 3;",
    )
    .unwrap();
    drop(sql);
    let list = frames(Bench::open(dir).list("a", Cursor::default(), 9).unwrap());
    assert_eq!(marks(list), [false; 4]);
}

#[tokio::test]
async fn a_batch_is_remembered_with_its_end_and_its_password_is_not() {
    let batch = Batch {
        frames: 50,
        from: Duration::from_millis(1_500),
        give_up_after: Duration::from_secs(60),
        created: UnixMicros(5),
        end: None,
    };
    let raw = r#"{"url": "rtsp://h/", "user": "u", "password": "p%40"}"#;
    let spec = serde_json::from_str::<RawCameraSpec>(raw).unwrap().validate(None).unwrap();
    let ids: [CameraId; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
    let change = CatalogChange {
        puts: ids.iter().map(|id| (id.clone(), spec.clone(), ManagedBy::Batch)).collect(),
        batches: ids.iter().map(|id| (id.clone(), batch.clone())).collect(),
        ..CatalogChange::default()
    };
    let bench = Bench::new(&[]);
    bench.opened.journal.change_catalog(change).await.unwrap();
    let ends = [Ended::Failed, Ended::Cancelled].map(|how| BatchEnd {
        at: UnixMicros(9),
        how,
        message: Some("no such file".to_owned()),
    });
    let mut bench = bench.reopen();
    for (end, revision) in ends.iter().zip([2, 2]) {
        // The first end counts.
        assert_eq!(bench.opened.journal.end_batch(ids[0].clone(), end.clone()).await, Some(revision));
        bench = bench.reopen();
        let known: Vec<_> = bench.opened.cameras.iter().map(|known| (known.batch.clone(), known.managed_by)).collect();
        let ended = Batch { end: Some(ends[0].clone()), ..batch.clone() };
        assert_eq!(known, [(Some(ended), ManagedBy::Batch), (Some(batch.clone()), ManagedBy::Batch)]);
        let passwords = bench.opened.cameras.iter().map(|known| known.spec.as_ref().unwrap().password.is_some());
        assert_eq!(passwords.collect::<Vec<_>>(), [false, true]);
    }
    let change = CatalogChange { deletes: ids.to_vec(), ..CatalogChange::default() };
    bench.opened.journal.change_catalog(change).await.unwrap();
    assert!(bench.reopen().opened.cameras.iter().all(|known| known.batch.is_none() && known.spec.is_none()));
}

/// What makes a journal of this version one of version 5.
const BACK_TO_5: &str = "
DROP TABLE export_job;
DROP TABLE export_task;
DROP TABLE export_word;
DROP TABLE export_lease;
DROP TABLE nvr;
DROP TABLE nvr_camera;
PRAGMA user_version = 5;
";

/// What makes one of version 5 one of version 2.
const BACK_TO_2: &str = "
DROP TABLE batch;
DROP TABLE manifest;
DROP TABLE manifest_pending;
ALTER TABLE frame DROP COLUMN destination;
ALTER TABLE frame DROP COLUMN damaged;
ALTER TABLE session DROP COLUMN time_source;
DROP TABLE destination;
PRAGMA user_version = 2;
";

/// The tables of version 1, with what two cameras left in them.
const VERSION_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE camera (
    num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, spec TEXT, revision INTEGER NOT NULL DEFAULT 0,
    reserved_until INTEGER NOT NULL DEFAULT 1, next_session INTEGER NOT NULL DEFAULT 1,
    watermark INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE session (
    camera INTEGER NOT NULL, session INTEGER NOT NULL, first_seq INTEGER NOT NULL, opened INTEGER NOT NULL,
    closed INTEGER, why TEXT, PRIMARY KEY (camera, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE frame (
    camera INTEGER NOT NULL, seq INTEGER NOT NULL, last INTEGER NOT NULL, session INTEGER, lost TEXT,
    maybe_stored INTEGER NOT NULL DEFAULT 0, key TEXT, captured_at INTEGER, stored_at INTEGER, bytes INTEGER,
    crc32c INTEGER, width INTEGER, height INTEGER, PRIMARY KEY (camera, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('origin', '0123abcd');
INSERT INTO camera VALUES (1, 'a', NULL, 3, 7, 2, 0, 2, 3), (2, 'b', NULL, 1, 2, 2, 1, 1, 0);
INSERT INTO session VALUES (1, 1, 1, 100, 900, 'stall'), (2, 1, 1, 100, 900, 'removed');
INSERT INTO frame VALUES
    (1, 1, 1, 1, NULL, 0, 'a/1', 110, 400, 9, 1, 640, 480),
    (1, 2, 4, 1, 'overrun', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (1, 5, 5, 1, NULL, 0, 'a/5', 150, 200, 9, 1, 640, 480),
    (2, 1, 1, 1, NULL, 0, 'b/1', 120, 300, 9, 1, 640, 480);
PRAGMA user_version = 1;
";

#[tokio::test]
async fn a_journal_of_version_1_is_numbered_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path: &Path = &dir.path().join("journal.sqlite");
    Connection::open(path).unwrap().execute_batch(VERSION_1).unwrap();
    let bench = Bench::open(dir);
    assert_eq!(bench.opened.origin.as_str(), "0123abcd");
    // Numbered by the time they were stored, what was lost first; seq 6 is settled by this start, after them.
    let expected = [("a", 2), ("a", 5), ("b", 1), ("a", 1), ("a", 6)];
    let expected: Vec<_> =
        (1..).zip(expected).map(|(number, (camera, seq))| (number, camera.to_owned(), seq)).collect();
    assert_eq!(bench.commits(0), expected);
    assert_eq!(*bench.opened.journal.committed().borrow(), 5);

    let list = bench.list("a", Cursor::default(), 9).unwrap();
    assert_eq!(seqs(&list), [(1, 1), (2, 4), (5, 5), (6, 6)]);
    let Entry::Session { session: 1, closed: Some(UnixMicros(900)), why, codec: None, width: None, .. } = &list[0]
    else {
        panic!("{list:?}")
    };
    assert_eq!(why.as_deref(), Some("stall"));
    let Entry::Frames { outcome: Outcome::Stored(first), .. } = &list[1] else { panic!("{list:?}") };
    assert_eq!((first.key.as_str(), first.stored_at), ("a/1", UnixMicros(400)));
    assert_eq!(bench.ledger("a").totals().lost, 4);
    // Nobody knows how old the tombstone is: it counts as new.
    assert_eq!(bench.prune("a", 1_000).await.entries, 1);
    assert_eq!(bench.sql().pragma_query_value(None, "user_version", |row| row.get(0)), Ok(6));
    // It opens again as what it is now.
    assert_eq!(bench.reopen().commits(4), expected[4..]);
}
