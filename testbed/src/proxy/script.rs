//! What the proxy does to whom.

use std::time::Duration;

use anyhow::{Context as _, bail};
use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// The rules, and where their random numbers start. The default passes everything on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// With the same seed and rules, the connection of the same number meets the same faults.
    pub seed: u64,
    /// A connection may be met by several of them.
    pub rules: Vec<Rule>,
}

/// A fault, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The share of connections that it meets, from 0 to 1; of bodies where the fault is a flip.
    #[serde(default = "all")]
    pub share: f64,
    /// What happens to them.
    pub fault: Fault,
}

/// A direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the client.
    #[default]
    ToServer,
    /// From the server.
    ToClient,
}

/// What can happen to a connection. `at` is a number of bytes, drawn evenly from the first to the second, both
/// included, and counted from the connection's beginning in the direction `way`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// What comes after a pause is so late, in either direction: `ms`, and up to `jitter_ms` more.
    Latency {
        ms: u64,
        #[serde(default)]
        jitter_ms: u64,
    },
    /// No more than so many bytes a second pass.
    Bandwidth { way: Way, bytes_per_s: u64 },
    /// Both ends are closed in order.
    Cut {
        #[serde(default)]
        way: Way,
        at: [u64; 2],
    },
    /// Both ends are reset.
    Reset {
        #[serde(default)]
        way: Way,
        at: [u64; 2],
    },
    /// Whoever receives in this direction is told that nothing more comes. It may go on sending.
    HalfClose { way: Way, at: [u64; 2] },
    /// What comes is swallowed, from either side, and nothing is ever answered; a new connection's target is not even
    /// asked. One that has lost bytes stays so when the script changes.
    Blackhole,
    /// The same for connections that stand when the script comes. New ones pass.
    BlackholeStanding,
    /// A ClientHello is swallowed and never answered. What does not begin with one passes.
    TlsStall,
    /// One bit of a body of HTTP/1.1 is changed, somewhere in its first `within` bytes. A body may be shorter than
    /// where it was to be: then it is left as it is.
    Flip { way: Way, within: u64 },
}

fn all() -> f64 {
    1.0
}

impl Script {
    /// A script of one rule for every connection.
    pub fn all(fault: Fault) -> Script {
        Script::some(1.0, fault)
    }

    /// A script of one rule for a share of all connections.
    pub fn some(share: f64, fault: Fault) -> Script {
        Script { seed: 0, rules: vec![Rule { share, fault }] }
    }

    /// Reads a script, and refuses one that means nothing.
    pub(super) fn read(text: &[u8]) -> anyhow::Result<Script> {
        let script: Script = serde_json::from_slice(text).context("this is no script")?;
        script.validate()?;
        Ok(script)
    }

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        for Rule { share, fault } in &self.rules {
            if !(0.0..=1.0).contains(share) {
                bail!("`share` of {fault:?} is {share}: it goes from 0 to 1");
            }
            match fault {
                Fault::Bandwidth { bytes_per_s: 0, .. } => bail!("`bytes_per_s` is 0: that is a `blackhole`"),
                Fault::Flip { within: 0, .. } => bail!("`within` is 0: there is no byte to change"),
                Fault::Cut { at, .. } | Fault::Reset { at, .. } | Fault::HalfClose { at, .. } if at[0] > at[1] => {
                    bail!("`at` of {fault:?} ends before it begins")
                }
                Fault::Latency { ms, jitter_ms } if ms.saturating_add(*jitter_ms) > 600_000 => {
                    bail!("`latency` of {fault:?} is more than ten minutes")
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// How a direction ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Cut,
    Reset,
    HalfClose,
}

/// What a script has for one direction of one connection.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) latency: Duration,
    /// Bytes a second.
    pub(super) rate: Option<u64>,
    /// After how many bytes it ends, and how: the first of those that are drawn.
    pub(super) ending: Option<(u64, Ending)>,
    pub(super) blackhole: bool,
    /// The same, if the connection stood before the script came.
    pub(super) blackhole_standing: bool,
    pub(super) tls_stall: bool,
    flips: Vec<(f64, u64)>,
    rng: Rng,
}

impl Fate {
    pub(super) fn of(script: &Script, connection: u64, way: Way) -> Fate {
        // Consecutive numbers are spread over all seeds, by the golden ratio's bits.
        let mut rng = Rng::with_seed(script.seed ^ connection.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut fate = Fate {
            latency: Duration::ZERO,
            rate: None,
            ending: None,
            blackhole: false,
            blackhole_standing: false,
            tls_stall: false,
            flips: Vec::new(),
            rng: Rng::with_seed(0),
        };
        for Rule { share, fault } in &script.rules {
            // Thrown for each rule, whether it is met or not: one rule's share changes nothing about another's.
            let (met, mut drawn) = (rng.f64() < *share, rng.fork());
            match *fault {
                Fault::Flip { way: flipped, within } if flipped == way => fate.flips.push((*share, within)),
                _ if !met => {}
                Fault::Latency { ms, jitter_ms } => {
                    fate.latency += Duration::from_millis(ms + drawn.u64(0..=jitter_ms))
                }
                Fault::Bandwidth { way: slow, bytes_per_s } if slow == way => {
                    fate.rate = Some(fate.rate.map_or(bytes_per_s, |rate| rate.min(bytes_per_s)));
                }
                Fault::Cut { way: of, at } if of == way => fate.end(drawn.u64(at[0]..=at[1]), Ending::Cut),
                Fault::Reset { way: of, at } if of == way => fate.end(drawn.u64(at[0]..=at[1]), Ending::Reset),
                Fault::HalfClose { way: of, at } if of == way => fate.end(drawn.u64(at[0]..=at[1]), Ending::HalfClose),
                Fault::Blackhole => fate.blackhole = true,
                Fault::BlackholeStanding => fate.blackhole_standing = true,
                Fault::TlsStall => fate.tls_stall = true,
                _ => {}
            }
        }
        fate.rng = rng;
        fate
    }

    fn end(&mut self, at: u64, how: Ending) {
        if self.ending.is_none_or(|(first, _)| at < first) {
            self.ending = Some((at, how));
        }
    }

    /// Where a bit of the next body is to be changed, and which.
    pub(super) fn flip(&mut self) -> Option<(u64, u8)> {
        let Fate { flips, rng, .. } = self;
        flips
            .iter()
            .filter_map(|(share, within)| {
                let (met, at, bit) = (rng.f64() < *share, rng.u64(..*within), rng.u8(..8));
                met.then_some((at, 1 << bit))
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_read_as_they_are_written() {
        let text = r#"{"seed":7,"rules":[{"share":0.5,"fault":{"cut":{"at":[0,99]}}},{"fault":"blackhole"},
            {"fault":{"bandwidth":{"way":"to_client","bytes_per_s":1}}}]}"#;
        let script = Script::read(text.as_bytes()).unwrap();
        assert_eq!(script.rules[0], Rule { share: 0.5, fault: Fault::Cut { way: Way::ToServer, at: [0, 99] } });
        assert_eq!(script.rules[1], Rule { share: 1.0, fault: Fault::Blackhole });
        let again = serde_json::to_vec(&script).unwrap();
        assert_eq!(Script::read(&again).unwrap(), script);
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        for (rule, named) in [
            (r#"{"share":1.5,"fault":"blackhole"}"#, "share"),
            (r#"{"fault":"explode"}"#, "explode"),
            (r#"{"fault":"blackhole","shares":1}"#, "shares"),
            (r#"{"fault":{"bandwidth":{"way":"to_server","bytes_per_s":0}}}"#, "bytes_per_s"),
            (r#"{"fault":{"flip":{"way":"to_server","within":0}}}"#, "within"),
            (r#"{"fault":{"reset":{"at":[2,1]}}}"#, "at"),
            (r#"{"fault":{"latency":{"ms":700000}}}"#, "latency"),
        ] {
            let error = Script::read(format!(r#"{{"rules":[{rule}]}}"#).as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{rule}: {error:#}");
        }
    }

    #[test]
    fn a_connections_fate_is_its_number_and_the_seeds() {
        let rule = |share, fault| Rule { share, fault };
        let cut = |share| rule(share, Fault::Cut { way: Way::ToServer, at: [0, 1_000_000] });
        let cuts = |script: &Script| -> Vec<Option<u64>> {
            (0..1_000).map(|n| Fate::of(script, n, Way::ToServer).ending.map(|(at, _)| at)).collect()
        };
        let script = Script { seed: 3, rules: vec![cut(0.3)] };
        let plain = cuts(&script);
        assert_eq!(plain, cuts(&script));
        assert_ne!(plain, cuts(&Script { seed: 4, ..script.clone() }));
        // Another rule after it changes nothing about who is cut, and where.
        let both = Script { rules: vec![cut(0.3), rule(0.5, Fault::Blackhole)], ..script };
        assert_eq!(plain, cuts(&both));
        let met = plain.iter().flatten().count();
        // Five standard deviations on either side.
        assert!((228..=372).contains(&met), "{met}");
        let mean = plain.iter().flatten().sum::<u64>() / met as u64;
        assert!((400_000..600_000).contains(&mean), "{mean}");
        assert!((0..1_000).all(|n| Fate::of(&both, n, Way::ToClient).ending.is_none()));
    }
}
