//! What the knobs do to clients.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, OBJECTS, UPLOAD, server};

/// What a client saw of each status in so many uploads of ten bytes, each under a name of its own.
fn hammer(client: &mut Client, uploads: usize) -> BTreeMap<u16, u64> {
    let mut seen = BTreeMap::new();
    for i in 0..uploads {
        let reply = client.put(&format!("name={i}&ifGenerationMatch=0"), b"0123456789");
        *seen.entry(reply.status).or_default() += 1;
        let retry_after = reply.headers.get("retry-after").map(String::as_str);
        assert_eq!(retry_after, (reply.status != 200).then_some("7"));
    }
    seen
}

#[test]
fn injected_faults_come_at_their_rate_and_store_nothing() {
    let run = |seed: u64| {
        let server = server();
        let mut client = Client::of(&server);
        let knobs = client.set_knobs(&json!({"rate_503": 0.3, "rate_429": 0.1, "retry_after_s": 7, "seed": seed}));
        assert_eq!(knobs, server.knobs());
        let seen = hammer(&mut client, 1000);
        let stats = client.stats();
        assert_eq!(stats.injected.status_503, seen[&503]);
        assert_eq!(stats.injected.status_429, seen[&429]);
        assert_eq!((stats.puts_stored, stats.bytes_stored), (seen[&200], 10 * seen[&200]));
        assert_eq!(server.objects("frames").len() as u64, seen[&200]);
        assert_eq!((stats.requests.upload_media, stats.requests.total()), (1000, 1000));
        // Five standard deviations on either side.
        assert!((228..=372).contains(&seen[&503]), "{seen:?}");
        assert!((53..=147).contains(&seen[&429]), "{seen:?}");

        client.set_knobs(&json!({"rate_503": 0, "rate_429": 0, "retry_after_s": null}));
        assert_eq!(client.put("name=after", b"x").status, 200);
        (seen, server.objects("frames").into_iter().map(|object| object.name).collect::<Vec<_>>())
    };
    let first = run(17);
    assert_eq!(first, run(17), "a seed decides which calls fail");
    assert_ne!(first.1, run(18).1);
}

#[test]
fn a_lost_answer_is_one_to_an_upload_that_took_effect() {
    let server = server();
    let mut client = Client::of(&server);
    client.set_knobs(&json!({"rate_lost_answer": 1}));
    assert_eq!(client.put("name=x&ifGenerationMatch=0", b"x").error(503), "backendError");
    // What the knob is for: the second try must find the first one's object, and that answer is the real one.
    assert_eq!(client.put("name=x&ifGenerationMatch=0", b"x").error(412), "conditionNotMet");
    client.get(OBJECTS).ok();
    let stats = client.stats();
    assert_eq!((stats.injected.lost_answers, stats.puts_stored, stats.duplicates_refused), (1, 1, 1));
    assert_eq!(server.objects("frames").len(), 1);
}

#[test]
fn every_call_is_refused_until_the_knob_is_turned_back() {
    let server = server();
    let mut client = Client::of(&server);
    for (status, reason) in [(401, "authError"), (403, "forbidden"), (404, "notFound")] {
        client.set_knobs(&json!({"refuse_status": status}));
        assert_eq!(client.put("name=x", b"x").error(status), reason);
        assert_eq!(client.get(OBJECTS).error(status), reason);
    }
    assert_eq!(client.stats().injected.refused, 6);
    let wrong = client.call("PUT", "/_testbed/knobs", &[], br#"{"refuse_status": 200}"#);
    assert!(wrong.json()["error"]["message"].as_str().unwrap().contains("refuse_status"));
    assert_eq!(server.knobs().refuse_status, Some(404), "a refused change changes nothing");
    client.set_knobs(&json!({"refuse_status": null}));
    client.put("name=x&ifGenerationMatch=0", b"x").ok();
}

#[test]
fn latency_is_added_to_uploads_and_reads_only() {
    let server = server();
    let mut client = Client::of(&server);
    client.put("name=x", b"x").ok();
    let latency = Duration::from_millis(300);
    client.set_knobs(&json!({"latency_ms": latency.as_millis() as u64}));
    let mut timed = |method: &str, path: &str| {
        let started = Instant::now();
        client.call(method, path, &[], b"");
        started.elapsed()
    };
    assert!(timed("POST", &format!("{UPLOAD}?uploadType=media&name=y")) >= latency);
    assert!(timed("GET", &format!("{OBJECTS}/x")) >= latency);
    assert!(timed("GET", &format!("{OBJECTS}/x?alt=media")) >= latency);
    // The quickest of several, so that a busy machine does not fail this.
    let list = (0..20).map(|_| timed("GET", OBJECTS)).min().unwrap();
    assert!(list < latency, "{list:?}");
}

#[test]
fn a_slow_line_takes_its_time_for_the_body() {
    let server = server();
    let mut client = Client::of(&server);
    server.change_knobs(|knobs| knobs.bandwidth_bytes_per_s = Some(1_000_000)).unwrap();
    let started = Instant::now();
    client.put("name=x", &vec![0; 300_000]).ok();
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = server();
    let mut client = Client::of(&server);
    let socket = client.0.get_mut();
    write!(socket, "POST {UPLOAD}?uploadType=media&name=x HTTP/1.1\r\nhost: t\r\ncontent-length: 10\r\n\r\nhalf")
        .unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    // The server closes the connection when it has noticed.
    client.0.read_to_end(&mut rest).unwrap();
    let stats = server.stats();
    assert_eq!((stats.aborted, stats.requests.total(), stats.puts_stored), (1, 0, 0));
}

/// Sends an upload of one byte and does not wait for the answer.
fn send_put(client: &mut Client, name: &str) {
    let head = format!("POST {UPLOAD}?uploadType=media&name={name} HTTP/1.1\r\nhost: t\r\ncontent-length: 1\r\n\r\nx");
    client.0.get_mut().write_all(head.as_bytes()).unwrap();
}

#[test]
fn a_reset_comes_after_the_upload_took_effect() {
    let server = server();
    server.change_knobs(|knobs| knobs.rate_reset = 1.0).unwrap();
    let mut client = Client::of(&server);
    send_put(&mut client, "x&ifGenerationMatch=0");
    let error = client.0.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert_eq!(server.objects("frames").len(), 1);
    // The second try meets the first one's object, and what stored nothing is answered.
    let mut client = Client::of(&server);
    assert_eq!(client.put("name=x&ifGenerationMatch=0", b"x").error(412), "conditionNotMet");
    client.get(OBJECTS).ok();
    assert_eq!((server.stats().injected.resets, server.stats().puts_stored), (1, 1));
}

#[test]
fn a_call_that_hangs_is_never_answered_and_has_no_effect() {
    let server = server();
    server.change_knobs(|knobs| knobs.rate_hang = 1.0).unwrap();
    let mut client = Client::of(&server);
    send_put(&mut client, "x");
    client.0.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = client.0.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    assert_eq!(server.stats().injected.hangs, 1);
    // Others are served, and the knobs can still be turned back.
    let mut other = Client::of(&server);
    other.set_knobs(&json!({"rate_hang": 0}));
    other.put("name=y", b"y").ok();
    assert_eq!(server.objects("frames").len(), 1);
}

#[test]
fn a_slow_answer_comes_byte_by_byte() {
    let server = server();
    let mut client = Client::of(&server);
    client.put("name=x", b"0123456789").ok();
    server.change_knobs(|knobs| (knobs.rate_slow_answer, knobs.slow_answer_bytes_per_s) = (1.0, Some(20))).unwrap();
    let started = Instant::now();
    let reply = client.get(&format!("{OBJECTS}/x?alt=media"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"0123456789"[..]));
    // Two bytes a tenth of a second, the first two at once.
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    // One byte a second: the head is there, the body is not.
    server.change_knobs(|knobs| knobs.slow_answer_bytes_per_s = None).unwrap();
    send_put(&mut client, "y");
    client.0.get_ref().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut seen = Vec::new();
    let error = client.0.read_to_end(&mut seen).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    let seen = String::from_utf8(seen).unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(body, "{");
    assert_eq!(server.stats().injected.slow_answers, 2);
}

#[test]
fn a_random_retry_after_keeps_its_bounds_and_its_seed() {
    let run = |seed: u64| -> Vec<u64> {
        let server = server();
        let mut client = Client::of(&server);
        client.set_knobs(&json!({"rate_429": 1, "retry_after_s": 2, "retry_after_max_s": 5, "seed": seed}));
        (0..100).map(|_| client.put("name=x", b"x").headers["retry-after"].parse().unwrap()).collect()
    };
    let first = run(17);
    for seconds in 2..=5 {
        assert!(first.contains(&seconds), "{first:?}");
    }
    assert!(first.iter().all(|seconds| (2..=5).contains(seconds)), "{first:?}");
    assert_eq!(first, run(17));
    assert_ne!(first, run(18));
}

#[test]
fn a_foreign_object_is_there_before_the_first_upload_of_its_name() {
    let server = server();
    let mut client = Client::of(&server);
    client.set_knobs(&json!({"foreign_name": "theirs/"}));
    client.put("name=ours%2F1&ifGenerationMatch=0", b"mine").ok();
    assert_eq!(client.put("name=theirs%2F1&ifGenerationMatch=0", b"mine").error(503), "backendError");
    assert_eq!(client.put("name=theirs%2F1&ifGenerationMatch=0", b"mine").error(412), "conditionNotMet");
    // Of the same size, so that nothing but the checksum tells whose it is.
    assert_eq!(server.read("frames", "theirs/1").unwrap(), "some");
    assert_eq!(testbed::gcs::foreign(20), "somebody else's some");
    client.put("name=ours%2Ftheirs%2F1&ifGenerationMatch=0", b"mine").ok();
    assert_eq!(server.read("frames", "ours/1").unwrap(), "mine");
    let stats = server.stats();
    assert_eq!((stats.injected.foreign, stats.puts_stored, stats.duplicates_refused), (1, 2, 0));
}

#[test]
fn arrivals_are_logged_on_demand_and_tell_what_comes_again() {
    let server = server();
    let mut client = Client::of(&server);
    client.put("name=before", b"x").ok();
    assert!(server.arrivals().is_empty());
    server.log_arrivals();
    client.put("name=before", b"x").ok();
    client.set_knobs(&json!({"rate_503": 1, "retry_after_s": 7}));
    let refused = std::time::Instant::now();
    client.put("name=a%2Fb", b"x").error(503);
    client.set_knobs(&json!({"rate_503": 0}));
    client.put("name=a%2Fb", b"x").ok();
    client.get(&format!("{OBJECTS}/a%2Fb")).ok();
    client.get(OBJECTS).ok();
    let seen = server.arrivals();
    let told: Vec<_> = seen.iter().map(|arrival| (arrival.upload, arrival.again)).collect();
    assert_eq!(told, [(true, false), (true, false), (true, true), (false, true), (false, false)]);
    assert!(seen.is_sorted_by_key(|arrival| arrival.at));
    // Seven seconds too soon, but for what the two calls took; the one after it was told nothing.
    let early = seen[2].early();
    let most = Duration::from_secs(7);
    assert!((most - refused.elapsed()..=most).contains(&early), "{early:?}");
    assert!(seen.iter().enumerate().all(|(n, arrival)| arrival.not_before.is_some() == (n == 2)), "{seen:?}");
}
