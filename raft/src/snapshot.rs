//! Snapshots: taking the host's, and installing the leader's.
//!
//! Invariants: a snapshot is installed only above the own commit index, so that a delayed one wipes
//! nothing that a quorum counts on; entries after it stay only if the log holds its last entry.
//! Must not reserve memory for what a peer only claims.

use crate::configuration::Configuration;
use crate::message::{Body, Event, Output, Snapshot};
use crate::node::{Node, Role, ignore};
use crate::types::{Index, IoSeq, LogId, MemberId};

/// A snapshot that is coming in.
#[derive(Clone, Hash)]
pub(crate) struct Incoming {
    last: LogId,
    total: u64,
    configuration: Configuration,
    data: Vec<u8>,
}

impl Incoming {
    fn received(&self) -> u64 {
        u64::try_from(self.data.len()).unwrap_or(u64::MAX)
    }
}

impl Node {
    /// A part that was checked on its own.
    pub(crate) fn take_part(&mut self, from: MemberId, body: Body, out: &mut Output) {
        let Body::Snapshot { last, configuration, offset, total, chunk, round } = body else {
            return;
        };
        let Role::Follower(follower) = &mut self.role else { return };
        if last.index <= self.commit.index {
            follower.incoming = None;
            let after = self.fence_of(last.index);
            let body = Body::SnapshotReply { last, received: total, round };
            return self.send(from, body, after, out);
        }
        let same = |incoming: &&mut Incoming| incoming.last == last && incoming.total == total;
        let received = match follower.incoming.as_mut().filter(same) {
            Some(incoming) => {
                if offset == incoming.received() {
                    incoming.data.extend_from_slice(&chunk);
                }
                incoming.received()
            }
            None if offset == 0 => {
                let data = chunk.to_vec();
                follower.incoming.insert(Incoming { last, total, configuration, data }).received()
            }
            None => 0,
        };
        let mut after = IoSeq(0);
        if received == total {
            let Some(whole) = follower.incoming.take() else { return };
            let Incoming { last, configuration, data, .. } = whole;
            after = self.install(Snapshot { last, configuration, data: data.into() }, out);
        }
        self.send(from, Body::SnapshotReply { last, received, round }, after, out);
    }

    /// The write after which the log is durable up to `index`; 0 if it is.
    pub(crate) fn fence_of(&self, index: Index) -> IoSeq {
        if index <= self.log.durable() { IoSeq(0) } else { self.writes.fence(index) }
    }

    fn install(&mut self, snapshot: Snapshot, out: &mut Output) -> IoSeq {
        assert!(snapshot.last.index > self.commit.index, "only what is news is installed");
        let last = snapshot.last;
        let keep_suffix = self.log.install(snapshot.clone(), self.commit.index);
        if !keep_suffix {
            self.writes.truncate(self.commit.index.next());
        }
        let write = self.writes.install(self.now, snapshot.clone(), keep_suffix, out);
        self.commit = last;
        self.handed = last.index;
        self.applied = last.index;
        // What was handed out in this batch is part of the snapshot.
        out.apply = None;
        out.events.push(Event::SnapshotInstalled(snapshot));
        write
    }

    /// The host's snapshot of what it applied.
    pub(crate) fn snapshot_built(&mut self, snapshot: Snapshot, out: &mut Output) {
        let me = self.config.id;
        let last = snapshot.last;
        if last.index <= self.log.snapshot_index() {
            return ignore(me, "a snapshot that is not newer", out);
        }
        if last.index > self.applied || last.index > self.log.durable() || !self.log.holds(last) {
            return ignore(me, "a snapshot of what is not applied and durable", out);
        }
        let drop_to = self.log.compact(snapshot, self.config.tail_bytes);
        if let Some(snapshot) = self.log.snapshot().cloned() {
            self.writes.snapshot(self.now, snapshot, drop_to, out);
        }
    }
}
