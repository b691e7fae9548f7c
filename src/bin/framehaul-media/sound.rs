//! Sound that a container cannot hold, as AAC.

use ffmpeg_next::codec::{self, Parameters};
use ffmpeg_next::format::sample::{Sample, Type};
use ffmpeg_next::{ChannelLayout, Error, Packet, Rational, decoder, encoder, frame};

use framehaul::media::Container;

use crate::timeline::Place;

/// Bits a second for each channel: more than enough for speech at 8,000 samples a second.
const BITS_PER_SECOND: usize = 64_000;

/// A hole or an overlap of less is none, but the roundness of time stamps: one in so many parts of a second.
const TOLERANCE: i64 = 10;

/// Whether a container holds a codec as it is.
pub fn holds(container: Container, codec: codec::Id) -> bool {
    use codec::Id;
    match container {
        Container::Mp4 => matches!(codec, Id::AAC | Id::MP3 | Id::MP2 | Id::AC3),
        Container::Mkv => matches!(
            codec,
            Id::AAC
                | Id::MP3
                | Id::MP2
                | Id::AC3
                | Id::PCM_MULAW
                | Id::PCM_ALAW
                | Id::PCM_S16LE
                | Id::FLAC
                | Id::OPUS
                | Id::VORBIS
        ),
    }
}

/// Makes AAC of something else.
pub struct ToAac {
    decoder: decoder::Audio,
    encoder: encoder::Audio,
    layout: ChannelLayout,
    rate: i64,
    /// Samples of each channel that do not fill a frame yet.
    waiting: Vec<Vec<f32>>,
    /// The number of the first that waits, counted from the begin of the output; `None` before any came.
    position: Option<i64>,
    /// Packets that could not be decoded.
    pub broken: u64,
}

impl ToAac {
    /// For sound with these parameters.
    ///
    /// # Errors
    ///
    /// Where FFmpeg has no decoder for it, or there are more than two channels.
    pub fn new(parameters: Parameters) -> Result<Self, Error> {
        let decoder = codec::Context::from_parameters(parameters)?.decoder().audio()?;
        let (rate, layout) = (
            decoder.rate(),
            match decoder.channels() {
                1 => ChannelLayout::MONO,
                2 => ChannelLayout::STEREO,
                _ => return Err(Error::PatchWelcome),
            },
        );
        let aac = encoder::find(codec::Id::AAC).ok_or(Error::EncoderNotFound)?;
        let mut encoder = codec::Context::new_with_codec(aac).encoder().audio()?;
        let rate_of_samples = i32::try_from(rate).map_err(|_| Error::InvalidData)?;
        encoder.set_rate(rate_of_samples);
        encoder.set_channel_layout(layout);
        encoder.set_format(Sample::F32(Type::Planar));
        encoder.set_bit_rate(BITS_PER_SECOND * usize::from(decoder.channels()));
        encoder.set_time_base(Rational(1, rate_of_samples));
        encoder.set_flags(codec::Flags::GLOBAL_HEADER);
        let encoder = encoder.open()?;
        let waiting = vec![Vec::new(); usize::from(decoder.channels())];
        Ok(Self { decoder, encoder, layout, rate: rate.into(), waiting, position: None, broken: 0 })
    }

    /// The parameters of what it makes.
    pub fn parameters(&self) -> Parameters {
        Parameters::from(&self.encoder)
    }

    /// The unit of its times.
    pub fn unit(&self) -> Rational {
        Rational(1, self.rate as i32)
    }

    /// Takes a packet that stands at this time, microseconds, and gives those that it completes.
    ///
    /// # Errors
    ///
    /// The encoder's. What cannot be decoded is counted.
    pub fn take(&mut self, packet: &Packet, at: i64) -> Result<Vec<(Packet, Place)>, Error> {
        if self.decoder.send_packet(packet).is_err() {
            self.broken += 1;
            return Ok(Vec::new());
        }
        let mut made = Vec::new();
        let mut at = at * self.rate / 1_000_000;
        let mut samples = frame::Audio::empty();
        while self.decoder.receive_frame(&mut samples).is_ok() {
            let Some(channels) = channels(&samples) else {
                self.broken += 1;
                continue;
            };
            self.add(&channels, at, &mut made)?;
            at += samples.samples() as i64;
        }
        Ok(made)
    }

    /// Adds samples that stand there: with silence before them, or without their begin, if they do not follow.
    fn add(&mut self, channels: &[Vec<f32>], at: i64, made: &mut Vec<(Packet, Place)>) -> Result<(), Error> {
        if channels.len() != self.waiting.len() {
            self.broken += 1;
            return Ok(());
        }
        let waiting = self.waiting[0].len() as i64;
        let follows = self.position.map_or(at, |position| position + waiting);
        let off = at - follows;
        let mut passed_over = 0;
        if off > self.rate / TOLERANCE {
            // A hole: what waits is made whole with silence, and the clock goes on behind it.
            self.flush(made)?;
            self.position = Some(self.position.map_or(at, |position| position.max(at)));
        } else if off < -self.rate / TOLERANCE {
            passed_over = usize::try_from(-off).unwrap_or(usize::MAX);
        }
        self.position.get_or_insert(at);
        for (waiting, samples) in self.waiting.iter_mut().zip(channels) {
            waiting.extend(samples.iter().skip(passed_over));
        }
        while self.waiting[0].len() >= self.frame_size() {
            self.encode(made)?;
        }
        Ok(())
    }

    /// Gives what is left.
    ///
    /// # Errors
    ///
    /// The encoder's.
    pub fn finish(&mut self) -> Result<Vec<(Packet, Place)>, Error> {
        let mut made = Vec::new();
        self.flush(&mut made)?;
        self.encoder.send_eof()?;
        self.made(&mut made);
        Ok(made)
    }

    fn frame_size(&self) -> usize {
        // AAC's; the encoder takes no other.
        1_024
    }

    fn flush(&mut self, made: &mut Vec<(Packet, Place)>) -> Result<(), Error> {
        if self.waiting[0].is_empty() {
            return Ok(());
        }
        let size = self.frame_size();
        for waiting in &mut self.waiting {
            waiting.resize(size, 0.0);
        }
        self.encode(made)
    }

    fn encode(&mut self, made: &mut Vec<(Packet, Place)>) -> Result<(), Error> {
        let size = self.frame_size();
        let position = self.position.unwrap_or_default();
        let mut samples = frame::Audio::new(Sample::F32(Type::Planar), size, self.layout);
        samples.set_rate(self.rate as u32);
        samples.set_pts(Some(position));
        for (channel, waiting) in self.waiting.iter_mut().enumerate() {
            samples.plane_mut::<f32>(channel).copy_from_slice(&waiting[..size]);
            waiting.drain(..size);
        }
        self.position = Some(position + size as i64);
        self.encoder.send_frame(&samples)?;
        self.made(made);
        Ok(())
    }

    fn made(&mut self, made: &mut Vec<(Packet, Place)>) {
        let micros = |samples: i64| samples * 1_000_000 / self.rate;
        let mut packet = Packet::empty();
        while self.encoder.receive_packet(&mut packet).is_ok() {
            let at = micros(packet.pts().unwrap_or_default());
            let place = Place { pts: at, dts: at, length: micros(packet.duration()) };
            made.push((std::mem::replace(&mut packet, Packet::empty()), place));
        }
    }
}

/// The samples of each channel, from -1 to 1; `None` of a form that no decoder of ours gives.
fn channels(samples: &frame::Audio) -> Option<Vec<Vec<f32>>> {
    let count = usize::from(samples.channels());
    let small = |sample: i16| f32::from(sample) / 32_768.0;
    let each = |channel: usize| -> Option<Vec<f32>> {
        Some(match samples.format() {
            Sample::I16(Type::Packed) => {
                samples.plane::<i16>(0).iter().skip(channel).step_by(count).map(|sample| small(*sample)).collect()
            }
            Sample::I16(Type::Planar) => samples.plane::<i16>(channel).iter().map(|sample| small(*sample)).collect(),
            Sample::F32(Type::Packed) => samples.plane::<f32>(0).iter().skip(channel).step_by(count).copied().collect(),
            Sample::F32(Type::Planar) => samples.plane::<f32>(channel).to_vec(),
            _ => return None,
        })
    };
    (0..count).map(each).collect()
}
