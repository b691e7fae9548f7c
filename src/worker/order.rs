//! From a task that was handed out to the export that it asks for.

use serde_json::{Map, Value, json};

use super::Equipment;
use super::lease::Order;
use super::outcome::Failed;
use super::passwords::NoPassword;
use super::work::Tools;
use crate::export::{Export, Form, Moment};
use crate::model::UnixMicros;
use crate::nvr::{RecorderSettings, Scheme};
use crate::sheet::{self, SheetError, Task};

/// What the task says itself, whatever its options repeat of it.
const OWN: [&str; 12] =
    ["id", "enabled", "notes", "args", "host", "port", "scheme", "user", "password", "channels", "tracks", "bucket"];

/// An export, and whether it only searches.
pub(super) struct Wanted {
    pub export: Export,
    pub dry_run: bool,
}

/// The export that a task asks for.
///
/// # Errors
///
/// When this worker cannot do it, in the words for the server.
pub(super) async fn wanted(order: &Order, tools: &Tools) -> Result<Wanted, Failed> {
    // Another worker may be newer, or have what this one lacks.
    let unusable = |message: String| Failed { retry: true, ..Failed::for_good("unusable", message) };
    let task = read(order).map_err(unusable)?;
    let password = match (&order.password, &task.password_file) {
        (Some(password), _) => password.clone(),
        (None, Some(file)) => tools.passwords.of_file(file).await.map_err(|why| match why {
            NoPassword::Unread(why) => unusable(why),
            NoPassword::NoPlace(why) => Failed::left_to_others(why),
        })?,
        (None, None) => return Err(unusable("the task has neither a password nor a password_file".to_owned())),
    };
    let mut recorder = RecorderSettings::new(&task.host, &task.user, password);
    (recorder.port, recorder.scheme) = (task.port, task.scheme);
    (recorder.clock, recorder.zone) = (task.clock, task.zone.clone());
    if let Some(timeout) = task.timeout {
        recorder.timeouts.answer = timeout;
        recorder.timeouts.stall = timeout;
        recorder.timeouts.connect = recorder.timeouts.connect.min(timeout);
    }
    let place = place(&task, tools.equipment.to.as_deref()).map_err(unusable)?;
    let destination = (tools.equipment.destinations)(&place).map_err(unusable)?;
    let mut export = Export::new(recorder, destination);
    export.asked_at = order.asked_at.as_deref().map(asked_at).transpose().map_err(unusable)?;
    Ok(Wanted { dry_run: task.dry_run, export: self::export(task, export, tools) })
}

fn export(task: Task, mut export: Export, tools: &Tools) -> Export {
    let Equipment { media, workshop, patience, .. } = &tools.equipment;
    (export.wanted, export.tracks, export.event) = (task.wanted, task.tracks, task.event);
    (export.form, export.transport, export.names) = (task.form, task.transport, task.names);
    // So many tasks of the recorder are handed out at a time; more downloads in one of them would be more than that.
    export.sessions = 1;
    (export.bandwidth, export.hours) = (task.bandwidth, task.hours);
    export.settle = task.settle.unwrap_or(export.settle);
    export.retries = task.retries.unwrap_or(export.retries);
    (export.media, export.patience, export.common) = (media.clone(), *patience, tools.common.clone());
    export.workshop.clone_from(workshop);
    export
}

/// Reads the task as a sheet's row: what it may say is known there.
fn read(order: &Order) -> Result<Task, String> {
    let mut row: Map<String, Value> = order.options.clone();
    row.retain(|name, value| !OWN.contains(&name.as_str()) && !value.is_null());
    row.insert("host".to_owned(), json!(order.server));
    row.insert("user".to_owned(), json!(order.username));
    if order.password.is_some() {
        // The password itself is not written into a row, and has no business there.
        row.remove("password_file");
        row.insert("password".to_owned(), json!("-"));
    }
    let options = &order.options;
    // Where the sheet names a place and a prefix in it, the task has both as one.
    let to = order.to.as_ref().map(|to| json!(to)).or_else(|| options.get("bucket").cloned());
    let told = [
        ("tracks", order.channel.as_ref().map(|channel| json!(channel))),
        ("start", order.from.as_ref().map(|from| json!(from))),
        ("end", order.until.as_ref().map(|until| json!(until))),
        ("bucket", to),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            row.insert(name.to_owned(), value);
        }
    }
    if order.from.is_some() || order.until.is_some() {
        row.remove("range");
        row.remove("days");
    }
    let rows = serde_json::to_vec(&json!([row])).expect("it is plain data");
    match sheet::read(&rows) {
        Ok(sheet) => sheet.tasks.into_iter().next().ok_or_else(|| "the task says nothing".to_owned()),
        Err(SheetError::Refused(why)) => Err(format!("the task cannot be read: {why}")),
        Err(SheetError::Cells { faults, .. }) => {
            let told = |fault: &sheet::CellFault| match &fault.name {
                Some(name) => format!("`{name}` {}", fault.detail),
                None => fault.detail.clone(),
            };
            let faults: Vec<String> = faults.iter().map(told).collect();
            Err(format!("the task cannot be read: {}", faults.join("; ")))
        }
    }
}

/// The moment at which a task was asked for.
fn asked_at(text: &str) -> Result<UnixMicros, String> {
    match text.parse() {
        Ok(Moment::Instant(at)) => Ok(at),
        Ok(Moment::Wall(_)) | Err(_) => Err("the task's `asked_at` is no moment".to_owned()),
    }
}

/// Where the results of a task go: below the place that is named, in a directory of the recorder's, and of the form's
/// where it is another one than the recorder's own. Two recorders have recordings of the same names, and so have two forms
/// of one recording.
fn place(task: &Task, own: Option<&str>) -> Result<String, String> {
    let missing = || {
        "neither the task nor this worker says where results go: write a `bucket` into the sheet, or start the worker with --to"
            .to_owned()
    };
    let mut place = match (&task.bucket, own) {
        (Some(bucket), _) => bucket.clone(),
        (None, Some(own)) => match &task.prefix {
            Some(prefix) => format!("{}/{prefix}", own.trim_end_matches('/')),
            None => own.trim_end_matches('/').to_owned(),
        },
        (None, None) => return Err(missing()),
    };
    let port = match (task.scheme, task.port) {
        (_, None) | (Scheme::Http, Some(80)) | (Scheme::Https { .. }, Some(443)) => String::new(),
        (_, Some(port)) => format!("_{port}"),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let host: String = task.host.chars().map(plain).collect();
    place.push_str(&format!("/{host}{port}"));
    place.push_str(match &task.form {
        Form::Original => "",
        Form::Pictures { .. } => "/jpeg",
        Form::Packed { container, .. } | Form::Joined { container, .. } => match container.extension() {
            "mp4" => "/mp4",
            _ => "/mkv",
        },
    });
    Ok(place)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::export::{Stream, Tracks, Wanted as Span};

    fn order(more: Value) -> Order {
        let mut order = json!({
            "id": "7", "server": "http://10.0.0.5:8080", "username": "admin", "password": " canary", "channel": "101",
        });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(order).unwrap()
    }

    #[test]
    fn a_task_is_read_as_its_row_was() {
        let order = order(json!({
            "from": "2026-11-19T08:00:00Z", "until": "2026-11-19T10:00:00Z", "to": "gs://bucket/shop",
            "options": { "container": "mkv", "sessions": 2, "range": "absolute", "host": "elsewhere", "zone": null,
                         "settle": "5s" },
        }));
        let task = read(&order).unwrap();
        assert_eq!((task.host.as_str(), task.port, task.sessions), ("10.0.0.5", Some(8080), Some(2)));
        assert_eq!(task.tracks, Tracks::Ids(vec!["101".into()], Stream::Main));
        assert!(matches!(task.wanted, Span::Between(Some(_), Some(_))));
        assert_eq!(place(&task, None).unwrap(), "gs://bucket/shop/10.0.0.5_8080/mkv");
        assert_eq!(order.password.unwrap().expose_secret(), " canary");
    }

    #[test]
    fn two_recorders_and_two_forms_have_two_places() {
        let place = |server: &str, options: Value| {
            let order = order(json!({ "server": server, "options": options }));
            place(&read(&order).unwrap(), Some("file:///srv/recordings/")).unwrap()
        };
        let none = || json!({});
        assert_eq!(place("http://10.0.0.5", none()), "file:///srv/recordings/10.0.0.5");
        assert_eq!(place("http://10.0.0.5:80", none()), place("http://10.0.0.5", none()));
        assert_eq!(place("http://10.0.0.5:81", none()), "file:///srv/recordings/10.0.0.5_81");
        assert_eq!(place("https://[2001:db8::1]", none()), "file:///srv/recordings/2001_db8__1");
        assert_eq!(place("http://nvr", json!({ "prefix": "a/b" })), "file:///srv/recordings/a/b/nvr");
        assert_eq!(place("http://nvr", json!({ "concat": true })), "file:///srv/recordings/nvr/mp4");
        assert_eq!(place("http://nvr", json!({ "frame_every": "10s" })), "file:///srv/recordings/nvr/jpeg");
        let nowhere = super::place(&read(&order(none())).unwrap(), None).unwrap_err();
        assert!(nowhere.contains("--to"), "{nowhere}");
    }

    #[test]
    fn a_task_goes_by_the_day_on_which_it_was_asked_for() {
        let task = order(json!({ "asked_at": "2026-11-19T08:00:00.000001Z", "options": { "range": "today" } }));
        assert_eq!(asked_at(task.asked_at.as_deref().unwrap()).unwrap(), UnixMicros(1_795_075_200_000_001));
        assert_eq!(order(json!({})).asked_at, None);
        assert!(asked_at("2026-11-19 08:00").is_err() && asked_at("soon").is_err());
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name_alone() {
        for (more, word) in [
            (json!({ "options": { "turbo": "canary" } }), "turbo"),
            (json!({ "options": { "sessions": "canary" } }), "sessions"),
            (json!({ "channel": "canary" }), "tracks"),
            (json!({ "server": "http://canary@host" }), "host"),
        ] {
            let told = read(&order(more)).unwrap_err();
            assert!(told.contains(word) && !told.contains("canary"), "{told}");
        }
    }
}
