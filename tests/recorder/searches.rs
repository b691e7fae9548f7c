//! Searches: every word and every page.

use framehaul::nvr::{Query, RecorderErrorKind, RecorderSettings, SegmentKind, Timeouts};
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use testbed::nvr::{Knobs, ListTag};

use crate::stage::{client, client_of, day, found, found_at_last, keys, names, query, recorder, settings, short};

#[tokio::test]
async fn a_segment_is_told_with_all_that_is_known_of_it() {
    let server = recorder(3, Knobs { loose_uris: true, ..Knobs::default() });
    let segments = found(&*client(&server), day("101")).await.unwrap();
    let file = &server.recordings()[1];
    let of = &segments[1];
    assert_eq!((of.track.as_str(), of.key.as_deref(), of.size), ("101", Some(file.name.as_str()), Some(file.size)));
    assert_eq!((of.start.to_string(), of.end.to_string()), (file.begin.clone(), file.end.clone()));
    assert_eq!((of.kind, of.codec.as_deref(), of.locked), (SegmentKind::Video, Some("H.264-BP"), Some(false)));
    assert!(!of.open && !of.start.ambiguous && of.clipped == (false, false));
    assert_eq!(of.identity(), ("101", file.name.clone()));
    let json = serde_json::to_string(&of.locator).unwrap();
    assert!(json.starts_with("\"rtsp://") && json.contains(&file.name), "{json}");
    // Nothing there is nothing found, and so is a span without length.
    assert_eq!(found(&*client(&server), day("301")).await.unwrap(), []);
    assert_eq!(found(&*client(&server), query("101", "2026-11-20T00:00:00", "2026-11-19T00:00:00")).await, Ok(vec![]));
}

#[tokio::test]
async fn quirk_10_pages_however_they_come_are_all_there_once() {
    let server = recorder(131, Knobs::default());
    for (page, ignore_position, always_more) in [
        (64, false, false),
        (40, true, false),
        (64, false, true),
        (64, true, true),
        (2, true, false),
        (1, false, false),
        (500, false, true),
    ] {
        let change = |knobs: &mut Knobs| {
            (knobs.page, knobs.ignore_position, knobs.always_more) = (page, ignore_position, always_more);
        };
        server.change_knobs(change).unwrap();
        let segments = found(&*client(&server), day("101")).await.unwrap();
        assert_eq!(keys(&segments), names(&server, 101), "{page} {ignore_position} {always_more}");
    }
}

#[tokio::test]
async fn quirk_11_and_12_words_that_are_not_understood_are_said_otherwise_and_remembered() {
    let server = recorder(70, Knobs::default());
    let searches = || server.stats().calls.search;
    for (list_tag, wrong_tag_is_first_track, bare_search) in [
        (ListTag::TrackIdList, false, false),
        (ListTag::TrackList, false, false),
        // What it ignores it answers with track 101.
        (ListTag::TrackList, true, false),
        (ListTag::TrackList, false, true),
        (ListTag::TrackList, true, true),
    ] {
        let change = |knobs: &mut Knobs| {
            (knobs.list_tag, knobs.wrong_tag_is_first_track, knobs.bare_search) =
                (list_tag, wrong_tag_is_first_track, bare_search);
        };
        server.change_knobs(change).unwrap();
        let common = Arc::default();
        let first = framehaul::nvr::open(settings(&server), &common).unwrap();
        // One by one: a client that has learned the wrong thing of track 101 finds out with track 201.
        for track in ["101", "201"] {
            let segments = found(&*first, day(track)).await.unwrap();
            assert_eq!(keys(&segments), names(&server, track.parse().unwrap()), "{list_tag:?} {bare_search}");
            assert!(segments.iter().all(|of| of.track == track));
        }
        assert_eq!(found(&*first, day("301")).await.unwrap(), []);
        // Another client of the same firmware knows. Two pages, and two for the borders.
        let before = searches();
        let second = framehaul::nvr::open(settings(&server), &common).unwrap();
        assert_eq!(found(&*second, day("201")).await.unwrap().len(), 3);
        assert!(searches() - before <= 3, "{list_tag:?} {bare_search}: {}", searches() - before);
    }
}

#[tokio::test]
async fn quirk_11_a_recorder_that_always_serves_another_track_is_not_believed() {
    // It understands neither list.
    let knobs = Knobs { missing: vec!["nothing".into()], ..Knobs::default() };
    let server = recorder(3, knobs);
    let change = |knobs: &mut Knobs| {
        (knobs.list_tag, knobs.wrong_tag_is_first_track, knobs.bare_search) = (ListTag::TrackIdList, true, true);
    };
    server.change_knobs(change).unwrap();
    let error = found(&*client(&server), day("201")).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Dialect, "{error}");
}

#[tokio::test]
async fn quirk_09_borders_of_a_search_are_not_those_of_its_recordings() {
    let server = recorder(60, Knobs::default());
    for no_clip in [false, true] {
        server.change_knobs(|knobs| knobs.no_clip = no_clip).unwrap();
        // From within the seventh to within the fiftieth.
        let within = query("101", "2026-11-19T01:05:00", "2026-11-19T08:15:30");
        let segments = found(&*client(&server), within).await.unwrap();
        assert_eq!(keys(&segments), names(&server, 101)[6..50], "{no_clip}");
        let (first, last) = (&segments[0], &segments[43]);
        assert_eq!(
            (first.start.to_string(), first.end.to_string()),
            ("2026-11-19T01:00:00".into(), "2026-11-19T01:10:00".into())
        );
        assert_eq!(last.end.to_string(), "2026-11-19T08:20:00");
        assert!(segments.iter().all(|of| of.clipped == (false, false)));
    }
}

#[tokio::test]
async fn quirk_21_one_long_block_has_its_own_borders_or_says_that_it_has_not() {
    // One recording of three days, and a search of an hour in its midst.
    let channel = testbed::nvr::Channel { recordings: 1, each_s: 3 * 86_400, ..testbed::nvr::Channel::default() };
    let options = testbed::nvr::Options { channels: vec![channel], ..testbed::nvr::Options::default() };
    let server = testbed::nvr::NvrServer::start(options).unwrap();
    let client = client(&server);
    let early = found(&*client, query("101", "2026-11-19T03:00:00", "2026-11-19T04:00:00")).await.unwrap();
    assert_eq!((early.len(), early[0].start.to_string()), (1, "2026-11-19T00:00:00".into()));
    // Its end is farther away than anybody looks.
    assert_eq!(early[0].clipped, (false, true));
    let late = found(&*client, query("101", "2026-11-21T20:00:00", "2026-11-21T21:00:00")).await.unwrap();
    assert_eq!((late[0].end.to_string(), late[0].clipped), ("2026-11-22T00:00:00".into(), (true, false)));
    assert_eq!(early[0].identity(), late[0].identity());
}

#[tokio::test]
async fn quirk_09_recordings_without_names_are_told_by_their_own_begin() {
    let server = recorder(40, Knobs { nameless: true, by_time: true, no_by_file: true, ..Knobs::default() });
    let client = client(&server);
    let all = found(&*client, day("101")).await.unwrap();
    assert_eq!(all.len(), 40);
    let some = found(&*client, query("101", "2026-11-19T01:05:00", "2026-11-19T02:05:00")).await.unwrap();
    let identities = |of: &[framehaul::nvr::Segment]| of.iter().map(|of| of.identity().1).collect::<Vec<_>>();
    assert_eq!(identities(&some), identities(&all)[6..13]);
    let bytes = crate::stage::fetch(&*client, &some[0]).await.unwrap();
    assert!(bytes == server.read(101, &names(&server, 101)[6]).unwrap());
}

#[tokio::test]
async fn quirk_19_a_busy_search_goes_on_where_it_was() {
    let server = recorder(131, Knobs { rate_search_busy: 0.4, busy_status: 200, seed: 3, ..Knobs::default() });
    let client = client(&server);
    let (segments, errors) = found_at_last(&*client, day("101")).await;
    assert_eq!(keys(&segments), names(&server, 101));
    assert!(
        !errors.is_empty() && errors.iter().all(|kind| matches!(kind, RecorderErrorKind::Busy { .. })),
        "{errors:?}"
    );
    // One that is never free is given up.
    server.change_knobs(|knobs| knobs.rate_search_busy = 1.0).unwrap();
    let (segments, errors) = found_at_last(&*client, day("101")).await;
    assert_eq!((segments.len(), errors.len()), (0, 8));
    // What will not pass is told once.
    server.change_knobs(|knobs| (knobs.rate_search_busy, knobs.forbidden) = (0.0, vec!["search".into()])).unwrap();
    let (segments, errors) = found_at_last(&*client, day("101")).await;
    assert_eq!((segments.len(), errors), (0, vec![RecorderErrorKind::Forbidden]));
}

#[tokio::test]
async fn quirk_19_searches_of_one_client_take_turns() {
    let server = recorder(131, Knobs { searches_at_once: Some(1), search_ms: 5, ..Knobs::default() });
    let client = client(&server);
    let all = ["101", "201", "301", "101"].map(|track| found(&*client, day(track)));
    let found = futures_util::future::join_all(all).await;
    let counts: Vec<usize> = found.into_iter().map(|segments| segments.unwrap().len()).collect();
    assert_eq!((counts, server.stats().injected.searches_busy), (vec![131, 3, 0, 131], 0));
}

#[tokio::test]
async fn quirk_25_nothing_is_searched_behind_2037() {
    let server = recorder(2, Knobs::default());
    server.log_exchanges();
    let all = query("101", "1900-01-01T00:00:00", "2100-01-01T00:00:00");
    assert_eq!(found(&*client(&server), all).await.unwrap().len(), 2);
    let bodies: Vec<String> =
        server.exchanges().iter().map(|of| String::from_utf8_lossy(&of.body).into_owned()).collect();
    assert!(bodies.iter().any(|body| body.contains("<endTime>2037-12-31T23:59:59Z</endTime>")), "{bodies:?}");
    assert!(bodies.iter().all(|body| !body.contains(">2100") && !body.contains(">1900")), "{bodies:?}");
}

#[tokio::test]
async fn types_of_recordings_are_asked_for() {
    let server = recorder(2, Knobs::default());
    let of = |event: &str| Query { event: Some(event.into()), ..day("101") };
    assert_eq!(found(&*client(&server), of("MOTION")).await.unwrap(), []);
    assert_eq!(found(&*client(&server), of("timing")).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_search_that_is_not_answered_is_given_up_in_time() {
    let server = recorder(2, Knobs { search_ms: 60_000, ..Knobs::default() });
    let of = RecorderSettings { timeouts: Timeouts { answer: Duration::from_secs(3), ..short() }, ..settings(&server) };
    let client = client_of(of);
    client.identify().await.unwrap();
    let begun = std::time::Instant::now();
    let mut stream = client.search(day("101"));
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Timeout, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Dropped, it holds nobody up.
    drop(stream);
    server.change_knobs(|knobs| knobs.search_ms = 0).unwrap();
    assert_eq!(found(&*client, day("101")).await.unwrap().len(), 2);
}
