//! Manifests as bytes, and when they are due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::model::{DestinationName, LostReason, TimeSource, UnixMicros};

fn frame(seq: Seq, session: u32) -> Line {
    let at = UnixMicros(1_767_323_045_000_000 + seq as i64);
    Line::Frame {
        session: Some(session),
        seq,
        captured_at: at,
        stored_at: UnixMicros(at.0 + 7),
        destination: DestinationName::default(),
        url: format!("gs://frames/site/gate-3/{seq}.jpg"),
        key: format!("gate-3/{seq}.jpg"),
        bytes: 150_000 + seq,
        crc32c: 0x1234_5600 + seq as u32,
        width: 1_920,
        height: 1_080,
        damaged: seq == 14,
    }
}

fn lost(first: Seq, last: Seq) -> Line {
    Line::Tombstone { session: None, seqs: SeqRange { first, last }, reason: LostReason::Overrun, maybe_stored: false }
}

fn begin(session: u32) -> Line {
    let codec = Some("h264".to_owned());
    Line::Session {
        session,
        opened: UnixMicros(1),
        codec,
        width: Some(1_920),
        height: None,
        time_source: TimeSource::Rtcp,
    }
}

fn end(session: u32) -> Line {
    Line::SessionEnd { session, closed: Some(UnixMicros(9)), why: Some("stall \"\u{1f4f7}\"".to_owned()) }
}

/// A manifest of these lines, whatever they say.
fn manifest(lines: Vec<Line>) -> Manifest {
    let seqs: Vec<SeqRange> = lines.iter().filter_map(Line::seqs).collect();
    let header = Header {
        camera: "gate-3".parse().unwrap(),
        origin: Origin::from_random([1, 2, 3, 4, 5]),
        seqs: SeqRange { first: seqs[0].first, last: seqs[seqs.len() - 1].last },
        entries: seqs.len() as u64,
        missing_from: None,
        written_at: UnixMicros(1_767_323_105_000_000),
    };
    Manifest { header, lines }
}

fn usual() -> Manifest {
    manifest(vec![frame(8, 1), lost(9, 12), end(1), begin(2), frame(13, 2), frame(14, 2)])
}

#[test]
fn keys_sort_as_their_seqs_do_and_are_read_again() {
    let (camera, origin) = ("gate-3".parse().unwrap(), Origin::from_random([0; 5]));
    let seqs = SeqRange { first: 8, last: 1_007 };
    let key = key(&camera, &origin, seqs);
    assert_eq!(key, "_manifest/gate-3/00000000/000000000008-000000001007.ndjson");
    assert_eq!(parse_file_name(key.strip_prefix(&prefix(&camera, &origin)).unwrap()), Some(seqs));
    for bad in ["", "8-9.ndjson", "000000000009-000000000008.ndjson", "000000000000-000000000008.ndjson", "x.ndjson"] {
        assert_eq!(parse_file_name(bad), None, "{bad}");
    }
}

#[test]
fn a_manifest_is_written_as_it_is_documented() {
    let text = String::from_utf8(usual().to_bytes()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[..5],
        [
            r#"{"format":"framehaul-manifest","version":1,"camera":"gate-3","origin":"04106105","first":8,"last":14,"entries":4,"written_at":"2026-01-02T03:05:05.000000Z"}"#,
            r#"{"type":"frame","session":1,"seq":8,"captured_at":"2026-01-02T03:04:05.000008Z","stored_at":"2026-01-02T03:04:05.000015Z","destination":"default","url":"gs://frames/site/gate-3/8.jpg","key":"gate-3/8.jpg","bytes":150008,"crc32c":"EjRWCA==","width":1920,"height":1080}"#,
            r#"{"type":"tombstone","session":null,"seq":9,"last":12,"reason":"overrun","maybe_stored":false}"#,
            r#"{"type":"session_end","session":1,"closed":"1970-01-01T00:00:00.000009Z","why":"stall \"📷\""}"#,
            r#"{"type":"session","session":2,"opened":"1970-01-01T00:00:00.000001Z","codec":"h264","width":1920,"height":null,"time_source":"rtcp"}"#,
        ]
    );
    assert!(
        lines[6].contains(r#""seq":14,"#) && lines[6].ends_with(r#","height":1080,"damaged":true}"#),
        "{}",
        lines[6]
    );
    assert_eq!(lines.len(), 8);
    let before = text.len() - lines[7].len() - 1;
    let crc32c = write::checksum(crc32c::crc32c(&text.as_bytes()[..before]));
    assert_eq!(lines[7], format!(r#"{{"type":"end","crc32c":"{crc32c}"}}"#));
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let mut after_a_gap = usual();
    after_a_gap.header.missing_from = Some(3);
    for manifest in [usual(), after_a_gap, manifest(vec![lost(1, i64::MAX as u64)])] {
        assert_eq!(read(&manifest.to_bytes()).as_ref(), Ok(&manifest));
    }
}

#[test]
fn no_piece_of_a_manifest_and_none_with_a_bit_flipped_is_taken_for_one() {
    let bytes = usual().to_bytes();
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "the first {end} bytes");
    }
    // Whole lines left out at the end, in the middle, or one after the other.
    let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
    for left_out in 0..lines.len() {
        let rest: Vec<u8> =
            lines.iter().enumerate().filter(|(n, _)| *n != left_out).flat_map(|(_, l)| *l).copied().collect();
        assert!(read(&rest).is_err(), "without line {}", left_out + 1);
    }
    let mut spoilt = bytes.clone();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            spoilt[place] ^= 1 << bit;
            assert!(read(&spoilt).is_err(), "bit {bit} of byte {place}");
            spoilt[place] = bytes[place];
        }
    }
    for more in [&b"\n"[..], b" ", b"{}\n", &bytes] {
        assert!(read(&[&bytes, more].concat()).is_err(), "with {more:?} behind it");
    }
}

/// What a manifest with these lines is refused for, though its checksum is right.
fn refused(lines: Vec<Line>) -> String {
    read(&manifest(lines).to_bytes()).unwrap_err().to_string()
}

/// The same with a text put in place of another.
fn edited(from: &str, to: &str) -> String {
    let text = String::from_utf8(usual().to_bytes()).unwrap();
    assert!(text.contains(from), "{from}");
    let body = text.rsplit_once("{\"type\":\"end\"").unwrap().0.replacen(from, to, 1);
    let end = format!("{{\"type\":\"end\",\"crc32c\":\"{}\"}}\n", write::checksum(crc32c::crc32c(body.as_bytes())));
    read((body + &end).as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_is_out_of_order_is_refused_with_its_line() {
    for (lines, why) in [
        (vec![frame(1, 1), frame(3, 1)], "line 3: it has seq 3, and 2 is next"),
        (vec![frame(2, 1), frame(1, 1), frame(3, 1)], "line 3: it has seq 1, and 3 is next"),
        (vec![frame(1, 1), frame(1, 1)], "line 3: it has seq 1, and 2 is next"),
        (vec![lost(1, 4), frame(4, 1)], "line 3: it has seq 4, and 5 is next"),
        (vec![begin(2), frame(1, 2), begin(2), frame(2, 2)], "line 4: session 2 begins after session 2"),
        (vec![begin(2), frame(1, 2), end(1), frame(2, 2)], "line 4: session 1 ends after session 2"),
        (vec![begin(0), frame(1, 1)], "line 2: 0 is no session"),
    ] {
        let said = refused(lines);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_value() {
    for (from, to, why) in [
        ("framehaul-manifest", "framehaul-manifests", "it is no manifest"),
        ("\"version\":1", "\"version\":2", "version 2"),
        ("\"entries\":4", "\"entries\":5", "it has 4 entries and says 5"),
        ("\"first\":8", "\"first\":0", "0 to 14 are no seqs"),
        ("\"last\":14", "\"last\":15", "its last seq is 15"),
        ("\"last\":14", "\"last\":14,\"missing_from\":8", "`missing_from`"),
        ("\"last\":12", "\"last\":18446744073709551615", "are no seqs"),
        ("gate-3\"", "../gate\"", "is not a camera id"),
        ("04106105", "O4106105", "no origin"),
        ("\"key\":\"gate-3/8.jpg\"", "\"key\":\"../../etc/passwd\"", "no key of an object"),
        ("\"key\":\"gate-3/8.jpg\"", "\"key\":\"/etc/passwd\"", "no key of an object"),
        ("EjRWCA==", "EjRWCB==", "no CRC32C"),
        ("EjRWCA==", "EjRW", "no CRC32C"),
        ("overrun", "forgotten", "`forgotten` is no reason"),
        ("03:04:05.000008Z", "03:04:05Z", "is no time"),
        ("\"type\":\"tombstone\"", "\"type\":\"end\"", "line 3"),
        ("\"type\":\"tombstone\"", "\"type\":\"grave\"", "line 3: unknown variant"),
        ("\"seq\":13", "\"seq\":13,\"seq\":13", "line 6: duplicate field"),
        ("\"session\":null", &format!("\"x\":{}null{}", "[".repeat(500), "]".repeat(500)), "line 3: recursion"),
        ("\"session\":null", &format!("\"x\":\"{}\"", "x".repeat(100_000)), "line 3: EOF"),
    ] {
        let said = edited(from, to);
        assert!(said.contains(why), "{from} -> {to:.40}: {said}");
        assert!(said.len() < 300, "{said}");
    }
}

#[test]
fn what_a_later_version_adds_is_ignored() {
    let text = String::from_utf8(usual().to_bytes()).unwrap();
    let body =
        text.rsplit_once("{\"type\":\"end\"").unwrap().0.replace("\"session\":", "\"new\":{\"a\":[1]},\"session\":");
    let body = body.replacen("\"version\":1", "\"version\":1,\"later\":true", 1);
    let crc32c = write::checksum(crc32c::crc32c(body.as_bytes()));
    let end = format!("{{\"type\":\"end\",\"crc32c\":\"{crc32c}\",\"new\":1}}\n");
    assert_eq!(read((body + &end).as_bytes()), Ok(usual()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..900_usize) {
        let usual = usual().to_bytes();
        let cut = cut.min(usual.len());
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read(&[&usual[..cut], &bytes].concat()).is_err() || (cut == usual.len() && bytes.is_empty()));
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn schedule(most: usize) -> Schedule {
    Schedule::new(MINUTE, 1_000, most, 1)
}

fn camera(n: usize) -> CameraId {
    format!("c{n:04}").parse().unwrap()
}

fn to_one(_: &CameraId) -> String {
    "default".to_owned()
}

#[test]
fn a_manifest_is_due_after_a_minute_or_a_thousand_seqs() {
    let (mut schedule, begun) = (schedule(16), Instant::now());
    schedule.know(camera(1), 500, None, None, begun);
    for (second, watermark) in [(0, 500), (1, 501), (30, 700)] {
        let now = begun + Duration::from_secs(second);
        schedule.look(&camera(1), watermark, now);
        assert_eq!(schedule.take(now, 1_000, to_one), [], "after {second} s");
    }
    assert_eq!((schedule.seqs_left(), schedule.oldest(begun + MINUTE)), (200, Some(Duration::from_secs(59))));
    let now = begun + MINUTE + Duration::from_secs(1);
    schedule.look(&camera(1), 710, now);
    let due = schedule.take(now, 1_000, to_one);
    let expected = Due {
        camera: camera(1),
        destination: "default".to_owned(),
        watermark: 710,
        again: false,
        failures: 0,
        conflict: false,
    };
    assert_eq!(due, [expected]);
    // One at a time, however much there is to tell meanwhile.
    schedule.look(&camera(1), 5_000, now);
    assert_eq!(schedule.take(now + 10 * MINUTE, 1_000, to_one), []);
    schedule.stored(&camera(1), 710, Some(MINUTE), now);
    schedule.look(&camera(1), 5_000, now);
    assert_eq!(schedule.take(now, 1_000, to_one).len(), 1, "more than a thousand are due at once");
    schedule.stored(&camera(1), 1_710, Some(MINUTE), now);
    // However often a piece of a backlog is stored, what is left of it is as old as it is.
    assert_eq!(schedule.oldest(now + MINUTE), Some(2 * MINUTE));
    assert!(!schedule.is_resting());
    schedule.stored(&camera(1), 5_000, None, now);
    assert_eq!((schedule.seqs_left(), schedule.oldest(now), schedule.is_resting()), (0, None, true));
}

#[test]
fn what_failed_is_put_again_and_what_met_other_content_takes_no_place() {
    let (mut schedule, now) = (schedule(1), Instant::now());
    // As the journal knows them at a start.
    schedule.know(camera(1), 10, None, Some("far".to_owned()), now);
    schedule.know(camera(2), 0, None, None, now);
    schedule.look(&camera(2), 2_000, now);
    let due = schedule.take(now, 1_000, to_one);
    assert_eq!(
        due.iter().map(|due| (due.again, &*due.destination)).collect::<Vec<_>>(),
        [(true, "far"), (false, "default")]
    );
    schedule.later(&camera(1), "far".to_owned(), MINUTE, false, now);
    schedule.later(&camera(2), "default".to_owned(), MINUTE, false, now);
    // There is one place, which camera 2 holds while its manifest lies in the journal.
    schedule.look(&camera(3), 2_000, now);
    assert_eq!(schedule.take(now, 1_000, to_one), []);
    let now = now + MINUTE;
    let due = schedule.take(now, 1_000, to_one);
    assert_eq!(due.iter().map(|due| (due.again, due.failures)).collect::<Vec<_>>(), [(true, 1), (true, 1)]);
    schedule.later(&camera(2), "default".to_owned(), MINUTE, true, now);
    assert_eq!(schedule.conflicts(), 1);
    assert_eq!(schedule.take(now, 1_000, to_one)[0].camera, camera(3));
    schedule.stored(&camera(3), 2_000, None, now);
    // A conflict rests, and so does all that is behind it.
    schedule.stored(&camera(1), 20, None, now);
    assert!(schedule.is_resting());
    schedule.retry_now(now);
    assert_eq!(schedule.take(now, 1_000, to_one)[0].camera, camera(2));
    assert!(!schedule.is_resting());
    assert_eq!(schedule.conflicts(), 1, "that it is put again is no sign that nothing is in its way any more");
    schedule.stored(&camera(2), 2_000, None, now);
    assert_eq!(schedule.conflicts(), 0);
}

#[test]
fn one_bucket_that_is_down_takes_no_place_of_anothers() {
    let (mut schedule, now) = (schedule(2), Instant::now());
    for n in 1..=2 {
        schedule.know(camera(n), 0, None, Some("default".to_owned()), now);
    }
    assert_eq!(schedule.take(now, 1_000, to_one).len(), 2);
    for n in 1..=2 {
        schedule.later(&camera(n), "default".to_owned(), MINUTE, false, now);
    }
    let of = |of: &CameraId| if *of == camera(4) { "cold".to_owned() } else { "default".to_owned() };
    for n in 3..=4 {
        schedule.look(&camera(n), 1_000, now);
    }
    let due = schedule.take(now, 1_000, of);
    assert_eq!(due.iter().map(|due| &due.camera).collect::<Vec<_>>(), [&camera(4)]);
    // One that turns out to go elsewhere gives its place back, and is taken again only where there is one.
    schedule.elsewhere(&camera(4), now);
    assert_eq!(schedule.take(now, 1_000, to_one), []);
    assert_eq!(schedule.take(now, 1_000, of).len(), 1);
}

#[test]
fn a_list_that_cannot_be_read_is_asked_for_once_in_a_while() {
    let (mut schedule, begun) = (schedule(16), Instant::now());
    let quarter = Duration::from_millis(250);
    schedule.look(&camera(1), 5_000, begun);
    assert_eq!(schedule.take(begun, 1_000, to_one).len(), 1);
    schedule.nothing(&camera(1), begun);
    let mut taken = Vec::new();
    for nth in 1..=4 * 60 {
        schedule.look(&camera(1), 5_000 + u64::from(nth), begun + nth * quarter);
        taken.extend(schedule.take(begun + nth * quarter, 1_000, to_one).iter().map(|_| nth));
    }
    assert_eq!(taken, [4 * 60], "a turn is wanted after a minute and not before");
}

#[test]
fn a_thousand_cameras_take_turns_and_none_waits_for_ever() {
    let (mut schedule, begun) = (schedule(16), Instant::now());
    let mut through = BTreeMap::new();
    let mut written = BTreeMap::<CameraId, Vec<Duration>>::new();
    let mut most = BTreeSet::new();
    // One camera floods; a put takes a second.
    for second in 0..600_u64 {
        let now = begun + Duration::from_secs(second);
        for n in 0..1_000 {
            let per_second = if n == 0 { 100_000 } else { 2 };
            schedule.look(&camera(n), (second + 1) * per_second, now);
        }
        let due = schedule.take(now, 1_000, to_one);
        most.insert(due.len());
        for Due { camera, watermark, .. } in due {
            schedule.stored(&camera, watermark.min(through.get(&camera).unwrap_or(&0) + 1_000), None, now);
            through.insert(camera.clone(), watermark);
            written.entry(camera).or_default().push(Duration::from_secs(second));
        }
    }
    assert_eq!(most.last(), Some(&16));
    assert_eq!(written.len(), 1_000);
    let longest = written.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0])).max().unwrap();
    // Sixteen a second are 960 a minute: even so nobody waits much longer than the others.
    assert!(longest <= MINUTE + Duration::from_secs(15), "{longest:?}");
}

#[test]
fn cameras_that_begin_together_are_spread_and_never_late() {
    let (mut schedule, begun) = (schedule(10_000), Instant::now());
    for n in 0..1_000 {
        schedule.look(&camera(n), 1, begun);
    }
    let mut at = BTreeMap::new();
    for second in 0..=60 {
        let due = schedule.take(begun + Duration::from_secs(second), 1_000, to_one).len();
        at.insert(second, due);
    }
    assert_eq!(at.values().sum::<usize>(), 1_000);
    assert!(at.range(..44).all(|(_, due)| *due == 0) && at.values().max() < Some(&150), "{at:?}");
}
