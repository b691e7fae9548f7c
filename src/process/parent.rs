//! The daemon's side of a process: how it is started, and what is made of its standard error.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::Scrubber;

/// Longest line of standard error that is looked at, bytes.
const MAX_LINE_BYTES: usize = 4_096;

/// A process that was started. Dropping its `child` kills it.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub child: Child,
    /// What it is told. Closing it ends it, too.
    pub stdin: ChildStdin,
    /// What it has to say.
    pub stdout: ChildStdout,
    /// What its media library has to say.
    pub stderr: ChildStderr,
}

impl Started {
    /// Starts a program with this environment and no other, and gives it a first line: its settings. As far as these fit
    /// into an empty pipe, 64 KiB, this does not wait for it.
    ///
    /// # Errors
    ///
    /// When there is no such program, or the machine has no room for it.
    pub async fn new(path: &Path, environment: Vec<(&'static str, String)>, settings: &[u8]) -> io::Result<Self> {
        // A clean environment: nothing of the daemon's reaches a process that decodes hostile streams.
        let mut child = Command::new(path)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().expect("it was asked for");
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        stdin.write_all(settings).await?;
        stdin.write_all(b"\n").await?;
        Ok(Self { child, stdin, stdout, stderr })
    }
}

/// Reads a child's standard error to its end, line by line, without secrets.
pub async fn lines(stderr: ChildStderr, scrubber: Scrubber, mut heard: impl FnMut(String)) {
    let mut input = BufReader::new(stderr);
    while let Some(line) = read_line(&mut input).await {
        heard(scrubber.scrub(&String::from_utf8_lossy(&line)));
    }
}

/// Reads a line and keeps its first [`MAX_LINE_BYTES`]; `None` at the end. A camera's own words are in it, so neither
/// its length nor its encoding can be relied on.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let available = input.fill_buf().await.unwrap_or_default();
        if available.is_empty() {
            return (!line.is_empty()).then_some(line);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let piece = &available[..end.unwrap_or(available.len())];
        line.extend_from_slice(&piece[..piece.len().min(MAX_LINE_BYTES - line.len())]);
        let used = piece.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_any_length_and_encoding_are_read_to_the_end() {
        let long = [b'x'; 10_000];
        let text = [b"\xff\xfe 404\n\n".as_slice(), &long, b"\nlast"].concat();
        let mut input = BufReader::with_capacity(100, text.as_slice());
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).await {
            lines.push(line);
        }
        assert_eq!(lines, [b"\xff\xfe 404".as_slice(), b"", &long[..MAX_LINE_BYTES], b"last"]);
    }
}
