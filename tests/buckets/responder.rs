//! A server that answers as a test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

/// What a client asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `PUT /frames/key HTTP/1.1`
    pub line: String,
    /// With names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// How a test answers.
pub enum Reply {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// An object of these bytes.
    Bytes(Bytes),
    /// These bytes, whatever they are.
    Raw(String),
    /// Ends the connection with a reset, all of the request read.
    Reset,
    /// Nothing, until the client hangs up.
    Silence,
}

impl Reply {
    /// A refusal in S3's words.
    pub fn s3(status: u16, code: &str) -> Self {
        Self::Answer(status, Vec::new(), format!("<Error><Code>{code}</Code><Message>No.</Message></Error>"))
    }

    /// A refusal in Azure's words.
    pub fn azure(status: u16, code: &str) -> Self {
        Self::Answer(status, vec![("x-ms-error-code", code.to_owned())], String::new())
    }

    pub fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Answer(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Answer(status, headers, body)
            }
            Self::Bytes(_) | Self::Raw(_) | Self::Reset | Self::Silence => self,
        }
    }
}

/// A server on 127.0.0.1 that answers one request a connection. Dropping it ends it.
pub struct Responder {
    port: u16,
    over: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Responder {
    pub fn start(reply: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (told, met) = (over.clone(), requests.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Relaxed) {
                    return;
                }
                // The client hangs up when it has what it came for.
                let _ = stream.and_then(|mut stream| {
                    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                    let request = read(&mut stream)?;
                    met.lock().unwrap().push(request.clone());
                    answer(stream, reply(&request))
                });
            }
        });
        Self { port, over, requests, thread: Some(thread) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &mut TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut request = Request::default();
    reader.read_line(&mut request.line)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body)?;
    Ok(request)
}

fn answer(mut stream: TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Answer(status, headers, body) => {
            let headers: String = headers.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} As asked\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
        Reply::Bytes(content) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"1\"\r\nConnection: close\r\n\
                 Last-Modified: Wed, 01 Jul 2026 00:00:00 GMT\r\n\r\n",
                content.len()
            )?;
            stream.write_all(&content)
        }
        Reply::Raw(text) => stream.write_all(text.as_bytes()),
        Reply::Silence => stream.read(&mut [0]).map(|_| ()),
        Reply::Reset => {
            stream.set_nonblocking(true)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(async { tokio::net::TcpStream::from_std(stream)?.set_zero_linger() })
        }
    }
}
