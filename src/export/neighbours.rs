//! Other recorders whose recordings lie at the same place.
//!
//! Recorders of one make give their tracks the same ids, and what was recorded at the same second on two of them has the
//! same name, unless the name tells the recorder. A recording of the one then stands where one of the other would, and
//! where both have the same size nothing tells them apart. The lists that each export leaves behind say who was here.

use super::{Export, manifest, present};
use crate::storage::{self, After, Bucket, BucketError, Persistence};

/// Recorders that are told, at most, and so questions to the bucket.
const MOST: usize = 8;

/// The recorders, as their lists name them, that were exported to where this one is, under names that may be the same.
pub(super) async fn of(export: &Export, bucket: &dyn Bucket) -> Result<Vec<String>, BucketError> {
    let mut others = Vec::new();
    if export.names.tell_the_recorder() {
        return Ok(others);
    }
    let (ours, how, mut after) = (manifest::directory(&export.server()), present::how(export), None);
    let how = Persistence { patience: how.patience.min(how.deadline), ..how };
    for _ in 0..MOST {
        let page = storage::page(bucket, manifest::PLACE, after.as_ref(), how).await?;
        let first = page.objects.first().and_then(|object| object.key.strip_prefix(manifest::PLACE));
        let Some((server, _)) = first.and_then(|key| key.split_once('/')) else { break };
        if server != ours {
            others.push(server.to_owned());
        }
        // Behind all lists of this one: the character that follows `/`.
        after = Some(After::Key(format!("{}{server}0", manifest::PLACE)));
    }
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Told, export};
    use super::super::{Layout, Names, Template};
    use super::*;

    #[tokio::test]
    async fn recorders_that_share_a_place_and_its_names_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = Told::new(&dir);
        let mut export = export(&dir);
        let found = async |export: &Export| of(export, &bucket).await.unwrap();
        assert_eq!(found(&export).await, [] as [&str; 0]);
        for server in ["nvr", "nvr-2", "nvr0", "10.0.0.5_8080"] {
            for run in ["a", "b"] {
                let key = format!("_export/{server}/20261119T010203Z-{run}.ndjson");
                bucket.create(&key, "".into(), 0, storage::ContentType::Ndjson).await.unwrap();
            }
        }
        assert_eq!(found(&export).await, ["10.0.0.5_8080", "nvr-2", "nvr0"]);
        export.names = Names::Layout { layout: Layout::Day, prefix: String::new() };
        assert_eq!(found(&export).await.len(), 3);
        export.names = Names::Template(Template::parse("{server}/{start}-{track}").unwrap());
        assert_eq!(found(&export).await, [] as [&str; 0]);
    }
}
