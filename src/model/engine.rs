//! Which media library reads a camera.

use serde::{Deserialize, Serialize};

use super::{Sampling, SourceKind};

/// The media library that a camera's pictures are to be read with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The one that suits the source.
    #[default]
    Auto,
    /// OpenCV.
    Opencv,
    /// FFmpeg, without anything between.
    Ffmpeg,
}

/// What becomes of pictures that are known to be damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Damaged {
    /// They are lost, and the list says so.
    #[default]
    Drop,
    /// They are delivered, and the list says that they are damaged.
    Mark,
}

/// A program that captures: there is one for each media library.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Program {
    /// `framehaul-capture-ffmpeg`
    Ffmpeg,
    /// `framehaul-capture-opencv`
    Opencv,
}

impl Program {
    /// Every program there is.
    pub const ALL: [Self; 2] = [Self::Ffmpeg, Self::Opencv];

    /// The program's file name.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Ffmpeg => "framehaul-capture-ffmpeg",
            Self::Opencv => "framehaul-capture-opencv",
        }
    }

    /// The engine by whose name it is asked for.
    pub fn engine(self) -> Engine {
        match self {
            Self::Ffmpeg => Engine::Ffmpeg,
            Self::Opencv => Engine::Opencv,
        }
    }
}

impl Engine {
    /// The program that captures a source of this kind.
    pub fn program(self, kind: SourceKind, sampling: Sampling, damaged: Damaged) -> Program {
        match self {
            Self::Auto => choose(kind, sampling, damaged),
            Self::Opencv => Program::Opencv,
            Self::Ffmpeg => Program::Ffmpeg,
        }
    }

    /// The engine as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Opencv => "opencv",
            Self::Ffmpeg => "ffmpeg",
        }
    }
}

/// Chooses where nobody has: FFmpeg for streams and files, OpenCV for devices, which the other program does not read.
///
/// As long as that program is not finished, `OF_STREAMS` stays OpenCV, and FFmpeg gets only what OpenCV cannot do.
fn choose(kind: SourceKind, sampling: Sampling, damaged: Damaged) -> Program {
    /// Who reads streams and files. To be `Program::Ffmpeg` once that program reads them all.
    const OF_STREAMS: Program = Program::Ffmpeg;
    match kind {
        SourceKind::V4l2 => Program::Opencv,
        _ if sampling == Sampling::Keyframes || damaged == Damaged::Mark => Program::Ffmpeg,
        _ => OF_STREAMS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_taken_and_devices_are_left_to_opencv() {
        let plain = |engine: Engine, kind| engine.program(kind, Sampling::All, Damaged::Drop);
        for kind in [SourceKind::Rtsp, SourceKind::Https, SourceKind::File] {
            assert_eq!(plain(Engine::Opencv, kind), Program::Opencv);
            assert_eq!(plain(Engine::Ffmpeg, kind), Program::Ffmpeg);
            assert_eq!(Engine::Auto.program(kind, Sampling::Keyframes, Damaged::Drop), Program::Ffmpeg);
            assert_eq!(Engine::Auto.program(kind, Sampling::All, Damaged::Mark), Program::Ffmpeg);
        }
        assert_eq!(plain(Engine::Auto, SourceKind::V4l2), Program::Opencv);
        for program in Program::ALL {
            assert_eq!(plain(program.engine(), SourceKind::Rtsp), program);
            assert!(program.file_name().ends_with(program.engine().as_str()));
        }
    }
}
