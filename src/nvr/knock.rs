//! A sign of life from the port of a recorder's streams, without a login.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// What every server of RTSP answers (RFC 2326, 10.1), and what its answer begins with.
const ANSWER: &[u8] = b"RTSP/1.";

/// Makes one connection to the host and port of an `rtsp://` URL and asks what can be done there: whether anything that
/// speaks RTSP answers. Nothing is asked that would need a login.
///
/// # Errors
///
/// Why there is no answer.
pub async fn knock(url: &Url, patience: Duration) -> io::Result<()> {
    let asked = timeout(patience, ask(url)).await;
    asked.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

async fn ask(url: &Url) -> io::Result<()> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port().unwrap_or(554));
    let place = format!("{host}:{port}");
    let mut socket = TcpStream::connect(&place).await?;
    let request = format!("OPTIONS rtsp://{place}/ RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: framehaul\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut head = [0; ANSWER.len()];
    socket.read_exact(&mut head).await?;
    if head == ANSWER { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks no RTSP")) }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a knock comes to at a server that answers so, and how many connections it made.
    async fn knocked_at(answer: Option<&'static [u8]>) -> (Result<(), io::ErrorKind>, u32) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("rtsp://{}/Streaming/Channels/101", listener.local_addr().unwrap())).unwrap();
        let knocking = knock(&url, Duration::from_millis(300));
        let serving = async {
            let mut count = 0;
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                count += 1;
                // All of it: what is not read when a socket is closed resets the connection.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert!(socket.read_buf(&mut request).await.unwrap() > 0);
                }
                assert!(request.starts_with(b"OPTIONS rtsp://127.0.0.1:"), "{request:?}");
                match answer {
                    Some(answer) => socket.write_all(answer).await.unwrap(),
                    None => std::future::pending().await,
                }
                if count > 1 {
                    return count;
                }
            }
        };
        tokio::select! {
            knocked = knocking => (knocked.map_err(|error| error.kind()), 1),
            count = serving => (Ok(()), count),
        }
    }

    #[tokio::test]
    async fn what_speaks_rtsp_is_alive_and_nothing_else() {
        assert_eq!(knocked_at(Some(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")).await, (Ok(()), 1));
        assert_eq!(knocked_at(Some(b"RTSP/1.0 401 Unauthorized\r\n\r\n")).await, (Ok(()), 1));
        assert_eq!(knocked_at(Some(b"HTTP/1.1 400 Bad Request")).await, (Err(io::ErrorKind::InvalidData), 1));
        assert_eq!(knocked_at(Some(b"")).await, (Err(io::ErrorKind::UnexpectedEof), 1));
        assert_eq!(knocked_at(None).await, (Err(io::ErrorKind::TimedOut), 1));
    }
}
