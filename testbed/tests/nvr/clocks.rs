//! The recorder's clock, and what goes on while it does.

use testbed::nvr::{Channel, ClockMode, Knobs, NvrServer, Options};

use crate::client::{Client, SEARCH, all, day, recorder, search, uris};

const BERLIN: &str = "CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00";

/// Six recordings of half an hour, from an hour before summer time ends in Berlin.
fn berlin(knobs: Knobs) -> NvrServer {
    let begin = "2026-10-24T23:00:00".into();
    let channel = Channel { recordings: 6, each_s: 1800, begin, ..Channel::default() };
    let knobs = Knobs { zone: BERLIN.into(), ..knobs };
    NvrServer::start(Options { channels: vec![channel], knobs, ..Options::default() }).unwrap()
}

fn starts(server: &NvrServer, from: &str, to: &str) -> Vec<String> {
    all(&Client::of(server).search(&search(101, from, to, "")).ok(), "startTime")
}

#[test]
fn the_wall_shows_an_hour_twice() {
    let server = berlin(Knobs::default());
    let at = |times: &[&str]| times.iter().map(|time| format!("2026-10-25T{time}:00Z")).collect::<Vec<_>>();
    let all = starts(&server, "2026-10-25T00:00:00Z", "2026-10-25T12:00:00Z");
    assert_eq!(all, at(&["01:00", "01:30", "02:00", "02:30", "02:00", "02:30"]));
    // Who asks for that hour gets it both times.
    let twice = starts(&server, "2026-10-25T02:00:00Z", "2026-10-25T02:59:59Z");
    assert_eq!(twice, at(&["02:00", "02:30", "02:00", "02:30"]));

    server.change_knobs(|knobs| knobs.clock = ClockMode::Utc).unwrap();
    let utc = starts(&server, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(utc, at(&["00:00", "00:30", "01:00", "01:30"]));
}

#[test]
fn a_wish_for_standard_time_is_ignored_or_answered_wrong() {
    let server = berlin(Knobs::default());
    let path = format!("{SEARCH}?timeType=STD");
    let starts = || {
        let window = search(101, "2026-10-24T23:00:00Z", "2026-10-25T02:00:00Z", "");
        all(&Client::of(&server).call("POST", &path, &window).ok(), "startTime")
    };
    let ignored = starts();
    assert_eq!((ignored.len(), ignored[0].as_str()), (4, "2026-10-25T01:00:00Z"));
    server.change_knobs(|knobs| knobs.time_type = true).unwrap();
    let shown = starts();
    // Summer time ends with the fifth of them.
    assert_eq!(shown[..2], ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"]);
    assert_eq!(shown[4..], ["2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"]);
}

#[test]
fn the_recorder_tells_its_time_and_may_lie_about_the_offset() {
    let server = berlin(Knobs { clock_stands: Some("2026-07-01T12:00:00".into()), ..Knobs::default() });
    let time = || {
        let reply = Client::of(&server).get("/ISAPI/System/time");
        (reply.all("localTime").concat(), reply.all("timeZone").concat())
    };
    assert_eq!(time(), ("2026-07-01T14:00:00+02:00".into(), BERLIN.into()));
    server.change_knobs(|knobs| knobs.offset_lies = true).unwrap();
    assert_eq!(time().0, "2026-07-01T14:00:00+01:00");
    server.change_knobs(|knobs| knobs.clock_ahead_s = -90).unwrap();
    assert_eq!(time().0, "2026-07-01T13:58:30+01:00");
    server.change_knobs(|knobs| knobs.clock_stands = None).unwrap();
    assert_ne!(time().0, "2026-07-01T13:58:30+01:00");
}

#[test]
fn the_last_recording_grows_with_the_clock() {
    let stands = |time: &str| Some(format!("2026-11-19T{time}"));
    let server = recorder(3, Knobs { clock_stands: stands("00:12:30"), ..Knobs::default() });
    let size = server.recordings()[1].size;
    let last = || {
        let xml = Client::of(&server).search(&day(101, "")).ok();
        let (ends, uris) = (all(&xml, "endTime"), all(&xml, "playbackURI"));
        let size: u64 = uris.last().unwrap().rsplit_once("size=").unwrap().1.parse().unwrap();
        (ends.len(), ends.last().unwrap().clone(), size, uris.last().unwrap().clone())
    };
    let (files, end, told, uri) = last();
    assert_eq!((files, end.as_str(), told), (2, "2026-11-19T00:12:30Z", size / 4));
    let reply = Client::fetch(&server, "GET", &uri);
    assert_eq!((reply.whole, reply.body.len() as u64), (true, size / 4));
    assert_eq!(server.stats().downloads.complete, 0, "it is not over");

    server.change_knobs(|knobs| knobs.clock_stands = stands("00:15:00")).unwrap();
    let (files, end, told, _) = last();
    assert_eq!((files, end.as_str(), told), (2, "2026-11-19T00:15:00Z", size / 2));
    server.change_knobs(|knobs| knobs.clock_stands = stands("00:20:00")).unwrap();
    let (files, end, told, uri) = last();
    assert_eq!((files, end.as_str(), told), (2, "2026-11-19T00:20:00Z", size));
    assert_eq!(Client::fetch(&server, "GET", &uri).body.len() as u64, size);
    assert_eq!(server.stats().downloads.complete, 1);
    server.change_knobs(|knobs| knobs.clock_stands = None).unwrap();
    assert_eq!(uris(&server, 101).len(), 3);
}

#[test]
fn days_with_recordings_are_told_by_the_wall() {
    let server = berlin(Knobs::default());
    let days = |year: u32, month: u32| {
        let body = format!("<trackDailyParam><year>{year}</year><monthOfYear>{month}</monthOfYear></trackDailyParam>");
        let path = "/ISAPI/ContentMgmt/record/tracks/101/dailyDistribution";
        all(&Client::of(&server).call("POST", path, &body).ok(), "dayOfMonth")
    };
    assert_eq!((days(2026, 10), days(2026, 11)), (vec!["25".to_owned()], vec![]));
    server.change_knobs(|knobs| knobs.clock = ClockMode::Utc).unwrap();
    assert_eq!(days(2026, 10), ["24", "25"]);
}
