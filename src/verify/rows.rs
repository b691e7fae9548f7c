//! What the journal says must be there.

use super::index::Expected;
use super::{Check, Finding, Kind, VerifyError};
use crate::journal::{Entry, Page, ReadError, Reader, minus};
use crate::model::{CameraId, Cursor, Outcome, Seq, SeqRange};

/// Rows read at a time.
const PAGE: usize = 2_000;

/// The entries after a seq, and where they begin: later than asked where retention has removed some meanwhile.
pub(super) fn page(journal: &Reader, camera: &CameraId, after: Seq, to: Seq) -> Result<(Seq, Page), VerifyError> {
    let mut after = after;
    loop {
        match journal.page(camera, Cursor::after(after), PAGE, to) {
            Ok(page) => return Ok((after, page)),
            Err(ReadError::Gone { oldest }) => after = oldest,
            Err(error) => return Err(error.into()),
        }
    }
}

impl Check<'_> {
    /// Takes from the journal which of a camera's objects must be there, and which seqs it has nothing on.
    pub(super) fn rows(&mut self, camera: usize) -> Result<(), VerifyError> {
        let mark = self.members[camera].mark.clone();
        let mut after = mark.pruned_to;
        if let Some(since) = self.request.since {
            let from = self.journal.first_since(&mark.camera, since)?;
            self.members[camera].from = from;
            after = after.max(from.min(mark.head + 1) - 1);
        }
        let mut next = after + 1;
        while after < mark.head {
            let (begins, page) = page(self.journal, &mark.camera, after, mark.head)?;
            next = next.max(begins + 1);
            after = page.next.max(begins);
            for entry in page.entries {
                let Entry::Frames { seqs, outcome, base_url, .. } = entry else { continue };
                self.gap(camera, next, (seqs.first - 1).min(mark.watermark));
                next = next.max(seqs.last + 1);
                match outcome {
                    Outcome::Lost { .. } => self.members[camera].counts.lose(seqs.len()),
                    Outcome::Stored(stored) => {
                        if self.request.since.is_some_and(|since| stored.captured_at < since) {
                            continue;
                        }
                        let place = self.asker.places.of_frame(&stored, base_url.as_deref());
                        let (bytes, crc32c) = (stored.bytes, stored.crc32c);
                        self.expect(place, Expected { key: stored.key, camera, seq: seqs.first, bytes, crc32c })?;
                    }
                }
            }
            self.tell(camera, "journal", after, Some(mark.head));
            if !page.more {
                break;
            }
        }
        self.gap(camera, next, mark.watermark);
        Ok(())
    }

    /// Notes that an object must be there.
    pub(super) fn expect(&mut self, place: Option<usize>, expected: Expected) -> Result<(), VerifyError> {
        let Some(place) = place else {
            let finding = Finding::new(Kind::NotChecked, "its destination is not in the configuration")
                .seqs(SeqRange::one(expected.seq))
                .key(expected.key);
            return self.wrong(Some(expected.camera), 1, finding);
        };
        if self.index.expect(place, &expected)? {
            self.members[expected.camera].counts.frames += 1;
        }
        Ok(())
    }

    fn gap(&mut self, camera: usize, first: Seq, last: Seq) {
        if first <= last {
            self.members[camera].gaps.push(SeqRange { first, last });
        }
    }

    /// Tells of the seqs that the journal has nothing on: `told` of them are in manifests of these keys, and rise.
    pub(super) fn gaps(&mut self, camera: usize, told: &[(SeqRange, String)]) -> Result<(), VerifyError> {
        for (seqs, key) in told {
            let detail = "the journal has no row of it; this manifest tells how it ended";
            self.wrong(Some(camera), seqs.len(), Finding::new(Kind::Gap, detail).seqs(*seqs).key(key.clone()))?;
        }
        let gaps = std::mem::take(&mut self.members[camera].gaps);
        for seqs in minus(gaps, told.iter().map(|(seqs, _)| *seqs)) {
            let detail = "the journal has no row of it, and no manifest that could be read tells how it ended";
            self.wrong(Some(camera), seqs.len(), Finding::new(Kind::Gap, detail).seqs(seqs))?;
        }
        Ok(())
    }
}
