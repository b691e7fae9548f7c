//! The list and the objects over HTTP, and the command.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::gcs::{GcsServer, Options};

/// Serves these paths as JSON to whoever has the token, until the test ends. Returns the address.
fn serve(answers: Vec<(&'static str, Value)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &answers);
        }
    });
    address
}

fn answer(mut stream: TcpStream, answers: &[(&str, Value)]) {
    let head: Vec<String> =
        BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
    let path = head[0].split(' ').nth(1).unwrap();
    let allowed = head.iter().any(|line| line == "authorization: Bearer secret");
    let (status, body) = match answers.iter().find(|(known, _)| *known == path) {
        _ if !allowed => ("401 Unauthorized", "no token".to_owned()),
        Some((_, body)) => ("200 OK", body.to_string()),
        None => ("404 Not Found", format!("nothing at {path}")),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").unwrap();
}

fn frame(seq: u64, url: &str, object: &[u8]) -> Value {
    let crc32c = BASE64_STANDARD.encode(crc32c::crc32c(object).to_be_bytes());
    json!({"type": "frame", "session": 1, "seq": seq, "captured_at": "2026-01-02T03:04:05Z",
        "stored_at": "2026-01-02T03:04:06Z", "url": url, "unknown": [1], "bytes": object.len(), "crc32c": crc32c, "width": 320, "height": 240})
}

#[test]
fn reads_a_list_page_by_page() {
    let tombstone =
        json!({"type": "tombstone", "seq": 2, "last": 4, "session": null, "reason": "crash", "maybe_stored": true});
    let session =
        json!({"type": "session", "session": 1, "opened": "2026-01-02T03:04:05Z", "closed": null, "why": null});
    let page = |entries: Value, next: u64, more: bool| -> Value {
        json!({"camera": "a b", "watermark": 4, "entries": entries, "next": next, "more": more})
    };
    let api = serve(vec![
        ("/api/v1/cameras/a%20b/frames?after=0&limit=2", page(json!([session, frame(1, "file:///x", b"")]), 1, true)),
        ("/api/v1/cameras/a%20b/frames?after=1&limit=2", page(json!([tombstone]), 4, false)),
        ("/api/v1/cameras/stuck/frames?after=0&limit=2", page(json!([]), 0, true)),
        ("/api/v1/cameras", json!({"cameras": [{"id": "a b", "spec": {}}, {"id": "stuck"}]})),
    ]);
    let http = Http::new().unwrap();
    let list = fetch_list(&http, &api, "secret", "a b", 2).unwrap();
    assert_eq!(list.watermark, 4);
    let [
        Entry::Session { session: 1, closed: None, .. },
        Entry::Frame(frame),
        Entry::Tombstone { seq: 2, last: 4, session: None, maybe_stored: true, .. },
    ] = &list.entries[..]
    else {
        panic!("{:?}", list.entries);
    };
    assert_eq!((frame.seq, frame.url.as_str()), (1, "file:///x"));
    assert_eq!(fetch_cameras(&http, &api, "secret").unwrap(), ["a b", "stuck"]);

    let failure = |token, camera| format!("{:#}", fetch_list(&http, &api, token, camera, 2).unwrap_err());
    assert!(failure("secret", "stuck").contains("its cursor 0 does not move on"));
    assert!(failure("secret", "gone").contains("404 Not Found: nothing at"));
    assert!(failure("wrong", "a b").contains("401 Unauthorized: no token"));
}

#[test]
fn fetches_files_and_cloud_storage_objects() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a file");
    fs::write(&path, b"from disk").unwrap();
    let server = GcsServer::start(Options { buckets: vec!["frames".to_owned()], ..Options::default() }).unwrap();
    let endpoint = server.endpoint();
    let mut stream = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
    let name = "upload/storage/v1/b/frames/o?uploadType=media&name=gate%2F1%20%C3%BC.jpg";
    write!(stream, "POST /{name} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nconnection: close\r\n\r\nfrom cloud")
        .unwrap();
    let mut stored = String::new();
    stream.read_to_string(&mut stored).unwrap();
    assert!(stored.starts_with("HTTP/1.1 200"), "{stored}");

    let http = Http::new().unwrap();
    let fetcher = Fetcher::new(&http, Some(&endpoint));
    assert_eq!(fetcher.fetch(Url::from_file_path(&path).unwrap().as_str()).unwrap(), b"from disk");
    assert_eq!(fetcher.fetch("gs://frames/gate/1 ü.jpg").unwrap(), b"from cloud");

    let failure = |url| format!("{:#}", fetcher.fetch(url).unwrap_err());
    assert!(failure("gs://frames/gate/2.jpg").contains("404"), "{}", failure("gs://frames/gate/2.jpg"));
    assert!(failure("file:///no/such/file").contains("cannot read `/no/such/file`"));
    assert!(failure("s3://frames/x").contains("neither file:// nor gs://"));
    let without = Fetcher::new(&http, None).fetch("gs://frames/x").unwrap_err().to_string();
    assert!(without.contains("--gcs-endpoint"), "{without}");
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

/// Whether the command says that all is well, for one camera whose objects are these.
fn command(objects: &[&[u8]], options: &[&str]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut entries = vec![];
    for (index, object) in objects.iter().enumerate() {
        let path = dir.path().join(format!("{index}.jpg"));
        fs::write(&path, object).unwrap();
        entries.push(frame(index as u64 + 1, Url::from_file_path(&path).unwrap().as_str(), object));
    }
    let count = objects.len();
    let page = json!({"camera": "gate", "watermark": count, "entries": entries, "next": count, "more": false});
    let api = serve(vec![
        ("/api/v1/cameras/gate/frames?after=0&limit=1000", page),
        ("/api/v1/cameras", json!({"cameras": [{"id": "gate"}]})),
    ]);
    let token = dir.path().join("token");
    fs::write(&token, "secret\n").unwrap();
    let fixed = ["oracle", "--api", &api, "--token-file", token.to_str().unwrap()];
    let Command { args } = Command::try_parse_from(fixed.iter().chain(options)).unwrap();
    run(args).unwrap() == ExitCode::SUCCESS
}

#[test]
fn the_command_succeeds_only_when_all_is_well() {
    let [a, b, c] = [&clip()[7][..], &clip()[8], &clip()[9]];
    assert!(command(&[a, b, c], &[]));
    assert!(command(&[a, b, c], &["--camera", "gate", "--at-least", "3", "--format", "json"]));
    assert!(command(&[a, c], &["--pattern", "every:2"]));
    assert!(!command(&[a, b, c], &["--at-least", "4"]));
    assert!(!command(&[a, c], &[]));
    assert!(!command(&[a, c, b], &["--format", "json"]));
    assert!(!command(&[], &[]));
}

#[tokio::test]
async fn the_client_works_inside_a_runtime() {
    let api = serve(vec![("/api/v1/cameras", json!({"cameras": []}))]);
    let http = Http::new().unwrap();
    assert_eq!(fetch_cameras(&http, &api, "secret").unwrap(), [""; 0]);
}
