//! A small disk, which can be full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// A file system in memory, gone when it is dropped.
#[derive(Debug)]
pub(super) struct Tmpfs {
    dir: PathBuf,
}

impl Tmpfs {
    /// Mounts one of so many MiB at `dir`, which is made. Needs root, as mounting does.
    pub(super) fn mount(dir: &Path, mib: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let options = format!("size={mib}m,mode=0700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "framehaul-test"]).arg(dir);
        let output = command.output().context("cannot run mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot mount a tmpfs, for which this has to run as root: {}", said.trim());
        Ok(Self { dir: dir.to_owned() })
    }

    /// Takes all the room there is, and returns how many bytes that was.
    pub(super) fn fill(&self) -> anyhow::Result<u64> {
        let path = self.ballast();
        let mut file =
            File::options().create(true).append(true).open(&path).with_context(|| format!("{}", path.display()))?;
        let mut taken = 0;
        // Ever smaller pieces, down to a page.
        for piece in [1 << 20, 1 << 16, 1 << 12] {
            let piece = vec![1; piece];
            loop {
                match file.write(&piece) {
                    Ok(0) => bail!("nothing can be written to {}, and nothing is wrong", path.display()),
                    Ok(count) => taken += count as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
                }
            }
        }
        Ok(taken)
    }

    /// Gives the room back.
    pub(super) fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.ballast()).context("cannot remove what fills the disk")
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("somebody-elses")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: a process that is still on its way out may have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}
