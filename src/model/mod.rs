//! The nouns of framehaul, pure: no I/O, no clock of its own, no actor.

mod batch;
mod camera;
mod camera_clock;
mod clock;
mod cursor;
mod destination;
mod engine;
mod extent;
mod frame;
mod ids;
mod key;
mod login;
mod logins;
mod misfits;
mod nvr;
mod presence;
mod sampler;
mod source;
mod spooled;
mod task;
mod timestamp;

pub use batch::{Batch, BatchEnd, BatchState, Ended};
pub use camera::{CameraSpec, FieldProblem, ManagedBy, Pace, RawCameraSpec, Sampling, Tls, Transport};
pub use camera_clock::{CameraClock, Dated, TimeSource};
pub use clock::{ClockAnchor, MAX_CLOCK_DRIFT_MICROS};
pub use cursor::{Cursor, InvalidCursor};
pub use destination::{DestinationName, InvalidDestinationName};
pub use engine::{Damaged, Engine, Program};
pub use extent::Extent;
pub use frame::{CommitNo, Frame, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, Stored};
pub use ids::{CameraId, InvalidCameraId, Origin};
pub use key::{KeyTemplate, Named};
pub use login::{FORGET_REFUSAL_AFTER, Login, Refusal, fingerprint};
pub use logins::{Logins, Permit, TRIAL};
pub use misfits::{is_plain, misfits, nvr_misfits};
pub use nvr::{Channels, ClockMode, InvalidNvrId, LiveStream, NvrId, NvrSpec, RawNvrSpec};
pub use presence::{Errand, Looked, Presence, Rounds};
pub use sampler::Sampler;
pub use source::{SourceKind, SourceUrl};
pub use spooled::{Resolved, SpooledCamera};
pub use task::{
    Hold, Job, JobNo, LastWord, LeaseNo, NewJob, OpenTask, Standing, TaskChange, TaskFault, TaskForm, TaskNo,
    TaskProgress, TaskResult, TaskState, WORDS_REMEMBERED,
};
pub use timestamp::UnixMicros;
