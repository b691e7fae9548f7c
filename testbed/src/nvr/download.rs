//! Downloads: which recording is meant, and what becomes of it on its way.

use std::sync::Arc;

use hyper::{Method as Verb, Response, Version};

use super::dice::Fault;
use super::flow::{End, Flow};
use super::knobs::{Knobs, Length, Method};
use super::library::Library;
use super::media::Media;
use super::refusal::{Refusal, answer};
use super::service::App;
use super::session::Session;
use super::uri::{self, Meant};
use super::xml::Document;

/// What a download asks for.
#[derive(Debug)]
struct Wanted {
    media: Media,
    /// How much of it there is.
    size: u64,
    /// Its place in the library, when it is asked for by name.
    recording: Option<usize>,
    vanished: bool,
}

impl Wanted {
    /// Reads a request's body.
    fn read(body: &[u8], knobs: &Knobs, library: &Library) -> Result<Wanted, Refusal> {
        let document = Document::read(body).map_err(|_| Refusal::BAD_FORMAT)?;
        let bad = Refusal::BAD_CONTENT;
        if document.root.name != "downloadRequest" {
            return Err(bad);
        }
        let uri = document.root.text(&["playbackURI"]).ok_or(bad)?;
        Wanted::of(uri, knobs, library)
    }

    /// What a URI asks for.
    fn of(uri: &str, knobs: &Knobs, library: &Library) -> Result<Wanted, Refusal> {
        match uri::read(uri, knobs, library)? {
            Meant::File(_) if knobs.no_by_file => Err(Refusal::NOT_SUPPORTED),
            Meant::Span(_) if !knobs.by_time => Err(Refusal::NOT_SUPPORTED),
            Meant::File(place) if knobs.is_forbidden(&library.recordings[place].name) => Err(Refusal::FORBIDDEN),
            Meant::File(place) => {
                let file = &library.recordings[place];
                let vanished = knobs.has_vanished(&file.name);
                let size = file.so_far(knobs.now()).1;
                Ok(Wanted { media: file.media.clone(), size, recording: Some(place), vanished })
            }
            Meant::Span(parts) => {
                let parts: Vec<Media> = parts.iter().map(|part| library.cut(part)).collect();
                let media = Media::chain(parts.iter());
                Ok(Wanted { size: media.size(), media, recording: None, vanished: false })
            }
        }
    }
}

impl App {
    /// Begins a download, or says why not.
    pub(super) fn download(self: &Arc<Self>, verb: &Verb, body: &[u8]) -> Result<Response<Flow>, Refusal> {
        let knobs = self.state().knobs.clone();
        let understood = match knobs.download {
            Method::Any => true,
            Method::Get => verb == Verb::GET,
            Method::Post => verb == Verb::POST,
        };
        if !understood {
            return Err(Refusal::METHOD);
        }
        let wanted = Wanted::read(body, &knobs, &self.library)?;
        self.send(wanted, &knobs, "Opaque/data")
    }

    /// Begins to send a picture, or says why not.
    pub(super) fn picture(self: &Arc<Self>, target: &str) -> Result<Response<Flow>, Refusal> {
        let knobs = self.state().knobs.clone();
        let wanted = Wanted::of(&format!("http://{}{target}", self.host), &knobs, &self.library)?;
        match wanted.recording {
            Some(place) if self.library.recordings[place].photo => self.send(wanted, &knobs, "image/jpeg"),
            _ => Err(Refusal::GONE),
        }
    }

    fn send(self: &Arc<Self>, wanted: Wanted, knobs: &Knobs, kind: &'static str) -> Result<Response<Flow>, Refusal> {
        if wanted.vanished {
            self.state().stats.injected.vanished += 1;
            return Err(Refusal::GONE);
        }
        let Wanted { media, size, recording, .. } = wanted;
        let (thrown, at) = self.state().dice.fault(knobs, size);
        let fault =
            thrown.filter(|_| recording.is_none_or(|place| knobs.is_faulty(&self.library.recordings[place].name)));
        if fault == Some(Fault::Xml) {
            Fault::Xml.count(&mut self.state().stats.injected);
            return Err(Refusal::DISGUISED);
        }
        let whole = recording.filter(|_| fault.is_none() && size == media.size());
        let session = Session::begin(self, whole).ok_or(Refusal::busy(knobs.busy_status))?;
        self.state().stats.downloads.begun += 1;
        if let Some(fault) = fault {
            fault.count(&mut self.state().stats.injected);
        }
        let (until, end, length) = match fault {
            Some(Fault::Cut) => (at, End::Cut, size),
            Some(Fault::Stall) => (at, End::Silence, size),
            Some(Fault::Short) => (at, End::InOrder, at),
            Some(Fault::Xml) | None => (size, End::InOrder, size),
        };
        // How long a span is nobody knows beforehand.
        let told = (knobs.length == Length::Told && recording.is_some()).then_some(length);
        let mut answer = answer(200, kind, bytes::Bytes::new());
        if knobs.length == Length::UntilClosed {
            // Where there are no chunks a body of unknown length ends with the connection.
            *answer.version_mut() = Version::HTTP_10;
        }
        *answer.body_mut() = Flow::recording(media, until, told, end, knobs.bytes_per_s, session);
        Ok(answer)
    }
}
