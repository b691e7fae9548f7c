//! MPEG program streams as recorders store them.
//!
//! Before everything stand 40 bytes that begin with `IMKH` and say what is in it. Each picture has a pack of its own;
//! a key frame also a system header and a map of the streams. A picture that is too large for one packet goes on in
//! others, which do not claim to begin anything.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::sound::{Law, RATE};
use crate::clip::Codec;

/// The clock of time stamps.
const TICKS_PER_S: u64 = 90_000;
/// What a packet holds of a picture: less than its 16-bit length allows, so that key frames need several.
const PAYLOAD: usize = 16_000;
/// The stream of the pictures.
const VIDEO: u8 = 0xe0;
/// The stream of the sound.
const AUDIO: u8 = 0xc0;
/// In units of 50 bytes a second; 4 MB a second.
const MUX_RATE: u32 = 80_000;

/// The head of a recording. Its number makes each recording's bytes its own; real ones have zeros there.
pub(super) fn head(codec: Codec, number: u64) -> Bytes {
    let mut head = BytesMut::with_capacity(40);
    head.put_slice(b"IMKH");
    // Version, device, then: a program stream, of this codec, with sound as G.711 if there is any.
    head.put_u16_le(0x0101);
    head.put_u16_le(0);
    head.put_u16_le(2);
    head.put_u16_le(if codec == Codec::H265 { 5 } else { 0x100 });
    head.put_u16_le(0x7111);
    head.put_slice(&[1, 16]);
    head.put_u32_le(8000);
    head.put_u32_le(16_000);
    head.put_u64_le(0);
    head.put_u64_le(number);
    head.freeze()
}

/// Puts pictures, each with whether it is a key frame, into a program stream that begins at time zero, and sound behind
/// each of them.
pub(super) fn mux<'a>(
    pictures: impl IntoIterator<Item = (&'a [u8], bool)>,
    codec: Codec,
    fps: u32,
    sound: Option<Law>,
) -> Bytes {
    let mut out = BytesMut::new();
    for (index, (picture, key)) in pictures.into_iter().enumerate() {
        let ticks = index as u64 * TICKS_PER_S / u64::from(fps);
        pack(&mut out, ticks);
        if key {
            system_header(&mut out, sound);
            stream_map(&mut out, codec, sound);
        }
        for (part, payload) in picture.chunks(PAYLOAD).enumerate() {
            packet(&mut out, VIDEO, payload, (part == 0).then_some(ticks));
        }
        if let Some(law) = sound {
            let [begin, end] = [0, 1].map(|next| (index as u64 + next) * RATE / u64::from(fps));
            packet(&mut out, AUDIO, &law.tone(begin..end), Some(begin * TICKS_PER_S / RATE));
        }
    }
    out.freeze()
}

fn pack(out: &mut BytesMut, ticks: u64) {
    out.put_slice(&[0, 0, 1, 0xba]);
    // 33 bits of clock between marker bits, and 9 bits of extension, which is zero.
    let high = 0x44 | (ticks >> 27 & 0x38) | (ticks >> 28 & 3);
    out.put_u8(high as u8);
    out.put_u16((ticks >> 12 & 0xfff8 | 4 | ticks >> 13 & 3) as u16);
    out.put_u16((ticks << 3 & 0xfff8 | 4) as u16);
    out.put_u8(1);
    out.put_slice(&(MUX_RATE << 2 | 3).to_be_bytes()[1..]);
    // No stuffing.
    out.put_u8(0xf8);
}

fn system_header(out: &mut BytesMut, sound: Option<Law>) {
    let streams = if sound.is_some() { 2 } else { 1 };
    out.put_slice(&[0, 0, 1, 0xbb, 0, 6 + 3 * streams]);
    out.put_slice(&(1 << 23 | MUX_RATE << 1 | 1).to_be_bytes()[1..]);
    // How many streams of sound, one of pictures, and its buffer of 512 KiB.
    out.put_slice(&[(streams - 1) << 2, 0x21, 0x7f, VIDEO, 0xe2, 0x00]);
    if sound.is_some() {
        // With a buffer of 4 KiB.
        out.put_slice(&[AUDIO, 0xc0, 0x20]);
    }
}

fn stream_map(out: &mut BytesMut, codec: Codec, sound: Option<Law>) {
    let start = out.len();
    let streams = if sound.is_some() { 8 } else { 4 };
    out.put_slice(&[0, 0, 1, 0xbc, 0, 10 + streams, 0xe1, 0xff, 0, 0, 0, streams]);
    out.put_slice(&[if codec == Codec::H265 { 0x24 } else { 0x1b }, VIDEO, 0, 0]);
    if let Some(law) = sound {
        out.put_slice(&[law.stream_type(), AUDIO, 0, 0]);
    }
    let crc = crc32(&out[start..]);
    out.put_u32(crc);
}

fn packet(out: &mut BytesMut, stream: u8, payload: &[u8], begins_at: Option<u64>) {
    let header = if begins_at.is_some() { 5 } else { 0 };
    out.put_slice(&[0, 0, 1, stream]);
    out.put_u16((3 + header + payload.len()) as u16);
    match begins_at {
        Some(ticks) => {
            out.put_slice(&[0x84, 0x80, 5]);
            out.put_u8((0x21 | ticks >> 29 & 0xe) as u8);
            out.put_u16((ticks >> 14 & 0xfffe | 1) as u16);
            out.put_u16((ticks << 1 & 0xfffe | 1) as u16);
        }
        None => out.put_slice(&[0x80, 0, 0]),
    }
    out.put_slice(payload);
}

/// The checksum of maps: CRC-32/MPEG-2.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte) << 24,
            |crc, _| {
                if crc >> 31 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::ClipSpec;
    use crate::fixtures::jpegs_of;
    use crate::mark::Mark;
    use crate::oracle::decode;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7);
    }

    #[test]
    fn ffmpeg_finds_every_picture_in_its_place_and_at_its_time() {
        let dir = tempfile::tempdir().unwrap();
        for codec in [Codec::H264, Codec::H265] {
            // Large enough for more than one packet a picture.
            let spec = ClipSpec { camera: 3, width: 1280, height: 720, fps: 5, gop: 5, codec, seconds: 2 };
            let stream = std::fs::read(spec.cached(dir.path()).unwrap()).unwrap();
            let pictures = codec.units(&stream);
            assert_eq!(pictures.len(), 10);
            assert!(pictures[0].len() > PAYLOAD, "{}", pictures[0].len());
            let muxed = mux(pictures.iter().enumerate().map(|(n, &unit)| (unit, n % 5 == 0)), codec, 5, None);
            let path = dir.path().join(format!("{codec}.mpg"));
            std::fs::write(&path, [head(codec, 7), muxed].concat()).unwrap();

            let output = std::process::Command::new("ffprobe")
                .args(["-v", "error", "-of", "csv=p=0", "-show_entries", "format=format_name:stream=codec_name"])
                .args(["-show_entries", "packet=pts_time"])
                .arg(&path)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            let told = String::from_utf8_lossy(&output.stdout).replace(",\n", "\n");
            let times: Vec<&str> = told.lines().filter(|line| line.parse::<f64>().is_ok()).collect();
            let expected: Vec<String> = (0..10).map(|n| format!("{:.6}", f64::from(n) / 5.0)).collect();
            assert_eq!(times, expected, "{told}");
            assert!(told.contains(if codec == Codec::H265 { "hevc" } else { "h264" }), "{told}");
            assert!(told.lines().any(|line| line == "mpeg"), "{told}");

            let counters: Vec<_> = jpegs_of(&["-i", path.to_str().unwrap()], 4)
                .iter()
                .map(|jpeg| {
                    let (luma, width, height) = decode(jpeg).unwrap();
                    Mark::read(&luma, width, height).unwrap().counter
                })
                .collect();
            assert_eq!(counters, (0..10).collect::<Vec<_>>());
        }
    }
}
