//! A client that is nothing but a socket, so that nothing between could be lenient.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use md5::{Digest as _, Md5};
use testbed::nvr::{Channel, Knobs, NvrServer, Options};

pub const SEARCH: &str = "/ISAPI/ContentMgmt/search";
pub const DOWNLOAD: &str = "/ISAPI/ContentMgmt/download";

/// A recorder with two channels: so many recordings, and three.
pub fn recorder(recordings: u32, knobs: Knobs) -> NvrServer {
    let channel = |name: &str, recordings| Channel { name: name.into(), recordings, ..Channel::default() };
    let channels = vec![channel("Gate", recordings), channel("Yard & street", 3)];
    NvrServer::start(Options { channels, knobs, ..Options::default() }).unwrap()
}

/// A connection, and a login.
pub struct Client {
    socket: BufReader<TcpStream>,
    pub password: String,
}

/// A body that may not have come to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether its end came as its head had told.
    pub whole: bool,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.as_str()))
    }

    pub fn challenges(&self) -> Vec<&str> {
        let of = |header: &'_ &(String, String)| header.0.eq_ignore_ascii_case("www-authenticate");
        self.headers.iter().filter(of).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body of an answer that must have gone well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        String::from_utf8(self.body).unwrap()
    }

    /// The text of each element of that name.
    pub fn all(&self, name: &str) -> Vec<String> {
        all(self.text(), name)
    }

    /// Status, and what the body says of it.
    pub fn refusal(&self) -> (u16, String) {
        (self.status, self.all("subStatusCode").concat())
    }
}

/// The text of each element of that name.
pub fn all(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let texts = xml.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap());
    texts.map(|text| text.trim().replace("&amp;", "&")).collect()
}

impl Client {
    pub fn of(server: &NvrServer) -> Client {
        Client::at(server.host())
    }

    pub fn at(host: &str) -> Client {
        let socket = TcpStream::connect(host).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client { socket: BufReader::new(socket), password: "Passw0rd1".into() }
    }

    pub fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
        self.socket.read_to_end(bytes)
    }

    pub fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// One request, with this login or without.
    pub fn once(&mut self, method: &str, target: &str, login: Option<&str>, body: &str) -> Reply {
        self.send(method, target, login, body);
        let mut reply = self.head();
        self.body(&mut reply);
        reply
    }

    pub fn send(&mut self, method: &str, target: &str, login: Option<&str>, body: &str) {
        let login = login.map(|login| format!("authorization: {login}\r\n")).unwrap_or_default();
        let length = body.len();
        let text = format!("{method} {target} HTTP/1.1\r\nhost: nvr\r\n{login}content-length: {length}\r\n\r\n{body}");
        self.socket.get_mut().write_all(text.as_bytes()).unwrap();
    }

    pub fn head(&mut self) -> Reply {
        let mut line = || {
            let mut line = String::new();
            self.socket.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let (version, status) = first.split_once(' ').expect("an answer");
        let (version, status) = (version.to_owned(), status[..3].parse().unwrap());
        let mut headers = Vec::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        Reply { status, version, headers, body: Vec::new(), whole: false }
    }

    pub fn body(&mut self, reply: &mut Reply) {
        let length = reply.header("content-length").map(|length| length.parse::<u64>().unwrap());
        match length {
            Some(length) => {
                (&mut self.socket).take(length).read_to_end(&mut reply.body).unwrap();
                reply.whole = reply.body.len() as u64 == length;
            }
            None if reply.header("transfer-encoding") == Some("chunked") => reply.whole = self.chunks(&mut reply.body),
            None => {
                self.socket.read_to_end(&mut reply.body).unwrap();
                reply.whole = true;
            }
        }
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let mut line = String::new();
            self.socket.read_line(&mut line).unwrap();
            let Ok(length) = u64::from_str_radix(line.trim_end(), 16) else { return false };
            (&mut self.socket).take(length).read_to_end(body).unwrap();
            self.socket.read_line(&mut line).unwrap();
            if length == 0 {
                return true;
            }
        }
    }

    /// Answers a challenge.
    pub fn sign(&self, challenge: &str, method: &str, target: &str) -> String {
        let field = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let (realm, nonce) = (field("realm").unwrap(), field("nonce").unwrap());
        let named = field("algorithm");
        let hash = |text: String| -> String {
            let bytes = match named.as_deref() {
                Some("SHA-256") => digest(&SHA256, text.as_bytes()).as_ref().to_vec(),
                _ => Md5::digest(text).to_vec(),
            };
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let secret = hash(format!("admin:{realm}:{}", self.password));
        let call = hash(format!("{method}:{target}"));
        let (response, more) = match field("qop") {
            Some(_) => (
                hash(format!("{secret}:{nonce}:00000001:c0ffee:auth:{call}")),
                ", qop=auth, nc=00000001, cnonce=\"c0ffee\"".to_owned(),
            ),
            None => (hash(format!("{secret}:{nonce}:{call}")), String::new()),
        };
        let algorithm = named.map(|name| format!(", algorithm={name}")).unwrap_or_default();
        format!(
            "Digest username=\"admin\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{target}\", \
             response=\"{response}\"{more}{algorithm}"
        )
    }

    /// Asks for a challenge and answers it on the same connection.
    pub fn login(&mut self, method: &str, target: &str, body: &str) -> Option<String> {
        let refused = self.once(method, target, None, body);
        assert_eq!(refused.status, 401, "{}", refused.text());
        refused.challenges().first().map(|challenge| self.sign(challenge, method, target))
    }

    /// A request with a login of its own.
    pub fn call(&mut self, method: &str, target: &str, body: &str) -> Reply {
        let login = self.login(method, target, body);
        self.once(method, target, login.as_deref(), body)
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.call("GET", target, "")
    }

    pub fn search(&mut self, body: &str) -> Reply {
        self.call("POST", SEARCH, body)
    }

    /// Fetches a recording by its URI; a fresh connection, because the one before may have been cut.
    pub fn fetch(server: &NvrServer, method: &str, uri: &str) -> Reply {
        Client::of(server).call(method, DOWNLOAD, &download(uri))
    }
}

/// A search of one track, as hikload words it; `more` stands behind the spans.
pub fn search(track: u32, from: &str, to: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><CMSearchDescription version=\"1.0\" \
         xmlns=\"http://www.hikvision.com/ver20/XMLSchema\">\
         <searchID>0C5A0B6E-6E2B-4F0A-9C53-2B9B2F3C7D11</searchID><trackIDList><trackID>{track}</trackID></trackIDList>\
         <timeSpanList><timeSpan><startTime>{from}</startTime><endTime>{to}</endTime></timeSpan></timeSpanList>{more}\
         </CMSearchDescription>"
    )
}

/// A search of a whole day.
pub fn day(track: u32, more: &str) -> String {
    search(track, "2026-11-19T00:00:00Z", "2026-11-19T23:59:59Z", more)
}

pub fn download(uri: &str) -> String {
    format!("<downloadRequest><playbackURI>{}</playbackURI></downloadRequest>", uri.replace('&', "&amp;"))
}

/// The URIs of what a track has on that day.
pub fn uris(server: &NvrServer, track: u32) -> Vec<String> {
    Client::of(server).search(&day(track, "")).all("playbackURI")
}
