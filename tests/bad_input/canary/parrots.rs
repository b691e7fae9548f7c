//! Cameras that say the password again.

use std::io::Write as _;

use super::CANARY;
use crate::responder::{Responder, read_request};
use crate::vocabulary::USER;

/// A camera that asks for the password in the clear and says it again, in every way it knows.
pub fn echo() -> anyhow::Result<Responder> {
    Responder::rtsp(|request| match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
        None => b"401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_vec(),
        Some(login) => format!("404 {login} {CANARY} rtsp://{USER}:p%2540%3a%2f%23w@h/\r\n\r\n").into_bytes(),
    })
}

/// The same over HTTP: in the status line, as another place, or as what it shows.
pub fn parrot() -> anyhow::Result<Responder> {
    Responder::start(|stream| {
        let Some(request) = read_request(stream)? else { return Ok(()) };
        let answer = match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
            None => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n".to_owned(),
            Some(login) if request.starts_with("GET /status ") => {
                format!("404 {login} {CANARY}\r\nX-Login: {login}\r\n")
            }
            Some(login) if request.starts_with("GET /location ") => {
                format!("302 {login}\r\nLocation: http://{USER}:p%2540%3a%2f%23w@127.0.0.1:1/{login}\r\n")
            }
            Some(login) => format!("200 {login}\r\nContent-Type: {login}{CANARY}; boundary={CANARY}\r\n"),
        };
        let login = request.lines().find(|line| line.starts_with("Authorization: ")).unwrap_or_default();
        let body = format!("{login} {CANARY} http://{USER}:{CANARY}@h/");
        let length = body.len();
        stream.write_all(
            format!("HTTP/1.1 {answer}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").as_bytes(),
        )
    })
}

/// A camera that wants the password and then refuses with this status, saying the password again.
pub fn refusing(status: &'static str) -> anyhow::Result<Responder> {
    Responder::rtsp(move |request| match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
        None => b"401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_vec(),
        Some(login) => format!("{status} {login} {CANARY}\r\nX-Login: {login}\r\n\r\n").into_bytes(),
    })
}
