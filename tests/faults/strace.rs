//! A program's system calls, seen and spoilt by strace.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

/// The calls by which files change: what a crash may part from what comes after it. Not every system has all of them.
pub const CALLS: [&str; 18] = [
    "openat",
    "mkdir",
    "mkdirat",
    "write",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fallocate",
    "ftruncate",
    "fdatasync",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "link",
    "linkat",
];

/// What strace does to the calls that it sees: nothing by default.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    /// The process is killed in place of the nth call of this name.
    pub kill: Option<Call>,
    /// The nth call of this name, and so many in all, fail with an error such as `EIO`.
    pub error: Option<(Call, u64, &'static str)>,
}

impl Fault {
    pub fn kill(call: Call) -> Self {
        Self { kill: Some(call), error: None }
    }

    pub fn error(call: Call, count: u64, error: &'static str) -> Self {
        Self { kill: None, error: Some((call, count, error)) }
    }
}

/// One call of a thread: the nth of its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    pub name: String,
    pub nth: u64,
    /// The file's name, where the call names or holds one.
    pub file: String,
}

fn options(fault: &Fault, log: &Path) -> Vec<String> {
    let seen: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
    let mut options = vec!["-y".to_owned(), "-s64".to_owned(), "-o".to_owned(), log.display().to_string()];
    options.extend(["-e".to_owned(), "signal=none".to_owned(), "-e".to_owned(), format!("trace={}", seen.join(","))]);
    if let Some((call, count, error)) = &fault.error {
        let inject = format!("inject={}:error={error}:when={}..{}", call.name, call.nth, call.nth + count - 1);
        options.extend(["-e".to_owned(), inject]);
    }
    if let Some(call) = &fault.kill {
        options.extend(["-e".to_owned(), format!("inject={}:signal=SIGKILL:when={}", call.name, call.nth)]);
    }
    options
}

/// A command with all its threads watched, and nothing spoilt.
pub fn watched(command: &Command, log: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(options(&Fault::default(), log)).arg("-f").arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace
}

/// Has a thread watched from now on. It ends with the thread.
pub fn attach(thread: u32, fault: &Fault, log: &Path) -> anyhow::Result<Child> {
    let mut strace = Command::new("strace")
        .args(options(fault, log))
        .args(["-p", &thread.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start strace")?;
    let mut said = String::new();
    let mut stderr = BufReader::new(strace.stderr.take().context("it is piped")?);
    stderr.read_line(&mut said)?;
    if !said.contains("attached") {
        let _ = strace.kill();
        let _ = strace.wait();
        ensure!(false, "strace cannot attach: {said}");
    }
    Ok(strace)
}

/// The calls of a log that changed a file in `dir`, in their order; those that failed did not.
pub fn calls(log: &Path, dir: &Path) -> anyhow::Result<Vec<Call>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    let dir = dir.to_str().context("a path of plain characters")?;
    let mut counts = std::collections::HashMap::<&str, u64>::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once('(').filter(|(name, _)| CALLS.contains(name)) else { continue };
        let nth = counts.entry(name).or_default();
        *nth += 1;
        if line.contains(" = -1 ") {
            continue;
        }
        let file = rest.find(dir).map(|at| &rest[at + dir.len()..]);
        let Some(file) = file.filter(|_| name != "openat" || line.contains("O_CREAT")) else { continue };
        let end = file.find(['>', '"', ',']).unwrap_or(file.len());
        calls.push(Call { name: name.to_owned(), nth: *nth, file: file[..end].trim_matches('/').to_owned() });
    }
    Ok(calls)
}

/// How often a log has a call of this name.
pub fn count(log: &Path, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(text.lines().filter(|line| line.split_once('(').is_some_and(|(found, _)| found == name)).count() as u64)
}

/// How many of a log's calls were made to fail.
pub fn injected(log: &Path) -> anyhow::Result<usize> {
    let text = std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(text.matches("(INJECTED)").count())
}

/// Where a run's log goes.
pub fn log(dir: &Path) -> PathBuf {
    dir.join("strace.log")
}

#[test]
fn a_log_tells_which_calls_touched_our_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = log(dir.path());
    let lines = [
        "write(1<pipe:[1]>, \"\"..., 4) = 4",
        "openat(AT_FDCWD</x>, \"/a/b/state/journal.sqlite\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3</a/b/state/journal.sqlite>",
        "openat(AT_FDCWD</x>, \"/a/b/state/journal.sqlite\", O_RDONLY) = 3</a/b/state/journal.sqlite>",
        "write(3</a/b/lock>, \"\"..., 4) = 4",
        "openat(AT_FDCWD</x>, \"/a/b/state/lock\", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 3</a/b/state/lock>",
        "pwritev(9</a/b/spool/000000000001.segment>, [{iov_base=\"\"..., iov_len=64}], 1, 0) = 64",
        "unlink(\"/a/b/spool/000000000002.segment\") = -1 ENOENT (No such file or directory)",
        "unlink(\"/a/b/spool/000000000001.segment\") = 0",
        "+++ exited with 0 +++",
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let found: Vec<_> = calls(&path, Path::new("/a/b")).unwrap();
    let found: Vec<_> = found.iter().map(|call| (call.name.as_str(), call.nth, call.file.as_str())).collect();
    assert_eq!(
        found,
        [
            ("openat", 1, "state/journal.sqlite"),
            ("write", 2, "lock"),
            ("openat", 3, "state/lock"),
            ("pwritev", 1, "spool/000000000001.segment"),
            ("unlink", 2, "spool/000000000001.segment"),
        ]
    );
}
