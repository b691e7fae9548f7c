//! A command line of hikload 1.1.4, and what it is in ours.
//!
//! hikload reads its options with Python's argparse, so this does as that does: the last of an option counts, a value
//! stands behind a blank or a `=`, a switch has its `--no-` form, and an option may be shortened while only one begins so.
//! Unlike there, nothing that is not known is passed over, and a password is not taken from where others can see it.

use secrecy::SecretString;

/// What an option of hikload is in ours.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    /// The same value under another name.
    Value(&'static str),
    /// A whole number under another name.
    Number(&'static str),
    /// Whole seconds, under a name of ours that takes a time.
    Seconds(&'static str),
    /// A switch.
    Switch(&'static [&'static str]),
    /// A switch for what we always do, or never need; why.
    Moot(&'static str),
    /// A switch that has no meaning here; why.
    Refused(&'static str),
    Password,
    Folders,
    Downloads,
    Format,
}

use Meaning::{Downloads, Folders, Format, Moot, Number, Password, Refused, Seconds, Switch, Value};

/// All options: those of 1.1.4, and behind them those that only its repository has.
const OPTIONS: [(&str, Meaning); 29] = [
    ("server", Value("--server")),
    ("username", Value("--username")),
    ("password", Password),
    ("starttime", Value("--start")),
    ("endtime", Value("--end")),
    ("days", Number("--days")),
    ("yesterday", Switch(&["--yesterday"])),
    ("allrecordings", Switch(&["--all"])),
    ("cameras", Value("--tracks")),
    ("folders", Folders),
    ("downloads", Downloads),
    ("videoformat", Format),
    (
        "forcetranscoding",
        Moot("--forcetranscoding: pictures are never encoded anew; --container mp4 packs them as MP4"),
    ),
    ("seconds", Seconds("--max-seconds")),
    ("skipseconds", Seconds("--skip-seconds")),
    ("ffmpeg", Switch(&["--transport", "rtsp"])),
    ("force", Moot("--force: what is stored is never overwritten; take it away first, or export to another place")),
    ("frames", Seconds("--frame-every")),
    ("photos", Switch(&["--stream", "photo"])),
    ("skipdownload", Switch(&["--dry-run"])),
    ("localtimefilenames", Moot("--localtimefilenames: names hold the recorder's own local time as they are")),
    ("mock", Refused("there are no made-up recordings here; --dry-run fetches none")),
    ("debug", Switch(&["--verbose"])),
    ("ui", Refused("there is no window here")),
    ("videoname", Value("--name-prefix")),
    ("concat", Switch(&["--concat"])),
    ("trim", Switch(&["--trim"])),
    ("httptimeout", Seconds("--timeout")),
    ("skipexisting", Moot("--skipexisting: what is stored and whole is never fetched again")),
];

/// Where hikload puts files when nobody says.
const DOWNLOADS: &str = "./Downloads";

/// What a command line of hikload is in ours.
#[derive(Debug, Default)]
pub struct Translated {
    /// Our options with their values.
    pub arguments: Vec<String>,
    /// The password that stood there.
    pub password: Option<SecretString>,
    /// What the line asks for and does not get as it was, in sentences.
    pub notes: Vec<String>,
}

/// Translates a command line, with the name of the program before it or without.
///
/// # Errors
///
/// A sentence that names the option and says what to do. It repeats no value that may be a password.
pub fn translate(line: &str) -> Result<Translated, String> {
    let words = shlex::split(line).ok_or("a quotation mark is not closed, or a `\\` stands at the end")?;
    let begin = usize::from(words.first().is_some_and(|first| first.rsplit('/').next() == Some("hikload")));
    let mut words = words.into_iter().skip(begin);
    // The last of each counts: a place for each option, in their order.
    let mut given: [Option<Given>; OPTIONS.len()] = Default::default();
    while let Some(word) = words.next() {
        let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) else {
            return Err("there is a word that belongs to no option: put values with blanks in quotes".to_owned());
        };
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let (place, on) = find(name)?;
        let (name, meaning) = OPTIONS[place];
        given[place] = Some(match meaning {
            Switch(_) | Moot(_) | Refused(_) if value.is_some() => {
                return Err(format!("--{name} takes no value: write --{name} or --no-{name}"));
            }
            Switch(_) | Moot(_) | Refused(_) => Given::Switch(on),
            _ if !on => return Err(format!("--no-{name} is not known: --{name} takes a value")),
            _ => {
                // Behind a blank, what looks like an option is one.
                let value = value.map(str::to_owned).or_else(|| words.next().filter(|word| !word.starts_with("--")));
                Given::Value(value.ok_or_else(|| format!("--{name} has no value"))?)
            }
        });
    }
    let mut translated = Translated::default();
    for ((name, meaning), given) in OPTIONS.iter().zip(given) {
        translated.add(name, *meaning, given)?;
    }
    Ok(translated)
}

/// What stood on the line.
#[derive(Debug)]
enum Given {
    Value(String),
    Switch(bool),
}

/// Which option a name means, and whether it is switched on.
fn find(written: &str) -> Result<(usize, bool), String> {
    let place = |wanted: &str| OPTIONS.iter().position(|(name, _)| *name == wanted);
    let negated = written.strip_prefix("no-");
    if let Some(place) = place(written) {
        return Ok((place, true));
    }
    if let Some(place) = negated.and_then(place) {
        return Ok((place, false));
    }
    let begun = |part: &str| -> Vec<usize> {
        (0..OPTIONS.len()).filter(|place| !part.is_empty() && OPTIONS[*place].0.starts_with(part)).collect()
    };
    let (shortened, on) = match negated {
        Some(part) => (begun(part), false),
        None => (begun(written), true),
    };
    match shortened.as_slice() {
        [one] => Ok((*one, on)),
        // What is not known may be a password that slipped.
        [] => Err("there is an option that hikload does not have: docs/hikload.md lists them all".to_owned()),
        [one, other, ..] => {
            Err(format!("--{written} may be --{} or --{}: write it out", OPTIONS[*one].0, OPTIONS[*other].0))
        }
    }
}

impl Translated {
    fn add(&mut self, name: &str, meaning: Meaning, given: Option<Given>) -> Result<(), String> {
        let value = match (meaning, given) {
            (Downloads, None) => DOWNLOADS.to_owned(),
            (_, None | Some(Given::Switch(false))) => return Ok(()),
            (Switch(ours), Some(_)) => {
                self.arguments.extend(ours.iter().map(|ours| (*ours).to_owned()));
                return Ok(());
            }
            (Moot(why), Some(_)) => {
                self.notes.push(why.to_owned());
                return Ok(());
            }
            (Refused(why), Some(_)) => return Err(format!("--{name} cannot be had: {why}")),
            (_, Some(Given::Switch(true))) => unreachable!("only switches are switched"),
            (_, Some(Given::Value(value))) => value,
        };
        match meaning {
            Value(ours) => self.push(ours, value),
            Number(ours) => self.push(ours, number(name, &value)?.to_string()),
            Seconds(ours) => self.push(ours, format!("{}s", number(name, &value)?)),
            Password => self.password = Some(value.into()),
            Folders => {
                let layouts = [
                    ("onepercamera", "camera"),
                    ("oneperday", "day"),
                    ("onepermonth", "month"),
                    ("oneperyear", "year"),
                ];
                let layout = layouts.iter().find(|(theirs, _)| *theirs == value);
                let known = layouts.map(|(theirs, _)| theirs).join(", ");
                let (_, ours) = layout.ok_or_else(|| format!("--folders is one of {known}"))?;
                self.push("--layout", (*ours).to_owned());
            }
            Downloads => {
                let path = std::path::absolute(&value).map_err(|error| format!("--downloads: {error}"))?;
                let url = url::Url::from_file_path(&path).map_err(|()| "--downloads is no directory".to_owned())?;
                self.push("--to", url.into());
            }
            Format => match value.as_str() {
                // It saves what the recorder sends, under that name.
                "mp4" => {}
                "mkv" => self.push("--container", value),
                "avi" => {
                    self.push("--container", "mkv".to_owned());
                    self.notes.push("--videoformat avi: becomes mkv, since AVI cannot hold H.265".to_owned());
                }
                _ => return Err("--videoformat is one of mp4, mkv, avi".to_owned()),
            },
            Switch(_) | Moot(_) | Refused(_) => unreachable!("they have no value"),
        }
        Ok(())
    }

    fn push(&mut self, option: &str, value: String) {
        // In one word, so that a value which begins like an option is none.
        self.arguments.push(format!("{option}={value}"));
    }
}

fn number(name: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("--{name} takes a whole number"))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    /// What a line becomes beside the place for downloads, which is always said.
    #[track_caller]
    fn ours(line: &str) -> Vec<String> {
        let mut arguments = translate(line).unwrap().arguments;
        arguments.retain(|argument| !argument.starts_with("--to="));
        arguments
    }

    #[test]
    fn every_option_has_its_place() {
        let cwd = std::env::current_dir().unwrap();
        for (theirs, expected, notes) in [
            ("--server 10.0.0.5:8080", "--server=10.0.0.5:8080", 0),
            ("--username admin", "--username=admin", 0),
            ("--starttime 2026-11-19T00:00:00", "--start=2026-11-19T00:00:00", 0),
            ("--endtime 2026-11-19T23:59:59", "--end=2026-11-19T23:59:59", 0),
            ("--days 3", "--days=3", 0),
            ("--yesterday", "--yesterday", 0),
            ("--allrecordings", "--all", 0),
            ("--cameras 101,201", "--tracks=101,201", 0),
            ("--folders onepercamera", "--layout=camera", 0),
            ("--folders oneperday", "--layout=day", 0),
            ("--folders onepermonth", "--layout=month", 0),
            ("--folders oneperyear", "--layout=year", 0),
            ("--videoformat mp4", "", 0),
            ("--videoformat mkv", "--container=mkv", 0),
            ("--videoformat avi", "--container=mkv", 1),
            ("--forcetranscoding", "", 1),
            ("--seconds 10", "--max-seconds=10s", 0),
            ("--skipseconds 5", "--skip-seconds=5s", 0),
            ("--ffmpeg", "--transport rtsp", 0),
            ("--force", "", 1),
            ("--frames 25", "--frame-every=25s", 0),
            ("--photos", "--stream photo", 0),
            // It adds 2 to the numbers that the recorder tells, and nothing to those that stand here.
            ("--cameras 101,203 --photos", "--tracks=101,203 --stream photo", 0),
            ("--skipdownload", "--dry-run", 0),
            ("--localtimefilenames", "", 1),
            ("--debug", "--verbose", 0),
            ("--videoname shop-", "--name-prefix=shop-", 0),
            ("--concat", "--concat", 0),
            ("--trim", "--trim", 0),
            ("--httptimeout 30", "--timeout=30s", 0),
            ("--skipexisting", "", 1),
        ] {
            let translated = translate(theirs).unwrap();
            let arguments: Vec<_> =
                translated.arguments.iter().filter(|argument| !argument.starts_with("--to=")).cloned().collect();
            assert_eq!((arguments.join(" "), translated.notes.len()), (expected.to_owned(), notes), "{theirs}");
        }
        // Each switch may be switched off, also those that cannot be had.
        for (name, meaning) in OPTIONS {
            let off = translate(&format!("--no-{name}"));
            match meaning {
                Switch(_) | Moot(_) => {
                    assert_eq!(
                        (ours(&format!("--{name} --no-{name}")), off.unwrap().notes.len()),
                        (vec![], 0),
                        "{name}"
                    );
                }
                Refused(_) => {
                    assert!(off.is_ok(), "{name}");
                    let told = translate(&format!("--{name}")).unwrap_err();
                    assert!(told.starts_with(&format!("--{name} cannot be had: ")), "{told}");
                }
                _ => assert!(off.unwrap_err().contains("takes a value"), "{name}"),
            }
        }
        let to = |line: &str| translate(line).unwrap().arguments;
        assert_eq!(to(""), [format!("--to=file://{}/Downloads", cwd.display())]);
        assert_eq!(to("--downloads /srv/clips"), ["--to=file:///srv/clips"]);
        assert_eq!(to("--downloads '/srv/a clip'"), ["--to=file:///srv/a%20clip"]);
    }

    #[test]
    fn a_line_is_read_as_hikload_reads_it() {
        assert_eq!(ours("hikload --server a --server=b"), ["--server=b"]);
        assert_eq!(ours("/opt/hk/bin/hikload --user 'a b' --yest --no-allrec"), ["--username=a b", "--yesterday"]);
        let translated = translate("--username admin --password \"it's --mine\"").unwrap();
        assert_eq!(translated.password.unwrap().expose_secret(), "it's --mine");
        assert!(!format!("{:?}", translated.arguments).contains("mine"));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_no_password_repeated() {
        for (line, word) in [
            ("--canary", "that hikload does not have"),
            ("--canary=canary", "that hikload does not have"),
            ("--password canary canary", "belongs to no option"),
            ("--password 'canary", "quotation mark"),
            ("--password", "--password has no value"),
            ("--server --username canary", "--server has no value"),
            ("--days canary", "--days takes a whole number"),
            ("--folders canary", "--folders is one of"),
            ("--videoformat canary", "--videoformat is one of"),
            ("--yesterday=canary", "--yesterday takes no value"),
            ("--no-password canary", "--no-password is not known"),
            ("--s x", "--s may be --server or --starttime"),
            ("--", "belongs to no option"),
        ] {
            let told = translate(line).unwrap_err();
            assert!(told.contains(word) && !told.contains("canary"), "{line}: {told}");
        }
    }
}
