//! `framehaul export`: all recordings of a recorder in a bucket, each once and whole, or told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testbed::gcs::GcsServer;
use testbed::nvr::{Channel, Knobs, NvrServer, Options};
use testbed::tls::TlsFront;
use time::macros::datetime;

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PASSWORD: &str = "Passw0rd1";
const DAY: [&str; 4] = ["--start", "2026-11-19T00:00:00", "--end", "2026-11-19T23:59:59"];

/// A recorder whose channels have so many recordings of ten minutes each.
fn recorder(recordings: &[u32], knobs: Knobs) -> NvrServer {
    let names = ["Gate", "Yard & street", "Empty"];
    let channels = recordings.iter().zip(names);
    let channels = channels.map(|(&recordings, name)| Channel { name: name.into(), recordings, ..Channel::default() });
    NvrServer::start(Options { channels: channels.collect(), knobs, ..Options::default() }).expect("a recorder")
}

/// A directory for downloads, with a file that holds the password.
struct Place(TempDir);

impl Place {
    fn new(password: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("password"), format!("{password}\n")).expect("a file with a password");
        fs::create_dir(dir.path().join("temp")).expect("a directory");
        Self(dir)
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn url(&self) -> String {
        format!("file://{}", self.out().display())
    }

    /// An export of the fixture's day into the directory.
    fn export(&self, server: &NvrServer, arguments: &[&str]) -> Command {
        let mut command = self.bare(&["--server", server.host(), "--username", "admin", "--to", &self.url()]);
        command.args(["--retry-max", "200ms", "--format", "ndjson"]).args(arguments);
        command
    }

    fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("export").args(arguments).arg("--password-file").arg(self.0.path().join("password"));
        command.arg("--temp").arg(self.0.path().join("temp"));
        command.env("FRAMEHAUL__STORAGE__CREDENTIALS", "anonymous").env("NO_PROXY", "127.0.0.1");
        command.stdin(Stdio::null()).current_dir(self.0.path());
        command
    }

    /// What was exported, by its path; lists of exports are not.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = below(&self.out(), "");
        files.retain(|name, _| !name.starts_with("_export/"));
        files
    }

    /// The lists that were written, oldest first.
    fn manifests(&self) -> Vec<Vec<Value>> {
        let lists = below(&self.out().join("_export"), "");
        let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("it is text");
        let mut lists: Vec<_> = lists.values().map(|bytes| lines(&text(bytes))).collect();
        // The names of two within a second do not tell which was first.
        lists.sort_by_key(|list| list[0]["begun_at"].as_str().expect("it is a time").to_owned());
        lists
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert!(!self.out().join(".framehaul-staging").exists(), "halves are left");
        let temp = fs::read_dir(self.0.path().join("temp")).expect("it is there");
        let left: Vec<_> = temp.map(|entry| entry.expect("it can be read").file_name()).collect();
        assert!(left.is_empty(), "{left:?} are left");
    }
}

fn below(dir: &Path, inside: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        let name = format!("{inside}{}", entry.file_name().to_str().expect("names are UTF-8"));
        match entry.path().is_dir() {
            true => files.extend(below(&entry.path(), &format!("{name}/"))),
            false => drop(files.insert(name, fs::read(entry.path()).expect("it can be read"))),
        }
    }
    files
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs it to its end: the entries, and what it said.
#[track_caller]
fn run(command: &mut Command, code: i32) -> (Vec<Value>, String) {
    let Output { status, stdout, stderr } = command.output().expect("framehaul starts");
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(status.code(), Some(code), "{out}{err}");
    assert_eq!(err.contains("error: "), code != 0, "{err}");
    assert!(!format!("{out}{err}").contains(PASSWORD) && !err.contains(['\r', '\x1b']), "{err:?}");
    (lines(&out), err)
}

/// What is to be there of all recordings on these tracks.
fn expected(server: &NvrServer, name: impl Fn(u32, &str) -> String) -> BTreeMap<String, Vec<u8>> {
    let file = |file: testbed::nvr::RecordingInfo| {
        let begin: String = file.begin.chars().filter(char::is_ascii_digit).collect();
        (name(file.track, &begin), server.read(file.track, &file.name).expect("it was recorded"))
    };
    server.recordings().into_iter().map(file).collect()
}

fn flat(track: u32, begin: &str) -> String {
    format!("{begin}-{track}.mp4")
}

/// Compares files without printing their bytes.
#[track_caller]
fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    let sums = |files: &BTreeMap<String, Vec<u8>>| -> BTreeMap<String, (usize, u32)> {
        files.iter().map(|(name, bytes)| (name.clone(), (bytes.len(), crc32c::crc32c(bytes)))).collect()
    };
    assert_eq!(sums(found), sums(expected));
}

fn outcomes(entries: &[Value], outcome: &str) -> usize {
    entries.iter().filter(|entry| entry["outcome"] == outcome).count()
}

/// The reasons that are told, each once.
fn reasons(entries: &[Value]) -> Vec<&str> {
    let mut reasons: Vec<_> = entries.iter().filter_map(|entry| entry["reason"].as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}

#[test]
fn what_hikload_fetches_by_133_downloads_comes_by_131_and_a_second_time_by_none() {
    let (server, place) = (recorder(&[130, 1, 0], Knobs::default()), Place::new(PASSWORD));
    let (entries, told) = run(place.export(&server, &[]).args(DAY), 0);
    assert_eq!((entries.len(), outcomes(&entries, "stored")), (131, 131), "{told}");
    let wanted = expected(&server, flat);
    assert_same(&place.files(), &wanted);
    let stats = server.stats();
    assert_eq!((stats.downloads.complete, stats.downloads.again, stats.downloads.most_sessions), (131, 0, 1));
    assert_eq!(stats.logins.wrong, 0);
    for entry in &entries {
        let key = entry["key"].as_str().unwrap();
        let path = place.out().join(key);
        assert_eq!(entry["url"].as_str().unwrap(), format!("file://{}", path.display()));
        assert_eq!(entry["bytes"].as_u64(), Some(wanted[key].len() as u64));
        assert_eq!(entry["bytes"], entry["listed_bytes"]);
    }

    let (entries, _) = run(place.export(&server, &[]).args(DAY), 0);
    assert_eq!((entries.len(), outcomes(&entries, "there")), (131, 131));
    assert_eq!(server.stats().downloads.complete, 131);
    let manifests = place.manifests();
    assert_eq!(manifests.len(), 2);
    for (manifest, outcome) in manifests.iter().zip(["stored", "there"]) {
        assert_eq!((&manifest[0]["format"], &manifest[0]["complete"]), (&"framehaul-export".into(), &true.into()));
        assert_eq!((manifest.len(), manifest[132]["type"].as_str()), (133, Some("end")));
        let numbers: Vec<_> = manifest[1..132].iter().map(|line| line["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=131).collect::<Vec<_>>());
        assert_eq!(outcomes(manifest, outcome), 131);
    }
    place.nothing_is_left();
}

#[test]
fn recordings_lie_where_hikload_puts_them() {
    let server = recorder(&[2, 1, 0], Knobs::default());
    let camera = |track: u32| if track == 101 { "Gate" } else { "Yard & street" };
    for (layout, directory) in [("camera", ""), ("year", "2026/"), ("month", "2026/11/"), ("day", "2026/11/19/")] {
        let place = Place::new(PASSWORD);
        let (entries, _) = run(place.export(&server, &["--layout", layout]).args(DAY), 0);
        let name = |track: u32, begin: &str| format!("{}/{directory}{begin}.mp4", camera(track));
        assert_same(&place.files(), &expected(&server, name));
        let url = entries.iter().find(|entry| entry["track"] == "201").unwrap()["url"].as_str().unwrap().to_owned();
        assert!(url.contains("/Yard%20&%20street/"), "{url}");
    }
    let place = Place::new(PASSWORD);
    let template = "{server}/{yyyy}-{mm}-{dd}/{track}-{start_utc}-{name}";
    run(place.export(&server, &["--name-template", template, "--channels", "2"]).args(DAY), 0);
    let name = format!("{}/2026-11-19/201-20261119000000Z-ch02_00000000008001213.mp4", server.host());
    assert_eq!(place.files().into_keys().collect::<Vec<_>>(), [name]);
}

#[test]
fn a_line_for_hikload_does_what_it_does_there() {
    let (server, place) = (recorder(&[2, 1, 0], Knobs::default()), Place::new(PASSWORD));
    let line = format!(
        "hikload --server {} --username admin --starttime 2026-11-19T00:00:00 --endtime 2026-11-19T23:59:59 --cameras 101 \
         --downloads {}",
        server.host(),
        place.out().display()
    );
    run(&mut place.bare(&["--format", "ndjson", "--hikload-args", &line]), 0);
    let mut wanted = expected(&server, flat);
    wanted.retain(|name, _| name.ends_with("-101.mp4"));
    assert_same(&place.files(), &wanted);

    // A password belongs into a file, and so does a line with one.
    let with_password = format!("{line} --password {PASSWORD}");
    let mut exposed = Command::new(PROGRAM);
    exposed.args(["export", "--hikload-args", &with_password, "--password-file", "/dev/null"]);
    let (_, told) = run(&mut exposed, 2);
    assert!(told.contains("--password-file"), "{told}");
    let file = place.0.path().join("hikload.txt");
    fs::write(&file, &with_password).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["export", "--format", "ndjson", "--hikload-args-file"]).arg(&file).stdin(Stdio::null());
    let (entries, _) = run(&mut command, 0);
    assert_eq!(outcomes(&entries, "there"), 2);

    let unknown = format!("{line} --parallel 4");
    let (_, told) = run(&mut place.bare(&["--hikload-args", &unknown]), 2);
    assert!(told.contains("docs/hikload.md"), "{told}");
}

#[test]
fn cuts_and_a_busy_recorder_cost_one_file_each_and_lose_none() {
    let knobs = Knobs { rate_cut: 0.2, rate_busy: 0.05, sessions: Some(1), seed: 7, ..Knobs::default() };
    let (server, place) = (recorder(&[130, 1, 0], knobs), Place::new(PASSWORD));
    // More sessions are asked for than the recorder has: it teaches how many.
    let (entries, told) = run(place.export(&server, &["--sessions", "4", "--retries", "50"]).args(DAY), 0);
    assert_eq!(outcomes(&entries, "stored"), 131, "{told}");
    assert_same(&place.files(), &expected(&server, flat));
    let stats = server.stats();
    assert!(stats.injected.cut > 10 && stats.injected.busy > 0, "{stats:?}");
    assert_eq!((stats.downloads.complete, stats.downloads.again, stats.downloads.most_sessions), (131, 0, 1));
    assert_eq!(stats.downloads.begun, 131 + stats.injected.cut, "a cut costs that file once more and no other");
    place.nothing_is_left();
}

#[test]
fn what_is_broken_fails_with_its_reason_and_the_rest_goes_on() {
    for (what, knobs, reason) in [
        ("busy", Knobs { rate_busy: 1.0, ..Knobs::default() }, "busy"),
        ("an error with 200", Knobs { rate_xml: 1.0, ..Knobs::default() }, "recorder"),
        ("cut", Knobs { rate_cut: 1.0, ..Knobs::default() }, "cut"),
        ("short", Knobs { rate_short: 1.0, ..Knobs::default() }, "wrong_size"),
        ("another size", Knobs { size_off: 1, ..Knobs::default() }, "wrong_size"),
        ("silent", Knobs { rate_stall: 1.0, ..Knobs::default() }, "silent"),
    ] {
        let (server, place) = (recorder(&[1, 1], knobs), Place::new(PASSWORD));
        let arguments = ["--retries", "1", "--timeout", "1s"];
        let (entries, told) = run(place.export(&server, &arguments).args(DAY), 65);
        assert_eq!((outcomes(&entries, "failed"), reasons(&entries)), (2, vec![reason]), "{what}: {told}");
        assert!(told.contains(&format!("2 {reason}")), "{what}: {told}");
        assert_eq!(place.files(), BTreeMap::new(), "{what}");
        assert_eq!(place.manifests()[0][0]["complete"], false, "{what}");
        place.nothing_is_left();
    }
    let (server, place) =
        (recorder(&[3, 1], Knobs { vanished: Some("ch02".into()), ..Knobs::default() }), Place::new(PASSWORD));
    let (entries, _) = run(place.export(&server, &[]).args(DAY), 65);
    assert_eq!((outcomes(&entries, "stored"), reasons(&entries)), (3, vec!["gone"]));
    let mut wanted = expected(&server, flat);
    wanted.retain(|name, _| name.ends_with("-101.mp4"));
    assert_same(&place.files(), &wanted);
}

#[test]
fn a_size_that_the_recorder_tells_wrong_is_taken_where_that_is_asked_for() {
    let knobs = Knobs { size_off: -3, ..Knobs::default() };
    let (server, place) = (recorder(&[2, 0], knobs), Place::new(PASSWORD));
    run(place.export(&server, &["--any-size"]).args(DAY), 0);
    assert_same(&place.files(), &expected(&server, flat));
    let (entries, _) = run(place.export(&server, &["--any-size"]).args(DAY), 0);
    assert_eq!(outcomes(&entries, "there"), 2);
    // What is there is not what is listed: it is not overwritten, and not taken for it.
    let (entries, _) = run(place.export(&server, &[]).args(DAY), 65);
    assert_eq!(reasons(&entries), ["conflict"]);
}

#[test]
fn a_wrong_password_ends_all_after_three_attempts_at_most() {
    let (server, place) = (recorder(&[4, 4], Knobs::default()), Place::new("wrong"));
    let (entries, told) = run(place.export(&server, &["--sessions", "8"]).args(DAY), 77);
    assert_eq!(entries.len(), 0);
    assert!(!told.contains("wrong\n"), "{told}");
    let logins = server.stats().logins;
    assert!((1..=3).contains(&logins.wrong) && logins.accepted == 0, "{logins:?}");
}

#[test]
fn a_dry_run_finds_all_and_fetches_nothing() {
    let (server, place) = (recorder(&[130, 1, 0], Knobs::default()), Place::new(PASSWORD));
    let (entries, _) = run(place.export(&server, &["--dry-run"]).args(DAY), 0);
    assert_eq!((entries.len(), outcomes(&entries, "found")), (131, 131));
    assert_eq!(entries[0]["key"], "20261119000000-101.mp4");
    assert!(!place.out().exists());
    assert_eq!(server.stats().calls.download, 0);
}

#[test]
fn nothing_found_is_explained() {
    let (server, place) =
        (recorder(&[2, 0], Knobs { clock_ahead_s: -7_200, ..Knobs::default() }), Place::new(PASSWORD));
    let other_day = ["--start", "2026-11-17", "--end", "2026-11-18"];
    for dry in [true, false] {
        let mut command = place.export(&server, &other_day);
        let (entries, told) = run(if dry { command.arg("--dry-run") } else { &mut command }, 66);
        assert_eq!(entries.len(), 0);
        for sentence in
            ["s behind this machine's", "searched was from 2026-11-17T00:00:00 to 2026-11-18T00:00:00", "2026-11-19"]
        {
            assert!(told.contains(sentence), "{sentence}: {told}");
        }
    }
    let (_, told) = run(place.export(&server, &["--tracks", "901", "--dry-run"]).args(DAY), 66);
    assert!(told.contains("no track 901: it has 101, 102, 201, 202"), "{told}");
    let (_, told) = run(place.export(&server, &["--channels", "7"]).args(DAY), 2);
    assert!(told.contains("channel 7; it has 101"), "{told}");
}

/// Waits until it is so.
#[track_caller]
fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn begun(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("framehaul starts")
}

#[test]
fn a_killed_export_goes_on_with_the_file_that_it_was_at() {
    let knobs = Knobs { bytes_per_s: Some(300_000), ..Knobs::default() };
    let (server, place) = (recorder(&[40, 1, 0], knobs), Place::new(PASSWORD));
    let mut kills = 0;
    for done in [5, 12, 20] {
        let mut command = place.export(&server, &[]);
        command.args(DAY);
        let mut child = begun(command);
        until("it fetches", || server.stats().downloads.complete >= done);
        until("it is within a file", || server.stats().downloads.sessions > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    run(place.export(&server, &[]).args(DAY), 0);
    assert_same(&place.files(), &expected(&server, flat));
    let stats = server.stats();
    // A file that had come to its last byte may not have been stored when the signal came.
    assert!(stats.downloads.again <= kills && stats.downloads.begun <= 41 + kills, "{stats:?}");
    place.nothing_is_left();
}

#[test]
fn a_signal_lets_the_file_at_hand_come_to_its_end() {
    let knobs = Knobs { bytes_per_s: Some(300_000), ..Knobs::default() };
    for arguments in [&[][..], &["--container", "mp4"]] {
        let (server, place) = (recorder(&[40, 1, 0], knobs.clone()), Place::new(PASSWORD));
        let mut command = place.export(&server, arguments);
        command.args(DAY).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        until("it fetches", || server.stats().downloads.complete >= 3);
        let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(75));
        let entries = lines(&String::from_utf8(output.stdout).unwrap());
        let stored = outcomes(&entries, "stored");
        assert_eq!((entries.len(), reasons(&entries)), (41, vec!["interrupted"]));
        assert_eq!((place.files().len(), server.stats().downloads.complete), (stored, stored as u64), "{arguments:?}");
        place.nothing_is_left();
    }
}

#[test]
fn a_recording_that_grows_is_waited_for() {
    const EACH: u32 = 20;
    // The third recording goes on now: its end and size are those of the moment.
    let begin = time::OffsetDateTime::now_utc() - Duration::from_secs(u64::from(2 * EACH) + 5);
    let begin =
        begin.format(time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]")).unwrap();
    let channel = Channel { recordings: 3, begin, each_s: EACH, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let (place, elsewhere) = (Place::new(PASSWORD), Place::new(PASSWORD));
    // Those before it are not joined without it, and none of them is fetched in vain.
    let joined = ["--all", "--concat", "--settle", "1s", "--wait", "0s"];
    let (entries, told) = run(&mut elsewhere.export(&server, &joined), 75);
    assert_eq!((entries.len(), reasons(&entries)), (3, vec!["growing"]), "{told}");
    assert_eq!((server.stats().downloads.begun, elsewhere.files()), (0, BTreeMap::new()));
    elsewhere.nothing_is_left();
    let (entries, told) = run(&mut place.export(&server, &["--all", "--wait", "0s"]), 75);
    assert_eq!((entries.len(), reasons(&entries)), (3, vec!["growing"]), "{told}");
    let waits = ["--all", "--settle", "2s", "--wait", "2m"];
    let ends = ["--name-template", "{start}-{end}-{track}"];
    let mut other = begun(elsewhere.export(&server, &[&waits[..], &ends].concat()));
    run(&mut place.export(&server, &waits), 0);
    assert!(other.wait().expect("it ends").success());
    assert_same(&place.files(), &expected(&server, flat));
    assert_eq!(server.stats().downloads.begun, 6, "nothing is fetched before it is whole");
    // Its name is that of what it has become.
    let digits = |at: &str| at.chars().filter(char::is_ascii_digit).collect::<String>();
    let named = server.recordings().into_iter().map(|of| format!("{}-{}-101.mp4", digits(&of.begin), digits(&of.end)));
    assert_eq!(elsewhere.files().into_keys().collect::<Vec<_>>(), named.collect::<Vec<_>>());
}

#[test]
fn recordings_go_into_cloud_storage_and_are_compared_there() {
    let (server, place) = (recorder(&[20, 1, 0], Knobs::default()), Place::new(PASSWORD));
    let gcs =
        GcsServer::start(testbed::gcs::Options { buckets: vec!["frames".to_owned()], ..Default::default() }).unwrap();
    let export = || {
        let mut command = place.bare(&["--server", server.host(), "--username", "admin", "--to", "gs://frames/nvr"]);
        command.args(["--format", "ndjson"]).args(DAY).env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint());
        command
    };
    let (entries, _) = run(&mut export(), 0);
    assert_eq!(outcomes(&entries, "stored"), 21);
    assert!(entries[0]["url"].as_str().unwrap().starts_with("gs://frames/nvr/2026"), "{}", entries[0]);
    let (entries, _) = run(&mut export(), 0);
    assert_eq!((outcomes(&entries, "there"), server.stats().downloads.complete), (21, 21));
}

/// The most memory that a program has had, bytes, as far as it could be seen.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn a_large_recording_takes_no_more_memory_than_a_small_one() {
    const SIZE: u64 = 256 << 20;
    let channel = Channel { recordings: 1, least_bytes: SIZE, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let place = Place::new(PASSWORD);
    let mut command = place.export(&server, &[]);
    command.args(DAY);
    let (mut child, mut most) = (begun(command), 0);
    let status = loop {
        most = most.max(peak(&child).unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert!(status.success());
    let size = fs::metadata(place.out().join("20261119000000-101.mp4")).unwrap().len();
    assert!(size >= SIZE && size == server.recordings()[0].size, "{size}");
    assert!((1 << 20..100 << 20).contains(&most), "{most} bytes at the most");
}

#[test]
fn recordings_become_mp4_and_are_found_again() {
    let (server, place) = (recorder(&[2, 1, 0], Knobs::default()), Place::new(PASSWORD));
    let arguments = ["--container", "mp4"];
    let (entries, told) = run(place.export(&server, &arguments).args(DAY), 0);
    assert_eq!(outcomes(&entries, "stored"), 3, "{told}");
    assert!(entries.iter().all(|entry| entry["note"].is_null()), "{entries:?}");
    let files = place.files();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["20261119000000-101.mp4", "20261119000000-201.mp4", "20261119001000-101.mp4"]);
    for (name, bytes) in &files {
        assert_eq!(&bytes[4..8], b"ftyp", "{name}");
    }
    let (entries, _) = run(place.export(&server, &arguments).args(DAY), 0);
    assert_eq!((outcomes(&entries, "there"), server.stats().downloads.complete), (3, 3));
    // What stands there is no original, and is not taken for one.
    let (entries, _) = run(place.export(&server, &[]).args(DAY), 65);
    assert_eq!((reasons(&entries), place.files()), (vec!["conflict"], files));
    place.nothing_is_left();
}

#[test]
fn recordings_of_a_track_become_one() {
    let (server, place) = (recorder(&[3, 1, 0], Knobs { rate_cut: 0.3, ..Knobs::default() }), Place::new(PASSWORD));
    let arguments = ["--concat", "--container", "mkv"];
    let (entries, told) = run(place.export(&server, &arguments).args(DAY), 0);
    assert_eq!((outcomes(&entries, "joined"), outcomes(&entries, "stored")), (3, 1), "{told}");
    let files = place.files();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert!(names[0].starts_with("20261119000000-101-20261119003000-") && names[0].ends_with(".mkv"), "{names:?}");
    assert_eq!(names[1..], ["20261119000000-201-20261119001000.mkv"]);
    for entry in entries.iter().filter(|entry| entry["outcome"] == "joined") {
        assert_eq!((entry["key"].as_str(), &entry["bytes"]), (Some(names[0]), &entry["listed_bytes"]));
    }
    let (entries, _) = run(place.export(&server, &arguments).args(DAY), 0);
    assert_eq!(outcomes(&entries, "there"), 4);
    assert_eq!(server.stats().downloads.complete, 4);
    // A part of it is another object, and so is another part.
    for (most, count) in [("1s", 3), ("2s", 4), ("1s", 4)] {
        let only = ["--max-seconds", most, "--tracks", "101"];
        run(place.export(&server, &arguments).args(only).args(DAY), 0);
        assert_eq!(place.files().len(), count, "{most}");
    }
    place.nothing_is_left();
}

#[test]
fn without_one_of_them_recordings_are_not_joined() {
    let knobs = Knobs { vanished: Some("0000008001214".into()), ..Knobs::default() };
    let (server, place) = (recorder(&[3, 0], knobs), Place::new(PASSWORD));
    let (entries, _) = run(place.export(&server, &["--concat"]).args(DAY), 65);
    assert_eq!((entries.len(), reasons(&entries)), (3, vec!["gone", "incomplete"]));
    assert_eq!(place.files(), BTreeMap::new());
    place.nothing_is_left();
}

#[test]
fn recordings_become_pictures_with_a_list_of_them() {
    let (server, place) = (recorder(&[1, 0], Knobs::default()), Place::new(PASSWORD));
    let (entries, told) = run(place.export(&server, &["--frame-every", "1s"]).args(DAY), 0);
    assert_eq!(outcomes(&entries, "stored"), 1, "{told}");
    let files = place.files();
    let list = lines(std::str::from_utf8(&files["20261119000000-101-every1s.ndjson"]).unwrap());
    // Two seconds of film.
    assert_eq!((list.len(), entries[0]["pictures"].as_u64()), (2, Some(2)));
    for line in &list {
        let jpeg = &files[line["key"].as_str().unwrap()];
        assert_eq!((jpeg[..2].to_vec(), line["bytes"].as_u64()), (vec![0xff, 0xd8], Some(jpeg.len() as u64)));
    }
    assert_eq!(files.len(), 3);
    // Pictures of another interval are others.
    let (entries, _) = run(place.export(&server, &["--frame-every", "2s"]).args(DAY), 0);
    assert_eq!(outcomes(&entries, "stored"), 1);
    assert!(place.files().contains_key("20261119000000-101-every2s.ndjson"));
}

#[test]
fn what_cannot_become_mp4_is_kept_as_it_came() {
    let (server, place) = (recorder(&[1, 0], Knobs { rate_short: 1.0, ..Knobs::default() }), Place::new(PASSWORD));
    let (entries, told) = run(place.export(&server, &["--container", "mp4", "--any-size"]).args(DAY), 0);
    let note = entries[0]["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("kept as it came: "), "{entries:?}");
    assert!(told.contains("1 of them not as asked for"), "{told}");
    let files = place.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["20261119000000-101.original.mpg"]);
    let original = &files["20261119000000-101.original.mpg"];
    let whole = server.read(101, &server.recordings()[0].name).unwrap();
    assert!(original.len() < whole.len() && whole.starts_with(original));
    let (entries, _) = run(place.export(&server, &["--container", "mp4", "--any-size"]).args(DAY), 0);
    assert_eq!((outcomes(&entries, "there"), server.stats().downloads.begun), (1, 1));
    place.nothing_is_left();
}

#[test]
fn a_recording_may_be_played_in_the_place_of_its_file() {
    let channel = Channel { recordings: 1, each_s: 2, pictures: 50, fps: 25, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let place = Place::new(PASSWORD);
    let (entries, told) = run(place.export(&server, &["--transport", "rtsp"]).args(DAY), 0);
    assert_eq!((outcomes(&entries, "stored"), &entries[0]["note"]), (1, &Value::Null), "{told}");
    let files = place.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["20261119000000-101.mp4"]);
    assert_eq!(&files["20261119000000-101.mp4"][4..8], b"ftyp");
    let (entries, _) = run(place.export(&server, &["--transport", "rtsp"]).args(DAY), 0);
    assert_eq!(outcomes(&entries, "there"), 1);
    let stats = server.stats();
    assert_eq!((stats.playbacks.begun, stats.calls.download), (1, 0));

    // Where the recorder sends no files it is played without being asked for that, and found again.
    server.change_knobs(|knobs| knobs.no_by_file = true).unwrap();
    let place = Place::new(PASSWORD);
    let (entries, told) = run(place.export(&server, &[]).args(DAY), 0);
    assert!(entries[0]["note"].as_str().is_some_and(|note| note.starts_with("played over RTSP")), "{entries:?}{told}");
    assert_eq!(place.files().keys().collect::<Vec<_>>(), ["20261119000000-101.played.mp4"]);
    let (entries, _) = run(place.export(&server, &[]).args(DAY), 0);
    assert_eq!((outcomes(&entries, "there"), server.stats().playbacks.begun), (1, 2));
    place.nothing_is_left();
}

#[test]
fn what_is_not_whole_after_two_playbacks_is_kept_and_not_taken_for_whole() {
    // It lists ten seconds, and has two of them.
    let channel = Channel { recordings: 1, each_s: 10, pictures: 50, fps: 25, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let place = Place::new(PASSWORD);
    for begun in [2, 4] {
        let (entries, told) = run(place.export(&server, &["--transport", "rtsp"]).args(DAY), 65);
        // A second playback need not give the same file; the first one's stays.
        let is_told = outcomes(&entries, "part") == 1 || begun > 2 && outcomes(&entries, "failed") == 1;
        assert!(is_told && reasons(&entries) == ["cut"], "{entries:?}{told}");
        let error = entries[0]["error"].as_str().unwrap();
        assert!(error.contains("it is not whole") && error.contains("of 10"), "{error}");
        assert_eq!(server.stats().playbacks.begun, begun);
        let files = place.files();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["20261119000000-101.incomplete.mp4"]);
        assert_eq!(&files["20261119000000-101.incomplete.mp4"][4..8], b"ftyp");
        assert_eq!(place.manifests().last().unwrap()[0]["complete"], false);
    }
    place.nothing_is_left();
}

#[test]
fn two_recorders_at_one_place_are_told() {
    let place = Place::new(PASSWORD);
    let [first, second] = [(); 2].map(|()| recorder(&[1, 0], Knobs::default()));
    let (_, told) = run(place.export(&first, &[]).args(DAY), 0);
    assert!(!told.contains("other recorders"), "{told}");
    let (_, told) = run(place.export(&second, &[]).args(DAY), 0);
    let name = first.host().replace(':', "_");
    assert!(told.contains("other recorders") && told.contains(&name), "{told}");
    let named = ["--name-template", "{server}/{start}-{track}"];
    let (entries, told) = run(place.export(&second, &named).args(DAY), 0);
    assert_eq!((outcomes(&entries, "stored"), told.contains("other recorders")), (1, false), "{told}");
}

#[test]
fn a_cap_on_bandwidth_is_kept() {
    let channel = Channel { recordings: 2, least_bytes: 400_000, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let place = Place::new(PASSWORD);
    let begun = Instant::now();
    run(place.export(&server, &["--bandwidth", "500KB", "--sessions", "2"]).args(DAY), 0);
    let least = Duration::from_secs_f64(server.stats().downloads.bytes as f64 / 500_000.0);
    // The last piece need not be waited for, nor the first tenth of a second.
    assert!(begun.elapsed() > least.mul_f64(0.5), "{:?} of {least:?}", begun.elapsed());
}

#[test]
fn joined_recordings_begin_and_end_where_the_span_does() {
    // Each plays as long as it took, with a key frame every second.
    let channel = Channel { recordings: 5, each_s: 2, pictures: 10, fps: 5, ..Channel::default() };
    let server = NvrServer::start(Options { channels: vec![channel], ..Options::default() }).unwrap();
    let place = Place::new(PASSWORD);
    let span = ["--start", "2026-11-19T00:00:01", "--end", "2026-11-19T00:00:07"];
    let (entries, told) = run(place.export(&server, &["--concat", "--trim"]).args(span), 0);
    assert_eq!(outcomes(&entries, "joined"), 4, "{told}{entries:?}");
    let files = place.files();
    let [name] = files.keys().collect::<Vec<_>>()[..] else { panic!("{:?}", files.keys()) };
    assert!(name.starts_with("20261119000000-101-20261119000008-") && name.ends_with("-skip1s-max6s.mp4"), "{name}");
    let file = place.out().join(name);
    let probe = ["-v", "error", "-of", "csv=p=0", "-count_packets", "-show_entries", "stream=nb_read_packets"];
    let output = Command::new("ffprobe").args(probe).arg(file).output().unwrap();
    let pictures: u32 = String::from_utf8(output.stdout).unwrap().trim().trim_end_matches(',').parse().unwrap();
    // Six seconds of eight.
    assert!((30..=35).contains(&pictures), "{pictures}");

    // The same recordings cut elsewhere are another film.
    let span = ["--start", "2026-11-19T00:00:01", "--end", "2026-11-19T00:00:08"];
    let (entries, _) = run(place.export(&server, &["--concat", "--trim"]).args(span), 0);
    assert_eq!((outcomes(&entries, "joined"), place.files().len()), (4, 2), "{entries:?}");
}

#[test]
fn a_recorder_may_be_asked_over_tls() {
    let (server, place) = (recorder(&[3, 1], Knobs::default()), Place::new(PASSWORD));
    let (_, port) = server.host().rsplit_once(':').unwrap();
    let front = TlsFront::start(port.parse().unwrap()).unwrap();
    let host = format!("127.0.0.1:{}", front.port());
    let export = |arguments: &[&str]| {
        let mut command = place.bare(&["--server", &host, "--username", "admin", "--to", &place.url(), "--https"]);
        command.args(["--format", "ndjson"]).args(DAY).args(arguments);
        command
    };
    // As most recorders it has signed its own certificate.
    let (_, told) = run(&mut export(&[]), 69);
    assert!(told.contains("unverified"), "{told}");
    assert_eq!(server.stats().requests, 0);
    run(&mut export(&["--tls", "unverified"]), 0);
    assert_same(&place.files(), &expected(&server, flat));
}

#[test]
fn downloads_begin_within_their_hours() {
    let hours = ["--hours", "12:30-12:31"];
    // A recorder whose clock shows this at the begin, and what it shows now.
    let showing = |at: time::OffsetDateTime, per_s| {
        let ahead = at - time::OffsetDateTime::now_utc();
        let knobs = Knobs { clock_ahead_s: ahead.whole_seconds(), bytes_per_s: Some(per_s), ..Knobs::default() };
        (recorder(&[40, 1], knobs), move || time::OffsetDateTime::now_utc() + ahead)
    };
    let (server, clock) = showing(datetime!(2026-11-20 12:29:56 UTC), 10_000_000);
    let place = Place::new(PASSWORD);
    let mut command = place.export(&server, &hours);
    command.args(DAY);
    let mut child = begun(command);
    until("it fetches", || server.stats().downloads.begun > 0);
    // Recorders tell their time in whole seconds.
    assert!(clock() >= datetime!(2026-11-20 12:29:58 UTC), "{}", clock());
    assert!(child.wait().unwrap().success());
    assert_same(&place.files(), &expected(&server, flat));

    // At their end, what is on its way comes to its own.
    let (server, clock) = showing(datetime!(2026-11-20 12:30:56 UTC), 200_000);
    let place = Place::new(PASSWORD);
    let mut command = place.export(&server, &hours);
    let child = command.args(DAY).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("its hours are over", || {
        clock() >= datetime!(2026-11-20 12:31:02 UTC) && server.stats().downloads.sessions == 0
    });
    let downloads = server.stats().downloads;
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!((1..41).contains(&downloads.begun), "{downloads:?}");
    assert_eq!((place.files().len() as u64, server.stats().downloads.begun), (downloads.begun, downloads.begun));
    place.nothing_is_left();
}

#[test]
fn pictures_that_a_recorder_took_are_exported_as_they_are() {
    let channel = |photos| Channel { recordings: 1, photos, ..Channel::default() };
    let channels = vec![channel(70), channel(2)];
    let knobs = Knobs { rate_cut: 0.2, seed: 3, ..Knobs::default() };
    let server = NvrServer::start(Options { channels, knobs, ..Options::default() }).unwrap();
    let place = Place::new(PASSWORD);
    let mut wanted = expected(&server, |track, begin| format!("{begin}-{track}.jpeg"));
    wanted.retain(|name, _| name.ends_with("03.jpeg"));
    for outcome in ["stored", "there"] {
        let (entries, told) = run(place.export(&server, &["--stream", "photo"]).args(DAY), 0);
        assert_eq!((entries.len(), outcomes(&entries, outcome)), (72, 72), "{told}");
        assert!(entries.iter().all(|entry| entry["kind"] == "photo"), "{entries:?}");
        assert_same(&place.files(), &wanted);
    }
    let stats = server.stats();
    assert!(stats.injected.cut > 0 && stats.downloads.begun == 72 + stats.injected.cut, "{stats:?}");
}
