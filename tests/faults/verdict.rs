//! What must hold after a crash, whatever was cut short.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, ensure};
use framehaul::model::Seq;

use crate::child::{PASSWORDS, Player, Role, cameras, command};
use crate::engine::{FRAME, SEGMENT};

/// Frames that were on disk and may be given up for want of room without a word, because the program died before it
/// could say so: those that are dropped at a time, for a quarter of a segment.
const DROP_BATCH: u64 = (SEGMENT / 4).div_ceil(FRAME as u64);

/// What a program has said that it did, before it died.
#[derive(Debug, Default)]
pub struct Promises {
    /// The password that was put last.
    password: Option<usize>,
    durable: BTreeMap<String, BTreeSet<Seq>>,
    settled: BTreeMap<String, BTreeMap<Seq, String>>,
}

impl Promises {
    pub fn of(said: &[String]) -> anyhow::Result<Self> {
        let mut promises = Self::default();
        promises.add(said)?;
        Ok(promises)
    }

    /// Takes in what another program has said after it.
    fn add(&mut self, said: &[String]) -> anyhow::Result<()> {
        let promises = self;
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["guarded", _, password] = words[..] {
                promises.password = PASSWORDS.iter().position(|known| *known == password);
            }
            let (["durable" | "settled", camera, first, last], how) = words.split_at(words.len().min(4)) else {
                continue;
            };
            for seq in first.parse()?..=last.parse()? {
                match how {
                    [] => drop(promises.durable.entry((*camera).to_owned()).or_default().insert(seq)),
                    [word, ..] => {
                        promises.settled.entry((*camera).to_owned()).or_default().insert(seq, (*word).to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    pub fn durable(&self) -> usize {
        self.durable.values().map(BTreeSet::len).sum()
    }
}

/// A camera as a start has found it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Account {
    captured: u64,
    stored: u64,
    lost: u64,
    in_flight: u64,
    unresolved: Vec<Seq>,
}

/// What one start has found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    accounts: BTreeMap<String, Account>,
    /// Of the cameras in the catalog; an empty one where there is none.
    passwords: BTreeMap<String, String>,
    /// Everything it said.
    said: Vec<String>,
    /// How long it took, milliseconds.
    pub took: u64,
    /// Damaged records that it has met.
    pub damaged: u64,
    pub unreadable: Vec<String>,
}

/// Starts the program in a role and takes down what it finds.
pub fn start(role: Role, dir: &Path) -> anyhow::Result<Found> {
    let (status, said) = Player::start(command(role, dir))?.end()?;
    ensure!(status.success(), "the start as {role:?} ends with {status}: {said:#?}");
    let mut found = Found {
        accounts: BTreeMap::new(),
        passwords: BTreeMap::new(),
        said: Vec::new(),
        took: 0,
        damaged: 0,
        unreadable: Vec::new(),
    };
    for line in &said {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["started", took, damaged] => (found.took, found.damaged) = (took.parse()?, damaged.parse()?),
            ["password", camera, password] => {
                found.passwords.insert(camera.to_owned(), password.to_owned());
            }
            ["unreadable", ..] => found.unreadable.push(line.clone()),
            ["account", camera, captured, stored, lost, in_flight, seqs] => {
                let seqs = seqs.split(',').filter(|seq| !seq.is_empty()).map(str::parse);
                let account = Account {
                    captured: captured.parse()?,
                    stored: stored.parse()?,
                    lost: lost.parse()?,
                    in_flight: in_flight.parse()?,
                    unresolved: seqs.collect::<Result<_, _>>()?,
                };
                found.accounts.insert(camera.to_owned(), account);
            }
            _ => {}
        }
    }
    ensure!(said.iter().any(|line| line == "done"), "the start as {role:?} did not come to its end: {said:#?}");
    found.said = said;
    Ok(found)
}

/// Rows of the journal's list, whatever the watermark: who, from, to, how.
fn rows(dir: &Path) -> anyhow::Result<Vec<(String, Seq, Seq, String)>> {
    let database = rusqlite::Connection::open(dir.join("state/journal.sqlite"))?;
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(sound == "ok", "the journal is damaged: {sound}");
    let mut statement = database.prepare(
        "SELECT camera.id, seq, last, coalesce(frame.lost, 'stored') FROM frame JOIN camera ON camera.num = frame.camera
         ORDER BY camera.id, seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)? as Seq, row.get::<_, i64>(2)? as Seq, row.get(3)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Starts three times over what a crash has left, and judges each. What was said to be durable and has no outcome is
/// unresolved and whole; what was said to be settled is listed so; every seq has exactly one place; nothing changes
/// between starts that have nothing to do, and the last one takes new frames. A camera has the password that was put
/// last.
///
/// # Errors
///
/// The first promise that is broken.
pub fn judge(dir: &Path, mut promises: Promises) -> anyhow::Result<Found> {
    let mut before: Option<Found> = None;
    for role in [Role::Look, Role::Look, Role::Resume] {
        let found = start(role, dir)?;
        ensure!(found.unreadable.is_empty(), "frames cannot be read: {:?}", found.unreadable);
        if role != Role::Resume {
            accounts(&found, &rows(dir)?, &promises)?;
        }
        passwords(&found, &promises)?;
        if let Some(before) = &before {
            ensure!(before.accounts == found.accounts, "another start finds {found:?} in place of {before:?}");
        }
        before = Some(found);
    }
    let found = before.context("there were three")?;
    // The last one has taken and stored a frame of each camera, and ended in order.
    promises.add(&found.said)?;
    let next = start(Role::Look, dir)?;
    accounts(&next, &rows(dir)?, &promises)?;
    for (camera, account) in &found.accounts {
        let after = &next.accounts[camera];
        ensure!(
            (after.captured, after.stored) == (account.captured + 1, account.stored + 1),
            "{camera}: one more frame was stored, and after {account:?} there is {after:?}"
        );
    }
    Ok(found)
}

fn passwords(found: &Found, promises: &Promises) -> anyhow::Result<()> {
    let [_, guarded] = cameras();
    let Some(password) = found.passwords.get(guarded.as_str()) else {
        ensure!(promises.password.is_none(), "{guarded} was put, and the catalog does not have it");
        return Ok(());
    };
    let known = PASSWORDS.iter().position(|known| known == password);
    // One that was put when the program died may have come, and the promise of it not.
    ensure!(known.is_some() && known >= promises.password, "{guarded} has another password than the one put last");
    Ok(())
}

fn accounts(found: &Found, rows: &[(String, Seq, Seq, String)], promises: &Promises) -> anyhow::Result<()> {
    let mut untold = Vec::new();
    for (camera, account) in &found.accounts {
        let Account { captured, stored, lost, in_flight, unresolved } = account;
        ensure!(*captured == stored + lost + in_flight, "{camera}: captured is not the sum: {account:?}");
        ensure!(unresolved.len() as u64 == *in_flight, "{camera}: not as many in flight as in the spool: {account:?}");
        ensure!(unresolved.is_sorted_by(|a, b| a < b), "{camera}: out of order: {unresolved:?}");
        let mut places: BTreeMap<Seq, &str> = BTreeMap::new();
        for (_, first, last, how) in rows.iter().filter(|(id, ..)| id == camera) {
            for seq in *first..=*last {
                ensure!(places.insert(seq, how).is_none(), "{camera} {seq} has two outcomes");
            }
        }
        let listed = |stored: bool| places.values().filter(|how| (**how == "stored") == stored).count() as u64;
        ensure!((listed(true), listed(false)) == (*stored, *lost), "{camera}: the list does not agree: {account:?}");
        for seq in unresolved {
            ensure!(places.insert(*seq, "unresolved").is_none(), "{camera} {seq} has an outcome and is unresolved");
        }
        ensure!(
            places.keys().copied().eq(1..=*captured),
            "{camera}: the seqs that have a place are {:?}, {account:?}",
            places.keys()
        );
        for (seq, word) in promises.settled.get(camera).into_iter().flatten() {
            ensure!(places.get(seq) == Some(&word.as_str()), "{camera} {seq} was {word}, is {:?}", places.get(seq));
        }
        let said = |seq| promises.settled.get(camera).is_some_and(|settled| settled.contains_key(seq));
        for seq in promises.durable.get(camera).into_iter().flatten() {
            let place = places.get(seq).copied().with_context(|| format!("{camera} {seq} was durable and is gone"))?;
            ensure!(matches!(place, "unresolved" | "stored" | "spool_full"), "{camera} {seq} was durable, is {place}");
            if place == "spool_full" && !said(seq) {
                untold.push(format!("{camera} {seq}"));
            }
        }
    }
    ensure!(
        untold.len() as u64 <= DROP_BATCH,
        "these were durable, are spool_full, and nobody has said so: {untold:?}"
    );
    let known = |camera: &String| found.accounts.contains_key(camera);
    ensure!(promises.durable.keys().all(known), "a camera is forgotten: {:?}", found.accounts);
    Ok(())
}

#[test]
fn frames_given_up_without_a_word_are_seen() {
    let account =
        |lost| Account { captured: 3, stored: 0, lost, in_flight: 3 - lost, unresolved: (lost + 1..=3).collect() };
    let verdict = |lost: u64, said: &[&str]| {
        let found = Found {
            accounts: BTreeMap::from([("gate-1".to_owned(), account(lost))]),
            passwords: BTreeMap::new(),
            said: Vec::new(),
            took: 0,
            damaged: 0,
            unreadable: Vec::new(),
        };
        let said: Vec<String> = said.iter().map(|line| (*line).to_owned()).collect();
        let rows = [("gate-1".to_owned(), 1, lost, "spool_full".to_owned())];
        accounts(&found, &rows, &Promises::of(&said).unwrap())
    };
    assert_eq!(DROP_BATCH, 2);
    verdict(2, &["durable gate-1 1 3"]).unwrap();
    assert!(verdict(3, &["durable gate-1 1 3"]).is_err());
    verdict(3, &["durable gate-1 1 3", "settled gate-1 1 1 spool_full"]).unwrap();
    assert!(verdict(3, &["durable gate-1 1 3", "settled gate-1 1 1 stored"]).is_err());
}
