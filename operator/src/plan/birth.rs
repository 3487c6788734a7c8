//! The foundation of a group: once, at one member, written down before it is done.
//!
//! A sidecar never founds a group by itself. The operator writes the seed and its identity into the
//! status, then calls it, and the call may be repeated. If the seed's disk is gone before anybody
//! joined, another foundation is written down, with a new identity and a new life of the tokens.

use crate::observed::{Identity, Member, Observed, Ordinal};
use crate::step::{Plan, Step, Work};

/// What is to be done as long as there is no group.
pub(super) fn plan(o: &Observed) -> Option<Plan> {
    let Some(birth) = &o.cluster.status.birth else {
        return Some(foreign(o).unwrap_or_else(|| conceive(o)));
    };
    if birth.confirmed {
        return None;
    }
    let seed = o.cluster.ordinal(&birth.seed).unwrap_or(0);
    let of = |plan: Plan| Some(plan.as_part_of(Work::Bootstrap, [seed]));
    let wanted = Identity::parse(&birth.member_id);
    let group = Identity::parse(&birth.cluster_id);
    let Some(member) = o.members.get(&seed) else {
        return of(Plan::new(Step::Await, format!("{} does not answer yet", birth.seed)));
    };
    if Some(member.id) == wanted {
        return match member.cluster {
            None => of(Plan::new(Step::Bootstrap { seed }, "the group is to be founded")),
            at if at == group && member.configuration.index > 0 => {
                of(Plan::new(Step::Born, "the seed tells that the group is founded"))
            }
            at if at == group => of(Plan::new(Step::Bootstrap { seed }, "founded half-way")),
            Some(other) => of(Plan::new(
                Step::Blocked,
                format!("{} belongs to group {other}, which is not this one", birth.seed),
            )),
        };
    }
    let joined = |member: &&Member| member.cluster.is_some() && member.cluster == group;
    if let Some(other) = o.members.values().find(joined) {
        let why = format!("the seed's disk is gone, but member {} has joined its group", other.id);
        return of(Plan::new(Step::Blocked, why));
    }
    of(conceive(o))
}

/// Volumes that another resource of this name left, or disks that are in a group.
pub(super) fn foreign(o: &Observed) -> Option<Plan> {
    if o.cluster.spec.adopt_existing {
        return None;
    }
    let uid = &o.cluster.uid;
    let claim = o.claims.iter().find(|(_, claim)| claim.made_for != *uid);
    if let Some((ordinal, _)) = claim {
        let why = format!(
            "the volume of {} is from an earlier RaftCluster of this name: set spec.adoptExisting \
             to take it over with the group on it, or delete the PersistentVolumeClaim",
            o.cluster.pod_name(*ordinal)
        );
        return Some(Plan::new(Step::Blocked, why));
    }
    let member = o.members.iter().find(|(_, member)| member.cluster.is_some());
    member.map(|(ordinal, _)| {
        let why = format!(
            "the disk of {} is in a group that is not written down here: set spec.adoptExisting \
             to take the group over, or delete its PersistentVolumeClaim",
            o.cluster.pod_name(*ordinal)
        );
        Plan::new(Step::Blocked, why)
    })
}

fn conceive(o: &Observed) -> Plan {
    let of = |plan: Plan| plan.as_part_of(Work::Bootstrap, [0]);
    if let Some(plan) = adopt(o) {
        return of(plan);
    }
    let Some(member) = o.members.get(&0) else {
        return of(Plan::new(
            Step::Await,
            format!("{} does not answer yet", o.cluster.pod_name(0)),
        ));
    };
    if !member.unfit.is_empty() || member.retired {
        let why = format!(
            "the disk of {} is of no use ({}): delete its PersistentVolumeClaim and the pod",
            o.cluster.pod_name(0),
            if member.retired { "retired" } else { member.unfit.as_str() }
        );
        return of(Plan::new(Step::Blocked, why));
    }
    of(Plan::new(Step::Conceive { seed: 0, member: member.id }, "nobody founded the group yet"))
}

/// A group that is on the disks already, if the user lets us take it over: all must tell the same.
fn adopt(o: &Observed) -> Option<Plan> {
    let told = |(ordinal, member): (&Ordinal, &Member)| {
        member.cluster.map(|cluster| (*ordinal, member.id, cluster))
    };
    let mut told = o.members.iter().filter_map(told);
    let (seed, member, cluster) = told.next()?;
    if let Some((other, ..)) = told.find(|(_, _, at)| *at != cluster) {
        let why = format!(
            "{} and {} are in different groups: which of them is to live? Delete the \
             PersistentVolumeClaims of the other",
            o.cluster.pod_name(seed),
            o.cluster.pod_name(other)
        );
        return Some(Plan::new(Step::Blocked, why));
    }
    // A disk alone may be an old one: those that answer must make up a majority of what they tell.
    let known = o.members.values().map(|member| &member.configuration);
    let known = known.max_by_key(|known| known.index)?;
    let there = |id: &Identity| o.members.values().any(|member| member.id == *id);
    let count = known.voters.keys().filter(|id| there(id)).count();
    if count * 2 <= known.voters.len() {
        let why = "a group is on the volumes, and no majority of it answers yet";
        return Some(Plan::new(Step::Await, why));
    }
    Some(Plan::new(Step::Adopt { seed, member, cluster }, "a group is on the volumes"))
}
