//! Spool and journal, wired as the daemon wires them, with a bucket that takes everything at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use framehaul::config::{Durability, SpoolSettings, WhenFull};
use framehaul::journal::{CatalogChange, Journal, Ledger, Ledgers, StateDir, Totals};
use framehaul::model::{
    CameraId, CameraSpec, DestinationName, Frame, LostReason, ManagedBy, Outcome, RawCameraSpec, Seq, SeqRange,
    Settled, Stored, UnixMicros,
};
use framehaul::spool::{self, Place, Record, Sink, Spool, Spooled};
use secrecy::ExposeSecret as _;
use serde_json::json;

/// Small enough for a short workload to fill, seal, clean and remove segments.
pub const SEGMENT: u64 = 64 << 10;
pub const SEGMENTS: u64 = 4;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the threads say.
#[derive(Debug)]
pub enum Event {
    Durable(CameraId, Seq),
    Refused(Seq),
    Settled(CameraId, SeqRange, &'static str),
    Loaded(Vec<Spooled>, bool),
}

/// A picture that nobody mistakes for another: it tells whose it is all over.
pub fn picture(camera: &CameraId, seq: Seq, len: usize) -> Bytes {
    format!("{camera}/{seq};").bytes().cycle().take(len).collect()
}

pub fn record(camera: &CameraId, seq: Seq, len: usize) -> Record {
    let jpeg = picture(camera, seq, len);
    let frame = Frame {
        camera: camera.clone(),
        seq,
        session: 1,
        captured_at: UnixMicros(1_700_000_000_000_000 + seq as i64),
        width: 640,
        height: 480,
        damaged: false,
        crc32c: crc32c::crc32c(&jpeg),
        jpeg,
    };
    Record { frame, key: format!("{camera}/{seq:012}.jpg") }
}

/// A camera's frames that were taken, and may be uploaded or dropped.
#[derive(Debug, Default)]
struct Taken {
    waiting: BTreeSet<Seq>,
    up_to: Seq,
    /// Whether there are more in the spool.
    beyond: bool,
}

type AllTaken = Arc<Mutex<BTreeMap<CameraId, Taken>>>;

/// Stands where the hub stands: counts what is durable, takes so many frames of a camera, and gives up the oldest of
/// them where there is no room.
struct Books {
    events: Sender<Event>,
    journal: Journal,
    ledgers: Ledgers,
    taken: AllTaken,
    window: usize,
}

impl Books {
    fn with<T>(&self, camera: &CameraId, change: impl FnOnce(&mut Taken) -> T) -> T {
        change(self.taken.lock().expect("no holder panics").entry(camera.clone()).or_default())
    }

    fn lost(&self, camera: &CameraId, seqs: SeqRange, counted: bool) {
        self.journal.settle(self.ledgers.of(camera), lost(camera, seqs, LostReason::SpoolFull, counted));
    }
}

impl Sink for Books {
    fn durable(&mut self, frames: Vec<(Record, Place)>) {
        for (record, _) in frames {
            let Frame { camera, seq, .. } = record.frame;
            self.ledgers.of(&camera).count(1);
            self.with(&camera, |taken| {
                taken.beyond |= taken.waiting.len() >= self.window;
                if !taken.beyond {
                    taken.waiting.insert(seq);
                    taken.up_to = seq;
                }
            });
            let _ = self.events.send(Event::Durable(camera, seq));
        }
    }

    fn refused(&mut self, frame: Frame, _: LostReason) {
        self.lost(&frame.camera, SeqRange::one(frame.seq), false);
        let _ = self.events.send(Event::Refused(frame.seq));
    }

    fn loaded(&mut self, camera: &CameraId, frames: Vec<Spooled>, more: bool) {
        self.with(camera, |taken| {
            taken.waiting.extend(frames.iter().map(|frame| frame.seq));
            taken.up_to = taken.waiting.last().copied().unwrap_or_default().max(taken.up_to);
            taken.beyond = more;
        });
        let _ = self.events.send(Event::Loaded(frames, more));
    }

    fn drop_oldest(&mut self, camera: &CameraId, bytes: u64) -> Vec<Seq> {
        let count = usize::try_from(bytes.div_ceil(FRAME as u64)).unwrap_or(usize::MAX);
        let oldest = self.with(camera, |taken| {
            let oldest: Vec<Seq> = taken.waiting.iter().copied().take(count).collect();
            taken.waiting.retain(|seq| !oldest.contains(seq));
            oldest
        });
        for seq in &oldest {
            self.lost(camera, SeqRange::one(*seq), true);
        }
        oldest
    }

    fn taken_up_to(&mut self, camera: &CameraId) -> Seq {
        self.with(camera, |taken| taken.up_to)
    }

    fn dropped(&mut self, camera: &CameraId, seqs: SeqRange) {
        self.lost(camera, seqs, true);
    }

    fn committed(&mut self, _: usize, _: u64, _: Duration) {}

    fn io_error(&mut self, _: &'static str) {}
}

/// Bytes of a workload's pictures: five to a segment.
pub const FRAME: usize = 12_000;

fn lost(camera: &CameraId, seqs: SeqRange, reason: LostReason, counted: bool) -> Settled {
    let outcome = Outcome::Lost { reason, maybe_stored: false };
    Settled { camera: camera.clone(), seqs, session: Some(1), outcome, counted }
}

/// Both of them at work on one directory.
pub struct Engine {
    journal: Journal,
    journal_thread: JoinHandle<()>,
    spool: Spool,
    spool_thread: JoinHandle<()>,
    events: Receiver<Event>,
    taken: AllTaken,
    runtime: tokio::runtime::Runtime,
    pub ledgers: Ledgers,
    pub damaged: u64,
    /// The passwords of the cameras that the catalog had at the start.
    pub passwords: Vec<(CameraId, Option<String>)>,
    _lock: std::fs::File,
}

impl Engine {
    /// Recovers what lies in a directory and goes to work, with so many frames of a camera in the air at most.
    pub fn start(dir: &Path, when_full: WhenFull, window: usize) -> anyhow::Result<Self> {
        let settings = SpoolSettings {
            durability: Durability::Disk,
            dir: dir.join("spool"),
            max_bytes: SEGMENTS * SEGMENT,
            segment: SEGMENT,
            when_full,
        };
        let (sender, events) = channel();
        let state = StateDir::open(&dir.join("state"))?;
        let (store, found) = spool::open(&settings, state.origin())?;
        let (handle, inbox) = spool::channel(settings.dir.clone());
        let (told, freed) = (sender.clone(), handle.clone());
        let listener = move |settled: Settled| {
            freed.settled(&settled.camera, settled.seqs);
            let word = match settled.outcome {
                Outcome::Stored(_) => "stored",
                Outcome::Lost { reason, .. } => reason.as_str(),
            };
            let _ = told.send(Event::Settled(settled.camera, settled.seqs, word));
        };
        let opened = state.recover(&found.cameras, listener, |_| {})?;
        let ledgers = Ledgers::new(opened.cameras.iter().map(|camera| camera.ledger.clone()));
        let password = |spec: &CameraSpec| spec.password.as_ref().map(|password| password.expose_secret().to_owned());
        let passwords = opened
            .cameras
            .iter()
            .filter_map(|known| Some((known.ledger.camera().clone(), password(known.spec.as_ref()?))));
        let passwords = passwords.collect();
        let taken = AllTaken::default();
        let books = Books {
            events: sender,
            journal: opened.journal.clone(),
            ledgers: ledgers.clone(),
            taken: taken.clone(),
            window,
        };
        let spool_thread = spool::start(store, &opened.resolved, inbox, books);
        Ok(Self {
            journal: opened.journal,
            journal_thread: opened.writer,
            spool: handle,
            spool_thread,
            events,
            taken,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            ledgers,
            damaged: found.damaged,
            passwords,
            _lock: opened.lock,
        })
    }

    /// Puts a camera into the catalog and opens its first session.
    pub fn add(&self, camera: &CameraId, password: Option<&str>) -> anyhow::Result<()> {
        self.put(camera, password)?;
        let session = self.ledgers.of(camera).next_session(UnixMicros(1), None, (640, 480));
        self.runtime.block_on(self.journal.open_session(session)).context("the journal has ended")
    }

    /// Puts a camera into the catalog, or changes it.
    pub fn put(&self, camera: &CameraId, password: Option<&str>) -> anyhow::Result<()> {
        let raw = match password {
            Some(password) => json!({ "url": "rtsp://192.0.2.1/main", "user": "u", "password": password }),
            None => json!({ "url": "rtsp://192.0.2.1/main" }),
        };
        let raw: RawCameraSpec = serde_json::from_value(raw)?;
        let spec = raw.validate(None).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let change = CatalogChange { puts: vec![(camera.clone(), spec, ManagedBy::Api)], ..CatalogChange::default() };
        self.runtime.block_on(self.journal.change_catalog(change))?;
        Ok(())
    }

    fn ledger(&self, camera: &CameraId) -> Arc<Ledger> {
        self.ledgers.of(camera)
    }

    fn event(&self) -> anyhow::Result<Event> {
        self.events.recv_timeout(PATIENCE).context("neither spool nor journal says a word")
    }

    /// Appends the camera's next frame and waits for what becomes of it; true where it is on disk.
    pub fn append(&self, camera: &CameraId, told: &mut impl FnMut(&Event)) -> anyhow::Result<(Seq, bool)> {
        let seq = self.ledger(camera).number(1, None).first;
        self.spool.append(record(camera, seq, FRAME));
        loop {
            let event = self.event()?;
            told(&event);
            match event {
                Event::Durable(_, durable) if durable == seq => return Ok((seq, true)),
                Event::Refused(refused) if refused == seq => return Ok((seq, false)),
                _ => {}
            }
        }
    }

    fn settle(&self, settled: Settled, told: &mut impl FnMut(&Event)) -> anyhow::Result<()> {
        let (camera, last) = (settled.camera.clone(), settled.seqs.last);
        self.journal.settle(self.ledger(&camera), settled);
        loop {
            let event = self.event()?;
            told(&event);
            if matches!(&event, Event::Settled(of, seqs, _) if *of == camera && seqs.last == last) {
                break;
            }
        }
        // The spool hears of it from the journal; what comes next finds it done.
        self.runtime.block_on(self.spool.barrier());
        Ok(())
    }

    /// Has a frame end as stored, unless it was dropped or lies beyond the window, and waits until both know.
    pub fn store(&self, camera: &CameraId, seq: Seq, told: &mut impl FnMut(&Event)) -> anyhow::Result<()> {
        if !self.taken.lock().expect("no holder panics").get_mut(camera).is_some_and(|taken| taken.waiting.remove(&seq))
        {
            return Ok(());
        }
        let Record { frame, key } = record(camera, seq, FRAME);
        let stored = Stored {
            destination: DestinationName::default(),
            key,
            captured_at: frame.captured_at,
            stored_at: UnixMicros::now(),
            bytes: frame.jpeg.len() as u64,
            crc32c: frame.crc32c,
            width: frame.width,
            height: frame.height,
            damaged: frame.damaged,
        };
        let outcome = Outcome::Stored(stored);
        let settled =
            Settled { camera: camera.clone(), seqs: SeqRange::one(seq), session: Some(1), outcome, counted: true };
        self.settle(settled, told)
    }

    /// Numbers frames that never came to the spool, and has them end.
    pub fn overrun(&self, camera: &CameraId, count: u64, told: &mut impl FnMut(&Event)) -> anyhow::Result<()> {
        let seqs = self.ledger(camera).number(count, None);
        self.settle(lost(camera, seqs, LostReason::Overrun, false), told)
    }

    /// All of a camera's unresolved frames, each read back and looked at; those that cannot be read are told apart.
    pub fn unresolved(&self, camera: &CameraId) -> anyhow::Result<(Vec<Seq>, Vec<String>)> {
        let (mut seqs, mut unreadable) = (Vec::new(), Vec::new());
        loop {
            self.spool.load(camera, seqs.last().copied().unwrap_or_default(), 7);
            let (frames, more) = loop {
                if let Event::Loaded(frames, more) = self.event()? {
                    break (frames, more);
                }
            };
            for spooled in frames {
                match self.runtime.block_on(self.spool.read(camera, spooled)) {
                    Ok(read) => {
                        let (frame, seq) = (&read.frame, spooled.seq);
                        ensure!((&frame.camera, frame.seq) == (camera, seq), "{camera} {seq} is read as {frame:?}");
                        let expected = record(camera, seq, frame.jpeg.len());
                        ensure!(expected.frame.jpeg == frame.jpeg, "{camera} {seq} has another picture");
                        ensure!(expected.key == read.key, "{camera} {seq} has the key {}", read.key);
                    }
                    Err(error) => unreadable.push(error.to_string()),
                }
                seqs.push(spooled.seq);
            }
            if !more {
                return Ok((seqs, unreadable));
            }
        }
    }

    /// Waits until both threads have done what they were given.
    pub fn barrier(&self) {
        self.runtime.block_on(async {
            self.spool.barrier().await;
            self.journal.barrier().await;
        });
    }

    pub fn totals(&self, camera: &CameraId) -> Totals {
        self.ledger(camera).totals()
    }

    /// Ends both in order, and tells what they said last.
    pub fn end(self, told: &mut impl FnMut(&Event)) -> anyhow::Result<()> {
        self.spool.close();
        self.spool_thread.join().ok().context("the spool's thread panicked")?;
        self.journal.close();
        self.journal_thread.join().ok().context("the journal's thread panicked")?;
        self.events.try_iter().for_each(|event| told(&event));
        Ok(())
    }
}
