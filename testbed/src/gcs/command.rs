//! The server as a program.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::knobs::Knobs;
use super::server::{GcsServer, Options};
use crate::private::write_private;
use crate::signals::told_to_end;

/// Cloud Storage's JSON API on 127.0.0.1, with faults on demand.
///
/// Prints one line, {"endpoint":"http://127.0.0.1:PORT"}, when it listens. GET and PUT /_testbed/knobs show and change
/// the faults while it runs, GET /_testbed/stats shows what it has counted, GET /_testbed/key the service account's key
/// file; POST /_testbed/expire-tokens and /_testbed/expire-uploads make what there is of them expire. It is its own
/// metadata server: clients find that with GCE_METADATA_HOST=127.0.0.1:PORT.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TCP port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// A bucket that there is; may be given several times.
    #[arg(long = "bucket", value_name = "NAME", required_unless_present = "any_bucket")]
    pub buckets: Vec<String>,
    /// Make every bucket that somebody names.
    #[arg(long)]
    pub any_bucket: bool,
    /// Keep the objects' bytes in files in this directory instead of in memory.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Keep only metadata and checksums, and throw the bytes away.
    #[arg(long, conflicts_with = "root")]
    pub discard: bool,
    /// Speak TLS as well, on a second port that the line tells as "tls_endpoint", and write the certificate of the
    /// authority that has signed for it here.
    #[arg(long, value_name = "FILE")]
    pub tls_authority: Option<PathBuf>,
    /// Write the service account's key file here, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// End when standard input is closed, so as not to outlive the program that started this one.
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// The faults to start with.
    #[command(flatten)]
    pub knobs: Knobs,
}

/// Runs the server until SIGTERM, SIGINT or, if asked for, the end of standard input.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // Before the endpoint is printed: whoever has read it may send a signal at once.
    let told = told_to_end(args.until_stdin_closes)?;
    let server = GcsServer::start(Options {
        port: args.port,
        buckets: args.buckets,
        any_bucket: args.any_bucket,
        root: args.root,
        discard: args.discard,
        tls: args.tls_authority.is_some(),
        knobs: args.knobs,
    })?;
    if let Some(path) = &args.key_file {
        write_private(path, &server.service_account_key())
            .with_context(|| format!("cannot write the key file {}", path.display()))?;
    }
    let mut line = serde_json::json!({ "endpoint": server.endpoint() });
    if let (Some(path), Some(authority)) = (&args.tls_authority, server.authority()) {
        std::fs::write(path, authority).with_context(|| format!("cannot write {}", path.display()))?;
        line["tls_endpoint"] = server.tls_endpoint().into();
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot print the endpoint on standard output")?;
    drop(stdout);

    told.await;
    Ok(())
}
