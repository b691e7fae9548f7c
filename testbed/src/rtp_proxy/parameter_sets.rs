//! Sequence parameter sets that promise pictures of 16384x16384, written bit by bit: what makes a decoder reserve
//! gigabytes before it has seen a picture.

/// The width and the height that are promised, pixels.
pub(super) const SIDE: u32 = 16_384;

/// A raw byte sequence payload in the making (ITU-T H.264, section 7.2; H.265 has the same).
#[derive(Debug, Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// `count` bits of a number, the most significant first: u(n).
    fn put(&mut self, value: u64, count: u32) {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if value >> bit & 1 == 1
                && let Some(last) = self.bytes.last_mut()
            {
                *last |= 0x80 >> (self.used % 8);
            }
            self.used += 1;
        }
    }

    /// A number in Exp-Golomb code: ue(v), H.264 section 9.1.
    fn golomb(&mut self, value: u32) {
        let code = u64::from(value) + 1;
        let length = code.ilog2();
        self.put(0, length);
        self.put(code, length + 1);
    }

    /// The NAL unit behind this header: the stop bit, and a 3 wherever two zeros would begin a start code (section
    /// 7.4.1).
    fn unit(mut self, header: &[u8]) -> Vec<u8> {
        self.put(1, 1);
        let mut unit = header.to_vec();
        let mut zeros = 0;
        for byte in self.bytes {
            if zeros == 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}

/// H.264, section 7.3.2.1.1: constrained baseline, level 6.2, set 0.
pub(super) fn h264() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(66, 8);
    bits.put(0xc0, 8);
    bits.put(62, 8);
    // Set 0, 16 frame numbers, order of output as of decoding, one reference picture.
    for value in [0, 0, 2, 1] {
        bits.golomb(value);
    }
    bits.put(0, 1);
    bits.golomb(SIDE / 16 - 1);
    bits.golomb(SIDE / 16 - 1);
    // Frames only, direct_8x8_inference; neither cropping nor VUI.
    bits.put(0b1100, 4);
    bits.unit(&[0x67])
}

/// H.265, section 7.3.2.2: Main profile, high tier, level 6.2, set 0 of video parameter set 0.
pub(super) fn h265() -> Vec<u8> {
    let mut bits = Bits::default();
    // Video parameter set 0, one sub-layer, nested.
    bits.put(0b0000_0001, 8);
    // Profile space 0, high tier, profile 1, compatible with 1 and 2; progressive frames.
    bits.put(0b0010_0001, 8);
    bits.put(0x6000_0000, 32);
    bits.put(0b1001, 4);
    bits.put(0, 44);
    bits.put(186, 8);
    // Set 0, 4:2:0.
    bits.golomb(0);
    bits.golomb(1);
    bits.golomb(SIDE);
    bits.golomb(SIDE);
    // No conformance window; 8 bits of luma and chroma, 256 picture numbers.
    bits.put(0, 1);
    for value in [0, 0, 4] {
        bits.golomb(value);
    }
    // Of all sub-layers: 2 pictures kept, none reordered, no bound on latency.
    bits.put(1, 1);
    for value in [1, 0, 0] {
        bits.golomb(value);
    }
    // Coding blocks of 8 to 64, transform blocks of 4 to 32, one more level of splitting.
    for value in [0, 3, 0, 3, 1, 1] {
        bits.golomb(value);
    }
    // Neither scaling lists, AMP, SAO nor PCM; no reference picture sets; none of long term; neither temporal motion
    // vectors nor strong smoothing, VUI nor extension.
    bits.put(0, 4);
    bits.golomb(0);
    bits.put(0, 5);
    bits.unit(&[33 << 1, 1])
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::clip::{ClipSpec, Codec};

    #[test]
    fn numbers_are_written_as_the_standard_says() {
        let mut bits = Bits::default();
        for value in [0, 1, 2, 3, 7] {
            bits.golomb(value);
        }
        // 1 010 011 00100 0001000
        assert_eq!(bits.bytes, [0b1010_0110, 0b0100_0001, 0b0000_0000]);
        let mut bits = Bits::default();
        bits.put(0, 24);
        // A start code cannot be in it: 00 00 becomes 00 00 03.
        assert_eq!(bits.unit(&[7]), [7, 0, 0, 3, 0, 0x80]);
    }

    /// What FFmpeg's parser makes of a set in front of a slice that is none.
    fn size(format: &str, units: &[&[u8]]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stream");
        let stream: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect();
        std::fs::write(&path, stream).unwrap();
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-v", "debug", "-f", format, "-i"])
            .arg(&path)
            .args(["-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"])
            .output()
            .expect("ffmpeg is installed");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The value of a field in trace_headers' lines: its name, the bits, and `= value` at the end.
    fn field(trace: &str, name: &str) -> Option<u32> {
        let line = trace.lines().find(|line| line.split_whitespace().any(|word| word == name))?;
        line.rsplit_once("= ")?.1.trim().parse().ok()
    }

    #[test]
    fn ffmpeg_reads_the_sides_that_were_meant() {
        let pps: &[u8] = &[0x68, 0xce, 0x38, 0x80];
        let slice: &[u8] = &[0x65, 0x88, 0x84, 0x00, 0x10, 0xff, 0xff];
        let trace = size("h264", &[&h264(), pps, slice]);
        assert_eq!(field(&trace, "pic_width_in_mbs_minus1"), Some(SIDE / 16 - 1), "{trace}");
        assert_eq!(field(&trace, "pic_height_in_map_units_minus1"), Some(SIDE / 16 - 1));
        assert_eq!(field(&trace, "vui_parameters_present_flag"), Some(0), "it is read to its end: {trace}");

        // It goes with a video parameter set of the encoder's, as it does in a stream.
        let dir = tempfile::tempdir().unwrap();
        let codec = Codec::H265;
        let clip = ClipSpec { camera: 1, width: 320, height: 240, fps: 5, gop: 5, codec, seconds: 1 };
        let clip = std::fs::read(clip.cached(dir.path()).unwrap()).unwrap();
        let starts: Vec<usize> = clip.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i).collect();
        let unit = |pair: &[usize]| clip[pair[0] + 3..pair[1]].to_vec();
        let vps = starts.windows(2).map(unit).find(|unit| unit[0] >> 1 == 32).unwrap();
        let trace = size("hevc", &[&vps, &h265()]);
        assert_eq!(field(&trace, "pic_width_in_luma_samples"), Some(SIDE), "{trace}");
        assert_eq!(field(&trace, "pic_height_in_luma_samples"), Some(SIDE));
        assert_eq!(field(&trace, "sps_extension_present_flag"), Some(0), "it is read to its end: {trace}");
    }
}
