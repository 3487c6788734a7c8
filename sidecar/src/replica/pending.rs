//! The requests that the node has not answered yet.

use super::Origin;
use crate::frame::Heartbeat;
use quorate_locks::{Generation, SessionId, Token};
use quorate_raft::Ticket;
use std::collections::BTreeMap;

/// What a ticket stands for.
#[derive(Debug)]
pub(super) enum Pending {
    /// Some agent's command or read, under that agent's own ticket.
    Forward { origin: Origin, ticket: u64, closes: Option<(SessionId, Generation)> },
    /// The read round that a heartbeat's acknowledgement rests on.
    Beat { origin: Origin, beat: Heartbeat },
    /// The leader's own expiry of these.
    Expire(Vec<(SessionId, Generation)>),
    /// The end of this life's hold-off.
    Lift(Token),
    /// A transfer of leadership; how it went is seen from who leads.
    Transfer,
    /// A change of the membership, under the host's own number.
    Change(u64),
}

/// Tickets given to the node. Bounded by what the node admits: each gets exactly one answer.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    next: u64,
    pending: BTreeMap<Ticket, Pending>,
}

impl Tickets {
    pub(super) fn put(&mut self, pending: Pending) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.pending.insert(ticket, pending);
        ticket
    }

    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        self.pending.remove(&ticket)
    }
}
