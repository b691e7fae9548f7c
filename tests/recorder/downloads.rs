//! Downloads: the very bytes, and never an error in their place.

use std::time::Duration;

use framehaul::nvr::{Container, Fetch, RecorderErrorKind, RecorderSettings, Segment, Timeouts};
use testbed::nvr::{Channel, Knobs, Length, Method, NvrServer, Options};

use crate::stage::{client, client_of, day, fetch, found, keys, names, query, read, recorder, settings};

async fn one(knobs: Knobs) -> (NvrServer, Segment, Vec<u8>) {
    let server = recorder(1, Knobs::default());
    let segment = found(&*client(&server), day("101")).await.unwrap().remove(0);
    let bytes = server.read(101, &names(&server, 101)[0]).unwrap();
    server.change_knobs(|of| *of = knobs).unwrap();
    (server, segment, bytes)
}

#[tokio::test]
async fn quirk_13_every_way_to_ask_brings_the_same_bytes() {
    let (server, segment, bytes) = one(Knobs::default()).await;
    for download in [Method::Get, Method::Post, Method::Any] {
        for length in [Length::Told, Length::Chunked, Length::UntilClosed] {
            server.change_knobs(|knobs| (knobs.download, knobs.length) = (download, length)).unwrap();
            let media = client(&server).open(Fetch::Segment(&segment)).await.unwrap();
            let told = (length == Length::Told).then_some(bytes.len() as u64);
            assert_eq!((media.length, media.container, media.covers), (told, Container::ProgramStream, None));
            let (came, end) = read(media).await;
            assert!(end.is_ok() && came == bytes, "{download:?} {length:?}");
        }
    }
}

#[tokio::test]
async fn quirk_13_what_is_understood_is_remembered() {
    let (server, segment, _) = one(Knobs { download: Method::Post, ..Knobs::default() }).await;
    let client = client(&server);
    let refused = || server.exchanges().iter().filter(|of| of.status == 403).count();
    server.log_exchanges();
    for _ in 0..5 {
        fetch(&*client, &segment).await.unwrap();
    }
    assert_eq!(refused(), 1);
}

#[tokio::test]
async fn quirk_17_mp4_and_program_streams_are_told_apart() {
    let container = testbed::nvr::Container::Mp4;
    let channels = vec![Channel { recordings: 1, container, ..Channel::default() }];
    let server = NvrServer::start(Options { channels, ..Options::default() }).unwrap();
    let client = client(&server);
    let segment = found(&*client, day("101")).await.unwrap().remove(0);
    let media = client.open(Fetch::Segment(&segment)).await.unwrap();
    assert_eq!((media.container, media.container.extension()), (Container::Mp4, "mp4"));
    let (bytes, end) = read(media).await;
    assert!(end.is_ok() && bytes == server.read(101, &names(&server, 101)[0]).unwrap());
}

#[tokio::test]
async fn quirk_01_an_error_with_status_200_is_no_recording() {
    let (server, segment, _) = one(Knobs { rate_xml: 1.0, ..Knobs::default() }).await;
    let error = client(&server).open(Fetch::Segment(&segment)).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Device, "{error}");
    assert!(error.message.contains("Device Error"), "{error}");
    assert_eq!(server.stats().injected.xml, 1);
    // And one for want of room is just that.
    server.change_knobs(|knobs| *knobs = Knobs { busy_next: 1, busy_status: 200, ..Knobs::default() }).unwrap();
    let error = client(&server).open(Fetch::Segment(&segment)).await.unwrap_err();
    assert!(matches!(error.kind, RecorderErrorKind::Busy { .. }), "{error}");
}

#[tokio::test]
async fn quirk_02_a_body_that_ends_early_is_an_error_of_it() {
    let (server, segment, bytes) = one(Knobs { rate_cut: 1.0, ..Knobs::default() }).await;
    let client = client(&server);
    for length in [Length::Told, Length::Chunked] {
        for seed in 0..5 {
            server.change_knobs(|knobs| (knobs.length, knobs.seed) = (length, seed)).unwrap();
            let error = match client.open(Fetch::Segment(&segment)).await {
                Ok(media) => {
                    let (came, end) = read(media).await;
                    assert!(came.len() < bytes.len() && bytes.starts_with(&came));
                    end.unwrap_err()
                }
                // It may be cut before its first byte.
                Err(error) => error,
            };
            assert_eq!(error.kind, RecorderErrorKind::Io, "{length:?} {error}");
        }
    }
    // Ended in good order, nothing but the size in the search tells.
    server.change_knobs(|knobs| *knobs = Knobs { rate_short: 1.0, ..Knobs::default() }).unwrap();
    let (came, end) = read(client.open(Fetch::Segment(&segment)).await.unwrap()).await;
    assert!(end.is_ok() && (came.len() as u64) < segment.size.unwrap());
}

#[tokio::test]
async fn quirk_14_and_23_spans_are_sent_where_names_are_not_whatever_the_recorder_says_of_itself() {
    for abilities_lie in [false, true] {
        let knobs = Knobs { no_by_file: true, by_time: true, abilities_lie, ..Knobs::default() };
        let (server, segment, bytes) = one(knobs).await;
        let client = client(&server);
        server.log_exchanges();
        let mut sent = Vec::new();
        for _ in 0..2 {
            match client.open(Fetch::Segment(&segment)).await {
                Ok(media) => {
                    assert_eq!((media.length, media.covers.map(|span| span.from)), (None, Some(segment.start.utc)));
                    sent.push(read(media).await.0 == bytes);
                }
                // What says that it sends names, and no spans, is believed in that.
                Err(error) => assert!(abilities_lie && error.kind == RecorderErrorKind::Unsupported, "{error}"),
            }
        }
        assert_eq!(sent, if abilities_lie { vec![] } else { vec![true, true] });
        let refused = server.exchanges().iter().filter(|of| of.status == 403).count();
        assert_eq!(refused, if abilities_lie { 6 } else { 3 }, "asked again what was refused");
    }
    // By name, whatever it says.
    let (server, segment, bytes) = one(Knobs { abilities_lie: true, ..Knobs::default() }).await;
    let client = client(&server);
    assert!(!client.identify().await.unwrap().1.by_file);
    assert!(fetch(&*client, &segment).await.unwrap() == bytes);
}

#[tokio::test]
async fn quirk_09_and_14_by_time_all_of_a_recording_comes_whatever_search_has_found_it() {
    let server = recorder(3, Knobs { no_by_file: true, by_time: true, ..Knobs::default() });
    let client = client(&server);
    let found = found(&*client, query("101", "2026-11-19T00:05:00", "2026-11-19T00:25:00")).await.unwrap();
    assert_eq!(keys(&found), names(&server, 101));
    for (segment, file) in found.iter().zip(server.recordings()) {
        let came = fetch(&*client, segment).await.unwrap();
        assert!(came == server.read(101, &file.name).unwrap(), "{}: {} bytes of {}", file.name, came.len(), file.size);
        let played = client.playback(Fetch::Segment(segment)).await.unwrap().url;
        let field = |name: &str| played.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let expected = [&file.begin, &file.end].map(|time| time.replace(['-', ':'], "") + "Z");
        assert_eq!([field("starttime"), field("endtime")], expected);
    }
    // And of a span no more than lies within: one of the two groups of pictures of the first, and all of the second.
    let span = query("101", "2026-11-19T00:05:00", "2026-11-19T00:20:00").span;
    let (came, end) = read(client.open(Fetch::Window { track: "101", span }).await.unwrap()).await;
    let pictures = |bytes: &[u8]| bytes.windows(4).filter(|four| *four == [0, 0, 1, 0xba]).count();
    assert!(end.is_ok());
    assert_eq!(pictures(&came), 5 + 10);
    assert!(came.ends_with(&server.read(101, &names(&server, 101)[1]).unwrap()));
}

#[tokio::test]
async fn quirk_14_one_recording_that_is_forbidden_does_not_make_the_others_spans() {
    for download in [Method::Get, Method::Post] {
        let server = recorder(3, Knobs { by_time: true, download, ..Knobs::default() });
        let client = client(&server);
        let found = found(&*client, day("101")).await.unwrap();
        let first = found[0].key.clone();
        server.change_knobs(|knobs| knobs.forbidden_file = first).unwrap();
        let covers = async |segment: &Segment| client.open(Fetch::Segment(segment)).await.unwrap().covers.is_some();
        assert!(covers(&found[0]).await, "{download:?}");
        assert_eq!((covers(&found[1]).await, covers(&found[2]).await), (false, false), "{download:?}");
    }
}

#[tokio::test]
async fn quirk_14_a_span_of_several_recordings_is_sent_as_one() {
    let server = recorder(4, Knobs { by_time: true, ..Knobs::default() });
    let client = client(&server);
    let span = query("101", "2026-11-19T00:10:00", "2026-11-19T00:30:00").span;
    let media = client.open(Fetch::Window { track: "101", span }).await.unwrap();
    assert_eq!((media.length, media.covers), (None, Some(span)));
    let names = names(&server, 101);
    let expected: Vec<u8> = names[1..3].iter().flat_map(|name| server.read(101, name).unwrap()).collect();
    assert!(read(media).await.0 == expected);
    let error = client.open(Fetch::Window { track: "301", span }).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Gone, "{error}");
    let error = client.open(Fetch::Window { track: "1/x", span }).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::NotFound, "{error}");
    server.change_knobs(|knobs| knobs.by_time = false).unwrap();
    let error = client.open(Fetch::Window { track: "101", span }).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn quirk_19_and_22_busy_recorders_are_known_as_such() {
    let (server, segment, bytes) =
        one(Knobs { sessions: Some(1), bytes_per_s: Some(20_000), ..Knobs::default() }).await;
    let client = client(&server);
    let first = client.open(Fetch::Segment(&segment)).await.unwrap();
    let error = client.open(Fetch::Segment(&segment)).await.unwrap_err();
    assert!(matches!(error.kind, RecorderErrorKind::Busy { .. }), "{error}");
    // Dropped, the session is free again.
    drop(first);
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    let free = async {
        loop {
            match fetch(&*client, &segment).await {
                Ok(came) => break came,
                Err(error) => assert!(matches!(error.kind, RecorderErrorKind::Busy { .. }), "{error}"),
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), free).await.unwrap() == bytes);
    for busy_status in [500, 503, 403] {
        server.change_knobs(|knobs| (knobs.busy_next, knobs.busy_status) = (1, busy_status)).unwrap();
        let error = client.open(Fetch::Segment(&segment)).await.unwrap_err();
        assert!(matches!(error.kind, RecorderErrorKind::Busy { .. }), "{busy_status}: {error}");
    }
}

#[tokio::test]
async fn quirk_20_what_comes_slowly_comes_and_what_stalls_is_ended() {
    let (server, segment, bytes) = one(Knobs { bytes_per_s: Some(8_000), ..Knobs::default() }).await;
    let stall = Duration::from_millis(1_200);
    let timeouts = Timeouts { answer: Duration::from_secs(20), stall, stall_bytes: 500, ..Timeouts::default() };
    let client = client_of(RecorderSettings { timeouts, ..settings(&server) });
    // Twice as long as the stall's span at the least.
    assert!(bytes.len() > 24_000, "{}", bytes.len());
    assert!(fetch(&*client, &segment).await.unwrap() == bytes);
    server.change_knobs(|knobs| (knobs.bytes_per_s, knobs.rate_stall) = (None, 1.0)).unwrap();
    let begun = std::time::Instant::now();
    let error = match client.open(Fetch::Segment(&segment)).await {
        Ok(media) => read(media).await.1.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind, RecorderErrorKind::Timeout, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Trickling is no better.
    server.change_knobs(|knobs| (knobs.bytes_per_s, knobs.rate_stall) = (Some(100), 0.0)).unwrap();
    assert_eq!(fetch(&*client, &segment).await.unwrap_err().kind, RecorderErrorKind::Timeout);
}

#[tokio::test]
async fn quirk_20_a_reader_that_takes_its_time_is_no_stall() {
    let (server, segment, bytes) = one(Knobs::default()).await;
    let stall = Duration::from_secs(2);
    let timeouts = Timeouts { stall, ..Timeouts::default() };
    let client = client_of(RecorderSettings { timeouts, ..settings(&server) });
    let media = client.open(Fetch::Segment(&segment)).await.unwrap();
    // Longer than the stall's span: what is tested is that this time does not count.
    tokio::time::sleep(stall + Duration::from_millis(200)).await;
    let (came, end) = read(media).await;
    assert!(end.is_ok() && came == bytes);
}

#[tokio::test]
async fn quirk_30_what_was_written_over_is_gone() {
    let (server, segment, _) = one(Knobs::default()).await;
    server.change_knobs(|knobs| knobs.vanished = Some("ch01".into())).unwrap();
    let error = client(&server).open(Fetch::Segment(&segment)).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Gone, "{error}");
    assert_eq!(server.stats().injected.vanished, 1);
    // Not so where there are no downloads at all: quirk 27.
    let missing = vec!["download".to_owned()];
    server.change_knobs(|knobs| *knobs = Knobs { missing, html_errors: true, ..Knobs::default() }).unwrap();
    let error = client(&server).open(Fetch::Segment(&segment)).await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn quirk_29_a_name_comes_back_to_the_recorder_as_it_was() {
    let (server, segment, bytes) = one(Knobs::default()).await;
    server.log_exchanges();
    assert!(fetch(&*client(&server), &segment).await.unwrap() == bytes);
    let body = server.exchanges().pop().unwrap().body;
    let body = String::from_utf8_lossy(&body).into_owned();
    assert_eq!((body.matches("&amp;").count(), body.matches("amp;amp;").count()), (3, 0), "{body}");
}
