//! What stands between workers and their server: passes requests on, one connection each, or answers in its place.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A page as gateways show it when what is behind them is away.
pub const PAGE: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 23\r\nconnection: close\r\n\r\n\
                        <h1>no such page</h1>\r\n";

/// An answer in JSON, as the server itself would give it.
pub fn answer(status: &str, json: &str) -> String {
    let length = json.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{json}"
    )
}

/// What becomes of a request.
pub enum Way {
    /// It is passed on.
    On,
    /// It is passed on, and its answer comes so much later.
    Late(Duration),
    /// It is answered with this.
    Answered(String),
}

type Decide = Box<dyn Fn(&str) -> Way + Send + Sync>;

/// A gateway that runs. Dropped, it ends.
pub struct Gateway {
    address: String,
    is_over: Arc<AtomicBool>,
    decide: Arc<Mutex<Arc<Decide>>>,
    listener: Option<JoinHandle<()>>,
}

impl Gateway {
    /// In front of a server at an `http://` address; passes everything on.
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("it has one"));
        let server = server.trim_start_matches("http://").to_owned();
        let is_over = Arc::<AtomicBool>::default();
        let all: Arc<Decide> = Arc::new(Box::new(|_: &str| Way::On));
        let decide = Arc::new(Mutex::new(all));
        let (ended, decided) = (is_over.clone(), decide.clone());
        let listener = std::thread::spawn(move || {
            let mut serving = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (server, decide) = (server.clone(), decided.lock().expect("nobody panics with it").clone());
                serving.push(std::thread::spawn(move || serve(stream, &server, &decide)));
            }
            serving.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        });
        Self { address, is_over, decide, listener: Some(listener) }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on `decide` says what becomes of requests; it sees each of them whole.
    pub fn set(&self, decide: impl Fn(&str) -> Way + Send + Sync + 'static) {
        *self.decide.lock().expect("nobody panics with it") = Arc::new(Box::new(decide));
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // An error means that it has ended by itself.
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
        if let Some(listener) = self.listener.take() {
            // It is joined; a panic there was told by its own thread.
            let _ = listener.join();
        }
    }
}

/// One request, whose connection then ends. Errors mean that somebody has hung up.
fn serve(mut client: TcpStream, server: &str, decide: &Decide) {
    let Some(request) = request(&mut client) else { return };
    let mut delay = Duration::ZERO;
    match decide(&request) {
        Way::Answered(answer) => {
            let _ = client.write_all(answer.as_bytes());
            let _ = client.shutdown(Shutdown::Write);
            return;
        }
        Way::Late(by) => delay = by,
        Way::On => {}
    }
    let mut answer = Vec::new();
    // An answer that does not come is none.
    if let Ok(mut behind) = TcpStream::connect(server) {
        let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        let _ = behind.write_all(request.as_bytes()).and_then(|()| behind.read_to_end(&mut answer).map(drop));
    }
    // What is late is the point of it.
    std::thread::sleep(delay);
    let _ = client.write_all(&answer);
    let _ = client.shutdown(Shutdown::Write);
}

/// Head and body.
fn request(client: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match client.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
