//! Journal, manifests and buckets against each other. It changes nothing, and a daemon may be at work.
//!
//! What must be there is taken from the journal's rows first, and from manifests where retention has removed the rows;
//! then the buckets are looked at. All that was stored by then must be in them; what came later, or is on its way, is no
//! fault. What must be there meets what is there in a temporary database (`index`), so that neither has to fit into
//! memory.
//!
//! Cameras are checked one by one; only those whose keys begin with the same text, because the key template does not
//! begin with the camera, are checked together, so that a bucket is listed once for all of them.

mod asker;
mod finding;
mod index;
mod manifests;
mod objects;
mod place;
mod roll;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

pub use finding::{Counts, Finding, Findings, Kind};

use self::asker::Asker;
use self::index::{Expected, Index, Span};
use self::place::Places;
use crate::config::Settings;
use crate::journal::{JournalError, Mark, ReadError, Reader};
use crate::model::{CameraId, KeyTemplate, Origin, Seq, SeqRange, UnixMicros};
use crate::storage::{BucketError, ObjectInfo};

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which cameras; `None` for all that the journal knows, also deleted ones.
    pub camera: Option<CameraId>,
    /// Only frames that were captured then or later.
    pub since: Option<UnixMicros>,
    /// Whether sizes are enough where a bucket does not tell checksums.
    pub quick: bool,
}

/// Why there is nothing to tell.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The temporary database failed.
    #[error("temporary database: {0}: TMPDIR names a directory where there is room")]
    Index(#[from] rusqlite::Error),
    /// A bucket cannot be asked at all.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// There is no such camera.
    #[error("the journal has no camera `{0}`: `framehaul camera ls --deleted` shows which there are")]
    NoCamera(CameraId),
}

impl From<JournalError> for VerifyError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error.into())
    }
}

/// What came out.
#[derive(Debug)]
pub struct Report {
    /// Whose objects and lists.
    pub origin: Origin,
    /// When it began.
    pub began_at: UnixMicros,
    /// The cameras, and what was counted for each.
    pub cameras: Vec<(Mark, Counts)>,
    /// What cannot be said to be one camera's.
    pub shared: Counts,
    /// Everything that is wrong.
    pub findings: Findings,
}

impl Report {
    /// What was counted for all of them.
    pub fn total(&self) -> Counts {
        let mut total = self.shared;
        self.cameras.iter().for_each(|(_, counts)| total.add(counts));
        total
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The camera, or one of those that are checked together.
    pub camera: &'a CameraId,
    /// What is looked at: journal, manifests, bucket.
    pub what: &'static str,
    /// How many frames, or manifests, were looked at.
    pub done: u64,
    /// Of how many, where that is known.
    pub of: Option<u64>,
}

/// Told how far it is, often.
type Watch<'a> = &'a mut dyn FnMut(Progress<'_>);

/// Checks what is asked for. Call it on the runtime that the buckets' clients are to live on.
///
/// # Errors
///
/// When nothing could be checked. What a bucket does not tell is a finding.
pub async fn verify(
    settings: &Settings,
    journal: &Reader,
    request: &Request,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, VerifyError> {
    let mut marks = journal.marks()?;
    if let Some(camera) = &request.camera {
        marks.retain(|mark| mark.camera == *camera);
        if marks.is_empty() {
            return Err(VerifyError::NoCamera(camera.clone()));
        }
    }
    verify_in(Places::open(settings).await?, marks, settings, journal, request, watch).await
}

/// The same, in these places and of these cameras.
async fn verify_in(
    places: Places,
    marks: Vec<Mark>,
    settings: &Settings,
    journal: &Reader,
    request: &Request,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, VerifyError> {
    let origin = journal.origin()?;
    let began_at = UnixMicros::now();
    let asker = Asker::new(places, &settings.upload);
    let mut templates = vec![settings.key_template.clone()];
    // What was made under another one before, or is put under it still, is no less ours.
    templates.extend(journal.key_templates()?);
    let mut groups: BTreeMap<String, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        groups.entry(settings.key_template.prefix(&mark.camera, &origin)).or_default().push(mark);
    }
    let mut findings = Findings::new()?;
    let (mut cameras, mut shared) = (Vec::new(), Counts::default());
    for (prefix, marks) in groups {
        let mut check = Check {
            asker: &asker,
            journal,
            templates: &templates,
            origin: &origin,
            request,
            prefix,
            members: marks.into_iter().map(Member::new).collect(),
            index: Index::new()?,
            asked: FuturesUnordered::new(),
            trouble: asker.places.all().map(|_| Trouble::default()).collect(),
            shared: Counts::default(),
            looked_at: 0,
            findings: &mut findings,
            watch: &mut *watch,
        };
        check.run().await?;
        shared.add(&check.shared);
        cameras.extend(check.members.into_iter().map(|member| (member.mark, member.counts)));
    }
    cameras.sort_by(|(one, _), (other, _)| one.camera.cmp(&other.camera));
    Ok(Report { origin, began_at, cameras, shared, findings })
}

/// Cameras whose keys begin with the same text, while they are checked.
struct Check<'a> {
    asker: &'a Asker,
    journal: &'a Reader,
    /// The one that keys are made by, and before it those that they were made by.
    templates: &'a [KeyTemplate],
    origin: &'a Origin,
    request: &'a Request,
    /// What their keys begin with.
    prefix: String,
    members: Vec<Member>,
    index: Index,
    /// Objects that are asked for one by one, and their answers.
    asked: FuturesUnordered<LocalBoxFuture<'a, Answer>>,
    /// What each place's bucket has failed at.
    trouble: Vec<Trouble>,
    shared: Counts,
    /// Objects that must be there and were looked for.
    looked_at: u64,
    findings: &'a mut Findings,
    watch: Watch<'a>,
}

/// One of the cameras.
struct Member {
    mark: Mark,
    /// The first seq that is asked for.
    from: Seq,
    /// The seqs up to the watermark of which the journal has no row.
    gaps: Vec<SeqRange>,
    counts: Counts,
}

impl Member {
    fn new(mark: Mark) -> Self {
        Self { mark, from: 1, gaps: Vec::new(), counts: Counts::default() }
    }
}

/// What became of the question for an object.
struct Answer {
    place: usize,
    expected: Expected,
    said: Result<Option<ObjectInfo>, BucketError>,
}

/// How a bucket fails.
#[derive(Default)]
struct Trouble {
    /// Questions without an answer since the last one with.
    in_a_row: u32,
    /// Why it is not asked any more.
    given_up: Option<String>,
    /// Objects that it would have been asked for.
    not_asked: u64,
    /// Objects that its list did not have.
    absent: u32,
}

impl Check<'_> {
    async fn run(&mut self) -> Result<(), VerifyError> {
        for camera in 0..self.members.len() {
            self.rows(camera)?;
            self.manifests(camera).await?;
        }
        // Other destinations than theirs may be out of reach, and no harm.
        let mut used = Vec::new();
        for place in self.asker.places.all() {
            if !self.index.span(place, Span { after: "", to: None }, 1)?.is_empty() {
                used.push(place);
            }
        }
        if used.is_empty() {
            used.extend(self.asker.places.all());
        }
        for place in used {
            self.objects(place).await?;
        }
        self.ahead().await
    }

    /// Says of a camera, or of all of them, that something is wrong: of so many objects, seqs or manifests.
    fn wrong(&mut self, camera: Option<usize>, count: u64, finding: Finding) -> Result<(), VerifyError> {
        // Where there is one camera only, it is that one's.
        let camera = camera.or((self.members.len() == 1).then_some(0));
        let counts = camera.map_or(&mut self.shared, |camera| &mut self.members[camera].counts);
        let wrong = &mut counts.wrong[finding.kind as usize];
        *wrong = wrong.saturating_add(count);
        let camera = camera.map(|camera| self.members[camera].mark.camera.clone());
        self.findings.add(&Finding { camera, ..finding })
    }

    fn tell(&mut self, camera: usize, what: &'static str, done: u64, of: Option<u64>) {
        (self.watch)(Progress { camera: &self.members[camera].mark.camera, what, done, of });
    }
}

impl Finding {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, camera: None, seqs: None, key: None, detail: detail.into() }
    }

    fn seqs(self, seqs: SeqRange) -> Self {
        Self { seqs: Some(seqs), ..self }
    }

    fn key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }
}
