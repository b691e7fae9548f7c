//! The header of an RTP packet (RFC 3550, section 5.1).

use std::ops::Range;

/// Length of the header without what may follow it, bytes.
pub(super) const HEADER: usize = 12;

/// What is read of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether it says that a picture's last packet is here.
    pub(super) marker: bool,
    /// Rises by 1 from packet to packet.
    pub(super) sequence: u16,
    /// The picture's time, ticks of 1/90,000 s from an arbitrary start.
    pub(super) timestamp: u32,
    /// Where the payload begins.
    payload: usize,
    /// Where it ends: before the padding.
    end: usize,
}

impl Header {
    /// `None` where it is no RTP packet, or one without payload.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (fixed, _) = packet.split_first_chunk::<HEADER>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut payload = HEADER + usize::from(fixed[0] & 0x0f) * 4;
        if fixed[0] & 0x10 != 0 {
            let words = packet.get(payload + 2..payload + 4)?;
            payload += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
        }
        let padding = if fixed[0] & 0x20 == 0 { 0 } else { usize::from(*packet.last()?) };
        let end = packet.len().checked_sub(padding)?;
        (payload < end).then_some(Self {
            marker: fixed[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            payload,
            end,
        })
    }

    /// Where the payload is.
    pub(super) fn payload(&self) -> Range<usize> {
        self.payload..self.end
    }
}
