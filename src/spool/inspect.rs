//! Looking into a spool without touching it: beside a running daemon, and where none can start.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use super::Place;
use super::disk::{DiskFile, open_regular};
use super::footer::{Part, TRAILER, Trailer};
use super::format::{NoHeader, RecordHeader, Salt, segment_name, segment_number};
use super::handle::stream;
use super::scan::{Records, read_footer, read_header, scan};
use crate::model::{CameraId, Origin, Seq, SeqRange, SessionNo, UnixMicros};

/// How often a segment is read before it counts as damaged.
const LOOKS: usize = 3;

/// A spool that is looked at.
#[derive(Clone, Debug)]
pub struct Inspector {
    dir: PathBuf,
    origin: Option<Origin>,
}

/// What a file in a spool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// A segment that is complete and says what it holds.
    Sealed,
    /// A segment that is being written, or was when the daemon ended.
    Open,
    /// A segment of which something cannot be read.
    Damaged,
    /// Something that this daemon has not written.
    Foreign,
}

impl SegmentState {
    /// The state as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Open => "open",
            Self::Damaged => "damaged",
            Self::Foreign => "foreign",
        }
    }
}

/// A file in a spool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentView {
    /// Its name.
    pub name: String,
    /// Its number, where the name has one.
    pub number: Option<u64>,
    /// What it is.
    pub state: SegmentState,
    /// What is wrong with it.
    pub detail: Option<String>,
    /// Its size, bytes.
    pub size: u64,
    /// Its frames, by camera: their seqs, rising and apart from each other.
    pub cameras: Vec<(CameraId, Vec<SeqRange>)>,
    /// When the oldest and the newest of them were captured.
    pub captured: Option<(UnixMicros, UnixMicros)>,
}

impl SegmentView {
    /// How many frames it holds.
    pub fn frames(&self) -> u64 {
        self.cameras.iter().flat_map(|(_, seqs)| seqs).map(SeqRange::len).sum()
    }
}

/// A frame in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordView {
    /// Whose it is.
    pub camera: CameraId,
    /// Its place in the camera's order.
    pub seq: Seq,
    /// Its session.
    pub session: SessionNo,
    /// When it was captured.
    pub captured_at: UnixMicros,
    /// Picture width and height, pixels.
    pub size: (u32, u32),
    /// Bytes of the JPEG file.
    pub bytes: u32,
    /// Its object's key.
    pub key: String,
    /// Where its record lies.
    pub place: Place,
}

/// What lies where records should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Its first byte in the segment.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// The frames that were there, as far as the segment's footer tells.
    pub frames: Vec<(CameraId, Seq)>,
}

/// What a segment's bytes are worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What it is.
    pub state: SegmentState,
    /// What is wrong with it as a whole.
    pub detail: Option<String>,
    /// Frames that are as they were written.
    pub frames: u64,
    /// Their JPEG bytes.
    pub bytes: u64,
    /// What is not.
    pub damage: Vec<Damage>,
}

/// Why a spool cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no spool in {0}: name its directory with --dir")]
    NoSpool(PathBuf),
    /// There is no such segment.
    #[error("there is no segment {number} in {dir}: see `framehaul spool ls`")]
    NoSegment {
        /// Its number.
        number: u64,
        /// The spool's directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("cannot read {path}: {error}")]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What a segment turns out to be, before its records are looked at.
struct Opened {
    file: Head,
    size: u64,
    salt: Salt,
    /// What its footer says.
    parts: Option<Vec<Part>>,
    /// The size that it was given; 0 where its header does not say.
    allocated: u64,
    /// What is wrong with its header.
    detail: Option<String>,
}

impl Inspector {
    /// Looks at the spool in `dir`. Segments of another `origin` are foreign; where it is not known, each segment is taken
    /// for what it says it is.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(dir: &Path, origin: Option<Origin>) -> Result<Self, InspectError> {
        let stream = stream(dir);
        match stream.metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(Self { dir: stream, origin }),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(InspectError::Io { path: stream, error }),
            _ => Err(InspectError::NoSpool(dir.to_owned())),
        }
    }

    /// The directory of its segments.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All files in it: segments by number, then what is none.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or a segment may not be opened.
    pub fn segments(&self) -> Result<Vec<SegmentView>, InspectError> {
        let (numbers, foreign) = self.list()?;
        let mut views = Vec::new();
        for number in numbers {
            // Gone in between: its frames have their outcomes.
            views.extend(self.view(number)?);
        }
        for name in foreign {
            let size = self.dir.join(&name).symlink_metadata().map_or(0, |metadata| metadata.len());
            views.push(SegmentView {
                name,
                number: None,
                state: SegmentState::Foreign,
                detail: Some("it has no segment's name".to_owned()),
                size,
                cameras: Vec::new(),
                captured: None,
            });
        }
        Ok(views)
    }

    /// The numbers of its segments, rising, with their sizes.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    pub fn numbers(&self) -> Result<Vec<(u64, u64)>, InspectError> {
        let size = |number| self.dir.join(segment_name(number)).symlink_metadata().map_or(0, |metadata| metadata.len());
        Ok(self.list()?.0.into_iter().map(|number| (number, size(number))).collect())
    }

    /// The frames of a segment, in the order in which they lie there, and what else does.
    ///
    /// # Errors
    ///
    /// When there is no such segment, or it cannot be read.
    pub fn records(&self, number: u64) -> Result<(Vec<RecordView>, Verdict), InspectError> {
        let mut records = Vec::new();
        let verdict = self.look(number, |record, _| match record {
            Some(record) => records.push(record),
            None => records.clear(),
        })?;
        Ok((records, verdict))
    }

    /// Reads all of a segment and checks every checksum; `progress` is told how many bytes of it are done.
    ///
    /// # Errors
    ///
    /// When there is no such segment, or it cannot be read.
    pub fn verify(&self, number: u64, mut progress: impl FnMut(u64)) -> Result<Verdict, InspectError> {
        self.look(number, |_, done| progress(done))
    }

    fn list(&self) -> Result<(Vec<u64>, Vec<String>), InspectError> {
        let failed = |error| InspectError::Io { path: self.dir.clone(), error };
        let (mut numbers, mut foreign) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            match segment_number(&name) {
                Some(number) => numbers.push(number),
                None => foreign.push(name),
            }
        }
        numbers.sort_unstable();
        foreign.sort_unstable();
        Ok((numbers, foreign))
    }

    fn view(&self, number: u64) -> Result<Option<SegmentView>, InspectError> {
        let name = segment_name(number);
        let path = self.dir.join(&name);
        let mut view = SegmentView {
            size: path.symlink_metadata().map_or(0, |metadata| metadata.len()),
            name,
            number: Some(number),
            state: SegmentState::Sealed,
            detail: None,
            cameras: Vec::new(),
            captured: None,
        };
        let looked = self.again(
            || {
                let opened = match self.open_segment(number)? {
                    Err(what) => return Ok((SegmentState::Foreign, Some(what), Vec::new())),
                    Ok(opened) => opened,
                };
                if let Some(parts) = opened.parts {
                    return Ok((SegmentState::Sealed, None, parts));
                }
                let scanned = scan(&opened.file, opened.salt).map_err(|error| self.refused(number, error))?;
                let (state, detail) = opened.without_footer(scanned.damaged, scanned.torn);
                Ok((state, detail, scanned.parts))
            },
            |(state, ..)| *state == SegmentState::Damaged,
        );
        let parts = match looked {
            Err(InspectError::NoSegment { .. }) => return Ok(None),
            Err(InspectError::Io { error, .. }) if error.kind() != ErrorKind::PermissionDenied => {
                (view.state, view.detail) = (SegmentState::Damaged, Some(format!("it cannot be read: {error}")));
                return Ok(Some(view));
            }
            Err(error) => return Err(error),
            Ok((state, detail, parts)) => {
                (view.state, view.detail) = (state, detail);
                parts
            }
        };
        let oldest = parts.iter().map(|part| part.summary.oldest).min();
        view.captured = oldest.zip(parts.iter().map(|part| part.summary.newest).max());
        view.cameras =
            parts.into_iter().map(|part| (part.camera, ranges(part.entries.iter().map(|entry| entry.seq)))).collect();
        Ok(Some(view))
    }

    /// Opens a segment; a text says why it is none of ours.
    fn open_segment(&self, number: u64) -> Result<Result<Opened, String>, InspectError> {
        let path = self.dir.join(segment_name(number));
        let file = match open_regular(&path, File::options().read(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::IsADirectory => {
                return Ok(Err("it is no regular file".to_owned()));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(InspectError::NoSegment { number, dir: self.dir.clone() });
            }
            Err(error) => return Err(InspectError::Io { path, error }),
        };
        self.examine(&file, number).map_err(|error| InspectError::Io { path, error })
    }

    fn examine(&self, file: &File, number: u64) -> io::Result<Result<Opened, String>> {
        let size = file.len()?;
        let header = read_header(file)?;
        let (mut allocated, mut detail) = (0, None);
        let origin = match (header, &self.origin) {
            (Ok(header), Some(origin)) if header.origin != *origin => {
                return Ok(Err(format!("its origin is {}", header.origin.as_str())));
            }
            (Ok(header), _) if header.number != number => {
                return Ok(Err(format!("it was segment {}", header.number)));
            }
            (Ok(header), _) => {
                allocated = header.allocated;
                header.origin
            }
            (Err(NoHeader::Version(version)), _) => return Ok(Err(format!("its format is version {version}"))),
            (Err(NoHeader::Blank), Some(origin)) => {
                allocated = size;
                origin.clone()
            }
            (Err(NoHeader::Damaged), Some(origin)) => {
                detail = Some("its header is damaged".to_owned());
                origin.clone()
            }
            (Err(_), None) => return Ok(Err("it does not say whose it is".to_owned())),
        };
        let salt = Salt::new(&origin, number);
        let (parts, end) = match read_footer(file, salt)? {
            Some((parts, _)) => (Some(parts), footer_start(file, salt, size)?),
            None => (None, size),
        };
        let file = Head { file: file.try_clone()?, end };
        if detail.is_some() && parts.is_none() && scan(&file, salt)?.parts.is_empty() {
            return Ok(Err("it is no segment".to_owned()));
        }
        Ok(Ok(Opened { file, size, salt, parts, allocated, detail }))
    }

    /// Goes through a segment's records, telling `each` of them and of the bytes that are done. Where it has to begin again,
    /// it tells of none at 0.
    fn look(&self, number: u64, mut each: impl FnMut(Option<RecordView>, u64)) -> Result<Verdict, InspectError> {
        let look = || {
            each(None, 0);
            match self.open_segment(number)? {
                Ok(opened) => opened.go_through(number, &mut each).map_err(|error| self.refused(number, error)),
                Err(what) => {
                    let (state, detail) = (SegmentState::Foreign, Some(what));
                    Ok(Verdict { state, detail, frames: 0, bytes: 0, damage: Vec::new() })
                }
            }
        };
        self.again(look, |verdict| verdict.state == SegmentState::Damaged)
    }

    /// Looks again at what seems damaged: a record that is being written does so for a moment, and a segment that is being
    /// sealed becomes shorter.
    fn again<T>(
        &self,
        mut look: impl FnMut() -> Result<T, InspectError>,
        seems_damaged: impl Fn(&T) -> bool,
    ) -> Result<T, InspectError> {
        for _ in 1..LOOKS {
            match look() {
                Ok(seen) if seems_damaged(&seen) => {}
                Err(InspectError::Io { error, .. }) if error.kind() == ErrorKind::UnexpectedEof => {}
                seen => return seen,
            }
        }
        look()
    }

    fn refused(&self, number: u64, error: io::Error) -> InspectError {
        InspectError::Io { path: self.dir.join(segment_name(number)), error }
    }
}

impl Opened {
    /// What it is, without a footer, where so many stretches between its records are none, and what follows is `torn`.
    fn without_footer(&self, damaged: u64, torn: bool) -> (SegmentState, Option<String>) {
        let detail = match (&self.detail, damaged) {
            (Some(detail), _) => Some(detail.clone()),
            (None, 1..) => Some(format!("{damaged} stretches of it are damaged")),
            // The last write of a segment that was being written may be unfinished; what was sealed has lost its end.
            (None, 0) => (torn && self.size != self.allocated).then(|| "its end is damaged".to_owned()),
        };
        (if detail.is_some() { SegmentState::Damaged } else { SegmentState::Open }, detail)
    }

    fn go_through(&self, number: u64, each: &mut impl FnMut(Option<RecordView>, u64)) -> io::Result<Verdict> {
        let mut records = Records::new(&self.file, self.salt)?;
        let mut verdict =
            Verdict { state: SegmentState::Sealed, detail: None, frames: 0, bytes: 0, damage: Vec::new() };
        let mut sound = Vec::new();
        loop {
            let (end, damaged) = (records.end, records.damaged);
            let Some((entry, header)) = records.next()? else { break };
            if records.damaged > damaged {
                let length = u64::from(entry.offset) - end;
                verdict.damage.push(Damage { offset: end, length, frames: Vec::new() });
            }
            verdict.frames += 1;
            verdict.bytes += u64::from(header.jpeg_length);
            sound.push(entry.offset);
            let place = Place { segment: number, offset: entry.offset, length: entry.length };
            each(Some(view_of(header, place)), records.end);
        }
        let (end, torn) = (records.end, records.torn);
        let length = self.file.end.saturating_sub(end);
        let Some(parts) = &self.parts else {
            let stretches = verdict.damage.len() as u64;
            (verdict.state, verdict.detail) = self.without_footer(stretches, torn);
            if torn && self.size != self.allocated {
                verdict.damage.push(Damage { offset: end, length, frames: Vec::new() });
            }
            return Ok(verdict);
        };
        if length > 0 {
            verdict.damage.push(Damage { offset: end, length, frames: Vec::new() });
        }
        // Offsets rise, as the records lie.
        for part in parts {
            for entry in part.entries.iter().filter(|entry| sound.binary_search(&entry.offset).is_err()) {
                let offset = u64::from(entry.offset);
                let over = |damage: &Damage| (damage.offset..damage.offset + damage.length).contains(&offset);
                let frame = (part.camera.clone(), entry.seq);
                match verdict.damage.iter_mut().find(|damage| over(damage)) {
                    Some(damage) => damage.frames.push(frame),
                    // The footer tells of a record where another one lies.
                    None => {
                        let length = u64::from(entry.length);
                        verdict.damage.push(Damage { offset, length, frames: vec![frame] });
                    }
                }
            }
        }
        verdict.detail = self.detail.clone();
        if !verdict.damage.is_empty() || verdict.detail.is_some() {
            verdict.state = SegmentState::Damaged;
        }
        Ok(verdict)
    }
}

fn view_of(header: RecordHeader, place: Place) -> RecordView {
    RecordView {
        camera: header.camera,
        seq: header.seq,
        session: header.session,
        captured_at: header.captured_at,
        size: (header.width, header.height),
        bytes: header.jpeg_length,
        key: header.key,
        place,
    }
}

/// Where a segment's footer begins, of which it is known that there is one.
fn footer_start(file: &File, salt: Salt, size: u64) -> io::Result<u64> {
    let mut bytes = [0; TRAILER as usize];
    DiskFile::read_at(file, &mut bytes, size - TRAILER)?;
    Ok(Trailer::parse(&bytes, salt, size).map_or(size, |trailer| trailer.start))
}

/// Rising seqs as ranges.
fn ranges(seqs: impl Iterator<Item = Seq>) -> Vec<SeqRange> {
    let mut ranges: Vec<SeqRange> = Vec::new();
    for seq in seqs {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == seq => range.last = seq,
            _ => ranges.push(SeqRange::one(seq)),
        }
    }
    ranges
}

/// The beginning of a file, which cannot be written.
struct Head {
    file: File,
    end: u64,
}

impl DiskFile for Head {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn write_at(&self, _: &mut [IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use tempfile::TempDir;

    use super::super::testing::*;
    use super::super::{RealDisk, Store};
    use super::*;

    /// A spool of 34 frames of a and 4 of b in three segments, the last one sealed or open.
    fn spool(sealed: bool) -> (TempDir, Inspector) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(&stream(dir.path()));
        fill(&mut store, "a", 1..=20, 1_000);
        fill(&mut store, "b", 5..=8, 700);
        fill(&mut store, "a", 22..=35, 1_000);
        if sealed {
            store.close().unwrap();
        }
        let inspector = Inspector::open(dir.path(), Some(origin())).unwrap();
        (dir, inspector)
    }

    fn frames(views: &[SegmentView]) -> BTreeMap<String, Vec<SeqRange>> {
        let mut frames = BTreeMap::<String, Vec<SeqRange>>::new();
        for (camera, seqs) in views.iter().flat_map(|view| &view.cameras) {
            let all = frames.entry(camera.to_string()).or_default();
            all.extend(seqs);
        }
        frames.values_mut().for_each(|all| *all = ranges(all.iter().flat_map(|range| range.first..=range.last)));
        frames
    }

    fn states(views: &[SegmentView]) -> Vec<&'static str> {
        views.iter().map(|view| view.state.as_str()).collect()
    }

    #[test]
    fn segments_say_what_they_hold_and_nothing_is_touched() {
        for sealed in [false, true] {
            let (dir, inspector) = spool(sealed);
            fs::write(inspector.dir().join("notes.txt"), "x").unwrap();
            fs::write(inspector.dir().join("000000000077.segment"), "x".repeat(900)).unwrap();
            fs::copy(inspector.dir().join(segment_name(1)), inspector.dir().join(segment_name(78))).unwrap();
            let contents = |inspector: &Inspector| -> BTreeMap<_, _> {
                let files = fs::read_dir(inspector.dir()).unwrap().map(|entry| entry.unwrap().path());
                files.map(|path| (fs::read(&path).unwrap(), path)).map(|(content, path)| (path, content)).collect()
            };
            let before = contents(&inspector);
            let views = inspector.segments().unwrap();
            let last = if sealed { "sealed" } else { "open" };
            assert_eq!(states(&views), ["sealed", "sealed", last, "foreign", "foreign", "foreign"]);
            assert_eq!((views[0].number, views[5].number), (Some(1), None));
            let expected = [("a".to_owned(), vec![range(1, 20), range(22, 35)]), ("b".to_owned(), vec![range(5, 8)])];
            assert_eq!(frames(&views), BTreeMap::from(expected));
            let captured = |seq: i64| UnixMicros(1_000_000 + seq * 40_000);
            assert_eq!(views[0].captured.unwrap().0, captured(1));
            assert_eq!(views[2].captured.unwrap().1, captured(35));

            let mut seqs = Vec::new();
            for number in 1..=3 {
                let (records, verdict) = inspector.records(number).unwrap();
                assert_eq!(verdict.state, views[number as usize - 1].state);
                assert_eq!((verdict.frames, verdict.damage.len()), (records.len() as u64, 0));
                assert_eq!(inspector.verify(number, |_| ()).unwrap(), verdict);
                for view in &records {
                    let frame = record(view.camera.as_str(), view.seq, view.bytes as usize);
                    assert_eq!((view.session, view.captured_at), (frame.frame.session, frame.frame.captured_at));
                    assert_eq!((&view.key, view.size), (&frame.key, (64, 48)));
                    assert_eq!(view.place.segment, number);
                }
                seqs.extend(records.into_iter().filter(|view| view.camera == camera("a")).map(|view| view.seq));
            }
            assert_eq!(ranges(seqs.into_iter()), [range(1, 20), range(22, 35)]);
            assert_eq!(contents(&inspector), before);

            // Somebody else's spool is foreign; where nobody knows whose it should be, it is taken for what it says.
            let other = Inspector::open(dir.path(), Some(Origin::from_random([9; 5]))).unwrap();
            assert_eq!(states(&other.segments().unwrap()), ["foreign"; 6]);
            assert_eq!(other.verify(1, |_| ()).unwrap().state, SegmentState::Foreign);
            let any = Inspector::open(dir.path(), None).unwrap();
            assert_eq!(states(&any.segments().unwrap()), states(&views));
        }
    }

    #[test]
    fn what_is_not_there_is_said_to_be_missing() {
        let (dir, inspector) = spool(true);
        assert!(matches!(inspector.verify(9, |_| ()), Err(InspectError::NoSegment { number: 9, .. })));
        assert!(matches!(Inspector::open(&dir.path().join("x"), None), Err(InspectError::NoSpool(_))));
        assert!(matches!(Inspector::open(inspector.dir(), None), Err(InspectError::NoSpool(_))));
    }

    #[test]
    fn every_flipped_byte_is_found_and_costs_the_frame_it_touches_at_most() {
        for sealed in [true, false] {
            let (_dir, inspector) = spool(sealed);
            let (records, whole) = inspector.records(3).unwrap();
            let path = inspector.dir().join(segment_name(3));
            let content = fs::read(&path).unwrap();
            let end = records.last().map(|record| record.place.offset + record.place.length).unwrap() as usize;
            // Padding carries nothing.
            let padding = |at: usize| {
                records.iter().any(|record| {
                    let header = 52 + 1 + record.camera.as_str().len() + 2 + record.key.len();
                    let picture_end = record.place.offset as usize + header + record.bytes as usize;
                    (picture_end..(record.place.offset + record.place.length) as usize).contains(&at)
                })
            };
            let checked = if sealed { content.len() } else { end };
            let mut flipped = 0;
            for at in (0..checked).filter(|at| *at < 200 || at % 13 == 0 || *at > end).filter(|at| !padding(*at)) {
                let mut bad = content.clone();
                bad[at] ^= 1 << (at % 8);
                fs::write(&path, bad).unwrap();
                let verdict = inspector.verify(3, |_| ()).unwrap();
                // The header's CRC32C covers 60 bytes of it; what stands in the open segment's last record may be unfinished.
                let in_last = !sealed && at >= records.last().unwrap().place.offset as usize;
                let found = verdict.state == SegmentState::Damaged;
                assert_eq!(found, !in_last, "byte {at}: {verdict:?}");
                let touched = u64::from((64..end).contains(&at));
                assert_eq!(verdict.frames, whole.frames - touched, "byte {at}: {verdict:?}");
                if touched == 1 && sealed {
                    let over = |record: &&RecordView| record.place.offset as usize <= at;
                    let hit = records.iter().rev().find(over).unwrap();
                    assert_eq!(verdict.damage[0].frames, [(hit.camera.clone(), hit.seq)], "byte {at}");
                }
                flipped += 1;
            }
            assert!(flipped > 800, "{flipped}");
        }
    }

    #[test]
    fn every_cut_is_found() {
        let (_dir, inspector) = spool(true);
        let (records, _) = inspector.records(3).unwrap();
        let path = inspector.dir().join(segment_name(3));
        let content = fs::read(&path).unwrap();
        for length in (0..content.len()).filter(|length| length % 37 == 0 || *length < 70) {
            fs::write(&path, &content[..length]).unwrap();
            let verdict = inspector.verify(3, |_| ()).unwrap();
            let whole = records.iter().filter(|r| (r.place.offset + r.place.length) as usize <= length).count();
            assert_eq!(verdict.frames, whole as u64, "{length} bytes");
            assert_ne!(verdict.state, SegmentState::Sealed, "{length} bytes");
            let view = &inspector.segments().unwrap()[2];
            assert_eq!((view.state, view.frames()), (verdict.state, verdict.frames), "{length} bytes");
        }
    }

    #[test]
    fn beside_a_daemon_that_writes_nothing_looks_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(RealDisk::open(&stream(dir.path())).unwrap(), settings(64)).unwrap();
        store.resolve(&BTreeMap::new());
        let inspector = Inspector::open(dir.path(), Some(origin())).unwrap();
        let (ended, written) = (AtomicBool::new(false), 600);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for seq in 1..=written {
                    fill(&mut store, "a", seq..=seq, 3_000);
                    if seq > 20 {
                        store.settle(&camera("a"), range(seq - 20, seq - 20));
                    }
                }
                ended.store(true, Relaxed);
            });
            let mut looks = 0;
            while !ended.load(Relaxed) {
                for view in inspector.segments().unwrap() {
                    assert!(matches!(view.state, SegmentState::Sealed | SegmentState::Open), "{view:?}");
                    match inspector.verify(view.number.unwrap(), |_| ()) {
                        Err(InspectError::NoSegment { .. }) => {}
                        verdict => assert_ne!(verdict.unwrap().state, SegmentState::Damaged),
                    }
                    looks += 1;
                }
            }
            assert!(looks > 10, "{looks}");
        });
    }
}
