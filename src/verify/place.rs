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

    /// Where a frame's object lies, which is decided here alone: what counts is what stood before its key when it was
    /// stored, if that was written down, and not where its destination's name leads by now.
    pub fn of_frame(&self, stored: &Stored, base_url: Option<&str>) -> Option<usize> {
        match base_url {
            Some(base_url) => self.0.iter().position(|place| place.bucket.base_url() == base_url),
            None => self.of(stored.destination.as_str()),
        }
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
