//! What earlier exports have stored, as the bucket's list tells it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::attempt::Context;
use super::make::{extension, others, url};
use super::plan::{Group, Item};
use super::{Export, Fate, Form, Reason, Transport};
use crate::delivery::Backoff;
use crate::nvr::SegmentKind;
use crate::storage::{self, Bucket, BucketError, Persistence};

/// How long a page of a bucket's list may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// The first wait before it is asked for again.
const RETRY_MIN: Duration = Duration::from_millis(500);

/// Which of these keys have objects, and of what size. One listing tells of all of them: a look at each would be read
/// from its begin to its end where the bucket is a directory.
pub(super) async fn of(
    export: &Export,
    bucket: &dyn Bucket,
    keys: HashSet<String>,
) -> Result<HashMap<String, u64>, BucketError> {
    let mut present = HashMap::new();
    let Some(last) = keys.iter().max().cloned() else { return Ok(present) };
    let (prefix, mut after) = (common(&keys).to_owned(), None);
    let how = how(export);
    loop {
        let page = storage::page(bucket, &prefix, after.as_ref(), how).await?;
        let beyond = page.objects.last().is_some_and(|object| object.key > last);
        for object in page.objects {
            if keys.contains(&object.key) {
                present.insert(object.key, object.bytes);
            }
        }
        after = page.next;
        if beyond || after.is_none() {
            return Ok(present);
        }
    }
}

/// How a bucket is asked for its list.
pub(super) fn how(export: &Export) -> Persistence {
    let backoff = Backoff { min: RETRY_MIN, max: export.retry_max };
    Persistence { deadline: DEADLINE, backoff, patience: export.patience }
}

/// All keys that a group's object may have.
pub(super) fn keys(export: &Export, group: &Group, items: &[Item]) -> Vec<String> {
    let others = group.items.iter().flat_map(|place| others(export, &items[*place].stem));
    others.chain([key(export, group, items)]).collect()
}

/// The key that is meant for it.
fn key(export: &Export, group: &Group, items: &[Item]) -> String {
    let photo = items[group.items[0]].segment.kind == SegmentKind::Photo;
    format!("{}{}", group.stem, extension(&export.form, photo))
}

/// What has become of each recording of a group by what is there; nothing of those that are to be fetched.
pub(super) fn fates(
    context: &Context,
    group: &Group,
    items: &[Item],
    present: &HashMap<String, u64>,
) -> Vec<Option<Fate>> {
    let Context { export, bucket, .. } = context;
    let Export { form, any_size, transport, .. } = export;
    let there = |key: String, bytes| Fate::There { url: url(&**bucket, &key), key, bytes };
    let conflict = |error| Fate::Failed { reason: Reason::Conflict, error };
    if let Some(bytes) = present.get(&key(export, group, items)).copied() {
        let key = key(export, group, items);
        let fate = |place: &usize| {
            let size = items[*place].segment.size.filter(|_| !any_size && *transport != Transport::Rtsp);
            Some(match (form, size) {
                (Form::Original, Some(size)) if size != bytes => conflict(format!(
                    "{} is there with {bytes} bytes, and the recorder lists {size}: take it away, or export to another place",
                    url(&**bucket, &key)
                )),
                (Form::Packed { .. } | Form::Joined { .. }, Some(size)) if size == bytes && group.items.len() == 1 => {
                    conflict(format!(
                        "{} looks like the original: export other forms to another place",
                        url(&**bucket, &key)
                    ))
                }
                _ => there(key.clone(), bytes),
            })
        };
        return group.items.iter().map(fate).collect();
    }
    let kept = |place: &usize| {
        let mut keys = others(export, &items[*place].stem).into_iter();
        keys.find_map(|key| present.get(&key).copied().map(|bytes| there(key, bytes)))
    };
    let kept: Vec<_> = group.items.iter().map(kept).collect();
    // Of those that are to be joined all are needed, or none.
    match kept.iter().all(Option::is_some) {
        true => kept,
        false => vec![None; group.items.len()],
    }
}

/// What all of them begin with.
fn common(keys: &HashSet<String>) -> &str {
    let mut keys = keys.iter();
    let Some(first) = keys.next() else { return "" };
    let mut end = first.len();
    for key in keys {
        end = first.bytes().zip(key.bytes()).take(end).take_while(|(a, b)| a == b).count();
    }
    while !first.is_char_boundary(end) {
        end -= 1;
    }
    &first[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_keys_begin_with_is_asked_for() {
        let of = |keys: &[&str]| common(&keys.iter().map(|key| (*key).to_owned()).collect()).to_owned();
        assert_eq!(of(&["2026/11/a", "2026/12/b"]), "2026/1");
        assert_eq!(of(&["2026"]), "2026");
        assert_eq!(of(&["a", "b"]), "");
        assert_eq!(of(&["ü1", "û2"]), "");
        assert_eq!(of(&[]), "");
    }
}
