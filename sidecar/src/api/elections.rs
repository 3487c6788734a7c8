//! `quorate.v1.Elections`.

use super::stream::Answers;
use super::{Api, check, connection, to_status, unexpected, wire};
use crate::agent::{Query, Request as Ask, Told};
use quorate_locks::NameKind;
use quorate_proto::v1::elections_server::Elections;
use quorate_proto::v1::{
    AcquireRequest, AcquireResponse, CampaignRequest, ClaimEvent, LeaderEvent, LeaderRequest,
    LeaderResponse, ObserveRequest, ParticipateRequest, ReleaseRequest, ReleaseResponse,
};
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl Elections for Api {
    type ParticipateStream = Answers<ClaimEvent, ParticipateRequest>;

    async fn participate(
        &self,
        request: Request<Streaming<ParticipateRequest>>,
    ) -> Result<Response<Self::ParticipateStream>, Status> {
        let connection = connection(&request);
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        self.claim_stream(connection, first.claim, (NameKind::Election, first.value), requests)
    }

    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<AcquireResponse>, Status> {
        let connection = connection(&request);
        let CampaignRequest { key, name, request_id, lowest_unacked, wait_ms, value } =
            request.into_inner();
        let asked = AcquireRequest { key, name, request_id, lowest_unacked, wait_ms };
        self.acquire_once(connection, asked, (NameKind::Election, value)).await
    }

    async fn resign(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        self.release_once(request).await
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let connection = connection(&request);
        let name = check::name(request.into_inner().name).map_err(to_status)?;
        match self.ask(connection, Ask::Read(Query::Name(name))).await? {
            Told::Names(names) => {
                let leader = names.into_iter().next().and_then(|name| name.holder);
                Ok(Response::new(LeaderResponse { leader: leader.map(wire::holder) }))
            }
            told => Err(unexpected(&told)),
        }
    }

    type ObserveStream = Answers<LeaderEvent, ()>;

    async fn observe(
        &self,
        request: Request<ObserveRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let connection = connection(&request);
        let name = check::name(request.into_inner().name).map_err(to_status)?;
        self.stream(connection, Ask::Observe(name), wire::leader_event)
    }
}
