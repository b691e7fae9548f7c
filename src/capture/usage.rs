//! What a capture process takes of the machine, as the kernel tells it.

use std::path::PathBuf;

/// Units of processor time in a second. The kernel tells times in hundredths on all architectures that we are built for,
/// whatever it counts in itself (`man 5 proc_pid_stat`, `man 7 time`).
const TICKS: f64 = 100.0;

/// What a process has taken up to now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Usage {
    /// Processor time of all its threads since its start, seconds.
    pub cpu_seconds: f64,
    /// Memory that is its own alone, bytes.
    pub private_bytes: Option<u64>,
    /// Which of the kernel's files has told that: `smaps_rollup`, or `status` where that is refused, which leaves out
    /// what it has changed of the files that it maps.
    pub memory_from: &'static str,
}

impl Usage {
    /// Reads it; `None` where the process is gone, or is none of ours any more.
    pub fn of(pid: u32) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/{name}"))).ok();
        let stat = Stat::read(&read("stat")?)?;
        if stat.parent != std::process::id() {
            return None;
        }
        let (private_bytes, memory_from) = match read("smaps_rollup").and_then(|text| private(&text)) {
            Some(bytes) => (Some(bytes), "smaps_rollup"),
            None => (read("status").and_then(|text| kibibytes(&text, "RssAnon:")), "status"),
        };
        Some(Self { cpu_seconds: stat.ticks as f64 / TICKS, private_bytes, memory_from })
    }
}

/// Of the line in `stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Processor time of the process and the kernel for it.
    ticks: u64,
}

impl Stat {
    fn read(line: &str) -> Option<Self> {
        // The second field is the name, in brackets and with anything in it; the third follows on the last bracket.
        let (_, rest) = line.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |place: usize| fields.get(place - 3).and_then(|text| text.parse::<u64>().ok());
        Some(Self { parent: u32::try_from(number(4)?).ok()?, ticks: number(14)? + number(15)? })
    }
}

/// The memory that nobody shares, of `smaps_rollup`.
fn private(text: &str) -> Option<u64> {
    Some(kibibytes(text, "Private_Clean:")? + kibibytes(text, "Private_Dirty:")?)
}

/// A line's figure in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let figure: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(figure * 1_024)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn lines_are_read_whatever_the_name_is() {
        let line = "77 (a) b) R (c) S 12 77 77 0 -1 4194560 9 0 0 0 150 25 0 0 20 0 1 0 9 1 1";
        assert_eq!(Stat::read(line), Some(Stat { parent: 12, ticks: 175 }));
        assert_eq!(Stat::read("77 (a) S 12"), None);
        let text = "Rss:   9 kB\nPrivate_Clean:         4 kB\nPrivate_Dirty:       100 kB\nPrivate_Hugetlb: 7 kB\n";
        assert_eq!(private(text), Some(104 * 1_024));
        assert_eq!(private("Private_Clean: 4 kB\n"), None);
    }

    #[test]
    fn a_child_is_read_and_nobody_else_is() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Once it answers, it is what it was started as, and at work.
        child.stdin.as_mut().unwrap().write_all(b"word").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).unwrap();
        let usage = Usage::of(child.id()).unwrap();
        assert!(usage.private_bytes.unwrap() > 10_000, "{usage:?}");
        assert!((0.0..10.0).contains(&usage.cpu_seconds), "{usage:?}");
        assert_eq!(Usage::of(std::process::id()), None);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Usage::of(child.id()), None);
    }
}
