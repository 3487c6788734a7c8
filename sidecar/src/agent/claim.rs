//! Claims: Hold, Participate, Acquire and Campaign, from the first word to the last.
//!
//! A token that was told counts as handed over: from then on the grant ends by the client's release
//! or with the session. One that was never told is given back when its claimant is gone.

use super::alarm::Alarm;
use super::operation::{Purpose, Wait};
use super::session::{Attached, Session, missing};
use super::{Agent, Bond, Call, CallId, ClaimRequest, ConnectionId, Told};
use crate::planted::{self, Bug};
use crate::reason::{Failure, Reason};
use quorate_locks::{
    Cause, Claim, Command, Generation, Key, Machine, Mode, Outcome, RequestId, SessionId, Token,
};
use quorate_raft::Time;
use std::collections::BTreeSet;

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimState {
    /// Its session is being opened.
    Opening,
    /// Its command is on the way.
    Asked,
    /// In the queue.
    Queued,
    /// Handed over.
    Granted(Token),
    /// Its client half-closed: released or cancelled, not yet definite.
    Closing,
    /// Its wait is over: cancelled, not yet definite.
    WaitOver,
}

/// A claim's call.
#[derive(Debug)]
pub(super) struct ClaimCall {
    claim: ClaimRequest,
    connection: ConnectionId,
    pub(super) stream: bool,
    pub(super) state: ClaimState,
    session: Option<(SessionId, Generation)>,
    operation: Option<u64>,
    /// First made in this attachment: its token was handed to nobody before.
    own: bool,
    /// When its wait ends; [`Time::NEVER`]: with its call.
    pub(super) until: Time,
}

impl Agent {
    pub(super) fn claim(
        &mut self,
        now: Time,
        call: CallId,
        connection: ConnectionId,
        claim: ClaimRequest,
        machine: &Machine,
    ) {
        let (key, opening, wait) = (claim.key, claim.opening.clone(), claim.wait);
        let stream = claim.stream;
        let known = self.sessions.get(&key).map(|s| s.is_live(now));
        let state = ClaimState::Opening;
        let (session, operation, own) = (None, None, false);
        let until = wait.map_or(Time::NEVER, |wait| now.after(wait));
        let pending =
            ClaimCall { claim, connection, stream, state, session, operation, own, until };
        self.calls.insert(call, Call::Claim(Box::new(pending)));
        if until != Time::NEVER {
            self.alarms.set(until, Alarm::Call(call));
        }
        match (known, opening) {
            (Some(true), opening) => {
                if stream {
                    let bond = match opening {
                        Some(opening) => opening.bond,
                        None => self.bond_of(key, connection),
                    };
                    self.keep(now, call, key, bond, connection);
                }
                self.ask_claim(now, call, key);
            }
            (Some(false), _) => {
                let failure = Failure::new(
                    Reason::SessionExpired,
                    "the session ended here; Open a new one, with a new key",
                );
                self.finish(call, Err(failure));
            }
            (None, None) => self.finish(call, Err(missing(key, machine))),
            (None, Some(opening)) => {
                let command = self.open_command(key, opening);
                let purpose = Purpose::OpenForClaim { call, key };
                self.start(now, &command, purpose);
            }
        }
    }

    /// The session of a Hold is open.
    pub(super) fn opened_for_claim(
        &mut self,
        now: Time,
        call: CallId,
        attached: &Attached,
        sent: Time,
    ) {
        let key = attached.key;
        let view = self.attached(now, attached, sent);
        let Some(Call::Claim(claim)) = self.calls.get(&call) else {
            // The caller left before it knew of the session.
            return self.end_unless_wanted(now, key);
        };
        let connection = claim.connection;
        let bond = claim.claim.opening.as_ref().map_or(Bond::default(), |o| o.bond);
        if view.is_none() {
            let failure = Failure::new(
                Reason::SessionExpired,
                "the group took longer than the TTL to open the session; try again",
            );
            return self.finish(call, Err(failure));
        }
        self.keep(now, call, key, bond, connection);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.of_claim = true;
        }
        self.ask_claim(now, call, key);
    }

    fn ask_claim(&mut self, now: Time, call: CallId, key: Key) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(Call::Claim(pending)) = self.calls.get_mut(&call) else { return };
        let claim = &pending.claim;
        let request = claim.request;
        if session.withdrawn.contains(&request) && !planted::is(Bug::HandedGrantGivenBack) {
            // The id is about to end, and a grant of it to be given back: nobody is told of one.
            if let Some(older) = session.claims.remove(&request).filter(|older| *older != call) {
                self.claim_over(older, Reason::SessionMoved);
            }
            return self.claim_done(now, call, Ok(Some(Told::Lost(Reason::NotHolder))));
        }
        let (id, generation) = (session.id, session.generation);
        pending.session = Some((id, generation));
        let any = planted::is(Bug::OlderGrantGivenBack);
        pending.own = claim.request >= session.own_requests || any;
        pending.state = ClaimState::Asked;
        let stream = pending.stream;
        let ttl_ms = session.ttl_ms;
        let older = session.claims.insert(request, call);
        if pending.stream {
            session.keepers.insert(call);
        }
        let command = Command::Claim(Claim {
            session: id,
            generation,
            request,
            lowest_unacked: claim.lowest_unacked,
            name: claim.name.clone(),
            kind: claim.kind,
            mode: Mode::Exclusive,
            permits: 1,
            priority: 0,
            value: claim.value.clone(),
            queue: claim.queue,
        });
        let ticket = self.start(now, &command, Purpose::Claim { call, stream });
        if let Some(Call::Claim(pending)) = self.calls.get_mut(&call) {
            pending.operation = Some(ticket);
        }
        self.schedule_beat(now, Agent::heartbeat_ns(ttl_ms));
        if let Some(older) = older.filter(|older| *older != call) {
            self.claim_over(older, Reason::SessionMoved);
        }
    }

    /// The claim's command was applied here. `copies`: it was sent more than once, so another copy
    /// of it may follow in the log; a refusal is not remembered there, and the copy could still be
    /// granted: so the id is cancelled.
    pub(super) fn claim_answered(
        &mut self,
        now: Time,
        call: CallId,
        outcome: &Outcome,
        (copies, machine): (bool, &Machine),
    ) {
        let Some(Call::Claim(claim)) = self.calls.get_mut(&call) else { return };
        claim.operation = None;
        if claim.state != ClaimState::Asked {
            return; // Granted by the same entry's change, or ending.
        }
        match outcome {
            Outcome::Granted { token } => self.hand(now, call, *token),
            Outcome::Queued { position } => {
                claim.state = ClaimState::Queued;
                if claim.stream {
                    self.tell(call, Told::Queued(*position));
                }
            }
            Outcome::NotAcquired => {
                let name = claim.claim.name.clone();
                let holder = self.holder(&name, machine);
                self.claim_done(now, call, Ok(Some(Told::NotAcquired(holder))));
            }
            Outcome::Refused(refusal) => {
                let copies = copies && !planted::is(Bug::RefusedCopyStays);
                if copies && let Some(wait) = Agent::wait_of(claim, None) {
                    self.start_cancel(now, wait);
                }
                self.claim_done(now, call, Err(Failure::refused(*refusal)));
            }
            // A copy of a claim that ended long ago.
            _ => self.claim_done(now, call, Ok(Some(Told::Lost(Reason::NotHolder)))),
        }
    }

    /// A claim got its name.
    pub(super) fn granted(
        &mut self,
        now: Time,
        session: SessionId,
        request: RequestId,
        token: Token,
    ) {
        if let Some(call) = self.call_of(session, request) {
            self.hand(now, call, token);
        }
    }

    fn call_of(&self, session: SessionId, request: RequestId) -> Option<CallId> {
        let key = self.by_id.get(&session)?;
        self.sessions.get(key)?.claims.get(&request).copied()
    }

    /// Hands a grant to its claimant, unless the session's deadline has passed here: then it is
    /// dead already. Where a cancel is under way, its answer decides: it alone knows whether the
    /// claimant was still there.
    fn hand(&mut self, now: Time, call: CallId, token: Token) {
        let Some(Call::Claim(claim)) = self.calls.get_mut(&call) else { return };
        let waits = matches!(claim.state, ClaimState::Asked | ClaimState::Queued);
        let Some(session) = self.sessions.get_mut(&claim.claim.key) else { return };
        if !waits || (!session.is_live(now) && !planted::is(Bug::GrantPastDeadline)) {
            return;
        }
        let view = session.view();
        claim.state = ClaimState::Granted(token);
        // A copy of its command has nothing more to say, a refusal of one least of all.
        if let Some(ticket) = claim.operation.take() {
            self.abandon(ticket);
        }
        let Some(Call::Claim(claim)) = self.calls.get(&call) else { return };
        let Some(session) = self.sessions.get_mut(&claim.claim.key) else { return };
        session.handed.insert(claim.claim.request);
        if claim.stream {
            self.tell(call, Told::Granted(token, view));
        } else {
            session.claims.remove(&claim.claim.request);
            self.finish(call, Ok(Some(Told::Granted(token, view))));
        }
    }

    /// A grant ended in the machine.
    pub(super) fn lost(
        &mut self,
        session: SessionId,
        request: RequestId,
        token: Token,
        cause: Cause,
    ) {
        let key = self.by_id.get(&session);
        if let Some(session) = key.and_then(|key| self.sessions.get_mut(key)) {
            session.handed.remove(&request);
        }
        let Some(call) = self.call_of(session, request) else { return };
        let Some(Call::Claim(claim)) = self.calls.get(&call) else { return };
        if claim.state == ClaimState::Granted(token) {
            self.claim_over(call, over(cause));
        }
    }

    /// A waiting claim ended in the machine.
    pub(super) fn dequeued(&mut self, session: SessionId, request: RequestId, cause: Cause) {
        if cause == Cause::Cancelled {
            return; // The cancel's own answer tells.
        }
        if let Some(call) = self.call_of(session, request) {
            self.claim_over(call, over(cause));
        }
    }

    /// Ends a claim's call for a reason that is not its client's wish.
    pub(super) fn claim_over(&mut self, call: CallId, reason: Reason) {
        let Some(Call::Claim(claim)) = self.calls.remove(&call) else { return };
        self.unlink(call, &claim);
        let answer = match (claim.stream, claim.state) {
            (_, ClaimState::Closing) => Ok(Some(Told::Released)),
            (true, _) => Ok(Some(Told::Lost(reason))),
            (false, _) => Err(Failure::new(reason, "the session ended while the claim waited")),
        };
        self.finish(call, answer);
    }

    fn unlink(&mut self, call: CallId, claim: &ClaimCall) {
        self.alarms.cancel(claim.until, Alarm::Call(call));
        if let Some(ticket) = claim.operation {
            self.abandon(ticket);
        }
        let Some(session) = self.sessions.get_mut(&claim.claim.key) else { return };
        session.keepers.remove(&call);
        if session.claims.get(&claim.claim.request) == Some(&call) {
            session.claims.remove(&claim.claim.request);
        }
    }

    /// Ends a claim's call as asked, and its session with it if it came with the call.
    fn claim_done(&mut self, now: Time, call: CallId, answer: Result<Option<Told>, Failure>) {
        let Some(Call::Claim(claim)) = self.calls.remove(&call) else { return };
        self.unlink(call, &claim);
        let key = claim.claim.key;
        if self.sessions.get(&key).is_some_and(Session::is_over) {
            self.end_session(now, key);
        }
        self.finish(call, answer);
    }

    fn attachment_of(&mut self, wait: &Wait) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&wait.key)?;
        (session.id == wait.session && session.generation == wait.generation).then_some(session)
    }

    /// The end of a claim is under way.
    pub(super) fn withdraw(&mut self, wait: &Wait) {
        if let Some(session) = self.attachment_of(wait) {
            session.withdrawn.insert(wait.request);
        }
    }

    /// The end of a claim is definite, or given up.
    pub(super) fn withdrawn(&mut self, wait: &Wait) {
        if let Some(session) = self.attachment_of(wait) {
            session.withdrawn.remove(&wait.request);
        }
    }

    /// Whether the token of this claim was told in this attachment, and has not ended: then its
    /// client may count on it, whatever became of the calls that asked for it.
    fn is_handed(&self, key: Key, request: RequestId) -> bool {
        let session = self.sessions.get(&key);
        session.is_some_and(|session| session.handed.contains(&request))
            && !planted::is(Bug::HandedGrantGivenBack)
    }

    fn wait_of(claim: &ClaimCall, call: Option<CallId>) -> Option<Wait> {
        let (session, generation) = claim.session?;
        let ClaimRequest { key, request, name, .. } = &claim.claim;
        let (key, request, name, own) = (*key, *request, name.clone(), claim.own);
        Some(Wait { call, key, session, generation, request, name, own, wished: false })
    }

    /// The client will send no more: what it holds is released, what it waits for is cancelled.
    pub(super) fn half_close(&mut self, now: Time, call: CallId) {
        let Some(Call::Claim(claim)) = self.calls.get_mut(&call) else { return };
        let state = claim.state;
        let operation = match state {
            ClaimState::Closing => return,
            _ => claim.operation.take(),
        };
        let Some(mut wait) = Agent::wait_of(claim, Some(call)) else {
            return self.claim_done(now, call, Ok(Some(Told::Released)));
        };
        wait.wished = true;
        claim.state = ClaimState::Closing;
        if let Some(ticket) = operation {
            self.abandon(ticket);
        }
        match state {
            ClaimState::Granted(token) => self.start_give_back(now, wait, token),
            _ => self.start_cancel(now, wait),
        }
    }

    /// A claim's call ended without a half-close. What was handed over stays; what was not is
    /// cancelled.
    pub(super) fn claim_gone(&mut self, now: Time, call: CallId, claim: ClaimCall) {
        self.unlink(call, &claim);
        let Some(wait) = Agent::wait_of(&claim, None) else { return };
        let waits = matches!(claim.state, ClaimState::Asked | ClaimState::Queued);
        let waits = waits && !self.is_handed(wait.key, wait.request);
        if waits && !planted::is(Bug::GoneClaimStays) {
            self.start_cancel(now, wait);
        }
    }

    /// No leader took the claim in time.
    pub(super) fn claim_unavailable(
        &mut self,
        now: Time,
        call: CallId,
        failure: Failure,
        definite: bool,
    ) {
        let Some(Call::Claim(claim)) = self.calls.remove(&call) else { return };
        self.unlink(call, &claim);
        let definite = definite || self.is_handed(claim.claim.key, claim.claim.request);
        let failure = if definite {
            failure
        } else {
            Failure {
                message: format!(
                    "{}; this claim is being withdrawn, so claim with a new request_id",
                    failure.message
                ),
                ..failure
            }
        };
        if !definite && let Some(wait) = Agent::wait_of(&claim, None) {
            self.start_cancel(now, wait);
        }
        self.finish(call, Err(failure));
    }

    /// A unary claim's wait is over.
    pub(super) fn call_due(&mut self, now: Time, call: CallId) {
        let Some(Call::Claim(claim)) = self.calls.get_mut(&call) else { return };
        if !matches!(claim.state, ClaimState::Opening | ClaimState::Asked | ClaimState::Queued) {
            return;
        }
        let Some(wait) = Agent::wait_of(claim, Some(call)) else {
            return self.claim_done(now, call, Err(wait_expired()));
        };
        if planted::is(Bug::WaitEndsWithoutCancel) {
            return self.claim_done(now, call, Err(wait_expired()));
        }
        claim.state = ClaimState::WaitOver;
        let operation = claim.operation.take();
        if let Some(ticket) = operation {
            self.abandon(ticket);
        }
        self.start_cancel(now, wait);
    }

    /// A cancel was applied here: the claim is out of the queue, or it was granted before.
    pub(super) fn cancelled(&mut self, now: Time, wait: Wait, outcome: &Outcome) {
        let state = wait.call.and_then(|call| match self.calls.get(&call) {
            Some(Call::Claim(claim)) => Some((call, claim.state)),
            _ => None,
        });
        match (state, outcome) {
            // In time after all: the claimant is still there, and gets it.
            (Some((call, ClaimState::WaitOver)), Outcome::Granted { token }) => {
                if let Some(Call::Claim(claim)) = self.calls.get_mut(&call) {
                    claim.state = ClaimState::Queued;
                }
                self.hand(now, call, *token);
            }
            (_, Outcome::Granted { token })
                if wait.wished || wait.own && !self.is_handed(wait.key, wait.request) =>
            {
                self.start_give_back(now, wait, *token);
            }
            // Its client has the token, or may have it from an earlier attachment: it ends by the
            // client, or with the session.
            (None, Outcome::Granted { .. }) => {}
            (Some((call, ClaimState::WaitOver)), _) => {
                self.claim_done(now, call, Err(wait_expired()));
            }
            (Some((call, _)), _) => self.claim_done(now, call, Ok(Some(Told::Released))),
            (None, _) => {}
        }
    }

    /// A grant was given back.
    pub(super) fn given_back(&mut self, now: Time, call: Option<CallId>, wait: &Wait) {
        if let Some(call) = call {
            self.claim_done(now, call, Ok(Some(Told::Released)));
        } else if self.sessions.get(&wait.key).is_some_and(|s| s.id == wait.session && s.is_over())
        {
            self.end_session(now, wait.key);
        }
    }

    /// A client's Release.
    pub(super) fn release(
        &mut self,
        now: Time,
        call: CallId,
        key: Key,
        (name, token, request): (String, Token, Option<(RequestId, RequestId)>),
        machine: &Machine,
    ) {
        let Some(session) = self.sessions.get(&key) else {
            return self.finish(call, Err(missing(key, machine)));
        };
        let (session, generation) = (session.id, session.generation);
        let command = Command::Release { session, generation, request, name, token };
        self.calls.insert(call, Call::Simple);
        self.start(now, &command, Purpose::Release { call });
    }

    /// After a snapshot: claims that were decided inside it.
    pub(super) fn claims_restored(&mut self, key: Key, machine: &Machine) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let id = session.id;
        let held: BTreeSet<RequestId> = { machine.session(id).into_iter() }
            .flat_map(|session| session.grants().map(|grant| grant.request))
            .collect();
        session.handed.retain(|request| held.contains(request));
        let claims: Vec<(RequestId, CallId)> =
            session.claims.iter().map(|(request, call)| (*request, *call)).collect();
        for (request, call) in claims {
            let Some(Call::Claim(claim)) = self.calls.get(&call) else { continue };
            match claim.state {
                // Asked again, the same id gets the same answer: granted, queued, or over.
                ClaimState::Queued => self.claims_again.push(call),
                ClaimState::Granted(_) if !held.contains(&request) => {
                    self.claim_over(call, Reason::NotHolder)
                }
                _ => {}
            }
        }
    }

    /// Asks again for the claims whose queue is not known any more.
    pub(super) fn ask_again(&mut self, now: Time) {
        for call in std::mem::take(&mut self.claims_again) {
            if let Some(Call::Claim(claim)) = self.calls.get(&call) {
                let key = claim.claim.key;
                self.ask_claim(now, call, key);
            }
        }
    }
}

fn over(cause: Cause) -> Reason {
    match cause {
        Cause::Released | Cause::Cancelled => Reason::NotHolder,
        Cause::Closed => Reason::SessionClosed,
        Cause::Expired => Reason::SessionExpired,
    }
}

fn wait_expired() -> Failure {
    Failure::new(Reason::WaitExpired, "the wait ended; the claim is out of the queue for certain")
}
