//! An ordered map that is most often of one entry, which takes no memory but its own.
//!
//! Of a hundred thousand recorders most have one user, one password and one task that waits, and a [`BTreeMap`] keeps room
//! for eleven entries from the first one on.

use std::collections::BTreeMap;
use std::mem;

#[derive(Debug, Default)]
pub(super) enum Few<K, V> {
    #[default]
    None,
    One(K, V),
    /// Two at least.
    #[expect(clippy::box_collection, reason = "so that it makes the others no larger")]
    Many(Box<BTreeMap<K, V>>),
}

impl<K: Ord, V> Few<K, V> {
    /// Puts an entry in, in the place of one that has this key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        *self = match mem::take(self) {
            Self::One(one, before) if one != key => Self::Many(Box::new(BTreeMap::from([(one, before), (key, value)]))),
            Self::None | Self::One(..) => Self::One(key, value),
            Self::Many(mut map) => {
                map.insert(key, value);
                Self::Many(map)
            }
        };
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (rest, removed) = match mem::take(self) {
            Self::One(one, value) if one == *key => (Self::None, Some(value)),
            Self::Many(mut map) => {
                let removed = map.remove(key);
                let rest = match map.len() {
                    1 => map.pop_first().map_or(Self::None, |(one, value)| Self::One(one, value)),
                    _ => Self::Many(map),
                };
                (rest, removed)
            }
            other => (other, None),
        };
        *self = rest;
        removed
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::One(one, value) if one == key => Some(value),
            Self::None | Self::One(..) => None,
            Self::Many(map) => map.get(key),
        }
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::One(one, value) if one == key => Some(value),
            Self::None | Self::One(..) => None,
            Self::Many(map) => map.get_mut(key),
        }
    }

    /// The entry of the least key.
    pub(super) fn first(&self) -> Option<(&K, &V)> {
        match self {
            Self::None => None,
            Self::One(key, value) => Some((key, value)),
            Self::Many(map) => map.first_key_value(),
        }
    }

    /// All entries by their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(key, value) => (Some((key, value)), None),
            Self::Many(map) => (None, Some(&**map)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Few;

    proptest! {
        #[test]
        fn it_is_the_map_that_it_stands_for(steps in prop::collection::vec((any::<bool>(), 0_u8..4, any::<u8>()), 0..64)) {
            let (mut few, mut map) = (Few::default(), BTreeMap::new());
            for (is_put, key, value) in steps {
                if is_put {
                    few.insert(key, value);
                    map.insert(key, value);
                } else {
                    prop_assert_eq!(few.remove(&key), map.remove(&key));
                }
                if let Some(value) = few.get_mut(&key) {
                    *value = value.wrapping_add(1);
                }
                map.entry(key).and_modify(|value| *value = value.wrapping_add(1));
                prop_assert!(few.iter().eq(map.iter()));
                prop_assert_eq!(few.first(), map.first_key_value());
                prop_assert_eq!(few.get(&key), map.get(&key));
                prop_assert_eq!(few.is_empty(), map.is_empty());
                prop_assert_eq!(matches!(few, Few::Many(_)), map.len() > 1);
            }
        }
    }
}
