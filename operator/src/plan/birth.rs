//! The foundation of a group: once, at one member, written down before it is done.
//!
//! A sidecar never founds a group by itself. The operator writes the seed and its identity into the
//! status, then calls it, and the call may be repeated. If the seed's disk is gone before anybody
//! joined, another foundation is written down, with a new identity and a new life of the tokens.

use super::recovery;
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
    if let Some(lost) = o.lost_group() {
        return Some(recovery::go_on(o, birth, lost));
    }
    let seed = o.cluster.ordinal(&birth.seed).unwrap_or(0);
    let of = |plan: Plan| Some(plan.as_part_of(Work::Bootstrap, [seed]));
    let wanted = Identity::parse(&birth.member_id);
    let group = Identity::parse(&birth.cluster_id);
    let Some(member) = o.members.get(&seed) else {
        return of(Plan::new(Step::Await, format!("{} does not answer yet", birth.seed)));
    };
    if Some(member.id) == wanted {
        if let Some(plan) = fading(o, seed, member).or_else(|| useless(o, seed, member)) {
            return of(plan);
        }
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
    of(foreign(o).unwrap_or_else(|| conceive(o)))
}

/// Volumes that another resource of this name left, or disks that are in a group.
pub(super) fn foreign(o: &Observed) -> Option<Plan> {
    let born = o.cluster.status.birth.as_ref();
    if o.cluster.spec.adopt_existing || born.is_some_and(|birth| birth.confirmed) {
        return None;
    }
    let uid = &o.cluster.uid;
    let deleted = |ordinal: &Ordinal| o.condemned(*ordinal);
    let claim = o.claims.iter().find(|(_, claim)| claim.made_for != *uid && !claim.deleting);
    if let Some((ordinal, _)) = claim {
        let why = format!(
            "the volume of {} is from an earlier RaftCluster of this name: set spec.adoptExisting \
             to take it over with the group on it, or delete the PersistentVolumeClaim",
            o.cluster.pod_name(*ordinal)
        );
        return Some(Plan::new(Step::Blocked, why));
    }
    let ours = born.and_then(|birth| Identity::parse(&birth.cluster_id));
    let other = |member: &Member| member.cluster.is_some() && member.cluster != ours;
    let member = o.members.iter().find(|(at, member)| other(member) && !deleted(at));
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
    if o.cluster.spec.adopt_existing
        && let Some(plan) = adopt(o).or_else(|| unread(o))
    {
        return of(plan);
    }
    let Some(member) = o.members.get(&0) else {
        return of(Plan::new(
            Step::Await,
            format!("{} does not answer yet", o.cluster.pod_name(0)),
        ));
    };
    if let Some(plan) = fading(o, 0, member).or_else(|| useless(o, 0, member)) {
        return of(plan);
    }
    of(Plan::new(Step::Conceive { seed: 0, member: member.id }, "nobody founded the group yet"))
}

/// No group is founded on a disk that is about to go. Nothing is promised by it yet, so its pod
/// goes at once; unless a group from before may be on it that is to be taken over.
fn fading(o: &Observed, ordinal: Ordinal, member: &Member) -> Option<Plan> {
    let pod = o.pods.get(&ordinal)?;
    let name = o.cluster.pod_name(ordinal);
    if pod.deleting {
        return Some(Plan::new(Step::Await, format!("{name} is ending")));
    }
    let blank = member.cluster.is_none() && member.unfit.is_empty();
    let ours = blank || !o.cluster.spec.adopt_existing || o.cluster.status.birth.is_some();
    let deleted = o.condemned(ordinal);
    (deleted && ours).then(|| {
        let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
        let why = format!("the volume of {name} is deleted: an empty one comes instead");
        Plan::new(Step::Delete { pod: ordinal, uid, resource_version }, why)
    })
}

/// Nobody can found a group on such a disk.
fn useless(o: &Observed, ordinal: Ordinal, member: &Member) -> Option<Plan> {
    let why = match member.unfit.as_str() {
        "" if !member.retired => return None,
        "" => "retired",
        unfit => unfit,
    };
    let name = o.cluster.pod_name(ordinal);
    let way = format!("delete the claim quorate-log-{name} and the pod");
    Some(Plan::new(Step::Blocked, format!("the disk of {name} is of no use ({why}): {way}")))
}

/// An earlier volume that nobody has looked at: a group may be on it.
fn unread(o: &Observed) -> Option<Plan> {
    let foreign = o.claims.iter().filter(|(_, claim)| claim.made_for != o.cluster.uid);
    let (ordinal, _) = { foreign }.find(|(ordinal, _)| !o.members.contains_key(ordinal))?;
    if let Some(plan) = super::pods::more(o, ordinal + 1) {
        return Some(plan);
    }
    let why = format!("{} does not tell yet what is on its volume", o.cluster.pod_name(*ordinal));
    Some(Plan::new(Step::Await, why))
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
    // One that is founded half-way names no voters, and is taken over as it is.
    if !known.voters.is_empty() && !known.has_quorum(there) {
        // Those missing may be in pods that are not even there yet.
        let voting = known.voting().into_iter().filter_map(|name| o.cluster.ordinal(name));
        let needed = voting.max().map_or(0, |highest| highest + 1);
        let more = super::pods::more(o, needed);
        let why = "a group is on the volumes, and no majority of it answers yet";
        return Some(more.unwrap_or_else(|| Plan::new(Step::Await, why)));
    }
    Some(Plan::new(Step::Adopt { seed, member, cluster }, "a group is on the volumes"))
}
