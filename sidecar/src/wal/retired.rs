//! The mark of a member that was told to retire: a file beside its log.
//!
//! Invariant: once the mark is durable, whoever opens the directory sees it. It is never removed.
//! Must not touch the log: what a retired member promised stays readable.

use super::directory::{FILE_MODE, sync_directory};
use super::error::OpenError;
use super::identity::{DataDir, failed};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

const MARK: &str = "retired";
const WORDS: &[u8] = b"This member was told to retire. It never votes again.\n";

impl DataDir {
    /// Retires this member, durably. Again: nothing happens.
    ///
    /// # Errors
    /// The operating system's; then it may be retired from the next start on, or not.
    pub fn retire(&self) -> Result<(), OpenError> {
        let mark = self.path().join(MARK);
        let store = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(false).mode(FILE_MODE).open(&mark)?;
            file.write_all(WORDS)?;
            file.sync_all()?;
            sync_directory(self.path())
        };
        store().map_err(|error| failed("mark as retired", &mark, error))
    }

    /// Whether this member was told to retire. The name alone counts: a crash may leave it empty.
    ///
    /// # Errors
    /// The operating system's: then it is not known, and the member must not go on.
    pub fn is_retired(&self) -> Result<bool, OpenError> {
        let mark = self.path().join(MARK);
        mark.try_exists().map_err(|error| failed("look for", &mark, error))
    }
}
