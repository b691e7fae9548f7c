//! What is to be done.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::process::{expose, with_credentials};

/// One job for a media process. All paths are absolute.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Files into one of another container.
    Remux(Remux),
    /// Files into JPEGs.
    Frames(Frames),
    /// A playback into a file, as fast as it comes.
    Record(Record),
}

/// Puts files one after the other into one of another container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Remux {
    /// What is read, in this order: MPEG-PS, MP4, or what else holds H.264, H.265 or JPEGs.
    pub inputs: Vec<PathBuf>,
    /// What is written. It must not exist; until it is complete and was read again it has `.part` behind its name.
    pub output: PathBuf,
    /// In which form.
    pub container: Container,
    /// Which part of it.
    #[serde(default)]
    pub cut: Cut,
}

/// Makes JPEGs of files, one for every so much time of theirs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Frames {
    /// What is read, in this order.
    pub inputs: Vec<PathBuf>,
    /// An existing directory, in which they are called `000000.jpg`, `000001.jpg` and so on: number n is the first picture
    /// at or after n times `every`.
    pub directory: PathBuf,
    /// One for so much time, more than nothing.
    pub every: Duration,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Wider pictures are scaled down to this, pixels.
    pub max_width: Option<u32>,
    /// Of which part.
    #[serde(default)]
    pub cut: Cut,
}

/// Records the playback of a recorder.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Where it is: `rtsp://`, without user and password.
    pub url: String,
    /// Who to authenticate as.
    pub user: Option<String>,
    /// The password; the pipe is the only way it takes between the two processes.
    #[serde(serialize_with = "expose")]
    pub password: Option<SecretString>,
    /// What is written. It must not exist; until it is complete and was read again it has `.part` behind its name.
    pub output: PathBuf,
    /// In which form.
    pub container: Container,
    /// After so much time of the recording it is over, whether or not the recorder stops.
    pub most: Duration,
    /// How long the recorder may take to answer, and to send the next packet.
    pub patience: Duration,
}

/// What a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// MP4 with its index behind the media; in fragments above 8 GiB.
    Mp4,
    /// Matroska.
    Mkv,
}

impl Container {
    /// How its files' names end, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mkv => "mkv",
        }
    }
}

/// A part of what the inputs hold together, in time from the first picture of the first.
///
/// A cut falls on a key frame, so as much as one group of pictures before the wanted begin is kept; [`Outcome::kept`]
/// tells from where on.
///
/// [`Outcome::kept`]: super::Outcome::kept
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// So much is left out at the begin.
    pub skip: Duration,
    /// So much is kept after that; all of it where it does not say.
    pub most: Option<Duration>,
}

impl Record {
    /// Where it is, with user and password in it: FFmpeg knows them only as part of a URL, so they are put together in the
    /// media process's memory.
    pub fn location_with_credentials(&self) -> SecretString {
        with_credentials(&self.url, self.user.as_deref(), self.password.as_ref()).into()
    }
}
