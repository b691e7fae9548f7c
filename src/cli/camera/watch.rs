//! `framehaul camera watch`: goes on until it is ended, also while the daemon is away.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Method, Response};

use super::client::Client;
use super::sse::Parser;
use super::{path, view};
use crate::cli::Format;
use crate::cli::failure::{Failure, Kind, note, print};
use crate::cli::table::{cut, plain, terminal};
use crate::model::CameraId;

const REFRESH: Duration = Duration::from_secs(1);
/// Wait before a stream that was cut off is asked for again, unless the daemon says otherwise; half of it is chance.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Whether it may be over after a while: the daemon is away, or on its way out.
fn passes(failure: &Failure) -> bool {
    matches!(failure.kind(), Some(Kind::Unreachable | Kind::NotNow | Kind::Broken))
}

/// Tells of an outage once, and of its end.
#[derive(Default)]
struct Outage {
    told: bool,
}

impl Outage {
    fn begins(&mut self, why: &Failure) {
        if let Failure::Failed(_, message) = why
            && !std::mem::replace(&mut self.told, true)
        {
            note(format_args!("{message}\ntrying again until it answers"));
        }
    }

    fn ends(&mut self) {
        if std::mem::take(&mut self.told) {
            note("the daemon answers again");
        }
    }
}

/// All cameras, once a second: a table that stays in place on a terminal; elsewhere a line for each row that has
/// changed, or with JSON a line for each look.
pub async fn cameras(client: &Client, format: Format) -> Result<(), Failure> {
    let (mut shown, mut outage, mut first) = (HashMap::new(), Outage::default(), true);
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = match client.ask(Method::GET, "/api/v1/cameras", None).await {
            Ok(answer) => answer,
            Err(failure) if !first && passes(&failure) => {
                outage.begins(&failure);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        outage.ends();
        match (format, terminal()) {
            (Format::Json, _) => print(format_args!("{}\n", answer.text))?,
            (Format::Table, Some((width, height))) => {
                let table = view::table(&answer.json).render(Some(width));
                print(screen(&table, width, height))?;
            }
            (Format::Table, None) => {
                if first {
                    print(format_args!("{}\n", view::HEADS.map(|head| head.trim_end_matches('>')).join("\t")))?;
                }
                print(changes(&answer.json, &mut shown))?;
            }
        }
        first = false;
    }
}

/// Overwrites what the terminal shows, line by line, so that nothing flickers.
fn screen(table: &str, width: usize, height: usize) -> String {
    let count = table.lines().count();
    let room = height.saturating_sub(1).max(1);
    let mut text = "\u{1b}[H".to_owned();
    let kept = if count > room { room - 1 } else { count };
    for line in table.lines().take(kept) {
        text += &format!("{line}\u{1b}[K\n");
    }
    if kept < count {
        let more = format!("… and {} more: `framehaul camera ls` shows all", count - kept);
        text += &format!("{}\u{1b}[K\n", cut(&more, Some(width)));
    }
    text + "\u{1b}[J"
}

/// The rows that are new or changed, and the cameras that are gone, with tabs between the cells.
fn changes(answer: &serde_json::Value, shown: &mut HashMap<String, String>) -> String {
    let mut before = std::mem::take(shown);
    let mut text = String::new();
    for camera in answer["cameras"].as_array().into_iter().flatten() {
        let row = view::row(camera).map(|cell| plain(&cell));
        let line = row.join("\t");
        if before.remove(&row[0]).is_none_or(|old| old != line) {
            text += &format!("{line}\n");
        }
        let [id, ..] = row;
        shown.insert(id, line);
    }
    let mut gone: Vec<String> = before.into_keys().collect();
    gone.sort();
    for id in gone {
        text += &format!("{id}\tdeleted\n");
    }
    text
}

/// A camera's list as it grows. After a cut it goes on behind the last entry that was shown, so that none is missing or
/// shown twice.
pub async fn list(client: &Client, id: &CameraId, after: Option<u64>, format: Format) -> Result<(), Failure> {
    let begin = match after {
        Some(after) => after,
        // A number, and not only "now": a cut before the first entry must not skip any.
        None => {
            client.ask(Method::GET, &path(id), None).await?.json["status"]["watermark"].as_u64().unwrap_or_default()
        }
    };
    let stream = format!("{}/frames/stream", path(id));
    let (mut parser, mut outage, mut first) = (Parser::default(), Outage::default(), true);
    loop {
        let opened = match &parser.last_id {
            Some(id) => client.events(&stream, Some(id)).await,
            None => client.events(&format!("{stream}?after={begin}"), None).await,
        };
        match opened {
            Ok(response) => {
                outage.ends();
                first = false;
                if let Some(cut_off) = show(client, response, &mut parser, format).await? {
                    outage.begins(&cut_off);
                }
            }
            Err(failure) if !first && passes(&failure) => outage.begins(&failure),
            Err(failure) => return Err(failure),
        }
        parser.restart();
        let wait = parser.retry.unwrap_or(RETRY).min(RETRY_MAX);
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// Prints events until the stream ends; says why, where that was not the daemon's wish.
async fn show(
    client: &Client,
    response: Response,
    parser: &mut Parser,
    format: Format,
) -> Result<Option<Failure>, Failure> {
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Ok(Some(client.unreachable(&error))),
        };
        for event in parser.push(&piece) {
            match format {
                Format::Json => print(format_args!("{}\n", event.data))?,
                Format::Table => print(format_args!("{}\n", view::entry(&event.kind, &event.data)))?,
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::table::Table;

    #[test]
    fn only_changed_rows_are_lines() {
        let mut shown = HashMap::new();
        let camera = |id: &str, state: &str| json!({ "id": id, "status": { "state": state } });
        let all = json!({ "cameras": [camera("a", "connecting"), camera("b", "streaming")] });
        assert_eq!(changes(&all, &mut shown).lines().count(), 2);
        assert_eq!(changes(&all, &mut shown), "");
        let text = changes(&json!({ "cameras": [camera("a", "streaming")] }), &mut shown);
        assert_eq!(text, "a\tstreaming\t-\t-\t-\t-\t-\t-\t-\nb\tdeleted\n");
    }

    #[test]
    fn a_table_never_scrolls_the_screen() {
        let mut table = Table::new(["ID"]);
        for n in 0..10 {
            table.row([n.to_string()]);
        }
        let lines = |height| screen(&table.render(Some(80)), 80, height).matches('\n').count();
        assert_eq!((lines(24), lines(12), lines(11), lines(5), lines(1)), (11, 11, 10, 4, 1));
        assert!(screen(&table.render(None), 80, 5).contains("… and 8 more"));
    }
}
