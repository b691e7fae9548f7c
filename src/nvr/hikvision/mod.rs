//! Hikvision's recorders and cameras, and the many that are sold under other names: ISAPI over HTTP.
//!
//! From the wire inwards: `client` sends requests and logs in, with `digest` answering challenges and `refusal` reading
//! how recorders say no, in `xml` or otherwise. `words` are the ways to say what one wants. `discovery` asks who is there,
//! `clock` what its times mean, `health` how it is. `search` goes from page to page, which `pager` decides and `page` reads; `download` fetches
//! what was found, with `uri` taking playback URIs apart and `stall` telling slow from stalled.

mod client;
mod clock;
mod digest;
mod discovery;
mod download;
mod health;
mod page;
mod pager;
mod refusal;
mod search;
mod stall;
mod uri;
mod words;
mod xml;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::sync::{OnceCell, Semaphore};

use self::client::Client;
use super::common::Habits;
use super::{
    Abilities, Admission, Channel, Common, Days, Fetch, Health, Identity, Media, Month, Playback, Query, Recorder,
    RecorderError, RecorderErrorKind, RecorderSettings, Segment, Track,
};

/// A recorder that speaks ISAPI.
#[derive(Debug)]
pub(super) struct Hikvision {
    client: Arc<Client>,
    identity: OnceCell<Identity>,
    limits: OnceCell<discovery::Limits>,
    known: OnceCell<(Identity, Abilities)>,
    rtsp_port: OnceCell<u16>,
    searching: Semaphore,
}

impl Hikvision {
    /// A client. Nothing is sent yet.
    pub(super) fn new(settings: RecorderSettings, common: Arc<Common>) -> Result<Self, RecorderError> {
        Ok(Self {
            client: Arc::new(Client::new(settings, common)?),
            identity: OnceCell::new(),
            limits: OnceCell::new(),
            known: OnceCell::new(),
            rtsp_port: OnceCell::new(),
            searching: Semaphore::new(1),
        })
    }

    /// What is known of this model and firmware, once the recorder has said what it is.
    fn habits(&self) -> Habits {
        let known = |of: &Identity| self.client.common().habits(&of.model, &of.firmware);
        self.identity.get().map(known).unwrap_or_default()
    }

    fn learn(&self, change: impl FnOnce(&mut Habits)) {
        if let Some(of) = self.identity.get() {
            self.client.common().learn(&of.model, &of.firmware, change);
        }
    }

    /// Matches on a page that it says it sends, or what is usual.
    fn page_size(&self) -> u32 {
        self.limits.get().map_or(u32::MAX, |limits| limits.page)
    }
}

/// Whether other words may do where these did not.
fn is_about_words(kind: RecorderErrorKind) -> bool {
    matches!(kind, RecorderErrorKind::Dialect | RecorderErrorKind::Unsupported | RecorderErrorKind::Forbidden)
}

#[async_trait]
impl Recorder for Hikvision {
    async fn identify(&self) -> Result<(Identity, Abilities), RecorderError> {
        self.known().await.cloned()
    }

    async fn tracks(&self) -> Result<Vec<Track>, RecorderError> {
        self.list_tracks().await
    }

    async fn channels(&self) -> Result<Vec<Channel>, RecorderError> {
        self.list_channels().await
    }

    async fn rtsp_port(&self) -> Result<u16, RecorderError> {
        self.known_rtsp_port().await
    }

    async fn health(&self) -> Result<Health, RecorderError> {
        self.ask_health().await
    }

    async fn days(&self, track: &str, month: Month) -> Result<Option<Days>, RecorderError> {
        self.list_days(track, month).await
    }

    fn search(&self, query: Query) -> BoxStream<'_, Result<Segment, RecorderError>> {
        search::stream(self, query)
    }

    async fn open(&self, fetch: Fetch<'_>) -> Result<Media, RecorderError> {
        self.download(fetch).await
    }

    async fn playback(&self, fetch: Fetch<'_>) -> Result<Playback, RecorderError> {
        self.locate(fetch).await
    }

    async fn admit(&self) -> Result<Admission<'_>, RecorderError> {
        Admission::of(&self.client.common().lockout, self.client.credentials()).await
    }
}
