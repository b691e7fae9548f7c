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
        let mut places = Vec::new();
        for (name, destination) in &settings.destinations {
            places.push(Place { name: name.to_string(), bucket: storage::look(destination).await? });
        }
        Ok(Self(places))
    }

    #[cfg(test)]
    pub fn these(places: impl IntoIterator<Item = (&'static str, Arc<dyn Bucket>)>) -> Self {
        Self(places.into_iter().map(|(name, bucket)| Place { name: name.to_owned(), bucket }).collect())
    }

    /// Where a frame's object lies, which is decided here alone: what counts is what stood before its key when it was
    /// stored, if that was written down, and not where its destination's name leads by now.
    pub fn of_frame(&self, stored: &Stored, base_url: Option<&str>) -> Option<usize> {
        self.of(stored.destination.as_str(), base_url)
    }

    /// The same of anything that was put to the destination of this name. The name goes before others that lead to the
    /// same URL: buckets at two endpoints may have one name.
    pub fn of(&self, destination: &str, base_url: Option<&str>) -> Option<usize> {
        let named = |place: &Place| place.name == destination;
        let Some(base_url) = base_url else { return self.0.iter().position(named) };
        let there = |place: &Place| place.bucket.base_url() == base_url;
        let both = self.0.iter().position(|place| named(place) && there(place));
        both.or_else(|| self.0.iter().position(there))
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
