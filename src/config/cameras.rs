//! The file of cameras that the configuration manages: a table for each, with the fields that requests know.
//!
//! ```toml
//! [gate-3]
//! url = "rtsp://10.0.0.17:554/stream1"
//! user = "viewer"
//! password_file = "/etc/framehaul/gate-3.password"
//! sampling = { fps = 2.5 }
//! ```
//!
//! Passwords stand in files of their own, so that this one can be shown around.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use secrecy::SecretString;
use toml::{Table, Value};

use super::{Destination, Problem};
use crate::capture::Reach;
use crate::model::{CameraId, DestinationName, FieldProblem, InvalidCameraId, RawCameraSpec, misfits};

/// The longest password file, bytes; the longest password is shorter.
const MAX_PASSWORD_FILE_BYTES: u64 = 1_024;
/// How much of a table's name a message repeats.
const MAX_SHOWN_CHARS: usize = 80;

/// Reads the file and checks every camera in it.
///
/// # Errors
///
/// All problems found, not only the first.
pub fn load_cameras(
    path: &Path,
    reach: &Reach,
    destinations: &BTreeMap<DestinationName, Destination>,
) -> Result<BTreeMap<CameraId, RawCameraSpec>, Vec<Problem>> {
    let whole = |detail: String| vec![Problem { key: "cameras.file".to_owned(), detail }];
    let text =
        std::fs::read_to_string(path).map_err(|error| whole(format!("cannot read {}: {error}", path.display())))?;
    // Where it is wrong, a password may stand by mistake, which the parser's own words would repeat.
    let tables: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        whole(format!("{} is not TOML, at line {line}", path.display()))
    })?;
    let mut cameras = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, value) in tables {
        let mut wrong = |field: &str, detail: String| {
            let shown: String = name.chars().take(MAX_SHOWN_CHARS).flat_map(char::escape_debug).collect();
            let key = if field.is_empty() { shown } else { format!("{shown}.{field}") };
            problems.push(Problem { key, detail });
        };
        let id: CameraId = match name.parse() {
            Ok(id) => id,
            Err(error) => {
                let error: InvalidCameraId = error;
                wrong("", error.to_string());
                continue;
            }
        };
        let Value::Table(table) = value else {
            wrong("", format!("must be a table: write [{id}] and the camera's fields below it"));
            continue;
        };
        match read_camera(table) {
            Ok(raw) => match raw.clone().validate(None) {
                Ok(spec) => {
                    let goes_somewhere = destinations.contains_key(&spec.destination);
                    if !goes_somewhere {
                        wrong("destination", DestinationName::unknown(destinations.keys()));
                    }
                    match reach.check(&spec.url) {
                        Ok(()) if goes_somewhere => drop(cameras.insert(id, raw)),
                        Ok(()) => {}
                        Err(why) => wrong("url", why),
                    }
                }
                Err(found) => found.into_iter().for_each(|problem| wrong(&problem.field, problem.detail)),
            },
            Err(found) => found.into_iter().for_each(|problem| wrong(&problem.field, problem.detail)),
        }
    }
    if problems.is_empty() { Ok(cameras) } else { Err(problems) }
}

/// Reads the shape of a camera; no message repeats a value.
fn read_camera(mut table: Table) -> Result<RawCameraSpec, Vec<FieldProblem>> {
    let wrong = |field: &'static str, detail: String| vec![FieldProblem::new(field, None, detail)];
    if table.contains_key("password") {
        let detail = "must not stand here: write it into a file and name that with `password_file`";
        return Err(wrong("password", detail.to_owned()));
    }
    let password = match table.remove("password_file") {
        None => None,
        Some(Value::String(path)) => Some(read_password(Path::new(&path)).map_err(|why| wrong("password_file", why))?),
        Some(_) => return Err(wrong("password_file", "must be a text".to_owned())),
    };
    let unreadable = || wrong("", "cannot be read".to_owned());
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(table) else { return Err(unreadable()) };
    let misfits = misfits(&fields);
    if !misfits.is_empty() {
        return Err(misfits);
    }
    let raw: RawCameraSpec = serde_json::from_value(fields.into()).map_err(|_| unreadable())?;
    Ok(raw.with_password(password))
}

/// Reads a password without the line's end that editors add.
fn read_password(path: &Path) -> Result<SecretString, String> {
    if !path.is_absolute() {
        // Not repeated: it may be the password itself.
        return Err("is no absolute path: name the file that holds the password".to_owned());
    }
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        let mode = metadata.permissions().mode() & 0o777;
        return Err(format!("names {shown} with mode {mode:03o}: everybody can read it; chmod 600 it"));
    }
    if metadata.len() > MAX_PASSWORD_FILE_BYTES {
        return Err(format!("names {shown}, which is longer than any password"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<BTreeMap<CameraId, RawCameraSpec>, Vec<Problem>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let dir = |name: &str| (name.parse().unwrap(), Destination::File { dir: format!("/{name}").into() });
        load_cameras(file.path(), &Reach::default(), &BTreeMap::from(["default", "nas"].map(dir)))
    }

    #[test]
    fn cameras_are_read_with_their_passwords() {
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "p%40:/#w\n").unwrap();
        let cameras = load(&format!(
            "[gate-3]\nurl = 'rtsp://h/a'\nuser = 'u'\npassword_file = '{}'\nsampling = {{ fps = 2.5 }}\n[hall]\nurl = 'http://h/b'",
            secret.path().display()
        ))
        .unwrap();
        assert_eq!(cameras.len(), 2);
        let gate = cameras.into_values().next().unwrap().validate(None).unwrap();
        assert!(gate.password.is_some() && !format!("{gate:?}").contains("p%40"));
        std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = load(&format!("[a]\nurl = 'rtsp://h/a'\nuser = 'u'\npassword_file = '{}'", secret.path().display()));
        assert!(open.unwrap_err()[0].detail.contains("chmod 600"));
    }

    #[test]
    fn every_problem_is_reported_and_no_password_repeated() {
        let problems = load(
            "[Gate]\nurl = 'rtsp://h/a'\n[a]\nurl = 'exec:ls'\njpeg_quality = 0\n[b]\nurl = 'rtsp://h/b'\npassword = 's3cret'\n\
             [c]\nurl = 'rtsp://127.0.0.1/'\n[d]\nurll = 'rtsp://h/d'\n[e]\nurl = 'rtsp://h/e'\npassword_file = 'here'\n",
        )
        .unwrap_err();
        let keys: Vec<_> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(
            keys,
            ["Gate", "a.url", "a.jpeg_quality", "b.password", "c.url", "d.url", "d.urll", "e.password_file"]
        );
        assert!(!format!("{problems:?}").contains("s3cret"));
        // A password that stands where none belongs.
        for text in [
            "[a]\nurl = 'rtsp://h/a'\npassword = p%40:/#w",
            "[a]\nurl = 'rtsp://h/a'\npassword = 'p%40:/#w",
            "password = 'p%40:/#w'",
            "p%40:/#w",
            "[a]\nurl = 'p%40:/#w'",
            "[a]\nurl = 'rtsp://h/a'\ntransport = 'p%40:/#w'",
            "[a]\nurl = 'rtsp://h/a'\njpeg_quality = 'p%40:/#w'",
            "[a]\nurl = 'rtsp://h/a'\nsampling = { 'p%40:/#w' = 1 }",
            "[a]\nurl = 'rtsp://h/a'\n'p%40:/#w' = 1",
        ] {
            let problems = load(text).unwrap_err();
            assert!(!problems.is_empty() && !format!("{problems:?}").contains("p%40"), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_camera_goes_to_a_destination_that_there_is() {
        let cameras = load("[a]\nurl = 'rtsp://h/a'\ndestination = 'nas'\n[b]\nurl = 'rtsp://h/b'").unwrap();
        let to: Vec<_> = cameras.into_values().map(|raw| raw.validate(None).unwrap().destination).collect();
        assert_eq!(to.iter().map(DestinationName::as_str).collect::<Vec<_>>(), ["nas", "default"]);
        let wrong = "[a]\nurl = 'rtsp://h/a'\ndestination = 's3'\n[b]\nurl = 'rtsp://h/b'\ndestination = 'N S'\n\
                     [c]\nurl = 'rtsp://h/c'\ndestination = 3";
        let problems = load(wrong).unwrap_err();
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "a.destination: names no destination of the configuration: there are default, nas");
        assert!(told[1].starts_with("b.destination: is no name of a destination: "), "{told:?}");
        assert_eq!(told[2], "c.destination: must be a text: the name of a destination");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let name = format!("a\\n\\u202e\\u001b{}", "x".repeat(2_000));
        let problems = load(&format!("[\"{name}\"]\nurl = 'rtsp://h/a'")).unwrap_err();
        let said = problems[0].to_string();
        assert!(said.starts_with("a\\n\\u{202e}\\u{1b}x") && said.len() < 400 && said.is_ascii(), "{said}");
    }
}
