//! What a disk holds once a write has ended: the contract of [`Write`], for all tests.

use quorate_raft::{Restored, Write};

pub fn persist(disk: &mut Restored, write: Write) {
    match write {
        Write::HardState { term, vote } => (disk.term, disk.vote) = (term, vote),
        Write::Append(all) => {
            disk.entries.retain(|entry| entry.id().index < all[0].id().index);
            disk.entries.extend(all);
        }
        Write::Snapshot { snapshot, .. } => {
            disk.entries.retain(|entry| entry.id().index > snapshot.last.index);
            disk.snapshot = Some(snapshot);
        }
        Write::Install { snapshot, keep_suffix } => {
            disk.entries.retain(|entry| keep_suffix && entry.id().index > snapshot.last.index);
            disk.snapshot = Some(snapshot);
        }
    }
}
