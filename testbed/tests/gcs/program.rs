//! The server itself: where it keeps bodies, how it ends, and the program around it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::gcs::Options;

use crate::client::{Client, OBJECTS, crc, server, server_with};

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
