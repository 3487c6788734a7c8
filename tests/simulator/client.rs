//! A simulated application: opens a session, claims names, holds, releases, loses; obeys its
//! deadline.
//!
//! It behaves as the client library does: the same request id after a broken connection, Resume
//! with the last known generation, now and then the same id again after a call that it gave up, a
//! new session when the old one is gone. What it believes to hold is what the checker compares.

use crate::simulator::history::ClaimId;
use crate::simulator::random::Random;
use quorate_client::deadline::{Act, Deadline};
use quorate_locks::{Generation, Key, NameKind, RequestId, Token};
use quorate_raft::Time;
use quorate_sidecar::agent::{
    Bond, CallId, ClaimRequest, ConnectionId, NameInfo, Opening, Query, Request, Told,
};
use quorate_sidecar::driver::Item;
use quorate_sidecar::member::Event;
use quorate_sidecar::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};

const MILLI: u64 = 1_000_000;

/// What a client does at a moment; the world carries it out.
#[derive(Debug)]
pub enum Deed {
    /// To its sidecar.
    Send(Event),
    /// It was told that it holds: (name, session, request, token, floor).
    Granted(String, u64, u64, u64, u64),
    /// It does not believe so any more.
    GaveUp(String, u64),
    /// It asks for a release.
    Releasing(String, u64),
    /// It was told that a release is done.
    Released(String, u64),
    /// It makes a claim.
    Asked(String, ClaimId),
    /// It was told that somebody else holds the name.
    Busy(String, ClaimId),
    /// Its claim is out of the queue.
    Withdrawn(String, ClaimId),
    /// It does not wait for the answer any more.
    Left(String, ClaimId),
    /// It has done with the session of this key; with the deadline that it had, on its clock.
    Ends(Key, Option<Time>),
    /// It was told all names; asked when so many entries had been applied.
    Names(u64, Vec<NameInfo>),
    /// An operation was acknowledged.
    Acknowledged,
    /// Wake it after this many ns.
    Wake(u64),
    /// Its last request was answered twice, or after its end.
    Broken(String),
    /// Its connection breaks at once: faults come in company.
    Break,
    /// A claim on its own name, of a session opened after the heal, was granted.
    Probed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// No connection, or none that is known to work.
    Apart,
    /// Open or Resume is under way.
    Attaching(CallId),
    /// The session is attached; the call keeps it.
    Attached(CallId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Asked, and waiting.
    Asked,
    /// Held, until then by its own wish (local time).
    Held(u64, Time),
    /// Half-closed or Release sent.
    Releasing(u64),
}

#[derive(Clone, Debug)]
struct Task {
    call: CallId,
    name: String,
    kind: NameKind,
    request: u64,
    /// The request id of a unary Release.
    release: u64,
    stream: bool,
    wait: Option<u64>,
    stage: Stage,
    /// Believed to be held under this token.
    believes: Option<u64>,
    floor: u64,
    probe: bool,
}

/// What everybody may know when a client wakes up.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// The highest token told to anybody.
    pub told: u64,
    /// Entries that were applied anywhere.
    pub applied: u64,
}

/// See the module.
pub struct Client {
    /// Which.
    pub number: usize,
    /// Whose sidecar it talks to.
    pub node: usize,
    /// Its present connection.
    pub connection: ConnectionId,
    phase: Phase,
    key: Key,
    session: u64,
    generation: u64,
    ttl_ms: u32,
    deadline: Option<Deadline>,
    /// Reads that wait for their answer: how many entries had been applied when each was asked.
    reads: BTreeMap<CallId, u64>,
    next_request: u64,
    next_call: u64,
    /// Calls that have not ended.
    calls: BTreeSet<CallId>,
    task: Option<Task>,
    random: Random,
    names: Vec<(String, NameKind)>,
    /// After the heal: claim a name of its own in a new session, once.
    probing: bool,
}

impl Client {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(
        number: usize,
        node: usize,
        names: Vec<(String, NameKind)>,
        mut random: Random,
    ) -> Client {
        let key = Key(u128::from(random.bits()) << 64 | u128::from(random.bits()) | 1);
        let ttl_ms = u32::try_from(*random.pick(&[1_000, 2_000, 5_000, 5_000])).expect("small");
        Client {
            number,
            node,
            connection: ConnectionId(0),
            phase: Phase::Apart,
            key,
            session: 0,
            generation: 0,
            ttl_ms,
            deadline: None,
            reads: BTreeMap::new(),
            next_request: 1,
            next_call: 0,
            calls: BTreeSet::new(),
            task: None,
            random,
            names,
            probing: false,
        }
    }

    /// Its session's key at the moment.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Its session is kept.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Attached(_))
    }

    /// What it still believes to hold though its deadline has passed at `now`: only while it cannot
    /// look at its clock.
    #[must_use]
    pub fn believes_after(&self, now: Time) -> Option<(&str, u64)> {
        let over = self.deadline.as_ref().is_some_and(|deadline| now.0 >= deadline.kill_at_ns());
        let task = self.task.as_ref().filter(|_| over)?;
        Some((&task.name, task.believes?))
    }

    fn call_id(&mut self) -> CallId {
        self.next_call += 1;
        let call = CallId(u64::try_from(self.number).expect("small") << 40 | self.next_call);
        self.calls.insert(call);
        call
    }

    /// Whether a call is this client's.
    #[must_use]
    pub fn owner_of(call: CallId) -> usize {
        usize::try_from(call.0 >> 40).expect("made above")
    }

    /// Makes it prove, once, that a new session is granted a name of its own.
    pub fn probe(&mut self) -> Vec<Deed> {
        let mut deeds = self.drop_calls();
        self.forget_session(&mut deeds);
        self.probing = true;
        deeds.push(Deed::Wake(MILLI));
        deeds
    }

    /// All that it asked, and was not answered to the end, ends.
    fn drop_calls(&mut self) -> Vec<Deed> {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().map(|call| Deed::Send(Event::Gone(call))).collect()
    }

    /// The process dies and is replaced by a new one with a new session.
    pub fn die(&mut self) -> Vec<Deed> {
        let mut deeds = self.drop_calls();
        deeds.extend([
            Deed::Send(Event::ConnectionEnded { connection: self.connection, by_peer: true }),
            Deed::Send(Event::ProcessDead(self.connection)),
        ]);
        self.forget_session(&mut deeds);
        deeds.push(Deed::Wake(self.random.between(20, 500) * MILLI));
        deeds
    }

    /// The connection breaks; the process lives and comes back.
    pub fn disconnect(&mut self, sidecar_died: bool) -> Vec<Deed> {
        let mut deeds = self.drop_calls();
        if sidecar_died {
            // Nobody is there to hear of it.
            deeds.clear();
        } else {
            let connection = self.connection;
            deeds.push(Deed::Send(Event::ConnectionEnded { connection, by_peer: true }));
        }
        self.phase = Phase::Apart;
        deeds.push(Deed::Wake(self.random.between(1, 40) * MILLI));
        deeds
    }

    /// Its claim's stream is cancelled while its connection lives; it closes the session then.
    pub fn cancel(&mut self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let (Some(task), Phase::Attached(_)) = (&self.task, &self.phase) else { return deeds };
        deeds.push(Deed::Send(Event::Gone(task.call)));
        let call = self.call_id();
        let close = Request::Close(self.key);
        deeds.push(Deed::Send(Event::Call(call, self.connection, close)));
        self.forget_session(&mut deeds);
        deeds.push(Deed::Wake(self.random.between(5, 100) * MILLI));
        deeds
    }

    fn give_up(&mut self, deeds: &mut Vec<Deed>) {
        if let Some(task) = &mut self.task
            && let Some(token) = task.believes.take()
        {
            deeds.push(Deed::GaveUp(task.name.clone(), token));
        }
    }

    /// A claim whose answer is not known is left to itself.
    fn leave(&mut self, deeds: &mut Vec<Deed>) {
        if let Some(task) = self.task.as_ref().filter(|task| task.stage == Stage::Asked) {
            deeds.push(Deed::Left(task.name.clone(), (self.key.0, task.request)));
        }
    }

    fn forget_session(&mut self, deeds: &mut Vec<Deed>) {
        self.give_up(deeds);
        self.leave(deeds);
        deeds.push(Deed::Ends(self.key, self.deadline.as_ref().map(|d| Time(d.kill_at_ns()))));
        self.task = None;
        self.phase = Phase::Apart;
        self.deadline = None;
        self.generation = 0;
        self.next_request = 1;
        self.key = Key(u128::from(self.random.bits()) << 64 | u128::from(self.random.bits()) | 1);
    }

    /// Its timer, or the end of its pause between tasks. `up`: its sidecar takes connections.
    pub fn wake(&mut self, now: Time, up: bool, connection: u64, news: News) -> Vec<Deed> {
        let mut deeds = Vec::new();
        self.obey_deadline(now, &mut deeds);
        match self.phase {
            Phase::Apart if up => {
                self.connection = ConnectionId(connection);
                self.attach(&mut deeds);
                deeds.push(Deed::Wake(1_500 * MILLI));
            }
            Phase::Apart => deeds.push(Deed::Wake(self.random.between(5, 60) * MILLI)),
            Phase::Attaching(_) => deeds.push(Deed::Wake(1_500 * MILLI)),
            Phase::Attached(_) => self.work(now, news, &mut deeds),
        }
        deeds
    }

    /// What it holds ends by its own clock, whatever the sidecar says or does not say.
    fn obey_deadline(&mut self, now: Time, deeds: &mut Vec<Deed>) {
        let Some(deadline) = &mut self.deadline else { return };
        match deadline.decide(now.0) {
            Act::Wait(until) => {
                deeds.push(Deed::Wake(until.saturating_sub(now.0).clamp(MILLI, 200 * MILLI)));
            }
            Act::Stop => {
                // The application takes its time, up to the kill.
                if self.random.permille(300) {
                    self.give_up(deeds);
                }
                deeds.push(Deed::Wake(5 * MILLI));
            }
            Act::Kill => {
                self.forget_session(deeds);
                deeds.push(Deed::Wake(self.random.between(5, 50) * MILLI));
            }
        }
    }

    fn attach(&mut self, deeds: &mut Vec<Deed>) {
        let call = self.call_id();
        let bond = Bond::default();
        let request = if self.generation == 0 {
            let label = format!("client {}", self.number);
            Request::Open(self.key, Opening { ttl_ms: self.ttl_ms, label, bond })
        } else {
            Request::Resume(self.key, Generation(self.generation), bond)
        };
        self.phase = Phase::Attaching(call);
        deeds.push(Deed::Send(Event::Call(call, self.connection, request)));
    }

    fn work(&mut self, now: Time, news: News, deeds: &mut Vec<Deed>) {
        match self.task.as_ref().map(|t| t.stage.clone()) {
            None => self.start_task(news, deeds),
            Some(Stage::Held(token, until)) if now >= until => self.release(token, deeds),
            Some(Stage::Held(_, until)) => {
                deeds.push(Deed::Wake(until.since(now).clamp(MILLI, 100 * MILLI)));
            }
            Some(Stage::Asked) => {
                // Its caller gives the call up, and asks again under the same id.
                if self.random.permille(100) {
                    let call = self.task.as_ref().map(|task| task.call);
                    deeds.extend(call.map(|call| Deed::Send(Event::Gone(call))));
                    self.ask(deeds);
                }
                deeds.push(Deed::Wake(200 * MILLI));
            }
            Some(Stage::Releasing(_)) => deeds.push(Deed::Wake(200 * MILLI)),
        }
    }

    fn start_task(&mut self, news: News, deeds: &mut Vec<Deed>) {
        if self.random.permille(60) && !self.probing {
            let call = self.call_id();
            self.reads.insert(call, news.applied);
            let read = Request::Read(Query::Names(String::new()));
            deeds.push(Deed::Send(Event::Call(call, self.connection, read)));
        }
        let (name, kind) = if self.probing {
            (format!("own-{}", self.number), NameKind::Lock)
        } else {
            self.random.pick(&self.names).clone()
        };
        let stream = self.random.permille(500);
        let wait = *self.random.pick(&[0, 200 * MILLI, 2_000 * MILLI]);
        let request = self.next_request;
        self.next_request += 2;
        let task = Task {
            call: self.call_id(),
            name,
            kind,
            request,
            release: request + 1,
            stream,
            wait: (!stream).then_some(wait),
            stage: Stage::Asked,
            believes: None,
            floor: news.told,
            probe: self.probing,
        };
        self.task = Some(task);
        self.ask(deeds);
        deeds.push(Deed::Wake(400 * MILLI));
    }

    fn ask(&mut self, deeds: &mut Vec<Deed>) {
        let call = self.call_id();
        let Some(task) = &mut self.task else { return };
        task.call = call;
        deeds.push(Deed::Asked(task.name.clone(), (self.key.0, task.request)));
        let claim = ClaimRequest {
            key: self.key,
            opening: None,
            name: task.name.clone(),
            kind: task.kind,
            value: Vec::new(),
            request: RequestId(task.request),
            lowest_unacked: RequestId(task.request),
            queue: task.wait != Some(0),
            wait: task.wait.filter(|wait| *wait > 0),
            stream: task.stream,
        };
        deeds.push(Deed::Send(Event::Call(call, self.connection, Request::Claim(claim))));
    }

    fn release(&mut self, token: u64, deeds: &mut Vec<Deed>) {
        self.give_up(deeds);
        let Some(task) = &mut self.task else { return };
        task.stage = Stage::Releasing(token);
        deeds.push(Deed::Releasing(task.name.clone(), token));
        if task.stream {
            deeds.push(Deed::Send(Event::HalfClose(task.call)));
        } else {
            self.release_again(token, deeds);
        }
        deeds.push(Deed::Wake(400 * MILLI));
    }

    fn release_again(&mut self, token: u64, deeds: &mut Vec<Deed>) {
        let call = self.call_id();
        let Some(task) = &mut self.task else { return };
        task.call = call;
        let release = Request::Release {
            key: self.key,
            name: task.name.clone(),
            token: Token(token),
            request: RequestId(task.release),
            lowest_unacked: RequestId(task.release),
        };
        deeds.push(Deed::Send(Event::Call(call, self.connection, release)));
    }

    /// An item of one of its calls. `last`: the call ends with it.
    pub fn told(&mut self, now: Time, call: CallId, item: &Item, last: bool) -> Vec<Deed> {
        if last || item.is_err() {
            self.calls.remove(&call);
        }
        let mut deeds = Vec::new();
        if let Some(applied) = self.reads.remove(&call) {
            if let Ok(Told::Names(names)) = item {
                deeds.push(Deed::Names(applied, names.clone()));
            }
            return deeds;
        }
        match self.phase {
            Phase::Attaching(of) if of == call => self.attaching(item, &mut deeds),
            Phase::Attached(of) if of == call => self.kept(item, last, &mut deeds),
            _ => {
                if self.task.as_ref().is_some_and(|t| t.call == call) {
                    self.task_told(now, item, last, &mut deeds);
                }
            }
        }
        deeds
    }

    fn attaching(&mut self, item: &Item, deeds: &mut Vec<Deed>) {
        let Phase::Attaching(call) = self.phase else { return };
        match item {
            Ok(Told::Opened(view)) => {
                self.phase = Phase::Attached(call);
                (self.session, self.generation) = (view.id.0, view.generation.0);
                self.deadline = Some(Deadline::new(u64::from(self.ttl_ms), view.deadline.0));
                deeds.extend([Deed::Acknowledged, Deed::Wake(MILLI)]);
            }
            Ok(Told::Resumed(view, grants, next)) => {
                self.phase = Phase::Attached(call);
                self.generation = view.generation.0;
                self.renewed(view.deadline);
                self.next_request = self.next_request.max(next.0 | 1);
                let held: Vec<u64> = grants.iter().map(|g| g.token.0).collect();
                self.take_up(&held, deeds);
                if self.random.permille(80) {
                    deeds.push(Deed::Break);
                }
                deeds.extend([Deed::Acknowledged, Deed::Wake(MILLI)]);
            }
            Ok(_) => self.phase = Phase::Apart,
            Err(failure) => {
                self.phase = Phase::Apart;
                let present = failure.metadata.iter().find(|(name, _)| *name == "generation");
                match (failure.reason, present) {
                    // Its own Resume took effect, and the answer was lost.
                    (Reason::SessionMoved, Some((_, generation))) if self.generation > 0 => {
                        self.generation = generation.parse().unwrap_or(0);
                    }
                    (Reason::NoQuorum | Reason::Draining, _) => {}
                    _ => self.forget_session(deeds),
                }
                deeds.push(Deed::Wake(self.random.between(5, 50) * MILLI));
            }
        }
    }

    /// After a Resume: the same request ids, for whatever was under way.
    fn take_up(&mut self, held: &[u64], deeds: &mut Vec<Deed>) {
        let Some(task) = &self.task else { return };
        match task.stage {
            Stage::Asked => self.ask(deeds),
            Stage::Held(token, _) if held.contains(&token) => {
                if task.stream {
                    self.ask(deeds);
                }
            }
            Stage::Held(..) => {
                self.give_up(deeds);
                self.task = None;
            }
            Stage::Releasing(token) if held.contains(&token) => {
                if let Some(task) = &mut self.task {
                    task.stream = false;
                }
                self.release_again(token, deeds);
            }
            Stage::Releasing(token) => {
                deeds.push(Deed::Released(task.name.clone(), token));
                self.task = None;
            }
        }
    }

    fn kept(&mut self, item: &Item, last: bool, deeds: &mut Vec<Deed>) {
        match item {
            Ok(Told::Renewed(deadline)) => self.renewed(*deadline),
            Ok(Told::Jeopardy(_) | Told::Draining) => {}
            Ok(Told::Expired(Reason::SessionMoved)) => {
                self.phase = Phase::Apart;
                deeds.push(Deed::Wake(MILLI));
            }
            _ => {
                self.forget_session(deeds);
                deeds.push(Deed::Wake(self.random.between(5, 50) * MILLI));
            }
        }
        if last && matches!(self.phase, Phase::Attached(_)) {
            self.phase = Phase::Apart;
        }
    }

    fn renewed(&mut self, to: Time) {
        if let Some(deadline) = &mut self.deadline {
            deadline.renewed(to.0);
        }
    }

    fn task_told(&mut self, now: Time, item: &Item, last: bool, deeds: &mut Vec<Deed>) {
        let (stage, name, claim) = match &self.task {
            Some(task) => (task.stage.clone(), task.name.clone(), (self.key.0, task.request)),
            None => return,
        };
        match (item, stage) {
            (Ok(Told::Granted(token, view)), Stage::Asked | Stage::Held(..)) => {
                self.hold(now, token.0, view.id.0, deeds);
            }
            (Ok(Told::Released), Stage::Releasing(token)) => {
                deeds.extend([Deed::Released(name, token), Deed::Acknowledged]);
                self.pause(deeds);
            }
            (Ok(Told::NotAcquired(_)), _) => {
                deeds.extend([Deed::Busy(name, claim), Deed::Acknowledged]);
                self.pause(deeds);
            }
            (Ok(Told::Renewed(deadline)), _) => self.renewed(*deadline),
            (Ok(_), _) if !last => {}
            (Err(failure), _) if failure.reason == Reason::WaitExpired => {
                deeds.extend([Deed::Withdrawn(name, claim), Deed::Acknowledged]);
                self.pause(deeds);
            }
            // What is held is not lost by that: only its answer is missing.
            (Err(failure), Stage::Held(..)) if is_transient(failure.reason) => {
                deeds.push(Deed::Break);
            }
            // Lost, refused, or not known: what it held it holds no more, and it begins anew.
            _ => {
                self.give_up(deeds);
                self.leave(deeds);
                self.pause(deeds);
            }
        }
    }

    fn hold(&mut self, now: Time, token: u64, session: u64, deeds: &mut Vec<Deed>) {
        let long = self.random.permille(40);
        let nanos = self.random.between(1, if long { 4_000 } else { 60 }) * MILLI;
        let Some(task) = &mut self.task else { return };
        if let Stage::Held(before, _) = task.stage {
            if before != token {
                deeds.push(Deed::Broken(format!("token {before} became {token}")));
            }
            return;
        }
        if self.deadline.as_ref().is_some_and(|d| now.0 >= d.kill_at_ns()) {
            return;
        }
        task.stage = Stage::Held(token, now.after(nanos));
        task.believes = Some(token);
        let (name, request, floor) = (task.name.clone(), task.request, task.floor);
        deeds.push(Deed::Granted(name, session, request, token, floor));
        deeds.extend([Deed::Acknowledged, Deed::Wake(nanos)]);
        if task.probe {
            self.probing = false;
            deeds.push(Deed::Probed);
        }
    }

    fn pause(&mut self, deeds: &mut Vec<Deed>) {
        self.task = None;
        deeds.push(Deed::Wake(self.random.between(2, 80) * MILLI));
    }
}

/// Whether the same may succeed a little later.
fn is_transient(reason: Reason) -> bool {
    matches!(reason, Reason::NoQuorum | Reason::Draining | Reason::DiskFull)
}
