//! Commands on their way into one transaction.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::handle::Command;
use crate::model::{CameraId, LostReason, Outcome, SessionNo, Settled};

/// How long outcomes nobody waits for may gather before they are committed together.
const LINGER: Duration = Duration::from_millis(5);

/// The least time between the beginnings of two commits, where nothing but stored frames has gathered. Each commit writes
/// the pages that it touches and waits for the disk, however little is in it.
const SPACING: Duration = Duration::from_millis(20);

/// Commands of one transaction.
const MOST: usize = 4_096;

/// What is committed together. It can be tried again, and grows meanwhile; lost frames do not make it grow: adjacent
/// ones that differ in nothing else become one range.
#[derive(Default)]
pub(super) struct Group {
    commands: Vec<Command>,
    urgent: bool,
    /// Whether a frame is lost in it: a full spool waits until that is written down.
    loses: bool,
    last: bool,
    /// Where it says how far the spool is.
    spooled: Option<usize>,
    /// Since it is tried again: where the newest range of its kind stands in `commands`.
    merging: Option<HashMap<Kind, usize>>,
}

/// What lost frames must have in common to stand in one range.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    camera: CameraId,
    session: Option<SessionNo>,
    reason: LostReason,
    maybe_stored: bool,
    counted: bool,
}

impl Kind {
    fn of(settled: &Settled) -> Option<Self> {
        let Outcome::Lost { reason, maybe_stored } = settled.outcome else { return None };
        let (camera, session, counted) = (settled.camera.clone(), settled.session, settled.counted);
        Some(Self { camera, session, reason, maybe_stored, counted })
    }
}

impl Group {
    /// Waits for a command and takes what else is waiting; where nobody waits for any of it, lets more gather for a
    /// moment, which is longer where the last group was `committed` a moment ago. It ends when this thread is unparked, and
    /// not with each command: waking up for one costs as much as writing it. `None` where no more will come.
    pub fn gather(commands: &Receiver<Command>, committed: Option<Instant>) -> Option<Self> {
        let mut group = Self::default();
        group.push(commands.recv().ok()?);
        let lingers = Instant::now() + LINGER;
        let spaced = committed.map_or(lingers, |last| lingers.max(last + SPACING));
        while group.commands.len() < MOST && !group.last {
            match commands.try_recv() {
                Ok(command) => group.push(command),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let deadline = if group.loses { lingers } else { spaced };
                    let wait = deadline.saturating_duration_since(Instant::now());
                    if group.urgent || wait.is_zero() {
                        break;
                    }
                    // A lost frame ends the wait and does not unpark: for that it is looked now and then.
                    std::thread::park_timeout(wait.min(LINGER));
                }
            }
        }
        Some(group)
    }

    /// Takes what arrives within so much time, for a group that could not be committed.
    pub fn gather_more(&mut self, commands: &Receiver<Command>, time: Duration) {
        if self.merging.is_none() {
            (self.merging, self.spooled) = (Some(HashMap::new()), None);
            for command in std::mem::take(&mut self.commands) {
                self.push(command);
            }
        }
        let deadline = Instant::now() + time;
        while !self.last {
            match commands.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(command) => self.push(command),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => self.last = true,
            }
        }
    }

    fn push(&mut self, command: Command) {
        self.urgent |= command.is_urgent();
        self.loses |=
            matches!(&command, Command::Settle { settled, .. } if matches!(settled.outcome, Outcome::Lost { .. }));
        self.last |= matches!(command, Command::Close);
        if self.merging.is_some()
            && let Command::Ping { done } = command
        {
            let _ = done.send(());
            return;
        }
        // Only the highest counts, whenever it is written; and there may be many while the disk is full.
        if let Command::Spooled(highest) = &command {
            let place = *self.spooled.get_or_insert(self.commands.len());
            if let Some(Command::Spooled(before)) = self.commands.get_mut(place) {
                for (camera, seq) in highest {
                    let known = before.entry(camera.clone()).or_insert(*seq);
                    *known = (*known).max(*seq);
                }
                return;
            }
        }
        if let (Some(merging), Command::Settle { settled, .. }) = (&mut self.merging, &command) {
            match Kind::of(settled) {
                Some(kind) => {
                    let place = merging.entry(kind).or_insert(self.commands.len());
                    if let Some(Command::Settle { settled: before, .. }) = self.commands.get_mut(*place)
                        && before.seqs.last + 1 == settled.seqs.first
                    {
                        before.seqs.last = settled.seqs.last;
                        return;
                    }
                    *place = self.commands.len();
                }
                // The first word on a seq counts: nothing that comes after a stored frame may pass before it.
                None => merging.retain(|kind, _| kind.camera != settled.camera),
            }
        }
        self.commands.push(command);
    }

    /// What is to be done, in order.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// The same, to answer it.
    pub fn take(&mut self) -> Vec<Command> {
        (self.merging, self.spooled) = (None, None);
        std::mem::take(&mut self.commands)
    }

    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Stands still where that was asked for.
    pub fn hang(&self) {
        for command in &self.commands {
            if let Command::Hang(time) = command {
                std::thread::sleep(*time);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::journal::Ledger;
    use crate::model::{DestinationName, Seq, SeqRange, Stored, UnixMicros};

    fn settle(camera: &str, seqs: (Seq, Seq), outcome: Outcome, session: u32, counted: bool) -> Command {
        let camera: CameraId = camera.parse().unwrap();
        let seqs = SeqRange { first: seqs.0, last: seqs.1 };
        let settled = Settled { camera: camera.clone(), seqs, session: Some(session), outcome, counted };
        Command::Settle { ledger: Arc::new(Ledger::new(camera)), settled }
    }

    fn lost(reason: LostReason) -> Outcome {
        Outcome::Lost { reason, maybe_stored: false }
    }

    fn stored() -> Outcome {
        let (at, key) = (UnixMicros(1), "k".to_owned());
        Outcome::Stored(Stored {
            destination: DestinationName::default(),
            key,
            captured_at: at,
            stored_at: at,
            bytes: 1,
            crc32c: 1,
            width: 1,
            height: 1,
            damaged: false,
        })
    }

    fn told(group: &Group) -> Vec<(String, Seq, Seq)> {
        let of = |command: &Command| match command {
            Command::Settle { settled, .. } => (settled.camera.to_string(), settled.seqs.first, settled.seqs.last),
            _ => ("other".to_owned(), 0, 0),
        };
        group.commands().iter().map(of).collect()
    }

    #[test]
    fn stored_frames_gather_until_some_time_after_the_last_commit_and_lost_ones_wait_for_less() {
        let (sender, commands) = channel();
        let begun = Instant::now();
        // As though a commit had begun a minute from now.
        let committed = Some(begun + Duration::from_secs(60));
        sender.send(settle("a", (1, 1), stored(), 1, true)).unwrap();
        let gathering = std::thread::spawn(move || (Group::gather(&commands, committed).unwrap(), commands));
        // Longer than it would wait had nothing been committed before.
        std::thread::sleep(10 * LINGER);
        assert!(!gathering.is_finished());
        sender.send(settle("a", (2, 2), lost(LostReason::SpoolFull), 1, true)).unwrap();
        let (group, commands) = gathering.join().unwrap();
        assert_eq!(told(&group), [("a".to_owned(), 1, 1), ("a".to_owned(), 2, 2)]);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        sender.send(settle("a", (3, 3), stored(), 1, true)).unwrap();
        assert_eq!(told(&Group::gather(&commands, Some(begun)).unwrap()), [("a".to_owned(), 3, 3)]);
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }

    #[test]
    fn lost_frames_make_one_range_however_many_there_are_and_nothing_else_changes() {
        let (sender, commands) = channel();
        let full = lost(LostReason::SpoolFull);
        for command in [
            settle("a", (1, 1), stored(), 1, true),
            settle("a", (2, 2), full.clone(), 1, true),
            settle("b", (7, 9), full.clone(), 1, true),
            settle("a", (3, 3), full.clone(), 1, true),
        ] {
            sender.send(command).unwrap();
        }
        let mut group = Group::gather(&commands, None).unwrap();
        assert_eq!(told(&group).len(), 4);
        for seq in 4..=100_000 {
            sender.send(settle("a", (seq, seq), full.clone(), 1, true)).unwrap();
            sender.send(settle("b", (seq + 6, seq + 6), full.clone(), 1, true)).unwrap();
        }
        group.gather_more(&commands, Duration::ZERO);
        let mut expected = vec![("a".to_owned(), 1, 1), ("a".to_owned(), 2, 100_000), ("b".to_owned(), 7, 100_006)];
        assert_eq!(told(&group), expected);

        // One that differs in reason, session, proof or account, or that is not the next, stands for itself.
        let (overrun, maybe) =
            (lost(LostReason::Overrun), Outcome::Lost { reason: LostReason::Overrun, maybe_stored: true });
        let others = [
            settle("a", (100_001, 100_001), overrun.clone(), 1, true),
            settle("a", (100_002, 100_002), overrun, 2, true),
            settle("a", (100_003, 100_003), maybe.clone(), 2, true),
            settle("a", (100_004, 100_004), maybe.clone(), 2, false),
            settle("a", (100_006, 100_006), maybe.clone(), 2, false),
            // Nor does anything pass before a stored one.
            settle("a", (100_007, 100_007), stored(), 2, true),
            settle("a", (100_007, 100_007), maybe.clone(), 2, false),
        ];
        for command in others {
            if let Command::Settle { settled, .. } = &command {
                expected.push(("a".to_owned(), settled.seqs.first, settled.seqs.last));
            }
            sender.send(command).unwrap();
        }
        sender.send(Command::Watermark { camera: "a".parse().unwrap(), seq: 1 }).unwrap();
        sender.send(settle("a", (100_008, 100_008), maybe, 2, false)).unwrap();
        expected.last_mut().unwrap().2 = 100_008;
        expected.push(("other".to_owned(), 0, 0));
        group.gather_more(&commands, Duration::ZERO);
        assert_eq!(told(&group), expected);
        assert!(!group.is_last());

        // How far the spool is stands in one place, whatever comes in between.
        let place = group.commands().len();
        for seq in [7, 9, 8] {
            sender.send(Command::Spooled([("a".parse().unwrap(), seq)].into())).unwrap();
            sender.send(Command::Watermark { camera: "a".parse().unwrap(), seq: 1 }).unwrap();
        }
        group.gather_more(&commands, Duration::ZERO);
        assert_eq!(group.commands().len(), place + 4);
        assert!(matches!(&group.commands()[place], Command::Spooled(highest) if highest.values().eq([&9])));
        drop(sender);
        group.gather_more(&commands, Duration::ZERO);
        assert!(group.is_last());
    }
}
