//! URLs and names of whoever has the token and means harm: refused with a reason on every way in. Nothing is asked,
//! nothing is started, nothing is written.

mod lists;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use url::Url;

use self::lists::{names, urls};
use super::{Outcome, Problems, Stage};
use crate::cameras::default_cache_dir;
use crate::clip::{ClipSpec, Codec};
use crate::daemon::{Daemon, Storage, wait};
use crate::synthetic::CAPTURES;

const PATIENCE: Duration = Duration::from_secs(30);
/// A link that is made after a camera asks for it.
const LATER: &str = "later.mp4";
/// A word in everything hostile that could leave a file behind.
const ESCAPE: &str = "framehaul-escape";
/// A device that no machine has: its camera is there, fails, and starts no process.
const NO_DEVICE: &str = "v4l2:/dev/video999";
const SET: &str = "/api/v1/cameras";

/// A capture program that leaves a line in a file whenever it is started, and is the real one from then on.
const ENGINE: &str = "#!/bin/sh\necho started >> COUNT\nexec REAL\n";

/// What nobody has lured the daemon into.
struct Seen {
    urls: usize,
    names: usize,
    requests: u64,
    connections: usize,
    processes: usize,
    files: usize,
}

/// Runs the scenario against the `framehaul` binary at `program`, beside which its capture programs lie.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn hostile(stage: &Stage, program: &Path) -> anyhow::Result<Outcome> {
    let traps = Traps::new()?;
    let engine = Engine::new(stage, program)?;
    let clips = Clips::new(stage)?;
    let mut problems = Problems::default();
    let mut seen = Seen { urls: 0, names: 0, requests: 0, connections: 0, processes: 0, files: 0 };
    for (name, files) in [("plain", None), ("files", Some(&clips))] {
        let mut lair = Lair::new(stage, name, &engine, files.map(|clips| clips.dir.as_path()))?;
        let urls = urls(traps.port, files);
        (seen.urls, seen.names) = (seen.urls.max(urls.len()), names().len());
        let before = lair.catalog()?;
        let files_before = files_below(lair.daemon.dir())?;
        seen.requests += lair.try_urls(&urls, &mut problems)?;
        seen.requests += lair.try_names(&mut problems)?;
        seen.requests += lair.try_file(&urls, &mut problems)?;
        problems.check(lair.catalog()? == before, || format!("{name}: the catalog is not what it was"));
        let new: Vec<PathBuf> = files_below(lair.daemon.dir())?.difference(&files_before).cloned().collect();
        let new = new.into_iter().filter(|path| !is_journal(path)).chain(escaped(stage)?);
        for path in new {
            seen.files += 1;
            problems.0.push(format!("{name}: there is a new file, {}", path.display()));
        }
        if let Some(clips) = files {
            seen.requests += lair.try_what_is_found_out_later(clips, &traps, &mut problems)?;
        }
        seen.connections += traps.sprung()?;
        seen.processes += engine.started()?;
        if name == "files" {
            lair.plays(&clips.inside).context("the one clip that may be played")?;
            problems.check(engine.started()? == 1, || "starts of capture processes are not counted".to_owned());
        }
        problems.check(!lair.daemon.log_text().contains("panicked"), || format!("{name}: something panicked"));
        lair.daemon.stop()?;
    }
    traps.would_have_sprung(stage, &mut problems)?;
    for (what, count) in
        [("connections were made", seen.connections), ("capture processes were started", seen.processes)]
    {
        problems.check(count == 0, || format!("{count} {what}"));
    }
    let figure = json!({ "urls": seen.urls, "names": seen.names, "requests": seen.requests,
        "connections": seen.connections, "processes": seen.processes, "files": seen.files,
        "found_out_later": { "names": names_of_this_machine(traps.port), "links": 1 } });
    let bound = "hostile URLs and names, each by PUT, POST, set, probe and file of cameras, with and without \
                 `capture.files`: all 4xx with a reason; names that lead to this machine and links made later, which no request \
                 can be judged by, fail as `forbidden`; 0 starts of the capture program, which alone connects to cameras, and \
                 0 connections at traps on this machine's loopback addresses; 0 files, and the catalog as it was. Redirects that \
                 a camera answers with are not covered: see docs/next.md";
    Ok(problems.outcome(bound, figure, seen.requests))
}

/// Sockets that nobody should call on.
struct Traps {
    port: u16,
    sockets: Vec<TcpListener>,
}

impl Traps {
    fn new() -> anyhow::Result<Self> {
        let first = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let port = first.local_addr()?.port();
        let mut sockets = vec![first];
        for address in ["127.9.9.9", "::1"] {
            let address: IpAddr = address.parse()?;
            match TcpListener::bind((address, port)) {
                Ok(socket) => sockets.push(socket),
                // A machine without IPv6: nobody can be lured there.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && address.is_ipv6() => {}
                Err(error) => return Err(error).with_context(|| format!("cannot listen on {address}, port {port}")),
            }
        }
        for socket in &sockets {
            socket.set_nonblocking(true).context("cannot make a listening socket non-blocking")?;
        }
        Ok(Self { port, sockets })
    }

    /// How many connections have come since the last look. The kernel keeps them until they are taken.
    fn sprung(&self) -> anyhow::Result<usize> {
        let mut count = 0;
        for socket in &self.sockets {
            loop {
                match socket.accept() {
                    Ok(_) => count += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("cannot look who came"),
                }
            }
        }
        Ok(count)
    }

    /// A daemon that may is caught, or else that nobody was caught says nothing.
    fn would_have_sprung(&self, stage: &Stage, problems: &mut Problems) -> anyhow::Result<()> {
        let mut daemon = stage.daemon_in("control", &Storage::Directory, "[capture]\nopen_timeout = \"1s\"")?;
        daemon.put_camera("lured", &json!({ "url": format!("rtsp://127.0.0.1:{}/a", self.port) }))?;
        daemon.wait_for("lured", PATIENCE, |status| status.last_error.is_some())?;
        daemon.stop()?;
        let sprung = self.sprung()?;
        problems.check(sprung > 0, || "connections are not counted".to_owned());
        Ok(())
    }
}

/// Names by which the daemon finds this machine without their saying so.
fn names_of_this_machine(port: u16) -> Vec<String> {
    let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let candidates = [own.trim(), "localhost.localdomain", "ip6-localhost"];
    let leads_here = |name: &&str| {
        !name.is_empty()
            && (*name, port).to_socket_addrs().is_ok_and(|found| found.into_iter().any(|a| a.ip().is_loopback()))
    };
    candidates.into_iter().filter(leads_here).map(str::to_owned).collect()
}

/// The capture programs with a counter.
struct Engine {
    dir: PathBuf,
    count: PathBuf,
}

impl Engine {
    fn new(stage: &Stage, program: &Path) -> anyhow::Result<Self> {
        let (dir, count) = (stage.dir().join("engines"), stage.dir().join("starts"));
        fs::create_dir(&dir).context("cannot make a directory for the capture programs")?;
        for name in CAPTURES {
            let real = program.with_file_name(name).display().to_string();
            let script = ENGINE.replace("COUNT", &count.display().to_string()).replace("REAL", &real);
            fs::write(dir.join(name), script).context("cannot write the capture program")?;
            let executable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir.join(name), executable).context("cannot make it executable")?;
        }
        fs::write(&count, "").context("cannot write the counter of starts")?;
        Ok(Self { dir, count })
    }

    /// How often they were started.
    fn started(&self) -> anyhow::Result<usize> {
        Ok(fs::read_to_string(&self.count).context("cannot read the counter of starts")?.lines().count())
    }
}

/// A directory that cameras may play from, with links that lead out of it.
struct Clips {
    dir: PathBuf,
    inside: String,
    /// Not there at first.
    later: String,
    outside: PathBuf,
    /// To a film, over a directory, and to what is not there yet.
    links: [String; 3],
}

impl Clips {
    fn new(stage: &Stage) -> anyhow::Result<Self> {
        let film = ClipSpec { camera: 7, width: 320, height: 240, fps: 10, gop: 10, codec: Codec::H264, seconds: 4 };
        let (dir, outside) = (stage.dir().join("clips"), stage.dir().join("outside.mp4"));
        fs::create_dir(&dir).context("cannot make the directory for clips")?;
        let film = film.mp4(&default_cache_dir())?;
        for copy in [&dir.join("clip.mp4"), &outside] {
            fs::copy(&film, copy).context("cannot copy a clip")?;
        }
        symlink(&outside, dir.join("link.mp4")).context("cannot make a link")?;
        symlink("..", dir.join("up")).context("cannot make a link")?;
        let url = |path: &str| match Url::from_file_path(dir.join(path)) {
            Ok(url) => Ok(url.to_string()),
            Err(()) => bail!("no file:// URL for {}: it must be an absolute path", dir.display()),
        };
        let links = [url("link.mp4")?, url("up/outside.mp4")?, url("up/later.mp4")?];
        Ok(Self { inside: url("clip.mp4")?, later: url(LATER)?, dir, outside, links })
    }
}

/// A daemon as its defaults have it, with one camera of its file and one of requests, neither of which can stream.
struct Lair {
    daemon: Daemon,
    file: PathBuf,
}

/// What the file holds besides hostile things.
fn filed() -> String {
    format!("[filed]\nurl = {}\n", json!(NO_DEVICE))
}

impl Lair {
    fn new(stage: &Stage, name: &str, engine: &Engine, files: Option<&Path>) -> anyhow::Result<Self> {
        let file = stage.dir().join(format!("{name}.toml"));
        fs::write(&file, filed()).context("cannot write the file of cameras")?;
        let files = files.map(|dir| format!("files = {}\n", json!(dir))).unwrap_or_default();
        let more = format!(
            "[cameras]\nfile = {}\n[log]\nfilter = \"debug\"\n[capture]\nengine_dir = {}\n{files}",
            json!(file),
            json!(engine.dir)
        );
        let mut daemon = stage.prepare_in(name, &Storage::Directory, &more)?;
        // The test bed's other cameras are on this machine; here nothing may be.
        daemon.env("FRAMEHAUL__CAPTURE__LOOPBACK", "false");
        daemon.run()?;
        daemon.put_camera("stays", &json!({ "url": NO_DEVICE }))?;
        for id in ["filed", "stays"] {
            daemon.wait_for(id, PATIENCE, |status| status.state == "failed")?;
        }
        Ok(Self { daemon, file })
    }

    /// All cameras there ever were, without what changes by itself.
    fn catalog(&self) -> anyhow::Result<Value> {
        let mut catalog: Value = serde_json::from_str(&self.daemon.get(&format!("{SET}?deleted=true"))?)?;
        for camera in catalog["cameras"].as_array_mut().context("no cameras")? {
            camera["status"] = json!(camera["status"]["totals"]);
        }
        Ok(catalog)
    }

    /// Sends what must be refused with a reason, about a field of this name if one is given.
    fn refuses(
        &self,
        (method, path): (Method, &str),
        body: &Value,
        field: Option<&str>,
        problems: &mut Problems,
    ) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.daemon.address());
        let what = || {
            let body: String = body.to_string().chars().take(120).collect();
            format!("{method} {} {body}", &path[..path.len().min(60)])
        };
        let token = Some(self.daemon.token());
        let (status, headers, answer) = self
            .daemon
            .http()
            .send_with(method.clone(), &url, token, Some(body.to_string()), &[])
            .with_context(|| format!("{}; {}", what(), self.daemon.log().display()))?;
        let is_problem = headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        let problem: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let reason = |value: &Value| value.as_str().is_some_and(|text| text.len() > 10);
        let told = match field {
            None => reason(&problem["detail"]),
            Some(field) => problem["errors"].as_array().is_some_and(|errors| {
                let about = |error: &Value| error["field"].as_str().is_some_and(|found| found.ends_with(field));
                errors.iter().any(|error| about(error) && reason(&error["detail"]))
            }),
        };
        problems.check(status.is_client_error() && is_problem && told, || {
            format!("{}: {status}: {}", what(), String::from_utf8_lossy(&answer))
        });
        Ok(())
    }

    fn try_urls(&self, urls: &[String], problems: &mut Problems) -> anyhow::Result<u64> {
        let mut requests = 0;
        for url in urls {
            for (way, body) in [
                ((Method::PUT, "/api/v1/cameras/hostile"), json!({ "url": url })),
                ((Method::POST, SET), json!({ "name": "Hostile", "url": url })),
                ((Method::PUT, SET), json!({ "cameras": { "hostile": { "url": url } } })),
                ((Method::POST, "/api/v1/cameras:probe"), json!({ "url": url })),
            ] {
                self.refuses(way, &body, Some("url"), problems)?;
                requests += 1;
            }
        }
        Ok(requests)
    }

    fn try_names(&self, problems: &mut Problems) -> anyhow::Result<u64> {
        let mut requests = 0;
        for (name, unprintable) in names() {
            let spec = json!({ "url": NO_DEVICE });
            // Dots too, lest a client take `..` away.
            let path = format!("{SET}/{}", utf8_percent_encode(&name, NON_ALPHANUMERIC));
            self.refuses((Method::PUT, &path), &spec, None, problems)?;
            self.refuses((Method::PUT, SET), &json!({ "cameras": { &name: spec } }), Some("cameras"), problems)?;
            requests += 2;
            if unprintable {
                let named = json!({ "name": name, "url": NO_DEVICE });
                for way in [
                    (Method::PUT, "/api/v1/cameras/hostile"),
                    (Method::POST, SET),
                    (Method::POST, "/api/v1/cameras:probe"),
                ] {
                    self.refuses(way, &named, Some("name"), problems)?;
                    requests += 1;
                }
            }
        }
        Ok(requests)
    }

    /// One file with all of them: each is refused by its own line, and so are the cameras beside them.
    fn try_file(&mut self, urls: &[String], problems: &mut Problems) -> anyhow::Result<u64> {
        let mut text = filed();
        for (place, url) in urls.iter().enumerate() {
            let _ = writeln!(text, "[h{place}]\nurl = {}", toml_text(url));
        }
        let names = names();
        for (name, _) in &names {
            let _ = writeln!(text, "[{}]\nurl = {}", toml_text(name), json!(NO_DEVICE));
        }
        fs::write(&self.file, text).context("cannot write the file of cameras")?;
        let earlier = self.daemon.log_text().len();
        self.daemon.hang_up()?;
        let wanted = urls.len() + names.len();
        let refused = wait(PATIENCE, || {
            let log = self.daemon.log_text();
            let lines: Vec<String> = log[earlier..]
                .lines()
                .filter(|line| line.contains("cannot be used; nothing is changed"))
                .map(str::to_owned)
                .collect();
            Ok((lines.len() >= wanted).then_some(lines))
        })
        .context("not everything in the file of cameras was refused");
        let refused = match refused {
            Ok(lines) => lines,
            Err(error) => {
                problems.0.push(format!("{error:#}"));
                Vec::new()
            }
        };
        for (place, url) in urls.iter().enumerate() {
            let named = refused.iter().any(|line| line.contains(&format!("h{place}.url: ")));
            problems.check(named, || format!("the file of cameras: nothing is said against {}", url.escape_debug()));
        }
        fs::write(&self.file, filed()).context("cannot write the file of cameras")?;
        self.daemon.reload(PATIENCE)?;
        Ok(wanted as u64)
    }

    /// What a URL does not show: where a name leads, or a link that comes later. Its camera is there, and fails before
    /// anything is started.
    fn try_what_is_found_out_later(
        &self,
        clips: &Clips,
        traps: &Traps,
        problems: &mut Problems,
    ) -> anyhow::Result<u64> {
        let mut urls = Vec::new();
        for name in names_of_this_machine(traps.port) {
            for scheme in ["rtsp", "http", "https"] {
                urls.push(format!("{scheme}://{name}:{}/a", traps.port));
            }
        }
        for (place, url) in urls.iter().enumerate() {
            let id = format!("later-{place}");
            self.daemon.put_camera(&id, &json!({ "url": url }))?;
            self.comes_to(&id, url, "forbidden", problems)?;
            let (status, answer) =
                self.daemon.call(Method::POST, "/api/v1/cameras:probe", Some(&json!({ "url": url })))?;
            let told: Value = serde_json::from_str(&answer).unwrap_or_default();
            problems.check(
                status == StatusCode::OK && told["ok"] == json!(false) && told["error"]["kind"] == "forbidden",
                || format!("{url}: its trial: {status}: {answer}"),
            );
            self.daemon.delete_camera(&id)?;
        }
        self.daemon.put_camera("linked", &json!({ "url": clips.later }))?;
        self.comes_to("linked", &clips.later, "not_found", problems)?;
        symlink(&clips.outside, clips.dir.join(LATER)).context("cannot make a link")?;
        let (status, answer) = self.daemon.call(Method::POST, &format!("{SET}/linked/restart"), None)?;
        problems.check(status.is_success(), || format!("a restart was answered {status}: {answer}"));
        self.comes_to("linked", &clips.later, "forbidden", problems)?;
        self.daemon.delete_camera("linked")?;
        Ok(2 * urls.len() as u64 + 1)
    }

    /// Waits until a camera has failed for this.
    fn comes_to(&self, id: &str, url: &str, kind: &str, problems: &mut Problems) -> anyhow::Result<()> {
        let failed = self.daemon.wait_for(id, PATIENCE, |status| {
            status.state == "failed" && status.last_error.as_ref().is_some_and(|error| error["kind"] == kind)
        });
        problems.check(failed.is_ok(), || format!("{url}: not failed for {kind}: {:?}", failed.err()));
        Ok(())
    }

    /// What is allowed goes, through the same capture program.
    fn plays(&self, url: &str) -> anyhow::Result<()> {
        self.daemon.put_camera("allowed", &json!({ "url": url, "pace": "unpaced" }))?;
        self.daemon.wait_for("allowed", PATIENCE, |status| status.state == "ended" && status.totals.stored > 0)?;
        Ok(())
    }
}

/// A text as TOML takes it, which unlike JSON wants DEL escaped.
fn toml_text(text: &str) -> String {
    json!(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The journal comes and goes with what it keeps beside it.
fn is_journal(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal.sqlite"))
}

fn files_below(dir: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        }
        files.insert(path);
    }
    Ok(files)
}

/// What a name that was taken for a path would have made.
fn escaped(stage: &Stage) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in [stage.dir(), Path::new("/tmp"), Path::new("/"), Path::new(".")] {
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(ESCAPE)) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_enough_of_everything() {
        let urls: BTreeSet<String> = urls(1234, None).into_iter().collect();
        assert!(urls.len() >= 40 && urls.contains("rtsp://127.0.0.1:1234/a"), "{}", urls.len());
        let names: BTreeSet<String> = names().into_iter().map(|(name, _)| name).collect();
        assert!(names.len() >= 20, "{}", names.len());
    }

    #[test]
    fn odd_texts_are_written_as_they_are() {
        assert_eq!(toml_text("a\"\0\u{7f}"), "\"a\\\"\\u0000\\u007f\"");
    }

    #[test]
    fn a_trap_counts_who_came() {
        let traps = Traps::new().unwrap();
        assert_eq!(traps.sprung().unwrap(), 0);
        for address in ["127.0.0.1", "127.9.9.9"] {
            drop(std::net::TcpStream::connect((address, traps.port)).unwrap());
        }
        assert_eq!(traps.sprung().unwrap(), 2);
        assert_eq!(traps.sprung().unwrap(), 0);
    }
}
