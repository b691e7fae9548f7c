//! What decoding and encoding cost at least: libavcodec alone and libjpeg-turbo alone, each on one thread, with nothing
//! around them. `testbed accept --name fast-capture` sets the capture programs against the sum of the two.
//!
//! A program of its own, so that nothing else of the test bed comes to link media libraries: its own binary stands for
//! capture programs by the hundred.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use ffmpeg_next as ffmpeg;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::{codec, decoder, media};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use turbojpeg::{Compressor, OutputBuf, Subsamp, YuvPlanesImage};

/// What decoding or encoding a film costs alone; prints {"frames", "seconds", "bytes"}
#[derive(Parser)]
struct Args {
    /// What is timed
    part: Part,
    /// The film
    file: PathBuf,
    /// JPEG quality
    #[arg(long, default_value_t = 85)]
    quality: i32,
    /// Only key frames, as if there were no others
    #[arg(long)]
    keyframes: bool,
    /// Ask no clock: instructions are counted
    #[arg(long)]
    untimed: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// Reading and decoding; pictures are dropped as they come
    Decode,
    /// Encoding, from the decoder's own planes; decoding is not counted
    Encode,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ffmpeg::init().context("cannot start FFmpeg")?;
    let mut input =
        ffmpeg::format::input(&args.file).with_context(|| format!("cannot open {}", args.file.display()))?;
    let stream = input.streams().best(media::Type::Video).context("the file has no video")?;
    let (index, parameters) = (stream.index(), stream.parameters());
    let mut context = codec::Context::from_parameters(parameters).context("cannot set up the decoder")?;
    context.set_threading(codec::threading::Config::count(1));
    let mut decoder = context.decoder().video().context("cannot open the decoder")?;
    let mut encoder = Encoder::new(args.quality)?;

    let (mut frame, mut frames, mut encoding) = (Video::empty(), 0, Duration::ZERO);
    let processor_time = || if args.untimed { Duration::ZERO } else { processor_time() };
    let begun = processor_time();
    let mut take = |decoder: &mut decoder::Video| -> anyhow::Result<()> {
        while decoder.receive_frame(&mut frame).is_ok() {
            frames += 1;
            if args.part == Part::Encode {
                let begun = processor_time();
                encoder.encode(&frame)?;
                encoding += processor_time() - begun;
            }
        }
        Ok(())
    };
    for (stream, packet) in input.packets() {
        if stream.index() == index && (packet.is_key() || !args.keyframes) {
            decoder.send_packet(&packet).context("cannot decode")?;
            take(&mut decoder)?;
        }
    }
    decoder.send_eof().context("cannot end the decoder")?;
    take(&mut decoder)?;
    let all = processor_time() - begun;
    let seconds = if args.part == Part::Encode { encoding } else { all }.as_secs_f64();
    println!("{}", json!({ "frames": frames, "seconds": seconds, "bytes": encoder.bytes }));
    Ok(())
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// libjpeg-turbo, with the same buffer for each JPEG.
struct Encoder {
    compressor: Compressor,
    jpeg: OutputBuf<'static>,
    bytes: usize,
}

impl Encoder {
    fn new(quality: i32) -> anyhow::Result<Self> {
        let mut compressor = Compressor::new().context("cannot start libjpeg-turbo")?;
        compressor.set_quality(quality).context("quality")?;
        Ok(Self { compressor, jpeg: OutputBuf::new_owned(), bytes: 0 })
    }

    /// Encodes a picture as it is: its levels are taken for what JPEG has, which they may not be.
    fn encode(&mut self, frame: &Video) -> anyhow::Result<()> {
        let subsamp = match frame.format() {
            Pixel::YUV420P | Pixel::YUVJ420P => Subsamp::Sub2x2,
            Pixel::YUV422P | Pixel::YUVJ422P => Subsamp::Sub2x1,
            Pixel::YUV444P | Pixel::YUVJ444P => Subsamp::None,
            other => bail!("no floor for pictures of {other:?}"),
        };
        let image = YuvPlanesImage {
            y_plane: frame.data(0),
            u_plane: frame.data(1),
            v_plane: frame.data(2),
            width: frame.width() as usize,
            height: frame.height() as usize,
            y_stride: frame.stride(0),
            u_stride: frame.stride(1),
            v_stride: frame.stride(2),
            subsamp,
        };
        self.compressor.compress_yuv_planes(&image, &mut self.jpeg).context("cannot encode")?;
        ensure!(!self.jpeg.is_empty(), "an empty JPEG");
        self.bytes += self.jpeg.len();
        Ok(())
    }
}
