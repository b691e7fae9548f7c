//! From what was found to what is to be done: pure.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use time::PrimitiveDateTime;

use super::names::{Facts, clean, digits, piece};
use super::{Form, Names, Recording};
use crate::media::Cut;
use crate::nvr::{Segment, Span, StreamKind, Track};

/// A recording that is to be exported.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its number in the list.
    pub number: u64,
    pub segment: Segment,
    pub channel: u32,
    pub camera: String,
    /// Whether its track is one that the channel has beside its main one.
    beside: bool,
    /// What tells it from others that begin with it.
    distinct: Option<String>,
    /// Which of those it is that nothing tells apart.
    alike: Option<u32>,
    /// Its key, without what says the form.
    pub stem: String,
}

/// One object, or the JPEGs of one recording, and the recordings that it is made of.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The places of the items.
    pub items: Vec<usize>,
    /// The object's key, without what says the form.
    pub stem: String,
    /// Which part of them is kept, or why that cannot be told.
    pub cut: Result<Cut, String>,
}

impl Item {
    /// Gives it the name that its segment has by now.
    pub(super) fn name(&mut self, names: &Names, server: &str) {
        let Segment { track, start, end, key, .. } = &self.segment;
        self.stem = names.stem(&Facts {
            server,
            camera: &self.camera,
            channel: self.channel,
            track,
            beside: self.beside,
            start: start.literal,
            end: end.literal,
            start_utc: start.utc.to_utc(),
            name: key.as_deref(),
            distinct: self.distinct.as_deref(),
        });
        if let Some(alike) = self.alike {
            self.stem.push_str(&format!("-x{alike}"));
        }
    }

    /// The recording as lists show it.
    pub(super) fn recording(&self) -> Recording {
        let Segment { track, start, end, key, size, kind, .. } = &self.segment;
        Recording {
            track: track.clone(),
            channel: self.channel,
            camera: self.camera.clone(),
            source: key.clone(),
            kind: *kind,
            start: *start,
            end: *end,
            start_utc: start.utc,
            end_utc: end.utc,
            listed_bytes: *size,
        }
    }
}

/// Gives each recording its number and its names.
pub(super) fn items(
    segments: Vec<Segment>,
    known: &[Track],
    tracks: &[Track],
    names: &Names,
    server: &str,
) -> Vec<Item> {
    let cameras = cameras(known, tracks);
    let track = |id: &str| tracks.iter().position(|track| track.id == id);
    let mut segments = segments;
    segments.sort_by(|a, b| {
        let place = |segment: &Segment| (track(&segment.track), segment.start.utc, segment.key.clone());
        place(a).cmp(&place(b))
    });
    let mut items = Vec::with_capacity(segments.len());
    let mut taken: HashMap<String, u32> = HashMap::new();
    for (number, segment) in (1..).zip(segments) {
        let on = track(&segment.track).map(|place| &tracks[place]);
        let mut item = Item {
            number,
            channel: on.map_or(0, |track| track.channel),
            camera: cameras.get(segment.track.as_str()).cloned().unwrap_or_default(),
            beside: on.is_none_or(|track| track.stream != StreamKind::Main),
            distinct: None,
            alike: None,
            stem: String::new(),
            segment,
        };
        item.name(names, server);
        *taken.entry(item.stem.clone()).or_default() += 1;
        items.push(item);
    }
    let (mut given, mut alike) = (HashSet::new(), HashMap::new());
    for item in &mut items {
        let segment = &item.segment;
        // What begins where the search did may begin before it, and what begins in the hour that comes twice may have a
        // twin: their begin does not tell them from others, whether those were found or not.
        let shared = taken[&item.stem] > 1 || segment.clipped.0 || segment.start.ambiguous;
        item.distinct = match &segment.key {
            Some(key) if shared => Some(key.clone()),
            None if segment.start.ambiguous => Some(in_utc(segment)),
            _ => None,
        };
        item.name(names, server);
        if !given.insert(item.stem.clone()) {
            // Counted on from the last one: a list may hold as many of them as it pleases.
            let count: &mut u32 = alike.entry(item.stem.clone()).or_insert(1);
            while item.alike.is_none() || !given.insert(item.stem.clone()) {
                *count += 1;
                item.alike = Some(*count);
                item.name(names, server);
            }
        }
    }
    items
}

/// When a segment begins, in UTC: `20261025003000Z`.
fn in_utc(segment: &Segment) -> String {
    let utc = segment.start.utc.to_utc();
    format!("{}Z", digits(PrimitiveDateTime::new(utc.date(), utc.time())))
}

/// What becomes one object: each recording alone, or all of a track.
pub(super) fn groups(items: &[Item], form: &Form, span: Span) -> Vec<Group> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let on_track = |group: &&mut Vec<usize>| items[group[0]].segment.track == item.segment.track;
        match groups.last_mut().filter(on_track) {
            Some(group) if matches!(form, Form::Joined { .. }) => group.push(place),
            _ => groups.push(vec![place]),
        }
    }
    groups.into_iter().map(|places| group(items, places, form, span)).collect()
}

/// The object that is made of these recordings. Its name tells all that it depends on, so that whoever asks for something
/// else gets another one.
pub(super) fn group(items: &[Item], places: Vec<usize>, form: &Form, span: Span) -> Group {
    let of: Vec<&Segment> = places.iter().map(|place| &items[*place].segment).collect();
    let mut stem = items[places[0]].stem.clone();
    let cut = match form {
        Form::Original => Ok(Cut::default()),
        Form::Packed { cut, .. } => Ok(*cut),
        Form::Pictures { every, cut } => {
            stem.push_str(&format!("-every{}", seconds(*every)));
            Ok(*cut)
        }
        Form::Joined { cut, trim, .. } => {
            // One to which recordings have come, at its end or between the others, is another object.
            stem.push_str(&format!("-{}{}", digits(of[of.len() - 1].end.literal), parts(&of)));
            if *trim { trimmed(span, &of, *cut) } else { Ok(*cut) }
        }
    };
    match &cut {
        Ok(Cut { skip, most }) => {
            if !skip.is_zero() {
                stem.push_str(&format!("-skip{}", seconds(*skip)));
            }
            if let Some(most) = most {
                stem.push_str(&format!("-max{}", seconds(*most)));
            }
        }
        Err(_) => stem.push_str("-trim"),
    }
    Group { items: places, stem, cut }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

/// Tells recordings that are joined from others between the same ends.
fn parts(of: &[&Segment]) -> String {
    if of.len() == 1 {
        return String::new();
    }
    let mut sum = Sha256::new();
    for segment in of {
        let (track, name) = segment.identity();
        sum.update(format!("{}\0{track}{}\0{name}", track.len(), name.len()));
    }
    sum.finalize().iter().take(4).fold("-".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// What of joined recordings is kept, so that they begin and end where the wanted span does; where that cannot be told,
/// why.
fn trimmed(span: Span, of: &[&Segment], cut: Cut) -> Result<Cut, String> {
    let (first, last) = (of[0], of[of.len() - 1]);
    if first.clipped.0 {
        return Err("when the first of them begins the recorder does not tell, so --trim cannot cut it".to_owned());
    }
    let whole: Duration = of.iter().map(|segment| segment.end.utc.since(segment.start.utc)).sum();
    let (front, back) = (span.from.since(first.start.utc), last.end.utc.since(span.to));
    let skip = front + cut.skip;
    if back.is_zero() && !last.clipped.1 {
        return Ok(Cut { skip, ..cut });
    }
    let rest = whole.saturating_sub(back).saturating_sub(skip);
    Ok(Cut { skip, most: Some(cut.most.map_or(rest, |most| most.min(rest))) })
}

/// What the camera of each track is called, told from all others of the recorder whichever tracks are asked for.
fn cameras<'a>(known: &'a [Track], tracks: &'a [Track]) -> HashMap<&'a str, String> {
    let called = |track: &Track| match clean(&track.name) {
        name if name.is_empty() => piece(&track.id),
        name => name,
    };
    let mut names: HashMap<String, HashSet<u32>> = HashMap::new();
    for track in known {
        // Some file systems do not tell capitals.
        names.entry(called(track).to_lowercase()).or_default().insert(track.channel);
    }
    let all = known.iter().chain(tracks);
    all.map(|track| {
        let name = called(track);
        let shared = names.get(&name.to_lowercase()).is_some_and(|channels| channels.len() > 1);
        (track.id.as_str(), if shared { format!("{name}-{}", track.channel) } else { name })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::export::Layout;
    use crate::media;
    use crate::model::UnixMicros;
    use crate::nvr::{DeviceTime, Locator, SegmentKind};

    const START: PrimitiveDateTime = datetime!(2026-11-19 00:00);

    fn track(id: &str, name: &str) -> Track {
        let number: u32 = id.parse().unwrap();
        let stream = if number % 100 == 1 { StreamKind::Main } else { StreamKind::Sub };
        Track { id: id.into(), channel: number / 100, stream, name: name.into(), online: None, codec: None }
    }

    fn segment(track: &str, minute: i64, key: &str) -> Segment {
        let at = |minute: i64| {
            let literal = START + time::Duration::minutes(minute);
            let utc = UnixMicros(literal.assume_utc().unix_timestamp() * 1_000_000);
            DeviceTime { literal, utc, ambiguous: false }
        };
        Segment {
            track: track.into(),
            start: at(minute),
            end: at(minute + 10),
            clipped: (false, false),
            key: Some(key.into()),
            size: Some(1),
            kind: SegmentKind::Video,
            codec: None,
            locked: None,
            open: false,
            locator: serde_json::from_str::<Locator>("\"here\"").unwrap(),
        }
    }

    fn stems(segments: Vec<Segment>, names: &Names) -> Vec<String> {
        let tracks = [track("101", "Gate"), track("102", "Gate"), track("201", "gate"), track("301", "")];
        items(segments, &tracks, &tracks, names, "nvr").into_iter().map(|item| item.stem).collect()
    }

    #[test]
    fn a_recording_has_the_same_name_whatever_else_is_found() {
        let names = Names::Layout { layout: Layout::Camera, prefix: String::new() };
        let one = |track: &str| stems(vec![segment(track, 0, "a")], &names);
        let all = ["101", "102", "201", "301"].map(|on| segment(on, 0, "a")).to_vec();
        let together = ["101", "102", "201", "301"].map(|on| one(on).remove(0));
        assert_eq!(stems(all, &names), together);
        assert_eq!(
            together,
            ["Gate-1/20261119000000", "Gate-1/20261119000000-102", "gate-2/20261119000000", "301/20261119000000"]
        );
    }

    #[test]
    fn two_recordings_never_share_a_name() {
        let flat = Names::default();
        let twins = vec![segment("101", 0, "b"), segment("101", 0, "a/b"), segment("101", 10, "c")];
        assert_eq!(stems(twins, &flat), ["20261119000000-101-a_b", "20261119000000-101-b", "20261119001000-101"]);
        let same = vec![segment("101", 0, "a/b"), segment("101", 0, "a_b")];
        assert_eq!(stems(same, &flat), ["20261119000000-101-a_b", "20261119000000-101-a_b-x2"]);
        let many = (0..20_000).map(|_| Segment { key: None, ..segment("101", 0, "") }).collect();
        let names = stems(many, &flat);
        assert_eq!((names[0].as_str(), names[19_999].as_str()), ("20261119000000-101", "20261119000000-101-x20000"));
        let nowhere = vec![segment("101", 0, ".."), segment("101", 0, "/")];
        assert_eq!(stems(nowhere, &flat), ["20261119000000-101-_", "20261119000000-101-_-x2"]);
        let clipped = Segment { clipped: (true, false), ..segment("101", 0, "a") };
        assert_eq!(stems(vec![clipped], &flat), ["20261119000000-101-a"]);
    }

    #[test]
    fn in_the_hour_that_comes_twice_a_name_does_not_depend_on_what_else_is_found() {
        let flat = Names::default();
        let twice = |utc_hours: i64, key: Option<&str>| {
            let mut segment = segment("101", 150, "");
            segment.start.utc = segment.start.utc.before(Duration::from_secs(3_600 * utc_hours.unsigned_abs()));
            segment.start.ambiguous = true;
            Segment { key: key.map(str::to_owned), ..segment }
        };
        for keys in [[None, None], [Some("a"), Some("b")]] {
            let (first, second) = (twice(2, keys[0]), twice(1, keys[1]));
            let alone = [&first, &second].map(|one| stems(vec![one.clone()], &flat).remove(0));
            assert_eq!(stems(vec![first, second], &flat), alone);
            assert_ne!(alone[0], alone[1]);
        }
        assert_eq!(stems(vec![twice(2, None)], &flat), ["20261119023000-101-20261119003000Z"]);
        assert_eq!(stems(vec![twice(2, Some("a"))], &flat), ["20261119023000-101-a"]);
    }

    #[test]
    fn joined_recordings_are_one_object_for_each_track() {
        let tracks = [track("101", "Gate"), track("201", "Yard")];
        let found = vec![segment("201", 0, "d"), segment("101", 10, "b"), segment("101", 0, "a")];
        let items = items(found, &tracks, &tracks, &Names::default(), "nvr");
        let joined = |found: &[Item]| groups(found, &JOINED, day());
        let both = joined(&items);
        assert_eq!(both.iter().map(|group| group.items.clone()).collect::<Vec<_>>(), [vec![0, 1], vec![2]]);
        assert!(both[0].stem.starts_with("20261119000000-101-20261119002000-"), "{}", both[0].stem);
        assert_eq!((both[0].stem.len(), both[1].stem.as_str()), (42, "20261119000000-201-20261119001000"));
        let each = groups(&items, &Form::Pictures { every: Duration::from_secs(1), cut: Cut::default() }, day());
        assert_eq!(each.len(), 3);
    }

    const JOINED: Form =
        Form::Joined { container: media::Container::Mp4, cut: Cut { skip: Duration::ZERO, most: None }, trim: false };

    fn day() -> Span {
        between(0, 24 * 60)
    }

    /// From one minute of the day to another.
    fn between(from: i64, to: i64) -> Span {
        let midnight = segment("101", 0, "").start.utc;
        let at = |minute: i64| midnight.after(Duration::from_secs(60 * minute.unsigned_abs()));
        Span { from: at(from), to: at(to) }
    }

    fn named(found: Vec<Segment>, form: &Form, span: Span) -> Group {
        let tracks = [track("101", "Gate")];
        groups(&items(found, &tracks, &tracks, &Names::default(), "nvr"), form, span).remove(0)
    }

    #[test]
    fn what_is_made_with_other_options_has_another_name() {
        let found = || vec![segment("101", 0, "a"), segment("101", 10, "b"), segment("101", 20, "c")];
        let (half, five) = (Duration::from_millis(500), Duration::from_secs(5));
        let packed = |skip, most| Form::Packed { container: media::Container::Mp4, cut: Cut { skip, most } };
        let stem = |form| named(found(), &form, day()).stem;
        assert_eq!(stem(Form::Original), "20261119000000-101");
        assert_eq!(stem(packed(Duration::ZERO, None)), "20261119000000-101");
        assert_eq!(stem(packed(half, None)), "20261119000000-101-skip0.5s");
        assert_eq!(stem(packed(half, Some(five))), "20261119000000-101-skip0.5s-max5s");
        let pictures = |every, most| Form::Pictures { every, cut: Cut { skip: Duration::ZERO, most } };
        assert_eq!(stem(pictures(five, None)), "20261119000000-101-every5s");
        assert_eq!(stem(pictures(half, Some(five))), "20261119000000-101-every0.5s-max5s");

        // Without the one in the middle it is another object, and with all of them again the same one.
        let less = || vec![segment("101", 0, "a"), segment("101", 20, "c")];
        let joined = |found| named(found, &JOINED, day()).stem;
        assert_eq!(joined(found()), joined(found()));
        assert_ne!(joined(found()), joined(less()));

        let trimmed = Form::Joined { container: media::Container::Mp4, cut: Cut::default(), trim: true };
        let of = |from, to| named(found(), &trimmed, between(from, to)).stem;
        let whole = joined(found());
        assert_eq!(of(0, 30), whole);
        assert_eq!(of(1, 30), format!("{whole}-skip60s"));
        assert_eq!(of(1, 29), format!("{whole}-skip60s-max1680s"));
        assert_eq!(of(0, 29), format!("{whole}-max1740s"));
    }

    #[test]
    fn nothing_is_cut_off_by_a_begin_that_nobody_knows() {
        let trimmed = Form::Joined { container: media::Container::Mp4, cut: Cut::default(), trim: true };
        let clipped = |begin, end| {
            let last = Segment { clipped: (false, end), ..segment("101", 10, "b") };
            vec![Segment { clipped: (begin, false), ..segment("101", 0, "a") }, last]
        };
        let group = named(clipped(true, false), &trimmed, between(0, 15));
        assert!(group.cut.is_err() && group.stem.ends_with("-trim"), "{group:?}");
        // Where the end may be the search's, it is cut off there.
        let most = Some(Duration::from_secs(1_200));
        assert_eq!(named(clipped(false, true), &trimmed, between(0, 20)).cut, Ok(Cut { most, ..Cut::default() }));
        assert_eq!(named(clipped(false, false), &trimmed, between(0, 20)).cut, Ok(Cut::default()));
    }
}
