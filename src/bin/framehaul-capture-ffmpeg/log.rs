//! FFmpeg's messages: passed on, and read as evidence. A lost packet is told in them and nowhere else, and so is much of
//! what a decoder covers up.
//!
//! FFmpeg writes to standard error, each message at once, on the thread that reads and decodes. Standard error is a
//! pipe into this same thread, so what was said during a call lies there when it returns. Writing to a full pipe fails
//! instead of waiting for us; one so full is evidence enough.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use ffmpeg_next::util::log;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::holes::Loss;

/// Room for what may be said between two looks, bytes. The longest message has a kilobyte.
const PIPE_BYTES: usize = 256 << 10;
/// Messages that are passed on in [`SPAN`]; a damaged stream has thousands. The first ones tell most.
const MOST_PASSED_ON: u32 = 50;
const SPAN: Duration = Duration::from_secs(10);
/// Longest message that is looked at, bytes.
const MAX_LINE_BYTES: usize = 4_096;

/// What RTP's demuxer says of packets that are missing, before their number: FFmpeg 5.1, `rtpdec.c`. That a buffer is full or
/// a delay over is no loss by itself, and a packet that comes too late was counted before, or came twice.
const MISSED: &str = "RTP: missed ";
/// What demuxers say else at the level of warnings when something is missing: `rtpdec*.c`, `utils.c`.
const LOSSES: [&str; 5] = ["bad cseq", "without a start", "Missed a packet", "Packet corrupt", "CSeq "];

/// What decoders say of a picture that they make up in part: FFmpeg 5.1, `error_resilience.c`, `h264*.c`, `hevc*.c`. Not
/// each of their complaints is one: some cameras' streams have small faults in every group of pictures, and are fine.
const DECODE_ERRORS: [&str; 12] = [
    "concealing ",
    "error while decoding MB",
    "decode_slice_header error",
    "Frame num gap",
    "eference picture missing",
    "Missing reference picture",
    "Could not find ref with POC",
    "Error constructing the frame RPS",
    "First slice in a frame missing",
    "CABAC_MAX_BIN",
    "Invalid NAL unit",
    "no frame!",
];

/// What was heard since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// What was sent and did not arrive.
    pub loss: Loss,
    /// A decoder found an error.
    pub decode_error: bool,
}

/// FFmpeg's messages.
pub struct Log {
    pipe: File,
    /// Standard error as it was given to this process.
    out: File,
    line: Vec<u8>,
    opening: bool,
    passed_on: u32,
    span_begun: Instant,
}

impl Log {
    /// Turns standard error into a pipe that is read here.
    ///
    /// # Errors
    ///
    /// When this process gets no pipe.
    pub fn take() -> io::Result<Self> {
        let (pipe, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // What is more than an unprivileged process may have is refused; then the usual 64 KiB have to do.
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE_BYTES);
        fcntl_setfl(&stderr, fcntl_getfl(&stderr)? | OFlags::NONBLOCK)?;
        let out = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)?;
        rustix::stdio::dup2_stderr(&stderr)?;
        // Standard output was made the same as standard error before.
        rustix::stdio::dup2_stdout(&stderr)?;
        log::set_level(log::Level::Warning);
        log::set_flags(log::Flags::PRINT_LEVEL);
        Ok(Self {
            pipe: pipe.into(),
            out: out.into(),
            line: Vec::new(),
            opening: false,
            passed_on: 0,
            span_begun: Instant::now(),
        })
    }

    /// Passes on what was said while a stream was opened. Decoders that were shown pieces of its pictures then complain
    /// of them for nothing.
    pub fn opened(&mut self) {
        self.opening = true;
        self.heard();
        self.opening = false;
    }

    /// Reads what was said since the last call, and passes it on.
    pub fn heard(&mut self) -> Heard {
        let mut heard = Heard::default();
        let mut buffer = [0; 4_096];
        let mut read = 0;
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return heard,
                Ok(count) => {
                    read += count;
                    self.take_in(&buffer[..count], &mut heard);
                    if read >= PIPE_BYTES {
                        // More than there was room for: what came last may be lost.
                        return Heard { loss: Loss { uncounted: true, ..heard.loss }, decode_error: true };
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing more for now; of anything else nobody can be told.
                Err(_) => return heard,
            }
        }
    }

    /// Says something of our own.
    pub fn say(&mut self, text: &str) {
        self.pass_on(text.as_bytes());
    }

    fn take_in(&mut self, bytes: &[u8], heard: &mut Heard) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, whole) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            self.line.extend_from_slice(&text[..text.len().min(MAX_LINE_BYTES - self.line.len())]);
            if whole {
                let line = std::mem::take(&mut self.line);
                let found = judge(&String::from_utf8_lossy(&line));
                heard.loss.add(found.loss);
                heard.decode_error |= found.decode_error;
                if !self.opening || !is_of_pieces(&line) {
                    self.pass_on(&line);
                }
                self.line = line;
                self.line.clear();
            }
        }
    }

    fn pass_on(&mut self, line: &[u8]) {
        let now = Instant::now();
        if now.duration_since(self.span_begun) >= SPAN {
            (self.span_begun, self.passed_on) = (now, 0);
        }
        self.passed_on += 1;
        if self.passed_on <= MOST_PASSED_ON {
            // Without standard error there is nobody to tell.
            let _ = self.out.write_all(&[line, b"\n"].concat());
        }
    }
}

/// Whether it comes from a decoder whose pictures come in pieces.
fn is_of_pieces(line: &[u8]) -> bool {
    [&b"[h264 @ "[..], b"[hevc @ "].iter().any(|decoder| line.starts_with(decoder))
}

fn judge(line: &str) -> Heard {
    let says = |pieces: &[&str]| pieces.iter().any(|piece| line.contains(piece));
    let count = line.split_once(MISSED).and_then(|(_, rest)| rest.split(' ').next());
    let missed = count.and_then(|count| count.parse().ok()).unwrap_or_default();
    let uncounted = says(&LOSSES) || count.is_some() && missed == 0;
    Heard { loss: Loss { missed, uncounted }, decode_error: says(&DECODE_ERRORS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_are_known_by_their_names() {
        for (line, expected) in [
            ("[h264 @ 0x5581] [error] no frame!", true),
            ("[hevc @ 0x5581] [error] PPS id out of range: 0", true),
            ("[rtsp @ 0x5581] [error] method DESCRIBE failed: 401 Unauthorized", false),
        ] {
            assert_eq!(is_of_pieces(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn losses_and_errors_of_decoders_are_evidence_and_nothing_else_is() {
        let loss = |missed, uncounted| Heard { loss: Loss { missed, uncounted }, decode_error: false };
        let error = Heard { decode_error: true, ..Heard::default() };
        for (line, found) in [
            ("[rtsp @ 0x5581] [warning] RTP: missed 3 packets", loss(3, false)),
            ("[rtsp @ 0x5581] [warning] RTP: missed", Heard::default()),
            ("[rtsp @ 0x5581] [warning] RTP: missed some packets", loss(0, true)),
            ("[rtsp @ 0x5581] [warning] RTP: PT=60: bad cseq 04d2 expected=04d0", loss(0, true)),
            ("[rtsp @ 0x5581] [warning] CSeq 4 expected, 0 received.", loss(0, true)),
            ("[rtsp @ 0x5581] [warning] max delay reached. need to consume packet", Heard::default()),
            ("[h264 @ 0x5581] [error] error while decoding MB 12 7, bytestream -5", error),
            ("[hevc @ 0x5581] [error] Could not find ref with POC 12", error),
            ("[h264 @ 0x5581] [warning] Increasing reorder buffer to 1", Heard::default()),
            ("[h264 @ 0x5581] [error] mmco: unref short failure", Heard::default()),
            ("[rtsp @ 0x5581] [error] method DESCRIBE failed: 401 Unauthorized", Heard::default()),
            ("[swscaler @ 0x5581] [warning] deprecated pixel format used", Heard::default()),
            ("", Heard::default()),
        ] {
            assert_eq!(judge(line), found, "{line}");
        }
    }
}
