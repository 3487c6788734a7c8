//! The sidecar's side of sessions: what its clients asked for, and what it may tell them.
//!
//! One agent a boot of a sidecar. It forwards commands to the leader and answers from its OWN
//! member's apply; it sends the heartbeat that speaks for all its sessions; it alone computes
//! deadlines. A session whose deadline passed here is dead here, whatever the leader still
//! thinks.
//!
//! Every command it sends is safe to repeat: sessions have keys, claims and releases have request
//! ids, moves name the generation that they replace. So an answer that got lost is asked for again,
//! and the copy changes nothing.
//!
//! Architecture invariant: no thread, no socket, no clock, no async runtime. Time is an argument.
//! What a client is told leaves as an [`Effect`]; whoever carries it counts it as handed over.

mod alarm;
mod claim;
mod heartbeat;
mod operation;
mod read;
mod session;

pub use read::{HolderInfo, NameInfo, Query, SessionInfo, WaiterInfo};

use crate::frame::{Forward, ForwardReply, Heartbeat, HeartbeatAck};
use crate::reason::{Failure, Reason};
use alarm::{Alarm, Alarms};
use claim::ClaimCall;
use heartbeat::Beats;
use operation::Operation;
use quorate_locks::{
    Attachment, Event as Change, Generation, Grant, Key, Machine, NameKind, Outcome, RequestId,
    SessionId, Token,
};
use quorate_raft::{Configuration, Index, LogId, MemberId, Term, Time};
use session::Session;
use std::collections::{BTreeMap, BTreeSet};

/// Calls open at once at one sidecar, at most; a further one is refused.
pub const CALLS_MAX: usize = 10_000;
/// Operations on their way to the leader at once, at most.
pub const OPERATIONS_MAX: usize = 8_192;

const NANOS_PER_MS: u64 = 1_000_000;

/// One call of a client: a stream or a unary request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One connection of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// How a session is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// 1,000 to 600,000.
    pub ttl_ms: u32,
    /// For people.
    pub label: String,
    /// What its client promises of itself.
    pub bond: Bond,
}

/// What a client promises of itself at Open or Resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bond {
    /// It stops by itself 0.95 s after its connection breaks.
    pub stops_at_break: bool,
    /// Its process tree holds a tether.
    pub tethered: bool,
}

/// A claim as a client makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Whose.
    pub key: Key,
    /// Opens the session, if the key is not known.
    pub opening: Option<Opening>,
    /// The name.
    pub name: String,
    /// Lock or election.
    pub kind: NameKind,
    /// The election's value.
    pub value: Vec<u8>,
    /// Its id.
    pub request: RequestId,
    /// Outcomes below are forgotten.
    pub lowest_unacked: RequestId,
    /// Wait in the queue.
    pub queue: bool,
    /// How long, in ns; without it as long as the call lives.
    pub wait: Option<u64>,
    /// A Hold or Participate stream, rather than a unary call.
    pub stream: bool,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A new session; the call keeps it renewed.
    Open(Key, Opening),
    /// A session back; the call keeps it renewed.
    Resume(Key, Generation, Bond),
    /// A name.
    Claim(ClaimRequest),
    /// A name given back.
    Release {
        /// Whose.
        key: Key,
        /// Which.
        name: String,
        /// Under which grant.
        token: Token,
        /// Its id.
        request: RequestId,
        /// Outcomes below are forgotten.
        lowest_unacked: RequestId,
    },
    /// A session's end.
    Close(Key),
    /// This connection ends when the whole application is gone.
    Tether(Key),
    /// Who leads, now and at each change.
    Observe(String),
    /// A linearizable look at the state.
    Read(Query),
}

/// One thing that happens to the agent.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client's call.
    Call(CallId, ConnectionId, Request),
    /// The client will send no more: release, or resign.
    HalfClose(CallId),
    /// The call ended otherwise.
    Gone(CallId),
    /// A connection ended.
    ConnectionEnded {
        /// Which.
        connection: ConnectionId,
        /// The peer closed it, on the Unix socket; not we, and not a network.
        by_peer: bool,
    },
    /// The process at the other end of this connection is dead.
    ProcessDead(ConnectionId),
    /// The leader answered a forward.
    Reply(ForwardReply),
    /// The leader acknowledged a heartbeat.
    Ack(HeartbeatAck),
    /// An entry was applied here.
    Applied(LogId, Option<&'a Outcome>, &'a [Change]),
    /// The machine was replaced by a snapshot that ends here.
    Restored(LogId),
    /// Who leads.
    Leader(Term, Option<MemberId>),
    /// Who is who.
    Configuration(&'a Configuration),
    /// [`Agent::deadline`] is reached.
    Timer,
    /// This sidecar is stopping: tell all, heartbeat once more, take nothing new.
    Drain,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The session is open.
    Opened(SessionView),
    /// The session is back.
    Resumed(SessionView, Vec<Grant>, RequestId),
    /// Deadlines moved to here, on CLOCK_BOOTTIME.
    Renewed(Time),
    /// Renewals are overdue; the deadline stands.
    Jeopardy(Time),
    /// The session ended.
    Expired(Reason),
    /// This sidecar is stopping.
    Draining,
    /// In the queue, so many ahead.
    Queued(u32),
    /// The name is the session's.
    Granted(Token, SessionView),
    /// The name is taken.
    NotAcquired(Option<HolderInfo>),
    /// The grant ended, and not by this call.
    Lost(Reason),
    /// The claim ended as asked.
    Released,
    /// The session ended as asked, with so many grants.
    Closed(u32),
    /// Who leads now.
    Leader(Option<HolderInfo>),
    /// The answer of a read.
    Names(Vec<NameInfo>),
    /// The answer of a read.
    Sessions(Vec<SessionInfo>),
    /// The tether is bound.
    Tethered,
}

/// A session as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Its public name.
    pub id: SessionId,
    /// Its attachment's number.
    pub generation: Generation,
    /// Its TTL.
    pub ttl_ms: u32,
    /// Until when it surely lives, on CLOCK_BOOTTIME.
    pub deadline: Time,
    /// The TTL is at least 6 election timeouts: a change of Raft leader does not end it.
    pub rides_through_failover: bool,
}

/// What the agent asks of the world.
#[derive(Debug)]
pub enum Effect {
    /// To the leader, which may be this member.
    Forward(MemberId, Forward),
    /// To the leader, which may be this member.
    Heartbeat(MemberId, Heartbeat),
    /// An item of a call's stream.
    Tell(CallId, Told),
    /// The last word of a call: an answer, the end of a stream, or a refusal.
    Finish(CallId, Result<Option<Told>, Failure>),
}

/// A call that the agent has not finished.
#[derive(Debug)]
enum Call {
    /// Open or Resume: waits for its operation, then keeps the session.
    Keeper { key: Key, bond: Bond, connection: ConnectionId, established: bool },
    /// A claim.
    Claim(Box<ClaimCall>),
    /// Release, Close or a read: waits for its operation.
    Simple,
    /// An observer, and the token of the holder it was last told.
    Observe { name: String, told: Option<Option<Token>> },
    /// A tether.
    Tether,
}

/// The timing of an agent.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A TTL of at least this rides through a change of Raft leader; 6 election timeouts.
    pub ride_through_ns: u64,
    /// A forward without an answer is sent again after this; half an election timeout.
    pub resend_ns: u64,
    /// A refused forward is tried again after this, if no new leader shows up sooner.
    pub retry_ns: u64,
    /// A unary call without a majority is answered after this.
    pub unavailable_ns: u64,
}

impl Timing {
    /// From the group's election timeout.
    #[must_use]
    pub fn new(election_timeout_ns: u64) -> Timing {
        Timing {
            ride_through_ns: 6 * election_timeout_ns,
            resend_ns: election_timeout_ns / 2,
            retry_ns: 10 * NANOS_PER_MS,
            unavailable_ns: 5_000 * NANOS_PER_MS,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Agent {
    own: Attachment,
    timing: Timing,
    leader: Option<(MemberId, Term)>,
    term: Term,
    applied: Index,
    draining: bool,
    names: BTreeMap<u128, String>,
    sessions: BTreeMap<Key, Session>,
    by_id: BTreeMap<SessionId, Key>,
    calls: BTreeMap<CallId, Call>,
    operations: BTreeMap<u64, Operation>,
    /// Operations in some leader's log, by place.
    appended: BTreeSet<(Index, Term, u64)>,
    /// Reads that wait for the own apply.
    reads: BTreeSet<(Index, u64)>,
    /// Claims to ask again after a snapshot.
    claims_again: Vec<CallId>,
    /// Begins at the boot's random bits: an answer meant for an earlier boot finds nobody.
    next_ticket: u64,
    observers: BTreeMap<String, BTreeSet<CallId>>,
    beats: Beats,
    alarms: Alarms,
    effects: Vec<Effect>,
}

impl Agent {
    /// An agent for one boot of a sidecar.
    #[must_use]
    pub fn new(own: Attachment, timing: Timing) -> Agent {
        Agent {
            own,
            timing,
            leader: None,
            term: Term(0),
            applied: Index(0),
            draining: false,
            names: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_id: BTreeMap::new(),
            calls: BTreeMap::new(),
            operations: BTreeMap::new(),
            appended: BTreeSet::new(),
            reads: BTreeSet::new(),
            claims_again: Vec::new(),
            next_ticket: own.boot,
            observers: BTreeMap::new(),
            beats: Beats::from(own.boot),
            alarms: Alarms::default(),
            effects: Vec::new(),
        }
    }

    /// Takes over the timing of a group that was met only now.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// Takes one input; effects are in [`Agent::effects`].
    pub fn handle(&mut self, now: Time, input: Input<'_>, machine: &Machine) {
        match input {
            Input::Call(call, connection, request) => {
                self.call(now, call, connection, request, machine);
            }
            Input::HalfClose(call) => self.half_close(now, call),
            Input::Gone(call) => self.gone(now, call),
            Input::ConnectionEnded { connection, by_peer } => {
                self.connection_ended(now, connection, by_peer);
            }
            Input::ProcessDead(connection) => self.process_dead(now, connection),
            Input::Reply(reply) => self.reply(now, reply, machine),
            Input::Ack(ack) => self.ack(now, ack),
            Input::Applied(id, outcome, changes) => {
                self.entry_applied(now, id, outcome, changes, machine);
            }
            Input::Restored(last) => self.restored(now, last, machine),
            Input::Leader(term, leader) => self.leader(now, term, leader),
            Input::Configuration(configuration) => {
                self.names =
                    configuration.members().map(|(id, name)| (id.0, name.to_owned())).collect();
            }
            Input::Timer => self.timer(now),
            Input::Drain => self.drain(now),
        }
    }

    /// What the last inputs ask of the world, in order.
    pub fn effects(&mut self) -> std::vec::Drain<'_, Effect> {
        self.effects.drain(..)
    }

    /// When [`Input::Timer`] wants to come.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.alarms.next()
    }

    /// Sessions attached here.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Calls open here.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    fn call(
        &mut self,
        now: Time,
        call: CallId,
        connection: ConnectionId,
        request: Request,
        machine: &Machine,
    ) {
        if self.draining {
            let failure = Failure::new(
                Reason::Draining,
                "this sidecar is stopping; connect again when it is back, and Resume",
            );
            return self.finish(call, Err(failure));
        }
        if self.calls.len() >= CALLS_MAX || self.operations.len() >= OPERATIONS_MAX {
            let failure = Failure::new(
                Reason::TooManyRequests,
                format!(
                    "too many requests are open at this sidecar (limits: {CALLS_MAX} calls, \
                     {OPERATIONS_MAX} commands under way); try later"
                ),
            );
            return self.finish(call, Err(failure));
        }
        match request {
            Request::Open(key, opening) => self.open(now, call, connection, key, opening),
            Request::Resume(key, replaces, bond) => {
                self.resume(now, call, connection, (key, replaces, bond));
            }
            Request::Claim(claim) => self.claim(now, call, connection, claim, machine),
            Request::Release { key, name, token, request, lowest_unacked } => {
                let ids = Some((request, lowest_unacked));
                self.release(now, call, key, (name, token, ids), machine);
            }
            Request::Close(key) => self.close_asked(now, call, key, machine),
            Request::Tether(key) => self.tether(call, connection, key, machine),
            Request::Observe(name) => self.observe(now, call, name),
            Request::Read(query) => self.read(now, call, query),
        }
    }

    fn gone(&mut self, now: Time, id: CallId) {
        match self.calls.remove(&id) {
            Some(Call::Keeper { key, .. }) => self.drop_keeper(key, id),
            Some(Call::Claim(claim)) => self.claim_gone(now, id, *claim),
            Some(Call::Observe { name, .. }) => self.drop_observer(&name, id),
            Some(Call::Tether | Call::Simple) | None => {}
        }
    }

    fn entry_applied(
        &mut self,
        now: Time,
        id: LogId,
        outcome: Option<&Outcome>,
        changes: &[Change],
        machine: &Machine,
    ) {
        self.applied = id.index;
        // Changes first: a move ends what the older attachment had, before its own answer makes the
        // new one.
        for change in changes {
            self.changed(now, change);
        }
        self.operations_applied(now, id, outcome, machine);
        self.observers_changed(changes, machine);
        self.credit_due(now);
    }

    fn changed(&mut self, now: Time, change: &Change) {
        match change {
            Change::Moved { session, generation, .. } => self.moved(*session, *generation),
            Change::Granted { session, request, token, .. } => {
                self.granted(now, *session, *request, *token);
            }
            Change::Lost { session, request, token, cause, .. } => {
                self.lost(*session, *request, *token, *cause);
            }
            Change::Dequeued { session, request, cause, .. } => {
                self.dequeued(*session, *request, *cause);
            }
            Change::Ended { session, cause } => self.ended(*session, *cause),
        }
    }

    fn leader(&mut self, now: Time, term: Term, leader: Option<MemberId>) {
        self.term = term;
        self.leader = leader.map(|leader| (leader, term));
        if self.leader.is_some() {
            self.send_all(now);
            self.beat(now);
        }
    }

    fn timer(&mut self, now: Time) {
        while let Some(alarm) = self.alarms.pop_due(now) {
            match alarm {
                Alarm::Beat => self.beat_due(now),
                Alarm::Session(key) => self.session_due(now, key),
                Alarm::Break(key, generation) => self.break_due(now, key, generation),
                Alarm::Operation(ticket) => self.operation_due(now, ticket),
                Alarm::Call(call) => self.call_due(now, call),
            }
        }
    }

    fn drain(&mut self, now: Time) {
        self.draining = true;
        let streams: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| match call {
                Call::Keeper { established, .. } => *established,
                Call::Claim(claim) => claim.stream,
                _ => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for call in streams {
            self.tell(call, Told::Draining);
        }
        self.beat(now);
    }

    fn tell(&mut self, call: CallId, told: Told) {
        self.effects.push(Effect::Tell(call, told));
    }

    fn finish(&mut self, call: CallId, answer: Result<Option<Told>, Failure>) {
        if let Some(Call::Claim(claim)) = self.calls.remove(&call) {
            self.alarms.cancel(claim.until, Alarm::Call(call));
        }
        self.effects.push(Effect::Finish(call, answer));
    }
}

#[cfg(test)]
mod tests;
