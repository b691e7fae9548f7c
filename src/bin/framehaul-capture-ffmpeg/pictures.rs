//! Puts together again what a network has taken apart: the packets of H.264 and H.265 to pictures.
//!
//! FFmpeg would do so as well, by start codes alone, and lose what is known of each packet: its time, its length, and
//! what is missing before it. Here a picture ends where another one's units begin, or, with a loss between them,
//! another time.

use std::collections::VecDeque;

use crate::holes::{Account, Hole, Holes, Loss};
use crate::input::Times;
use crate::nal::{Nal, begins_unit};

/// The most bytes of a picture: what is behind them is left out.
const MOST_BYTES: usize = 16 << 20;
/// The most bytes before a picture's first slice: parameter sets and messages have some hundred.
const MOST_BEFORE: usize = 1 << 20;
/// A picture has a handful of units before its slices; more are not counted.
const MOST_UNITS: usize = 16;
/// How long an interleaved packet may be said to be, where one is looked for in another (RFC 2326, 10.12).
const MOST_INTERLEAVED: usize = 4_096;

/// What a demuxer has made of an RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Units, each behind its start code, or more of the one before.
    pub bytes: &'a [u8],
    /// Presentation time, in the stream's unit.
    pub pts: Option<i64>,
    /// The same for others.
    pub times: Times,
    /// What was lost just before it.
    pub loss: Loss,
}

/// A picture, or what there is of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    /// Its units.
    pub bytes: Vec<u8>,
    /// Presentation time, in the stream's unit.
    pub pts: Option<i64>,
    /// The same for others.
    pub times: Times,
    /// Whether it is a key frame.
    pub is_key: bool,
    /// What losses have damaged.
    pub hole: Hole,
}

/// Pieces that belong together.
#[derive(Clone, Debug, Default)]
struct Building {
    bytes: Vec<u8>,
    pts: Option<i64>,
    times: Times,
    account: Account,
    /// Where the last piece begins.
    last: usize,
    /// Whether a part of a slice has come of which the beginning is missing.
    headless: bool,
}

impl Building {
    /// Whether there is anything of its slices.
    fn has_data(&self) -> bool {
        self.account.slices > 0 || self.headless
    }

    /// Whether a piece is another picture's.
    fn ends_before(&self, nal: Nal, piece: &Piece<'_>) -> bool {
        if !self.has_data() {
            return false;
        }
        if self.account.slices == 0 {
            // Then it may have been a part of what comes before the slices.
            return piece.pts != self.pts;
        }
        // Some cameras give units of one picture several times.
        if piece.loss.any() && piece.pts != self.pts {
            return true;
        }
        begins_unit(piece.bytes) && nal.units(piece.bytes).any(|unit| unit.begins_picture())
    }

    fn take(&mut self, nal: Nal, piece: &Piece<'_>) {
        let Piece { bytes, pts, times, loss } = *piece;
        if loss.any() {
            self.lost(loss, pts);
        }
        if bytes.is_empty() {
            return;
        }
        if !self.has_data() && !self.bytes.is_empty() && self.bytes.len() + bytes.len() > MOST_BEFORE {
            // Nobody knows what that was to be.
            self.begin_anew();
            self.account.hurt = true;
        }
        if !self.has_data() {
            (self.pts, self.times) = (pts, times);
        }
        if self.bytes.len() + bytes.len() > MOST_BYTES {
            self.account.hurt = true;
            return;
        }
        if begins_unit(bytes) {
            self.take_units(nal, bytes);
        } else if self.account.slices == 0 && (self.headless || self.bytes.is_empty() || loss.any()) {
            // Of no use to a decoder without what was before it.
            self.headless = true;
            return;
        } else if !loss.any() {
            let full = self.account.full.get_or_insert((self.account.last, self.account.last));
            *full = (full.0.min(self.account.last), full.1.max(self.account.last));
        }
        self.last = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        // A unit's first piece has a header that is not in the others, and its start code was never sent.
        let header = if begins_unit(bytes) { 4 + nal.header() } else { 0 };
        self.account.last = bytes.len().saturating_sub(header);
    }

    fn take_units(&mut self, nal: Nal, bytes: &[u8]) {
        let account = &mut self.account;
        for unit in nal.units(bytes) {
            if unit.is_slice() {
                if account.slices == 0 {
                    account.first_slice = unit.is_first_slice();
                }
                account.slices += 1;
            } else if account.slices == 0 && account.before.len() < MOST_UNITS {
                account.before.push(unit.kind);
            }
            account.is_key |= unit.tells_key();
        }
    }

    /// Something is missing before a piece of that time.
    fn lost(&mut self, loss: Loss, pts: Option<i64>) {
        if self.has_data() {
            self.account.hurt = true;
        } else if self.bytes.is_empty() {
            self.account.gap.add(loss);
        } else if pts != self.pts {
            // Nothing more will come of what was begun.
            self.begin_anew();
        } else {
            self.account.begins_short = true;
        }
        self.account.hurt |= loss.uncounted;
    }

    /// Leaves out what there is of a picture without slices.
    fn begin_anew(&mut self) {
        let gap = self.account.gap;
        *self = Self { account: Account { gap, skipped: true, ..Account::default() }, ..Self::default() };
    }

    fn assembled(self, hole: Hole) -> Assembled {
        let Self { bytes, pts, times, account, .. } = self;
        Assembled { bytes, pts, times, is_key: account.is_key, hole }
    }
}

/// Puts pictures together.
#[derive(Debug)]
pub struct Pictures {
    nal: Nal,
    holes: Holes,
    /// The picture that pieces go to.
    building: Building,
    /// The one before, while it is not known what was lost behind it.
    before: Option<Building>,
    ready: VecDeque<Assembled>,
}

impl Pictures {
    /// At the start of a stream.
    pub fn new(nal: Nal) -> Self {
        Self { nal, holes: Holes::new(nal), building: Building::default(), before: None, ready: VecDeque::new() }
    }

    /// Takes the next piece.
    pub fn take(&mut self, piece: &Piece<'_>) {
        if piece.loss.any() {
            self.suspect();
        }
        if self.building.ends_before(self.nal, piece) {
            self.close();
        }
        self.building.take(self.nal, piece);
        // Without a loss the end of the one before is known, else with what comes before the slices of this one.
        if !self.building.account.gap.any() && !self.building.account.skipped || self.building.has_data() {
            self.settle(false);
        }
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        self.suspect();
        if self.building.has_data() {
            self.close();
        }
        self.settle(true);
    }

    /// The next picture, if there is one.
    pub fn next(&mut self) -> Option<Assembled> {
        self.ready.pop_front()
    }

    /// Something is missing behind the last piece: it may have been filled up with that.
    fn suspect(&mut self) {
        let Building { bytes, account, last, .. } = &mut self.building;
        account.hurt |= holds_interleaved(&bytes[*last..]);
    }

    fn close(&mut self) {
        self.settle(false);
        self.before = Some(std::mem::take(&mut self.building));
    }

    fn settle(&mut self, ended: bool) {
        let Some(before) = self.before.take() else { return };
        let hole = self.holes.find(&before.account, (!ended).then_some(&self.building.account));
        self.ready.push_back(before.assembled(hole));
    }
}

/// Whether there seems to be an interleaved packet, or the beginning of one, in the bytes of another. A demuxer that
/// misses bytes of an RTP packet fills it up with what follows, and misses that in turn: RFC 2326, 10.12.
fn holds_interleaved(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| begins_interleaved(&bytes[at..]))
}

/// Whether bytes begin as an interleaved packet does. Its first byte, its length and a version of 2 alone are found in one
/// last piece of a picture in two hundred, by chance: so all is asked for that packets of H.264 and H.265 have.
fn begins_interleaved(bytes: &[u8]) -> bool {
    let [b'$', channel, high, low, first, second, rest @ ..] = bytes else { return false };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let is_sound = match channel {
        // RFC 3550, 5.1: neither padding nor further sources, and a type that a session description has to explain.
        0 | 2 => first & 0xef == 0x80 && second & 0x7f >= 96 && (12..MOST_INTERLEAVED).contains(&length),
        // RFC 3550, 6.4: a report has a length of its own, in words.
        1 | 3 => {
            let report = rest.first_chunk().map_or(4, |words| 4 * (usize::from(u16::from_be_bytes(*words)) + 1));
            first & 0xe0 == 0x80
                && (200..=204).contains(second)
                && (report..MOST_INTERLEAVED).contains(&length)
                && length.is_multiple_of(4)
        }
        _ => false,
    };
    // Behind it another one begins, unless the packet that it lies in ends before.
    is_sound && bytes.get(4 + length).is_none_or(|next| *next == b'$')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most bytes of a unit in a packet.
    const FULL: usize = 100;
    /// From one picture to the next.
    const INTERVAL: i64 = 3_600;

    /// The pieces of a unit of that type and so many bytes behind its header, which begin with `first`.
    fn unit(nal: Nal, kind: u8, first: u8, length: usize) -> Vec<Vec<u8>> {
        let header = if nal == Nal::H264 { vec![kind] } else { vec![kind << 1, 1] };
        let payload = [vec![first], vec![7; length - 1]].concat();
        let mut pieces: Vec<Vec<u8>> = payload.chunks(FULL).map(<[u8]>::to_vec).collect();
        pieces[0].splice(0..0, [vec![0, 0, 0, 1], header].concat());
        pieces
    }

    /// A picture as cameras send it: a delimiter, what a key frame has before its slice, and a slice of five pieces.
    fn picture(nal: Nal, is_key: bool) -> Vec<Vec<u8>> {
        let kinds: &[u8] = match (nal, is_key) {
            (Nal::H264, true) => &[9, 7, 8, 5],
            (Nal::H264, false) => &[9, 1],
            (Nal::H265, true) => &[35, 32, 33, 34, 19],
            (Nal::H265, false) => &[35, 1],
        };
        let (slice, before) = kinds.split_last().unwrap();
        let before = before.iter().flat_map(|kind| unit(nal, *kind, 0x10, 5));
        before.chain(unit(nal, *slice, 0x80, 4 * FULL + 30)).collect()
    }

    /// A stream, four pictures from one key frame to the next, from which the pieces of these numbers are lost.
    struct Stream {
        pictures: Pictures,
        pts: i64,
        loss: Loss,
    }

    impl Stream {
        fn new(nal: Nal) -> Self {
            Self { pictures: Pictures::new(nal), pts: 0, loss: Loss::default() }
        }

        fn send(&mut self, pieces: &[Vec<u8>], lost: &[usize]) {
            for (number, bytes) in pieces.iter().enumerate() {
                if lost.contains(&number) {
                    self.loss.missed += 1;
                    continue;
                }
                let loss = std::mem::take(&mut self.loss);
                self.pictures.take(&Piece { bytes, pts: Some(self.pts), times: Times::default(), loss });
            }
            self.pts += INTERVAL;
        }

        /// Some pictures that come whole, as the others will have it.
        fn begun(nal: Nal) -> Self {
            let mut stream = Self::new(nal);
            for index in 0..8 {
                stream.send(&picture(nal, index % 4 == 0), &[]);
            }
            while stream.pictures.next().is_some() {}
            stream
        }

        /// Each picture that has come by now: its number, and `K` for a key frame, `P` for another, `-` for none;
        /// small where it has a hole, with a stroke where what follows is damaged.
        fn told(&mut self) -> String {
            let mut told = Vec::new();
            while let Some(Assembled { pts, is_key, hole, .. }) = self.pictures.next() {
                let letter = match (hole.headless, is_key, hole.within) {
                    (true, ..) => '-',
                    (_, true, false) => 'K',
                    (_, true, true) => 'k',
                    (_, false, false) => 'P',
                    (_, false, true) => 'p',
                };
                let stroke = if hole.after { "'" } else { "" };
                told.push(format!("{}{letter}{stroke}", pts.unwrap_or_default() / INTERVAL - 7));
            }
            told.join(" ")
        }
    }

    /// What comes of five pictures, the second of which is a key frame, after others; `lost` are the pieces missing of
    /// each.
    fn told(nal: Nal, lost: [&[usize]; 5]) -> String {
        let mut stream = Stream::begun(nal);
        for (index, lost) in lost.into_iter().enumerate() {
            stream.send(&picture(nal, index == 1), lost);
        }
        stream.pictures.finish();
        stream.told()
    }

    #[test]
    fn pictures_come_as_they_were_sent() {
        for nal in [Nal::H264, Nal::H265] {
            let mut stream = Stream::new(nal);
            for index in 0..5 {
                stream.send(&picture(nal, index % 4 == 0), &[]);
                // A picture is there when the first piece of the next one is.
                let expected = (index > 0).then(|| picture(nal, (index - 1) % 4 == 0).concat());
                let next = stream.pictures.next();
                assert_eq!(next.as_ref().map(|next| next.bytes.clone()), expected);
                assert!(next.is_none_or(|next| next.hole == Hole::default() && next.is_key == (index == 1)));
            }
            stream.pictures.finish();
            assert_eq!(stream.pictures.next().unwrap().pts, Some(4 * INTERVAL));
            assert!(stream.pictures.next().is_none());
        }
    }

    #[test]
    fn a_loss_is_charged_to_the_picture_that_it_is_of() {
        for nal in [Nal::H264, Nal::H265] {
            let key = picture(nal, true).len();
            let all: Vec<usize> = (0..key).collect();
            for (lost, expected) in [
                ([&[][..], &[], &[], &[], &[]], "0P 1P 2K 3P 4P 5P"),
                // Within slices, at their ends, and their heads.
                ([&[], &[key - 2], &[], &[], &[]], "0P 1P 2k' 3P 4P 5P"),
                ([&[], &[], &[2, 4], &[], &[]], "0P 1P 2K 3p' 4P 5P"),
                ([&[], &[], &[5], &[], &[]], "0P 1P 2K 3p' 4P 5P"),
                ([&[], &[], &[4, 5], &[0], &[]], "0P 1P 2K 3p' 4P 5P"),
                ([&[], &[], &[1], &[], &[]], "0P 1P 2K 3-' 4P 5P"),
                ([&[], &[], &[0, 1, 2], &[], &[]], "0P 1P 2K' 3-' 4P 5P"),
                ([&[], &all[..key - 3], &[], &[], &[]], "0P 1P' 2-' 3P 4P 5P"),
                // Delimiters and parameter sets.
                ([&[], &[], &[0], &[], &[]], "0P 1P 2K 3P 4P 5P"),
                ([&[], &[0, 1, 2], &[], &[], &[]], "0P 1P 2K 3P 4P 5P"),
                ([&[], &[1], &[], &[], &[]], "0P 1P 2K 3P 4P 5P"),
                // One after the other, and the end of the one with the beginning of the next.
                ([&[], &[], &[5], &[0, 1], &[]], "0P 1P 2K 3p' 4-' 5P"),
                ([&[5], &[0, 1], &[], &[], &[]], "0P 1p' 2K 3P 4P 5P"),
                // Whole pictures.
                ([&[], &[], &all, &[], &[]], "0P 1P 2K' 4P 5P"),
                ([&all, &[], &[], &[], &[]], "0P' 2K 3P 4P 5P"),
                ([&[], &[], &all[1..], &[], &[]], "0P 1P 2K 4p' 5P"),
                ([&[], &[], &all[1..], &[0, 1], &[]], "0P 1P 2K 4-' 5P"),
                ([&all[1..], &[], &[], &[], &[]], "0P 2K 3P 4P 5P"),
            ] {
                assert_eq!(told(nal, lost), expected, "{nal:?} {lost:?}");
            }
        }
    }

    #[test]
    fn of_the_last_picture_it_is_known_whether_it_came_to_its_end() {
        assert_eq!(told(Nal::H265, [&[], &[], &[], &[], &[4, 5]]), "0P 1P 2K 3P 4P 5p'");
        // Of what has no slices nothing is said.
        assert_eq!(told(Nal::H265, [&[], &[], &[], &[], &[1, 2, 3, 4, 5]]), "0P 1P 2K 3P 4P");
    }

    #[test]
    fn units_that_share_a_packet_or_a_time_are_told_apart() {
        let aggregated = [picture(Nal::H264, true)[..3].concat(), unit(Nal::H264, 5, 0x80, 20).concat()].concat();
        let mut stream = Stream::new(Nal::H264);
        for _ in 0..3 {
            stream.send(std::slice::from_ref(&aggregated), &[]);
            // A clock that stands still.
            stream.pts = 7 * INTERVAL;
        }
        stream.pictures.finish();
        assert_eq!(stream.told(), "-7K 0K 0K");
        // Two slices, and a picture whose units have times of their own.
        let mut stream = Stream::new(Nal::H265);
        for part in [unit(Nal::H265, 35, 0x10, 5), unit(Nal::H265, 19, 0x80, 220), unit(Nal::H265, 19, 0x40, 220)] {
            stream.send(&part, &[]);
        }
        stream.send(&picture(Nal::H265, false), &[]);
        assert_eq!(stream.told(), "-6K");
    }

    #[test]
    fn what_is_large_before_a_slice_is_part_of_it() {
        let mut stream = Stream::new(Nal::H264);
        let pieces = [unit(Nal::H264, 6, 5, 3 * FULL), unit(Nal::H264, 1, 0x80, 20)].concat();
        stream.send(&pieces, &[]);
        stream.send(&pieces, &[1]);
        stream.send(&pieces, &[]);
        let bytes: Vec<Vec<u8>> = std::iter::from_fn(|| stream.pictures.next()).map(|next| next.bytes).collect();
        assert_eq!(bytes[0], pieces.concat());
        assert_eq!(bytes.len(), 2);
    }

    #[test]
    fn a_start_code_that_a_camera_leaves_in_a_packet_hides_no_picture() {
        for (nal, header) in [(Nal::H264, vec![0x41]), (Nal::H265, vec![2, 1])] {
            for left in [&[0, 0, 1][..], &[0, 0, 0, 1]] {
                let mut stream = Stream::new(nal);
                let piece = [&[0, 0, 0, 1], left, &header, &[0x80, 7, 7]].concat();
                (0..3).for_each(|_| stream.send(std::slice::from_ref(&piece), &[]));
                stream.pictures.finish();
                assert_eq!(stream.told().split(' ').count(), 3, "{nal:?} {left:?}");
            }
        }
    }

    #[test]
    fn units_of_h264_that_cameras_seldom_send_begin_a_picture_too() {
        for kind in [14, 15, 18] {
            let mut stream = Stream::new(Nal::H264);
            let pieces = [unit(Nal::H264, kind, 0x10, 5), unit(Nal::H264, 1, 0x80, 20)].concat();
            (0..3).for_each(|_| stream.send(&pieces, &[]));
            let first = stream.pictures.next().unwrap();
            assert_eq!(first.bytes, pieces.concat(), "{kind}: the next one's unit is not this one's");
        }
    }

    #[test]
    fn a_message_and_a_slice_in_one_packet_are_no_key_frame() {
        let both = vec![0, 0, 0, 1, 6, 5, 1, 9, 0x80, 0, 0, 0, 1, 0x61, 0x80, 1, 6, 1, 0x80, 0x80];
        let mut stream = Stream::new(Nal::H264);
        (0..2).for_each(|_| stream.send(std::slice::from_ref(&both), &[]));
        stream.pictures.finish();
        assert_eq!(stream.told(), "-7P -6P");
    }

    #[test]
    fn an_empty_piece_is_none() {
        let empty = |pts| Piece { bytes: &[], pts, times: Times::default(), loss: Loss::default() };
        let mut stream = Stream::begun(Nal::H265);
        let other = picture(Nal::H265, false);
        // It is not the last piece of one that is cut, and not the first of another.
        stream.send(&other, &[5]);
        stream.pictures.take(&empty(Some(stream.pts - INTERVAL)));
        stream.send(&other, &[]);
        stream.pictures.take(&empty(Some(stream.pts)));
        stream.send(&other, &[]);
        // But a loss that comes with it is one.
        stream.pictures.take(&Piece { loss: Loss { missed: 1, uncounted: false }, ..empty(Some(stream.pts - 1)) });
        stream.send(&other, &[]);
        stream.pictures.finish();
        assert_eq!(stream.told(), "0P 1p' 2P 3P' 4P");
    }

    #[test]
    fn a_picture_that_lacks_a_parameter_set_is_not_how_pictures_begin() {
        for nal in [Nal::H264, Nal::H265] {
            let mut stream = Stream::begun(nal);
            let (key, other) = (picture(nal, true), picture(nal, false));
            stream.send(&key, &[1]);
            stream.send(&other, &[]);
            stream.send(&key, &[0, 1]);
            stream.pictures.finish();
            assert_eq!(stream.told(), "0P 1K 2P 3K", "{nal:?}: what is lost is what the third begins with");
        }
    }

    #[test]
    fn what_comes_before_slices_has_a_bound_and_the_stream_goes_on() {
        let messages = |count: usize| vec![[vec![0, 0, 0, 1, 6], vec![5; 60_000]].concat(); count];
        let endless = [vec![[vec![0, 0, 0, 1, 6], vec![5; 60_000]].concat()], vec![vec![7; 60_000]; 400]].concat();
        for (before, expected) in [(messages(400), "0P 1p' 2P 3P"), (endless, "0P 1-' 2P 3P")] {
            let mut stream = Stream::begun(Nal::H264);
            let other = picture(Nal::H264, false);
            stream.send(&before, &[]);
            assert!(stream.pictures.building.bytes.len() <= MOST_BEFORE);
            if expected.contains('p') {
                // These have the time of the slices that follow on them.
                stream.pts -= INTERVAL;
            }
            (0..3).for_each(|_| stream.send(&other, &[]));
            stream.pictures.finish();
            let told = stream.told();
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn a_packet_that_was_filled_up_with_others_is_not_whole() {
        let mut stream = Stream::begun(Nal::H265);
        let mut filled = picture(Nal::H265, false);
        filled[5][10..18].copy_from_slice(&[b'$', 0, 0, 22, 0x80, 96, 0, 1]);
        stream.send(&filled, &[]);
        stream.send(&picture(Nal::H265, false), &[0]);
        stream.send(&filled, &[]);
        stream.send(&filled, &[]);
        stream.pictures.finish();
        assert_eq!(stream.told(), "0P 1p' 2P 3P 4p'", "with more behind it it is a coincidence");
    }

    #[test]
    fn a_picture_that_looks_like_packets_by_chance_is_whole() {
        let packet = |head: &[u8], length: usize| [head, &vec![7; length.saturating_sub(head.len())]].concat();
        for (bytes, holds) in [
            (packet(&[b'$', 0, 0, 22, 0x80, 96], 20), true),
            (packet(&[b'$', 2, 5, 120, 0x90, 0xe0], 700), true),
            ([packet(&[b'$', 0, 0, 22, 0x80, 96], 26), packet(&[b'$', 0], 2)].concat(), true),
            (packet(&[b'$', 1, 0, 28, 0x81, 200, 0, 6], 32), true),
            (packet(&[b'$', 1, 0, 8, 0x81, 203], 6), true),
            // What pictures of x264 have held.
            (packet(&[b'$', 0, 4, 0x17, 0x94, 0x6a], 659), false),
            (packet(&[b'$', 0, 4, 0x08, 0xb9, 0x60], 659), false),
            (packet(&[b'$', 0, 4, 0x0f, 0xb0, 0xe0], 659), false),
            (packet(&[b'$', 0, 4, 0x04, 0xa0, 0x70], 659), false),
            (packet(&[b'$', 1, 0, 0x0a, 0x85, 0xf9], 659), false),
            // Of no length that fits.
            (packet(&[b'$', 0, 0, 22, 0x80, 96], 27), false),
            (packet(&[b'$', 0, 0, 4, 0x80, 96], 8), false),
            (packet(&[b'$', 1, 0, 28, 0x81, 200, 0, 7], 32), false),
            (packet(&[b'$', 1, 0, 27, 0x81, 200, 0, 5], 31), false),
        ] {
            assert_eq!(holds_interleaved(&[&[9, b'$'], &bytes[..]].concat()), holds, "{:?}", &bytes[..6]);
        }
    }

    #[test]
    fn a_picture_has_a_bound() {
        let mut stream = Stream::new(Nal::H264);
        let endless = vec![vec![7; 1 << 20]; 20];
        stream.send(&[picture(Nal::H264, true), endless].concat(), &[]);
        stream.pictures.finish();
        let Assembled { bytes, hole, .. } = stream.pictures.next().unwrap();
        assert!(hole.within && bytes.len() <= MOST_BYTES);
        let mut building = Building::default();
        let piece =
            Piece { bytes: &picture(Nal::H264, true)[0], pts: None, times: Times::default(), loss: Loss::default() };
        (0..1_000).for_each(|_| building.take(Nal::H264, &piece));
        assert_eq!(building.account.before.len(), MOST_UNITS);
    }
}
