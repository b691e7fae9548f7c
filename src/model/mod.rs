//! The nouns of framehaul, pure: no I/O, no clock of its own, no actor.

mod camera;
mod camera_clock;
mod clock;
mod cursor;
mod destination;
mod engine;
mod frame;
mod ids;
mod key;
mod login;
mod misfits;
mod sampler;
mod source;
mod spooled;
mod timestamp;

pub use camera::{CameraSpec, FieldProblem, ManagedBy, Pace, RawCameraSpec, Sampling, Tls, Transport};
pub use camera_clock::{CameraClock, Dated, TimeSource};
pub use clock::{ClockAnchor, MAX_CLOCK_DRIFT_MICROS};
pub use cursor::{Cursor, InvalidCursor};
pub use destination::{DestinationName, InvalidDestinationName};
pub use engine::{Damaged, Engine, Program};
pub use frame::{CommitNo, Frame, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, Stored};
pub use ids::{CameraId, InvalidCameraId, Origin};
pub use key::{KeyTemplate, Named};
pub use login::{FORGET_REFUSAL_AFTER, Login, Refusal, fingerprint};
pub use misfits::{is_plain, misfits};
pub use sampler::Sampler;
pub use source::{SourceKind, SourceUrl};
pub use spooled::{Resolved, SpooledCamera};
pub use timestamp::UnixMicros;
