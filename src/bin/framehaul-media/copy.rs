//! Packets from inputs into an output, as they are but for their times.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ffmpeg_next::Packet;

use framehaul::media::child::Counters;
use framehaul::media::{Container, Count, Cut, MediaError, MediaErrorKind, Outcome, Sound};

use crate::begin::{Begin, Verdict};
use crate::check::check;
use crate::input::{Input, Kind, Shape, SoundShape};
use crate::output::{Output, Stream};
use crate::sound::{ToAac, holds};
use crate::timeline::{Place, Timeline};

/// What may be held for a key frame that a part may begin with, bytes. Where there is more between two of them, the part
/// begins with the second.
const MOST_HELD: usize = 128 << 20;

/// What is written where, and how it goes on with the sound.
pub struct Copy<'a> {
    output: Output,
    counters: &'a Arc<Counters>,
    shape: Shape,
    /// What the sound must be in each input.
    sound_shape: Option<SoundShape>,
    sound: Sound,
    encoder: Option<ToAac>,
    timeline: Timeline,
    begin: Begin,
    held: Vec<(Kind, Packet, Place)>,
    held_bytes: usize,
    /// Taken from the inputs.
    read: [u64; 2],
    /// Packets that are not as they should be.
    damaged: u64,
    troubles: Vec<String>,
}

impl<'a> Copy<'a> {
    /// Begins a file with what this input has. Sound goes into it as it is, or else as AAC, or else not at all.
    ///
    /// # Errors
    ///
    /// Where the container cannot hold the pictures, or nothing can be written.
    pub fn new(
        input: &Input,
        path: &Path,
        container: Container,
        cut: Cut,
        without_sound: Option<String>,
        counters: &'a Arc<Counters>,
    ) -> Result<Self, MediaError> {
        let unusable = |error: ffmpeg_next::Error| MediaError::new(MediaErrorKind::Input, error.to_string());
        let shape = input.shape().map_err(unusable)?;
        let create = |sound: Option<Stream>| {
            let parameters = input.parameters(Kind::Picture).expect("an input has pictures");
            let pictures = Stream { parameters, unit: input.time_base(Kind::Picture) };
            Output::create(path, container, pictures, sound, counters.of.load(Relaxed), counters)
        };
        let parameters = input.parameters(Kind::Sound).filter(|_| without_sound.is_none());
        let mut reasons: Vec<String> = without_sound.into_iter().collect();
        let mut begun = None;
        if let Some(parameters) = parameters {
            let name = parameters.id().name();
            if holds(container, parameters.id()) {
                let unit = input.time_base(Kind::Sound);
                match create(Some(Stream { parameters: parameters.clone(), unit })) {
                    Ok(output) => begun = Some((output, None, Sound::Copied)),
                    Err(error) if error.kind == MediaErrorKind::Container => reasons.push(error.message),
                    Err(error) => return Err(error),
                }
            }
            if begun.is_none() {
                let encoder = ToAac::new(parameters).map_err(|error| format!("{name} cannot be decoded: {error}"));
                let stream = |encoder: &ToAac| Stream { parameters: encoder.parameters(), unit: encoder.unit() };
                match encoder {
                    Ok(encoder) => match create(Some(stream(&encoder))) {
                        Ok(output) => begun = Some((output, Some(encoder), Sound::Encoded { from: name.to_owned() })),
                        Err(error) if error.kind == MediaErrorKind::Container => reasons.push(error.message),
                        Err(error) => return Err(error),
                    },
                    Err(reason) => reasons.push(reason),
                }
            }
        }
        let (output, encoder, sound) = match begun {
            Some(begun) => begun,
            None if reasons.is_empty() => (create(None)?, None, Sound::None),
            None => (create(None)?, None, Sound::Dropped { reason: reasons.join("; ") }),
        };
        Ok(Self {
            output,
            counters,
            shape,
            sound_shape: input.sound_shape(),
            sound,
            encoder,
            timeline: Timeline::default(),
            begin: Begin::new(cut),
            held: Vec::new(),
            held_bytes: 0,
            read: [0; 2],
            damaged: 0,
            troubles: Vec::new(),
        })
    }

    /// Goes on with another input.
    ///
    /// # Errors
    ///
    /// Where it cannot be joined to the one before.
    pub fn next_input(&mut self, input: &Input) -> Result<(), Differs> {
        let shape = input.shape().map_err(|_| Differs::Pictures)?;
        if shape != self.shape {
            return Err(Differs::Pictures);
        }
        match (&self.sound, input.sound_shape()) {
            (Sound::Copied | Sound::Encoded { .. }, Some(shape)) if Some(shape) != self.sound_shape => {
                return Err(Differs::Sound);
            }
            (Sound::None, Some(_)) => {
                self.sound = Sound::Dropped { reason: "the first input has none".to_owned() };
            }
            _ => {}
        }
        self.timeline.next_input(input.begin());
        Ok(())
    }

    /// Notes why the output is not all that it should be.
    pub fn trouble(&mut self, what: String) {
        self.troubles.push(what);
    }

    /// Where the pictures end that were taken, microseconds from the first.
    pub fn end(&self) -> i64 {
        self.timeline.end()
    }

    /// Takes a packet. `false`: what is to be kept is over.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn take(&mut self, input: &Input, kind: Kind, packet: Packet) -> Result<bool, MediaError> {
        if kind == Kind::Sound && !matches!(self.sound, Sound::Copied | Sound::Encoded { .. }) {
            return Ok(true);
        }
        if packet.size() == 0 {
            return Ok(true);
        }
        let place = self.timeline.place(kind, input.times(kind, &packet));
        let verdict = match kind {
            Kind::Picture => self.begin.picture(place, packet.is_key()),
            Kind::Sound => self.begin.sound(place),
        };
        match verdict {
            Verdict::Leave => {}
            Verdict::Over => return Ok(false),
            Verdict::HoldAnew => {
                let begin = place.pts;
                self.held.retain(|(kind, _, place)| *kind == Kind::Sound && place.pts + place.length > begin);
                self.held_bytes = self.held.iter().map(|(_, packet, _)| packet.size()).sum();
                self.hold(kind, packet, place);
            }
            Verdict::Hold => self.hold(kind, packet, place),
            Verdict::Keep => {
                self.release()?;
                self.write(kind, packet, place)?;
            }
        }
        Ok(true)
    }

    fn hold(&mut self, kind: Kind, packet: Packet, place: Place) {
        self.held_bytes += packet.size();
        self.held.push((kind, packet, place));
        if self.held_bytes > MOST_HELD {
            self.held.clear();
            self.held_bytes = 0;
            self.begin.give_up();
        }
    }

    fn release(&mut self) -> Result<(), MediaError> {
        for (kind, packet, place) in std::mem::take(&mut self.held) {
            if kind == Kind::Picture || self.begin.sound(place) == Verdict::Keep {
                self.write(kind, packet, place)?;
            }
        }
        self.held_bytes = 0;
        Ok(())
    }

    fn write(&mut self, kind: Kind, packet: Packet, place: Place) -> Result<(), MediaError> {
        self.damaged += u64::from(packet.is_corrupt());
        let place = place.less(self.begin.from().unwrap_or_default());
        match (kind, &mut self.encoder) {
            (Kind::Sound, Some(encoder)) => {
                let made = encoder.take(&packet, place.pts).map_err(|error| broken_encoder(&error))?;
                self.write_made(made)
            }
            _ => {
                self.read[kind as usize] += 1;
                if kind == Kind::Picture {
                    self.counters.pictures.fetch_add(1, Relaxed);
                }
                self.output.write(kind, packet, place)
            }
        }
    }

    fn write_made(&mut self, made: Vec<(Packet, Place)>) -> Result<(), MediaError> {
        for (packet, place) in made {
            self.read[Kind::Sound as usize] += 1;
            self.output.write(Kind::Sound, packet, place)?;
        }
        Ok(())
    }

    /// Completes the file: reads it again and gives it its name.
    ///
    /// # Errors
    ///
    /// Where nothing was to be kept, or what was written is not what it should be.
    pub fn finish(mut self) -> Result<Outcome, MediaError> {
        if self.begin.finish() {
            self.release()?;
        }
        if self.begin.from().is_none() {
            let what = if self.timeline.end() == 0 { "there are no pictures in it" } else { NOTHING };
            return Err(MediaError::new(MediaErrorKind::Input, what));
        }
        if let Some(mut encoder) = self.encoder.take() {
            let made = encoder.finish().map_err(|error| broken_encoder(&error))?;
            self.write_made(made)?;
            self.damaged += encoder.broken;
        }
        if self.damaged > 0 {
            self.troubles.push(format!("{} packets are damaged", self.damaged));
        }
        if self.begin.lost() > 0 {
            self.troubles.push(format!("the first {} pictures have no key frame before them", self.begin.lost()));
        }
        let written = self.output.finish()?;
        let [pictures, packets_of_sound] = check(&written, self.counters)?;
        let bytes = written.bytes;
        let path = written.rename()?;
        let [of_pictures, of_sound] = self.read;
        Ok(Outcome {
            files: vec![path],
            bytes,
            pictures: Count { read: of_pictures, written: pictures },
            packets_of_sound: Count { read: of_sound, written: packets_of_sound },
            sound: self.sound,
            kept: self.begin.kept(),
            jumps: self.timeline.jumps,
            incomplete: (!self.troubles.is_empty()).then(|| self.troubles.join("; ")),
        })
    }
}

const NOTHING: &str = "no key frame in it is part of what is wanted";

/// What keeps an input from being joined to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// The codec of the pictures, their size, or what the container says once for all of them.
    Pictures,
    /// What the sound is.
    Sound,
}

fn broken_encoder(error: &ffmpeg_next::Error) -> MediaError {
    MediaError::new(MediaErrorKind::Container, format!("the sound cannot be encoded: {error}"))
}
