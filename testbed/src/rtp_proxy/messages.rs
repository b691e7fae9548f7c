//! The messages of an RTSP connection, and the packets interleaved with them (RFC 2326, sections 4 to 7 and 10.12).

use anyhow::{Context as _, bail, ensure};

/// The most that a message may be long, bytes. None of a test bed's camera comes near.
const MOST: usize = 256 * 1_024;
/// A packet's way into the stream: `$`, the channel, and the length.
pub(super) const PREFIX: usize = 4;

/// What an RTSP connection carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A request or an answer, with its body.
    Message(Message),
    /// A packet on a channel.
    Packet { channel: u8, packet: Vec<u8> },
}

/// A request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its first line and its headers, with the empty line that ends them.
    pub(super) head: String,
    /// What follows them.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Gives a header that is there another value.
    pub(super) fn set_header(&mut self, name: &str, value: &str) {
        let is_it = |line: &str| line.split_once(':').is_some_and(|(found, _)| found.trim().eq_ignore_ascii_case(name));
        let lines = self
            .head
            .lines()
            .map(|line| if is_it(line) { format!("{name}: {value}\r\n") } else { format!("{line}\r\n") });
        self.head = lines.collect();
    }

    /// Gives it another body.
    pub(super) fn set_body(&mut self, body: Vec<u8>) {
        self.set_header("Content-Length", &body.len().to_string());
        self.body = body;
    }

    /// Whether it is a request of this method.
    pub(super) fn is_request(&self, method: &str) -> bool {
        self.head.strip_prefix(method).is_some_and(|rest| rest.starts_with(' '))
    }

    /// Whether it is an answer.
    pub(super) fn is_answer(&self) -> bool {
        self.head.starts_with("RTSP/")
    }

    /// It as it goes over the wire.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), &self.body].concat()
    }
}

/// Puts a packet into an interleaved stream.
pub(super) fn interleave(channel: u8, packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    [&[b'$', channel, high, low], &packet[..usize::from(length)]].concat()
}

/// Takes a connection's bytes and gives what they say.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    waiting: Vec<u8>,
}

impl Splitter {
    /// Takes bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next item, if it is whole.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Item>> {
        if self.waiting.first() == Some(&b'$') {
            let Some(&[_, channel, high, low]) = self.waiting.first_chunk::<PREFIX>() else { return Ok(None) };
            let end = PREFIX + usize::from(u16::from_be_bytes([high, low]));
            if self.waiting.len() < end {
                return Ok(None);
            }
            let packet = self.waiting.drain(..end).skip(PREFIX).collect();
            return Ok(Some(Item::Packet { channel, packet }));
        }
        let Some(end) = self.waiting.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) else {
            ensure!(self.waiting.len() < MOST, "a message of RTSP that does not end");
            return Ok(None);
        };
        let head = std::str::from_utf8(&self.waiting[..end]).context("the head of a message of RTSP is no text")?;
        let mut message = Message { head: head.to_owned(), body: Vec::new() };
        let length: usize = match message.header("Content-Length").map(str::parse) {
            None => 0,
            Some(Ok(length)) if length <= MOST => length,
            Some(_) => bail!("a message of RTSP with a length that cannot be"),
        };
        if self.waiting.len() < end + length {
            return Ok(None);
        }
        message.body = self.waiting.drain(..end + length).skip(end).collect();
        Ok(Some(Item::Message(message)))
    }
}
