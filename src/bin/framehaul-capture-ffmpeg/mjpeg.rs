//! Pictures of an MJPEG stream that go on as they came: checked by their markers (ITU-T T.81, annex B), not decoded.
//!
//! What gets through: baseline, extended sequential and progressive JPEG, Huffman coded, 8 bit, gray or of three
//! components: what libjpeg-turbo, FFmpeg and every browser read. Damage shows where it touches a marker: in headers that
//! do not fit together, restart markers that are missing (each names its place, and how many there are is known), scans
//! too short for their blocks, bytes in coded data that no encoder writes. Damage between two markers passes.

use std::borrow::Cow;
use std::io::BufRead as _;

use self::tables::STANDARD_TABLES;

mod tables;

/// The most columns and lines that libjpeg knows.
const MAX_SIDE: usize = 65_500;
/// Progressive files have ten or so. Each costs a decoder work for the whole picture, however short it is.
const MAX_SCANS: usize = 100;

/// The marker EOI.
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

/// A whole JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jpeg<'a> {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// From SOI to EOI, without what filled it up behind.
    bytes: &'a [u8],
    /// Where Huffman tables have to be put in, where there are none.
    tables_at: Option<usize>,
}

impl<'a> Jpeg<'a> {
    /// The file: byte for byte as it came, or with the standard Huffman tables (ITU-T T.81, K.3.3) where it has none.
    /// AVI files and RTP leave those out (RFC 2435).
    pub fn repaired(&self) -> Cow<'a, [u8]> {
        let Some(at) = self.tables_at else { return Cow::Borrowed(self.bytes) };
        let (before, after) = self.bytes.split_at(at);
        Cow::Owned([before, &STANDARD_TABLES, after].concat())
    }
}

/// Why a picture cannot be passed on as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not whole, or not what was sent: of no use to anybody.
    #[error("the JPEG is damaged: {0}")]
    Damaged(&'static str),
    /// It may be sound, but is of a kind that not every reader knows: to be decoded and encoded anew.
    #[error("the JPEG cannot be passed on as it is: {0}")]
    Unusual(&'static str),
}

use Fault::{Damaged, Unusual};

const TOO_SHORT: Fault = Damaged("it ends too early");

/// Reads a picture's markers to its end.
///
/// # Errors
///
/// [`Fault`].
pub fn check(bytes: &[u8]) -> Result<Jpeg<'_>, Fault> {
    let mut walk = Walk { bytes, ..Walk::default() };
    walk.run()?;
    let (whole, rest) = bytes.split_at(walk.at);
    // FFmpeg puts an end behind each JPEG that came by RTP, whether it had its own or not. Cameras fill up to a multiple of
    // something; the last line end before a multipart boundary may be there as well.
    let rest = rest.strip_prefix(&END_OF_IMAGE).unwrap_or(rest);
    if !rest.iter().all(|byte| matches!(byte, 0x00 | 0xff | b'\r' | b'\n')) {
        return Err(Unusual("something follows on its end"));
    }
    let frame = walk.frame.ok_or(Damaged("it has no frame header"))?;
    if !frame.components.iter().all(|component| component.coded) {
        return Err(Damaged("a component is missing"));
    }
    let [width, height] = [frame.width, frame.height].map(|pixels| pixels as u32);
    Ok(Jpeg { width, height, bytes: whole, tables_at: walk.tables_at })
}

/// A component of a frame.
#[derive(Debug)]
struct Component {
    id: u8,
    /// Sampling factors.
    across: usize,
    down: usize,
    quantiser: usize,
    /// Whether a scan has its first or only coefficients.
    coded: bool,
}

impl Component {
    /// How many of its blocks lie together in a scan of several components.
    fn blocks(&self) -> usize {
        self.across * self.down
    }
}

/// A frame header.
#[derive(Debug)]
struct Frame {
    width: usize,
    height: usize,
    progressive: bool,
    components: Vec<Component>,
}

impl Frame {
    /// How many minimum coded units a scan of these components has, and how many blocks: T.81, A.2.
    fn units(&self, scan: &[usize]) -> (usize, usize) {
        let most = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        let (across, down) = (most(|component| component.across), most(|component| component.down));
        if let [only] = scan {
            let only = &self.components[*only];
            let columns = (self.width * only.across).div_ceil(across).div_ceil(8);
            let blocks = columns * (self.height * only.down).div_ceil(down).div_ceil(8);
            return (blocks, blocks);
        }
        let units = self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down);
        let blocks: usize = scan.iter().map(|index| self.components[*index].blocks()).sum();
        (units, units * blocks)
    }
}

/// What a scan header says.
struct Scan {
    /// Indices of its components.
    components: Vec<usize>,
    /// Whether it holds the first bits of DC coefficients, so that each block has at least one bit.
    first: bool,
}

/// The way through a file.
#[derive(Debug, Default)]
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    /// Which tables have been defined.
    quantisers: [bool; 4],
    /// DC, AC.
    huffman: [[bool; 4]; 2],
    /// Units between restart markers; 0 for none.
    restart: usize,
    scans: usize,
    tables_at: Option<usize>,
}

impl<'a> Walk<'a> {
    /// To behind EOI.
    fn run(&mut self) -> Result<(), Fault> {
        if !self.bytes.starts_with(&[0xff, 0xd8]) {
            return Err(Damaged("it does not begin as one"));
        }
        self.at = 2;
        loop {
            let begun = self.at;
            match self.marker()? {
                0xd9 => return Ok(()),
                0xda => self.scan(begun)?,
                0xc0..=0xc2 if self.frame.is_some() => return Err(Damaged("it has two frame headers")),
                code @ 0xc0..=0xc2 => self.frame_header(code == 0xc2)?,
                0xc4 => self.huffman_tables()?,
                0xdb => self.quantisation_tables()?,
                0xdd => match *self.segment()? {
                    [high, low] => self.restart = usize::from(u16::from_be_bytes([high, low])),
                    _ => return Err(Damaged("its restart interval has the wrong length")),
                },
                0xe0..=0xef | 0xfe => {
                    self.segment()?;
                }
                0xd8 => return Err(Damaged("another begins within it")),
                0xd0..=0xd7 => return Err(Damaged("a restart marker stands outside of coded data")),
                0xc3 | 0xcb | 0xf7 => return Err(Unusual("it is lossless")),
                0xc9 | 0xca | 0xcc => return Err(Unusual("it is arithmetically coded")),
                0xc5..=0xcf | 0xde | 0xdf => return Err(Unusual("it is hierarchical")),
                0xdc => return Err(Unusual("it gives its height late")),
                0xf0..=0xfd => return Err(Unusual("it has a marker of an extension")),
                _ => return Err(Damaged("it has a marker that there is not")),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(TOO_SHORT)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next marker's code. Any number of bytes FF may come before it.
    fn marker(&mut self) -> Result<u8, Fault> {
        if self.byte()? != 0xff {
            return Err(Damaged("no marker where one has to be"));
        }
        loop {
            match self.byte()? {
                0xff => {}
                code => return Ok(code),
            }
        }
    }

    /// A marker's parameters.
    fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let rest = &self.bytes[self.at - 2..];
        let segment = rest.get(2..length).ok_or(Damaged("a segment does not have the length that it gives"))?;
        self.at += segment.len();
        Ok(segment)
    }

    /// T.81, B.2.2.
    fn frame_header(&mut self, progressive: bool) -> Result<(), Fault> {
        let segment = self.segment()?;
        let [precision, h1, h0, w1, w0, count, ref components @ ..] = *segment else {
            return Err(Damaged("its frame header is too short"));
        };
        if components.len() != 3 * usize::from(count) || count == 0 {
            return Err(Damaged("its frame header has the wrong length"));
        }
        let [width, height] = [[w1, w0], [h1, h0]].map(|side| usize::from(u16::from_be_bytes(side)));
        if width == 0 {
            return Err(Damaged("it has no width"));
        }
        for (is, what) in [
            (height == 0, "it gives its height late"),
            (precision != 8, "its samples are not of 8 bits"),
            (count != 1 && count != 3, "it is neither gray nor of three components"),
            (width.max(height) > MAX_SIDE, "it is larger than decoders take"),
        ] {
            if is {
                return Err(Unusual(what));
            }
        }
        let mut frame = Frame { width, height, progressive, components: Vec::new() };
        for &[id, factors, quantiser] in components.as_chunks().0 {
            let (across, down) = (usize::from(factors >> 4), usize::from(factors & 15));
            if !(1..=4).contains(&across) || !(1..=4).contains(&down) || quantiser > 3 {
                return Err(Damaged("its frame header has impossible components"));
            }
            frame.components.push(Component { id, across, down, quantiser: quantiser.into(), coded: false });
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// T.81, B.2.4.1.
    fn quantisation_tables(&mut self) -> Result<(), Fault> {
        let mut rest = self.segment()?;
        while let [kind, after @ ..] = rest {
            let (bytes, id) = if kind >> 4 == 0 { (64, kind & 15) } else { (128, kind & 15) };
            if kind >> 4 > 1 || id > 3 || after.len() < bytes {
                return Err(Damaged("it has an impossible quantisation table"));
            }
            self.quantisers[usize::from(id)] = true;
            rest = &after[bytes..];
        }
        Ok(())
    }

    /// T.81, B.2.4.2. The codes of each length have to fit beside the shorter ones.
    fn huffman_tables(&mut self) -> Result<(), Fault> {
        const IMPOSSIBLE: Fault = Damaged("it has an impossible Huffman table");
        let mut rest = self.segment()?;
        while let [kind, after @ ..] = rest {
            let (counts, after) = after.split_first_chunk::<16>().ok_or(IMPOSSIBLE)?;
            let mut free = 1_usize;
            for count in counts {
                free = (2 * free).checked_sub((*count).into()).ok_or(IMPOSSIBLE)?;
            }
            let symbols = counts.iter().map(|count| usize::from(*count)).sum::<usize>();
            if kind >> 4 > 1 || kind & 15 > 3 || symbols > 256 || after.len() < symbols {
                return Err(IMPOSSIBLE);
            }
            self.huffman[usize::from(kind >> 4)][usize::from(kind & 15)] = true;
            rest = &after[symbols..];
        }
        Ok(())
    }

    /// A scan, whose marker begins at `begun`: its header, and its coded data up to the next marker.
    fn scan(&mut self, begun: usize) -> Result<(), Fault> {
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(Unusual("it has too many scans"));
        }
        let header = self.segment()?;
        let scan = self.scan_header(header, begun)?;
        let frame = self.frame.as_mut().ok_or(Damaged("it has no frame header"))?;
        for index in scan.components.iter().filter(|_| scan.first) {
            if std::mem::replace(&mut frame.components[*index].coded, true) {
                return Err(Damaged("it has a component twice"));
            }
        }
        let (units, blocks) = frame.units(&scan.components);
        // One bit at least for a DC coefficient, another where the end of the block is in the same scan.
        let least_bits = if frame.progressive { blocks } else { 2 * blocks };
        let data = self.at;
        let restarts = self.coded_data()?;
        if scan.first && 8 * (self.at - data) < least_bits {
            return Err(Damaged("a scan is too short for the picture"));
        }
        if self.restart > 0 {
            let expected = units.div_ceil(self.restart) - 1;
            // Some encoders write another at the end.
            if restarts != expected && restarts != expected + 1 {
                return Err(Damaged("restart markers are missing"));
            }
        }
        Ok(())
    }

    /// T.81, B.2.3.
    fn scan_header(&mut self, header: &[u8], begun: usize) -> Result<Scan, Fault> {
        let frame = self.frame.as_ref().ok_or(Damaged("it has coded data before its frame header"))?;
        let [count, selectors @ .., from, to, bits] = header else {
            return Err(Damaged("a scan header is too short"));
        };
        if !(1..=4).contains(count) || selectors.len() != 2 * usize::from(*count) {
            return Err(Damaged("a scan header has the wrong length"));
        }
        // Which bit was the last that an earlier scan had, 0 for none, and which is this scan's.
        let (before, bit) = (bits >> 4, bits & 15);
        match (frame.progressive, from, to) {
            (false, 0, 63) if *bits == 0 => {}
            (true, 0, 0) if bit <= 13 && (before == 0 || before == bit + 1) => {}
            (true, 1..=63, _) if (from..=&63).contains(&to) && *count == 1 && (before == 0 || before == bit + 1) => {}
            _ => return Err(Damaged("a scan header has impossible parameters")),
        }
        let refines = before > 0;
        let needed = [*from == 0 && !refines, !frame.progressive || *from > 0];
        let mut components = Vec::new();
        for [id, tables] in selectors.as_chunks().0 {
            let found = frame.components.iter().position(|component| component.id == *id);
            let index = found.ok_or(Damaged("a scan is of a component that there is not"))?;
            if components.last().is_some_and(|last| *last >= index) {
                return Err(Damaged("a scan has its components in the wrong order"));
            }
            if !self.quantisers[frame.components[index].quantiser] {
                return Err(Unusual("it relies on quantisation tables of another"));
            }
            for (class, id) in [tables >> 4, tables & 15].into_iter().enumerate().filter(|(class, _)| needed[*class]) {
                if id > 3 {
                    return Err(Damaged("a scan needs an impossible Huffman table"));
                }
                if self.huffman[class][usize::from(id)] {
                    continue;
                }
                if id > 1 || frame.progressive || self.huffman != [[false; 4]; 2] {
                    return Err(Unusual("it relies on Huffman tables of another"));
                }
                self.tables_at = Some(begun);
            }
            components.push(index);
        }
        if self.tables_at == Some(begun) {
            self.huffman = [[true, true, false, false]; 2];
        }
        if components.len() > 1 {
            let blocks = components.iter().map(|index| frame.components[*index].blocks());
            if blocks.sum::<usize>() > 10 {
                return Err(Damaged("a scan has too many blocks at a place"));
            }
        }
        Ok(Scan { components, first: *from == 0 && !refines })
    }

    /// Goes on to the marker that ends a scan, and counts the restart markers on the way.
    fn coded_data(&mut self) -> Result<usize, Fault> {
        let mut restarts = 0_usize;
        loop {
            // By the C library's memchr, as fast as memory.
            let mut rest = &self.bytes[self.at..];
            self.at += rest.skip_until(0xff).map_err(|_| TOO_SHORT)?;
            if !self.bytes[..self.at].ends_with(&[0xff]) {
                return Err(TOO_SHORT);
            }
            self.at -= 1;
            let begun = self.at;
            match self.marker()? {
                0x00 => {}
                code @ 0xd0..=0xd7 => {
                    if self.restart == 0 || usize::from(code & 7) != restarts % 8 {
                        return Err(Damaged("restart markers are missing"));
                    }
                    restarts += 1;
                }
                _ => {
                    self.at = begun;
                    return Ok(restarts);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
