//! FFmpeg's messages, as OpenCV prints them to standard output: the errors among them are passed on, and one line tells
//! when the decoder starts anew, which nothing else does.
//!
//! OpenCV converts every picture with the size and the format that the stream had when it was opened. After a change
//! within the stream it delivers garbage, and says nothing. FFmpeg's decoders choose a pixel format when they start and
//! whenever size or format change, and say so, at a level that tells very much else, an `Authorization` header now and
//! then. None of that leaves this file.
//!
//! Standard output is a terminal here, because towards a terminal the C library writes each line at once.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// What OpenCV writes before each message; FFmpeg's number for the message's level and a bracket follow.
const PREFIX: &str = "[OPENCV:FFMPEG:";
/// The last level that is passed on: warnings. An HTTP status that is no success is one of those.
const WARNINGS: u8 = 24;
/// In the line that a decoder writes when it starts, and when it starts anew.
const DECODER_START: &str = "chosen by get_format()";
/// Longest line that is looked at, bytes.
const MAX_LINE_BYTES: usize = 4_096;
/// How long lines may wait for others, so that not each of them costs a change of threads. Thirty come with a JPEG.
const NAP: Duration = Duration::from_millis(5);

/// FFmpeg's messages, read by a thread of their own.
pub struct FfmpegLog {
    heard: Arc<Heard>,
    /// Begins our own lines, by which we know how far the thread is. A camera's words stand among FFmpeg's, so it is a
    /// secret.
    mark: String,
}

#[derive(Default)]
struct Heard {
    so_far: Mutex<SoFar>,
    /// Signals a new number of marks, written or read.
    marked: Condvar,
}

#[derive(Clone, Copy, Default)]
struct SoFar {
    decoder_starts: u64,
    marks_written: u64,
    marks_read: u64,
    /// Whether nothing more will be read.
    over: bool,
}

impl Heard {
    // Numbers cannot be left half changed by a panic.
    fn lock(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FfmpegLog {
    /// Turns standard output into a terminal whose other end is read here. Before anything was written to it.
    ///
    /// # Errors
    ///
    /// When this process gets no terminal.
    pub fn take() -> io::Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&terminal)?;
        let stdout = ioctl_tiocgptpeer(&terminal, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let mut raw = tcgetattr(&stdout)?;
        raw.make_raw();
        tcsetattr(&stdout, OptionalActions::Now, &raw)?;
        rustix::stdio::dup2_stdout(&stdout)?;
        let (heard, mark) = (Arc::new(Heard::default()), format!("{:016x}", fastrand::u64(..)));
        let reader = Reader { heard: heard.clone(), mark: mark.clone() };
        std::thread::Builder::new().spawn(move || reader.run(terminal.into()))?;
        Ok(Self { heard, mark })
    }

    /// How often a decoder has started, according to what was read so far.
    pub fn decoder_starts(&self) -> u64 {
        self.heard.lock().decoder_starts
    }

    /// How often a decoder has started, according to all that was written until now.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn catch_up(&mut self) -> io::Result<u64> {
        self.heard.lock().marks_written += 1;
        self.heard.marked.notify_all();
        // A line of its own, even in the midst of another one.
        let line = format!("\n{}\n", self.mark);
        let mut left = line.as_bytes();
        while !left.is_empty() {
            left = &left[rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stdout(), left))?..];
        }
        let waiting = |so_far: &mut SoFar| so_far.marks_read < so_far.marks_written && !so_far.over;
        let so_far = self.heard.marked.wait_while(self.heard.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if so_far.over { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(so_far.decoder_starts) }
    }
}

/// Reads the terminal's other end.
struct Reader {
    heard: Arc<Heard>,
    mark: String,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.heard.lock().over = true;
        self.heard.marked.notify_all();
    }
}

impl Reader {
    fn run(self, mut terminal: File) {
        let (mut buffer, mut line) = ([0; 4_096], Vec::new());
        loop {
            let read = match terminal.read(&mut buffer) {
                Ok(read @ 1..) => &buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return,
            };
            for piece in read.split_inclusive(|byte| *byte == b'\n') {
                let (text, whole) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
                line.extend_from_slice(&text[..text.len().min(MAX_LINE_BYTES - line.len())]);
                if whole {
                    self.hear(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
            let idle = |so_far: &mut SoFar| so_far.marks_read >= so_far.marks_written;
            drop(self.heard.marked.wait_timeout_while(self.heard.lock(), NAP, idle));
        }
    }

    fn hear(&self, line: &str) {
        if line == self.mark {
            self.heard.lock().marks_read += 1;
            self.heard.marked.notify_all();
        } else if line.contains(DECODER_START) {
            self.heard.lock().decoder_starts += 1;
        } else if is_for_others(line) {
            // Without standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Whether a line is a message of at most [`WARNINGS`], and nothing else. Threads may write a prefix each before one of
/// them writes its text: then each prefix counts. A line without one belongs to the message before it, whichever that
/// was.
fn is_for_others(line: &str) -> bool {
    let mut rest = line;
    while let Some((level, text)) = rest.strip_prefix(PREFIX).and_then(|text| text.split_once("] ")) {
        if !level.parse::<u8>().is_ok_and(|level| level <= WARNINGS) {
            return false;
        }
        rest = text;
    }
    rest.len() < line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_warnings_are_for_others_and_nothing_else_is() {
        for (line, for_others) in [
            ("[OPENCV:FFMPEG:16] method DESCRIBE failed: 401 Unauthorized", true),
            ("[OPENCV:FFMPEG:24] HTTP error 404 Not Found", true),
            ("[OPENCV:FFMPEG:08] out of memory", true),
            ("[OPENCV:FFMPEG:16] [OPENCV:FFMPEG:24] HTTP error 404 Not Found", true),
            ("[OPENCV:FFMPEG:32] an information", false),
            ("[OPENCV:FFMPEG:48] request: GET / HTTP/1.1", false),
            ("[OPENCV:FFMPEG:16] [OPENCV:FFMPEG:48] Authorization: Basic eDp5", false),
            ("[OPENCV:FFMPEG:48] [OPENCV:FFMPEG:16] Authorization: Basic eDp5", false),
            ("[OPENCV:FFMPEG:99999] x", false),
            ("[OPENCV:FFMPEG:-8] x", false),
            ("Authorization: Basic eDp5", false),
            ("", false),
        ] {
            assert_eq!(is_for_others(line), for_others, "{line}");
        }
    }

    #[test]
    fn starts_and_marks_are_counted_in_whole_lines_of_any_length() {
        let heard = Arc::new(Heard::default());
        let reader = Reader { heard: heard.clone(), mark: "0123456789abcdef".to_owned() };
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(3 * MAX_LINE_BYTES);
        let text = format!(
            "[OPENCV:FFMPEG:48] Format yuv420p chosen by get_format().\n{long}\n0123456789abcdef\n[OPENCV:FFMPEG:48] \
             [OPENCV:FFMPEG:48] Format yuvj420p chosen by get_format().\n0123456789abcdef x\n\n0123456789abcdef\nrest"
        );
        std::fs::write(file.path(), text).unwrap();
        reader.run(file.reopen().unwrap());
        let SoFar { decoder_starts, marks_read, over, .. } = *heard.lock();
        assert_eq!((decoder_starts, marks_read, over), (2, 2, true));
    }
}
