//! What sidecars say to each other beside Raft's own messages. Pure: the wire form is
//! `peer::convert`'s.

use quorate_locks::{Generation, SessionId};
use quorate_raft::{Index, LogId, Message, Term, Why};
use std::sync::Arc;

/// One message between two sidecars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Consensus.
    Raft(Message),
    /// A command or a read for the leader.
    Forward(Forward),
    /// Its answer.
    ForwardReply(ForwardReply),
    /// One sidecar's word that its sessions live.
    Heartbeat(Heartbeat),
    /// Its acknowledgement.
    HeartbeatAck(HeartbeatAck),
}

/// A request to the leader, sent under the term that the sender routed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The sender's handle: comes back with the answer.
    pub ticket: u64,
    /// A leader of another term answers `NotAppended`.
    pub term: Term,
    /// What is asked.
    pub what: Ask,
}

/// What is asked of the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Append this encoded command.
    Command(Arc<[u8]>),
    /// The index that a linearizable read must have seen.
    ReadIndex,
}

/// The answer to a [`Forward`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardReply {
    /// The asker's handle.
    pub ticket: u64,
    /// How it went.
    pub reply: Reply,
}

/// How a forward went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// In the leader's log.
    Appended(LogId),
    /// Read once this is applied.
    ReadAt(Index),
    /// Definitely not done.
    NotAppended(Why),
}

/// One sidecar's word that its sessions live. Not logged. Every transmission has a `seq` of its
/// own, resends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Rising per boot of the sender.
    pub seq: u64,
    /// The term it was routed under.
    pub term: Term,
    /// The random bits of the sender's boot.
    pub boot: u64,
    /// Its sessions.
    pub sessions: Vec<(SessionId, Generation)>,
    /// Whose they are, where a member relays them for an attached sidecar; else the sender's own.
    pub sidecar: Option<u128>,
}

/// The leader's acknowledgement of a [`Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAck {
    /// Of which transmission.
    pub seq: u64,
    /// The leader's term.
    pub term: Term,
    /// The leader's applied index: credited only once the receiver's own apply has reached it.
    pub applied: Index,
    /// The sessions extended.
    pub sessions: Vec<(SessionId, Generation)>,
}
