//! A check over journals and buckets that are made up, where no daemon would make them so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use super::*;
use crate::config;
use crate::journal::StateDir;
use crate::manifest::{self, Header, Line, Manifest};
use crate::model::LostReason;
use crate::storage::{
    After, Bucket, BucketErrorKind, ContentType, Created, Incoming, Listed, Page, StreamError, Streamed,
};

const HERE: &str = "gs://here/";
const DAY: i64 = 24 * 3_600 * 1_000_000;

/// Objects on a page of a list.
const ON_A_PAGE: usize = 3;

/// A bucket that can be told how to fail.
struct Shelf {
    base_url: &'static str,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Bytes>,
    refused: BTreeMap<String, BucketErrorKind>,
    /// Whether lists tell no checksums, so that objects have to be asked for.
    blind: bool,
    /// Whether each page of a list is the first one again.
    repeats: bool,
}

impl Shelf {
    fn at(base_url: &'static str) -> Arc<Self> {
        Arc::new(Self { base_url, inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn put(&self, key: impl Into<String>, content: impl Into<Bytes>) {
        self.inner().objects.insert(key.into(), content.into());
    }

    fn find(&self, key: &str) -> Result<Option<Bytes>, BucketError> {
        let inner = self.inner();
        match inner.refused.get(key) {
            Some(kind) => Err(BucketError {
                kind: *kind,
                maybe_stored: true,
                retry_after: None,
                message: format!("{key} is not for you"),
            }),
            None => Ok(inner.objects.get(key).cloned()),
        }
    }
}

#[async_trait]
impl Bucket for Shelf {
    async fn create(&self, _: &str, _: Bytes, _: u32, _: ContentType) -> Result<Created, BucketError> {
        panic!("a check changes nothing")
    }

    async fn create_stream(&self, _: &str, _: Incoming) -> Result<Streamed, StreamError> {
        panic!("a check changes nothing")
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let found = self.find(key)?;
        Ok(found.map(|content| ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(&content) }))
    }

    async fn get(&self, key: &str, _: u64) -> Result<Option<Bytes>, BucketError> {
        self.find(key)
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let inner = self.inner();
        let behind = match after {
            Some(After::Page { .. }) if inner.repeats => "",
            Some(After::Key(key) | After::Page { token: key, .. }) => key,
            None => "",
        };
        let all = inner.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > behind);
        let mut objects: Vec<_> = all
            .map(|(key, content)| Listed {
                key: key.clone(),
                bytes: content.len() as u64,
                crc32c: (!inner.blind).then(|| crc32c::crc32c(content)),
            })
            .collect();
        let more = objects.len() > ON_A_PAGE || inner.repeats;
        objects.truncate(ON_A_PAGE);
        let token = objects.last().map(|last| last.key.clone()).unwrap_or_default();
        Ok(Page { objects, next: more.then(|| After::Page { token, behind: String::new() }) })
    }

    fn base_url(&self) -> &str {
        self.base_url
    }

    fn label(&self) -> &str {
        "shelf"
    }
}

/// A journal with nobody at work on it, and its buckets.
struct Bench {
    _dir: TempDir,
    sql: Connection,
    journal: Reader,
    origin: Origin,
    settings: Settings,
    places: Vec<(&'static str, Arc<Shelf>)>,
}

impl Bench {
    fn new() -> Self {
        Self::with([("default", Shelf::at(HERE))])
    }

    fn with(places: impl IntoIterator<Item = (&'static str, Arc<Shelf>)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let origin = state.origin().clone();
        drop(state);
        let file = dir.path().join("framehaul.toml");
        std::fs::write(&file, "[storage]\nurl = \"file:///nowhere\"\nkey_template = \"{camera}/{origin}-{seq}.jpg\"\n")
            .unwrap();
        let settings = config::load(Some(&file), Vec::new()).unwrap();
        let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
        let bench = Self {
            sql,
            journal: Reader::of(dir.path()).unwrap(),
            origin,
            settings,
            places: places.into_iter().collect(),
            _dir: dir,
        };
        for (nth, (name, shelf)) in bench.places.iter().enumerate() {
            bench.destination(nth as i64 + 1, name, shelf.base_url);
        }
        bench
    }

    fn destination(&self, num: i64, name: &str, url: &str) {
        self.sql.execute("INSERT INTO destination VALUES (?1, ?2, ?3)", params![num, name, url]).unwrap();
    }

    fn shelf(&self, nth: usize) -> &Shelf {
        &self.places[nth].1
    }

    /// A camera of which all up to `last` is in the list.
    fn camera(&self, id: &str, last: i64) {
        self.sql
            .execute("INSERT INTO camera (id, watermark, reserved_until) VALUES (?1, ?2, ?2 + 1)", params![id, last])
            .unwrap();
    }

    fn session(&self, camera: &str, session: i64, first_seq: i64, opened: i64) {
        self.sql
            .execute(
                "INSERT INTO session (camera, session, first_seq, opened, closed)
                 VALUES ((SELECT num FROM camera WHERE id = ?1), ?2, ?3, ?4, ?4 + 1000000)",
                params![camera, session, first_seq, opened],
            )
            .unwrap();
    }

    fn key(&self, camera: &str, seq: Seq) -> String {
        format!("{camera}/{}-{seq:012}.jpg", self.origin.as_str())
    }

    /// A stored frame, with its object in the place of this number.
    fn frame(&self, camera: &str, seq: Seq, place: usize) {
        let (key, content) = (self.key(camera, seq), content(camera, seq));
        self.sql
            .execute(
                "INSERT INTO frame (camera, seq, last, session, key, captured_at, stored_at, bytes, crc32c, width, height,
                     commit_no, destination)
                 VALUES ((SELECT num FROM camera WHERE id = ?1), ?2, ?2, 1, ?3, ?4, ?4, ?5, ?6, 1, 1,
                     (SELECT coalesce(max(commit_no), 0) + 1 FROM frame), ?7)",
                params![
                    camera,
                    seq as i64,
                    key,
                    captured_at(seq).0,
                    content.len() as i64,
                    crc32c::crc32c(&content),
                    place as i64 + 1
                ],
            )
            .unwrap();
        self.shelf(place).put(key, content);
    }

    /// What is in the list up to `last` goes, as retention has it.
    fn prune(&self, camera: &str, last: Seq) {
        prune(&self.sql, camera, last);
    }

    /// A manifest that says that all of its frames are stored in a place.
    fn manifest(&self, camera: &str, seqs: SeqRange, place: usize) -> Vec<u8> {
        let lines = (seqs.first..=seqs.last).map(|seq| {
            let (key, content) = (self.key(camera, seq), content(camera, seq));
            Line::Frame {
                session: Some(1),
                seq,
                captured_at: captured_at(seq),
                stored_at: captured_at(seq),
                destination: self.places[place].0.parse().unwrap(),
                url: format!("{}{key}", self.shelf(place).base_url),
                key,
                bytes: content.len() as u64,
                crc32c: crc32c::crc32c(&content),
                width: 1,
                height: 1,
                damaged: false,
            }
        });
        self.to_bytes(camera, seqs, lines.collect())
    }

    fn to_bytes(&self, camera: &str, seqs: SeqRange, lines: Vec<Line>) -> Vec<u8> {
        let (camera, origin) = (camera.parse().unwrap(), self.origin.clone());
        let (entries, written_at) = (lines.len() as u64, UnixMicros(1));
        Manifest { header: Header { camera, origin, seqs, entries, missing_from: None, written_at }, lines }.to_bytes()
    }

    fn manifest_key(&self, camera: &str, seqs: SeqRange) -> String {
        manifest::key(&camera.parse().unwrap(), &self.origin, seqs)
    }

    /// The same, put and stored.
    fn tell(&self, camera: &str, seqs: SeqRange, place: usize, stored_at: i64) {
        let content = self.manifest(camera, seqs, place);
        self.sql
            .execute(
                "INSERT INTO manifest (camera, first, last, entries, bytes, crc32c, destination, place, stored_at)
                 VALUES ((SELECT num FROM camera WHERE id = ?1), ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8)",
                params![
                    camera,
                    seqs.first as i64,
                    seqs.last as i64,
                    content.len() as i64,
                    crc32c::crc32c(&content),
                    self.places[place].0,
                    place as i64 + 1,
                    stored_at
                ],
            )
            .unwrap();
        self.shelf(place).put(self.manifest_key(camera, seqs), content);
    }

    fn verify(&self, request: &Request) -> Report {
        self.watched(request, &mut |_| ())
    }

    fn all(&self) -> Report {
        self.verify(&Request::default())
    }

    fn watched(&self, request: &Request, watch: &mut dyn FnMut(Progress<'_>)) -> Report {
        let places = Places::these(self.places.iter().map(|(name, shelf)| (*name, shelf.clone() as Arc<dyn Bucket>)));
        let marks = self.journal.marks().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let check = verify_in(places, marks, &self.settings, &self.journal, request, watch);
        runtime.block_on(check).unwrap()
    }
}

fn prune(sql: &Connection, camera: &str, last: Seq) {
    sql.execute(
        "DELETE FROM frame WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND seq <= ?2",
        params![camera, last as i64],
    )
    .unwrap();
    sql.execute("UPDATE camera SET pruned_to = ?2 WHERE id = ?1", params![camera, last as i64]).unwrap();
}

fn captured_at(seq: Seq) -> UnixMicros {
    UnixMicros(100 * DAY + seq as i64 * 1_000)
}

fn content(camera: &str, seq: Seq) -> Bytes {
    format!("{camera} {seq}").into()
}

fn range(first: Seq, last: Seq) -> SeqRange {
    SeqRange { first, last }
}

/// What is wrong, by kind, with how many of it.
fn wrong(report: &Report) -> Vec<(&'static str, u64)> {
    let total = report.total();
    Kind::ALL.into_iter().map(|kind| (kind.as_str(), total.of(kind))).filter(|(_, count)| *count > 0).collect()
}

/// What each finding is about and says.
fn said(report: &Report) -> Vec<String> {
    let mut said = Vec::new();
    let each = report.findings.each::<VerifyError>(100, |finding| {
        said.push(format!("{} {:?} {}", finding.kind.as_str(), finding.key, finding.detail));
        Ok(())
    });
    each.unwrap();
    said
}

#[test]
fn what_is_on_its_way_has_a_seq_that_was_given() {
    let bench = Bench::new();
    bench.camera("gate", 5);
    (1..=5).for_each(|seq| bench.frame("gate", seq, 0));
    bench.sql.execute("UPDATE camera SET reserved_until = 9", []).unwrap();
    bench.shelf(0).put(bench.key("gate", 8), "on its way");
    let report = bench.all();
    assert_eq!((wrong(&report), report.total().in_flight), (vec![], 1));
    for seq in [0, 9, 999_999_999_999, u64::MAX] {
        bench.shelf(0).put(bench.key("gate", seq), "nobody's");
    }
    let report = bench.all();
    assert_eq!((wrong(&report), report.total().in_flight), (vec![("unlisted", 4)], 1), "{:?}", said(&report));
}

#[test]
fn what_the_spool_has_not_told_yet_is_asked_for_again() {
    let bench = Bench::new();
    bench.camera("gate", 5);
    (1..=5).for_each(|seq| bench.frame("gate", seq, 0));
    bench.shelf(0).put(bench.key("gate", 6), "on its way");
    let sql = &bench.sql;
    let mut watch = |progress: Progress<'_>| {
        if (progress.what, progress.done) == ("bucket", 5) {
            sql.execute("UPDATE camera SET reserved_until = 7", []).unwrap();
        }
    };
    let report = bench.watched(&Request::default(), &mut watch);
    assert_eq!((wrong(&report), report.total().in_flight), (vec![], 1));
}

#[test]
fn since_reaches_into_what_retention_has_removed() {
    let bench = Bench::new();
    bench.camera("gate", 40);
    (1..=40).for_each(|seq| bench.frame("gate", seq, 0));
    for (nth, first) in [1, 11, 21, 31].into_iter().enumerate() {
        // One a day, and in a manifest an hour after that.
        bench.tell("gate", range(first, first + 9), 0, captured_at(first).0 + DAY / 24 + nth as i64 * DAY);
    }
    // The session that reaches into what is left began after what is asked for.
    bench.session("gate", 2, 31, captured_at(31).0);
    bench.prune("gate", 30);
    bench.shelf(0).inner().objects.remove(&bench.key("gate", 25));
    let since = |at: i64| bench.verify(&Request { since: Some(UnixMicros(at)), ..Request::default() });
    for at in [100 * DAY, captured_at(12).0] {
        let report = since(at);
        assert_eq!(wrong(&report), [("missing", 1)], "{:?}", said(&report));
        assert_eq!(report.total().untold, 0);
    }
    // All that was told before then is not asked for.
    let report = since(captured_at(31).0 + 3 * DAY);
    assert_eq!((wrong(&report), report.total().frames, report.total().manifests), (vec![], 0, 0));
    // Without manifests nobody can say what there was: that is told.
    bench.sql.execute("DELETE FROM manifest", []).unwrap();
    bench.shelf(0).inner().objects.retain(|key, _| !key.starts_with("_manifest/"));
    let report = since(captured_at(12).0);
    assert_eq!((wrong(&report), report.total().frames, report.total().untold), (vec![], 10, 30));
    // Where a session from before is left, it is known that nothing after it is missing from the list.
    bench.session("gate", 1, 30, captured_at(30).0 - 10);
    let report = since(captured_at(30).0);
    assert_eq!((report.total().frames, report.total().untold), (10, 1));
}

#[test]
fn names_and_manifests_of_others_are_wrong_and_no_more() {
    let bench = Bench::new();
    bench.camera("gate", 20);
    (1..=20).for_each(|seq| bench.frame("gate", seq, 0));
    bench.tell("gate", range(1, 20), 0, 1);
    let name = format!("_manifest/gate/{}/000000000001-18446744073709551615.ndjson", bench.origin.as_str());
    bench.shelf(0).put(name, "anything");
    let report = bench.all();
    assert_eq!(wrong(&report), [("foreign", 1)], "{:?}", said(&report));

    // Valid ones, that tell of more frames than can be counted.
    let last = i64::MAX as Seq;
    for first in 21..24 {
        let lost = Line::Tombstone {
            session: None,
            seqs: range(first, last),
            reason: LostReason::Overrun,
            maybe_stored: false,
        };
        let content = bench.to_bytes("gate", range(first, last), vec![lost]);
        bench.shelf(0).put(bench.manifest_key("gate", range(first, last)), content);
    }
    let report = bench.all();
    assert!(wrong(&report).iter().any(|(kind, count)| *kind == "gap" && *count > last), "{:?}", wrong(&report));
    assert_eq!(report.total().lost, u64::MAX, "as far as it can be counted");
}

#[test]
fn a_manifest_that_nobody_knows_is_not_believed_against_one_that_is_known() {
    let bench = Bench::new();
    bench.camera("gate", 20);
    (1..=20).for_each(|seq| bench.frame("gate", seq, 0));
    bench.tell("gate", range(1, 20), 0, 1);
    bench.prune("gate", 20);
    // Its word on frame 1 would make the object wrong.
    let mut forged = bench.manifest("gate", range(1, 1), 0);
    let text = String::from_utf8(forged.clone()).unwrap().replace("\"bytes\":6", "\"bytes\":7");
    let body = text.rsplit_once("{\"type\":\"end\"").unwrap().0;
    let crc32c = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(crc32c::crc32c(body.as_bytes()).to_be_bytes())
    };
    forged = format!("{body}{{\"type\":\"end\",\"crc32c\":\"{crc32c}\"}}\n").into_bytes();
    assert!(manifest::read(&forged).is_ok());
    bench.shelf(0).put(bench.manifest_key("gate", range(1, 1)), forged);
    let report = bench.all();
    assert_eq!((wrong(&report), report.total().frames), (vec![("manifest", 1)], 20), "{:?}", said(&report));
}

#[test]
fn retention_in_the_middle_of_a_check_makes_nothing_unlisted() {
    // Before z's rows are read, after that, and after its manifests were.
    let moments = [("a", "bucket"), ("z", "journal"), ("z", "manifests")];
    let cases = moments.map(|at| (true, at)).into_iter().chain(moments[..2].iter().map(|at| (false, *at)));
    for (manifests, (camera, what)) in cases {
        let bench = Bench::new();
        for camera in ["a", "z"] {
            bench.camera(camera, 20);
            (1..=20).for_each(|seq| bench.frame(camera, seq, 0));
        }
        // A frame of which the list says that it is lost, and may be there.
        let lose = "UPDATE frame SET lost = 'crash', maybe_stored = 1, key = NULL
                    WHERE camera = (SELECT num FROM camera WHERE id = 'z') AND seq = 20";
        bench.sql.execute(lose, []).unwrap();
        if manifests {
            let lost =
                Line::Tombstone { session: None, seqs: range(20, 20), reason: LostReason::Crash, maybe_stored: true };
            bench.tell("z", range(1, 19), 0, 1);
            let content = bench.to_bytes("z", range(20, 20), vec![lost]);
            let (bytes, crc32c) = (content.len() as i64, crc32c::crc32c(&content));
            bench.shelf(0).put(bench.manifest_key("z", range(20, 20)), content);
            let row = "INSERT INTO manifest VALUES ((SELECT num FROM camera WHERE id = 'z'), 20, 20, 1, ?1, ?2,
                       'default', 1, 1)";
            bench.sql.execute(row, params![bytes, crc32c]).unwrap();
        }
        let (sql, mut done) = (&bench.sql, false);
        let mut watch = |progress: Progress<'_>| {
            let over = progress.of == Some(progress.done);
            if over && progress.camera.as_str() == camera && progress.what == what {
                prune(sql, "z", 20);
                done = true;
            }
        };
        let report = bench.watched(&Request::default(), &mut watch);
        assert!(done);
        assert_eq!(wrong(&report), [], "{manifests} {camera} {what}: {:?}", said(&report));
    }
}

#[test]
fn two_places_of_one_name_are_told_apart() {
    let bench = Bench::with([("default", Shelf::at(HERE)), ("site-b", Shelf::at(HERE))]);
    bench.camera("gate", 3);
    bench.camera("hall", 3);
    for seq in 1..=3 {
        bench.frame("gate", seq, 0);
        bench.frame("hall", seq, 1);
    }
    bench.tell("hall", range(1, 3), 1, 1);
    let report = bench.all();
    assert_eq!((wrong(&report), report.total().frames), (vec![], 6), "{:?}", said(&report));
    bench.prune("hall", 3);
    bench.shelf(1).inner().objects.remove(&bench.key("hall", 2));
    assert_eq!(wrong(&bench.all()), [("missing", 1)]);
}

#[test]
fn a_manifest_is_looked_for_where_it_went() {
    // The bucket of `default` was another one before, which nobody leads to any more.
    let bench = Bench::with([("default", Shelf::at(HERE)), ("nas", Shelf::at("gs://nas/"))]);
    bench.destination(9, "default", "gs://before/");
    bench.camera("gate", 20);
    (1..=20).for_each(|seq| bench.frame("gate", seq, 0));
    bench.tell("gate", range(1, 10), 0, 1);
    bench.tell("gate", range(11, 20), 0, 2);
    let content = bench.manifest("gate", range(11, 20), 0);
    bench.shelf(0).inner().objects.retain(|key, _| !key.starts_with("_manifest/"));
    // The second one went to the other place, as its camera did after its last frame.
    bench.shelf(1).put(bench.manifest_key("gate", range(11, 20)), content);
    bench.sql.execute_batch("UPDATE manifest SET place = 9; UPDATE manifest SET place = 2 WHERE first = 11;").unwrap();
    bench.prune("gate", 10);
    let report = bench.all();
    assert_eq!(wrong(&report), [("not_checked", 1)], "{:?}", said(&report));
    assert!(said(&report)[0].ends_with("it went to gs://before/, where no destination leads any more"));
    // The other one is not there, wherever its first frame is.
    bench.shelf(1).inner().objects.clear();
    assert_eq!(wrong(&bench.all()), [("manifest", 1), ("not_checked", 1)]);
}

#[test]
fn what_a_bucket_refuses_is_no_wrong_manifest() {
    let bench = Bench::new();
    bench.camera("gate", 20);
    (1..=20).for_each(|seq| bench.frame("gate", seq, 0));
    bench.tell("gate", range(1, 20), 0, 1);
    let key = bench.manifest_key("gate", range(1, 20));
    bench.shelf(0).inner().refused.insert(key.clone(), BucketErrorKind::Permanent);
    assert_eq!(wrong(&bench.all()), [("not_checked", 1)]);
    // That it is longer than it was stands in the list.
    bench.shelf(0).put(key, vec![b'x'; 5 << 20]);
    let report = bench.all();
    assert_eq!(wrong(&report), [("manifest", 1)]);
    assert!(said(&report)[0].contains("it was changed: it has 5242880 bytes"), "{:?}", said(&report));
}

#[test]
fn one_object_that_may_not_be_read_hides_no_other() {
    let bench = Bench::new();
    bench.camera("gate", 200);
    (1..=200).for_each(|seq| bench.frame("gate", seq, 0));
    bench.shelf(0).inner().blind = true;
    for seq in 2..=100 {
        bench.shelf(0).inner().refused.insert(bench.key("gate", seq), BucketErrorKind::Auth);
    }
    bench.shelf(0).put(bench.key("gate", 150), "gate 15x");
    let report = bench.all();
    assert_eq!(wrong(&report), [("corrupt", 1), ("not_checked", 99)], "{:?}", said(&report));
}

#[test]
fn a_list_that_repeats_itself_comes_to_an_end() {
    let bench = Bench::new();
    bench.camera("gate", 20);
    (1..=20).for_each(|seq| bench.frame("gate", seq, 0));
    bench.shelf(0).inner().repeats = true;
    let report = bench.all();
    assert!(wrong(&report).iter().all(|(kind, _)| *kind == "not_checked"), "{:?}", said(&report));
    assert!(said(&report).iter().any(|said| said.contains("does not go on from page to page")), "{:?}", said(&report));
}

#[test]
fn bytes_that_the_journal_has_spoilt_are_a_finding_and_no_end() {
    let bench = Bench::new();
    bench.camera("gate", 3);
    (1..=3).for_each(|seq| bench.frame("gate", seq, 0));
    let row = "INSERT INTO manifest_pending (camera, first, last, entries, crc32c, destination, content)
               VALUES (1, 1, 3, 3, 7, 'default', x'00')";
    bench.sql.execute(row, []).unwrap();
    let report = bench.all();
    assert_eq!((wrong(&report), report.total().frames), (vec![("manifest", 1)], 3));
    assert!(said(&report)[0].contains("manifest 1 to 3 is damaged"), "{:?}", said(&report));
}

#[test]
fn keys_of_an_earlier_template_are_ours() {
    let bench = Bench::new();
    bench.camera("gate", 5);
    (1..=5).for_each(|seq| bench.frame("gate", seq, 0));
    bench.sql.execute("UPDATE camera SET reserved_until = 9", []).unwrap();
    let origin = bench.origin.as_str();
    bench.shelf(0).put(format!("gate/old/{origin}-000000000006.jpg"), "on its way");
    bench.shelf(0).put("gate/old/zzzzzzzz-000000000001.jpg", "another daemon's");
    assert_eq!(wrong(&bench.all()), [("foreign", 2)], "nothing says yet that there was such a template");
    let template = "gate/old/{origin}-{seq}.jpg".replace("gate", "{camera}");
    let row = "INSERT INTO meta VALUES ('template ' || ?1, ?1)";
    bench.sql.execute(row, [template]).unwrap();
    let report = bench.all();
    assert_eq!((wrong(&report), report.total().in_flight, report.total().others), (vec![], 1, 1));
}
