//! The configuration as the daemon runs on it: no impossible values inside.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::capture::Reach;
use crate::model::{CameraId, DestinationName, KeyTemplate, RawCameraSpec};

/// A validated configuration; only [`load`](super::load) and [`Settings::validate`] make one.
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
    /// The lists as objects in the bucket; `None` where they are not written.
    pub manifests: Option<ManifestSettings>,
    /// Where frames go; `default` is always there.
    pub destinations: BTreeMap<DestinationName, Destination>,
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
    /// Export tasks on their way to workers.
    pub tasks: TaskSettings,
    /// Time frames get to be stored after the first signal.
    pub shutdown_deadline: Duration,
    /// What the daemon says.
    pub log: LogSettings,
    /// Whether requests may make actors panic.
    pub fault_injection: bool,
}

/// The lists as objects in the bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ManifestSettings {
    /// How long an entry may wait until it is in one.
    pub every: Duration,
    /// Entries of one.
    pub entries: NonZeroUsize,
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
    /// Amazon S3, or a server that speaks its API.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What stands before every key; empty, or ends in `/`.
        prefix: String,
        /// Another server than Amazon's own.
        endpoint: Option<String>,
        /// Where the bucket is; `None` where the environment or the key file says.
        region: Option<String>,
        /// Who we are there.
        credentials: Credentials,
    },
    /// Azure Blob Storage. The account is named by the credentials.
    Azure {
        /// The container's name.
        container: String,
        /// What stands before every key; empty, or ends in `/`.
        prefix: String,
        /// Another server than Azure's own.
        endpoint: Option<String>,
        /// Who we are there.
        credentials: Credentials,
    },
}

impl Destination {
    /// Whether both are one place, whoever we are there.
    pub fn is_where(&self, other: &Self) -> bool {
        fn place(of: &Destination) -> Option<(&str, &str, Option<&str>)> {
            match of {
                Destination::File { .. } => None,
                Destination::Gcs { bucket, prefix, endpoint, .. }
                | Destination::S3 { bucket, prefix, endpoint, .. }
                | Destination::Azure { container: bucket, prefix, endpoint, .. } => {
                    Some((bucket, prefix, endpoint.as_deref()))
                }
            }
        }
        match (self, other) {
            (Self::File { dir }, Self::File { dir: there }) => dir == there,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other) && place(self) == place(other),
        }
    }
}

/// Who we are to a cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// What the machine says we are: application default credentials, an instance's role, a managed identity.
    Default,
    /// A file: a service account's key, AWS credentials, an Azure connection string.
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
    /// Bytes that each destination's part of it may take.
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

/// The memory budget of all destinations together.
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
    /// Capture processes at the same time; `None` means as many as there are cameras.
    pub max_processes: Option<NonZeroUsize>,
    /// Time for which pictures may all show the same before a camera counts as frozen; `None` means for ever.
    pub frozen_after: Option<Duration>,
    /// How far a camera's clock may be from the arrival of its pictures to date them; zero where it never does.
    pub clock_within: Duration,
    /// Directory below which cameras may play files.
    pub files: Option<PathBuf>,
    /// Whether cameras may be on this machine.
    pub loopback: bool,
}

/// Export tasks on their way to workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskSettings {
    /// How long a worker's lease lives from its last heartbeat.
    pub lease: Duration,
    /// How long a lease lives that was given as a line of text.
    pub text_lease: Duration,
    /// How often a task is taken before it counts as failed.
    pub attempts: NonZeroU32,
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
            Some(path) => super::load_cameras(path, &self.capture.reach(), &self.destinations),
            None => Ok(BTreeMap::new()),
        }
    }
}
