//! A camera's manifests against what the journal says of them, and against the rows that they tell of.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::asker::Listing;
use super::index::Expected;
use super::roll::{Known, Roll};
use super::rows::page;
use super::{Check, Finding, Kind, Member, VerifyError};
use crate::journal::{Entry, JournalError, ReadError, minus};
use crate::manifest::{self, Line, Manifest};
use crate::model::{Outcome, Seq, SeqRange, Stored};
use crate::storage::Listed;

/// Manifests read at the same time. One of 10,000 entries takes some 15 MB while it is looked at.
const AT_ONCE: usize = 2;

/// Manifests taken from the journal or the temporary database at a time.
const BATCH: usize = 1_000;

/// What stands before all seqs.
const NONE: SeqRange = SeqRange { first: 0, last: 0 };

/// How much longer than it should be a manifest may be and still be read.
const SLACK: u64 = 1 << 20;

/// The longest one that is read of those that the journal does not know.
const LONGEST: u64 = 16 << 20;

impl Known {
    /// What is wrong with its length, as the list tells it.
    fn wrong_length(&self) -> Option<String> {
        match (self.row, self.listed?) {
            (Some((written, _)), listed) if written != listed => Some(changed(listed, written)),
            (None, listed) if listed > LONGEST => Some(format!("it has {listed} bytes: no manifest is that long")),
            _ => None,
        }
    }

    /// Why its bucket cannot be asked.
    fn nowhere(&self) -> String {
        match &self.base_url {
            Some(base_url) => format!("it went to {base_url}, where no destination leads any more"),
            None => "its destination is not in the configuration".to_owned(),
        }
    }
}

fn changed(found: u64, written: u64) -> String {
    format!("it was changed: it has {found} bytes, {written} were written")
}

/// How far the manifests of a camera are read.
#[derive(Default)]
struct Course {
    /// The seq that the next one begins with; `None` before the first one where that is not known.
    next: Option<Seq>,
    /// What they tell of seqs that the journal has no row of, and should have.
    told: Vec<(SeqRange, String)>,
    /// The seqs that they hold, as far as they could be read.
    covered: Vec<SeqRange>,
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
        let (roll, failed) = self.roll(camera).await?;
        let all = roll.len()?;
        let mut course = Course { next: (self.members[camera].from == 1).then_some(1), ..Course::default() };
        let mut after = NONE;
        loop {
            let batch = roll.page(after, false, BATCH)?;
            let Some(last) = batch.last() else { break };
            after = last.seqs;
            self.read(camera, batch, &failed, &mut course, all).await?;
        }
        let Course { mut told, covered, .. } = course;
        let Member { mark, from, counts, .. } = &mut self.members[camera];
        let gone = (*from <= mark.pruned_to).then_some(SeqRange { first: *from, last: mark.pruned_to });
        counts.untold = minus(gone, covered).iter().map(SeqRange::len).sum();
        told.sort_by_key(|(seqs, _)| seqs.first);
        self.gaps(camera, &told)
    }

    /// Reads some of them, in order.
    async fn read(
        &mut self,
        camera: usize,
        batch: Vec<Known>,
        failed: &BTreeMap<usize, String>,
        course: &mut Course,
        all: u64,
    ) -> Result<(), VerifyError> {
        let (asker, origin) = (self.asker, self.origin.clone());
        let id = self.members[camera].mark.camera.clone();
        let read = batch.into_iter().map(|known| {
            let (id, origin) = (id.clone(), origin.clone());
            async move {
                let key = manifest::key(&id, &origin, known.seqs);
                let limit = known.row.map_or(LONGEST, |(bytes, _)| bytes + SLACK);
                let fetched = match (known.place, known.wrong_length()) {
                    (Some(_), Some(why)) => Fetched::Wrong(why),
                    (Some(place), None) => match asker.get(place, &key, limit).await {
                        Ok(Some(content)) => judge(&known, &content, |manifest| {
                            manifest.header.camera == id && manifest.header.origin == origin
                        }),
                        // Where there is no list, there may be no bucket.
                        Ok(None) => match failed.get(&place) {
                            Some(why) => Fetched::NotChecked(why.clone()),
                            None => Fetched::Wrong("it is not there".to_owned()),
                        },
                        Err(error) => Fetched::NotChecked(error.message),
                    },
                    (None, _) => Fetched::NotChecked(known.nowhere()),
                };
                (known, key, fetched)
            }
        });
        let mut read = std::pin::pin!(stream::iter(read).buffered(AT_ONCE));
        while let Some((known, key, fetched)) = read.next().await {
            let counts = &mut self.members[camera].counts;
            counts.manifests += 1;
            let done = counts.manifests;
            let about = |kind, detail: String| Finding::new(kind, detail).seqs(known.seqs).key(key.clone());
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
            if let Some(next) = course.next.filter(|next| *next != known.seqs.first && explained != Some(*next)) {
                let detail = match next < known.seqs.first {
                    true => format!("no manifest holds the seqs {next} to {} before it", known.seqs.first - 1),
                    false => format!("the seqs {} to {} are in another one, too", known.seqs.first, next - 1),
                };
                self.wrong(Some(camera), 1, about(Kind::Manifest, detail))?;
            }
            course.next = Some(course.next.unwrap_or(0).max(known.seqs.last + 1));
            if let Some(manifest) = manifest {
                match course.covered.last_mut() {
                    Some(last) if known.seqs.first <= last.last + 1 => last.last = last.last.max(known.seqs.last),
                    _ => course.covered.push(known.seqs),
                }
                self.lines(camera, (known.seqs, &key), manifest, &mut course.told)?;
            }
            self.tell(camera, "manifests", done, Some(all));
        }
        Ok(())
    }

    /// The manifests that the journal knows to be stored and those that a bucket has besides; and the places that do not
    /// tell, with the reason.
    async fn roll(&mut self, camera: usize) -> Result<(Roll, BTreeMap<usize, String>), VerifyError> {
        let (id, from) = (self.members[camera].mark.camera.clone(), self.members[camera].from);
        let prefix = manifest::prefix(&id, self.origin);
        self.pending_bytes(camera)?;
        let (roll, mut failed, mut after) = (Roll::new()?, BTreeMap::new(), 0);
        loop {
            let rows = self.journal.stored_manifests(&id, after, from, BATCH)?;
            let Some(last) = rows.last() else { break };
            after = last.seqs.first;
            for row in rows {
                roll.know(&row, self.asker.places.of(&row.destination, row.base_url.as_deref()))?;
            }
        }
        // A destination where it never had one may be out of reach, and no harm.
        let used = roll.places()?;
        for place in self.asker.places.all().filter(|place| used.is_empty() || used.contains(place)) {
            let mut listing = Listing::new(place, prefix.clone(), None);
            loop {
                let page = match self.asker.next(&mut listing).await {
                    Ok(Some(page)) => page,
                    Ok(None) => break,
                    Err(error) => {
                        let detail = format!("which manifests there are is not known: {}", error.message);
                        self.wrong(Some(camera), 1, Finding::new(Kind::NotChecked, detail).key(prefix.clone()))?;
                        failed.insert(place, error.message);
                        break;
                    }
                };
                for Listed { key, bytes, .. } in page.objects {
                    let Some(seqs) = key.strip_prefix(&prefix).and_then(manifest::parse_file_name) else {
                        let finding = Finding::new(Kind::Foreign, "it stands among the manifests and is none");
                        self.wrong(Some(camera), 1, finding.key(key))?;
                        continue;
                    };
                    if seqs.last >= from {
                        roll.listed(place, seqs, bytes)?;
                    }
                }
            }
        }
        // One that came meanwhile was committed before it was put, and is stored after it was pending: asked for in this
        // order, it cannot be missed in between.
        let (pending, mut after) = (self.journal.pending_seqs(&id)?, NONE);
        loop {
            let batch = roll.page(after, true, BATCH)?;
            let Some(last) = batch.last() else { break };
            after = last.seqs;
            for Known { seqs, .. } in batch {
                let other = self.journal.stored_over(&id, seqs)?;
                if pending == Some(seqs) || other == Some(seqs) {
                    roll.remove(seqs)?;
                } else if other.is_some() {
                    // What it says of seqs that are in another one is not asked: that one's word counts.
                    roll.remove(seqs)?;
                    let detail = "the journal does not know of this manifest, and has its seqs in another one";
                    let finding = Finding::new(Kind::Manifest, detail).seqs(seqs);
                    self.wrong(Some(camera), 1, finding.key(manifest::key(&id, self.origin, seqs)))?;
                }
            }
        }
        Ok((roll, failed))
    }

    /// Says so where the bytes of a camera's manifest that is on its way are damaged in the journal: it is put nowhere.
    fn pending_bytes(&mut self, camera: usize) -> Result<(), VerifyError> {
        match self.journal.pending_manifest(&self.members[camera].mark.camera) {
            Ok(_) => Ok(()),
            Err(ReadError::Journal(error @ JournalError::Corrupt { .. })) => {
                self.wrong(Some(camera), 1, Finding::new(Kind::Manifest, error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Compares what a manifest tells with the journal's rows. `told` gets what it has and the journal has not.
    fn lines(
        &mut self,
        camera: usize,
        (held, key): (SeqRange, &str),
        manifest: Manifest,
        told: &mut Vec<(SeqRange, String)>,
    ) -> Result<(), VerifyError> {
        let member = &self.members[camera];
        let (id, from) = (member.mark.camera.clone(), member.from);
        let mut rows: BTreeMap<Seq, (SeqRange, Outcome, Option<String>)> = BTreeMap::new();
        let mut after = held.first.max(from) - 1;
        // Up to here the journal has no rows, and need not have.
        let mut pruned = member.mark.pruned_to;
        while after < held.last {
            let (begins, page) = page(self.journal, &id, after, held.last)?;
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
                Some((of, row, base_url)) if *of == seqs && same(row, base_url.as_deref(), &outcome, &url) => {
                    // Retention may take its row before its object is come upon.
                    if let Outcome::Lost { maybe_stored, .. } = outcome {
                        self.index.tell(camera, seqs, maybe_stored)?;
                    }
                    continue;
                }
                Some(_) => {
                    let detail = "what it tells of this frame is not what the journal tells";
                    let finding = Finding::new(Kind::Manifest, detail).seqs(seqs).key(key);
                    self.wrong(Some(camera), 1, finding)?;
                    continue;
                }
                None if seqs.last <= pruned => {}
                None => push(told, seqs, key),
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
                    self.members[camera].counts.lose(seqs.len());
                    self.index.tell(camera, seqs, maybe_stored)?;
                }
            }
        }
        Ok(())
    }
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
        Line::Frame {
            seq,
            captured_at,
            stored_at,
            destination,
            url,
            key,
            bytes,
            crc32c,
            width,
            height,
            damaged,
            ..
        } => {
            let stored = Stored { destination, key, captured_at, stored_at, bytes, crc32c, width, height, damaged };
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
    match known.row {
        Some((written, _)) if written != content.len() as u64 => {
            return Fetched::Wrong(changed(content.len() as u64, written));
        }
        Some((_, written)) if written != found => {
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
