//! Recorders, their cameras and their passwords over restarts.

use rusqlite::Connection;
use secrecy::ExposeSecret as _;

use super::{BACK_TO_5, Bench};
use crate::journal::CatalogChange;
use crate::model::{ManagedBy, NvrId, NvrSpec, RawNvrSpec};

fn hall() -> NvrId {
    "hall".parse().unwrap()
}

fn spec(password: &str) -> NvrSpec {
    let json =
        format!(r#"{{"url": "http://10.0.0.5", "user": "admin", "password": "{password}", "channels": [1, 2]}}"#);
    serde_json::from_str::<RawNvrSpec>(&json).unwrap().validate(None).unwrap()
}

/// A recorder with its cameras, as one change.
fn change(password: &str) -> CatalogChange {
    let (id, spec) = (hall(), spec(password));
    let channels = [1, 2].map(|channel| (id.camera(channel), (id.clone(), channel)));
    CatalogChange {
        puts: channels
            .iter()
            .map(|(camera, (_, c))| (camera.clone(), spec.camera(*c, "", 554), ManagedBy::Nvr))
            .collect(),
        channels: channels.to_vec(),
        nvrs: vec![(id, Some(spec))],
        ..CatalogChange::default()
    }
}

fn secrets(bench: &Bench) -> String {
    std::fs::read_to_string(bench.dir.path().join("secrets.json")).unwrap()
}

#[tokio::test]
async fn a_recorder_and_its_cameras_are_there_again_with_the_newest_password() {
    let bench = Bench::new(&["other"]);
    assert_eq!(bench.opened.journal.change_catalog(change("first")).await.unwrap(), [1, 1, 1]);
    assert_eq!(bench.opened.journal.change_catalog(change("second")).await.unwrap(), [2, 2, 2]);
    let bench = bench.reopen();
    let [known] = &bench.opened.nvrs[..] else { panic!("{:?}", bench.opened.nvrs) };
    assert_eq!((&known.id, known.revision), (&hall(), 2));
    assert!(known.spec.as_ref().unwrap().same_as(&spec("second")));
    let cameras = bench.opened.cameras.iter().map(|known| (known.channel.clone(), known.managed_by));
    let cameras: Vec<_> = cameras.filter(|(channel, _)| channel.is_some()).collect();
    assert_eq!(cameras, [1, 2].map(|channel| (Some((hall(), channel)), ManagedBy::Nvr)));
    let camera = bench.opened.cameras.iter().find(|known| known.ledger.camera() == &hall().camera(1)).unwrap();
    let password = camera.spec.as_ref().unwrap().password.as_ref().unwrap();
    assert_eq!(password.expose_secret(), "second");
    assert!(!secrets(&bench).contains("first") && secrets(&bench).contains("nvr/hall@2"));

    // Taken over by a request, a camera is no channel any more.
    let puts = vec![(hall().camera(2), spec("second").camera(2, "", 554), ManagedBy::File)];
    bench.opened.journal.change_catalog(CatalogChange { puts, ..CatalogChange::default() }).await.unwrap();
    let gone =
        CatalogChange { deletes: vec![hall().camera(1)], nvrs: vec![(hall(), None)], ..CatalogChange::default() };
    bench.opened.journal.change_catalog(gone).await.unwrap();
    let bench = bench.reopen();
    assert!(bench.opened.cameras.iter().all(|known| known.channel.is_none()));
    assert!(bench.opened.nvrs[0].spec.is_none() && bench.opened.nvrs[0].revision == 3);
    assert!(!secrets(&bench).contains("nvr/"), "{}", secrets(&bench));
    // The same id again does not come back to a revision that somebody may have read.
    assert_eq!(bench.opened.journal.change_catalog(change("third")).await.unwrap(), [4, 4, 4]);
}

#[tokio::test]
async fn what_cannot_be_used_costs_this_recorder_alone() {
    let bench = Bench::new(&[]);
    bench.opened.journal.change_catalog(change("s3cret")).await.unwrap();
    let dir = bench.close();
    let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    sql.execute("UPDATE nvr SET spec = '{\"url\": \"http://h\", \"user\": \"u\", \"later\": 1}'", []).unwrap();
    drop(sql);
    let bench = Bench::open(dir);
    let known = &bench.opened.nvrs[0];
    assert!(known.spec.is_none() && known.unusable.as_ref().unwrap().contains("later"), "{known:?}");
    assert!(secrets(&bench).contains("nvr/hall@1"), "its password is kept for the version that can use it");
    assert_eq!(bench.opened.cameras.iter().filter(|known| known.spec.is_some()).count(), 2);
}

#[test]
fn a_journal_without_recorders_becomes_one_with_none() {
    let dir = Bench::new(&["a"]).close();
    let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    sql.execute_batch(BACK_TO_5).unwrap();
    drop(sql);
    let bench = Bench::open(dir);
    assert!(bench.opened.nvrs.is_empty() && bench.opened.cameras.len() == 1);
}
