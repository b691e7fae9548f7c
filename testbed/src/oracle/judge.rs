//! The judgement itself.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::pattern::{Line, Step};
use super::{Entry, Frame, Pattern};
use crate::mark::Mark;

/// Threads that fetch and decode.
const THREADS: usize = 2;

/// How many faults are described, of each camera.
const EXAMPLES: usize = 10;

/// What was found for one camera. All fields from `seq_holes` to `mismatched` count faults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The camera's id in the list.
    pub camera: String,
    /// The number in its pictures, once one could be read.
    pub number: Option<u16>,
    /// Stored frames.
    pub frames: u64,
    /// Frames that tombstones stand for.
    pub tombstoned: u64,
    /// Sessions with stored frames.
    pub sessions: u64,
    /// Places where an entry's seq does not follow the one before.
    pub seq_holes: u64,
    /// Steps back: of the counter within a session, or of the session's number.
    pub inversions: u64,
    /// Camera frames skipped that nothing explains.
    pub gaps: u64,
    /// Pictures with the counter of the one before.
    pub repeats: u64,
    /// Steps shorter than the pattern and the tombstones between say.
    pub short_steps: u64,
    /// Objects that are no picture with a sound mark.
    pub unreadable: u64,
    /// Objects that could not be fetched.
    pub missing: u64,
    /// Pictures with another camera's number, or another clip within a session.
    pub wrong_camera: u64,
    /// Objects whose size, CRC32C or picture size is not that of the list.
    pub mismatched: u64,
    /// The pauses, in the list's order.
    pub between_sessions: Vec<Between>,
    /// The first few faults in words.
    pub examples: Vec<String>,
}

/// The camera's time between two sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Between {
    /// Session before the pause.
    pub before: u32,
    /// Session after it.
    pub after: u32,
    /// Camera frames from the last readable picture of one to the first of the other, modulo the clip: 1 is no pause at
    /// all. A new connection begins at a key frame and may show the last GOP again, so that up to an eighth of a clip
    /// is taken as negative. Unknown if the clip changed.
    pub frames: Option<i64>,
}

impl Verdict {
    /// True if no fault was found. Of an empty list as well: whoever expects frames must look at their count.
    pub fn is_sound(&self) -> bool {
        self.faults().iter().all(|&(_, count)| count == 0)
    }

    /// The counters that must be zero, with their names.
    pub fn faults(&self) -> [(&'static str, u64); 9] {
        [
            ("seq_holes", self.seq_holes),
            ("inversions", self.inversions),
            ("gaps", self.gaps),
            ("repeats", self.repeats),
            ("short_steps", self.short_steps),
            ("unreadable", self.unreadable),
            ("missing", self.missing),
            ("wrong_camera", self.wrong_camera),
            ("mismatched", self.mismatched),
        ]
    }

    fn example(&mut self, seq: u64, what: impl Display) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("seq {seq}: {what}"));
        }
    }
}

/// Judges a camera's `entries`, in the order of the list, by the objects that `fetch` returns for their URLs.
///
/// `fetch` is called from two threads.
pub fn judge<F>(camera: &str, entries: &[Entry], fetch: F, pattern: Pattern) -> Verdict
where
    F: Fn(&str) -> anyhow::Result<Vec<u8>> + Sync,
{
    let frames: Vec<&Frame> =
        entries.iter().filter_map(|entry| if let Entry::Frame(frame) = entry { Some(frame) } else { None }).collect();
    let mut objects = examine_all(&frames, &fetch).into_iter();
    let mut walk = Walk::new(camera, pattern);
    for entry in entries {
        match entry {
            Entry::Frame(frame) => walk.frame(frame, objects.next().expect("one object was examined per frame")),
            Entry::Tombstone { seq, last, session, .. } => walk.tombstone(*seq, *last, *session),
            Entry::Session { .. } => {}
        }
    }
    walk.verdict
}

/// What a frame's object turned out to be.
enum Object {
    Missing(String),
    Fetched {
        /// How it differs from the list.
        mismatch: Option<String>,
        mark: Result<Mark, String>,
    },
}

/// Fetches and decodes all frames; the answers are in their order.
fn examine_all<F>(frames: &[&Frame], fetch: &F) -> Vec<Object>
where
    F: Fn(&str) -> anyhow::Result<Vec<u8>> + Sync,
{
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(frames.len())));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((index, frame)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|index| Some((index, frames.get(index)?)))
                {
                    let object = examine(frame, fetch);
                    // Poisoned means that the other thread panicked; the scope passes that on.
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, object));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|&(index, _)| index);
    done.into_iter().map(|(_, object)| object).collect()
}

fn examine(frame: &Frame, fetch: impl Fn(&str) -> anyhow::Result<Vec<u8>>) -> Object {
    let bytes = match fetch(&frame.url) {
        Ok(bytes) => bytes,
        Err(error) => return Object::Missing(format!("{error:#}")),
    };
    let crc32c = BASE64_STANDARD.encode(crc32c::crc32c(&bytes).to_be_bytes());
    let mut mismatch = if bytes.len() as u64 != frame.bytes {
        Some(format!("object has {} bytes, the list says {}", bytes.len(), frame.bytes))
    } else if crc32c != frame.crc32c {
        Some(format!("object has CRC32C {crc32c}, the list says {}", frame.crc32c))
    } else {
        None
    };
    let mark = decode(&bytes).and_then(|(luma, width, height)| {
        if (width, height) != (frame.width as usize, frame.height as usize) {
            mismatch
                .get_or_insert(format!("picture is {width}x{height}, the list says {}x{}", frame.width, frame.height));
        }
        Mark::read(&luma, width, height).map_err(|error| error.to_string())
    });
    Object::Fetched { mismatch, mark }
}

/// Luma plane, width and height of a JPEG. Strict: a picture cut short is an error, not one with a grey rest.
///
/// # Errors
///
/// What is wrong with it.
pub fn decode(jpeg: &[u8]) -> Result<(Vec<u8>, usize, usize), String> {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::Luma).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    let luma = decoder.decode().map_err(|error| format!("not a sound JPEG: {error:?}"))?;
    let (width, height) = decoder.dimensions().ok_or("not a sound JPEG: no dimensions")?;
    Ok((luma, width, height))
}

/// The walk along a list.
struct Walk {
    verdict: Verdict,
    pattern: Pattern,
    /// The seq that the next entry should begin with.
    next_seq: Option<u64>,
    /// The session of the last frame, and all that had frames.
    session: Option<u32>,
    sessions: BTreeSet<u32>,
    /// Of the session, from its first readable picture on.
    line: Option<Line>,
    /// The last readable picture, in this or an earlier session.
    last: Option<(u32, Mark)>,
}

impl Walk {
    fn new(camera: &str, pattern: Pattern) -> Self {
        let verdict = Verdict { camera: camera.to_owned(), ..Verdict::default() };
        Self { verdict, pattern, next_seq: None, session: None, sessions: BTreeSet::new(), line: None, last: None }
    }

    fn tombstone(&mut self, seq: u64, last: u64, session: Option<u32>) {
        self.sequence(seq, last);
        let frames = last.saturating_add(1).saturating_sub(seq);
        self.verdict.tombstoned += frames;
        if let Some(line) = &mut self.line
            && (session.is_none() || session == self.session)
        {
            line.explain(frames);
        }
    }

    fn frame(&mut self, frame: &Frame, object: Object) {
        self.verdict.frames += 1;
        self.sequence(frame.seq, frame.seq);
        self.enter_session(frame);
        let mark = match object {
            Object::Missing(why) => {
                self.verdict.missing += 1;
                self.verdict.example(frame.seq, why);
                None
            }
            Object::Fetched { mismatch, mark } => {
                if let Some(what) = mismatch {
                    self.verdict.mismatched += 1;
                    self.verdict.example(frame.seq, what);
                }
                self.readable(frame, mark)
            }
        };
        match mark {
            Some(mark) => self.step(frame, mark),
            // It takes its place on the line, unseen: it is a fault already and must not be a gap too.
            None => self.line.iter_mut().for_each(|line| line.explain(1)),
        }
    }

    /// The seqs `first` to `last` should begin where the entry before ended.
    fn sequence(&mut self, first: u64, last: u64) {
        if let Some(expected) = self.next_seq
            && first != expected
        {
            self.verdict.seq_holes += 1;
            self.verdict.example(first, format_args!("follows {}, not {expected}", expected.saturating_sub(1)));
        }
        if last < first {
            self.verdict.seq_holes += 1;
            self.verdict.example(first, format_args!("tombstone ends before it begins, with {last}"));
        }
        self.next_seq = Some(last.max(first).saturating_add(1));
    }

    fn enter_session(&mut self, frame: &Frame) {
        if self.session == Some(frame.session) {
            return;
        }
        if let Some(before) = self.session
            && frame.session < before
        {
            self.verdict.inversions += 1;
            self.verdict.example(frame.seq, format_args!("session {} comes after session {before}", frame.session));
        }
        self.session = Some(frame.session);
        self.sessions.insert(frame.session);
        self.verdict.sessions = self.sessions.len() as u64;
        self.line = None;
    }

    /// The mark if it is one of this camera's.
    fn readable(&mut self, frame: &Frame, mark: Result<Mark, String>) -> Option<Mark> {
        let mark = match mark {
            Ok(mark) => mark,
            Err(why) => {
                self.verdict.unreadable += 1;
                self.verdict.example(frame.seq, why);
                return None;
            }
        };
        let number = *self.verdict.number.get_or_insert(mark.camera);
        let clip = self.last.filter(|&(session, _)| session == frame.session).map(|(_, last)| last.clip_frames);
        if mark.camera != number || clip.is_some_and(|clip| clip != mark.clip_frames) {
            self.verdict.wrong_camera += 1;
            let Mark { camera, clip_frames, .. } = mark;
            self.verdict.example(
                frame.seq,
                format_args!(
                    "picture of camera number {camera} (clip of {clip_frames}) in the list of number {number}"
                ),
            );
            return None;
        }
        Some(mark)
    }

    fn step(&mut self, frame: &Frame, mark: Mark) {
        let last = self.last.replace((frame.session, mark));
        let Some(line) = &mut self.line else {
            self.line = Some(Line::new(self.pattern, mark));
            if let Some((before, last)) = last {
                self.verdict.between_sessions.push(Between {
                    before,
                    after: frame.session,
                    frames: passed(last, mark),
                });
            }
            return;
        };
        let verdict = &mut self.verdict;
        let from = last.map_or(0, |(_, last)| last.counter);
        let what = match line.step(mark.counter) {
            Step::Right => return,
            Step::Gap(frames) => {
                verdict.gaps += frames;
                format!("{frames} frames too far on")
            }
            Step::Repeat => {
                verdict.repeats += 1;
                "the same again".to_owned()
            }
            Step::Inversion(frames) => {
                verdict.inversions += 1;
                format!("{frames} frames back")
            }
            Step::Short(frames) => {
                verdict.short_steps += 1;
                format!("{frames} frames short of what was expected")
            }
        };
        verdict.example(frame.seq, format_args!("frame {} of the camera after {from}: {what}", mark.counter));
    }
}

/// Camera frames from one picture to a later one in another session.
fn passed(from: Mark, to: Mark) -> Option<i64> {
    let clip = i64::from(from.clip_frames);
    if clip == 0 || from.clip_frames != to.clip_frames {
        return None;
    }
    let frames = (i64::from(to.counter) - i64::from(from.counter)).rem_euclid(clip);
    Some(if frames >= clip - clip / 8 { frames - clip } else { frames })
}
