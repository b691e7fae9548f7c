//! From a file and the environment to settings: every key is looked at, and all problems are told.

use std::path::Path;

use config::{Config, Environment, File, FileFormat};
use serde_json::{Map, Value};

use super::{Problem, RawConfig, RawDestination, Settings, UploadSettings};

/// The section that holds sections.
const DESTINATIONS: &str = "destinations";

/// Reads a configuration file (none means defaults), then the environment: `FRAMEHAUL__UPLOAD__WORKERS=8` stands above
/// `workers` in `[upload]`.
///
/// # Errors
///
/// All problems found, not only the first.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Vec<Problem>> {
    let whole = |detail: String| vec![Problem { key: String::new(), detail }];
    let mut builder = Config::builder();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| whole(format!("cannot read configuration file {}: {error}", path.display())))?;
        builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
    }
    let source = Environment::with_prefix("FRAMEHAUL")
        .prefix_separator("__")
        .separator("__")
        .source(Some(environment.into_iter().collect()));
    let tree = builder
        .add_source(source)
        .build()
        .and_then(Config::try_deserialize::<Value>)
        .map_err(|error| whole(format!("the configuration is not valid TOML: {error}")))?;
    let (raw, mut problems) = read_tree(&tree);
    match Settings::validate(&raw) {
        Ok(settings) if problems.is_empty() => return Ok(settings),
        Ok(_) => {}
        Err(more) => problems.extend(more),
    }
    Err(problems)
}

impl Default for UploadSettings {
    fn default() -> Self {
        load(None, []).expect("the defaults are valid").upload
    }
}

/// Reads each key alone against the defaults, so that all misfits are found and not only the first. In a misfit's place
/// stands the default, so that the rest can be checked all the same.
fn read_tree(tree: &Value) -> (RawConfig, Vec<Problem>) {
    let defaults = serde_json::to_value(RawConfig::default()).expect("the defaults are plain data");
    let mut merged = defaults.clone();
    let mut problems = Vec::new();
    let sections = tree.as_object().cloned().unwrap_or_default();
    for (section, keys) in &sections {
        let Some(keys) = keys.as_object().filter(|_| defaults.get(section).is_some()) else {
            let known = defaults.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", "));
            let detail = format!("is not known: sections are {}", known.unwrap_or_default());
            problems.push(Problem { key: section.clone(), detail });
            continue;
        };
        if section != DESTINATIONS {
            merged[section] = read_section(section, keys, &defaults[section], &mut problems);
            continue;
        }
        let known = serde_json::to_value(RawDestination::default()).expect("the defaults are plain data");
        for (name, keys) in keys {
            let place = format!("{section}.{name}");
            match keys.as_object() {
                Some(keys) => merged[section][name] = read_section(&place, keys, &known, &mut problems),
                None => {
                    let detail = format!("is no section: write [{place}] and its keys below it");
                    problems.push(Problem { key: place, detail });
                }
            }
        }
    }
    let raw = serde_json::from_value(merged).unwrap_or_else(|error| {
        problems.push(Problem { key: String::new(), detail: error.to_string() });
        RawConfig::default()
    });
    (raw, problems)
}

/// A section: its defaults, with what of `keys` can be read.
fn read_section(section: &str, keys: &Map<String, Value>, defaults: &Value, problems: &mut Vec<Problem>) -> Value {
    let mut merged = defaults.clone();
    for (key, value) in keys {
        let name = format!("{section}.{key}");
        let Some(default) = defaults.get(key) else {
            let names = defaults.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>().join(", "));
            let detail = format!("is not known: [{section}] takes {}", names.unwrap_or_default());
            problems.push(Problem { key: name, detail });
            continue;
        };
        match coerce(value, default) {
            Some(value) => merged[key] = value,
            None => {
                let detail = format!("is {value}, which is no {}", type_name(default));
                problems.push(Problem { key: name, detail });
            }
        }
    }
    merged
}

/// Gives a value the type of its key's default; the environment knows only texts.
fn coerce(value: &Value, default: &Value) -> Option<Value> {
    match (default, value) {
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => Some(value.clone()),
        (Value::String(_), Value::Number(number)) => Some(Value::String(number.to_string())),
        (Value::Number(_), Value::Number(number)) => u32::try_from(number.as_u64()?).ok().map(Value::from),
        (Value::Number(_), Value::String(text)) => text.trim().parse::<u32>().ok().map(Value::from),
        (Value::Bool(_), Value::String(text)) => text.trim().parse::<bool>().ok().map(Value::from),
        _ => None,
    }
}

fn type_name(default: &Value) -> &'static str {
    match default {
        Value::Bool(_) => "true or false",
        Value::Number(_) => "whole number from 0 to 4294967295",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Credentials, Destination, Durability, WhenFull};
    use super::*;
    use crate::model::DestinationName;

    fn load_text(text: &str, env: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(Some(file.path()), env.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    #[test]
    fn the_manual_equals_the_defaults() {
        let manual = include_str!("../../config.toml");
        let tree: Value = Config::builder()
            .add_source(File::from_str(manual, FileFormat::Toml))
            .build()
            .and_then(Config::try_deserialize)
            .unwrap();
        assert_eq!(tree, serde_json::to_value(RawConfig::default()).unwrap());
        load_text(manual, &[]).unwrap();
    }

    #[test]
    fn the_environment_stands_above_the_file() {
        let settings = load_text(
            "[upload]\nworkers = 3\nretry_max = '5s'\n",
            &[("FRAMEHAUL__UPLOAD__WORKERS", "7"), ("FRAMEHAUL__DEBUG__FAULT_INJECTION", "true"), ("OTHER", "x")],
        )
        .unwrap();
        assert_eq!(settings.upload.workers.get(), 7);
        assert_eq!(settings.upload.retry_max, Duration::from_secs(5));
        assert!(settings.fault_injection);
    }

    #[test]
    fn all_unknown_and_misfitting_keys_are_reported_at_once() {
        let problems = load_text(
            "[uplaod]\nworkers = 3\n[upload]\nworker = 3\nworkers = 'many'\n[debug]\nfault_injection = 3\n\
             [log]\nformat = 'xml'\n",
            &[],
        )
        .unwrap_err();
        let mut keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["debug.fault_injection", "log.format", "uplaod", "upload.worker", "upload.workers"]);
    }

    #[test]
    fn all_impossible_values_are_reported_at_once_with_what_was_found() {
        let problems = load_text(
            "[state]\ndir = 'here'\n[http]\nlisten = 'localhost'\n[storage]\nurl = 'ftp://b'\nkey_template = 'x'\n\
             [upload]\nworkers = 0\nretry_min = 'soon'\n[memory]\nbytes = '1 KiB'\n[log]\nformat = 'xml'\n",
            &[],
        )
        .unwrap_err();
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert!(problems.iter().any(|p| p.to_string().starts_with("log.format: is `xml`: use text or json")));
    }

    #[test]
    fn the_spool_lies_in_the_state_directory_and_holds_four_segments_at_least() {
        let spool = |text: &str| load_text(&format!("[state]\ndir = '/s'\n[spool]\n{text}"), &[]).map(|all| all.spool);
        let default = spool("").unwrap();
        assert_eq!((default.durability, default.when_full), (Durability::Disk, WhenFull::DropOldest));
        assert_eq!(default.dir, Path::new("/s/spool"));
        let small = spool("dir = '/d'\nmax_bytes = '4MiB'\nsegment = '1MiB'\nwhen_full = 'drop_newest'").unwrap();
        assert_eq!((small.max_bytes, small.segment, small.when_full), (4 << 20, 1 << 20, WhenFull::DropNewest));
        assert_eq!(
            (small.dir.as_path(), spool("durability = 'memory'").unwrap().durability),
            (Path::new("/d"), Durability::Memory)
        );
        let problems = spool("max_bytes = '255MiB'").unwrap_err();
        let told = problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told, ["spool.max_bytes: is `255MiB`: use at least 256.0 MiB, four times spool.segment"]);
        assert_eq!(spool("durability = 'paper'\ndir = 'd'\nsegment = '1KiB'\nwhen_full = 'x'").unwrap_err().len(), 4);
    }

    #[test]
    fn destinations() {
        let destination = |url: &str| {
            load_text(&format!("[storage]\nurl = '{url}'\ncredentials = 'anonymous'"), &[])
                .map(|settings| settings.destinations[&DestinationName::default()].clone())
        };
        assert_eq!(
            destination("gs://b/some/where/").unwrap(),
            Destination::Gcs {
                bucket: "b".into(),
                prefix: "some/where/".into(),
                endpoint: None,
                credentials: Credentials::Anonymous
            }
        );
        assert_eq!(destination("file:///a/b").unwrap(), Destination::File { dir: "/a/b".into() });
        let aws = load_text(
            "[storage]
url = 's3://b'
region = 'eu-central-1'
endpoint = 'http://h:1'",
            &[],
        )
        .unwrap();
        assert_eq!(
            aws.destinations[&DestinationName::default()],
            Destination::S3 {
                bucket: "b".into(),
                prefix: String::new(),
                endpoint: Some("http://h:1".into()),
                region: Some("eu-central-1".into()),
                credentials: Credentials::Default
            }
        );
        assert!(matches!(destination("az://c/p").unwrap(), Destination::Azure { .. }));
        let problems = destination("http://h/b").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().starts_with("storage.url: is `http://h/b`: use gs://bucket/prefix, "));
    }

    #[test]
    fn destinations_have_names() {
        let text = "[storage]\nurl = 'file:///a'\n[destinations.nas-2]\nurl = 'file:///b'\n\
                    [destinations.cloud]\nurl = 'gs://b/c'\ncredentials = 'anonymous'";
        let there = load_text(text, &[("FRAMEHAUL__DESTINATIONS__CLOUD__URL", "gs://other")]).unwrap().destinations;
        let names: Vec<&str> = there.keys().map(DestinationName::as_str).collect();
        assert_eq!(names, ["cloud", "default", "nas-2"]);
        let Destination::Gcs { bucket, credentials, .. } = &there[&"cloud".parse().unwrap()] else {
            panic!("{there:?}")
        };
        assert_eq!((bucket.as_str(), credentials), ("other", &Credentials::Anonymous));
        let alone = load_text("", &[("FRAMEHAUL__DESTINATIONS__NAS__URL", "file:///b")]).unwrap().destinations;
        assert_eq!(alone[&"nas".parse().unwrap()], Destination::File { dir: "/b".into() });
    }

    #[test]
    fn every_problem_of_a_destination_is_told_at_its_key() {
        let problems = load_text(
            "[storage]\nurl = 'file:///a'\n[destinations]\nodd = 3\n[destinations.default]\nurl = 'file:///b'\n\
             [destinations.lock]\nurl = 'file:///c'\n[destinations.one]\n[destinations.same]\nurl = 'file:///a/'\n\
             [destinations.x]\nurl = 'file:///x'\nworkers = 3\n[memory]\nbytes = '5MiB'\nframes = 50",
            &[],
        )
        .unwrap_err();
        let mut keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        keys.sort_unstable();
        let expected = [
            "destinations.default",
            "destinations.lock",
            "destinations.odd",
            "destinations.one.url",
            "destinations.same.url",
            "destinations.x.workers",
            "memory.bytes",
            "memory.frames",
        ];
        assert_eq!(keys, expected, "{problems:#?}");
        let same = problems.iter().find(|p| p.key == "destinations.same.url").unwrap();
        assert!(same.detail.starts_with("is where [storage] goes already: "), "{same}");
    }
}
