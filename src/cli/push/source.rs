//! What `framehaul push` is to read, from what was written.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::PushArgs;
use crate::capture::{Deadlines, Launcher, Reach};
use crate::cli::failure::{Failure, Kind};
use crate::config::Settings;
use crate::daemon;
use crate::model::{CameraSpec, RawCameraSpec, SourceKind};
use crate::push::{Maker, START_OF_IMAGE, Source, file_url};

/// How image files are called that are looked for in a directory.
const IMAGES: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "jpe"];

/// The source of a command line.
pub fn source(settings: &Settings, args: &PushArgs) -> Result<Source, Failure> {
    let usage = |detail: String| Failure::new(Kind::Usage, detail);
    match args.source.as_slice() {
        [only] if only == "-" => {
            refuse_for_images(args, "JPEGs on standard input")?;
            for (option, given) in [("--quality", args.quality.is_some()), ("--max-width", args.max_width.is_some())] {
                if given {
                    return Err(usage(format!(
                        "{option} has no meaning for JPEGs on standard input: they stay as they are"
                    )));
                }
            }
            if args.open.wants_standard_input() {
                return Err(usage("standard input cannot hold both the pictures and the password".to_owned()));
            }
            Ok(Source::StandardInput)
        }
        [only] if is_url(only) => stream(settings, args, only),
        [only] if is_video(Path::new(only))? => {
            // What a link leads to, as it was just looked at.
            let url = file_url(Path::new(only)).map_err(|error| usage(format!("{only}: {error}")))?;
            stream(settings, args, &url)
        }
        many => {
            refuse_for_images(args, "image files")?;
            let mut paths = Vec::new();
            for one in many {
                paths.extend(matching(one)?);
            }
            // Any file's, for the rest of what is asked.
            let (spec, launcher) = asked(settings, args, "file:///image")?;
            Ok(Source::Images { paths, maker: Maker { spec: Box::new(spec), launcher } })
        }
    }
}

fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("v4l2:")
}

/// Whether it is a file and no JPEG.
fn is_video(path: &Path) -> Result<bool, Failure> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut start = [0; START_OF_IMAGE.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) => Ok(start != START_OF_IMAGE),
        Err(error) => Err(Failure::new(Kind::NotFound, format!("cannot read {}: {error}", path.display()))),
    }
}

/// The files that a name or a pattern stands for, by their names where it is a pattern or a directory.
fn matching(text: &str) -> Result<Vec<PathBuf>, Failure> {
    let path = Path::new(text);
    let pattern = if path.is_dir() {
        format!("{}/*", glob::Pattern::escape(text.trim_end_matches('/')))
    } else if path.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    } else {
        text.to_owned()
    };
    let paths =
        glob::glob(&pattern).map_err(|error| Failure::new(Kind::Usage, format!("`{text}` is no pattern: {error}")))?;
    let files = paths.collect::<Result<Vec<_>, _>>();
    let mut files = files.map_err(|error| Failure::new(Kind::NotFound, error.to_string()))?;
    files.retain(|file| file.is_file() && (!path.is_dir() || is_named_as_image(file)));
    if files.is_empty() {
        return Err(Failure::new(Kind::NotFound, format!("no file is like `{pattern}`")));
    }
    Ok(files)
}

fn is_named_as_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    IMAGES.contains(&extension.as_str())
}

/// Of images each is wanted.
fn refuse_for_images(args: &PushArgs, what: &str) -> Result<(), Failure> {
    let given = [
        ("--fps", args.fps.is_some()),
        ("--every", args.every.is_some()),
        ("--keyframes", args.keyframes),
        ("--from", args.from.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => {
            let detail = format!("{option} has no meaning for {what}: leave it out");
            Err(Failure::new(Kind::Usage, detail))
        }
        None => Ok(()),
    }
}

fn stream(settings: &Settings, args: &PushArgs, url: &str) -> Result<Source, Failure> {
    let (spec, launcher) = asked(settings, args, url)?;
    let kind = spec.url.kind();
    if args.resume && kind != SourceKind::File {
        let detail = "--resume needs a file: a camera's pictures of then cannot be had again; push to another place";
        return Err(Failure::new(Kind::Usage, detail));
    }
    if args.from.is_some() && kind != SourceKind::File {
        return Err(Failure::new(Kind::Usage, "--from has a meaning for video files only: leave it out"));
    }
    Ok(Source::Stream { spec: Box::new(spec), launcher, from: args.from.unwrap_or_default() })
}

/// What is asked of a capture process, and how it is started.
fn asked(settings: &Settings, args: &PushArgs, url: &str) -> Result<(CameraSpec, Launcher), Failure> {
    let mut body = args.open.body(url)?;
    let mut set = |field: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(field.to_owned(), value);
        }
    };
    set("sampling", args.fps.map(|fps| json!({ "fps": fps })));
    set("sampling", args.every.map(|every| json!({ "every": every })));
    set("sampling", args.keyframes.then(|| json!("keyframes")));
    set("jpeg_quality", args.quality.map(Value::from));
    set("max_width", args.max_width.map(Value::from));
    set("pace", url.starts_with("file://").then(|| json!("unpaced")));
    // Every other option was read by its type. It may hold a password, and serde's message may repeat a piece of it.
    let raw = serde_json::from_value::<RawCameraSpec>(Value::Object(body));
    let raw = raw.map_err(|_| "--fps is no number of frames a second".to_owned());
    let spec = raw.and_then(|raw| raw.validate(None).map_err(told)).map_err(|why| Failure::new(Kind::Usage, why))?;
    let engines = daemon::engines(settings).map_err(|error| Failure::new(Kind::Config, format!("{error:#}")))?;
    let capture = &settings.capture;
    let deadlines = Deadlines { open: capture.open_timeout, read: capture.read_timeout, stall: capture.stall_after };
    // Whoever types the command may read what he may read; there is no one else's request to be careful with.
    let reach = Reach { files: Some(PathBuf::from("/")), loopback: true };
    Ok((spec, Launcher { engines, deadlines, reach, starts: Launcher::starts() }))
}

fn told(problems: Vec<crate::model::FieldProblem>) -> String {
    let problem = |problem: &crate::model::FieldProblem| match &problem.value {
        Some(value) => format!("{} `{value}` {}", problem.field, problem.detail),
        None => format!("{} {}", problem.field, problem.detail),
    };
    problems.iter().map(problem).collect::<Vec<_>>().join("; ")
}
