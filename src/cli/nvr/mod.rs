//! `framehaul nvr`: the API's recorders from the command line.

mod view;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::Format;
use super::camera::ApiArgs;
use super::camera::client::Client;
use super::camera::spec::OpenArgs;
use super::camera::view::tree;
use super::failure::{EXIT_CODES, Failure, Kind, finish, note, print};
use super::table::terminal;
use crate::model::{DestinationName, NvrId};

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct NvrArgs {
    #[command(subcommand)]
    command: NvrCommand,
    #[command(flatten)]
    api: ApiArgs,
}

const EXAMPLES: &str = "Examples:
  framehaul nvr add hall http://10.0.0.5 --user viewer --password-file hall.password --fps 1
  framehaul nvr list
  framehaul nvr status hall
  framehaul nvr recordings hall 3 --from 2026-11-19T08:00:00Z --to 2026-11-19T18:00:00Z";

#[derive(Debug, Subcommand)]
enum NvrCommand {
    /// Add a recorder: its channels become cameras, `hall-ch01` and so on.
    Add(Box<AddArgs>),
    /// List all recorders with what they are doing.
    #[command(visible_alias = "ls")]
    List(FormatArgs),
    /// Show everything about a recorder, and its channels.
    Status {
        /// Which.
        id: NvrId,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Remove recorders and their cameras. What these have captured is still delivered and listed.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<NvrId>,
    },
    /// What a channel has recorded, and where it has nothing.
    Recordings {
        /// Which recorder.
        id: NvrId,
        /// Which channel of it.
        channel: u32,
        /// From when on: 2026-11-19T08:00:00Z. A day before the end where it is not said.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Until when; now where it is not said.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        #[command(flatten)]
        format: FormatArgs,
    },
}

#[derive(Debug, Args)]
struct FormatArgs {
    /// For people, or the API's own JSON; of recordings one object a line.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
struct AddArgs {
    /// What it is called in the API, and what its cameras' names begin with: a-z, 0-9, `_` and `-`.
    id: NvrId,
    /// Where it is, for example http://10.0.0.5; without user and password.
    url: String,
    #[command(flatten)]
    open: OpenArgs,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// Only these channels: 1,2,5; without it, all that it has at any time.
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    channels: Vec<u32>,
    /// Which stream of each channel: main or sub.
    #[arg(long, value_parser = ["main", "sub"])]
    stream: Option<String>,
    /// The time zone of its wall clock, as Europe/Berlin; without it, the one that it tells.
    #[arg(long)]
    zone: Option<String>,
    /// Keep so many frames a second of each camera; without it, all.
    #[arg(long, value_name = "N")]
    fps: Option<f64>,
    /// Keep key frames only: nothing else is decoded.
    #[arg(long, conflicts_with = "fps")]
    keyframes: bool,
    /// 1 to 100.
    #[arg(long, value_name = "N")]
    jpeg_quality: Option<u8>,
    /// Scale wider pictures down to this width.
    #[arg(long, value_name = "PIXELS")]
    max_width: Option<u32>,
    /// Where its cameras' frames go, where that is not the default: a name among the configuration's destinations.
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationName>,
    /// Change the recorder if it is there already.
    #[arg(long)]
    replace: bool,
    /// Say nothing, or print the API's own JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl AddArgs {
    /// The fields that were given.
    fn body(&self) -> Result<Value, Failure> {
        let mut body = self.open.body(&self.url)?;
        let mut put = |field: &str, value: Option<Value>| drop(value.map(|value| body.insert(field.to_owned(), value)));
        put("name", self.name.as_ref().map(|name| json!(name)));
        put("channels", Some(&self.channels).filter(|channels| !channels.is_empty()).map(|channels| json!(channels)));
        put("stream", self.stream.as_ref().map(|stream| json!(stream)));
        put("zone", self.zone.as_ref().map(|zone| json!(zone)));
        put("sampling", self.fps.map(|fps| json!({ "fps": fps })));
        put("sampling", self.keyframes.then(|| json!("keyframes")));
        put("jpeg_quality", self.jpeg_quality.map(|quality| json!(quality)));
        put("max_width", self.max_width.map(|width| json!(width)));
        put("destination", self.destination.as_ref().map(|name| json!(name)));
        Ok(body.into())
    }
}

pub fn run(args: NvrArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(finish(runtime.block_on(perform(args))))
}

async fn perform(args: NvrArgs) -> Result<(), Failure> {
    let api = args.api;
    match args.command {
        NvrCommand::Add(add) => {
            let body = add.body()?;
            add_nvr(&api.client()?, &add, &body).await
        }
        NvrCommand::List(format) => {
            let answer = api.client()?.ask(Method::GET, "/api/v1/nvrs", None).await?;
            match format.format {
                Format::Json => print(format_args!("{}\n", answer.text)),
                Format::Table => print(view::table(&answer.json).render(terminal().map(|(width, _)| width))),
            }
        }
        NvrCommand::Status { id, format } => {
            let client = api.client()?;
            let answer = client.ask(Method::GET, &format!("{}/status", path(&id)), None).await?;
            if format.format == Format::Json {
                return print(format_args!("{}\n", answer.text));
            }
            let channels = client.ask(Method::GET, &format!("{}/channels", path(&id)), None).await?;
            print(tree(&answer.json))?;
            print(format_args!("\n{}", view::channels(&channels.json).render(terminal().map(|(width, _)| width))))
        }
        NvrCommand::Rm { ids } => {
            let (client, mut result) = (api.client()?, Ok(()));
            for id in &ids {
                match client.ask(Method::DELETE, &path(id), None).await {
                    Ok(_) => {
                        note(format_args!("recorder `{id}` removed; what its cameras have captured is still listed"))
                    }
                    Err(failure) => result = result.and(Err(failure.tell())),
                }
            }
            result
        }
        NvrCommand::Recordings { id, channel, from, to, format } => {
            recordings(&api.client()?, &id, channel, [("from", from), ("to", to)], format.format).await
        }
    }
}

fn path(id: &NvrId) -> String {
    format!("/api/v1/nvrs/{id}")
}

async fn add_nvr(client: &Client, add: &AddArgs, body: &Value) -> Result<(), Failure> {
    let path = path(&add.id);
    let answer = match add.replace {
        true => client.ask(Method::PUT, &path, Some(body)).await?,
        false => client.put_new(&path, body).await.map_err(|failure| match failure.kind() {
            Some(Kind::Precondition) => {
                let way_out = "change it with --replace, or choose another id";
                Failure::new(Kind::Precondition, format!("there is a recorder `{}` already: {way_out}", add.id))
            }
            _ => failure,
        })?,
    };
    match add.format {
        Format::Json => print(format_args!("{}\n", answer.text)),
        Format::Table => {
            note(format_args!("recorder `{0}` is there: see what it does with `framehaul nvr status {0}`", add.id));
            Ok(())
        }
    }
}

/// Prints a channel's timeline, page after page. Where the end is not said it is that of the first page.
async fn recordings(
    client: &Client,
    id: &NvrId,
    channel: u32,
    span: [(&str, Option<String>); 2],
    format: Format,
) -> Result<(), Failure> {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query = format!("channel={channel}");
    for (name, time) in span.iter().filter_map(|(name, time)| Some((name, time.as_ref()?))) {
        query += &format!("&{name}={}", encoded(time));
    }
    let mut after = String::new();
    loop {
        let answer = client.ask(Method::GET, &format!("{}/recordings?{query}{after}", path(id)), None).await?;
        for entry in answer.json["entries"].as_array().into_iter().flatten() {
            match format {
                Format::Json => print(format_args!("{entry}\n"))?,
                Format::Table => print(format_args!("{}\n", view::entry(entry)))?,
            }
        }
        let Some(next) = answer.json["next"].as_str() else { return Ok(()) };
        let told = |name: &str| answer.json[name].as_str().map(encoded).unwrap_or_default();
        query = format!("channel={channel}&from={}&to={}", told("from"), told("to"));
        after = format!("&after={}", encoded(next));
    }
}
