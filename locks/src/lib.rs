//! The replicated state machine of Quorate: sessions, claims, queues and fencing tokens.
//!
//! One primitive carries everything. A **name** has an ordered queue of **claims**; the first one
//! holds it under a **fencing token**. A lock is a name with a holder; an election is a lock with
//! a value. Claims belong to **sessions**, and a session's death ends all its claims in the same
//! step: expiry, queue and grant are one log entry.
//!
//! [`Machine::apply`] is a total function of the log: the same commands at the same indexes give
//! the same machine, the same [`Outcome`]s and the same [`Event`]s on every member, and equal
//! machines encode to equal bytes. Bad input is refused with a reason; it never panics.
//!
//! # Invariants (checked whole by [`Machine::check`])
//!
//! - A name has at most one holder. It exists only while somebody holds it or waits for it.
//! - A token is given once, and tokens only rise: `epoch << 48 | n`, where `n` is above every
//!   earlier `n` and not below the index of its entry.
//! - A name without a holder has no waiters either, unless the epoch has no token left, or grants
//!   are held off.
//! - A session has at most one live claim on a name, and a claim stands in one place: the holder's
//!   or one in the queue.
//! - A request id is executed at most once in a session's life. The session keeps at most 256
//!   outcomes; below its floor nothing is kept and nothing is executed. A live claim stays known
//!   by its request id for as long as it lives, whatever the floor.
//! - A refused command changes nothing.
//! - Memory follows live sessions and names, never past ones.
//!
//! # What is absent
//!
//! No clock: the leader decides that a session expired and says so in an [`Command::Expire`].
//! No IO, threads, randomness or hash order. No knowledge of members beyond the
//! [`Attachment`] that a session records, and none of who is the leader.

mod bytes;
mod claims;
mod codec;
mod command;
mod invariants;
mod life;
pub mod limits;
mod machine;
mod name;
pub mod planted;
mod requests;
mod session;
mod snapshot;
mod tokens;

pub use bytes::DecodeError;
pub use command::*;
pub use life::{LifeCommand, Logged};
pub use machine::Machine;
pub use name::{HolderView, NameView, WaiterView, Waiters};
pub use session::Session;
