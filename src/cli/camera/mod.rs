//! `framehaul camera`: the API's cameras from the command line.

pub(super) mod client;
pub(super) mod spec;
mod sse;
pub(super) mod view;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;

use self::client::Client;
use self::spec::{AddArgs, SourceArgs};
use super::failure::{EXIT_CODES, Failure, Kind, finish, note, print};
use super::table::terminal;
use super::{ConfigArgs, Format};
use crate::model::CameraId;

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct CameraArgs {
    #[command(subcommand)]
    command: CameraCommand,
    #[command(flatten)]
    api: ApiArgs,
}

const EXAMPLES: &str = "Examples:
  framehaul camera add gate rtsp://10.0.0.9/main --user viewer --password-file gate.password --fps 5
  framehaul camera ls
  framehaul camera watch gate --format json | jq -r .url
  framehaul camera show gate --api http://10.0.0.5:8080 --token-file ~/.framehaul.token";

/// Where the API is, and what opens it.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// The daemon's configuration file, which says where the API is and where its token lies.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another daemon's API, for example http://10.0.0.5:8080; needs --token-file.
    #[arg(long, global = true, value_name = "URL")]
    api: Option<String>,
    /// File with the token, instead of the one that the configuration names.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ApiArgs {
    /// Whom to ask.
    pub(super) fn client(self) -> Result<Client, Failure> {
        let config = ConfigArgs { config: self.config };
        Client::new(&config, self.api.as_deref(), self.token_file.as_deref())
    }
}

#[derive(Debug, Subcommand)]
enum CameraCommand {
    /// Add a camera.
    Add(AddArgs),
    /// List all cameras with what they are doing.
    Ls {
        /// Those that were removed as well; their lists are kept.
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Show everything about a camera.
    Show {
        /// Which.
        id: CameraId,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Remove cameras. What they have captured is still delivered and listed.
    Rm(Ids),
    /// Capture no more until `resume`; the list stands still and says so.
    Pause(Ids),
    /// Capture again.
    Resume(Ids),
    /// Begin anew at once: a new connection, a new session.
    Restart(Ids),
    /// Try a camera without adding it: codec, size, rate, or what is wrong.
    Probe {
        #[command(flatten)]
        source: SourceArgs,
        /// Keep the picture it sends in this file.
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Watch all cameras, or one camera's list as it grows. Ctrl-C ends it.
    Watch {
        /// Whose list; without it, a table of all cameras.
        id: Option<CameraId>,
        /// Begin the list after this entry's seq; 0 is the beginning. Without it, only what is new is shown.
        #[arg(long, value_name = "SEQ", requires = "id")]
        after: Option<u64>,
        #[command(flatten)]
        format: FormatArgs,
    },
}

#[derive(Debug, Args)]
struct Ids {
    /// Which.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<CameraId>,
}

#[derive(Debug, Args)]
struct FormatArgs {
    /// For people, or the API's own JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: CameraArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(finish(runtime.block_on(perform(args))))
}

async fn perform(args: CameraArgs) -> Result<(), Failure> {
    let api = args.api;
    match args.command {
        CameraCommand::Add(add) => {
            let body = add.body()?;
            add_camera(&api.client()?, &add, &body).await
        }
        CameraCommand::Ls { deleted, format } => {
            let path = if deleted { "/api/v1/cameras?deleted=true" } else { "/api/v1/cameras" };
            let answer = api.client()?.ask(Method::GET, path, None).await?;
            match format.format {
                Format::Json => print(format_args!("{}\n", answer.text)),
                Format::Table => print(view::table(&answer.json).render(terminal().map(|(width, _)| width))),
            }
        }
        CameraCommand::Show { id, format } => {
            let answer = api.client()?.ask(Method::GET, &path(&id), None).await?;
            match format.format {
                Format::Json => print(format_args!("{}\n", answer.text)),
                Format::Table => print(view::tree(&answer.json)),
            }
        }
        CameraCommand::Rm(Ids { ids }) => {
            let done = "removed; what it has captured is still listed";
            each(&api.client()?, &ids, Method::DELETE, "", done).await
        }
        CameraCommand::Pause(Ids { ids }) => each(&api.client()?, &ids, Method::POST, "/pause", "paused").await,
        CameraCommand::Resume(Ids { ids }) => each(&api.client()?, &ids, Method::POST, "/resume", "resumed").await,
        CameraCommand::Restart(Ids { ids }) => each(&api.client()?, &ids, Method::POST, "/restart", "restarted").await,
        CameraCommand::Probe { source, picture, format } => {
            let body = source.body()?.into();
            let answer = api.client()?.ask(Method::POST, "/api/v1/cameras:probe", Some(&body)).await?;
            view::probe(answer, picture.as_deref(), format.format)
        }
        CameraCommand::Watch { id: None, format, .. } => watch::cameras(&api.client()?, format.format).await,
        CameraCommand::Watch { id: Some(id), after, format } => {
            watch::list(&api.client()?, &id, after, format.format).await
        }
    }
}

fn path(id: &CameraId) -> String {
    format!("/api/v1/cameras/{id}")
}

async fn add_camera(client: &Client, add: &AddArgs, body: &serde_json::Value) -> Result<(), Failure> {
    let path = path(&add.id);
    let answer = match add.replace {
        true => client.ask(Method::PUT, &path, Some(body)).await?,
        false => client.put_new(&path, body).await.map_err(|failure| match failure.kind() {
            Some(Kind::Precondition) => {
                let way_out = "change it with --replace, or choose another id";
                Failure::new(Kind::Precondition, format!("there is a camera `{}` already: {way_out}", add.id))
            }
            _ => failure,
        })?,
    };
    match add.format {
        Format::Json => print(format_args!("{}\n", answer.text)),
        Format::Table => {
            note(format_args!("camera `{0}` is there: see what it does with `framehaul camera show {0}`", add.id));
            Ok(())
        }
    }
}

/// Does the same to several cameras; one that fails does not keep the others from it.
async fn each(client: &Client, ids: &[CameraId], method: Method, action: &str, done: &str) -> Result<(), Failure> {
    let mut result = Ok(());
    for id in ids {
        match client.ask(method.clone(), &format!("{}{action}", path(id)), None).await {
            Ok(_) => note(format_args!("camera `{id}` {done}")),
            Err(failure) => result = result.and(Err(failure.tell())),
        }
    }
    result
}
