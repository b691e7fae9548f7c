//! A baseline JPEG encoder for pictures of flat blocks, which is all that a mark needs.

use anyhow::ensure;

use super::Synthetic;
use crate::mark::Mark;

/// Pixels of a JPEG block's side.
const BLOCK: usize = 8;
/// The step in which the mean of a block is told: eight times the mean's distance from 128. Four steps are black or
/// white.
const DC_STEP: u8 = 224;
const LEVEL: i32 = 4;
/// The kinds of differences between one block's mean and the next: none, one step of grey to black or white (a number
/// of three bits), black to white (four bits). They have codes of one, two and three bits.
const CATEGORIES: [u8; 3] = [0, 3, 4];
/// The longest comment there is, its own head included.
const COMMENT: usize = 2 + 0xffff;
/// The least that a comment takes.
const COMMENT_HEAD: usize = 4;
const END: [u8; 2] = [0xff, 0xd9];

/// Makes a camera's pictures. All have the same size, whatever their mark.
pub(super) struct Painter {
    width: usize,
    height: usize,
    bytes: usize,
    /// What comes before the comments, and what comes after them and before the blocks.
    head: Vec<u8>,
    tables: Vec<u8>,
    /// What comments are filled with: nothing that a disk or a file system could spare itself.
    noise: Vec<u8>,
    luma: Vec<u8>,
    scan: Bits,
}

impl Painter {
    pub(super) fn new(camera: &Synthetic) -> Self {
        let (width, height) = (usize::from(camera.width), usize::from(camera.height));
        let mut rng = fastrand::Rng::with_seed(u64::from(camera.number));
        Self {
            width,
            height,
            bytes: camera.bytes,
            head: [&[0xff, 0xd8][..], &segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")].concat(),
            tables: tables(camera.width, camera.height),
            noise: (0..camera.bytes.min(COMMENT)).map(|_| rng.u8(..)).collect(),
            luma: vec![128; width * height],
            scan: Bits::default(),
        }
    }

    /// Appends the picture of a mark.
    ///
    /// # Errors
    ///
    /// When it does not fit into the bytes that a picture has.
    pub(super) fn paint(&mut self, mark: Mark, out: &mut Vec<u8>) -> anyhow::Result<()> {
        mark.draw(&mut self.luma, self.width, self.height);
        self.encode();
        let bare = self.head.len() + self.tables.len() + self.scan.bytes.len() + END.len();
        let mut padding = self.bytes.checked_sub(bare).unwrap_or(1);
        ensure!(
            padding == 0 || padding >= COMMENT_HEAD,
            "a picture of {}x{} does not fit into {} bytes",
            self.width,
            self.height,
            self.bytes
        );
        out.extend_from_slice(&self.head);
        while padding > 0 {
            let mut length = padding.min(COMMENT);
            if (1..COMMENT_HEAD).contains(&(padding - length)) {
                length -= COMMENT_HEAD;
            }
            out.extend_from_slice(&[0xff, 0xfe]);
            out.extend_from_slice(&((length - 2) as u16).to_be_bytes());
            out.extend_from_slice(&self.noise[..length - COMMENT_HEAD]);
            padding -= length;
        }
        out.extend_from_slice(&self.tables);
        out.extend_from_slice(&self.scan.bytes);
        out.extend_from_slice(&END);
        Ok(())
    }

    fn encode(&mut self) {
        self.scan.bytes.clear();
        let mut before = 0;
        for y in (0..self.height).step_by(BLOCK) {
            for x in (0..self.width).step_by(BLOCK) {
                let level = match self.luma[y * self.width + x] {
                    0..64 => -LEVEL,
                    64..192 => 0,
                    192.. => LEVEL,
                };
                self.scan.difference(level - before);
                before = level;
            }
        }
        self.scan.finish();
    }
}

/// A JPEG segment: its marker, its length, what it holds.
fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 2) as u16;
    [&[0xff, marker][..], &length.to_be_bytes(), body].concat()
}

/// All that a decoder must know before the blocks of a grey picture.
fn tables(width: u16, height: u16) -> Vec<u8> {
    let mut steps = [1; 65];
    (steps[0], steps[1]) = (0, DC_STEP);
    let (w, h) = (width.to_be_bytes(), height.to_be_bytes());
    let frame = [8, h[0], h[1], w[0], w[1], 1, 1, 0x11, 0];
    // The number of codes of each length, then what they stand for, in order.
    let mut dc = vec![0x00, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    dc.extend(CATEGORIES);
    // One code, of one bit: the block ends.
    let mut ac = vec![0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ac.push(0);
    [
        segment(0xdb, &steps),
        segment(0xc0, &frame),
        segment(0xc4, &dc),
        segment(0xc4, &ac),
        segment(0xda, &[1, 1, 0x00, 0, 63, 0]),
    ]
    .concat()
}

/// Bits, most significant first, as a scan has them.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    gathered: u32,
    count: u32,
}

impl Bits {
    fn push(&mut self, value: u32, bits: u32) {
        self.gathered = self.gathered << bits | value;
        self.count += bits;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.gathered >> self.count) as u8;
            self.bytes.push(byte);
            if byte == 0xff {
                // Or it would be taken for a marker.
                self.bytes.push(0);
            }
            self.gathered &= (1 << self.count) - 1;
        }
    }

    /// A block whose mean is so many steps from the one before.
    fn difference(&mut self, steps: i32) {
        match steps.unsigned_abs() {
            0 => self.push(0b0, 1),
            4..8 => self.push(0b10, 2),
            _ => self.push(0b110, 3),
        }
        let category = i32::BITS - steps.unsigned_abs().leading_zeros();
        if steps != 0 {
            // A negative number is told by one less, which begins with a zero.
            let value = if steps < 0 { steps - 1 } else { steps };
            self.push(value as u32 & ((1 << category) - 1), category);
        }
        self.push(0b0, 1);
    }

    fn finish(&mut self) {
        while self.count > 0 {
            self.push(1, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::jpegs_of;
    use crate::oracle::decode;

    fn picture(camera: &Synthetic, counter: u32) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mark = Mark { camera: camera.number, counter, clip_frames: 60_000 };
        Painter::new(camera).paint(mark, &mut out)?;
        Ok(out)
    }

    #[test]
    fn every_picture_has_its_size_and_its_mark() {
        let sizes = [1_000, 1_001, 8_000, 65_700, 65_900, 65_901, 65_902, 65_903, 150_000];
        for ((width, height), sizes) in [((160, 160), &sizes[..]), ((640, 480), &sizes[2..])] {
            for &bytes in sizes {
                let camera = Synthetic { width, height, ..Synthetic::new("a").bytes(bytes) };
                for counter in [0, 1, 12_345, 59_999] {
                    let jpeg = picture(&camera, counter).unwrap();
                    assert_eq!(jpeg.len(), bytes);
                    let (luma, w, h) = decode(&jpeg).unwrap();
                    assert_eq!((w, h), (width.into(), height.into()));
                    let mark = Mark::read(&luma, w, h).unwrap();
                    assert_eq!((mark.camera, mark.counter, mark.clip_frames), (camera.number, counter, 60_000));
                }
            }
        }
    }

    #[test]
    fn every_length_near_a_comments_end_can_be_had() {
        let bare = picture(&Synthetic::new("a").bytes(2_000), 7).unwrap();
        for bytes in 65_850..66_000 {
            assert_eq!(picture(&Synthetic::new("a").bytes(bytes), 7).unwrap().len(), bytes);
        }
        assert_eq!(bare.len(), 2_000);
        assert!(picture(&Synthetic::new("a").bytes(300), 7).is_err());
    }

    #[test]
    fn another_decoder_reads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.jpg");
        std::fs::write(&path, picture(&Synthetic::new("a"), 4_711).unwrap()).unwrap();
        let again = jpegs_of(&["-i", path.to_str().unwrap()], 2);
        let (luma, w, h) = decode(&again[0]).unwrap();
        assert_eq!(Mark::read(&luma, w, h).unwrap().counter, 4_711);
    }
}
