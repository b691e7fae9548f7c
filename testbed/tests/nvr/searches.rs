//! Searches: dialects, pages, borders.

use testbed::nvr::{Knobs, ListTag};

use crate::client::{Client, SEARCH, all, day, recorder, search};

const BAD: (u16, &str) = (400, "badXmlContent");

#[track_caller]
fn assert_refused(reply: &crate::client::Reply, (status, sub): (u16, &str)) {
    assert_eq!(reply.refusal(), (status, sub.to_owned()), "{}", reply.text());
}

#[test]
fn a_page_says_what_recorders_say() {
    let server = recorder(3, Knobs { namespace: "urn:psialliance-org".into(), ..Knobs::default() });
    let mut client = Client::of(&server);
    let xml = client.search(&day(101, "<maxResults>2</maxResults>")).ok();
    assert!(xml.contains("<CMSearchResult version=\"2.0\" xmlns=\"urn:psialliance-org\">"), "{xml}");
    assert_eq!(all(&xml, "searchID"), ["{0c5a0b6e-6e2b-4f0a-9c53-2b9b2f3c7d11}"]);
    assert_eq!((all(&xml, "responseStatusStrg"), all(&xml, "numOfMatches")), (vec!["MORE".into()], vec!["2".into()]));
    assert_eq!(all(&xml, "trackID"), ["101", "101"]);
    assert_eq!(all(&xml, "startTime"), ["2026-11-19T00:00:00Z", "2026-11-19T00:10:00Z"]);
    let file = &server.recordings()[0];
    let uri = format!(
        "rtsp://{}/Streaming/tracks/101/?starttime=20261119T000000Z&endtime=20261119T001000Z&name={}&size={}",
        server.host(),
        file.name,
        file.size
    );
    assert_eq!(all(&xml, "playbackURI")[0], uri);

    let none = client.search(&search(101, "2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z", "")).ok();
    assert_eq!(
        (all(&none, "responseStatusStrg"), all(&none, "numOfMatches")),
        (vec!["NO MATCHES".into()], vec!["0".into()])
    );
    let motion =
        "<metadataList><metadataDescriptor>//recordType.meta.std-cgi.com/MOTION</metadataDescriptor></metadataList>";
    assert_eq!(all(&client.search(&day(101, motion)).ok(), "numOfMatches"), ["0"]);
    assert_eq!(all(&client.search(&day(101, &motion.replace("/MOTION", ""))).ok(), "numOfMatches"), ["3"]);
}

/// The first start and the word of each page, until the word is not MORE or there are `most` of them.
fn pages(client: &mut Client, most: usize) -> Vec<(String, usize, String)> {
    let (mut pages, mut position) = (Vec::new(), 0);
    while pages.len() < most {
        let more = format!("<maxResults>500</maxResults><searchResultPostion>{position}</searchResultPostion>");
        let page = client.search(&day(101, &more)).ok();
        let (word, names) = (all(&page, "responseStatusStrg").concat(), all(&page, "name"));
        position += names.len();
        let first = names.first().map(|name| name[name.len() - 2..].to_owned()).unwrap_or_default();
        pages.push((first, names.len(), word.clone()));
        if word != "MORE" {
            break;
        }
    }
    pages
}

#[test]
fn pages_have_their_traps() {
    let server = recorder(7, Knobs { page: 3, ..Knobs::default() });
    let mut client = Client::of(&server);
    let page = |first: &str, items, word: &str| (first.to_owned(), items, word.to_owned());
    let plain = [page("13", 3, "MORE"), page("16", 3, "MORE"), page("19", 1, "OK")];
    assert_eq!(pages(&mut client, 9), plain);

    server.change_knobs(|knobs| knobs.ignore_position = true).unwrap();
    assert_eq!(pages(&mut client, 3), vec![page("13", 3, "MORE"); 3]);

    server.change_knobs(|knobs| (knobs.ignore_position, knobs.always_more) = (false, true)).unwrap();
    let endless = [&plain[..2], &[page("19", 1, "MORE"), page("", 0, "MORE")]].concat();
    assert_eq!(pages(&mut client, 4), endless);
}

#[test]
fn borders_are_cut_unless_told_otherwise() {
    let server = recorder(3, Knobs::default());
    let mut client = Client::of(&server);
    let window = search(101, "2026-11-19T00:05:00Z", "2026-11-19T00:15:00Z", "");
    let xml = client.search(&window).ok();
    assert_eq!(all(&xml, "startTime"), ["2026-11-19T00:05:00Z", "2026-11-19T00:10:00Z"]);
    assert_eq!(all(&xml, "endTime"), ["2026-11-19T00:10:00Z", "2026-11-19T00:15:00Z"]);
    assert!(all(&xml, "playbackURI")[0].contains("starttime=20261119T000500Z&"));
    // One that only touches the window is not in it.
    let touching = search(101, "2026-11-19T00:10:00Z", "2026-11-19T00:20:00Z", "");
    assert_eq!(all(&client.search(&touching).ok(), "startTime"), ["2026-11-19T00:10:00Z"]);
    server.change_knobs(|knobs| knobs.no_clip = true).unwrap();
    let xml = client.search(&window).ok();
    assert_eq!(all(&xml, "startTime")[0], "2026-11-19T00:00:00Z");
    assert_eq!(all(&xml, "endTime")[1], "2026-11-19T00:20:00Z");
}

#[test]
fn tracks_are_named_in_the_recorders_own_words() {
    let server = recorder(1, Knobs::default());
    let mut client = Client::of(&server);
    let (id_list, list) = (day(201, ""), day(201, "").replace("trackIDList", "trackList"));
    for (tag, understood) in
        [(ListTag::Any, [true, true]), (ListTag::TrackIdList, [true, false]), (ListTag::TrackList, [false, true])]
    {
        for (body, understood) in [&id_list, &list].into_iter().zip(understood) {
            server.change_knobs(|knobs| (knobs.list_tag, knobs.wrong_tag_is_first_track) = (tag, false)).unwrap();
            let reply = client.search(body);
            if understood {
                assert_eq!(all(&reply.ok(), "trackID"), ["201", "201", "201"], "{tag:?}");
            } else {
                assert_refused(&reply, BAD);
                server.change_knobs(|knobs| knobs.wrong_tag_is_first_track = true).unwrap();
                assert_eq!(all(&client.search(body).ok(), "trackID"), ["101"], "{tag:?}");
            }
        }
    }
}

#[test]
fn what_is_no_search_is_refused() {
    let server = recorder(1, Knobs::default());
    let mut client = Client::of(&server);
    let good = day(101, "");
    client.search(&good).ok();
    for (from, to) in [
        ("0C5A0B6E-6E2B-4F0A-9C53-2B9B2F3C7D11", "1"),
        ("</CMSearchDescription>", "<searchResultPosition>0</searchResultPosition></CMSearchDescription>"),
        ("2026-11-19T00:00:00Z", "2026-11-19T00:00:00+03:00Z"),
        (">101<", ">first<"),
        ("CMSearchDescription", "Search"),
    ] {
        assert_refused(&client.search(&good.replace(from, to)), BAD);
    }
    assert_refused(&client.search("<CMSearchDescription>"), (400, "badXmlFormat"));
    assert_refused(&client.get(SEARCH), (403, "methodNotAllowed"));

    server.change_knobs(|knobs| knobs.bare_search = true).unwrap();
    assert_refused(&client.search(&good), BAD);
    let bare = "<CMSearchDescription version=\"1.0\"><searchID>{0C5A0B6E-6E2B-4F0A-9C53-2B9B2F3C7D11}</searchID>\
                <trackList><trackID>101</trackID></trackList><timeSpanList><timeSpan>\
                <startTime>2026-11-19T00:00:00Z</startTime><endTime>2026-11-20T00:00:00Z</endTime></timeSpan>\
                </timeSpanList></CMSearchDescription>";
    assert_eq!(all(&client.search(bare).ok(), "numOfMatches"), ["1"]);
    assert_refused(&client.search(&bare.replace(['{', '}'], "")), BAD);
}

#[test]
fn uris_lie_as_told() {
    let server = recorder(1, Knobs { size_off: -7, uri_host: Some("192.0.2.5:90".into()), ..Knobs::default() });
    let mut client = Client::of(&server);
    let uri = |client: &mut Client| {
        let xml = client.search(&day(101, "")).ok();
        xml.split("<playbackURI>").nth(1).unwrap().split("</playbackURI>").next().unwrap().to_owned()
    };
    let told = uri(&mut client);
    assert!(told.starts_with("rtsp://192.0.2.5:90/Streaming"), "{told}");
    assert!(told.ends_with(&format!("size={}", server.recordings()[0].size - 7)), "{told}");
    server.change_knobs(|knobs| knobs.loose_uris = true).unwrap();
    let loose = uri(&mut client);
    assert!(loose.starts_with('\n') && loose.trim() == told, "{loose:?}");
}

#[test]
fn searches_at_a_time_are_limited_and_some_are_busy() {
    let server = recorder(1, Knobs { searches_at_once: Some(1), search_ms: 60_000, ..Knobs::default() });
    let mut first = Client::of(&server);
    let login = first.login("POST", SEARCH, &day(101, ""));
    first.send("POST", SEARCH, login.as_deref(), &day(101, ""));
    let mut client = Client::of(&server);
    assert_refused(&client.search(&day(101, "")), (503, "deviceBusy"));
    assert_eq!(server.stats().injected.searches_busy, 1);
    // Its place is free again when it has gone.
    server.change_knobs(|knobs| knobs.search_ms = 0).unwrap();
    drop(first);
    let begun = std::time::Instant::now();
    while client.search(&day(101, "")).status != 200 {
        assert!(begun.elapsed().as_secs() < 20, "it is never free again");
    }

    let knobs = Knobs { busy_next: 2, busy_status: 200, ..Knobs::default() };
    server.change_knobs(|now| *now = knobs).unwrap();
    for _ in 0..2 {
        let reply = client.search(&day(101, ""));
        assert_refused(&reply, (200, "deviceBusy"));
        assert_eq!(reply.all("statusCode"), ["2"]);
    }
    assert_eq!(all(&client.search(&day(101, "")).ok(), "numOfMatches"), ["1"]);
    assert_eq!(server.knobs().busy_next, 0);
    server.change_knobs(|knobs| knobs.rate_search_busy = 1.0).unwrap();
    assert_refused(&client.search(&day(101, "")), (200, "deviceBusy"));
    assert_eq!(server.stats().injected.busy, 3);
}

#[test]
fn recordings_may_have_no_names() {
    let server = recorder(1, Knobs { nameless: true, ..Knobs::default() });
    let reply = Client::of(&server).search(&day(101, ""));
    assert_eq!((reply.all("name").len(), reply.all("numOfMatches")), (0, vec!["1".to_owned()]));
    assert!(reply.all("playbackURI")[0].ends_with("&endtime=20261119T001000Z"), "{}", reply.text());
}
