//! A camera's frames in a bucket, with their lists, and hands to spoil them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use framehaul::config::{self, Destination};
use framehaul::model::Origin;
use framehaul::storage::{self, ContentType, Created};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::Connection;
use serde_json::Value;
use testbed::daemon::{Credentials, Daemon, Storage, wait};
use testbed::gcs::{GcsServer, Options};
use testbed::oracle::Http;
use testbed::scenario::Stage;
use testbed::synthetic::Synthetic;
use tokio::runtime::Runtime;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const BUCKET: &str = "frames";
const PATIENCE: Duration = Duration::from_secs(60);

/// Frames of the camera `gate`, and entries of a manifest.
pub const FRAMES: u64 = 50;
pub const ENTRIES: u64 = 20;

/// What can be broken differently.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Where {
    Directory,
    Gcs,
}

pub const BOTH: [Where; 2] = [Where::Directory, Where::Gcs];

pub struct Bench {
    pub stage: Stage,
    pub daemon: Daemon,
    pub gcs: Option<GcsServer>,
    http: Http,
    runtime: Runtime,
}

impl Bench {
    /// A daemon that is not started yet, and its bucket.
    pub fn prepare(place: Where, more: &str) -> anyhow::Result<Self> {
        let stage = Stage::new(Path::new(PROGRAM))?;
        let gcs = match place {
            Where::Directory => None,
            Where::Gcs => {
                let root = Some(stage.dir().join("bucket"));
                Some(GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], root, ..Options::default() })?)
            }
        };
        let storage = match &gcs {
            None => Storage::Directory,
            Some(gcs) => Storage::Gcs {
                endpoint: gcs.endpoint(),
                bucket: BUCKET.to_owned(),
                credentials: Credentials::Anonymous,
            },
        };
        let more = format!("[upload]\nretry_max = \"500ms\"\ndeadline = \"2s\"\n{}{more}", stage.synthetic()?);
        let daemon = stage.prepare(&storage, &more)?;
        let runtime = Runtime::new().context("no runtime")?;
        Ok(Self { stage, daemon, gcs, http: Http::new()?, runtime })
    }

    /// The camera `gate` with its frames and manifests in the bucket, and a daemon that has ended.
    pub fn new(place: Where) -> anyhow::Result<Self> {
        Self::with(place, &format!("[manifests]\nevery = \"1h\"\nentries = {ENTRIES}\n"))
    }

    /// The same with another configuration.
    pub fn with(place: Where, more: &str) -> anyhow::Result<Self> {
        let mut bench = Self::prepare(place, more)?;
        bench.daemon.run()?;
        let gate = Synthetic::new("gate").fps(200.0).bytes(3_000).frames(FRAMES);
        bench.daemon.put_camera("gate", &gate.request())?;
        bench.daemon.wait_for("gate", PATIENCE, |status| status.watermark >= FRAMES)?;
        bench.daemon.quiesce(PATIENCE)?;
        ensure!(bench.daemon.stop()?.success(), "it does not end well");
        let frames = bench.keys()?.len();
        ensure!(frames >= FRAMES as usize, "{frames} frames");
        Ok(bench)
    }

    pub fn state(&self) -> PathBuf {
        self.stage.dir().join("state")
    }

    /// The journal, for whoever wants to spoil it.
    pub fn journal(&self) -> anyhow::Result<Connection> {
        Ok(Connection::open(self.state().join("journal.sqlite"))?)
    }

    pub fn origin(&self) -> anyhow::Result<Origin> {
        let text: String =
            self.journal()?.query_row("SELECT value FROM meta WHERE key = 'origin'", [], |row| row.get(0))?;
        Origin::parse(&text).context("no origin")
    }

    /// The stored frames' keys by seq.
    pub fn keys(&self) -> anyhow::Result<BTreeMap<u64, String>> {
        let journal = self.journal()?;
        let mut statement = journal.prepare("SELECT seq, key FROM frame WHERE lost IS NULL")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A manifest's key.
    pub fn manifest(&self, first: u64, last: u64) -> anyhow::Result<String> {
        Ok(format!("_manifest/gate/{}/{first:012}-{last:012}.ndjson", self.origin()?.as_str()))
    }

    fn file(&self, key: &str) -> PathBuf {
        self.stage.dir().join("frames").join(key)
    }

    pub fn read(&self, key: &str) -> anyhow::Result<Vec<u8>> {
        match &self.gcs {
            None => Ok(fs::read(self.file(key))?),
            Some(gcs) => Ok(gcs.read(BUCKET, key)?.to_vec()),
        }
    }

    pub fn delete(&self, key: &str) -> anyhow::Result<()> {
        let Some(gcs) = &self.gcs else { return Ok(fs::remove_file(self.file(key))?) };
        let name = utf8_percent_encode(key, NON_ALPHANUMERIC);
        let url = format!("{}/storage/v1/b/{BUCKET}/o/{name}", gcs.endpoint());
        let (status, answer) = self.http.send(hyper_method("DELETE")?, &url, None, None)?;
        ensure!(status.is_success(), "{status}: {answer:?}");
        Ok(())
    }

    pub fn put(&self, key: &str, content: &[u8]) -> anyhow::Result<()> {
        if self.gcs.is_none() {
            let file = self.file(key);
            fs::create_dir_all(file.parent().context("no directory")?)?;
            return Ok(fs::write(file, content)?);
        }
        self.put_all(&[(key.to_owned(), Bytes::copy_from_slice(content))])
    }

    /// Puts many into the emulator's bucket.
    pub fn put_all(&self, objects: &[(String, Bytes)]) -> anyhow::Result<()> {
        use futures_util::{StreamExt as _, TryStreamExt as _, stream};
        let destination = self.destination()?;
        let origin = self.origin()?;
        self.runtime.block_on(async {
            let bucket = storage::open(&destination, &origin).await?;
            let puts = objects.iter().map(|(key, content)| {
                let bucket = bucket.clone();
                async move {
                    let crc32c = crc32c::crc32c(content);
                    let created = bucket.create(key, content.clone(), crc32c, ContentType::Jpeg).await?;
                    ensure!(created == Created::New, "{key} was there");
                    Ok(())
                }
            });
            stream::iter(puts).buffer_unordered(32).try_collect::<Vec<()>>().await.map(drop)
        })
    }

    fn destination(&self) -> anyhow::Result<Destination> {
        let settings = config::load(Some(&self.config()), Vec::new());
        let settings = settings.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        settings.destinations.into_values().next().context("no destination")
    }

    pub fn replace(&self, key: &str, content: &[u8]) -> anyhow::Result<()> {
        self.delete(key)?;
        self.put(key, content)
    }

    fn config(&self) -> PathBuf {
        self.stage.dir().join("framehaul.toml")
    }

    /// `framehaul verify` with the configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("verify").args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        command
    }

    /// Runs it; its exit code, what it printed, what it said.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String, String)> {
        let output = self.command(arguments).output()?;
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((output.status.code(), out, err))
    }

    /// Runs it, as for a program.
    #[track_caller]
    pub fn verify(&self, code: i32, arguments: &[&str]) -> Value {
        let (exit, out, err) = self.run(&[arguments, &["--format", "json"]].concat()).expect("framehaul starts");
        assert_eq!(exit, Some(code), "{arguments:?}: {out}{err}");
        assert_eq!(err.is_empty(), code == 0, "{arguments:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    /// Waits until all that is listed is in manifests: in so many, at the least, since its start. Before anything was looked
    /// at nothing is left either.
    pub fn until_written(&self, manifests: u64) -> anyhow::Result<()> {
        wait(PATIENCE, || {
            let text = self.daemon.get("/metrics")?;
            let metric = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            let stored = metric("framehaul_manifests_total{result=\"stored\"} ").unwrap_or(0);
            Ok((stored >= manifests && metric("framehaul_manifest_pending_frames ") == Some(0)).then_some(()))
        })
    }
}

fn hyper_method(name: &str) -> anyhow::Result<http::Method> {
    name.parse().context("no method")
}

/// The kinds of what is wrong, each with how many, as far as there are any.
pub fn wrong(report: &Value) -> BTreeMap<String, u64> {
    let of = report["total"]["wrong"].as_object().expect("there are counts");
    of.iter().filter_map(|(kind, count)| Some((kind.clone(), count.as_u64().filter(|count| *count > 0)?))).collect()
}

/// The findings of a kind.
pub fn findings<'a>(report: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = report["findings"].as_array().expect("there are findings");
    all.iter().filter(|finding| finding["kind"] == kind).collect()
}
