//! Draws what happens to one stream's packets.

use fastrand::Rng;

use super::ledger::{Ledger, Stats};
use super::messages::{PREFIX, interleave};
use super::mutation::{Endless, Kind, change, description};
use super::packet::Header;
use super::script::{Script, Spoil};

/// One stream in the course of its faults.
#[derive(Debug)]
pub(super) struct Faults {
    script: Script,
    connection: u64,
    /// Packets so far.
    number: u64,
    pub(super) ledger: Ledger,
    /// In the midst of a burst of losses.
    losing: bool,
    /// What comes after the next packet.
    held: Option<Vec<u8>>,
    endless: Option<Endless>,
}

impl Faults {
    pub(super) fn new(script: Script, connection: u64) -> Self {
        Self { script, connection, number: 0, ledger: Ledger::default(), losing: false, held: None, endless: None }
    }

    /// Random numbers for the packet at hand: they depend on nothing but its number.
    fn rng(&self) -> Rng {
        // Odd constants that share no factor: neighbouring numbers are far apart as seeds.
        let seed = self.script.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Rng::with_seed(
            seed ^ self.connection.wrapping_mul(0xd1b5_4a32_d192_ed03)
                ^ self.number.wrapping_mul(0x8cb9_2ba7_2f3d_8dd7),
        )
    }

    /// What passes in the place of a packet.
    pub(super) fn spoil(&mut self, packet: &[u8], stats: &mut Stats) -> Vec<Vec<u8>> {
        let Some(header) = Header::read(packet) else { return vec![packet.to_vec()] };
        stats.packets += 1;
        stats.missing += u64::from(self.ledger.note(&header));
        self.number += 1;
        let packet = packet.to_vec();
        let whole = vec![packet.clone()];
        if self.ledger.pictures().len() as u64 <= self.script.whole {
            return whole;
        }
        let mut rng = self.rng();
        // A copy: what is drawn changes the rest.
        let spoil = self.script.spoil;
        match spoil {
            Spoil::Lose { share, burst } if self.loses(share, burst, &mut rng) => {
                stats.lost += 1;
                self.ledger.spoil();
                Vec::new()
            }
            Spoil::Mutate { codec, share } => {
                let mut packet = packet;
                if let Some(endless) = &mut self.endless {
                    if endless.go_on(&mut packet).is_none() {
                        self.endless = None;
                    }
                    self.ledger.spoil();
                    return vec![packet];
                }
                let kind = (rng.f64() < share).then(|| Kind::draw(&mut rng));
                if let Some(kind) = kind {
                    *stats.mutations.entry(kind.name()).or_default() += 1;
                    self.ledger.spoil();
                    change(kind, codec, &mut packet, &mut rng);
                }
                match kind {
                    Some(Kind::Swapped) if self.held.is_none() => {
                        self.held = Some(packet);
                        return Vec::new();
                    }
                    Some(Kind::Endless) => self.endless = Some(Endless::new(codec, &packet, &mut rng)),
                    _ => {}
                }
                let twice = (kind == Some(Kind::Doubled)).then(|| packet.clone());
                [packet].into_iter().chain(twice).chain(self.held.take()).collect()
            }
            _ => whole,
        }
    }

    /// What passes in the place of a packet on a channel of the control connection.
    pub(super) fn spoil_interleaved(&mut self, channel: u8, packet: &[u8], stats: &mut Stats) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.spoil(packet, stats).iter().flat_map(|packet| interleave(channel, packet)).collect();
        if let Spoil::Cut { share, most } = self.script.spoil
            && self.ledger.pictures().len() as u64 > self.script.whole
            && bytes.len() > PREFIX
        {
            let mut rng = self.rng();
            if rng.f64() < share {
                let from = rng.usize(PREFIX..bytes.len());
                let to = bytes.len().min(from + rng.usize(1..=most));
                bytes.drain(from..to);
                stats.cut += 1;
                self.ledger.spoil();
            }
        }
        bytes
    }

    /// Whether the packet is lost. Gilbert's model has two states; in one of them all are lost. What it takes from the
    /// one into the other makes the share of losses and the mean length of their rows what they are to be.
    fn loses(&mut self, share: f64, burst: f64, rng: &mut Rng) -> bool {
        let chance = match (self.losing, burst > 1.0) {
            (_, false) => share,
            (true, true) => 1.0 - 1.0 / burst,
            (false, true) => share / (burst * (1.0 - share)),
        };
        self.losing = rng.f64() < chance;
        self.losing
    }

    /// What the client is told of the stream: of every fourth connection of a hostile camera, what nobody should
    /// believe.
    pub(super) fn describe(&self, text: &str, stats: &mut Stats) -> String {
        match self.script.spoil {
            Spoil::Mutate { codec, .. } if self.connection % 4 == 3 => {
                *stats.mutations.entry("description").or_default() += 1;
                description(codec, text)
            }
            _ => text.to_owned(),
        }
    }
}
