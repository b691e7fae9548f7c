//! What comes in, cut into pieces that can be sent again.
//!
//! A task of its own fills the next piece while the one before is on its way, so that source and bucket work at the same
//! time. There are never more than these two, and those that follow are made in the same memory: the system would clear
//! each that is taken anew.

use std::mem::replace;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::mpsc::{self, Receiver};
use tokio_util::task::AbortOnDropHandle;

use super::{Body, BodyError, ObjectInfo};

/// So much goes into a bucket over the network at once, bytes. What is no larger goes there in one request. Two of them
/// are in memory; S3 takes no less than 5 MiB, and Cloud Storage multiples of 256 KiB.
pub(super) const PIECE: usize = 8 << 20;

/// A part of an object.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Its bytes.
    pub(super) content: Bytes,
    /// Size and checksum of all of the object up to its end.
    pub(super) to_here: ObjectInfo,
    /// Whether nothing follows.
    pub(super) last: bool,
}

impl Piece {
    /// Where it begins in the object.
    pub(super) fn start(&self) -> u64 {
        self.to_here.bytes - self.content.len() as u64
    }
}

/// The pieces of an object, in their order. Dropped, it drops the source.
#[derive(Debug)]
pub(super) struct Pieces {
    filled: Receiver<Result<Piece, BodyError>>,
    _task: AbortOnDropHandle<()>,
}

impl Pieces {
    /// Pieces of so many bytes, but for the last, which is empty only where nothing comes at all.
    pub(super) fn of(body: Body, size: usize) -> Self {
        let (fill, filled) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let mut source = Source { body, rest: Bytes::new(), over: false, made: [Bytes::new(), Bytes::new()] };
            let mut to_here = ObjectInfo { bytes: 0, crc32c: 0 };
            // A place first: a piece that is filled and finds none would be a third one.
            while let Ok(place) = fill.reserve().await {
                let piece = source.piece(size, &mut to_here).await;
                let is_last = piece.as_ref().is_ok_and(|piece| piece.last) || piece.is_err();
                place.send(piece);
                if is_last {
                    return;
                }
            }
        });
        Self { filled, _task: AbortOnDropHandle::new(task) }
    }

    /// The next one. Not to be asked for after the last.
    pub(super) async fn next(&mut self) -> Result<Piece, BodyError> {
        // Nobody else ends the task, so it has panicked.
        self.filled.recv().await.unwrap_or_else(|| Err("its source broke down".into()))
    }
}

struct Source {
    body: Body,
    /// What came and is in no piece yet.
    rest: Bytes,
    over: bool,
    /// The one before the last, and the last.
    made: [Bytes; 2],
}

impl Source {
    /// The memory of the one before the last, unless somebody still has it.
    fn memory(&mut self, size: usize) -> BytesMut {
        let [older, newer] = replace(&mut self.made, [Bytes::new(), Bytes::new()]);
        self.made[0] = newer;
        match older.try_into_mut() {
            Ok(mut memory) if memory.capacity() >= size => {
                memory.clear();
                memory
            }
            _ => BytesMut::with_capacity(size),
        }
    }

    async fn piece(&mut self, size: usize, to_here: &mut ObjectInfo) -> Result<Piece, BodyError> {
        let mut content = self.memory(size);
        loop {
            let part = self.rest.split_to(self.rest.len().min(size - content.len()));
            to_here.bytes += part.len() as u64;
            to_here.crc32c = crc32c::crc32c_append(to_here.crc32c, &part);
            content.extend_from_slice(&part);
            // A full one is told from the last by what follows.
            if !self.rest.is_empty() || self.over {
                let content = content.freeze();
                self.made[1] = content.clone();
                return Ok(Piece { content, to_here: *to_here, last: self.rest.is_empty() });
            }
            match self.body.next().await {
                Some(part) => self.rest = part?,
                None => self.over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures_util::stream;

    use super::*;

    async fn cut(parts: &[&'static str], size: usize) -> Vec<(String, u64, bool)> {
        let body = stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect::<Vec<_>>());
        let mut pieces = Pieces::of(body.boxed(), size);
        let mut all = Vec::new();
        let mut whole = Vec::new();
        loop {
            let piece = pieces.next().await.unwrap();
            whole.extend_from_slice(&piece.content);
            assert_eq!(piece.to_here, ObjectInfo { bytes: whole.len() as u64, crc32c: crc32c::crc32c(&whole) });
            all.push((String::from_utf8(piece.content.to_vec()).unwrap(), piece.start(), piece.last));
            if piece.last {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn pieces_are_full_and_the_last_is_known_for_it() {
        let of = |text: &str, start, last| (text.to_owned(), start, last);
        assert_eq!(cut(&[], 4).await, [of("", 0, true)]);
        assert_eq!(cut(&["", ""], 4).await, [of("", 0, true)]);
        assert_eq!(cut(&["abc"], 4).await, [of("abc", 0, true)]);
        assert_eq!(cut(&["ab", "", "cd"], 4).await, [of("abcd", 0, true)]);
        assert_eq!(cut(&["abcde", ""], 4).await, [of("abcd", 0, false), of("e", 4, true)]);
        let three = [of("abcd", 0, false), of("efgh", 4, false), of("ij", 8, true)];
        assert_eq!(cut(&["abcdefghij"], 4).await, three);
        assert_eq!(cut(&["a", "bcdef", "ghi", "j"], 4).await, three);
    }

    #[tokio::test]
    async fn pieces_that_nobody_has_any_more_give_their_memory_to_those_that_follow() {
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"x")));
        let mut pieces = Pieces::of(endless.boxed(), 10);
        let mut kept = Vec::new();
        let mut seen = Vec::new();
        for nth in 0..12 {
            let piece = pieces.next().await.unwrap();
            assert_eq!(piece.content, "xxxxxxxxxx");
            seen.push(piece.content.as_ptr());
            // Whoever keeps one keeps what is in it.
            if nth == 6 {
                kept.push(piece);
            }
        }
        let (before, after) = (&seen[..7], &seen[7..]);
        assert!((2..7).all(|nth| before[nth] == before[nth - 2]), "{seen:?}");
        assert!(!after.contains(&seen[6]), "{seen:?}");
        assert_eq!(kept[0].content, "xxxxxxxxxx");
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_or_panics_is_an_error_after_what_came_before() {
        let parts: Vec<Result<Bytes, BodyError>> =
            vec![Ok(Bytes::from_static(b"abcdef")), Err("the line was cut".into())];
        let mut pieces = Pieces::of(stream::iter(parts).boxed(), 4);
        assert_eq!(pieces.next().await.unwrap().content, "abcd");
        assert_eq!(pieces.next().await.unwrap_err().to_string(), "the line was cut");
        let mut pieces = Pieces::of(stream::once(async { panic!("as a test wants it") }).boxed(), 4);
        assert_eq!(pieces.next().await.unwrap_err().to_string(), "its source broke down");
    }

    #[tokio::test]
    async fn no_more_is_taken_from_the_source_than_two_pieces() {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let endless = stream::repeat_with(move || {
            count.fetch_add(1, SeqCst);
            Ok(Bytes::from_static(b"x"))
        });
        let mut pieces = Pieces::of(endless.boxed(), 10);
        for out in 1..=3 {
            pieces.next().await.unwrap();
            // All that can run has run when this comes to its end: there is one thread.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            // The one that is out, the one that waits, and a look at what follows each.
            assert_eq!(taken.load(SeqCst), (out + 1) * 10 + 1);
        }
    }
}
