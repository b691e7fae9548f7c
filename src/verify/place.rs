//! The buckets that are looked into.

use std::sync::Arc;

use crate::config::Settings;
use crate::model::Stored;
use crate::storage::{self, Bucket, BucketError};

/// The destinations of the configuration, opened to be looked at.
pub(super) struct Places(Vec<Place>);

/// One of them.
pub(super) struct Place {
    /// Its name in the configuration.
    pub name: String,
    /// Its bucket.
    pub bucket: Arc<dyn Bucket>,
}

impl Places {
    /// Opens them all. Call it on the runtime on which they will be asked.
    pub async fn open(settings: &Settings) -> Result<Self, BucketError> {
        let bucket = storage::look(&settings.destination).await?;
        Ok(Self(vec![Place { name: "default".to_owned(), bucket }]))
    }

    /// Where a frame's object lies. The one place where that is decided.
    pub fn of_frame(&self, _stored: &Stored) -> Option<usize> {
        self.of("default")
    }

    /// The same for a frame that a manifest tells of, with the URL that it tells.
    pub fn of_told(&self, url: &str, stored: &Stored) -> Option<usize> {
        self.0.iter().position(|place| url.strip_prefix(place.bucket.base_url()) == Some(&stored.key))
    }

    /// Where what was put to the destination of this name lies; `None` where there is none of it any more.
    pub fn of(&self, destination: &str) -> Option<usize> {
        self.0.iter().position(|place| place.name == destination)
    }

    /// The place of this number.
    pub fn get(&self, place: usize) -> &Place {
        &self.0[place]
    }

    /// Their numbers.
    pub fn all(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }
}
