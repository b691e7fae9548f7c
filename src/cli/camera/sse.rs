//! Server-Sent Events as they arrive: <https://html.spec.whatwg.org/multipage/server-sent-events.html>, section 9.2.6.

use std::time::Duration;

/// An event that is complete.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its kind; empty where it named none.
    pub kind: String,
    /// What it says.
    pub data: String,
}

/// Takes a stream to pieces, wherever the network has cut it.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR, so an LF belongs to it.
    after_cr: bool,
    event: Event,
    has_data: bool,
    id: Option<String>,
    /// With what to begin again after a cut: the `id` of the last complete event that had one.
    pub last_id: Option<String>,
    /// How long the server asks us to wait before we do.
    pub retry: Option<Duration>,
}

impl Parser {
    /// Takes the next bytes and gives the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
        }
        events
    }

    /// Forgets what has arrived in part: the connection is another one.
    pub fn restart(&mut self) {
        *self = Self { last_id: self.last_id.take(), retry: self.retry, ..Self::default() };
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            if let Some(id) = self.id.take() {
                self.last_id = Some(id);
            }
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry),
            // A comment, or a field of a later day.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_wherever_they_are_cut() {
        let stream = "retry: 2000\n\n: hello\n\nevent: frame\nid: 7\ndata: {\"seq\":7}\n\ndata:a\r\ndata: b\r\n\r\n\
                      id: 8\revent: session\rdata: é\r\rid: 9\n\nevent: x\nid: 10\ndata: cut";
        let expected = [event("frame", "{\"seq\":7}"), event("", "a\nb"), event("session", "é")];
        for piece in 1..stream.len() {
            let mut parser = Parser::default();
            let events: Vec<Event> = stream.as_bytes().chunks(piece).flat_map(|bytes| parser.push(bytes)).collect();
            assert_eq!(events, expected, "in pieces of {piece}");
            // The event that was cut off has not been seen, so its id must not be used.
            assert_eq!(parser.last_id.as_deref(), Some("9"), "in pieces of {piece}");
            assert_eq!(parser.retry, Some(Duration::from_secs(2)));
            parser.restart();
            assert_eq!(parser.push(b"data: next\n\n"), [event("", "next")]);
            assert_eq!(parser.last_id.as_deref(), Some("9"));
        }
    }
}
