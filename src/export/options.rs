//! What is exported, where to, and how.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Fate, Hours, Names, Reason, Running, Survey, Wanted, explain, make, plan, run, survey};
use crate::config::Destination;
use crate::media;
use crate::model::UnixMicros;
use crate::nvr::{Common, RecorderError, RecorderSettings, SegmentKind};
use crate::storage::{BucketError, BucketErrorKind};

/// How often a recording is tried again.
const RETRIES: u32 = 10;
/// How long a recorder or a bucket may fail without anything that moves or succeeds in between.
const PATIENCE: Duration = Duration::from_secs(600);
/// A recording that ends this near to the recorder's now may not be at its end yet.
const SETTLE: Duration = Duration::from_secs(180);
/// How long recordings are waited for that still grow.
const WAIT: Duration = Duration::from_secs(600);

/// Recordings into a bucket: which, where to, and how.
#[derive(Clone, Debug)]
pub struct Export {
    /// The recorder.
    pub recorder: RecorderSettings,
    /// Where they go.
    pub destination: Destination,
    /// From when to when.
    pub wanted: Wanted,
    /// When it was asked for: the day of that is `today`. `None` for now.
    pub asked_at: Option<UnixMicros>,
    /// On which tracks.
    pub tracks: Tracks,
    /// The recorder's word for why they were recorded, `MOTION`; `None` for whatever reason.
    pub event: Option<String>,
    /// In which form.
    pub form: Form,
    /// How they come from the recorder.
    pub transport: Transport,
    /// What they are called.
    pub names: Names,
    /// Downloads at a time, at most: most recorders have room for one or two beside the people who watch. 0 counts as 1.
    pub sessions: usize,
    /// Bytes a second over all downloads, at most.
    pub bandwidth: Option<u64>,
    /// When downloads may begin.
    pub hours: Option<Hours>,
    /// How long before the recorder's now a recording must have ended to be taken for whole.
    pub settle: Duration,
    /// How long those are waited for that have not.
    pub wait: Duration,
    /// Attempts for each recording after the first, where the fault is its own. What recorder or bucket fail at with all of
    /// them is a matter of `patience`.
    pub retries: u32,
    /// The longest wait between two attempts.
    pub retry_max: Duration,
    /// How long a recorder or a bucket may fail without anything that moves or succeeds in between. The time that one of
    /// them asks for does not count, nor that outside the hours.
    pub patience: Duration,
    /// Takes what comes whole although the recorder's list tells another size.
    pub any_size: bool,
    /// Where files lie while they are worked on.
    pub workshop: PathBuf,
    /// What works on them; without it recordings stay as they are.
    pub media: Option<media::Launcher>,
    /// What the process knows of recorders.
    pub common: Arc<Common>,
}

/// Which tracks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tracks {
    /// One stream of every channel.
    Every(Stream),
    /// One stream of these channels.
    Channels(Vec<u32>, Stream),
    /// Those with these ids, known or not.
    Ids(Vec<String>, Stream),
}

/// Which stream of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stream {
    /// The main one, which recorders keep.
    #[default]
    Main,
    /// The smaller one.
    Sub,
    /// Pictures, on a track of their own.
    Photo,
}

/// What recordings are stored as.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// Byte for byte as the recorder sends them.
    #[default]
    Original,
    /// Each in another container, or a part of it.
    Packed {
        /// Which.
        container: media::Container,
        /// Which part.
        cut: media::Cut,
    },
    /// Those of a track as one.
    Joined {
        /// In which container.
        container: media::Container,
        /// Which part of the whole.
        cut: media::Cut,
        /// Whether what lies before and behind the wanted span is cut off.
        trim: bool,
    },
    /// As JPEGs, one for every so much time.
    Pictures {
        /// For how much.
        every: Duration,
        /// Of which part.
        cut: media::Cut,
    },
}

/// How recordings come from the recorder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    /// As files, and played where the recorder sends none.
    #[default]
    Auto,
    /// As files.
    Files,
    /// Played over RTSP, which takes as long as they do on most recorders.
    Rtsp,
}

impl Export {
    /// Today's recordings of all main streams, as they are, under hikload's names.
    pub fn new(recorder: RecorderSettings, destination: Destination) -> Self {
        Self {
            recorder,
            destination,
            wanted: Wanted::default(),
            asked_at: None,
            tracks: Tracks::Every(Stream::default()),
            event: None,
            form: Form::default(),
            transport: Transport::default(),
            names: Names::default(),
            sessions: 1,
            bandwidth: None,
            hours: None,
            settle: SETTLE,
            wait: WAIT,
            retries: RETRIES,
            retry_max: Duration::from_secs(60),
            patience: PATIENCE,
            any_size: false,
            workshop: std::env::temp_dir(),
            media: None,
            common: Arc::default(),
        }
    }

    /// Begins. To be called within a tokio runtime, which has to last until the end.
    pub fn start(self) -> Running {
        run::start(self)
    }

    /// Searches, and fetches nothing.
    ///
    /// # Errors
    ///
    /// When the recorder does not say who it is, or the options ask for what cannot be.
    pub async fn survey(&self) -> Result<Survey, ExportError> {
        let recorder = survey::connect(self)?;
        survey::of(self, &*recorder, |_| {}).await
    }

    /// What was found, as it would be exported.
    pub fn entries(&self, survey: &Survey) -> Vec<Entry> {
        let found = survey.segments.clone();
        let items = plan::items(found, &survey.known, &survey.tracks, &self.names, &self.server());
        let groups = plan::groups(&items, &self.form, survey.span);
        let mut entries = Vec::with_capacity(items.len());
        for group in groups {
            for place in group.items {
                let item = &items[place];
                let photo = item.segment.kind == SegmentKind::Photo;
                let key = format!("{}{}", group.stem, make::extension(&self.form, photo));
                entries.push(Entry { number: item.number, recording: item.recording(), fate: Fate::Found { key } });
            }
        }
        entries
    }

    /// Why nothing was found, in sentences. Asks the recorder what else it has.
    pub async fn explain(&self, survey: &Survey) -> Vec<String> {
        explain::explain(self, survey).await
    }

    /// The recorder as it is named in manifests and keys: its host and port.
    pub fn server(&self) -> String {
        let RecorderSettings { host, port, .. } = &self.recorder;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        port.map_or(host.clone(), |port| format!("{host}:{port}"))
    }

    /// The stream that is asked for.
    pub(super) fn stream(&self) -> Stream {
        match &self.tracks {
            Tracks::Every(stream) | Tracks::Channels(_, stream) | Tracks::Ids(_, stream) => *stream,
        }
    }
}

/// Why an export cannot begin, or not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExportError {
    /// The recorder cannot be asked.
    #[error("{0}")]
    Recorder(RecorderError),
    /// The bucket cannot be opened, is not there, or does not let us in.
    #[error("{0}")]
    Bucket(BucketError),
    /// The recorder will not have any of it.
    #[error("{error}")]
    Refused {
        /// Why, in a word.
        reason: Reason,
        /// Why, and what to do.
        error: String,
    },
    /// What is asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something is missing on this machine.
    #[error("{0}")]
    Machine(String),
    /// Recorder or bucket have failed for longer than they may.
    #[error("given up after {:.0} s in which nothing succeeded: {error}", .patience.as_secs_f64())]
    Away {
        /// How long they may.
        patience: Duration,
        /// What failed last.
        error: String,
        /// What kind of failure of the bucket it is, where it is one.
        bucket: Option<BucketErrorKind>,
    },
    /// A task has panicked, which is a fault of ours.
    #[error("an export broke off: {0}")]
    Broken(String),
}
