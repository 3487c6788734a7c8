//! `quorate.admin.v1.Members`: for the operator and people.

use crate::api::Node;
use crate::clock;
use crate::driver::{self, Bootstrap, Inbox, Retire, StatusView, Work};
use crate::maintenance::life;
use crate::member::Event;
use crate::peer::{Peers, can_be_dialled};
use crate::replica::Event as ReplicaEvent;
use crate::wal;
use quorate_locks::Command;
use quorate_proto::admin::members_server::Members;
use quorate_proto::admin::{
    BootstrapRequest, BootstrapResponse, ChangeMembershipRequest, ChangeMembershipResponse,
    DrainRequest, DrainResponse, ElectionLeader, Follower, MemberAddress, RetireRequest,
    RetireResponse, StatusRequest, StatusResponse, TransferLeadershipRequest,
    TransferLeadershipResponse, UndrainRequest, UndrainResponse, Voter,
};
use quorate_raft::{Change, Configuration, Index, MemberId, Outcome, Refused, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Voters of a new group, at most.
const VOTERS_MAX: usize = 9;
/// Elections in one Status, at most.
const ELECTIONS_MAX: usize = 16;
/// How long Drain and TransferLeadership wait for somebody else to lead.
const HANDOVER_MAX: Duration = Duration::from_secs(4);
/// How often they look.
const HANDOVER_LOOK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Clone, Debug)]
pub struct Admin {
    inbox: Inbox,
    node: Arc<Node>,
    peers: Peers,
}

impl Admin {
    /// An admin service in front of this inbox.
    #[must_use]
    pub fn new(inbox: Inbox, node: Arc<Node>, peers: Peers) -> Admin {
        Admin { inbox, node, peers }
    }

    async fn view(&self) -> Result<StatusView, Status> {
        self.inbox.status().await.ok_or_else(stopping)
    }

    /// Who leads these elections; a member without a log knows of none.
    async fn leaders(&self, elections: Vec<String>) -> Result<Vec<ElectionLeader>, Status> {
        if elections.len() > ELECTIONS_MAX {
            return Err(Status::invalid_argument(format!(
                "elections are {}; at most {ELECTIONS_MAX} are allowed",
                elections.len()
            )));
        }
        if elections.is_empty() {
            return Ok(Vec::new());
        }
        let leaders = self.inbox.leaders(elections).await.unwrap_or_default().into_iter();
        let told = |leader: driver::ElectionLeader| ElectionLeader {
            election: leader.election,
            member_id: leader.member.0.to_le_bytes().to_vec(),
            token: leader.token.0,
        };
        Ok(leaders.map(told).collect())
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

/// Nobody answers any more.
pub(crate) fn stopping() -> Status {
    Status::unavailable("this sidecar is stopping")
}

pub(crate) fn identity(field: &str, bytes: &[u8]) -> Result<u128, Status> {
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
    Ok(Configuration::of_voters(members(voters)?))
}

fn members(voters: Vec<Voter>) -> Result<BTreeMap<MemberId, String>, Status> {
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
    Ok(members)
}

/// Where members are, as the caller knows.
fn addresses(told: &[MemberAddress]) -> Result<Vec<(MemberId, SocketAddr)>, Status> {
    let address = |told: &MemberAddress| {
        let member = MemberId(identity("addresses.member_id", &told.member_id)?);
        let address = told.address.parse().ok().filter(can_be_dialled).ok_or_else(|| {
            Status::invalid_argument(format!(
                "addresses.address is {:?}; it is IP:PORT, 10.0.0.7:7401, say",
                told.address
            ))
        })?;
        Ok((member, address))
    };
    if told.len() > Configuration::MEMBERS_MAX {
        return Err(Status::invalid_argument(format!(
            "addresses are {}; at most {} are allowed",
            told.len(),
            Configuration::MEMBERS_MAX
        )));
    }
    told.iter().map(address).collect()
}

fn change(asked: ChangeMembershipRequest) -> Result<Change, Status> {
    let expected = Index(asked.expected_configuration_index);
    if asked.abort {
        if asked.voters.is_empty() && asked.learners.is_empty() {
            return Ok(Change::Abort { expected });
        }
        return Err(Status::invalid_argument("abort names no voters and no learners"));
    }
    let voters = configuration(asked.voters)?.incoming;
    Ok(Change::To { expected, voters, learners: members(asked.learners)? })
}

/// What was wrong, and what to do.
fn refusal(refused: Refused) -> String {
    let wait = "ask again within moments";
    match refused {
        Refused::NotReady => format!("the leader is new and not ready: {wait}"),
        Refused::UnderWay => "another change is under way: wait for it, or abort it".to_owned(),
        Refused::Moved(index) => format!(
            "expected_configuration_index is not that of the present configuration, {}: read \
             Status, and decide anew",
            index.0
        ),
        Refused::Unchanged => "it is the present membership already".to_owned(),
        Refused::NoVoters => "nobody would vote".to_owned(),
        Refused::VoterAndLearner(member) => {
            format!("{member} would both vote and listen: name it once")
        }
        Refused::TooLarge => format!(
            "too many members while both halves are in force: at most {}",
            Configuration::MEMBERS_MAX
        ),
        Refused::NotLearner(member) => {
            format!("{member} is no learner yet: add it to learners first, then to voters")
        }
        Refused::NotCaughtUp(member) => format!(
            "the log of {member} did not come near the leader's in time: is it running, and can \
             it be reached? It stays a learner"
        ),
        Refused::IncomingSilent => "no majority of the new voters answered in time".to_owned(),
        Refused::OutgoingSilent => "no majority of the present voters answered in time".to_owned(),
        Refused::NotJoint => "no change is under way: nothing to abort".to_owned(),
        Refused::GivenUp => {
            "the change was begun and given up; the voters from before decide".to_owned()
        }
    }
}

fn listed<'a>(members: impl IntoIterator<Item = (&'a MemberId, &'a String)>) -> Vec<Voter> {
    let voter = |(id, name): (&MemberId, &String)| Voter {
        member_id: id.0.to_le_bytes().to_vec(),
        name: name.clone(),
    };
    members.into_iter().map(voter).collect()
}

/// What the leader knows of a follower.
fn follower((member, standing): &(MemberId, Standing)) -> Follower {
    let silent_ns = clock::now().since(standing.heard);
    Follower {
        member_id: member.0.to_le_bytes().to_vec(),
        matched: standing.matched.0,
        silent_ms: silent_ns / 1_000_000,
        quarantined: standing.quarantined,
    }
}

#[tonic::async_trait]
impl Members for Admin {
    async fn bootstrap(
        &self,
        request: Request<BootstrapRequest>,
    ) -> Result<Response<BootstrapResponse>, Status> {
        let asked = request.into_inner();
        let life = life(asked.epoch, asked.last_n)?;
        let bootstrap = Bootstrap {
            cluster: identity("cluster_id", &asked.cluster_id)?,
            member: MemberId(identity("member_id", &asked.member_id)?),
            configuration: configuration(asked.voters)?,
            start: Command::Start { epoch: life.epoch, last_n: life.last_n },
        };
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Bootstrap(Box::new(bootstrap), sender));
        match receiver.await {
            Ok(Ok(())) => Ok(Response::new(BootstrapResponse {})),
            Ok(Err(why)) => Err(Status::failed_precondition(why)),
            Err(_) => Err(stopping()),
        }
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let StatusRequest { addresses: places, elections } = request.into_inner();
        for (member, address) in addresses(&places)? {
            self.peers.found_at(member, address);
        }
        let leaders = self.leaders(elections).await?;
        let view = self.view().await?;
        let Configuration { incoming, outgoing, learners, .. } = &view.configuration;
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
            last_term: view.last_term.0,
            durable: view.durable.0,
            voters: listed(incoming),
            learners: listed(learners),
            outgoing: listed(outgoing),
            configuration_index: view.configuration_index.0,
            boot_seq: view.boot_seq,
            version: Node::VERSION.to_owned(),
            unfit: self.node.unfit.clone(),
            draining: view.draining,
            sessions: u64::try_from(view.sessions).unwrap_or(u64::MAX),
            retired: view.retired,
            hold_off_ms: u64::from(view.hold_off_ms.unwrap_or(0)),
            last_token: view.last_token.0,
            life: view.life.0,
            snapshot: view.snapshot.0,
            followers: view.followers.iter().map(follower).collect(),
            pod_uid: self.node.pod_uid.clone(),
            caught_up: self.node.caught_up.load(Ordering::Acquire),
            format_version: wal::format_version(),
            leaders,
        }))
    }

    async fn change_membership(
        &self,
        request: Request<ChangeMembershipRequest>,
    ) -> Result<Response<ChangeMembershipResponse>, Status> {
        let asked = request.into_inner();
        let addresses = addresses(&asked.addresses)?;
        let change = change(asked)?;
        for (member, address) in addresses {
            self.peers.told_address(member, address);
        }
        let (sender, receiver) = oneshot::channel();
        self.inbox.push(Work::Change(change, sender));
        match receiver.await {
            Ok(Outcome::Changed(index)) => {
                Ok(Response::new(ChangeMembershipResponse { configuration_index: index.0 }))
            }
            Ok(Outcome::NotChanged(refused)) => Err(Status::failed_precondition(refusal(refused))),
            Ok(Outcome::NotAppended(_, leader)) => {
                let leader = leader.map_or("nobody known".to_owned(), |leader| leader.to_string());
                Err(Status::failed_precondition(format!(
                    "this member does not lead; the leader is {leader}: ask it"
                )))
            }
            Ok(_) => Err(Status::unknown(
                "leadership was lost on the way: the change may come or not; Status at the next \
                 leader tells",
            )),
            Err(_) => Err(Status::unavailable("this sidecar is stopping, or its log is unfit")),
        }
    }

    async fn undrain(
        &self,
        _request: Request<UndrainRequest>,
    ) -> Result<Response<UndrainResponse>, Status> {
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::Undrain)));
        Ok(Response::new(UndrainResponse {}))
    }

    async fn drain(
        &self,
        _request: Request<DrainRequest>,
    ) -> Result<Response<DrainResponse>, Status> {
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::Drain)));
        self.handed_over().await?;
        Ok(Response::new(DrainResponse {}))
    }

    async fn retire(
        &self,
        request: Request<RetireRequest>,
    ) -> Result<Response<RetireResponse>, Status> {
        let asked = request.into_inner();
        let member = MemberId(identity("member_id", &asked.member_id)?);
        let view = self.view().await?;
        let leads = view.leader == Some(view.member);
        if member == view.member && leads && asked.still_a_member {
            // A courtesy to the others: without it they elect all the same.
            self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::Drain)));
            self.handed_over().await?;
        }
        let (sender, receiver) = oneshot::channel();
        let retire = Retire { member, still_a_member: asked.still_a_member };
        self.inbox.push(Work::Retire(retire, sender));
        match receiver.await.map_err(|_| stopping())? {
            Ok(()) => Ok(Response::new(RetireResponse {})),
            Err(why) => Err(Status::failed_precondition(why)),
        }
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        let target = request.into_inner().member_id;
        let target = match target.is_empty() {
            true => None,
            false => Some(MemberId(identity("member_id", &target)?)),
        };
        let view = self.view().await?;
        if view.leader != Some(view.member) {
            return Err(Status::failed_precondition("this member does not lead; ask the leader"));
        }
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::Transfer(target))));
        if self.handed_over().await? {
            return Ok(Response::new(TransferLeadershipResponse {}));
        }
        Err(Status::unavailable(
            "no voter, or not that one, took over in 4 s; this member leads on",
        ))
    }
}
