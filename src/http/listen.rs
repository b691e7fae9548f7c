//! The socket the API listens on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::net::TcpSocket;

/// Connections that may wait until a worker takes them.
const BACKLOG: u32 = 1_024;

/// Bytes that the kernel keeps for a client that has not read them yet (Linux reckons twice that). Left to itself it
/// takes up to 4 MB (measured) for each client that follows a list and never reads.
const SEND_BUFFER: u32 = 128 * 1_024;

/// Listens on `address`. It must be called inside a runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the last run, waiting for stray packets, are no reason not to start.
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}
