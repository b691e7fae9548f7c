//! Recovery with a spool: what lies there goes on, what lies nowhere is lost, and the accounts agree.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bench, LOST, Spooled, seqs, stored};
use crate::journal::{Entry, Reader, Totals};
use crate::model::{Cursor, LostReason, Outcome, Resolved, Seq, SeqRange, Settled, SpooledCamera, UnixMicros};

fn range(first: Seq, last: Seq) -> SeqRange {
    SeqRange { first, last }
}

fn spooled(camera: &str, seqs: &[SeqRange], session: u32, newest: i64) -> Spooled {
    let found = SpooledCamera { seqs: seqs.to_vec(), session, newest: UnixMicros(newest) };
    Spooled::from([(camera.parse().unwrap(), found)])
}

fn lost(seqs: SeqRange, session: Option<u32>, reason: LostReason, counted: bool) -> Settled {
    let outcome = Outcome::Lost { reason, maybe_stored: false };
    Settled { camera: "a".parse().unwrap(), seqs, session, outcome, counted }
}

impl Bench {
    fn resolved(&self, camera: &str) -> Resolved {
        self.opened.resolved[&camera.parse().unwrap()].clone()
    }

    /// The seqs that were lost by a crash, as the rows have them.
    fn crashed(&self, camera: &str) -> Vec<(Seq, Seq, Option<u32>)> {
        let sql = self.sql();
        let mut statement = sql
            .prepare(
                "SELECT seq, last, session FROM frame WHERE lost = 'crash' AND maybe_stored = 1
                 AND camera = (SELECT num FROM camera WHERE id = ?1) ORDER BY seq",
            )
            .unwrap();
        let rows = statement
            .query_map([camera], |row| Ok((row.get::<_, i64>(0)? as Seq, row.get::<_, i64>(1)? as Seq, row.get(2)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn sessions(&self, camera: &str) -> Vec<(u32, Seq, Option<i64>, Option<String>)> {
        let sql = self.sql();
        let mut statement = sql
            .prepare(
                "SELECT session, first_seq, closed, why FROM session
                 WHERE camera = (SELECT num FROM camera WHERE id = ?1) ORDER BY session",
            )
            .unwrap();
        let rows = statement
            .query_map([camera], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as Seq, row.get(2)?, row.get(3)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}

#[tokio::test]
async fn what_lies_in_the_spool_goes_on_and_holes_are_lost() {
    let bench = Bench::new(&["a"]);
    bench.session("a").await;
    let ledger = bench.ledger("a");
    // On disk: all but 5, which was lost before, and 6 and 10, which were still on their way there.
    ledger.number(11, None);
    ledger.count(8);
    for (seq, at) in [(2, 20), (7, 70), (1, 10)] {
        bench.settle("a", SeqRange::one(seq), stored(at));
    }
    bench.give(lost(range(5, 5), Some(1), LostReason::Overrun, false));
    bench.opened.journal.barrier().await;
    let before = bench.totals("a");
    assert_eq!(before, Totals { captured: 9, stored: 3, lost: 1, in_flight: 5 });

    // Seq 7 has its outcome; its segment was not removed yet.
    let found = spooled("a", &[range(3, 4), range(7, 9), range(11, 11)], 1, 110);
    let bench = bench.reopen_with(&found);
    let expected = Totals { captured: 11, stored: 3, lost: 3, in_flight: 5 };
    assert_eq!(bench.totals("a"), expected);
    assert_eq!(bench.crashed("a"), [(6, 6, Some(1)), (10, 10, Some(1))]);
    assert_eq!(bench.resolved("a"), Resolved { watermark: 2, above: vec![range(5, 7), range(10, 10)] });
    assert_eq!(bench.ledger("a").watermark(), 2);
    assert_eq!(bench.ledger("a").next_seq(), 12);
    // A look from outside, beside the daemon, finds the same.
    let look = Reader::of(bench.dir.path()).unwrap();
    let waits = |camera: &str, seqs: &[SeqRange]| look.unresolved(&camera.parse().unwrap(), seqs).unwrap();
    assert_eq!(waits("a", &[range(2, 5), range(7, 12)]), [range(3, 4), range(8, 9), range(11, 12)]);
    assert_eq!(waits("a", &[range(8, 9)]), [range(8, 9)]);
    assert_eq!(waits("a", &[range(1, 2), range(6, 6)]), []);
    assert_eq!(waits("b", &[range(1, 9)]), [range(1, 9)]);
    assert_eq!(waits("a", &[]), []);
    assert_eq!(look.origin().unwrap(), bench.opened.origin);
    // A second start that finds the same settles nothing more.
    let bench = bench.reopen_with(&found);
    assert_eq!((bench.totals("a"), bench.commits(0).len()), (expected, 6));

    // The rest ends, out of order; then nothing is in flight and the list is whole.
    for seq in [11, 8, 3, 9, 4] {
        bench.settle("a", SeqRange::one(seq), stored(seq as i64 * 10));
    }
    let bench = bench.reopen_with(&spooled("a", &[range(8, 9), range(11, 11)], 1, 110));
    assert_eq!(bench.totals("a"), Totals { captured: 11, stored: 8, lost: 3, in_flight: 0 });
    assert_eq!(bench.resolved("a"), Resolved { watermark: 11, above: vec![] });
    let list = bench.list("a", Cursor::default(), 9).unwrap();
    assert_eq!(seqs(&list), (1..=11).map(|seq| (seq, seq)).collect::<Vec<_>>());
}

#[tokio::test]
async fn frames_of_a_spool_that_is_gone_are_not_forgotten() {
    let bench = Bench::new(&["a"]).reopen_with(&spooled("a", &[range(1, 40)], 1, 400));
    assert_eq!(bench.totals("a").in_flight, 40);
    let bench = bench.reopen_with(&Spooled::new());
    assert_eq!(bench.totals("a"), Totals { captured: 40, stored: 0, lost: 40, in_flight: 0 });
    assert_eq!(bench.crashed("a"), [(1, 40, None)]);
    assert_eq!(bench.ledger("a").next_seq(), 41);

    // While it runs it is told how far the spool is, for all cameras together; the newest word counts.
    let highest = |seq| [("a".parse().unwrap(), seq)].into();
    let ledger = bench.ledger("a");
    ledger.number(2, None);
    ledger.count(2);
    bench.opened.journal.spooled(highest(42));
    bench.opened.journal.spooled(highest(41));
    bench.opened.journal.barrier().await;
    let bench = bench.reopen_with(&Spooled::new());
    assert_eq!(bench.totals("a"), Totals { captured: 42, stored: 0, lost: 42, in_flight: 0 });

    // After an orderly end the journal knows of what the spool had taken since.
    let ledger = bench.ledger("a");
    ledger.number(5, None);
    ledger.count(5);
    bench.opened.journal.return_unused(ledger.camera().clone(), ledger.next_seq());
    let bench = bench.reopen_with(&Spooled::new());
    assert_eq!(bench.totals("a").captured, 47);
}

#[tokio::test]
async fn a_camera_that_only_the_spool_knows_is_a_deleted_one() {
    let bench = Bench::new(&["a"]).reopen_with(&spooled("b", &[range(5, 6), range(8, 8)], 3, 80));
    assert_eq!(bench.totals("b"), Totals { captured: 8, stored: 0, lost: 5, in_flight: 3 });
    assert_eq!(bench.crashed("b"), [(1, 4, None), (7, 7, None)]);
    let spec =
        bench.sql().query_row("SELECT spec FROM camera WHERE id = 'b'", [], |row| row.get::<_, Option<String>>(0));
    assert_eq!(spec, Ok(None));
    assert_eq!(bench.ledger("b").next_session(UnixMicros(9), None, (1, 1)).session, 4);
    assert_eq!(bench.totals("a"), Totals::default());
}

#[tokio::test]
async fn sessions_end_with_their_newest_frame_on_disk_or_in_the_list() {
    // Each has one frame in the list, captured at 50; the spool's newest is of session 1.
    for (session, newest, closed) in [(1, 90, 90), (1, 40, 50), (2, 90, 50), (1, 3, 50)] {
        let bench = Bench::new(&["a"]);
        bench.session("a").await;
        bench.ledger("a").number(2, None);
        bench.ledger("a").count(2);
        bench.settle("a", SeqRange::one(1), stored(50));
        let bench = bench.reopen_with(&spooled("a", &[range(2, 2)], session, newest));
        assert_eq!(bench.sessions("a"), [(1, 1, Some(closed), Some("crash".to_owned()))], "{session} {newest}");
    }
    // Without any frame: when it was opened.
    let bench = Bench::new(&["a"]);
    bench.session("a").await;
    assert_eq!(bench.reopen().sessions("a")[0].2, Some(7));
}

#[tokio::test]
async fn a_session_whose_frames_never_reached_the_disk_does_not_overtake_the_next_one() {
    let bench = Bench::new(&["a"]);
    bench.session("a").await;
    bench.ledger("a").number(6, None);
    // Session 2 is to begin with seq 7; of session 1 three frames reached the disk, of session 2 none.
    bench.session("a").await;
    bench.ledger("a").number(2, None);
    let bench = bench.reopen_with(&spooled("a", &[range(1, 3)], 1, 30));
    assert_eq!(bench.session("a").await, 3);
    bench.ledger("a").number(9, None);
    for seq in 1..=12 {
        let session = if seq <= 3 { Some(1) } else { Some(3) };
        let camera = "a".parse().unwrap();
        bench.give(Settled { camera, seqs: SeqRange::one(seq), session, outcome: stored(1), counted: seq <= 3 });
    }
    bench.opened.journal.barrier().await;
    bench.ledger("a").advance_watermark(12);
    let list = bench.list("a", Cursor::default(), 5).unwrap();
    let told: Vec<String> = list
        .iter()
        .map(|entry| match entry {
            Entry::Session { session, .. } => format!("session {session}"),
            Entry::Frames { seqs, session, .. } => format!("{} of {}", seqs.first, session.unwrap()),
        })
        .collect();
    let place = |what: &str| told.iter().position(|told| told == what).unwrap();
    assert_eq!((place("session 1"), place("session 2"), place("session 3"), place("4 of 3")), (0, 4, 5, 6), "{told:?}");
    assert_eq!(bench.totals("a"), Totals { captured: 12, stored: 12, lost: 0, in_flight: 0 });
}

#[tokio::test]
async fn a_run_without_a_session_is_parted_where_sessions_begin() {
    let bench = Bench::new(&["a"]);
    let ledger = bench.ledger("a");
    ledger.number(2, None);
    for frames in [4, 0, 3] {
        bench.session("a").await;
        if frames > 0 {
            ledger.number(frames, None);
        }
    }
    ledger.count(8);
    // The first two were lost before there was a session; 4 has its outcome.
    bench.give(lost(range(1, 1), None, LostReason::Overrun, false));
    bench.settle("a", SeqRange::one(4), stored(40));
    bench.give(lost(range(2, 9), None, LostReason::SpoolFull, true));
    // All of it once more, and a part of it: nothing is news.
    bench.give(lost(range(2, 9), None, LostReason::SpoolFull, true));
    bench.settle("a", SeqRange::one(6), stored(60));
    bench.settle("a", range(8, 9), LOST);
    bench.opened.journal.barrier().await;
    let told: Vec<_> = bench.told.lock().unwrap().iter().map(|s| (s.seqs.first, s.seqs.last, s.session)).collect();
    let parts = [(2, 2, None), (3, 3, Some(1)), (5, 6, Some(1)), (7, 9, Some(3))];
    assert_eq!(told, [[(1, 1, None), (4, 4, Some(1))].as_slice(), &parts].concat());
    bench.ledger("a").advance_watermark(9);
    let list = bench.list("a", Cursor::default(), 99).unwrap();
    assert_eq!(seqs(&list), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 9)]);
    assert_eq!(bench.totals("a"), Totals { captured: 9, stored: 1, lost: 8, in_flight: 0 });
    assert_eq!(bench.ledger("a").accounts().lost_by[LostReason::SpoolFull as usize], 7);
    // The capture process's own losses between two sessions are of none.
    bench.give(lost(range(10, 11), None, LostReason::Corrupt, false));
    bench.opened.journal.barrier().await;
    assert_eq!(bench.told.lock().unwrap().last().unwrap().session, None);
    assert_eq!(bench.commits(0).len(), 7);
}

/// What a spool and its daemon would do, at random, with crashes between.
#[tokio::test]
async fn over_any_number_of_crashes_no_frame_is_missing_and_captured_never_falls() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(&["a"]);
        // In the spool, with what its outcome must be once it has one; and what was settled, by seq.
        let (mut on_disk, mut pending, mut ended) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for _ in 0..8 {
            let session = bench.session("a").await;
            let ledger = bench.ledger("a");
            for _ in 0..rng.usize(1..40) {
                match rng.u32(0..10) {
                    0..=3 => pending.extend(std::iter::once(ledger.number(1, Some(UnixMicros(5))).first)),
                    4 => {
                        ledger.count(pending.len() as u64);
                        on_disk.append(&mut pending);
                    }
                    5..=7 => {
                        let unresolved: Vec<Seq> =
                            on_disk.iter().filter(|seq| !ended.contains_key(*seq)).take(5).copied().collect();
                        if let Some(seq) = rng.choice(unresolved) {
                            ended.insert(seq, "stored");
                            bench.settle("a", SeqRange::one(seq), stored(seq as i64));
                        }
                    }
                    8 => {
                        let seqs = ledger.number(rng.u64(1..4), None);
                        ended.extend((seqs.first..=seqs.last).map(|seq| (seq, "overrun")));
                        bench.give(lost(seqs, Some(session), LostReason::Overrun, false));
                    }
                    _ => {
                        let unresolved = on_disk.iter().filter(|seq| !ended.contains_key(*seq));
                        if let Some(seq) = unresolved.max().copied() {
                            ended.insert(seq, "spool_full");
                            bench.give(lost(SeqRange::one(seq), None, LostReason::SpoolFull, true));
                        }
                    }
                }
            }
            bench.opened.journal.barrier().await;
            let before = bench.totals("a");
            // Some of what was on its way is on disk, although nobody was told; settled frames may be gone from it.
            on_disk.extend(pending.iter().filter(|_| rng.bool()));
            pending.clear();
            on_disk.retain(|seq| !ended.contains_key(seq) || rng.bool());
            let ranges: Vec<SeqRange> = on_disk.iter().copied().map(SeqRange::one).collect();
            let found = if ranges.is_empty() { Spooled::new() } else { spooled("a", &ranges, session, 5) };
            bench = bench.reopen_with(&found);
            let (after, next_seq) = (bench.totals("a"), bench.ledger("a").next_seq());
            assert!(after.captured >= before.captured && after.captured == next_seq - 1, "seed {seed}: {after:?}");
            assert_eq!(after.stored, before.stored, "seed {seed}");
            let in_flight: Vec<Seq> = on_disk.iter().filter(|seq| !ended.contains_key(*seq)).copied().collect();
            assert_eq!(after.in_flight, in_flight.len() as u64, "seed {seed}");
            for seq in (1..next_seq).filter(|seq| !in_flight.contains(seq)) {
                ended.entry(seq).or_insert("crash");
            }
            let Resolved { watermark, above } = bench.resolved("a");
            let resolved: Vec<Seq> = (1..=watermark).chain(above.iter().flat_map(|r| r.first..=r.last)).collect();
            assert_eq!(resolved, ended.keys().copied().collect::<Vec<_>>(), "seed {seed}");
        }
        bench.ledger("a").advance_watermark(bench.ledger("a").next_seq() - 1);
        let mut listed = BTreeMap::new();
        for entry in bench.list("a", Cursor::default(), 100).unwrap() {
            let Entry::Frames { seqs, outcome, .. } = entry else { continue };
            let how = match outcome {
                Outcome::Stored(_) => "stored",
                Outcome::Lost { reason, .. } => reason.as_str(),
            };
            for seq in seqs.first..=seqs.last {
                assert_eq!(listed.insert(seq, how), None, "seed {seed}: seq {seq} twice");
            }
        }
        assert_eq!(listed, ended, "seed {seed}");
    }
}
