//! A download or a playback that goes on: what the limit counts.

use std::sync::Arc;

use super::service::App;

/// One of the sessions that a recorder has. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Session {
    app: Arc<App>,
    /// The recording, by its place in the library, when all of it is to be sent.
    whole: Option<usize>,
}

impl Session {
    /// Begins a session, or refuses to. `whole` is the recording that will have been fetched when it ends in order.
    pub(super) fn begin(app: &Arc<App>, whole: Option<usize>) -> Option<Session> {
        let mut state = app.state();
        let limit = state.knobs.sessions.unwrap_or(u32::MAX);
        let downloads = &mut state.stats.downloads;
        if downloads.sessions >= limit {
            downloads.refused_busy += 1;
            return None;
        }
        downloads.sessions += 1;
        downloads.most_sessions = downloads.most_sessions.max(downloads.sessions);
        Some(Session { app: app.clone(), whole })
    }

    /// So many more bytes have left.
    pub(super) fn sent(&self, bytes: u64) {
        self.app.state().stats.downloads.bytes += bytes;
    }

    /// The last byte has left.
    pub(super) fn ended(&mut self) {
        let Some(recording) = self.whole.take() else { return };
        let mut state = self.app.state();
        let fetched = state.fetched.entry(recording).or_default();
        *fetched += 1;
        let again = *fetched > 1;
        state.stats.downloads.complete += 1;
        state.stats.downloads.again += u64::from(again);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.app.state().stats.downloads.sessions -= 1;
    }
}
