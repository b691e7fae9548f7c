//! What the dispatcher has in memory, and how it makes room there.

use super::Dispatcher;
use crate::model::CameraId;

impl<B, P> Dispatcher<B, P> {
    /// Whether there is room for a body.
    pub(super) fn fits(&self, bytes: u64, pending: u64) -> bool {
        self.bytes + pending + bytes <= self.budget.bytes && self.frames < self.budget.frames
    }

    /// Makes room for a body that is to be read, if that can be had.
    pub(super) fn make_room(&mut self, bytes: u64, pending: u64) -> bool {
        while !self.fits(bytes, pending) {
            if !self.let_a_body_go() {
                // One may always be on its way, or nothing might ever move again.
                return self.on_their_way == 0;
            }
        }
        true
    }

    /// Lets go of one body that can be read again: the newest of the camera that has most of them.
    pub(super) fn let_a_body_go(&mut self) -> bool {
        let queues = self.cameras.iter_mut().filter(|(_, queue)| queue.cached > 0);
        let Some((camera, queue)) = queues.max_by(|a, b| (a.1.cached, b.0).cmp(&(b.1.cached, a.0))) else {
            return false;
        };
        let Some(bytes) = queue.let_newest_body_go() else { return false };
        let camera = camera.clone();
        self.uncache(&camera, bytes);
        self.release(&camera, bytes);
        true
    }

    /// Books a body that comes into memory.
    pub(super) fn hold(&mut self, camera: &CameraId, bytes: u64) {
        self.bytes += bytes;
        self.frames += 1;
        self.queue(camera).bytes += bytes;
    }

    /// Books a body in memory that could be let go.
    pub(super) fn cache(&mut self, camera: &CameraId, bytes: u64) {
        self.cached.0 += 1;
        self.cached.1 += bytes;
        self.queue(camera).cached += bytes;
    }

    /// Books one that goes on its way, or goes.
    pub(super) fn uncache(&mut self, camera: &CameraId, bytes: u64) {
        self.cached.0 -= 1;
        self.cached.1 -= bytes;
        self.queue(camera).cached -= bytes;
    }

    /// Books a body that has left memory.
    pub(super) fn release(&mut self, camera: &CameraId, bytes: u64) {
        self.bytes -= bytes;
        self.frames -= 1;
        self.queue(camera).bytes -= bytes;
    }
}
