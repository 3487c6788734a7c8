//! The members as one group, seen through their admin ports: founded once, then watched until a
//! leader is known.

use super::place::{ADMIN, CLUSTER, Place, loopback};
use super::show::Described;
use super::{Failure, UNAVAILABLE, certificates};
use crate::tls::Tls;
use crate::transport::{self, DIAL_DEADLINE};
use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{BootstrapRequest, StatusRequest, StatusResponse, Voter};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;

/// Between two looks at the members.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// One call may take so long.
const CALL_MAX: Duration = Duration::from_secs(2);

/// A group with a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// The place of the leader among the members.
    pub(super) leader: usize,
    pub(super) term: u64,
    /// The identity of each member.
    pub(super) ids: Vec<Vec<u8>>,
}

/// See the module.
pub(super) struct Group<'a> {
    place: &'a Place,
    tls: Option<Tls>,
    clients: Vec<Option<MembersClient<Channel>>>,
    /// What stood in the way last.
    last_word: String,
}

impl<'a> Group<'a> {
    pub(super) fn new(place: &'a Place, tls: bool) -> Result<Group<'a>, Failure> {
        let load = || {
            let files = certificates::files(&place.tls_directory(), ADMIN);
            let report: crate::tls::Report = Arc::new(|line| eprintln!("{line}"));
            Tls::load(files, ADMIN, CLUSTER, report)
                .map_err(|why| Failure::new(UNAVAILABLE, why.to_string()))
        };
        let tls = tls.then(load).transpose()?;
        let clients = place.members().iter().map(|_| None).collect();
        let last_word = "no member answered".to_owned();
        Ok(Group { place, tls, clients, last_word })
    }

    /// What stood in the way last.
    pub(super) fn last_word(&self) -> &str {
        &self.last_word
    }

    /// Founds the group if it is blank, and waits until all members know a leader.
    pub(super) async fn become_ready(&mut self) -> Result<Ready, Failure> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let Some(all) = self.look().await else { continue };
            check_fit(&all)?;
            if all.iter().all(|member| member.cluster_id.is_empty() || is_blank(member)) {
                self.found(&all).await?;
                continue;
            }
            self.check_members(&all)?;
            if let Some(ready) = ready(&all) {
                return Ok(ready);
            }
            let words: Vec<String> =
                all.iter().map(|member| format!("{} is {}", member.name, member.role)).collect();
            self.last_word = words.join(", ");
        }
    }

    /// The status of every member; none until all answer.
    async fn look(&mut self) -> Option<Vec<StatusResponse>> {
        let mut all = Vec::new();
        for number in 0..self.clients.len() {
            match self.status(number).await {
                Ok(status) => all.push(status),
                Err(why) => {
                    self.clients[number] = None;
                    let name = &self.place.members()[number].name;
                    self.last_word = format!("{name} does not answer: {why}");
                    return None;
                }
            }
        }
        Some(all)
    }

    async fn client(&mut self, number: usize) -> Result<&mut MembersClient<Channel>, String> {
        let slot = &mut self.clients[number];
        if slot.is_none() {
            let member = &self.place.members()[number];
            let address = loopback(member.admin).to_string();
            let expected = (self.tls.as_ref(), &*member.name);
            let channel = transport::channel(&address, DIAL_DEADLINE, expected).await;
            *slot = Some(MembersClient::new(channel.map_err(|why| why.to_string())?));
        }
        slot.as_mut().ok_or_else(|| "not connected".to_owned())
    }

    async fn status(&mut self, number: usize) -> Result<StatusResponse, String> {
        let call = self.client(number).await?.status(StatusRequest::default());
        let answer = tokio::time::timeout(CALL_MAX, call)
            .await
            .map_err(|_| format!("its status took longer than {} s", CALL_MAX.as_secs()))?;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    /// The one call that makes a group, the same each time.
    async fn found(&mut self, all: &[StatusResponse]) -> Result<(), Failure> {
        let founding = self.place.founding();
        let voter = |member: &StatusResponse| Voter {
            member_id: member.member_id.clone(),
            name: member.name.clone(),
        };
        let request = BootstrapRequest {
            cluster_id: founding.cluster.to_le_bytes().to_vec(),
            member_id: all[0].member_id.clone(),
            voters: all.iter().take(self.place.founders()).map(voter).collect(),
            epoch: founding.epoch,
            last_n: founding.last_n,
        };
        let client = self.client(0).await.map_err(|why| Failure::new(UNAVAILABLE, why))?;
        match tokio::time::timeout(CALL_MAX, client.bootstrap(request)).await {
            Ok(Err(status)) if status.code() != tonic::Code::Unavailable => {
                let why = status.message();
                Err(Failure::new(UNAVAILABLE, format!("the cluster could not be founded: {why}")))
            }
            // Done, or to be tried again: the same call answers the same.
            _ => Ok(()),
        }
    }

    /// Whether each member of the group is the one that it was.
    fn check_members(&self, all: &[StatusResponse]) -> Result<(), Failure> {
        let Some(group) = all.iter().find(|member| !member.voters.is_empty()) else {
            return Ok(());
        };
        for member in all.iter().take(self.place.founders()) {
            let known = group.voters.iter().any(|voter| voter.member_id == member.member_id);
            // One that was removed since has its log still.
            if !known && is_blank(member) {
                return Err(Failure::new(
                    UNAVAILABLE,
                    format!(
                        "the data directory of {} is not the one that the group knows: it was \
                         emptied or exchanged, and that member has lost its vote; begin anew with \
                         --fresh",
                        member.name
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn is_blank(member: &StatusResponse) -> bool {
    member.role == "blank"
}

fn check_fit(all: &[StatusResponse]) -> Result<(), Failure> {
    match all.iter().find(|member| !member.unfit.is_empty()) {
        None => Ok(()),
        Some(member) => Err(Failure::new(
            UNAVAILABLE,
            format!("the log of {} is unfit: {}", member.name, member.unfit),
        )),
    }
}

/// A leader that all members know, in one term.
fn ready(all: &[StatusResponse]) -> Option<Ready> {
    let first = all.iter().find(|one| !one.leader_id.is_empty())?;
    let voters: Vec<&StatusResponse> = all
        .iter()
        .filter(|one| first.voters.iter().any(|voter| voter.member_id == one.member_id))
        .collect();
    let agrees = |one: &&StatusResponse| one.leader_id == first.leader_id && one.term == first.term;
    if voters.is_empty() || !voters.iter().all(agrees) {
        return None;
    }
    let leader = all.iter().position(|member| member.member_id == first.leader_id)?;
    // Its own first entry is applied: it answers.
    let leads = all[leader].role == "leader" && all[leader].applied == all[leader].last;
    let ids = all.iter().map(|member| member.member_id.clone()).collect();
    leads.then_some(Ready { leader, term: first.term, ids })
}

/// The members as the first line describes them.
pub(super) fn described(
    place: &Place,
    ready: &Ready,
    pid: impl Fn(usize) -> u32,
    tls: bool,
) -> Vec<Described> {
    let scheme = if tls { "https" } else { "http" };
    let members = place.members().iter().zip(&ready.ids).enumerate();
    members
        .map(|(number, (member, id))| Described {
            name: member.name.clone(),
            member_id: <[u8; 16]>::try_from(&id[..])
                .map(|id| format!("{:032x}", u128::from_le_bytes(id)))
                .unwrap_or_default(),
            pid: pid(number),
            endpoint: format!("unix:{}", member.socket.display()),
            admin: format!("{scheme}://{}", loopback(member.admin)),
            http: None,
            metrics: format!("http://{}/metrics", loopback(member.probe)),
            data_dir: member.data.display().to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(id: u8, leader: u8, term: u64, role: &str) -> StatusResponse {
        StatusResponse {
            name: format!("member-{id}"),
            member_id: vec![id; 16],
            leader_id: vec![leader; 16],
            term,
            role: role.to_owned(),
            applied: 2,
            last: 2,
            voters: (1..=2)
                .map(|id| Voter { member_id: vec![id; 16], name: format!("member-{id}") })
                .collect(),
            ..StatusResponse::default()
        }
    }

    #[test]
    fn ready_is_one_leader_known_to_all_in_one_term() {
        let all = [status(1, 2, 5, "follower"), status(2, 2, 5, "leader")];
        let found = ready(&all).unwrap();
        assert_eq!((found.leader, found.term), (1, 5));
        assert_eq!(ready(&[status(1, 2, 4, "follower"), status(2, 2, 5, "leader")]), None);
        assert_eq!(ready(&[status(1, 1, 5, "leader"), status(2, 2, 5, "leader")]), None);
        let mut unknown = all.clone();
        unknown[0].leader_id.clear();
        assert_eq!(ready(&unknown), None);
        let mut busy = all.clone();
        busy[1].last = 3;
        assert_eq!(ready(&busy), None);
        // One that waits to be added knows no leader.
        let mut spare = status(3, 0, 0, "blank");
        spare.leader_id.clear();
        let with_spare = [&all[..], &[spare]].concat();
        assert_eq!(ready(&with_spare).map(|found| found.leader), Some(1));
    }
}
