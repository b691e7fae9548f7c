//! Files for FFmpeg, which itself opens none: it is given what was opened here, and can reach nothing else.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use framehaul::media::child::Counters;

/// So much is written before it is waited for that it is on the disk: at the end all of it would be one wait, in which
/// nothing moves.
const SYNC_EVERY: u64 = 64 << 20;

/// What went wrong with a file. FFmpeg keeps of an error its number at best.
#[derive(Clone, Debug, Default)]
pub struct Trouble(Arc<Mutex<Option<io::Error>>>);

impl Trouble {
    fn note(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        kind.into()
    }

    /// The first error.
    pub fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Which of the counters a file moves.
#[derive(Clone, Debug)]
pub struct Meter {
    /// The counters' owner, and which it is.
    counted: fn(&Counters) -> &AtomicU64,
    counters: Arc<Counters>,
}

impl Meter {
    /// One that moves this counter from where it is.
    pub fn new(counters: &Arc<Counters>, counted: fn(&Counters) -> &AtomicU64) -> Self {
        Self { counted, counters: counters.clone() }
    }

    /// So many bytes more. What is read twice counts twice: by its movement alone a job is known to be at work, and the
    /// index of an MP4 stands at its end.
    fn moved(&self, count: usize) {
        (self.counted)(&self.counters).fetch_add(count as u64, Relaxed);
    }
}

/// A file that is read or written.
#[derive(Debug)]
pub struct Metered {
    file: File,
    /// Written since all was on the disk.
    unsynced: u64,
    meter: Meter,
    trouble: Trouble,
}

impl Metered {
    /// The file, from its begin.
    pub fn new(file: File, meter: Meter, trouble: Trouble) -> Self {
        Self { file, unsynced: 0, meter, trouble }
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer).map_err(|error| self.trouble.note(error))?;
        self.meter.moved(count);
        Ok(count)
    }
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes).map_err(|error| self.trouble.note(error))?;
        self.meter.moved(count);
        self.unsynced += count as u64;
        if self.unsynced >= SYNC_EVERY {
            self.file.sync_data().map_err(|error| self.trouble.note(error))?;
            self.unsynced = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_behind_the_end_of_a_file_is_movement_as_well() {
        let counters = Arc::new(Counters::default());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 1_000]).unwrap();
        let meter = Meter::new(&counters, |counters| &counters.checked);
        let mut file = Metered::new(file, meter, Trouble::default());
        let mut moved = Vec::new();
        // As an MP4 is read: its index first.
        for from in [900, 0, 500] {
            file.seek(SeekFrom::Start(from)).unwrap();
            file.read_exact(&mut [0; 100]).unwrap();
            moved.push(counters.checked.load(Relaxed));
        }
        assert_eq!(moved, [100, 200, 300]);
    }
}
