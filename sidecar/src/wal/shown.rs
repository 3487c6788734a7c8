//! The identity file for as long as its directory is held, and what it says of the newest boot:
//! whether anybody can know it.
//!
//! Peers pin the newest boot that a member has shown them, and refuse a disk whose list lacks it.
//! That rule stays as strong as a list that never forgets, and honest disks pass it, because:
//!
//! - A boot leaves in a hello only after the file says that it was shown. So what a peer pinned
//!   stands in the file as shown.
//! - A boot that was shown leaves the list only for the limit: behind the present boot and as many
//!   shown ones as make the list full.
//! - The newest boot, if it was not shown, is replaced by the next one. Nobody can miss it. Starts
//!   that end before they meet anybody cost the list nothing, however many they are.
//! - A disk put back to before a boot was shown begins another boot in its place, with other bits:
//!   its list lacks the one that is pinned, for ever. That holds even if the file already had that
//!   boot, not shown yet; and of two copies of such a disk only one is heard.
//! - What does not say otherwise counts as shown: the file's bit means "not shown", and is set only
//!   for [`HeldDir::begin`], whose caller takes on to say when.
//!
//! One write a boot, before its first hello, and none if there is none.

use super::error::OpenError;
use super::identity::{DataDir, HeldDir, Identity, write};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// What is stored in the directory that this process holds.
#[derive(Debug)]
pub(super) struct IdentityFile {
    directory: PathBuf,
    stored: Mutex<Identity>,
    /// Held for as long as this lives: what writes the file holds the directory.
    _lock: File,
}

impl IdentityFile {
    /// `stored` counts for nothing but whether its newest boot was shown, until it is stored.
    pub(super) fn new(directory: &Path, stored: Identity, lock: File) -> IdentityFile {
        let directory = directory.to_owned();
        IdentityFile { directory, stored: Mutex::new(stored), _lock: lock }
    }

    fn lock(&self) -> MutexGuard<'_, Identity> {
        self.stored.lock().expect("nobody panics while storing an identity")
    }

    /// Stores all of it, but whether the newest boot was shown: that is for this file to know.
    pub(super) fn store(&self, identity: &Identity) -> Result<(), OpenError> {
        let mut stored = self.lock();
        let new = Identity { shown: stored.shown, ..identity.clone() };
        write(&self.directory, &new)?;
        *stored = new;
        Ok(())
    }

    fn show(&self) -> Result<(), OpenError> {
        let mut stored = self.lock();
        if stored.shown {
            return Ok(());
        }
        let new = Identity { shown: true, ..stored.clone() };
        write(&self.directory, &new)?;
        *stored = new;
        Ok(())
    }
}

/// A boot that nobody knows yet.
#[derive(Clone, Debug)]
#[must_use = "a boot is shown to nobody before it is said so here"]
pub struct Unshown {
    directory: PathBuf,
    /// Whoever closed the directory left it to others.
    file: Weak<IdentityFile>,
}

impl Unshown {
    /// The boot may be shown afterwards: that it was is durable. Again: nothing happens.
    ///
    /// # Errors
    /// The operating system's, or the directory is not held any more. The boot must not be shown.
    /// Only for lack of room may this be tried again.
    pub fn show(&self) -> Result<(), OpenError> {
        match self.file.upgrade() {
            Some(file) => file.show(),
            None => Err(OpenError::NotHeld(self.directory.clone())),
        }
    }
}

impl HeldDir {
    /// Begins a boot that replaces the newest one if that was never shown. It is to be shown to
    /// nobody before [`Unshown::show`] returned.
    ///
    /// # Errors
    /// The operating system's.
    pub fn begin(self) -> Result<(DataDir, Unshown), OpenError> {
        let directory = self.begin_as(false)?;
        let file = Arc::downgrade(&directory.file);
        let unshown = Unshown { directory: directory.path().to_owned(), file };
        Ok((directory, unshown))
    }
}
