//! What server and worker say to each other, as JSON.

use std::time::Duration;

use secrecy::SecretString;
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// The longest that a lease or a wait of a server is believed.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest.
const SHORTEST: Duration = Duration::from_millis(10);

/// A worker's hold on a task.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Lease {
    /// What it is called: letters, digits, `-` and `_`.
    #[serde(deserialize_with = "name")]
    pub id: String,
    /// Its fencing number, which no other lease has.
    pub number: u64,
    /// How long it lives from its last heartbeat.
    #[serde(deserialize_with = "duration")]
    pub lives: Duration,
    /// How often it wants one.
    #[serde(deserialize_with = "duration")]
    pub heartbeat: Duration,
    /// What is to be done.
    pub task: Order,
}

/// A task as it is handed out.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Order {
    /// What the task is called.
    pub id: String,
    /// The row of the job's sheet.
    #[serde(default)]
    pub row: Option<u32>,
    /// How often it was handed out, this time among them.
    #[serde(default)]
    pub attempt: u32,
    /// The recorder: a URL.
    pub server: String,
    /// Who to log in as.
    pub username: String,
    /// The password; `None` where `password_file` of the options has it.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// The channel, or the id of a track; `None` for all of them.
    #[serde(default)]
    pub channel: Option<String>,
    /// From when on.
    #[serde(default)]
    pub from: Option<String>,
    /// Until when.
    #[serde(default)]
    pub until: Option<String>,
    /// When it was asked for, RFC 3339, which `today` goes by; `None` for now.
    #[serde(default)]
    pub asked_at: Option<String>,
    /// Where the results go; `None` where the worker knows.
    #[serde(default)]
    pub to: Option<String>,
    /// What else the sheet says, by the names of its columns.
    #[serde(default)]
    pub options: Map<String, Value>,
}

impl Order {
    /// The task in a few words, without its login.
    pub(super) fn shown(&self) -> String {
        let channel = self.channel.as_deref().unwrap_or("all channels");
        let row = self.row.map(|row| format!(", row {row}")).unwrap_or_default();
        format!("task {}{row}: {} {channel}", self.id, self.server)
    }
}

/// How far a task is, as a heartbeat tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(super) struct Far {
    /// Recordings with an outcome.
    pub files: u64,
    /// Recordings found.
    pub of: u64,
    /// Bytes that have come.
    pub bytes: u64,
    /// Bytes of all that were found.
    pub of_bytes: u64,
}

/// What became of a task's recordings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Found on the recorder.
    pub found: u64,
    /// Fetched and stored.
    pub downloaded: u64,
    /// Stored before.
    pub there: u64,
    /// Not stored.
    pub failed: u64,
    /// Bytes fetched and verified.
    pub bytes: u64,
}

/// What a heartbeat is answered.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Beat {
    /// Until when the lease lives by the server's clock, which nobody here knows: only that it is said counts.
    #[serde(rename = "expires_at")]
    _expires_at: IgnoredAny,
    /// Whether the task is to be stopped.
    #[serde(default)]
    pub cancel: bool,
    /// Why, where nobody has cancelled it: `auth`. Older servers do not say.
    #[serde(default)]
    pub why: Option<String>,
}

/// A duration as the server writes it: `20s`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_duration(&text).map_err(|_| D::Error::custom("is no duration such as 20s"))?;
    Ok(time.clamp(SHORTEST, LONGEST))
}

/// A name that can stand in a path.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !text.is_empty() && text.len() <= 128 && text.chars().all(fits) {
        Ok(text)
    } else {
        Err(D::Error::custom("is no id of a lease"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_is_read_and_its_password_not_shown() {
        let lease = |id: &str, lives: &str| {
            json!({
                "id": id, "number": 17, "expires_at": "2026-11-19T08:00:20Z", "lives": lives, "heartbeat": "5s",
                "task": {
                    "id": "7", "job": "3", "row": 3, "attempt": 2, "server": "http://10.0.0.5", "username": "admin",
                    "password": "canary", "channel": "101", "from": null, "until": null, "to": null, "options": {},
                },
            })
        };
        let read: Lease = serde_json::from_value(lease("a-1", "20s")).unwrap();
        assert_eq!((read.lives, read.number, read.task.attempt), (Duration::from_secs(20), 17, 2));
        let shown = format!("{read:?} {}", read.task.shown());
        assert!(shown.contains("task 7, row 3: http://10.0.0.5 101") && !shown.contains("canary"), "{shown}");
        for (id, lives) in [("", "20s"), ("../x", "20s"), ("a", "soon"), ("a b", "20s")] {
            assert!(serde_json::from_value::<Lease>(lease(id, lives)).is_err(), "{id} {lives}");
        }
        assert_eq!(serde_json::from_value::<Lease>(lease("a", "900y")).unwrap().lives, LONGEST);
    }
}
