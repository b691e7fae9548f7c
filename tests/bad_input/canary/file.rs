//! The password in the file of cameras, where it belongs and where it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use serde_json::json;
use tempfile::TempDir;
use testbed::daemon::{Daemon, wait};
use testbed::scenario::Stage;

use super::CANARY;
use super::search::search_output;
use crate::vocabulary::{PATIENCE, PROGRAM, USER};

/// A file of cameras with one that has the password, in a directory of its own that the search leaves out.
pub struct CamerasFile {
    dir: TempDir,
    pub path: PathBuf,
    url: String,
}

impl CamerasFile {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let file = Self { path: dir.path().join("cameras.toml"), dir, url: url.to_owned() };
        file.secret("right", &format!("{CANARY}\n"), 0o600)?;
        file.secret("lines", &format!("user = x\npassword = {CANARY}\n"), 0o600)?;
        file.secret("open", CANARY, 0o644)?;
        file.secret("long", &CANARY.repeat(500), 0o600)?;
        file.is_right()?;
        Ok(file)
    }

    fn secret(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.dir.path().join(name);
        fs::write(&path, text)?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
    }

    fn is_right(&self) -> anyhow::Result<()> {
        Ok(fs::write(&self.path, self.with("", &self.dir.path().join("right").display().to_string()))?)
    }

    fn with(&self, more: &str, password_file: &str) -> String {
        let (url, password_file) = (json!(self.url), json!(password_file));
        format!("[filed]\nurl = {url}\nuser = \"{USER}\"\npassword_file = {password_file}\n{more}\n")
    }

    /// What the file may hold by mistake.
    fn mistakes(&self) -> Vec<String> {
        let place = |name: &str| self.dir.path().join(name).display().to_string();
        let mut mistakes = Vec::new();
        for more in [
            format!("password = \"{CANARY}\""),
            format!("password = {CANARY}"),
            format!("password = \"{CANARY}"),
            format!("transport = \"{CANARY}\""),
            format!("jpeg_quality = \"{CANARY}\""),
            format!("sampling = {{ \"{CANARY}\" = 1 }}"),
            format!("\"{CANARY}\" = 1"),
        ] {
            mistakes.push(self.with(&more, &place("right")));
        }
        for name in [CANARY.to_owned(), place("lines"), place("open"), place("long"), place("none")] {
            mistakes.push(self.with("", &name));
        }
        mistakes.push(format!("password = \"{CANARY}\"\n"));
        mistakes.push(format!("[filed]\nurl = \"rtsp://{USER}:{CANARY}@127.0.0.1/main\"\n"));
        mistakes
    }

    pub fn keeps_the_daemon_from_starting(&self, stage: &Stage) -> anyhow::Result<()> {
        let config = stage.dir().join("framehaul.toml");
        for mistake in self.mistakes() {
            fs::write(&self.path, &mistake)?;
            for command in ["check", "serve"] {
                let output = Command::new(PROGRAM)
                    .args([command, "--config"])
                    .arg(&config)
                    .env("FRAMEHAUL__CAPTURE__LOOPBACK", "true")
                    .output()?;
                assert!(!output.status.success(), "{mistake}: {output:?}");
                search_output(&mistake, &output);
            }
        }
        self.is_right()
    }

    pub fn is_refused_again(&self, daemon: &Daemon) -> anyhow::Result<()> {
        const REFUSED: &str = "the file of cameras cannot be used; nothing is changed";
        for mistake in self.mistakes() {
            fs::write(&self.path, &mistake)?;
            let before = daemon.log_text().matches(REFUSED).count();
            daemon.hang_up()?;
            wait(PATIENCE, || Ok((daemon.log_text().matches(REFUSED).count() > before).then_some(())))
                .with_context(|| format!("not refused: {mistake}"))?;
        }
        self.is_right()?;
        daemon.reload(PATIENCE)
    }

    pub fn is_emptied(&self, daemon: &Daemon) -> anyhow::Result<()> {
        fs::write(&self.path, "")?;
        daemon.reload(PATIENCE)
    }
}
