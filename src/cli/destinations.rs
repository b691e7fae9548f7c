//! `framehaul destinations`: where frames go, and what waits for them.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use super::Format;
use super::camera::ApiArgs;
use super::failure::{EXIT_CODES, Failure, finish, print};
use super::spool::size;
use super::table::{NONE, Table, terminal};
use crate::model::DestinationName;

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct DestinationsArgs {
    /// Only this one.
    name: Option<DestinationName>,
    /// For people, or the API's own JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    api: ApiArgs,
}

const EXAMPLES: &str = "Examples:
  framehaul destinations --config /etc/framehaul/config.toml
  framehaul destinations nas --format json

A destination that is not configured is one that was, and for which frames wait: put it back, and they are delivered.";

pub fn run(args: DestinationsArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(finish(runtime.block_on(list(args))))
}

async fn list(args: DestinationsArgs) -> Result<(), Failure> {
    let path = match &args.name {
        Some(name) => format!("/api/v1/destinations/{name}"),
        None => "/api/v1/destinations".to_owned(),
    };
    let answer = args.api.client()?.ask(Method::GET, &path, None).await?;
    match args.format {
        Format::Json => print(format_args!("{}\n", answer.text)),
        Format::Table => print(table(&answer.json).render(terminal().map(|(width, _)| width))),
    }
}

/// Destinations as rows: a list of them, or one.
fn table(answer: &Value) -> Table<10> {
    let mut table =
        Table::new(["NAME", "STATE", "URL", "WAITING>", "SIZE>", "OF>", "OLDEST", "IN FLIGHT>", "RATE>", "LAST ERROR"]);
    let one = std::slice::from_ref(answer);
    for destination in answer["destinations"].as_array().map_or(one, Vec::as_slice) {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => NONE.to_owned(),
        };
        let bytes = |value: &Value| value.as_u64().map_or(NONE.to_owned(), size);
        let (status, spool) = (&destination["status"], &destination["spool"]);
        table.row([
            text(&destination["name"]),
            text(&status["state"]),
            text(&destination["url"]),
            text(&spool["frames"]),
            bytes(&spool["size"]),
            bytes(&spool["max_size"]),
            text(&spool["oldest"]),
            text(&status["in_flight"]),
            status["rate"].as_f64().map_or(NONE.to_owned(), |rate| format!("{rate:.1}")),
            text(&status["last_error"]),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_destination_is_a_row() {
        let nas = json!({
            "name": "nas",
            "url": null,
            "status": { "state": "unconfigured", "in_flight": 0 },
            "spool": { "frames": 12, "size": 67_108_864, "max_size": 1_073_741_824, "oldest": "T" },
        });
        let row = "nas   unconfigured  -         12  64.0 MiB  1.0 GiB  T               0     -  -";
        for answer in [json!({ "destinations": [nas] }), nas] {
            let text = table(&answer).render(None);
            assert_eq!(text.lines().nth(1), Some(row), "{text}");
        }
    }
}
