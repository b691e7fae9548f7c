//! Looking into a spool without touching it: for people, beside a running daemon or in its stead.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::disk::DiskFile as _;
use super::footer::Part;
use super::format::{NoHeader, Salt, SegmentHeader, segment_name, segment_number};
use super::handle::stream;
use super::scan::{Records, Scanned, read_footer, read_header, scan};
use crate::model::{CameraId, Origin, Seq, SeqRange, SessionNo, UnixMicros};

/// A segment may be written, sealed or copied forward while it is looked at: then it is looked at again.
const LOOKS: usize = 3;

/// What a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// It has its footer, and is written no more.
    Sealed,
    /// It has none: it is being written, or was when the daemon ended without a word.
    Open,
    /// Something of it is not what was written.
    Damaged,
    /// It is no segment of this spool.
    Foreign,
}

impl SegmentState {
    /// The state as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Open => "open",
            Self::Damaged => "damaged",
            Self::Foreign => "foreign",
        }
    }
}

/// A camera's frames in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CameraReport {
    /// Whose frames.
    pub camera: CameraId,
    /// Their first and last seq; not all between them need be there.
    pub seqs: SeqRange,
    /// Those that are: rising, apart from each other.
    pub runs: Vec<SeqRange>,
    /// How many.
    pub records: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// When the first was captured.
    pub oldest: UnixMicros,
    /// When the last was.
    pub newest: UnixMicros,
    /// The session of the last.
    pub session: SessionNo,
}

/// A file of a spool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentReport {
    /// Where it lies.
    pub path: PathBuf,
    /// Its number; `None` where it is not named as a segment is.
    pub number: Option<u64>,
    /// What it is.
    pub state: SegmentState,
    /// Its size, bytes.
    pub size: u64,
    /// Whose it is, where it says so.
    pub origin: Option<Origin>,
    /// Its sound frames, whether they are still wanted or not, by camera.
    pub cameras: Vec<CameraReport>,
    /// Stretches that are not what was written, as far as was looked.
    pub damaged: u64,
    /// What is wrong with it.
    pub detail: Option<String>,
}

impl SegmentReport {
    /// How many frames it holds.
    pub fn records(&self) -> u64 {
        self.cameras.iter().map(|camera| camera.records).sum()
    }

    /// When the first of its frames was captured, and the last.
    pub fn captured_at(&self) -> Option<(UnixMicros, UnixMicros)> {
        let first = self.cameras.iter().map(|camera| camera.oldest).min()?;
        let last = self.cameras.iter().map(|camera| camera.newest).max()?;
        Some((first, last))
    }
}

/// A record of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordReport {
    /// Whose frame.
    pub camera: CameraId,
    /// Which one.
    pub seq: Seq,
    /// Bytes from the segment's beginning.
    pub offset: u64,
    /// Bytes of the whole record.
    pub length: u64,
    /// What it says; `None` where it is damaged, and only the segment's footer tells of it.
    pub content: Option<RecordContent>,
}

/// What a sound record says of its frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordContent {
    /// The session it was captured in.
    pub session: SessionNo,
    /// When it was grabbed.
    pub captured_at: UnixMicros,
    /// Picture width, pixels.
    pub width: u32,
    /// Picture height, pixels.
    pub height: u32,
    /// Bytes of the JPEG file.
    pub bytes: u32,
    /// Its CRC32C.
    pub crc32c: u32,
    /// Its object's key.
    pub key: String,
}

/// What a check of a whole segment found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The segment; its counts are those of what is sound.
    pub segment: SegmentReport,
    /// Frames that its footer tells of and that are damaged.
    pub lost: Vec<(CameraId, Seq)>,
}

/// The files of the spool in `dir`, by number. Of sealed segments only the footers are read.
///
/// # Errors
///
/// When there is no spool, or the disk does not let us read.
pub fn segments(dir: &Path) -> io::Result<Vec<SegmentReport>> {
    let files = files(dir)?;
    let origin = newest_origin(&files);
    each(files, |path, number| look(path, number, origin.as_ref(), false).map(|(report, _)| report))
}

/// Reads every byte of the spool in `dir` and checks every checksum. `progress` hears after each segment how many bytes
/// were read, and how many there are in all.
///
/// # Errors
///
/// When there is no spool, or the disk does not let us read.
pub fn verify(dir: &Path, mut progress: impl FnMut(u64, u64)) -> io::Result<Vec<Verified>> {
    let files = files(dir)?;
    let origin = newest_origin(&files);
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let total = files.iter().map(|(_, path)| size(path)).sum();
    let mut read = 0;
    each(files, |path, number| {
        let size = size(path);
        let (segment, lost) = look(path, number, origin.as_ref(), true)?;
        read += size;
        progress(read, total);
        Ok(Verified { segment, lost })
    })
}

/// The records of one segment of the spool in `dir`, in the order in which they lie there.
///
/// # Errors
///
/// `NotFound` where there is no such segment, or what the disk says.
pub fn records(dir: &Path, number: u64) -> io::Result<Vec<RecordReport>> {
    let files = files(dir)?;
    let origin = newest_origin(&files);
    let file = File::open(stream(dir).join(segment_name(number)))?;
    let Some(origin) = read_header(&file)?.ok().map(|header| header.origin).or(origin) else { return Ok(Vec::new()) };
    let salt = Salt::new(&origin, number);
    let mut found = Vec::new();
    let mut sound = Records::new(&file, salt)?;
    while let Some((entry, header)) = sound.next()? {
        let content = RecordContent {
            session: header.session,
            captured_at: header.captured_at,
            width: header.width,
            height: header.height,
            bytes: header.jpeg_length,
            crc32c: header.jpeg_crc32c,
            key: header.key,
        };
        let (camera, seq, offset, length) = (header.camera, entry.seq, entry.offset.into(), entry.length.into());
        found.push(RecordReport { camera, seq, offset, length, content: Some(content) });
    }
    let known: BTreeSet<u64> = found.iter().map(|record| record.offset).collect();
    for part in read_footer(&file, salt)?.map(|(parts, _)| parts).unwrap_or_default() {
        for entry in part.entries.iter().filter(|entry| !known.contains(&entry.offset.into())) {
            let (camera, seq, offset, length) =
                (part.camera.clone(), entry.seq, entry.offset.into(), entry.length.into());
            found.push(RecordReport { camera, seq, offset, length, content: None });
        }
    }
    found.sort_by_key(|record| record.offset);
    Ok(found)
}

type Files = Vec<(Option<u64>, PathBuf)>;

fn files(dir: &Path) -> io::Result<Files> {
    let mut files = Vec::new();
    for entry in fs::read_dir(stream(dir))? {
        let entry = entry?;
        files.push((segment_number(&entry.file_name().to_string_lossy()), entry.path()));
    }
    files.sort();
    Ok(files)
}

/// Whose spool it is: the newest segment's that says so.
fn newest_origin(files: &Files) -> Option<Origin> {
    let header = |path: &PathBuf| read_header(&File::open(path).ok()?).ok()?.ok();
    files.iter().rev().find_map(|(number, path)| number.and_then(|_| header(path))).map(|header| header.origin)
}

/// Calls `look` for each file, but for those that have gone since.
fn each<T>(files: Files, mut look: impl FnMut(&Path, Option<u64>) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut found = Vec::new();
    for (number, path) in files {
        match look(&path, number) {
            Ok(report) => found.push(report),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn look(
    path: &Path,
    number: Option<u64>,
    origin: Option<&Origin>,
    whole: bool,
) -> io::Result<(SegmentReport, Vec<(CameraId, Seq)>)> {
    let mut report = SegmentReport {
        path: path.to_owned(),
        number,
        state: SegmentState::Foreign,
        size: fs::symlink_metadata(path)?.len(),
        origin: None,
        cameras: Vec::new(),
        damaged: 0,
        detail: None,
    };
    let Some(number) = number else {
        report.detail = Some("not named as a segment is".to_owned());
        return Ok((report, Vec::new()));
    };
    let mut lost = Vec::new();
    for left in (0..LOOKS).rev() {
        report.damaged = 0;
        match once(path, number, origin, whole, &mut report) {
            Ok(found) => lost = found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
            Err(error) => {
                report.state = SegmentState::Damaged;
                report.damaged = 1;
                report.detail = Some(error.to_string());
            }
        }
        if left == 0 || report.state != SegmentState::Damaged {
            break;
        }
    }
    Ok((report, lost))
}

fn once(
    path: &Path,
    number: u64,
    origin: Option<&Origin>,
    whole: bool,
    report: &mut SegmentReport,
) -> io::Result<Vec<(CameraId, Seq)>> {
    let file = File::open(path)?;
    report.size = file.len()?;
    let header = read_header(&file)?;
    let of = header.as_ref().ok().map(|header| &header.origin).or(origin);
    report.origin = of.cloned();
    if let Some(why) = foreign(&header, number, origin) {
        (report.state, report.detail) = (SegmentState::Foreign, Some(why));
        return Ok(Vec::new());
    }
    let salt = of.map(|origin| Salt::new(origin, number));
    let footer = salt.map(|salt| read_footer(&file, salt)).transpose()?.flatten().map(|(parts, _)| parts);
    let scanned = match salt {
        Some(salt) if whole || footer.is_none() => Some(scan(&file, salt)?),
        _ => None,
    };
    let parts = scanned.as_ref().map(|scanned| &scanned.parts).or(footer.as_ref());
    report.cameras = parts.into_iter().flatten().map(camera_report).collect();
    let lost = match (&footer, &scanned) {
        (Some(footer), Some(scanned)) => missing(footer, &scanned.parts),
        _ => Vec::new(),
    };
    let whole_size = header.as_ref().is_ok_and(|header| header.allocated == report.size);
    report.detail = match (&header, &footer, &scanned) {
        (Err(NoHeader::Blank), None, Some(scanned)) if scanned.parts.is_empty() && !scanned.torn => None,
        (Err(NoHeader::Blank), None, None) if report.size == 0 => None,
        (Err(_), None, scanned) if scanned.as_ref().is_none_or(|scanned| scanned.parts.is_empty()) => {
            (report.state, report.detail) = (SegmentState::Foreign, Some("it is no segment".to_owned()));
            return Ok(lost);
        }
        (Err(_), ..) => Some("its header is damaged".to_owned()),
        (Ok(_), Some(_), _) if !lost.is_empty() => Some(format!("{} frames are damaged", lost.len())),
        (Ok(_), None, Some(scanned)) if scanned.damaged > 0 => Some("frames are damaged".to_owned()),
        (Ok(_), None, Some(scanned)) if scanned.torn && !whole_size => Some("its footer is damaged".to_owned()),
        _ => None,
    };
    report.damaged = match (&footer, &scanned) {
        (Some(_), _) => lost.len() as u64,
        // What lies behind the last sound record of a segment that is being written is a record that is being written.
        (None, Some(Scanned { damaged, torn, .. })) => damaged + u64::from(*torn && !whole_size),
        (None, None) => 0,
    } + u64::from(header.is_err() && report.detail.is_some());
    report.state = match (&report.detail, footer) {
        (Some(_), _) => SegmentState::Damaged,
        (None, Some(_)) => SegmentState::Sealed,
        (None, None) => SegmentState::Open,
    };
    Ok(lost)
}

fn foreign(header: &Result<SegmentHeader, NoHeader>, number: u64, origin: Option<&Origin>) -> Option<String> {
    match header {
        Ok(header) if origin.is_some_and(|origin| header.origin != *origin) => {
            Some(format!("its origin is {}", header.origin.as_str()))
        }
        Ok(header) if header.number != number => Some(format!("it was segment {}", header.number)),
        Err(NoHeader::Version(version)) => Some(format!("its format is version {version}")),
        _ => None,
    }
}

fn missing(footer: &[Part], sound: &[Part]) -> Vec<(CameraId, Seq)> {
    let sound: BTreeSet<(&CameraId, Seq)> =
        sound.iter().flat_map(|part| part.entries.iter().map(|entry| (&part.camera, entry.seq))).collect();
    let all = footer.iter().flat_map(|part| part.entries.iter().map(|entry| (&part.camera, entry.seq)));
    all.filter(|frame| !sound.contains(frame)).map(|(camera, seq)| (camera.clone(), seq)).collect()
}

fn camera_report(part: &Part) -> CameraReport {
    let summary = &part.summary;
    CameraReport {
        camera: part.camera.clone(),
        seqs: SeqRange { first: summary.first, last: summary.last },
        runs: runs(part.entries.iter().map(|entry| entry.seq)),
        records: summary.count.into(),
        bytes: summary.bytes,
        oldest: summary.oldest,
        newest: summary.newest,
        session: summary.session,
    }
}

/// Rising seqs as ranges.
fn runs(seqs: impl Iterator<Item = Seq>) -> Vec<SeqRange> {
    let mut runs: Vec<SeqRange> = Vec::new();
    for seq in seqs {
        match runs.last_mut() {
            Some(run) if run.last + 1 == seq => run.last = seq,
            _ => runs.push(SeqRange::one(seq)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn spool(dir: &Path) -> PathBuf {
        let stream = stream(dir);
        let (mut store, _) = open(&stream);
        fill(&mut store, "a", 1..=20, 1000);
        fill(&mut store, "b", 3..=4, 500);
        stream
    }

    fn states(dir: &Path) -> Vec<SegmentState> {
        segments(dir).unwrap().iter().map(|segment| segment.state).collect()
    }

    #[test]
    fn it_tells_what_there_is_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let stream = spool(dir.path());
        let content = |n| fs::read(stream.join(segment_name(n))).unwrap();
        let before = [content(1), content(2)];
        let found = segments(dir.path()).unwrap();
        assert_eq!(states(dir.path()), [SegmentState::Sealed, SegmentState::Open]);
        assert_eq!((found[0].number, found[0].origin.clone(), found[0].damaged), (Some(1), Some(origin()), 0));
        assert_eq!(found[0].records() + found[1].records(), 22);
        let b = found[1].cameras.iter().find(|report| report.camera == camera("b")).unwrap();
        assert_eq!((b.seqs, b.records, b.oldest), (range(3, 4), 2, record("b", 3, 1).frame.captured_at));
        assert_eq!(found[0].captured_at().unwrap().0, record("a", 1, 1).frame.captured_at);
        let one = records(dir.path(), 1).unwrap();
        assert_eq!(one.len() as u64, found[0].records());
        let content_of_second = one[1].content.as_ref().unwrap();
        assert_eq!(
            (one[1].seq, content_of_second.bytes, content_of_second.key.as_str()),
            (2, 1000, "a/000000000002.jpg")
        );
        let mut told = Vec::new();
        let verified = verify(dir.path(), |read, all| told.push((read, all))).unwrap();
        assert!(verified.iter().all(|verified| verified.lost.is_empty() && verified.segment.damaged == 0));
        assert_eq!(told.len(), 2);
        assert_eq!(told[1].0, told[1].1);
        assert_eq!([content(1), content(2)], before);
        assert_eq!(records(dir.path(), 9).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(segments(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn it_finds_what_is_damaged_and_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let stream = spool(dir.path());
        fs::write(stream.join("notes"), "x").unwrap();
        fs::write(stream.join(segment_name(7)), "x".repeat(100)).unwrap();
        let path = stream.join(segment_name(1));
        let mut content = fs::read(&path).unwrap();
        content[5000] ^= 1;
        fs::write(&path, content).unwrap();
        // The footer knows nothing of it; whoever reads all of it does.
        let expected = [SegmentState::Foreign, SegmentState::Sealed, SegmentState::Open, SegmentState::Foreign];
        assert_eq!(states(dir.path()), expected);
        let verified = verify(dir.path(), |_, _| ()).unwrap();
        let first = &verified[1];
        assert_eq!((first.segment.state, first.segment.damaged), (SegmentState::Damaged, 1));
        assert_eq!(first.lost.len(), 1);
        let damaged: Vec<_> =
            records(dir.path(), 1).unwrap().into_iter().filter(|record| record.content.is_none()).collect();
        assert_eq!(damaged.iter().map(|record| (record.camera.clone(), record.seq)).collect::<Vec<_>>(), first.lost);
        assert_eq!(verified[2].segment.state, SegmentState::Open);
    }
}
