//! A camera's spec as it is written on a command line.

use std::io::{IsTerminal as _, Read as _, stdin};
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use crate::cli::failure::{Failure, Kind};
use crate::cli::{Format, password};
use crate::model::{CameraId, DestinationName};

/// Where a stream is, and how it is opened.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Where its stream is, for example rtsp://10.0.0.9/main; without user and password.
    url: String,
    #[command(flatten)]
    open: OpenArgs,
}

/// How a stream is opened.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// The user to authenticate as.
    #[arg(long)]
    user: Option<String>,
    /// File with the user's password. A password on the command line could be seen by every user of the machine.
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
    /// Read the user's password from standard input.
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// How RTP packets travel: tcp or udp.
    #[arg(long, value_parser = ["tcp", "udp"])]
    transport: Option<String>,
    /// `unverified` accepts any certificate of the camera.
    #[arg(long, value_parser = ["unverified"])]
    tls: Option<String>,
    /// What reads it: auto, opencv or ffmpeg.
    #[arg(long, value_parser = ["auto", "opencv", "ffmpeg"])]
    engine: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AddArgs {
    /// What it is called in the API, in metrics and in objects' keys: a-z, 0-9, `_` and `-`.
    pub id: CameraId,
    #[command(flatten)]
    source: SourceArgs,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// Keep so many frames a second; without it, all.
    #[arg(long, value_name = "N", conflicts_with = "every")]
    fps: Option<f64>,
    /// Keep key frames only: nothing else is decoded.
    #[arg(long, conflicts_with_all = ["fps", "every"])]
    keyframes: bool,
    /// What becomes of damaged pictures: drop or mark.
    #[arg(long, value_parser = ["drop", "mark"])]
    damaged: Option<String>,
    /// Keep every n-th frame.
    #[arg(long, value_name = "N")]
    every: Option<NonZeroU32>,
    /// 1 to 100.
    #[arg(long, value_name = "N")]
    jpeg_quality: Option<u8>,
    /// Scale wider pictures down to this width.
    #[arg(long, value_name = "PIXELS")]
    max_width: Option<u32>,
    /// Where its frames go, where that is not [storage]: one of the configuration's [destinations].
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationName>,
    /// Begin a file again at its end.
    #[arg(long = "loop")]
    repeat: bool,
    /// How fast a file plays: realtime or unpaced.
    #[arg(long, value_parser = ["realtime", "unpaced"])]
    pace: Option<String>,
    /// Change the camera if it is there already.
    #[arg(long)]
    pub replace: bool,
    /// Say nothing, or print the API's own JSON.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

const EXAMPLES: &str = "Examples:
  framehaul camera add gate rtsp://10.0.0.9/main
  framehaul camera add gate rtsp://10.0.0.9/main --user viewer --password-file gate.password --fps 5
  pass show gate | framehaul camera add gate rtsp://10.0.0.9/main --user viewer --password-stdin
  framehaul camera add clip file:///srv/clips/gate.mp4 --loop --every 10 --max-width 640";

impl SourceArgs {
    /// The fields that were given.
    pub fn body(&self) -> Result<Map<String, Value>, Failure> {
        self.open.body(&self.url)
    }
}

impl OpenArgs {
    /// The fields that were given, and the URL.
    pub fn body(&self, url: &str) -> Result<Map<String, Value>, Failure> {
        if url.contains('@') {
            let detail = "the URL holds an `@`: credentials do not belong there, use --user and --password-file (and change a \
                          password that stood there: every user of the machine could see it); write an `@` elsewhere as %40";
            return Err(Failure::new(Kind::Usage, detail));
        }
        let mut body = Map::new();
        body.insert("url".to_owned(), json!(url));
        let texts =
            [("user", &self.user), ("transport", &self.transport), ("tls", &self.tls), ("engine", &self.engine)];
        for (field, value) in texts {
            if let Some(value) = value {
                body.insert(field.to_owned(), json!(value));
            }
        }
        if let Some(password) = self.password()? {
            body.insert("password".to_owned(), json!(password.expose_secret()));
        }
        Ok(body)
    }

    /// Whether the password is to be read from standard input.
    pub fn wants_standard_input(&self) -> bool {
        self.password_stdin
    }

    fn password(&self) -> Result<Option<SecretString>, Failure> {
        if let Some(file) = &self.password_file {
            return password::of_file(file).map(Some);
        }
        if !self.password_stdin {
            return Ok(None);
        }
        if stdin().is_terminal() {
            let detail = "--password-stdin would show the password here: pipe it in, or use --password-file";
            return Err(Failure::new(Kind::Usage, detail));
        }
        let mut text = String::new();
        let read = stdin().read_to_string(&mut text);
        read.map_err(|error| Failure::new(Kind::Usage, format!("cannot read the password: {error}")))?;
        password::of_text(text).map(Some)
    }
}

impl AddArgs {
    /// The camera as the API takes it. What was not given is left out, and so has its default.
    pub fn body(&self) -> Result<Value, Failure> {
        let mut body = self.source.body()?;
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(field.to_owned(), value);
            }
        };
        set("name", self.name.as_ref().map(|name| json!(name)));
        set("sampling", self.fps.map(|fps| json!({ "fps": fps })));
        set("sampling", self.every.map(|every| json!({ "every": every })));
        set("sampling", self.keyframes.then(|| json!("keyframes")));
        set("damaged", self.damaged.as_ref().map(|damaged| json!(damaged)));
        set("jpeg_quality", self.jpeg_quality.map(Value::from));
        set("max_width", self.max_width.map(Value::from));
        set("loop", self.repeat.then_some(Value::Bool(true)));
        set("destination", self.destination.as_ref().map(|name| json!(name)));
        set("pace", self.pace.as_ref().map(|pace| json!(pace)));
        Ok(Value::Object(body))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        add: AddArgs,
    }

    fn body(line: &str) -> Option<Value> {
        let line = Line::try_parse_from(["add"].into_iter().chain(line.split_whitespace())).ok()?;
        line.add.body().ok()
    }

    #[test]
    fn only_what_is_given_is_sent() {
        assert_eq!(body("gate rtsp://h/a"), Some(json!({ "url": "rtsp://h/a" })));
        let line = "gate rtsps://h/a --name Gate --user u --every 3 --transport udp --jpeg-quality 70 --max-width 640 \
                    --tls unverified --loop --pace unpaced --destination nas --engine opencv --damaged drop";
        let all = json!({
            "url": "rtsps://h/a", "name": "Gate", "user": "u", "sampling": { "every": 3 }, "transport": "udp",
            "jpeg_quality": 70, "max_width": 640, "tls": "unverified", "loop": true, "pace": "unpaced",
            "destination": "nas", "engine": "opencv", "damaged": "drop",
        });
        assert_eq!(body(line), Some(all));
        assert_eq!(body("gate rtsp://h/a --fps 2.5").unwrap()["sampling"], json!({ "fps": 2.5 }));
        assert_eq!(body("gate rtsp://h/a --keyframes").unwrap()["sampling"], json!("keyframes"));
        for wrong in [
            "gate",
            "GATE rtsp://h/a",
            "gate rtsp://h/a --fps 1 --every 2",
            "gate rtsp://h/a --fps 1 --keyframes",
            "gate rtsp://h/a --every 0",
        ] {
            assert_eq!(body(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_and_never_from_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("gate rtsp://h/a --user u --password-file {}", file.path().display());
        for (text, password) in
            [("p%40:/#w\n", Some("p%40:/#w")), (" x\r\n", Some(" x")), ("x\n\n", Some("x\n")), ("\n", None)]
        {
            std::fs::write(file.path(), text).unwrap();
            let sent = body(&line).map(|body| body["password"].clone());
            assert_eq!(sent, password.map(Value::from), "{text:?}");
        }
        for wrong in ["gate rtsp://h/a --password x", "gate rtsp://u:x@h/a", "gate rtsp://h/a --password-stdin"] {
            assert_eq!(body(wrong), None, "{wrong}");
        }
    }
}
