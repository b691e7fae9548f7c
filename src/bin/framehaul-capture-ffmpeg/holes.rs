//! Where a loss has left its hole: in a picture, behind it, or nowhere that matters.
//!
//! What is missing within a picture's slices is a hole in it. What is missing between two pictures was the end of the
//! one, the beginning of the other, or other pictures between them. A unit goes into packets that are full, up to its
//! last: so a picture whose last packet is not full has come to its end.

use crate::nal::Nal;

/// What a loss has damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hole {
    /// The picture at hand.
    pub within: bool,
    /// What follows it.
    pub after: bool,
    /// The picture at hand, of which nothing came that a decoder could begin with.
    pub headless: bool,
}

impl Hole {
    /// Of a loss of which nothing more is known.
    pub const ANYWHERE: Self = Self { within: true, after: true, headless: false };
}

/// What did not arrive, by a demuxer's own words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// RTP packets that are missing.
    pub missed: u32,
    /// Whether something is missing of which nobody knows how much.
    pub uncounted: bool,
}

impl Loss {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.missed = self.missed.saturating_add(other.missed);
        self.uncounted |= other.uncounted;
    }

    /// Whether anything is missing.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// What came of a picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What was lost directly behind the picture before.
    pub gap: Loss,
    /// Whether there was another one between that and this, of which only what comes before the slices came.
    pub skipped: bool,
    /// Types of the units before the first slice.
    pub before: Vec<u8>,
    /// Slices that begin.
    pub slices: u32,
    /// Whether the first of them is the picture's first.
    pub first_slice: bool,
    /// Whether it is a key frame.
    pub is_key: bool,
    /// Whether something is missing from within its slices.
    pub hurt: bool,
    /// Whether something is missing from within what comes before them.
    pub begins_short: bool,
    /// Lengths of the pieces that were followed by more of the same unit: the least and the most.
    pub full: Option<(usize, usize)>,
    /// Length of the last piece.
    pub last: usize,
}

impl Account {
    /// Whether it has its beginning.
    fn has_head(&self) -> bool {
        self.slices > 0 && self.first_slice
    }

    /// How many of the units that another picture begins with are missing from this one.
    fn lacks(&self, other: &Self) -> u32 {
        let count = |before: &[u8], kind| before.iter().filter(|one| **one == kind).count();
        let mut kinds = other.before.clone();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.iter().map(|kind| count(&other.before, *kind).saturating_sub(count(&self.before, *kind)) as u32).sum()
    }
}

/// How a picture ends, by what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
    Unknown,
}

/// Pictures by which it is known how long full pieces are.
const ENOUGH: u32 = 4;
/// Pictures after which what was found is forgotten, the second time: one odd packet is not for ever.
const SPAN: u32 = 500;

/// The lengths of full pieces, of late.
#[derive(Clone, Copy, Debug, Default)]
struct Full {
    /// The least and the most, in the span before and in this one.
    found: [Option<(usize, usize)>; 2],
    /// Pictures in this span.
    count: u32,
}

impl Full {
    fn note(&mut self, (least, most): (usize, usize)) {
        if self.count == SPAN {
            (self.found[0], self.found[1], self.count) = (self.found[1], None, 0);
        }
        self.count += 1;
        let known = self.found[1].get_or_insert((least, most));
        *known = (known.0.min(least), known.1.max(most));
    }

    fn get(&self) -> Option<(usize, usize)> {
        let is_enough = self.found[0].is_some() || self.count >= ENOUGH;
        let found = self.found.iter().flatten().copied();
        found.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))).filter(|_| is_enough)
    }
}

/// Finds where losses have left their holes.
#[derive(Clone, Debug)]
pub struct Holes {
    nal: Nal,
    /// The last two pictures that came whole: others, and key frames.
    usual: [[Option<Account>; 2]; 2],
    full: Full,
}

impl Holes {
    /// At the start of a stream.
    pub fn new(nal: Nal) -> Self {
        Self { nal, usual: Default::default(), full: Full::default() }
    }

    /// Where the holes of a picture are. `next` is the picture that follows, with what comes before its slices; none,
    /// where the stream has ended.
    pub fn find(&mut self, picture: &Account, next: Option<&Account>) -> Hole {
        let lost = next.is_none_or(|next| next.gap.any());
        let harmless = next.is_some_and(|next| self.lost_beginnings_only(next));
        let cut = lost
            && match (next, self.end_of(picture)) {
                (Some(next), _) if next.gap.uncounted => true,
                (_, End::Whole) => false,
                (_, End::Cut) => true,
                // H.264's decoder finds the blocks that are missing, H.265's of FFmpeg 5.1 says nothing of a hole.
                (_, End::Unknown) => self.nal == Nal::H265 && !harmless,
            };
        let missing = next.is_some() && lost && (cut || !harmless);
        let headless = picture.slices == 0;
        // Others than key frames refer to the one before.
        let within = cut || picture.hurt || !picture.has_head() || picture.skipped && !picture.is_key;
        let is_whole = !lost && !within && !picture.gap.any() && !picture.skipped && !picture.begins_short;
        if is_whole {
            self.note(picture);
        }
        Hole { within, after: within || missing, headless }
    }

    fn note(&mut self, picture: &Account) {
        let [last, before] = &mut self.usual[usize::from(picture.is_key)];
        *before = last.replace(picture.clone());
        if let Some(full) = picture.full {
            self.full.note(full);
        }
    }

    /// Whether nothing was lost before a picture but what it begins with: the unit that comes first, and as many in all
    /// as were lost.
    fn lost_beginnings_only(&self, next: &Account) -> bool {
        let lacking = |usual: &Account| {
            let begins_late = usual.before.first() != next.before.first();
            if begins_late { next.lacks(usual) } else { 0 }
        };
        let usual = &self.usual[usize::from(next.is_key)];
        let lacking = usual.iter().map(|usual| usual.as_ref().map_or(0, lacking)).min().unwrap_or_default();
        next.has_head() && !next.skipped && !next.gap.uncounted && next.gap.missed <= lacking
    }

    fn end_of(&self, picture: &Account) -> End {
        let usual = &self.usual[usize::from(picture.is_key)];
        let all_slices = usual.iter().all(|usual| usual.as_ref().is_some_and(|usual| usual.slices == picture.slices));
        let known = self.full.get();
        // Some cameras split each unit evenly. Then the last piece of what is there may be as short as others of that
        // unit that are missing.
        let is_odd = known.is_some_and(|(least, most)| picture.full.map_or(least != most, |(own, _)| own < least));
        match known {
            _ if is_odd => End::Unknown,
            Some((least, _)) if picture.last < least && all_slices => End::Whole,
            // One in a thousand is as long and whole.
            Some((least, most)) if least == most && picture.last == most => End::Cut,
            _ => End::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length of a full piece.
    const FULL: usize = 100;
    const NOTHING: Hole = Hole { within: false, after: false, headless: false };
    const AFTER: Hole = Hole { within: false, after: true, headless: false };

    /// A whole picture of one slice in several pieces. H.264's unit types; nothing here depends on them.
    fn other() -> Account {
        let before = vec![9];
        Account { before, slices: 1, first_slice: true, full: Some((FULL, FULL)), last: 30, ..Account::default() }
    }

    fn key() -> Account {
        Account { before: vec![9, 7, 8, 6], is_key: true, ..other() }
    }

    fn missed(missed: u32) -> Loss {
        Loss { missed, uncounted: false }
    }

    /// With so many packets missing before it.
    fn behind(missed_packets: u32, account: Account) -> Account {
        Account { gap: missed(missed_packets), ..account }
    }

    fn headless() -> Account {
        Account { before: Vec::new(), first_slice: false, ..other() }
    }

    /// After some whole pictures.
    fn used_to(nal: Nal, accounts: &[Account]) -> Holes {
        let mut holes = Holes::new(nal);
        for _ in 0..ENOUGH {
            for account in accounts {
                assert_eq!(holes.find(account, Some(&other())), NOTHING);
            }
        }
        holes
    }

    fn find(nal: Nal, account: &Account, next: &Account) -> Hole {
        used_to(nal, &[key(), other()]).find(account, Some(next))
    }

    #[test]
    fn a_picture_whose_last_piece_is_not_full_is_whole_whatever_is_lost_behind_it() {
        for nal in [Nal::H264, Nal::H265] {
            for next in [headless(), other(), key(), Account::default()] {
                for picture in [other(), key()] {
                    assert_eq!(find(nal, &picture, &behind(7, next.clone())), AFTER, "{nal:?} {next:?}");
                }
            }
            for last in [FULL, FULL + 1] {
                let cut = Account { last, ..other() };
                assert_eq!(find(nal, &cut, &other()), NOTHING, "nothing is lost");
                let found = find(nal, &cut, &behind(1, other()));
                assert_eq!(found.within, last == FULL || nal == Nal::H265, "{nal:?} {last}");
                assert!(found.after);
            }
        }
    }

    #[test]
    fn where_the_ends_of_pictures_cannot_be_told_the_decoder_has_to_find_them() {
        let odd = |full, last| Account { full, last, ..other() };
        let two_slices = Account { slices: 2, ..other() };
        for (usual, picture, is_whole) in [
            // None of them was ever in pieces.
            (vec![odd(None, 30)], odd(None, 30), false),
            // Pieces of one unit differ, as some cameras send them.
            (vec![odd(Some((60, FULL)), 30)], odd(Some((60, FULL)), 59), true),
            (vec![odd(Some((60, FULL)), 30)], odd(Some((60, FULL)), 60), false),
            (vec![odd(Some((60, FULL)), 30)], odd(Some((60, FULL)), FULL), false),
            (vec![odd(Some((60, 60)), 30), other()], odd(Some((FULL, FULL)), 70), false),
            // Each unit is split evenly: another piece as short as the last one may be missing.
            (vec![other()], odd(Some((50, 50)), 50), false),
            (vec![other()], odd(Some((50, 51)), 49), false),
            (vec![odd(Some((60, FULL)), 30)], odd(None, 30), false),
            (vec![other()], odd(None, 30), true),
            // Other slices may be missing.
            (vec![two_slices.clone()], other(), false),
            (vec![two_slices.clone()], two_slices.clone(), true),
            (vec![two_slices.clone(), other()], two_slices, false),
            (Vec::new(), other(), false),
        ] {
            let found = |nal| used_to(nal, &usual).find(&picture, Some(&behind(2, headless())));
            assert_eq!(found(Nal::H264), AFTER, "{picture:?}");
            assert_eq!(found(Nal::H265), if is_whole { AFTER } else { Hole::ANYWHERE }, "{picture:?}");
        }
    }

    #[test]
    fn lengths_of_long_ago_are_forgotten() {
        let odd = Account { full: Some((10, FULL)), ..other() };
        let mut holes = used_to(Nal::H265, &[odd]);
        let mut is_whole = || {
            let found = holes.find(&other(), Some(&behind(2, headless())));
            for _ in 0..SPAN {
                holes.find(&other(), Some(&other()));
            }
            !found.within
        };
        assert_eq!([is_whole(), is_whole(), is_whole()], [false, false, true]);
    }

    #[test]
    fn a_beginning_that_is_missing_leaves_no_hole() {
        let without = |before: &[u8], account: Account| Account { before: before.to_vec(), ..account };
        // Nothing tells whether the first of them has come to its end.
        let picture = || Account { last: FULL + 1, ..other() };
        for (next, lost, found) in [
            (without(&[], other()), 1, NOTHING),
            (without(&[], other()), 2, Hole::ANYWHERE),
            (without(&[7, 8, 6], key()), 1, NOTHING),
            (without(&[6], key()), 3, NOTHING),
            (without(&[6], key()), 4, Hole::ANYWHERE),
            (without(&[9, 6], key()), 2, Hole::ANYWHERE),
            (key(), 1, Hole::ANYWHERE),
            (Account { first_slice: false, ..without(&[], other()) }, 1, Hole::ANYWHERE),
            (Account { skipped: true, ..without(&[], other()) }, 1, Hole::ANYWHERE),
        ] {
            assert_eq!(find(Nal::H265, &picture(), &behind(lost, next.clone())), found, "{lost} {next:?}");
            let found = Hole { within: false, ..found };
            assert_eq!(find(Nal::H264, &picture(), &behind(lost, next)), found);
        }
        // It has not come to its end, so that is what is missing.
        let cut = Account { last: FULL, ..other() };
        assert_eq!(find(Nal::H264, &cut, &behind(1, without(&[], other()))), Hole::ANYWHERE);
        // A whole one, behind which nothing but a delimiter is missing.
        assert_eq!(find(Nal::H264, &other(), &behind(1, without(&[], other()))), NOTHING);
    }

    #[test]
    fn units_that_come_now_and_then_are_not_missed() {
        let seldom = Account { before: vec![6, 9], ..other() };
        for usual in [vec![seldom.clone(), other()], vec![other(), seldom]] {
            let found = used_to(Nal::H265, &usual).find(&other(), Some(&behind(1, other())));
            assert_eq!(found, AFTER);
        }
    }

    #[test]
    fn what_is_missing_from_a_picture_is_a_hole_in_it() {
        for nal in [Nal::H264, Nal::H265] {
            let hurt = Account { hurt: true, ..key() };
            assert_eq!(find(nal, &hurt, &other()), Hole::ANYWHERE);
            assert_eq!(find(nal, &headless(), &other()), Hole::ANYWHERE);
            let nothing = Account { slices: 0, first_slice: false, ..other() };
            assert_eq!(find(nal, &nothing, &other()), Hole { headless: true, ..Hole::ANYWHERE });
            // It refers to one that never came; a key frame refers to none.
            assert_eq!(find(nal, &Account { skipped: true, ..other() }, &other()), Hole::ANYWHERE);
            assert_eq!(find(nal, &Account { skipped: true, ..key() }, &other()), NOTHING);
        }
    }

    #[test]
    fn what_nobody_counted_may_be_anywhere() {
        let next = Account { gap: Loss { missed: 1, uncounted: true }, before: Vec::new(), ..other() };
        assert_eq!(find(Nal::H264, &other(), &next), Hole::ANYWHERE);
    }

    #[test]
    fn a_connection_may_break_off_within_a_picture() {
        let found = |nal, last| used_to(nal, &[other()]).find(&Account { last, ..other() }, None) != NOTHING;
        assert_eq!([30, FULL, FULL + 1].map(|last| found(Nal::H264, last)), [false, true, false]);
        assert_eq!([30, FULL, FULL + 1].map(|last| found(Nal::H265, last)), [false, true, true]);
    }

    #[test]
    fn what_comes_with_a_loss_is_not_usual() {
        let mut holes = used_to(Nal::H265, &[other()]);
        let late = behind(1, Account { before: Vec::new(), full: Some((5, FULL)), ..other() });
        for _ in 0..3 {
            assert_eq!(holes.find(&other(), Some(&late)), NOTHING);
            assert_eq!(holes.find(&late, Some(&other())), NOTHING);
        }
    }
}
