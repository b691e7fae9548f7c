//! A capture program run by hand: settings as one line on its standard input, messages on its standard output.

use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::{QUALITY, trial};

const FRAME: u8 = 2;
const OVERRUN: u8 = 3;
const ENDED: u8 = 5;
const CORRUPT: u8 = 6;
/// The end of the file, and not an error at its opening or a change of its pictures.
const OVER: u8 = 1;
/// The longest message, bytes.
const MOST_BYTES: usize = 64 << 20;
/// What each JPEG begins with.
const START_OF_IMAGE: [u8; 2] = [0xff, 0xd8];
/// Bytes of a frame's message between its tag and its JPEG: two times, flags, a third time, width and height.
const FRAME_HEADER: usize = 8 + 8 + 1 + 8 + 4 + 4;

/// The engine whose options come by the environment.
const OPENCV: &str = "framehaul-capture-opencv";
/// What the daemon tells FFmpeg of files.
const OPTIONS: [(&str, &str); 2] =
    [("protocol_whitelist", "file"), ("format_whitelist", "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,h264,hevc,mjpeg")];

/// What is asked of a capture program.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The program.
    pub program: PathBuf,
    /// The file.
    pub film: PathBuf,
    /// Which frames.
    pub sampling: Value,
    /// How wide they are at most.
    pub max_width: Option<u32>,
}

/// What it gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// JPEGs.
    pub frames: u64,
    /// Bytes of them all.
    pub bytes: u64,
    /// Of the last one: width and height, pixels.
    pub size: (u32, u32),
    /// Frames that were wanted and did not come, whatever the reason.
    pub missed: u64,
}

impl Asked {
    /// All frames of a file.
    pub fn all(program: &Path, film: &Path) -> Self {
        Self { program: program.to_owned(), film: film.to_owned(), sampling: json!("all"), max_width: None }
    }

    /// Those that `sampling` says, as it stands in a camera's spec.
    pub fn sampled(self, sampling: Value) -> Self {
        Self { sampling, ..self }
    }

    /// The line that it gets.
    pub(super) fn settings(&self) -> anyhow::Result<String> {
        let location = self.film.to_str().with_context(|| format!("{} is not UTF-8", self.film.display()))?;
        let settings = json!({
            "kind": "file",
            "location": location,
            "user": null,
            "password": null,
            "repeat": false,
            "pace": "unpaced",
            "sampling": self.sampling,
            "damaged": "drop",
            "jpeg_quality": QUALITY,
            "max_width": self.max_width,
            "open_timeout_ms": 10_000,
            "read_timeout_ms": 10_000,
            "options": OPTIONS,
        });
        Ok(format!("{settings}\n"))
    }

    /// The command, with the environment that the daemon gives it.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment());
        command
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        if !self.program.ends_with(OPENCV) {
            return Vec::new();
        }
        let options: Vec<String> = OPTIONS.iter().map(|(name, value)| format!("{name};{value}")).collect();
        vec![("OPENCV_FFMPEG_CAPTURE_OPTIONS", options.join("|")), ("OPENCV_FFMPEG_LOGLEVEL", "48".to_owned())]
    }

    /// Runs it over the whole file; each JPEG is shown to `look`.
    ///
    /// # Errors
    ///
    /// When it cannot be run, or does not come to the file's end.
    pub fn run(&self, look: impl FnMut(&[u8]) -> anyhow::Result<()> + Send) -> anyhow::Result<trial::Trial<Captured>> {
        trial::run(&mut self.command(), &self.settings()?, |stdout| read(stdout, look))
    }
}

/// Reads all messages to the end.
pub(super) fn read(stdout: ChildStdout, mut look: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<Captured> {
    let (mut from, mut body) = (BufReader::with_capacity(1 << 20, stdout), Vec::new());
    let (mut captured, mut over) = (Captured::default(), false);
    while let Some(tag) = message(&mut from, &mut body)? {
        ensure!(!over, "a message behind the last");
        match tag {
            FRAME => {
                let (header, jpeg) = body.split_at_checked(FRAME_HEADER).context("a frame without its header")?;
                ensure!(jpeg.starts_with(&START_OF_IMAGE), "a frame that is no JPEG");
                let side = |from: usize| Ok::<_, anyhow::Error>(u32::from_le_bytes(header[from..from + 4].try_into()?));
                captured.size = (side(FRAME_HEADER - 8)?, side(FRAME_HEADER - 4)?);
                captured.frames += 1;
                captured.bytes += jpeg.len() as u64;
                look(jpeg)?;
            }
            OVERRUN | CORRUPT => {
                let count = <[u8; 4]>::try_from(&*body).context("a number of frames of another length")?;
                captured.missed += u64::from(u32::from_le_bytes(count));
            }
            ENDED => {
                let (how, detail) = body.split_first().context("an end without its kind")?;
                ensure!(*how == OVER, "it did not come to the end: {}", String::from_utf8_lossy(detail));
                over = true;
            }
            // That it is open, and its counters.
            _ => {}
        }
    }
    ensure!(over, "it broke off after {} frames", captured.frames);
    Ok(captured)
}

/// Reads the next message's body and returns its tag; `None` at the end.
fn message(from: &mut impl Read, body: &mut Vec<u8>) -> anyhow::Result<Option<u8>> {
    let mut head = [0; 5];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error).context("cannot read its messages"),
    }
    let [length @ .., tag] = head;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MOST_BYTES {
        bail!("a message of {length} bytes");
    }
    body.resize(length - 1, 0);
    from.read_exact(body).context("a message breaks off")?;
    Ok(Some(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(messages: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, body) in messages {
            bytes.extend((body.len() as u32 + 1).to_le_bytes());
            bytes.push(*tag);
            bytes.extend(*body);
        }
        bytes
    }

    /// Lets a shell's `cat` say it, as a program would.
    fn captured(messages: &[(u8, &[u8])]) -> anyhow::Result<Captured> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("said");
        std::fs::write(&path, told(messages))?;
        trial::run(Command::new("cat").arg(path), "", |stdout| read(stdout, |_| Ok(()))).map(|trial| trial.told)
    }

    fn frame(width: u32, height: u32, jpeg: &[u8]) -> Vec<u8> {
        [&[0; FRAME_HEADER - 8][..], &width.to_le_bytes(), &height.to_le_bytes(), jpeg].concat()
    }

    #[test]
    fn frames_and_what_was_missed_are_counted() {
        let one = frame(640, 480, &[0xff, 0xd8, 0xff, 1]);
        let all: [(u8, &[u8]); 6] =
            [(1, b"opened"), (2, &one), (6, &[2, 0, 0, 0]), (3, &[1, 0, 0, 0]), (2, &one), (5, &[1, b'.'])];
        let expected = Captured { frames: 2, bytes: 8, size: (640, 480), missed: 3 };
        assert_eq!(captured(&all).unwrap(), expected);
    }

    #[test]
    fn what_did_not_come_to_the_end_is_refused() {
        let no_jpeg = frame(640, 480, b"none");
        for (messages, word) in [
            (vec![(1, &b"opened"[..])], "broke off after 0 frames"),
            (vec![(5, &[0, b'x'][..])], "did not come to the end: x"),
            (vec![(5, &[1][..]), (1, &b"opened"[..])], "behind the last"),
            (vec![(2, &no_jpeg[..])], "no JPEG"),
            (vec![(2, &b"short"[..])], "without its header"),
        ] {
            let error = format!("{:#}", captured(&messages).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
