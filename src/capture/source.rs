//! The seam between the capture loop and a media library.

use super::wire::StreamInfo;

/// Something that yields pictures one after the other. The capture loop is written against it; each engine's binary
/// implements it.
pub trait FrameSource {
    /// Moves to the next picture without converting it. Blocks until there is one.
    ///
    /// # Errors
    ///
    /// [`SourceError::Ended`] when there will be no more, whatever the reason; [`SourceError::Changed`].
    fn grab(&mut self) -> Result<Grabbed, SourceError>;

    /// Converts the picture grabbed last.
    ///
    /// # Errors
    ///
    /// [`SourceError::Damaged`] when this one picture cannot be decoded or encoded, or is damaged and is not to be
    /// marked; [`SourceError::Changed`].
    fn encode(&mut self) -> Result<Picture, SourceError>;

    /// Whether its pictures are all there already, so that they have to be paced and none is lost by waiting.
    fn is_recorded(&self) -> bool {
        false
    }

    /// What the stream says of itself.
    fn info(&self) -> StreamInfo;
}

/// A picture that was reached but not converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grabbed {
    /// Presentation time, microseconds from an arbitrary start; `None` where the source does not know.
    pub pts_micros: Option<i64>,
    /// The same instant by the camera's own clock, as its RTCP sender reports tell it (RFC 3550, section 6.4.1), Unix
    /// microseconds; `None` where it tells nothing.
    pub wall_micros: Option<i64>,
    /// Whether it was decoded. One that was passed by shows that the stream goes on, and is never converted.
    pub decoded: bool,
}

/// A picture as JPEG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width, pixels, after scaling.
    pub width: u32,
    /// Height, pixels, after scaling.
    pub height: u32,
    /// The JPEG file.
    pub jpeg: Vec<u8>,
    /// Whether a part of it is missing or made up. Only where damaged pictures are to be marked.
    pub damaged: bool,
    /// A fingerprint of the decoded picture, by which one that stands still is known; `None` where the engine makes
    /// none.
    pub content: Option<u64>,
}

/// Why a source gives no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It could not be opened.
    #[error("cannot open the stream: {0}")]
    NotOpened(String),
    /// The stream is over or was cut.
    #[error("the stream ended: {0}")]
    Ended(String),
    /// Its pictures have another size or format from here on, for which it has to be opened anew.
    #[error("the size or the format of the stream's pictures changed")]
    Changed,
    /// One picture is unusable; the next may be fine.
    #[error("a picture could not be converted: {0}")]
    Damaged(String),
}
