//! The configuration as it is written: plain texts and numbers, unknown keys refused. `config.toml` is its manual.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default.into(),)* }
            }
        }
    };
}

/// The whole configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// `[state]`
    pub state: RawState,
    /// `[http]`
    pub http: RawHttp,
    /// `[cameras]`
    pub cameras: RawCameras,
    /// `[list]`
    pub list: RawList,
    /// `[manifests]`
    pub manifests: RawManifests,
    /// `[storage]`
    pub storage: RawStorage,
    /// `[destinations.NAME]`
    pub destinations: BTreeMap<String, RawDestination>,
    /// `[upload]`
    pub upload: RawUpload,
    /// `[spool]`
    pub spool: RawSpool,
    /// `[memory]`
    pub memory: RawMemory,
    /// `[capture]`
    pub capture: RawCapture,
    /// `[tasks]`
    pub tasks: RawTasks,
    /// `[shutdown]`
    pub shutdown: RawShutdown,
    /// `[log]`
    pub log: RawLog,
    /// `[debug]`
    pub debug: RawDebug,
}

section! {
    /// Where the daemon keeps what must survive it.
    RawState {
        /// Directory of journal, catalog and secrets.
        dir: String = "/var/lib/framehaul",
    }
}
section! {
    /// The API.
    RawHttp {
        /// Address and port to listen on.
        listen: String = "127.0.0.1:8080",
        /// File with the bearer token; empty means `admin.token` in the state directory.
        token_file: String = "",
        /// Host names under which the API may be reached, beside IP addresses and `localhost`; separated by commas.
        hosts: String = "",
    }
}
section! {
    /// Cameras that the configuration manages.
    RawCameras {
        /// File of cameras, read at the start and on SIGHUP; empty means none.
        file: String = "",
    }
}
section! {
    /// The ordered lists.
    RawList {
        /// How long entries stay listed: a time, or `forever`.
        keep: String = "forever",
    }
}
section! {
    /// The lists as objects in the bucket.
    RawManifests {
        /// Whether they are written.
        enabled: bool = true,
        /// How long an entry may wait until it is in one.
        every: String = "60s",
        /// Entries of one.
        entries: u32 = 1000u32,
    }
}
section! {
    /// Where frames go.
    RawStorage {
        /// `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix` or `file:///directory`.
        url: String = "file:///var/lib/framehaul/frames",
        /// Another server than the cloud's own; empty means the cloud's.
        endpoint: String = "",
        /// Region of an S3 bucket; empty means that of the environment or the key file, or `us-east-1`.
        region: String = "",
        /// `default`, `key_file` or `anonymous`.
        credentials: String = "default",
        /// Service account key, AWS credentials or Azure connection string, with `credentials = "key_file"`.
        key_file: String = "",
        /// Pattern of object keys.
        key_template: String = "{camera}/{yyyy}/{mm}/{dd}/{hh}/{captured_at}-{origin}-{seq}.jpg",
    }
}
section! {
    /// Another place for frames.
    RawDestination {
        /// As in `[storage]`.
        url: String = "",
        /// As in `[storage]`.
        endpoint: String = "",
        /// As in `[storage]`.
        region: String = "",
        /// As in `[storage]`.
        credentials: String = "default",
        /// As in `[storage]`.
        key_file: String = "",
    }
}
section! {
    /// How frames get there.
    RawUpload {
        /// Uploads at the same time.
        workers: u32 = 64u32,
        /// Longest wait before the first retry.
        retry_min: String = "250ms",
        /// Longest wait before any retry.
        retry_max: String = "60s",
        /// Time one attempt gets at least.
        deadline: String = "10s",
        /// The slowest link that still counts as working; adds size / min_rate to the deadline.
        min_rate: String = "64KiB",
    }
}
section! {
    /// Where frames lie until they are stored.
    RawSpool {
        /// `disk` or `memory`.
        durability: String = "disk",
        /// Directory of the spool; empty means `spool` in the state directory.
        dir: String = "",
        /// Bytes that it may take.
        max_bytes: String = "10GiB",
        /// Bytes of one of its files.
        segment: String = "64MiB",
        /// `drop_oldest` or `drop_newest`.
        when_full: String = "drop_oldest",
    }
}
section! {
    /// What may be in memory.
    RawMemory {
        /// JPEG bytes of the frames in memory.
        bytes: String = "256MiB",
        /// Their number.
        frames: u32 = 4096u32,
    }
}
section! {
    /// The capture processes.
    RawCapture {
        /// Directory of the `framehaul-capture-*` programs; empty means beside `framehaul`.
        engine_dir: String = "",
        /// Time a stream gets to open.
        open_timeout: String = "5s",
        /// Time a stream may be silent before the capture process gives it up.
        read_timeout: String = "15s",
        /// Time without a new picture after which a stream counts as stalled (or 5 frame intervals, if longer).
        stall_after: String = "10s",
        /// Capture processes at the same time; 0 means as many as there are cameras.
        max_processes: u32 = 0u32,
        /// Time for which pictures may all show the same before the camera counts as frozen; `0s` means for ever.
        frozen_after: String = "60s",
        /// How far a camera's clock may be from the arrival of its pictures to date them; `0s` means that it never does.
        clock_within: String = "5s",
        /// Directory below which cameras may play files; empty means that none may.
        files: String = "",
        /// Whether cameras may be on this machine (127.0.0.0/8, ::1).
        loopback: bool = false,
    }
}
section! {
    /// Export tasks on their way to workers.
    RawTasks {
        /// How long a worker's lease lives from its last heartbeat.
        lease: String = "20s",
        /// How long a lease lives that was given as a line of text.
        text_lease: String = "1h",
        /// How often a task is taken before it counts as failed.
        attempts: u32 = 5u32,
    }
}
section! {
    /// The end.
    RawShutdown {
        /// Time frames get to be stored after the first signal.
        deadline: String = "10s",
    }
}
section! {
    /// What the daemon says.
    RawLog {
        /// Which messages, for example `info` or `framehaul=debug,warn`.
        filter: String = "info",
        /// `text` or `json`.
        format: String = "text",
    }
}
section! {
    /// Switches for tests.
    RawDebug {
        /// Lets an authenticated request make an actor panic.
        fault_injection: bool = false,
    }
}
