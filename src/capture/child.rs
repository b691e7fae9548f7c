//! The capture loop: what a `framehaul-capture-*` program does, whatever its media library.
//!
//! Three threads. The loop (the caller's thread) grabs, picks and encodes. The writer sends frames to the daemon;
//! between the two stand slots for a second or so of frames, because a full pipe must never stop the decoder: what
//! finds them taken is counted. The listener ends the process when the daemon is gone.

use std::io::{BufReader, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use super::source::{FrameSource, SourceError};
use super::wire::{CapturedFrame, ChildSettings, End, Message, STOP, Stats};
use crate::model::{Extent, Pace, Sampler};
use crate::process::child::{self, monotonic_ns};

/// Frames that may wait for the pipe. A stream begins with what the media library buffered while it was opened, a
/// second of frames decoded at once: with only a few slots, a busy machine would lose some of them at every start.
const SLOTS: usize = 64;

/// Bytes of the frames that may wait for the pipe; one frame may always.
const SLOT_BYTES: usize = 8 << 20;

/// Time to take leave of the camera once the daemon has said stop and gone.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How often counters are reported.
const STATS_EVERY: Duration = Duration::from_secs(1);

/// The longest settings line accepted, bytes.
const MAX_SETTINGS_BYTES: u64 = 64 * 1024;

/// What a capture process may take of memory, bytes: more than a stream of the largest usual pictures (7680x4320)
/// needs, less than would hurt the machine.
const MOST_MEMORY: u64 = 4 << 30;

/// Runs a capture program: reads its settings from standard input, opens a source with them, and hands frames to the
/// daemon on standard output until told to stop, the stream ends, or the daemon is gone.
pub fn run<S: FrameSource>(open: impl FnOnce(&ChildSettings) -> Result<S, SourceError>) -> ExitCode {
    child::limit(MOST_MEMORY);
    let mut stdin = BufReader::new(std::io::stdin());
    let settings = match child::settings::<ChildSettings>(&mut stdin, MAX_SETTINGS_BYTES) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let Ok(pipe) = child::take_stdout() else { return ExitCode::from(71) };
    // A pipe that holds a few frames spares the writer a wake-up of the daemon for every 64 KiB of a frame.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20);

    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || listen(stdin, &told));
    capture(&settings, open, pipe, &stop)
}

/// Waits for the word to stop; ends the process at once when the daemon has closed the pipe without it.
fn listen(stdin: impl std::io::BufRead, stop: &AtomicBool) {
    for line in stdin.lines() {
        match line {
            Ok(word) if word.trim() == STOP => stop.store(true, Relaxed),
            _ => break,
        }
    }
    if stop.load(Relaxed) {
        // Told to stop, and then left alone: time for TEARDOWN, no more.
        std::thread::sleep(STOP_GRACE);
    }
    child::end();
}

#[derive(Default)]
struct Counters {
    grabbed: AtomicU64,
    delivered: AtomicU64,
    overrun: AtomicU64,
    corrupt: AtomicU64,
    last_pts_micros: AtomicI64,
    /// For how long the pictures have shown the same, as of the last one.
    still_ms: AtomicU64,
    /// Bytes of the frames in the slots.
    waiting_bytes: AtomicUsize,
}

impl Counters {
    fn read(&self) -> Stats {
        Stats {
            grabbed: self.grabbed.load(Relaxed),
            delivered: self.delivered.load(Relaxed),
            overrun: self.overrun.load(Relaxed),
            corrupt: self.corrupt.load(Relaxed),
            last_pts_micros: self.last_pts_micros.load(Relaxed),
            still_ms: self.still_ms.load(Relaxed),
        }
    }
}

/// A message for the writer, and what was missed since the one before.
struct Slot {
    missed: Missed,
    message: Message,
}

/// Wanted frames that there is no message for.
#[derive(Clone, Copy, Default)]
struct Missed {
    /// They found the slots taken.
    overrun: u32,
    /// They could not be decoded or encoded.
    corrupt: u32,
}

fn capture<S: FrameSource>(
    settings: &ChildSettings,
    open: impl FnOnce(&ChildSettings) -> Result<S, SourceError>,
    out: impl Write + Send + 'static,
    stop: &AtomicBool,
) -> ExitCode {
    let counters = Arc::new(Counters::default());
    let (slots, waiting) = sync_channel(SLOTS);
    let counted = counters.clone();
    let writer = std::thread::spawn(move || write(&waiting, out, &counted));

    let mut opened = false;
    let mut missed = Missed::default();
    let result = open(settings).and_then(|mut source| {
        opened = true;
        let _ = slots.send(Slot { missed: Missed::default(), message: Message::Opened(source.info()) });
        pump(&mut source, settings, &slots, &counters, &mut missed, stop)
        // The source is dropped here: that sends TEARDOWN to the camera.
    });
    let how = match &result {
        _ if !opened => End::NotOpened,
        Err(SourceError::Changed) => End::Changed,
        _ => End::Over,
    };
    let detail = match &result {
        Ok(()) => "stopped".to_owned(),
        Err(error) => error.to_string(),
    };
    // The daemon always empties its pipe, so this wait is short; and it kills a child that takes too long.
    let _ = slots.send(Slot { missed, message: Message::Ended { how, detail } });
    drop(slots);
    let _ = writer.join();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn pump(
    source: &mut impl FrameSource,
    settings: &ChildSettings,
    slots: &SyncSender<Slot>,
    counters: &Counters,
    missed: &mut Missed,
    stop: &AtomicBool,
) -> Result<(), SourceError> {
    let mut sampler = Sampler::new(settings.sampling);
    let mut still = Still::default();
    let recorded = source.is_recorded();
    let mut pacer = (recorded && settings.pace == Pace::Realtime).then(Pacer::default);
    let Extent { mut from_micros, mut skip, frames } = settings.extent;
    let mut left = frames.unwrap_or(u64::MAX);
    while left > 0 && !stop.load(Relaxed) {
        let grabbed = source.grab()?;
        let early = from_micros.zip(grabbed.pts_micros).is_some_and(|(from, pts_micros)| pts_micros < from);
        if !early && grabbed.decoded && grabbed.pts_micros.is_some() {
            // Once it is reached: times may jump back behind it.
            from_micros = None;
        }
        if let Some((pacer, pts_micros)) = pacer.as_mut().zip(grabbed.pts_micros)
            && !early
            && skip == 0
        {
            pacer.wait(pts_micros, stop);
        }
        // Stamped before the picture is converted, which takes longer for some pictures than for others.
        let monotonic_ns = monotonic_ns();
        counters.grabbed.fetch_add(1, Relaxed);
        let pts_micros = grabbed.pts_micros.unwrap_or((monotonic_ns / 1_000) as i64);
        counters.last_pts_micros.store(pts_micros, Relaxed);
        // What was passed by is no choice of the sampler's, which counts the pictures that it is asked about.
        if !grabbed.decoded || early || !sampler.wants(pts_micros) {
            continue;
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        left -= 1;
        let picture = match source.encode() {
            Ok(picture) => picture,
            Err(SourceError::Damaged(_)) => {
                missed.corrupt += 1;
                counters.corrupt.fetch_add(1, Relaxed);
                // Said at once if there is room: were all pictures damaged, nothing else would tell.
                if slots.try_send(Slot { missed: *missed, message: Message::Stats(counters.read()) }).is_ok() {
                    *missed = Missed::default();
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        counters.still_ms.store(still.since(picture.content, monotonic_ns) / 1_000_000, Relaxed);
        let bytes = picture.jpeg.len();
        let waiting = counters.waiting_bytes.load(Relaxed);
        if !recorded && waiting > 0 && waiting + bytes > SLOT_BYTES {
            missed.overrun += 1;
            counters.overrun.fetch_add(1, Relaxed);
            continue;
        }
        let message = Message::Frame(CapturedFrame {
            monotonic_ns,
            pts_micros,
            wall_micros: grabbed.wall_micros,
            damaged: picture.damaged,
            width: picture.width,
            height: picture.height,
            jpeg: picture.jpeg.into(),
        });
        counters.waiting_bytes.fetch_add(bytes, Relaxed);
        let slot = Slot { missed: *missed, message };
        let sent = if recorded {
            slots.send(slot).map_err(|error| TrySendError::Disconnected(error.0))
        } else {
            slots.try_send(slot)
        };
        match sent {
            Ok(()) => *missed = Missed::default(),
            Err(TrySendError::Full(_)) => {
                counters.waiting_bytes.fetch_sub(bytes, Relaxed);
                missed.overrun += 1;
                counters.overrun.fetch_add(1, Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return Err(SourceError::Ended("the daemon has gone".to_owned())),
        }
    }
    Ok(())
}

/// Since when the pictures that come show the same: the camera sends, and has nothing new to show.
#[derive(Default)]
struct Still {
    /// The last picture's fingerprint, and when the first one with it came, nanoseconds.
    shown: Option<(u64, u64)>,
}

impl Still {
    /// Takes note of a picture. For how long the same has been shown by now, nanoseconds; 0 where that is not known.
    fn since(&mut self, content: Option<u64>, monotonic_ns: u64) -> u64 {
        self.shown = content.map(|content| match self.shown {
            Some((same, begun)) if same == content => (same, begun),
            _ => (content, monotonic_ns),
        });
        self.shown.map_or(0, |(_, begun)| monotonic_ns.saturating_sub(begun))
    }
}

/// Lets recorded pictures pass at the times they say, as a camera would show them.
#[derive(Default)]
struct Pacer {
    /// When the first picture passed, and its presentation time, microseconds.
    start: Option<(Instant, i64)>,
}

impl Pacer {
    /// A step of presentation times beyond this is a cut in the recording, microseconds; the pace starts anew there.
    const MAX_STEP: i64 = 10_000_000;
    /// How long a word to stop may go unheard.
    const NAP: Duration = Duration::from_millis(100);

    fn wait(&mut self, pts_micros: i64, stop: &AtomicBool) {
        let (begun, first) = *self.start.get_or_insert((Instant::now(), pts_micros));
        let due = u64::try_from(pts_micros - first).map(|micros| begun + Duration::from_micros(micros));
        let now = Instant::now();
        match due {
            Ok(due) if due.saturating_duration_since(now) < Duration::from_micros(Self::MAX_STEP as u64) => {
                while let left @ 1.. = due.saturating_duration_since(Instant::now()).as_nanos()
                    && !stop.load(Relaxed)
                {
                    std::thread::sleep(Duration::from_nanos(left as u64).min(Self::NAP));
                }
            }
            _ => self.start = Some((now, pts_micros)),
        }
    }
}

/// Sends what waits, and counters once a second whether or not anything does.
fn write(waiting: &Receiver<Slot>, mut out: impl Write, counters: &Counters) {
    let mut next_stats = Instant::now() + STATS_EVERY;
    loop {
        let sent = match waiting.recv_timeout(next_stats.saturating_duration_since(Instant::now())) {
            Ok(slot) => send(&slot, &mut out, counters),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = Instant::now();
        let reported = if now >= next_stats {
            next_stats = now + STATS_EVERY;
            Message::Stats(counters.read()).write(&mut out)
        } else {
            Ok(())
        };
        if sent.and(reported).is_err() {
            return;
        }
    }
}

fn send(slot: &Slot, out: &mut impl Write, counters: &Counters) -> std::io::Result<()> {
    if slot.missed.overrun > 0 {
        Message::Overrun(slot.missed.overrun).write(out)?;
    }
    if slot.missed.corrupt > 0 {
        Message::Corrupt(slot.missed.corrupt).write(out)?;
    }
    slot.message.write(out)?;
    if let Message::Frame(frame) = &slot.message {
        counters.delivered.fetch_add(1, Relaxed);
        counters.waiting_bytes.fetch_sub(frame.jpeg.len(), Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::{Condvar, Mutex};

    use bytes::Bytes;

    use super::*;
    use crate::capture::source::{Grabbed, Picture};
    use crate::capture::wire::StreamInfo;
    use crate::model::Sampling;

    /// Yields so many pictures at once, every fifth of which is damaged if `damaged`.
    struct Pictures {
        left: i64,
        done: i64,
        damaged: bool,
    }

    impl FrameSource for Pictures {
        fn grab(&mut self) -> Result<Grabbed, SourceError> {
            if self.left == 0 {
                return Err(SourceError::Ended("over".into()));
            }
            self.left -= 1;
            self.done += 1;
            Ok(Grabbed { pts_micros: Some(self.done * 40_000), wall_micros: None, decoded: true })
        }

        fn encode(&mut self) -> Result<Picture, SourceError> {
            if self.damaged && self.done % 5 == 0 {
                return Err(SourceError::Damaged("bits".into()));
            }
            let jpeg = vec![0xff, 0xd8, self.done as u8];
            Ok(Picture { width: 2, height: 2, jpeg, damaged: false, content: None })
        }

        fn info(&self) -> StreamInfo {
            StreamInfo { fps: 25.0, ..StreamInfo::default() }
        }
    }

    fn settings() -> ChildSettings {
        serde_json::from_str(
            r#"{"kind":"rtsp","location":"rtsp://h/a","user":null,"password":null,"repeat":false,"pace":"realtime",
                "sampling":"all","damaged":"drop","jpeg_quality":85,"max_width":null,
                "open_timeout_ms":1,"read_timeout_ms":1,"options":[["timeout","1"]]}"#,
        )
        .unwrap()
    }

    /// The whole messages in `bytes`; one may still be half written.
    fn messages(mut bytes: &[u8]) -> Vec<Message> {
        let mut found = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk::<4>()
            && let Some((body, rest)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)
        {
            found.push(Message::read(Bytes::copy_from_slice(body)).unwrap());
            bytes = rest;
        }
        found
    }

    /// A pipe that takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<Content>, Condvar)>);

    #[derive(Default)]
    struct Content {
        open: bool,
        bytes: Vec<u8>,
    }

    impl Pipe {
        fn open(&self) {
            self.0.0.lock().unwrap().open = true;
            self.0.1.notify_all();
        }
        fn content(&self) -> Vec<u8> {
            self.0.0.lock().unwrap().bytes.clone()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut guard = self.0.1.wait_while(self.0.0.lock().unwrap(), |content| !content.open).unwrap();
            guard.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_pipe_never_stops_the_decoder_and_every_frame_is_accounted_for() {
        let pipe = Pipe::default();
        let opener = pipe.clone();
        let stop = AtomicBool::new(false);
        let source = |_: &ChildSettings| {
            Ok(OpensPipeAtEnd { pictures: Pictures { left: 500, done: 0, damaged: false }, opener })
        };
        capture(&settings(), source, pipe.clone(), &stop);
        let found = messages(&pipe.content());
        let frames = found.iter().filter(|m| matches!(m, Message::Frame(_))).count();
        let overrun: u32 = found.iter().map(|m| if let Message::Overrun(n) = m { *n } else { 0 }).sum();
        assert_eq!(frames as u32 + overrun, 500);
        assert!(overrun >= 400, "{overrun}");
        let corrupt: u32 = found.iter().map(|m| if let Message::Corrupt(n) = m { *n } else { 0 }).sum();
        assert_eq!(corrupt, 0);
        assert!(matches!(found.last(), Some(Message::Ended { how: End::Over, .. })));
    }

    /// Opens the pipe only at the end of the stream: what was missed last must be told all the same.
    struct OpensPipeAtEnd {
        pictures: Pictures,
        opener: Pipe,
    }

    impl FrameSource for OpensPipeAtEnd {
        fn grab(&mut self) -> Result<Grabbed, SourceError> {
            if self.pictures.left == 0 {
                self.opener.open();
            }
            self.pictures.grab()
        }
        fn encode(&mut self) -> Result<Picture, SourceError> {
            self.pictures.encode()
        }
        fn info(&self) -> StreamInfo {
            self.pictures.info()
        }
    }

    #[test]
    fn damaged_pictures_are_counted_and_the_stream_goes_on() {
        let pipe = Pipe::default();
        pipe.open();
        let source = |_: &ChildSettings| Ok(Slow(Pictures { left: 10, done: 0, damaged: true }, pipe.clone()));
        capture(&settings(), source, pipe.clone(), &AtomicBool::new(false));
        let found = messages(&pipe.content());
        let frames = found.iter().filter(|m| matches!(m, Message::Frame(_))).count();
        let corrupt: u32 = found.iter().map(|m| if let Message::Corrupt(n) = m { *n } else { 0 }).sum();
        assert_eq!((frames, corrupt), (8, 2));
    }

    /// Waits until what it gave before was written, so that nothing overruns.
    struct Slow(Pictures, Pipe);

    impl FrameSource for Slow {
        fn grab(&mut self) -> Result<Grabbed, SourceError> {
            let given = (self.0.done - i64::from(self.0.damaged) * (self.0.done / 5)) as usize;
            while messages(&self.1.content()).iter().filter(|m| matches!(m, Message::Frame(_))).count() < given {
                std::thread::yield_now();
            }
            self.0.grab()
        }
        fn encode(&mut self) -> Result<Picture, SourceError> {
            self.0.encode()
        }
        fn info(&self) -> StreamInfo {
            StreamInfo { fps: 25.0, ..StreamInfo::default() }
        }
    }

    /// Grabs one picture more than can be converted.
    struct ChangesAtEnd(Slow);

    impl FrameSource for ChangesAtEnd {
        fn grab(&mut self) -> Result<Grabbed, SourceError> {
            self.0.grab()
        }
        fn encode(&mut self) -> Result<Picture, SourceError> {
            if self.0.0.left == 0 { Err(SourceError::Changed) } else { self.0.encode() }
        }
        fn info(&self) -> StreamInfo {
            self.0.info()
        }
    }

    #[test]
    fn a_stream_that_changes_ends_before_the_picture_that_is_another() {
        let pipe = Pipe::default();
        pipe.open();
        let source =
            |_: &ChildSettings| Ok(ChangesAtEnd(Slow(Pictures { left: 3, done: 0, damaged: false }, pipe.clone())));
        capture(&settings(), source, pipe.clone(), &AtomicBool::new(false));
        let found = messages(&pipe.content());
        assert_eq!(found.iter().filter(|m| matches!(m, Message::Frame(_))).count(), 2);
        assert!(matches!(found.last(), Some(Message::Ended { how: End::Changed, .. })), "{:?}", found.last());
    }

    /// Decodes every fourth picture only, knows the camera's clock, and marks what is damaged.
    struct KeyFrames(Slow);

    impl FrameSource for KeyFrames {
        fn grab(&mut self) -> Result<Grabbed, SourceError> {
            let grabbed = self.0.0.grab()?;
            let decoded = self.0.0.done % 4 == 1;
            Ok(Grabbed { wall_micros: grabbed.pts_micros.map(|pts| pts + 7), decoded, ..grabbed })
        }
        fn encode(&mut self) -> Result<Picture, SourceError> {
            assert_eq!(self.0.0.done % 4, 1, "a picture that was not decoded is asked for");
            Ok(Picture { damaged: self.0.0.done == 5, content: Some(1), ..self.0.encode()? })
        }
        fn info(&self) -> StreamInfo {
            self.0.info()
        }
    }

    #[test]
    fn what_is_passed_by_is_grabbed_and_neither_sampled_nor_encoded() {
        let pipe = Pipe::default();
        pipe.open();
        let source =
            |_: &ChildSettings| Ok(KeyFrames(Slow(Pictures { left: 17, done: 0, damaged: false }, pipe.clone())));
        // Every second of those that are offered: 1, 9 and 17 of 1, 5, 9, 13 and 17.
        let every = ChildSettings { sampling: Sampling::Every(2.try_into().unwrap()), ..settings() };
        capture(&every, source, pipe.clone(), &AtomicBool::new(false));
        let frames: Vec<_> = messages(&pipe.content())
            .into_iter()
            .filter_map(|message| if let Message::Frame(frame) = message { Some(frame) } else { None })
            .map(|frame| (frame.pts_micros / 40_000, frame.wall_micros, frame.damaged))
            .collect();
        assert_eq!(frames, [1, 9, 17].map(|n| (n, Some(n * 40_000 + 7), false)));

        let pipe = Pipe::default();
        pipe.open();
        let source =
            |_: &ChildSettings| Ok(KeyFrames(Slow(Pictures { left: 8, done: 0, damaged: false }, pipe.clone())));
        capture(&settings(), source, pipe.clone(), &AtomicBool::new(false));
        let damaged: Vec<_> = messages(&pipe.content())
            .into_iter()
            .filter_map(|message| if let Message::Frame(frame) = message { Some(frame.damaged) } else { None })
            .collect();
        assert_eq!(damaged, [false, true]);
    }

    #[test]
    fn a_part_of_a_stream_is_what_a_whole_one_would_have_there() {
        let taken = |extent: Extent, damaged: bool| {
            let pipe = Pipe::default();
            pipe.open();
            let left = Cell::new(None);
            let asked = ChildSettings { sampling: Sampling::Every(2.try_into().unwrap()), extent, ..settings() };
            let source = |_: &ChildSettings| Ok(Counted(Pictures { left: 40, done: 0, damaged }, &left));
            capture(&asked, source, pipe.clone(), &AtomicBool::new(false));
            let mut taken = Vec::new();
            for message in messages(&pipe.content()) {
                match message {
                    Message::Frame(frame) => taken.push(frame.pts_micros / 40_000),
                    Message::Corrupt(count) => taken.extend((0..count).map(|_| 0)),
                    _ => {}
                }
            }
            (taken, left.get())
        };
        let extent = |from: i64, skip, frames| Extent { from_micros: Some(from * 40_000), skip, frames: Some(frames) };
        assert_eq!(taken(extent(1, 0, 4), false), (vec![1, 3, 5, 7], Some(33)));
        // The rest of it, and no picture is grabbed after the last that is wanted.
        assert_eq!(taken(extent(1, 3, 1), false), (vec![7], Some(33)));
        assert_eq!(taken(extent(8, 0, 3), false), (vec![8, 10, 12], Some(28)));
        // The damaged ones have places: 5 and 15, of which 5 was had before.
        assert_eq!(taken(extent(1, 3, 5), true), (vec![7, 9, 11, 13, 0], Some(25)));
        assert_eq!(taken(extent(35, 0, 9), false), (vec![35, 37, 39], Some(0)));
    }

    /// Leaves word of how many pictures nobody has grabbed.
    struct Counted<'a>(Pictures, &'a Cell<Option<i64>>);

    impl FrameSource for Counted<'_> {
        fn grab(&mut self) -> Result<Grabbed, SourceError> {
            let grabbed = self.0.grab();
            self.1.set(Some(self.0.left));
            grabbed
        }
        fn encode(&mut self) -> Result<Picture, SourceError> {
            self.0.encode()
        }
        fn info(&self) -> StreamInfo {
            self.0.info()
        }
    }

    #[test]
    fn pictures_stand_still_from_the_first_that_shows_the_same() {
        let mut still = Still::default();
        let shown = [Some(1), Some(1), Some(2), Some(2), Some(2), None, Some(2), Some(2)];
        let since: Vec<u64> = (1..).zip(shown).map(|(at, content)| still.since(content, at * 10)).collect();
        assert_eq!(since, [0, 10, 0, 10, 20, 0, 0, 10]);
    }

    #[test]
    fn a_stream_that_does_not_open_says_so() {
        let pipe = Pipe::default();
        pipe.open();
        let source = |_: &ChildSettings| Err::<Pictures, _>(SourceError::NotOpened("no video".into()));
        capture(&settings(), source, pipe.clone(), &AtomicBool::new(false));
        assert_eq!(
            messages(&pipe.content()),
            [Message::Ended { how: End::NotOpened, detail: "cannot open the stream: no video".into() }]
        );
    }
}
