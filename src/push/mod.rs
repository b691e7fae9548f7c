//! Pictures into a bucket without a daemon: many at a time, in order, and each of them once.
//!
//! [`Push`] says where they go and how. Once [started](Push::start) it has two ends: [`Pictures`] takes JPEGs and waits
//! where there is no room, [`Entries`] gives the ordered list as far as it is complete. [`Push::all`] does both for
//! pictures that are there already.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use framehaul::push::{Picture, Push};
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let bucket = format!("file://{}/frames", dir.path().display());
//! # let jpeg: &[u8] = &[0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 16, 0, 16, 1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0, 0xff, 0xd9];
//! # let jpegs = [jpeg, jpeg];
//! // bucket: "gs://bucket/prefix", "s3://...", "az://..." or "file:///directory"; jpegs: the files' bytes.
//! let pictures = jpegs.map(|jpeg| Picture::new(jpeg.into()).unwrap());
//! let entries = Push::to(&bucket)?.concurrency(64).all(pictures).await?;
//! for entry in &entries {
//!     println!("{} {}", entry.seq, entry.url().unwrap_or("not stored"));
//! }
//! # assert_eq!(entries.len(), 2);
//! # Ok::<_, framehaul::push::PushError>(()) }).unwrap();
//! ```
//!
//! The n-th picture always has the same name. So a push that was cut off can be done once more: what is there already is
//! compared, and with [`Push::resume`] not even sent. What decides when a frame goes, and when it is tried again, is what the
//! daemon has: [`delivery`](crate::delivery). A push keeps nothing but what is on its way.

mod driver;
mod entry;
mod handle;
mod jpeg;
mod options;
mod present;
mod source;

pub use entry::{Entry, Fate};
pub use handle::{Ended, Entries, Pictures, Progress, Summary};
pub use jpeg::{Jpegs, NoJpeg, Picture};
pub use options::{Push, PushError};
pub use source::{Fed, Maker, START_OF_IMAGE, Source, SourceError, file_url};
