//! Which spool belongs to a state directory.
//!
//! The journal knows of frames that lie in the spool alone. A start over another one, since a disk is not mounted or
//! `spool.dir` was changed, would tell them as lost although they are not. So a spool has an identity, in a file, which
//! the journal knows, and where it is another one and frames are open, there is no start before somebody has said so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::journal::{self, JournalError, StateDir};
use crate::model::{CameraId, SpooledCamera};

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
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Makes sure that the spool in `dir`, in which these frames were found, is the one that belongs to a state directory.
///
/// One that has lost its identity, but holds most of the frames that are open, is it; and one that cannot be given an
/// identity, since its disk is full, gets it another time.
///
/// # Errors
///
/// When it is not, or the journal cannot be read and written.
pub fn claim(state: &StateDir, dir: &Path, found: &BTreeMap<CameraId, SpooledCamera>) -> Result<(), ClaimError> {
    let given = match (state.spool()?, read(dir)) {
        (Some((known, before)), Some(there)) if known == there => {
            if before == dir {
                return Ok(());
            }
            Ok(there)
        }
        (Some((known, before)), there) => {
            let frames = state.open_frames()?;
            if there.is_none() && frames > 0 && 2 * state.waiting(found)? >= frames {
                warn!(dir = %dir.display(), "the spool has lost its identity: it gets it back");
                write(dir, &known).map(|()| known)
            } else if frames > 0 {
                return Err(ClaimError::Other { dir: dir.to_owned(), before, frames });
            } else {
                warn!(dir = %dir.display(), before = %before.display(), "another spool; nothing was open in the one before");
                made(dir, there)
            }
        }
        (None, there) => made(dir, there),
    };
    match given {
        Ok(id) => state.set_spool(&id, dir)?,
        Err(error) => warn!(%error, "the spool stays without an identity for now"),
    }
    Ok(())
}

/// Takes the spool in `dir` for the one that belongs to a state directory, whatever was in the one before. Returns how
/// many frames that gives up, as far as the journal knows of them: the next start tells them as lost.
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
    use super::*;
    use crate::model::{SeqRange, UnixMicros};

    type Found = BTreeMap<CameraId, SpooledCamera>;

    fn frames(first: u64, last: u64) -> Found {
        let seqs = vec![SeqRange { first, last }];
        BTreeMap::from([("gate".parse().unwrap(), SpooledCamera { seqs, session: 1, newest: UnixMicros(1) })])
    }

    /// A state directory that knows of so many frames of a camera, all of them in the spool.
    fn with_frames(dir: &Path, last: u64) -> StateDir {
        let opened = StateDir::open(dir).unwrap().recover(&frames(1, last), |_| (), |_| ()).unwrap();
        opened.journal.close();
        opened.writer.join().unwrap();
        drop(opened.lock);
        StateDir::open(dir).unwrap()
    }

    #[test]
    fn another_spool_is_no_spool_while_frames_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let [state, one, other] = ["state", "one", "other"].map(|name| dir.path().join(name));
        [&one, &other].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        claim(&StateDir::open(&state).unwrap(), &one, &Found::new()).unwrap();
        let id = fs::read(one.join(FILE)).unwrap();
        let known = with_frames(&state, 7);
        claim(&known, &one, &frames(1, 7)).unwrap();
        assert_eq!(fs::read(one.join(FILE)).unwrap(), id);

        let error = claim(&known, &other, &Found::new()).unwrap_err();
        assert!(matches!(&error, ClaimError::Other { frames: 7, before, .. } if *before == one), "{error}");
        assert!(!other.join(FILE).exists());
        // Its directory may have another name now.
        let moved = dir.path().join("moved");
        fs::rename(&one, &moved).unwrap();
        claim(&known, &moved, &frames(1, 7)).unwrap();
        fs::create_dir(&one).unwrap();
        assert!(matches!(claim(&known, &one, &Found::new()), Err(ClaimError::Other { before, .. }) if before == moved));

        assert_eq!(adopt(&known, &other).unwrap(), 7);
        claim(&known, &other, &Found::new()).unwrap();
        assert_eq!(adopt(&known, &other).unwrap(), 0);
        assert!(claim(&known, &moved, &frames(1, 7)).is_err());
    }

    #[test]
    fn a_lost_identity_stops_nothing_where_the_frames_are() {
        let dir = tempfile::tempdir().unwrap();
        let [state, spool] = ["state", "spool"].map(|name| dir.path().join(name));
        fs::create_dir(&spool).unwrap();
        claim(&StateDir::open(&state).unwrap(), &spool, &Found::new()).unwrap();
        let id = fs::read(spool.join(FILE)).unwrap();
        let known = with_frames(&state, 30);
        for text in [None, Some(""), Some("no id")] {
            match text {
                None => fs::remove_file(spool.join(FILE)).unwrap(),
                Some(text) => fs::write(spool.join(FILE), text).unwrap(),
            }
            // What some earlier run has left there is not what is missed.
            for others in [Found::new(), frames(1, 3), frames(31, 90)] {
                let error = claim(&known, &spool, &others).unwrap_err();
                assert!(matches!(error, ClaimError::Other { frames: 30, .. }), "{error}");
            }
            // Some may be damaged.
            claim(&known, &spool, &frames(4, 30)).unwrap();
            assert_eq!(fs::read(spool.join(FILE)).unwrap(), id);
        }
    }

    #[test]
    fn what_cannot_be_given_an_identity_is_used_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [state, spool] = ["state", "spool"].map(|name| dir.path().join(name));
        fs::create_dir(&spool).unwrap();
        // In its place stands something that cannot be replaced by a file.
        fs::create_dir_all(spool.join(FILE).join("x")).unwrap();
        let known = StateDir::open(&state).unwrap();
        claim(&known, &spool, &Found::new()).unwrap();
        assert_eq!(known.spool().unwrap(), None);
        drop(known);
        let known = with_frames(&state, 7);
        claim(&known, &spool, &frames(1, 7)).unwrap();
        fs::remove_dir_all(spool.join(FILE)).unwrap();
        claim(&known, &spool, &frames(1, 7)).unwrap();
        fs::remove_file(spool.join(FILE)).unwrap();
        fs::create_dir_all(spool.join(FILE).join("x")).unwrap();
        claim(&known, &spool, &frames(1, 7)).unwrap();
    }

    #[test]
    fn with_nothing_open_any_spool_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let [state, one, other] = ["state", "one", "other"].map(|name| dir.path().join(name));
        [&one, &other].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let state = StateDir::open(&state).unwrap();
        for dir in [&one, &other, &one] {
            claim(&state, dir, &Found::new()).unwrap();
        }
    }
}
