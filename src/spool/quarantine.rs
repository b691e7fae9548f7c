//! Frames that the bucket will not have, kept for whoever wants to know why.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tracing::warn;

use super::disk::LEFT_FREE;
use super::{Disk as _, RealDisk, Record};
use crate::model::{CameraId, Seq, SessionNo, UnixMicros};

/// Bytes that are kept; the oldest go for what comes. Nobody misses them but people, who come within days or never.
const MAX_BYTES: u64 = 256 << 20;

/// Under this name each file is written, before it gets its own.
const UNFINISHED: &str = "unfinished";

/// How often it is told that nothing can be kept.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// A directory of frames that were given up, each as a picture with a JSON file beside it. A picture that has its name
/// is complete, has its JSON file, and is there after a crash.
#[derive(Debug)]
pub struct Quarantine {
    disk: RealDisk,
    max_bytes: u64,
    left_free: u64,
    one_at_a_time: Mutex<()>,
    complained: Mutex<Option<Instant>>,
}

/// What lies beside a picture.
#[derive(Serialize)]
struct Note<'a> {
    camera: &'a CameraId,
    seq: Seq,
    session: SessionNo,
    key: &'a str,
    captured_at: UnixMicros,
    width: u32,
    height: u32,
    damaged: bool,
    crc32c: u32,
    why: &'a str,
}

impl Quarantine {
    /// Opens a directory, making it (mode 0700) where there is none, and removes what a crash has left unfinished in
    /// it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let disk = RealDisk::open(dir)?;
        match disk.remove(UNFINISHED) {
            // Where it is in the way, whoever wants to keep something will say so.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(dir = %dir.display(), %error, "`{UNFINISHED}` in the quarantine cannot be removed");
            }
            _ => {}
        }
        let (one_at_a_time, complained) = (Mutex::new(()), Mutex::new(None));
        Ok(Self { disk, max_bytes: MAX_BYTES, left_free: LEFT_FREE, one_at_a_time, complained })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        self.disk.dir()
    }

    /// Whether it should be told now that nothing can be kept: once a minute.
    pub fn may_complain(&self, now: Instant) -> bool {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let may = complained.is_none_or(|at| now.saturating_duration_since(at) >= COMPLAIN_EVERY);
        if may {
            *complained = Some(now);
        }
        may
    }

    /// Keeps a frame, with the reason why it is here, and returns the picture's path, once both are on disk for good.
    /// It blocks.
    ///
    /// # Errors
    ///
    /// When the frame is larger than all that may be kept, the disk has no room beside what the journal needs, or it
    /// refuses. What was kept before stays then, but for the oldest that had to make room.
    pub fn keep(&self, record: &Record, why: &str) -> io::Result<PathBuf> {
        let _alone = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let frame = &record.frame;
        let note = Note {
            camera: &frame.camera,
            seq: frame.seq,
            session: frame.session,
            key: &record.key,
            captured_at: frame.captured_at,
            width: frame.width,
            height: frame.height,
            damaged: frame.damaged,
            crc32c: frame.crc32c,
            why,
        };
        let note = serde_json::to_vec_pretty(&note)?;
        let needed = (frame.jpeg.len() + note.len()) as u64;
        if needed > self.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // A disk that cannot tell says so when it is written.
        let free = rustix::fs::statvfs(self.dir()).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        if free < needed + self.left_free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.make_room(needed)?;
        let path = self.dir().join(format!("{}-{:012}.jpg", frame.camera, frame.seq));
        // The picture last: where it is, its note is.
        self.write(&path.with_extension("json"), &note)?;
        self.write(&path, &frame.jpeg)?;
        self.disk.sync_dir()?;
        Ok(path)
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let unfinished = self.dir().join(UNFINISHED);
        let mut file: File =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, path)) {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        Ok(())
    }

    /// Removes the oldest until so many bytes fit.
    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut kept: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(self.dir())? {
            let entry = entry?;
            let path = entry.path();
            // Pictures alone: what lies beside one goes with it, and what is not ours stays.
            if path.extension().is_none_or(|extension| extension != "jpg") {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let note = fs::metadata(path.with_extension("json")).map_or(0, |note| note.len());
            kept.push((metadata.modified()?, path, metadata.len() + note));
        }
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, size) in kept {
            if bytes + needed <= self.max_bytes {
                break;
            }
            fs::remove_file(&path)?;
            let _ = fs::remove_file(path.with_extension("json"));
            bytes -= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::record;
    use super::*;

    #[test]
    fn a_frame_is_kept_with_its_reason_and_the_oldest_go() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(&dir.path().join("quarantine")).unwrap();
        quarantine.max_bytes = 4000;
        let path = quarantine.keep(&record("a", 1, 1000), "the bucket says no").unwrap();
        assert_eq!(path.file_name().unwrap(), "a-000000000001.jpg");
        assert_eq!(fs::read(&path).unwrap(), record("a", 1, 1000).frame.jpeg);
        let note: serde_json::Value = serde_json::from_slice(&fs::read(path.with_extension("json")).unwrap()).unwrap();
        assert_eq!(
            (note["why"].as_str(), note["key"].as_str()),
            (Some("the bucket says no"), Some("a/000000000001.jpg"))
        );
        assert_eq!(note["captured_at"], "1970-01-01T00:00:01.040000Z");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(quarantine.dir().join("mine.txt"), [0; 9000]).unwrap();
        for seq in 2..=5 {
            quarantine.keep(&record("a", seq, 1000), "").unwrap();
        }
        let of = |seq: u64| [format!("a-{seq:012}.jpg"), format!("a-{seq:012}.json")];
        let expected: Vec<_> = [of(3), of(4), of(5)].concat().into_iter().chain(["mine.txt".to_owned()]).collect();
        assert_eq!(names(quarantine.dir()), expected);
        let too_large = quarantine.keep(&record("a", 6, 4000), "").unwrap_err();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(names(quarantine.dir()), expected);
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_half_written_has_a_name_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("spool/quarantine");
        let quarantine = Quarantine::open(&dir).unwrap();
        // The note cannot get its name, and then the picture has none either.
        let kept = quarantine.keep(&record("a", 1, 1000), "").unwrap();
        fs::remove_file(&kept).unwrap();
        fs::remove_file(kept.with_extension("json")).unwrap();
        fs::create_dir(kept.with_extension("json")).unwrap();
        assert!(quarantine.keep(&record("a", 1, 1000), "").is_err());
        assert_eq!(names(&dir), ["a-000000000001.json"]);
        // A crash in the midst of it.
        fs::write(dir.join(UNFINISHED), "half a picture").unwrap();
        Quarantine::open(&dir).unwrap();
        assert_eq!(names(&dir), ["a-000000000001.json"]);
    }

    #[test]
    fn the_room_that_the_journal_needs_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(dir.path()).unwrap();
        quarantine.max_bytes = 1_500;
        quarantine.keep(&record("a", 1, 1000), "").unwrap();
        let before = names(dir.path());
        // As though the disk had no more than that.
        quarantine.left_free = u64::MAX / 2;
        assert_eq!(quarantine.keep(&record("a", 2, 1000), "").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(dir.path()), before, "and nothing has gone for what could not be kept");
    }

    #[test]
    fn it_is_told_once_a_minute_that_nothing_can_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::open(dir.path()).unwrap();
        let now = Instant::now();
        let told: Vec<u64> = (0..180).filter(|s| quarantine.may_complain(now + Duration::from_secs(*s))).collect();
        assert_eq!(told, [0, 60, 120]);
    }
}
