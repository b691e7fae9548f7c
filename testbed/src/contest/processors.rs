//! Which processors a process runs on.

use anyhow::Context;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Those that this process may use.
///
/// # Errors
///
/// When the system does not say.
pub fn allowed() -> anyhow::Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot ask which processors may be used")?;
    Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
}

/// Keeps all threads of a process, and those that they will start, to these processors.
///
/// # Errors
///
/// When there is no such process, or it is not ours.
pub fn keep_to(pid: u32, processors: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|processor| set.set(*processor));
    let path = format!("/proc/{pid}/task");
    for thread in std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))? {
        let thread = thread.with_context(|| format!("cannot read {path}"))?.file_name();
        let id = thread.to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        match sched_setaffinity(Some(id.context("a thread has a number")?), &set) {
            // It has ended meanwhile.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("cannot say where process {pid} may run")),
        }
    }
    Ok(())
}

/// A process that has a processor to itself among those of ours, so that what it takes does not depend on what the
/// others have left in the processor's memory. They may go everywhere again when this is dropped.
#[derive(Debug)]
pub struct Apart {
    ours: Vec<usize>,
}

impl Apart {
    /// Keeps `pid` to the last processor, and ourselves and `others` to the rest. `None` where there is but one.
    ///
    /// # Errors
    ///
    /// When one of them is gone.
    pub fn keep(pid: u32, others: impl IntoIterator<Item = u32>) -> anyhow::Result<Option<Self>> {
        let ours = allowed()?;
        let Some((own, rest)) = ours.split_last().filter(|(_, rest)| !rest.is_empty()) else { return Ok(None) };
        keep_to(pid, &[*own])?;
        for other in others {
            keep_to(other, rest)?;
        }
        keep_to(std::process::id(), rest)?;
        Ok(Some(Self { ours }))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // We are there, and it is ours to say.
        let _ = keep_to(std::process::id(), &self.ours);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_stays_where_it_is_kept() {
        let ours = allowed().unwrap();
        assert!(!ours.is_empty());
        let sleeper = Sleeper(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap());
        let pid = sleeper.0.id();
        keep_to(pid, &ours[..1]).unwrap();
        let set = sched_getaffinity(Pid::from_raw(pid as i32)).unwrap();
        assert_eq!((set.count(), set.is_set(ours[0])), (1, true));
        assert!(keep_to(u32::MAX, &ours).is_err());
    }
}
