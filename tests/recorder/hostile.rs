//! Whoever answers need not be a recorder, nor mean well.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use framehaul::nvr::{Fetch, Recorder, RecorderErrorKind, RecorderSettings, Segment, SegmentKind, Timeouts};

use crate::stage::{client_of, day, found, recorder, short};

/// Answers each connection's first request with a head and then with `piece` again and again, until it is hung up on.
struct Endless {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Endless {
    fn start(head: &'static str, piece: &'static [u8], times: usize, wait: Duration) -> Endless {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            while let Ok((mut socket, _)) = listener.accept() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                // Who has gone is not noticed while its runtime waits for us.
                socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut request = [0; 4096];
                let length = socket.read(&mut request).unwrap_or(0);
                requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
                let mut went = socket.write_all(head.as_bytes());
                for _ in 0..times {
                    if went.is_err() || told.load(Ordering::Relaxed) {
                        break;
                    }
                    std::thread::sleep(wait);
                    went = socket.write_all(piece);
                }
                // It has heard us to the end, or has gone before.
                let _ = socket.shutdown(Shutdown::Both);
            }
            requests
        });
        Endless { port, ended, thread: Some(thread) }
    }

    fn client(&self, timeouts: Timeouts) -> Arc<dyn Recorder> {
        let settings = RecorderSettings::new("127.0.0.1", "admin", "Passw0rd1".to_owned().into());
        client_of(RecorderSettings { port: Some(self.port), timeouts, ..settings })
    }

    /// The first bytes of each request.
    fn requests(mut self) -> Vec<String> {
        self.end().unwrap()
    }

    fn end(&mut self) -> Option<Vec<String>> {
        self.ended.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        thread.join().ok()
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.end();
    }
}

const XML: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n<DeviceInfo>";
const PLENTY: Timeouts = Timeouts {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(60),
    stall: Duration::from_secs(60),
    stall_bytes: 1,
};

#[tokio::test]
async fn answers_without_end_are_not_kept() {
    let endless = Endless::start(XML, &[b'x'; 65_536], usize::MAX, Duration::ZERO);
    let error = endless.client(PLENTY).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Protocol, "{error}");
    assert!(error.message.contains("more than 8388608 bytes"), "{error}");
    // Neither are those that come one byte at a time.
    let trickle = Endless::start(XML, b"x", usize::MAX, Duration::from_millis(20));
    let error = trickle.client(short()).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_refusal_without_end_is_not_read_to_it() {
    const DENIED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nConnection: close\r\n\r\n";
    let endless = Endless::start(DENIED, &[b'x'; 65_536], usize::MAX, Duration::ZERO);
    let error = endless.client(PLENTY).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Auth, "{error}");
    assert!(error.message.contains("switch its authentication to digest"), "{error}");
    let requests = endless.requests();
    assert!(requests.iter().all(|request| !request.to_lowercase().contains("authorization")), "{requests:?}");
}

#[tokio::test]
async fn xml_that_expands_and_pages_that_lead_elsewhere_are_refused() {
    const BOMB: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<!DOCTYPE a [<!ENTITY b 'bbbb'>]><DeviceInfo><model>&b;</model></DeviceInfo>";
    let bomb = Endless::start(BOMB, b"", 0, Duration::ZERO);
    let error = bomb.client(PLENTY).identify().await.unwrap_err();
    assert_eq!(error.kind, RecorderErrorKind::Protocol, "{error}");
    const MOVED: &str =
        "HTTP/1.1 302 Found\r\nLocation: https://192.0.2.1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let moved = Endless::start(MOVED, b"", 0, Duration::ZERO);
    let error = moved.client(PLENTY).identify().await.unwrap_err();
    assert!(error.kind == RecorderErrorKind::Protocol && error.message.contains("try with HTTPS"), "{error}");
    assert_eq!(moved.requests().len(), 1);
}

/// A segment as its recorder has told it, at another address.
async fn at(locator: &str) -> Segment {
    let server = recorder(1, testbed::nvr::Knobs::default());
    let segment = found(&*crate::stage::client(&server), day("101")).await.unwrap().remove(0);
    Segment { kind: SegmentKind::Photo, locator: serde_json::from_value(locator.into()).unwrap(), ..segment }
}

#[tokio::test]
async fn a_picture_is_fetched_from_the_recorder_itself_whatever_its_address_says() {
    let picture = at("http://192.0.2.1:8080/ISAPI/Streaming/tracks/103/?starttime=1&name=a b&size=20").await;
    let server = recorder(1, testbed::nvr::Knobs::default());
    let client = crate::stage::client(&server);
    server.log_exchanges();
    let error = client.open(Fetch::Segment(&picture)).await.unwrap_err();
    // That one has no such picture.
    assert_eq!(error.kind, RecorderErrorKind::Gone, "{error}");
    let asked = server.exchanges().pop().unwrap();
    assert_eq!((asked.method.as_str(), asked.login), ("GET", true));
    assert_eq!(asked.target, "/ISAPI/Streaming/tracks/103/?starttime=1&name=a%20b&size=20");
    for elsewhere in ["http://192.0.2.1/other", "file:///etc/passwd", "", "http:", "https://192.0.2.1/ISAPI/../x"] {
        let error = client.open(Fetch::Segment(&at(elsewhere).await)).await.unwrap_err();
        assert_eq!(error.kind, RecorderErrorKind::Protocol, "{elsewhere}: {error}");
    }
}
