//! Every number that shapes a node's behaviour, each default with its reason.
//!
//! Must not hold anything that the group has to agree on: members may differ in all of these.

use crate::types::MemberId;

const MS: u64 = 1_000_000;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Settings of one node. Start from [`Config::new`].
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// Where all randomness comes from; mixed with `id`, so that members may share it.
    pub seed: u64,
    /// T, in nanoseconds: a follower stands after a random T to 2 T without a leader, and a leader
    /// without a quorum steps down after T. 800 ms: five lost heartbeats, and above the longest
    /// pause of a healthy volume's flush; a dead leader's peers do not wait for it, because they
    /// see the connection end.
    pub election_timeout_ns: u64,
    /// Nanoseconds between heartbeats. T/5: four may be lost before anybody stands.
    pub heartbeat_ns: u64,
    /// Nanoseconds within which a lost leader's peers first ask for pre-votes, at random. 10 ms:
    /// ten local round trips apart on average, so that most elections have one candidate.
    pub lost_first_ns: u64,
    /// Nanoseconds; failed tries after it repeat at one to three times this, doubling up to T.
    /// 10 ms: one flush and one round trip of a common volume fit.
    pub lost_retry_ns: u64,
    /// Nanoseconds that a transfer may take before proposals resume. 4 T/5: below T, so that a
    /// failed transfer costs less than an election.
    pub transfer_ns: u64,
    /// Nanoseconds that a change may wait for its new voters' logs and for the disks of both
    /// halves. 4 T/5: below T, so that who is silent is named before the leader steps down for it.
    pub change_ns: u64,
    /// Entries on the way to one follower, at most. 256: fills a 1 ms link at 256,000 entries/s.
    pub window_entries: u64,
    /// Bytes on the way to one follower, at most. 1 MiB: fills a 1 ms link at 1 GB/s.
    pub window_bytes: u64,
    /// Bytes of entries in one message, at most (one entry always fits). 1 MiB: peers refuse more.
    pub frame_bytes: u64,
    /// Bytes of one command, at most. 256 KiB: a frame's headers and four of these fit in one.
    pub command_bytes: u64,
    /// Entries not yet committed, at most; then commands are refused as busy. 4,096: 64 a client at
    /// 64 clients, and bounds what an isolated leader holds.
    pub uncommitted_entries: u64,
    /// Bytes of the same. 4 MiB: four frames.
    pub uncommitted_bytes: u64,
    /// Bytes of a snapshot in one message. 256 KiB: a heartbeat behind it waits 2 ms at 1 Gbit/s.
    pub snapshot_chunk_bytes: u64,
    /// Bytes of a snapshot a second to one member, at most, after the first window. 32 MiB: a
    /// quarter of 1 Gbit/s, so that a member that catches up takes neither the link nor the
    /// leader's core from those that vote.
    pub snapshot_bytes_per_second: u64,
    /// Bytes of a snapshot from a peer, at most. 1 GiB: memory grows only with what arrived.
    pub snapshot_bytes: u64,
    /// Bytes of entries below a new snapshot that stay in memory. 1 MiB: a follower a second behind
    /// is served from the log rather than by a snapshot.
    pub tail_bytes: u64,
    /// Whether to check all invariants after each step also in release builds.
    pub check: bool,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(id: MemberId, seed: u64) -> Config {
        Config {
            id,
            seed,
            election_timeout_ns: 800 * MS,
            heartbeat_ns: 160 * MS,
            lost_first_ns: 10 * MS,
            lost_retry_ns: 10 * MS,
            transfer_ns: 640 * MS,
            change_ns: 640 * MS,
            window_entries: 256,
            window_bytes: MIB,
            frame_bytes: MIB,
            command_bytes: 256 * KIB,
            uncommitted_entries: 4096,
            uncommitted_bytes: 4 * MIB,
            snapshot_chunk_bytes: 256 * KIB,
            snapshot_bytes_per_second: 32 * MIB,
            snapshot_bytes: 1024 * MIB,
            tail_bytes: MIB,
            check: false,
        }
    }

    /// Nanoseconds that a part of a snapshot of so many bytes takes at the highest rate.
    pub(crate) fn part_ns(&self, bytes: u64) -> u64 {
        let bytes = u128::from(bytes);
        let rate = u128::from(self.snapshot_bytes_per_second.max(1));
        u64::try_from(bytes.saturating_mul(1_000 * u128::from(MS)) / rate).unwrap_or(u64::MAX)
    }

    /// The same with another T, and all that is derived from it.
    #[must_use]
    pub fn with_election_timeout(mut self, nanos: u64) -> Config {
        self.election_timeout_ns = nanos;
        self.heartbeat_ns = nanos / 5;
        self.transfer_ns = nanos / 5 * 4;
        self.change_ns = nanos / 5 * 4;
        self
    }
}
