//! Opens streams with FFmpeg, and decides in between who puts the pictures together.
//!
//! FFmpeg opens a stream in two steps: it asks the server what there is, then reads until it knows each stream's
//! parameters. Whether it is to parse what it reads has to be said between the two, when the codec is known and nothing
//! has been read. ffmpeg-next's functions do both at once. [`parameters`] has two more things that it leaves out.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod parameters;

use std::ffi::{CStr, CString};
use std::ptr;

use ffmpeg_next::ffi::{
    AV_INPUT_BUFFER_PADDING_SIZE, AVCodecID, AVCodecParameters, AVFMT_FLAG_NOPARSE, AVFormatContext, AVMediaType,
    av_find_input_format, av_mallocz, avformat_alloc_context, avformat_close_input, avformat_find_stream_info,
    avformat_open_input,
};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::util::interrupt;
use ffmpeg_next::{Dictionary, Error};

/// Units that mean nothing, behind a start code: access unit delimiters (ITU-T H.264, 7.3.2.4; ITU-T H.265, 7.3.2.5).
const H264_DELIMITER: [u8; 6] = [0, 0, 0, 1, 0x09, 0xf0];
const H265_DELIMITER: [u8; 7] = [0, 0, 0, 1, 0x46, 0x01, 0x50];

/// An open stream.
pub struct Opened {
    /// FFmpeg's.
    pub context: Input,
    /// Whether packets of H.264 and H.265 come as the network brought them.
    pub in_pieces: bool,
}

/// Opens a stream. FFmpeg asks `interrupt` from within whatever it waits for, and gives up where the answer is yes.
///
/// `format` is FFmpeg's name of the container; without one it looks for itself, in the name of a file as well as within.
///
/// With `pieces` packets of H.264 and H.265 come as a network brought them, if the stream's videos are these, or JPEGs,
/// which need no parser.
///
/// # Errors
///
/// FFmpeg's: [`Error::Exit`] where `interrupt` said so, [`Error::DemuxerNotFound`] where it does not know the format.
pub fn open<F>(
    location: &str,
    format: Option<&CStr>,
    options: Dictionary,
    interrupt: F,
    pieces: bool,
) -> Result<Opened, Error>
where
    F: FnMut() -> bool + Send + 'static,
{
    let format = match format {
        // SAFETY: the string ends with a zero. What it gives is FFmpeg's for ever, or null.
        Some(name) => Some(unsafe { av_find_input_format(name.as_ptr()) })
            .filter(|format| !format.is_null())
            .ok_or(Error::DemuxerNotFound)?,
        None => ptr::null(),
    };
    let location = CString::new(location).map_err(|_| Error::InvalidData)?;
    // Dropped last, on every way out: FFmpeg asks it while a context is closed, too.
    let interrupt = interrupt::new(Box::new(interrupt));
    // SAFETY: it takes nothing, and gives a context of our own or null.
    let mut context = unsafe { avformat_alloc_context() };
    if context.is_null() {
        return Err(Error::Other { errno: ffmpeg_next::util::error::ENOMEM });
    }
    // SAFETY: the context is there and nobody else's. What the callback points to lives as long as the guard.
    unsafe { (*context).interrupt_callback = interrupt.interrupt };
    // SAFETY: from here on the dictionary is ours, until it is owned again below.
    let mut left = unsafe { options.disown() };
    // SAFETY: the context was allocated as this wants it, the string ends with a zero, both outlive the call, and the
    // format is one of FFmpeg's, or null. Where it fails it has freed the context.
    let opened = unsafe { avformat_open_input(&raw mut context, location.as_ptr(), format, &raw mut left) };
    // SAFETY: FFmpeg has put there what it did not use, in a dictionary of the caller's.
    drop(unsafe { Dictionary::own(left) });
    if opened != 0 {
        return Err(Error::from(opened));
    }
    // SAFETY: the context is open and nobody else's.
    let found = match if pieces { unsafe { leave_unparsed(context) } } else { Ok(false) } {
        // SAFETY: as before. Without options nothing is read from the second pointer.
        Ok(in_pieces) => match unsafe { avformat_find_stream_info(context, ptr::null_mut()) } {
            code if code >= 0 => Ok(in_pieces),
            code => Err(Error::from(code)),
        },
        Err(error) => Err(error),
    };
    match found {
        Ok(in_pieces) => {
            // SAFETY: the context is open, and belongs to what is made of it from here on, as does the guard.
            let context = unsafe { Input::wrap_with_interrupt(context, interrupt.guard) };
            Ok(Opened { context, in_pieces })
        }
        Err(error) => {
            // SAFETY: the context is open and nobody else's; it is not used again.
            unsafe { avformat_close_input(&raw mut context) };
            Err(error)
        }
    }
}

/// Has packets come as they are, where the videos are H.264, H.265 or JPEGs. Of others only a parser knows what belongs
/// together.
///
/// # Safety
///
/// `context` is an open input of which nothing has been read.
unsafe fn leave_unparsed(context: *mut AVFormatContext) -> Result<bool, Error> {
    // SAFETY: an open context has as many streams, each with parameters, and nobody else has them now.
    let all = unsafe {
        let count = usize::try_from((*context).nb_streams).unwrap_or_default();
        (0..count).map(|index| &mut *(**(*context).streams.add(index)).codecpar).collect::<Vec<_>>()
    };
    let mut videos: Vec<&mut AVCodecParameters> =
        all.into_iter().filter(|parameters| parameters.codec_type == AVMediaType::AVMEDIA_TYPE_VIDEO).collect();
    let known = [AVCodecID::AV_CODEC_ID_H264, AVCodecID::AV_CODEC_ID_HEVC, AVCodecID::AV_CODEC_ID_MJPEG];
    if videos.is_empty() || videos.iter().any(|video| !known.contains(&video.codec_id)) {
        return Ok(false);
    }
    for video in &mut videos {
        match video.codec_id {
            AVCodecID::AV_CODEC_ID_H264 => fill_in(video, &H264_DELIMITER)?,
            AVCodecID::AV_CODEC_ID_HEVC => fill_in(video, &H265_DELIMITER)?,
            _ => {}
        }
    }
    // SAFETY: as above. Packets that are not parsed have no times of decoding, which FFmpeg would wait for.
    unsafe {
        (*context).flags |= AVFMT_FLAG_NOPARSE;
        (*context).max_ts_probe = 0;
    }
    Ok(true)
}

/// Where a server has told of no parameter sets, FFmpeg looks for them in the packets, takes each for a picture, and
/// gives up at the first one that begins within a unit. So it is given something to have. The decoder finds the
/// parameter sets where they are.
fn fill_in(parameters: &mut AVCodecParameters, unit: &[u8]) -> Result<(), Error> {
    if !parameters.extradata.is_null() && parameters.extradata_size > 0 {
        return Ok(());
    }
    let size = i32::try_from(unit.len()).map_err(|_| Error::InvalidData)?;
    // SAFETY: it gives so many zeros, or null. Decoders may read that much behind the end.
    let bytes = unsafe { av_mallocz(unit.len() + AV_INPUT_BUFFER_PADDING_SIZE as usize) }.cast::<u8>();
    if bytes.is_null() {
        return Err(Error::Other { errno: ffmpeg_next::util::error::ENOMEM });
    }
    // SAFETY: there is room for them, and what was allocated just now is nowhere else.
    unsafe { ptr::copy_nonoverlapping(unit.as_ptr(), bytes, unit.len()) };
    // FFmpeg frees it with the parameters. There was nothing before, so nothing is lost.
    parameters.extradata = bytes;
    parameters.extradata_size = size;
    Ok(())
}
