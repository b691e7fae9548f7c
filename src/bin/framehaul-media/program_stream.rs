//! Whether an MPEG program stream is whole. FFmpeg looks for the next thing that it knows and says nothing of what it
//! passed over, so its units are counted off here, by their lengths alone.

use std::io::{self, BufRead, BufReader, Read, Seek};

/// What `IMKH` and its like are followed by before the stream begins, bytes.
const HEAD: usize = 40;

/// What a walk over all of its units has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Bytes that belong to no unit, and are no filling of zeros or ones.
    pub foreign: u64,
    /// Whether it ends within a unit.
    pub cut: bool,
}

impl Findings {
    /// What is wrong with it, if anything.
    pub fn told(self) -> Option<String> {
        match self {
            Self { foreign: 0, cut: false } => None,
            Self { foreign: 0, cut: true } => Some("it ends in the middle of a packet".to_owned()),
            Self { foreign, cut: false } => Some(format!("{foreign} bytes in it belong to no packet")),
            Self { foreign, cut: true } => {
                Some(format!("{foreign} bytes in it belong to no packet, and it ends in the middle of one"))
            }
        }
    }
}

/// Walks over a stream, or over what begins before so many bytes of it.
///
/// # Errors
///
/// Where it cannot be read.
pub fn examine(file: impl Read + Seek, until: Option<u64>) -> io::Result<Findings> {
    let mut walk = Walk { input: BufReader::with_capacity(4_096, file), findings: Findings::default(), left: 0 };
    let size = walk.input.seek(io::SeekFrom::End(0))?;
    walk.input.rewind()?;
    walk.left = size;
    let mut head = [0; 4];
    if walk.peek(&mut head)? && head != [0, 0, 1, 0xba] && head.is_ascii() && head.ends_with(b"KH") {
        walk.pass(HEAD as u64)?;
    }
    while until.is_none_or(|until| size - walk.left < until) && walk.unit()? {}
    Ok(walk.findings)
}

struct Walk<R> {
    input: BufReader<R>,
    findings: Findings,
    /// Bytes to the end.
    left: u64,
}

impl<R: Read + Seek> Walk<R> {
    /// Reads without going on. `false` where there is less than that.
    fn peek(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        if self.left < bytes.len() as u64 {
            return Ok(false);
        }
        self.input.read_exact(bytes)?;
        self.input.seek_relative(-(bytes.len() as i64))?;
        Ok(true)
    }

    /// Goes on by so much, or finds that the stream ends before.
    fn pass(&mut self, count: u64) -> io::Result<bool> {
        let whole = count <= self.left;
        self.findings.cut |= !whole;
        let count = count.min(self.left);
        self.left -= count;
        self.input.seek_relative(count as i64)?;
        Ok(whole)
    }

    /// Passes one unit, or what lies before the next one. `false` at the end.
    fn unit(&mut self) -> io::Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        let mut start = [0; 4];
        if !self.peek(&mut start)? {
            return self.search();
        }
        match start {
            [0, 0, 1, 0xb9] => self.pass(4),
            [0, 0, 1, 0xba] => {
                let mut pack = [0; 14];
                if !self.peek(&mut pack)? {
                    return self.pass(14);
                }
                // ISO 13818-1 with its stuffing, or ISO 11172-1 before it.
                let length = if pack[4] >> 6 == 1 { 14 + u64::from(pack[13] & 7) } else { 12 };
                self.pass(length)
            }
            [0, 0, 1, 0xbb..=0xff] => {
                let mut unit = [0; 6];
                if !self.peek(&mut unit)? {
                    return self.pass(6);
                }
                let length = u64::from(u16::from_be_bytes([unit[4], unit[5]]));
                if length == 0 {
                    // It goes on until the next one begins.
                    self.pass(6)?;
                    return self.skip_to_next(|_| 0);
                }
                self.pass(6 + length)
            }
            _ => self.search(),
        }
    }

    fn search(&mut self) -> io::Result<bool> {
        self.skip_to_next(|byte| u64::from(!matches!(byte, 0 | 0xff)))
    }

    /// Goes on to where a unit may begin.
    fn skip_to_next(&mut self, foreign: impl Fn(u8) -> u64) -> io::Result<bool> {
        let mut last = [0xff; 3];
        let mut passed = 0;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                self.left = 0;
                return Ok(false);
            }
            for (nth, byte) in buffer.iter().enumerate() {
                if passed >= 3 && last == [0, 0, 1] && *byte >= 0xb9 {
                    // Back to before the three.
                    self.findings.foreign -= foreign(1);
                    self.left = self.left - nth as u64 + 3;
                    self.input.seek_relative(nth as i64 - 3)?;
                    return Ok(true);
                }
                self.findings.foreign += foreign(*byte);
                last = [last[1], last[2], *byte];
                passed += 1;
            }
            let count = buffer.len();
            self.left -= count as u64;
            self.input.consume(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn found(parts: &[&[u8]]) -> (u64, bool) {
        let findings = examine(Cursor::new(parts.concat()), None).unwrap();
        (findings.foreign, findings.cut)
    }

    const PACK: [u8; 16] = [0, 0, 1, 0xba, 0x44, 0, 4, 0, 4, 1, 0, 0, 3, 0xfa, 0xff, 0xff];
    const UNIT: [u8; 10] = [0, 0, 1, 0xe0, 0, 4, 0x80, 0, 0, 7];

    #[test]
    fn whole_streams_are_whole() {
        let head: Vec<u8> = b"IMKH".iter().copied().chain([9; 36]).collect();
        let end = [0, 0, 1, 0xb9];
        let old = [0, 0, 1, 0xba, 0x21, 1, 1, 1, 1, 1, 1, 1];
        for parts in [
            vec![&head[..], &PACK, &UNIT, &UNIT, &end],
            vec![&PACK[..], &UNIT, &[0; 5_000], &PACK, &UNIT],
            vec![&PACK[..], &UNIT, &[0xff; 9]],
            vec![&old[..], &UNIT],
            vec![],
        ] {
            assert_eq!(found(&parts), (0, false));
        }
        // A picture of no length goes on to the next unit.
        assert_eq!(found(&[&PACK, &[0, 0, 1, 0xe0, 0, 0], &[0, 0, 1, 0x65, 7, 7], &PACK, &UNIT]), (0, false));
    }

    #[test]
    fn what_is_missing_or_too_much_is_found() {
        let whole = [&PACK[..], &UNIT, &PACK, &UNIT].concat();
        for end in [5, 11, 16 + 5, 16 + 9, 26 + 5, 26 + 16 + 3] {
            let (foreign, cut) = found(&[&whole[..end]]);
            assert!(cut || foreign > 0, "{end}");
        }
        assert_eq!(found(&[&PACK, &[1, 2, 3, 4, 5], &UNIT]), (5, false));
        // A length that is wrong leads astray until the next unit begins.
        let long = [0, 0, 1, 0xe0, 0, 23, 0x80, 0, 0, 7];
        let (foreign, cut) = found(&[&PACK, &long, &PACK, &UNIT, &UNIT]);
        assert!(foreign > 0 && !cut);
        assert_eq!(found(&[&[7; 10_000]]), (10_000, false));
    }

    #[test]
    fn what_lies_behind_the_wanted_part_does_not_count() {
        let stream = [&PACK[..], &UNIT, &[1, 2, 3], &UNIT].concat();
        for (until, foreign) in [(Some(26), 0), (Some(27), 3), (None, 3)] {
            assert_eq!(examine(Cursor::new(&stream), until).unwrap().foreign, foreign, "{until:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let bytes: Vec<u8> =
                (0..rng.usize(0..9_000)).map(|_| [0, 0, 1, 0xba, 0xe0, 0xff, 7][rng.usize(0..7)]).collect();
            examine(Cursor::new(bytes), None).unwrap();
        }
    }
}
