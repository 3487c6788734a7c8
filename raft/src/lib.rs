//! Raft consensus as one synchronous, total function: things that happen go in, things to do come
//! out. No IO, clock, thread or randomness but from a seed, so that every run can be repeated.
//!
//! # How a host drives it
//!
//! [`Node::step`] takes one [`Input`] and appends to an [`Output`]; after a batch of steps
//! [`Node::flush`] lets a leader send what the batch brought; then the host makes
//! [`Output::writes`] durable in their order, sends [`Output::sends`] each once its fence is
//! durable, applies [`Output::apply`], answers [`Output::done`]. It reports back with
//! [`Input::Durable`] and [`Input::Applied`], and steps [`Input::Timer`] at [`Node::deadline`].
//! After a restart [`Node::new`] takes what the disk had; the core never reads storage.
//!
//! # What holds
//!
//! The five properties of the Raft paper (Ongaro and Ousterhout, 2014, figure 3):
//!
//! - *Election safety*: at most one leader a term. One vote a term, durable before anybody hears
//!   of it (the candidate itself included), and two quorums share a voter.
//! - *Leader append-only*: a leader never changes or deletes an entry of its own log.
//! - *Log matching*: if two logs hold the same [`LogId`], they are equal up to it. A follower takes
//!   entries only behind one that it holds.
//! - *Leader completeness*: what was committed is in the log of every later leader. Votes go only
//!   to logs that end as late, and only an entry of the leader's own term is committed by counting.
//! - *State machine safety*: every member applies the same entry at an index. A follower commits a
//!   [`LogId`], never a bare index; a snapshot is installed only above the own commit index.
//!
//! # How
//!
//! - **Durability is in the types.** Term, vote and entries are one ordered log of writes, numbered
//!   by [`IoSeq`]; an [`Envelope`] waits for the write that makes it true. Nothing that tells of a
//!   term or vote leaves before that is durable, and `Durable(i)` means the follower's disk. A
//!   leader sends before its own disk has an entry; its own match is what its disk has. A write
//!   that a truncation overtook counts for nothing it no longer describes (`writes.rs`).
//! - **One quorum rule**, [`quorum_value`], over both halves of a configuration, for commit, votes,
//!   pre-votes, read rounds and activity.
//! - **Elections**: pre-vote, check-quorum and stickiness are always on (dissertation, sections 9.6
//!   and 6.2; 4.2.3). A lost connection to the leader ([`Input::PeerLost`]) only hurries them. A
//!   leader whose quorum, or whose own disk, is silent for T steps down.
//! - **Replication**: per follower a probe, a stream within a window, or a snapshot one part at a
//!   time; both sides skip a whole term at a mismatch. A heartbeat is an append without entries
//!   behind the last entry sent: it finds a lost message by itself. Messages may be lost, late,
//!   doubled and out of order.
//! - **Reads**: a round of acknowledgements that started after the read arrived, once the no-op of
//!   the leader's term is applied. Never a lease: nothing here rests on clocks but liveness.
//! - **Configurations** take effect when appended, are a function of snapshot and log alone, and
//!   go back with a truncation. Vote handlers never ask the own configuration.
//! - **Changes of the membership** ([`Input::Change`]) go by joint consensus, of any size, guarded
//!   by the index of the configuration that the asker means. New voters are learners first and
//!   within one window of the leader; a majority of each half has an entry durable that follows
//!   the request; any leader leaves the joint configuration, or gives it up, but only after an
//!   entry of its own term is committed (`membership.rs` has the traces of looser rules). One
//!   exception: a leader gives up what it began itself in this term, and does so at once when the
//!   new half alone falls silent, or its disks hang for T. A leader lost just then, with the new
//!   half gone for good, needs an operator. A leader that is to go offers leadership first, else
//!   leads without counting itself until its removal is committed. Who left is told so. A member
//!   that has no vote, and knows that for committed, never stands; one that does not know may be
//!   the only one who can be elected.
//!
//! # What it must not do, and leaves out
//!
//! No message of any content, and no disk content, makes it panic: what cannot be is dropped with
//! [`Event::Ignored`]. An assertion stands for a bug of ours. Peers may crash and lag but are not
//! traitors: a member that lies about its disk can break what it acknowledged.
//!
//! Left out: leader leases, witnesses, and entries fetched back from storage.

mod candidate;
mod config;
mod configuration;
mod follower;
mod invariants;
mod leader;
mod log;
mod membership;
mod message;
mod node;
pub mod planted;
mod progress;
mod quorum;
mod random;
mod read;
mod snapshot;
mod transfer;
mod types;
mod writes;

pub use config::Config;
pub use configuration::Configuration;
pub use message::{
    Answer, Body, Change, Envelope, Event, Input, Message, Outcome, Output, Refused, Snapshot, Why,
    Write,
};
pub use node::{Node, Restored, RoleName};
pub use progress::Standing;
pub use quorum::{has_quorum, quorum_value};
pub use types::{Entry, Index, IoSeq, Kind, LogId, Malformed, MemberId, Round, Term, Ticket, Time};
