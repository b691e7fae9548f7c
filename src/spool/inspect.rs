//! Looking into a spool without touching it: beside a running daemon, and where none can start.

mod view;

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

pub use self::view::{Damage, InspectError, RecordView, SegmentState, SegmentView, Verdict};
use super::Place;
use super::disk::{DiskFile, open_regular};
use super::footer::{Part, TRAILER, Trailer};
use super::format::{NoHeader, RecordHeader, Salt, segment_name, segment_number};
use super::handle::stream;
use super::scan::{Records, read_footer, read_header, scan};
use crate::model::{DestinationName, Origin, Seq, SeqRange};

/// How often a segment is read before it counts as damaged.
const LOOKS: usize = 3;

/// A spool that is looked at.
#[derive(Clone, Debug)]
pub struct Inspector {
    dir: PathBuf,
    origin: Option<Origin>,
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
    /// Looks at a destination's part of the spool in `dir`. Segments of another `origin` are foreign; where it is not
    /// known, each segment is taken for what it says it is.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn open(dir: &Path, name: &DestinationName, origin: Option<Origin>) -> Result<Self, InspectError> {
        let stream = stream(dir, name);
        match stream.metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(Self { dir: stream, origin }),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(InspectError::Io { path: stream, error }),
            _ => Err(InspectError::NoSpool { dir: dir.to_owned(), name: name.clone() }),
        }
    }

    /// All parts of the spool in `dir`, by the names of their destinations: whatever is called one and holds segments,
    /// and `default` also where it holds none.
    ///
    /// # Errors
    ///
    /// When there is no spool.
    pub fn open_all(dir: &Path, origin: Option<&Origin>) -> Result<Vec<(DestinationName, Self)>, InspectError> {
        let default = DestinationName::default();
        let listed = match std::fs::read_dir(dir) {
            Ok(listed) => listed.collect::<io::Result<Vec<_>>>(),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let listed = listed.map_err(|error| InspectError::Io { path: dir.to_owned(), error })?;
        let names = listed.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut parts: Vec<(DestinationName, Self)> = Vec::new();
        for name in names {
            match Self::open(dir, &name, origin.cloned()) {
                Ok(part) if name == default || !part.list()?.0.is_empty() => parts.push((name, part)),
                Ok(_) | Err(InspectError::NoSpool { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if parts.is_empty() {
            return Err(InspectError::NoSpool { dir: dir.to_owned(), name: default });
        }
        parts.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(parts)
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
        let file = match open_regular(CWD, &path, OFlags::RDONLY) {
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
            (Err(NoHeader::Version(version, _)), _) => return Ok(Err(format!("its format is version {version}"))),
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

    /// Goes through a segment's records, telling `each` of them and of the bytes that are done. Where it has to begin
    /// again, it tells of none at 0.
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

    /// Looks again at what seems damaged: a record that is being written does so for a moment, and a segment that is
    /// being sealed becomes shorter.
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
mod tests;
