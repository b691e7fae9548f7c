//! What is in a bucket against what must be there.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{FutureExt as _, StreamExt as _};

use super::asker::Listing;
use super::index::{Ahead, Expected, Span};
use super::{Answer, Check, Finding, Kind, Trouble, VerifyError};
use crate::model::{LostReason, Outcome, SeqRange};
use crate::storage::{BucketError, BucketErrorKind, Listed, ObjectInfo};

/// Objects asked for at the same time. Where that means reading them, each takes a buffer.
const AT_ONCE: usize = 16;

/// Objects that must be there, read from the index at a time.
const BATCH: usize = 1_000;

/// So many objects that a list does not have are asked for one by one, in case it is the list that is wrong; then the
/// list is believed.
const DOUBTED: u32 = 1_000;

/// How long after the spool has a frame the journal has heard of it for certain.
const WORD_OF_THE_SPOOL: Duration = Duration::from_secs(2);

/// So many failures in a row, each after all its attempts, and a bucket is asked no more.
const PATIENCE: u32 = 2 * AT_ONCE as u32;

impl Check<'_> {
    /// Looks for all that must be in a place, and at what else stands there.
    pub(super) async fn objects(&mut self, place: usize) -> Result<(), VerifyError> {
        let start = match (self.request.since, &self.members[..]) {
            (Some(since), [member, ..]) => self.templates[0].floor(&member.mark.camera, self.origin, since),
            _ => self.prefix.clone(),
        };
        // Behind all keys with the prefix: a key holds plain characters only.
        let end = format!("{}\u{10ffff}", self.prefix);
        let behind = (start != self.prefix).then(|| start.clone());
        let mut listing = Listing::new(place, self.prefix.clone(), behind);
        let mut cursor = start.clone();
        loop {
            let page = match self.asker.next(&mut listing).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(error) => {
                    self.list_failed(place, Span { after: &cursor, to: Some(&end) }, &error)?;
                    break;
                }
            };
            let to = match (&page.next, page.objects.last()) {
                (None, _) => end.clone(),
                (Some(_), Some(last)) => last.key.clone(),
                (Some(_), None) => cursor.clone(),
            };
            self.merge(place, page.objects, &mut cursor, &to).await?;
        }
        // Keys that another template made are in no list of this one's.
        self.outside(place, Span { after: "", to: Some(&start) }).await?;
        self.outside(place, Span { after: &end, to: None }).await?;
        while let Some(answer) = self.asked.next().await {
            self.answered(answer)?;
        }
        self.give_account(place)
    }

    /// Goes through a page of a list and what must be there up to its end, both by key.
    async fn merge(
        &mut self,
        place: usize,
        objects: Vec<Listed>,
        cursor: &mut String,
        to: &str,
    ) -> Result<(), VerifyError> {
        let mut objects = objects.into_iter().peekable();
        loop {
            let batch = self.index.span(place, Span { after: cursor, to: Some(to) }, BATCH)?;
            let full = batch.len() == BATCH;
            for expected in batch {
                while let Some(object) = objects.next_if(|object| object.key < expected.key) {
                    self.unexpected(object)?;
                }
                cursor.clone_from(&expected.key);
                match objects.next_if(|object| object.key == expected.key) {
                    Some(object) => self.listed(place, expected, &object).await?,
                    None => self.absent(place, expected).await?,
                }
            }
            if !full {
                break;
            }
        }
        for object in objects {
            self.unexpected(object)?;
        }
        to.clone_into(cursor);
        self.watch_objects();
        Ok(())
    }

    fn watch_objects(&mut self) {
        let all = self.members.iter().map(|member| member.counts.frames).sum();
        self.tell(0, "bucket", self.looked_at, Some(all));
    }

    async fn outside(&mut self, place: usize, span: Span<'_>) -> Result<(), VerifyError> {
        let mut after = span.after.to_owned();
        loop {
            let batch = self.index.span(place, Span { after: &after, to: span.to }, BATCH)?;
            let Some(last) = batch.last() else { return Ok(()) };
            after.clone_from(&last.key);
            for expected in batch {
                self.ask(place, expected).await?;
            }
            self.watch_objects();
        }
    }

    async fn listed(&mut self, place: usize, expected: Expected, object: &Listed) -> Result<(), VerifyError> {
        let crc32c = match object.crc32c {
            Some(crc32c) => crc32c,
            None if object.bytes != expected.bytes => expected.crc32c,
            None if self.request.quick => {
                self.members[expected.camera].counts.sizes_only += 1;
                expected.crc32c
            }
            None => return self.ask(place, expected).await,
        };
        self.compare(expected, ObjectInfo { bytes: object.bytes, crc32c })
    }

    async fn absent(&mut self, place: usize, expected: Expected) -> Result<(), VerifyError> {
        if self.trouble[place].absent >= DOUBTED {
            return self.missing(expected);
        }
        self.trouble[place].absent += 1;
        self.ask(place, expected).await
    }

    /// Asks for an object; waits for the answer to an earlier question where too many are open.
    async fn ask(&mut self, place: usize, expected: Expected) -> Result<(), VerifyError> {
        if self.trouble[place].given_up.is_some() {
            return self.not_asked(place, &expected);
        }
        while self.asked.len() >= AT_ONCE {
            if let Some(answer) = self.asked.next().await {
                self.answered(answer)?;
            }
        }
        let asker = self.asker;
        let question = async move {
            let said = asker.head(place, &expected.key, expected.bytes).await;
            Answer { place, expected, said }
        };
        self.asked.push(question.boxed_local());
        Ok(())
    }

    fn answered(&mut self, answer: Answer) -> Result<(), VerifyError> {
        let Answer { place, expected, said } = answer;
        match said {
            Ok(found) => {
                self.trouble[place].in_a_row = 0;
                match found {
                    Some(object) => self.compare(expected, object),
                    None if self.trouble[place].given_up.is_some() => self.not_asked(place, &expected),
                    None => self.missing(expected),
                }
            }
            Err(error) => {
                let trouble = &mut self.trouble[place];
                // One object may be kept from us in a bucket that answers: an archived one, say. Where the bucket itself
                // refuses us, so does its list.
                trouble.in_a_row += u32::from(error.kind != BucketErrorKind::Auth);
                if error.kind == BucketErrorKind::NotFound || trouble.in_a_row >= PATIENCE {
                    trouble.given_up.get_or_insert(error.message);
                    return self.not_asked(place, &expected);
                }
                self.looked_at += 1;
                let finding =
                    Finding::new(Kind::NotChecked, error.message).seqs(SeqRange::one(expected.seq)).key(expected.key);
                self.wrong(Some(expected.camera), 1, finding)
            }
        }
    }

    /// Counts an object that is not asked for; [`give_account`](Self::give_account) says why.
    fn not_asked(&mut self, place: usize, expected: &Expected) -> Result<(), VerifyError> {
        self.trouble[place].not_asked += 1;
        self.members[expected.camera].counts.wrong[Kind::NotChecked as usize] += 1;
        Ok(())
    }

    /// Says why a bucket was asked no more, if it would have been.
    fn give_account(&mut self, place: usize) -> Result<(), VerifyError> {
        let Trouble { given_up, not_asked, .. } = std::mem::take(&mut self.trouble[place]);
        match given_up {
            Some(why) if not_asked > 0 => {
                let detail = format!("{not_asked} objects were not asked for: {why}");
                self.wrong(None, 0, Finding::new(Kind::NotChecked, detail))
            }
            _ => Ok(()),
        }
    }

    fn list_failed(&mut self, place: usize, span: Span<'_>, error: &BucketError) -> Result<(), VerifyError> {
        // Where there is no list, there may be no bucket: that an object is not there would mean nothing.
        self.trouble[place].given_up.get_or_insert_with(|| error.message.clone());
        let missed = self.index.count(place, span)?;
        for camera in 0..self.members.len() {
            let frames = missed.iter().find(|(of, _)| *of == camera).map_or(0, |(_, frames)| *frames);
            let detail = format!("{frames} frames were not looked for, nor what else is there: {}", error.message);
            // At least one thing, so that a camera without frames does not count as checked.
            self.wrong(Some(camera), frames.max(1), Finding::new(Kind::NotChecked, detail))?;
        }
        Ok(())
    }

    fn missing(&mut self, expected: Expected) -> Result<(), VerifyError> {
        self.looked_at += 1;
        let finding =
            Finding::new(Kind::Missing, "there is no object").seqs(SeqRange::one(expected.seq)).key(expected.key);
        self.wrong(Some(expected.camera), 1, finding)
    }

    fn compare(&mut self, expected: Expected, object: ObjectInfo) -> Result<(), VerifyError> {
        self.looked_at += 1;
        let detail = if object.bytes != expected.bytes {
            let cut = if object.bytes < expected.bytes { "it is cut off: " } else { "" };
            format!("{cut}it has {} bytes, {} were stored", object.bytes, expected.bytes)
        } else if object.crc32c != expected.crc32c {
            let [found, stored] =
                [object.crc32c, expected.crc32c].map(|crc32c| BASE64_STANDARD.encode(crc32c.to_be_bytes()));
            format!("it has other bytes: their CRC32C is {found}, {stored} was stored")
        } else {
            return Ok(());
        };
        let finding = Finding::new(Kind::Corrupt, detail).seqs(SeqRange::one(expected.seq)).key(expected.key);
        self.wrong(Some(expected.camera), 1, finding)
    }

    /// Says what an object is that does not have to be there.
    fn unexpected(&mut self, object: Listed) -> Result<(), VerifyError> {
        // Those have their own check.
        if object.key.starts_with("_manifest/") {
            return Ok(());
        }
        let Some(named) = self.templates.iter().find_map(|template| template.read(&object.key)) else {
            let finding = Finding::new(Kind::Foreign, format!("no key of ours: an object of {} bytes", object.bytes));
            return self.wrong(None, 1, finding.key(object.key));
        };
        // A neighbour's, where keys do not begin with the camera.
        let Some(camera) = self.members.iter().position(|member| member.mark.camera == named.camera) else {
            return Ok(());
        };
        if named.origin != *self.origin {
            self.members[camera].counts.others += 1;
            return Ok(());
        }
        let outcome = self.journal.outcome_of(&named.camera, named.seq)?;
        let member = &mut self.members[camera];
        let (kind, detail) = match outcome {
            // It was captured before what is asked for, or stored since.
            Some(Outcome::Stored(stored)) if stored.key == object.key => {
                member.counts.in_flight += u64::from(named.seq > member.mark.head);
                return Ok(());
            }
            Some(Outcome::Stored(stored)) => {
                (Kind::Unlisted, format!("the journal says that this frame is stored as {}", stored.key))
            }
            Some(Outcome::Lost { reason: LostReason::Conflict, .. }) => (
                Kind::Foreign,
                "it stood under a frame's key before the frame came, which is lost(conflict)".to_owned(),
            ),
            Some(Outcome::Lost { maybe_stored: true, .. }) => {
                member.counts.maybe_stored += 1;
                return Ok(());
            }
            Some(Outcome::Lost { reason, .. }) => {
                (Kind::Unlisted, format!("the journal says that this frame is lost({})", reason.as_str()))
            }
            None => match self.index.told(camera, named.seq)? {
                Some(true) => {
                    member.counts.maybe_stored += 1;
                    return Ok(());
                }
                Some(false) => (Kind::Unlisted, "a manifest says otherwise of this frame".to_owned()),
                // Retention goes on while this check does.
                None => match self.journal.bounds(&named.camera)? {
                    bounds if (1..member.from.max(bounds.pruned_to + 1)).contains(&named.seq) => {
                        member.counts.forgotten += 1;
                        return Ok(());
                    }
                    _ if named.seq <= member.mark.watermark => {
                        (Kind::Unlisted, "the journal has no row of this frame".to_owned())
                    }
                    bounds if named.seq < bounds.reserved_until => {
                        member.counts.in_flight += 1;
                        return Ok(());
                    }
                    _ => return self.index.put_ahead(&Ahead { camera, seq: named.seq, key: object.key }),
                },
            },
        };
        let finding = Finding::new(kind, detail).seqs(SeqRange::one(named.seq)).key(object.key);
        self.wrong(Some(camera), 1, finding)
    }

    /// Looks again at the objects of seqs that nobody had given, as far as the journal knew. It hears of them from the
    /// spool, once a second; what it has not heard of by now is no frame on its way.
    pub(super) async fn ahead(&mut self) -> Result<(), VerifyError> {
        let mut after = 0;
        loop {
            let batch = self.index.ahead(after, BATCH)?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            if after == 0 {
                tokio::time::sleep(WORD_OF_THE_SPOOL).await;
            }
            after = *last;
            for (_, Ahead { camera, seq, key }) in batch {
                let id = self.members[camera].mark.camera.clone();
                if seq < self.journal.bounds(&id)?.reserved_until {
                    self.members[camera].counts.in_flight += 1;
                    continue;
                }
                let finding = Finding::new(Kind::Unlisted, "no frame of this camera has this seq yet");
                self.wrong(Some(camera), 1, finding.seqs(SeqRange::one(seq)).key(key))?;
            }
        }
    }
}
