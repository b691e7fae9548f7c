//! What a user asks of a camera.

use std::borrow::Cow;
use std::num::NonZeroU32;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use url::{Host, Url};

/// The schemes a camera's URL may have.
const SCHEMES: [&str; 1] = ["rtsp"];
const MAX_URL_BYTES: usize = 2_048;
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
}

/// A camera as it is written in a request: any text, nothing checked but the shape. Unknown fields are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCameraSpec {
    url: String,
    #[serde(default)]
    user: Option<String>,
    /// Left out: the password stays as it is. `null`: there is none.
    #[serde(default, deserialize_with = "present")]
    password: Option<Option<SecretString>>,
    #[serde(default)]
    transport: Transport,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default)]
    jpeg_quality: Option<u8>,
    #[serde(default)]
    max_width: Option<u32>,
}

/// Tells a field that is `null` from one that is left out.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<SecretString>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A validated camera: what is here can be handed to a capture process as it is.
///
/// Its serialised form is what the catalog keeps and the API shows; the password is never part of it.
#[derive(Clone, Debug, Serialize)]
pub struct CameraSpec {
    /// Where the stream is, without credentials.
    pub url: String,
    /// The user to authenticate as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(skip)]
    pub password: Option<SecretString>,
    /// How RTP packets travel.
    pub transport: Transport,
    /// Which frames are wanted.
    pub sampling: Sampling,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// Wider pictures are scaled down to this width, pixels, keeping their shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u32>,
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
    fn new(field: &'static str, value: Option<&str>, detail: impl Into<String>) -> Self {
        let value = value.map(|v| v.chars().take(120).flat_map(char::escape_debug).collect());
        Self { field: field.into(), value, detail: detail.into() }
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
        let parsed = check_url(&self.url).map_err(|problem| problems.push(problem)).ok();
        if let Some(user) = &self.user {
            check_credential("user", user, Some(user), &mut problems);
        }
        let password = match self.password {
            Some(given) => given,
            None => before
                .filter(|b| b.user == self.user && authority(&b.url) == authority(&self.url))
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
        match parsed {
            Some(url) if problems.is_empty() => Ok(CameraSpec {
                url,
                user: self.user,
                password,
                transport: self.transport,
                sampling: self.sampling,
                jpeg_quality,
                max_width: self.max_width,
            }),
            _ => Err(problems),
        }
    }
}

impl CameraSpec {
    /// Whether both ask for the same, password included.
    pub fn same_as(&self, other: &Self) -> bool {
        fn bare(spec: &CameraSpec) -> Option<&str> {
            spec.password.as_ref().map(ExposeSecret::expose_secret)
        }
        self.url == other.url
            && self.user == other.user
            && bare(self) == bare(other)
            && self.transport == other.transport
            && self.sampling == other.sampling
            && self.jpeg_quality == other.jpeg_quality
            && self.max_width == other.max_width
    }
}

fn authority(url: &str) -> Option<(String, Option<u16>)> {
    let url = Url::parse(url).ok()?;
    Some((url.host_str()?.to_owned(), url.port()))
}

fn check_url(text: &str) -> Result<String, FieldProblem> {
    let shown = Some(text).filter(|text| !may_hold_credentials(text));
    let problem = |detail: String| Err(FieldProblem::new("url", shown, detail));
    if text.contains('@') {
        let detail =
            "must not hold credentials: put them into `user` and `password`, and write an `@` elsewhere as %40";
        return Err(FieldProblem::new("url", None, detail));
    }
    if text.len() > MAX_URL_BYTES {
        return problem(format!("is longer than {MAX_URL_BYTES} bytes"));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return problem(format!("holds the character `{}`: percent-encode it", bad.escape_debug()));
    }
    let Ok(url) = Url::parse(text) else {
        return problem("is not a URL: write rtsp://host[:port]/path".to_owned());
    };
    if !SCHEMES.contains(&url.scheme()) {
        return problem(format!("has the scheme `{}`: use {}", url.scheme(), SCHEMES.join(" or ")));
    }
    if url.host_str().is_none_or(|host| Host::parse(host).is_err()) {
        return problem("names no valid host: write rtsp://host[:port]/path".to_owned());
    }
    if url.port() == Some(0) {
        return problem("has port 0: leave the port out for 554, or name the camera's".to_owned());
    }
    Ok(url.into())
}

/// Whether a password may stand in a URL that cannot be used, so that no message may repeat it: before an `@`, before one
/// that was percent-encoded, or where the port belongs.
fn may_hold_credentials(url: &str) -> bool {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let authority = rest.unwrap_or(url).split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').filter(|_| rest.is_some() && !authority.starts_with('['));
    url.contains('@') || authority.contains('%') || port.is_some_and(|(_, port)| port.contains(char::is_alphabetic))
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
        let text = r#"{"url":"rtsp://h:8554/a?b=c","user":"u","password":"s3cret","transport":"udp","sampling":{"fps":2.5},"jpeg_quality":70,"max_width":640}"#;
        let spec = read(text).unwrap();
        let shown = serde_json::to_string(&spec).unwrap();
        assert_eq!(shown, text.replace(r#""password":"s3cret","#, ""));
        assert!(!format!("{spec:?}").contains("s3cret"));
    }

    #[test]
    fn every_problem_is_reported_with_its_field() {
        let problems =
            read(r#"{"url":"file:///etc/passwd","password":"x","sampling":{"fps":0},"jpeg_quality":0,"max_width":1}"#)
                .unwrap_err();
        let fields: Vec<_> = problems.iter().map(|p| p.field.as_ref()).collect();
        assert_eq!(fields, ["url", "user", "sampling.fps", "jpeg_quality", "max_width"]);
    }

    #[test]
    fn hostile_urls_are_refused() {
        for url in [
            "exec:ls",
            "concat:a|b",
            "http://169.254.169.254/",
            "rtsp:///nohost",
            "rtsp://",
            "rtsp:path",
            "rtsp://h o/",
            "rtsp://h/\u{202e}x",
            "rtsp://h/\0",
            "rtsp://h:0/",
            "rtsp://[::1/",
            "",
            &format!("rtsp://h/{}", "x".repeat(3_000)),
        ] {
            let body = serde_json::json!({ "url": url }).to_string();
            let problems = read(&body).expect_err(url);
            assert_eq!(problems[0].field, "url");
        }
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
        assert!(!again(r#"{"url":"rtsp://h/a","user":"v"}"#));
        assert!(!again(r#"{"url":"rtsp://evil/a","user":"u"}"#));
    }
}
