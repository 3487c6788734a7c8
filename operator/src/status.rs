//! What is told: a pure function from what was observed, and what is planned, to the status.
//!
//! Invariants: equal observations give equal statuses, and the status of an observation that holds
//! that very status is the same again, so that a group at rest costs no write. So nothing is told
//! that changes by itself: no position in a log, no age. Must not: decide anything.

mod conditions;

use crate::crd::{MemberStatus, Operation, RaftClusterStatus};
use crate::observed::{Configuration, Identity, Member, Observed};
use crate::step::{Plan, Step, Work};
use std::collections::BTreeMap;

/// Entries of `status.members`, at most, as the definition says.
const MEMBERS_MAX: usize = 128;

/// The status of the resource, as of this observation and plan.
#[must_use]
pub fn status(o: &Observed, plan: &Plan) -> RaftClusterStatus {
    let before = &o.cluster.status;
    let known = known(o);
    let count = |some: usize| i32::try_from(some).unwrap_or(i32::MAX);
    let members = members(o);
    let role = |role: &str| count(members.iter().filter(|member| member.role == role).count());
    let ready = o.pods.values().filter(|pod| pod.ready && !pod.deleting).count();
    let (voters, learners) = match known {
        Some(known) => (count(known.voters.len()), count(known.learners.len())),
        None => (role("Voter"), role("Learner")),
    };
    let index = known.and_then(|known| i64::try_from(known.index).ok());
    let mut told = RaftClusterStatus {
        observed_generation: Some(o.cluster.generation),
        led_generation: o.leader().map(|_| o.cluster.generation).or(before.led_generation),
        phase: phase(o, plan).to_owned(),
        selector: format!("quorate.dev/cluster={}", o.cluster.name),
        replicas: count(o.pods.len()),
        ready_replicas: count(ready),
        voters,
        learners,
        leader: o.leader().map(|(ordinal, _)| o.cluster.pod_name(ordinal)),
        image: image(o),
        birth: before.birth.clone(),
        configuration_index: index.or(before.configuration_index),
        members,
        operation: operation(o, plan),
        conditions: Vec::new(),
    };
    told.conditions = conditions::conditions(o, plan, &told);
    told
}

/// The membership that is told: the leader's, or the newest that anybody tells, if it is not older
/// than what was told before.
fn known(o: &Observed) -> Option<&Configuration> {
    let led = o.leader().map(|(_, leader)| &leader.configuration);
    let newest = o.configuration().filter(|known| {
        let told = o.cluster.status.configuration_index;
        let index = i64::try_from(known.index).unwrap_or(i64::MAX);
        known.index > 0 && told.is_none_or(|told| index >= told)
    });
    led.or(newest)
}

/// The default is the one of the operator that first saw the resource, and stays.
fn image(o: &Observed) -> Option<String> {
    let default = o.cluster.spec.sidecar.image.is_none().then(|| o.cluster.image.clone());
    o.cluster.status.image.clone().or(default).filter(|image| !image.is_empty())
}

/// One word for people.
fn phase(o: &Observed, plan: &Plan) -> &'static str {
    let stopped = o.cluster.replicas() == 0 && o.set.as_ref().is_none_or(|set| set.replicas == 0);
    if o.cluster.spec.paused {
        return "Paused";
    }
    match (&plan.step, plan.work) {
        (Step::Blocked, _) => "Blocked",
        (_, Some(Work::Recover)) => "Recovering",
        _ if stopped && o.pods.is_empty() => "Stopped",
        _ if o.born().is_none() => "Creating",
        (_, Some(Work::Scale)) if o.cluster.replicas() == 0 => "Scaling",
        _ if o.leader().is_none() => "NoQuorum",
        (_, Some(Work::Bootstrap)) => "Creating",
        (_, Some(Work::Replace)) => "Repairing",
        (_, Some(Work::Roll)) => "Rolling",
        (_, Some(Work::Enlarge)) => "Enlarging",
        (_, Some(Work::Scale)) => "Scaling",
        _ if conditions::unmet(o).is_some() => "Degraded",
        _ => "Ready",
    }
}

/// Members of the group, and disks that answer and are in none, by pod.
fn members(o: &Observed) -> Vec<MemberStatus> {
    let before: BTreeMap<&str, &MemberStatus> =
        o.cluster.status.members.iter().map(|told| (told.member_id.as_str(), told)).collect();
    let mut of: BTreeMap<Identity, (String, &str)> = BTreeMap::new();
    match known(o) {
        Some(Configuration { voters, outgoing, learners, .. }) => {
            let roles = [(learners, "Learner"), (outgoing, "Voter"), (voters, "Voter")];
            for (half, role) in roles {
                of.extend(half.iter().map(|(id, name)| (*id, (name.clone(), role))));
            }
        }
        None => {
            for told in o.cluster.status.members.iter().filter(|told| told.role != "None") {
                let role = if told.role == "Voter" { "Voter" } else { "Learner" };
                of.extend(
                    Identity::parse(&told.member_id).map(|id| (id, (told.name.clone(), role))),
                );
            }
        }
    }
    for (ordinal, member) in &o.members {
        of.entry(member.id).or_insert_with(|| (o.cluster.pod_name(*ordinal), "None"));
    }
    let mut members: Vec<MemberStatus> = { of.into_iter() }
        .map(|(id, (name, role))| one(o, id, (name, role), before.get(id.to_string().as_str())))
        .collect();
    let place = |member: &MemberStatus| {
        (o.cluster.ordinal(&member.name), member.role == "None", member.member_id.clone())
    };
    members.sort_by_key(place);
    members.truncate(MEMBERS_MAX);
    members
}

fn one(
    o: &Observed,
    id: Identity,
    (name, role): (String, &str),
    before: Option<&&MemberStatus>,
) -> MemberStatus {
    let there = o.members.values().find(|member| member.id == id);
    let heard = o.leader().map(|(_, leader)| leader.hears(id));
    let lost = before.and_then(|told| told.lost_since);
    let lost_since = match (there, heard) {
        _ if role == "None" => None,
        (Some(_), _) | (_, Some(true)) => None,
        // Without a leader nobody is missed: what was told stays.
        (None, None) => lost,
        (None, Some(false)) => lost.or(Some(o.now_s)),
    };
    let told = || before.map(|told| told.version.clone()).unwrap_or_default();
    let version = there.map_or_else(told, |member: &Member| member.version.clone());
    MemberStatus { name, member_id: id.to_string(), role: role.to_owned(), version, lost_since }
}

/// What is under way; since when, as long as it is the same.
fn operation(o: &Observed, plan: &Plan) -> Option<Operation> {
    let work = plan.work?;
    let targets: Vec<String> =
        plan.targets.iter().take(MEMBERS_MAX).map(|at| o.cluster.pod_name(*at)).collect();
    let before = o.cluster.status.operation.as_ref();
    let same = before.filter(|told| told.kind == work.name() && told.targets == targets);
    let started_at = same.map_or(o.now_s, |told| told.started_at);
    Some(Operation { kind: work.name().to_owned(), targets, started_at })
}
