//! Which picture is which: by its time in the stream, of which the marks in the pictures tell where it begins.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::judge::{Came, Confusion, Seen};
use crate::captured::{Captured, Picture};
use crate::mark::Mark;
use crate::oracle::decode;
use crate::rtp_proxy::Sent;
use crate::ssim::ssim;

/// RTP's ticks of video in a second.
const TICKS: i64 = 90_000;
/// Of the marks that can be read, so many must say the same of where the stream begins.
const AGREE: f64 = 0.5;
/// How long before a picture something may have been said about it, beyond the time since the one before.
const EARLIER: Duration = Duration::from_millis(20);

/// A clip as the program under test decodes it when nothing is lost.
#[derive(Debug)]
pub(super) struct Clean {
    /// The JPEGs, by the counter in them.
    jpegs: Vec<Vec<u8>>,
}

impl Clean {
    /// Takes what was captured of a clip of so many frames; all must be there, in their order.
    pub(super) fn new(captured: &Captured, frames: u16) -> anyhow::Result<Self> {
        for (index, picture) in captured.pictures.iter().enumerate() {
            let mark = mark(picture).with_context(|| format!("picture {index} of the clip has no mark"))?;
            ensure!(mark.counter as usize == index, "picture {index} of the clip is frame {}", mark.counter);
            ensure!(!picture.damaged, "picture {index} of the clip was marked as damaged");
        }
        let found = captured.pictures.len();
        ensure!(
            found == usize::from(frames),
            "{found} of the clip's {frames} pictures were captured; {}",
            captured.end()
        );
        Ok(Self { jpegs: captured.pictures.iter().map(|picture| picture.jpeg.clone()).collect() })
    }

    fn frame(&self, number: u64) -> &[u8] {
        &self.jpegs[(number % self.jpegs.len() as u64) as usize]
    }
}

/// The mark in a picture, if it can be read.
fn mark(picture: &Picture) -> Option<Mark> {
    let (luma, width, height) = decode(&picture.jpeg).ok()?;
    Mark::read(&luma, width, height).ok()
}

/// Matches what was captured to what was sent and to what it should be, and counts.
///
/// A picture's place is that of its presentation time: its mark may be that of the picture before, where a decoder has
/// repeated that one, which is what must not go unnoticed. So many of the first pictures must have come whole that the
/// marks tell what the times mean. `blind` where a fault makes the program deaf to what follows, for how long nobody but
/// itself knows: then pictures count as come from the first on that is there and clean.
pub(super) fn match_up(
    captured: &Captured,
    sent: &[Sent],
    clean: &Clean,
    fps: u32,
    gop: u32,
    blind: bool,
) -> anyhow::Result<Confusion> {
    let frames = clean.jpegs.len() as i64;
    let came = came(sent, fps)?;
    let end = came.last().map_or(0, |picture| picture.index);
    let marks: Vec<Option<Mark>> = captured.pictures.iter().map(mark).collect();
    let places = places(captured, &marks, fps, frames, end)?;
    let first = captured.pictures.first().zip(marks.first().copied().flatten());
    let (first, begins) = first.context("the first picture is not whole: nothing tells which it is")?;
    let begins = u64::from(begins.counter);
    ensure!(begins % u64::from(gop) == 0, "the stream began with frame {begins}, which is no key frame");

    let mut seen = Vec::with_capacity(captured.pictures.len());
    let mut before = first.at;
    for ((picture, mark), place) in captured.pictures.iter().zip(&marks).zip(places) {
        let similarity = match place {
            Some(index) => similarity(&picture.jpeg, clean.frame(begins + index))?,
            None => Some(0.0),
        };
        // Far behind the end, where it stands in nobody's way.
        let index = place.unwrap_or(u64::MAX >> 8);
        seen.push(Seen {
            index,
            similarity,
            of_another_time: mark.is_some_and(|mark| u64::from(mark.counter) != (begins + index) % frames as u64),
            marked: picture.damaged,
            said: said(captured, before, picture),
        });
        before = picture.at;
    }
    Ok(Confusion::new(&seen, &if blind { heard(came, &seen) } else { came }, u64::from(gop)))
}

/// The places of the pictures in the stream, counted from the first on.
///
/// Over UDP the first pictures may have no times of the stream, and then the program gives them others: those that lie
/// outside of the stream are placed by their marks. One that has neither has no place.
fn places(
    captured: &Captured,
    marks: &[Option<Mark>],
    fps: u32,
    frames: i64,
    end: u64,
) -> anyhow::Result<Vec<Option<u64>>> {
    let time = |picture: &Picture| {
        picture.pts_micros.saturating_mul(i64::from(fps)).saturating_add(500_000).div_euclid(1_000_000)
    };
    let begins = marks.first().copied().flatten().context("the first picture has no mark")?.counter;
    // How far a mark is behind the first.
    let behind = |mark: &Mark| (i64::from(mark.counter) - i64::from(begins)).rem_euclid(frames);
    // By how much times are ahead of places, by most.
    let mut votes: HashMap<i64, usize> = HashMap::new();
    let ahead = |picture: &Picture, mark: &Mark| (time(picture) - behind(mark)).rem_euclid(frames);
    let marked = || captured.pictures.iter().zip(marks).filter_map(|(picture, mark)| Some((picture, mark.as_ref()?)));
    for (picture, mark) in marked() {
        *votes.entry(ahead(picture, mark)).or_default() += 1;
    }
    let all: usize = votes.values().sum();
    let (most, count) = votes.into_iter().max_by_key(|(_, votes)| *votes).context("no mark can be read")?;
    ensure!(count as f64 >= AGREE * all as f64, "only {count} of {all} marks agree with the pictures' times");
    // The first one whose mark agrees tells it without the rounds of the clip: it is in the first of them.
    let (picture, mark) = marked().find(|(picture, mark)| ahead(picture, mark) == most).context("most agree")?;
    let ahead = time(picture) - behind(mark);

    let mut last = 0;
    let place = |(picture, mark): (&Picture, &Option<Mark>)| {
        let by_time = u64::try_from(time(picture) - ahead).ok().filter(|place| *place <= end);
        let round = last - last % frames as u64;
        let place = by_time.or_else(|| mark.as_ref().map(|mark| round + behind(mark) as u64));
        last = place.unwrap_or(last);
        place
    };
    Ok(captured.pictures.iter().zip(marks).map(place).collect())
}

/// The pictures as they were sent, and which of them came whole.
fn came(sent: &[Sent], fps: u32) -> anyhow::Result<Vec<Came>> {
    let begun = sent.first().context("nothing was sent")?.timestamp;
    let mut came: Vec<Came> = sent
        .iter()
        .filter_map(|picture| {
            // A stream is hours shorter than it takes these numbers to come round.
            let ticks = i64::from(picture.timestamp.wrapping_sub(begun) as i32);
            let index = u64::try_from((ticks * i64::from(fps) + TICKS / 2).div_euclid(TICKS)).ok()?;
            Some(Came { index, whole: picture.spoiled == 0 })
        })
        .collect();
    came.dedup_by_key(|picture| picture.index);
    Ok(came)
}

/// What came to a program that was deaf from each fault to the next picture that is there and clean.
fn heard(mut came: Vec<Came>, seen: &[Seen]) -> Vec<Came> {
    let clean: HashSet<u64> = seen.iter().filter(|seen| seen.similarity.is_none()).map(|seen| seen.index).collect();
    let mut deaf = false;
    for picture in &mut came {
        deaf = !picture.whole || deaf && !clean.contains(&picture.index);
        picture.whole = !deaf;
    }
    came
}

/// `None` where the picture is the same, as that of a JPEG passed through is, which gets its header anew on its way; 0
/// where it is no picture of the clip's size at all.
fn similarity(jpeg: &[u8], clean: &[u8]) -> anyhow::Result<Option<f64>> {
    if jpeg == clean {
        return Ok(None);
    }
    let (expected, width, height) = decode(clean).map_err(anyhow::Error::msg)?;
    let Ok((luma, found_width, found_height)) = decode(jpeg) else { return Ok(Some(0.0)) };
    if (found_width, found_height) != (width, height) {
        return Ok(Some(0.0));
    }
    if luma == expected {
        return Ok(None);
    }
    Ok(Some(ssim(&luma, &expected, width, height)?))
}

/// What the program said between the picture before and this one.
fn said(captured: &Captured, before: std::time::Instant, picture: &Picture) -> String {
    let near = |at: &std::time::Instant| *at + EARLIER >= before && *at <= picture.at;
    let lines: Vec<&str> =
        captured.said.iter().filter(|(at, _)| near(at)).map(|(_, line)| line.as_str()).take(4).collect();
    lines.join(" | ")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const FPS: u32 = 25;
    const FRAMES: i64 = 100;

    /// Pictures with these times, microseconds, and these marks.
    fn placed(pictures: &[(i64, Option<u32>)], end: u64) -> anyhow::Result<Vec<Option<u64>>> {
        let picture = |pts_micros| Picture { at: Instant::now(), pts_micros, damaged: false, jpeg: Vec::new() };
        let captured =
            Captured { pictures: pictures.iter().map(|(pts, _)| picture(*pts)).collect(), ..Captured::default() };
        let mark = |counter| Mark { camera: 1, counter, clip_frames: FRAMES as u16 };
        let marks: Vec<_> = pictures.iter().map(|(_, counter)| counter.map(mark)).collect();
        places(&captured, &marks, FPS, FRAMES, end)
    }

    #[test]
    fn pictures_are_placed_by_their_times_and_by_their_marks_where_these_are_none() {
        let second = 1_000_000;
        // From frame 75 on, 25 a second; the first two without times of the stream, one repeats the one before, one
        // has lost its mark, and the clip comes round twice.
        let mut pictures: Vec<(i64, Option<u32>)> =
            (0..300).map(|i| (7 * second + i * second / 25 + 3, Some((75 + i as u32) % 100))).collect();
        pictures[0].0 = 5_000 * second;
        pictures[1].0 = 5_000 * second + 40_000;
        pictures[30].1 = pictures[29].1;
        pictures[40].1 = None;
        let places = placed(&pictures, 299).unwrap();
        assert_eq!(places, (0..300).map(Some).collect::<Vec<_>>());
        // One without either has no place.
        pictures[50] = (9_000 * second, None);
        assert_eq!(placed(&pictures, 299).unwrap()[50], None);
    }

    #[test]
    fn times_and_marks_that_have_nothing_to_do_with_each_other_are_an_error() {
        let pictures: Vec<_> = (0..50).map(|i| (i * 1_000_000, Some((i * i % 89) as u32))).collect();
        assert!(placed(&pictures, 10_000).unwrap_err().to_string().contains("marks agree"));
        assert!(placed(&[(0, None)], 1).is_err());
    }

    #[test]
    fn a_deaf_program_hears_again_from_its_next_clean_picture_on() {
        let came: Vec<Came> = (0..10).map(|index| Came { index, whole: index != 3 }).collect();
        let seen =
            |index, similarity| Seen { index, similarity, of_another_time: false, marked: false, said: String::new() };
        let whole: Vec<bool> =
            heard(came, &[seen(2, None), seen(5, Some(0.5)), seen(7, None)]).iter().map(|came| came.whole).collect();
        assert_eq!(whole, [true, true, true, false, false, false, false, true, true, true]);
    }
}
