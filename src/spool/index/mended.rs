//! What the index makes of a segment that had to be looked through.

use std::collections::BTreeMap;

use super::super::extent::{Entries, Extent, Footers, Unread};
use super::super::footer::{Entry, Part};
use super::super::ranges::Ranges;
use super::Index;
use crate::model::{CameraId, SeqRange};

impl Index {
    /// Puts what was read of these segments in place of what their footers should have said. A frame that is not among
    /// it and has no outcome stays, with no bytes: whoever reads it will find out, and say so.
    pub(in crate::spool) fn mended(
        &mut self,
        read: &BTreeMap<u64, Vec<Part>>,
        footers: &impl Footers,
    ) -> Result<(), Unread> {
        let mut mended: Vec<(CameraId, u64, Vec<Entry>)> = Vec::new();
        for (camera, of) in &self.cameras {
            let begin = mended.len();
            for segment in read.keys() {
                let Some(extent) = of.extents.get(segment) else { continue };
                if matches!(extent.entries, Entries::Here(_)) {
                    continue;
                }
                let span = extent.spans();
                let mut gaps = Ranges::default();
                let mut entries: Vec<Entry> = entries_of(&read[segment], camera).to_vec();
                entries.retain(|entry| (span.first..=span.last).contains(&entry.seq));
                // Where all are there, a seq that is not among them is none of this segment's.
                if entries.len() < extent.summary.count as usize {
                    of.settled.missing(span).into_iter().for_each(|part| gaps.insert(part));
                    entries.iter().for_each(|entry| gaps.remove(SeqRange::one(entry.seq)));
                }
                // Between its seqs there may be some that lie elsewhere.
                if extent.has_holes() {
                    for (number, other) in of.extents.iter().filter(|(number, _)| *number != segment) {
                        match (&other.entries, read.get(number)) {
                            (Entries::OnDisk(_), Some(parts)) => {
                                let elsewhere = entries_of(parts, camera).iter();
                                elsewhere.for_each(|entry| gaps.remove(SeqRange::one(entry.seq)));
                            }
                            _ => {
                                for part in gaps.iter().collect::<Vec<_>>() {
                                    let elsewhere = |entry: Entry| gaps.remove(SeqRange::one(entry.seq));
                                    other.each(footers, *number, part, elsewhere)?;
                                }
                            }
                        }
                    }
                    let told = mended[begin..].iter().flat_map(|(_, _, entries)| entries);
                    told.for_each(|entry| gaps.remove(SeqRange::one(entry.seq)));
                }
                let missing = gaps.iter().flat_map(|part| part.first..=part.last);
                entries.extend(missing.map(|seq| Entry { seq, offset: 0, length: 0 }));
                entries.sort_unstable_by_key(|entry| entry.seq);
                mended.push((camera.clone(), *segment, entries));
            }
        }
        for (camera, segment, entries) in mended {
            self.replace(&camera, segment, entries);
        }
        Ok(())
    }

    /// Puts entries in the place of those in a footer, and counts anew.
    fn replace(&mut self, camera: &CameraId, segment: u64, entries: Vec<Entry>) {
        let Some(Extent { summary, .. }) = self.take_out(camera, segment) else { return };
        let of = self.cameras.entry(camera.clone()).or_default();
        let (mut live, mut live_bytes, mut left) = (0, 0, 0);
        for entry in &entries {
            if of.left.contains(entry.seq) {
                left += 1;
            } else if of.is_live(entry.seq) {
                live += 1;
                live_bytes += u64::from(entry.length);
            }
        }
        if live + left > 0 {
            self.extent(camera, segment, Extent { summary, entries: Entries::Here(entries), live, live_bytes, left });
        }
    }
}

fn entries_of<'a>(parts: &'a [Part], camera: &CameraId) -> &'a [Entry] {
    parts.iter().find(|part| part.camera == *camera).map_or(&[], |part| &part.entries)
}
