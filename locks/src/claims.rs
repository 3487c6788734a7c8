//! The life of a claim: asked for, queued, granted, released, cancelled.
//!
//! Invariants: a request is looked up before it is executed; a name that becomes free goes to its
//! next waiter in the same step, unless the epoch has no token left or grants are held off.
//!
//! Must not be reached by a command of a generation that is not the present one.

use std::sync::Arc;

use crate::command::{
    Cause, Claim, Event, Mode, NameKind, Outcome, Refusal, RequestId, SessionId, Token,
};
use crate::limits::{NAME_BYTES_MAX, NAMES_MAX, QUEUE_MAX, REQUEST_MAX, VALUE_BYTES_MAX};
use crate::machine::Machine;
use crate::name::{Holder, Name, Waiter};
use crate::planted::{self, Bug};
use crate::requests::{End, Kept, Known, Live, Place, Requests};

impl Machine {
    pub(crate) fn claim(
        &mut self,
        claim: &Claim,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        self.attached(claim.session, claim.generation)?;
        validate_claim(claim)?;
        let outcome = match self.repeated_claim(claim)? {
            Some(outcome) => outcome,
            None => self.new_claim(claim, events)?,
        };
        self.requests_mut(claim.session).acknowledge(claim.lowest_unacked);
        Ok(outcome)
    }

    /// The answer to a claim whose request id is known; none if it is to be executed.
    fn repeated_claim(&self, claim: &Claim) -> Result<Option<Outcome>, Refusal> {
        let requests = self.requests(claim.session);
        let same = |name: &str, kind| name == claim.name && kind == claim.kind;
        match requests.find(claim.request) {
            Known::Fresh => Ok(None),
            Known::TooOld => Err(Refusal::RequestTooOld(requests.floor)),
            Known::Kept(Kept::Void) => Ok(Some(Outcome::Cancelled)),
            Known::Live(live) if same(&live.name, live.kind) => Ok(Some(self.standing(live))),
            Known::Kept(Kept::Claim { name, kind, end }) if same(name, *kind) => {
                Ok(Some(ended(*end)))
            }
            Known::Live(_) | Known::Kept(_) => Err(Refusal::RequestReused),
        }
    }

    /// Where a live claim stands now.
    fn standing(&self, live: &Live) -> Outcome {
        match live.place {
            Place::Granted { token } => Outcome::Granted { token },
            Place::Queued { arrival } => {
                let name = self.names.get(&live.name).expect("a live claim keeps its name");
                Outcome::Queued { position: name.position(arrival) }
            }
        }
    }

    fn new_claim(&mut self, claim: &Claim, events: &mut Vec<Event>) -> Result<Outcome, Refusal> {
        let requests = self.requests(claim.session);
        if !requests.has_room(claim.lowest_unacked) {
            return Err(Refusal::TooManyOutcomes);
        }
        let Some((name, entry)) = self.names.get_key_value(claim.name.as_str()) else {
            if self.names.len() >= NAMES_MAX {
                return Err(Refusal::TooManyNames);
            }
            requests.may_begin()?;
            return match self.hold_off_ms {
                None => self.grant_at_once(claim, events),
                Some(_) => self.held_off(claim),
            };
        };
        if entry.kind != claim.kind {
            return Err(Refusal::KindMismatch { present: entry.kind, asked: claim.kind });
        }
        if let Some(request) = requests.by_name.get(name) {
            return Err(Refusal::AlreadyHeld(*request));
        }
        let name = Arc::clone(name);
        if !claim.queue {
            let kept = Kept::Claim { name, kind: claim.kind, end: End::NotAcquired };
            self.requests_mut(claim.session).keep(claim.request, kept);
            return Ok(Outcome::NotAcquired);
        }
        self.requests(claim.session).may_begin()?;
        self.enqueue(claim, name)
    }

    /// The first claim of a name while nothing is granted: somebody of an earlier life may hold it.
    fn held_off(&mut self, claim: &Claim) -> Result<Outcome, Refusal> {
        let name: Arc<str> = Arc::from(claim.name.as_str());
        if !claim.queue {
            let kept = Kept::Claim { name, kind: claim.kind, end: End::NotAcquired };
            self.requests_mut(claim.session).keep(claim.request, kept);
            return Ok(Outcome::NotAcquired);
        }
        let before = self.names.insert(Arc::clone(&name), Name::new(claim.kind));
        assert!(before.is_none(), "held off a name in use");
        self.enqueue(claim, name)
    }

    fn grant_at_once(
        &mut self,
        claim: &Claim,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        let token = self.mint().ok_or(Refusal::TokensExhausted)?;
        let name: Arc<str> = Arc::from(claim.name.as_str());
        let mut entry = Name::new(claim.kind);
        entry.holder = Some(Holder {
            session: claim.session,
            request: claim.request,
            token,
            value: claim.value.clone(),
        });
        let before = self.names.insert(Arc::clone(&name), entry);
        assert!(before.is_none(), "granted a name in use");
        let live = Live { name, kind: claim.kind, place: Place::Granted { token } };
        self.requests_mut(claim.session).begin(claim.request, live);
        events.push(Event::Granted {
            session: claim.session,
            request: claim.request,
            name: claim.name.clone(),
            token,
        });
        Ok(Outcome::Granted { token })
    }

    fn enqueue(&mut self, claim: &Claim, name: Arc<str>) -> Result<Outcome, Refusal> {
        let arrival = self.last_index;
        let entry = self.names.get_mut(&name).expect("the name is in use");
        if entry.queue.len() >= QUEUE_MAX {
            return Err(Refusal::QueueFull);
        }
        let position = u32::try_from(entry.queue.len()).expect("a queue has at most 10,000");
        let waiter =
            Waiter { session: claim.session, request: claim.request, value: claim.value.clone() };
        let before = entry.queue.insert(arrival, waiter);
        assert!(before.is_none(), "two claims of one entry");
        let live = Live { name, kind: claim.kind, place: Place::Queued { arrival } };
        self.requests_mut(claim.session).begin(claim.request, live);
        Ok(Outcome::Queued { position })
    }

    pub(crate) fn release(
        &mut self,
        session: SessionId,
        request: Option<(RequestId, RequestId)>,
        grant: (&str, Token),
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        validate_name(grant.0)?;
        let Some((request, lowest_unacked)) = request else {
            self.release_grant(session, grant, events)?;
            return Ok(Outcome::Released);
        };
        validate_request(request, lowest_unacked)?;
        let requests = self.requests(session);
        if !repeated_release(requests, request, grant)? {
            if !requests.has_room(lowest_unacked) {
                return Err(Refusal::TooManyOutcomes);
            }
            let name = self.release_grant(session, grant, events)?;
            self.requests_mut(session).keep(request, Kept::Release { name, token: grant.1 });
        }
        self.requests_mut(session).acknowledge(lowest_unacked);
        Ok(Outcome::Released)
    }

    /// Ends the grant if the session has it under this very token.
    fn release_grant(
        &mut self,
        session: SessionId,
        (name, token): (&str, Token),
        events: &mut Vec<Event>,
    ) -> Result<Arc<str>, Refusal> {
        let (name, entry) = self.names.get_key_value(name).ok_or(Refusal::NotHolder)?;
        let holder = entry.holder.as_ref().ok_or(Refusal::NotHolder)?;
        if holder.session != session {
            return Err(Refusal::NotHolder);
        }
        if holder.token != token && !planted::is(Bug::StaleTokenReleases) {
            return Err(Refusal::StaleToken(holder.token));
        }
        let name = Arc::clone(name);
        self.free(&name, Cause::Released, events);
        Ok(name)
    }

    pub(crate) fn cancel(
        &mut self,
        session: SessionId,
        request: RequestId,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        validate_request(request, request)?;
        let requests = self.requests(session);
        match requests.find(request) {
            Known::Live(live) => {
                if let Place::Queued { arrival } = live.place {
                    let name = Arc::clone(&live.name);
                    self.dequeue(&name, arrival, Cause::Cancelled, events);
                    self.requests_mut(session).end(request, End::Cancelled);
                    return Ok(Outcome::Cancelled);
                }
                Ok(self.standing(live))
            }
            Known::Kept(Kept::Claim { end, .. }) => Ok(ended(*end)),
            Known::Kept(Kept::Release { .. }) => Err(Refusal::RequestReused),
            // Below the floor no copy of the claim will ever be executed: nothing to remember.
            Known::TooOld | Known::Kept(Kept::Void) => Ok(Outcome::Cancelled),
            Known::Fresh if planted::is(Bug::EarlyCancelForgotten) => Ok(Outcome::Cancelled),
            Known::Fresh => {
                if !requests.has_room(requests.floor) {
                    return Err(Refusal::TooManyOutcomes);
                }
                self.requests_mut(session).keep(request, Kept::Void);
                Ok(Outcome::Cancelled)
            }
        }
    }

    /// Takes a waiter out of its queue. Its session's table is the caller's.
    pub(crate) fn dequeue(
        &mut self,
        name: &Arc<str>,
        arrival: u64,
        cause: Cause,
        events: &mut Vec<Event>,
    ) {
        let entry = self.names.get_mut(name).expect("a queued claim keeps its name");
        let waiter = entry.queue.remove(&arrival).expect("a queued claim is in its queue");
        if entry.is_empty() {
            self.names.remove(name);
        }
        let Waiter { session, request, .. } = waiter;
        events.push(Event::Dequeued { session, request, name: name.to_string(), cause });
    }

    /// Takes the name from its holder, and gives it to the next waiter.
    pub(crate) fn free(&mut self, name: &Arc<str>, cause: Cause, events: &mut Vec<Event>) {
        let entry = self.names.get_mut(name).expect("a held name is in use");
        let holder = entry.holder.take().expect("only a held name is freed");
        let Holder { session, request, token, .. } = holder;
        events.push(Event::Lost { session, request, name: name.to_string(), token, cause });
        // A dead session is out of the table already, with all its requests.
        if let Some(session) = self.sessions.get_mut(&session) {
            assert_eq!(cause, Cause::Released, "a grant outlived its session");
            session.requests.end(request, End::Released);
        }
        self.grant_next(name, events);
    }

    pub(crate) fn grant_next(&mut self, name: &Arc<str>, events: &mut Vec<Event>) {
        let entry = self.names.get(name).expect("a freed name is in use");
        assert!(entry.holder.is_none(), "granted over a holder");
        if entry.is_empty() {
            self.names.remove(name);
            return;
        }
        if self.hold_off_ms.is_some() {
            return;
        }
        // Without a token left the first waiter stays the first, for ever: exhaustion has no end.
        let Some(token) = self.mint() else { return };
        let entry = self.names.get_mut(name).expect("a freed name is in use");
        let last = planted::is(Bug::LastWaiterFirst).then(|| entry.queue.pop_last()).flatten();
        let next = last.or_else(|| entry.queue.pop_first());
        let (_, waiter) = next.expect("the queue is not empty");
        let Waiter { session, request, value } = waiter;
        entry.holder = Some(Holder { session, request, token, value });
        self.requests_mut(session).grant(request, token);
        events.push(Event::Granted { session, request, name: name.to_string(), token });
    }

    fn mint(&mut self) -> Option<Token> {
        assert!(self.hold_off_ms.is_none(), "granted while grants are held off");
        let tokens = self.tokens.as_mut().expect("claims exist only in a life that began");
        tokens.mint(self.last_index)
    }

    fn requests(&self, id: SessionId) -> &Requests {
        &self.sessions.get(&id).expect("looked up before").requests
    }

    fn requests_mut(&mut self, id: SessionId) -> &mut Requests {
        &mut self.sessions.get_mut(&id).expect("claims end before their session").requests
    }
}

/// Whether this release was executed before.
fn repeated_release(
    requests: &Requests,
    request: RequestId,
    (name, token): (&str, Token),
) -> Result<bool, Refusal> {
    match requests.find(request) {
        Known::Fresh => Ok(false),
        Known::TooOld => Err(Refusal::RequestTooOld(requests.floor)),
        Known::Kept(Kept::Release { name: released, token: under })
            if **released == *name && *under == token =>
        {
            Ok(true)
        }
        Known::Live(_) | Known::Kept(_) => Err(Refusal::RequestReused),
    }
}

fn ended(end: End) -> Outcome {
    match end {
        End::NotAcquired => Outcome::NotAcquired,
        End::Released => Outcome::Released,
        End::Cancelled => Outcome::Cancelled,
    }
}

fn validate_claim(claim: &Claim) -> Result<(), Refusal> {
    validate_name(&claim.name)?;
    validate_request(claim.request, claim.lowest_unacked)?;
    if claim.mode != Mode::Exclusive {
        return Err(Refusal::Invalid("mode"));
    }
    if claim.permits != 1 {
        return Err(Refusal::Invalid("permits"));
    }
    if claim.priority != 0 {
        return Err(Refusal::Invalid("priority"));
    }
    if !value_fits(claim.kind, &claim.value) {
        return Err(Refusal::Invalid("value"));
    }
    Ok(())
}

fn validate_name(name: &str) -> Result<(), Refusal> {
    if name_fits(name) { Ok(()) } else { Err(Refusal::Invalid("name")) }
}

fn validate_request(request: RequestId, lowest_unacked: RequestId) -> Result<(), Refusal> {
    if request.0 == 0 || request > REQUEST_MAX {
        return Err(Refusal::Invalid("request"));
    }
    if lowest_unacked > request {
        return Err(Refusal::Invalid("lowest_unacked"));
    }
    Ok(())
}

pub(crate) fn name_fits(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

pub(crate) fn value_fits(kind: NameKind, value: &[u8]) -> bool {
    match kind {
        NameKind::Lock => value.is_empty(),
        NameKind::Election => value.len() <= VALUE_BYTES_MAX,
    }
}
