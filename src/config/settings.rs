//! The configuration as the daemon runs on it: no impossible values inside.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use config::{Config, Environment, File, FileFormat};
use serde_json::Value;
use url::{Host, Url};

use super::RawConfig;
use super::raw::RawSpool;
use crate::capture::Reach;
use crate::model::{CameraId, KeyTemplate, RawCameraSpec};

/// Segments that the spool has room for at the least: one that is written, one that is copied forward, and frames.
const LEAST_SEGMENTS: u64 = 4;

/// A validated configuration; only [`load`] and [`Settings::validate`] make one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of journal, catalog and secrets.
    pub state_dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// File with the API's bearer token.
    pub token_file: PathBuf,
    /// Host names under which the API may be reached, in lower case.
    pub hosts: Vec<String>,
    /// File of cameras that the configuration manages.
    pub cameras_file: Option<PathBuf>,
    /// How long entries stay listed; `None` means for ever.
    pub list_keep: Option<Duration>,
    /// Where frames go.
    pub destination: Destination,
    /// What their objects are called.
    pub key_template: KeyTemplate,
    /// How they get there.
    pub upload: UploadSettings,
    /// Where frames lie until they are stored.
    pub spool: SpoolSettings,
    /// What may be in memory.
    pub memory: MemorySettings,
    /// The capture processes.
    pub capture: CaptureSettings,
    /// Time frames get to be stored after the first signal.
    pub shutdown_deadline: Duration,
    /// What the daemon says.
    pub log: LogSettings,
    /// Whether requests may make actors panic.
    pub fault_injection: bool,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A directory.
    File {
        /// Its path, absolute.
        dir: PathBuf,
    },
    /// Google Cloud Storage.
    Gcs {
        /// The bucket's name.
        bucket: String,
        /// What stands before every key; empty, or ends in `/`.
        prefix: String,
        /// Another server than Cloud Storage's own.
        endpoint: Option<String>,
        /// Who we are there.
        credentials: Credentials,
    },
}

/// Who we are to Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Application default credentials.
    Default,
    /// A service account's key file.
    KeyFile(PathBuf),
    /// Nobody: for emulators.
    Anonymous,
}

/// How frames are uploaded.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// Uploads at the same time.
    pub workers: NonZeroUsize,
    /// Longest wait before the first retry.
    pub retry_min: Duration,
    /// Longest wait before any retry.
    pub retry_max: Duration,
    /// Time one attempt gets at least.
    pub deadline: Duration,
    /// Bytes per second of the slowest link that still counts as working.
    pub min_rate: NonZeroU32,
}

/// Where frames lie until they are stored.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// What a frame must survive.
    pub durability: Durability,
    /// The spool's directory.
    pub dir: PathBuf,
    /// Bytes that it may take.
    pub max_bytes: u64,
    /// Bytes of a segment.
    pub segment: u64,
    /// Which frames go when they are used up.
    pub when_full: WhenFull,
}

/// What a frame survives once it counts as captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The end of the process and of the machine: it lies on disk until it is stored.
    Disk,
    /// Nothing but a failing bucket: it waits in memory.
    Memory,
}

/// Which frames go when the spool has no room left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// The oldest of the camera that holds most.
    DropOldest,
    /// Those that come.
    DropNewest,
}

/// The memory budget.
#[derive(Clone, Copy, Debug)]
pub struct MemorySettings {
    /// JPEG bytes of the frames in memory.
    pub bytes: u64,
    /// Their number.
    pub frames: usize,
}

/// The capture processes.
#[derive(Clone, Debug)]
pub struct CaptureSettings {
    /// Directory of the capture programs; `None` means beside our own binary.
    pub engine_dir: Option<PathBuf>,
    /// Time a stream gets to open.
    pub open_timeout: Duration,
    /// Time a stream may be silent before the capture process gives it up.
    pub read_timeout: Duration,
    /// Time without a new picture after which a stream counts as stalled.
    pub stall_after: Duration,
    /// Directory below which cameras may play files.
    pub files: Option<PathBuf>,
    /// Whether cameras may be on this machine.
    pub loopback: bool,
}

/// What the daemon logs, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// A `tracing_subscriber::EnvFilter` directive list, checked.
    pub filter: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as the user writes it: `upload.workers`. Empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong, with the value found, and the way out.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.detail),
            key => write!(f, "{key}: {}", self.detail),
        }
    }
}

/// Reads a configuration file (none means defaults), then the environment: `FRAMEHAUL__UPLOAD__WORKERS=8` stands above
/// `workers` in `[upload]`.
///
/// # Errors
///
/// All problems found, not only the first.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Vec<Problem>> {
    let whole = |detail: String| vec![Problem { key: String::new(), detail }];
    let mut builder = Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| whole(format!("cannot read configuration file {}: {error}", path.display())))?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let source = Environment::with_prefix("FRAMEHAUL")
        .prefix_separator("__")
        .separator("__")
        .source(Some(environment.into_iter().collect()));
    let tree = builder
        .add_source(source)
        .build()
        .and_then(Config::try_deserialize::<Value>)
        .map_err(|error| whole(format!("the configuration is not valid TOML: {error}")))?;
    let (raw, mut problems) = read_tree(&tree);
    match Settings::validate(&raw) {
        Ok(settings) if problems.is_empty() => return Ok(settings),
        Ok(_) => {}
        Err(more) => problems.extend(more),
    }
    Err(problems)
}

/// Reads each key alone against the defaults, so that all misfits are found and not only the first. In a misfit's place
/// stands the default, so that the rest can be checked all the same.
fn read_tree(tree: &Value) -> (RawConfig, Vec<Problem>) {
    let defaults = serde_json::to_value(RawConfig::default()).expect("the defaults are plain data");
    let mut merged = defaults.clone();
    let mut problems = Vec::new();
    let sections = tree.as_object().cloned().unwrap_or_default();
    for (section, keys) in &sections {
        let Some(keys) = keys.as_object().filter(|_| defaults.get(section).is_some()) else {
            let known = defaults.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", "));
            let detail = format!("is not known: sections are {}", known.unwrap_or_default());
            problems.push(Problem { key: section.clone(), detail });
            continue;
        };
        for (key, value) in keys {
            let known = &defaults[section];
            let name = format!("{section}.{key}");
            let Some(default) = known.get(key) else {
                let names = known.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", "));
                let detail = format!("is not known: [{section}] takes {}", names.unwrap_or_default());
                problems.push(Problem { key: name, detail });
                continue;
            };
            match coerce(value, default) {
                Some(value) => merged[section][key] = value,
                None => {
                    let detail = format!("is {value}, which is no {}", type_name(default));
                    problems.push(Problem { key: name, detail });
                }
            }
        }
    }
    let raw = serde_json::from_value(merged).unwrap_or_else(|error| {
        problems.push(Problem { key: String::new(), detail: error.to_string() });
        RawConfig::default()
    });
    (raw, problems)
}

/// Gives a value the type of its key's default; the environment knows only texts.
fn coerce(value: &Value, default: &Value) -> Option<Value> {
    match (default, value) {
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Some(value.clone()),
        (Value::String(_), Value::Number(number)) => Some(Value::String(number.to_string())),
        (Value::Number(_), Value::Number(number)) => u32::try_from(number.as_u64()?).ok().map(Value::from),
        (Value::Number(_), Value::String(text)) => text.trim().parse::<u32>().ok().map(Value::from),
        (Value::Bool(_), Value::String(text)) => text.trim().parse::<bool>().ok().map(Value::from),
        _ => None,
    }
}

fn type_name(default: &Value) -> &'static str {
    match default {
        Value::Bool(_) => "true or false",
        Value::Number(_) => "whole number from 0 to 4294967295",
        _ => "text",
    }
}

impl CaptureSettings {
    /// Where cameras may be.
    pub fn reach(&self) -> Reach {
        Reach { files: self.files.clone(), loopback: self.loopback }
    }
}

impl Settings {
    /// Reads the file of cameras; where none is named, there are none.
    ///
    /// # Errors
    ///
    /// All problems found, not only the first.
    pub fn file_cameras(&self) -> Result<BTreeMap<CameraId, RawCameraSpec>, Vec<Problem>> {
        match &self.cameras_file {
            Some(path) => super::load_cameras(path, &self.capture.reach()),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    ///
    /// All problems found, not only the first.
    pub fn validate(raw: &RawConfig) -> Result<Self, Vec<Problem>> {
        let mut check = Checker::default();
        let state_dir = check.absolute("state.dir", &raw.state.dir);
        let listen = check.that("http.listen", &raw.http.listen, |text| {
            text.parse().map_err(|_| "use ADDRESS:PORT, for example 127.0.0.1:8080".to_owned())
        });
        let token_file = match raw.http.token_file.as_str() {
            "" => state_dir.as_ref().map(|dir| dir.join("admin.token")),
            path => check.absolute("http.token_file", path),
        };
        let hosts = check.that("http.hosts", &raw.http.hosts, read_hosts);
        let cameras_file = check.absolute_or_none("cameras.file", &raw.cameras.file);
        let list_keep = match raw.list.keep.as_str() {
            "forever" => Some(None),
            text => check.duration("list.keep", text, 60_000..=3_153_600_000_000).map(Some),
        };
        let destination = check.destination(raw);
        let key_template = check.that("storage.key_template", &raw.storage.key_template, KeyTemplate::parse);
        let workers =
            check.that("upload.workers", &raw.upload.workers.to_string(), |text| match text.parse::<usize>() {
                Ok(n @ 1..=1024) => Ok(NonZeroUsize::new(n).expect("at least 1")),
                _ => Err("use 1 to 1024".to_owned()),
            });
        let retry_min = check.duration("upload.retry_min", &raw.upload.retry_min, 10..=60_000);
        let retry_max = check.duration("upload.retry_max", &raw.upload.retry_max, 10..=3_600_000);
        if let (Some(min), Some(max)) = (retry_min, retry_max)
            && min > max
        {
            check.problem("upload.retry_min", format!("is {min:?}, more than upload.retry_max ({max:?})"));
        }
        let deadline = check.duration("upload.deadline", &raw.upload.deadline, 100..=600_000);
        let min_rate = check.bytes("upload.min_rate", &raw.upload.min_rate, 1..=u64::from(u32::MAX));
        let spool = check.spool(&raw.spool, state_dir.as_deref());
        let bytes = check.bytes("memory.bytes", &raw.memory.bytes, 1 << 20..=1 << 44);
        let frames = check.that("memory.frames", &raw.memory.frames.to_string(), |text| match text.parse::<usize>() {
            Ok(n @ 16..) => Ok(n),
            _ => Err("use at least 16".to_owned()),
        });
        let engine_dir = check.absolute_or_none("capture.engine_dir", &raw.capture.engine_dir);
        let files = check.absolute_or_none("capture.files", &raw.capture.files);
        let open_timeout = check.duration("capture.open_timeout", &raw.capture.open_timeout, 100..=120_000);
        let read_timeout = check.duration("capture.read_timeout", &raw.capture.read_timeout, 100..=600_000);
        let stall_after = check.duration("capture.stall_after", &raw.capture.stall_after, 500..=600_000);
        let shutdown_deadline = check.duration("shutdown.deadline", &raw.shutdown.deadline, 0..=600_000);
        let filter =
            check.that("log.filter", &raw.log.filter, |text| match tracing_subscriber::EnvFilter::try_new(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(_) => Err("use a level (error, warn, info, debug, trace) or target=level pairs".to_owned()),
            });
        let format = check.that("log.format", &raw.log.format, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("use text or json".to_owned()),
        });

        let problems = check.problems;
        let settings = || {
            Some(Self {
                state_dir: state_dir?,
                listen: listen?,
                token_file: token_file?,
                hosts: hosts?,
                cameras_file: cameras_file?,
                list_keep: list_keep?,
                destination: destination?,
                key_template: key_template?,
                upload: UploadSettings {
                    workers: workers?,
                    retry_min: retry_min?,
                    retry_max: retry_max?,
                    deadline: deadline?,
                    min_rate: NonZeroU32::new(u32::try_from(min_rate?).ok()?)?,
                },
                spool: spool?,
                memory: MemorySettings { bytes: bytes?, frames: frames? },
                capture: CaptureSettings {
                    engine_dir: engine_dir?,
                    open_timeout: open_timeout?,
                    read_timeout: read_timeout?,
                    stall_after: stall_after?,
                    files: files?,
                    loopback: raw.capture.loopback,
                },
                shutdown_deadline: shutdown_deadline?,
                log: LogSettings { filter: filter?, format: format? },
                fault_injection: raw.debug.fault_injection,
            })
        };
        match settings() {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(problems),
        }
    }
}

/// Collects problems while values are read.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn problem(&mut self, key: &str, detail: String) {
        self.problems.push(Problem { key: key.to_owned(), detail });
    }

    fn that<T>(&mut self, key: &str, text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        read(text).map_err(|hint| self.problem(key, format!("is `{text}`: {hint}"))).ok()
    }

    fn absolute(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        self.that(key, text, |text| match Path::new(text) {
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => Err("use an absolute path".to_owned()),
        })
    }

    fn absolute_or_none(&mut self, key: &str, text: &str) -> Option<Option<PathBuf>> {
        if text.is_empty() { Some(None) } else { self.absolute(key, text).map(Some) }
    }

    fn duration(&mut self, key: &str, text: &str, millis: std::ops::RangeInclusive<u64>) -> Option<Duration> {
        self.that(key, text, |text| {
            let duration = humantime::parse_duration(text).ok();
            let (low, high) = (Duration::from_millis(*millis.start()), Duration::from_millis(*millis.end()));
            duration
                .filter(|d| (low..=high).contains(d))
                .ok_or_else(|| format!("use a time from {low:?} to {high:?}, for example 10s or 250ms"))
        })
    }

    fn bytes(&mut self, key: &str, text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        self.that(key, text, |text| {
            let size = text.parse::<ByteSize>().ok().map(|size| size.as_u64());
            size.filter(|size| range.contains(size)).ok_or_else(|| {
                let (low, high) = (ByteSize(*range.start()), ByteSize(*range.end()));
                format!("use a size from {low} to {high}, for example 256MiB")
            })
        })
    }

    fn spool(&mut self, raw: &RawSpool, state_dir: Option<&Path>) -> Option<SpoolSettings> {
        let durability = self.that("spool.durability", &raw.durability, |text| match text {
            "disk" => Ok(Durability::Disk),
            "memory" => Ok(Durability::Memory),
            _ => Err("use disk or memory".to_owned()),
        });
        let dir = match raw.dir.as_str() {
            "" => state_dir.map(|dir| dir.join("spool")),
            path => self.absolute("spool.dir", path),
        };
        let segment = self.bytes("spool.segment", &raw.segment, 1 << 20..=1 << 30);
        let max_bytes = self.bytes("spool.max_bytes", &raw.max_bytes, 1 << 20..=1 << 50);
        if let (Some(segment), Some(max_bytes)) = (segment, max_bytes)
            && max_bytes < LEAST_SEGMENTS * segment
        {
            let least = ByteSize(LEAST_SEGMENTS * segment);
            let hint = format!("use at least {least}, four times spool.segment");
            self.problem("spool.max_bytes", format!("is `{}`: {hint}", raw.max_bytes));
        }
        let when_full = self.that("spool.when_full", &raw.when_full, |text| match text {
            "drop_oldest" => Ok(WhenFull::DropOldest),
            "drop_newest" => Ok(WhenFull::DropNewest),
            _ => Err("use drop_oldest or drop_newest".to_owned()),
        });
        Some(SpoolSettings {
            durability: durability?,
            dir: dir?,
            max_bytes: max_bytes?,
            segment: segment?,
            when_full: when_full?,
        })
    }

    fn destination(&mut self, raw: &RawConfig) -> Option<Destination> {
        let storage = &raw.storage;
        let hint = "use gs://bucket/prefix or file:///directory";
        let url = self.that("storage.url", &storage.url, |text| Url::parse(text).map_err(|_| hint.to_owned()))?;
        match url.scheme() {
            "file" => {
                let dir = url.to_file_path().ok().filter(|_| url.host_str().is_none_or(str::is_empty));
                let dir = self.that("storage.url", &storage.url, |_| dir.ok_or_else(|| hint.to_owned()))?;
                Some(Destination::File { dir })
            }
            "gs" => {
                let bucket = self.that("storage.url", &storage.url, |_| match url.host_str() {
                    Some(host) if url.username().is_empty() && url.query().is_none() => Ok(host.to_owned()),
                    _ => Err(hint.to_owned()),
                })?;
                let prefix = match url.path().trim_matches('/') {
                    "" => String::new(),
                    path => format!("{path}/"),
                };
                let endpoint = match storage.endpoint.as_str() {
                    "" => None,
                    text => Some(self.that("storage.endpoint", text, |text| match Url::parse(text) {
                        Ok(url) if matches!(url.scheme(), "http" | "https") => {
                            Ok(text.trim_end_matches('/').to_owned())
                        }
                        _ => Err("use http://host:port, or leave it empty for Cloud Storage".to_owned()),
                    })?),
                };
                let credentials = match storage.credentials.as_str() {
                    "key_file" => Credentials::KeyFile(self.absolute("storage.key_file", &storage.key_file)?),
                    text => self.that("storage.credentials", text, |text| match text {
                        "default" => Ok(Credentials::Default),
                        "anonymous" => Ok(Credentials::Anonymous),
                        _ => Err("use default, key_file or anonymous".to_owned()),
                    })?,
                };
                Some(Destination::Gcs { bucket, prefix, endpoint, credentials })
            }
            _ => self.that("storage.url", &storage.url, |_| Err(hint.to_owned())),
        }
    }
}

fn read_hosts(text: &str) -> Result<Vec<String>, String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| match Host::parse(name) {
            Ok(Host::Domain(name)) => Ok(name),
            _ => Err("use host names separated by commas, for example framehaul.example.org".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(Some(file.path()), env.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    #[test]
    fn the_manual_equals_the_defaults() {
        let manual = include_str!("../../config.toml");
        let tree: Value = Config::builder()
            .add_source(File::from_str(manual, FileFormat::Toml))
            .build()
            .and_then(Config::try_deserialize)
            .unwrap();
        assert_eq!(tree, serde_json::to_value(RawConfig::default()).unwrap());
        load_text(manual, &[]).unwrap();
    }

    #[test]
    fn the_environment_stands_above_the_file() {
        let settings = load_text(
            "[upload]\nworkers = 3\nretry_max = '5s'\n",
            &[("FRAMEHAUL__UPLOAD__WORKERS", "7"), ("FRAMEHAUL__DEBUG__FAULT_INJECTION", "true"), ("OTHER", "x")],
        )
        .unwrap();
        assert_eq!(settings.upload.workers.get(), 7);
        assert_eq!(settings.upload.retry_max, Duration::from_secs(5));
        assert!(settings.fault_injection);
    }

    #[test]
    fn all_unknown_and_misfitting_keys_are_reported_at_once() {
        let problems = load_text(
            "[uplaod]\nworkers = 3\n[upload]\nworker = 3\nworkers = 'many'\n[debug]\nfault_injection = 3\n\
             [log]\nformat = 'xml'\n",
            &[],
        )
        .unwrap_err();
        let mut keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["debug.fault_injection", "log.format", "uplaod", "upload.worker", "upload.workers"]);
    }

    #[test]
    fn all_impossible_values_are_reported_at_once_with_what_was_found() {
        let problems = load_text(
            "[state]\ndir = 'here'\n[http]\nlisten = 'localhost'\n[storage]\nurl = 's3://b'\nkey_template = 'x'\n\
             [upload]\nworkers = 0\nretry_min = 'soon'\n[memory]\nbytes = '1 KiB'\n[log]\nformat = 'xml'\n",
            &[],
        )
        .unwrap_err();
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert!(problems.iter().any(|p| p.to_string().starts_with("log.format: is `xml`: use text or json")));
    }

    #[test]
    fn the_spool_lies_in_the_state_directory_and_holds_four_segments_at_least() {
        let spool = |text: &str| load_text(&format!("[state]\ndir = '/s'\n[spool]\n{text}"), &[]).map(|all| all.spool);
        let default = spool("").unwrap();
        assert_eq!((default.durability, default.when_full), (Durability::Disk, WhenFull::DropOldest));
        assert_eq!(default.dir, Path::new("/s/spool"));
        let small = spool("dir = '/d'\nmax_bytes = '4MiB'\nsegment = '1MiB'\nwhen_full = 'drop_newest'").unwrap();
        assert_eq!((small.max_bytes, small.segment, small.when_full), (4 << 20, 1 << 20, WhenFull::DropNewest));
        assert_eq!(
            (small.dir.as_path(), spool("durability = 'memory'").unwrap().durability),
            (Path::new("/d"), Durability::Memory)
        );
        let problems = spool("max_bytes = '255MiB'").unwrap_err();
        let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told, ["spool.max_bytes: is `255MiB`: use at least 256.0 MiB, four times spool.segment"]);
        assert_eq!(spool("durability = 'paper'\ndir = 'd'\nsegment = '1KiB'\nwhen_full = 'x'").unwrap_err().len(), 4);
    }

    #[test]
    fn destinations() {
        let destination = |url: &str| load_text(&format!("[storage]\nurl = '{url}'\ncredentials = 'anonymous'"), &[]);
        assert_eq!(
            destination("gs://b/some/where/").unwrap().destination,
            Destination::Gcs {
                bucket: "b".into(),
                prefix: "some/where/".into(),
                endpoint: None,
                credentials: Credentials::Anonymous
            }
        );
        assert_eq!(destination("file:///a/b").unwrap().destination, Destination::File { dir: "/a/b".into() });
        for bad in ["gs:///x", "http://h/b", "file://host/x", "nonsense"] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }
}
