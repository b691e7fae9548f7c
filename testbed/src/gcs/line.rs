//! The connection that a request came on.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::TcpStream;

/// A second descriptor of a connection's socket: the first one is with hyper, which does not show it.
#[derive(Debug)]
pub(super) struct Line(OwnedFd);

impl Line {
    pub(super) fn of(socket: &TcpStream) -> io::Result<Line> {
        socket.as_fd().try_clone_to_owned().map(Line)
    }

    /// Has the kernel throw away what is unsent and send a reset when the connection is closed, not an orderly end.
    pub(super) fn reset_when_closed(&self) {
        let set = || TcpStream::from_std(std::net::TcpStream::from(self.0.try_clone()?))?.set_zero_linger();
        if let Err(error) = set() {
            eprintln!("cannot prepare a reset, the connection will end in order: {error}");
        }
    }
}
