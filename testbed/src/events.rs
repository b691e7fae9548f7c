//! A small blocking client of Server-Sent Events, which can be cut at any byte.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// An event, or the bare id that a block without data sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event` field, empty where there was none.
    pub kind: String,
    /// The last id that was sent, with this event or before.
    pub id: String,
    /// The `data` field; empty where only an id was set.
    pub data: String,
}

/// What came of waiting for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many.
    Bytes(usize),
    /// None in time.
    Nothing,
    /// The stream has ended.
    End,
}

/// A stream of events.
#[derive(Debug)]
pub struct Events {
    socket: TcpStream,
    /// What was received and not understood yet.
    raw: Vec<u8>,
    head: Option<String>,
    body: Body,
    parser: Parser,
}

/// Where we are in the answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Before a chunk's length.
    Length,
    /// So many bytes of a chunk are left.
    Chunk(usize),
    /// Before the line break after a chunk.
    Break,
    /// After the last chunk.
    End,
}

impl Events {
    /// Asks for a stream and reads nothing yet. `address` is `http://host:port`; a small `receive_buffer` makes the
    /// kernel take no more than that for a client that does not read.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub fn ask(
        address: &str,
        token: &str,
        path: &str,
        last_id: Option<&str>,
        receive_buffer: Option<u32>,
    ) -> anyhow::Result<Self> {
        let host = address.trim_start_matches("http://");
        let to: SocketAddr = host.parse().with_context(|| format!("`{address}` is no address"))?;
        let mut socket = connect(to, receive_buffer).with_context(|| format!("cannot connect to {to}"))?;
        let last_id = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nAccept: text/event-stream\r\n\
             {last_id}\r\n"
        );
        socket.write_all(request.as_bytes()).context("cannot send the request")?;
        Ok(Self { socket, raw: Vec::new(), head: None, body: Body::Length, parser: Parser::default() })
    }

    /// Our port.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn port(&self) -> anyhow::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Status line and headers, once they have come.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// Waits for bytes, at most so many, and takes them in.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or the answer is no stream of events.
    pub fn receive(&mut self, most: usize, patience: Duration) -> anyhow::Result<Received> {
        if self.body == Body::End {
            return Ok(Received::End);
        }
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let mut bytes = vec![0; most.clamp(1, 64 * 1024)];
        let count = match self.socket.read(&mut bytes) {
            Ok(0) => bail!("the connection ended in the middle"),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Received::Nothing);
            }
            Err(error) => return Err(error).context("the connection broke"),
        };
        self.raw.extend(&bytes[..count]);
        self.understand()?;
        Ok(Received::Bytes(count))
    }

    /// The events that have come whole since the last call, in order.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.parser.events)
    }

    /// Waits for the stream's end and returns all events until then.
    ///
    /// # Errors
    ///
    /// When it does not end within `patience`.
    pub fn until_end(&mut self, patience: Duration) -> anyhow::Result<Vec<Event>> {
        let deadline = Instant::now() + patience;
        while self.receive(64 * 1024, Duration::from_millis(100))? != Received::End {
            ensure!(Instant::now() < deadline, "the stream did not end within {patience:?}");
        }
        Ok(self.take())
    }

    /// Waits until there are `count` events with data and returns them.
    ///
    /// # Errors
    ///
    /// When there are not within `patience`.
    pub fn wait_for(&mut self, count: usize, patience: Duration) -> anyhow::Result<Vec<Event>> {
        let deadline = Instant::now() + patience;
        let mut events = Vec::new();
        loop {
            events.extend(self.take().into_iter().filter(|event| !event.data.is_empty()));
            if events.len() >= count {
                return Ok(events);
            }
            ensure!(Instant::now() < deadline, "{} of {count} events within {patience:?}", events.len());
            ensure!(self.receive(64 * 1024, Duration::from_millis(100))? != Received::End, "the stream has ended");
        }
    }

    fn understand(&mut self) -> anyhow::Result<()> {
        if self.head.is_none() {
            let Some(end) = find(&self.raw, b"\r\n\r\n") else { return Ok(()) };
            let head = String::from_utf8_lossy(&self.raw[..end]).into_owned();
            self.raw.drain(..end + 4);
            let lower = head.to_lowercase();
            let stream = head.starts_with("HTTP/1.1 200 ")
                && lower.contains("\r\ncontent-type: text/event-stream")
                && lower.contains("\r\ntransfer-encoding: chunked");
            ensure!(stream, "no stream of events: {head}: {}", String::from_utf8_lossy(&self.raw));
            self.head = Some(head);
        }
        loop {
            match self.body {
                Body::Length => {
                    let Some(end) = find(&self.raw, b"\r\n") else { return Ok(()) };
                    let text = String::from_utf8_lossy(&self.raw[..end]).into_owned();
                    let length = usize::from_str_radix(&text, 16).with_context(|| format!("`{text}` is no length"))?;
                    self.raw.drain(..end + 2);
                    self.body = if length == 0 { Body::End } else { Body::Chunk(length) };
                }
                Body::Chunk(left) => {
                    let count = left.min(self.raw.len());
                    let bytes: Vec<u8> = self.raw.drain(..count).collect();
                    self.parser.push(&bytes)?;
                    if count < left {
                        self.body = Body::Chunk(left - count);
                        return Ok(());
                    }
                    self.body = Body::Break;
                }
                Body::Break => {
                    if self.raw.len() < 2 {
                        return Ok(());
                    }
                    self.raw.drain(..2);
                    self.body = Body::Length;
                }
                Body::End => return Ok(()),
            }
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A connection whose receive buffer may be set, which the standard library cannot.
fn connect(to: SocketAddr, receive_buffer: Option<u32>) -> anyhow::Result<TcpStream> {
    let Some(bytes) = receive_buffer else { return Ok(TcpStream::connect(to)?) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        socket.connect(to).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Reads the text as WHATWG's HTML has it, section 9.2.6. What stands after the last blank line is dropped with it.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    kind: String,
    data: Option<String>,
    /// The id of the block so far, which counts from its end on.
    id: String,
    events: Vec<Event>,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line()?,
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> anyhow::Result<()> {
        let line = String::from_utf8(std::mem::take(&mut self.line)).context("a line is not UTF-8")?;
        ensure!(!line.contains('\r'), "a carriage return in {line:?}");
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), self.data.take().unwrap_or_default());
            self.events.push(Event { kind, id: self.id.clone(), data });
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                let data = self.data.get_or_insert_default();
                if !data.is_empty() {
                    data.push('\n');
                }
                data.push_str(value);
            }
            "id" => value.clone_into(&mut self.id),
            "" | "retry" => {}
            other => bail!("`{other}` is no field"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_in_the_middle_does_not_count() {
        let text = "retry: 2000\nid: 7\n\n:\n\nevent: frame\nid: 8\ndata: {}\n\nid: 9\ndata: x\n";
        for piece in [1, 3, 1_000] {
            let mut parser = Parser::default();
            for bytes in text.as_bytes().chunks(piece) {
                parser.push(bytes).unwrap();
            }
            let event = |kind: &str, id: &str, data: &str| Event {
                kind: kind.to_owned(),
                id: id.to_owned(),
                data: data.to_owned(),
            };
            assert_eq!(parser.events, [event("", "7", ""), event("", "7", ""), event("frame", "8", "{}")]);
        }
        assert!(Parser::default().push(b"evnt: x\n").is_err());
    }
}
