//! Which pictures cannot be trusted. A picture is as good as those that it refers to, so damage goes on until a key
//! frame that is whole.

use std::collections::VecDeque;

use crate::holes::Hole;
use crate::input::Times;

/// Packets that may be on their way through a decoder: twice the pictures that H.264 and H.265 let one hold back.
const MOST_ON_THEIR_WAY: usize = 64;

/// A packet on its way through the decoder.
#[derive(Clone, Copy, Debug)]
struct Sent {
    pts: Option<i64>,
    times: Times,
    is_key: bool,
    damaged: bool,
}

/// What is known of the pictures in the decoder.
#[derive(Debug, Default)]
pub struct Evidence {
    sent: VecDeque<Sent>,
    /// Whether what the next packet refers to is damaged.
    tainted: bool,
    /// The last key frame's time, and whether what came before it was damaged: pictures that are shown before it may
    /// refer to that.
    leading: Option<(i64, bool)>,
}

impl Evidence {
    /// Notes that a packet goes to the decoder, and what losses have damaged.
    pub fn sent(&mut self, pts: Option<i64>, times: Times, is_key: bool, hole: Hole) {
        let before = self.tainted;
        let damaged = match (pts, self.leading) {
            _ if is_key => false,
            (Some(pts), Some((key, damaged))) if pts < key => damaged,
            _ => before,
        };
        let damaged = damaged || hole.within;
        if is_key {
            self.leading = pts.map(|pts| (pts, before));
            self.tainted = false;
        }
        self.tainted |= hole.within || hole.after;
        if self.sent.len() == MOST_ON_THEIR_WAY {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { pts, times, is_key, damaged });
    }

    /// Notes that the decoder found an error in the packet that it was given last.
    pub fn wrong(&mut self) {
        self.tainted = true;
        if let Some(last) = self.sent.back_mut() {
            last.damaged = true;
        }
    }

    /// Notes that the packet given last will give no picture. Its times.
    pub fn nothing_came(&mut self) -> Times {
        self.wrong();
        self.sent.pop_back().map(|sent| sent.times).unwrap_or_default()
    }

    /// Notes that a picture came out; `flagged` where the decoder says that it is not whole. Its times, and whether it
    /// is damaged.
    pub fn came(&mut self, pts: Option<i64>, flagged: bool) -> (Times, bool) {
        let Some(index) = self.sent.iter().position(|sent| sent.pts == pts) else {
            self.tainted |= flagged;
            return (Times::default(), flagged || self.tainted);
        };
        if flagged {
            let key = self.sent.iter().skip(index + 1).position(|sent| sent.is_key);
            self.tainted |= key.is_none();
            for sent in self.sent.iter_mut().skip(index + 1).take(key.unwrap_or(usize::MAX)) {
                sent.damaged = true;
            }
        }
        let sent = self.sent.remove(index).expect("it was found there");
        (sent.times, flagged || sent.damaged)
    }

    /// Forgets what is on its way: the decoder was emptied.
    pub fn emptied(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Hole = Hole { within: false, after: false, headless: false };
    const AFTER: Hole = Hole { within: false, after: true, headless: false };

    /// Which of a stream's pictures are damaged, one packet after the other without delay: `K` a key frame, `P`
    /// another one, lower case where there is a hole behind it, `!` after one that the decoder flags.
    fn damaged(stream: &str) -> String {
        let mut evidence = Evidence::default();
        let mut found = String::new();
        let mut letters = stream.chars().peekable();
        let mut pts = 0;
        while let Some(letter) = letters.next() {
            pts += 1;
            let hole = if letter.is_lowercase() { AFTER } else { NONE };
            evidence.sent(Some(pts), Times::default(), letter.eq_ignore_ascii_case(&'k'), hole);
            let flagged = letters.next_if_eq(&'!').is_some();
            found.push(if evidence.came(Some(pts), flagged).1 { 'x' } else { '-' });
        }
        found
    }

    #[test]
    fn damage_goes_on_until_a_whole_key_frame() {
        for (stream, expected) in [
            ("KPPPKPP", "-------"),
            ("KPpPKPP", "---x---"),
            ("KPP!PPKPP", "--xxx---"),
            ("KPPkPPKP", "----xx--"),
            ("KPPpKPP", "-------"),
            ("KPPpK!PPK", "----xxx-"),
        ] {
            assert_eq!(damaged(stream), expected, "{stream}");
        }
    }

    #[test]
    fn a_hole_within_a_picture_spoils_that_one_as_well() {
        let mut evidence = Evidence::default();
        let mut found = Vec::new();
        for (pts, is_key, hole) in
            [(1, true, NONE), (2, true, Hole::ANYWHERE), (3, false, NONE), (4, true, NONE), (5, false, NONE)]
        {
            evidence.sent(Some(pts), Times::default(), is_key, hole);
            found.push(evidence.came(Some(pts), false).1);
        }
        assert_eq!(found, [false, true, true, false, false]);
    }

    #[test]
    fn pictures_in_the_decoder_are_damaged_with_those_that_they_follow() {
        let mut evidence = Evidence::default();
        for (pts, is_key) in [(1, true), (2, false), (3, false), (4, true), (5, false)] {
            evidence.sent(Some(pts), Times::default(), is_key, NONE);
        }
        let found: Vec<_> = (1..6).map(|pts| evidence.came(Some(pts), pts == 2).1).collect();
        assert_eq!(found, [false, true, true, false, false]);
    }

    #[test]
    fn pictures_shown_before_a_key_frame_are_as_good_as_what_was_before_it() {
        for hole in [NONE, AFTER] {
            let mut evidence = Evidence::default();
            // In the order of decoding: the last two are shown before the key frame.
            for (pts, is_key, hole) in [(1, true, NONE), (2, false, hole), (6, true, NONE), (4, false, NONE)] {
                evidence.sent(Some(pts), Times::default(), is_key, hole);
            }
            assert_eq!(evidence.came(Some(4), false).1, hole.after);
            assert!(!evidence.came(Some(6), false).1);
        }
    }

    #[test]
    fn a_packet_without_a_picture_damages_what_follows() {
        let mut evidence = Evidence::default();
        let times = Times { pts_micros: Some(7), wall_micros: None };
        evidence.sent(Some(1), times, true, NONE);
        assert_eq!(evidence.nothing_came(), times);
        evidence.sent(Some(2), Times::default(), false, NONE);
        assert!(evidence.came(Some(2), false).1);
    }

    #[test]
    fn what_is_on_its_way_has_a_bound() {
        let mut evidence = Evidence::default();
        for pts in 0..1_000 {
            evidence.sent(Some(pts), Times::default(), false, NONE);
        }
        assert_eq!(evidence.sent.len(), MOST_ON_THEIR_WAY);
    }
}
