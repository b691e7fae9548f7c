//! The official Python client against the Cloud Storage server: somebody else's idea of the protocol.
//!
//! It is installed with pip into an environment below `target/`, once; a missing tool or network fails the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testbed::gcs::{GcsServer, Knobs, Options};

const REQUIREMENTS: &str = include_str!("google_client/requirements.txt");

/// Runs a command and returns what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}{complaints}", output.status);
    printed.into_owned()
}

/// A Python in an environment that holds what is required, made anew when that has changed.
fn python(requirements: &Path) -> PathBuf {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("google-client");
    let python = environment.join("bin/python");
    // Written last, so that a broken installation is not taken for a whole one.
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "-r"];
    run(Command::new(&python).args(pip).arg(requirements));
    fs::write(&stamp, REQUIREMENTS).unwrap();
    python
}

#[test]
fn the_official_python_client_finds_what_it_expects() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/google_client");
    let python = python(&source.join("requirements.txt"));
    let knobs = Knobs { require_auth: true, ..Knobs::default() };
    let server = GcsServer::start(Options { buckets: vec!["frames".into()], knobs, ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key.json");
    fs::write(&key_file, server.service_account_key()).unwrap();
    let printed = run(Command::new(python)
        .arg(source.join("google_client.py"))
        .args([&server.endpoint(), "frames"])
        .arg(&key_file)
        .env("GCE_METADATA_HOST", server.metadata_host())
        .env("GCE_METADATA_IP", server.metadata_host())
        .env("NO_PROXY", "127.0.0.1")
        // Nobody's own credentials may be found there.
        .env("HOME", dir.path())
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env_remove("STORAGE_EMULATOR_HOST"));
    let report: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&report["pages"], &report["project"]), (&json!([10, 10, 5]), &json!("testbed")));
    let pinned = format!("google-cloud-storage=={}", report["version"].as_str().unwrap());
    assert!(REQUIREMENTS.lines().any(|line| line == pinned), "{pinned} is not what was to be installed");

    // It did what it was to do, and not something easier.
    let stats = server.stats();
    assert_eq!((stats.requests.upload_start, stats.requests.upload_piece), (2, 5));
    assert_eq!((stats.precondition_failures, stats.checksum_failures), (2, 1));
    assert_eq!(stats.requests.unsupported, 0);
    let names: Vec<_> = server.objects("frames").into_iter().map(|object| (object.name, object.size)).collect();
    assert_eq!(names[..2], [("large.bin".into(), 4 * 256 * 1024 + 123), ("machine".into(), 1)]);
    assert_eq!(names.len(), 27);
    // A token by assertion, a second one after the first was made to expire, and one of the metadata server.
    assert_eq!((stats.auth.tokens_issued, stats.requests.token_exchange), (3, 2));
    assert_eq!((stats.auth.refused_expired, stats.auth.refused_missing, stats.auth.refused_invalid), (1, 0, 0));
}
