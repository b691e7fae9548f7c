//! The proxy as a program.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use super::script::Script;
use super::server::{Options, Proxy};
use crate::signals::told_to_end;

/// A TCP proxy on 127.0.0.1 that spoils connections by a script.
///
/// Prints one line, {"listen":"127.0.0.1:PORT","control":"http://127.0.0.1:PORT"}, when it listens. GET and PUT
/// /_testbed/script of the control port show and change the script while it runs, for connections that stand as well;
/// GET /_testbed/stats shows what it has counted. A script is `{"seed":1,"rules":[{"share":0.1,"fault":FAULT}]}`, FAULT
/// one of `{"latency":{"ms":50,"jitter_ms":20}}`, `{"bandwidth":{"way":"to_server","bytes_per_s":1}}`,
/// `{"cut":{"way":"to_server","at":[0,9000]}}`, `{"reset":{"way":"to_client","at":[1,1]}}`,
/// `{"half_close":{"way":"to_client","at":[0,0]}}`, `"blackhole"`, `"blackhole_standing"`, `"tls_stall"`,
/// `{"flip":{"way":"to_server","within":8000}}`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where connections go on to
    #[arg(long, value_name = "HOST:PORT")]
    pub target: String,
    /// Where to listen, on 127.0.0.1; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// File with the script to start with; without it everything passes
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Where the random numbers start, in place of the script's own seed
    #[arg(long)]
    pub seed: Option<u64>,
    /// End when standard input is closed, so as not to outlive the program that started this one
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// Runs the proxy until SIGTERM, SIGINT or, if asked for, the end of standard input.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // Before the ports are printed: whoever has read them may send a signal at once.
    let told = told_to_end(args.until_stdin_closes)?;
    ensure!(args.listen.ip() == Ipv4Addr::LOCALHOST, "--listen {}: it listens on 127.0.0.1 only", args.listen);
    let mut script = match &args.script {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("cannot read the script {}", path.display()))?;
            Script::read(&text).with_context(|| format!("in {}", path.display()))?
        }
        None => Script::default(),
    };
    script.seed = args.seed.unwrap_or(script.seed);
    let proxy = Proxy::start(Options { port: args.listen.port(), target: args.target, script })?;
    let line = serde_json::json!({ "listen": format!("127.0.0.1:{}", proxy.port()), "control": proxy.control() });
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot print the ports on standard output")?;
    drop(stdout);

    told.await;
    Ok(())
}
