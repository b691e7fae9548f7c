//! The nouns of framehaul, pure: no I/O, no clock of its own, no actor.

mod camera;
mod clock;
mod cursor;
mod frame;
mod ids;
mod key;
mod sampler;
mod timestamp;

pub use camera::{CameraSpec, FieldProblem, RawCameraSpec, Sampling, Transport};
pub use clock::{ClockAnchor, MAX_CLOCK_DRIFT_MICROS};
pub use cursor::{Cursor, InvalidCursor};
pub use frame::{CommitNo, Frame, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, Stored};
pub use ids::{CameraId, InvalidCameraId, Origin};
pub use key::KeyTemplate;
pub use sampler::Sampler;
pub use timestamp::UnixMicros;
