//! A planted password, and everywhere it could show.

mod command_line;
mod file;
mod kinds;
mod parrots;
mod requests;
mod search;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use testbed::daemon::{Credentials, Storage};
use testbed::gcs::{GcsServer, Options};

use self::command_line::the_command_line_keeps_it;
use self::file::CamerasFile;
use self::parrots::{echo, parrot};
use self::requests::{every_route_is_asked, post, whole_sets_are_not_repeated, wrong_bodies_are_not_repeated};
use self::search::{finds_nothing, search, search_answer, search_files, search_processes};
use super::vocabulary::{
    PATIENCE, USER, assert_sound, cameras, files_below, http_cameras, leave, put, stage, until_streaming,
};

/// Made to break whoever takes it for a URL, for percent-encoded, or for a path.
const CANARY: &str = "p%40:/#w";

/// Whose name stands beside it in trials.
const TRIER: &str = "someone";

#[test]
fn a_password_shows_nowhere_with_everything_logged() -> anyhow::Result<()> {
    finds_nothing(|| plant_the_canary("debug"))
}

#[test]
fn a_password_shows_nowhere_with_our_own_traces() -> anyhow::Result<()> {
    finds_nothing(|| plant_the_canary("info,framehaul=trace"))
}

fn plant_the_canary(filter: &str) -> anyhow::Result<Value> {
    let stage = stage()?;
    let (rtsp, http, other) = (cameras(CANARY)?, http_cameras(CANARY)?, http_cameras("another")?);
    let (echo, parrot) = (echo()?, parrot()?);
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent = silent.local_addr()?;
    let gcs = GcsServer::start(Options {
        buckets: vec!["frames".to_owned()],
        root: Some(stage.dir().join("bucket")),
        ..Options::default()
    })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: "frames".to_owned(), credentials: Credentials::Anonymous };
    let file = CamerasFile::new(&rtsp.url("shut"))?;
    let more = format!(
        "[cameras]\nfile = {}\n[capture]\nopen_timeout = \"2s\"\n[log]\nfilter = \"{filter}\"",
        json!(file.path)
    );
    let mut daemon = stage.prepare(&storage, &more)?;
    file.keeps_the_daemon_from_starting(&stage)?;
    daemon.run()?;

    let login = |url: String| json!({ "url": url, "user": USER, "password": CANARY });
    let unverified = |url: String| json!({ "url": url, "user": USER, "password": CANARY, "tls": "unverified" });
    // A login of their own: the cameras' may be in use just then, and trials wait for nobody.
    let trial = |url: String| json!({ "url": url, "user": TRIER, "password": CANARY });
    let good = ["good", "basic", "digest"];
    let specs = [
        ("good", login(rtsp.url("shut"))),
        ("basic", login(http.url("basic"))),
        ("digest", login(http.url("digest"))),
        ("closed", login("rtsp://127.0.0.1:1/main".to_owned())),
        ("nowhere", login(rtsp.url("shut").replace("/shut", "/nowhere"))),
        ("unknown", login("rtsp://no.such.host.invalid/main".to_owned())),
        ("silent", login(format!("http://{silent}/main"))),
        ("denied", login(other.url("basic"))),
        ("rtsps", unverified(rtsp.url("shut").replace("rtsp:", "rtsps:"))),
        ("https", unverified(http.url("basic").replace("http:", "https:"))),
        ("echo", login(echo.url())),
        ("status", login(parrot.http_url("status"))),
        ("location", login(parrot.http_url("location"))),
        ("kind", login(parrot.http_url("kind"))),
    ];
    for (id, spec) in &specs {
        let answer = put(&daemon, id, spec)?;
        assert_eq!(answer.status, 201, "{id}: {answer:?}");
        search_answer("PUT", &answer);
        assert!(answer.body.contains("\"password_set\":true"), "{answer:?}");
    }
    for (id, _) in &specs {
        if good.contains(id) {
            until_streaming(&daemon, id)?;
        } else {
            daemon.wait_for(id, PATIENCE, |status| status.last_error.is_some())?;
        }
    }
    until_streaming(&daemon, "filed")?;
    search_processes(&daemon)?;

    wrong_bodies_are_not_repeated(&daemon, &rtsp.url("shut"))?;
    let set: Map<String, Value> = specs.iter().map(|(id, spec)| ((*id).to_owned(), spec.clone())).collect();
    whole_sets_are_not_repeated(&daemon, &set)?;
    for (what, spec) in [
        ("good", login(http.url("digest"))),
        ("closed", trial("http://127.0.0.1:1/main".to_owned())),
        ("silent", trial(format!("rtsp://{silent}/main"))),
        ("echo", trial(echo.url())),
        ("status", trial(parrot.http_url("status"))),
        ("kind", trial(parrot.http_url("kind"))),
    ] {
        let answer = post(&daemon, "/api/v1/cameras:probe", &spec)?;
        assert_eq!(answer.status, 200, "the trial of {what}: {answer:?}");
        assert_eq!(answer.body.contains("\"ok\":true"), what == "good", "the trial of {what}: {answer:?}");
    }
    file.is_refused_again(&daemon)?;
    let routes = every_route_is_asked(&daemon, &set, &login(http.url("basic")))?;
    the_command_line_keeps_it(&stage, &daemon, &rtsp.url("shut"))?;
    // Another password takes the place of the first.
    let answer = put(&daemon, "denied", &json!({ "url": other.url("basic"), "user": USER, "password": "another" }))?;
    assert_eq!(answer.status, 200, "{answer:?}");
    until_streaming(&daemon, "denied")?;
    search_processes(&daemon)?;

    let state = stage.dir().join("state");
    let secrets = state.join("secrets.json");
    search_files(&state, Some(&secrets))?;
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    assert_eq!(mode(&state)?, 0o700);
    for name in ["secrets.json", "admin.token", "journal.sqlite"] {
        assert_eq!(mode(&state.join(name))?, 0o600, "{name}");
    }
    let log = daemon.log_text();
    for id in ["echo", "status"] {
        let says = |line: &str| line.contains("[secret]") && line.contains(&format!("camera={id}"));
        assert!(log.lines().any(says), "camera {id} has not made its capture process say the password:\n{log}");
    }

    file.is_emptied(&daemon)?;
    daemon.quiesce(PATIENCE)?;
    for id in good {
        assert_sound(&daemon, id, Some(&gcs.endpoint()))?;
    }
    let objects = daemon.http().get(&format!("{}/storage/v1/b/frames/o", gcs.endpoint()), None)?;
    assert!(String::from_utf8_lossy(&objects).contains("metageneration"), "no metadata of objects");
    search("the metadata of objects", &objects);
    leave(daemon)?;
    let files = files_below(stage.dir())?;
    assert!(files.iter().any(|path| path.ends_with("framehaul.log")) && files.contains(&secrets), "{files:?}");
    // The cameras are gone, and their passwords with them: from here on the file is no exception.
    search_files(stage.dir(), None)?;
    let failing = specs.len() - good.len();
    Ok(json!({ "what": format!("every route, with the log filter {filter}"), "routes": routes, "faults": failing }))
}
