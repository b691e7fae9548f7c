//! A directory as an ordered list of keys.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::super::{After, Listed, PAGE, Page};
use super::STAGING;

/// One page of the files below `root`. What is remembered at a time is a page for each directory on the way, however
/// many files there are: a directory's names come in no order, so the least ones are picked out of all of them.
pub(super) fn page(root: &Path, prefix: &str, after: Option<&After>) -> io::Result<Page> {
    let mut walk = Walk { root, prefix, after: After::behind(after), objects: Vec::new() };
    walk.directory("")?;
    let next = walk.objects.get(PAGE).is_some().then(|| After::Key(walk.objects[PAGE - 1].key.clone()));
    walk.objects.truncate(PAGE);
    Ok(Page { objects: walk.objects, next })
}

struct Walk<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    /// One more than a page tells that there is a next one.
    objects: Vec<Listed>,
}

/// Bytes of a file; `None` for a directory.
type Size = Option<u64>;

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.objects.len() > PAGE
    }

    /// Walks a directory, `inside` being its key with a `/`, or nothing for the root.
    fn directory(&mut self, inside: &str) -> io::Result<()> {
        let mut done = String::new();
        loop {
            let (entries, more) = self.entries(inside, &done)?;
            for (name, size) in &entries {
                match size {
                    None => self.directory(name)?,
                    Some(bytes) => self.objects.push(Listed { key: name.clone(), bytes: *bytes, crc32c: None }),
                }
                if self.is_full() {
                    return Ok(());
                }
            }
            match entries.into_iter().next_back() {
                Some((last, _)) if more => done = last,
                _ => return Ok(()),
            }
        }
    }

    /// The least entries of a directory behind `done`, and whether there are more. A directory ends in `/`, which puts
    /// it where its files stand among the keys: `a.jpg` before `a/b.jpg`.
    fn entries(&self, inside: &str, done: &str) -> io::Result<(BTreeMap<String, Size>, bool)> {
        let (mut least, mut more) = (BTreeMap::<String, bool>::new(), false);
        let read = match fs::read_dir(self.root.join(inside)) {
            // Somebody removed it while we were on the way there.
            Err(error) if error.kind() == ErrorKind::NotFound && !inside.is_empty() => {
                return Ok((BTreeMap::new(), false));
            }
            other => other?,
        };
        for entry in read {
            let entry = entry?;
            // What is not UTF-8, or no file, is not ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            let name = match kind.is_dir() {
                true if inside.is_empty() && name == STAGING => continue,
                true => format!("{inside}{name}/"),
                false => format!("{inside}{name}"),
            };
            let wanted = match kind.is_dir() {
                true => self.may_hold(&name),
                false => kind.is_file() && name.starts_with(self.prefix) && *name > *self.after,
            };
            if !wanted || *name <= *done {
                continue;
            }
            if least.len() > PAGE {
                more = true;
                if least.last_key_value().is_some_and(|(last, _)| *last < name) {
                    continue;
                }
                least.pop_last();
            }
            least.insert(name, kind.is_dir());
        }
        let sized = least.into_iter().filter_map(|(name, is_dir)| match is_dir {
            true => Some(Ok((name, None))),
            false => match fs::symlink_metadata(self.root.join(&name)) {
                Ok(metadata) => Some(Ok((name, Some(metadata.len())))),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => Some(Err(error)),
            },
        });
        Ok((sized.collect::<io::Result<_>>()?, more))
    }

    /// Whether a directory may hold what is asked for; its name ends in `/`.
    fn may_hold(&self, name: &str) -> bool {
        let has_prefix = name.starts_with(self.prefix) || self.prefix.starts_with(name);
        has_prefix && (*name > *self.after || self.after.starts_with(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(root: &Path, prefix: &str, after: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut after = Some(After::Key(after.to_owned()));
        while after.is_some() {
            let page = page(root, prefix, after.as_ref()).unwrap();
            assert!(page.objects.len() <= PAGE);
            assert!(page.objects.len() == PAGE || page.next.is_none());
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
        }
        keys
    }

    #[test]
    fn keys_rise_over_directories_of_any_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut written: Vec<String> = (0..2_500).map(|i| format!("a/{}.jpg", i * 7 % 2_500)).collect();
        written.extend(["a.jpg", "a-b/1", "a0", "b/k/d/e", "b-", "b.", "z"].map(str::to_owned));
        for key in &written {
            let path = dir.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        // More empty directories than are looked at in one go must not hide what stands behind them.
        for i in 0..PAGE + 10 {
            fs::create_dir_all(dir.path().join(format!("c/{i:05}"))).unwrap();
        }
        fs::write(dir.path().join("c/x"), "").unwrap();
        written.push("c/x".to_owned());
        fs::create_dir_all(dir.path().join(STAGING).join("origin")).unwrap();
        fs::write(dir.path().join(STAGING).join("origin/0"), "half").unwrap();
        std::os::unix::fs::symlink("z", dir.path().join("link")).unwrap();
        written.sort_unstable();
        assert_eq!(keys(dir.path(), "", ""), written);
        for prefix in ["a", "a/", "a/1", "b/k/d", "b/k/d/e", "c", "nothing", "z"] {
            let with: Vec<_> = written.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
            assert_eq!(keys(dir.path(), prefix, ""), with, "{prefix}");
        }
        for after in ["a/1.jpg", "a/", "a", "a/9999", "b/k/d", "b/k/d/e", "c/", "zz"] {
            let behind: Vec<_> = written.iter().filter(|key| key.as_str() > after).cloned().collect();
            assert_eq!(keys(dir.path(), "", after), behind, "{after}");
        }
    }
}
