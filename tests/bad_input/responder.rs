//! Servers that are no cameras, or bad ones.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// A server on 127.0.0.1 that answers as a test says. Dropping it ends it.
pub struct Responder {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Responder {
    /// `talk` gets each connection in turn, one at a time.
    pub fn start(talk: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Relaxed) {
                    return;
                }
                // The client hangs up when it has what it came for.
                let _ = stream.and_then(|mut stream| {
                    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
                    talk(&mut stream)
                });
            }
        });
        Ok(Self { port, over, thread: Some(thread) })
    }

    /// An RTSP server. `describe` gets the request and writes the answer to DESCRIBE from its status on; whoever gets
    /// as far as PLAY hears G.711 silence.
    pub fn rtsp(describe: impl Fn(&str) -> Vec<u8> + Send + 'static) -> anyhow::Result<Self> {
        Self::start(move |stream| {
            while let Some(request) = read_request(stream)? {
                let method = request.split(' ').next().unwrap_or_default();
                let cseq = request.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0");
                let answer = match method {
                    "DESCRIBE" => describe(&request),
                    "SETUP" => {
                        b"200 OK\r\nSession: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n".to_vec()
                    }
                    "PLAY" => b"200 OK\r\nSession: 1\r\n\r\n".to_vec(),
                    _ => b"200 OK\r\nPublic: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_vec(),
                };
                let (status, rest) = answer.split_at(answer.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1));
                stream.write_all(b"RTSP/1.0 ")?;
                stream.write_all(status)?;
                stream.write_all(format!("CSeq: {cseq}\r\n").as_bytes())?;
                stream.write_all(rest)?;
                if method == "PLAY" {
                    return play_silence(stream);
                }
            }
            Ok(())
        })
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/stream", self.port)
    }

    pub fn http_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
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

pub fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        request.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&request).into_owned()))
}

/// RTP packets of 20 ms each (RFC 3551, payload type 0), interleaved in the connection, until the client hangs up.
fn play_silence(stream: &mut TcpStream) -> std::io::Result<()> {
    for seq in 0..500_u16 {
        let mut packet = vec![b'$', 0, 0, 172, 0x80, 0];
        packet.extend(seq.to_be_bytes());
        packet.extend((u32::from(seq) * 160).to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        packet.extend([0xff; 160]);
        stream.write_all(&packet)?;
        // The camera's own clock: nothing waits for this.
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub fn sdp(media: &str) -> Vec<u8> {
    let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n{media}");
    format!("200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len()).into_bytes()
}
