//! What every part is given.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Where the programs are, and how long it may take.
#[derive(Debug)]
pub struct Setting {
    /// Fewer cases and repetitions: all parts together in ten minutes.
    pub quick: bool,
    /// The contestants that take part, by their keys; all where none is named.
    pub only: Vec<String>,
    /// `framehaul`.
    pub program: PathBuf,
    /// The test bed's program.
    pub testbed: PathBuf,
    /// A directory below target/ that stays: environments, films.
    pub cache: PathBuf,
}

impl Setting {
    /// Finds the programs.
    ///
    /// # Errors
    ///
    /// When they are not built.
    pub fn new(quick: bool, only: Vec<String>) -> anyhow::Result<Self> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_framehaul"));
        let testbed = program.with_file_name("testbed");
        ensure!(testbed.is_file(), "there is no {}: run `make build`", testbed.display());
        let target = program.ancestors().nth(2).context("the program lies in target/debug")?;
        let cache = target.join("bench");
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
        Ok(Self { quick, only, program, testbed, cache })
    }

    /// Whether a contestant takes part.
    pub fn takes_part(&self, key: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == key)
    }

    /// A new directory, gone when it is dropped.
    ///
    /// # Errors
    ///
    /// When there is no room.
    pub fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.cache).context("cannot make a directory")
    }

    /// Where something lies that is kept from run to run.
    pub fn kept(&self, name: &str) -> PathBuf {
        Path::new(&self.cache).join(name)
    }
}
