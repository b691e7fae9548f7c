//! Where the bodies are in a stream of HTTP/1.1 messages (RFC 9112): a change elsewhere would break the framing, and
//! never reach what it is to be tested on.
//!
//! It knows `Content-Length` and chunks. A stream that is something else, or a message whose end only the connection's
//! end tells, holds no bodies from there on.

use std::ops::Range;

/// The longest head, or line of a chunk's size.
const MAX_HEAD: usize = 64 * 1024;
/// With this an answer begins.
const VERSION: &str = "HTTP/1.";

/// Follows one direction of a connection.
#[derive(Debug)]
pub(super) struct Bodies {
    state: State,
    /// Of a head, or of a chunk's line, what has come so far.
    text: Vec<u8>,
    /// Bytes of this body so far.
    offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes are left.
    Length(u64),
    ChunkSize,
    /// So many bytes are left of this chunk.
    Chunk(u64),
    /// The line's end after a chunk.
    ChunkEnd,
    Trailer,
    /// Not understood: nothing more is looked at.
    Lost,
}

/// A piece of a body: where it is in the bytes that were given, and where it begins in its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Range<usize>,
    pub(super) offset: u64,
}

impl Bodies {
    pub(super) fn new() -> Bodies {
        Bodies { state: State::Head, text: Vec::new(), offset: 0 }
    }

    /// Whether an answer has begun and is not at its end. What is not HTTP is never seen to be.
    pub(super) fn is_amid(&self) -> bool {
        let begins = &self.text[..self.text.len().min(VERSION.len())];
        match self.state {
            State::Lost => false,
            State::Head => !begins.is_empty() && VERSION.as_bytes().starts_with(begins),
            _ => true,
        }
    }

    /// The pieces of bodies in what comes next.
    pub(super) fn pieces(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < bytes.len() && self.state != State::Lost {
            if let State::Length(left) | State::Chunk(left) = self.state {
                let here = left.min((bytes.len() - at) as u64) as usize;
                pieces.push(Piece { bytes: at..at + here, offset: self.offset });
                self.offset += here as u64;
                at += here;
                self.state = match self.state {
                    State::Length(_) if left == here as u64 => State::Head,
                    State::Length(_) => State::Length(left - here as u64),
                    _ if left == here as u64 => State::ChunkEnd,
                    _ => State::Chunk(left - here as u64),
                };
                continue;
            }
            self.text.push(bytes[at]);
            at += 1;
            if let Some(next) = self.line_ended() {
                self.state = next;
                self.text.clear();
            } else if self.text.len() > MAX_HEAD {
                self.state = State::Lost;
            }
        }
        pieces
    }

    /// What comes next, if a line that matters has ended.
    fn line_ended(&mut self) -> Option<State> {
        match self.state {
            State::Head if self.text.ends_with(b"\r\n\r\n") => {
                self.offset = 0;
                Some(body_of(&self.text))
            }
            State::ChunkSize if self.text.ends_with(b"\r\n") => {
                let line = String::from_utf8_lossy(&self.text);
                let size = line.split([';', '\r']).next().unwrap_or_default().trim();
                Some(match u64::from_str_radix(size, 16) {
                    Ok(0) => State::Trailer,
                    Ok(size) => State::Chunk(size),
                    Err(_) => State::Lost,
                })
            }
            State::ChunkEnd if self.text == b"\r\n" => Some(State::ChunkSize),
            State::ChunkEnd if self.text.len() >= 2 => Some(State::Lost),
            State::Trailer if self.text == b"\r\n" || self.text.ends_with(b"\r\n\r\n") => Some(State::Head),
            _ => None,
        }
    }
}

/// What follows a head.
fn body_of(head: &[u8]) -> State {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if !(first.starts_with("HTTP/1.") || first.contains(" HTTP/1.")) {
        return State::Lost;
    }
    let (mut length, mut chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "transfer-encoding" => chunked = value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    match (chunked, length) {
        (true, _) => State::ChunkSize,
        (false, Some(length @ 1..)) => State::Length(length),
        (false, Some(0)) => State::Head,
        (false, None) if first.starts_with("HTTP/1.") && !["204", "304"].iter().any(|code| first.contains(code)) => {
            State::Lost
        }
        (false, None) => State::Head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bodies of a stream that comes in pieces of so many bytes.
    fn bodies(stream: &[u8], step: usize) -> Vec<String> {
        let mut bodies = Bodies::new();
        let mut found: Vec<Vec<u8>> = Vec::new();
        for bytes in stream.chunks(step) {
            for piece in bodies.pieces(bytes) {
                if piece.offset == 0 {
                    found.push(Vec::new());
                }
                let body = found.last_mut().unwrap();
                assert_eq!(body.len() as u64, piece.offset);
                body.extend(&bytes[piece.bytes]);
            }
        }
        found.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    #[test]
    fn bodies_are_found_however_the_stream_is_cut() {
        let stream = b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
            GET /b HTTP/1.1\r\nhost: x\r\n\r\n\
            POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n\
            PUT /d HTTP/1.1\r\nCONTENT-LENGTH:2\r\n\r\nhi";
        for step in 1..=stream.len() {
            assert_eq!(bodies(stream, step), ["hello", "abc0123456789", "hi"], "in steps of {step}");
        }
        let answers = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nsad";
        for step in 1..=answers.len() {
            assert_eq!(bodies(answers, step), ["{}", "sad"], "in steps of {step}");
        }
    }

    #[test]
    fn an_answer_is_amid_from_its_first_byte_to_before_its_last() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"[..],
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ] {
            let mut bodies = Bodies::new();
            assert!(!bodies.is_amid());
            for (at, byte) in answer.iter().enumerate() {
                bodies.pieces(&[*byte]);
                assert_eq!(bodies.is_amid(), at + 1 < answer.len(), "byte {at}");
            }
        }
        let mut other = Bodies::new();
        other.pieces(b"hello");
        assert!(!other.is_amid());
    }

    #[test]
    fn what_is_not_http_has_no_bodies() {
        for stream in [
            &b"\x16\x03\x01\x02\x00\r\n\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
            b"POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n",
            &[b'a'; 3 * MAX_HEAD],
        ] {
            assert_eq!(bodies(stream, 7), [""; 0]);
        }
    }
}
