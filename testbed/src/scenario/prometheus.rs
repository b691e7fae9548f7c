//! A real Prometheus at the daemon: it takes the metrics, knows the upload latency, and its rules find their series.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::stage::{add, bucket, cameras, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::daemon::{Daemon, wait};
use crate::gcs::Knobs;
use crate::oracle::Http;

/// What is shipped for Prometheus.
const SCRAPE: &str = include_str!("../../../deploy/prometheus/scrape.yml");
const RULES: &str = include_str!("../../../deploy/prometheus/framehaul.rules.yml");
const RULE_TESTS: &str = include_str!("../../../deploy/prometheus/framehaul.test.yml");

/// The most series of one camera, and of all the rest together.
const MOST_PER_CAMERA: usize = 30;
const MOST_IN_ALL: usize = 200;
/// The question that must have an answer.
const P99: &str = "histogram_quantile(0.99, sum by (le) (rate(framehaul_upload_duration_seconds_bucket[1m])))";

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Cameras that stream.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// The bucket's latency, which the answer must not fall short of.
    pub latency_ms: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn prometheus(stage: &Stage, plan: &Prometheus) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let knobs = Knobs { latency_ms: plan.latency_ms, rate_503: 0.05, rate_lost_answer: 0.02, ..Knobs::default() };
    let (gcs, storage) = bucket(stage, knobs)?;
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let daemon = stage.daemon(&storage, "")?;
    let ids = add(&daemon, &server)?;
    // Cameras that fail in two ways, and one that will be gone.
    let closed = TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port();
    let lost_path = server.url(&ids[0]) + "-that-is-not-there";
    let refused = json!({ "url": format!("rtsp://127.0.0.1:{closed}/a") });
    for (id, spec) in [("refused", &refused), ("missing", &json!({ "url": lost_path })), ("removed", &refused)] {
        daemon.put_camera(id, spec)?;
    }
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    daemon.wait_for("removed", Duration::from_secs(30), |status| status.last_error.is_some())?;
    daemon.wait_for("missing", Duration::from_secs(30), |status| status.last_error.is_some())?;
    ensure!(series(&daemon)?.iter().any(|line| line.contains("camera=\"removed\"")), "no series of a failing camera");
    let strange = strange_requests(&daemon)?;

    let promtool = Promtool::new(stage)?;
    promtool.run(&["check", "rules", "framehaul.rules.yml"], None, &mut problems)?;
    promtool.run(&["test", "rules", "framehaul.test.yml"], None, &mut problems)?;
    let untested = untested();
    problems.check(untested.is_empty(), || format!("alerts without a test: {}", untested.join(", ")));

    let monitor = Monitor::start(stage, &daemon)?;
    promtool.run(&["check", "config", "prometheus/prometheus.yml"], None, &mut problems)?;
    let p99 = wait(Duration::from_secs(60), || {
        let answer = monitor.query(P99)?;
        let value = answer["data"]["result"][0]["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
        Ok(value.filter(|value| value.is_finite()))
    })
    .context("the 99th percentile of the upload latency has no answer")?;
    let least = plan.latency_ms as f64 / 1e3;
    problems.check(p99 >= least, || format!("a 99th percentile of {p99} s at a latency of {least} s"));
    let rules = monitor.rules_are_well(&mut problems)?;

    daemon.delete_camera("removed")?;
    let text = daemon.get("/metrics")?;
    promtool.run(&["check", "metrics"], Some(&text), &mut problems)?;
    let all = series(&daemon)?;
    problems.check(!all.iter().any(|line| line.contains("removed")), || "series of a deleted camera".to_owned());
    let of = |id: &str| all.iter().filter(|line| line.contains(&format!("camera=\"{id}\""))).count();
    let live = || ids.iter().map(String::as_str).chain(["refused", "missing"]);
    let most = live().map(of).max().unwrap_or_default();
    let rest = all.iter().filter(|line| !line.contains("camera=\"")).count();
    problems.check(live().all(|id| of(id) > 0), || "a camera has no series".to_owned());
    problems.check(most <= MOST_PER_CAMERA, || format!("{most} series of one camera"));
    problems.check(rest <= MOST_IN_ALL, || format!("{rest} series that are of no camera"));
    // At each scrape, and so at this one.
    for id in live() {
        let sum = |name: &str| sum(&text, name, id).with_context(|| format!("camera {id}"));
        let (captured, lost) = (sum("frames_captured_total")?, sum("frames_lost_total")?);
        let (stored, in_flight) = (sum("frames_stored_total")?, sum("frames_in_flight")?);
        problems.check(captured > 0 || !ids.iter().any(|streaming| streaming == id), || {
            format!("camera {id} streams, and its metrics say that nothing was captured")
        });
        problems.check(captured == stored + lost + in_flight, || {
            format!("camera {id}: captured {captured}, stored {stored}, lost {lost}, in flight {in_flight}")
        });
    }
    let injected = gcs.stats().injected;
    let faults = injected.status_503 + injected.lost_answers;
    let bound = format!(
        "promtool accepts metrics, rules and their tests; Prometheus answers the p99 of uploads; at most {MOST_PER_CAMERA} \
         series a camera and {MOST_IN_ALL} more, none of a deleted camera"
    );
    let figure = json!({
        "p99_s": p99, "series_of_a_camera": most, "other_series": rest, "rules": rules, "strange_requests": strange,
    });
    Ok(problems.outcome(bound, figure, faults))
}

fn series(daemon: &Daemon) -> anyhow::Result<Vec<String>> {
    Ok(daemon.get("/metrics")?.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

/// The sum over a camera's series of a name, of which there must be one, and each a count.
fn sum(text: &str, name: &str, camera: &str) -> anyhow::Result<u64> {
    let begin = format!("framehaul_camera_{name}{{camera=\"{camera}\"");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(&begin)).collect();
    ensure!(!lines.is_empty(), "no series {name}");
    let count = |line: &&str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
    lines.iter().map(|line| count(line).with_context(|| format!("no count: {line}"))).sum()
}

/// Asks what no client should, in ways of which there is no end: none of it may cost a series of its own.
fn strange_requests(daemon: &Daemon) -> anyhow::Result<u64> {
    let mut count = 0;
    for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW", "PROPFIND"] {
        for path in ["/livez", "/metrics", "/api/v1/cameras", "/api/v1/cameras/cam0/frames", "/api/v1/cameras/no/x"] {
            for token in [None, Some("wrong")] {
                let url = format!("{}{path}?{count}", daemon.address());
                daemon.http().send(Method::from_bytes(method.as_bytes())?, &url, token, None)?;
                count += 1;
            }
        }
        for nth in 0..10 {
            daemon.call(Method::from_bytes(method.as_bytes())?, &format!("/api/v1/made-up-{nth}"), None)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The alerts that no test expects to fire, or none to be quiet.
fn untested() -> Vec<String> {
    let alerts = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let tests: Vec<&str> = RULE_TESTS.split("- expr: ").skip(1).collect();
    let has = |alert: &str, fires: bool| {
        let of_it = |test: &&str| test.contains(&format!("alertname=\"{alert}\""));
        tests.iter().copied().filter(of_it).any(|test| test.contains("exp_samples: []") != fires)
    };
    alerts.filter(|alert| !has(alert, true) || !has(alert, false)).map(str::to_owned).collect()
}

/// Debian's promtool, in a directory with the files that are shipped.
struct Promtool<'a>(&'a Path);

impl<'a> Promtool<'a> {
    fn new(stage: &'a Stage) -> anyhow::Result<Self> {
        for (name, text) in [("framehaul.rules.yml", RULES), ("framehaul.test.yml", RULE_TESTS)] {
            fs::write(stage.dir().join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(Self(stage.dir()))
    }

    /// Everything it says counts as a problem, unless it is content.
    fn run(&self, arguments: &[&str], input: Option<&str>, problems: &mut Problems) -> anyhow::Result<()> {
        let mut child = Command::new("promtool")
            .args(arguments)
            .current_dir(self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run promtool: is Debian's package `prometheus` installed?")?;
        child.stdin.take().context("it was asked for")?.write_all(input.unwrap_or_default().as_bytes())?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        // It warns and is content; we are not.
        let content = output.status.success() && !said.to_lowercase().contains("warn");
        problems.check(content, || format!("promtool {}: {}: {said}", arguments.join(" "), output.status));
        Ok(())
    }
}

/// Debian's Prometheus. Dropping it kills it.
struct Monitor {
    child: Child,
    http: Http,
    address: String,
}

impl Monitor {
    /// Starts it with our scrape job, at the daemon under test and every second.
    fn start(stage: &Stage, daemon: &Daemon) -> anyhow::Result<Self> {
        let dir = stage.dir().join("prometheus");
        fs::create_dir(&dir).context("cannot make a directory for Prometheus")?;
        let token = dir.join("token");
        fs::write(&token, daemon.token())?;
        let target = daemon.address().trim_start_matches("http://");
        let mut config = format!("rule_files: [{}]\n{SCRAPE}", json!(stage.dir().join("framehaul.rules.yml")));
        for (shipped, here) in [
            ("127.0.0.1:8080", target),
            ("/etc/prometheus/framehaul.token", token.to_str().context("the path is not UTF-8")?),
            ("scrape_interval: 15s", "scrape_interval: 1s"),
        ] {
            ensure!(config.contains(shipped), "{shipped} is not in the scrape job that is shipped");
            config = config.replace(shipped, here);
        }
        let config_file = dir.join("prometheus.yml");
        fs::write(&config_file, config)?;
        // It cannot tell which port it got, so one is chosen that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port();
        let log = File::create(dir.join("log")).context("cannot make its log")?;
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start prometheus: is Debian's package `prometheus` installed?")?;
        let monitor = Self { child, http: Http::new()?, address: format!("http://127.0.0.1:{port}") };
        wait(Duration::from_secs(30), || Ok(monitor.get("/-/ready").ok()))
            .with_context(|| format!("Prometheus is not ready; its log is {}", dir.join("log").display()))?;
        Ok(monitor)
    }

    fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        Ok(self.http.get(&format!("{}{path}", self.address), None)?.to_vec())
    }

    fn query(&self, query: &str) -> anyhow::Result<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        Ok(serde_json::from_slice(&self.get(&format!("/api/v1/query?query={query}"))?)?)
    }

    /// Whether every rule could be evaluated on real series, and how many there are.
    fn rules_are_well(&self, problems: &mut Problems) -> anyhow::Result<usize> {
        let rules = wait(Duration::from_secs(90), || {
            let answer: Value = serde_json::from_slice(&self.get("/api/v1/rules")?)?;
            let groups = answer["data"]["groups"].as_array().context("no groups of rules")?.clone();
            let rules: Vec<Value> =
                groups.iter().filter_map(|group| group["rules"].as_array()).flatten().cloned().collect();
            let evaluated = !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown");
            Ok(evaluated.then_some(rules))
        })
        .context("the rules were not evaluated")?;
        for rule in rules.iter().filter(|rule| rule["health"] != "ok") {
            problems.check(false, || format!("rule {}: {}", rule["name"], rule["lastError"]));
        }
        Ok(rules.len())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
