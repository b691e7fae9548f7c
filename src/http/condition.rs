//! `If-Match` and `If-None-Match` (RFC 9110, section 13.1): changes that suppose what is there.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::problem::Problem;
use crate::actors::Precondition;

/// The tags that a request wants to find; none where it does not care. `*` is an empty list.
fn tags(request: &HttpRequest, name: &HeaderName) -> Result<Option<Vec<String>>, Problem> {
    let Some(value) = request.headers().get(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(Some(Vec::new()));
    }
    let tag = |item: &str| {
        let tag = item.trim().strip_prefix('"')?.strip_suffix('"')?;
        (!tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')).then(|| tag.to_owned())
    };
    // A weak tag is never equal to what a change has to find, and we give none.
    let tags: Option<Vec<String>> = text.split(',').filter(|item| !item.trim().starts_with("W/")).map(tag).collect();
    let detail = || format!("`{name}` cannot be read: send the ETag you were given, in its quotes");
    tags.map(Some).ok_or_else(|| Problem::bad_request(detail()))
}

/// What a request supposes of a camera.
pub fn of_camera(request: &HttpRequest) -> Result<Precondition, Problem> {
    match (tags(request, &IF_MATCH)?, tags(request, &IF_NONE_MATCH)?) {
        (None, None) => Ok(Precondition::None),
        (Some(tags), None) if tags.is_empty() && is_any(request, &IF_MATCH) => Ok(Precondition::Present),
        // A tag that is no number is none of ours, so it matches nothing.
        (Some(tags), None) => Ok(Precondition::Revision(tags.iter().filter_map(|tag| tag.parse().ok()).collect())),
        (None, Some(tags)) if tags.is_empty() => Ok(Precondition::Absent),
        _ => Err(Problem::bad_request("use `If-Match` with an ETag, or `If-None-Match: *`, not both and nothing else")),
    }
}

/// What a request supposes of the set of cameras.
pub fn of_set(request: &HttpRequest) -> Result<Option<Vec<String>>, Problem> {
    // There always is a set.
    if request.headers().contains_key(IF_NONE_MATCH) {
        return Err(Problem::bad_request("the set of cameras is always there: use `If-Match` with its ETag"));
    }
    let tags = tags(request, &IF_MATCH)?;
    Ok(tags.filter(|_| !is_any(request, &IF_MATCH)))
}

fn is_any(request: &HttpRequest, name: &HeaderName) -> bool {
    request.headers().get(name).is_some_and(|value| value.as_bytes().trim_ascii() == b"*")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn camera(headers: &[(&'static str, &'static str)]) -> Option<Precondition> {
        let request = headers.iter().fold(TestRequest::default(), |request, header| request.insert_header(*header));
        of_camera(&request.to_http_request()).ok()
    }

    #[test]
    fn what_a_change_supposes_is_read() {
        assert_eq!(camera(&[]), Some(Precondition::None));
        assert_eq!(camera(&[("if-match", "\"7\"")]), Some(Precondition::Revision(vec![7])));
        assert_eq!(camera(&[("if-match", "\"7\", \"8\", W/\"9\"")]), Some(Precondition::Revision(vec![7, 8])));
        assert_eq!(camera(&[("if-match", "\"other\"")]), Some(Precondition::Revision(vec![])));
        assert_eq!(camera(&[("if-match", "W/\"7\"")]), Some(Precondition::Revision(vec![])));
        assert_eq!(camera(&[("if-match", "*")]), Some(Precondition::Present));
        assert_eq!(camera(&[("if-none-match", "*")]), Some(Precondition::Absent));
        for bad in [("if-match", "7"), ("if-match", ""), ("if-none-match", "\"7\"")] {
            assert_eq!(camera(&[bad]), None, "{bad:?}");
        }
        let set = |header| of_set(&TestRequest::default().insert_header(header).to_http_request()).ok();
        assert_eq!(set(("if-match", "*")), Some(None));
        assert_eq!(set(("if-none-match", "*")), None);
    }
}
