//! What `framehaul tasks check` prints. No password, in whichever form.

use serde_json::{Value, json};

use super::super::failure::{Failure, Kind, print};
use super::super::table::{NONE, Table, terminal};
use crate::export::{Form, Layout, Moment, Names, Stream, Tracks, Transport, Wanted};
use crate::nvr::{ClockMode, Scheme, Zone};
use crate::sheet::{Sheet, SheetError, Task};

/// The tasks, a row for each.
pub fn table(sheet: &Sheet) -> Result<(), Failure> {
    let mut table = Table::new(["ROW>", "ON", "ID", "RECORDER", "USER", "TRACKS", "SPAN", "FORM", "TO"]);
    for task in &sheet.tasks {
        table.row([
            task.row.to_string(),
            if task.enabled { "yes" } else { "no" }.to_owned(),
            task.id.clone().unwrap_or_else(|| NONE.to_owned()),
            recorder(task),
            task.user.clone(),
            tracks(&task.tracks),
            span(task.wanted),
            form(task),
            to(task),
        ]);
    }
    print(table.render(terminal().map(|(width, _)| width)))
}

/// The tasks as an object, written piece by piece: there may be very many of them.
pub fn json(sheet: &Sheet) -> Result<(), Failure> {
    print(r#"{"errors":[],"tasks":["#)?;
    // A write for each would be slow, one for all large.
    for (n, tasks) in sheet.tasks.chunks(256).enumerate() {
        let tasks: Vec<String> = tasks.iter().map(|task| object(task).to_string()).collect();
        print(format_args!("{}{}", if n == 0 { "" } else { "," }, tasks.join(",")))?;
    }
    print(format_args!("],\"remarks\":{}}}\n", json!(sheet.remarks)))
}

/// What is wrong, as an object of the same form.
pub fn faults(error: &SheetError) -> Result<(), Failure> {
    let (errors, more) = match error {
        SheetError::Refused(why) => (vec![json!({ "row": null, "column": null, "name": null, "detail": why })], 0),
        SheetError::Cells { faults, more } => {
            let shown = |fault: &crate::sheet::CellFault| json!({ "row": fault.row, "column": fault.column, "name": fault.name, "detail": fault.detail });
            (faults.iter().map(shown).collect(), *more)
        }
    };
    print(format_args!("{}\n", json!({ "errors": errors, "more_errors": more, "tasks": [] })))?;
    Err(Failure::Told(Kind::Refused))
}

fn recorder(task: &Task) -> String {
    let scheme = if task.scheme == Scheme::Http { "" } else { "https://" };
    let host = if task.host.contains(':') { format!("[{}]", task.host) } else { task.host.clone() };
    let port = task.port.map_or(String::new(), |port| format!(":{port}"));
    format!("{scheme}{host}{port}")
}

fn stream(tracks: &Tracks) -> &'static str {
    let (Tracks::Every(stream) | Tracks::Channels(_, stream) | Tracks::Ids(_, stream)) = tracks;
    match stream {
        Stream::Main => "main",
        Stream::Sub => "sub",
        Stream::Photo => "photo",
    }
}

fn tracks(tracks: &Tracks) -> String {
    let which = match tracks {
        Tracks::Every(_) => "all channels".to_owned(),
        Tracks::Channels(channels, _) => {
            let channels: Vec<String> = channels.iter().map(u32::to_string).collect();
            format!("channels {}", channels.join(","))
        }
        Tracks::Ids(ids, _) => ids.join(","),
    };
    match stream(tracks) {
        "main" => which,
        stream => format!("{which} {stream}"),
    }
}

/// A moment as a sheet may have it.
fn moment(at: Moment) -> String {
    match at {
        Moment::Wall(at) => {
            let (hour, minute, second) = at.as_hms();
            format!("{} {hour:02}:{minute:02}:{second:02}", at.date())
        }
        Moment::Instant(at) => {
            let at = at.to_utc();
            let (hour, minute, second) = at.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02}Z", at.date())
        }
    }
}

fn span(wanted: Wanted) -> String {
    match wanted {
        Wanted::Today => "today".to_owned(),
        Wanted::Yesterday => "yesterday".to_owned(),
        Wanted::Days(days) => format!("{days} days"),
        Wanted::All => "all".to_owned(),
        Wanted::Between(from, to) => {
            let shown = |at: Option<Moment>| at.map_or("today".to_owned(), moment);
            format!("{} to {}", shown(from), shown(to))
        }
    }
}

fn form(task: &Task) -> String {
    let search = if task.dry_run { "search only, " } else { "" };
    match &task.form {
        Form::Original => format!("{search}original"),
        Form::Packed { container, .. } => format!("{search}{}", container.extension()),
        Form::Joined { container, .. } => format!("{search}one {}", container.extension()),
        Form::Pictures { every, .. } => format!("{search}JPEG each {}", humantime::format_duration(*every)),
    }
}

fn to(task: &Task) -> String {
    match (&task.bucket, &task.prefix) {
        (Some(bucket), _) => bucket.clone(),
        (None, Some(prefix)) => format!("{NONE}/{prefix}"),
        (None, None) => NONE.to_owned(),
    }
}

/// A task by the names of its columns.
fn object(task: &Task) -> Value {
    let (channels, tracks) = match &task.tracks {
        Tracks::Every(_) => (json!("all"), Value::Null),
        Tracks::Channels(channels, _) => (json!(channels), Value::Null),
        Tracks::Ids(ids, _) => (Value::Null, json!(ids)),
    };
    let (range, start, end, days) = match task.wanted {
        Wanted::Today => ("today", None, None, None),
        Wanted::Yesterday => ("yesterday", None, None, None),
        Wanted::Days(days) => ("days", None, None, Some(days)),
        Wanted::All => ("all", None, None, None),
        Wanted::Between(from, to) => ("absolute", from.map(moment), to.map(moment), None),
    };
    let (container, cut, concat, trim, every) = match task.form {
        Form::Original => ("original", None, false, false, None),
        Form::Packed { container, cut } => (container.extension(), Some(cut), false, false, None),
        Form::Joined { container, cut, trim } => (container.extension(), Some(cut), true, trim, None),
        Form::Pictures { every, cut } => ("jpeg", Some(cut), false, false, Some(every.as_secs_f64())),
    };
    let (layout, name_prefix, name_template) = match &task.names {
        Names::Layout { layout, prefix } => (Some(directories(*layout)), Some(prefix), None),
        Names::Template(template) => (None, None, Some(template.to_string())),
    };
    json!({
        "row": task.row,
        "id": task.id,
        "enabled": task.enabled,
        "host": task.host,
        "port": task.port,
        "scheme": if task.scheme == Scheme::Http { "http" } else { "https" },
        "tls": match task.scheme {
            Scheme::Http => None,
            Scheme::Https { tls } => Some(if tls.is_none() { "verified" } else { "unverified" }),
        },
        "user": task.user,
        "password_set": task.password.is_some(),
        "password_file": task.password_file,
        "channels": channels,
        "tracks": tracks,
        "stream": stream(&task.tracks),
        "range": range,
        "start": start,
        "end": end,
        "days": days,
        "time_basis": match task.clock {
            ClockMode::Auto => "auto",
            ClockMode::DeviceLocal => "device_local",
            ClockMode::Utc => "utc",
        },
        "zone": task.zone.as_ref().and_then(Zone::name),
        "event": task.event,
        "transport": match task.transport {
            Transport::Auto => "auto",
            Transport::Files => "files",
            Transport::Rtsp => "rtsp",
        },
        "container": container,
        "concat": concat,
        "trim": trim,
        "skip_seconds": cut.map(|cut| cut.skip.as_secs_f64()),
        "max_seconds": cut.and_then(|cut| cut.most).map(|most| most.as_secs_f64()),
        "frame_every": every,
        "layout": layout,
        "name_prefix": name_prefix,
        "name_template": name_template,
        "bucket": task.bucket,
        "prefix": task.prefix,
        "sessions": task.sessions,
        "bandwidth": task.bandwidth,
        "hours": task.hours.map(|hours| hours.to_string()),
        "settle": task.settle.map(|settle| settle.as_secs_f64()),
        "retries": task.retries,
        "timeout": task.timeout.map(|timeout| timeout.as_secs_f64()),
        "dry_run": task.dry_run,
        "notes": task.notes,
        "remarks": task.remarks,
    })
}

fn directories(layout: Layout) -> &'static str {
    match layout {
        Layout::Flat => "flat",
        Layout::Camera => "camera",
        Layout::Year => "year",
        Layout::Month => "month",
        Layout::Day => "day",
    }
}
