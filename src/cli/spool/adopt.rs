//! `framehaul spool adopt`

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;

use super::super::failure::{Failure, Kind, note};
use crate::claim;
use crate::config::Settings;
use crate::journal::{JournalError, StateDir};

pub fn run(settings: &Settings) -> Result<(), Failure> {
    let failed = |error: JournalError| {
        let kind = match error {
            JournalError::InUse { .. } => Kind::NotNow,
            _ => Kind::Other,
        };
        Failure::new(kind, error.to_string())
    };
    // Its lock keeps a daemon out meanwhile.
    let state = StateDir::open(&settings.state_dir).map_err(failed)?;
    let dir = &settings.spool.dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::new(Kind::Other, format!("cannot make {}: {error}", dir.display())))?;
    let frames = claim::adopt(&state, dir).map_err(failed)?;
    note(format_args!(
        "{} is the spool of {} now; {frames} frames of the one before are given up: the next start tells them as lost",
        dir.display(),
        settings.state_dir.display(),
    ));
    Ok(())
}
