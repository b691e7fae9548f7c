//! What a camera is asked to be.

use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::clip::{self, ClipSpec, Codec};
use crate::mark::crc16;

/// How a camera with a login asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Challenge {
    /// RFC 7616, with MD5 as cameras have it.
    #[default]
    Digest,
    /// RFC 7617. Only over HTTP.
    Basic,
}

/// One camera: its mount, its pictures and its login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraSpec {
    /// Name of the mount, the path of its URL: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The number in its pictures. From the name unless set.
    pub number: u16,
    /// Picture width in pixels, even.
    pub width: u32,
    /// Picture height in pixels, even.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
    /// Frames from one key frame to the next. Of no meaning where each picture is one.
    pub gop: u32,
    /// How its pictures are compressed.
    pub codec: Codec,
    /// User and password; nobody is asked without.
    pub login: Option<(String, String)>,
    /// How it asks for them.
    pub challenge: Challenge,
    /// Least length of the clip in seconds.
    pub clip_seconds: u32,
    /// Thousands of bits a second, where its clip is to be a [`Film`](crate::clip::Film): as costly to decode as a camera's
    /// stream is.
    pub kbits: Option<u32>,
}

impl CameraSpec {
    /// A camera without a login, H.264 of 640x480 at 25 frames per second, a key frame every 25 frames.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            number: crc16(name.as_bytes()),
            width: 640,
            height: 480,
            fps: 25,
            gop: 25,
            codec: Codec::H264,
            login: None,
            challenge: Challenge::Digest,
            clip_seconds: clip::DEFAULT_SECONDS,
            kbits: None,
        }
    }

    /// With pictures of `width` x `height` pixels.
    pub fn size(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    /// With `fps` frames per second and a key frame every `gop` frames.
    pub fn rate(self, fps: u32, gop: u32) -> Self {
        Self { fps, gop, ..self }
    }

    /// With its pictures compressed another way.
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// With a film of so many thousand bits a second in the place of a clip, at least `seconds` long.
    pub fn film(self, kbits: u32, seconds: u32) -> Self {
        Self { kbits: Some(kbits), clip_seconds: seconds, ..self }
    }

    /// With digest authentication.
    pub fn login(self, user: &str, password: &str) -> Self {
        Self { login: Some((user.to_owned(), password.to_owned())), ..self }
    }

    /// With basic authentication.
    pub fn basic_login(self, user: &str, password: &str) -> Self {
        Self { challenge: Challenge::Basic, ..self.login(user, password) }
    }

    /// Puts the login into what a PUT says that adds the camera to framehaul.
    pub(super) fn request(&self, url: String) -> Value {
        let mut body = json!({ "url": url });
        if let Some((user, password)) = &self.login {
            body["user"] = json!(user);
            body["password"] = json!(password);
        }
        body
    }

    /// The clip it plays.
    pub(crate) fn clip(&self) -> ClipSpec {
        ClipSpec {
            camera: self.number,
            width: self.width,
            height: self.height,
            fps: self.fps,
            gop: if self.codec == Codec::Mjpeg { 1 } else { self.gop },
            codec: self.codec,
            seconds: self.clip_seconds,
        }
    }
}

impl FromStr for CameraSpec {
    type Err = anyhow::Error;

    /// Reads `name=a,codec=h265,size=1920x1080,fps=25,gop=25,user=u,password=p,auth=basic,number=7,seconds=64`; all but
    /// the name may be left out, and a GOP is one second then.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut spec = Self::new("");
        let (mut gop, mut number, mut user, mut password) = (None, None, None, None);
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').with_context(|| format!("camera setting `{part}` is not key=value"))?;
            let number_of = |value: &str| {
                value.parse::<u32>().with_context(|| format!("camera setting `{key}={value}` is not a number"))
            };
            match key {
                "name" => value.clone_into(&mut spec.name),
                "size" => {
                    let (width, height) = value
                        .split_once('x')
                        .with_context(|| format!("camera setting `{part}` is not WIDTHxHEIGHT"))?;
                    (spec.width, spec.height) = (number_of(width)?, number_of(height)?);
                }
                "codec" => spec.codec = value.parse()?,
                "auth" => {
                    spec.challenge = match value {
                        "digest" => Challenge::Digest,
                        "basic" => Challenge::Basic,
                        _ => bail!("camera setting `{part}` is neither digest nor basic"),
                    }
                }
                "fps" => spec.fps = number_of(value)?,
                "gop" => gop = Some(number_of(value)?),
                "seconds" => spec.clip_seconds = number_of(value)?,
                "number" => {
                    number = Some(value.parse().with_context(|| format!("camera setting `{part}` is not 0 to 65535"))?)
                }
                "user" => user = Some(value.to_owned()),
                "password" => password = Some(value.to_owned()),
                _ => bail!(
                    "unknown camera setting `{key}`: known are name, codec, size, fps, gop, user, password, auth, number, seconds"
                ),
            }
        }
        spec.gop = gop.unwrap_or(spec.fps);
        spec.number = number.unwrap_or_else(|| crc16(spec.name.as_bytes()));
        spec.login = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => bail!("camera `{}` has only one of user and password: give both or none", spec.name),
        };
        Ok(spec)
    }
}

/// Finds what would make a server of these cameras impossible or ambiguous.
pub(super) fn validate(specs: &[CameraSpec]) -> anyhow::Result<()> {
    ensure!(!specs.is_empty(), "no camera given");
    for (index, spec) in specs.iter().enumerate() {
        let name = &spec.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            !name.is_empty() && name.chars().all(plain),
            "camera name `{name}` must be letters, digits, `-`, `_` or `.`, at least one"
        );
        spec.clip().frames().with_context(|| format!("camera `{name}`"))?;
        for other in &specs[..index] {
            ensure!(other.name != *name, "two cameras are named `{name}`");
            ensure!(
                other.number != spec.number,
                "cameras `{}` and `{name}` have the same number {}: set one with number=",
                other.name,
                spec.number
            );
            if let (Some((user, password)), Some((other_user, other_password))) = (&spec.login, &other.login) {
                ensure!(
                    user != other_user || password == other_password,
                    "user `{user}` has two passwords, for cameras `{}` and `{name}`: the server keeps one per user",
                    other.name
                );
            }
        }
    }
    Ok(())
}
