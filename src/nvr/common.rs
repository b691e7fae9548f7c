//! What the clients of all recorders have in common.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::LoginNews;
use super::lockout::Lockout;
use crate::model::Refusal;

/// What a process knows of recorders, shared by all that it does with them: who is locked out where, and which words
/// which firmware understands. One for a process.
#[derive(Debug)]
pub struct Common {
    pub(super) lockout: Lockout,
    /// Makes fingerprints of passwords worthless elsewhere.
    pub(super) salt: String,
    habits: Mutex<HashMap<(String, String), Habits>>,
}

/// What a model of one firmware has been found to understand, as places in the lists of what there is to try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Habits {
    /// The words of its searches.
    pub(super) search: usize,
    /// The way of its downloads.
    pub(super) download: usize,
    /// Whether it sends spans of time, and no recordings by their names.
    pub(super) by_time: bool,
}

impl Default for Common {
    fn default() -> Self {
        let salt = format!("{:016x}", fastrand::u64(..));
        Self { lockout: Lockout::default(), salt, habits: Mutex::default() }
    }
}

impl Common {
    /// With what is left of the last run: refused logins, whose fingerprints were made with this salt. `tell` is told of
    /// what is to be left to the next one.
    pub fn remembering(
        salt: impl Into<String>,
        refusals: impl IntoIterator<Item = Refusal>,
        tell: impl Fn(LoginNews) + Send + Sync + 'static,
    ) -> Self {
        Self { lockout: Lockout::new(refusals, tell), salt: salt.into(), habits: Mutex::default() }
    }

    /// What is known of a model with this firmware; the first of everything where nothing is.
    pub(super) fn habits(&self, model: &str, firmware: &str) -> Habits {
        self.lock().get(&(model.to_owned(), firmware.to_owned())).copied().unwrap_or_default()
    }

    /// Remembers what has been found out. Whoever says neither model nor firmware shares with nobody.
    pub(super) fn learn(&self, model: &str, firmware: &str, change: impl FnOnce(&mut Habits)) {
        if !model.is_empty() {
            change(self.lock().entry((model.to_owned(), firmware.to_owned())).or_default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Habits>> {
        self.habits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
