//! One camera's order: moves its watermark over the contiguous prefix of what is resolved.
//!
//! It belongs to the camera id, not to one generation of its CameraActor. The journal tells it of every commit; after a
//! panic it is built anew and asks the journal for what it missed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix::prelude::*;
use tracing::error;

use super::Supervisor;
use super::messages::{Panic, Resolved, SequencerExited};
use crate::delivery::Reorder;
use crate::journal::{Journal, Ledger, Reader};
use crate::model::{CameraId, Seq, SeqRange, Settled};

/// How far the watermark moves before the journal is told: a recovery looks at no more seqs than these for nothing.
const LEAVE_WORD_EVERY: Seq = 1_000;

/// When a journal that could not be read is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where the journal finds each camera's SequencerActor. Cloning is cheap; all clones are one.
#[derive(Clone, Default)]
pub struct Sequencers(Arc<RwLock<HashMap<CameraId, Addr<SequencerActor>>>>);

impl Sequencers {
    /// Tells a camera's SequencerActor of a commit. While there is none nothing is lost: the next one asks the journal.
    pub fn tell(&self, settled: &Settled) {
        if let Some(addr) = self.find(&settled.camera) {
            addr.do_send(Resolved(settled.seqs));
        }
    }

    pub(super) fn find(&self, camera: &CameraId) -> Option<Addr<SequencerActor>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(camera).cloned()
    }

    fn register(&self, camera: CameraId, addr: Addr<SequencerActor>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(camera, addr);
    }
}

/// Keeps one camera's watermark.
pub struct SequencerActor {
    ledger: Arc<Ledger>,
    reader: Reader,
    journal: Journal,
    sequencers: Sequencers,
    reorder: Reorder,
    word_left_at: Seq,
    _guard: ExitGuard,
}

struct ExitGuard {
    supervisor: Addr<Supervisor>,
    camera: CameraId,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.supervisor.do_send(SequencerExited { camera: self.camera.clone() });
    }
}

impl SequencerActor {
    /// A sequencer that goes on from the ledger's watermark.
    pub fn new(
        ledger: Arc<Ledger>,
        reader: Reader,
        journal: Journal,
        sequencers: Sequencers,
        supervisor: Addr<Supervisor>,
    ) -> Self {
        let watermark = ledger.watermark();
        let guard = ExitGuard { supervisor, camera: ledger.camera().clone() };
        let reorder = Reorder::new(watermark);
        Self { ledger, reader, journal, sequencers, reorder, word_left_at: watermark, _guard: guard }
    }

    /// Asks the journal what was committed while there was no sequencer, until it answers.
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let (reader, camera, watermark) = (self.reader.clone(), self.ledger.camera().clone(), self.reorder.watermark());
        let missed = tokio::task::spawn_blocking(move || reader.resolved_above(&camera, watermark));
        let caught_up = missed.into_actor(self).map(|missed, actor, ctx| match missed {
            Ok(Ok(ranges)) => actor.resolve(ranges),
            failed => {
                let error = failed.map_or_else(
                    |error| error.to_string(),
                    |read| read.err().map_or_else(String::new, |e| e.to_string()),
                );
                error!(camera = %actor.ledger.camera(), error, "the order cannot be rebuilt yet; asking again");
                ctx.run_later(ASK_AGAIN, Self::catch_up_again);
            }
        });
        ctx.spawn(caught_up);
    }

    fn catch_up_again(&mut self, ctx: &mut Context<Self>) {
        self.catch_up(ctx);
    }

    fn resolve(&mut self, ranges: impl IntoIterator<Item = SeqRange>) {
        for range in ranges {
            self.reorder.resolve(range);
        }
        let watermark = self.reorder.watermark();
        self.ledger.advance_watermark(watermark);
        if watermark >= self.word_left_at + LEAVE_WORD_EVERY {
            self.word_left_at = watermark;
            self.journal.watermark(self.ledger.camera().clone(), watermark);
        }
    }
}

impl Actor for SequencerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // First the address, then the question: what is committed in between comes by both ways, which does no harm.
        self.sequencers.register(self.ledger.camera().clone(), ctx.address());
        self.catch_up(ctx);
    }
}

impl Handler<Resolved> for SequencerActor {
    type Result = ();

    fn handle(&mut self, resolved: Resolved, _: &mut Self::Context) {
        self.resolve([resolved.0]);
    }
}

impl Handler<Panic> for SequencerActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("injected into the sequencer of {}", self.ledger.camera());
    }
}
