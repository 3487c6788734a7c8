//! A log that goes on in another cluster: what a recovery and a restore do to a directory that no
//! member runs on.
//!
//! Invariants: the directory belongs to the new cluster before its log says anything new, so that a
//! crash in between leaves a member that finds no peer, and never one that speaks for the old
//! cluster; all of it is durable at the end. A damaged log is never written. Must not know what an
//! entry means.

use super::error::OpenError;
use super::fs::FsOptions;
use super::identity::{DataDir, Forced};
use super::open::Verdict;
use super::{Completion, Recovered};
use quorate_raft::{IoSeq, Restored, Write};
use std::fmt;
use std::sync::mpsc::channel;

/// What the log of a new cluster goes on with.
#[derive(Debug)]
pub struct Rewrite {
    /// The entry that begins it; kept with the identity, so that nobody begins it once more.
    pub forced: Forced,
    /// That entry, and what comes with it.
    pub writes: Vec<Write>,
}

/// Why a log was not rewritten.
#[derive(Debug)]
pub enum RewriteError {
    /// It could not be opened, or its identity not stored.
    Open(OpenError),
    /// It is damaged: nothing was changed.
    Unfit(String),
    /// Whoever decides refused: nothing was changed.
    Refused(String),
    /// The disk failed on the way.
    Disk(String),
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RewriteError::Open(error) => write!(f, "{error}"),
            RewriteError::Unfit(why) => write!(f, "the log is damaged: {why}; nothing was changed"),
            RewriteError::Refused(why) => f.write_str(why),
            RewriteError::Disk(why) => write!(f, "the log cannot be written: {why}"),
        }
    }
}

impl std::error::Error for RewriteError {}

impl DataDir {
    /// Moves this member to another cluster, and adds to its log what `decide` makes of what the
    /// log has. `None`: nothing is changed.
    ///
    /// # Errors
    /// See [`RewriteError`].
    pub fn rewrite(
        &mut self,
        cluster: u128,
        decide: impl FnOnce(&Restored) -> Result<Option<Rewrite>, String>,
    ) -> Result<(), RewriteError> {
        let (failures, failed) = channel();
        let report = Box::new(move |completion| {
            if let Completion::Failed(why) = completion {
                // Nobody listens only when this function is over.
                let _ = failures.send(why);
            }
        });
        let opened = self.open_log(FsOptions::default(), report).map_err(RewriteError::Open)?;
        let (mut wal, Recovered { restored, verdict }) = opened;
        if let Verdict::Unfit { reason } = verdict {
            return Err(RewriteError::Unfit(reason));
        }
        let rewrite = match decide(&restored) {
            Ok(rewrite) => rewrite,
            Err(why) => {
                wal.close();
                return Err(RewriteError::Refused(why));
            }
        };
        if let Some(Rewrite { forced, writes }) = rewrite {
            self.identity.cluster = Some(cluster);
            self.identity.forced = Some(forced);
            self.store().map_err(RewriteError::Open)?;
            wal.submit(&mut (1..).map(IoSeq).zip(writes).collect());
        }
        wal.close();
        match failed.try_recv() {
            Ok(why) => Err(RewriteError::Disk(why)),
            Err(_) => Ok(()),
        }
    }
}
