//! `framehaul camera` with the password.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use testbed::daemon::{Daemon, TOKEN_FILE};
use testbed::scenario::Stage;

use super::CANARY;
use super::search::{search, search_output, search_process};
use crate::vocabulary::{PROGRAM, USER};

/// `framehaul camera` and its processes, with the password in a file and on standard input.
pub fn the_command_line_keeps_it(stage: &Stage, daemon: &Daemon, url: &str) -> anyhow::Result<()> {
    let private = tempfile::tempdir()?;
    let secret = private.path().join("secret");
    fs::write(&secret, format!("{CANARY}\n"))?;
    let secret = secret.to_str().context("the path is no text")?;
    let (config, token) = (stage.dir().join("framehaul.toml"), stage.dir().join(TOKEN_FILE));
    let (config, token) = (config.to_str().context("no text")?, token.to_str().context("no text")?);
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent_api = format!("http://{}", silent.local_addr()?);
    let with_login = ["--user", USER, "--password-file", secret];
    let here = ["--config", config];
    let nobody = ["--api", "http://127.0.0.1:1", "--token-file", token];
    let run = |place: &[&str], words: &[&str]| Command::new(PROGRAM).arg("camera").args(place).args(words).output();
    for (place, words, succeeds) in [
        (&here[..], [&["add", "told", url], &with_login[..]].concat(), true),
        (&here, [&["add", "told", url], &with_login[..]].concat(), false),
        (&here, [&["add", "told", url, "--replace", "--format", "json"], &with_login[..]].concat(), true),
        (&here, [&["probe", url], &with_login[..]].concat(), true),
        (&here, vec!["show", "told"], true),
        (&here, vec!["ls", "--format", "json"], true),
        (&here, [&["add", "TOLD", url], &with_login[..]].concat(), false),
        (&here, [&["add", "told-2", "exec:ls"], &with_login[..]].concat(), false),
        (&here, [&["add", "filed", url, "--replace"], &with_login[..]].concat(), false),
        (&here, [&["probe", "rtsp://127.0.0.1:1/main"], &with_login[..]].concat(), false),
        (&here, [&["add", "told-2", url, "--transport", "sctp"], &with_login[..]].concat(), false),
        (&nobody, [&["add", "told-2", url], &with_login[..]].concat(), false),
        (&here, vec!["rm", "told"], true),
    ] {
        let output = run(place, &words)?;
        assert_eq!(output.status.success(), succeeds, "{words:?}: {output:?}");
        search_output(&format!("{words:?}"), &output);
    }

    for (place, answered) in [(&here[..], true), (&["--api", &silent_api, "--token-file", token][..], false)] {
        let mut client = Command::new(PROGRAM)
            .arg("camera")
            .args(place)
            .args(["add", "piped", url, "--user", USER, "--password-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = client.stdin.take().context("no standard input")?;
        stdin.write_all(CANARY.as_bytes())?;
        drop(stdin);
        if !answered {
            // From here on the request is on its way.
            let (_connection, _) = silent.accept()?;
            let arguments = fs::read(format!("/proc/{}/cmdline", client.id()))?;
            assert!(String::from_utf8_lossy(&arguments).contains("--password-stdin"));
            search_process(client.id());
            client.kill()?;
        }
        let output = client.wait_with_output()?;
        assert_eq!(output.status.success(), answered, "{output:?}");
        search("what is printed", &output.stdout);
        search("what is said", &output.stderr);
    }
    daemon.delete_camera("piped")
}
