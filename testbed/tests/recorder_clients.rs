//! The recorder as clients find it that nobody here wrote: hikload and hikvisionapi, as they come from PyPI.
//!
//! They are installed with pip into an environment below `target/`, once; a missing tool or network fails the test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::clip::Codec;
use testbed::nvr::{Challenge, Channel, Container, Knobs, Length, NvrServer, Options};

const REQUIREMENTS: &str = include_str!("recorder_clients/requirements.txt");

#[track_caller]
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}{complaints}", output.status);
    output
}

/// The directory of programs in an environment that holds what is required, made anew when that has changed. Tests may
/// come here at the same time: one installs, the others wait.
fn programs() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(root.join("recorder-clients.lock")).unwrap();
    lock.lock().unwrap();
    let environment = root.join("recorder-clients");
    let programs = environment.join("bin");
    // Written last, so that a broken installation is not taken for a whole one.
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return programs;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorder_clients/requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "-r"];
    run(Command::new(programs.join("python")).args(pip).arg(requirements));
    fs::write(&stamp, REQUIREMENTS).unwrap();
    programs
}

/// Three channels: 130 recordings of ten minutes each, one, and none.
fn recorder(knobs: Knobs) -> NvrServer {
    let channel = |name: &str, recordings| Channel { name: name.into(), recordings, ..Channel::default() };
    let channels = vec![channel("Gate", 130), channel("Yard & street", 1), channel("Empty", 0)];
    NvrServer::start(Options { channels, knobs, ..Options::default() }).unwrap()
}

const DAY: [&str; 4] = ["--starttime", "2026-11-19T00:00:00", "--endtime", "2026-11-19T23:59:59"];

/// What one run of hikload left behind.
struct Run {
    dir: TempDir,
    status: i32,
    said: String,
}

impl Run {
    /// The files by their paths below the directory of downloads.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(dir: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
                let name = format!("{below}{}", entry.file_name().to_str().unwrap());
                if entry.path().is_dir() {
                    walk(&entry.path(), &format!("{name}/"), files);
                } else {
                    files.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(&self.dir.path().join("out"), "", &mut files);
        files
    }
}

fn hikload(server: &NvrServer, password: &str, arguments: &[&str]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(programs().join("hikload"))
        .args(["--server", server.host(), "--username", "admin", "--password", password])
        .args(["--downloads", "out"])
        .args(arguments)
        .current_dir(dir.path())
        .env("NO_PROXY", "127.0.0.1")
        .env("HOME", dir.path())
        .env_remove("RUNNING_IN_DOCKER")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Run { dir, status: output.status.code().unwrap(), said }
}

/// What hikload is to make of all recordings on these tracks, by `name`.
fn expected(server: &NvrServer, tracks: &[u32], name: impl Fn(u32, &str) -> String) -> BTreeMap<String, Vec<u8>> {
    let of = server.recordings().into_iter().filter(|file| tracks.contains(&file.track));
    of.map(|file| {
        let begin: String = file.begin.chars().filter(char::is_ascii_digit).collect();
        (name(file.track, &begin), server.read(file.track, &file.name).unwrap())
    })
    .collect()
}

fn flat(track: u32, begin: &str) -> String {
    format!("{begin}-{track}.mp4")
}

/// Compares sets of files without printing their bytes.
#[track_caller]
fn assert_same(run: &Run, expected: &BTreeMap<String, Vec<u8>>) {
    let sums = |files: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, String> {
        files.iter().map(|(name, bytes)| (name.clone(), format!("{:x?}", Md5::digest(bytes)))).collect()
    };
    assert_eq!((run.status, sums(&run.files())), (0, sums(expected)), "{}", run.said);
}

#[test]
fn hikload_fetches_131_recordings_by_133_downloads() {
    let server = recorder(Knobs::default());
    server.log_exchanges();
    let run = hikload(&server, "Passw0rd1", &DAY);
    let wanted = expected(&server, &[101, 201], flat);
    assert_eq!(wanted.len(), 131);
    assert_same(&run, &wanted);
    // Each is unlike the others, or their comparison would say little.
    let different: std::collections::BTreeSet<_> = wanted.values().collect();
    assert_eq!(different.len(), 131);

    let stats = server.stats();
    assert_eq!((stats.calls.device_info, stats.calls.channels), (1, 1));
    assert_eq!((stats.calls.search, stats.calls.download), (5, 133));
    assert_eq!((stats.connections, stats.requests), (140, 280));
    assert_eq!((stats.logins.challenged, stats.logins.accepted, stats.logins.wrong), (140, 140, 0));
    assert_eq!((stats.downloads.complete, stats.downloads.again, stats.downloads.most_sessions), (133, 2, 1));

    // What it sends is what is known of it: if that changes, what is known here is out of date.
    let searches: Vec<String> = server
        .exchanges()
        .iter()
        .filter(|exchange| exchange.login && exchange.target == "/ISAPI/ContentMgmt/search")
        .map(|exchange| String::from_utf8(exchange.body.to_vec()).unwrap())
        .collect();
    let begins: Vec<_> = searches.iter().map(|body| between(body, "<startTime>", "</startTime>")).collect();
    let windows = ["00:00", "10:30", "21:00", "00:00", "00:00"].map(|time| format!("2026-11-19T{time}:00Z"));
    assert_eq!(begins, windows);
    let id = between(&searches[0], "<searchID>", "</searchID>");
    assert_eq!(
        searches[0],
        format!(
            "<?xml version = \"1.0\" encoding = \"UTF-8\" ?><CMSearchDescription version=\"1.0\" \
             xmlns=\"http://www.hikvision.com/ver20/XMLSchema\"><searchID>{id}</searchID><trackIDList>\
             <trackID>101</trackID></trackIDList><timeSpanList><timeSpan><startTime>2026-11-19T00:00:00Z</startTime>\
             <endTime>2026-11-19T23:59:59Z</endTime></timeSpan></timeSpanList><maxResults>64</maxResults>\
             </CMSearchDescription>"
        )
    );
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).expect("both are there").0
}

#[test]
fn hikload_does_what_its_options_say() {
    let server = recorder(Knobs::default());
    let day = |arguments: &[&'static str]| hikload(&server, "Passw0rd1", &[&DAY, arguments].concat());

    let run = day(&["--cameras", "101", "--folders", "oneperday"]);
    assert_same(&run, &expected(&server, &[101], |_, begin| format!("101/2026/11/19/{begin}.mp4")));
    let run = day(&["--folders", "onepercamera"]);
    let folder = |track| if track == 101 { "Gate" } else { "Yard & street" };
    assert_same(&run, &expected(&server, &[101, 201], |track, begin| format!("{}/{begin}.mp4", folder(track))));
    let run = hikload(&server, "Passw0rd1", &["--allrecordings", "--cameras", "101"]);
    assert_same(&run, &expected(&server, &[101], flat));

    let before = server.stats().calls;
    assert_same(&day(&["--skipdownload", "--debug"]), &BTreeMap::new());
    let after = server.stats().calls;
    assert_eq!((after.search - before.search, after.download - before.download), (5, 0));

    // ffmpeg reads the program stream and makes Matroska of it, which hikload calls MP4.
    let run = day(&["--videoformat", "mkv", "--cameras", "201"]);
    let files = run.files();
    assert_eq!((run.status, files.len()), (0, 1), "{}", run.said);
    assert_eq!(files["20261119000000-201.mp4"][..4], [0x1a, 0x45, 0xdf, 0xa3]);
}

#[test]
fn hikload_tells_a_wrong_password_at_once() {
    let server = recorder(Knobs::default());
    let run = hikload(&server, "wrong", &DAY);
    assert_eq!(run.status, 1);
    assert!(run.said.contains("Error while testing connection: Unauthorized"), "{}", run.said);
    let stats = server.stats();
    assert_eq!((stats.logins.challenged, stats.logins.wrong, stats.logins.accepted), (1, 1, 0));
}

#[test]
fn hikload_gets_along_with_every_login_namespace_and_length() {
    let server = recorder(Knobs::default());
    let all = expected(&server, &[201], flat);
    let with = |what: &str, knobs: Knobs| {
        server.change_knobs(|now| *now = knobs).unwrap();
        let run = hikload(&server, "Passw0rd1", &[&DAY[..], &["--cameras", "201"]].concat());
        assert_eq!(run.files().len(), 1, "{what}: {}", run.said);
        assert_same(&run, &all);
    };
    for challenge in [
        Challenge::Md5,
        Challenge::Unnamed,
        Challenge::Sha256,
        Challenge::Md5Sha256,
        Challenge::Sha256Md5,
        Challenge::DigestBasic,
    ] {
        with(&format!("{challenge:?}"), Knobs { challenge, nonce_uses: Some(1), ..Knobs::default() });
    }
    with("no qop", Knobs { no_qop: true, ..Knobs::default() });
    let namespace = "http://www.isapi.org/ver20/XMLSchema".to_owned();
    with("another namespace", Knobs { namespace, ..Knobs::default() });
    for length in [Length::Chunked, Length::UntilClosed] {
        with(&format!("{length:?}"), Knobs { length, ..Knobs::default() });
    }
}

/// It gives up on a stream that is silent for a tenth of a second or two, and says that all is well.
#[test]
fn hikload_plays_over_rtsp_what_it_does_not_download() {
    let channel = Channel { recordings: 2, pictures: 50, fps: 25, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let run = hikload(&server, "Passw0rd1", &[&DAY[..], &["--ffmpeg", "--debug", "--cameras", "101"]].concat());
    let files = run.files();
    assert_eq!((run.status, files.len()), (0, 2), "{}", run.said);
    let stats = server.stats();
    assert_eq!((stats.playbacks.begun, stats.calls.download, stats.logins.wrong), (2, 0, 0));
    for name in files.keys() {
        let told = Command::new("ffprobe")
            .args(["-v", "error", "-of", "csv=p=0", "-show_entries", "stream=codec_name"])
            .arg(run.dir.path().join("out").join(name))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "h264", "{name}: {}", run.said);
    }
}

#[test]
fn hikload_takes_every_kind_of_recording_as_it_is() {
    for (codec, container) in [(Codec::H265, Container::Ps), (Codec::H264, Container::Mp4)] {
        let channel = Channel { recordings: 2, codec, container, ..Channel::default() };
        let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
        let run = hikload(&server, "Passw0rd1", &[&DAY[..], &["--cameras", "101"]].concat());
        assert_same(&run, &expected(&server, &[101], flat));
    }
}

/// What it does not see: each of these is a recording that is not there, told as one that is.
#[test]
fn hikload_takes_what_is_broken_for_a_recording() {
    let server = recorder(Knobs::default());
    let all = expected(&server, &[201], flat);
    let good = &all["20261119000000-201.mp4"];
    for (what, knobs, begins) in [
        ("busy", Knobs { rate_busy: 1.0, ..Knobs::default() }, Some("<?xml")),
        ("an error with 200", Knobs { rate_xml: 1.0, ..Knobs::default() }, Some("<?xml")),
        ("vanished", Knobs { vanished: Some("ch02".into()), ..Knobs::default() }, Some("<?xml")),
        ("cut", Knobs { rate_cut: 1.0, ..Knobs::default() }, None),
        ("short", Knobs { rate_short: 1.0, ..Knobs::default() }, None),
    ] {
        server.change_knobs(|now| *now = knobs).unwrap();
        let run = hikload(&server, "Passw0rd1", &[&DAY[..], &["--cameras", "201"]].concat());
        let files = run.files();
        assert_eq!((run.status, files.len()), (0, 1), "{what}: {}", run.said);
        let got = &files["20261119000000-201.mp4"];
        match begins {
            Some(begins) => assert!(got.starts_with(begins.as_bytes()), "{what}"),
            None => assert!(got.len() < good.len() && good.starts_with(got), "{what}: {}", got.len()),
        }
    }
}

#[test]
fn hikvisionapi_finds_what_it_expects() {
    let server = recorder(Knobs::default());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorder_clients/hikvision_api.py");
    let output = run(Command::new(programs().join("python"))
        .arg(script)
        .args([&server.endpoint(), "admin", "Passw0rd1"])
        .env("NO_PROXY", "127.0.0.1"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["device"], "NVR");
    assert_eq!(report["time"].as_str().unwrap().len(), "2026-11-19T00:00:00+00:00".len());
    let tracks = json!(["101", "102", "201", "202", "301", "302"]);
    assert_eq!((&report["tracks"], &report["channels"]), (&tracks, &tracks));
    assert_eq!(report["cameras"], json!(["Gate", "Yard & street", "Empty"]));
    assert_eq!(report["words"], json!(["MORE", "MORE", "MORE", "OK"]));
    let on_101: Vec<_> = server.recordings().into_iter().filter(|file| file.track == 101).collect();
    let names: Vec<_> = on_101.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(report["names"], json!(names));
    for (which, file) in [("first", &on_101[0]), ("second", &on_101[1])] {
        let sum: String =
            Md5::digest(server.read(101, &file.name).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(report[which], json!(sum));
    }
    // Both clients begin with the password as it is, which is not asked for and is not counted as wrong.
    let stats = server.stats();
    assert_eq!((stats.logins.wrong, stats.calls.unknown, stats.downloads.complete), (0, 0, 2));
}
