//! Frames that the bucket will not have, kept for whoever wants to know why.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use super::Record;
use crate::model::{CameraId, Seq, SessionNo, UnixMicros};

/// Bytes that are kept; the oldest go for what comes. Nobody misses them but people, who come within days or never.
const MAX_BYTES: u64 = 256 << 20;

/// A directory of frames that were given up, each as a picture with a JSON file beside it.
#[derive(Debug)]
pub struct Quarantine {
    dir: PathBuf,
    max_bytes: u64,
    one_at_a_time: Mutex<()>,
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
    crc32c: u32,
    why: &'a str,
}

impl Quarantine {
    /// Opens a directory, making it (mode 0700) where there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), max_bytes: MAX_BYTES, one_at_a_time: Mutex::new(()) })
    }

    /// Keeps a frame, with the reason why it is here, and returns the picture's path. It blocks.
    ///
    /// # Errors
    ///
    /// When the frame is larger than all that may be kept, or the disk refuses.
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
            crc32c: frame.crc32c,
            why,
        };
        let note = serde_json::to_vec_pretty(&note)?;
        let needed = (frame.jpeg.len() + note.len()) as u64;
        if needed > self.max_bytes {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.make_room(needed)?;
        let path = self.dir.join(format!("{}-{:012}.jpg", frame.camera, frame.seq));
        write(&path, &frame.jpeg)?;
        write(&path.with_extension("json"), &note)?;
        Ok(path)
    }

    /// Removes the oldest until so many bytes fit.
    fn make_room(&self, needed: u64) -> io::Result<()> {
        let mut kept: Vec<(SystemTime, PathBuf, u64)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
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

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
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
        fs::write(quarantine.dir.join("mine.txt"), [0; 9000]).unwrap();
        for seq in 2..=5 {
            quarantine.keep(&record("a", seq, 1000), "").unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&quarantine.dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let of = |seq: u64| [format!("a-{seq:012}.jpg"), format!("a-{seq:012}.json")];
        let expected: Vec<_> = [of(3), of(4), of(5)].concat().into_iter().chain(["mine.txt".to_owned()]).collect();
        assert_eq!(names, expected);
        let too_large = quarantine.keep(&record("a", 6, 4000), "").unwrap_err();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
    }
}
