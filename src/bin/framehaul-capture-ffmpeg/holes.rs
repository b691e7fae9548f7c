//! Where a loss has left its hole: in a packet, behind it, or nowhere that matters.
//!
//! A demuxer tells of lost RTP packets when it sees what comes after them. The picture that it then hands over ends before
//! the gap, or holds it. More is known by how that picture and the next one begin: by the NAL units before their first
//! slice, and by whether that slice is there. H.264: RFC 6184 and ITU-T H.264, 7.3; H.265: RFC 7798 and ITU-T H.265, 7.3.

use ffmpeg_next::codec::Id;

/// What each NAL unit begins with.
const START_CODE: [u8; 3] = [0, 0, 1];

/// A picture has a handful of units before its slices; one with more is not looked at further.
const MOST_UNITS: usize = 16;

/// What a loss has damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hole {
    /// The picture at hand.
    pub within: bool,
    /// What follows it.
    pub after: bool,
    /// Pictures before the one at hand of which the packet has remains only. Its time is that of the first of them.
    pub remains: u32,
}

impl Hole {
    /// Of a loss of which nothing more is known.
    pub const ANYWHERE: Self = Self { within: true, after: true, remains: 0 };
}

/// What did not arrive, by a demuxer's own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// RTP packets that are missing.
    pub missed: u32,
    /// Rows of them: each is missing at one place.
    pub rows: u32,
    /// Whether something is missing of which nobody knows how much.
    pub uncounted: bool,
}

impl Loss {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.missed = self.missed.saturating_add(other.missed);
        self.rows = self.rows.saturating_add(other.rows);
        self.uncounted |= other.uncounted;
    }

    /// Whether anything is missing.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// A compression whose packets consist of NAL units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nal {
    H264,
    H265,
}

impl Nal {
    /// Type of a NAL unit.
    fn kind(self, header: u8) -> u8 {
        match self {
            Self::H264 => header & 0x1f,
            Self::H265 => header >> 1 & 0x3f,
        }
    }

    /// The type of access unit delimiters, which come before all else of a picture.
    fn delimiter(self) -> u8 {
        match self {
            Self::H264 => 9,
            Self::H265 => 35,
        }
    }

    /// Whether a type is that of a slice.
    fn is_slice(self, kind: u8) -> bool {
        match self {
            Self::H264 => (1..=5).contains(&kind),
            Self::H265 => kind < 32,
        }
    }

    /// Whether a slice is the first of its picture: `first_mb_in_slice` is 0, which is a one in Exp-Golomb code, or
    /// `first_slice_segment_in_pic_flag`.
    fn is_first(self, unit: &[u8]) -> bool {
        let header = match self {
            Self::H264 => 1,
            Self::H265 => 2,
        };
        unit.get(header).is_some_and(|byte| byte & 0x80 != 0)
    }
}

/// How a picture begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Beginning {
    /// Types of the NAL units before the first slice.
    before: Vec<u8>,
    /// Whether a slice follows on them which is the picture's first.
    first_slice: bool,
}

impl Beginning {
    /// Of a packet as demuxers of live streams give it: each unit begins with a start code (ITU-T H.264, annex B).
    fn of(nal: Nal, bytes: &[u8]) -> Self {
        let mut before = Vec::new();
        if !bytes.starts_with(&[0, 0]) {
            return Self::default();
        }
        let starts = bytes.windows(START_CODE.len()).enumerate().filter(|(_, window)| *window == START_CODE);
        for unit in starts.map(|(start, _)| &bytes[start + START_CODE.len()..]) {
            let Some(header) = unit.first() else { break };
            let kind = nal.kind(*header);
            if nal.is_slice(kind) {
                return Self { before, first_slice: nal.is_first(unit) };
            }
            before.push(kind);
            if before.len() == MOST_UNITS {
                break;
            }
        }
        Self { before, first_slice: false }
    }

    /// Whether a unit that another picture begins with is missing from this one.
    fn lacks(&self, other: &Self) -> bool {
        let count = |before: &[u8], kind| before.iter().filter(|one| **one == kind).count();
        other.before.iter().any(|kind| count(&self.before, *kind) < count(&other.before, *kind))
    }
}

/// A packet that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What it holds.
    pub bytes: &'a [u8],
    /// Whether it is a key frame.
    pub is_key: bool,
    /// What was lost before its end.
    pub loss: Loss,
}

/// Finds where losses have left their holes.
#[derive(Clone, Debug)]
pub struct Holes {
    nal: Option<Nal>,
    /// How the last two pictures began that came without a loss: others, and key frames.
    usual: [[Option<Beginning>; 2]; 2],
    /// Whether something was lost just before the next packet.
    after_loss: bool,
}

impl Holes {
    /// At the start of a stream.
    pub fn new(codec: Id) -> Self {
        let nal = match codec {
            Id::H264 => Some(Nal::H264),
            Id::HEVC => Some(Nal::H265),
            _ => None,
        };
        Self { nal, usual: Default::default(), after_loss: false }
    }

    /// Whether the packet that follows is needed as well, to say what a loss has damaged.
    ///
    /// Where the decoder finds no hole, that is so without a loss: of a picture that nothing follows nobody knows whether it
    /// came to its end before the connection did.
    pub fn wants_next(&self, loss: Loss) -> bool {
        loss.any() && self.nal.is_some() || self.nal == Some(Nal::H265)
    }

    /// What is known without the packet that follows.
    pub fn at(&mut self, packet: Look<'_>) -> Hole {
        if packet.loss.any() {
            return Hole::ANYWHERE;
        }
        self.whole(packet);
        Hole::default()
    }

    /// Notes a packet that came without a loss.
    fn whole(&mut self, packet: Look<'_>) {
        let Some(nal) = self.nal else { return };
        // What it begins with may have been lost.
        if std::mem::take(&mut self.after_loss) {
            return;
        }
        let [last, before] = &mut self.usual[usize::from(packet.is_key)];
        *before = last.replace(Beginning::of(nal, packet.bytes));
    }

    /// Where the hole is that the loss told of with this packet has left. `next` is the packet that follows.
    pub fn find(&mut self, packet: Look<'_>, next: Option<Look<'_>>) -> Hole {
        if !packet.loss.any() && next.is_some() {
            self.whole(packet);
            return Hole::default();
        }
        self.after_loss = true;
        let Loss { missed, rows, uncounted } = packet.loss;
        let (Some(nal), Some(next), false) = (self.nal, next, uncounted) else { return Hole::ANYWHERE };
        let begins = Beginning::of(nal, packet.bytes);
        let goes_on = Beginning::of(nal, next.bytes);
        // Without its first slice a picture is none for FFmpeg, which puts what there is of it before the next one.
        let delimiters = begins.before.iter().filter(|kind| **kind == nal.delimiter()).count() as u32;
        let remains = delimiters.saturating_sub(1);
        let lacks = self.lacks(&begins, packet.is_key);
        // One row that has taken of what comes before the slices leaves the slices alone. What it has taken besides was
        // before that, and others than key frames refer to it.
        if rows == 1 && begins.first_slice && (lacks || remains > 0) {
            return Hole { within: !packet.is_key && (missed > 1 || remains > 0), after: false, remains };
        }
        // One packet cannot be missing at two places. That a unit by which FFmpeg knows the end of a picture is missing, it
        // has told with that picture; of what comes after it, with the next.
        if rows == 1 && missed == 1 && begins.first_slice {
            if goes_on.first_slice && self.begins_late(&goes_on, next.is_key) {
                return Hole::default();
            }
            if !goes_on.first_slice && !next.loss.any() {
                return Hole { within: false, after: true, remains };
            }
        }
        // H.264's decoder finds the blocks that are missing, H.265's of FFmpeg 5.1 says nothing of a hole.
        Hole { within: nal == Nal::H265 || remains > 0 && !packet.is_key, after: true, remains }
    }

    /// Whether a picture lacks a unit that both of the last ones had.
    fn lacks(&self, beginning: &Beginning, is_key: bool) -> bool {
        self.unlike_usual(is_key, |usual| beginning.lacks(usual))
    }

    /// Whether a picture lacks the unit that both of the last ones began with.
    fn begins_late(&self, beginning: &Beginning, is_key: bool) -> bool {
        self.unlike_usual(is_key, |usual| usual.before.first() != beginning.before.first() && beginning.lacks(usual))
    }

    fn unlike_usual(&self, is_key: bool, is_unlike: impl Fn(&Beginning) -> bool) -> bool {
        self.usual[usize::from(is_key)].iter().all(|usual| usual.as_ref().is_some_and(&is_unlike))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of H.264: a key frame with its parameter sets and a delimiter, and another picture.
    const KEY: [u8; 5] = [9, 7, 8, 6, 5];
    const OTHER: [u8; 2] = [9, 1];

    /// A packet of these units, the first slice of which begins the picture.
    fn packet(kinds: &[u8]) -> Vec<u8> {
        kinds.iter().flat_map(|kind| [&[0, 0, 0, 1][..], &[kind | 0x60, 0x80, 7, 7]].concat()).collect()
    }

    /// A packet whose first slice is not the first of its picture.
    fn headless(kinds: &[u8]) -> Vec<u8> {
        packet(kinds).into_iter().map(|byte| if byte == 0x80 { 0x40 } else { byte }).collect()
    }

    fn look(bytes: &[u8], is_key: bool) -> Look<'_> {
        Look { bytes, is_key, loss: Loss::default() }
    }

    fn missed(missed: u32) -> Loss {
        Loss { missed, rows: 1, uncounted: false }
    }

    fn find(holes: &mut Holes, loss: Loss, packet: Look<'_>, next: Look<'_>) -> Hole {
        holes.find(Look { loss, ..packet }, Some(next))
    }

    fn used_to(codec: Id, packets: &[(&[u8], bool)]) -> Holes {
        let mut holes = Holes::new(codec);
        for _ in 0..3 {
            for (bytes, is_key) in packets {
                holes.whole(look(bytes, *is_key));
            }
        }
        holes
    }

    fn h264() -> Holes {
        used_to(Id::H264, &[(&packet(&KEY), true), (&packet(&OTHER), false)])
    }

    const NOTHING: Hole = Hole { within: false, after: false, remains: 0 };
    const AFTER: Hole = Hole { within: false, after: true, remains: 0 };

    #[test]
    fn a_parameter_set_or_a_delimiter_that_is_missing_leaves_no_hole() {
        let (key, other) = (packet(&KEY), packet(&OTHER));
        let without_pps = packet(&[9, 7, 6, 5]);
        let without_sps = packet(&[9, 8, 6, 5]);
        let without_delimiter = packet(&[1]);
        for (packet, next) in [
            (look(&without_pps, true), look(&other, false)),
            (look(&without_sps, true), look(&other, false)),
            (look(&other, false), look(&without_delimiter, false)),
            (look(&other, false), Look { loss: missed(1), ..look(&without_delimiter, false) }),
            (look(&without_delimiter, false), look(&key, true)),
        ] {
            assert_eq!(find(&mut h264(), missed(1), packet, next), NOTHING);
        }
        let found = find(&mut h264(), missed(2), look(&other, false), look(&without_delimiter, false));
        assert_eq!(found, AFTER, "more than that is missing");
        // What the next picture lacks behind its delimiter is told with that one.
        assert_eq!(find(&mut h264(), missed(1), look(&other, false), look(&without_sps, true)), AFTER);
        assert_eq!(find(&mut h264(), missed(1), look(&key, true), look(&other, false)), AFTER);
    }

    #[test]
    fn a_row_that_ends_before_the_slices_harms_what_was_before() {
        // Of the picture before the delimiter is left, of the key frame all but its parameter sets.
        let (key, other) = (packet(&[9, 6, 5]), packet(&OTHER));
        assert_eq!(find(&mut h264(), missed(7), look(&key, true), look(&other, false)), NOTHING);
        let two_rows = Loss { rows: 2, ..missed(7) };
        assert_eq!(find(&mut h264(), two_rows, look(&key, true), look(&other, false)), AFTER);
        let cut = packet(&[1]);
        let found = find(&mut h264(), missed(7), look(&cut, false), look(&other, false));
        assert_eq!(found, Hole { within: true, ..NOTHING });
    }

    #[test]
    fn what_is_missing_from_a_slice_is_a_hole() {
        let (other, next) = (packet(&OTHER), headless(&[1]));
        assert_eq!(find(&mut h264(), missed(1), look(&other, false), look(&next, false)), AFTER);
        let units = |kinds: &[u8], first| -> Vec<u8> {
            kinds.iter().flat_map(|kind| [0, 0, 1, kind << 1, 1, first, 7]).collect()
        };
        let whole = units(&[35, 1], 0x80);
        let mut holes = used_to(Id::HEVC, &[(&whole, false)]);
        let mut find = |count, next| find(&mut holes, missed(count), look(&whole, false), next);
        let cut = units(&[35, 1], 0);
        let cut = look(&cut, false);
        assert_eq!(find(1, look(&whole, false)), Hole::ANYWHERE, "the decoder does not find it");
        assert_eq!(find(1, cut), AFTER, "one packet is missing, and of the next picture");
        assert_eq!(find(1, Look { loss: missed(1), ..cut }), Hole::ANYWHERE, "that one has lost another");
        assert_eq!(find(2, cut), Hole::ANYWHERE);
        let bare = units(&[1], 0x80);
        assert_eq!(find(1, look(&bare, false)), NOTHING);
        assert_eq!(find(2, look(&bare, false)), Hole::ANYWHERE);
    }

    #[test]
    fn what_is_left_of_a_picture_without_its_first_slice_is_no_part_of_the_next() {
        let other = packet(&OTHER);
        // Two delimiters: the first one's picture has lost its head.
        let key = [&packet(&[9])[..], &packet(&KEY)].concat();
        let found = find(&mut h264(), missed(1), look(&key, true), look(&other, false));
        assert_eq!(found, Hole { remains: 1, ..NOTHING });
        let damaged = [&packet(&[9])[..], &packet(&[9]), &other].concat();
        let found = find(&mut h264(), missed(2), look(&damaged, false), look(&other, false));
        assert_eq!(found, Hole { within: true, after: false, remains: 2 }, "it refers to what is lost");
    }

    #[test]
    fn what_comes_after_a_loss_is_not_usual() {
        let (mut holes, other, cut) = (h264(), packet(&OTHER), packet(&[1]));
        for _ in 0..3 {
            assert_eq!(find(&mut holes, missed(1), look(&other, false), look(&cut, false)), NOTHING);
            holes.whole(look(&cut, false));
        }
    }

    #[test]
    fn where_little_is_known_a_hole_may_be_anywhere() {
        let other = packet(&OTHER);
        let look = look(&other, false);
        assert_eq!(find(&mut h264(), Loss { uncounted: true, ..Loss::default() }, look, look), Hole::ANYWHERE);
        assert_eq!(h264().find(Look { loss: missed(1), ..look }, None), Hole::ANYWHERE);
        let mut holes = Holes::new(Id::HEVC);
        assert!(holes.wants_next(Loss::default()) && !h264().wants_next(Loss::default()));
        assert_eq!(holes.find(look, None), Hole::ANYWHERE, "the last one may be cut off");
        assert_eq!(holes.find(look, Some(look)), NOTHING);
        assert_eq!(find(&mut Holes::new(Id::VP8), missed(1), look, look), Hole::ANYWHERE);
        // A stream that has just begun, and one that carries lengths in place of start codes.
        assert_eq!(find(&mut Holes::new(Id::H264), missed(1), look, look), AFTER);
        assert_eq!(Beginning::of(Nal::H264, &[0, 0, 0, 9, 0x65, 0x80, 0, 0, 1, 0x65]).before, [5; 0]);
        assert_eq!(Beginning::of(Nal::H264, &packet(&[9; 1_000])).before.len(), MOST_UNITS);
    }

    #[test]
    fn units_that_come_now_and_then_are_not_missed() {
        let mut holes = Holes::new(Id::H264);
        let (with, without) = (packet(&[9, 6, 1]), packet(&OTHER));
        for bytes in [&with, &without, &with, &without] {
            holes.whole(look(bytes, false));
        }
        assert_eq!(find(&mut holes, missed(1), look(&without, false), look(&without, false)), AFTER);
    }
}
