//! What a capture process says to the daemon, written down once more: a little-endian length of what follows, a tag, a
//! body.

/// The codec that the daemon is told.
const CODEC: &[u8] = b"mjpeg";

const OPENED: u8 = 1;
const FRAME: u8 = 2;
const OVERRUN: u8 = 3;
const STATS: u8 = 4;
const ENDED: u8 = 5;
const CORRUPT: u8 = 6;

/// That a stream is over or was cut.
const OVER: u8 = 1;

/// Counters since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stats {
    pub(super) grabbed: u64,
    pub(super) delivered: u64,
    pub(super) overrun: u64,
    pub(super) corrupt: u64,
    pub(super) last_pts_micros: i64,
    pub(super) still_ms: u64,
}

/// What a frame says of itself beside its picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// The time by the camera's own clock, Unix microseconds.
    pub(super) wall_micros: Option<i64>,
    pub(super) damaged: bool,
}

/// Appends a message whose body `fill` writes.
fn message(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let start = out.len();
    out.extend([0; 4]);
    out.push(tag);
    fill(out)?;
    let length = u32::try_from(out.len() - start - 4)?;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

pub(super) fn opened(out: &mut Vec<u8>, fps: f64, width: u16, height: u16) -> anyhow::Result<()> {
    message(out, OPENED, |out| {
        out.extend(fps.to_le_bytes());
        out.extend(u32::from(width).to_le_bytes());
        out.extend(u32::from(height).to_le_bytes());
        out.extend(CODEC);
        Ok(())
    })
}

pub(super) fn frame(
    out: &mut Vec<u8>,
    monotonic_ns: u64,
    pts_micros: i64,
    told: Told,
    size: (u16, u16),
    jpeg: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    message(out, FRAME, |out| {
        out.extend(monotonic_ns.to_le_bytes());
        out.extend(pts_micros.to_le_bytes());
        out.push(u8::from(told.damaged) | if told.wall_micros.is_some() { 2 } else { 0 });
        out.extend(told.wall_micros.unwrap_or_default().to_le_bytes());
        out.extend(u32::from(size.0).to_le_bytes());
        out.extend(u32::from(size.1).to_le_bytes());
        jpeg(out)
    })
}

/// So many frames before the next one found the pipe full.
pub(super) fn overrun(out: &mut Vec<u8>, count: u32) -> anyhow::Result<()> {
    message(out, OVERRUN, |out| {
        out.extend(count.to_le_bytes());
        Ok(())
    })
}

/// So many frames before the next one were damaged.
pub(super) fn corrupt(out: &mut Vec<u8>, count: u32) -> anyhow::Result<()> {
    message(out, CORRUPT, |out| {
        out.extend(count.to_le_bytes());
        Ok(())
    })
}

pub(super) fn stats(out: &mut Vec<u8>, stats: Stats) -> anyhow::Result<()> {
    message(out, STATS, |out| {
        for count in [stats.grabbed, stats.delivered, stats.overrun, stats.corrupt] {
            out.extend(count.to_le_bytes());
        }
        out.extend(stats.last_pts_micros.to_le_bytes());
        out.extend(stats.still_ms.to_le_bytes());
        Ok(())
    })
}

pub(super) fn ended(out: &mut Vec<u8>, detail: &str) -> anyhow::Result<()> {
    message(out, ENDED, |out| {
        out.push(OVER);
        out.extend(detail.as_bytes());
        Ok(())
    })
}
