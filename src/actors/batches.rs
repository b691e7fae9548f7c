//! Batches: cameras with a number of frames, made by a request, whose capture ends by itself.
//!
//! All else is a camera's: its order, its spool, its list, its restarts. What is left to capture is the number that is
//! asked for less the seqs that were given, so that a batch goes on where a restart has cut it.

use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::watch;
use tracing::{info, warn};

use super::Supervisor;
use super::control::{Answer, WithoutRoom, answer};
use super::messages::*;
use super::record::Record;
use crate::journal::CatalogChange;
use crate::model::{Batch, BatchEnd, CameraId, Ended, Extent, FieldProblem, ManagedBy, Seq, SourceKind, UnixMicros};

/// Ids that are tried for one batch; two of one millisecond need a second one.
const MOST_IDS: u32 = 1_000;

/// A batch as the Supervisor knows it.
pub(super) struct BatchRecord {
    pub batch: Batch,
    /// Whether nothing more will come of it: its capture is over, and each of its frames has an outcome.
    over: watch::Sender<bool>,
    /// The last seq when it was looked at, and since when it has failed without another.
    progress: (Seq, Instant),
}

impl BatchRecord {
    pub fn new(batch: Batch) -> Self {
        Self { batch, over: watch::Sender::new(false), progress: (0, Instant::now()) }
    }

    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

impl Record {
    /// Whether it is a batch of which nothing more will be captured.
    pub fn has_ended(&self) -> bool {
        self.batch.as_ref().is_some_and(|batch| batch.batch.end.is_some())
    }

    /// Whether observers of cameras shall see it: a batch that is over is no camera any more.
    pub fn is_live(&self) -> bool {
        self.exists() && !self.batch.as_ref().is_some_and(BatchRecord::is_over)
    }

    /// What its next generation is to capture; `None` where there is nothing left.
    pub fn extent(&self) -> Option<Extent> {
        let Some(BatchRecord { batch, .. }) = &self.batch else { return Some(Extent::default()) };
        let untold = self.ledger.untold();
        let had = self.ledger.next_seq() - 1 + untold;
        if had >= batch.frames && untold == 0 {
            return None;
        }
        let recorded = self.spec.as_ref().is_some_and(|spec| spec.url.kind() == SourceKind::File);
        let from = i64::try_from(batch.from.as_micros()).unwrap_or(i64::MAX);
        Some(Extent {
            from_micros: Some(from).filter(|from| *from > 0),
            // A file begins anew, a camera does not.
            skip: if recorded { had } else { 0 },
            frames: Some(batch.frames.saturating_sub(had)),
        })
    }

    /// For how long a batch may go on failing, counted from the last frame or the first try.
    fn patience(&mut self) -> Option<Duration> {
        let newest = self.ledger.next_seq() - 1;
        let batch = self.batch.as_mut()?;
        let now = Instant::now();
        if batch.progress.0 != newest {
            batch.progress = (newest, now);
        }
        Some(batch.batch.give_up_after.saturating_sub(now.duration_since(batch.progress.1)))
    }

    /// Takes note that a batch gets its turn to be tried now.
    pub fn begins_to_try(&mut self) {
        let newest = self.ledger.next_seq() - 1;
        if let Some(batch) = &mut self.batch {
            batch.progress = (newest, Instant::now());
        }
    }
}

impl Supervisor {
    /// Ends a batch whose source has no more for it.
    pub(super) fn batch_captured(&mut self, id: &CameraId, changed: bool, ctx: &mut Context<Self>) {
        let Some(record) = self.cameras.get(id) else { return };
        let Some(batch) = &record.batch else { return };
        let (had, wanted) = (record.ledger.next_seq() - 1, batch.batch.frames);
        let how = if changed { "has pictures of another size or format" } else { "ended" };
        let message = (had < wanted).then(|| format!("the source {how} after {had} of the {wanted} frames"));
        self.end_batch(id, Ended::Captured, message, ctx);
    }

    /// Ends a batch where its source has failed for as long as it may, or will until the next try, or in a way that only a
    /// person can mend. Answers whether it has ended.
    pub(super) fn gives_up(
        &mut self,
        id: &CameraId,
        wait: Duration,
        hopeless: bool,
        message: &str,
        ctx: &mut Context<Self>,
    ) -> bool {
        let Some(patience) = self.cameras.get_mut(id).and_then(Record::patience) else { return false };
        if !hopeless && wait <= patience {
            return false;
        }
        warn!(batch = %id, "given up: {message}");
        self.end_batch(id, Ended::Failed, Some(message.to_owned()), ctx);
        true
    }

    /// Ends a batch that an earlier version has taken and this one cannot use: nobody can put it anew.
    pub(super) fn end_unusable(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        let Some(record) = self.cameras.get(id).filter(|record| record.unusable && !record.has_ended()) else { return };
        if record.batch.is_some() {
            let message = record.capture_error.as_ref().map(|error| error.message.clone());
            self.end_batch(id, Ended::Failed, message, ctx);
        }
    }

    /// Takes note of a batch's end. Should that not reach the journal, the batch comes to the same end once more.
    fn end_batch(&mut self, id: &CameraId, how: Ended, message: Option<String>, ctx: &mut Context<Self>) {
        let end = BatchEnd { at: UnixMicros::now(), how, message };
        self.batch_ended(id, end.clone(), ctx);
        let destination = self.cameras.get(id).and_then(|record| record.ledger.destination());
        let way = self.wiring.hubs.all().iter().find(|way| Some(way.name()) == destination.as_ref());
        let (spool, journal) = (way.map(|way| way.spool.clone()), self.wiring.journal.clone());
        let (id, key) = (id.clone(), id.clone());
        let written = async move {
            // A crash before its last frames are on disk takes their numbers back: then it must go on, and not be over.
            if let Some(spool) = spool {
                spool.barrier().await;
            }
            journal.end_batch(key, end).await
        };
        ctx.spawn(written.into_actor(self).map(move |revision, actor: &mut Self, _| actor.revised(&id, revision)));
    }

    fn revised(&mut self, id: &CameraId, revision: Option<u64>) {
        if let Some((record, revision)) = self.cameras.get_mut(id).zip(revision) {
            record.revision = record.revision.max(revision);
        }
    }

    /// Lets a batch's end take effect.
    fn batch_ended(&mut self, id: &CameraId, end: BatchEnd, ctx: &mut Context<Self>) {
        self.cancel_next_try(id, ctx);
        let Some(record) = self.cameras.get_mut(id) else { return };
        let Some(batch) = &mut record.batch else { return };
        info!(batch = %id, how = end.how.as_str(), "nothing more is captured");
        match end.how {
            // On a full disk it may have been written down before another end that came meanwhile.
            Ended::Cancelled => batch.batch.end = Some(end),
            Ended::Captured | Ended::Failed => drop(batch.batch.end.get_or_insert(end)),
        }
        if let Some(spec) = &mut record.spec {
            spec.password = None;
        }
        if !record.stop("cancelled") {
            record.enter(CameraState::Ended);
            self.await_outcomes(id, ctx);
        }
    }

    /// Says that a batch is over once each of its frames has an outcome.
    pub(super) fn await_outcomes(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        let Some(record) = self.cameras.get(id).filter(|record| record.has_ended()) else { return };
        let (ledger, id) = (record.ledger.clone(), id.clone());
        let last = ledger.next_seq() - 1;
        let all = async move { ledger.watermark_moves().wait_for(|watermark| *watermark >= last).await.is_ok() };
        ctx.spawn(all.into_actor(self).map(move |_, actor: &mut Self, _| {
            let Some(record) = actor.cameras.get(&id) else { return };
            let Some(batch) = &record.batch else { return };
            batch.over.send_replace(true);
            // Seqs in reserve would count as lost after a crash.
            if let Some(next_seq) = record.ledger.give_back() {
                actor.wiring.journal.return_unused(id.clone(), next_seq);
            }
            actor.wiring.hubs.newest().forget(&id);
            actor.count_states();
        }));
    }

    fn batch(&self, id: &CameraId) -> Result<(&Record, &BatchRecord), ControlError> {
        let record = self.cameras.get(id).filter(|record| record.exists());
        let found = record.and_then(|record| Some((record, record.batch.as_ref()?)));
        found.ok_or_else(|| ControlError::NoSuchBatch(id.clone()))
    }
}

impl Handler<CreateBatch> for Supervisor {
    type Result = Answer<CameraView>;

    fn handle(&mut self, CreateBatch { spec, batch }: CreateBatch, ctx: &mut Self::Context) -> Self::Result {
        let checked = self.check(spec, None).and_then(|spec| match spec.url.kind() {
            SourceKind::File => Ok(spec),
            _ if batch.from.is_zero() => Ok(spec),
            _ => Err(vec![FieldProblem::new("from", None, "has a meaning with file:// only: leave it out")]),
        });
        let spec = match checked {
            Ok(spec) => spec,
            Err(problems) => return answer(Err(ControlError::Invalid(problems))),
        };
        let ids = (0..MOST_IDS).map(|n| new_id(batch.created, n));
        let Some(id) = ids.into_iter().find(|id| !self.cameras.contains_key(id)) else {
            return answer(Err(ControlError::Internal("no id is free for a batch".to_owned())));
        };
        let puts = vec![(id.clone(), spec, ManagedBy::Batch)];
        let change = CatalogChange { puts, batches: vec![(id.clone(), batch)], ..CatalogChange::default() };
        self.commit(change, WithoutRoom::Refuse, ctx, move |actor, _| actor.view(&id))
    }
}

/// `batch-20260102t030405-006`, then `batch-20260102t030405-006-1` and so on: ids that sort by their time.
fn new_id(created: UnixMicros, n: u32) -> CameraId {
    let at = created.to_utc();
    let (date, time) = (at.date(), at.time());
    let mut id = format!(
        "batch-{:04}{:02}{:02}t{:02}{:02}{:02}-{:03}",
        date.year().clamp(0, 9_999),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
    if n > 0 {
        id.push_str(&format!("-{n}"));
    }
    id.parse().expect("it holds nothing else")
}

impl Handler<CancelBatch> for Supervisor {
    type Result = Answer<CameraView>;

    fn handle(&mut self, CancelBatch(id): CancelBatch, ctx: &mut Self::Context) -> Self::Result {
        match self.batch(&id) {
            Err(error) => return answer(Err(error)),
            // It has come to its end before, which is what is wanted.
            Ok((record, _)) if record.has_ended() => return answer(self.view(&id)),
            Ok(_) => {}
        }
        let end = BatchEnd { at: UnixMicros::now(), how: Ended::Cancelled, message: None };
        let (journal, key, written) = (self.wiring.journal.clone(), id.clone(), end.clone());
        let committed = async move { journal.end_batch(key, written).await };
        self.write(committed, WithoutRoom::Refuse, ctx, move |actor, revision, ctx| {
            actor.revised(&id, revision);
            actor.batch_ended(&id, end, ctx);
            actor.view(&id)
        })
    }
}

impl Handler<DeleteBatch> for Supervisor {
    type Result = Answer<()>;

    fn handle(&mut self, DeleteBatch(id): DeleteBatch, ctx: &mut Self::Context) -> Self::Result {
        match self.batch(&id) {
            Err(error) => return answer(Err(error)),
            Ok((record, _)) if !record.has_ended() => {
                let message = format!("batch `{id}` is not over: cancel it first");
                return answer(Err(ControlError::Conflict(message)));
            }
            Ok(_) => {}
        }
        let change = CatalogChange { deletes: vec![id], ..CatalogChange::default() };
        self.commit(change, WithoutRoom::Refuse, ctx, |_, _| Ok(()))
    }
}

impl Handler<GetBatch> for Supervisor {
    type Result = Result<(CameraView, watch::Receiver<bool>), ControlError>;

    fn handle(&mut self, GetBatch(id): GetBatch, _: &mut Self::Context) -> Self::Result {
        self.batch(&id).map(|(record, batch)| (record.view(), batch.over.subscribe()))
    }
}

impl Handler<ListBatches> for Supervisor {
    type Result = MessageResult<ListBatches>;

    fn handle(&mut self, _: ListBatches, _: &mut Self::Context) -> Self::Result {
        let batches = self.cameras.values().filter(|record| record.exists() && record.batch.is_some());
        MessageResult(batches.map(Record::view).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_batches_are_ids_of_cameras_and_sort_by_their_time() {
        let at = UnixMicros(1_767_323_045_006_000);
        assert_eq!(new_id(at, 0).as_str(), "batch-20260102t030405-006");
        assert_eq!(new_id(at, 2).as_str(), "batch-20260102t030405-006-2");
        assert!(new_id(at, 0) < new_id(at.after(Duration::from_millis(1)), 0));
    }
}
