//! What a container says once of a stream, and ffmpeg-next does not show or set.

use std::slice;

use ffmpeg_next::codec::Parameters;

/// The codec's head: what a decoder needs to begin, in the form that the stream's container has it. Empty where there is
/// none. A copy, because a stream's own may change while it is read.
pub fn extradata(parameters: &Parameters) -> Vec<u8> {
    // SAFETY: parameters are there as long as the handle, and nobody reads the stream in between.
    let (data, size) = unsafe { ((*parameters.as_ptr()).extradata, (*parameters.as_ptr()).extradata_size) };
    match usize::try_from(size) {
        // SAFETY: FFmpeg keeps so many bytes there, as long as the parameters.
        Ok(size @ 1..) if !data.is_null() => unsafe { slice::from_raw_parts(data, size) }.to_vec(),
        _ => Vec::new(),
    }
}

/// What a container's own codes call the codec; `None` leaves that to the container. A code of another container is
/// refused.
pub fn set_tag(parameters: &mut Parameters, tag: Option<[u8; 4]>) {
    let tag = tag.map_or(0, u32::from_le_bytes);
    // SAFETY: the parameters are borrowed for writing, and any number may stand there.
    unsafe { (*parameters.as_mut_ptr()).codec_tag = tag };
}
