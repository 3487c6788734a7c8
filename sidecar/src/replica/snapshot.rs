//! When a member takes a snapshot of its own state.

use crate::planted::{self, Bug};
use quorate_locks::Machine;
use quorate_raft::{Entry, Node, Snapshot};

/// A snapshot is due once the log since the last one is as large as this. The state is far smaller
/// than its log, so the bound limits memory and recovery time, not disk space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Bytes of entries; 16 MiB.
    pub(super) bytes: u64,
    /// Entries; 100,000.
    pub(super) entries: u64,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy { bytes: 16 << 20, entries: 100_000 }
    }
}

impl Policy {
    /// A snapshot of the present state, if one is due. It may be handed to the node only once its
    /// last entry is durable here: else it would survive a crash that its log does not.
    pub(super) fn due(&self, node: &Node, machine: &Machine) -> Option<Snapshot> {
        let applied = node.applied();
        let base = node.snapshot().map_or(0, |s| s.last.index.0);
        if node.log_bytes() < self.bytes && applied.0.saturating_sub(base) < self.entries {
            return None;
        }
        newer(node, machine)
    }
}

/// A snapshot of the present state, newer than the last one.
pub(super) fn newer(node: &Node, machine: &Machine) -> Option<Snapshot> {
    let base = node.snapshot().map_or(0, |s| s.last.index.0);
    if node.applied().0 <= base { None } else { now(node, machine) }
}

/// The present state.
pub(super) fn now(node: &Node, machine: &Machine) -> Option<Snapshot> {
    let applied = node.applied();
    let ahead = planted::is(Bug::StateAheadOfSnapshot);
    let at = if ahead { applied.previous() } else { applied };
    let snapshot = || node.snapshot().map(|s| s.last).filter(|last| last.index == at);
    let last = node.entry(at).map(Entry::id).or_else(snapshot)?;
    // A snapshot carries the configuration as of its index; a later one in the log is not that.
    if node.configuration_index() > applied {
        return None;
    }
    let configuration = node.configuration().clone();
    Some(Snapshot { last, configuration, data: machine.encode().into() })
}
