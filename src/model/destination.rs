//! The names of destinations.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::ids::is_id;

/// What stands in the spool's directory beside the directories of the destinations.
const TAKEN: [&str; 3] = ["id", "lock", "quarantine"];

/// The name of a destination: as a camera's id. `default` is the one of `[storage]`.
///
/// It stands in metric labels and URLs, and is the name of a directory in the spool.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationName(Arc<str>);

/// Why a text is no [`DestinationName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "is no name of a destination: use 1 to 63 characters of a-z, 0-9, `_` and `-`, the first a letter or a digit; id, lock \
     and quarantine are taken"
)]
pub struct InvalidDestinationName;

impl DestinationName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is wrong with a name that is none of these.
    pub fn unknown<'a>(known: impl IntoIterator<Item = &'a Self>) -> String {
        let known: Vec<&str> = known.into_iter().map(Self::as_str).collect();
        format!("names no destination of the configuration: there are {}", known.join(", "))
    }
}

impl Default for DestinationName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for DestinationName {
    type Err = InvalidDestinationName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_id(text) && !TAKEN.contains(&text) { Ok(Self(text.into())) } else { Err(InvalidDestinationName) }
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for DestinationName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_a_directory_of_the_spool() {
        for good in ["default", "nas", "s3_2", "0-a"] {
            assert_eq!(good.parse::<DestinationName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "NAS", "-a", "id", "lock", "quarantine", &"x".repeat(64)] {
            assert!(bad.parse::<DestinationName>().is_err(), "{bad:?}");
        }
        assert_eq!(DestinationName::default(), "default".parse().unwrap());
    }
}
