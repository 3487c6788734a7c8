//! `quorate.v1.Sessions`.

use super::stream::{Answers, Guard};
use super::{Api, check, connection, to_status, unexpected, wire};
use crate::agent::{Bond, Query, Request as Ask, Told};
use quorate_locks::Generation;
use quorate_proto::v1::sessions_server::Sessions;
use quorate_proto::v1::{
    CloseRequest, CloseResponse, ListSessionsRequest, ListSessionsResponse, OpenRequest,
    ResumeRequest, SessionEvent, TetherEvent, TetherRequest,
};
use tonic::{Request, Response, Status};

impl Api {
    /// Starts a call whose answers are a stream.
    pub(super) fn stream<T>(
        &self,
        connection: crate::agent::ConnectionId,
        ask: Ask,
        convert: fn(Told) -> Option<T>,
    ) -> Result<Response<Answers<T, ()>>, Status> {
        let (call, items) = self.inbox.call(connection, ask).map_err(to_status)?;
        let guard = Guard::new(self.inbox.clone(), call);
        Ok(Response::new(Answers::new(items, guard, convert, None)))
    }
}

#[tonic::async_trait]
impl Sessions for Api {
    type OpenStream = Answers<SessionEvent, ()>;

    async fn open(
        &self,
        request: Request<OpenRequest>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let connection = connection(&request);
        let OpenRequest { key, ttl_ms, boottime_ns, stops_at_break, label, tethered } =
            request.into_inner();
        let key = check::key(&key).map_err(to_status)?;
        let bond = Bond { stops_at_break, tethered };
        let opening = check::opening(ttl_ms, label, bond).map_err(to_status)?;
        check::boottime(boottime_ns).map_err(to_status)?;
        self.stream(connection, Ask::Open(key, opening), wire::session_event)
    }

    type ResumeStream = Answers<SessionEvent, ()>;

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<Self::ResumeStream>, Status> {
        let connection = connection(&request);
        let ResumeRequest { key, generation, boottime_ns, stops_at_break, tethered } =
            request.into_inner();
        let key = check::key(&key).map_err(to_status)?;
        check::boottime(boottime_ns).map_err(to_status)?;
        let bond = Bond { stops_at_break, tethered };
        let ask = Ask::Resume(key, Generation(generation), bond);
        self.stream(connection, ask, wire::session_event)
    }

    type TetherStream = Answers<TetherEvent, ()>;

    async fn tether(
        &self,
        request: Request<TetherRequest>,
    ) -> Result<Response<Self::TetherStream>, Status> {
        let connection = connection(&request);
        let key = check::key(&request.into_inner().key).map_err(to_status)?;
        let (call, mut items) = self.inbox.call(connection, Ask::Tether(key)).map_err(to_status)?;
        let mut guard = Guard::new(self.inbox.clone(), call);
        // Bound before the headers leave: a child that inherits it is covered from its first
        // instruction.
        match items.recv().await {
            Some(Ok(Told::Tethered)) => {
                Ok(Response::new(Answers::new(items, guard, wire::tether_event, None)))
            }
            Some(Ok(told)) => Err(unexpected(&told)),
            Some(Err(failure)) => {
                guard.disarm();
                Err(to_status(failure))
            }
            None => Err(Status::unavailable("this sidecar is stopping")),
        }
    }

    async fn close(
        &self,
        request: Request<CloseRequest>,
    ) -> Result<Response<CloseResponse>, Status> {
        let connection = connection(&request);
        let key = check::key(&request.into_inner().key).map_err(to_status)?;
        match self.ask(connection, Ask::Close(key)).await? {
            Told::Closed(released) => Ok(Response::new(CloseResponse { released })),
            told => Err(unexpected(&told)),
        }
    }

    async fn list(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        match self.ask(connection(&request), Ask::Read(Query::Sessions)).await? {
            Told::Sessions(sessions) => Ok(Response::new(ListSessionsResponse {
                sessions: sessions.into_iter().map(wire::session).collect(),
            })),
            told => Err(unexpected(&told)),
        }
    }
}
