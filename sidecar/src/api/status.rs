//! `quorate.v1.Status`.

use super::{Api, to_status};
use crate::driver::StatusView;
use crate::reason::{Failure, Reason};
use quorate_proto::v1::status_server::Status as StatusService;
use quorate_proto::v1::{Member, StatusRequest, StatusResponse};
use std::sync::atomic::AtomicBool;
use tonic::{Request, Response, Status};

/// What does not change while this process lives, but for a latch.
#[derive(Debug, Default)]
pub struct Node {
    /// This member's name.
    pub name: String,
    /// Why the disk is unfit; empty: it is fit.
    pub unfit: String,
    /// The pod that this process runs in; empty: nobody said.
    pub pod_uid: String,
    /// This process, as a member, has applied all that was committed at one moment after its start.
    pub caught_up: AtomicBool,
}

impl Node {
    /// The version of this program.
    pub const VERSION: &str = env!("CARGO_PKG_VERSION");
}

fn response(node: &Node, view: &StatusView) -> StatusResponse {
    let configuration = &view.configuration;
    let name_of = |id| configuration.name(id).unwrap_or_default().to_owned();
    let members = configuration.members().map(|(id, name)| Member {
        name: name.to_owned(),
        member_id: id.to_string(),
        voter: configuration.is_voter(id),
        learner: configuration.learners.contains_key(&id),
    });
    StatusResponse {
        member: node.name.clone(),
        member_id: view.member.to_string(),
        cluster_id: view.cluster.map(|id| format!("{id:032x}")).unwrap_or_default(),
        role: view.role_name().to_owned(),
        term: view.term.0,
        leader: view.leader.map(name_of).unwrap_or_default(),
        commit: view.commit.0,
        applied: view.applied.0,
        last: view.last.0,
        members: members.collect(),
        sessions: count(view.sessions),
        names: count(view.names),
        version: Node::VERSION.to_owned(),
        unfit: node.unfit.clone(),
        draining: view.draining,
        hold_off_ms: u64::from(view.hold_off_ms.unwrap_or(0)),
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[tonic::async_trait]
impl StatusService for Api {
    async fn get(
        &self,
        _request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let view =
            self.inbox.status().await.ok_or_else(|| {
                to_status(Failure::new(Reason::Draining, "this sidecar is stopping"))
            })?;
        Ok(Response::new(response(&self.node, &view)))
    }
}
