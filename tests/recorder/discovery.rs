//! Who is there, what it has, and who does not answer.

use std::net::TcpListener;
use std::time::Duration;

use framehaul::model::Tls;
use framehaul::nvr::{Fetch, Month, RecorderErrorKind, RecorderSettings, Scheme, StreamKind, Timeouts, Track};
use testbed::nvr::Knobs;
use testbed::tls::TlsFront;

use crate::stage::{client, client_of, day, fetch, found, keys, names, recorder, settings, short};

fn forbid(paths: &[&str]) -> Knobs {
    Knobs { forbidden: paths.iter().map(ToString::to_string).collect(), ..Knobs::default() }
}

fn ids(tracks: &[Track]) -> Vec<(&str, u32, &str)> {
    tracks.iter().map(|of| (of.id.as_str(), of.channel, of.name.as_str())).collect()
}

const YARD: &str = "Yard & <street> / Höf";

#[tokio::test]
async fn a_recorder_says_who_it_is_and_what_it_can_do() {
    let server = recorder(1, Knobs { page: 16, searches_at_once: Some(2), by_time: true, ..Knobs::default() });
    let (identity, abilities) = client(&server).identify().await.unwrap();
    assert_eq!((identity.model.as_str(), identity.firmware.as_str()), ("DS-7616NI-K2", "V4.84.101"));
    assert_eq!((identity.name.as_str(), identity.serial.len()), ("Testbed recorder", 39));
    assert_eq!((abilities.search_page, abilities.searches, abilities.by_file, abilities.by_time), (16, 2, true, true));
}

#[tokio::test]
async fn quirk_15_tracks_are_found_whatever_page_is_refused() {
    let all = [
        ("101", 1, "Gate"),
        ("102", 1, "Gate"),
        ("201", 2, YARD),
        ("202", 2, YARD),
        ("301", 3, "Empty"),
        ("302", 3, "Empty"),
    ];
    let server = recorder(1, forbid(&["Streaming/channels"]));
    let tracks = client(&server).tracks().await.unwrap();
    assert_eq!(ids(&tracks), all);
    assert_eq!((tracks[0].stream, tracks[1].stream), (StreamKind::Main, StreamKind::Sub));
    assert_eq!((tracks[0].online, tracks[0].codec.as_deref()), (Some(true), Some("H.264-BP")));

    // Without the list of tracks the channels' main streams are known.
    server.change_knobs(|knobs| *knobs = forbid(&["record/tracks"])).unwrap();
    assert_eq!(ids(&client(&server).tracks().await.unwrap()), [all[0], all[2], all[4]]);
    // Without the channels, what they stream.
    let pages = ["record/tracks", "InputProxy", "Video/inputs"];
    server.change_knobs(|knobs| *knobs = forbid(&pages)).unwrap();
    assert_eq!(ids(&client(&server).tracks().await.unwrap()), all);
    // Quirk 27: pages of HTML where there is nothing.
    server
        .change_knobs(|knobs| {
            *knobs = Knobs { missing: pages.map(String::from).to_vec(), html_errors: true, ..Knobs::default() };
        })
        .unwrap();
    assert_eq!(ids(&client(&server).tracks().await.unwrap()), all);
    // Without all of it a person has to say.
    server.change_knobs(|knobs| *knobs = forbid(&[&pages[..], &["Streaming"]].concat())).unwrap();
    let error = client(&server).tracks().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Forbidden);
    assert!(error.message.contains("name the tracks yourself"), "{error}");
    // And those who do need none of these pages.
    assert_eq!(found(&*client(&server), day("101")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn quirk_15_a_recorder_that_tells_nothing_of_itself_is_searched_all_the_same() {
    let server = recorder(2, forbid(&["System/", "profile", "capabilities", "Streaming", "InputProxy", "tracks"]));
    let client = client(&server);
    let (identity, abilities) = client.identify().await.unwrap();
    assert_eq!((identity.model.as_str(), abilities.search_page, abilities.by_file), ("", 64, true));
    let segments = found(&*client, day("101")).await.unwrap();
    assert_eq!(keys(&segments), names(&server, 101));
    fetch(&*client, &segments[1]).await.unwrap();
}

#[tokio::test]
async fn quirk_27_pages_of_html_are_told_from_recorders() {
    let missing = vec!["/ISAPI/".to_owned()];
    let server = recorder(1, Knobs { missing, html_errors: true, ..Knobs::default() });
    let error = client(&server).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::NotFound, "{error}");
    assert!(error.message.contains("/ISAPI/System/deviceInfo"), "{error}");
}

#[tokio::test]
async fn days_are_told_or_not() {
    let server = recorder(150, Knobs::default());
    let client = client(&server);
    let days = client.days("101", Month { year: 2026, month: 11 }).await.unwrap().unwrap();
    assert_eq!((1..=31).filter(|day| days.contains(*day)).collect::<Vec<_>>(), [19, 20]);
    let none = client.days("101", Month { year: 2026, month: 12 }).await.unwrap().unwrap();
    assert!((1..=31).all(|day| !none.contains(day)));
    server.change_knobs(|knobs| knobs.forbidden = vec!["dailyDistribution".into()]).unwrap();
    assert_eq!(client.days("101", Month { year: 2026, month: 11 }).await.unwrap(), None);
    assert_eq!(client.days("1/../x", Month { year: 2026, month: 11 }).await.unwrap(), None);
}

#[tokio::test]
async fn quirk_26_a_certificate_of_its_own_is_taken_only_where_that_is_said() {
    let server = recorder(1, Knobs::default());
    let port: u16 = server.host().split_once(':').unwrap().1.parse().unwrap();
    let front = TlsFront::start(port).unwrap();
    let of = |tls| RecorderSettings { port: Some(front.port()), scheme: Scheme::Https { tls }, ..settings(&server) };
    let error = client_of(of(None)).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Tls, "{error}");
    assert_eq!(server.stats().requests, 0);
    let client = client_of(of(Some(Tls::Unverified)));
    let segments = found(&*client, day("101")).await.unwrap();
    let file = server.recordings()[0].clone();
    assert!(fetch(&*client, &segments[0]).await.unwrap() == server.read(101, &file.name).unwrap());
}

#[tokio::test]
async fn quirk_26_the_wrong_protocol_on_a_port_is_an_error_and_no_wait() {
    let server = recorder(1, Knobs::default());
    let tls = RecorderSettings { scheme: Scheme::Https { tls: Some(Tls::Unverified) }, ..settings(&server) };
    let error = client_of(tls).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Tls, "{error}");
    let front = TlsFront::start(server.host().split_once(':').unwrap().1.parse().unwrap()).unwrap();
    let plain = RecorderSettings { port: Some(front.port()), timeouts: short(), ..settings(&server) };
    let error = client_of(plain).identify().await.unwrap_err();
    assert!(matches!(error.kind, RecorderErrorKind::Io | RecorderErrorKind::Timeout), "{error:?}");
}

#[tokio::test]
async fn quirk_26_a_port_that_never_answers_costs_the_timeout_and_no_more() {
    // It accepts, and that is all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = recorder(0, Knobs::default());
    let of = |scheme| RecorderSettings {
        port: Some(listener.local_addr().unwrap().port()),
        scheme,
        timeouts: short(),
        ..settings(&server)
    };
    for scheme in [Scheme::Http, Scheme::Https { tls: Some(Tls::Unverified) }] {
        let begun = std::time::Instant::now();
        let error = client_of(of(scheme)).identify().await.unwrap_err();
        assert_eq!(error.kind, RecorderErrorKind::Timeout, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    let nobody = listener.local_addr().unwrap().port();
    drop(listener);
    let of = RecorderSettings { port: Some(nobody), ..settings(&server) };
    assert_eq!(client_of(of).identify().await.unwrap_err().kind, RecorderErrorKind::Io);
}

#[tokio::test]
async fn what_is_no_host_is_no_client() {
    let server = recorder(0, Knobs::default());
    for host in ["", "a b", "h/../x", "user@h", "http://h", "[::1", "h:80"] {
        let of = RecorderSettings { host: host.into(), ..settings(&server) };
        let opened = framehaul::nvr::open(of, &std::sync::Arc::default());
        // What is a host all the same is at least no other one.
        assert!(opened.is_err() || host == "[::1", "{host}");
    }
    let of = RecorderSettings { timeouts: Timeouts::default(), host: "::1".into(), ..settings(&server) };
    framehaul::nvr::open(of, &std::sync::Arc::default()).unwrap();
}

#[tokio::test]
async fn quirk_18_playback_is_at_the_recorders_own_host_and_port() {
    let server = recorder(1, Knobs { uri_host: Some("192.0.2.5:90".into()), ..Knobs::default() });
    let client = client(&server);
    let segments = found(&*client, day("101")).await.unwrap();
    let playback = client.playback(Fetch::Segment(&segments[0])).await.unwrap();
    let expected = format!("rtsp://{}/Streaming/tracks/101/?starttime=20261119T000000Z", server.host());
    assert!(playback.url.as_str().starts_with(&expected), "{}", playback.url);
    assert_eq!((playback.track.as_str(), playback.url.username(), playback.url.password()), ("101", "", None));
    let window = Fetch::Window { track: "101", span: day("101").span };
    let playback = client.playback(window).await.unwrap();
    assert!(playback.url.as_str().ends_with("/101/?starttime=20261119T000000Z&endtime=20261120T000000Z"));
    // The name is sent as it was told all the same.
    assert!(fetch(&*client, &segments[0]).await.unwrap().starts_with(b"IMKH"));
    server.change_knobs(|knobs| knobs.forbidden = vec!["adminAccesses".into()]).unwrap();
    let other = crate::stage::client(&server);
    let playback = other.playback(Fetch::Segment(&segments[0])).await.unwrap();
    assert_eq!(playback.url.port(), Some(554));
}
