//! Sound as recorders store it: G.711, 8,000 samples a second, of one channel. What is heard is a tone.

use serde::{Deserialize, Serialize};

/// Samples in a second.
pub(super) const RATE: u64 = 8_000;

/// The tone's oscillations in a second.
const PITCH: f64 = 440.0;
/// How loud it is, of 32,767.
const LOUDNESS: f64 = 8_000.0;

/// Which of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// A-law.
    A,
    /// Mu-law.
    Mu,
}

impl Law {
    /// What a program stream calls it.
    pub(super) fn stream_type(self) -> u8 {
        match self {
            Law::A => 0x90,
            Law::Mu => 0x91,
        }
    }

    /// The samples of these numbers, counted from the recording's begin.
    pub(super) fn tone(self, samples: std::ops::Range<u64>) -> Vec<u8> {
        let level = |number: u64| {
            let turns = number as f64 * PITCH / RATE as f64;
            (LOUDNESS * (turns * std::f64::consts::TAU).sin()) as i16
        };
        samples.map(|number| self.encode(level(number))).collect()
    }

    /// ITU-T G.711: a sign, the place of the leading one, and four bits behind it.
    fn encode(self, sample: i16) -> u8 {
        let (magnitude, sign) = (i32::from(sample).abs(), u8::from(sample < 0) << 7);
        match self {
            Law::Mu => {
                let magnitude = (magnitude + 132).min(32_767);
                let place = magnitude.ilog2() - 7;
                !(sign | (place as u8) << 4 | (magnitude >> (place + 3) & 15) as u8)
            }
            Law::A => {
                let magnitude = magnitude >> 3;
                let place = magnitude.max(1).ilog2().saturating_sub(4);
                let bits = magnitude >> place.max(1) & 15;
                (0x80 ^ sign | (place as u8) << 4 | bits as u8) ^ 0x55
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_the_loudest_are_as_the_standard_has_them() {
        assert_eq!([0, 32_767, -32_767].map(|level| Law::Mu.encode(level)), [0xff, 0x80, 0x00]);
        assert_eq!([0, 32_767, -32_767].map(|level| Law::A.encode(level)), [0xd5, 0xaa, 0x2a]);
    }
}
