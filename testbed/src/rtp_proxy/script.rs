//! What the proxy does to whom.

use anyhow::ensure;

use crate::clip::Codec;

/// The fault, and where its random numbers start. The default passes everything on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// With the same seed, the packet of the same number in the connection of the same number meets the same fault.
    pub seed: u64,
    /// So many pictures at the beginning of each connection pass whole.
    pub whole: u64,
    /// What happens to the others.
    pub spoil: Spoil,
}

/// What can happen to RTP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Spoil {
    /// They pass.
    #[default]
    Nothing,
    /// Packets are lost: datagrams, or whole frames from inside the interleaved stream.
    Lose {
        /// The share that is lost, from 0 to 1, exclusive.
        share: f64,
        /// How many are lost in a row, on average (Gilbert's model); 1: each by itself.
        burst: f64,
    },
    /// Bytes are missing from inside the interleaved stream, so that what follows does not begin where its length says.
    Cut {
        /// The share of packets that it meets.
        share: f64,
        /// The most bytes that are missing at once.
        most: usize,
    },
    /// Packets are changed: bits, bytes, lengths, order, headers, and what only a hostile camera would send.
    Mutate {
        /// What the packets carry.
        codec: Codec,
        /// The share of packets that it meets.
        share: f64,
    },
}

impl Script {
    /// Finds what means nothing.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let share = match self.spoil {
            Spoil::Nothing => return Ok(()),
            Spoil::Lose { share, burst } => {
                ensure!(burst >= 1.0, "a burst of {burst} packets: it must be 1 at least");
                share
            }
            Spoil::Cut { share, most } => {
                ensure!(most > 0, "bytes to be cut: at least 1");
                share
            }
            Spoil::Mutate { share, .. } => share,
        };
        ensure!((0.0..1.0).contains(&share), "a share of {share}: it must be from 0 to 1, exclusive");
        Ok(())
    }
}
