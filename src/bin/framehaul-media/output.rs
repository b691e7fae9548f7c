//! A file that is written, under another name until it is complete.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ffmpeg_next::codec::{self, Parameters};
use ffmpeg_next::format::context::StreamIo;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, Rescale as _, format};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use framehaul::media::child::Counters;
use framehaul::media::{Container, MediaError, MediaErrorKind, part_of};
use framehaul_avopen::parameters::{extradata, set_tag};

use crate::input::{Kind, MICROSECONDS};
use crate::io::{Meter, Metered, Trouble};
use crate::timeline::Place;

/// Bytes that FFmpeg writes at once.
const CHUNK: usize = 1 << 20;

/// Of inputs of more bytes an MP4 is written in fragments: the index of one that is whole stands in memory until its end,
/// some 70 bytes for each picture.
const FRAGMENTS_ABOVE: u64 = 8 << 30;

/// A stream that is to be written: its codec, and the unit of its times.
pub struct Stream {
    /// The codec's parameters.
    pub parameters: Parameters,
    /// The unit that its times had; a container may take another.
    pub unit: Rational,
}

/// An output that is being written.
pub struct Output {
    context: format::context::Output,
    file: File,
    path: PathBuf,
    trouble: Trouble,
    units: Vec<Rational>,
    last: [Option<i64>; 2],
    /// Packets of pictures and of sound so far.
    pub written: [u64; 2],
}

impl Output {
    /// Begins a file of these pictures and, perhaps, this sound.
    ///
    /// # Errors
    ///
    /// [`MediaErrorKind::Container`] where the container cannot hold them, or [`MediaErrorKind::Output`].
    pub fn create(
        path: &Path,
        container: Container,
        pictures: Stream,
        sound: Option<Stream>,
        input_bytes: u64,
        counters: &Arc<Counters>,
    ) -> Result<Self, MediaError> {
        if path.exists() {
            return Err(failed(path, &"it exists already"));
        }
        let part = part_of(path);
        // What an earlier run has left there is of no use to anybody.
        let file = File::options().write(true).create(true).truncate(true).open(&part);
        let file = file.map_err(|error| failed(&part, &error))?;
        let trouble = Trouble::default();
        let own = file.try_clone().map_err(|error| failed(&part, &error))?;
        let metered = Metered::new(own, Meter::new(counters, |counters| &counters.written), trouble.clone());
        let io = StreamIo::from_write_seek_with_capacity(metered, CHUNK).map_err(|error| failed(&part, &error))?;
        let name = match container {
            Container::Mp4 => "mp4",
            Container::Mkv => "matroska",
        };
        let context = format::output_to_stream(io, None, Some(name)).map_err(|error| failed(&part, &error))?;
        let mut output =
            Self { context, file, path: path.to_owned(), trouble, units: Vec::new(), last: [None; 2], written: [0; 2] };
        output.begin(container, pictures, sound, input_bytes).map_err(|error| match output.trouble.take() {
            Some(error) => failed(&part, &error),
            None => MediaError::new(MediaErrorKind::Container, format!("the container cannot hold this: {error}")),
        })?;
        Ok(output)
    }

    fn begin(
        &mut self,
        container: Container,
        pictures: Stream,
        sound: Option<Stream>,
        input_bytes: u64,
    ) -> Result<(), Error> {
        for Stream { mut parameters, unit } in [Some(pictures), sound].into_iter().flatten() {
            retag(&mut parameters, container);
            let mut stream = self.context.add_stream(None::<ffmpeg_next::Codec>)?;
            stream.set_time_base(unit);
            stream.set_parameters(parameters);
        }
        let mut options = Dictionary::new();
        if container == Container::Mp4 && input_bytes > FRAGMENTS_ABOVE {
            options.set("movflags", "frag_keyframe+empty_moov+default_base_moof");
        }
        self.context.write_header_with(options)?;
        self.units = self.context.streams().map(|stream| stream.time_base()).collect();
        Ok(())
    }

    /// Writes a packet.
    ///
    /// # Errors
    ///
    /// [`MediaErrorKind::Output`], as of a full disk.
    pub fn write(&mut self, kind: Kind, mut packet: Packet, place: Place) -> Result<(), MediaError> {
        let index = kind as usize;
        let unit = self.units[index];
        let ticks = |micros: i64| micros.rescale(MICROSECONDS, unit);
        let dts = self.last[index].map_or(ticks(place.dts), |last| ticks(place.dts).max(last + 1));
        self.last[index] = Some(dts);
        packet.set_stream(index);
        packet.set_dts(Some(dts));
        packet.set_pts(Some(ticks(place.pts).max(dts)));
        packet.set_duration(ticks(place.length));
        packet.set_position(-1);
        packet.write_interleaved(&mut self.context).map_err(|error| self.failed(error))?;
        self.written[index] += 1;
        Ok(())
    }

    /// Writes what a container has at its end, and sees to it that all of it is on the disk, still under its other name.
    ///
    /// # Errors
    ///
    /// [`MediaErrorKind::Output`], as of a full disk.
    pub fn finish(mut self) -> Result<Written, MediaError> {
        self.context.write_trailer().map_err(|error| self.failed(error))?;
        let Self { context, file, path, trouble, written, .. } = self;
        // What it has not written yet it writes now.
        drop(context);
        let part = part_of(&path);
        let synced = trouble.take().map_or_else(|| file.sync_all(), Err);
        let bytes = synced.and_then(|()| file.metadata()).map_err(|error| failed(&part, &error))?.len();
        Ok(Written { path, part, bytes, packets: written })
    }

    fn failed(&self, error: Error) -> MediaError {
        let part = part_of(&self.path);
        self.trouble.take().map_or_else(|| failed(&part, &error), |error| failed(&part, &error))
    }
}

/// A file that is complete but for its name.
pub struct Written {
    path: PathBuf,
    /// What it is called now.
    pub part: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Packets of pictures and of sound that should be in it.
    pub packets: [u64; 2],
}

impl Written {
    /// Gives it its name, for good.
    ///
    /// # Errors
    ///
    /// Where that is taken.
    pub fn rename(self) -> Result<PathBuf, MediaError> {
        let Self { path, part, .. } = self;
        let renamed = match renameat_with(CWD, &part, CWD, &path, RenameFlags::NOREPLACE) {
            // Not every file system knows that; there was nothing of that name at the begin.
            Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(&part, &path),
            renamed => renamed.map_err(Into::into),
        };
        renamed.map_err(|error| failed(&path, &error))?;
        let directory = path.parent().map_or_else(|| File::open("/"), File::open);
        directory.and_then(|directory| directory.sync_all()).map_err(|error| failed(&path, &error))?;
        Ok(path)
    }
}

/// Calls the codec what the container calls it. What an MP4 has told its player of H.265 and the like stays as it was.
fn retag(parameters: &mut Parameters, container: Container) {
    let in_container = extradata(parameters).first() == Some(&1);
    match (container, parameters.id()) {
        (Container::Mp4, codec::Id::H264 | codec::Id::HEVC) if in_container => {}
        // Parameter sets are in the head alone, which more players want so.
        (Container::Mp4, codec::Id::HEVC) => set_tag(parameters, Some(*b"hvc1")),
        _ => set_tag(parameters, None),
    }
}

fn failed(path: &Path, what: &dyn std::fmt::Display) -> MediaError {
    MediaError::new(MediaErrorKind::Output, format!("cannot write {}: {what}", path.display()))
}
