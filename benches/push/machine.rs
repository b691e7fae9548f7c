//! What the figures were measured on.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// The machine, the versions of what took part, and when.
#[derive(Debug, Clone)]
pub struct Machine {
    date: String,
    commit: String,
    facts: Vec<(&'static str, String)>,
    versions: Vec<(String, String)>,
}

impl Machine {
    /// This one, now.
    ///
    /// # Errors
    ///
    /// When it does not tell.
    pub fn look() -> anyhow::Result<Self> {
        let field = |path: &str, name: &str| -> anyhow::Result<String> {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once([':', '=']).map(|(_, v)| v));
            Ok(value.with_context(|| format!("{path} has no {name}"))?.trim().trim_matches('"').to_owned())
        };
        let changes = ["status", "--porcelain", "--", ":/", ":(top,exclude)docs", ":(top,exclude)README.md"];
        let changed = if told("git", &changes)?.is_empty() { "" } else { ", with changes" };
        let memory: f64 = field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
        let facts = vec![
            ("processor", field("/proc/cpuinfo", "model name")?),
            ("cores", std::thread::available_parallelism()?.to_string()),
            ("memory", format!("{:.0} GiB", memory / f64::from(1 << 20))),
            ("system", field("/etc/os-release", "PRETTY_NAME")?),
            ("kernel", told("uname", &["-r"])?),
            ("compiler", told("rustc", &["--version"])?),
            ("profile", "dev: opt-level 1, framehaul and dependencies 2".to_owned()),
        ];
        Ok(Self {
            date: told("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?,
            commit: format!("{}{changed}", told("git", &["rev-parse", "--short=12", "HEAD"])?),
            facts,
            versions: Vec::new(),
        })
    }

    /// Takes note of what a part has used.
    pub fn used(&mut self, what: impl Into<String>, version: impl Into<String>) {
        let used = (what.into(), version.into());
        // Several parts may use the same.
        if !self.versions.contains(&used) {
            self.versions.push(used);
        }
    }

    pub(crate) fn json(&self) -> Value {
        let facts: serde_json::Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        let versions: serde_json::Map<String, Value> =
            self.versions.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        json!({ "date": self.date, "commit": self.commit, "facts": facts, "versions": versions })
    }

    pub(crate) fn markdown(&self) -> String {
        let facts: Vec<String> = self.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut text = format!("On {}, commit {}: {}.\n", self.date, self.commit, facts.join(", "));
        if !self.versions.is_empty() {
            let versions: Vec<String> =
                self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
            text.push_str(&format!("\nVersions: {}.\n", versions.join(", ")));
        }
        text
    }
}

/// The first line of what a program says.
pub(crate) fn told(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} {} failed", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}
