//! Downloads, and what goes wrong with them.

use std::time::Duration;

use testbed::nvr::{Channel, Knobs, Length, Method, NvrServer, Options};

use crate::client::{Client, DOWNLOAD, Reply, download, recorder, uris};

fn one(knobs: Knobs) -> (NvrServer, String, Vec<u8>) {
    let server = recorder(1, knobs);
    let uri = uris(&server, 101).remove(0);
    let file = &server.recordings()[0];
    let bytes = server.read(101, &file.name).unwrap();
    assert_eq!(bytes.len() as u64, file.size);
    (server, uri, bytes)
}

fn fetch(server: &NvrServer, uri: &str) -> Reply {
    Client::fetch(server, "GET", uri)
}

#[test]
fn a_recording_is_sent_as_it_is() {
    let (server, uri, bytes) = one(Knobs::default());
    for method in ["GET", "POST"] {
        let reply = Client::fetch(&server, method, &uri);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("Opaque/data")));
        assert!(reply.whole && reply.body == bytes);
    }
    assert!(bytes.starts_with(b"IMKH"));
    let downloads = server.stats().downloads;
    assert_eq!((downloads.begun, downloads.complete, downloads.again), (2, 2, 1));
    assert_eq!((downloads.bytes, downloads.most_sessions), (2 * bytes.len() as u64, 1));
    assert_eq!(server.recordings()[0].fetched, 2);
    assert_eq!(server.recordings()[1].fetched, 0);
}

#[test]
fn what_is_no_download_is_refused() {
    let (server, uri, _) = one(Knobs::default());
    let refusal = |body: &str| Client::of(&server).call("GET", DOWNLOAD, body).refusal();
    let told = |status, sub: &str| (status, sub.to_owned());
    assert_eq!(refusal(&download(&uri.replace("ch01", "ch09"))), told(404, "notFound"));
    assert_eq!(refusal(&download(&uri.replace("/101/", "/201/"))), told(404, "notFound"));
    assert_eq!(refusal(&download("nothing")), told(400, "badXmlContent"));
    assert_eq!(refusal("<downloadRequest/>"), told(400, "badXmlContent"));
    assert_eq!(refusal("<a><b></a>"), told(400, "badXmlFormat"));
    // Escaped twice, the fields are not what they were.
    assert_eq!(refusal(&download(&uri.replace('&', "&amp;"))), told(400, "badXmlContent"));
}

#[test]
fn methods_and_kinds_are_those_that_were_chosen() {
    let (server, uri, bytes) = one(Knobs::default());
    for (method, get, post) in [(Method::Get, 200, 403), (Method::Post, 403, 200)] {
        server.change_knobs(|knobs| knobs.download = method).unwrap();
        assert_eq!((fetch(&server, &uri).status, Client::fetch(&server, "POST", &uri).status), (get, post));
    }
    let by_time = uris(&server, 201)[0].split("&name=").next().unwrap().to_owned();
    let by_time = by_time.replace("endtime=20261119T001000Z", "endtime=20261119T002000Z");
    server.change_knobs(|knobs| *knobs = Knobs::default()).unwrap();
    assert_eq!(fetch(&server, &by_time).refusal(), (403, "notSupport".into()));
    server.change_knobs(|knobs| (knobs.by_time, knobs.no_by_file) = (true, true)).unwrap();
    assert_eq!(fetch(&server, &uri).refusal(), (403, "notSupport".into()));
    let reply = fetch(&server, &by_time);
    assert_eq!((reply.status, reply.header("content-length")), (200, None));
    let files = server.recordings();
    let wanted = [&files[1], &files[2]].map(|file| server.read(201, &file.name).unwrap()).concat();
    assert!(reply.whole && reply.body == wanted && wanted.len() > bytes.len());
    let ability = Client::of(&server).get("/ISAPI/ContentMgmt/download/capabilities");
    assert_eq!(ability.all("isSupportDownloadbyFileName"), ["false"]);
    assert_eq!(ability.all("isSupportDownloadbyTime"), ["true"]);
}

#[test]
fn lengths_are_told_or_not() {
    let (server, uri, bytes) = one(Knobs::default());
    for (length, version, chunked, told) in [
        (Length::Told, "HTTP/1.1", false, true),
        (Length::Chunked, "HTTP/1.1", true, false),
        (Length::UntilClosed, "HTTP/1.0", false, false),
    ] {
        server.change_knobs(|knobs| knobs.length = length).unwrap();
        let reply = fetch(&server, &uri);
        assert_eq!(reply.version, version);
        assert_eq!(reply.header("transfer-encoding").is_some(), chunked, "{length:?}");
        assert_eq!(reply.header("content-length").is_some(), told, "{length:?}");
        assert!(reply.whole && reply.body == bytes, "{length:?}");
    }
}

#[test]
fn connections_are_cut_at_bytes_that_the_seed_chooses() {
    let (server, uri, bytes) = one(Knobs { rate_cut: 1.0, ..Knobs::default() });
    let cuts = |seed| {
        server.change_knobs(|knobs| knobs.seed = seed).unwrap();
        (0..5)
            .map(|_| {
                let reply = fetch(&server, &uri);
                assert_eq!(reply.header("content-length"), Some(bytes.len().to_string().as_str()));
                assert!(!reply.whole && bytes.starts_with(&reply.body));
                reply.body.len()
            })
            .collect::<Vec<_>>()
    };
    let (first, second) = (cuts(1), cuts(2));
    assert_ne!(first, second);
    assert_eq!(cuts(1), first);
    let stats = server.stats();
    assert_eq!((stats.injected.cut, stats.downloads.begun, stats.downloads.complete), (15, 15, 0));
}

#[test]
fn a_recording_can_be_short_and_look_whole() {
    let (server, uri, bytes) = one(Knobs { rate_short: 1.0, ..Knobs::default() });
    let reply = fetch(&server, &uri);
    assert!(reply.whole && reply.body.len() < bytes.len() && bytes.starts_with(&reply.body));
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    assert!(uri.ends_with(&format!("size={}", bytes.len())));
    let stats = server.stats();
    assert_eq!((stats.injected.short, stats.downloads.complete), (1, 0));
}

#[test]
fn errors_come_with_200_and_files_vanish() {
    let (server, uri, bytes) = one(Knobs { rate_xml: 1.0, ..Knobs::default() });
    let reply = fetch(&server, &uri);
    assert_eq!((reply.refusal(), reply.body[0]), ((200, "deviceError".into()), b'<'));
    server.change_knobs(|knobs| *knobs = Knobs { vanished: Some("ch01".into()), ..Knobs::default() }).unwrap();
    assert_eq!(uris(&server, 101), std::slice::from_ref(&uri));
    assert_eq!(fetch(&server, &uri).refusal(), (404, "notFound".into()));
    server.change_knobs(|knobs| knobs.vanished = Some("ch02".into())).unwrap();
    assert!(fetch(&server, &uri).body == bytes);
    let injected = server.stats().injected;
    assert_eq!((injected.xml, injected.vanished), (1, 1));
}

#[test]
fn pictures_are_pages_of_their_own() {
    let channel = Channel { photos: 2, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let uris = uris(&server, 103);
    let files = server.recordings();
    assert_eq!((uris.len(), files.len(), files[1].track), (2, 2, 103));
    for (nth, (uri, file)) in uris.iter().zip(&files).enumerate() {
        let target = uri.strip_prefix(&server.endpoint()).unwrap();
        assert!(target.starts_with("/ISAPI/Streaming/tracks/103/?"), "{uri}");
        let reply = Client::of(&server).get(target);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("image/jpeg")));
        assert_eq!(reply.body, server.read(103, &file.name).unwrap());
        let (luma, width, height) = testbed::oracle::decode(&reply.body).unwrap();
        assert_eq!(testbed::mark::Mark::read(&luma, width, height).unwrap().counter as usize, nth);
        let gone = Client::of(&server).get(&target.replace("pic01", "pic09"));
        assert_eq!(gone.refusal(), (404, "notFound".into()));
    }
}

#[test]
fn only_some_recordings_fail() {
    let server = recorder(2, Knobs { rate_xml: 1.0, faulty_file: Some("8001214".into()), ..Knobs::default() });
    let uris = uris(&server, 101);
    let [good, faulty] = [0, 1].map(|nth| fetch(&server, &uris[nth]));
    assert!(good.body == server.read(101, &server.recordings()[0].name).unwrap());
    assert_eq!(faulty.refusal(), (200, "deviceError".into()));
}

#[test]
fn a_stall_holds_a_session_until_the_client_goes() {
    let (server, uri, bytes) = one(Knobs { rate_stall: 1.0, sessions: Some(1), ..Knobs::default() });
    let mut client = Client::of(&server);
    let login = client.login("GET", DOWNLOAD, &download(&uri));
    client.send("GET", DOWNLOAD, login.as_deref(), &download(&uri));
    let head = client.head();
    assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
    client.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut got = Vec::new();
    let error = client.read_to_end(&mut got).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
    assert!(got.len() < bytes.len() && bytes.starts_with(&got));

    // Nobody else gets in while it lasts.
    server.change_knobs(|knobs| knobs.rate_stall = 0.0).unwrap();
    let refused = fetch(&server, &uri);
    assert_eq!(refused.refusal(), (503, "deviceBusy".into()));
    drop(client);
    let begun = std::time::Instant::now();
    while fetch(&server, &uri).status != 200 {
        assert!(begun.elapsed().as_secs() < 20, "the session is never free again");
    }
    let stats = server.stats();
    assert_eq!((stats.injected.stalled, stats.downloads.most_sessions, stats.downloads.complete), (1, 1, 1));
    assert!(stats.downloads.refused_busy >= 1);
}

#[test]
fn downloads_are_busy_by_number_and_by_share() {
    let (server, uri, _) = one(Knobs::default());
    server.change_knobs(|knobs| knobs.busy_next = 1).unwrap();
    assert_eq!(fetch(&server, &uri).refusal(), (503, "deviceBusy".into()));
    assert_eq!(fetch(&server, &uri).status, 200);
    server.change_knobs(|knobs| knobs.rate_busy = 0.5).unwrap();
    let busy = (0..40).filter(|_| fetch(&server, &uri).status == 503).count();
    assert!((8..=32).contains(&busy), "{busy}");
    assert_eq!(server.stats().injected.busy, busy as u64 + 1);
}

#[test]
fn a_download_keeps_to_its_pace() {
    let (server, uri, bytes) = one(Knobs::default());
    let per_s = bytes.len() as u64;
    server.change_knobs(|knobs| knobs.bytes_per_s = Some(per_s)).unwrap();
    let begun = std::time::Instant::now();
    assert!(fetch(&server, &uri).body == bytes);
    assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
}
