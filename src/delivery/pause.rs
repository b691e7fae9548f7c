//! Whether a destination lets us in.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::model::CameraId;

/// So many refusals in a row and there is no use in asking on.
const REFUSALS: usize = 3;
/// Then it is asked so often, and up to a thirtieth more seldom. A store may lock out who does it oftener than once in 30 s:
/// half a second more, because one that is late on its way comes closer to the next. The same time has passed for whoever
/// makes new credentials only every half a minute, so that each probe finds a key that was mended.
const PROBE: Duration = Duration::from_millis(30_500);
/// So soon another is asked where a probe came to nothing without a word to the destination.
const UNUSED: Duration = Duration::from_secs(1);
/// So long it counts for others that one was let in.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Counts refusals in a row: missing rights, or a bucket that is not there.
///
/// A policy may forbid one camera's keys only. Three refusals in a row may then be that camera's alone, and the
/// destination pauses; but the first probe that is let in for another shows it, and from then on the camera's refusals
/// do not count while others are let in. It may forbid most cameras' keys: so each pause adds to what is known of them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Who was refused since somebody was let in, and when first; nobody where it is no camera's object.
    refused: HashMap<Option<CameraId>, Instant>,
    /// How many refusals that is in a row, and when the last of them was told. Those of attempts that had begun before
    /// are of the same moment, which may be all that is wrong.
    row: Option<(usize, Instant)>,
    /// Who was refused before an attempt began that was let in, and has not been let in since.
    alone: HashSet<Option<CameraId>>,
    /// When somebody was let in.
    let_in: Option<Instant>,
    paused: Option<Paused>,
}

#[derive(Debug)]
struct Paused {
    since: Instant,
    /// When the last attempt went, and when the next may go.
    tried: Instant,
    next: Instant,
}

impl Refusals {
    /// While it is paused, when the next attempt may go.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.paused.as_ref().map(|paused| paused.next)
    }

    /// A probe goes.
    pub(super) fn begin_probe(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        if let Some(paused) = &mut self.paused {
            (paused.tried, paused.next) = (now, now + PROBE.mul_f64(1.0 + rng.f64() / 30.0));
        }
    }

    /// The probe that began then was not made. Nothing changes where another has gone since.
    pub(super) fn probe_unused(&mut self, now: Instant, begun: Instant) {
        if let Some(paused) = self.paused.as_mut().filter(|paused| paused.tried == begun) {
            paused.next = paused.next.min(now + UNUSED);
        }
    }

    /// An attempt was refused that had begun then.
    pub(super) fn refused(&mut self, now: Instant, begun: Instant, camera: Option<&CameraId>) {
        let camera = camera.cloned();
        let others_are_let_in = self.let_in.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED);
        if self.paused.is_none() && others_are_let_in && self.alone.contains(&camera) {
            return;
        }
        self.refused.entry(camera).or_insert(now);
        if self.paused.is_some() || self.row.is_some_and(|(_, told)| begun < told) {
            return;
        }
        let in_a_row = self.row.map_or(0, |(count, _)| count) + 1;
        self.row = Some((in_a_row, now));
        if in_a_row >= REFUSALS {
            self.paused = Some(Paused { since: now, tried: now, next: now + PROBE });
        }
    }

    /// An attempt was let in that had begun then. Returns whether this ends a pause.
    pub(super) fn let_in(&mut self, now: Instant, begun: Instant, camera: Option<&CameraId>) -> bool {
        // What began before the pause tells nothing of what holds since.
        if self.paused.as_ref().is_some_and(|paused| begun < paused.since) {
            return false;
        }
        let camera = camera.cloned();
        self.let_in = Some(now);
        self.row = None;
        let before = self.refused.drain().filter(|(_, at)| *at <= begun).map(|(other, _)| other);
        self.alone.extend(before);
        self.alone.remove(&camera);
        self.paused.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(camera: &str) -> CameraId {
        camera.parse().unwrap()
    }

    #[test]
    fn three_refusals_in_a_row_pause_and_two_do_not() {
        let (mut refusals, start, gate) = (Refusals::default(), Instant::now(), id("gate"));
        refusals.refused(start, start, Some(&gate));
        refusals.refused(start, start, None);
        assert!(!refusals.let_in(start, start, Some(&id("hall"))));
        refusals.refused(start + 61 * SECOND, start + 61 * SECOND, Some(&gate));
        refusals.refused(start + 61 * SECOND, start + 61 * SECOND, None);
        assert_eq!(refusals.next_probe(), None);
        refusals.refused(start + 61 * SECOND, start + 61 * SECOND, Some(&gate));
        assert_eq!(refusals.next_probe(), Some(start + 61 * SECOND + PROBE));
    }

    #[test]
    fn probes_stay_half_a_minute_apart_where_one_is_late_on_its_way() {
        let (mut refusals, start, mut rng) = (Refusals::default(), Instant::now(), fastrand::Rng::with_seed(1));
        (0..3).for_each(|_| refusals.refused(start, start, None));
        let mut begun = start;
        for _ in 0..1_000 {
            let next = refusals.next_probe().unwrap();
            let (late, soon) = (begun + Duration::from_millis(499), next);
            assert!(soon - late >= 30 * SECOND && next - begun <= 32 * SECOND, "{:?}", next - begun);
            begun = next;
            refusals.begin_probe(begun, &mut rng);
        }
    }

    #[test]
    fn only_an_attempt_that_began_in_the_pause_ends_it() {
        let (mut refusals, start, gate) = (Refusals::default(), Instant::now(), id("gate"));
        (0..3).for_each(|n| refusals.refused(start + n * SECOND, start + n * SECOND, Some(&gate)));
        assert!(!refusals.let_in(start + 3 * SECOND, start, Some(&gate)));
        assert!(refusals.next_probe().is_some());
        assert!(refusals.let_in(start + 33 * SECOND, start + 32 * SECOND, Some(&gate)));
        assert_eq!(refusals.next_probe(), None);
    }

    #[test]
    fn a_camera_that_alone_is_refused_pauses_once_and_not_again_while_others_are_let_in() {
        let (mut refusals, start, forbidden, other) = (Refusals::default(), Instant::now(), id("gate"), id("hall"));
        (0..3).for_each(|_| refusals.refused(start, start, Some(&forbidden)));
        let mut now = start + 31 * SECOND;
        assert!(refusals.let_in(now, now, Some(&other)));
        for _ in 0..100 {
            now += SECOND;
            (0..5).for_each(|_| refusals.refused(now, now, Some(&forbidden)));
            assert_eq!(refusals.next_probe(), None);
            refusals.let_in(now, now, Some(&other));
        }
        // Then the others are refused as well.
        (0..3).for_each(|_| refusals.refused(now, now, Some(&other)));
        assert!(refusals.next_probe().is_some());
    }

    #[test]
    fn who_alone_was_refused_counts_again_when_nobody_else_is_let_in() {
        let (mut refusals, start, forbidden) = (Refusals::default(), Instant::now(), id("gate"));
        refusals.refused(start, start, Some(&forbidden));
        refusals.let_in(start + SECOND, start + SECOND, Some(&id("hall")));
        (0..3).for_each(|_| refusals.refused(start + 2 * SECOND, start + 2 * SECOND, Some(&forbidden)));
        assert_eq!(refusals.next_probe(), None);
        (0..3).for_each(|_| refusals.refused(start + 62 * SECOND, start + 62 * SECOND, Some(&forbidden)));
        assert!(refusals.next_probe().is_some());
    }

    #[test]
    fn what_is_refused_in_one_moment_is_one_refusal() {
        let (mut refusals, start, gate) = (Refusals::default(), Instant::now(), id("gate"));
        for round in 0..3 {
            let begun = start + round * SECOND;
            assert_eq!(refusals.next_probe(), None);
            // All that were on their way, one answer after the other.
            (1..=16).for_each(|n| refusals.refused(begun + n * SECOND / 20, begun, Some(&gate)));
        }
        assert_eq!(refusals.next_probe(), Some(start + 2 * SECOND + SECOND / 20 + PROBE));
    }

    #[test]
    fn a_probe_that_was_not_made_changes_nothing_where_another_has_gone_since() {
        let (mut refusals, start, gate) = (Refusals::default(), Instant::now(), id("gate"));
        let mut rng = fastrand::Rng::with_seed(1);
        (0..3).for_each(|_| refusals.refused(start, start, Some(&gate)));
        let (first, second) = (start + 30 * SECOND, start + 62 * SECOND);
        refusals.begin_probe(first, &mut rng);
        refusals.begin_probe(second, &mut rng);
        refusals.probe_unused(second + SECOND, first);
        assert!(refusals.next_probe().unwrap() >= second + PROBE);
        refusals.probe_unused(second + SECOND, second);
        assert_eq!(refusals.next_probe(), Some(second + SECOND + UNUSED));
    }
}
