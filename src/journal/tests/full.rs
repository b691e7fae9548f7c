//! The disk is full: nothing ends, nothing is forgotten, and it goes on by itself.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::timeout;

use super::{Bench, Spooled, seqs, stored};
use crate::journal::{CatalogChange, Totals};
use crate::model::{CameraId, Cursor, LostReason, ManagedBy, Outcome, RawCameraSpec, SeqRange, Settled};

/// A small disk of its own, for which the tests need to be root.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn new(mebibytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=700"), "framehaul-test"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).status().expect("there is a mount command");
        assert!(mounted.success(), "a tmpfs cannot be mounted: run the tests as root");
        Self(dir)
    }

    /// A state directory on it. It goes with the disk.
    pub(crate) fn state(&self) -> TempDir {
        let dir = TempDir::new_in(self.0.path()).unwrap();
        assert!(dir.path().starts_with(self.0.path()));
        dir
    }

    /// Takes all room that is left.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        let error = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }

    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have files open on it.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn reserve(state: &Path) -> Option<u64> {
    std::fs::metadata(state.join("journal.reserve")).ok().map(|metadata| metadata.len())
}

fn full(camera: &str, seq: u64) -> Settled {
    let outcome = Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false };
    Settled { camera: camera.parse().unwrap(), seqs: SeqRange::one(seq), session: Some(1), outcome, counted: false }
}

/// Stores a hundred frames of camera a; returns the last.
fn store(bench: &Bench) -> u64 {
    let ledger = bench.ledger("a");
    let seqs = ledger.number(100, None);
    ledger.count(100);
    (seqs.first..=seqs.last).for_each(|seq| bench.settle("a", SeqRange::one(seq), stored(seq as i64)));
    seqs.last
}

/// Room is to be found within 5 s; a busy machine gets three times that.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(15), future).await.unwrap_or_else(|_| panic!("not {what} within 15 s"))
}

/// Stores frames of camera a until the journal has no more room for them; returns how many.
async fn store_until_stuck(bench: &Bench) -> u64 {
    let mut stuck = bench.opened.journal.stuck();
    loop {
        let last = store(bench);
        tokio::select! {
            stuck = soon("stuck or committed", stuck.wait_for(|stuck| *stuck)) => {
                assert!(stuck.is_ok());
                return last;
            }
            () = bench.opened.journal.barrier() => {}
        }
    }
}

#[tokio::test]
async fn a_full_disk_ends_nothing_and_all_of_it_is_recorded_once_there_is_room() {
    let disk = Disk::new(24);
    let bench = Bench::in_dir(disk.state(), &["a", "b"]);
    let state = bench.dir.path().to_owned();
    let stuck = bench.opened.journal.stuck();
    assert_eq!(reserve(&state), Some(8 << 20));
    bench.session("a").await;

    // First the room that was kept is used up, and nobody notices.
    disk.fill();
    while reserve(&state).is_some() {
        store(&bench);
        soon("recorded", bench.opened.journal.barrier()).await;
        assert_eq!(bench.ledger("a").totals().in_flight, 0);
    }
    assert!(!*stuck.borrow());
    disk.fill();
    let frames = store_until_stuck(&bench).await;

    // While it is stuck nothing takes effect.
    let (totals, committed) = (bench.ledger("a").totals(), *bench.opened.journal.committed().borrow());
    let (told, b) = (bench.told.lock().unwrap().len(), bench.ledger("b").number(20_000, None));
    bench.ledger("a").number(20_000, None);
    for seq in b.first..=b.last {
        bench.give(full("b", seq));
        bench.give(full("a", frames + seq));
    }
    let camera: CameraId = "c".parse().unwrap();
    let raw: RawCameraSpec = serde_json::from_str(r#"{"url": "rtsp://192.0.2.1/"}"#).unwrap();
    let put = (camera.clone(), raw.validate(None).unwrap(), ManagedBy::Api);
    let change = CatalogChange { puts: vec![put], ..CatalogChange::default() };
    let mut changed = Box::pin(bench.opened.journal.change_catalog(change));
    assert!(timeout(Duration::from_millis(1_200), &mut changed).await.is_err(), "changed without room");
    soon("answered", bench.opened.journal.answers()).await;
    assert!(*stuck.borrow());
    assert_eq!(bench.ledger("a").totals(), totals);
    assert_eq!(bench.ledger("b").totals(), Totals::default());
    assert_eq!((bench.told.lock().unwrap().len(), *bench.opened.journal.committed().borrow()), (told, committed));

    disk.empty();
    let revisions = soon("changed", changed).await.unwrap();
    assert_eq!(revisions, [1]);
    bench.ledgers.of(&camera);
    bench.give(full("c", 1));
    bench.opened.journal.barrier().await;
    assert!(!*stuck.borrow());
    let all = frames + 20_000;
    assert_eq!(bench.ledger("a").totals(), Totals { captured: all, stored: frames, lost: 20_000, in_flight: 0 });
    assert_eq!(bench.ledger("b").totals(), Totals { captured: 20_000, stored: 0, lost: 20_000, in_flight: 0 });
    assert_eq!(bench.ledger("c").totals().lost, 1);
    assert!(bench.told.lock().unwrap().len() as u64 <= frames + 3, "lost frames became one range a camera");
    // Room is kept again, by a later commit.
    soon("kept again", async {
        while reserve(&state) != Some(8 << 20) {
            bench.opened.journal.barrier().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    let check: String = bench.sql().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    bench.ledger("a").advance_watermark(all);
    let list = bench.list("a", Cursor::default(), 1_000).unwrap();
    let expected: Vec<_> = (1..=frames).map(|seq| (seq, seq)).chain([(frames + 1, all)]).collect();
    assert_eq!(seqs(&list), expected);
    let commits: Vec<u64> = (0..).map(|page| page * 1_000).take_while(|after| *after < frames + 3).collect();
    let numbers = commits.iter().flat_map(|after| bench.opened.reader.commits(*after, 1_000).unwrap().entries);
    assert!(numbers.map(|(number, ..)| number).eq(1..=frames + 3), "commit numbers have a hole");
    // The next start finds nothing to settle.
    let bench = bench.reopen();
    assert_eq!(bench.ledger("a").totals(), Totals { captured: all, stored: frames, lost: 20_000, in_flight: 0 });
    assert_eq!(bench.ledgers.all().len(), 3);
}

#[tokio::test]
async fn it_starts_on_a_full_disk_and_ends_on_one() {
    let disk = Disk::new(24);
    let bench = Bench::in_dir(disk.state(), &["a"]);
    let state = bench.dir.path().to_owned();
    bench.issue("a", 3).await;
    disk.fill();
    // The block that was reserved is settled with the room that was kept.
    let bench = bench.reopen_with(&Spooled::new());
    assert_eq!((bench.totals("a").lost, reserve(&state)), (1_024, None));

    disk.fill();
    store_until_stuck(&bench).await;
    let dir = bench.close();
    disk.empty();
    let bench = Bench::open(dir);
    let totals = bench.totals("a");
    assert_eq!((totals.in_flight, reserve(&state)), (0, Some(8 << 20)));
    assert_eq!((totals.stored, totals.lost), (0, 1_024));
}

#[tokio::test]
async fn no_room_is_kept_where_little_is_free() {
    let disk = Disk::new(12);
    let bench = Bench::in_dir(disk.state(), &["a"]);
    store(&bench);
    soon("recorded", bench.opened.journal.barrier()).await;
    assert_eq!(reserve(bench.dir.path()), None);
}
