//! Which spool belongs to a state directory.
//!
//! The journal knows of frames that lie in the spool alone. A start over another one, since a disk is not mounted or
//! `spool.dir` was changed, would tell them as lost although they are not. So a spool has an identity, in a file, which the
//! journal knows, and where it is another one and frames are open, there is no start before somebody has said so.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::journal::{self, JournalError, StateDir};

/// The file with a spool's identity.
const FILE: &str = "id";

/// Why a spool cannot be used with a state directory.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It is another one, and the one before is missed.
    #[error(
        "the spool {dir} is not the one that this state directory was used with ({before}), where {frames} frames wait: \
         mount its disk, or set `spool.dir` to it. If it is gone for good, `framehaul spool adopt` gives these frames up"
    )]
    Other {
        /// The spool that is there.
        dir: PathBuf,
        /// Where the one before was.
        before: PathBuf,
        /// Frames without an outcome, as far as the journal knows of them.
        frames: u64,
    },
    /// The journal, or the file.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Makes sure that the spool in `dir` is the one that belongs to a state directory. `holds_frames` says whether frames of
/// this state directory are in it: then it is not a new one, whatever has become of its identity.
///
/// # Errors
///
/// When it is not, or the journal or the file cannot be written.
pub fn claim(state: &StateDir, dir: &Path, holds_frames: bool) -> Result<(), ClaimError> {
    let there = read(dir);
    let id = match (state.spool()?, there) {
        (Some((known, before)), Some(there)) if known == there => {
            if before == dir {
                return Ok(());
            }
            there
        }
        (Some((known, _)), None) if holds_frames => {
            warn!(dir = %dir.display(), "the spool has lost its identity: it gets it back");
            write(dir, &known)?;
            known
        }
        (Some((_, before)), there) => {
            let frames = state.open_frames()?;
            if frames > 0 {
                return Err(ClaimError::Other { dir: dir.to_owned(), before, frames });
            }
            warn!(dir = %dir.display(), before = %before.display(), "another spool; nothing was open in the one before");
            made(dir, there)?
        }
        (None, there) => made(dir, there)?,
    };
    Ok(state.set_spool(&id, dir)?)
}

/// Takes the spool in `dir` for the one that belongs to a state directory, whatever was in the one before. Returns how many
/// frames that gives up, as far as the journal knows of them: the next start tells them as lost.
///
/// # Errors
///
/// When the journal or the file cannot be written.
pub fn adopt(state: &StateDir, dir: &Path) -> Result<u64, JournalError> {
    let there = read(dir);
    let same = state.spool()?.is_some_and(|(known, _)| Some(known) == there);
    let frames = if same { 0 } else { state.open_frames()? };
    state.set_spool(&made(dir, there)?, dir)?;
    Ok(frames)
}

/// The identity in a spool's directory; `None` where there is none that can be read.
fn read(dir: &Path) -> Option<String> {
    let text = fs::read_to_string(dir.join(FILE)).ok()?;
    let id = text.trim();
    (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// The identity that is there, or a new one, which is there then.
fn made(dir: &Path, there: Option<String>) -> Result<String, JournalError> {
    if let Some(there) = there {
        return Ok(there);
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    let id = format!("{:016x}", u64::from_le_bytes(bytes));
    write(dir, &id)?;
    Ok(id)
}

fn write(dir: &Path, id: &str) -> Result<(), JournalError> {
    journal::write_private(&dir.join(FILE), format!("{id}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{CameraId, SeqRange, SpooledCamera, UnixMicros};

    /// A state directory that knows of so many frames of a camera, all of them in the spool.
    async fn with_frames(dir: &Path, frames: u64) -> StateDir {
        let camera: CameraId = "gate".parse().unwrap();
        let seqs = vec![SeqRange { first: 1, last: frames }];
        let spooled = BTreeMap::from([(camera, SpooledCamera { seqs, session: 1, newest: UnixMicros(1) })]);
        let opened = StateDir::open(dir).unwrap().recover(&spooled, |_| (), |_| ()).unwrap();
        opened.journal.close();
        opened.writer.join().unwrap();
        drop(opened.lock);
        StateDir::open(dir).unwrap()
    }

    #[tokio::test]
    async fn another_spool_is_no_spool_while_frames_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let [state, one, other] = ["state", "one", "other"].map(|name| dir.path().join(name));
        [&one, &other].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        claim(&StateDir::open(&state).unwrap(), &one, false).unwrap();
        let id = fs::read(one.join(FILE)).unwrap();
        let known = with_frames(&state, 7).await;
        claim(&known, &one, true).unwrap();
        assert_eq!(fs::read(one.join(FILE)).unwrap(), id);

        let error = claim(&known, &other, false).unwrap_err();
        assert!(matches!(&error, ClaimError::Other { frames: 7, before, .. } if *before == one), "{error}");
        assert!(!other.join(FILE).exists());
        // Its directory may have another name now.
        let moved = dir.path().join("moved");
        fs::rename(&one, &moved).unwrap();
        claim(&known, &moved, true).unwrap();
        fs::create_dir(&one).unwrap();
        assert!(matches!(claim(&known, &one, false), Err(ClaimError::Other { before, .. }) if before == moved));

        assert_eq!(adopt(&known, &other).unwrap(), 7);
        claim(&known, &other, false).unwrap();
        assert_eq!(adopt(&known, &other).unwrap(), 0);
        assert!(claim(&known, &moved, true).is_err());
    }

    #[tokio::test]
    async fn a_lost_identity_stops_nothing_where_the_frames_are() {
        let dir = tempfile::tempdir().unwrap();
        let [state, spool] = ["state", "spool"].map(|name| dir.path().join(name));
        fs::create_dir(&spool).unwrap();
        claim(&StateDir::open(&state).unwrap(), &spool, false).unwrap();
        let id = fs::read(spool.join(FILE)).unwrap();
        let known = with_frames(&state, 3).await;
        for text in [None, Some(""), Some("no id")] {
            match text {
                None => fs::remove_file(spool.join(FILE)).unwrap(),
                Some(text) => fs::write(spool.join(FILE), text).unwrap(),
            }
            assert!(matches!(claim(&known, &spool, false), Err(ClaimError::Other { frames: 3, .. })));
            claim(&known, &spool, true).unwrap();
            assert_eq!(fs::read(spool.join(FILE)).unwrap(), id);
        }
    }

    #[test]
    fn with_nothing_open_any_spool_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let [state, one, other] = ["state", "one", "other"].map(|name| dir.path().join(name));
        [&one, &other].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let state = StateDir::open(&state).unwrap();
        for dir in [&one, &other, &one] {
            claim(&state, dir, false).unwrap();
        }
    }
}
