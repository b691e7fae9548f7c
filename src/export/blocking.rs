//! Work with files, off the event loop: a disk may hang, and what it keeps waiting is one thread and not all that goes on.

use std::io;
use std::path::PathBuf;

/// Does something with files on a thread that may hang.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Has a file taken away, and does not wait for it: what is left goes with the directory.
pub(super) fn remove(path: PathBuf) {
    drop(tokio::task::spawn_blocking(move || std::fs::remove_file(path)));
}
