//! Who may still write when the disk has no room for the next segment.
//!
//! What is left of the present one goes to what ends something before anything else, and in the
//! end to terms and votes: without those the others could lose their majority. A leader stops
//! earlier than a follower, so that what it has admitted can be committed by those whose disks are
//! as full as its own.
//!
//! Invariants: of an append a prefix is taken, never entries behind one that is left out. Must not
//! refuse a term's first entry or a configuration: those are few.

use super::logged;
use crate::planted::{self, Bug};
use crate::wal::{Disk, Wal};
use quorate_locks::{Command, LifeCommand, Logged};
use quorate_raft::{Entry, Kind};

/// Shares of a segment that are left when a leader takes no more commands but those that end
/// something.
const LEADER_SHARES: u64 = 4;
/// And none of these either; its own expiries go on.
const LEADER_ENDS_SHARES: u64 = 2;
/// The same of a follower.
const FOLLOWER_SHARES: u64 = 2;
/// What is left to terms and votes alone, and to what [`taken`] never refuses.
const FOLLOWER_ENDS_SHARES: u64 = 1;

/// Whether the leader's log has room for this command of a client, or of its sidecar.
pub(super) fn admits<D: Disk>(wal: &Wal<D>, command: &Command) -> bool {
    let ends = ends(command) && !planted::is(Bug::FullRefusesEnds);
    wal.has_left(if ends { LEADER_ENDS_SHARES } else { LEADER_SHARES })
}

/// How many of the leader's entries a follower's log has room for.
pub(super) fn taken<D: Disk>(wal: &Wal<D>, entries: &[Entry]) -> usize {
    if wal.has_left(FOLLOWER_SHARES) {
        return entries.len();
    }
    if planted::is(Bug::CrampedTakesNothing) {
        let commands = entries.iter().any(|entry| entry.kind() == Kind::Command);
        return if commands { 0 } else { entries.len() };
    }
    let has_for_ends = wal.has_left(FOLLOWER_ENDS_SHARES);
    let fits = |entry: &&Entry| entry.kind() != Kind::Command || (has_for_ends && is_end(entry));
    entries.iter().take_while(fits).count()
}

fn is_end(entry: &Entry) -> bool {
    match logged(entry) {
        Ok(Some(Logged::Command(command))) => ends(&command),
        Ok(Some(Logged::Life(LifeCommand::Lift { .. }))) => true,
        Ok(Some(Logged::Life(LifeCommand::Begin { .. })) | None) | Err(_) => false,
    }
}

/// Whether it makes state smaller, and lets others go on.
fn ends(command: &Command) -> bool {
    match command {
        Command::Expire { .. }
        | Command::Close { .. }
        | Command::Release { .. }
        | Command::Cancel { .. } => true,
        Command::Start { .. }
        | Command::Open { .. }
        | Command::Resume { .. }
        | Command::Claim(_) => false,
    }
}
