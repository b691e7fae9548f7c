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

use super::Problem;
use crate::capture::Reach;
use crate::model::{CameraId, InvalidCameraId, RawCameraSpec};

/// The longest password file, bytes; the longest password is shorter.
const MAX_PASSWORD_FILE_BYTES: u64 = 1_024;

/// Reads the file and checks every camera in it.
///
/// # Errors
///
/// All problems found, not only the first.
pub fn load_cameras(path: &Path, reach: &Reach) -> Result<BTreeMap<CameraId, RawCameraSpec>, Vec<Problem>> {
    let whole = |detail: String| vec![Problem { key: "cameras.file".to_owned(), detail }];
    let text =
        std::fs::read_to_string(path).map_err(|error| whole(format!("cannot read {}: {error}", path.display())))?;
    let tables: Table = text
        .parse()
        .map_err(|error: toml::de::Error| whole(format!("{} is not TOML: {}", path.display(), error.message())))?;
    let mut cameras = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, value) in tables {
        let mut wrong = |field: &str, detail: String| {
            let key = if field.is_empty() { name.clone() } else { format!("{name}.{field}") };
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
                Ok(spec) => match reach.check(&spec.url) {
                    Ok(()) => drop(cameras.insert(id, raw)),
                    Err(why) => wrong("url", why),
                },
                Err(found) => found.into_iter().for_each(|problem| wrong(&problem.field, problem.detail)),
            },
            Err((field, detail)) => wrong(field, detail),
        }
    }
    if problems.is_empty() { Ok(cameras) } else { Err(problems) }
}

fn read_camera(mut table: Table) -> Result<RawCameraSpec, (&'static str, String)> {
    if table.contains_key("password") {
        let detail = "must not stand here: write it into a file and name that with `password_file`";
        return Err(("password", detail.to_owned()));
    }
    let password = match table.remove("password_file") {
        None => None,
        Some(Value::String(path)) => Some(read_password(Path::new(&path)).map_err(|why| ("password_file", why))?),
        Some(_) => return Err(("password_file", "must be a text".to_owned())),
    };
    let raw: RawCameraSpec =
        Value::Table(table).try_into().map_err(|error: toml::de::Error| ("", error.message().to_owned()))?;
    Ok(raw.with_password(password))
}

/// Reads a password without the line's end that editors add.
fn read_password(path: &Path) -> Result<SecretString, String> {
    if !path.is_absolute() {
        return Err(format!("is `{}`: use an absolute path", path.display()));
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
        load_cameras(file.path(), &Reach::default())
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
        assert_eq!(keys, ["Gate", "a.url", "a.jpeg_quality", "b.password", "c.url", "d", "e.password_file"]);
        assert!(!format!("{problems:?}").contains("s3cret"));
    }
}
