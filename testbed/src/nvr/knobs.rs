//! What the recorder is like, and what it does to its clients.

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::clock::{self, Zone};

/// Which login it asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    /// Digest with MD5, and says so.
    #[default]
    Md5,
    /// Digest with MD5, and names no algorithm.
    Unnamed,
    /// Digest with SHA-256 and nothing else.
    Sha256,
    /// Both, MD5 first. Each has a nonce of its own.
    Md5Sha256,
    /// Both, SHA-256 first.
    Sha256Md5,
    /// Digest with MD5, or the password as it is.
    DigestBasic,
    /// The password as it is, and nothing else.
    Basic,
}

/// How it refuses a nonce that has been used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Expiry {
    /// With a new nonce and `stale="TRUE"`.
    #[default]
    Stale,
    /// With a new nonce and `stale="FALSE"`, as it refuses a wrong password.
    AsWrong,
    /// With nothing at all.
    NoChallenge,
}

/// Which of two ways a request may be made in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Both are understood.
    #[default]
    Any,
    /// GET with a body.
    Get,
    /// POST.
    Post,
}

/// How a search names its tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ListTag {
    /// Both are understood.
    #[default]
    Any,
    /// `trackIDList`.
    TrackIdList,
    /// `trackList`.
    TrackList,
}

/// Which time stands before a `Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ClockMode {
    /// What the recorder's wall shows.
    #[default]
    Wall,
    /// UTC, as cameras do it.
    Utc,
}

/// What a download's head says about its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// The length.
    #[default]
    Told,
    /// Nothing: it comes in chunks.
    Chunked,
    /// Nothing: it ends with the connection.
    UntilClosed,
}

/// How the recorder is and misbehaves. Everything can be changed while it runs; the default is one without faults that
/// speaks as most do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Which login it asks for.
    #[arg(long, value_enum, default_value_t)]
    pub challenge: Challenge,
    /// Challenges without `qop`, as RFC 2069 has them.
    #[arg(long)]
    pub no_qop: bool,
    /// How many answers a nonce is good for; any number when absent.
    #[arg(long)]
    pub nonce_uses: Option<u32>,
    /// How it refuses a nonce that has been used up.
    #[arg(long, value_enum, default_value_t)]
    pub expiry: Expiry,
    /// So many of the next good answers are refused as if their nonce had been used up. Counts down.
    #[arg(long, default_value_t = 0)]
    pub expire_next: u32,
    /// Wrong logins from one address until it is locked out; never when absent.
    #[arg(long)]
    pub lock_after: Option<u32>,
    /// How long it is, in seconds.
    #[arg(long, default_value_t = 1800.0)]
    pub lock_s: f64,
    /// Looks at the body of a POST before it looks at who sent it: an empty one gets 400 and no challenge.
    #[arg(long)]
    pub body_before_login: bool,
    /// The namespace of its answers.
    #[arg(long, default_value = HIKVISION)]
    pub namespace: String,
    /// How a search must name its tracks.
    #[arg(long, value_enum, default_value_t)]
    pub list_tag: ListTag,
    /// A search that names its tracks otherwise is not refused, but gets the first track's recordings.
    #[arg(long)]
    pub wrong_tag_is_first_track: bool,
    /// Searches must come without a declaration, a namespace and a list of metadata, and with their id in braces.
    #[arg(long)]
    pub bare_search: bool,
    /// The most matches in a page, whatever the client wants.
    #[arg(long, default_value_t = 64)]
    pub page: u32,
    /// Ignores the position: every page is the first one.
    #[arg(long)]
    pub ignore_position: bool,
    /// Says MORE after the last page as well, and then sends empty ones.
    #[arg(long)]
    pub always_more: bool,
    /// Searches at a time; more of them are refused as busy.
    #[arg(long)]
    pub searches_at_once: Option<u32>,
    /// Tells the whole spans of recordings that begin before the window or end behind it.
    #[arg(long)]
    pub no_clip: bool,
    /// Recordings have no names: they can be fetched by time alone.
    #[arg(long)]
    pub nameless: bool,
    /// Added to the size in playback URIs.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub size_off: i64,
    /// Line breaks and spaces around playback URIs.
    #[arg(long)]
    pub loose_uris: bool,
    /// The host and port in playback URIs; where we listen when absent.
    #[arg(long)]
    pub uri_host: Option<String>,
    /// Which time stands before a `Z`.
    #[arg(long, value_enum, default_value_t)]
    pub clock: ClockMode,
    /// The zone on its wall, with summer time: `CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00` is Berlin.
    #[arg(long, default_value = "UTC0:00:00")]
    pub zone: String,
    /// The zone that it tells of itself; the one on its wall when absent.
    #[arg(long)]
    pub told_zone: Option<String>,
    /// Understands `?timeType=STD` behind a search: its window is UTC, and in summer its answers are an hour late.
    /// Without this it ignores that.
    #[arg(long)]
    pub time_type: bool,
    /// Tells the offset of winter in summer as well.
    #[arg(long)]
    pub offset_lies: bool,
    /// How far its clock is ahead, in seconds.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    pub clock_ahead_s: i64,
    /// Where its clock stands still, as `2026-11-19T12:00:00` in UTC. A recording that goes on at that moment is listed
    /// as far as it has come; later ones are not there yet.
    #[arg(long)]
    pub clock_stands: Option<String>,
    /// How a download may be asked for.
    #[arg(long, value_enum, default_value_t)]
    pub download: Method,
    /// No downloads by name.
    #[arg(long)]
    pub no_by_file: bool,
    /// Downloads by time as well: what the span holds of each recording that it touches, one after the other.
    #[arg(long)]
    pub by_time: bool,
    /// Recordings with this in their name may not be had by name.
    #[arg(long)]
    pub forbidden_file: Option<String>,
    /// Says of downloads by name and by time the opposite of what is.
    #[arg(long)]
    pub abilities_lie: bool,
    /// What a download's head says about its length.
    #[arg(long, value_enum, default_value_t)]
    pub length: Length,
    /// Downloads and playbacks at a time; more of them are refused, as busy or with 453.
    #[arg(long)]
    pub sessions: Option<u32>,
    /// Playbacks do not say when they are over: nothing more comes, and the connection stays.
    #[arg(long)]
    pub no_bye: bool,
    /// The status of what is refused as busy; 200 hides it in the body.
    #[arg(long, default_value_t = 503)]
    pub busy_status: u16,
    /// So many of the next searches and downloads are refused as busy. Counts down.
    #[arg(long, default_value_t = 0)]
    pub busy_next: u32,
    /// Share of downloads refused as busy, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub rate_busy: f64,
    /// Share of searches refused as busy, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub rate_search_busy: f64,
    /// Share of downloads whose connection is cut at a random byte, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub rate_cut: f64,
    /// Share of downloads that end in good order at a random byte, from 0 to 1: only the playback URI tells the size.
    #[arg(long, default_value_t = 0.0)]
    pub rate_short: f64,
    /// Share of downloads that fall silent at a random byte, from 0 to 1, until the client goes away.
    #[arg(long, default_value_t = 0.0)]
    pub rate_stall: f64,
    /// Share of downloads answered with 200 and an error in XML, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub rate_xml: f64,
    /// Only recordings with this in their name fail like that; all of them when absent.
    #[arg(long)]
    pub faulty_file: Option<String>,
    /// How fast a download comes, in bytes per second; unlimited when absent.
    #[arg(long)]
    pub bytes_per_s: Option<u64>,
    /// Recordings with this in their name have been written over: they are listed, and are not there.
    #[arg(long)]
    pub vanished: Option<String>,
    /// Waits before it answers a search, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub search_ms: u64,
    /// Channels that are not there: neither told of nor shown live; may be given several times.
    #[arg(long)]
    pub gone: Vec<u32>,
    /// Hangs up on whoever connects, and on whoever is connected, as one whose power is gone would not be there.
    #[arg(long)]
    pub off: bool,
    /// Forbids the list of streaming channels, as some recorders do.
    #[arg(long)]
    pub no_channels: bool,
    /// Calls with this in their path are forbidden; may be given several times.
    #[arg(long)]
    pub forbidden: Vec<String>,
    /// Calls with this in their path it does not know; may be given several times.
    #[arg(long)]
    pub missing: Vec<String>,
    /// What it does not know is answered with a page of HTML.
    #[arg(long)]
    pub html_errors: bool,
    /// Where the random numbers start. They start again when this value changes, and only then.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

const HIKVISION: &str = "http://www.hikvision.com/ver20/XMLSchema";

impl Default for Knobs {
    fn default() -> Knobs {
        /// What the command line makes of nothing: each default is told once, there.
        #[derive(clap::Parser)]
        struct Nothing {
            #[command(flatten)]
            knobs: Knobs,
        }
        <Nothing as clap::Parser>::parse_from(["knobs"]).knobs
    }
}

impl Knobs {
    /// These knobs with those in `patch`, a JSON object, put in their place. Changes nothing when it fails.
    pub(super) fn patched(&self, patch: &[u8]) -> anyhow::Result<Knobs> {
        let patch: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(patch).context("the change of knobs must be a JSON object")?;
        let mut all = serde_json::to_value(self).context("cannot write the knobs as JSON")?;
        if let Some(all) = all.as_object_mut() {
            all.extend(patch);
        }
        let knobs: Knobs = serde_json::from_value(all).context("cannot change the knobs")?;
        knobs.validate()?;
        Ok(knobs)
    }

    /// Refuses values that mean nothing.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let rates = [
            ("rate_cut", self.rate_cut),
            ("rate_short", self.rate_short),
            ("rate_stall", self.rate_stall),
            ("rate_xml", self.rate_xml),
        ];
        let busy = [("rate_busy", self.rate_busy), ("rate_search_busy", self.rate_search_busy)];
        for (name, rate) in rates.into_iter().chain(busy) {
            ensure!((0.0..=1.0).contains(&rate), "knob `{name}` is {rate}: it is a share, from 0 to 1");
        }
        if rates.iter().map(|(_, rate)| rate).sum::<f64>() > 1.0 {
            let named = rates.iter().filter(|(_, rate)| *rate > 0.0).map(|(name, rate)| format!("`{name}` ({rate})"));
            bail!("knobs {} add up to more than 1", named.collect::<Vec<_>>().join(", "));
        }
        for (name, value) in [
            ("nonce_uses", self.nonce_uses),
            ("lock_after", self.lock_after),
            ("searches_at_once", self.searches_at_once),
            ("sessions", self.sessions),
        ] {
            ensure!(value != Some(0), "knob `{name}` is 0: give at least 1, or null for no limit");
        }
        ensure!(self.bytes_per_s != Some(0), "knob `bytes_per_s` is 0: give at least 1, or null for no limit");
        ensure!(self.page > 0, "knob `page` is 0: give at least 1");
        ensure!((0.0..=86_400.0).contains(&self.lock_s), "knob `lock_s` is {}: it goes from 0 to 86400", self.lock_s);
        let status = self.busy_status;
        ensure!(
            status == 200 || (400..=599).contains(&status),
            "knob `busy_status` is {status}: it is 200 or an HTTP error, from 400 to 599"
        );
        self.zone.parse::<Zone>().context("knob `zone`")?;
        if let Some(told) = &self.told_zone {
            told.parse::<Zone>().context("knob `told_zone`")?;
        }
        if let Some(stands) = &self.clock_stands {
            clock::read(stands).context("knob `clock_stands`")?;
        }
        Ok(())
    }

    /// The zone on its wall.
    pub(super) fn zone(&self) -> Zone {
        self.zone.parse().expect("checked before it is put in place")
    }

    /// The zone that it tells of itself.
    pub(super) fn told_zone(&self) -> Zone {
        let told = self.told_zone.as_ref().unwrap_or(&self.zone);
        told.parse().expect("checked before it is put in place")
    }

    /// Whether there is a channel of this number.
    pub(super) fn has_channel(&self, number: u32) -> bool {
        !self.gone.contains(&number)
    }

    /// Whether a recording of that name may not be had by it.
    pub(super) fn is_forbidden(&self, name: &str) -> bool {
        self.forbidden_file.as_ref().is_some_and(|part| name.contains(part))
    }

    /// Whether a download of a recording of that name may fail on its way.
    pub(super) fn is_faulty(&self, name: &str) -> bool {
        self.faulty_file.as_ref().is_none_or(|part| name.contains(part))
    }

    /// Whether a recording of that name has been written over.
    pub(super) fn has_vanished(&self, name: &str) -> bool {
        self.vanished.as_ref().is_some_and(|part| name.contains(part))
    }

    /// What its clock says, in UTC.
    pub(super) fn now(&self) -> i64 {
        let stands =
            self.clock_stands.as_deref().map(|text| clock::read(text).expect("checked before it is put in place"));
        stands.unwrap_or_else(|| time::OffsetDateTime::now_utc().unix_timestamp()) + self.clock_ahead_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_changed_one_by_one_and_only_to_what_means_something() {
        let knobs = Knobs::default().patched(br#"{"sessions": 1, "challenge": "sha256-md5"}"#).unwrap();
        assert_eq!(knobs, Knobs { sessions: Some(1), challenge: Challenge::Sha256Md5, ..Knobs::default() });
        assert_eq!(knobs.patched(br#"{"sessions": null, "challenge": "md5"}"#).unwrap(), Knobs::default());
        for (patch, word) in [
            ("[]", "JSON object"),
            (r#"{"nothing": 1}"#, "nothing"),
            (r#"{"challenge": "none"}"#, "none"),
            (r#"{"rate_cut": 0.6, "rate_stall": 0.5}"#, "`rate_cut` (0.6), `rate_stall` (0.5) add up"),
            (r#"{"rate_busy": 2}"#, "`rate_busy` is 2"),
            (r#"{"sessions": 0}"#, "`sessions` is 0"),
            (r#"{"page": 0}"#, "`page` is 0"),
            (r#"{"busy_status": 302}"#, "`busy_status` is 302"),
            (r#"{"zone": "Berlin"}"#, "`zone`"),
            (r#"{"told_zone": "Berlin"}"#, "`told_zone`"),
            (r#"{"clock_stands": "noon"}"#, "`clock_stands`"),
            (r#"{"lock_s": -1}"#, "`lock_s` is -1"),
        ] {
            let message = format!("{:#}", Knobs::default().patched(patch.as_bytes()).unwrap_err());
            assert!(message.contains(word), "{patch}: {message}");
        }
    }
}
