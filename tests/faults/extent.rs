//! How much is tried, and where.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;

/// Seeds with which a test failed once: what they choose is tried first from then on.
const REGRESSIONS: &[u64] = &[];

/// The short form by default; all of it where `ROUNDS` is set, and not empty. The same seed chooses the same cases:
/// `SEED=1234`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub seed: u64,
    pub long: bool,
}

impl Extent {
    /// Does something with the seed that the environment gives, or with the kept ones and a new one; an error names its
    /// seed.
    pub fn each(tried: impl Fn(&Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let long = std::env::var_os("ROUNDS").is_some_and(|rounds| !rounds.is_empty());
        let seeds = match std::env::var("SEED") {
            Ok(seed) => vec![seed.parse().with_context(|| format!("SEED={seed} is no number"))?],
            Err(_) => REGRESSIONS.iter().copied().chain([fastrand::u64(0..1_000_000)]).collect(),
        };
        for seed in seeds {
            let extent = Self { seed, long };
            println!("\n{extent}");
            tried(&extent).with_context(|| format!("{extent}"))?;
        }
        Ok(())
    }

    pub fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SEED={}", self.seed)
    }
}

/// A directory for one case, with what lies in `before`. In memory where that can be had: the process is killed, not
/// the machine, so that nothing here depends on a disk, and a case costs no wait for one.
pub fn scratch(before: Option<&Path>) -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let dir = match tempfile::tempdir_in(memory) {
        Ok(dir) => dir,
        Err(_) => tempfile::tempdir()?,
    };
    if let Some(before) = before {
        copy(before, dir.path())?;
    }
    Ok(dir)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        if path.is_dir() {
            std::fs::create_dir_all(to.join(&entry))?;
            copy(&path, &to.join(&entry))?;
        } else {
            std::fs::copy(&path, to.join(&entry))?;
        }
    }
    Ok(())
}
