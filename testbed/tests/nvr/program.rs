//! The server itself: its pages, its knobs over HTTP, how it ends, and the program around it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::nvr::{Channel, Knobs, NvrServer, Options};

use crate::client::{Client, recorder};

#[test]
fn the_pages_agree_with_each_other() {
    let server = recorder(0, Knobs::default());
    let mut client = Client::of(&server);
    let mut all = |path: &str, name: &str| client.get(&format!("/ISAPI/{path}")).all(name);
    assert_eq!(all("System/deviceInfo", "deviceType"), ["NVR"]);
    let tracks = ["101", "102", "201", "202"];
    assert_eq!(all("Streaming/channels", "id"), tracks);
    assert_eq!(all("ContentMgmt/record/tracks", "id"), tracks);
    assert_eq!(all("ContentMgmt/record/tracks", "SrcChannel"), ["1", "1", "2", "2"]);
    assert_eq!(all("ContentMgmt/InputProxy/channels", "name"), ["Gate", "Yard & street"]);
    assert_eq!(all("ContentMgmt/InputProxy/channels/status", "online"), ["true", "true"]);
    assert_eq!(all("System/capabilities", "inputProxyNums"), ["2"]);
    assert_eq!(all("ContentMgmt/search/profile", "maxSearchMatchResults"), ["64"]);
    assert_eq!(all("ContentMgmt/Storage", "status"), ["ok"]);
    assert_eq!(all("System/status", "currentDeviceTime").len(), 1);
    let port = server.host().rsplit_once(':').unwrap().1;
    assert_eq!(all("Security/adminAccesses", "portNo"), [port, port]);
    assert!(all("System/Video/inputs/channels", "id").is_empty());
    assert_eq!(client.call("PUT", "/ISAPI/System/time", "<Time/>").refusal(), (403, "methodNotAllowed".into()));
    let stats = server.stats();
    assert_eq!((stats.calls.device_info, stats.calls.channels, stats.calls.unknown), (1, 1, 1));
}

#[test]
fn channels_can_be_forbidden_and_errors_can_be_pages_of_html() {
    let server = recorder(0, Knobs { no_channels: true, ..Knobs::default() });
    let mut client = Client::of(&server);
    assert_eq!(client.get("/ISAPI/Streaming/channels").refusal(), (403, "invalidOperation".into()));
    assert_eq!(client.get("/ISAPI/nothing").refusal(), (404, "notFound".into()));
    server.change_knobs(|knobs| (knobs.html_errors, knobs.no_channels) = (true, false)).unwrap();
    let reply = client.get("/ISAPI/nothing");
    assert_eq!((reply.status, reply.header("content-type")), (404, Some("text/html")));
    assert!(reply.text().starts_with("<!DOCTYPE html>"));
    client.get("/ISAPI/Streaming/channels").ok();
}

#[test]
fn any_call_can_be_forbidden_or_missing_and_abilities_may_be_lies() {
    let (forbidden, missing) = (vec!["tracks".into()], vec!["deviceInfo".into(), "search".into()]);
    let server = recorder(1, Knobs { forbidden, missing, abilities_lie: true, ..Knobs::default() });
    let mut client = Client::of(&server);
    assert_eq!(client.get("/ISAPI/ContentMgmt/record/tracks").refusal(), (403, "invalidOperation".into()));
    assert_eq!(client.get("/ISAPI/System/deviceInfo").refusal(), (404, "notFound".into()));
    assert_eq!(client.search("").status, 404);
    let ability = client.get("/ISAPI/ContentMgmt/download/capabilities");
    let told = ["isSupportDownloadbyFileName", "isSupportDownloadbyTime"].map(|name| ability.all(name).concat());
    assert_eq!(told, ["false", "true"]);
}

#[test]
fn knobs_and_stats_are_there_without_a_login() {
    let server = recorder(0, Knobs::default());
    let mut client = Client::of(&server);
    let knobs: Value = serde_json::from_str(&client.once("GET", "/_testbed/knobs", None, "").ok()).unwrap();
    assert_eq!((&knobs["page"], &knobs["challenge"]), (&json!(64), &json!("md5")));
    let changed = client.once("PUT", "/_testbed/knobs", None, r#"{"page": 2, "challenge": "sha256"}"#).ok();
    assert_eq!(serde_json::from_str::<Value>(&changed).unwrap()["page"], 2);
    assert_eq!(server.knobs().page, 2);
    let refused = client.once("PUT", "/_testbed/knobs", None, r#"{"page": 0}"#);
    assert!(refused.status == 400 && refused.text().contains("knob `page` is 0"), "{refused:?}");
    assert_eq!(server.knobs().page, 2);
    let stats: Value = serde_json::from_str(&client.once("GET", "/_testbed/stats", None, "").ok()).unwrap();
    assert_eq!((&stats["requests"], &stats["connections"]), (&json!(0), &json!(1)));
}

#[test]
fn what_cannot_be_recorded_is_refused() {
    let good = Channel { recordings: 1, ..Channel::default() };
    for (channels, word) in [
        (vec![], "without channels"),
        (vec![Channel { each_s: 0, ..good.clone() }], "no length"),
        (vec![Channel { pictures: 0, ..good.clone() }], "without pictures"),
        (vec![Channel { pictures: 7, ..good.clone() }], "no whole GOPs"),
        (vec![Channel { begin: "today".into(), ..good.clone() }], "no time"),
        (vec![good.clone(), Channel { fps: 0, ..good }], "channel 2"),
    ] {
        let error = NvrServer::start(Options { channels, ..Options::default() }).unwrap_err();
        assert!(format!("{error:#}").contains(word), "{error:#}");
    }
}

#[test]
fn a_dropped_server_is_gone() {
    let server = recorder(0, Knobs::default());
    let host = server.host().to_owned();
    let mut client = Client::of(&server);
    client.get("/ISAPI/System/deviceInfo").ok();
    drop(server);
    assert_eq!(client.socket().read(&mut [0]).unwrap(), 0, "the connection is closed");
    assert!(TcpStream::connect(host).is_err());
}

#[test]
fn the_program_says_where_it_listens_and_ends_when_told() {
    for by_signal in [false, true] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_testbed"))
            .args(["nvr", "--recordings", "2,0", "--page", "1", "--clock-ahead-s", "-5", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let mut client = Client::at(line["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap());
        let page = client.search(&crate::client::day(101, ""));
        assert_eq!((page.all("responseStatusStrg"), page.all("name").len()), (vec!["MORE".into()], 1));
        if by_signal {
            let status = Command::new("kill").args(["-TERM", &program.id().to_string()]).status().unwrap();
            assert!(status.success());
        } else {
            drop(program.stdin.take());
        }
        assert!(program.wait().unwrap().success());
    }
}
