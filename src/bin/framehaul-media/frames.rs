//! Single pictures of files, as JPEGs.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ffmpeg_next::util::error::EAGAIN;
use ffmpeg_next::util::frame;
use ffmpeg_next::{Dictionary, Error, codec, decoder};
use framehaul_pictures::colour::Converter;
use framehaul_pictures::jpeg::JpegEncoder;
use framehaul_pictures::pixels::Pixels;

use framehaul::media::child::Counters;
use framehaul::media::wire::MAX_LINE_BYTES;
use framehaul::media::{Count, Frames, MediaError, MediaErrorKind, Outcome, Sound, Span};

use crate::input::{Input, Kind, MICROSECONDS, Next};
use crate::remux::total;
use crate::timeline::Timeline;
use crate::whole::{End, place, troubles};

/// Pixels of the largest picture that is decoded: four times 7680 x 4320.
const MOST_PIXELS: &str = "132710400";

/// The most JPEGs of one job: a day's, one a second, and then some.
const MOST_FILES: usize = 100_000;

/// What the names of all of them may take of the line that tells them, bytes.
const MOST_NAMES: usize = MAX_LINE_BYTES / 4 * 3;

/// Their most bytes together: a day's in 4K, one a second, and then some.
const MOST_BYTES: u64 = 256 << 30;

/// Pictures in a row that a decoder may refuse to hand out: as many as it holds back, and as it has threads.
const MOST_REFUSED: u64 = 64;

/// Pictures that are decoded at once.
const MOST_THREADS: usize = 4;

/// Does the job.
///
/// # Errors
///
/// [`MediaError`]; some JPEGs may be there then.
pub fn frames(job: &Frames, counters: &Arc<Counters>) -> Result<Outcome, MediaError> {
    total(&job.inputs, counters);
    let mut album = Album::new(job)?;
    let mut timeline = Timeline::default();
    for path in &job.inputs {
        let mut input = Input::file(path, counters)?;
        timeline.next_input(input.begin());
        let (seen, end) = leaf(&mut input, &mut album, &mut timeline, counters)
            .map_err(|error| MediaError::new(error.kind, format!("{}: {}", path.display(), error.message)))?;
        album.troubles.extend(troubles(&input, path, seen, &end, counters)?);
        if let End::Wanted(_) = end {
            break;
        }
    }
    album.finish(&timeline)
}

/// Goes through all pictures of an input: so many packets of pictures and of sound.
fn leaf(
    input: &mut Input,
    album: &mut Album<'_>,
    timeline: &mut Timeline,
    counters: &Arc<Counters>,
) -> Result<([u64; 2], End), MediaError> {
    let mut decoder = open(input).map_err(|error| MediaError::new(MediaErrorKind::Input, error.to_string()))?;
    let mut picture = frame::Video::empty();
    let (mut seen, mut reached) = ([0; 2], None);
    loop {
        let over = match input.next() {
            Next::Packet(Kind::Sound, _) => {
                seen[Kind::Sound as usize] += 1;
                continue;
            }
            Next::Packet(Kind::Picture, mut packet) => {
                seen[Kind::Picture as usize] += 1;
                reached = place(&packet);
                // The joint clock's time stays with the picture on its way through the decoder.
                let placed = timeline.place(Kind::Picture, input.times(Kind::Picture, &packet));
                packet.set_pts(Some(placed.pts));
                packet.set_dts(Some(placed.dts));
                counters.pictures.fetch_add(1, Relaxed);
                album.damaged += u64::from(decoder.send_packet(&packet).is_err());
                None
            }
            Next::End => Some(End::Input),
            Next::Broken(error) => Some(End::Broken(error)),
        };
        if over.is_some() {
            // It is refused only where it was said before.
            let _ = decoder.send_eof();
        }
        let mut refused = 0;
        while refused < MOST_REFUSED {
            match decoder.receive_frame(&mut picture) {
                Ok(()) if album.show(&picture, counters)? => {}
                Ok(()) => return Ok((seen, End::Wanted(reached))),
                Err(Error::Eof | Error::Other { errno: EAGAIN }) => break,
                // Others may wait behind one that cannot be decoded.
                Err(_) => refused += 1,
            }
        }
        album.damaged += refused;
        if let Some(over) = over {
            return Ok((seen, over));
        }
    }
}

fn open(input: &Input) -> Result<decoder::Video, Error> {
    let parameters = input.parameters(Kind::Picture).ok_or(Error::StreamNotFound)?;
    let codec = decoder::find(parameters.id()).ok_or(Error::DecoderNotFound)?;
    let mut context = codec::Context::from_parameters(parameters)?.decoder();
    context.set_packet_time_base(MICROSECONDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let mut options = Dictionary::new();
    options.set("threads", &threads.to_string());
    options.set("max_pixels", MOST_PIXELS);
    // A decoder keeps back what it knows to be damaged, and then nobody can count it.
    options.set("flags", "+output_corrupt");
    context.open_as_with(codec, options)?.video()
}

/// So many JPEGs of this directory can be told in one line.
fn most_files(directory: &Path) -> usize {
    // The longest number there is, as it stands in the message, and a comma.
    let longest = serde_json::to_string(&directory.join(format!("{}.jpg", i64::MAX)));
    let bytes = longest.map_or(MOST_NAMES, |name| name.len() + 1);
    MOST_FILES.min(MOST_NAMES / bytes)
}

/// The JPEGs.
struct Album<'a> {
    job: &'a Frames,
    skip: i64,
    until: i64,
    every: i64,
    pixels: Pixels,
    converter: Converter,
    encoder: JpegEncoder,
    files: Vec<PathBuf>,
    most_files: usize,
    bytes: u64,
    /// The number of the next JPEG.
    next: i64,
    /// When the first and the last picture was shown that is wanted.
    shown: Option<(i64, i64)>,
    read: u64,
    damaged: u64,
    troubles: Vec<String>,
}

impl<'a> Album<'a> {
    fn new(job: &'a Frames) -> Result<Self, MediaError> {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let unusable = |what: &str| MediaError::new(MediaErrorKind::Output, what);
        let encoder = JpegEncoder::new(job.quality).map_err(|error| unusable(&error.to_string()))?;
        let every = micros(job.every);
        if every == 0 {
            return Err(unusable("pictures at no distance from one another are too many"));
        }
        let skip = micros(job.cut.skip);
        Ok(Self {
            job,
            skip,
            until: job.cut.most.map_or(i64::MAX, |most| skip.saturating_add(micros(most))),
            every,
            pixels: Pixels::new(job.max_width),
            converter: Converter::default(),
            encoder,
            files: Vec::new(),
            most_files: most_files(&job.directory),
            bytes: 0,
            next: 0,
            shown: None,
            read: 0,
            damaged: 0,
            troubles: Vec::new(),
        })
    }

    /// Makes a JPEG of a picture if it is one of those that are wanted. `false`: there are no more.
    fn show(&mut self, picture: &frame::Video, counters: &Counters) -> Result<bool, MediaError> {
        let at = picture.pts().unwrap_or_default();
        if at < self.skip {
            return Ok(true);
        }
        if at >= self.until {
            return Ok(false);
        }
        self.read += 1;
        self.shown = Some((self.shown.map_or(at, |(first, _)| first), at));
        let number = (at - self.skip) / self.every;
        if number < self.next {
            return Ok(true);
        }
        if picture.is_corrupt() || picture.has_decode_errors() {
            // The next one does as well.
            self.damaged += 1;
            return Ok(true);
        }
        if self.files.len() == self.most_files || self.bytes > MOST_BYTES {
            self.troubles.push(format!("there are only the first {} pictures", self.files.len()));
            return Ok(false);
        }
        self.next = number + 1;
        let jpeg = self.jpeg(picture).map_err(|error| MediaError::new(MediaErrorKind::Input, error.to_string()))?;
        let path = self.job.directory.join(format!("{number:06}.jpg"));
        let written = File::create_new(&path).and_then(|mut file| file.write_all(&jpeg));
        written.map_err(|error| {
            MediaError::new(MediaErrorKind::Output, format!("cannot write {}: {error}", path.display()))
        })?;
        self.bytes += jpeg.len() as u64;
        counters.written.store(self.bytes, Relaxed);
        self.files.push(path);
        Ok(true)
    }

    fn jpeg(&mut self, picture: &frame::Video) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let planes = self.pixels.planes(picture)?;
        Ok(self.encoder.encode(&self.converter.convert(&planes))?)
    }

    fn finish(mut self, timeline: &Timeline) -> Result<Outcome, MediaError> {
        let Some((first, last)) = self.shown.filter(|_| !self.files.is_empty()) else {
            return Err(MediaError::new(MediaErrorKind::Input, "there is no picture in what is wanted"));
        };
        if self.damaged > 0 {
            self.troubles.push(format!("{} pictures are damaged", self.damaged));
        }
        let time = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or_default());
        Ok(Outcome {
            pictures: Count { read: self.read, written: self.files.len() as u64 },
            files: self.files,
            bytes: self.bytes,
            packets_of_sound: Count::default(),
            sound: Sound::None,
            kept: Span { from: time(first), until: time(last) },
            jumps: timeline.jumps,
            incomplete: (!self.troubles.is_empty()).then(|| self.troubles.join("; ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_all_pictures_fit_into_a_message() {
        assert_eq!(most_files(Path::new("/var/lib/framehaul/spool/detour/0123456789abcdef/pictures")), MOST_FILES);
        // Each of these takes six bytes in JSON.
        let directory = Path::new("/").join("\u{1}".repeat(500));
        let most = most_files(&directory);
        assert!((1_000..MOST_FILES).contains(&most), "{most}");
        let names: Vec<PathBuf> = (0..most).map(|number| directory.join(format!("{number:06}.jpg"))).collect();
        assert!(serde_json::to_string(&names).unwrap().len() < MAX_LINE_BYTES);
    }
}
