//! What a check finds, and what it counts.

use rusqlite::{Connection, params};

use super::VerifyError;
use crate::model::{CameraId, SeqRange};

/// What is wrong. The words stand in what programs read, so they only ever grow in number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A stored frame has no object.
    Missing,
    /// A stored frame's object is not what was stored.
    Corrupt,
    /// Nobody's object stands where a camera's frames do, or under a frame's key.
    Foreign,
    /// An object of ours of which the list does not say that it is stored.
    Unlisted,
    /// The list has nothing on a seq that it should have.
    Gap,
    /// A manifest is not there, not what was written, or does not say what the list says.
    Manifest,
    /// It could not be checked.
    NotChecked,
}

impl Kind {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::Missing, Self::Corrupt, Self::Foreign, Self::Unlisted, Self::Gap, Self::Manifest, Self::NotChecked];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::Foreign => "foreign",
            Self::Unlisted => "unlisted",
            Self::Gap => "gap",
            Self::Manifest => "manifest",
            Self::NotChecked => "not_checked",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Missing => {
                "restore the object from a copy or an older version of it; whoever reads the list has to do without it"
            }
            Self::Corrupt => "restore the object from a copy or an older version of it: what is there is not the frame",
            Self::Foreign => "find out who wrote it, and move it away; framehaul never overwrites it",
            Self::Unlisted => "keep it or remove it: whoever goes by the list does not see it",
            Self::Gap => {
                "the state directory has lost something: look at its disk; restore it from a copy only where no daemon \
                 has run since"
            }
            Self::Manifest => {
                "restore the manifest from a copy or an older version of it; the daemon does not write it again"
            }
            Self::NotChecked => "see to the cause, and run it again",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Whose; `None` where that is not known.
    pub camera: Option<CameraId>,
    /// The seqs that it is about.
    pub seqs: Option<SeqRange>,
    /// The object that it is about.
    pub key: Option<String>,
    /// What was found.
    pub detail: String,
}

/// What was counted for a camera.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Stored frames whose objects were looked for.
    pub frames: u64,
    /// Of these, those of which only the size was compared.
    pub sizes_only: u64,
    /// Lost frames in the list.
    pub lost: u64,
    /// Manifests that were looked for.
    pub manifests: u64,
    /// Objects of other origins: other daemons', or those of a state directory before this one.
    pub others: u64,
    /// Objects of frames that were stored since the check began, or whose outcome is not recorded yet.
    pub in_flight: u64,
    /// Objects of lost frames of which the list says that they may be there.
    pub maybe_stored: u64,
    /// Objects of frames that retention took from the list while there were no manifests of them.
    pub forgotten: u64,
    /// Seqs that retention took from the list, and that no manifest tells of that could be read: nothing can be said of
    /// their frames.
    pub untold: u64,
    /// How many things of each kind are wrong: objects, seqs or manifests.
    pub wrong: [u64; Kind::ALL.len()],
}

impl Counts {
    /// How many things of a kind are wrong.
    pub fn of(&self, kind: Kind) -> u64 {
        self.wrong[kind as usize]
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.frames, other.frames),
            (&mut self.sizes_only, other.sizes_only),
            (&mut self.lost, other.lost),
            (&mut self.manifests, other.manifests),
            (&mut self.others, other.others),
            (&mut self.in_flight, other.in_flight),
            (&mut self.maybe_stored, other.maybe_stored),
            (&mut self.forgotten, other.forgotten),
            (&mut self.untold, other.untold),
        ] {
            *sum = sum.saturating_add(more);
        }
        for (sum, more) in self.wrong.iter_mut().zip(other.wrong) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Counts lost frames. What a manifest of somebody else's says may go beyond all bounds.
    pub(super) fn lose(&mut self, frames: u64) {
        self.lost = self.lost.saturating_add(frames);
    }
}

/// All findings, on disk: a lost bucket makes as many as there are frames.
#[derive(Debug)]
pub struct Findings {
    connection: Connection,
    count: u64,
}

impl Findings {
    pub(super) fn new() -> Result<Self, VerifyError> {
        let connection = super::index::temporary()?;
        connection.execute_batch(
            "CREATE TABLE finding (
                 kind INTEGER NOT NULL, camera TEXT, first INTEGER, last INTEGER, key TEXT, detail TEXT NOT NULL);",
        )?;
        Ok(Self { connection, count: 0 })
    }

    pub(super) fn add(&mut self, finding: &Finding) -> Result<(), VerifyError> {
        let (first, last) = finding.seqs.map(|seqs| (seqs.first as i64, seqs.last as i64)).unzip();
        let camera = finding.camera.as_ref().map(CameraId::as_str);
        self.connection.prepare_cached("INSERT INTO finding VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
            finding.kind as i64,
            camera,
            first,
            last,
            finding.key,
            finding.detail
        ])?;
        self.count += 1;
        Ok(())
    }

    /// How many there are. One may be about many seqs or objects.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Shows each of the first `limit`, by camera, kind and seq.
    ///
    /// # Errors
    ///
    /// When they cannot be read back, or whoever is shown them has enough.
    pub fn each<E: From<VerifyError>>(
        &self,
        limit: usize,
        mut show: impl FnMut(Finding) -> Result<(), E>,
    ) -> Result<(), E> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let failed = |error: rusqlite::Error| E::from(VerifyError::from(error));
        let mut statement = self
            .connection
            .prepare(
                "SELECT kind, camera, first, last, key, detail FROM finding ORDER BY camera, kind, first, key LIMIT ?1",
            )
            .map_err(failed)?;
        let mut rows = statement.query([limit]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            show(read(row).map_err(failed)?)?;
        }
        Ok(())
    }
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Finding> {
    let seq = |column| row.get::<_, Option<i64>>(column).map(|seq| seq.map(|seq| seq as u64));
    Ok(Finding {
        kind: Kind::ALL[usize::from(row.get::<_, u16>(0)?)],
        camera: row.get::<_, Option<String>>(1)?.and_then(|id| id.parse().ok()),
        seqs: seq(2)?.zip(seq(3)?).map(|(first, last)| SeqRange { first, last }),
        key: row.get(4)?,
        detail: row.get(5)?,
    })
}
