//! The bytes of a request body, as they came off the socket.

use std::ops::Range;

use bytes::Bytes;

/// A body in the slices in which it arrived. Nothing is joined until somebody asks for it, so a body that is only
/// checked is never copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    slices: Vec<Bytes>,
    len: usize,
    /// Bytes before those of the slices, of which nothing is left but their CRC32C.
    let_go: usize,
    crc32c: u32,
}

/// So many bytes of a body that is discarded are held at least.
const HELD: usize = 4 << 20;

impl Pieces {
    /// Appends the next slice.
    pub(super) fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.push(slice);
        }
    }

    /// Appends all slices of another body.
    pub(super) fn append(&mut self, mut other: Pieces) {
        debug_assert_eq!(other.let_go, 0, "these bytes are gone");
        self.len += other.len;
        self.slices.append(&mut other.slices);
    }

    /// Forgets all bytes but their number and CRC32C, once there are many. They can be neither read nor sliced after that.
    pub(super) fn let_go(&mut self) {
        if self.len - self.let_go >= HELD {
            (self.crc32c, self.let_go) = (self.crc32c(), self.len);
            self.slices.clear();
        }
    }

    /// Bytes in all slices, and those that were let go.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The part of the body in `range`, sharing its memory.
    pub(super) fn slice(&self, range: Range<usize>) -> Pieces {
        let mut part = Pieces::default();
        let mut start = 0;
        for slice in &self.slices {
            let end = start + slice.len();
            if end > range.start && start < range.end {
                let from = range.start.max(start) - start;
                let to = range.end.min(end) - start;
                part.push(slice.slice(from..to));
            }
            start = end;
        }
        part
    }

    /// All bytes in one allocation of exactly their length.
    ///
    /// This is the one copy an upload pays for when its body is kept, and it does not show beside the page faults of
    /// that memory. The slices, were they kept, would hold on to the read buffers and all else that was read into them.
    pub(super) fn to_bytes(&self) -> Bytes {
        let mut joined = Vec::with_capacity(self.len);
        for slice in &self.slices {
            joined.extend_from_slice(slice);
        }
        Bytes::from(joined)
    }

    /// The CRC32C of all bytes.
    pub(super) fn crc32c(&self) -> u32 {
        self.slices.iter().fold(self.crc32c, |crc, slice| crc32c::crc32c_append(crc, slice))
    }

    /// The MD5 of all bytes; `None` where some were let go.
    pub(super) fn md5(&self) -> Option<[u8; 16]> {
        use md5::Digest as _;
        if self.let_go > 0 {
            return None;
        }
        let mut hash = md5::Md5::new();
        for slice in &self.slices {
            hash.update(slice);
        }
        Some(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(parts: &[&'static str]) -> Pieces {
        let mut pieces = Pieces::default();
        for part in parts {
            pieces.push(Bytes::from_static(part.as_bytes()));
        }
        pieces
    }

    #[test]
    fn every_slice_equals_that_of_the_joined_bytes() {
        let whole = "abcdefghij";
        let cut = pieces(&["abc", "", "d", "efghi", "j"]);
        assert_eq!(cut.len(), whole.len());
        for from in 0..=whole.len() {
            for to in from..=whole.len() {
                let part = cut.slice(from..to);
                assert_eq!(part.to_bytes(), whole[from..to], "{from}..{to}");
                assert_eq!(part.len(), to - from);
            }
        }
    }

    #[test]
    fn checksums_do_not_depend_on_the_cuts() {
        // The check value of CRC-32C, and an MD5 of RFC 1321's test suite.
        assert_eq!(pieces(&["1234", "", "56789"]).crc32c(), 0xe306_9283);
        let md5 = pieces(&["message", " dig", "est"]).md5().unwrap();
        assert_eq!(u128::from_be_bytes(md5), 0xf96b_697d_7cb7_938d_525a_2f31_aaf1_61d0);
    }

    #[test]
    fn what_is_let_go_counts() {
        let (mut whole, mut part) = (Pieces::default(), Pieces::default());
        for n in 0..100_u8 {
            let slice = Bytes::from(vec![n; HELD / 7]);
            whole.push(slice.clone());
            part.push(slice);
            part.let_go();
            assert!(part.slices.len() <= 7, "{}", part.slices.len());
        }
        assert_eq!((part.len(), part.crc32c()), (whole.len(), whole.crc32c()));
        assert!(whole.md5().is_some() && part.md5().is_none());
    }
}
