//! Mistakes in the configuration and on the command line.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output};

use anyhow::Context as _;
use testbed::daemon::Storage;

use super::vocabulary::{PROGRAM, get, leave, stage};

fn framehaul(arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(PROGRAM).args(arguments).output().context("cannot start framehaul")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_line_names_every_mistake() -> anyhow::Result<()> {
    let stage = stage()?;
    let config = stage.dir().join("mistakes.toml");
    let path = config.to_str().context("the path is no text")?;
    // An unknown section, an unknown key, a wrong type, an impossible value, a value that contradicts another.
    let text = "[uplaod]\nworkers = 3\n[http]\nport = 8080\n[debug]\nfault_injection = 3\n[state]\ndir = \"here\"\n\
                [upload]\nretry_min = \"30s\"\nretry_max = \"1s\"\n";
    fs::write(&config, text)?;
    for command in ["check", "serve"] {
        let output = framehaul(&[command, "--config", path])?;
        assert_eq!(output.status.code(), Some(78), "{command}: {output:?}");
        let lines = said(&output);
        for key in ["uplaod", "http.port", "debug.fault_injection", "state.dir", "upload.retry_min"] {
            assert!(
                lines.lines().any(|line| line.starts_with(&format!("error: {key}: "))),
                "{command}, {key}: {lines}"
            );
        }
        assert_eq!(lines.lines().count(), 5, "{command}: {lines}");
        assert!(output.stdout.is_empty(), "{command}: {output:?}");
    }

    fs::write(&config, "[upload\nworkers = ")?;
    let output = framehaul(&["check", "--config", path])?;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(said(&output).contains("TOML"), "{output:?}");

    let good = format!("[state]\ndir = \"{0}/state\"\n[storage]\nurl = \"file://{0}/frames\"\n", stage.dir().display());
    fs::write(&config, good)?;
    let output = framehaul(&["check", "--config", path])?;
    assert_eq!((output.status.code(), &*said(&output)), (Some(0), ""), "{output:?}");
    assert!(!stage.dir().join("state").exists(), "checking is not starting");

    // What the environment holds that is not ours need not be text.
    let foreign = OsStr::from_bytes(b"\xff\xfe");
    let output = Command::new(PROGRAM).args(["check", "--config", path]).env("FOREIGN", foreign).output()?;
    assert_eq!((output.status.code(), &*said(&output)), (Some(0), ""), "{output:?}");

    for (unreadable, cause) in
        [("/no/such/file.toml", "No such file"), (stage.dir().to_str().unwrap_or_default(), "directory")]
    {
        for command in ["check", "serve"] {
            let output = framehaul(&[command, "--config", unreadable])?;
            assert_eq!(output.status.code(), Some(78), "{output:?}");
            assert!(said(&output).contains(unreadable) && said(&output).contains(cause), "{output:?}");
        }
    }

    let output = framehaul(&["--help"])?;
    let help = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && help.contains("Examples:") && help.contains("framehaul serve --config"),
        "{help}"
    );
    let output = framehaul(&["haul"])?;
    assert!(output.status.code() == Some(2) && said(&output).contains("haul"), "{output:?}");
    Ok(())
}

#[test]
fn a_state_directory_in_use_names_its_user() -> anyhow::Result<()> {
    let stage = stage()?;
    let daemon = stage.daemon(&Storage::Directory, "")?;
    let config = stage.dir().join("framehaul.toml");
    let output = framehaul(&["serve", "--config", config.to_str().context("the path is no text")?])?;
    let lines = said(&output);
    assert!(!output.status.success(), "{output:?}");
    let state = stage.dir().join("state").display().to_string();
    for word in [&state, &daemon.pid().to_string(), "state.dir"] {
        assert!(lines.contains(word), "{word}: {lines}");
    }
    // The first one is none the worse for it: its address and its token are still there.
    assert_eq!(get(&daemon, "/readyz")?.status, 200);
    assert!(stage.dir().join("state/http.addr").exists());
    leave(daemon)
}
