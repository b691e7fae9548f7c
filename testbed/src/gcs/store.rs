//! Buckets and objects: generations, preconditions and lists. Knows no HTTP.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Map, Value};

/// A live object. Its name is the key under which the store holds it, to keep millions of them small.
#[derive(Debug)]
pub(super) struct Object {
    /// Unique in the server, and larger for each later write. Microseconds since 1970, or the next free number.
    pub(super) generation: i64,
    /// When it was stored, in microseconds since 1970.
    pub(super) created_us: i64,
    /// What was stored.
    pub(super) content: Content,
}

/// What an upload brings.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) size: u64,
    pub(super) crc32c: u32,
    /// Only when the client supplied it or the knob asked for it.
    pub(super) md5: Option<[u8; 16]>,
    pub(super) content_type: Box<str>,
    /// Metadata that the server hands back as it came: `metadata`, `cacheControl` and the like.
    pub(super) extra: Option<Box<Map<String, Value>>>,
    pub(super) body: Body,
}

/// Where an object's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// In memory.
    Memory(Bytes),
    /// In the file of this number below the root directory.
    File(u64),
    /// Nowhere: the server was told to discard them.
    Discarded,
}

/// Why the store did not do what was asked.
#[derive(Debug)]
pub(super) enum Refused {
    NoBucket,
    NoObject,
    /// A precondition does not hold against the object that is there, if there is one.
    Precondition(Option<Arc<Object>>),
    /// A read that was wanted only if the object had changed.
    NotModified,
}

/// The conditions under which a call may go ahead. An absent object counts as generation 0, metageneration 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Preconditions {
    pub(super) generation: Option<i64>,
    pub(super) generation_not: Option<i64>,
    pub(super) metageneration: Option<i64>,
    pub(super) metageneration_not: Option<i64>,
}

/// No call here changes metadata in place, so it is in its first version for as long as the object lives.
pub(super) const METAGENERATION: i64 = 1;

impl Preconditions {
    fn matches(&self, current: Option<&Arc<Object>>) -> bool {
        let (generation, metageneration) = versions(current);
        self.generation.is_none_or(|wanted| wanted == generation)
            && self.metageneration.is_none_or(|wanted| wanted == metageneration)
    }

    fn differs(&self, current: Option<&Arc<Object>>) -> bool {
        let (generation, metageneration) = versions(current);
        self.generation_not.is_none_or(|unwanted| unwanted != generation)
            && self.metageneration_not.is_none_or(|unwanted| unwanted != metageneration)
    }

    fn check_write(&self, current: Option<&Arc<Object>>) -> Result<(), Refused> {
        if self.matches(current) && self.differs(current) {
            Ok(())
        } else {
            Err(Refused::Precondition(current.cloned()))
        }
    }
}

fn versions(current: Option<&Arc<Object>>) -> (i64, i64) {
    current.map_or((0, 0), |object| (object.generation, METAGENERATION))
}

type Objects = BTreeMap<Box<str>, Arc<Object>>;

/// All buckets.
#[derive(Debug, Default)]
pub(super) struct Store {
    buckets: BTreeMap<String, Objects>,
    any_bucket: bool,
    last_generation: i64,
}

impl Store {
    /// A store with these buckets and, if `any_bucket`, with every other one that somebody names.
    pub(super) fn new(buckets: &[String], any_bucket: bool) -> Store {
        Store {
            buckets: buckets.iter().map(|name| (name.clone(), Objects::new())).collect(),
            any_bucket,
            last_generation: 0,
        }
    }

    /// Fails unless there is such a bucket.
    pub(super) fn bucket(&mut self, bucket: &str) -> Result<(), Refused> {
        self.objects_mut(bucket).map(drop)
    }

    fn objects_mut(&mut self, bucket: &str) -> Result<&mut Objects, Refused> {
        if self.any_bucket && !self.buckets.contains_key(bucket) {
            self.buckets.insert(bucket.to_owned(), Objects::new());
        }
        self.buckets.get_mut(bucket).ok_or(Refused::NoBucket)
    }

    /// Fails if `put` would, as things are now.
    pub(super) fn may_put(&mut self, bucket: &str, name: &str, when: &Preconditions) -> Result<(), Refused> {
        when.check_write(self.objects_mut(bucket)?.get(name))
    }

    /// Stores an object. The second of the pair is the object that it replaced.
    pub(super) fn put(
        &mut self,
        bucket: &str,
        name: &str,
        content: Content,
        when: &Preconditions,
    ) -> Result<(Arc<Object>, Option<Arc<Object>>), Refused> {
        self.may_put(bucket, name, when)?;
        let created_us =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        self.last_generation = created_us.max(self.last_generation + 1);
        let object = Arc::new(Object { generation: self.last_generation, created_us, content });
        let replaced = self.objects_mut(bucket)?.insert(name.into(), object.clone());
        Ok((object, replaced))
    }

    /// Reads an object, at `generation` if one is given. Only the newest generation of an object is kept.
    pub(super) fn get(
        &mut self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        when: &Preconditions,
    ) -> Result<Arc<Object>, Refused> {
        let object = live(self.objects_mut(bucket)?, name, generation)?;
        if !when.matches(Some(&object)) {
            return Err(Refused::Precondition(Some(object)));
        }
        if !when.differs(Some(&object)) {
            return Err(Refused::NotModified);
        }
        Ok(object)
    }

    /// Deletes an object and returns what it was.
    pub(super) fn delete(
        &mut self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        when: &Preconditions,
    ) -> Result<Arc<Object>, Refused> {
        let objects = self.objects_mut(bucket)?;
        let object = live(objects, name, generation)?;
        when.check_write(Some(&object))?;
        objects.remove(name);
        Ok(object)
    }

    /// A page of a bucket's objects, by name in the order of their bytes.
    pub(super) fn list(&mut self, bucket: &str, query: &ListQuery) -> Result<Page, Refused> {
        Ok(query.page(self.objects_mut(bucket)?))
    }

    /// An object as it is now, without any conditions.
    pub(super) fn find(&self, bucket: &str, name: &str) -> Option<&Arc<Object>> {
        self.buckets.get(bucket)?.get(name)
    }

    /// All objects of a bucket; none if there is no such bucket.
    pub(super) fn all(&self, bucket: &str) -> impl Iterator<Item = (&str, &Arc<Object>)> {
        self.buckets.get(bucket).into_iter().flatten().map(|(name, object)| (&**name, object))
    }
}

fn live(objects: &Objects, name: &str, generation: Option<i64>) -> Result<Arc<Object>, Refused> {
    objects
        .get(name)
        .filter(|object| generation.is_none_or(|wanted| wanted == object.generation))
        .cloned()
        .ok_or(Refused::NoObject)
}

/// Which objects to list.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    pub(super) prefix: String,
    /// Names with this text behind the prefix are listed once, up to and with that text.
    pub(super) delimiter: Option<String>,
    /// Where the last page ended.
    pub(super) after: Option<Mark>,
    /// Entries in a page, at least 1.
    pub(super) max: usize,
}

/// The last entry of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Object(String),
    Prefix(String),
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) items: Vec<(Box<str>, Arc<Object>)>,
    pub(super) prefixes: Vec<String>,
    /// Set when there is more.
    pub(super) next: Option<Mark>,
}

impl ListQuery {
    fn page(&self, objects: &Objects) -> Page {
        let start = match &self.after {
            Some(Mark::Object(last) | Mark::Prefix(last)) if *last >= self.prefix => Bound::Excluded(last.as_str()),
            _ => Bound::Included(self.prefix.as_str()),
        };
        let mut page = Page::default();
        let mut last = self.after.clone();
        for (name, object) in objects.range::<str, _>((start, Bound::Unbounded)) {
            if !name.starts_with(&self.prefix) {
                break;
            }
            // The names below a prefix follow each other, so it is enough to remember the last one.
            if matches!(&last, Some(Mark::Prefix(listed)) if name.starts_with(listed)) {
                continue;
            }
            if page.items.len() + page.prefixes.len() == self.max {
                page.next = last;
                break;
            }
            match self.group(name) {
                Some(group) => {
                    page.prefixes.push(group.to_owned());
                    last = Some(Mark::Prefix(group.to_owned()));
                }
                None => {
                    page.items.push((name.clone(), object.clone()));
                    last = Some(Mark::Object(name.to_string()));
                }
            }
        }
        page
    }

    fn group<'a>(&self, name: &'a str) -> Option<&'a str> {
        let delimiter = self.delimiter.as_deref()?;
        let at = name[self.prefix.len()..].find(delimiter)?;
        Some(&name[..self.prefix.len() + at + delimiter.len()])
    }
}

impl Mark {
    /// The mark as a page token, which means nothing to a client.
    pub(super) fn token(&self) -> String {
        let text = match self {
            Mark::Object(name) => format!("o{name}"),
            Mark::Prefix(prefix) => format!("p{prefix}"),
        };
        BASE64_URL_SAFE_NO_PAD.encode(text)
    }

    /// The mark in a page token, if it is one of ours.
    pub(super) fn from_token(token: &str) -> Option<Mark> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        if let Some(name) = text.strip_prefix('o') {
            Some(Mark::Object(name.to_owned()))
        } else {
            text.strip_prefix('p').map(|prefix| Mark::Prefix(prefix.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn content() -> Content {
        Content { size: 0, crc32c: 0, md5: None, content_type: "text/plain".into(), extra: None, body: Body::Discarded }
    }

    fn put(store: &mut Store, name: &str, when: &Preconditions) -> Result<i64, Refused> {
        store.put("b", name, content(), when).map(|(object, _)| object.generation)
    }

    #[test]
    fn generations_rise_with_every_write() {
        let mut store = Store::new(&["b".into()], false);
        let any = Preconditions::default();
        let generations: Vec<_> = (0..1000).map(|i| put(&mut store, &format!("{}", i % 3), &any).unwrap()).collect();
        assert!(generations.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_write_goes_ahead_only_if_its_conditions_hold() {
        let mut store = Store::new(&["b".into()], false);
        let create = Preconditions { generation: Some(0), ..Preconditions::default() };
        let overwrite = Preconditions { generation_not: Some(0), ..Preconditions::default() };
        assert!(matches!(put(&mut store, "x", &overwrite), Err(Refused::Precondition(None))));
        let first = put(&mut store, "x", &create).unwrap();
        assert!(matches!(
            put(&mut store, "x", &create),
            Err(Refused::Precondition(Some(current))) if current.generation == first
        ));
        let second = put(&mut store, "x", &overwrite).unwrap();
        let exactly = |generation| Preconditions { generation: Some(generation), ..Preconditions::default() };
        assert!(put(&mut store, "x", &exactly(first)).is_err());
        assert!(put(&mut store, "x", &exactly(second)).unwrap() > second);
        assert!(put(&mut store, "never", &exactly(second)).is_err());
    }

    /// Whatever the page size, the pages together are the whole list: each entry once, and in order.
    #[test]
    fn pages_of_any_size_make_the_same_list() {
        let names = ["a", "cam/1/x", "cam/1/y", "cam/10", "cam/2/x", "cam0", "cam/2/y/z", "d", "é/ü", "é"];
        let mut store = Store::new(&["b".into()], false);
        for name in names {
            put(&mut store, name, &Preconditions::default()).unwrap();
        }
        for prefix in ["", "cam", "cam/", "é", "none"] {
            for delimiter in [None, Some("/"), Some("am")] {
                let entry = |name: &str| {
                    let end = delimiter.and_then(|text| Some(name[prefix.len()..].find(text)? + text.len()));
                    end.map_or(name.to_owned(), |end| name[..prefix.len() + end].to_owned())
                };
                let expected: BTreeSet<_> = names.iter().filter(|n| n.starts_with(prefix)).map(|n| entry(n)).collect();
                let expected: Vec<_> = expected.into_iter().collect();
                for max in 1..=names.len() {
                    let mut entries = Vec::new();
                    let mut after = None;
                    // No list has more pages than entries, and one that never ends must fail here, not hang.
                    for _ in 0..=names.len() {
                        let delimiter = delimiter.map(Into::into);
                        let query = ListQuery { prefix: prefix.into(), delimiter, after, max };
                        let page = store.list("b", &query).unwrap();
                        assert!(page.items.len() + page.prefixes.len() <= max);
                        let items = page.items.iter().map(|(name, _)| name.to_string());
                        let mut of_page: Vec<_> = items.chain(page.prefixes.iter().cloned()).collect();
                        of_page.sort();
                        entries.extend(of_page);
                        let Some(next) = page.next else { break };
                        assert_eq!(Mark::from_token(&next.token()).as_ref(), Some(&next));
                        after = Some(next);
                    }
                    assert_eq!(entries, expected, "prefix {prefix}, delimiter {delimiter:?}, {max} per page");
                }
            }
        }
    }
}
