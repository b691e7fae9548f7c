//! A task back as the columns of a sheet, for whoever carries it on: what is written here reads as the same task.
//!
//! The password is not among them: it is kept, and given, on ways of its own.

use std::time::Duration;

use super::column::Column;
use super::task::Task;
use crate::export::{Form, Layout, Moment, Names, Stream, Tracks, Transport, Wanted};
use crate::media::Cut;
use crate::nvr::{ClockMode, Scheme, Zone};

impl Task {
    /// The ids of the tracks that it names, one by one, and the same task for the first of them; `all` alone where it is for
    /// all that the recorder has.
    pub fn by_track(&self) -> (Self, Vec<String>) {
        let (ids, stream): (Vec<String>, _) = match &self.tracks {
            Tracks::Every(_) => return (self.clone(), vec!["all".to_owned()]),
            // An id says itself which stream it is of, but for photos.
            Tracks::Channels(channels, stream) => {
                let (of, stream) = match stream {
                    Stream::Main => (1, Stream::Main),
                    Stream::Sub => (2, Stream::Main),
                    Stream::Photo => (3, Stream::Photo),
                };
                (channels.iter().map(|channel| (channel * 100 + of).to_string()).collect(), stream)
            }
            Tracks::Ids(ids, stream) => (ids.clone(), *stream),
        };
        let first = ids.first().cloned().into_iter().collect();
        (Self { tracks: Tracks::Ids(first, stream), ..self.clone() }, ids)
    }

    /// The ids of its tracks, as `101`; `all` where it is for all that there are.
    pub fn channel(&self) -> String {
        match &self.tracks {
            Tracks::Every(_) => "all".to_owned(),
            Tracks::Channels(channels, _) => joined(channels.iter().map(u32::to_string)),
            Tracks::Ids(ids, _) => joined(ids.iter().cloned()),
        }
    }

    /// From when and until when, as a sheet has it; nothing where `range` and `days` say it.
    pub fn bounds(&self) -> (Option<String>, Option<String>) {
        match self.wanted {
            Wanted::Between(from, until) => (from.map(moment), until.map(moment)),
            Wanted::Today | Wanted::Yesterday | Wanted::Days(_) | Wanted::All => (None, None),
        }
    }

    /// Its columns, each with the text that stands there; without the password, and without those that say nothing.
    pub fn columns(&self) -> Vec<(Column, String)> {
        let mut written = Written(Vec::new());
        written.put_some(Column::Id, self.id.as_ref());
        if !self.enabled {
            written.put(Column::Enabled, "no");
        }
        written.put(Column::Host, &self.host);
        written.put_some(Column::Port, self.port);
        match self.scheme {
            Scheme::Http => written.put(Column::Scheme, "http"),
            Scheme::Https { tls } => {
                written.put(Column::Scheme, "https");
                written.put(Column::Tls, if tls.is_none() { "verified" } else { "unverified" });
            }
        }
        written.put(Column::User, &self.user);
        written.put_some(Column::PasswordFile, self.password_file.as_ref().map(|path| path.display()));
        self.write_tracks(&mut written);
        self.write_span(&mut written);
        written.put_some(Column::Zone, self.zone.as_ref().and_then(Zone::name));
        written.put_some(Column::Event, self.event.as_ref());
        match self.transport {
            Transport::Auto => {}
            Transport::Files => written.put(Column::Transport, "files"),
            Transport::Rtsp => written.put(Column::Transport, "rtsp"),
        }
        self.write_form(&mut written);
        self.write_names(&mut written);
        written.put_some(Column::Bucket, self.bucket.as_ref());
        written.put_some(Column::Prefix, self.prefix.as_ref());
        written.put_some(Column::Sessions, self.sessions);
        written.put_some(Column::Bandwidth, self.bandwidth);
        written.put_some(Column::Hours, self.hours);
        written.put_some(Column::Settle, self.settle.map(seconds));
        written.put_some(Column::Retries, self.retries);
        written.put_some(Column::Timeout, self.timeout.map(seconds));
        if self.dry_run {
            written.put(Column::DryRun, "yes");
        }
        written.put_some(Column::Notes, self.notes.as_ref());
        written.0
    }

    fn write_tracks(&self, written: &mut Written) {
        let stream = match &self.tracks {
            Tracks::Every(stream) => {
                written.put(Column::Channels, "all");
                stream
            }
            Tracks::Channels(channels, stream) => {
                written.put(Column::Channels, joined(channels.iter().map(u32::to_string)));
                stream
            }
            Tracks::Ids(ids, stream) => {
                written.put(Column::Tracks, joined(ids.iter().cloned()));
                stream
            }
        };
        match stream {
            Stream::Main => {}
            Stream::Sub => written.put(Column::Stream, "sub"),
            Stream::Photo => written.put(Column::Stream, "photo"),
        }
    }

    fn write_span(&self, written: &mut Written) {
        let (range, days) = match self.wanted {
            Wanted::Today => ("today", None),
            Wanted::Yesterday => ("yesterday", None),
            Wanted::Days(days) => ("days", Some(days)),
            Wanted::All => ("all", None),
            Wanted::Between(..) => ("absolute", None),
        };
        let (from, until) = self.bounds();
        written.put(Column::Range, range);
        written.put_some(Column::Start, from);
        written.put_some(Column::End, until);
        written.put_some(Column::Days, days);
        match self.clock {
            ClockMode::Auto => {}
            ClockMode::DeviceLocal => written.put(Column::TimeBasis, "device_local"),
            ClockMode::Utc => written.put(Column::TimeBasis, "utc"),
        }
    }

    fn write_form(&self, written: &mut Written) {
        let cut = match self.form {
            Form::Original => return,
            Form::Packed { container, cut } => {
                written.put(Column::Container, container.extension());
                cut
            }
            Form::Joined { container, cut, trim } => {
                written.put(Column::Container, container.extension());
                written.put(Column::Concat, "yes");
                if trim {
                    written.put(Column::Trim, "yes");
                }
                cut
            }
            Form::Pictures { every, cut } => {
                let Cut { skip, most } = cut;
                written.put_some(Column::SkipSeconds, Some(skip).filter(|skip| !skip.is_zero()).map(seconds));
                written.put_some(Column::MaxSeconds, most.map(seconds));
                return written.put(Column::FrameEvery, seconds(every));
            }
        };
        written.put_some(Column::SkipSeconds, Some(cut.skip).filter(|skip| !skip.is_zero()).map(seconds));
        written.put_some(Column::MaxSeconds, cut.most.map(seconds));
    }

    fn write_names(&self, written: &mut Written) {
        match &self.names {
            Names::Template(template) => written.put(Column::NameTemplate, template),
            Names::Layout { layout, prefix } => {
                written.put_some(Column::NamePrefix, Some(prefix).filter(|prefix| !prefix.is_empty()));
                match layout {
                    Layout::Flat => {}
                    Layout::Camera => written.put(Column::Layout, "camera"),
                    Layout::Year => written.put(Column::Layout, "year"),
                    Layout::Month => written.put(Column::Layout, "month"),
                    Layout::Day => written.put(Column::Layout, "day"),
                }
            }
        }
    }
}

/// Columns that have been written.
struct Written(Vec<(Column, String)>);

impl Written {
    fn put(&mut self, column: Column, value: impl ToString) {
        self.0.push((column, value.to_string()));
    }

    fn put_some(&mut self, column: Column, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(column, value);
        }
    }
}

fn joined(pieces: impl Iterator<Item = String>) -> String {
    pieces.collect::<Vec<_>>().join(",")
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// A moment as a sheet may have it.
fn moment(at: Moment) -> String {
    let (at, zone) = match at {
        Moment::Wall(at) => (at, ""),
        Moment::Instant(at) => {
            let at = at.to_utc();
            (time::PrimitiveDateTime::new(at.date(), at.time()), "Z")
        }
    };
    let (hour, minute, second) = at.as_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}{zone}", at.date())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::sheet::read;

    /// The task as an object of JSON, with its password.
    fn again(task: &Task) -> Task {
        let mut row = serde_json::Map::new();
        for (column, text) in task.columns() {
            row.insert(column.name().to_owned(), text.into());
        }
        if let Some(password) = &task.password {
            row.insert("password".to_owned(), password.expose_secret().into());
        }
        let text = serde_json::json!([row]).to_string();
        read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")).tasks.remove(0)
    }

    #[test]
    fn what_is_written_reads_as_the_same_task() {
        let rows = [
            r#"{"host":"nvr","user":"u","password":"p"}"#,
            r#"{"host":"https://[2001:db8::1]:8443","tls":"unverified","user":"a b","password":"p","tracks":"101,202","range":"all"}"#,
            r#"{"host":"10.0.0.5:81","user":"u","password_file":"/etc/p","channels":"1-4,7","stream":"sub","range":"yesterday","notes":"=1+1","id":"shop 1","enabled":"no"}"#,
            r#"{"host":"nvr","user":"u","password":"p","start":"2026-11-19 08:00","end":"2026-11-19T17:30:05Z","zone":"Europe/Berlin","time_basis":"utc","event":"MOTION","transport":"rtsp"}"#,
            r#"{"host":"nvr","user":"u","password":"p","days":7,"container":"mkv","concat":"yes","trim":"yes","skip_seconds":"1.5","max_seconds":"1h","layout":"day","name_prefix":"x"}"#,
            r#"{"host":"nvr","user":"u","password":"p","end":"2026-11-19","container":"mp4","name_template":"{camera}/{start}-{track}","bucket":"gs://b/p","prefix":"q"}"#,
            r#"{"host":"nvr","user":"u","password":"p","frame_every":"0.25","max_seconds":"90","prefix":"q","sessions":3,"bandwidth":"2MiB","hours":"22:00-06:00","settle":"90","retries":0,"timeout":"5","dry_run":"yes"}"#,
            r#"{"host":"nvr","user":"u","password":"p","stream":"photo","start":"2026-11-19T08:00:00+01:00"}"#,
            r#"{"args":"hikload --server 10.0.0.5 --username u --password p --cameras 201 --starttime 2026-11-19T08:00:00 --folders oneperday"}"#,
        ];
        for row in rows {
            let task =
                read(format!("[{row}]").as_bytes()).unwrap_or_else(|error| panic!("{row}: {error}")).tasks.remove(0);
            let same = again(&task);
            assert_eq!(same.asks_for(), task.asks_for(), "{row}: {:?}", task.columns());
            let beside = |task: &Task| (task.id.clone(), task.enabled, task.notes.clone(), task.password_file.clone());
            assert_eq!(beside(&same), beside(&task), "{row}");
            let password = |task: &Task| task.password.as_ref().map(|password| password.expose_secret().to_owned());
            assert_eq!(password(&same), password(&task), "{row}");
        }
    }

    #[test]
    fn a_row_of_many_channels_is_a_task_for_each() {
        let channels = |row: &str| -> Vec<String> {
            let task = read(format!(r#"[{{"host":"nvr","user":"u","password":"p",{row}}}]"#).as_bytes()).unwrap();
            task.tasks[0].by_track().1
        };
        assert_eq!(channels(r#""channels":"1-3,16""#), ["101", "201", "301", "1601"]);
        assert_eq!(channels(r#""channels":"2","stream":"sub""#), ["202"]);
        assert_eq!(channels(r#""tracks":"103,10001""#), ["103", "10001"]);
        assert_eq!(channels(r#""channels":"all""#), ["all"]);
    }
}
