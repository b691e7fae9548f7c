//! Whether an input holds what it should, as far as it was gone through.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ffmpeg_next::Packet;

use framehaul::media::child::Counters;
use framehaul::media::{MediaError, MediaErrorKind};

use crate::input::{Input, Kind};
use crate::io::{Meter, Metered, Trouble};
use crate::program_stream::examine;

/// How going through an input ended.
pub enum End {
    /// What is wanted is over, at this place of the input, bytes from its begin, where that is known.
    Wanted(Option<u64>),
    /// The input is.
    Input,
    /// The rest of it cannot be read.
    Broken(String),
}

/// Where a packet begins in its input.
pub fn place(packet: &Packet) -> Option<u64> {
    u64::try_from(packet.position()).ok()
}

/// What is wrong with an input of which so many packets of pictures and of sound were seen, a sentence each. What lies
/// behind the part that is wanted does not count.
///
/// # Errors
///
/// [`MediaErrorKind::Input`] where it cannot be read any more.
pub fn troubles(
    input: &Input,
    path: &Path,
    seen: [u64; 2],
    end: &End,
    counters: &Arc<Counters>,
) -> Result<Vec<String>, MediaError> {
    let mut troubles = Vec::new();
    let mut until = None;
    match end {
        End::Wanted(place) => until = *place,
        End::Input => {}
        End::Broken(error) => troubles.push(format!("it cannot be read to its end: {error}")),
    }
    for (kind, what) in [(Kind::Picture, "pictures"), (Kind::Sound, "packets of sound")] {
        let seen = seen[kind as usize];
        if let Some(promised) = input.promised(kind).filter(|promised| *promised > seen)
            && !matches!(end, End::Wanted(_))
        {
            troubles.push(format!("only {seen} of {promised} {what} are in it"));
        }
    }
    troubles.extend(input.unreadable());
    if input.is_program_stream() {
        let meter = Meter::new(counters, |counters| &counters.checked);
        let walked = File::open(path).and_then(|file| examine(Metered::new(file, meter, Trouble::default()), until));
        let findings = walked.map_err(|error: io::Error| {
            MediaError::new(MediaErrorKind::Input, format!("cannot read {}: {error}", path.display()))
        })?;
        troubles.extend(findings.told());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(troubles.into_iter().map(|what| format!("{name}: {what}")).collect())
}
