//! The services of the fake sidecar.

use super::{Claim, Session, State, tell};
use crate::process::is_gone;
use quorate_proto::v1::elections_server::Elections;
use quorate_proto::v1::locks_server::Locks;
use quorate_proto::v1::sessions_server::Sessions;
use quorate_proto::v1::{self, claim_event, leader_event, session_event};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answers<T> = UnboundedReceiverStream<Result<T, Status>>;

#[derive(Clone)]
pub struct Fake {
    pub state: Arc<Mutex<State>>,
}

fn refused(reason: &str, generation: u64) -> Status {
    let metadata = HashMap::from([("generation".to_owned(), generation.to_string())]);
    let details = ErrorDetails::with_error_info(reason, "quorate.dev", metadata);
    Status::with_error_details(tonic::Code::FailedPrecondition, reason, details)
}

fn unimplemented<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this fake"))
}

#[tonic::async_trait]
impl Sessions for Fake {
    type OpenStream = Answers<v1::SessionEvent>;

    async fn open(
        &self,
        request: Request<v1::OpenRequest>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let asked = request.into_inner();
        let mut state = self.state.lock().unwrap();
        let (items, answers) = mpsc::unbounded_channel();
        let session_id = u64::try_from(state.sessions.len()).unwrap() + 1;
        let session = Session {
            id: session_id,
            generation: 1,
            ttl_ms: asked.ttl_ms,
            tethered: asked.tethered,
            boot: state.boot,
            keeper: Some(items.clone()),
        };
        state.sessions.insert(asked.key, session);
        let opened = v1::Opened {
            session_id,
            generation: 1,
            ttl_ms: asked.ttl_ms,
            deadline_boottime_ns: state.deadline(asked.ttl_ms),
            rides_through_failover: true,
            heartbeat_ms: asked.ttl_ms / 5,
        };
        let event = Some(session_event::Event::Opened(opened));
        items.send(Ok(v1::SessionEvent { event })).unwrap();
        Ok(Response::new(Answers::new(answers)))
    }

    type ResumeStream = Answers<v1::SessionEvent>;

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<Self::ResumeStream>, Status> {
        let asked = request.into_inner();
        let mut state = self.state.lock().unwrap();
        let boot = state.boot;
        let (items, answers) = mpsc::unbounded_channel();
        let Some(session) = state.sessions.get_mut(&asked.key) else {
            return Err(refused("SESSION_UNKNOWN", 0));
        };
        if session.generation != asked.generation {
            return Err(refused("SESSION_MOVED", session.generation));
        }
        session.generation += 1;
        session.boot = boot;
        session.keeper = Some(items.clone());
        let (session_id, generation, ttl_ms) = (session.id, session.generation, session.ttl_ms);
        state.resumes += 1;
        if state.swallow_resumes > 0 {
            state.swallow_resumes -= 1;
            return Err(Status::unavailable("the answer is lost"));
        }
        let resumed = v1::Resumed {
            session_id,
            generation,
            ttl_ms,
            deadline_boottime_ns: state.deadline(ttl_ms),
            grants: Vec::new(),
            next_request_id: 1,
        };
        let event = Some(session_event::Event::Resumed(resumed));
        items.send(Ok(v1::SessionEvent { event })).unwrap();
        Ok(Response::new(Answers::new(answers)))
    }

    type TetherStream = Answers<v1::TetherEvent>;

    async fn tether(
        &self,
        _: Request<v1::TetherRequest>,
    ) -> Result<Response<Self::TetherStream>, Status> {
        self.state.lock().unwrap().tethers += 1;
        let (items, answers) = mpsc::unbounded_channel();
        // Open for as long as the connection.
        let shared = Arc::clone(&self.state);
        tokio::spawn(async move {
            items.closed().await;
            let mut state = shared.lock().unwrap();
            let alive = state.watched.iter().filter(|process| !is_gone(process)).count();
            state.alive_at_tether_end = Some(alive);
        });
        Ok(Response::new(Answers::new(answers)))
    }

    async fn close(
        &self,
        request: Request<v1::CloseRequest>,
    ) -> Result<Response<v1::CloseResponse>, Status> {
        self.state.lock().unwrap().close(&request.into_inner().key);
        Ok(Response::new(v1::CloseResponse { released: 0 }))
    }

    async fn list(
        &self,
        _: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        unimplemented()
    }
}

impl Fake {
    fn claim<R: Send + 'static>(
        &self,
        claim: Option<v1::Claim>,
        mut requests: Streaming<R>,
    ) -> Result<Response<Answers<v1::ClaimEvent>>, Status> {
        let asked = claim.ok_or_else(|| Status::invalid_argument("no claim"))?;
        let (items, answers) = mpsc::unbounded_channel();
        let mut state = self.state.lock().unwrap();
        let Some(session) = state.sessions.get(&asked.key) else {
            return Err(refused("SESSION_UNKNOWN", 0));
        };
        if session.boot != state.boot {
            return Err(refused("SESSION_MOVED", session.generation));
        }
        state.holds.push((asked.request_id, asked.lowest_unacked));
        let (holder, held_off) = (state.holder(&asked.name), state.hold_off_ms > 0);
        let queue = state.names.entry(asked.name.clone()).or_default();
        let same = |c: &Claim| c.key == asked.key && c.request_id == asked.request_id;
        let at = queue.iter().position(same);
        let is_taken = !queue.is_empty();
        if at.is_none() && asked.r#try && (is_taken || held_off) {
            let taken = v1::NotAcquired { holder };
            let event = Some(claim_event::Event::NotAcquired(taken));
            items.send(Ok(v1::ClaimEvent { event })).unwrap();
            return Ok(Response::new(Answers::new(answers)));
        }
        let (key, request_id) = (asked.key.clone(), asked.request_id);
        match at {
            Some(at) => queue[at].items = Some(items),
            None => queue.push_back(Claim { key, request_id, token: 0, items: Some(items) }),
        }
        let at = at.unwrap_or(queue.len() - 1);
        if at == 0 {
            state.grant(&asked.name);
        } else {
            let queued = v1::Queued { position: u32::try_from(at).unwrap() - 1 };
            tell(&state.names[&asked.name][at], claim_event::Event::Queued(queued));
        }
        let shared = Arc::clone(&self.state);
        tokio::spawn(async move {
            // The end is a half-close; an error is a disconnect, which releases nothing.
            if let Ok(None) = requests.message().await {
                shared.lock().unwrap().release(&asked.name, &asked.key, asked.request_id);
            }
        });
        Ok(Response::new(Answers::new(answers)))
    }
}

#[tonic::async_trait]
impl Locks for Fake {
    type HoldStream = Answers<v1::ClaimEvent>;

    async fn hold(
        &self,
        request: Request<Streaming<v1::HoldRequest>>,
    ) -> Result<Response<Self::HoldStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        self.claim(first.claim, requests)
    }

    async fn acquire(
        &self,
        _: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireResponse>, Status> {
        unimplemented()
    }

    async fn release(
        &self,
        _: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        unimplemented()
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let name = request.into_inner().name;
        let state = self.state.lock().unwrap();
        let info = state.names.contains_key(&name).then(|| state.info(&name));
        Ok(Response::new(v1::GetResponse { name: info }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let state = self.state.lock().unwrap();
        let names = state.names.keys().map(|name| state.info(name));
        Ok(Response::new(v1::ListResponse { names: names.collect() }))
    }
}

#[tonic::async_trait]
impl v1::status_server::Status for Fake {
    async fn get(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let state = self.state.lock().unwrap();
        let (hold_off_ms, sessions) = (state.hold_off_ms, state.sessions.len());
        let sessions = u64::try_from(sessions).unwrap();
        let status = v1::StatusResponse { hold_off_ms, sessions, names: 1, ..Default::default() };
        Ok(Response::new(status))
    }
}

#[tonic::async_trait]
impl Elections for Fake {
    type ParticipateStream = Answers<v1::ClaimEvent>;

    async fn participate(
        &self,
        request: Request<Streaming<v1::ParticipateRequest>>,
    ) -> Result<Response<Self::ParticipateStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        self.claim(first.claim, requests)
    }

    async fn campaign(
        &self,
        _: Request<v1::CampaignRequest>,
    ) -> Result<Response<v1::AcquireResponse>, Status> {
        unimplemented()
    }

    async fn resign(
        &self,
        _: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        unimplemented()
    }

    async fn leader(
        &self,
        _: Request<v1::LeaderRequest>,
    ) -> Result<Response<v1::LeaderResponse>, Status> {
        Ok(Response::new(v1::LeaderResponse { leader: None }))
    }

    type ObserveStream = Answers<v1::LeaderEvent>;

    /// The present state, and nothing more for as long as the connection.
    async fn observe(
        &self,
        request: Request<v1::ObserveRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (items, answers) = mpsc::unbounded_channel();
        let holder = self.state.lock().unwrap().holder(&request.into_inner().name);
        let event = match holder {
            Some(holder) => leader_event::Event::Leader(holder),
            None => leader_event::Event::Nobody(v1::Nobody {}),
        };
        items.send(Ok(v1::LeaderEvent { event: Some(event) })).unwrap();
        tokio::spawn(async move { items.closed().await });
        Ok(Response::new(Answers::new(answers)))
    }
}
