//! Runs a program to its end and measures what it took.

use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Clock ticks a second in /proc, on every Linux (proc(5), `sysconf(_SC_CLK_TCK)`).
pub(super) const TICKS_PER_SECOND: u64 = 100;
/// How often memory is looked at; more often would take the memory's lock away from the program.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a program may take. Under callgrind it takes fifty times as long as usually.
const ENDS_WITHIN: Duration = Duration::from_secs(1_800);
/// How much of what it complained of is worth showing, bytes.
const COMPLAINTS: usize = 2_000;

/// What a program told and took.
#[derive(Debug)]
pub struct Trial<T> {
    /// What was read from its standard output.
    pub told: T,
    /// How it ended.
    pub status: ExitStatus,
    /// Processor time of all its threads, in user and kernel mode, from its start to its end.
    pub processor: Duration,
    /// The most private memory it was seen to have, bytes.
    pub private: u64,
    /// The most threads it was seen to have.
    pub threads: u64,
    /// The end of what it wrote to its standard error.
    pub complaints: String,
}

/// Runs `command` with `input` on its standard input, which stays open, while `read` reads its standard output.
///
/// # Errors
///
/// When it cannot be started, does not end, or `read` fails.
pub fn run<T: Send>(
    command: &mut Command,
    input: &str,
    read: impl FnOnce(ChildStdout) -> anyhow::Result<T> + Send,
) -> anyhow::Result<Trial<T>> {
    let what = command.get_program().to_owned();
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", what.display()))?;
    follow(Kept(child), input, read).with_context(|| what.display().to_string())
}

fn follow<T: Send>(
    mut child: Kept,
    input: &str,
    read: impl FnOnce(ChildStdout) -> anyhow::Result<T> + Send,
) -> anyhow::Result<Trial<T>> {
    let mut stdin = child.0.stdin.take().context("its standard input is piped")?;
    let stdout = child.0.stdout.take().context("its standard output is piped")?;
    let mut stderr = child.0.stderr.take().context("its standard error is piped")?;
    // A program that needs no input, or fails at once, may have closed it.
    let _ = stdin.write_all(input.as_bytes());
    let pid = child.0.id();
    thread::scope(|scope| {
        let told = scope.spawn(move || read(stdout));
        let complaints = scope.spawn(move || {
            let mut all = Vec::new();
            let _ = stderr.read_to_end(&mut all);
            String::from_utf8_lossy(&all[all.len().saturating_sub(COMPLAINTS)..]).trim().to_owned()
        });
        let watched = watch(pid);
        if watched.is_err() {
            // Its readers would wait for its end.
            child.kill();
        }
        let (processor, private, threads) = watched?;
        let status = child.0.wait().context("cannot wait for it")?;
        drop(stdin);
        let complaints = complaints.join().ok().context("the reader of its complaints panicked")?;
        let told = told.join().ok().context("the reader of its output panicked")?;
        let told = told.with_context(|| format!("it ended with {status}: {complaints}"))?;
        Ok(Trial { told, status, processor, private, threads, complaints })
    })
}

/// Looks at a process until it has ended: its processor time, most private memory, most threads.
fn watch(pid: u32) -> anyhow::Result<(Duration, u64, u64)> {
    let (mut private, mut threads) = (0, 0);
    let deadline = Instant::now() + ENDS_WITHIN;
    while !ended(pid)? {
        // Both fail for a process that is ending just now.
        private = private.max(private_bytes(pid).unwrap_or_default());
        threads = threads.max(thread_count(pid).unwrap_or_default());
        ensure!(Instant::now() < deadline, "it did not end within {ENDS_WITHIN:?}");
        thread::sleep(LOOK_EVERY);
    }
    // It is not yet waited for: its accounts are complete, and still there.
    Ok((processor_time(pid)?, private, threads))
}

/// A process that is ended and waited for when nobody wants it any more.
struct Kept(Child);

impl Kept {
    fn kill(&mut self) {
        // An error means that it is gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a child has ended; it is left to be waited for.
pub(super) fn ended(pid: u32) -> anyhow::Result<bool> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(waitid(WaitId::Pid(id), options).context("cannot look after a child")?.is_some())
}

/// Processor time that a process has had so far with all its threads, those that have ended among them.
///
/// The kernel computes it as for `getrusage` and tells it in hundredths of a second, user and kernel mode each.
///
/// # Errors
///
/// When there is no such process.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    ticks(&stat).map(|ticks| Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)).with_context(|| path)
}

/// The sum of `utime` and `stime`, the 14th and 15th field; the name, the second, may hold anything (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.trim().parse::<u64>().ok()?)
}

/// Processor time that each thread of a process has had so far, by the scheduler's own account: exact where
/// [`processor_time`] is so to a hundredth of a second, for what takes little.
#[derive(Debug, Clone)]
pub struct Threads(BTreeMap<String, Duration>);

impl Threads {
    /// Of a process that runs.
    ///
    /// # Errors
    ///
    /// When there is no such process, or the kernel keeps no such account (`CONFIG_SCHED_INFO`).
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/task");
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))? {
            let thread = thread.with_context(|| format!("cannot read {path}"))?;
            // One that has ended meanwhile.
            let Ok(account) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
            let spent = account.split(' ').next().and_then(|ns| ns.parse().ok());
            let spent = Duration::from_nanos(spent.with_context(|| format!("{path}: no time in `{account}`"))?);
            threads.insert(thread.file_name().to_string_lossy().into_owned(), spent);
        }
        ensure!(!threads.is_empty(), "{path} tells of no thread's processor time");
        Ok(Self(threads))
    }

    /// What they have had since `before`, together; what a thread had that ended meanwhile is not among it.
    pub fn since(&self, before: &Self) -> Duration {
        let since = |(thread, spent): (&String, &Duration)| {
            spent.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(since).sum()
    }
}

/// Memory that a process shares with no other, bytes.
///
/// # Errors
///
/// When there is no such process, or it is not ours.
pub fn private_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    sum_kib(&text, "Private_").with_context(|| format!("{path} tells nothing of private memory"))
}

fn sum_kib(text: &str, prefix: &str) -> Option<u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(prefix)?.split_once(':'));
    let kib = lines.filter_map(|(_, size)| size.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.reduce(|sum, size| sum + size).map(|kib| kib * 1_024)
}

fn thread_count(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;

    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 123 45 7 8 20 0 3 0 1\n";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!(ticks("42 (a"), None);
        let rollup = "0-1 ---p 0 00:00 0 [rollup]\nRss: 900 kB\nShared_Clean: 5 kB\nPrivate_Clean: 8 kB\nPrivate_Dirty: 200 kB\n";
        assert_eq!(sum_kib(rollup, "Private_"), Some(208 * 1_024));
        assert_eq!(sum_kib("Rss: 1 kB", "Private_"), None);
    }

    #[test]
    fn a_program_is_measured_with_what_it_burnt_and_held() {
        let script =
            "line = input(); held = bytearray(64 << 20)\nfor i in range(3_000_000): pass\nprint(line, len(held))";
        let trial = run(Command::new("/usr/bin/python3").args(["-c", script]), "word\n", |stdout| {
            std::io::BufReader::new(stdout).lines().next().context("a line")?.context("text")
        })
        .unwrap();
        assert_eq!(trial.told, format!("word {}", 64 << 20));
        assert!(trial.status.success() && trial.threads == 1, "{trial:?}");
        assert!(trial.private > 64 << 20 && trial.private < 128 << 20, "{trial:?}");
        assert!(trial.processor >= Duration::from_millis(30), "{trial:?}");
    }

    #[test]
    fn the_time_of_threads_is_that_of_their_process() {
        // In two threads of which one has little to do.
        let script = "import threading, time\n\
                      threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nwhile True: pass";
        let child = Kept(Command::new("/usr/bin/python3").args(["-c", script]).spawn().unwrap());
        let pid = child.0.id();
        thread::sleep(Duration::from_millis(200));
        let (threads, process) = (Threads::of(pid).unwrap(), processor_time(pid).unwrap());
        thread::sleep(Duration::from_millis(500));
        let (threads, process) = (Threads::of(pid).unwrap().since(&threads), processor_time(pid).unwrap() - process);
        assert!(process >= Duration::from_millis(50), "{process:?}");
        assert!(threads.abs_diff(process) <= Duration::from_millis(50), "{threads:?}, {process:?}");
        assert!(Threads::of(u32::MAX).is_err());
    }

    #[test]
    fn a_program_that_fails_tells_why() {
        let failing =
            run(Command::new("/bin/sh").args(["-c", "echo no camera >&2; exit 3"]), "", |_| -> anyhow::Result<()> {
                anyhow::bail!("nothing was told")
            });
        let error = format!("{:#}", failing.unwrap_err());
        assert!(error.contains("no camera") && error.contains("nothing was told"), "{error}");
    }
}
