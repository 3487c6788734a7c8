//! The rules of the machine, written a second time and as dumbly as possible: two lists, searched
//! from end to end. Shares nothing with the machine but the interface.

use quorate_locks::{
    Attachment, Cause, Claim, Command, Event, Generation, Grant, Key, Machine, Mode, NameKind,
    Outcome, Refusal, RequestId, SessionId, Token,
};

#[derive(Default)]
pub struct Model {
    start: Option<(u16, u64)>,
    last_n: u64,
    index: u64,
    sessions: Vec<Session>,
    /// All live claims, by arrival.
    claims: Vec<Live>,
}

struct Session {
    id: SessionId,
    key: Key,
    ttl_ms: u32,
    generation: u64,
    attachment: Attachment,
    floor: u64,
    next: u64,
    over: Vec<Over>,
}

/// A request that ended: what it was, and the answer to its repetition.
struct Over {
    request: u64,
    what: What,
    answer: Outcome,
}

#[derive(PartialEq)]
enum What {
    Claim(String, NameKind),
    Release(String, Token),
    Unseen,
}

#[derive(Clone)]
struct Live {
    name: String,
    kind: NameKind,
    session: SessionId,
    request: RequestId,
    token: Option<Token>,
    value: Vec<u8>,
}

type Answer = Result<Outcome, Refusal>;

impl Model {
    pub fn apply(&mut self, index: u64, command: &Command) -> (Outcome, Vec<Event>) {
        self.index = index;
        let mut events = Vec::new();
        let answer = self.answer(command, &mut events);
        (answer.unwrap_or_else(Outcome::Refused), events)
    }

    fn answer(&mut self, command: &Command, events: &mut Vec<Event>) -> Answer {
        if let Command::Start { epoch, last_n } = command {
            return self.start(*epoch, *last_n);
        }
        if self.start.is_none() {
            return Err(Refusal::NotStarted);
        }
        match command {
            Command::Start { .. } => unreachable!(),
            Command::Open { .. } => self.open(command),
            Command::Resume { key, replaces, attachment } => {
                self.resume(*key, replaces.0, *attachment, events)
            }
            Command::Close { session, generation } => {
                self.present(*session, *generation)?;
                Ok(Outcome::Closed { released: self.bury(&[*session], Cause::Closed, events) })
            }
            Command::Expire { sessions } => {
                let mut dead = Vec::new();
                for (session, generation) in sessions {
                    if self.present(*session, *generation).is_ok() && !dead.contains(session) {
                        dead.push(*session);
                    }
                }
                self.bury(&dead, Cause::Expired, events);
                Ok(Outcome::Expired { ended: u32::try_from(dead.len()).unwrap() })
            }
            Command::Claim(claim) => self.claim(claim, events),
            Command::Release { .. } => self.release(command, events),
            Command::Cancel { session, generation, request } => {
                self.present(*session, *generation)?;
                self.cancel(*session, *request, events)
            }
        }
    }

    fn start(&mut self, epoch: u16, last_n: u64) -> Answer {
        if epoch == 0 || epoch > 32_766 {
            return Err(Refusal::Invalid("epoch"));
        }
        if last_n >> 48 != 0 {
            return Err(Refusal::Invalid("last_n"));
        }
        if self.start.is_none() {
            self.start = Some((epoch, last_n));
            self.last_n = last_n;
        }
        if self.start == Some((epoch, last_n)) {
            Ok(Outcome::Started)
        } else {
            Err(Refusal::NotStarted)
        }
    }

    fn open(&mut self, command: &Command) -> Answer {
        let Command::Open { key, ttl_ms, attachment, label } = command else { unreachable!() };
        if *ttl_ms < 1_000 || *ttl_ms > 600_000 {
            return Err(Refusal::Invalid("ttl_ms"));
        }
        if label.len() > 256 {
            return Err(Refusal::Invalid("label"));
        }
        if !self.sessions.iter().any(|session| session.key == *key) {
            self.sessions.push(Session {
                id: SessionId(self.index),
                key: *key,
                ttl_ms: *ttl_ms,
                generation: 1,
                attachment: *attachment,
                floor: 1,
                next: 1,
                over: Vec::new(),
            });
        }
        let session = self.sessions.iter().find(|session| session.key == *key).unwrap();
        let generation = Generation(session.generation);
        if session.ttl_ms != *ttl_ms {
            return Err(Refusal::TtlDiffers(session.ttl_ms));
        }
        if session.attachment != *attachment {
            return Err(Refusal::SessionMoved(generation));
        }
        Ok(Outcome::Opened { session: session.id, generation, ttl_ms: *ttl_ms })
    }

    fn resume(
        &mut self,
        key: Key,
        replaces: u64,
        attachment: Attachment,
        events: &mut Vec<Event>,
    ) -> Answer {
        let session = self.sessions.iter_mut().find(|session| session.key == key);
        let session = session.ok_or(Refusal::SessionUnknown)?;
        let id = session.id;
        if session.generation == replaces {
            session.generation += 1;
            session.attachment = attachment;
            let generation = Generation(session.generation);
            events.push(Event::Moved { session: id, generation, attachment });
        } else if session.generation != replaces + 1 || session.attachment != attachment {
            return Err(Refusal::SessionMoved(Generation(session.generation)));
        }
        let (generation, ttl_ms) = (Generation(session.generation), session.ttl_ms);
        let next_request = RequestId(session.next);
        let mut grants = Vec::new();
        for claim in &self.claims {
            if let Some(token) = claim.token.filter(|_| claim.session == id) {
                let (name, kind, request) = (claim.name.clone(), claim.kind, claim.request);
                grants.push(Grant { name, kind, token, request });
            }
        }
        grants.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Outcome::Resumed { session: id, generation, ttl_ms, grants, next_request })
    }

    fn claim(&mut self, claim: &Claim, events: &mut Vec<Event>) -> Answer {
        self.present(claim.session, claim.generation)?;
        let bad = [
            (claim.name.is_empty() || claim.name.len() > 256, "name"),
            (claim.request.0 == 0 || claim.request.0 == u64::MAX, "request"),
            (claim.lowest_unacked > claim.request, "lowest_unacked"),
            (claim.mode == Mode::Shared, "mode"),
            (claim.permits != 1, "permits"),
            (claim.priority != 0, "priority"),
            (claim.value.len() > 4096, "value"),
            (claim.kind == NameKind::Lock && !claim.value.is_empty(), "value"),
        ];
        if let Some((_, field)) = bad.iter().find(|(is_bad, _)| *is_bad) {
            return Err(Refusal::Invalid(field));
        }
        let outcome = self.claimed(claim, events)?;
        self.forget(claim.session, claim.lowest_unacked);
        Ok(outcome)
    }

    fn claimed(&mut self, claim: &Claim, events: &mut Vec<Event>) -> Answer {
        let (id, request) = (claim.session, claim.request);
        if let Some(at) = self.find_live(id, request) {
            let live = &self.claims[at];
            if live.name != claim.name || live.kind != claim.kind {
                return Err(Refusal::RequestReused);
            }
            return Ok(self.standing(at));
        }
        let session = self.sessions.iter().find(|session| session.id == id).unwrap();
        if let Some(over) = session.over.iter().find(|over| over.request == request.0) {
            let same = over.what == What::Claim(claim.name.clone(), claim.kind);
            return if over.what == What::Unseen || same {
                Ok(over.answer.clone())
            } else {
                Err(Refusal::RequestReused)
            };
        }
        if request.0 < session.floor {
            return Err(Refusal::RequestTooOld(RequestId(session.floor)));
        }
        self.room(id, claim.lowest_unacked)?;
        let others: Vec<&Live> = self.claims.iter().filter(|it| it.name == claim.name).collect();
        if let Some(other) = others.iter().find(|other| other.kind != claim.kind) {
            return Err(Refusal::KindMismatch { present: other.kind, asked: claim.kind });
        }
        if let Some(own) = others.iter().find(|other| other.session == id) {
            return Err(Refusal::AlreadyHeld(own.request));
        }
        let free = others.is_empty();
        let full = others.iter().filter(|other| other.token.is_none()).count() == 10_000;
        if !free && !claim.queue {
            let what = What::Claim(claim.name.clone(), claim.kind);
            self.over(id, request, what, Outcome::NotAcquired);
            return Ok(Outcome::NotAcquired);
        }
        if !free && full {
            return Err(Refusal::QueueFull);
        }
        if free && (self.last_n + 1).max(self.index) >> 48 != 0 {
            return Err(Refusal::TokensExhausted);
        }
        self.claims.push(Live {
            name: claim.name.clone(),
            kind: claim.kind,
            session: id,
            request,
            token: None,
            value: claim.value.clone(),
        });
        self.use_up(id, request);
        self.settle(&claim.name, events);
        Ok(self.standing(self.claims.len() - 1))
    }

    fn release(&mut self, command: &Command, events: &mut Vec<Event>) -> Answer {
        let Command::Release { session, generation, request, name, token } = command else {
            unreachable!()
        };
        self.present(*session, *generation)?;
        if name.is_empty() || name.len() > 256 {
            return Err(Refusal::Invalid("name"));
        }
        if let Some((request, unacked)) = request {
            if request.0 == 0 || request.0 == u64::MAX {
                return Err(Refusal::Invalid("request"));
            }
            if unacked > request {
                return Err(Refusal::Invalid("lowest_unacked"));
            }
            if self.find_live(*session, *request).is_some() {
                return Err(Refusal::RequestReused);
            }
            let owner = self.sessions.iter().find(|it| it.id == *session).unwrap();
            if let Some(over) = owner.over.iter().find(|over| over.request == request.0) {
                if over.what != What::Release(name.clone(), *token) {
                    return Err(Refusal::RequestReused);
                }
                self.forget(*session, *unacked);
                return Ok(Outcome::Released);
            }
            if request.0 < owner.floor {
                return Err(Refusal::RequestTooOld(RequestId(owner.floor)));
            }
            self.room(*session, *unacked)?;
        }
        let held = |it: &Live| it.name == *name && it.session == *session && it.token.is_some();
        let at = self.claims.iter().position(held).ok_or(Refusal::NotHolder)?;
        let present = self.claims[at].token.unwrap();
        if present != *token {
            return Err(Refusal::StaleToken(present));
        }
        let gone = self.claims.remove(at);
        events.push(Event::Lost {
            session: *session,
            request: gone.request,
            name: name.clone(),
            token: present,
            cause: Cause::Released,
        });
        let what = What::Claim(gone.name, gone.kind);
        self.over(*session, gone.request, what, Outcome::Released);
        self.settle(name, events);
        if let Some((request, unacked)) = request {
            let what = What::Release(name.clone(), *token);
            self.over(*session, *request, what, Outcome::Released);
            self.forget(*session, *unacked);
        }
        Ok(Outcome::Released)
    }

    fn cancel(&mut self, id: SessionId, request: RequestId, events: &mut Vec<Event>) -> Answer {
        if request.0 == 0 || request.0 == u64::MAX {
            return Err(Refusal::Invalid("request"));
        }
        if let Some(at) = self.find_live(id, request) {
            if self.claims[at].token.is_some() {
                return Ok(self.standing(at));
            }
            let gone = self.claims.remove(at);
            let name = gone.name.clone();
            events.push(Event::Dequeued { session: id, request, name, cause: Cause::Cancelled });
            let what = What::Claim(gone.name, gone.kind);
            self.over(id, request, what, Outcome::Cancelled);
            return Ok(Outcome::Cancelled);
        }
        let session = self.sessions.iter().find(|session| session.id == id).unwrap();
        if let Some(over) = session.over.iter().find(|over| over.request == request.0) {
            let release = matches!(over.what, What::Release(..));
            return if release { Err(Refusal::RequestReused) } else { Ok(over.answer.clone()) };
        }
        if request.0 >= session.floor {
            self.room(id, RequestId(0))?;
            self.over(id, request, What::Unseen, Outcome::Cancelled);
        }
        Ok(Outcome::Cancelled)
    }

    fn bury(&mut self, dead: &[SessionId], cause: Cause, events: &mut Vec<Event>) -> u32 {
        for id in dead {
            let mut waits: Vec<Live> = self.claims.clone();
            waits.retain(|claim| claim.session == *id && claim.token.is_none());
            waits.sort_by(|a, b| a.name.cmp(&b.name));
            for Live { session, request, name, .. } in waits {
                events.push(Event::Dequeued { session, request, name, cause });
            }
        }
        self.claims.retain(|claim| !dead.contains(&claim.session) || claim.token.is_some());
        let mut freed = self.claims.clone();
        freed.retain(|claim| dead.contains(&claim.session));
        freed.sort_by(|a, b| a.name.cmp(&b.name));
        self.claims.retain(|claim| !dead.contains(&claim.session));
        self.sessions.retain(|session| !dead.contains(&session.id));
        let released = u32::try_from(freed.len()).unwrap();
        for Live { session, request, name, token, .. } in freed {
            let token = token.unwrap();
            events.push(Event::Lost { session, request, name: name.clone(), token, cause });
            self.settle(&name, events);
        }
        events.extend(dead.iter().map(|session| Event::Ended { session: *session, cause }));
        released
    }

    /// The first claim of a name without a holder gets it, if there is a token.
    fn settle(&mut self, name: &str, events: &mut Vec<Event>) {
        if self.claims.iter().any(|claim| claim.name == name && claim.token.is_some()) {
            return;
        }
        let n = (self.last_n + 1).max(self.index);
        if n >> 48 != 0 {
            return;
        }
        let epoch = self.start.unwrap().0;
        if let Some(first) = self.claims.iter_mut().find(|claim| claim.name == name) {
            self.last_n = n;
            let token = Token((u64::from(epoch) << 48) + n);
            first.token = Some(token);
            let (session, request) = (first.session, first.request);
            events.push(Event::Granted { session, request, name: name.to_owned(), token });
        }
    }

    fn standing(&self, at: usize) -> Outcome {
        let claim = &self.claims[at];
        if let Some(token) = claim.token {
            return Outcome::Granted { token };
        }
        let before = self.claims[..at].iter();
        let ahead = before.filter(|it| it.name == claim.name && it.token.is_none()).count();
        Outcome::Queued { position: u32::try_from(ahead).unwrap() }
    }

    fn present(&self, id: SessionId, generation: Generation) -> Result<(), Refusal> {
        match self.sessions.iter().find(|session| session.id == id) {
            None => Err(Refusal::SessionUnknown),
            Some(it) if it.generation == generation.0 => Ok(()),
            Some(it) => Err(Refusal::SessionMoved(Generation(it.generation))),
        }
    }

    fn find_live(&self, id: SessionId, request: RequestId) -> Option<usize> {
        self.claims.iter().position(|it| it.session == id && it.request == request)
    }

    fn room(&self, id: SessionId, unacked: RequestId) -> Result<(), Refusal> {
        let session = self.sessions.iter().find(|session| session.id == id).unwrap();
        let floor = session.floor.max(unacked.0);
        let over = session.over.iter().filter(|over| over.request >= floor).count();
        let own = self.claims.iter().filter(|claim| claim.session == id);
        let live = own.filter(|claim| claim.request.0 >= floor).count();
        if over + live >= 256 { Err(Refusal::TooManyOutcomes) } else { Ok(()) }
    }

    fn over(&mut self, id: SessionId, request: RequestId, what: What, answer: Outcome) {
        let session = self.sessions.iter_mut().find(|session| session.id == id).unwrap();
        if request.0 >= session.floor {
            session.over.push(Over { request: request.0, what, answer });
        }
        self.use_up(id, request);
    }

    fn use_up(&mut self, id: SessionId, request: RequestId) {
        let session = self.sessions.iter_mut().find(|session| session.id == id).unwrap();
        session.next = session.next.max(request.0 + 1);
    }

    fn forget(&mut self, id: SessionId, unacked: RequestId) {
        let session = self.sessions.iter_mut().find(|session| session.id == id).unwrap();
        session.floor = session.floor.max(unacked.0);
        let floor = session.floor;
        session.over.retain(|over| over.request >= floor);
    }

    /// What readers of the machine see is what the model has.
    pub fn compare(&self, machine: &Machine) {
        assert_eq!(machine.session_count(), self.sessions.len());
        for session in &self.sessions {
            let (id, seen) = machine.session_by_key(session.key).unwrap();
            assert_eq!(id, session.id);
            assert_eq!(seen.next_request().0, session.next);
            assert_eq!(seen.generation().0, session.generation);
            assert_eq!((seen.ttl_ms(), seen.attachment()), (session.ttl_ms, session.attachment));
        }
        let epoch = self.start.map_or(0, |(epoch, _)| u64::from(epoch));
        assert_eq!(machine.last_token().0, (epoch << 48) + self.last_n);
        let mut seen = 0;
        for (name, view) in machine.names("") {
            let mine: Vec<&Live> = self.claims.iter().filter(|claim| claim.name == name).collect();
            seen += mine.len();
            let mut waiting = mine.iter().filter(|claim| claim.token.is_none());
            for waiter in view.waiters {
                let claim = waiting.next().unwrap();
                assert_eq!((waiter.session, waiter.request), (claim.session, claim.request));
            }
            assert!(waiting.next().is_none());
            let held = mine.iter().find(|claim| claim.token.is_some());
            assert_eq!(held.is_some(), view.holder.is_some());
            if let (Some(claim), Some(holder)) = (held, view.holder) {
                assert_eq!((holder.session, holder.request), (claim.session, claim.request));
                assert_eq!((Some(holder.token), holder.value), (claim.token, &claim.value[..]));
            }
        }
        assert_eq!(seen, self.claims.len());
    }
}
