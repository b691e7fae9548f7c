//! What a user asks of a recorder: where it is, which of its channels become cameras, and what those inherit.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::camera::{as_text, is_default, present, same_server};
use super::ids::is_id;
use super::source::may_hold_credentials;
use super::{
    CameraId, CameraSpec, Damaged, DestinationName, Engine, FieldProblem, Pace, RawCameraSpec, Sampling, SourceKind,
    SourceUrl, Tls, Transport, camera,
};

/// The longest id: with `-ch9999` behind it, it is the longest that a camera may have.
const MAX_ID_BYTES: usize = 56;
/// The longest name of a time zone that is looked up.
const MAX_ZONE_BYTES: usize = 64;

/// The name of a recorder: `[a-z0-9][a-z0-9_-]{0,55}`. It stands before those of its cameras.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NvrId(Arc<str>);

/// Why a text is no [`NvrId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{}` is not the id of a recorder: use 1 to {MAX_ID_BYTES} characters of a-z, 0-9, `_` and `-`, the first a letter or a digit", .0.escape_debug())]
pub struct InvalidNvrId(String);

impl NvrId {
    /// The highest channel that can be a camera.
    pub const HIGHEST_CHANNEL: u32 = 9_999;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The camera that a channel is: `hall-ch01`.
    ///
    /// # Panics
    ///
    /// When the channel is above [`HIGHEST_CHANNEL`](Self::HIGHEST_CHANNEL).
    pub fn camera(&self, channel: u32) -> CameraId {
        format!("{self}-ch{channel:02}").parse().expect("both parts are short enough, and of the right letters")
    }
}

impl FromStr for NvrId {
    type Err = InvalidNvrId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_id(text) && text.len() <= MAX_ID_BYTES {
            Ok(Self(text.into()))
        } else {
            Err(InvalidNvrId(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for NvrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NvrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for NvrId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Which time stands before a `Z` in what a recorder says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockMode {
    /// What its wall clock shows: the `Z` is a lie, as it is on most recorders.
    DeviceLocal,
    /// UTC, as cameras mean it.
    Utc,
    /// Found out: where the zone leaves a choice, the newest recordings decide; what cannot be told is the wall clock.
    #[default]
    Auto,
}

/// Which channels of a recorder become cameras.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Channels {
    /// All that it has, at any time.
    #[default]
    All,
    /// These, as far as it has them.
    These(BTreeSet<u32>),
}

impl Channels {
    /// Cameras of one recorder, at most: four times what the largest have.
    pub const MOST: usize = 256;

    /// Whether this one does.
    pub fn contains(&self, channel: u32) -> bool {
        match self {
            Self::All => true,
            Self::These(channels) => channels.contains(&channel),
        }
    }
}

impl Serialize for Channels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::These(channels) => channels.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Channels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Word {
            All,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(Word),
            Numbers(BTreeSet<u32>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Word(Word::All) => Self::All,
            Written::Numbers(channels) => Self::These(channels),
        })
    }
}

/// Which stream of each channel is captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiveStream {
    /// The one that is recorded.
    #[default]
    Main,
    /// The smaller one beside it.
    Sub,
}

impl LiveStream {
    /// Its number, which stands behind the channel's.
    fn number(self) -> u32 {
        match self {
            Self::Main => 1,
            Self::Sub => 2,
        }
    }
}

/// A recorder as it is written in a request: any text, nothing checked but the shape. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNvrSpec {
    #[serde(default)]
    name: Option<String>,
    url: String,
    #[serde(default, alias = "username")]
    user: Option<String>,
    /// Left out: the password stays as it is. `null`: there is none.
    #[serde(default, deserialize_with = "present")]
    password: Option<Option<SecretString>>,
    #[serde(default)]
    tls: Option<Tls>,
    #[serde(default)]
    clock: ClockMode,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    channels: Channels,
    #[serde(default)]
    stream: LiveStream,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    engine: Engine,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default)]
    damaged: Damaged,
    #[serde(default)]
    jpeg_quality: Option<u8>,
    #[serde(default)]
    max_width: Option<u32>,
    #[serde(default)]
    destination: Option<String>,
}

/// A validated recorder. Its serialised form is what the catalog keeps and the API shows; the password is never part of
/// it.
#[derive(Clone, Debug, Serialize)]
pub struct NvrSpec {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is: `http://` or `https://`, without a path.
    #[serde(serialize_with = "as_text")]
    pub url: SourceUrl,
    /// The user to log in as, there and at its streams.
    pub user: String,
    /// The user's password.
    #[serde(skip)]
    pub password: Option<SecretString>,
    /// What is asked of the recorder's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Which time stands before a `Z` in what it says.
    #[serde(skip_serializing_if = "is_default")]
    pub clock: ClockMode,
    /// The zone of its wall clock, by the IANA's name; the one that it tells of itself where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Which channels become cameras.
    pub channels: Channels,
    /// Which of their streams.
    pub stream: LiveStream,
    /// How RTP packets travel, as all that follows for each camera.
    pub transport: Transport,
    /// What reads the streams.
    #[serde(skip_serializing_if = "is_default")]
    pub engine: Engine,
    /// Which frames are wanted.
    pub sampling: Sampling,
    /// What becomes of damaged pictures.
    #[serde(skip_serializing_if = "is_default")]
    pub damaged: Damaged,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// Wider pictures are scaled down to this width, pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
    /// Where the frames go.
    #[serde(skip_serializing_if = "is_default")]
    pub destination: DestinationName,
}

impl RawNvrSpec {
    /// Checks every field. `before` is the recorder's spec so far, from which a password that was left out is kept, as a
    /// camera's is: for the same user at the same server only. Whether there is one is for the caller to judge, and
    /// whether the zone is known.
    ///
    /// # Errors
    ///
    /// All problems found, not only the first.
    pub fn validate(self, before: Option<&NvrSpec>) -> Result<NvrSpec, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let url = read_url(&self.url).map_err(|detail| {
            let shown = Some(self.url.as_str()).filter(|text| !may_hold_credentials(text));
            problems.push(FieldProblem::new("url", shown, detail));
        });
        let url = url.ok();
        if self.tls.is_some() && url.as_ref().is_some_and(|url| url.kind() != SourceKind::Https) {
            let detail = "has a meaning with https:// only: leave it out";
            problems.push(FieldProblem::new("tls", None, detail));
        }
        if self.user.is_none() {
            let detail = "is missing: recorders let nobody in without";
            problems.push(FieldProblem::new("user", None, detail));
        }
        if let Channels::These(channels) = &self.channels {
            let fits = (1..=Channels::MOST).contains(&channels.len())
                && channels.iter().all(|channel| (1..=NvrId::HIGHEST_CHANNEL).contains(channel));
            if !fits {
                let (most, highest) = (Channels::MOST, NvrId::HIGHEST_CHANNEL);
                let detail = format!("must be \"all\", or a list of 1 to {most} numbers from 1 to {highest}");
                problems.push(FieldProblem::new("channels", None, detail));
            }
        }
        let zone = self.zone.filter(|zone| !zone.is_empty());
        if zone.as_ref().is_some_and(|zone| zone.len() > MAX_ZONE_BYTES) {
            problems.push(FieldProblem::new("zone", None, "is no name of a time zone: write Europe/Berlin, or UTC"));
        }
        let password = match self.password {
            Some(given) => given,
            None => before
                .filter(|b| Some(&b.user) == self.user.as_ref() && b.tls == self.tls)
                .filter(|b| url.as_ref().is_some_and(|url| same_server(url, &b.url)))
                .and_then(|b| b.password.clone()),
        };
        // What cameras have is judged as theirs: by one that stands for all of them.
        let one = RawCameraSpec {
            name: self.name,
            url: "rtsp://host/".to_owned(),
            user: Some(self.user.clone().unwrap_or_else(|| "user".to_owned())),
            password: Some(password),
            tls: None,
            transport: self.transport,
            engine: self.engine,
            repeat: false,
            pace: Pace::default(),
            sampling: self.sampling,
            damaged: self.damaged,
            jpeg_quality: self.jpeg_quality,
            max_width: self.max_width,
            destination: self.destination,
        };
        let one = one.validate(None).map_err(|found| problems.extend(found)).ok();
        match (url, one, self.user) {
            (Some(url), Some(one), Some(user)) if problems.is_empty() => Ok(NvrSpec {
                name: one.name,
                url,
                user,
                password: one.password,
                tls: self.tls,
                clock: self.clock,
                zone,
                channels: self.channels,
                stream: self.stream,
                transport: one.transport,
                engine: one.engine,
                sampling: one.sampling,
                damaged: one.damaged,
                jpeg_quality: one.jpeg_quality,
                max_width: one.max_width,
                destination: one.destination,
            }),
            _ => Err(problems),
        }
    }

    /// The URL as it is written.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn read_url(text: &str) -> Result<SourceUrl, String> {
    const HOW: &str = "is no recorder: write http://HOST[:PORT] or https://HOST[:PORT]";
    // Whether there are credentials in it is said first.
    let url = SourceUrl::parse(text).map_err(|why| if text.contains('@') { why } else { HOW.to_owned() })?;
    let bare = url.as_str().split_once("://").is_some_and(|(_, rest)| rest.find('/') == Some(rest.len() - 1));
    match url.kind() {
        SourceKind::Http | SourceKind::Https if bare && !url.as_str().contains(['?', '#']) => Ok(url),
        SourceKind::Http | SourceKind::Https => Err(format!("{HOW}, without a path")),
        _ => Err(HOW.to_owned()),
    }
}

impl NvrSpec {
    /// Whether both ask for the same, password included.
    pub fn same_as(&self, other: &Self) -> bool {
        self.connects_as(other)
            && self.name == other.name
            && self.channels == other.channels
            && self.stream == other.stream
            && self.transport == other.transport
            && self.engine == other.engine
            && self.sampling == other.sampling
            && self.damaged == other.damaged
            && self.jpeg_quality == other.jpeg_quality
            && self.max_width == other.max_width
            && self.destination == other.destination
    }

    /// Whether a change from one to the other leaves what is known of the recorder as it is.
    pub fn connects_as(&self, other: &Self) -> bool {
        fn bare(spec: &NvrSpec) -> Option<&str> {
            spec.password.as_ref().map(|password| password.expose_secret())
        }
        self.url == other.url
            && self.user == other.user
            && bare(self) == bare(other)
            && self.tls == other.tls
            && self.clock == other.clock
            && self.zone == other.zone
    }

    /// What is asked of the camera that a channel is, which the recorder calls so.
    ///
    /// # Panics
    ///
    /// When the port is 0.
    pub fn camera(&self, channel: u32, name: &str, rtsp_port: u16) -> CameraSpec {
        let host = self.url.host().expect("a recorder is reached over a network");
        let url = format!("rtsp://{host}:{rtsp_port}/Streaming/Channels/{channel}{:02}", self.stream.number());
        CameraSpec {
            name: camera::printable_name(name),
            url: SourceUrl::parse(&url).expect("its host was in a URL, and the rest is numbers"),
            user: Some(self.user.clone()),
            password: self.password.clone(),
            tls: None,
            transport: self.transport,
            engine: self.engine,
            repeat: false,
            pace: Pace::default(),
            sampling: self.sampling,
            damaged: self.damaged,
            jpeg_quality: self.jpeg_quality,
            max_width: self.max_width,
            destination: self.destination.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<NvrSpec, Vec<FieldProblem>> {
        serde_json::from_str::<RawNvrSpec>(json).unwrap().validate(None)
    }

    #[test]
    fn a_url_and_a_login_are_enough_and_the_password_is_not_shown() {
        let spec = read(r#"{"url":"http://10.0.0.5","username":"admin","password":"s3cret"}"#).unwrap();
        let shown = serde_json::to_string(&spec).unwrap();
        let expected = r#"{"url":"http://10.0.0.5/","user":"admin","channels":"all","stream":"main","transport":"tcp","sampling":"all","jpeg_quality":85}"#;
        assert_eq!(shown, expected);
        assert!(!format!("{spec:?}").contains("s3cret"));
        let again = serde_json::from_str::<RawNvrSpec>(&shown).unwrap().validate(Some(&spec)).unwrap();
        assert!(again.same_as(&spec));
    }

    #[test]
    fn every_problem_is_named_with_its_field_and_no_secret() {
        for (json, fields) in [
            (r#"{"url":"rtsp://h/","user":"u"}"#, vec!["url"]),
            (r#"{"url":"http://h/ISAPI","user":"u"}"#, vec!["url"]),
            (r#"{"url":"http://h/?a","user":"u"}"#, vec!["url"]),
            (r#"{"url":"http://h","tls":"unverified"}"#, vec!["tls", "user"]),
            (r#"{"url":"http://admin:s3cret@h","user":"u","password":"s3cret\u0007"}"#, vec!["url", "password"]),
            (r#"{"url":"http://h","user":"u","channels":[]}"#, vec!["channels"]),
            (r#"{"url":"http://h","user":"u","channels":[0,1]}"#, vec!["channels"]),
            (r#"{"url":"http://h","user":"u","channels":[10000]}"#, vec!["channels"]),
            (
                r#"{"url":"http://h","user":"u","name":" ","sampling":{"fps":0},"destination":"No"}"#,
                vec!["name", "sampling.fps", "destination"],
            ),
        ] {
            let problems = read(json).unwrap_err();
            assert_eq!(problems.iter().map(|p| p.field.as_ref()).collect::<Vec<_>>(), fields, "{json}");
            assert!(!format!("{problems:?}").contains("s3cret"), "{problems:?}");
        }
        let many: Vec<String> = (1..=257).map(|n: u32| n.to_string()).collect();
        assert!(read(&format!(r#"{{"url":"http://h","user":"u","channels":[{}]}}"#, many.join(","))).is_err());
    }

    #[test]
    fn channels_become_cameras_with_what_the_recorder_has() {
        let id: NvrId = "hall".parse().unwrap();
        assert_eq!((id.camera(1).as_str(), id.camera(9_999).as_str()), ("hall-ch01", "hall-ch9999"));
        let longest: NvrId = "x".repeat(MAX_ID_BYTES).parse().unwrap();
        assert_eq!(longest.camera(9_999).as_str().len(), 63);
        assert!("x".repeat(MAX_ID_BYTES + 1).parse::<NvrId>().is_err());
        let json = r#"{"url":"https://[2001:db8::1]:8443","tls":"unverified","user":"u","password":"p","channels":[1,3],
            "stream":"sub","sampling":{"fps":2.5},"jpeg_quality":70,"destination":"nas"}"#;
        let spec = read(json).unwrap();
        assert!(spec.channels.contains(3) && !spec.channels.contains(2));
        let camera = spec.camera(3, " Gate\u{202e} ", 554);
        assert_eq!(camera.url.as_str(), "rtsp://[2001:db8::1]:554/Streaming/Channels/302");
        assert_eq!((camera.name.as_deref(), camera.user.as_deref()), (Some(" Gate "), Some("u")));
        assert_eq!((camera.jpeg_quality, camera.destination.as_str()), (70, "nas"));
        assert_eq!(spec.camera(1, "\u{202e}", 554).name, None);
        // What the catalog keeps of it is taken again.
        let kept = serde_json::to_string(&camera).unwrap();
        assert!(serde_json::from_str::<RawCameraSpec>(&kept).unwrap().validate(None).is_ok());
    }

    #[test]
    fn a_password_left_out_is_kept_for_the_same_user_and_server_only() {
        let before = read(r#"{"url":"http://h","user":"u","password":"s3cret"}"#).unwrap();
        let kept = |json: &str| {
            serde_json::from_str::<RawNvrSpec>(json).unwrap().validate(Some(&before)).unwrap().password.is_some()
        };
        assert!(kept(r#"{"url":"http://h:80/","user":"u","channels":[1]}"#));
        assert!(!kept(r#"{"url":"http://h","user":"u","password":null}"#));
        assert!(!kept(r#"{"url":"http://h","user":"v"}"#));
        assert!(!kept(r#"{"url":"http://evil","user":"u"}"#));
        assert!(!kept(r#"{"url":"https://h","user":"u"}"#));
    }
}
