//! The one task of a session: keeps it renewed, carries its claims, and takes it back after a
//! broken connection.
//!
//! Invariants: request ids rise; a claim keeps its id for life, so that asking again is safe; after
//! a broken connection nothing is asked before the Resume was answered; when the deadline of the
//! session passes here it is over, whatever the sidecar says later. Must not block on the sidecar:
//! every answer is one of the things waited for at once.

mod attach;
mod claim;
mod events;

pub(crate) use claim::{Ask, Role};

use crate::client::Client;
use crate::clock::Timer;
use crate::error::{Error, Reason};
use crate::link::Link;
use crate::session::{Pulse, SessionOptions};
use attach::{Attached, Failure, Whose};
use claim::{Claim, Done, Stage, Turn};
use events::Events;
use quorate_proto::v1::sessions_client::SessionsClient;
use quorate_proto::v1::{ClaimEvent, CloseRequest, SessionEvent, claim_event, session_event};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, StreamMap};
use tonic::Status;

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the application asks of its session.
pub(crate) enum Command {
    Claim(Ask),
    Release { claim: u64, done: Option<Done> },
    Close { done: Done },
}

pub(crate) struct Keeper {
    client: Client,
    whose: Whose,
    /// Resumes whose answer never came since the generation was last known.
    lost_resumes: u64,
    next_request: u64,
    pulse: watch::Sender<Pulse>,
    commands: mpsc::UnboundedReceiver<Command>,
    /// None while the connection is broken.
    link: Option<Arc<Link>>,
    events: Option<Events<SessionEvent>>,
    claims: BTreeMap<u64, Claim>,
    streams: StreamMap<u64, Events<ClaimEvent>>,
    attempt: Option<Task<Result<Attached, Failure>>>,
    pause: Duration,
    closing: Option<Task<Result<(), Error>>>,
    close_wanted: bool,
    closers: Vec<Done>,
    /// Nobody can command any more.
    orphaned: bool,
    over: Option<Reason>,
    timer: Timer,
}

/// Waits for a task, if there is one; else for ever.
async fn finished<T>(task: &mut Option<Task<T>>) -> T {
    match task {
        Some(running) => {
            let result = running.await;
            *task = None;
            result
        }
        None => std::future::pending().await,
    }
}

async fn next_event(events: &mut Option<Events<SessionEvent>>) -> Result<SessionEvent, Status> {
    match events {
        Some(events) => {
            let ended = || Status::unavailable("the sidecar ended the stream");
            events.next().await.unwrap_or_else(|| Err(ended()))
        }
        None => std::future::pending().await,
    }
}

impl Keeper {
    /// Opens a session. The keeper has yet to run.
    pub(crate) async fn open(
        client: Client,
        key: [u8; 16],
        options: &SessionOptions,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Result<(Keeper, watch::Receiver<Pulse>), Error> {
        let timer = Timer::new().map_err(Error::system)?;
        let (link, opened, events) = attach::open(&client, key, options).await?;
        let (pulse, receiver) = watch::channel(Pulse {
            session_id: opened.session_id,
            ttl_ms: opened.ttl_ms,
            deadline_ns: opened.deadline_boottime_ns,
            rides_through_failover: opened.rides_through_failover,
            connected: true,
            in_jeopardy: false,
            over: None,
        });
        let whose = Whose { key, generation: opened.generation, tethered: options.tethered };
        let keeper = Keeper {
            client,
            whose,
            lost_resumes: 0,
            next_request: 1,
            pulse,
            commands,
            link: Some(link),
            events: Some(events),
            claims: BTreeMap::new(),
            streams: StreamMap::new(),
            attempt: None,
            pause: Duration::ZERO,
            closing: None,
            close_wanted: false,
            closers: Vec::new(),
            orphaned: false,
            over: None,
            timer,
        };
        Ok((keeper, receiver))
    }

    /// Until the session is over.
    pub(crate) async fn run(mut self) {
        while self.over.is_none() {
            let deadline_ns = self.pulse.borrow().deadline_ns;
            tokio::select! {
                biased;
                // A timer that fails cannot be trusted with a deadline: over, the safe side.
                _ = self.timer.wait_until(deadline_ns) => self.end(Reason::SessionExpired),
                command = self.commands.recv(), if !self.orphaned => self.command(command),
                event = next_event(&mut self.events) => self.session_event(event),
                Some((id, event)) = self.streams.next(), if !self.streams.is_empty() => {
                    self.claim_event(id, event);
                }
                attached = finished(&mut self.attempt) => self.attached(attached),
                closed = finished(&mut self.closing) => self.closed(closed),
            }
        }
        self.finish();
    }

    fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Claim(ask)) => {
                let request_id = self.next_request;
                self.next_request += 1;
                let id = ask.claim;
                self.claims.insert(id, Claim::new(ask, request_id));
                self.ask(id);
            }
            Some(Command::Release { claim, done }) => self.release(claim, done),
            Some(Command::Close { done }) => {
                self.closers.push(done);
                self.close();
            }
            None => {
                self.orphaned = true;
                self.close();
            }
        }
    }

    fn release(&mut self, id: u64, done: Option<Done>) {
        match self.claims.get_mut(&id) {
            Some(claim) => claim.release(done),
            // Ended before.
            None => {
                if let Some(done) = done {
                    drop(done.send(Ok(())));
                }
            }
        }
    }

    /// Outcomes below this are never asked for again: those of claims that were not answered yet
    /// are.
    fn lowest_unacked(&self) -> u64 {
        let open = self.claims.values().filter(|claim| !claim.answered);
        open.map(|claim| claim.request_id).min().unwrap_or(self.next_request)
    }

    fn ask(&mut self, id: u64) {
        let lowest = self.lowest_unacked();
        let (Some(link), Some(claim)) = (&self.link, self.claims.get_mut(&id)) else { return };
        let lowest = lowest.min(claim.request_id);
        let events = claim.ask(link, self.whose.key, lowest);
        self.streams.insert(id, events);
    }

    fn close(&mut self) {
        self.close_wanted = true;
        let Some(link) = self.link.clone().filter(|_| self.closing.is_none()) else { return };
        let key = self.whose.key.to_vec();
        self.closing = Some(Box::pin(async move {
            let mut sessions = SessionsClient::new(link.channel.clone());
            sessions.close(CloseRequest { key }).await?;
            Ok(())
        }));
    }

    fn closed(&mut self, closed: Result<(), Error>) {
        match closed {
            Err(Error::Broken(_)) => self.broken(),
            Err(error) if error.is_transient() => self.broken(),
            // Closed, or not there any more, or taken from us: nothing of it is ours now.
            Ok(()) | Err(_) => self.end(Reason::SessionClosed),
        }
    }

    fn session_event(&mut self, event: Result<SessionEvent, Status>) {
        use session_event::Event;
        let event = match event.map_err(Error::from) {
            Ok(event) => event.event,
            Err(error) => return self.failed(&error),
        };
        match event {
            Some(Event::Renewed(renewed)) => {
                self.pause = Duration::ZERO;
                self.renewed(renewed.deadline_boottime_ns);
            }
            Some(Event::Opened(opened)) => self.renewed(opened.deadline_boottime_ns),
            Some(Event::Resumed(resumed)) => self.renewed(resumed.deadline_boottime_ns),
            Some(Event::Jeopardy(_)) => self.pulse.send_modify(|pulse| pulse.in_jeopardy = true),
            Some(Event::Expired(expired)) => self.end(Reason::parse(&expired.reason)),
            Some(Event::Draining(_)) => self.broken(),
            // A later version's news.
            None => {}
        }
    }

    /// A stream of ours was refused or broke.
    fn failed(&mut self, error: &Error) {
        match error {
            Error::Refused { reason, .. } if ends_session(reason) => self.end(reason.clone()),
            _ => self.broken(),
        }
    }

    fn renewed(&mut self, deadline_ns: u64) {
        self.pulse.send_modify(|pulse| {
            if deadline_ns > pulse.deadline_ns {
                pulse.deadline_ns = deadline_ns;
                pulse.in_jeopardy = false;
            }
        });
    }

    fn claim_event(&mut self, id: u64, event: Result<ClaimEvent, Status>) {
        let Some(claim) = self.claims.get_mut(&id) else {
            self.streams.remove(&id);
            return;
        };
        let turn = match event.map_err(Error::from) {
            Ok(event) => told(claim, event),
            Err(error) => refused(claim, error),
        };
        match turn {
            Turn::On => {}
            Turn::Over => self.forget(id, &Reason::NotHolder, withdrawn()),
            Turn::Refused(error) => self.forget(id, &Reason::NotHolder, error),
            Turn::Broken => self.broken(),
            Turn::SessionOver(reason) => self.end(reason),
        }
    }

    fn forget(&mut self, id: u64, reason: &Reason, error: Error) {
        self.streams.remove(&id);
        if let Some(claim) = self.claims.remove(&id) {
            claim.end(reason, error);
        }
    }

    /// The connection is of no use: cut it, so that no stream's end is a release, and come back.
    fn broken(&mut self) {
        if let Some(link) = self.link.take() {
            link.cut();
        }
        self.events = None;
        self.streams.clear();
        self.closing = None;
        self.pulse.send_if_modified(|pulse| std::mem::replace(&mut pulse.connected, false));
        if self.attempt.is_none() {
            let resume = attach::resume(self.client.clone(), self.whose, self.pause);
            self.attempt = Some(Box::pin(resume));
            // Until a renewal shows that a connection is of use: a sidecar that takes us and drops
            // us is not asked without a pause.
            self.pause = attach::longer(self.pause);
        }
    }

    fn attached(&mut self, attached: Result<Attached, Failure>) {
        match attached {
            Ok(attached) => self.resumed(attached),
            Err(Failure::Refused(error)) => self.not_resumed(&error),
            Err(failure) => {
                if matches!(failure, Failure::Unknown) {
                    self.lost_resumes += 1;
                }
                self.broken();
            }
        }
    }

    fn resumed(&mut self, attached: Attached) {
        let Attached { link, resumed, events } = attached;
        self.whose.generation = resumed.generation;
        self.lost_resumes = 0;
        self.next_request = self.next_request.max(resumed.next_request_id);
        self.link = Some(link);
        self.events = Some(events);
        self.renewed(resumed.deadline_boottime_ns);
        self.pulse.send_modify(|pulse| pulse.connected = true);
        let ids: Vec<u64> = self.claims.keys().copied().collect();
        for id in ids {
            self.ask(id);
        }
        if self.close_wanted {
            self.close();
        }
    }

    /// A generation above ours may be that of our own Resume whose answer was lost. Anything else
    /// is somebody else's.
    fn not_resumed(&mut self, error: &Error) {
        let Error::Refused { reason, generation, .. } = error else {
            return self.end(match error {
                Error::SessionOver(reason) => reason.clone(),
                _ => Reason::SessionUnknown,
            });
        };
        let risen = generation.saturating_sub(self.whose.generation);
        let ours = (1..=self.lost_resumes).contains(&risen);
        if *reason == Reason::SessionMoved && ours {
            self.whose.generation = *generation;
            self.lost_resumes -= risen;
            return self.broken();
        }
        self.end(reason.clone());
    }

    fn end(&mut self, reason: Reason) {
        self.over.get_or_insert(reason);
    }

    /// Tells everybody, once.
    fn finish(mut self) {
        let reason = self.over.take().unwrap_or(Reason::SessionClosed);
        self.streams.clear();
        for claim in std::mem::take(&mut self.claims).into_values() {
            claim.end(&reason, Error::SessionOver(reason.clone()));
        }
        for done in std::mem::take(&mut self.closers) {
            drop(done.send(Ok(())));
        }
        self.pulse.send_modify(|pulse| pulse.over = Some(reason));
    }
}

fn ends_session(reason: &Reason) -> bool {
    matches!(reason, Reason::SessionExpired | Reason::SessionUnknown | Reason::SessionClosed)
}

/// The claim is out of the queue, and nobody said that the name is taken: ask again with a new id.
fn withdrawn() -> Error {
    Error::Broken("the claim was withdrawn while the connection was broken".to_owned())
}

/// What an event means.
fn told(claim: &mut Claim, event: ClaimEvent) -> Turn {
    use claim_event::Event;
    match event.event {
        Some(Event::Granted(granted)) => {
            if claim.granted(&granted) {
                Turn::On
            } else {
                Turn::Over
            }
        }
        Some(Event::Queued(_)) => {
            claim.answered = true;
            // What was held cannot be waited for: it is gone.
            if matches!(claim.stage, Stage::Held(_)) { Turn::Over } else { Turn::On }
        }
        Some(Event::Renewed(renewed)) => {
            claim.renewed(renewed.deadline_boottime_ns);
            Turn::On
        }
        Some(Event::Lost(lost)) => match Reason::parse(&lost.reason) {
            reason if ends_session(&reason) => Turn::SessionOver(reason),
            // Another stream of ours, or another sidecar: the Resume tells.
            Reason::SessionMoved => Turn::Broken,
            _ => Turn::Over,
        },
        Some(Event::NotAcquired(taken)) => {
            let holder = taken.holder.map(|holder| Box::new(crate::Holder::from(holder)));
            Turn::Refused(Error::NotAcquired(holder))
        }
        Some(Event::Released(_)) => Turn::Over,
        Some(Event::Draining(_)) => Turn::Broken,
        Some(Event::Jeopardy(_)) | None => Turn::On,
    }
}

fn refused(claim: &Claim, error: Error) -> Turn {
    let Error::Refused { reason, .. } = &error else { return Turn::Broken };
    match reason {
        reason if ends_session(reason) => Turn::SessionOver(reason.clone()),
        Reason::Draining | Reason::SlowReader | Reason::SessionMoved => Turn::Broken,
        // It was cancelled, its end acknowledged: a new id is needed.
        Reason::RequestTooOld if claim.answered => Turn::Over,
        // What is held is not lost by that: only its answer is missing.
        _ if matches!(claim.stage, Stage::Held(_)) && error.is_transient() => Turn::Broken,
        _ => Turn::Refused(error),
    }
}
