//! A client that is nothing but a socket, so that nothing between could be lenient.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use testbed::gcs::{GcsServer, Knobs, Options, Stats};

pub const UPLOAD: &str = "/upload/storage/v1/b/frames/o";
pub const OBJECTS: &str = "/storage/v1/b/frames/o";

/// A server with the bucket `frames`.
pub fn server() -> GcsServer {
    server_with(Options::default())
}

pub fn server_with(options: Options) -> GcsServer {
    GcsServer::start(Options { buckets: vec!["frames".into()], ..options }).unwrap()
}

/// One kept-alive connection.
pub struct Client(pub BufReader<TcpStream>);

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json; charset=UTF-8");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The object's metadata, of a call that must have gone well.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The reason in the error body, of a call that must have failed with `status`.
    pub fn error(&self, status: u16) -> String {
        let json = self.json();
        assert_eq!((self.status, json["error"]["code"].as_u64()), (status, Some(u64::from(status))), "{json}");
        assert_eq!(json["error"]["message"], json["error"]["errors"][0]["message"]);
        json["error"]["errors"][0]["reason"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub fn of(server: &GcsServer) -> Client {
        Client::at(&server.endpoint())
    }

    pub fn at(endpoint: &str) -> Client {
        let socket = TcpStream::connect(endpoint.strip_prefix("http://").unwrap()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Client(BufReader::new(socket))
    }

    pub fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let length = body.len().to_string();
        let headers = [headers, &[("content-length", &length)]].concat();
        self.send(method, path, &headers, &[body])
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.call("GET", path, &[], b"")
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], writes: &[&[u8]]) -> Reply {
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

    pub fn reply(&mut self) -> Reply {
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
    pub fn upload(&mut self, query: &str, metadata: &Value, media: &[u8], trailer: Option<&Value>) -> Reply {
        let body = multipart(metadata, media, trailer);
        let path = format!("{UPLOAD}?uploadType=multipart&{query}");
        self.call("POST", &path, &[MULTIPART], &body)
    }

    /// Uploads the bare bytes.
    pub fn put(&mut self, query: &str, media: &[u8]) -> Reply {
        self.call("POST", &format!("{UPLOAD}?uploadType=media&{query}"), &[("content-type", "image/jpeg")], media)
    }

    pub fn set_knobs(&mut self, patch: &Value) -> Knobs {
        let reply = self.call("PUT", "/_testbed/knobs", &[], patch.to_string().as_bytes());
        serde_json::from_value(reply.ok()).unwrap()
    }

    pub fn stats(&mut self) -> Stats {
        serde_json::from_value(self.get("/_testbed/stats").ok()).unwrap()
    }
}

pub const MULTIPART: (&str, &str) = ("content-type", "multipart/related; boundary=a-1-b");

/// The body as the official client crate writes it.
pub fn multipart(metadata: &Value, media: &[u8], trailer: Option<&Value>) -> Vec<u8> {
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

pub fn crc(media: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(media).to_be_bytes())
}

pub fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().map_or(vec![], |items| items.iter().map(|item| item["name"].as_str().unwrap()).collect())
}
