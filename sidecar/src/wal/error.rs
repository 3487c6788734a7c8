//! Why a data directory or a log could not be opened.

use super::disk::{FileName, is_full};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Nothing was opened. Each kind says what it is about and what to do.
#[derive(Debug)]
pub enum OpenError {
    /// The operating system refused something.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The operating system refused something while the log was read or begun.
    Log {
        /// What was being done.
        doing: &'static str,
        /// To which file; `None`: to the directory.
        file: Option<FileName>,
        /// What it said.
        error: io::Error,
    },
    /// Another process holds the directory.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for, in milliseconds.
        waited_ms: u128,
    },
    /// The directory belongs to another user.
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who this process is.
        user: u32,
    },
    /// The path is there and is no directory.
    NotADirectory(PathBuf),
    /// A log without an identity.
    IdentityMissing(PathBuf),
    /// The identity file does not read as a whole.
    IdentityDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// This process does not hold the directory any more.
    NotHeld(PathBuf),
    /// The directory already belongs to another cluster.
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster that it belongs to.
        has: u128,
        /// The cluster that it was to join.
        asked: u128,
    },
}

impl OpenError {
    /// Whether nothing is wrong but that the volume has no room: the same start works later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            OpenError::Io { error, .. } | OpenError::Log { error, .. } => is_full(error),
            _ => false,
        }
    }
}

impl OpenError {
    /// Whether the operating system failed for another reason than room. Where something was being
    /// stored, what is on the disk is not known any more: it is never tried again.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, OpenError::Io { .. } | OpenError::Log { .. }) && !self.is_full()
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
            OpenError::Log { doing, file: Some(file), error } => {
                write!(f, "cannot {doing} the log's file {file}: {error}")
            }
            OpenError::Log { doing, file: None, error } => {
                write!(f, "cannot {doing} the log: {error}")
            }
            OpenError::Locked { path, waited_ms } => write!(
                f,
                "{} is locked by another process, after waiting {waited_ms} ms: \
                 stop that process, or give this one a directory of its own",
                path.display()
            ),
            OpenError::Owner { path, owner, user } => write!(
                f,
                "{} belongs to user {owner} and this process is user {user}: \
                 run as its owner, or give this member a directory of its own",
                path.display()
            ),
            OpenError::NotADirectory(path) => {
                write!(f, "{} is not a directory: give another path", path.display())
            }
            OpenError::IdentityMissing(path) => write!(
                f,
                "{} holds a log but no identity file: the member that it was is lost; \
                 keep the files for inspection, and start a new member in an empty directory",
                path.display()
            ),
            OpenError::IdentityDamaged { path, why } => write!(
                f,
                "{} is damaged ({why}): the member that it was is lost; \
                 keep the files for inspection, and start a new member in an empty directory",
                path.display()
            ),
            OpenError::NotHeld(path) => {
                write!(f, "this process does not hold {} any more", path.display())
            }
            OpenError::OtherCluster { path, has, asked } => write!(
                f,
                "{} belongs to cluster {has:032x}, not to {asked:032x}: \
                 a member never changes its cluster; give an empty directory",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { error, .. } | OpenError::Log { error, .. } => Some(error),
            _ => None,
        }
    }
}
