//! The proxy as a program.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

#[test]
fn the_program_says_where_it_listens_cuts_by_its_script_and_ends_when_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut seen).unwrap();
        seen
    });
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script.json");
    std::fs::write(&script, r#"{"rules":[{"fault":{"cut":{"at":[3,3]}}}]}"#).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["proxy", "--target", &target, "--seed", "7", "--until-stdin-closes", "--script"])
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let mut socket = TcpStream::connect(line["listen"].as_str().unwrap()).unwrap();
    socket.write_all(b"abcdef").unwrap();
    assert_eq!(server.join().unwrap(), b"abc");
    let control = line["control"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let mut asked = TcpStream::connect(control).unwrap();
    asked.write_all(b"GET /_testbed/script HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    asked.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""seed":7"#), "{answer}");
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
}

#[test]
fn a_script_that_means_nothing_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script.json");
    std::fs::write(&script, r#"{"rules":[{"fault":"explode"}]}"#).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["proxy", "--target", "127.0.0.1:9", "--script"])
        .arg(&script)
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("explode") && said.contains("script.json"), "{said}");
}
