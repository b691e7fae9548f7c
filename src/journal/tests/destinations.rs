//! Where frames are, for as long as they are listed.

use super::*;
use crate::journal::PendingManifest;

fn places(places: &[(&str, &str)]) -> BTreeMap<DestinationName, String> {
    places.iter().map(|(name, url)| (name.parse().unwrap(), (*url).to_owned())).collect()
}

fn open(dir: TempDir, there: &[(&str, &str)], spooled: &Spooled) -> Bench {
    let mut state = take(dir.path());
    state.register(&places(there)).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let hear = move |settled| listener.lock().unwrap().push(settled);
    let mut opened = state.recover(spooled, hear, |_| ()).unwrap();
    let ledgers = Ledgers::new(opened.cameras.drain(..).map(|camera| camera.ledger));
    Bench { dir, opened, ledgers, told }
}

fn stored_in(name: &str) -> Outcome {
    let Outcome::Stored(stored) = stored(5) else { unreachable!() };
    Outcome::Stored(Stored { destination: name.parse().unwrap(), ..stored })
}

/// Of each stored frame: its seq, its destination, and what its URL begins with.
fn whereabouts(entries: impl IntoIterator<Item = Entry>) -> Vec<(Seq, String, Option<String>)> {
    let of = |entry| match entry {
        Entry::Frames { seqs, outcome: Outcome::Stored(stored), base_url, .. } => {
            Some((seqs.first, stored.destination.to_string(), base_url))
        }
        _ => None,
    };
    entries.into_iter().filter_map(of).collect()
}

fn at(seq: Seq, name: &str, url: &str) -> (Seq, String, Option<String>) {
    (seq, name.to_owned(), Some(url.to_owned()))
}

#[tokio::test]
async fn a_frame_stays_where_it_was_stored() {
    let before = [("default", "gs://old/"), ("nas", "file:///nas/")];
    let bench = open(Bench::new(&["a"]).close(), &before, &Spooled::new());
    bench.issue("a", 3).await;
    for (seq, name) in [(1, "default"), (2, "nas"), (3, "default")] {
        bench.settle("a", SeqRange::one(seq), stored_in(name));
    }
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(3);

    // Another bucket by the same name, none by the other; and back again, which makes no third row.
    let dir = bench.close();
    let now = [("default", "gs://new/")];
    let dir = open(dir, &now, &Spooled::new()).close();
    let bench = open(dir, &now, &Spooled::new());
    let next = bench.ledger("a").next_seq();
    bench.issue("a", 1).await;
    bench.settle("a", SeqRange::one(next), stored_in("default"));
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(next);
    let expected = [
        at(1, "default", "gs://old/"),
        at(2, "nas", "file:///nas/"),
        at(3, "default", "gs://old/"),
        at(next, "default", "gs://new/"),
    ];
    assert_eq!(whereabouts(bench.list("a", Cursor::default(), 100).unwrap()), expected);
    let commits = bench.opened.reader.commits(0, 100).unwrap().entries;
    assert_eq!(whereabouts(commits.into_iter().map(|(_, _, entry)| entry)), expected);
    let known = take(bench.close().path()).destinations().unwrap();
    assert_eq!(known.iter().map(DestinationName::as_str).collect::<Vec<_>>(), ["default", "nas"]);
}

#[tokio::test]
async fn of_what_version_2_has_stored_nobody_says_where() {
    let bench = Bench::new(&["a"]);
    bench.issue("a", 1).await;
    bench.settle("a", SeqRange::one(1), stored(5));
    bench.opened.journal.barrier().await;
    let dir = bench.close();
    let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    sql.execute_batch(&[BACK_TO_5, BACK_TO_2].concat()).unwrap();
    drop(sql);
    let bench = open(dir, &[("default", "gs://now/")], &Spooled::new());
    let first = whereabouts(bench.list("a", Cursor::default(), 1).unwrap());
    assert_eq!(first, [(1, "default".to_owned(), None)]);
}

/// A camera's frames lie in two spools, as they do when it was given another destination before a crash.
#[tokio::test]
async fn only_what_neither_spool_has_is_lost() {
    let found = |first, last, session| SpooledCamera {
        seqs: vec![SeqRange { first, last }],
        session,
        newest: UnixMicros(last as i64),
    };
    let mut both = found(2, 5, 1);
    both.join(found(8, 9, 2));
    let spooled = Spooled::from([("a".parse().unwrap(), both)]);
    let bench = open(Bench::new(&["a"]).close(), &[("default", "gs://a/"), ("nas", "gs://b/")], &spooled);
    let totals = bench.ledger("a").totals();
    assert_eq!((totals.captured, totals.lost, totals.in_flight, totals.stored), (9, 3, 6, 0));
    assert_eq!(bench.ledger("a").watermark(), 1);
    let resolved = &bench.opened.resolved[&"a".parse().unwrap()];
    assert_eq!((resolved.watermark, resolved.above.as_slice()), (1, &[SeqRange { first: 6, last: 7 }][..]));
    // The next session is none of either.
    assert_eq!(bench.ledger("a").next_session(UnixMicros(1), None, (1, 1)).session, 3);
    for (seqs, name) in [(2..=5, "default"), (8..=9, "nas")] {
        seqs.for_each(|seq| bench.settle("a", SeqRange::one(seq), stored_in(name)));
    }
    bench.opened.journal.barrier().await;
    let entries = bench.opened.reader.page(&"a".parse().unwrap(), Cursor::default(), 100, 9).unwrap().entries;
    assert_eq!(seqs(&entries), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 7), (8, 8), (9, 9)]);
    let crash = |entry: &&Entry| {
        matches!(entry, Entry::Frames { outcome: Outcome::Lost { reason: LostReason::Crash, .. }, .. })
    };
    assert_eq!(entries.iter().filter(crash).count(), 2);
    assert!(bench.ledger("a").totals().in_flight == 0);
}

#[tokio::test]
async fn a_manifest_stays_where_it_was_put() {
    let bench = open(Bench::new(&["a"]).close(), &[("default", "gs://old/"), ("nas", "file:///nas/")], &Spooled::new());
    let a: CameraId = "a".parse().unwrap();
    bench.issue("a", 3).await;
    (1..=3).for_each(|seq| bench.settle("a", SeqRange::one(seq), stored_in("nas")));
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(3);
    let place = |bench: &Bench| bench.opened.reader.manifested().unwrap().remove(0).place;
    assert_eq!(place(&bench).as_deref(), Some("nas"), "none is written: where its newest frame is");
    let put = async |bench: &Bench, seq: Seq| {
        let content = bytes::Bytes::from_static(b"manifest");
        let (camera, crc32c) = (a.clone(), crc32c::crc32c(&content));
        let (seqs, destination) = (SeqRange::one(seq), "default".to_owned());
        let manifest = PendingManifest { camera, seqs, entries: 1, destination, content, crc32c };
        assert_eq!(bench.opened.journal.commit_manifest(manifest).await, Some(true));
        assert_eq!(bench.opened.journal.manifest_stored(a.clone(), seq).await, Some(true));
    };
    put(&bench, 1).await;
    assert_eq!(place(&bench).as_deref(), Some("default"));
    let bench = open(bench.close(), &[("default", "gs://new/")], &Spooled::new());
    put(&bench, 2).await;
    let of = |seq| bench.opened.reader.manifest_of(&a, seq).unwrap().unwrap().base_url;
    assert_eq!([of(1), of(2)], [Some("gs://old/".to_owned()), Some("gs://new/".to_owned())]);
    let rows = bench.opened.reader.stored_manifests(&a, 0, 2, 9).unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.seqs.first, row.base_url.as_deref())).collect::<Vec<_>>(),
        [(2, Some("gs://new/"))]
    );
}
