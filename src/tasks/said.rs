//! How leases were ended by their holders, so that a word that is said twice is heard twice.

use std::collections::BTreeMap;

use crate::model::{LastWord, LeaseNo, WORDS_REMEMBERED};

/// The last words of the newest leases.
#[derive(Debug, Default)]
pub(super) struct Said(BTreeMap<LeaseNo, (String, LastWord)>);

impl Said {
    /// Remembers how a lease was ended.
    pub(super) fn remember(&mut self, number: LeaseNo, id: String, word: LastWord) {
        self.0.insert(number, (id, word));
        if self.0.len() as u64 > WORDS_REMEMBERED {
            self.0.pop_first();
        }
    }

    /// Whether this lease was ended with this word.
    pub(super) fn is(&self, number: LeaseNo, id: &str, word: LastWord) -> bool {
        self.0.get(&number).is_some_and(|(known, said)| known == id && *said == word)
    }
}
