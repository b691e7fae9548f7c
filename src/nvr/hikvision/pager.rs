//! From page to page of one search, whatever the recorder makes of where a page begins. Pure.
//!
//! Each page is asked for from the last match of the one before. Where that is not what comes first, the list has
//! changed meanwhile, as it does on a full disk, or the recorder ignores positions: then the rest is searched by time.

use std::collections::HashSet;

use time::PrimitiveDateTime;

use super::page::{Key, Match, Page};

/// Pages of one search, at most: 64 matches each of ten minutes are six years.
const MOST_PAGES: u32 = 5_000;
/// Matches of one search, at most, however many a recorder puts on a page: what those pages hold.
const MOST_MATCHES: usize = 64 * MOST_PAGES as usize;

/// One search of one track, within which the recorder's clock is not set back.
#[derive(Debug)]
pub(super) struct Pager {
    from: PrimitiveDateTime,
    to: PrimitiveDateTime,
    id: String,
    place: Place,
    seen: HashSet<Key>,
    /// The newest match that came: its key, its start and its end.
    last: Option<(Key, PrimitiveDateTime, PrimitiveDateTime)>,
    pages: u32,
    done: bool,
}

/// Where the next page begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// At this place among all; with the last match of the page before as its first, or behind it.
    Position { at: usize, overlap: bool },
    /// At this time; once behind the last match, and not at its start, if that brought nothing.
    Time { from: PrimitiveDateTime, behind: bool },
}

/// What the next page is asked for with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Next<'a> {
    pub(super) id: &'a str,
    pub(super) from: PrimitiveDateTime,
    pub(super) to: PrimitiveDateTime,
    pub(super) position: usize,
}

impl Pager {
    pub(super) fn new(from: PrimitiveDateTime, to: PrimitiveDateTime) -> Self {
        let place = Place::Position { at: 0, overlap: false };
        Self { from, to, id: guid(), place, seen: HashSet::new(), last: None, pages: 0, done: false }
    }

    /// The next page; `None` after the last one.
    pub(super) fn next(&self) -> Option<Next<'_>> {
        let (from, position) = match self.place {
            Place::Position { at, .. } => (self.from, at),
            Place::Time { from, .. } => (from, 0),
        };
        (!self.done).then_some(Next { id: &self.id, from, to: self.to, position })
    }

    /// Takes what came: the matches that are new. `positions` is whether the page was asked for by its place at all.
    ///
    /// # Errors
    ///
    /// When the recorder goes round in circles.
    pub(super) fn take(&mut self, page: Page, positions: bool) -> Result<Vec<Match>, &'static str> {
        self.pages += 1;
        if self.pages > MOST_PAGES {
            return Err("its search does not come to an end");
        }
        let Page { matches, more } = page;
        let (came, first) = (matches.len(), matches.first().map(Match::key));
        let goes_on = first.is_some() && first == self.last.as_ref().map(|(key, ..)| key.clone());
        let new: Vec<Match> = matches.into_iter().filter(|of| self.seen.insert(of.key())).collect();
        if self.seen.len() > MOST_MATCHES {
            return Err("its search finds more than a recorder can have: ask for a shorter span");
        }
        if let Some(newest) = new.last() {
            self.last = Some((newest.key(), newest.start, newest.end));
        }
        match self.place {
            // Nothing came where at least the last match was due: the list is shorter than it was.
            Place::Position { overlap: true, .. } if !goes_on => self.by_time(false),
            // What was due behind the last match is what came before.
            Place::Position { at, overlap: false } if at > 0 && came > 0 && new.is_empty() => self.by_time(false),
            _ if came == 0 || !more => self.done = true,
            Place::Position { .. } if !positions => self.by_time(false),
            Place::Position { at, overlap } => {
                let at = at + came;
                let overlap = came > 1 && !(overlap && new.is_empty());
                self.place = Place::Position { at: at - usize::from(overlap), overlap };
            }
            Place::Time { .. } if !new.is_empty() => self.by_time(false),
            Place::Time { behind: false, .. } => self.by_time(true),
            Place::Time { behind: true, .. } => {
                return Err("it says that there are more recordings and sends the same again");
            }
        }
        Ok(new)
    }

    /// Goes on at the last match, or behind it.
    fn by_time(&mut self, behind: bool) {
        let from = self.last.as_ref().map_or(self.from, |(_, start, end)| if behind { *end } else { *start });
        // Those that began before the search may be told as they are.
        self.place = Place::Time { from: from.max(self.from), behind };
        self.id = guid();
        self.done = from >= self.to;
    }
}

/// A random GUID of version 4, in capitals: other ids are refused.
fn guid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032X}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;
    use crate::nvr::SegmentKind;

    const DAY: PrimitiveDateTime = datetime!(2026-11-19 00:00);

    fn file(number: u32) -> Match {
        let start = DAY + Duration::minutes(10 * i64::from(number));
        Match {
            track: None,
            start,
            end: start + Duration::minutes(10),
            name: Some(number.to_string()),
            size: None,
            kind: SegmentKind::Video,
            codec: None,
            locked: None,
            event: None,
            uri: String::new(),
        }
    }

    /// A recorder with so many files on a page.
    struct Device {
        files: Vec<Match>,
        page: usize,
        ignores_position: bool,
        always_more: bool,
    }

    impl Device {
        fn new(files: u32, page: usize) -> Self {
            Self { files: (0..files).map(file).collect(), page, ignores_position: false, always_more: false }
        }

        fn answer(&self, next: &Next<'_>) -> Page {
            let found: Vec<&Match> = self.files.iter().filter(|of| of.start < next.to && of.end > next.from).collect();
            let position = if self.ignores_position { 0 } else { next.position };
            let rest = &found[position.min(found.len())..];
            let matches: Vec<Match> = rest.iter().take(self.page).map(|of| (*of).clone()).collect();
            Page { more: rest.len() > self.page || (self.always_more && !found.is_empty()), matches }
        }
    }

    /// All names, and how many pages it took. Between the pages `change` is made.
    fn all(device: &mut Device, positions: bool, change: impl Fn(&mut Device)) -> (Vec<String>, u32) {
        let mut pager = Pager::new(DAY, DAY + Duration::days(10));
        let (mut names, mut pages) = (Vec::new(), 0);
        while let Some(next) = pager.next() {
            let page = device.answer(&next);
            names.extend(pager.take(page, positions).unwrap().into_iter().map(|of| of.name.unwrap()));
            pages += 1;
            assert!(pages < 2_000, "{names:?}");
            change(device);
        }
        (names, pages)
    }

    fn names(numbers: impl Iterator<Item = u32>) -> Vec<String> {
        numbers.map(|number| number.to_string()).collect()
    }

    #[test]
    fn a_search_that_finds_ever_more_comes_to_an_end() {
        let mut pager = Pager::new(DAY, DAY + Duration::days(10));
        // More on a page than was asked for, and another page behind each.
        let page =
            |number: u32| Page { matches: (0..10_000).map(|of| file(number * 10_000 + of)).collect(), more: true };
        let told = (0..100).find_map(|number| pager.take(page(number), true).err().map(|told| (number, told)));
        let (number, told) = told.unwrap();
        assert!(number as usize <= MOST_MATCHES / 10_000 && told.contains("shorter span"), "{number} {told}");
    }

    #[test]
    fn quirk_10_every_kind_of_paging_finds_all_of_them_once() {
        for (files, page) in [(0, 4), (1, 4), (4, 4), (5, 4), (130, 64), (131, 2), (20, 1), (1_000, 40)] {
            for (ignores_position, always_more, positions) in [
                (false, false, true),
                (true, false, true),
                (false, true, true),
                (true, true, true),
                (false, false, false),
                (true, true, false),
            ] {
                // Without a position a page of one has no room for what is new.
                if page == 1 && always_more && (ignores_position || !positions) {
                    continue;
                }
                let mut device = Device { ignores_position, always_more, ..Device::new(files, page) };
                let (found, pages) = all(&mut device, positions, |_| ());
                let what = format!("{files} files, {page} a page, {ignores_position} {always_more} {positions}");
                assert_eq!(found, names(0..files), "{what}");
                assert!(pages as usize <= 2 * files as usize / page + 5 || page < 3, "{what}: {pages}");
            }
        }
    }

    #[test]
    fn what_is_written_over_meanwhile_hides_nothing_behind_it() {
        let mut device = Device::new(100, 10);
        let (found, _) = all(&mut device, true, |device| drop(device.files.drain(..device.files.len().min(1))));
        // Each file that was there all the time has come.
        assert!(found.len() >= 90 && found.ends_with(&names(50..100)), "{found:?}");
        let mut sorted = found.clone();
        sorted.dedup();
        assert_eq!(sorted, found);
    }

    #[test]
    fn what_is_recorded_meanwhile_is_found_too() {
        let mut device = Device::new(20, 10);
        let (found, _) = all(&mut device, true, |device| {
            let next = file(device.files.len() as u32);
            device.files.push(next);
        });
        // The third page is the last one: two files are there by then.
        assert_eq!(found, names(0..22));
    }

    #[test]
    fn a_recorder_that_goes_round_in_circles_is_left() {
        let page = || Page { matches: vec![file(0), file(1)], more: true };
        let mut pager = Pager::new(DAY, DAY + Duration::days(1));
        let mut pages = 0;
        while pager.next().is_some() && pager.take(page(), true).is_ok() {
            pages += 1;
        }
        assert!(pager.next().is_some() && pages < 10, "{pages}");
        let mut pager = Pager::new(DAY, DAY + Duration::days(3_650));
        let mut number = 0;
        while pager.take(Page { matches: vec![file(number), file(number + 1)], more: true }, true).is_ok() {
            number += 1;
            assert!(pager.next().is_some() && number <= MOST_PAGES);
        }
        assert_eq!(number, MOST_PAGES);
    }

    #[test]
    fn ids_look_like_ids() {
        let (one, other) = (guid(), guid());
        assert_ne!(one, other);
        let groups: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(
            one.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)),
            "{one}"
        );
    }
}
