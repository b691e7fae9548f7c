//! Manifests in the journal: one after the other, the same bytes until they are stored, and nothing removed before.

use super::*;
use crate::journal::{Manifested, Part, PendingManifest};

/// Stands for a manifest; what is in it is not the journal's to judge.
fn manifest(camera: &str, first: Seq, last: Seq) -> PendingManifest {
    let content = format!("{camera} {first} {last}").repeat(10).into_bytes();
    let (seqs, crc32c) = (SeqRange { first, last }, crc32c::crc32c(&content));
    let (camera, destination) = (camera.parse().unwrap(), "default".to_owned());
    PendingManifest { camera, seqs, entries: 1, destination, content: content.into(), crc32c }
}

/// A camera with frames 1 to `last`, all listed.
async fn listed(camera: &str, last: Seq) -> Bench {
    let bench = Bench::new(&[camera]);
    bench.session(camera).await;
    bench.issue(camera, last).await;
    (1..=last).for_each(|seq| bench.settle(camera, SeqRange::one(seq), stored(1)));
    bench.opened.journal.barrier().await;
    bench.ledger(camera).advance_watermark(last);
    bench
}

fn part(bench: &Bench, limit: usize) -> Option<Part> {
    let watermark = bench.ledger("a").watermark();
    bench.opened.reader.part(&"a".parse().unwrap(), limit, watermark).unwrap()
}

/// As if a manifest up to there were stored.
fn told(bench: &Bench, first: Seq, last: Seq) {
    let row = "INSERT INTO manifest (camera, first, last, entries, bytes, crc32c, destination, stored_at)
               VALUES ((SELECT num FROM camera WHERE id = 'a'), ?1, ?2, 1, 1, 1, 'default', 1)";
    bench.sql().execute(row, [first as i64, last as i64]).unwrap();
}

impl Bench {
    fn known(&self) -> (Seq, Option<String>) {
        let all = self.opened.reader.manifested().unwrap();
        let Manifested { through, pending, .. } = all.into_iter().find(|known| known.camera.as_str() == "a").unwrap();
        (through, pending)
    }
}

#[tokio::test]
async fn each_manifest_begins_where_the_last_one_ended_and_keeps_its_bytes_until_it_is_stored() {
    let bench = listed("a", 9).await;
    let (a, journal) = ("a".parse::<CameraId>().unwrap(), bench.opened.journal.clone());
    assert_eq!(bench.known(), (0, None));
    assert_eq!(journal.commit_manifest(manifest("a", 2, 4)).await, Some(false), "a hole");
    assert_eq!(journal.manifest_stored(a.clone(), 4).await, Some(false), "there is none");
    assert_eq!(journal.commit_manifest(manifest("a", 1, 4)).await, Some(true));
    assert_eq!(journal.commit_manifest(manifest("a", 1, 5)).await, Some(false), "seqs twice");
    assert_eq!(journal.commit_manifest(manifest("a", 5, 6)).await, Some(false), "two at a time");
    assert_eq!(journal.manifest_stored(a.clone(), 3).await, Some(false), "another one");

    let bench = bench.reopen();
    let journal = bench.opened.journal.clone();
    assert_eq!(bench.known(), (0, Some("default".to_owned())));
    let pending = || bench.opened.reader.pending_manifest(&a).unwrap();
    assert_eq!(pending(), Some(manifest("a", 1, 4)));
    assert_eq!(journal.manifest_stored(a.clone(), 4).await, Some(true));
    assert_eq!((pending(), bench.known()), (None, (4, None)));
    for (first, last, fits) in [(4, 6, false), (6, 6, false), (5, 6, true)] {
        assert_eq!(journal.commit_manifest(manifest("a", first, last)).await, Some(fits), "{first} to {last}");
    }
    assert_eq!(journal.manifest_stored(a.clone(), 6).await, Some(true));
    let holds =
        |seq| bench.opened.reader.manifest_of(&a, seq).unwrap().map(|found| (found.seqs.first, found.seqs.last));
    assert_eq!([1, 4, 5, 6, 7].map(holds), [Some((1, 4)), Some((1, 4)), Some((5, 6)), Some((5, 6)), None]);

    // Bytes that the disk has spoilt are put nowhere.
    assert_eq!(journal.commit_manifest(manifest("a", 7, 9)).await, Some(true));
    bench.sql().execute("UPDATE manifest_pending SET content = zeroblob(10)", []).unwrap();
    let error = bench.opened.reader.pending_manifest(&a).unwrap_err().to_string();
    assert!(error.contains("camera a: manifest 7 to 9 is damaged"), "{error}");
}

#[tokio::test]
async fn a_part_holds_whole_runs_up_to_the_watermark_and_tells_how_sessions_ended() {
    let bench = Bench::new(&["a"]);
    bench.session("a").await;
    bench.issue("a", 6).await;
    bench.settle("a", SeqRange::one(1), stored(5));
    bench.settle("a", SeqRange { first: 2, last: 5 }, LOST);
    bench.settle("a", SeqRange::one(6), stored(6));
    assert_eq!(part(&bench, 9), None, "nothing is listed");
    assert_eq!(bench.session("a").await, 2);
    bench.issue("a", 2).await;
    for seq in [7, 8] {
        let (camera, outcome) = ("a".parse().unwrap(), stored(seq));
        bench.give(Settled { camera, seqs: SeqRange::one(seq as u64), session: Some(2), outcome, counted: true });
    }
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(7);

    let first = part(&bench, 2).unwrap();
    assert_eq!((first.seqs, first.missing_from), (SeqRange { first: 1, last: 5 }, None));
    assert!(matches!(
        first.entries[..],
        [Entry::Session { session: 1, .. }, Entry::Frames { .. }, Entry::Frames { .. }]
    ));
    assert!(first.ends.is_empty(), "none has ended before the first");
    told(&bench, 1, 5);
    let second = part(&bench, 9).unwrap();
    assert_eq!((second.seqs, seqs(&second.entries)), (SeqRange { first: 6, last: 7 }, vec![(6, 6), (7, 7)]));
    assert!(matches!(second.entries[1], Entry::Session { session: 2, .. }));
    let end = &second.ends[&2];
    assert_eq!((end.session, end.closed, end.why.as_deref()), (1, Some(UnixMicros(8)), Some("stall")));
    told(&bench, 6, 7);
    assert_eq!(part(&bench, 9), None, "the rest is not in the list yet");
}

#[tokio::test]
async fn retention_takes_nothing_that_is_in_no_stored_manifest() {
    let bench = listed("a", 9).await;
    let journal = bench.opened.journal.clone();
    let age = Age { before: UnixMicros(i64::MAX), now: UnixMicros(i64::MAX) };
    let prune = async || journal.prune(bench.ledger("a"), age, true).await.unwrap().entries;
    assert_eq!(prune().await, 0);
    assert_eq!(journal.commit_manifest(manifest("a", 1, 4)).await, Some(true));
    assert_eq!(prune().await, 0, "it is on its way");
    assert_eq!(journal.manifest_stored("a".parse().unwrap(), 4).await, Some(true));
    assert_eq!(prune().await, 4);
    assert_eq!(prune().await, 0);
    assert_eq!(seqs(&bench.list("a", Cursor::after(4), 9).unwrap()), [(5, 5), (6, 6), (7, 7), (8, 8), (9, 9)]);

    // While there are no manifests it takes all, and the next one says what is missing. Nothing waits for one then.
    assert_eq!(bench.prune("a", 2).await.entries, 5);
    assert_eq!(bench.known(), (9, None));
    let seqs = bench.issue("a", 1).await;
    assert_eq!(seqs.first, 10);
    bench.settle("a", seqs, stored(1));
    journal.barrier().await;
    bench.ledger("a").advance_watermark(10);
    let next = part(&bench, 9).unwrap();
    assert_eq!((next.seqs, next.missing_from), (SeqRange::one(10), Some(5)));
    assert_eq!(journal.commit_manifest(manifest("a", 5, 10)).await, Some(false));
    assert_eq!(journal.commit_manifest(manifest("a", 10, 10)).await, Some(true));
}

#[tokio::test]
async fn a_journal_of_version_2_has_no_manifests_yet() {
    let dir = listed("a", 3).await.close();
    let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    sql.execute_batch(&[BACK_TO_5, BACK_TO_2].concat()).unwrap();
    drop(sql);
    let bench = Bench::open(dir);
    assert_eq!(bench.known(), (0, None));
    assert_eq!(part(&bench, 9).unwrap().seqs.first, 1);
}

/// What a manifest of a thousand frames costs the journal; printed for whoever asks.
#[tokio::test]
async fn bytes_that_were_stored_take_no_room_for_ever() {
    let bench = listed("a", 1).await;
    let journal = bench.opened.journal.clone();
    let pages = || -> i64 {
        let sql = bench.sql();
        let all: i64 = sql.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let free: i64 = sql.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap();
        all - free
    };
    let before = pages();
    let mut most = 0;
    let mut committing = Duration::ZERO;
    for nth in 0..50 {
        let content: bytes::Bytes = vec![b'x'; 400_000].into();
        let crc32c = crc32c::crc32c(&content);
        let begun = Instant::now();
        let next = PendingManifest { content, crc32c, ..manifest("a", nth + 1, nth + 1) };
        assert_eq!(journal.commit_manifest(next).await, Some(true));
        committing += begun.elapsed();
        most = most.max(pages() - before);
        assert_eq!(journal.manifest_stored("a".parse().unwrap(), nth + 1).await, Some(true));
    }
    let after = pages() - before;
    println!("400 KB committed in {:?}; {most} pages while it was on its way, {after} after 50", committing / 50);
    assert!(most >= 97 && after <= 3, "{most} pages, {after} after");
}
