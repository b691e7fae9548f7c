//! Every value of a configuration is looked at, and all that is wrong is told at once.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use url::Host;

use super::destination::DestinationKeys;
use super::raw::{RawConfig, RawDestination, RawSpool, RawStorage};
use super::settings::{
    CaptureSettings, Destination, Durability, LogFormat, LogSettings, ManifestSettings, MemorySettings, Problem,
    Settings, SpoolSettings, TaskSettings, UploadSettings, WhenFull,
};
use crate::model::{DestinationName, InvalidDestinationName, KeyTemplate};

/// Segments that the spool has room for at the least: one that is written, one that is copied forward, and frames.
const LEAST_SEGMENTS: u64 = 4;

/// Bytes of memory that a destination needs.
const LEAST_MEMORY: u64 = 1 << 20;

/// Frames in memory that a destination needs.
const LEAST_FRAMES: u64 = 16;

impl Settings {
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
        let every = check.duration("manifests.every", &raw.manifests.every, 1_000..=86_400_000);
        let entries =
            check.that("manifests.entries", &raw.manifests.entries.to_string(), |text| match text.parse::<usize>() {
                Ok(n @ 1..=10_000) => Ok(NonZeroUsize::new(n).expect("at least 1")),
                _ => Err("use 1 to 10000".to_owned()),
            });
        let destinations = check.destinations(raw);
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
        let bytes = check.bytes("memory.bytes", &raw.memory.bytes, LEAST_MEMORY..=1 << 44);
        let frames = check.that("memory.frames", &raw.memory.frames.to_string(), |text| match text.parse::<usize>() {
            Ok(n @ 16..) => Ok(n),
            _ => Err("use at least 16".to_owned()),
        });
        let parts = 1 + raw.destinations.len() as u64;
        if parts > 1 {
            if bytes.is_some_and(|bytes| bytes / parts < LEAST_MEMORY) {
                let least = ByteSize(parts * LEAST_MEMORY);
                let hint = format!("use at least {least}: {parts} destinations share it evenly");
                check.problem("memory.bytes", format!("is `{}`: {hint}", raw.memory.bytes));
            }
            if frames.is_some_and(|frames| (frames as u64) / parts < LEAST_FRAMES) {
                let hint = format!("use at least {}: {parts} destinations share it evenly", parts * LEAST_FRAMES);
                check.problem("memory.frames", format!("is `{}`: {hint}", raw.memory.frames));
            }
        }
        let engine_dir = check.absolute_or_none("capture.engine_dir", &raw.capture.engine_dir);
        let files = check.absolute_or_none("capture.files", &raw.capture.files);
        let open_timeout = check.duration("capture.open_timeout", &raw.capture.open_timeout, 100..=120_000);
        let read_timeout = check.duration("capture.read_timeout", &raw.capture.read_timeout, 100..=600_000);
        let stall_after = check.duration("capture.stall_after", &raw.capture.stall_after, 500..=600_000);
        let frozen_after = check.duration("capture.frozen_after", &raw.capture.frozen_after, 0..=86_400_000);
        let clock_within = check.duration("capture.clock_within", &raw.capture.clock_within, 0..=3_600_000);
        let lease = check.duration("tasks.lease", &raw.tasks.lease, 1_000..=600_000);
        let text_lease = check.duration("tasks.text_lease", &raw.tasks.text_lease, 1_000..=7 * 86_400_000);
        let attempts =
            check.that("tasks.attempts", &raw.tasks.attempts.to_string(), |text| match text.parse::<u32>() {
                Ok(n @ 1..=1_000) => Ok(NonZeroU32::new(n).expect("at least 1")),
                _ => Err("use 1 to 1000".to_owned()),
            });
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
                manifests: {
                    let settings = ManifestSettings { every: every?, entries: entries? };
                    raw.manifests.enabled.then_some(settings)
                },
                destinations: destinations?,
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
                    max_processes: NonZeroUsize::new(raw.capture.max_processes as usize),
                    frozen_after: Some(frozen_after?).filter(|after| !after.is_zero()),
                    clock_within: clock_within?,
                    files: files?,
                    loopback: raw.capture.loopback,
                },
                tasks: TaskSettings { lease: lease?, text_lease: text_lease?, attempts: attempts? },
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

    fn destination(&mut self, section: &str, raw: &RawDestination) -> Option<Destination> {
        let keys = DestinationKeys {
            url: &raw.url,
            endpoint: &raw.endpoint,
            region: &raw.region,
            credentials: &raw.credentials,
            key_file: &raw.key_file,
        };
        keys.read(section).map_err(|problems| self.problems.extend(problems)).ok()
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

    /// `[storage]` and all `[destinations.NAME]`.
    fn destinations(&mut self, raw: &RawConfig) -> Option<BTreeMap<DestinationName, Destination>> {
        let RawStorage { url, endpoint, region, credentials, key_file, .. } = raw.storage.clone();
        let storage = RawDestination { url, endpoint, region, credentials, key_file };
        let mut places: Vec<(String, Destination)> = Vec::new();
        let mut destinations = BTreeMap::new();
        if let Some(there) = self.destination("storage", &storage) {
            places.push(("storage".to_owned(), there.clone()));
            destinations.insert(DestinationName::default(), there);
        }
        for (name, written) in &raw.destinations {
            let section = format!("destinations.{name}");
            let checked = self.destination(&section, written);
            if let Some(there) = &checked {
                // Each would take the other's objects for its own.
                if let Some((other, _)) = places.iter().find(|(_, place)| place.is_where(there)) {
                    let detail = format!("is where [{other}] goes already: use another bucket, prefix or directory");
                    self.problem(&format!("{section}.url"), detail);
                }
                places.push((section.clone(), there.clone()));
            }
            match name.parse() {
                Ok(name) if name == DestinationName::default() => {
                    self.problem(&section, "is what [storage] is called: use another name".to_owned());
                }
                Ok(name) => destinations.extend(checked.map(|there| (name, there))),
                Err(error) => {
                    let error: InvalidDestinationName = error;
                    self.problem(&section, error.to_string());
                }
            }
        }
        destinations.contains_key(&DestinationName::default()).then_some(destinations)
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
