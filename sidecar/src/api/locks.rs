//! `quorate.v1.Locks`, and what elections share with it.

use super::stream::{Answers, Guard};
use super::{Api, check, connection, to_status, unexpected, wire};
use crate::agent::{Bond, ClaimRequest, ConnectionId, Query, Request as Ask, Told};
use crate::reason::{Failure, Reason};
use quorate_locks::{NameKind, Token};
use quorate_proto::v1::acquire_response::Outcome;
use quorate_proto::v1::locks_server::Locks;
use quorate_proto::v1::{
    AcquireRequest, AcquireResponse, Claim, ClaimEvent, GetRequest, GetResponse, HoldRequest,
    ListRequest, ListResponse, NotAcquired, ReleaseRequest, ReleaseResponse,
};
use tonic::{Request, Response, Status, Streaming};

/// A wait of more than this is refused: nobody means it.
const WAIT_MS_MAX: u64 = 24 * 3_600_000;

impl Api {
    /// Starts a Hold or Participate with its first message.
    pub(super) fn claim_stream<R>(
        &self,
        connection: ConnectionId,
        claim: Option<Claim>,
        (kind, value): (NameKind, Vec<u8>),
        requests: Streaming<R>,
    ) -> Result<Response<Answers<ClaimEvent, R>>, Status> {
        let claim = claim.ok_or_else(|| {
            let failure = Failure::new(Reason::BadRequest, "claim is missing in the first message");
            to_status(failure)
        })?;
        let claim = claim_request(claim, kind, value).map_err(to_status)?;
        let ask = Ask::Claim(claim);
        let (call, items) = self.inbox.call(connection, ask).map_err(to_status)?;
        let guard = Guard::new(self.inbox.clone(), call);
        Ok(Response::new(Answers::new(items, guard, wire::claim_event, Some(requests))))
    }

    /// A unary claim.
    pub(super) async fn acquire_once(
        &self,
        connection: ConnectionId,
        asked: AcquireRequest,
        (kind, value): (NameKind, Vec<u8>),
    ) -> Result<Response<AcquireResponse>, Status> {
        let claim = acquire_request(asked, kind, value).map_err(to_status)?;
        let outcome = match self.ask(connection, Ask::Claim(claim)).await? {
            Told::Granted(token, view) => Outcome::Granted(wire::granted(token.0, view)),
            Told::NotAcquired(holder) => {
                Outcome::NotAcquired(NotAcquired { holder: holder.map(wire::holder) })
            }
            Told::Lost(reason) => {
                let failure =
                    Failure::new(reason, "this request_id's claim ended before; use a new id");
                return Err(to_status(failure));
            }
            told => return Err(unexpected(&told)),
        };
        Ok(Response::new(AcquireResponse { outcome: Some(outcome) }))
    }

    /// Release or Resign.
    pub(super) async fn release_once(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        let connection = connection(&request);
        let asked = request.into_inner();
        let key = check::key(&asked.key).map_err(to_status)?;
        let name = check::name(asked.name).map_err(to_status)?;
        let (request, lowest_unacked) =
            check::request_ids(asked.request_id, asked.lowest_unacked).map_err(to_status)?;
        let token = Token(asked.token);
        let ask = Ask::Release { key, name, token, request, lowest_unacked };
        match self.ask(connection, ask).await? {
            Told::Released => Ok(Response::new(ReleaseResponse {})),
            told => Err(unexpected(&told)),
        }
    }
}

fn claim_request(claim: Claim, kind: NameKind, value: Vec<u8>) -> Result<ClaimRequest, Failure> {
    check::boottime(claim.boottime_ns)?;
    let bond = Bond { stops_at_break: claim.stops_at_break, tethered: claim.tethered };
    let opening = match claim.ttl_ms {
        0 => None,
        ttl_ms => Some(check::opening(ttl_ms, claim.label, bond)?),
    };
    let (request, lowest_unacked) = check::request_ids(claim.request_id, claim.lowest_unacked)?;
    Ok(ClaimRequest {
        key: check::key(&claim.key)?,
        opening,
        name: check::name(claim.name)?,
        kind,
        value: check::value(value)?,
        request,
        lowest_unacked,
        queue: !claim.r#try,
        wait: None,
        stream: true,
    })
}

fn acquire_request(
    asked: AcquireRequest,
    kind: NameKind,
    value: Vec<u8>,
) -> Result<ClaimRequest, Failure> {
    if asked.wait_ms > WAIT_MS_MAX {
        return Err(Failure::new(
            Reason::BadRequest,
            format!("wait_ms is {}; at most {WAIT_MS_MAX} is allowed", asked.wait_ms),
        ));
    }
    let (request, lowest_unacked) = check::request_ids(asked.request_id, asked.lowest_unacked)?;
    let queue = asked.wait_ms > 0;
    Ok(ClaimRequest {
        key: check::key(&asked.key)?,
        opening: None,
        name: check::name(asked.name)?,
        kind,
        value: check::value(value)?,
        request,
        lowest_unacked,
        queue,
        wait: queue.then_some(asked.wait_ms * 1_000_000),
        stream: false,
    })
}

#[tonic::async_trait]
impl Locks for Api {
    type HoldStream = Answers<ClaimEvent, HoldRequest>;

    async fn hold(
        &self,
        request: Request<Streaming<HoldRequest>>,
    ) -> Result<Response<Self::HoldStream>, Status> {
        let connection = connection(&request);
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let claim = first.and_then(|first| first.claim);
        self.claim_stream(connection, claim, (NameKind::Lock, Vec::new()), requests)
    }

    async fn acquire(
        &self,
        request: Request<AcquireRequest>,
    ) -> Result<Response<AcquireResponse>, Status> {
        let connection = connection(&request);
        self.acquire_once(connection, request.into_inner(), (NameKind::Lock, Vec::new())).await
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        self.release_once(request).await
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let connection = connection(&request);
        let name = check::name(request.into_inner().name).map_err(to_status)?;
        match self.ask(connection, Ask::Read(Query::Name(name))).await? {
            Told::Names(names) => {
                let name = names.into_iter().next().map(wire::name);
                Ok(Response::new(GetResponse { name }))
            }
            told => Err(unexpected(&told)),
        }
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let connection = connection(&request);
        let prefix = request.into_inner().prefix;
        match self.ask(connection, Ask::Read(Query::Names(prefix))).await? {
            Told::Names(names) => Ok(Response::new(ListResponse {
                names: names.into_iter().map(wire::name).collect(),
            })),
            told => Err(unexpected(&told)),
        }
    }
}
