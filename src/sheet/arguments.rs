//! A command line of hikload in a cell, as if its options stood in columns of their own.

use secrecy::ExposeSecret as _;

use super::column::Column;
use super::row::Row;
use crate::export::hikload::translate;

/// What becomes of one of our options: a column, and what stands there where the option has no value.
const OPTIONS: [(&str, &str, Column, Option<&str>); 20] = [
    ("--server", "--server", Column::Host, None),
    ("--username", "--username", Column::User, None),
    ("--start", "--starttime", Column::Start, None),
    ("--end", "--endtime", Column::End, None),
    ("--days", "--days", Column::Days, None),
    ("--yesterday", "--yesterday", Column::Range, Some("yesterday")),
    ("--all", "--allrecordings", Column::Range, Some("all")),
    ("--tracks", "--cameras", Column::Tracks, None),
    ("--layout", "--folders", Column::Layout, None),
    ("--to", "--downloads", Column::Bucket, None),
    ("--container", "--videoformat", Column::Container, None),
    ("--max-seconds", "--seconds", Column::MaxSeconds, None),
    ("--skip-seconds", "--skipseconds", Column::SkipSeconds, None),
    ("--transport", "--ffmpeg", Column::Transport, None),
    ("--frame-every", "--frames", Column::FrameEvery, None),
    ("--stream", "--photos", Column::Stream, None),
    ("--dry-run", "--skipdownload", Column::DryRun, Some("yes")),
    ("--name-prefix", "--videoname", Column::NamePrefix, None),
    ("--concat", "--concat", Column::Concat, Some("yes")),
    ("--trim", "--trim", Column::Trim, Some("yes")),
];

/// And the one that takes a time.
const TIMEOUT: (&str, &str, Column, Option<&str>) = ("--timeout", "--httptimeout", Column::Timeout, None);

/// Puts what the column `args` says where it belongs.
pub(super) fn spread(row: &mut Row<'_>) {
    let Some(line) = row.text(Column::Args) else { return };
    let translated = match translate(&line) {
        Ok(translated) => translated,
        Err(why) => return row.fault(Column::Args, &format!("cannot be read: {why}")),
    };
    let names_place = names_place(&line);
    let mut arguments = translated.arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        // Where hikload puts files when nobody says is a directory of whoever runs it.
        if option == "--verbose" || (option == "--to" && !names_place) {
            continue;
        }
        let known = OPTIONS.iter().chain([&TIMEOUT]).find(|(ours, ..)| *ours == option);
        let (_, theirs, column, without) = known.expect("a test translates all of hikload's options");
        let value = value.or_else(|| without.map(str::to_owned)).or_else(|| arguments.next());
        row.put_option(*column, theirs, value.unwrap_or_default());
    }
    if let Some(password) = translated.password {
        row.put_option(Column::Password, "--password", password.expose_secret().to_owned());
    }
    for note in translated.notes {
        row.remark(note);
    }
}

/// Whether the line says where files go: no other option of hikload begins like this one.
fn names_place(line: &str) -> bool {
    shlex::split(line).is_some_and(|words| words.iter().any(|word| word.starts_with("--do")))
}
