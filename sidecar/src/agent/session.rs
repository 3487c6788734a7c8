//! Sessions attached to this boot: opened, taken back, renewed, ended.

use super::alarm::Alarm;
use super::claim::ClaimState;
use super::operation::Purpose;
use super::{Agent, Bond, Call, CallId, ConnectionId, NANOS_PER_MS, Opening, SessionView, Told};
use crate::planted::{self, Bug};
use crate::reason::{Failure, Reason};
use quorate_locks::{Cause, Command, Generation, Grant, Key, Machine, RequestId, SessionId};
use quorate_raft::Time;
use std::collections::{BTreeMap, BTreeSet};

/// The part of a TTL that a holder may count on, in percent: clocks run at rates within 3 %, and
/// the rest is margin.
const SAFE_PERCENT: u64 = 95;
/// After a broken connection, for a client that promised to stop 0.95 s after it.
const BREAK_GRACE_NS: u64 = 1_000 * NANOS_PER_MS;

/// Connections that one session remembers, at most.
const HOLDERS_MAX: usize = 16;

/// How far a session is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its deadline lies ahead.
    Live,
    /// Its deadline passed here, or its Close was sent: never renewed again.
    Ending,
}

/// A session attached to this boot of this sidecar.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) generation: Generation,
    pub(super) ttl_ms: u32,
    rides_through_failover: bool,
    pub(super) deadline: Time,
    phase: Phase,
    in_jeopardy: bool,
    /// When the next alarm of it rings.
    alarm: Time,
    /// The calls that keep it renewed: Open, Resume, Hold, Participate.
    pub(super) keepers: BTreeSet<CallId>,
    pub(super) claims: BTreeMap<RequestId, CallId>,
    /// Claims of this attachment whose grants were told, and have not ended.
    pub(super) handed: BTreeSet<RequestId>,
    /// Claims whose end is under way: cancelled or given back, not yet definite.
    pub(super) withdrawn: BTreeSet<RequestId>,
    /// Request ids from here on were first used in this attachment. The token of an older one may
    /// have been handed to the client by whoever had the session before.
    pub(super) own_requests: RequestId,
    /// Opened by a Hold or Participate: ends with it.
    pub(super) of_claim: bool,
    /// The connections of the calls that kept it.
    holders: BTreeMap<ConnectionId, Holder>,
    /// Too many of them came and went for all to be remembered: only its deadline ends it.
    crowded: bool,
    tether: Option<ConnectionId>,
    tether_closed: bool,
}

/// What is known of a connection that kept a session.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    bond: Bond,
    /// When its client closed it.
    broken: Option<Time>,
    /// The process at its other end is dead.
    dead: bool,
}

impl Holder {
    /// Its client promised to have stopped by then, unless it came back.
    fn stops_at(&self) -> Option<Time> {
        self.broken.filter(|_| self.bond.stops_at_break).map(|broken| broken.after(BREAK_GRACE_NS))
    }
}

impl Session {
    pub(super) fn is_renewable(&self, now: Time) -> bool {
        let kept = self.phase == Phase::Live && !self.keepers.is_empty() && now < self.deadline;
        kept || planted::is(Bug::DeadSessionRenewed)
    }

    pub(super) fn is_live(&self, now: Time) -> bool {
        self.phase == Phase::Live && now < self.deadline
    }

    /// Counts a heartbeat, or what earns like one, that left at `sent`. False if it moves nothing.
    pub(super) fn earn(&mut self, sent: Time) -> bool {
        let deadline = safe_until(sent, self.ttl_ms);
        if deadline <= self.deadline {
            return false;
        }
        self.deadline = deadline;
        self.in_jeopardy = false;
        true
    }

    pub(super) fn view(&self) -> SessionView {
        SessionView {
            id: self.id,
            generation: self.generation,
            ttl_ms: self.ttl_ms,
            deadline: self.deadline,
            rides_through_failover: self.rides_through_failover,
        }
    }

    /// It came with a claim, and nobody needs it any more: nothing keeps it, and nothing that was
    /// told is held.
    pub(super) fn is_over(&self) -> bool {
        self.of_claim && self.keepers.is_empty() && self.handed.is_empty()
    }

    /// Half of what a full deadline gives is gone without a renewal.
    fn jeopardy_at(&self) -> Time {
        let half = u64::from(self.ttl_ms) * NANOS_PER_MS * SAFE_PERCENT / 200;
        Time(self.deadline.0.saturating_sub(half))
    }

    /// A connection keeps it from here on.
    fn hold(&mut self, connection: ConnectionId, bond: Bond) {
        if self.holders.len() >= HOLDERS_MAX {
            self.holders.retain(|_, holder| holder.broken.is_none());
            self.crowded = true;
        }
        self.holders.insert(connection, Holder { bond, broken: None, dead: false });
    }

    /// The application is known dead: all its processes are, and all that its tree holds is closed
    /// here.
    fn is_known_dead(&self) -> bool {
        let tethered = self.tether.is_some() || self.holders.values().any(|h| h.bond.tethered);
        let tree_gone = !tethered || (self.tether.is_some() && self.tether_closed);
        let dead = |holder: &Holder| holder.broken.is_some() && holder.dead;
        let all_dead = !self.holders.is_empty() && self.holders.values().all(dead);
        all_dead && tree_gone && !self.crowded
    }

    /// When all who kept it have stopped, as they promised; `None`: somebody need not.
    fn stopped_at(&self) -> Option<Time> {
        let all: Option<Vec<Time>> = self.holders.values().map(Holder::stops_at).collect();
        all?.into_iter().max().filter(|_| !self.crowded)
    }
}

fn safe_until(sent: Time, ttl_ms: u32) -> Time {
    sent.after(u64::from(ttl_ms) * NANOS_PER_MS / 100 * SAFE_PERCENT)
}

/// What an Open or Resume came to, in the machine.
pub(super) struct Attached {
    pub(super) key: Key,
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) ttl_ms: u32,
    /// See [`Session::own_requests`].
    pub(super) own_requests: RequestId,
}

impl Agent {
    pub(super) fn open(
        &mut self,
        now: Time,
        call: CallId,
        connection: ConnectionId,
        key: Key,
        opening: Opening,
    ) {
        if let Some(session) = self.sessions.get(&key) {
            let answer = if !session.is_live(now) {
                Err(Failure::new(Reason::SessionExpired, "the session ended here; Open a new one"))
            } else if session.ttl_ms != opening.ttl_ms {
                Err(Failure::refused(quorate_locks::Refusal::TtlDiffers(session.ttl_ms)))
            } else {
                Ok(session.view())
            };
            match answer {
                Err(failure) => self.finish(call, Err(failure)),
                Ok(view) => {
                    self.keep(now, call, key, opening.bond, connection);
                    self.tell(call, Told::Opened(view));
                }
            }
            return;
        }
        let keeper = Call::Keeper { key, bond: opening.bond, connection, established: false };
        self.calls.insert(call, keeper);
        let command = self.open_command(key, opening);
        self.start(now, &command, Purpose::Open { call, key });
    }

    pub(super) fn open_command(&self, key: Key, opening: Opening) -> Command {
        let Opening { ttl_ms, label, .. } = opening;
        Command::Open { key, ttl_ms, attachment: self.own, label }
    }

    pub(super) fn resume(
        &mut self,
        now: Time,
        call: CallId,
        connection: ConnectionId,
        (key, replaces, bond): (Key, Generation, Bond),
    ) {
        if let Some(session) = self.sessions.get(&key)
            && !session.is_live(now)
        {
            let failure =
                Failure::new(Reason::SessionExpired, "the session ended here; Open a new one");
            return self.finish(call, Err(failure));
        }
        self.calls.insert(call, Call::Keeper { key, bond, connection, established: false });
        let command = Command::Resume { key, replaces, attachment: self.own };
        self.start(now, &command, Purpose::Resume { call, key });
    }

    /// An Open or Resume was applied: the session is attached here. `first_sent` is when its first
    /// forward left. None: its deadline has passed already.
    pub(super) fn attached(
        &mut self,
        now: Time,
        attached: &Attached,
        first_sent: Time,
    ) -> Option<SessionView> {
        let Attached { key, session: id, generation, ttl_ms, .. } = *attached;
        if let Some(session) = self.sessions.get_mut(&key)
            && session.id == id
            && session.generation == generation
        {
            if !session.is_live(now) {
                return None;
            }
            session.earn(first_sent);
            return Some(session.view());
        }
        let session = Session {
            id,
            generation,
            ttl_ms,
            rides_through_failover: u64::from(ttl_ms) * NANOS_PER_MS >= self.timing.ride_through_ns,
            deadline: safe_until(first_sent, ttl_ms),
            phase: Phase::Live,
            in_jeopardy: false,
            alarm: Time::NEVER,
            keepers: BTreeSet::new(),
            claims: BTreeMap::new(),
            handed: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            own_requests: attached.own_requests,
            of_claim: false,
            holders: BTreeMap::new(),
            crowded: false,
            tether: None,
            tether_closed: false,
        };
        let (live, view) = (session.is_live(now), session.view());
        let alarm = session.jeopardy_at().max(now);
        self.by_id.insert(id, key);
        self.sessions.insert(key, session);
        self.arm_session(key, alarm);
        self.schedule_beat(now, Agent::heartbeat_ns(ttl_ms));
        if live {
            return Some(view);
        }
        self.end_session(now, key);
        None
    }

    /// What the client of this connection promised before.
    pub(super) fn bond_of(&self, key: Key, connection: ConnectionId) -> Bond {
        let holder = self.sessions.get(&key).and_then(|s| s.holders.get(&connection));
        holder.map_or(Bond::default(), |holder| holder.bond)
    }

    /// Makes a call a keeper of a live session.
    pub(super) fn keep(
        &mut self,
        now: Time,
        call: CallId,
        key: Key,
        bond: Bond,
        connection: ConnectionId,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.keepers.insert(call);
        session.hold(connection, bond);
        let ttl_ms = session.ttl_ms;
        let keeper = Call::Keeper { key, bond, connection, established: true };
        if let Call::Keeper { established, .. } = self.calls.entry(call).or_insert(keeper) {
            *established = true;
        }
        self.schedule_beat(now, Agent::heartbeat_ns(ttl_ms));
    }

    /// The answer of an Open.
    pub(super) fn opened(&mut self, now: Time, call: CallId, attached: &Attached, sent: Time) {
        self.welcome(now, call, (attached, sent), Told::Opened);
    }

    /// The answer of a Resume.
    pub(super) fn resumed(
        &mut self,
        now: Time,
        call: CallId,
        attached: &Attached,
        sent: Time,
        (grants, next): (Vec<Grant>, RequestId),
    ) {
        self.welcome(now, call, (attached, sent), |view| Told::Resumed(view, grants, next));
    }

    /// Keeps the session for the call that attached it, if that still lives.
    fn welcome(
        &mut self,
        now: Time,
        call: CallId,
        (attached, sent): (&Attached, Time),
        word: impl FnOnce(SessionView) -> Told,
    ) {
        let view = self.attached(now, attached, sent);
        let Some(Call::Keeper { bond, connection, .. }) = self.calls.get(&call) else { return };
        let (bond, connection) = (*bond, *connection);
        match view {
            None => self.finish(call, Err(born_dead())),
            Some(view) => {
                self.keep(now, call, attached.key, bond, connection);
                self.tell(call, word(view));
            }
        }
    }

    pub(super) fn tether(
        &mut self,
        call: CallId,
        connection: ConnectionId,
        key: Key,
        machine: &Machine,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else {
            let failure = missing(key, machine);
            return self.finish(call, Err(failure));
        };
        session.tether = Some(connection);
        session.tether_closed = false;
        self.calls.insert(call, Call::Tether);
        self.tell(call, Told::Tethered);
    }

    pub(super) fn close_asked(&mut self, now: Time, call: CallId, key: Key, machine: &Machine) {
        let Some(session) = self.sessions.get_mut(&key) else {
            let failure = missing(key, machine);
            return self.finish(call, Err(failure));
        };
        session.phase = Phase::Ending;
        let attachment = (session.id, session.generation);
        let command = Command::Close { session: attachment.0, generation: attachment.1 };
        self.calls.insert(call, Call::Simple);
        self.start(now, &command, Purpose::Close { call: Some(call), key, attachment });
    }

    /// Sends this session's Close of its generation, until a definite answer; it is never renewed
    /// again.
    pub(super) fn end_session(&mut self, now: Time, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.phase = Phase::Ending;
        let attachment = (session.id, session.generation);
        let command = Command::Close { session: attachment.0, generation: attachment.1 };
        self.start(now, &command, Purpose::Close { call: None, key, attachment });
    }

    /// Ends a session that came with a call that is gone, unless another call has the key too.
    pub(super) fn end_unless_wanted(&mut self, now: Time, key: Key) {
        let used =
            |s: &Session| !s.keepers.is_empty() || !s.claims.is_empty() || !s.handed.is_empty();
        let wanted = self.sessions.get(&key).is_some_and(used)
            || self.operations.values().any(|operation| operation.purpose.attaches(key));
        if !wanted {
            self.end_session(now, key);
        }
    }

    pub(super) fn drop_keeper(&mut self, key: Key, call: CallId) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.keepers.remove(&call);
        }
    }

    pub(super) fn session_due(&mut self, now: Time, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        if session.phase == Phase::Ending {
            return;
        }
        let (deadline, jeopardy_at) = (session.deadline, session.jeopardy_at());
        if now >= deadline {
            self.tell_session_over(key, Reason::SessionExpired);
            if planted::is(Bug::DeadSessionRenewed) {
                return;
            }
            self.end_session(now, key);
        } else if now >= jeopardy_at {
            let first = !std::mem::replace(&mut session.in_jeopardy, true);
            self.arm_session(key, deadline);
            if first {
                for call in self.listeners(key) {
                    self.tell(call, Told::Jeopardy(deadline));
                }
            }
        } else {
            self.arm_session(key, jeopardy_at);
        }
    }

    fn arm_session(&mut self, key: Key, at: Time) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        self.alarms.cancel(session.alarm, Alarm::Session(key));
        session.alarm = at;
        self.alarms.set(at, Alarm::Session(key));
    }

    /// The streams that are told of renewals: keepers, and claims that are granted.
    pub(super) fn listeners(&self, key: Key) -> Vec<CallId> {
        let Some(session) = self.sessions.get(&key) else { return Vec::new() };
        let listens = |id: &&CallId| match self.calls.get(id) {
            Some(Call::Keeper { established, .. }) => *established,
            Some(Call::Claim(claim)) => {
                claim.stream && matches!(claim.state, ClaimState::Granted(_))
            }
            _ => false,
        };
        let mut calls: BTreeSet<CallId> = session.keepers.iter().filter(listens).copied().collect();
        calls.extend(session.claims.values().filter(listens));
        calls.into_iter().collect()
    }

    /// Ends every stream of a session with this reason.
    fn tell_session_over(&mut self, key: Key, reason: Reason) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let claims = std::mem::take(&mut session.claims);
        let keepers = std::mem::take(&mut session.keepers);
        for call in claims.into_values() {
            self.claim_over(call, reason);
        }
        for call in keepers {
            if matches!(self.calls.get(&call), Some(Call::Keeper { .. })) {
                self.finish(call, Ok(Some(Told::Expired(reason))));
            }
        }
    }

    fn forget_session(&mut self, key: Key) {
        if let Some(session) = self.sessions.remove(&key) {
            self.by_id.remove(&session.id);
            self.alarms.cancel(session.alarm, Alarm::Session(key));
        }
    }

    /// The session is attached to a newer generation. An own one follows with the answer of its
    /// Resume.
    pub(super) fn moved(&mut self, id: SessionId, generation: Generation) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let older = self.sessions.get(&key).is_some_and(|s| s.generation < generation);
        if older && !planted::is(Bug::MovedSessionStays) {
            self.tell_session_over(key, Reason::SessionMoved);
            self.forget_session(key);
        }
    }

    /// The session is gone from the machine.
    pub(super) fn ended(&mut self, id: SessionId, cause: Cause) {
        let Some(key) = self.by_id.get(&id).copied() else { return };
        let reason =
            if cause == Cause::Expired { Reason::SessionExpired } else { Reason::SessionClosed };
        self.tell_session_over(key, reason);
        self.forget_session(key);
    }

    /// After a snapshot: what of the sessions here is still true.
    pub(super) fn sessions_restored(&mut self, machine: &Machine) {
        let local: Vec<(Key, SessionId, Generation)> =
            self.sessions.iter().map(|(key, s)| (*key, s.id, s.generation)).collect();
        for (key, id, generation) in local {
            match machine.session(id) {
                None => self.ended(id, Cause::Expired),
                Some(session) if session.generation() > generation => {
                    self.moved(id, session.generation());
                }
                Some(_) => self.claims_restored(key, machine),
            }
        }
    }

    pub(super) fn connection_ended(&mut self, now: Time, connection: ConnectionId, by_peer: bool) {
        if !by_peer && !planted::is(Bug::AnyBreakCounts) {
            return;
        }
        let mut breaks = Vec::new();
        for (key, session) in &mut self.sessions {
            if session.tether == Some(connection) {
                session.tether_closed = true;
            }
            let Some(holder) = session.holders.get_mut(&connection) else { continue };
            holder.broken = Some(now);
            if holder.bond.stops_at_break {
                breaks.push((*key, session.generation));
            }
        }
        for (key, generation) in breaks {
            self.alarms.set(now.after(BREAK_GRACE_NS), Alarm::Break(key, generation));
        }
        self.end_the_dead(now);
    }

    pub(super) fn process_dead(&mut self, now: Time, connection: ConnectionId) {
        for session in self.sessions.values_mut() {
            if let Some(holder) = session.holders.get_mut(&connection) {
                holder.dead = true;
            }
        }
        self.end_the_dead(now);
    }

    fn end_the_dead(&mut self, now: Time) {
        let dead = |(_, s): &(&Key, &Session)| s.phase == Phase::Live && s.is_known_dead();
        let dead: Vec<Key> = self.sessions.iter().filter(dead).map(|(key, _)| *key).collect();
        for key in dead {
            self.end_session(now, key);
        }
    }

    /// The client promised to have stopped by now, unless it came back.
    pub(super) fn break_due(&mut self, now: Time, key: Key, generation: Generation) {
        let stopped = self.sessions.get(&key).is_some_and(|s| {
            s.generation == generation
                && s.phase == Phase::Live
                && (s.stopped_at().is_some_and(|at| at <= now)
                    || planted::is(Bug::BreakForgetsReturn))
        });
        if stopped {
            self.end_session(now, key);
        }
    }

    /// A Close of this attachment came to an end: whatever it found, that attachment is over. A
    /// newer one lives on.
    pub(super) fn closed(&mut self, key: Key, attachment: (SessionId, Generation)) {
        if self.sessions.get(&key).is_some_and(|s| (s.id, s.generation) == attachment) {
            self.tell_session_over(key, Reason::SessionClosed);
            self.forget_session(key);
        }
    }
}

fn born_dead() -> Failure {
    Failure::new(
        Reason::SessionExpired,
        "the group took longer than the TTL to answer; the session is being closed; try again",
    )
}

/// Why a key that is not attached here cannot be used here.
pub(super) fn missing(key: Key, machine: &Machine) -> Failure {
    match machine.session_by_key(key) {
        Some((_, session)) => Failure::moved(session.generation().0),
        None => Failure::unknown(),
    }
}
