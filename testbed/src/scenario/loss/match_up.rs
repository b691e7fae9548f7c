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
        ensure!(found == usize::from(frames), "{found} of the clip's {frames} pictures were captured");
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
/// repeated that one, which is what must not go unnoticed. `blind` where a fault makes the program deaf to what follows,
/// for how long nobody but itself knows: then pictures count as come from the first on that is there and clean.
pub(super) fn match_up(
    captured: &Captured,
    sent: &[Sent],
    clean: &Clean,
    fps: u32,
    gop: u32,
    blind: bool,
) -> anyhow::Result<Confusion> {
    let fps = i64::from(fps);
    let frames = clean.jpegs.len() as i64;
    let first = captured.pictures.first().context("no picture was captured")?;
    let index = |picture: &Picture| {
        let ticks = (picture.pts_micros - first.pts_micros) * fps;
        (ticks + 500_000).div_euclid(1_000_000)
    };
    let marks: Vec<Option<Mark>> = captured.pictures.iter().map(mark).collect();
    // The counter of the stream's first picture, by most.
    let mut votes: HashMap<i64, usize> = HashMap::new();
    for (picture, mark) in captured.pictures.iter().zip(&marks) {
        if let Some(mark) = mark {
            *votes.entry((i64::from(mark.counter) - index(picture)).rem_euclid(frames)).or_default() += 1;
        }
    }
    let all: usize = votes.values().sum();
    let (begins, most) = votes.into_iter().max_by_key(|(_, votes)| *votes).context("no mark can be read")?;
    ensure!(most as f64 >= AGREE * all as f64, "only {most} of {all} marks agree with the pictures' times");
    ensure!(begins % i64::from(gop) == 0, "the stream began with frame {begins}, which is no key frame");

    let mut seen = Vec::with_capacity(captured.pictures.len());
    let mut before = first.at;
    for (picture, mark) in captured.pictures.iter().zip(&marks) {
        // A time from before the beginning is no time of this stream's: it is unlike any picture.
        let index = u64::try_from(index(picture)).unwrap_or(u64::MAX >> 8);
        let number = begins as u64 + index;
        seen.push(Seen {
            index,
            similarity: similarity(&picture.jpeg, clean.frame(number))?,
            of_another_time: mark.is_some_and(|mark| u64::from(mark.counter) != number % frames as u64),
            marked: picture.damaged,
            said: said(captured, before, picture),
        });
        before = picture.at;
    }

    let begun = sent.first().context("nothing was sent")?.timestamp;
    let mut came: Vec<Came> = sent
        .iter()
        .filter_map(|picture| {
            // A stream is hours shorter than it takes these numbers to come round.
            let ticks = i64::from(picture.timestamp.wrapping_sub(begun) as i32);
            let index = u64::try_from((ticks * fps + TICKS / 2).div_euclid(TICKS)).ok()?;
            Some(Came { index, whole: picture.spoiled == 0 })
        })
        .collect();
    came.dedup_by_key(|picture| picture.index);
    if blind {
        let clean: HashSet<u64> =
            seen.iter().filter(|seen| seen.similarity.is_none()).map(|seen| seen.index).collect();
        let mut deaf = false;
        for picture in &mut came {
            deaf = !picture.whole || deaf && !clean.contains(&picture.index);
            picture.whole = !deaf;
        }
    }
    Ok(Confusion::new(&seen, &came, u64::from(gop)))
}

/// `None` where the bytes are the same; 0 where it is no picture of the clip's size at all.
fn similarity(jpeg: &[u8], clean: &[u8]) -> anyhow::Result<Option<f64>> {
    if jpeg == clean {
        return Ok(None);
    }
    let (expected, width, height) = decode(clean).map_err(anyhow::Error::msg)?;
    let Ok((luma, found_width, found_height)) = decode(jpeg) else { return Ok(Some(0.0)) };
    if (found_width, found_height) != (width, height) {
        return Ok(Some(0.0));
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
