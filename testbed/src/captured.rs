//! What a capture program makes of a stream, without a daemon: started with a camera's settings as the daemon does, its
//! messages read once more by code of our own.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::json;

/// Where OpenCV takes FFmpeg's options from; see the daemon's architecture.
const OPENCV_OPTIONS: &str = "OPENCV_FFMPEG_CAPTURE_OPTIONS";
const OPENCV_LEVEL: &str = "OPENCV_FFMPEG_LOGLEVEL";
/// The level at which OpenCV's capture program learns what it has to know.
const DEBUG: &str = "48";

/// How long a program may take from the word to stop until its end.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long it may be silent; it reports every second, once the stream is open.
const SILENT: Duration = Duration::from_secs(15);
/// How long an open stream may bring no picture until it is given up: the daemon's `stall_after`, after which it opens
/// the stream anew.
const STALLED: Duration = Duration::from_secs(10);
/// The longest message, bytes: as the daemon has it.
const LONGEST: usize = 64 << 20;

/// What is captured, and by what.
#[derive(Debug, Clone)]
pub struct Capture {
    /// The capture program.
    pub program: PathBuf,
    /// The camera's URL, or the path of a file.
    pub location: String,
    /// Whether it is a file, read as fast as it can be.
    pub file: bool,
    /// `tcp` or `udp`, of a camera.
    pub transport: &'static str,
}

/// A picture as the program delivered it.
#[derive(Debug, Clone)]
pub struct Picture {
    /// When it was here.
    pub at: Instant,
    /// Its presentation time, microseconds from an arbitrary start.
    pub pts_micros: i64,
    /// Whether it was said to be damaged.
    pub damaged: bool,
    /// The JPEG.
    pub jpeg: Vec<u8>,
}

/// All that a program said.
#[derive(Debug, Default)]
pub struct Captured {
    /// The pictures, in their order.
    pub pictures: Vec<Picture>,
    /// Pictures that it said it has dropped, because they could not be decoded.
    pub corrupt: u64,
    /// Pictures that it said it could not hand over in time.
    pub overrun: u64,
    /// The lines on its standard error, and when they came.
    pub said: Vec<(Instant, String)>,
    /// Why it says that nothing more comes.
    pub ended: Option<String>,
    /// Whether it was told to stop because no picture came any more.
    pub stalled: bool,
}

impl Captured {
    /// How it came to its end, in its own words.
    pub fn end(&self) -> String {
        let said = self.said.last().map_or("nothing", |(_, line)| line.as_str());
        format!("it ended with `{}` and said `{said}` last", self.ended.as_deref().unwrap_or_default())
    }
}

/// A message that a capture program may send.
#[derive(Debug)]
enum Message {
    Opened,
    Picture(Picture),
    Overrun(u32),
    Corrupt(u32),
    Stats,
    Ended(String),
}

impl Capture {
    /// A camera that is captured by a program.
    pub fn camera(program: &Path, url: String, transport: &'static str) -> Self {
        Self { program: program.to_owned(), location: url, file: false, transport }
    }

    /// A file that is captured by a program.
    pub fn file(program: &Path, path: &Path) -> Self {
        Self { program: program.to_owned(), location: path.display().to_string(), file: true, transport: "tcp" }
    }

    /// FFmpeg's options, as the daemon gives them.
    fn options(&self) -> Vec<[&str; 2]> {
        if self.file {
            return vec![["protocol_whitelist", "file"]];
        }
        vec![
            ["rtsp_transport", self.transport],
            ["timeout", "10000000"],
            ["protocol_whitelist", "rtsp,rtp,rtcp,udp,tcp"],
            ["fpsprobesize", "0"],
            // With a queue FFmpeg looks at the packets' numbers, over TCP as well.
            ["reorder_queue_size", if self.transport == "tcp" { "2" } else { "500" }],
        ]
    }

    /// Captures until the stream ends or stalls, or for so long from its first picture on.
    ///
    /// # Errors
    ///
    /// When the program does not start, falls silent, sends what is no message, or does not end when it is told to.
    pub fn run(&self, lasts: Duration) -> anyhow::Result<Captured> {
        let mut child = self.start()?;
        let result = collect(&mut child, lasts);
        // After a good end there is nothing left to kill.
        let _ = child.kill();
        let _ = child.wait();
        result.with_context(|| format!("{} of {}", self.program.display(), self.location))
    }

    fn start(&self) -> anyhow::Result<Child> {
        let options = self.options();
        let settings = json!({
            "kind": if self.file { "file" } else { "rtsp" },
            "location": self.location,
            "user": null,
            "password": null,
            "repeat": false,
            "pace": "unpaced",
            "sampling": "all",
            "jpeg_quality": 85,
            "max_width": null,
            "open_timeout_ms": 10_000,
            "read_timeout_ms": 10_000,
            "options": options,
            "damaged": "mark",
        });
        let for_opencv = options.iter().map(|[name, value]| format!("{name};{value}")).collect::<Vec<_>>().join("|");
        let mut child = Command::new(&self.program)
            .env_clear()
            .env(OPENCV_OPTIONS, for_opencv)
            .env(OPENCV_LEVEL, DEBUG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let line = format!("{settings}\n");
        let told = child.stdin.as_mut().context("its standard input is piped")?.write_all(line.as_bytes());
        if let Err(error) = told {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error).context("cannot send the settings");
        }
        Ok(child)
    }
}

fn collect(child: &mut Child, lasts: Duration) -> anyhow::Result<Captured> {
    let (messages, reader) = messages(child.stdout.take().context("its standard output is piped")?);
    let listener = listen(child.stderr.take().context("its standard error is piped")?);
    let mut captured = Captured::default();
    let mut until = None;
    let mut told = false;
    loop {
        let now = Instant::now();
        let stalled = captured.pictures.last().is_some_and(|last| now >= last.at + STALLED);
        if !told && (stalled || until.is_some_and(|until| now >= until)) {
            captured.stalled = stalled;
            // A program that has ended by itself hears nothing any more.
            let _ = child.stdin.take().context("its standard input is piped")?.write_all(b"stop\n");
            told = true;
            until = Some(now + GONE_WITHIN);
        }
        let patience = until.map_or(SILENT, |until| until.saturating_duration_since(now).min(SILENT));
        let message = match messages.recv_timeout(patience) {
            Ok(message) => message?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if !told && until.is_some_and(|until| Instant::now() >= until) => continue,
            // One that hangs in its library is killed, as the daemon does.
            Err(RecvTimeoutError::Timeout) if captured.stalled => break,
            Err(RecvTimeoutError::Timeout) if told => bail!("it did not end within {GONE_WITHIN:?}"),
            Err(RecvTimeoutError::Timeout) => bail!("it was silent for {SILENT:?}"),
        };
        match message {
            Message::Picture(picture) => {
                until.get_or_insert(picture.at + lasts);
                captured.pictures.push(picture);
            }
            Message::Overrun(count) => captured.overrun += u64::from(count),
            Message::Corrupt(count) => captured.corrupt += u64::from(count),
            Message::Ended(detail) => captured.ended = Some(detail),
            Message::Opened | Message::Stats => {}
        }
    }
    // Its output is closed, so both of its readers come to their ends with it.
    let _ = child.kill();
    ensure!(reader.join().is_ok(), "the reader of its output panicked");
    captured.said = listener.join().ok().context("the reader of its standard error panicked")?;
    Ok(captured)
}

fn messages(mut stdout: ChildStdout) -> (Receiver<anyhow::Result<Message>>, JoinHandle<()>) {
    let (say, said) = channel();
    let reader = std::thread::spawn(move || {
        while let Some(message) = read(&mut stdout).transpose() {
            if say.send(message).is_err() {
                break;
            }
        }
    });
    (said, reader)
}

fn listen(stderr: ChildStderr) -> JoinHandle<Vec<(Instant, String)>> {
    std::thread::spawn(move || {
        let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
        lines.map(|line| (Instant::now(), String::from_utf8_lossy(&line).trim_end().to_owned())).collect()
    })
}

/// Reads a message; `None` at the end.
fn read(from: &mut impl Read) -> anyhow::Result<Option<Message>> {
    let mut length = [0; 4];
    if from.read_exact(&mut length).is_err() {
        return Ok(None);
    }
    let length = u32::from_le_bytes(length) as usize;
    ensure!((1..=LONGEST).contains(&length), "a message of {length} bytes");
    let mut body = vec![0; length];
    from.read_exact(&mut body).context("a message breaks off")?;
    let (tag, body) = (body[0], &body[1..]);
    Ok(Some(match tag {
        1 => Message::Opened,
        2 => Message::Picture(picture(body)?),
        3 => Message::Overrun(number(body)?),
        4 => Message::Stats,
        5 => Message::Ended(String::from_utf8_lossy(body.get(1..).unwrap_or_default()).into_owned()),
        6 => Message::Corrupt(number(body)?),
        tag => bail!("a message of the unknown kind {tag}"),
    }))
}

fn number(body: &[u8]) -> anyhow::Result<u32> {
    Ok(u32::from_le_bytes(body.try_into().context("a count of another length than 4 bytes")?))
}

/// The time of the grab, the presentation time, flags, the camera's own time, width and height, and the JPEG.
fn picture(body: &[u8]) -> anyhow::Result<Picture> {
    const HEADER: usize = 8 + 8 + 1 + 8 + 4 + 4;
    const FLAGS: usize = 16;
    const DAMAGED: u8 = 1;
    let (header, jpeg) = body.split_at_checked(HEADER).context("a picture without its header")?;
    ensure!(jpeg.starts_with(&[0xff, 0xd8]), "a picture that is no JPEG");
    let pts_micros = i64::from_le_bytes(header[8..16].try_into().context("eight bytes")?);
    let damaged = header[FLAGS] & DAMAGED != 0;
    Ok(Picture { at: Instant::now(), pts_micros, damaged, jpeg: jpeg.to_vec() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A message as it goes through the pipe.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 1).unwrap().to_le_bytes();
        [&length[..], &[tag], body].concat()
    }

    fn frame(pts: i64, flags: u8) -> Vec<u8> {
        let (clock, wall) = (7u64.to_le_bytes(), 0i64.to_le_bytes());
        let size = [640u32, 480].map(u32::to_le_bytes).concat();
        message(2, &[&clock[..], &pts.to_le_bytes(), &[flags], &wall, &size, &[0xff, 0xd8, 5]].concat())
    }

    /// A program that says this and ends, or waits for the word to.
    fn program(dir: &Path, says: &[u8], waits: bool) -> Capture {
        fs::write(dir.join("says"), says).unwrap();
        let path = dir.join("program");
        let waits = if waits { "read -r stop" } else { "" };
        let says = dir.join("says");
        // It runs without an environment, as every capture process does.
        let text =
            format!("#!/bin/sh\nread -r settings\necho \"$settings\" >&2\n/bin/cat {}\n{waits}\n", says.display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Capture::camera(&path, "rtsp://127.0.0.1/a".to_owned(), "udp")
    }

    #[test]
    fn all_that_a_program_says_is_taken_down() {
        let dir = tempfile::tempdir().unwrap();
        let says = [
            message(1, &[0; 20]),
            frame(-5, 0),
            message(6, &3u32.to_le_bytes()),
            frame(40_000, 3),
            message(3, &2u32.to_le_bytes()),
            message(4, &[0; 48]),
            message(5, b"\x01cut"),
        ];
        for waits in [false, true] {
            let captured = program(dir.path(), &says.concat(), waits).run(Duration::from_millis(50)).unwrap();
            let pictures: Vec<_> = captured.pictures.iter().map(|p| (p.pts_micros, p.damaged, p.jpeg.len())).collect();
            assert_eq!(pictures, [(-5, false, 3), (40_000, true, 3)]);
            assert_eq!((captured.corrupt, captured.overrun, captured.ended.as_deref()), (3, 2, Some("cut")));
            let settings: serde_json::Value = serde_json::from_str(&captured.said[0].1).unwrap();
            assert_eq!(settings["damaged"], "mark");
            assert_eq!(settings["options"][0], json!(["rtsp_transport", "udp"]));
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (says, word) in [
            (message(9, &[]), "unknown kind 9"),
            (message(6, &[0; 3]), "a count of another length"),
            (message(2, &[0; 40]), "no JPEG"),
            (vec![0; 4], "a message of 0 bytes"),
            (message(4, &[0; 9])[..9].to_vec(), "breaks off"),
        ] {
            let error = program(dir.path(), &says, false).run(Duration::from_secs(1)).unwrap_err();
            assert!(format!("{error:#}").contains(word), "{error:#}");
        }
    }
}
