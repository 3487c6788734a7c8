//! `quorate.admin.v1.Members`: for the operator and people.

use crate::api::Node;
use crate::driver::{Bootstrap, Inbox, StatusView, Work};
use crate::member::Event;
use crate::replica::Event as ReplicaEvent;
use quorate_locks::{Command, limits};
use quorate_proto::admin::members_server::Members;
use quorate_proto::admin::{
    BootstrapRequest, BootstrapResponse, DrainRequest, DrainResponse, StatusRequest,
    StatusResponse, TransferLeadershipRequest, TransferLeadershipResponse, Voter,
};
use quorate_raft::{Configuration, MemberId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Voters of a new group, at most.
const VOTERS_MAX: usize = 9;
/// How long Drain and TransferLeadership wait for somebody else to lead.
const HANDOVER_MAX: Duration = Duration::from_secs(4);
/// How often they look.
const HANDOVER_LOOK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Clone, Debug)]
pub struct Admin {
    inbox: Inbox,
    node: Arc<Node>,
}

impl Admin {
    /// An admin service in front of this inbox.
    #[must_use]
    pub fn new(inbox: Inbox, node: Arc<Node>) -> Admin {
        Admin { inbox, node }
    }

    async fn view(&self) -> Result<StatusView, Status> {
        self.inbox.status().await.ok_or_else(|| Status::unavailable("this sidecar is stopping"))
    }

    /// Waits until this member does not lead any more.
    async fn handed_over(&self) -> Result<bool, Status> {
        let end = Instant::now() + HANDOVER_MAX;
        loop {
            let view = self.view().await?;
            if view.leader != Some(view.member) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(HANDOVER_LOOK).await;
        }
    }
}

fn identity(field: &str, bytes: &[u8]) -> Result<u128, Status> {
    let id = <[u8; 16]>::try_from(bytes).map(u128::from_le_bytes).map_err(|_| {
        Status::invalid_argument(format!("{field} has {} bytes; it is 16", bytes.len()))
    })?;
    if id == 0 {
        return Err(Status::invalid_argument(format!("{field} is all zero")));
    }
    Ok(id)
}

fn configuration(voters: Vec<Voter>) -> Result<Configuration, Status> {
    if voters.is_empty() || voters.len() > VOTERS_MAX {
        return Err(Status::invalid_argument(format!(
            "voters are {}; 1 to {VOTERS_MAX} are allowed",
            voters.len()
        )));
    }
    let mut members = BTreeMap::new();
    let mut names = BTreeSet::new();
    for voter in voters {
        let id = MemberId(identity("voters.member_id", &voter.member_id)?);
        if voter.name.is_empty() || voter.name.len() > Configuration::NAME_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "voters.name has {} bytes; it is 1 to {}",
                voter.name.len(),
                Configuration::NAME_BYTES_MAX
            )));
        }
        if !names.insert(voter.name.clone()) || members.insert(id, voter.name.clone()).is_some() {
            return Err(Status::invalid_argument(format!(
                "voters name {} or its member_id twice",
                voter.name
            )));
        }
    }
    Ok(Configuration::of_voters(members))
}

fn start(epoch: u32, last_n: u64) -> Result<Command, Status> {
    let epoch = u16::try_from(epoch)
        .ok()
        .filter(|epoch| (1..=limits::EPOCH_MAX).contains(epoch))
        .ok_or_else(|| {
        Status::invalid_argument(format!("epoch is {epoch}; it is 1 to {}", limits::EPOCH_MAX))
    })?;
    if last_n >= 1 << 48 {
        return Err(Status::invalid_argument(format!("last_n is {last_n}; it is below 2^48")));
    }
    Ok(Command::Start { epoch, last_n })
}

#[tonic::async_trait]
impl Members for Admin {
    async fn bootstrap(
        &self,
        request: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        let asked = request.into_inner();
        let bootstrap = Bootstrap {
            cluster: identity("cluster_id", &asked.cluster_id)?,
            member: MemberId(identity("member_id", &asked.member_id)?),
            configuration: configuration(asked.voters)?,
            start: start(asked.epoch, asked.last_n)?,
        };
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Bootstrap(Box::new(bootstrap), sender));
        match receiver.await {
            Ok(Ok(())) => Ok(Response::new(BootstrapResponse {})),
            Ok(Err(why)) => Err(Status::failed_precondition(why)),
            Err(_) => Err(Status::unavailable("this sidecar is stopping")),
        }
    }

    async fn status(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let view = self.view().await?;
        let voters = view
            .configuration
            .incoming
            .iter()
            .map(|(id, name)| Voter { member_id: id.0.to_le_bytes().to_vec(), name: name.clone() });
        Ok(Response::new(StatusResponse {
            name: self.node.name.clone(),
            member_id: view.member.0.to_le_bytes().to_vec(),
            cluster_id: view.cluster.map(|id| id.to_le_bytes().to_vec()).unwrap_or_default(),
            role: view.role_name().to_owned(),
            term: view.term.0,
            leader_id: view.leader.map(|id| id.0.to_le_bytes().to_vec()).unwrap_or_default(),
            commit: view.commit.0,
            applied: view.applied.0,
            first: view.first.0,
            last: view.last.0,
            durable: view.durable.0,
            voters: voters.collect(),
            configuration_index: view.configuration_index.0,
            boot_seq: view.boot_seq,
            version: Node::VERSION.to_owned(),
            unfit: self.node.unfit.clone(),
            draining: view.draining,
            sessions: u64::try_from(view.sessions).unwrap_or(u64::MAX),
        }))
    }

    async fn drain(
        &self,
        _request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::Drain)));
        self.handed_over().await?;
        Ok(Response::new(DrainResponse {}))
    }

    async fn transfer_leadership(
        &self,
        _request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let view = self.view().await?;
        if view.leader != Some(view.member) {
            return Err(Status::failed_precondition("this member does not lead; ask the leader"));
        }
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::Transfer)));
        if self.handed_over().await? {
            return Ok(Response::new(TransferLeadershipResponse {}));
        }
        Err(Status::unavailable("no other voter took over in 4 s; this member leads on"))
    }
}
