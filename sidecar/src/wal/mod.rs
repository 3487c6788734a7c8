//! The log on disk: term, vote, entries and snapshots, made durable in order.
//!
//! One write and one sync a batch; what arrives during a sync is the next batch's. Reads happen
//! only when a log is opened. Everything that reaches the disk goes through the [`Disk`] seam, so
//! that a simulator can run it. `docs/wal-format.md` describes every byte.
//!
//! Invariants: what was reported durable is recovered after any crash; damage in what was synced
//! is found and never repaired; a failed sync is never tried again; nothing is written while
//! nothing is submitted. Must not know sockets, peers or what a command means.

mod directory;
mod disk;
mod error;
mod format;
mod fs;
mod identity;
mod inspect;
mod log;
mod open;
mod replay;
mod retired;
mod rewrite;
mod shown;
mod sim;
mod sim_files;
mod snapshot;
mod survey;
pub mod table;
mod worker;

pub use disk::{Batch, Completion, Disk, FileName, Job, JobKind, Op, Progress, Source, Stats};
pub use error::OpenError;
pub use format::newest_version as format_version;
pub use fs::{FsDisk, FsOptions};
pub use identity::{Boot, DataDir, Forced, HeldDir};
pub use inspect::inspect;
pub use log::Wal;
pub use open::{Recovered, Verdict};
pub use rewrite::{Rewrite, RewriteError};
pub use shown::Unshown;
pub use sim::SimDisk;
