//! A camera's manifests against what the journal says of them, and against the rows that they tell of.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::index::Expected;
use super::rows::page;
use super::{Check, Finding, Kind, VerifyError};
use crate::journal::{Entry, ManifestRow, Reader};
use crate::manifest::{self, Line, Manifest};
use crate::model::{CameraId, Outcome, Seq, SeqRange, Stored};
use crate::storage::{BucketErrorKind, Listed};

/// Manifests read at the same time. One of 10,000 entries takes some 15 MB while it is looked at.
const AT_ONCE: usize = 2;

/// How much longer than it should be a manifest may be and still be read.
const SLACK: u64 = 1 << 20;

/// The longest one that is read of those that the journal does not know.
const LONGEST: u64 = 16 << 20;

/// A manifest that the journal has, or that a bucket has.
struct Known {
    seqs: SeqRange,
    /// `None` where the journal does not know it.
    row: Option<ManifestRow>,
    /// Where it is; `None` where the configuration does not say.
    place: Option<usize>,
    key: String,
}

/// What came of reading it.
enum Fetched {
    Whole(Manifest),
    /// It is not what was written.
    Wrong(String),
    NotChecked(String),
}

impl Check<'_> {
    /// Checks a camera's manifests. What they tell of frames that the journal has no rows of must be there, too.
    pub(super) async fn manifests(&mut self, camera: usize) -> Result<(), VerifyError> {
        let (known, failed) = self.known_manifests(camera).await?;
        let failed = &failed;
        let (all, asker, journal, origin) = (known.len() as u64, self.asker, self.journal, self.origin.clone());
        let id = self.members[camera].mark.camera.clone();
        let read = known.into_values().map(|known| {
            let (id, origin) = (id.clone(), origin.clone());
            async move {
                let limit = known.row.as_ref().map_or(LONGEST, |row| row.bytes + SLACK);
                let fetched = match known.place {
                    Some(place) => match asker.get(place, &known.key, limit).await {
                        Ok(Some(content)) => judge(&known, &content, |manifest| {
                            manifest.header.camera == id && manifest.header.origin == origin
                        }),
                        // Where there is no list, there may be no bucket.
                        Ok(None) => match (failed.get(&place), base_url_of(journal, &id, known.seqs)) {
                            (Some(why), _) => Fetched::NotChecked(why.clone()),
                            (None, Some(base_url)) if base_url != asker.places.get(place).bucket.base_url() => {
                                Fetched::NotChecked(format!("it went to {base_url}, which its destination is no more"))
                            }
                            (None, _) => Fetched::Wrong("it is not there".to_owned()),
                        },
                        Err(error) if error.kind == BucketErrorKind::Permanent => Fetched::Wrong(error.message),
                        Err(error) => Fetched::NotChecked(error.message),
                    },
                    None => Fetched::NotChecked("its destination is not in the configuration".to_owned()),
                };
                (known, fetched)
            }
        });
        let mut read = std::pin::pin!(stream::iter(read).buffered(AT_ONCE));
        let mut next = (self.members[camera].from == 1).then_some(1);
        let mut told = Vec::new();
        while let Some((known, fetched)) = read.next().await {
            let counts = &mut self.members[camera].counts;
            counts.manifests += 1;
            let done = counts.manifests;
            let about = |kind, detail: String| Finding::new(kind, detail).seqs(known.seqs).key(known.key.clone());
            if known.row.is_none() {
                let detail = "the journal does not know of this manifest".to_owned();
                self.wrong(Some(camera), 1, about(Kind::Manifest, detail))?;
            }
            let manifest = match fetched {
                Fetched::Whole(manifest) => Some(manifest),
                Fetched::Wrong(why) => {
                    self.wrong(Some(camera), 1, about(Kind::Manifest, why))?;
                    None
                }
                Fetched::NotChecked(why) => {
                    self.wrong(Some(camera), 1, about(Kind::NotChecked, why))?;
                    None
                }
            };
            let explained = manifest.as_ref().and_then(|manifest| manifest.header.missing_from);
            if let Some(next) = next.filter(|next| *next != known.seqs.first && explained != Some(*next)) {
                let detail = match next < known.seqs.first {
                    true => format!("no manifest holds the seqs {next} to {} before it", known.seqs.first - 1),
                    false => format!("the seqs {} to {} are in another one, too", known.seqs.first, next - 1),
                };
                self.wrong(Some(camera), 1, about(Kind::Manifest, detail))?;
            }
            next = Some(next.unwrap_or(0).max(known.seqs.last + 1));
            if let Some(manifest) = manifest {
                self.lines(camera, &known, manifest, &mut told)?;
            }
            self.tell(camera, "manifests", done, Some(all));
        }
        told.sort_by_key(|(seqs, _)| seqs.first);
        self.gaps(camera, &told)
    }

    /// The manifests that the journal knows to be stored and those that a bucket has besides; and the places that do not
    /// tell, with the reason.
    async fn known_manifests(
        &mut self,
        camera: usize,
    ) -> Result<(BTreeMap<(Seq, Seq), Known>, BTreeMap<usize, String>), VerifyError> {
        let (id, from) = (self.members[camera].mark.camera.clone(), self.members[camera].from);
        let prefix = manifest::prefix(&id, self.origin);
        let mut known: BTreeMap<(Seq, Seq), Known> = BTreeMap::new();
        let rows = self.journal.stored_manifests(&id)?;
        for row in rows.into_iter().filter(|row| row.seqs.last >= from) {
            let (seqs, place) = (row.seqs, self.asker.places.of(&row.destination));
            let key = manifest::key(&id, self.origin, seqs);
            known.insert((seqs.first, seqs.last), Known { seqs, row: Some(row), place, key });
        }
        let (mut unknown, mut failed) = (Vec::new(), BTreeMap::new());
        // A destination where it never had one may be out of reach, and no harm.
        let used: BTreeSet<usize> = known.values().filter_map(|known| known.place).collect();
        for place in self.asker.places.all().filter(|place| used.is_empty() || used.contains(place)) {
            let mut after = None;
            loop {
                let page = match self.asker.list(place, &prefix, after.as_ref()).await {
                    Ok(page) => page,
                    Err(error) => {
                        let detail = format!("which manifests there are is not known: {}", error.message);
                        self.wrong(Some(camera), 1, Finding::new(Kind::NotChecked, detail).key(prefix.clone()))?;
                        failed.insert(place, error.message);
                        break;
                    }
                };
                for Listed { key, .. } in page.objects {
                    match key.strip_prefix(&prefix).and_then(manifest::parse_file_name) {
                        Some(seqs) if known.contains_key(&(seqs.first, seqs.last)) || seqs.last < from => {}
                        Some(seqs) => unknown.push(Known { seqs, row: None, place: Some(place), key }),
                        None => {
                            let finding = Finding::new(Kind::Foreign, "it stands among the manifests and is none");
                            self.wrong(Some(camera), 1, finding.key(key))?;
                        }
                    }
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        if !unknown.is_empty() {
            // One that came meanwhile was committed before it was put.
            let now = self.journal.stored_manifests(&id)?;
            let pending = self.journal.pending_manifest(&id)?.map(|manifest| manifest.seqs);
            unknown.retain(|one| Some(one.seqs) != pending && now.iter().all(|row| row.seqs != one.seqs));
            known.extend(unknown.into_iter().map(|one| ((one.seqs.first, one.seqs.last), one)));
        }
        Ok((known, failed))
    }

    /// Compares what a manifest tells with the journal's rows. `told` gets what it has and the journal has not.
    fn lines(
        &mut self,
        camera: usize,
        known: &Known,
        manifest: Manifest,
        told: &mut Vec<(SeqRange, String)>,
    ) -> Result<(), VerifyError> {
        let member = &self.members[camera];
        let (id, from) = (member.mark.camera.clone(), member.from);
        let mut rows: BTreeMap<Seq, (SeqRange, Outcome, Option<String>)> = BTreeMap::new();
        let mut after = known.seqs.first.max(from) - 1;
        // Up to here the journal has no rows, and need not have.
        let mut pruned = member.mark.pruned_to;
        while after < known.seqs.last {
            let (begins, page) = page(self.journal, &id, after, known.seqs.last)?;
            if begins > after {
                pruned = pruned.max(begins);
            }
            after = page.next.max(begins);
            for entry in page.entries {
                if let Entry::Frames { seqs, outcome, base_url, .. } = entry {
                    rows.insert(seqs.first, (seqs, outcome, base_url));
                }
            }
            if !page.more {
                break;
            }
        }
        for line in manifest.lines {
            let Some((seqs, outcome, url)) = told_by(line) else { continue };
            if seqs.last < from {
                continue;
            }
            match rows.get(&seqs.first) {
                Some((of, row, base_url)) if *of == seqs && same(row, base_url.as_deref(), &outcome, &url) => continue,
                Some(_) => {
                    let detail = "what it tells of this frame is not what the journal tells";
                    let finding = Finding::new(Kind::Manifest, detail).seqs(seqs).key(known.key.clone());
                    self.wrong(Some(camera), 1, finding)?;
                    continue;
                }
                None if seqs.last <= pruned => {}
                None => push(told, seqs, &known.key),
            }
            match outcome {
                Outcome::Stored(stored) if self.request.since.is_none_or(|since| stored.captured_at >= since) => {
                    let place = self.asker.places.of_frame(&stored, url.strip_suffix(&stored.key));
                    let (bytes, crc32c) = (stored.bytes, stored.crc32c);
                    self.index.tell(camera, seqs, false)?;
                    self.expect(place, Expected { key: stored.key, camera, seq: seqs.first, bytes, crc32c })?;
                }
                Outcome::Stored(_) => {}
                Outcome::Lost { maybe_stored, .. } => {
                    self.members[camera].counts.lost += seqs.len();
                    self.index.tell(camera, seqs, maybe_stored)?;
                }
            }
        }
        Ok(())
    }
}

/// What stands before the key of the first stored one of these frames, if the journal has it: a manifest went to the
/// same place, as long as its camera's destination was not changed in between.
fn base_url_of(journal: &Reader, camera: &CameraId, seqs: SeqRange) -> Option<String> {
    let (_, page) = page(journal, camera, seqs.first - 1, seqs.last).ok()?;
    page.entries.into_iter().find_map(|entry| match entry {
        Entry::Frames { outcome: Outcome::Stored(_), base_url, .. } => base_url,
        _ => None,
    })
}

/// Adds seqs to those before them, if they follow on them.
fn push(told: &mut Vec<(SeqRange, String)>, seqs: SeqRange, key: &str) {
    match told.last_mut() {
        Some((last, of)) if last.last + 1 == seqs.first && of == key => last.last = seqs.last,
        _ => told.push((seqs, key.to_owned())),
    }
}

/// What a line tells of frames, as the journal would, and their URL.
fn told_by(line: Line) -> Option<(SeqRange, Outcome, String)> {
    match line {
        Line::Frame { seq, captured_at, stored_at, destination, url, key, bytes, crc32c, width, height, .. } => {
            let stored = Stored { destination, key, captured_at, stored_at, bytes, crc32c, width, height };
            Some((SeqRange::one(seq), Outcome::Stored(stored), url))
        }
        Line::Tombstone { seqs, reason, maybe_stored, .. } => {
            Some((seqs, Outcome::Lost { reason, maybe_stored }, String::new()))
        }
        Line::Session { .. } | Line::SessionEnd { .. } => None,
    }
}

/// Whether the journal's row and a manifest's line tell the same.
fn same(row: &Outcome, base_url: Option<&str>, told: &Outcome, url: &str) -> bool {
    let there = match row {
        Outcome::Stored(row) => base_url.is_none_or(|base| url.strip_suffix(&row.key) == Some(base)),
        Outcome::Lost { .. } => true,
    };
    there && row == told
}

/// Whether bytes are the manifest that should be there.
fn judge(known: &Known, content: &Bytes, ours: impl Fn(&Manifest) -> bool) -> Fetched {
    let found = crc32c::crc32c(content);
    match &known.row {
        Some(row) if row.bytes != content.len() as u64 => {
            return Fetched::Wrong(format!(
                "it was changed: it has {} bytes, {} were written",
                content.len(),
                row.bytes
            ));
        }
        Some(row) if row.crc32c != found => {
            return Fetched::Wrong("it was changed: its bytes are not those that were written".to_owned());
        }
        _ => {}
    }
    match manifest::read(content) {
        Ok(manifest) if !ours(&manifest) || manifest.header.seqs != known.seqs => {
            Fetched::Wrong("it is another one than its name says".to_owned())
        }
        Ok(manifest) => Fetched::Whole(manifest),
        Err(error) => Fetched::Wrong(error.to_string()),
    }
}
