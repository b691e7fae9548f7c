//! Resumable uploads.

use serde_json::{Value, json};
use testbed::gcs::GcsServer;

use crate::client::{Client, OBJECTS, Reply, UPLOAD, crc, server};

const QUANTUM: usize = 256 * 1024;

/// A resumable upload that was started.
struct Session<'a> {
    client: &'a mut Client,
    path: String,
}

impl<'a> Session<'a> {
    fn start(server: &GcsServer, client: &'a mut Client, query: &str, metadata: &Value) -> Session<'a> {
        let reply = start(client, query, metadata);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        let path = reply.headers["location"].strip_prefix(&server.endpoint()).unwrap().to_owned();
        Session { client, path }
    }

    fn put(&mut self, range: &str, bytes: &[u8]) -> Reply {
        self.client.call("PUT", &self.path, &[("content-range", range)], bytes)
    }

    /// Puts a piece that must not be the last, and returns what has arrived.
    fn more(&mut self, range: &str, bytes: &[u8]) -> Option<String> {
        let reply = self.put(range, bytes);
        assert_eq!((reply.status, reply.body.as_slice()), (308, &b""[..]), "{range}");
        reply.headers.get("range").cloned()
    }
}

fn start(client: &mut Client, query: &str, metadata: &Value) -> Reply {
    let path = format!("{UPLOAD}?uploadType=resumable&{query}");
    client.call("POST", &path, &[("x-upload-content-type", "image/jpeg")], metadata.to_string().as_bytes())
}

fn media(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn an_object_arrives_in_pieces_and_can_be_asked_after() {
    let server = server();
    let mut client = Client::of(&server);
    let media = media(2 * QUANTUM + 1000);
    let (first, rest) = media.split_at(QUANTUM);
    let (second, last) = rest.split_at(QUANTUM);
    let metadata = json!({"name": "a/b.jpg", "crc32c": crc(&media), "metadata": {"camera": "gate-3"}});
    let mut session = Session::start(&server, &mut client, "ifGenerationMatch=0", &metadata);
    assert_eq!(session.more("bytes */*", b""), None);
    assert_eq!(session.more("bytes 0-262143/*", first).as_deref(), Some("bytes=0-262143"));
    assert_eq!(session.more("bytes */525288", b"").as_deref(), Some("bytes=0-262143"));
    // What is there already is not taken again, whatever it says now.
    let mut again = vec![0; QUANTUM];
    again.extend_from_slice(second);
    assert_eq!(session.more("bytes 0-524287/525288", &again).as_deref(), Some("bytes=0-524287"));
    assert!(server.objects("frames").is_empty(), "not before its end");
    let object = session.put("bytes 524288-525287/525288", last).ok();
    assert_eq!((&object["name"], &object["size"]), (&json!("a/b.jpg"), &json!("525288")));
    assert_eq!((&object["contentType"], &object["metadata"]["camera"]), (&json!("image/jpeg"), &json!("gate-3")));
    // Whoever lost that answer asks for it.
    assert_eq!(session.put("bytes */525288", b"").ok(), object);
    assert_eq!(server.read("frames", "a/b.jpg").unwrap(), media);
    let stats = server.stats();
    assert_eq!((stats.requests.upload_start, stats.requests.upload_piece, stats.puts_stored), (1, 6, 1));
}

#[test]
fn a_whole_object_or_none_of_it_may_come_at_once() {
    let server = server();
    let mut client = Client::of(&server);
    let session = Session::start(&server, &mut client, "name=whole", &json!({}));
    let (client, path) = (session.client, session.path);
    assert_eq!(client.call("PUT", &path, &[], b"0123456789").ok()["size"], "10");
    Session::start(&server, client, "name=empty", &json!({})).put("bytes */0", b"").ok();
    Session::start(&server, client, "name=unknown", &json!({})).put("bytes 0-4/5", b"01234").ok();
    let sizes: Vec<_> = server.objects("frames").into_iter().map(|object| (object.name, object.size)).collect();
    assert_eq!(sizes, [("empty".into(), 0), ("unknown".into(), 5), ("whole".into(), 10)]);
}

#[test]
fn pieces_that_do_not_fit_are_refused_and_the_session_goes_on() {
    let server = server();
    let mut client = Client::of(&server);
    let media = media(QUANTUM + 5);
    let mut session = Session::start(&server, &mut client, "name=x", &json!({}));
    session.more("bytes 0-262143/262149", &media[..QUANTUM]);
    for (range, bytes) in [
        ("bytes 262145-262148/262149", &media[..4]), // a hole
        ("bytes 262144-262148/262149", &media[..4]), // a byte short
        ("bytes 262144-262147/262149", &media[..4]), // neither the last nor a multiple
        ("bytes 262144-262149/262149", &media[..6]), // behind the end
        ("bytes 262144-262148/262150", &media[..5]), // another length than before
        ("bytes 262144-262148", &media[..5]),        // cannot be read
    ] {
        assert_eq!(session.put(range, bytes).error(400), "invalid", "{range}");
    }
    assert_eq!(session.more("bytes */*", b"").as_deref(), Some("bytes=0-262143"));
    session.put("bytes 262144-262148/262149", &media[QUANTUM..]).ok();
    assert_eq!(server.read("frames", "x").unwrap(), media);
}

#[test]
fn checksums_are_looked_at_when_all_is_there() {
    let server = server();
    let mut client = Client::of(&server);
    let right = crc(b"01234");
    let wrong = crc(b"43210");
    let mut finish = |metadata: &Value, hash: Option<&str>| {
        let session = Session::start(&server, &mut client, "name=x", metadata);
        let hash = hash.map(|hash| format!("crc32c={hash}"));
        let mut headers = vec![("content-range", "bytes 0-4/5")];
        headers.extend(hash.as_deref().map(|hash| ("x-goog-hash", hash)));
        let reply = session.client.call("PUT", &session.path, &headers, b"01234");
        (reply.status, session.client.call("PUT", &session.path, &[("content-range", "bytes */5")], b"").status)
    };
    assert_eq!(finish(&json!({"crc32c": wrong}), None), (400, 410));
    assert_eq!(finish(&json!({}), Some(&wrong)), (400, 410));
    assert_eq!(finish(&json!({"crc32c": right}), Some(&wrong)), (400, 410));
    assert!(server.objects("frames").is_empty());
    assert_eq!(finish(&json!({"crc32c": right}), Some(&right)), (200, 200));
    assert_eq!(server.stats().checksum_failures, 3);
}

#[test]
fn conditions_hold_at_the_start_and_at_the_end() {
    let server = server();
    let mut client = Client::of(&server);
    let mut session = Session::start(&server, &mut client, "name=x&ifGenerationMatch=0", &json!({}));
    session.client.put("name=x", b"somebody else's").ok();
    assert_eq!(session.put("bytes 0-4/5", b"01234").error(412), "conditionNotMet");
    assert_eq!(session.put("bytes */5", b"").error(410), "uploadGone");
    assert_eq!(start(&mut client, "name=x&ifGenerationMatch=0", &json!({})).error(412), "conditionNotMet");
    assert_eq!(server.read("frames", "x").unwrap(), "somebody else's");
    assert_eq!(server.stats().precondition_failures, 2);
    assert_eq!(start(&mut client, "ifGenerationMatch=0", &json!({})).error(400), "required");
    let elsewhere = "/upload/storage/v1/b/other/o?uploadType=resumable&name=x";
    assert_eq!(client.call("POST", elsewhere, &[], b"{}").error(404), "notFound");
}

#[test]
fn a_session_ends_when_it_is_cancelled_or_expires() {
    let server = server();
    let mut client = Client::of(&server);
    let session = Session::start(&server, &mut client, "name=x", &json!({}));
    let (client, path) = (session.client, session.path);
    assert_eq!(client.call("DELETE", &path, &[], b"").status, 499);
    assert_eq!(client.call("DELETE", &path, &[], b"").error(410), "uploadGone");
    assert_eq!(client.call("PUT", &path, &[], b"x").error(410), "uploadGone");
    let mut session = Session::start(&server, client, "name=x", &json!({}));
    session.client.call("POST", "/_testbed/expire-uploads", &[], b"").ok();
    assert_eq!(session.put("bytes */*", b"").error(410), "uploadGone");
    assert_eq!(client.call("PUT", &format!("{UPLOAD}?upload_id=never"), &[], b"x").error(410), "uploadGone");
    assert_eq!(client.call("PUT", UPLOAD, &[], b"x").error(400), "invalid");
}

#[test]
fn a_piece_whose_answer_is_lost_has_arrived() {
    let server = server();
    let mut client = Client::of(&server);
    let media = media(QUANTUM + 5);
    let mut session = Session::start(&server, &mut client, "name=x", &json!({}));
    server.change_knobs(|knobs| knobs.rate_lost_answer = 1.0).unwrap();
    assert_eq!(session.put("bytes 0-262143/262149", &media[..QUANTUM]).status, 503);
    assert_eq!(session.put("bytes 262144-262148/262149", &media[QUANTUM..]).status, 503);
    server.change_knobs(|knobs| knobs.rate_lost_answer = 0.0).unwrap();
    session.put("bytes */262149", b"").ok();
    assert_eq!(client.get(&format!("{OBJECTS}/x")).ok()["size"], "262149");
    assert_eq!(server.stats().injected.lost_answers, 2);
}
