//! The NAL units that pictures of H.264 and H.265 consist of: ITU-T H.264, 7.3 and 7.4.1.2; ITU-T H.265, 7.3 and
//! 7.4.2.4.

use ffmpeg_next::codec::Id;

/// What each unit begins with, where units follow on each other (annex B).
const START_CODE: [u8; 3] = [0, 0, 1];

/// H.264's message that decoding may begin here (D.1.8), as it does with cameras that send no IDR pictures.
const RECOVERY_POINT: u32 = 6;

/// A compression whose pictures consist of NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nal {
    H264,
    H265,
}

/// A NAL unit, or what there is of it.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    nal: Nal,
    /// Its type.
    pub kind: u8,
    /// From its header on, up to the next start code.
    bytes: &'a [u8],
}

/// Whether bytes begin with a unit, and not within one.
pub fn begins_unit(bytes: &[u8]) -> bool {
    bytes.starts_with(&START_CODE) || bytes.strip_prefix(&[0]).is_some_and(|rest| rest.starts_with(&START_CODE))
}

/// What is before the first start code, and what is behind it if there is one.
fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match bytes.windows(START_CODE.len()).position(|window| window == START_CODE) {
        Some(at) => (&bytes[..at], Some(&bytes[at + START_CODE.len()..])),
        None => (bytes, None),
    }
}

impl Nal {
    /// Of a codec, if it has any.
    pub fn of(codec: Id) -> Option<Self> {
        match codec {
            Id::H264 => Some(Self::H264),
            Id::HEVC => Some(Self::H265),
            _ => None,
        }
    }

    /// Length of a unit's header, bytes.
    pub fn header(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 => 2,
        }
    }

    /// The units that begin in `bytes`, but for those of H.265's further layers.
    pub fn units(self, bytes: &[u8]) -> impl Iterator<Item = Unit<'_>> {
        let (_, mut rest) = split(bytes);
        let units = std::iter::from_fn(move || {
            let (unit, behind) = split(rest?);
            rest = behind;
            Some(unit)
        });
        units.filter_map(move |bytes| {
            let first = *bytes.first()?;
            let (kind, layer) = match self {
                Self::H264 => (first & 0x1f, 0),
                Self::H265 => (first >> 1 & 0x3f, (first & 1) << 5 | bytes.get(1)? >> 3),
            };
            (layer == 0).then_some(Unit { nal: self, kind, bytes })
        })
    }
}

impl Unit<'_> {
    /// Whether it is a slice.
    pub fn is_slice(&self) -> bool {
        match self.nal {
            Nal::H264 => (1..=5).contains(&self.kind),
            Nal::H265 => self.kind < 32,
        }
    }

    /// Whether it is the first slice of its picture: `first_mb_in_slice` is 0, which is a one in Exp-Golomb code, or
    /// `first_slice_segment_in_pic_flag`. H.264's partitions B and C begin with something else.
    pub fn is_first_slice(&self) -> bool {
        let is_it = self.is_slice() && (self.nal == Nal::H265 || !matches!(self.kind, 3 | 4));
        is_it && self.bytes.get(self.nal.header()).is_some_and(|byte| byte & 0x80 != 0)
    }

    /// Whether another picture begins with it, if it comes behind slices.
    pub fn begins_picture(&self) -> bool {
        let comes_first = match self.nal {
            Nal::H264 => matches!(self.kind, 6..=9 | 14..=18),
            Nal::H265 => matches!(self.kind, 32..=37 | 39 | 41..=44 | 48..=55),
        };
        comes_first || self.is_first_slice()
    }

    /// Whether its picture is a key frame.
    pub fn tells_key(&self) -> bool {
        match (self.nal, self.kind) {
            (Nal::H264, 5) => true,
            (Nal::H264, 6) => self.messages().any(|message| message == RECOVERY_POINT),
            (Nal::H265, 16..=23) => true,
            _ => false,
        }
    }

    /// The types of the messages in H.264's supplemental information (7.3.2.3), without the bytes that keep start codes
    /// out of it.
    fn messages(&self) -> impl Iterator<Item = u32> {
        let payload = self.bytes.get(self.nal.header()..).unwrap_or_default();
        let mut zeros = 0;
        let mut bytes = payload.iter().copied().filter(move |byte| {
            let is_put_in = zeros >= 2 && *byte == 3;
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            !is_put_in
        });
        std::iter::from_fn(move || {
            // A one and zeros end the unit (7.3.2.11): that is no message, whatever it looks like.
            let mut rest = bytes.clone();
            if rest.next()? == 0x80 && rest.all(|byte| byte == 0) {
                return None;
            }
            let mut number = || {
                let mut sum = 0;
                loop {
                    let byte = u32::from(bytes.next()?);
                    sum += byte;
                    if byte != 0xff {
                        return Some(sum);
                    }
                }
            };
            let (kind, size) = (number()?, number()?);
            // Behind the last one there is a byte that is no message's.
            (size == 0 || bytes.nth(size as usize - 1).is_some()).then_some(kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(nal: Nal, bytes: &[u8]) -> Vec<u8> {
        nal.units(bytes).map(|unit| unit.kind).collect()
    }

    #[test]
    fn units_are_found_behind_their_start_codes() {
        assert!(begins_unit(&[0, 0, 1, 9]) && begins_unit(&[0, 0, 0, 1, 9]));
        assert!(!begins_unit(&[0, 0, 0, 0, 1]) && !begins_unit(&[7, 0, 0, 1, 9]) && !begins_unit(&[]));
        assert_eq!(kinds(Nal::H264, &[0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0x80]), [9, 7, 5]);
        assert_eq!(kinds(Nal::H264, &[7, 0, 0, 3, 1, 0, 0, 1]), [0; 0]);
        let layers = [0, 0, 1, 35 << 1, 1, 0, 0, 1, 1 << 1, 1 << 3 | 1, 0, 0, 1, 19 << 1, 1];
        assert_eq!(kinds(Nal::H265, &layers), [35, 19], "the second is of another layer");
    }

    #[test]
    fn a_unit_ends_where_the_next_one_begins() {
        // So the messages of all of them are read once, however many there are.
        let many = [0, 0, 1, 6].repeat(21_000);
        let lengths: Vec<usize> = Nal::H264.units(&many).map(|unit| unit.bytes.len()).collect();
        assert_eq!(lengths, vec![1; 21_000]);
        let bytes = [0, 0, 1, 6, 4, 1, 9, 0x80, 0, 0, 0, 0, 1, 6, 0x80, 1, 9, 0x80];
        let found: Vec<u32> = Nal::H264.units(&bytes).flat_map(|unit| unit.messages().collect::<Vec<u32>>()).collect();
        assert_eq!(found, [4, 0x80], "neither the bit that ends a unit nor zeros behind it are messages");
    }

    #[test]
    fn a_slice_says_whether_it_is_the_first() {
        let first = |nal: Nal, bytes: &[u8]| nal.units(bytes).next().unwrap().is_first_slice();
        assert!(first(Nal::H264, &[0, 0, 1, 0x65, 0x80]) && !first(Nal::H264, &[0, 0, 1, 0x65, 0x40]));
        assert!(first(Nal::H265, &[0, 0, 1, 2, 1, 0x80]) && !first(Nal::H265, &[0, 0, 1, 2, 1, 0x7f]));
        assert!(!first(Nal::H264, &[0, 0, 1, 0x63, 0x80]), "a partition says nothing of it");
        assert!(!first(Nal::H264, &[0, 0, 1, 0x67, 0x80]), "a parameter set is no slice");
        assert!(!first(Nal::H264, &[0, 0, 1, 0x65]), "its header is missing");
    }

    #[test]
    fn some_units_begin_a_picture_and_others_do_not() {
        let begins = |nal: Nal, kind: u8, first: u8| {
            let header = if nal == Nal::H264 { vec![kind] } else { vec![kind << 1, 1] };
            nal.units(&[&START_CODE[..], &header, &[first]].concat()).next().unwrap().begins_picture()
        };
        let found = |nal, kinds: std::ops::Range<u8>| kinds.filter(|kind| begins(nal, *kind, 0)).collect::<Vec<u8>>();
        assert_eq!(found(Nal::H264, 0..32), [6, 7, 8, 9, 14, 15, 16, 17, 18]);
        let expected = [32, 33, 34, 35, 36, 37, 39, 41, 42, 43, 44, 48, 49, 50, 51, 52, 53, 54, 55];
        assert_eq!(found(Nal::H265, 0..64), expected);
        assert!(begins(Nal::H264, 1, 0x80) && begins(Nal::H265, 1, 0x80));
    }

    #[test]
    fn key_frames_tell_it_by_their_slices_or_by_a_message() {
        let tells = |nal: Nal, bytes: &[u8]| nal.units(bytes).any(|unit| unit.tells_key());
        assert!(tells(Nal::H264, &[0, 0, 1, 0x65, 0x80]) && !tells(Nal::H264, &[0, 0, 1, 0x61, 0x80]));
        assert!(tells(Nal::H265, &[0, 0, 1, 19 << 1, 1, 0x80]) && !tells(Nal::H265, &[0, 0, 1, 1 << 1, 1, 0x80]));
        // A message of type 261 with two bytes, then one that says where decoding may begin.
        assert!(tells(Nal::H264, &[0, 0, 1, 6, 0xff, 6, 2, 6, 6, RECOVERY_POINT as u8, 1, 0x80, 0x80]));
        assert!(!tells(Nal::H264, &[0, 0, 1, 6, 0xff, 6, 2, 6, 6, 5, 1, 0x80, 0x80]));
        // The three that keeps zeros apart is none of the six bytes of the message before.
        assert!(tells(Nal::H264, &[0, 0, 1, 6, 5, 6, 0, 0, 3, 0, 0, 3, 0, 9, 6, 1, 0x80, 0x80]));
        // What comes behind the unit is not its own: here the data of a slice, which reads like that message.
        assert!(!tells(Nal::H264, &[0, 0, 1, 6, 5, 1, 9, 0x80, 0, 0, 1, 0x61, 6, 1, 0x80, 0x80]));
        assert!(!tells(Nal::H264, &[0, 0, 1, 6, 5, 1, 9, 0x80, 0, 0, 0, 1, 0x61, 6, 1, 0x80, 0x80]));
        assert!(!tells(Nal::H264, &[0, 0, 1, 6, 0xff]) && !tells(Nal::H264, &[0, 0, 1, 6]), "it is cut short");
    }
}
