//! What a process and all that it has started take, by the kernel's accounts.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::trial::{TICKS_PER_SECOND, ended, processor_time};

/// A process with its children, their children, and so on, as they are when they are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Tree(u32);

impl Tree {
    /// That of a process.
    pub fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// Processor time so far, of those that have ended and were waited for as well.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn processor(self) -> anyhow::Result<Duration> {
        let ticks: u64 = self.processes()?.iter().map(|process| process.ticks).sum();
        Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
    }

    /// Processor time so far of the first process alone, without its children.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn alone(self) -> anyhow::Result<Duration> {
        processor_time(self.0)
    }

    /// Memory of all, bytes: what several share counts once in all (PSS).
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn memory(self) -> anyhow::Result<u64> {
        let share = |process: &Process| {
            // One that has ended meanwhile has none.
            let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).ok()?;
            share_of(&text)
        };
        Ok(self.processes()?.iter().filter_map(share).sum())
    }

    fn processes(self) -> anyhow::Result<Vec<Process>> {
        let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").context("cannot read /proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // It may have ended since.
            let Some(process) = Process::look(pid) else { continue };
            match pid == self.0 {
                true => found.push(process),
                false => children.entry(process.parent).or_default().push(process),
            }
        }
        anyhow::ensure!(!found.is_empty(), "process {} is gone", self.0);
        let mut next = 0;
        while let Some(Process { pid, .. }) = found.get(next) {
            found.extend(children.remove(pid).unwrap_or_default());
            next += 1;
        }
        Ok(found)
    }

    /// Looks at its memory until it is asked for the most that it was.
    pub fn watch(self, every: Duration) -> Watch {
        let (most, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, told) = (most.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                seen.fetch_max(self.memory().unwrap_or_default(), Ordering::Relaxed);
                std::thread::park_timeout(every);
            }
        });
        Watch { tree: self, most, end, thread: Some(thread) }
    }
}

/// The share of a process in memory, bytes. Other lines split it up.
fn share_of(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// What a command took, from its start to its end, with all that it has started and waited for.
#[derive(Debug)]
pub struct Whole {
    /// What it wrote to its standard output.
    pub told: Vec<u8>,
    /// How long it ran.
    pub took: Duration,
    /// Processor time.
    pub processor: Duration,
    /// Of that, the command's own.
    pub alone: Duration,
    /// The most memory that all had together, bytes.
    pub memory: u64,
}

impl Whole {
    /// Runs a command.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn run(command: &mut Command, look_every: Duration) -> anyhow::Result<Self> {
        let what = format!("{}", command.get_program().display());
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {what}"))?;
        let tree = Tree::of(child.id());
        let (mut stdout, mut told) = (child.stdout.take().context("it is piped")?, Vec::new());
        let (mut processor, mut alone, mut memory) = (Duration::ZERO, Duration::ZERO, 0);
        let read = std::thread::scope(|scope| {
            let reader = scope.spawn(|| stdout.read_to_end(&mut told));
            while !ended(tree.0)? {
                memory = memory.max(tree.memory().unwrap_or_default());
                std::thread::sleep(look_every);
            }
            // It is not yet waited for: its accounts are complete, and still there.
            (processor, alone) = (tree.processor()?, tree.alone()?);
            Ok::<_, anyhow::Error>(reader.join())
        });
        let took = begun.elapsed();
        let status = child.wait().with_context(|| format!("cannot wait for {what}"))?;
        read?.ok().context("the reader of its output panicked")??;
        anyhow::ensure!(status.success(), "{what} ended with {status}");
        Ok(Self { told, took, processor, alone, memory })
    }
}

/// Looks at the memory of a tree of processes again and again.
#[derive(Debug)]
pub struct Watch {
    tree: Tree,
    most: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// The most that it was, bytes.
    pub fn most(self) -> u64 {
        let now = self.tree.memory().unwrap_or_default();
        self.most.load(Ordering::Relaxed).max(now)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Process {
    pid: u32,
    parent: u32,
    /// Its own and those of its children that were waited for.
    ticks: u64,
}

impl Process {
    fn look(pid: u32) -> Option<Self> {
        Self::read(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The 4th field, and the 14th to the 17th; the name, the second, may hold anything (proc(5)).
    fn read(pid: u32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok());
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, ticks: ticks.sum::<Option<u64>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};

    #[test]
    fn what_proc_says_is_read() {
        let stat = "42 (a) b) S 7 42 42 0 -1 4194304 100 0 0 0 123 45 7 8 20 0 3 0 1\n";
        let process = Process::read(42, stat).unwrap();
        assert_eq!((process.parent, process.ticks), (7, 183));
        let rollup = "Rss: 900 kB\nPss: 300 kB\nPss_Dirty: 200 kB\nPss_Anon: 200 kB\n";
        assert_eq!(share_of(rollup), Some(300 * 1_024));
    }

    #[test]
    fn a_command_is_measured_with_what_it_started() {
        let script = "import subprocess, sys\nburn = 'for i in range(5_000_000): pass'\n\
                      subprocess.run([sys.executable, '-c', burn])\nprint('told')";
        let every = Duration::from_millis(20);
        let whole = Whole::run(Command::new("/usr/bin/python3").args(["-c", script]), every).unwrap();
        assert_eq!(whole.told, b"told\n");
        assert!(whole.processor >= Duration::from_millis(50) && whole.memory > 1 << 20, "{whole:?}");
        assert!(Whole::run(&mut Command::new("/bin/false"), every).is_err());
    }

    #[test]
    fn children_count_while_they_run_and_when_they_have_ended() {
        let burn = "h = bytearray(32 << 20)\nfor i in range(5_000_000): pass";
        let script = format!(
            "import subprocess, sys\nsubprocess.run([sys.executable, '-c', '''{burn}'''])\nprint(1, flush=True)\n\
             child = subprocess.Popen([sys.executable, '-c', '''{burn}\nprint(2, flush=True)\ninput()'''], stdin=subprocess.PIPE)\n\
             input()\nchild.communicate(b'x')"
        );
        let mut command = Command::new("/usr/bin/python3");
        let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let tree = Tree::of(child.id());
        lines.next().unwrap().unwrap();
        let first = tree.processor().unwrap();
        assert!(first >= Duration::from_millis(50), "{first:?}");
        lines.next().unwrap().unwrap();
        let (second, memory) = (tree.processor().unwrap(), tree.watch(Duration::from_millis(10)).most());
        assert!(second >= first + Duration::from_millis(50), "{first:?} {second:?}");
        assert!(memory > 32 << 20 && memory < 96 << 20, "{memory}");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(tree.processor().is_err());
    }
}
