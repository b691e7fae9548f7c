//! Planes to JPEG, by libjpeg-turbo.

use turbojpeg::{Compressor, Image, PixelFormat, Subsamp, YuvPlanesImage};

use crate::colour::{JpegPlanes, Subsampling};

/// Makes JPEG files (JFIF, baseline, the standard Huffman tables), in a buffer that lasts from picture to picture.
#[derive(Debug)]
pub struct JpegEncoder {
    compressor: Compressor,
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
    /// [`EncodeError`] where it is none of these.
    pub fn new(quality: u8) -> Result<Self, EncodeError> {
        let mut compressor = Compressor::new()?;
        compressor.set_quality(quality.into())?;
        Ok(Self { compressor, buffer: Vec::new() })
    }

    /// The JPEG file of a picture.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]: libjpeg-turbo found no memory.
    pub fn encode(&mut self, picture: &JpegPlanes<'_>) -> Result<Vec<u8>, EncodeError> {
        let (width, height) = (picture.width as usize, picture.height as usize);
        let subsamp = match picture.subsampling() {
            Subsampling::Gray => Subsamp::Gray,
            Subsampling::Yuv420 => Subsamp::Sub2x2,
            Subsampling::Yuv422 => Subsamp::Sub2x1,
            Subsampling::Yuv444 => Subsamp::None,
        };
        let most = turbojpeg::compressed_buf_len(width, height, subsamp)?;
        if self.buffer.len() < most {
            // Not grown in place: new zeros are the kernel's, and cost memory only as far as a JPEG reaches into them.
            self.buffer = vec![0; most];
        }
        let [y, cb, cr] = picture.planes();
        let length = if subsamp == Subsamp::Gray {
            // As an image: turbojpeg panics at planes without chroma.
            self.compressor.set_subsamp(subsamp)?;
            let image = Image { pixels: y.bytes, width, pitch: y.stride, height, format: PixelFormat::GRAY };
            self.compressor.compress_to_slice(image, &mut self.buffer)?
        } else {
            let image = YuvPlanesImage {
                y_plane: y.bytes,
                u_plane: cb.bytes,
                v_plane: cr.bytes,
                width,
                height,
                y_stride: y.stride,
                u_stride: cb.stride,
                v_stride: cr.stride,
                subsamp,
            };
            self.compressor.compress_yuv_planes_to_slice(&image, &mut self.buffer)?
        };
        Ok(self.buffer[..length].to_vec())
    }
}

#[cfg(test)]
mod tests;
