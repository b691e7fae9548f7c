//! Pictures in RTP packets, as they go through an RTSP connection.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::clip::Codec;

/// What a packet holds at most.
const PAYLOAD: usize = 1400;
/// The payload type of the pictures.
pub(super) const TYPE: u8 = 96;
/// What a source has received, which is nothing; each report must begin with one (RFC 3550, 6.1).
const RECEIVED: u8 = 201;
/// Says that a source has nothing more to send.
const BYE: u8 = 203;

/// A source of packets.
#[derive(Debug)]
pub(super) struct Packets {
    codec: Codec,
    fps: u32,
    pub(super) ssrc: u32,
    sequence: u16,
    pictures: u64,
}

impl Packets {
    pub(super) fn new(codec: Codec, fps: u32, ssrc: u32) -> Packets {
        Packets { codec, fps, ssrc, sequence: 0, pictures: 0 }
    }

    /// The next picture's packets, each with its length before it.
    pub(super) fn picture(&mut self, unit: &[u8]) -> Bytes {
        let time = (self.pictures * 90_000 / u64::from(self.fps)) as u32;
        self.pictures += 1;
        let mut out = BytesMut::with_capacity(unit.len() + unit.len() / PAYLOAD * 20 + 200);
        let nals = nals(unit);
        for (index, nal) in nals.iter().enumerate() {
            let last = index + 1 == nals.len();
            if nal.len() <= PAYLOAD {
                self.packet(&mut out, time, last, &[], nal);
                continue;
            }
            // RFC 6184, 5.8 and RFC 7798, 4.4.3: the header's parts go into each fragment.
            let (header, kind, body) = match self.codec {
                Codec::H265 => (vec![nal[0] & 0x81 | 49 << 1, nal[1]], nal[0] >> 1 & 0x3f, &nal[2..]),
                _ => (vec![nal[0] & 0xe0 | 28], nal[0] & 0x1f, &nal[1..]),
            };
            let parts = body.chunks(PAYLOAD);
            let count = parts.len();
            for (part, payload) in parts.enumerate() {
                let ends = part + 1 == count;
                let mark = kind | if part == 0 { 0x80 } else { 0 } | if ends { 0x40 } else { 0 };
                self.packet(&mut out, time, last && ends, &[&header[..], &[mark]].concat(), payload);
            }
        }
        out.freeze()
    }

    /// The word that nothing more comes.
    pub(super) fn bye(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&[b'$', 1, 0, 16]);
        for (count, kind) in [(0x80, RECEIVED), (0x81, BYE)] {
            out.put_slice(&[count, kind, 0, 1]);
            out.put_u32(self.ssrc);
        }
        out.freeze()
    }

    fn packet(&mut self, out: &mut BytesMut, time: u32, last: bool, header: &[u8], payload: &[u8]) {
        out.put_slice(b"$\0");
        out.put_u16((12 + header.len() + payload.len()) as u16);
        out.put_slice(&[0x80, TYPE | if last { 0x80 } else { 0 }]);
        out.put_u16(self.sequence);
        out.put_u32(time);
        out.put_u32(self.ssrc);
        out.put_slice(header);
        out.put_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// The units of a picture, without the start codes between them.
fn nals(unit: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        unit.windows(3).enumerate().filter(|(_, at)| *at == [0, 0, 1]).map(|(offset, _)| offset).collect();
    let ends = starts.iter().skip(1).copied().chain([unit.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let nal = &unit[start + 3..end];
            // A start code of four bytes, or zeros behind a unit: none of them ends in a zero itself.
            &nal[..nal.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
        })
        .filter(|nal| nal.len() > 2 || nal.len() == 2 && nal[0] & 0x1f == 9)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_between_start_codes() {
        let unit = [0, 0, 0, 1, 9, 16, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 3, 4, 5];
        assert_eq!(nals(&unit), [&[9, 16][..], &[0x67, 1, 2], &[0x65, 3, 4, 5]]);
    }

    #[test]
    fn packets_are_numbered_and_the_last_of_a_picture_is_marked() {
        let mut packets = Packets::new(Codec::H264, 25, 0x0102_0304);
        let long = [&[0, 0, 1, 0x65][..], &[7; 3000]].concat();
        for picture in 0..2u32 {
            let mut bytes = packets.picture(&[&[0, 0, 0, 1, 9, 16][..], &long].concat());
            let mut told = Vec::new();
            while !bytes.is_empty() {
                assert_eq!(bytes[..2], *b"$\0");
                let packet = bytes.split_to(4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])));
                assert_eq!(packet[8..12], (picture * 3600).to_be_bytes());
                assert_eq!(packet[12..16], [1, 2, 3, 4]);
                told.push((u16::from_be_bytes([packet[6], packet[7]]), packet[5] >> 7, packet[16], packet[17]));
            }
            let first = picture as u16 * 4;
            // The delimiter, then the first, a middle and the last fragment.
            let fragments = [(first, 0, 9, 16), (first + 1, 0, 0x7c, 0x85), (first + 2, 0, 0x7c, 0x05)];
            assert_eq!(told, [&fragments[..], &[(first + 3, 1, 0x7c, 0x45)]].concat());
        }
        assert_eq!(packets.bye()[12..], [0x81, 203, 0, 1, 1, 2, 3, 4]);
    }
}
