//! Packets as no sound camera sends them.

use fastrand::Rng;

use super::packet::{HEADER, Header};
use super::parameter_sets;
use crate::clip::Codec;

/// What can be done to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Up to 8 bits of the payload are turned over.
    Bits,
    /// Up to 64 bytes of the payload are others.
    Bytes,
    /// The packet ends early, in its header at the earliest.
    Cut,
    /// It comes twice.
    Doubled,
    /// It comes after the next one.
    Swapped,
    /// Fields of RTP's header are others: version, padding, extension, sources, marker, type, number, time.
    Header,
    /// The payload says that it is something else: another type of NAL unit, another type of JPEG.
    Type,
    /// It promises what nobody should believe: 16384x16384 pixels, tables of 64 KiB, a width of none.
    Absurd,
    /// From here on the picture does not end: fragments without a last one, at one time.
    Endless,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Bits,
        Self::Bytes,
        Self::Cut,
        Self::Doubled,
        Self::Swapped,
        Self::Header,
        Self::Type,
        Self::Absurd,
        Self::Endless,
    ];

    /// Draws one: each as likely as the other, but for pictures without an end, of which one spoils thousands.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let kind = Self::ALL[rng.usize(..Self::ALL.len())];
        if kind == Self::Endless && rng.u8(..10) > 0 { Self::Bits } else { kind }
    }

    /// Its name in the counts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Bytes => "bytes",
            Self::Cut => "cut",
            Self::Doubled => "doubled",
            Self::Swapped => "swapped",
            Self::Header => "header",
            Self::Type => "type",
            Self::Absurd => "absurd",
            Self::Endless => "endless",
        }
    }
}

/// Packets that a picture without an end takes, at most; offsets of JPEG/RTP end at 16 MiB anyway.
const ENDLESS: u32 = 2_000;
/// JPEG's header in a payload (RFC 2435, section 3.1).
const JPEG_HEADER: usize = 8;

/// A picture without an end, in the midst of it.
#[derive(Debug, Clone)]
pub(super) struct Endless {
    codec: Codec,
    /// Packets that it still takes.
    left: u32,
    timestamp: [u8; 4],
    /// Of JPEG: how much of the picture has been sent.
    offset: u32,
}

impl Endless {
    /// Begins with this packet.
    pub(super) fn new(codec: Codec, packet: &[u8], rng: &mut Rng) -> Self {
        let timestamp = packet.get(4..8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        let offset = match Header::read(packet).and_then(|header| jpeg_offset(&packet[header.payload()])) {
            Some(offset) if codec == Codec::Mjpeg => offset,
            _ => 0,
        };
        Self { codec, left: rng.u32(100..ENDLESS), timestamp, offset }
    }

    /// Makes the packet one more of it; `None` when there were enough.
    pub(super) fn go_on(&mut self, packet: &mut [u8]) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        let Some(header) = Header::read(packet) else { return Some(()) };
        packet[1] &= 0x7f;
        packet[4..8].copy_from_slice(&self.timestamp);
        let payload = header.payload();
        match self.codec {
            // FU-A, neither the first nor the last (RFC 6184, section 5.8).
            Codec::H264 if payload.len() > 2 => packet[payload.start..payload.start + 2].copy_from_slice(&[0x7c, 0x01]),
            // FU of the same kind (RFC 7798, section 4.4.3).
            Codec::H265 if payload.len() > 3 => {
                packet[payload.start..payload.start + 3].copy_from_slice(&[49 << 1, 1, 0x01]);
            }
            Codec::Mjpeg if payload.len() > JPEG_HEADER => {
                let [_, high, middle, low] = self.offset.to_be_bytes();
                packet[payload.start + 1..payload.start + 4].copy_from_slice(&[high, middle, low]);
                // A payload is far shorter than 2^24 bytes, and the offset wraps there as the field does.
                self.offset = (self.offset + (payload.len() - JPEG_HEADER) as u32) & 0x00ff_ffff;
            }
            _ => {}
        }
        Some(())
    }
}

fn jpeg_offset(payload: &[u8]) -> Option<u32> {
    let bytes = payload.get(1..4)?;
    Some(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
}

/// Changes a packet's bytes. Kinds that are not a matter of one packet's bytes leave it as it is.
pub(super) fn change(kind: Kind, codec: Codec, packet: &mut Vec<u8>, rng: &mut Rng) {
    let Some(header) = Header::read(packet) else { return };
    let payload = header.payload();
    match kind {
        Kind::Bits => {
            for _ in 0..rng.u8(1..=8) {
                packet[rng.usize(payload.clone())] ^= 1 << rng.u8(..8);
            }
        }
        Kind::Bytes => {
            let at = rng.usize(payload.clone());
            let end = payload.end.min(at + rng.usize(1..=64));
            rng.fill(&mut packet[at..end]);
        }
        Kind::Cut => packet.truncate(rng.usize(4..packet.len())),
        Kind::Header => {
            for _ in 0..rng.u8(1..=3) {
                packet[rng.usize(..HEADER - 4)] = rng.u8(..);
            }
        }
        Kind::Type => match codec {
            Codec::H264 => packet[payload.start] = packet[payload.start] & 0xe0 | rng.u8(..32),
            Codec::H265 => packet[payload.start] = packet[payload.start] & 0x81 | rng.u8(..64) << 1,
            Codec::Mjpeg if payload.len() > JPEG_HEADER => packet[payload.start + 4] = rng.u8(..),
            Codec::Mjpeg => {}
        },
        Kind::Absurd => absurd(codec, packet, payload.start, rng),
        Kind::Doubled | Kind::Swapped | Kind::Endless => {}
    }
}

fn absurd(codec: Codec, packet: &mut Vec<u8>, start: usize, rng: &mut Rng) {
    let unit = match codec {
        Codec::H264 => parameter_sets::h264(),
        Codec::H265 => parameter_sets::h265(),
        Codec::Mjpeg => {
            let jpeg = &mut packet[start..];
            if jpeg.len() > JPEG_HEADER + 8 {
                // Fragment offset, type, Q, width and height; then the lengths of the two headers that may follow.
                let side = if rng.bool() { 255 } else { 0 };
                let offset = if rng.bool() { 0xff } else { 0 };
                jpeg[1..4].fill(offset);
                jpeg[4..8].copy_from_slice(&[rng.u8(..), rng.u8(..), side, side]);
                jpeg[JPEG_HEADER..JPEG_HEADER + 8].fill(0xff);
            }
            return;
        }
    };
    packet.truncate(start);
    packet.extend(unit);
    // Without padding: its count would be the unit's last byte.
    packet[0] &= 0xdf;
}

/// Puts the absurd set into a session's description, in the place of the camera's.
pub(super) fn description(codec: Codec, description: &str) -> String {
    use base64::Engine as _;
    let encode = |unit: Vec<u8>| base64::engine::general_purpose::STANDARD.encode(unit);
    let (name, value) = match codec {
        Codec::H264 => ("sprop-parameter-sets=", encode(parameter_sets::h264())),
        Codec::H265 => ("sprop-sps=", encode(parameter_sets::h265())),
        Codec::Mjpeg => ("x-dimensions:", "65535,65535".to_owned()),
    };
    let Some((before, after)) = description.split_once(name) else { return description.to_owned() };
    let ends: &[char] = if codec == Codec::H264 { &[',', ';', '\r'] } else { &[';', '\r'] };
    let rest = after.find(ends).map_or("", |end| &after[end..]);
    format!("{before}{name}{value}{rest}")
}
