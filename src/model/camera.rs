//! What a user asks of a camera.

use std::borrow::Cow;
use std::num::NonZeroU32;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::source::{SourceKind, SourceUrl, may_hold_credentials};
use super::{Damaged, DestinationName, Engine, InvalidDestinationName, Program, is_plain};

const MAX_NAME_CHARS: usize = 200;
const MAX_CREDENTIAL_BYTES: usize = 256;
const MAX_FPS: f64 = 240.0;
const MIN_FPS: f64 = 0.001;
const MAX_WIDTH: u32 = 16_384;
const DEFAULT_QUALITY: u8 = 85;

/// How RTP packets travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326, section 10.12): nothing is lost on the way.
    #[default]
    Tcp,
    /// In datagrams of their own: lower latency, and losses are possible.
    Udp,
}

/// What is asked of a server's certificate. Without a word it is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Nothing: whoever sits in between can read and change what is sent, the password too.
    Unverified,
}

/// How fast a file plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pace {
    /// As a camera would: by its presentation times.
    #[default]
    Realtime,
    /// As fast as it can be read and stored; nothing is lost for want of speed.
    Unpaced,
}

/// Which frames of the stream become objects.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Every frame.
    #[default]
    All,
    /// So many frames a second of presentation time, without drift.
    Fps(f64),
    /// Every n-th frame.
    Every(NonZeroU32),
    /// Key frames, which need no other picture to be decoded, and nothing else.
    Keyframes,
}

/// A camera as it is written in a request: any text, nothing checked but the shape. Unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCameraSpec {
    #[serde(default)]
    pub(super) name: Option<String>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) user: Option<String>,
    /// Left out: the password stays as it is. `null`: there is none.
    #[serde(default, deserialize_with = "present")]
    pub(super) password: Option<Option<SecretString>>,
    #[serde(default)]
    pub(super) tls: Option<Tls>,
    #[serde(default)]
    pub(super) transport: Transport,
    #[serde(default)]
    pub(super) engine: Engine,
    #[serde(default, rename = "loop")]
    pub(super) repeat: bool,
    #[serde(default)]
    pub(super) pace: Pace,
    #[serde(default)]
    pub(super) sampling: Sampling,
    #[serde(default)]
    pub(super) damaged: Damaged,
    #[serde(default)]
    pub(super) jpeg_quality: Option<u8>,
    #[serde(default)]
    pub(super) max_width: Option<u32>,
    #[serde(default)]
    pub(super) destination: Option<String>,
}

/// Tells a field that is `null` from one that is left out.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<SecretString>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A validated camera: what is here can be handed to a capture process as it is.
///
/// Its serialised form is what the catalog keeps and the API shows; the password is never part of it.
#[derive(Clone, Debug, Serialize)]
pub struct CameraSpec {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the stream is, without credentials.
    #[serde(serialize_with = "as_text")]
    pub url: SourceUrl,
    /// The user to authenticate as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(skip)]
    pub password: Option<SecretString>,
    /// What is asked of the server's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How RTP packets travel.
    pub transport: Transport,
    /// What reads the stream.
    #[serde(skip_serializing_if = "is_default")]
    pub engine: Engine,
    /// Whether a file begins again at its end.
    #[serde(rename = "loop", skip_serializing_if = "is_default")]
    pub repeat: bool,
    /// How fast a file plays.
    #[serde(skip_serializing_if = "is_default")]
    pub pace: Pace,
    /// Which frames are wanted.
    pub sampling: Sampling,
    /// What becomes of damaged pictures.
    #[serde(skip_serializing_if = "is_default")]
    pub damaged: Damaged,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// Wider pictures are scaled down to this width, pixels, keeping their shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
    /// Where its frames go.
    #[serde(skip_serializing_if = "is_default")]
    pub destination: DestinationName,
}

pub(super) fn as_text<S: serde::Serializer>(url: &SourceUrl, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_str())
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Who may change a camera.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagedBy {
    /// The file of cameras that the configuration names.
    File,
    /// Requests.
    #[default]
    Api,
    /// The batch that it is.
    Batch,
    /// The recorder whose channel it is.
    Nvr,
}

impl ManagedBy {
    /// The word for it in the catalog and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Api => "api",
            Self::Batch => "batch",
            Self::Nvr => "nvr",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::File, Self::Api, Self::Batch, Self::Nvr].into_iter().find(|managed_by| managed_by.as_str() == word)
    }
}

/// What is wrong with one field of a request, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldProblem {
    /// The field as the user wrote it.
    pub field: Cow<'static, str>,
    /// The value found; left out where it may hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong and what to write instead.
    pub detail: String,
}

impl FieldProblem {
    /// A problem with a field; the value is shown shortened and with everything odd in it escaped.
    pub fn new(field: &'static str, value: Option<&str>, detail: impl Into<String>) -> Self {
        let value = value.map(|v| v.chars().take(120).flat_map(char::escape_debug).collect());
        Self { field: field.into(), value, detail: detail.into() }
    }

    /// The same problem, where the request holds more than one camera.
    pub fn within(self, place: &str) -> Self {
        Self { field: format!("{place}.{}", self.field).into(), ..self }
    }
}

impl RawCameraSpec {
    /// Checks every field. `before` is the camera's spec so far, from which a password that was left out is kept: it
    /// cannot be read back, so a client could not send it again. It is kept only for the same user at the same host,
    /// lest a changed URL lure it to someone else's server.
    ///
    /// # Errors
    ///
    /// All problems found, not only the first.
    pub fn validate(self, before: Option<&CameraSpec>) -> Result<CameraSpec, Vec<FieldProblem>> {
        let mut problems = Vec::new();
        let shown = Some(self.url.as_str()).filter(|text| !may_hold_credentials(text));
        let parsed = SourceUrl::parse(&self.url);
        let parsed = parsed.map_err(|detail| problems.push(FieldProblem::new("url", shown, detail))).ok();
        if let Some(kind) = parsed.as_ref().map(SourceUrl::kind) {
            self.check_kind(kind, &mut problems);
        }
        if let Some(name) = &self.name
            && (name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(is_unprintable))
        {
            let detail = format!("must be 1 to {MAX_NAME_CHARS} printable characters");
            problems.push(FieldProblem::new("name", Some(name), detail));
        }
        if let Some(user) = &self.user {
            check_credential("user", user, Some(user), &mut problems);
        }
        let password = match self.password {
            Some(given) => given,
            None => before
                .filter(|b| b.user == self.user && b.tls == self.tls)
                .filter(|b| parsed.as_ref().is_some_and(|url| same_server(url, &b.url)))
                .and_then(|b| b.password.clone()),
        };
        if let Some(password) = &password {
            check_credential("password", password.expose_secret(), None, &mut problems);
            if self.user.is_none() {
                problems.push(FieldProblem::new("user", None, "is missing: a password needs a user"));
            }
        }
        if let Sampling::Fps(fps) = self.sampling
            && !(MIN_FPS..=MAX_FPS).contains(&fps)
        {
            let detail = format!("must lie between {MIN_FPS} and {MAX_FPS} frames a second");
            problems.push(FieldProblem::new("sampling.fps", Some(&fps.to_string()), detail));
        }
        let jpeg_quality = self.jpeg_quality.unwrap_or(DEFAULT_QUALITY);
        if !(1..=100).contains(&jpeg_quality) {
            problems.push(FieldProblem::new(
                "jpeg_quality",
                Some(&jpeg_quality.to_string()),
                "must lie between 1 and 100; 85 is a good start",
            ));
        }
        if let Some(width) = self.max_width.filter(|w| !(16..=MAX_WIDTH).contains(w)) {
            let detail = format!("must lie between 16 and {MAX_WIDTH} pixels");
            problems.push(FieldProblem::new("max_width", Some(&width.to_string()), detail));
        }
        let destination = match self.destination.as_deref().map(str::parse) {
            None => Some(DestinationName::default()),
            Some(Ok(name)) => Some(name),
            Some(Err(error)) => {
                let error: InvalidDestinationName = error;
                let shown = self.destination.as_deref().filter(|text| is_plain(text));
                problems.push(FieldProblem::new("destination", shown, error.to_string()));
                None
            }
        };
        match parsed.zip(destination) {
            Some((url, destination)) if problems.is_empty() => Ok(CameraSpec {
                name: self.name,
                url,
                user: self.user,
                password,
                tls: self.tls,
                transport: self.transport,
                engine: self.engine,
                repeat: self.repeat,
                pace: self.pace,
                sampling: self.sampling,
                damaged: self.damaged,
                jpeg_quality,
                max_width: self.max_width,
                destination,
            }),
            _ => Err(problems),
        }
    }

    /// The URL as it is written.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What people call the camera.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// With this password, as if it had been written.
    pub fn with_password(self, password: Option<SecretString>) -> Self {
        Self { password: Some(password), ..self }
    }

    /// Fields that this kind of source does not know would do nothing, and whoever wrote them means something by them.
    fn check_kind(&self, kind: SourceKind, problems: &mut Vec<FieldProblem>) {
        let mut wrong = |field: &'static str, detail: &str| problems.push(FieldProblem::new(field, None, detail));
        match (kind, self.tls) {
            (SourceKind::Rtsps, None) => wrong(
                "tls",
                "is missing: certificates of rtsps:// cameras cannot be verified yet; write \"unverified\" to accept any",
            ),
            (SourceKind::Rtsps | SourceKind::Https, _) | (_, None) => {}
            (_, Some(_)) => wrong("tls", "has a meaning with rtsps:// and https:// only: leave it out"),
        }
        if !kind.is_network() && self.user.is_some() {
            wrong("user", "has no meaning for a file or a device: leave it out");
        }
        if !kind.is_rtsp() && self.transport != Transport::default() {
            wrong("transport", "has a meaning with rtsp:// only: leave it out");
        }
        if kind != SourceKind::File {
            if self.repeat {
                wrong("loop", "has a meaning with file:// only: leave it out");
            }
            if self.pace != Pace::default() {
                wrong("pace", "has a meaning with file:// only: leave it out");
            }
        }
        if kind == SourceKind::V4l2 && self.engine == Engine::Ffmpeg {
            wrong("engine", "`ffmpeg` reads no device: leave it out, or write \"opencv\"");
        } else if self.engine.program(kind, self.sampling, self.damaged) == Program::Opencv {
            let why = match kind {
                SourceKind::V4l2 => "devices are read by OpenCV, which does not tell",
                _ => "OpenCV does not tell",
            };
            if self.sampling == Sampling::Keyframes {
                wrong("sampling", &format!("cannot be \"keyframes\": {why} which frames are"));
            }
            if self.damaged == Damaged::Mark {
                wrong("damaged", &format!("cannot be \"mark\": {why} which pictures are damaged"));
            }
        }
    }
}

impl CameraSpec {
    /// Whether both ask for the same, password included.
    pub fn same_as(&self, other: &Self) -> bool {
        self.name == other.name && self.captures_as(other)
    }

    /// Whether a change from one to the other leaves a running capture as it is. Where its frames go belongs to that: all
    /// of a session go the same way.
    pub fn captures_as(&self, other: &Self) -> bool {
        self.url == other.url
            && self.same_login(other)
            && self.tls == other.tls
            && self.transport == other.transport
            && self.engine == other.engine
            && self.repeat == other.repeat
            && self.pace == other.pace
            && self.sampling == other.sampling
            && self.damaged == other.damaged
            && self.jpeg_quality == other.jpeg_quality
            && self.max_width == other.max_width
            && self.destination == other.destination
    }

    /// The program that captures it.
    pub fn program(&self) -> Program {
        self.engine.program(self.url.kind(), self.sampling, self.damaged)
    }

    /// Whether user and password are the same.
    pub fn same_login(&self, other: &Self) -> bool {
        fn bare(spec: &CameraSpec) -> Option<&str> {
            spec.password.as_ref().map(ExposeSecret::expose_secret)
        }
        self.user == other.user && bare(self) == bare(other)
    }
}

pub(super) fn same_server(a: &SourceUrl, b: &SourceUrl) -> bool {
    (a.kind(), a.host(), a.port()) == (b.kind(), b.host(), b.port())
}

/// What another device calls a camera, as far as it can be a name: without what cannot be printed, and not endless;
/// `None` where nothing is left.
pub(super) fn printable_name(text: &str) -> Option<String> {
    let name: String = text.chars().filter(|c| !is_unprintable(*c)).take(MAX_NAME_CHARS).collect();
    Some(name).filter(|name| !name.trim().is_empty())
}

/// Control characters, and those that turn the direction of text, end a line or do not show: a name must look like what
/// it is.
fn is_unprintable(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() || matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}')
}

fn check_credential(field: &'static str, value: &str, shown: Option<&str>, problems: &mut Vec<FieldProblem>) {
    if value.is_empty() || value.len() > MAX_CREDENTIAL_BYTES {
        let detail = format!("must be 1 to {MAX_CREDENTIAL_BYTES} bytes long");
        problems.push(FieldProblem::new(field, shown, detail));
    } else if value.chars().any(char::is_control) {
        problems.push(FieldProblem::new(field, shown, "must not hold control characters"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<CameraSpec, Vec<FieldProblem>> {
        serde_json::from_str::<RawCameraSpec>(json).unwrap().validate(None)
    }

    #[test]
    fn a_url_is_enough() {
        let spec = read(r#"{"url":"rtsp://10.0.0.9/main"}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&spec).unwrap(),
            r#"{"url":"rtsp://10.0.0.9/main","transport":"tcp","sampling":"all","jpeg_quality":85}"#
        );
    }

    #[test]
    fn what_is_written_reads_back_without_the_password() {
        let text = r#"{"url":"rtsp://h:8554/a?b=c","user":"u","password":"s3cret","transport":"udp","engine":"ffmpeg","sampling":{"fps":2.5},"jpeg_quality":70,"max_width":640,"destination":"nas"}"#;
        let spec = read(text).unwrap();
        let shown = serde_json::to_string(&spec).unwrap();
        assert_eq!(shown, text.replace(r#""password":"s3cret","#, ""));
        assert!(!format!("{spec:?}").contains("s3cret"));
    }

    #[test]
    fn every_problem_is_reported_with_its_field() {
        let problems = read(r#"{"url":"exec:ls","password":"x","sampling":{"fps":0},"jpeg_quality":0,"max_width":1}"#)
            .unwrap_err();
        let fields: Vec<_> = problems.iter().map(|p| p.field.as_ref()).collect();
        assert_eq!(fields, ["url", "user", "sampling.fps", "jpeg_quality", "max_width"]);
    }

    #[test]
    fn fields_that_a_source_does_not_know_are_refused() {
        for (json, fields) in [
            (r#"{"url":"rtsps://h/a"}"#, vec!["tls"]),
            (r#"{"url":"rtsp://h/a","tls":"unverified"}"#, vec!["tls"]),
            (r#"{"url":"rtsp://h/a","loop":true,"pace":"unpaced"}"#, vec!["loop", "pace"]),
            (r#"{"url":"http://h/a","transport":"udp"}"#, vec!["transport"]),
            (r#"{"url":"file:///a.mp4","user":"u"}"#, vec!["user"]),
            (r#"{"url":"rtsp://h/a","name":"a\u202eb"}"#, vec!["name"]),
            (r#"{"url":"rtsp://h/a","engine":"opencv","sampling":"keyframes"}"#, vec!["sampling"]),
            (r#"{"url":"rtsp://h/a","engine":"opencv","damaged":"mark"}"#, vec!["damaged"]),
            (r#"{"url":"v4l2:/dev/video0","sampling":"keyframes","damaged":"mark"}"#, vec!["sampling", "damaged"]),
            (r#"{"url":"v4l2:/dev/video0","engine":"ffmpeg"}"#, vec!["engine"]),
        ] {
            let problems = read(json).unwrap_err();
            assert_eq!(problems.iter().map(|p| p.field.as_ref()).collect::<Vec<_>>(), fields, "{json}");
        }
        for json in [
            r#"{"url":"rtsps://h/a","tls":"unverified"}"#,
            r#"{"url":"https://h/a"}"#,
            r#"{"url":"file:///a.mp4","loop":true,"pace":"unpaced"}"#,
            r#"{"url":"rtsp://h/a","sampling":"keyframes"}"#,
            r#"{"url":"rtsp://h/a","damaged":"mark"}"#,
            r#"{"url":"http://h/a","engine":"ffmpeg"}"#,
            r#"{"url":"v4l2:/dev/video0","engine":"opencv"}"#,
        ] {
            read(json).unwrap();
        }
    }

    #[test]
    fn a_new_name_leaves_the_capture_as_it_is() {
        let spec = read(r#"{"url":"rtsp://h/a"}"#).unwrap();
        let named = read(r#"{"url":"rtsp://h/a","name":"Gate 3"}"#).unwrap();
        assert!(!spec.same_as(&named) && spec.captures_as(&named));
        for other in [
            r#"{"url":"rtsp://h/b"}"#,
            r#"{"url":"rtsp://h/a","engine":"opencv"}"#,
            r#"{"url":"rtsp://h/a","sampling":"keyframes"}"#,
            r#"{"url":"rtsp://h/a","damaged":"mark"}"#,
        ] {
            assert!(!spec.captures_as(&read(other).unwrap()), "{other}");
        }
    }

    #[test]
    fn frames_go_to_one_destination_in_a_session() {
        let spec = read(r#"{"url":"rtsp://h/a"}"#).unwrap();
        assert!(spec.captures_as(&read(r#"{"url":"rtsp://h/a","destination":"default"}"#).unwrap()));
        assert!(!spec.captures_as(&read(r#"{"url":"rtsp://h/a","destination":"nas"}"#).unwrap()));
        let problems = read(r#"{"url":"rtsp://h/a","destination":"p%40:/#w"}"#).unwrap_err();
        assert_eq!((problems[0].field.as_ref(), &problems[0].value), ("destination", &None));
    }

    #[test]
    fn credentials_in_a_url_are_refused_and_not_repeated() {
        let problems = read(r#"{"url":"rtsp://u:s3cret@h/a"}"#).unwrap_err();
        assert!(problems[0].detail.contains("`user` and `password`"));
        for url in
            ["rtsp://u:s3cret@h/a", "rtsp://u:s3cret%40h/a", "rtsp://u:s3cret/a", "http://u:s3cret@h/", "s3cret%23"]
        {
            let problems = read(&serde_json::json!({ "url": url }).to_string()).unwrap_err();
            assert!(!format!("{problems:?}").contains("s3cret"), "{problems:?}");
        }
        let problems = read(r#"{"url":"rtsp://h:65536/a"}"#).unwrap_err();
        assert_eq!(problems[0].value.as_deref(), Some("rtsp://h:65536/a"));
    }

    #[test]
    fn a_password_left_out_is_kept_for_the_same_user_and_host_only() {
        let before = read(r#"{"url":"rtsp://h/a","user":"u","password":"s3cret"}"#).unwrap();
        let again = |json: &str| {
            serde_json::from_str::<RawCameraSpec>(json).unwrap().validate(Some(&before)).unwrap().password.is_some()
        };
        assert!(again(r#"{"url":"rtsp://h/b","user":"u"}"#));
        assert!(!again(r#"{"url":"rtsp://h/a","user":"u","password":null}"#));
        // Whoever does not know the password must not have it sent where anybody can read it.
        let verified = read(r#"{"url":"https://h/a","user":"u","password":"s3cret"}"#).unwrap();
        let loose: RawCameraSpec =
            serde_json::from_str(r#"{"url":"https://h/a","user":"u","tls":"unverified"}"#).unwrap();
        assert!(loose.validate(Some(&verified)).unwrap().password.is_none());
        assert!(!again(r#"{"url":"rtsp://h/a","user":"v"}"#));
        assert!(!again(r#"{"url":"rtsp://evil/a","user":"u"}"#));
    }
}
