//! The Cloud Storage server as its clients see it: raw HTTP over a socket, with nothing between that could be lenient.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testbed::gcs::{GcsServer, Knobs, Options, Stats};

const UPLOAD: &str = "/upload/storage/v1/b/frames/o";
const OBJECTS: &str = "/storage/v1/b/frames/o";

/// A server with the bucket `frames`.
fn server() -> GcsServer {
    server_with(Options::default())
}

fn server_with(options: Options) -> GcsServer {
    GcsServer::start(Options { buckets: vec!["frames".into()], ..options }).unwrap()
}

/// One kept-alive connection.
struct Client(BufReader<TcpStream>);

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json; charset=UTF-8");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The object's metadata, of a call that must have gone well.
    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The reason in the error body, of a call that must have failed with `status`.
    fn error(&self, status: u16) -> String {
        let json = self.json();
        assert_eq!((self.status, json["error"]["code"].as_u64()), (status, Some(u64::from(status))), "{json}");
        assert_eq!(json["error"]["message"], json["error"]["errors"][0]["message"]);
        json["error"]["errors"][0]["reason"].as_str().unwrap().to_owned()
    }
}

impl Client {
    fn of(server: &GcsServer) -> Client {
        Client::at(&server.endpoint())
    }

    fn at(endpoint: &str) -> Client {
        let socket = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client(BufReader::new(socket))
    }

    fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let length = body.len().to_string();
        let headers = [headers, &[("content-length", &length)]].concat();
        self.send(method, path, &headers, &[body])
    }

    fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }

    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], writes: &[&[u8]]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: testbed\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let socket = self.0.get_mut();
        socket.write_all(head.as_bytes()).unwrap();
        for bytes in writes {
            socket.write_all(bytes).unwrap();
        }
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut line = || {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let status = line().split(' ').nth(1).expect("an answer").parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_owned(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        Reply { status, headers, body }
    }

    /// Uploads in two parts, or in three if there is a trailer.
    fn upload(&mut self, query: &str, metadata: &Value, media: &[u8], trailer: Option<&Value>) -> Reply {
        let body = multipart(metadata, media, trailer);
        let path = format!("{UPLOAD}?uploadType=multipart&{query}");
        self.call("POST", &path, &[MULTIPART], &body)
    }

    /// Uploads the bare bytes.
    fn put(&mut self, query: &str, media: &[u8]) -> Reply {
        self.call("POST", &format!("{UPLOAD}?uploadType=media&{query}"), &[("content-type", "image/jpeg")], media)
    }

    fn set_knobs(&mut self, patch: &Value) -> Knobs {
        let reply = self.call("PUT", "/_testbed/knobs", &[], patch.to_string().as_bytes());
        serde_json::from_value(reply.ok()).unwrap()
    }

    fn stats(&mut self) -> Stats {
        serde_json::from_value(self.get("/_testbed/stats").ok()).unwrap()
    }
}

const MULTIPART: (&str, &str) = ("content-type", "multipart/related; boundary=a-1-b");

/// The body as the official client crate writes it.
fn multipart(metadata: &Value, media: &[u8], trailer: Option<&Value>) -> Vec<u8> {
    let json = "Content-Type: application/json; charset=UTF-8";
    let mut body = format!(
        "--a-1-b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n{json}\r\n\r\n{metadata}\r\n\
         --a-1-b\r\nContent-Disposition: form-data; name=\"media\"\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(media);
    if let Some(trailer) = trailer {
        let part =
            format!("\r\n--a-1-b\r\nContent-Disposition: form-data; name=\"checksums\"\r\n{json}\r\n\r\n{trailer}");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(b"\r\n--a-1-b--\r\n");
    body
}

fn crc(media: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(media).to_be_bytes())
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().map_or(vec![], |items| items.iter().map(|item| item["name"].as_str().unwrap()).collect())
}

#[test]
fn an_upload_in_two_parts_is_stored_if_its_checksum_fits() {
    let server = server();
    let mut client = Client::of(&server);
    let media: Vec<u8> = (0..150_000).map(|i| (i % 251) as u8).collect();
    let metadata = json!({"contentType": "image/jpeg", "crc32c": crc(&media), "metadata": {"camera": "gate-3"}});
    let object = client.upload("name=a/b.jpg", &metadata, &media, None).ok();
    for (key, expected) in [
        ("kind", "storage#object"),
        ("bucket", "frames"),
        ("name", "a/b.jpg"),
        ("size", "150000"),
        ("metageneration", "1"),
        ("contentType", "image/jpeg"),
        ("crc32c", &crc(&media)),
    ] {
        assert_eq!(object[key], expected, "{key}");
    }
    assert_eq!(object["metadata"]["camera"], "gate-3");
    assert_eq!(object["md5Hash"], Value::Null, "nobody asked for it");
    assert_eq!(server.read("frames", "a/b.jpg").unwrap(), media);

    // One bit on the way.
    let mut broken = media.clone();
    broken[77_777] ^= 4;
    assert_eq!(client.upload("name=broken", &metadata, &broken, None).error(400), "invalid");
    assert_eq!(client.upload("name=broken", &json!({"crc32c": "AAA"}), &media, None).error(400), "invalid");
    let stored: Vec<_> = server.objects("frames").into_iter().map(|object| object.name).collect();
    assert_eq!(stored, ["a/b.jpg"]);
    let stats = client.stats();
    assert_eq!((stats.puts_stored, stats.bytes_stored, stats.checksum_failures), (1, 150_000, 1));
    assert_eq!(stats, server.stats());
}

#[test]
fn an_upload_in_three_parts_brings_its_checksum_behind_the_media() {
    let server = server();
    let mut client = Client::of(&server);
    let media = vec![7; 100_000];
    let right = json!({"crc32c": crc(&media)});
    let object = client.upload("name=x", &json!({}), &media, Some(&right)).ok();
    assert_eq!(object["size"], "100000");
    assert_eq!(object["crc32c"], right["crc32c"]);
    let wrong = json!({"crc32c": crc(b"something else")});
    assert_eq!(client.upload("name=y", &json!({}), &media, Some(&wrong)).error(400), "invalid");
    assert_eq!(server.objects("frames").len(), 1);
    assert_eq!(client.stats().checksum_failures, 1);
}

#[test]
fn a_body_of_unknown_length_may_come_in_chunks_cut_anywhere() {
    let server = server();
    let mut client = Client::of(&server);
    let media: Vec<u8> = (0..10_000).map(|i| (i % 241) as u8).collect();
    let body = multipart(&json!({}), &media, Some(&json!({"crc32c": crc(&media)})));
    for size in [1, 97, 4096, 20_000] {
        let mut chunked = Vec::new();
        for chunk in body.chunks(size) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        let (first, rest) = chunked.split_at(chunked.len() / 2);
        let path = format!("{UPLOAD}?uploadType=multipart&name={size}");
        client.send("POST", &path, &[MULTIPART, ("transfer-encoding", "chunked")], &[first, rest]).ok();
        assert_eq!(server.read("frames", &size.to_string()).unwrap(), media, "chunks of {size}");
    }
}

#[test]
fn hashes_in_headers_are_checked_too() {
    let server = server();
    let mut client = Client::of(&server);
    let md5 = "XrY7u+Ae7tCTyyK7j1rNww=="; // of "hello world"
    let mut put = |hash: &str| {
        let path = format!("{UPLOAD}?uploadType=media&name=x");
        client.call("POST", &path, &[("x-goog-hash", hash)], b"hello world")
    };
    assert_eq!(put(&format!("crc32c=yZRlqg==,md5={md5}")).ok()["md5Hash"], md5);
    assert_eq!(put("crc32c=yZRlqg==").ok()["md5Hash"], Value::Null);
    assert_eq!(put("crc32c=AAAAAA==").error(400), "invalid");
    assert_eq!(put("crc32c=yZRlqg==,md5=AAAAAAAAAAAAAAAAAAAAAA==").error(400), "invalid");
    assert_eq!(put("sha1=AAAA").error(400), "invalid");
    server.change_knobs(|knobs| knobs.md5 = true).unwrap();
    assert_eq!(put("crc32c=yZRlqg==").ok()["md5Hash"], md5);
    assert_eq!(server.stats().checksum_failures, 2);
}

#[test]
fn a_create_only_upload_never_replaces_anything() {
    let server = server();
    let mut client = Client::of(&server);
    let create = "name=x&ifGenerationMatch=0";
    let first = client.put(create, b"one").ok();
    for other in [&b"one"[..], b"two"] {
        let reply = client.put(create, other);
        assert_eq!(reply.error(412), "conditionNotMet");
        assert_eq!(reply.json()["error"]["errors"][0]["location"], "If-Match");
    }
    assert_eq!(client.get(&format!("{OBJECTS}/x")).ok(), first);
    let stats = client.stats();
    assert_eq!((stats.puts_stored, stats.precondition_failures), (1, 2));
    assert_eq!(stats.duplicates_refused, 1, "the other one met somebody else's bytes");
}

#[test]
fn generations_rise_and_guard_writes_reads_and_deletes() {
    let server = server();
    let mut client = Client::of(&server);
    let first = client.put("name=x", b"one").ok()["generation"].as_str().unwrap().to_owned();
    let second = client.put(&format!("name=x&ifGenerationMatch={first}"), b"two").ok()["generation"].clone();
    let second = second.as_str().unwrap();
    assert!(second.parse::<i64>().unwrap() > first.parse().unwrap());
    assert_eq!(client.put(&format!("name=x&ifGenerationMatch={first}"), b"3").error(412), "conditionNotMet");
    assert_eq!(client.put(&format!("name=x&ifGenerationNotMatch={second}"), b"3").error(412), "conditionNotMet");
    assert_eq!(client.put("name=x&ifGenerationMatch=soon", b"3").error(400), "invalid");

    let x = format!("{OBJECTS}/x");
    assert_eq!(client.get(&format!("{x}?generation={second}")).ok()["size"], "3");
    assert_eq!(client.get(&format!("{x}?generation={first}")).error(404), "notFound");
    assert_eq!(client.get(&format!("{x}?ifGenerationMatch={first}")).error(412), "conditionNotMet");
    assert_eq!(client.get(&format!("{x}?ifGenerationNotMatch={second}")).status, 304);
    assert_eq!(client.get(&format!("{x}?ifGenerationNotMatch={first}")).status, 200);
    assert_eq!(client.get(&format!("{x}?ifMetagenerationMatch=2")).error(412), "conditionNotMet");

    let delete = format!("{x}?ifGenerationMatch={first}");
    assert_eq!(client.call("DELETE", &delete, &[], b"").error(412), "conditionNotMet");
    assert_eq!(client.call("DELETE", &x, &[], b"").status, 204);
    assert_eq!(client.call("DELETE", &x, &[], b"").error(404), "notFound");
    assert_eq!(client.get(&x).error(404), "notFound");
    client.put("name=x&ifGenerationMatch=0", b"four").ok();
}

#[test]
fn bytes_come_back_whole_and_in_ranges() {
    let server = server();
    let mut client = Client::of(&server);
    let metadata = json!({"contentType": "image/jpeg", "metadata": {"camera": "gate-3"}, "cacheControl": "no-store"});
    let object = client.upload("name=x", &metadata, b"0123456789", None).ok();
    for path in [format!("{OBJECTS}/x?alt=media"), "/download/storage/v1/b/frames/o/x?alt=media".into()] {
        let reply = client.get(&path);
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"0123456789"[..]));
        for (name, expected) in [
            ("x-goog-hash", format!("crc32c={}", crc(b"0123456789")).as_str()),
            ("x-goog-generation", object["generation"].as_str().unwrap()),
            ("x-goog-metageneration", "1"),
            ("x-goog-stored-content-length", "10"),
            ("x-goog-stored-content-encoding", "identity"),
            ("x-goog-storage-class", "STANDARD"),
            ("x-goog-meta-camera", "gate-3"),
            ("cache-control", "no-store"),
            ("content-type", "image/jpeg"),
            ("etag", object["etag"].as_str().unwrap()),
        ] {
            assert_eq!(reply.headers.get(name).map(String::as_str), Some(expected), "{name}");
        }
        for (range, body, content_range) in [
            ("bytes=0-0", &b"0"[..], "bytes 0-0/10"),
            ("bytes=3-5", b"345", "bytes 3-5/10"),
            ("bytes=8-", b"89", "bytes 8-9/10"),
            ("bytes=-4", b"6789", "bytes 6-9/10"),
        ] {
            let reply = client.call("GET", &path, &[("range", range)], b"");
            assert_eq!((reply.status, reply.body.as_slice()), (206, body), "{range}");
            assert_eq!(reply.headers["content-range"], content_range);
            assert_eq!(reply.headers["x-goog-stored-content-length"], "10");
        }
        assert_eq!(client.call("GET", &path, &[("range", "bytes=10-")], b"").status, 416);
    }
    assert_eq!(client.stats().bytes_read, 2 * (10 + 1 + 3 + 2 + 4));
    // As the service does: no JSON where bytes were asked for.
    let missing = client.get(&format!("{OBJECTS}/y?alt=media"));
    assert_eq!((missing.status, missing.body.as_slice()), (404, &b"No such object: frames/y"[..]));
}

#[test]
fn lists_come_in_pages_by_prefix_and_by_folder() {
    let server = server();
    let mut client = Client::of(&server);
    assert_eq!(client.get(OBJECTS).ok(), json!({"kind": "storage#objects"}));
    for i in 0..25 {
        client.put(&format!("name=cam/{}/{i:03}", i % 2), b"x").ok();
    }
    client.put("name=readme", b"x").ok();

    let mut seen = Vec::new();
    let mut pages = 0;
    let mut token = String::new();
    loop {
        let page = client.get(&format!("{OBJECTS}?prefix=cam/&maxResults=10&pageToken={token}")).ok();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        pages += 1;
        match page["nextPageToken"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let mut expected: Vec<_> = (0..25).map(|i| format!("cam/{}/{i:03}", i % 2)).collect();
    expected.sort();
    assert_eq!((seen, pages), (expected, 3));

    let top = client.get(&format!("{OBJECTS}?delimiter=/")).ok();
    assert_eq!((names(&top), &top["prefixes"]), (vec!["readme"], &json!(["cam/"])));
    let below = client.get(&format!("{OBJECTS}?delimiter=/&prefix=cam/")).ok();
    assert_eq!((names(&below), &below["prefixes"]), (vec![], &json!(["cam/0/", "cam/1/"])));
    assert_eq!(client.get(&format!("{OBJECTS}?pageToken=nonsense!")).error(400), "invalid");
    assert_eq!(client.get(&format!("{OBJECTS}?maxResults=0")).error(400), "invalid");
}

#[test]
fn names_with_slashes_and_foreign_letters_are_one_name_everywhere() {
    let server = server();
    let mut client = Client::of(&server);
    for (name, in_query, in_path) in [
        ("a/b/c.jpg", "a/b/c.jpg", "a%2Fb%2Fc.jpg"),
        (
            "größe/東京 1+1=100%.jpg",
            "gr%C3%B6%C3%9Fe%2F%E6%9D%B1%E4%BA%AC+1%2B1%3D100%25.jpg",
            "gr%C3%B6%C3%9Fe%2F%E6%9D%B1%E4%BA%AC%201+1=100%25.jpg",
        ),
        ("../x?#[]", "..%2Fx%3F%23%5B%5D", "..%2Fx%3F%23%5B%5D"),
    ] {
        assert_eq!(client.put(&format!("name={in_query}"), name.as_bytes()).ok()["name"], name);
        assert_eq!(client.get(&format!("{OBJECTS}/{in_path}")).ok()["name"], name);
        assert_eq!(client.get(&format!("{OBJECTS}/{in_path}?alt=media")).body, name.as_bytes());
        let link = client.get(&format!("{OBJECTS}/{in_path}")).ok()["mediaLink"].as_str().unwrap().to_owned();
        assert_eq!(client.get(link.strip_prefix(&server.endpoint()).unwrap()).body, name.as_bytes());
        let list = client.get(&format!("{OBJECTS}?prefix={in_query}")).ok();
        assert_eq!(names(&list), [name]);
        assert_eq!(client.call("DELETE", &format!("{OBJECTS}/{in_path}"), &[], b"").status, 204);
    }
    // 1024 bytes are allowed, and the limit counts bytes: 512 letters of two bytes each.
    let longest = "%C3%BC".repeat(512);
    client.put(&format!("name={longest}"), b"").ok();
    assert_eq!(client.put(&format!("name={longest}x"), b"").error(400), "invalid");
    assert_eq!(client.put("", b"").error(400), "required");
    assert_eq!(client.put("name=..", b"").error(400), "invalid");
    // The name may also stand in the metadata, and the one in the query counts more.
    let metadata = json!({"name": "inner"});
    assert_eq!(client.upload("", &metadata, b"", None).ok()["name"], "inner");
    assert_eq!(client.upload("name=outer", &metadata, b"", None).ok()["name"], "outer");
}

#[test]
fn an_unknown_bucket_is_not_found_unless_any_will_do() {
    let server = server();
    let mut client = Client::of(&server);
    assert_eq!(client.get("/storage/v1/b/frames").ok()["name"], "frames");
    let upload = "/upload/storage/v1/b/other/o?uploadType=media&name=x";
    for (method, path) in [
        ("POST", upload),
        ("GET", "/storage/v1/b/other"),
        ("GET", "/storage/v1/b/other/o"),
        ("GET", "/storage/v1/b/other/o/x"),
        ("DELETE", "/storage/v1/b/other/o/x"),
    ] {
        assert_eq!(client.call(method, path, &[], b"").error(404), "notFound", "{method} {path}");
    }
    let any = server_with(Options { any_bucket: true, ..Options::default() });
    let mut client = Client::of(&any);
    client.call("POST", upload, &[], b"x").ok();
    assert_eq!(any.objects("other").len(), 1);
}

#[test]
fn what_is_absent_says_so() {
    let server = server();
    let mut client = Client::of(&server);
    let reply = client.call("POST", &format!("{UPLOAD}?uploadType=resumable&name=x"), &[], b"{}");
    assert_eq!(reply.error(501), "notImplemented");
    assert!(reply.json()["error"]["message"].as_str().unwrap().contains("resumable uploads"));
    assert_eq!(client.call("PATCH", &format!("{OBJECTS}/x"), &[], b"{}").error(501), "notImplemented");
    assert_eq!(client.call("POST", &format!("{UPLOAD}?name=x"), &[], b"").error(400), "invalid");
    assert_eq!(client.stats().requests.unsupported, 3);
}

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

#[test]
fn bodies_can_live_in_files() {
    let root = std::env::temp_dir().join(format!("testbed-gcs-{}", std::process::id()));
    let server = server_with(Options { root: Some(root.clone()), ..Options::default() });
    let mut client = Client::of(&server);
    let files = || std::fs::read_dir(&root).unwrap().count();
    client.put("name=../x", b"first").ok();
    client.put("name=../x", b"second").ok();
    client.put("name=y", b"other").ok();
    assert_eq!(client.put("name=y&ifGenerationMatch=0", b"other").status, 412);
    assert_eq!(files(), 2);
    assert_eq!(client.get(&format!("{OBJECTS}/..%2Fx?alt=media")).body, b"second");
    assert_eq!(client.call("GET", &format!("{OBJECTS}/..%2Fx?alt=media"), &[("range", "bytes=2-3")], b"").body, b"co");
    assert_eq!(server.read("frames", "y").unwrap(), "other");
    client.call("DELETE", &format!("{OBJECTS}/y"), &[], b"");
    assert_eq!(files(), 1);
    drop(server);
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn bodies_can_be_discarded_once_they_are_checked() {
    let server = server_with(Options { discard: true, ..Options::default() });
    let mut client = Client::of(&server);
    let object = client.put("name=x&ifGenerationMatch=0", b"bytes").ok();
    assert_eq!((&object["size"], &object["crc32c"]), (&json!("5"), &json!(crc(b"bytes"))));
    assert_eq!(client.put("name=x&ifGenerationMatch=0", b"bytes").status, 412);
    assert_eq!(client.get(&format!("{OBJECTS}/x?alt=media")).status, 501);
    assert!(server.read("frames", "x").is_err());
}

#[test]
fn a_dropped_server_is_gone() {
    let server = server();
    let endpoint = server.endpoint();
    let mut client = Client::of(&server);
    client.get(OBJECTS).ok();
    drop(server);
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0, "the connection is closed");
    assert!(TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).is_err());
}

#[test]
fn the_program_says_where_it_listens_and_ends_when_told() {
    for by_signal in [false, true] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_testbed"))
            .args(["gcs", "--bucket", "frames", "--rate-503", "1", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let mut client = Client::at(line["endpoint"].as_str().unwrap());
        assert_eq!(client.get("/storage/v1/b/frames").error(503), "backendError");
        if by_signal {
            let status = Command::new("kill").args(["-TERM", &program.id().to_string()]).status().unwrap();
            assert!(status.success());
        } else {
            drop(program.stdin.take());
        }
        assert!(program.wait().unwrap().success());
    }
}
