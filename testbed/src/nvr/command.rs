//! The recorder as a program.

use std::io::Write as _;

use anyhow::Context as _;

use super::knobs::Knobs;
use super::library::Channel;
use super::media::Container;
use super::server::{NvrServer, Options};
use super::sound::Law;
use crate::clip::Codec;
use crate::signals::told_to_end;

/// A recorder that speaks ISAPI, on 127.0.0.1, with quirks and faults on demand.
///
/// Prints one line, {"endpoint":"http://127.0.0.1:PORT"}, when it listens. GET and PUT /_testbed/knobs show and change
/// what it is like while it runs, GET /_testbed/stats shows what it has counted; they need no login.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TCP port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// The only user.
    #[arg(long, default_value = "admin")]
    pub user: String,
    /// Its password.
    #[arg(long, default_value = "Passw0rd1")]
    pub password: String,
    /// How many recordings each channel has: 130,1,0 makes three channels.
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', default_value = "130,1,0")]
    pub recordings: Vec<u32>,
    /// When the first one begins, in UTC.
    #[arg(long, default_value_t = Channel::default().begin)]
    pub begin: String,
    /// How long each of them takes, in seconds.
    #[arg(long, default_value_t = Channel::default().each_s)]
    pub each_s: u32,
    /// Pictures in each of them.
    #[arg(long, default_value_t = Channel::default().pictures)]
    pub pictures: u16,
    /// Pictures per second.
    #[arg(long, default_value_t = Channel::default().fps)]
    pub fps: u32,
    /// Their compression: h264 or h265.
    #[arg(long, default_value_t = Codec::H264)]
    pub codec: Codec,
    /// How they are packed.
    #[arg(long, value_enum, default_value_t)]
    pub container: Container,
    /// The sound that program streams hold, none where it is not said.
    #[arg(long, value_enum)]
    pub sound: Option<Law>,
    /// Pictures on the third track of each channel.
    #[arg(long, default_value_t = 0)]
    pub photos: u32,
    /// The least size of a file, in bytes.
    #[arg(long, default_value_t = 0)]
    pub least_bytes: u64,
    /// End when standard input is closed, so as not to outlive the program that started this one.
    #[arg(long)]
    pub until_stdin_closes: bool,
    /// What it is like at the start.
    #[command(flatten)]
    pub knobs: Knobs,
}

/// Runs the recorder until SIGTERM, SIGINT or, if asked for, the end of standard input.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // Before the endpoint is printed: whoever has read it may send a signal at once.
    let told = told_to_end(args.until_stdin_closes)?;
    let channels = args.recordings.iter().enumerate().map(|(index, &recordings)| Channel {
        name: format!("Camera {}", index + 1),
        recordings,
        begin: args.begin.clone(),
        each_s: args.each_s,
        pictures: args.pictures,
        fps: args.fps,
        codec: args.codec,
        container: args.container,
        sound: args.sound,
        photos: args.photos,
        least_bytes: args.least_bytes,
    });
    let server = NvrServer::start(Options {
        port: args.port,
        user: args.user,
        password: args.password,
        channels: channels.collect(),
        knobs: args.knobs,
        ..Options::default()
    })?;
    let line = serde_json::json!({ "endpoint": server.endpoint() });
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot print the endpoint on standard output")?;
    drop(stdout);

    told.await;
    Ok(())
}
