//! Commands and reads on their way: forwarded to the leader, answered from the own apply, sent
//! again until definite.

use super::alarm::Alarm;
use super::read::Query;
use super::session::Attached;
use super::{Agent, CallId, Effect, Told};
use crate::frame::{Ask, Forward, ForwardReply, Reply};
use crate::planted::{self, Bug};
use crate::reason::{Failure, Reason};
use quorate_locks::{
    Command, Generation, Key, Machine, Outcome, Refusal, RequestId, SessionId, Token,
};
use quorate_raft::{Index, LogId, Term, Time, Why};

/// What an operation is for: who is answered, and what follows.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Open {
        call: CallId,
        key: Key,
    },
    /// A Hold that opens its session first.
    OpenForClaim {
        call: CallId,
        key: Key,
    },
    Resume {
        call: CallId,
        key: Key,
    },
    Claim {
        call: CallId,
        stream: bool,
    },
    Cancel(Wait),
    /// Gives back a grant, without a request id: half-close, or a grant that nobody took.
    GiveBack {
        call: Option<CallId>,
        wait: Wait,
    },
    Release {
        call: CallId,
    },
    Close {
        call: Option<CallId>,
        key: Key,
        attachment: (SessionId, Generation),
    },
    Read {
        call: CallId,
        query: Query,
    },
    Observe {
        call: CallId,
    },
}

/// A claim whose wait ends.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) call: Option<CallId>,
    pub(super) key: Key,
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) request: RequestId,
    pub(super) name: String,
    /// The claim was first made in this attachment: a grant of it that was told to nobody may be
    /// given back.
    pub(super) own: bool,
    /// Its client asked for its end: a grant of it may be given back, told or not.
    pub(super) wished: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not sent under the present leader.
    Waiting,
    /// Sent, and not answered.
    Sent,
    /// In a leader's log.
    Appended(LogId),
    /// A read that waits for the own apply.
    ReadAt(Index),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Operation {
    ask: Ask,
    pub(super) purpose: Purpose,
    started: Time,
    first_sent: Option<Time>,
    transmissions: u32,
    state: State,
    alarm: Time,
}

impl Agent {
    /// Starts a command.
    pub(super) fn start(&mut self, now: Time, command: &Command, purpose: Purpose) -> u64 {
        self.start_asking(now, Ask::Command(command.encode().into()), purpose)
    }

    /// Starts a command or a read.
    pub(super) fn start_asking(&mut self, now: Time, ask: Ask, purpose: Purpose) -> u64 {
        self.next_ticket = self.next_ticket.wrapping_add(1);
        let ticket = self.next_ticket;
        let operation = Operation {
            ask,
            purpose,
            started: now,
            first_sent: None,
            transmissions: 0,
            state: State::Waiting,
            alarm: Time::NEVER,
        };
        self.operations.insert(ticket, operation);
        self.send(now, ticket);
        ticket
    }

    /// Drops an operation that nobody waits for any more; what it asked may still happen.
    pub(super) fn abandon(&mut self, ticket: u64) {
        if let Some(operation) = self.operations.remove(&ticket) {
            self.unfile(ticket, &operation);
        }
    }

    /// Sends or sends again, if a leader is known; else waits for one.
    fn send(&mut self, now: Time, ticket: u64) {
        let Some(operation) = self.operations.get_mut(&ticket) else { return };
        let filed = operation.state;
        if let Some((leader, term)) = self.leader {
            operation.state = State::Sent;
            operation.first_sent.get_or_insert(now);
            operation.transmissions = operation.transmissions.saturating_add(1);
            let forward = Forward { ticket, term, what: operation.ask.clone() };
            self.effects.push(Effect::Forward(leader, forward));
        } else {
            operation.state = State::Waiting;
        }
        self.unfile_state(ticket, filed);
        self.arm(ticket, now.after(self.timing.resend_ns));
    }

    fn arm(&mut self, ticket: u64, at: Time) {
        let Some(operation) = self.operations.get_mut(&ticket) else { return };
        let at = match operation.purpose.waiting_call() {
            // Looked at once more when its caller has to be told, however long the resend.
            Some(_) => at.min(operation.started.after(self.timing.unavailable_ns)),
            None => at,
        };
        self.alarms.cancel(operation.alarm, Alarm::Operation(ticket));
        operation.alarm = at;
        if at != Time::NEVER {
            self.alarms.set(at, Alarm::Operation(ticket));
        }
    }

    fn unfile(&mut self, ticket: u64, operation: &Operation) {
        self.alarms.cancel(operation.alarm, Alarm::Operation(ticket));
        self.unfile_state(ticket, operation.state);
    }

    fn unfile_state(&mut self, ticket: u64, state: State) {
        match state {
            State::Appended(id) => {
                self.appended.remove(&(id.index, id.term, ticket));
            }
            State::ReadAt(index) => {
                self.reads.remove(&(index, ticket));
            }
            State::Waiting | State::Sent => {}
        }
    }

    /// A leader is known anew: everything that is not in a log goes to it.
    pub(super) fn send_all(&mut self, now: Time) {
        let unanswered: Vec<u64> = self
            .operations
            .iter()
            .filter(|(_, o)| matches!(o.state, State::Waiting | State::Sent))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in unanswered {
            self.send(now, ticket);
        }
    }

    pub(super) fn reply(&mut self, now: Time, reply: ForwardReply, machine: &Machine) {
        let ticket = reply.ticket;
        let Some(operation) = self.operations.get_mut(&ticket) else { return };
        // An answer to an older transmission than the one that is in a log already.
        if matches!(operation.state, State::Appended(_) | State::ReadAt(_)) {
            return;
        }
        let is_read = operation.ask == Ask::ReadIndex;
        let fits = match reply.reply {
            // Of an older leader: its entry may be gone already, and its successor was asked.
            Reply::Appended(id) => {
                !is_read && (id.term >= self.term || planted::is(Bug::OlderReplyParks))
            }
            Reply::ReadAt(_) => is_read,
            Reply::NotAppended(_) => true,
        };
        if !fits {
            return;
        }
        match reply.reply {
            // Applied before the answer came: the copy finds out how it went.
            Reply::Appended(id) if id.index <= self.applied => self.send(now, ticket),
            Reply::Appended(id) => {
                operation.state = State::Appended(id);
                self.appended.insert((id.index, id.term, ticket));
                self.arm(ticket, Time::NEVER);
            }
            Reply::ReadAt(index)
                if index <= self.applied || planted::is(Bug::ReadBeforeOwnApply) =>
            {
                self.complete(now, ticket, None, machine);
            }
            Reply::ReadAt(index) => {
                operation.state = State::ReadAt(index);
                self.reads.insert((index, ticket));
                self.arm(ticket, Time::NEVER);
            }
            Reply::NotAppended(why) => self.refused(now, ticket, why),
        }
    }

    fn refused(&mut self, now: Time, ticket: u64, why: Why) {
        let Some(operation) = self.operations.get_mut(&ticket) else { return };
        let failure = match why {
            // A name would stay held by nobody if these were forgotten.
            Why::DiskFull
                if operation.purpose.goes_on() && !planted::is(Bug::RefusedEndForgotten) =>
            {
                operation.state = State::Waiting;
                let caller = operation.purpose.waiting_call();
                self.arm(ticket, now.after(self.timing.resend_ns));
                if caller.is_some() {
                    self.give_up(now, ticket, &full(), false);
                }
                return;
            }
            Why::DiskFull => full(),
            Why::TooLarge | Why::Malformed => Failure::new(
                Reason::Internal,
                "the leader does not take this command: another version of the sidecar?",
            ),
            _ => {
                operation.state = State::Waiting;
                return self.arm(ticket, now.after(self.timing.retry_ns));
            }
        };
        let definite = operation.transmissions <= 1;
        self.give_up(now, ticket, &failure, definite);
    }

    pub(super) fn operation_due(&mut self, now: Time, ticket: u64) {
        let Some(operation) = self.operations.get(&ticket) else { return };
        let late = now >= operation.started.after(self.timing.unavailable_ns);
        if late && operation.purpose.waiting_call().is_some() {
            let definite = operation.transmissions == 0;
            // What becomes of a claim is said where it is withdrawn.
            let claim = matches!(operation.purpose, Purpose::Claim { .. });
            let again = if claim && !definite {
                ""
            } else {
                "; try again with the same key and request_id"
            };
            let failure = Failure::new(
                Reason::NoQuorum,
                format!(
                    "the group had no leader with a majority for {} ms{again}",
                    self.timing.unavailable_ns / 1_000_000
                ),
            );
            return self.give_up(now, ticket, &failure, definite);
        }
        if matches!(operation.state, State::Waiting | State::Sent) {
            self.send(now, ticket);
        }
    }

    /// Answers the caller without knowing the end. `definite`: it was never sent, or refused by the
    /// only one asked.
    fn give_up(&mut self, now: Time, ticket: u64, failure: &Failure, definite: bool) {
        let Some(operation) = self.operations.get(&ticket) else { return };
        let failure =
            failure.clone().with("outcome", if definite { "not_done" } else { "unknown" });
        match operation.purpose.clone() {
            Purpose::Close { call: Some(call), key, attachment } => {
                // The end of the session goes on without its caller.
                if let Some(operation) = self.operations.get_mut(&ticket) {
                    operation.purpose = Purpose::Close { call: None, key, attachment };
                }
                self.arm(ticket, now.after(self.timing.resend_ns));
                self.finish(call, Err(failure));
            }
            Purpose::Claim { call, .. } => {
                self.abandon(ticket);
                self.claim_unavailable(now, call, failure, definite);
            }
            purpose => {
                self.abandon(ticket);
                if let Purpose::Cancel(wait) | Purpose::GiveBack { wait, .. } = &purpose {
                    self.withdrawn(wait);
                }
                if let Some(call) = purpose.call() {
                    self.finish(call, Err(failure));
                }
            }
        }
    }

    /// An entry was applied here: ends the operations that it decides.
    pub(super) fn operations_applied(
        &mut self,
        now: Time,
        id: LogId,
        outcome: Option<&Outcome>,
        machine: &Machine,
    ) {
        while let Some((index, term, ticket)) = self.appended.first().copied() {
            if index > id.index {
                break;
            }
            self.appended.pop_first();
            if index == id.index && term == id.term {
                self.complete(now, ticket, outcome, machine);
            } else {
                // Another entry stands in its place: this copy is definitely not done.
                self.lose(now, ticket);
            }
        }
        if outcome.is_none() {
            self.lose_older(now, id.term);
        }
        self.reads_applied(now, id.index, machine);
    }

    /// After a new leader's first entry nothing of an older term follows.
    fn lose_older(&mut self, now: Time, term: Term) {
        let older: Vec<(Index, Term, u64)> =
            self.appended.iter().filter(|(_, of, _)| *of < term).copied().collect();
        for place in older {
            self.appended.remove(&place);
            self.lose(now, place.2);
        }
    }

    fn lose(&mut self, now: Time, ticket: u64) {
        if planted::is(Bug::LostEntryNotAskedAgain) {
            return;
        }
        if let Some(operation) = self.operations.get_mut(&ticket) {
            operation.state = State::Waiting;
            self.send(now, ticket);
        }
    }

    fn reads_applied(&mut self, now: Time, upto: Index, machine: &Machine) {
        while let Some((index, ticket)) = self.reads.first().copied() {
            if index > upto {
                break;
            }
            self.reads.pop_first();
            self.complete(now, ticket, None, machine);
        }
    }

    /// The state was replaced: what lies below it is asked again, and the copy finds out.
    pub(super) fn restored(&mut self, now: Time, last: LogId, machine: &Machine) {
        self.applied = last.index;
        while let Some((index, _, ticket)) = self.appended.first().copied() {
            if index > last.index {
                break;
            }
            self.appended.pop_first();
            self.lose(now, ticket);
        }
        self.reads_applied(now, last.index, machine);
        self.sessions_restored(machine);
        self.ask_again(now);
        self.observers_restored(machine);
        self.credit_due(now);
    }

    fn complete(&mut self, now: Time, ticket: u64, outcome: Option<&Outcome>, machine: &Machine) {
        let Some(operation) = self.operations.remove(&ticket) else { return };
        self.alarms.cancel(operation.alarm, Alarm::Operation(ticket));
        let sent = operation.first_sent.unwrap_or(operation.started);
        let sent = if planted::is(Bug::OpenEarnsAtItsAnswer) { now } else { sent };
        match (operation.purpose, outcome) {
            (Purpose::Read { call, query }, _) => self.answer_read(call, &query, machine),
            (Purpose::Observe { call }, _) => self.answer_observe(call, machine),
            (Purpose::Claim { call, .. }, Some(outcome)) => {
                let copies = operation.transmissions > 1;
                self.claim_answered(now, call, outcome, (copies, machine));
            }
            (Purpose::Cancel(wait), Some(outcome)) => {
                self.withdrawn(&wait);
                self.cancelled(now, wait, outcome);
            }
            (Purpose::GiveBack { call, wait }, Some(_)) => {
                self.withdrawn(&wait);
                self.given_back(now, call, &wait);
            }
            (Purpose::Release { call }, Some(outcome)) => self.finish(
                call,
                match outcome {
                    Outcome::Refused(refusal) => Err(Failure::refused(*refusal)),
                    _ => Ok(Some(Told::Released)),
                },
            ),
            (Purpose::Close { call, key, attachment }, Some(outcome)) => {
                self.closed(key, attachment);
                self.close_done(call, outcome);
            }
            (purpose, Some(outcome)) => self.attach_done(now, purpose, outcome, sent),
            (_, None) => {}
        }
    }

    fn close_done(&mut self, call: Option<CallId>, outcome: &Outcome) {
        let Some(call) = call else { return };
        let answer = match outcome {
            Outcome::Closed { released } => Ok(Some(Told::Closed(*released))),
            // Closed by an earlier copy, or expired meanwhile: it is gone, as asked.
            Outcome::Refused(Refusal::SessionUnknown) => Ok(Some(Told::Closed(0))),
            Outcome::Refused(refusal) => Err(Failure::refused(*refusal)),
            _ => Ok(Some(Told::Closed(0))),
        };
        self.finish(call, answer);
    }

    fn attach_done(&mut self, now: Time, purpose: Purpose, outcome: &Outcome, sent: Time) {
        match (purpose, outcome) {
            (Purpose::Open { call, key }, Outcome::Opened { session, generation, ttl_ms }) => {
                let (session, generation, ttl_ms) = (*session, *generation, *ttl_ms);
                let own_requests = RequestId(1);
                let attached = Attached { key, session, generation, ttl_ms, own_requests };
                self.opened(now, call, &attached, sent);
            }
            (
                Purpose::OpenForClaim { call, key },
                Outcome::Opened { session, generation, ttl_ms },
            ) => {
                let (session, generation, ttl_ms) = (*session, *generation, *ttl_ms);
                let own_requests = RequestId(1);
                let attached = Attached { key, session, generation, ttl_ms, own_requests };
                self.opened_for_claim(now, call, &attached, sent);
            }
            (
                Purpose::Resume { call, key },
                Outcome::Resumed { session, generation, ttl_ms, grants, next_request },
            ) => {
                let (session, generation, ttl_ms) = (*session, *generation, *ttl_ms);
                let own_requests = *next_request;
                let attached = Attached { key, session, generation, ttl_ms, own_requests };
                let rest = (grants.clone(), *next_request);
                self.resumed(now, call, &attached, sent, rest);
            }
            (purpose, Outcome::Refused(refusal)) => {
                if let Some(call) = purpose.call()
                    && self.calls.contains_key(&call)
                {
                    self.finish(call, Err(Failure::refused(*refusal)));
                }
            }
            _ => {}
        }
    }

    /// Cancels a claim until that is definite.
    pub(super) fn start_cancel(&mut self, now: Time, wait: Wait) {
        self.withdraw(&wait);
        let Wait { session, generation, request, .. } = wait;
        let command = Command::Cancel { session, generation, request };
        self.start(now, &command, Purpose::Cancel(wait));
    }

    /// Gives back a grant until that is definite.
    pub(super) fn start_give_back(&mut self, now: Time, wait: Wait, token: Token) {
        self.withdraw(&wait);
        let command = Command::Release {
            session: wait.session,
            generation: wait.generation,
            request: None,
            name: wait.name.clone(),
            token,
        };
        let call = wait.call;
        self.start(now, &command, Purpose::GiveBack { call, wait });
    }
}

impl Purpose {
    /// Whether this opens or resumes the session of this key.
    pub(super) fn attaches(&self, key: Key) -> bool {
        match self {
            Purpose::Open { key: of, .. }
            | Purpose::OpenForClaim { key: of, .. }
            | Purpose::Resume { key: of, .. } => *of == key,
            _ => false,
        }
    }

    /// Whom the end is told.
    fn call(&self) -> Option<CallId> {
        match self {
            Purpose::Open { call, .. }
            | Purpose::OpenForClaim { call, .. }
            | Purpose::Resume { call, .. }
            | Purpose::Claim { call, .. }
            | Purpose::Release { call }
            | Purpose::Read { call, .. }
            | Purpose::Observe { call } => Some(*call),
            Purpose::Cancel(Wait { call, .. })
            | Purpose::GiveBack { call, .. }
            | Purpose::Close { call, .. } => *call,
        }
    }

    /// Whether it goes on until definite, whoever still waits for it.
    fn goes_on(&self) -> bool {
        matches!(self, Purpose::Cancel(_) | Purpose::GiveBack { .. } | Purpose::Close { .. })
    }

    /// The call that is answered NO_QUORUM if this takes too long. Cancels and releases of the
    /// sidecar's own go on until definite; a stream's claim goes on for as long as its session
    /// lives.
    fn waiting_call(&self) -> Option<CallId> {
        match self {
            Purpose::Cancel(_) | Purpose::GiveBack { .. } => None,
            Purpose::Claim { stream: true, .. } => None,
            other => other.call(),
        }
    }
}

fn full() -> Failure {
    Failure::new(
        Reason::DiskFull,
        "the leader's disk has no room for this command; what ends something works for longest; \
         free space",
    )
}
