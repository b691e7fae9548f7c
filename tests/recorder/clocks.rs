//! What a recorder's times mean.

use std::time::Duration;

use framehaul::nvr::{ClockMode, DeviceClock, Recorder, RecorderSettings, Segment, Zone};
use testbed::nvr::{Channel, ClockMode as Written, Knobs, NvrServer, Options};
use time::macros::datetime;

use crate::stage::{client, client_of, fetch, found, keys, names, query, recorder, settings, utc};

const BERLIN: &str = "CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00";
const NEW_YORK: &str = "EST5:00:00DST01:00:00,M3.2.0/02:00:00,M11.1.0/02:00:00";

/// So many recordings of ten minutes, from an hour before the hour that comes twice in Berlin.
fn twice(recordings: u32, knobs: Knobs) -> NvrServer {
    let begin = "2026-10-24T23:00:00".into();
    let channel = Channel { recordings, begin, ..Channel::default() };
    let knobs = Knobs { zone: BERLIN.into(), ..knobs };
    NvrServer::start(Options { channels: vec![channel], knobs, ..Options::default() }).unwrap()
}

async fn clock(client: &dyn Recorder) -> DeviceClock {
    client.identify().await.unwrap().1.clock
}

/// When each of them begins in truth.
fn begins(segments: &[Segment]) -> Vec<String> {
    segments.iter().map(|of| of.start.utc.to_string().replace(".000000Z", "")).collect()
}

#[tokio::test]
async fn quirk_07_the_time_on_the_wall_is_what_it_is_there() {
    for (zone, own) in [(BERLIN, None), ("UTC0:00:00", Some("Europe/Berlin")), (NEW_YORK, Some("Europe/Berlin"))] {
        let server = twice(6, Knobs { told_zone: Some(zone.into()), ..Knobs::default() });
        let given = own.map(|name| name.parse::<Zone>().unwrap());
        let client = client_of(RecorderSettings { zone: given, ..settings(&server) });
        let of = clock(&*client).await;
        assert!(!of.writes_utc() && of.ahead().abs() < time::Duration::seconds(2), "{zone}: {of:?}");
        let segments = found(&*client, query("101", "2026-10-24T23:10:00", "2026-10-24T23:40:00")).await.unwrap();
        assert_eq!(keys(&segments), names(&server, 101)[1..4], "{zone}");
        assert_eq!(segments[0].start.literal, datetime!(2026-10-25 01:10));
        assert_eq!(segments[0].start.utc, utc("2026-10-24T23:10:00"));
    }
    // Where nobody knows better, the zone that it tells is believed, and its clock taken for wrong.
    let server = twice(6, Knobs { told_zone: Some("UTC0:00:00".into()), ..Knobs::default() });
    let client = client(&server);
    assert!(clock(&*client).await.ahead() > time::Duration::minutes(50));
    let segments = found(&*client, query("101", "2026-10-25T01:10:00", "2026-10-25T01:40:00")).await.unwrap();
    assert_eq!(keys(&segments), names(&server, 101)[1..4]);
    assert_eq!(segments[0].start.utc, utc("2026-10-25T01:10:00"));
}

#[tokio::test]
async fn quirk_07_the_hour_that_comes_twice_is_searched_twice_and_found_once() {
    for (page, ignore_position) in [(64, false), (5, false), (64, true)] {
        let server = twice(36, Knobs { page, ignore_position, ..Knobs::default() });
        let client = client(&server);
        let all = found(&*client, query("101", "2026-10-24T22:00:00", "2026-10-25T06:00:00")).await.unwrap();
        assert_eq!(keys(&all), names(&server, 101), "{page} {ignore_position}");
        let truth: Vec<String> = server.recordings().into_iter().map(|file| file.begin).collect();
        assert_eq!(begins(&all), truth, "{page} {ignore_position}");
        assert!(all.iter().all(|of| of.end.utc.since(of.start.utc) == Duration::from_secs(600)));
        assert_eq!(all.iter().filter(|of| of.start.ambiguous).count(), 12);
    }
}

#[tokio::test]
async fn quirk_07_a_span_that_begins_and_ends_within_that_hour_has_what_it_overlaps() {
    let server = twice(36, Knobs::default());
    let client = client(&server);
    // From half past two to half past two, an hour later.
    let within = found(&*client, query("101", "2026-10-25T00:30:00", "2026-10-25T01:30:00")).await.unwrap();
    let names = names(&server, 101);
    let (keys, wanted) = (keys(&within), &names[9..15]);
    assert!(wanted.iter().all(|name| keys.contains(name)), "{keys:?}");
    // What is not sure to lie outside may come with it, and nothing twice.
    assert!(keys.iter().all(|name| names[5..18].contains(name)), "{keys:?}");
    assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
}

#[tokio::test]
async fn quirk_07_recordings_without_names_come_once_from_that_hour_too() {
    let server = twice(36, Knobs { nameless: true, ..Knobs::default() });
    let all = found(&*client(&server), query("101", "2026-10-24T22:00:00", "2026-10-25T06:00:00")).await.unwrap();
    let truth: Vec<String> = server.recordings().into_iter().map(|file| file.begin).collect();
    assert_eq!(begins(&all), truth);
    let mut identities: Vec<String> = all.iter().map(|of| of.identity().1).collect();
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), 36);
}

#[tokio::test]
async fn quirk_07_the_hour_that_never_comes_hides_nothing() {
    let channel = Channel { recordings: 18, begin: "2026-03-29T00:00:00".into(), ..Channel::default() };
    let knobs = Knobs { zone: BERLIN.into(), ..Knobs::default() };
    let server = NvrServer::start(Options { channels: vec![channel], knobs, ..Options::default() }).unwrap();
    let client = client(&server);
    let all = found(&*client, query("101", "2026-03-29T00:00:00", "2026-03-29T03:00:00")).await.unwrap();
    let truth: Vec<String> = server.recordings().into_iter().map(|file| file.begin).collect();
    assert_eq!(begins(&all), truth);
    assert_eq!(
        (all[5].end.to_string(), all[6].start.to_string()),
        ("2026-03-29T03:00:00".into(), "2026-03-29T03:00:00".into())
    );
}

#[tokio::test]
async fn quirk_07_utc_is_read_as_utc_and_an_offset_that_lies_is_not_believed() {
    let server = twice(36, Knobs { clock: Written::Utc, ..Knobs::default() });
    let client = client_of(RecorderSettings { clock: ClockMode::Utc, ..settings(&server) });
    let of = clock(&*client).await;
    assert!(of.writes_utc());
    let all = found(&*client, query("101", "2026-10-24T22:00:00", "2026-10-25T06:00:00")).await.unwrap();
    assert_eq!(keys(&all), names(&server, 101));
    assert_eq!(all[0].start.literal, datetime!(2026-10-24 23:00));
    // What somebody means who looks at the wall.
    let span = of.span(datetime!(2026-10-25 02:00), datetime!(2026-10-25 03:00));
    assert_eq!((span.from, span.to), (utc("2026-10-25T00:00:00"), utc("2026-10-25T02:00:00")));

    let lies = Knobs { zone: BERLIN.into(), offset_lies: true, clock_ahead_s: 90, ..Knobs::default() };
    server.change_knobs(|knobs| *knobs = lies).unwrap();
    let of = clock(&*crate::stage::client(&server)).await;
    assert!((of.ahead() - time::Duration::seconds(90)).abs() < time::Duration::seconds(3), "{of:?}");
}

#[tokio::test]
async fn quirk_07_which_time_it_writes_is_found_out() {
    for zone in [BERLIN, NEW_YORK, "IST-5:30:00", "UTC0:00:00"] {
        for written in [Written::Wall, Written::Utc] {
            // Something is being recorded, as on most recorders at most times.
            let now = time::OffsetDateTime::now_utc() - time::Duration::hours(8);
            let begin = now.format(time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]"));
            let channel = Channel { recordings: 60, begin: begin.unwrap(), ..Channel::default() };
            let knobs = Knobs { zone: zone.into(), clock: written, page: 20, ..Knobs::default() };
            let server = NvrServer::start(Options { channels: vec![channel], knobs, ..Options::default() }).unwrap();
            let client = client_of(RecorderSettings { clock: ClockMode::Auto, ..settings(&server) });
            let of = clock(&*client).await;
            // Where both are the same it does not matter.
            let expected = written == Written::Utc && zone != "UTC0:00:00";
            assert_eq!(of.writes_utc(), expected, "{zone} {written:?}");
        }
    }
    // Where nothing tells, it is the wall's.
    let server = recorder(0, Knobs { zone: BERLIN.into(), clock: Written::Utc, ..Knobs::default() });
    let client = client_of(RecorderSettings { clock: ClockMode::Auto, ..settings(&server) });
    assert!(!clock(&*client).await.writes_utc());
}

#[tokio::test]
async fn quirk_08_what_is_being_recorded_is_marked_and_grows() {
    let stands = |time: &str| Some(format!("2026-11-19T{time}"));
    let server = recorder(3, Knobs { clock_stands: stands("00:15:00"), ..Knobs::default() });
    let search =
        || async { found(&*client(&server), query("101", "2026-11-18T00:00:00", "2026-11-21T00:00:00")).await };
    let segments = search().await.unwrap();
    assert_eq!(segments.iter().map(|of| of.open).collect::<Vec<_>>(), [false, true]);
    let (early, file) = (&segments[1], &server.recordings()[1]);
    assert_eq!((early.size, early.end.to_string()), (Some(file.size / 2), "2026-11-19T00:15:00".into()));
    assert_eq!(fetch(&*client(&server), early).await.unwrap().len() as u64, file.size / 2);
    server.change_knobs(|knobs| knobs.clock_stands = stands("01:00:00")).unwrap();
    let segments = search().await.unwrap();
    assert_eq!((segments.len(), segments[1].open, segments[1].size), (3, false, Some(file.size)));
    assert_eq!(segments[1].identity().1, file.name);
}
