//! What a camera's spec, or a recorder's, may look like, field by field, before its values are judged.
//!
//! No message repeats a password, whatever was written in its place and wherever it was written by mistake.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{FieldProblem, RawCameraSpec, RawNvrSpec};

/// What each field takes.
const FIELDS: [(&str, &str); 14] = [
    ("url", "must be a text: write rtsp://host[:port]/path"),
    ("name", "must be a text"),
    ("user", "must be a text"),
    ("password", "must be a text, or null for none"),
    ("tls", "must be \"unverified\", or left out"),
    ("loop", "must be true or false"),
    ("pace", "must be \"realtime\" or \"unpaced\""),
    ("transport", "must be \"tcp\" or \"udp\""),
    ("engine", "must be \"auto\", \"opencv\" or \"ffmpeg\""),
    ("sampling", "must be \"all\", \"keyframes\", {\"fps\": 2.5} or {\"every\": 10}"),
    ("damaged", "must be \"drop\" or \"mark\""),
    ("jpeg_quality", "must be a whole number from 1 to 100"),
    ("max_width", "must be a whole number of pixels"),
    ("destination", "must be a text: the name of a destination"),
];

/// What each field of a recorder takes.
const NVR_FIELDS: [(&str, &str); 16] = [
    ("url", "must be a text: write http://host[:port]"),
    ("name", "must be a text"),
    ("user", "must be a text"),
    ("password", "must be a text"),
    ("tls", "must be \"unverified\", or left out"),
    ("clock", "must be \"auto\", \"device_local\" or \"utc\""),
    ("zone", "must be a text: the name of a time zone, as Europe/Berlin"),
    ("channels", "must be \"all\", or a list of numbers"),
    ("stream", "must be \"main\" or \"sub\""),
    ("transport", "must be \"tcp\" or \"udp\""),
    ("engine", "must be \"auto\", \"opencv\" or \"ffmpeg\""),
    ("sampling", "must be \"all\", \"keyframes\", {\"fps\": 2.5} or {\"every\": 10}"),
    ("damaged", "must be \"drop\" or \"mark\""),
    ("jpeg_quality", "must be a whole number from 1 to 100"),
    ("max_width", "must be a whole number of pixels"),
    ("destination", "must be a text: the name of a destination"),
];

/// Every field of a camera that cannot be read, not only the first. Each is read alone, beside a URL that can be.
pub fn misfits(fields: &Map<String, Value>) -> Vec<FieldProblem> {
    find::<RawCameraSpec>(fields, "a camera", "rtsp://host[:port]/path", &FIELDS)
}

/// Every field of a recorder that cannot be read.
pub fn nvr_misfits(fields: &Map<String, Value>) -> Vec<FieldProblem> {
    find::<RawNvrSpec>(fields, "a recorder", "http://host[:port]", &NVR_FIELDS)
}

fn find<T: DeserializeOwned>(
    fields: &Map<String, Value>,
    what: &str,
    url: &str,
    known: &[(&'static str, &str)],
) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    if !fields.contains_key("url") {
        problems.push(FieldProblem { field: "url".into(), value: None, detail: format!("is missing: write {url}") });
    }
    for (name, value) in fields {
        let mut alone = json!({ "url": "rtsp://host/" });
        alone[name] = value.clone();
        if serde_json::from_value::<T>(alone).is_ok() {
            continue;
        }
        problems.push(match known.iter().find(|(known, _)| known == name) {
            Some((field, takes)) => {
                let value = if *field == "password" { None } else { shown(value) };
                FieldProblem { field: (*field).into(), value, detail: (*takes).to_owned() }
            }
            None => {
                let field = if is_plain(name) { name.clone() } else { "(a field)".to_owned() };
                let known: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
                let detail = format!("is not known: {what} has {}", known.join(", "));
                FieldProblem { field: field.into(), value: None, detail }
            }
        });
    }
    problems
}

/// A value as a message may repeat it: a number, or a word. Anything longer or stranger may be a password out of place.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => is_plain(text).then(|| text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a text is a word, as a message may repeat it.
pub fn is_plain(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: Value) -> Vec<(String, Option<String>)> {
        let fields = body.as_object().unwrap();
        misfits(fields).into_iter().map(|problem| (problem.field.into_owned(), problem.value)).collect()
    }

    #[test]
    fn every_field_has_its_hint() {
        for (field, _) in FIELDS {
            let misfit = found(json!({ "url": "rtsp://h/", field: [[]] }));
            assert_eq!(misfit, [(field.to_owned(), None)]);
        }
        for (field, _) in NVR_FIELDS {
            let fields = json!({ "url": "http://h/", field: [[]] });
            let misfit = nvr_misfits(fields.as_object().unwrap());
            assert_eq!(misfit.iter().map(|problem| problem.field.as_ref()).collect::<Vec<_>>(), [field]);
        }
        assert_eq!(
            found(json!({ "url": "rtsp://h/", "user": null, "password": null, "sampling": { "fps": 2.5 } })),
            []
        );
    }

    #[test]
    fn every_misfit_is_named_and_no_secret_repeated() {
        let word = |text: &str| Some(text.to_owned());
        let body = json!({ "jpeg_quality": 256, "password": 7, "transport": "sctp", "max_width": "p%40:/#w", "fsp": 1, "p%40:/#w": 1 });
        let expected = [
            ("url", None),
            ("fsp", None),
            ("jpeg_quality", word("256")),
            ("max_width", None),
            ("(a field)", None),
            ("password", None),
            ("transport", word("sctp")),
        ];
        assert_eq!(found(body), expected.map(|(field, value)| (field.to_owned(), value)));
    }
}
