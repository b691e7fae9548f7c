//! Packets to pictures, on one thread, and what speaks against each picture.

use ffmpeg_next::util::{frame, picture};
use ffmpeg_next::{Dictionary, Error, Packet, codec, decoder};

use crate::evidence::Evidence;
use crate::holes::Hole;
use crate::input::{Input, Times};

/// Pixels of the largest picture that is decoded: four times 7680 x 4320. A hostile stream may promise a quarter of a
/// gigabyte for each of its pictures.
const MOST_PIXELS: &str = "132710400";

/// A picture that came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// When it was taken.
    pub times: Times,
    /// Whether it is not what the camera saw.
    pub damaged: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The decoder has it.
    Yes,
    /// It is of no use to the decoder, and no picture will come of it. When that was taken.
    No(Times),
}

/// An open decoder, and the picture that it gave last.
pub struct Decoder {
    video: decoder::Video,
    evidence: Evidence,
    frame: frame::Video,
}

impl Decoder {
    /// Opens the decoder of a stream.
    ///
    /// # Errors
    ///
    /// FFmpeg's, where it knows no decoder or the stream's parameters are none.
    pub fn open(input: &Input) -> Result<Self, Error> {
        let mut context = codec::Context::from_parameters(input.parameters())?.decoder();
        context.set_packet_time_base(input.time_base());
        let mut options = Dictionary::new();
        options.set("threads", "1");
        options.set("max_pixels", MOST_PIXELS);
        // A decoder keeps back what it knows to be damaged, and then nobody can count it.
        options.set("flags", "+output_corrupt");
        let codec = decoder::find(input.codec()).ok_or(Error::DecoderNotFound)?;
        let video = context.open_as_with(codec, options)?.video()?;
        Ok(Self { video, evidence: Evidence::default(), frame: frame::Video::empty() })
    }

    /// Whether a whole picture comes of a packet alone, and refers to no other.
    pub fn stands_alone(input: &Input, packet: &Packet) -> bool {
        let Ok(mut alone) = Self::open(input) else { return false };
        if alone.send(packet, Times::default(), Hole::default()) != Taken::Yes {
            return false;
        }
        alone.finish();
        alone.next().is_some_and(|decoded| !decoded.damaged) && alone.frame.kind() == picture::Type::I
    }

    /// Gives the decoder a packet. All pictures that are there must have been taken before.
    pub fn send(&mut self, packet: &Packet, times: Times, hole: Hole) -> Taken {
        let hole = if packet.is_corrupt() { Hole::ANYWHERE } else { hole };
        self.evidence.sent(packet.pts(), times, packet.is_key(), hole);
        if hole.headless {
            return Taken::No(self.evidence.nothing_came());
        }
        match self.video.send_packet(packet) {
            Ok(()) => Taken::Yes,
            Err(_) => Taken::No(self.evidence.nothing_came()),
        }
    }

    /// Notes that the decoder complained of what it was given last.
    pub fn wrong(&mut self) {
        self.evidence.wrong();
    }

    /// Nothing follows for now: what the decoder holds back comes out.
    pub fn finish(&mut self) {
        // It is refused only where that was said before.
        let _ = self.video.send_eof();
    }

    /// Makes a decoder that was [finished](Self::finish), and gave all that it had, ready for a key frame.
    pub fn restart(&mut self) {
        self.video.flush();
        self.evidence.emptied();
    }

    /// The next picture, if there is one.
    pub fn next(&mut self) -> Option<Decoded> {
        loop {
            match self.video.receive_frame(&mut self.frame) {
                Ok(()) => {
                    let flagged = self.frame.has_decode_errors() || self.frame.is_corrupt();
                    let (times, damaged) = self.evidence.came(self.frame.pts(), flagged);
                    return Some(Decoded { times, damaged });
                }
                Err(Error::InvalidData) => self.evidence.wrong(),
                Err(_) => return None,
            }
        }
    }

    /// Width and height that the stream declares, pixels; 0 where it does not.
    pub fn size(&self) -> (u32, u32) {
        (self.video.width(), self.video.height())
    }

    /// The picture that came last.
    pub fn frame(&self) -> &frame::Video {
        &self.frame
    }
}
