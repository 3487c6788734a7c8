//! Pods, volumes and the disruption budget: more before the membership grows, fewer after it
//! shrank, and exchanged one at a time.

use super::group::{Group, relieve, successor};
use super::{pods_needed, pods_voting, recovery};
use crate::observed::{
    Budget, Claim, Configuration, Identity, Member, Observed, Ordinal, Pod, Pull,
};
use crate::step::{Plan, Step, Work};
use crate::validate;
use std::collections::{BTreeMap, BTreeSet};

/// No pods are wanted: all stop, every disk stays, the membership stays as it is.
pub(super) fn stop(o: &Observed) -> Option<Plan> {
    if o.cluster.replicas() > 0 {
        return None;
    }
    let Some(set) = &o.set else {
        return Some(Plan::new(Step::Rest, "spec.replicas is 0, and nothing is there"));
    };
    let of = |plan: Plan| Some(plan.as_part_of(Work::Scale, []));
    let open = |leader: &Member| !leader.configuration.outgoing.is_empty() || !leader.committed();
    if o.leader().is_some_and(|(_, leader)| open(leader)) {
        return of(Plan::new(Step::Await, "a change of the membership ends before all stop"));
    }
    if let Some(why) = would_end(o).filter(|_| set.replicas > 0) {
        return Some(Plan::new(Step::Blocked, why));
    }
    if o.budget.is_some() {
        return of(Plan::new(Step::Budget(None), "spec.replicas is 0"));
    }
    if set.replicas > 0 {
        return of(scale(o, 0, "spec.replicas is 0"));
    }
    if !o.pods.is_empty() {
        return of(Plan::new(Step::Await, "the pods are ending"));
    }
    if let Some(plan) = fetched(o) {
        return Some(plan);
    }
    Some(Plan::new(Step::Rest, "stopped; every disk is kept"))
}

fn scale(o: &Observed, replicas: u32, why: &str) -> Plan {
    let Some(set) = &o.set else {
        return Plan::new(Step::Await, "there is no StatefulSet");
    };
    let (uid, resource_version) = (set.uid.clone(), set.resource_version.clone());
    Plan::new(Step::Scale { uid, resource_version, replicas }, why)
}

/// Why not all may stop: condemned volumes go with their pods, and of so many voters that nobody
/// could start again.
fn would_end(o: &Observed) -> Option<String> {
    let goes = |(at, claim): &(&Ordinal, &Claim)| claim.deleting && o.pods.contains_key(at);
    let going = o.claims.iter().filter(goes).map(|(at, _)| o.cluster.pod_name(*at));
    let going: Vec<String> = going.collect();
    if going.is_empty() {
        return None;
    }
    let way = "set spec.replicas to 3 or more until they are replaced; if nobody leads then: \
               spec.recovery, or delete the RaftCluster";
    let known = o.configuration().filter(|known| known.index > 0).cloned();
    let known = known
        .unwrap_or_else(|| Configuration { voters: remembered(o), ..Configuration::default() });
    let adopts = o.cluster.spec.adopt_existing && o.cluster.status.birth.is_none();
    if known.voters.is_empty() && !adopts {
        return None;
    }
    let Some((_, leader)) = o.leader() else {
        // Those that answer may not know of the last change: anybody's volume may be a voter's.
        let names = going.join(", ");
        return Some(format!(
            "nobody leads, so who votes is not known, and the volumes of {names} would go with \
             the pods: {way}"
        ));
    };
    let voting = known.voters.iter().chain(&known.outgoing);
    let gone: BTreeMap<_, _> = voting.filter(|(id, name)| is_gone(o, leader, **id, name)).collect();
    if known.has_quorum(|id| !gone.contains_key(id)) {
        return None;
    }
    let names: Vec<&str> = gone.values().map(|name| name.as_str()).collect();
    let names = names.join(", ");
    Some(format!(
        "the disks of {names} are gone, or nobody hears of them, or they would go with the pods, \
         and no majority would be left: {way}"
    ))
}

/// Whether a voter's disk is gone, or of no use, or goes with its pod; and one that nobody hears
/// may be any of these.
fn is_gone(o: &Observed, leader: &Member, id: Identity, name: &str) -> bool {
    let ordinal = o.cluster.ordinal(name);
    let claim = ordinal.and_then(|ordinal| o.claims.get(&ordinal));
    let there = ordinal.and_then(|ordinal| o.members.get(&ordinal));
    let other = there.is_some_and(|member| member.id != id || !member.is_fit());
    other || !leader.hears(id) || claim.is_none_or(|claim| claim.deleting)
}

/// Who voted when the status was written.
pub(super) fn remembered(o: &Observed) -> BTreeMap<Identity, String> {
    let voters = o.cluster.status.members.iter().filter(|member| member.role == "Voter");
    let named = voters
        .filter_map(|member| Some((Identity::parse(&member.member_id)?, member.name.clone())));
    let mut named: BTreeMap<Identity, String> = named.collect();
    // Nobody saw more of the group than its foundation.
    let birth = o.cluster.status.birth.as_ref().filter(|birth| birth.confirmed && named.is_empty());
    let seed = birth.and_then(|birth| Some((Identity::parse(&birth.member_id)?, &birth.seed)));
    named.extend(seed.map(|(id, name)| (id, name.clone())));
    named
}

/// So many pods, if there are fewer.
pub(super) fn more(o: &Observed, needed: u32) -> Option<Plan> {
    let now = o.set.as_ref().map_or(0, |set| set.replicas);
    let plan = || scale(o, needed, "more pods are wanted").as_part_of(Work::Scale, now..needed);
    (now < needed).then(plan)
}

/// All that are wanted, and all that vote, have a pod.
pub(super) fn grow(o: &Observed) -> Option<Plan> {
    let now = o.set.as_ref().map_or(0, |set| set.replicas);
    let (needed, voting) = (pods_needed(o), pods_voting(o));
    if now >= needed {
        return None;
    }
    let mut unused = o.claims.range(now.max(voting).min(needed)..needed);
    let Some((ordinal, claim)) = unused.find(|(at, _)| left(o, **at)).filter(|_| voting > 0) else {
        return more(o, needed);
    };
    // Whoever still means to delete that volume must not find a member on it.
    let of = |plan: Plan| Some(plan.as_part_of(Work::Scale, now..needed));
    match o.leader() {
        _ if now < voting => more(o, voting),
        _ if claim.deleting => of(Plan::new(Step::Await, "a volume of an earlier stay is going")),
        Some((_, leader)) if leader.committed() && leader.configuration.outgoing.is_empty() => {
            of(discard(*ordinal, claim, "it is of an earlier stay: a new member gets an empty one"))
        }
        _ => more(o, *ordinal),
    }
}

/// The volumes follow the size that is wanted; those of pods to come are made in the first one.
pub(super) fn enlarge(o: &Observed) -> Option<Plan> {
    let small = |(at, claim): &(&Ordinal, &Claim)| {
        let member = o.members.get(at);
        let joined =
            member.is_some_and(|member| member.cluster.is_some() && member.cluster == o.born());
        let ours = claim.made_for == o.cluster.uid || o.cluster.spec.adopt_existing || joined;
        claim.small && !claim.deleting && ours
    };
    let (ordinal, claim) = o.claims.iter().find(small)?;
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    let why = format!(
        "the volume of {} is smaller than {} (its storage class needs allowVolumeExpansion)",
        o.cluster.pod_name(*ordinal),
        o.cluster.spec.storage.size
    );
    let step = Step::Enlarge { claim: *ordinal, uid, resource_version };
    Some(Plan::new(step, why).as_part_of(Work::Enlarge, [*ordinal]))
}

/// Whether a volume of ours is one whose member left the group.
fn left(o: &Observed, ordinal: Ordinal) -> bool {
    let Some(claim) = o.claims.get(&ordinal) else { return false };
    let told = o.configuration().filter(|known| known.index > 0);
    let at = |name: &str| o.cluster.ordinal(name) == Some(ordinal);
    let member = match told {
        Some(known) => known.members().any(|(_, name)| at(name)),
        None => o.cluster.status.members.iter().any(|member| at(&member.name)),
    };
    claim.made_for == o.cluster.uid && !o.pods.contains_key(&ordinal) && !member
}

/// Nobody leads with a majority: nothing is taken away but pods that never ran and are out of date.
pub(super) fn without_quorum(o: &Observed) -> Plan {
    if let Some(plan) = broken(o).or_else(|| recovery::begin(o)) {
        return plan;
    }
    if let Some(why) = majority_gone(o) {
        return Plan::new(Step::Blocked, why);
    }
    let mut silent = remembered(o);
    let voters = silent.len();
    silent.retain(|id, _| !o.members.values().any(|member| member.id == *id));
    let why = "no member leads with a majority behind it";
    if silent.len() * 2 < voters || silent.is_empty() {
        return Plan::new(Step::Await, why);
    }
    let names: Vec<&str> = silent.values().map(String::as_str).collect();
    let names = names.join(", ");
    let why = format!("{why}: {names} do not answer; if they are lost for ever: spec.recovery");
    Plan::new(Step::Await, why)
}

/// A pod whose sidecar does not run, and that is out of date.
pub(super) fn broken(o: &Observed) -> Option<Plan> {
    let (ordinal, pod) = o.pods.iter().find(|(ordinal, pod)| {
        let silent = !o.members.contains_key(ordinal) && pod.running_image.is_empty();
        // A condemned volume goes with its pod, and may be one that a group needs.
        let needed = o.cluster.status.birth.is_some() || o.cluster.spec.adopt_existing;
        let condemned = o.condemned(**ordinal);
        let kept = !condemned || !needed || pod.image != o.cluster.image;
        silent && kept && !pod.deleting && out_of_date(o, pod)
    })?;
    Some(renew(o, *ordinal, pod, "it does not run, and is out of date"))
}

fn image_only(o: &Observed, pod: &Pod) -> bool {
    pod.template_hash == o.cluster.template_hash && pod.image != o.cluster.image
}

/// Where empty disks are under the names of a majority of the voters, nobody can ever lead.
fn majority_gone(o: &Observed) -> Option<String> {
    let voters = o.cluster.status.members.iter().filter(|member| member.role == "Voter");
    let (mut all, mut gone) = (0, Vec::new());
    for voter in voters {
        all += 1;
        let there = o.cluster.ordinal(&voter.name).and_then(|ordinal| o.members.get(&ordinal));
        if there.is_some_and(|member| member.id.to_string() != voter.member_id) {
            gone.push(voter.name.as_str());
        }
    }
    let lost = format!("the disks of a majority of the voters are gone ({})", gone.join(", "));
    let words = o.born().map(super::confirmation).unwrap_or_default();
    let way = format!(
        "bring them back, or let one member go on alone: spec.recovery, with confirm: \"{words}\""
    );
    (gone.len() * 2 >= all && all > 0).then(|| format!("{lost}: {way}"))
}

pub(super) fn out_of_date(o: &Observed, pod: &Pod) -> bool {
    let old = pod.template_hash != o.cluster.template_hash || pod.image != o.cluster.image;
    old && validate::fault(&o.cluster.spec).is_none()
}

/// A pod that does not work: it goes, or gets the right image where that is all that is wrong.
fn renew(o: &Observed, ordinal: Ordinal, pod: &Pod, why: &str) -> Plan {
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    // A deleted volume goes with its pod, but not with its image.
    let condemned = o.condemned(ordinal);
    let image = image_only(o, pod) || condemned && pod.image != o.cluster.image;
    if image
        && !pod.running_image.is_empty()
        && let Some(plan) = fetch(o, &pod.node)
    {
        return plan.as_part_of(Work::Roll, [ordinal]);
    }
    let step = match image {
        true => Step::Patch { pod: ordinal, uid, resource_version },
        false => Step::Delete { pod: ordinal, uid, resource_version },
    };
    Plan::new(step, format!("{}: {why}", o.cluster.pod_name(ordinal)))
        .as_part_of(Work::Roll, [ordinal])
}

/// Waiting with nobody's vote about to move: pods may be evicted meanwhile.
pub(super) fn evictable(o: &Observed, why: &str) -> Plan {
    if o.budget.is_some_and(|budget| budget.max_unavailable == 0) {
        return Plan::new(Step::Budget(Some(1)), "nothing is about to change: one may be away");
    }
    Plan::new(Step::Await, why)
}

/// Before anything that takes a vote away: no eviction may come between.
pub(super) fn nobody_away(o: &Observed) -> Option<Plan> {
    let replicas = o.set.as_ref().map_or(0, |set| set.replicas);
    let budget = match o.budget {
        Some(budget) => budget,
        None if replicas > 1 && o.rivals.is_empty() => {
            Budget { max_unavailable: 1, observed: true }
        }
        None => return None,
    };
    if budget.max_unavailable != 0 {
        return Some(Plan::new(Step::Budget(Some(0)), "nobody may be evicted meanwhile"));
    }
    let why = "the disruption budget is not in force yet";
    (!budget.observed).then(|| Plan::new(Step::Await, why))
}

/// Fewer pods, once nobody who leaves votes; then, when they have ended and their members are none
/// any more, their volumes.
pub(super) fn shrink(group: &Group) -> Option<Plan> {
    let o = group.o;
    let (now, needed) = (o.set.as_ref()?.replicas, pods_needed(o));
    if now > needed {
        return Some(
            scale(o, needed, "fewer pods are wanted").as_part_of(Work::Scale, needed..now),
        );
    }
    let member = |ordinal: Ordinal| {
        group.conf.members().any(|(_, name)| o.cluster.ordinal(name) == Some(ordinal))
    };
    let unused = o.claims.iter().find(|(ordinal, claim)| {
        let ours = claim.made_for == o.cluster.uid && !claim.deleting;
        let free = !o.pods.contains_key(ordinal) && !member(**ordinal);
        **ordinal >= needed && ours && free
    });
    let (ordinal, claim) = unused?;
    let plan = discard(*ordinal, claim, "its member has left the group");
    Some(plan.as_part_of(Work::Scale, [*ordinal]))
}

/// Pods that are not wanted, and have not ended yet.
pub(super) fn ending(group: &Group) -> Option<Plan> {
    let pods = group.o.pods.range(pods_needed(group.o)..);
    let ending: Vec<Ordinal> = pods.map(|(ordinal, _)| *ordinal).collect();
    let why = format!("{} is ending", group.name(*ending.first()?));
    Some(Plan::new(Step::Await, why).as_part_of(Work::Scale, ending))
}

fn discard(ordinal: Ordinal, claim: &Claim, why: &str) -> Plan {
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    Plan::new(Step::Discard { claim: ordinal, uid, resource_version }, why)
}

/// Pods that must be exchanged, one at a time: they are of no use to the application, their disks
/// are condemned, or they are out of date.
pub(super) fn roll(group: &Group) -> Option<Plan> {
    let condemned = useless(group).or_else(|| condemned(group));
    let stuck = |plan: &Plan| plan.step == Step::Blocked;
    match condemned {
        Some(plan) if stuck(&plan) => outdated(group).or(Some(plan)),
        Some(plan) => Some(plan),
        None => outdated(group),
    }
}

/// Pods that are wanted, on volumes that last, and out of date.
fn old<'a>(group: &Group<'a>) -> Vec<(Ordinal, &'a Pod)> {
    let o = group.o;
    let old = |(ordinal, pod): &(&Ordinal, &Pod)| {
        **ordinal < o.cluster.replicas() && !group.condemned(**ordinal) && out_of_date(o, pod)
    };
    o.pods.iter().filter(old).map(|(ordinal, pod)| (*ordinal, pod)).collect()
}

/// One that works for nobody is in nobody's way: it goes before all else.
pub(super) fn unheard(group: &Group) -> Option<Plan> {
    let o = group.o;
    let (ordinal, pod) = o.pods.iter().find(|(ordinal, pod)| {
        let works = pod.ready || pod.deleting || group.heard(**ordinal);
        !works && !group.condemned(**ordinal) && out_of_date(o, pod)
    })?;
    Some(renew(o, *ordinal, pod, "it does not work, and is out of date"))
}

/// Those that are of no use to the application, and whose members are: no budget lets them go, so
/// it is looked after the majority here.
fn useless(group: &Group) -> Option<Plan> {
    let useless = old(group).into_iter().filter(|(_, pod)| !pod.deleting && !pod.ready);
    let (ordinal, pod) = useless.min_by_key(|(ordinal, _)| order(group, *ordinal))?;
    // One that is lost may never come back; whether the rest is a majority is looked at next.
    let plan = apart(group, ordinal, &group.lost).or_else(|| before(group, ordinal));
    let plan =
        plan.unwrap_or_else(|| renew(group.o, ordinal, pod, "it is not ready, and out of date"));
    Some(plan.as_part_of(Work::Roll, [ordinal]))
}

fn outdated(group: &Group) -> Option<Plan> {
    let old = old(group);
    let (ordinal, pod) = old.iter().min_by_key(|(ordinal, _)| order(group, *ordinal))?;
    if let Some(plan) = unsettled(group) {
        return Some(plan.as_part_of(Work::Roll, old.iter().map(|(ordinal, _)| *ordinal)));
    }
    let plan = match image_only(group.o, pod) {
        true => patch(group, *ordinal, pod),
        false => exchange(group, *ordinal, pod),
    };
    Some(plan.as_part_of(Work::Roll, [*ordinal]))
}

/// Why the budget lets no ready pod go: another one is not ready.
pub(super) fn guarded(group: &Group, ordinal: Ordinal) -> Option<Plan> {
    let o = group.o;
    let away = |other: &Ordinal| {
        *other != ordinal && o.pods.get(other).is_none_or(|pod| pod.deleting || !pod.ready)
    };
    let other = (0..o.set.as_ref().map_or(0, |set| set.replicas)).find(away)?;
    let why = format!("{} is not ready: the budget lets no other go", group.name(other));
    Some(Plan::new(Step::Await, why))
}

/// Why a pod may not go yet: another voter is away, or about to be. Those in `but` do not count.
fn apart(group: &Group, ordinal: Ordinal, but: &BTreeSet<Identity>) -> Option<Plan> {
    let o = group.o;
    let others = group.conf.voters.iter().map(|(id, name)| (id, name, o.cluster.ordinal(name)));
    let others = others.filter(|(id, _, at)| *at != Some(ordinal) && !but.contains(id));
    let mut away = others.filter(|(id, _, at)| {
        let pod = at.and_then(|at| o.pods.get(&at));
        let ends = pod.is_none_or(|pod| pod.deleting || pod.restarting);
        ends || !group.leader.has_beside(**id)
    });
    let why = |name: &str| format!("{name} is away, or does not have the log yet");
    away.next().map(|(_, name, _)| Plan::new(Step::Await, why(name)))
}

/// Spares, then followers, then the leader.
fn order(group: &Group, ordinal: Ordinal) -> (u8, Ordinal) {
    let votes = group.voter(ordinal).is_some();
    let rank = match (votes, ordinal == group.at) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    (rank, ordinal)
}

/// Why no further pod may go: somebody else is away, or not back yet.
pub(super) fn unsettled(group: &Group) -> Option<Plan> {
    let o = group.o;
    let replicas = o.set.as_ref().map_or(0, |set| set.replicas);
    for ordinal in 0..replicas {
        let name = group.name(ordinal);
        let why = match o.pods.get(&ordinal) {
            None => format!("{name} is not there yet"),
            Some(pod) if pod.deleting => format!("{name} is ending"),
            Some(pod) if pod.restarting => format!("{name} still runs its image from before"),
            Some(pod) if !pod.ready => format!("{name} is not ready: no further pod is touched"),
            Some(_) => match o.members.get(&ordinal) {
                None => format!("{name} does not answer"),
                Some(member) if !group.leader.has_beside(member.id) => {
                    format!("{name} does not have the log yet")
                }
                Some(_) => continue,
            },
        };
        return Some(Plan::new(Step::Await, why));
    }
    None
}

/// Whether the group has a majority without this pod.
fn spared(group: &Group, ordinal: Ordinal) -> bool {
    let voters = &group.conf.voters;
    let Some(id) = group.voter(ordinal) else { return true };
    voters.len() == 1 || group.leader.majority(voters.keys(), &BTreeSet::from([id]))
}

/// What comes before a voter is touched: a majority without it, and another leader.
fn before(group: &Group, ordinal: Ordinal) -> Option<Plan> {
    if !spared(group, ordinal) {
        let why = format!("without {} there would be no majority", group.name(ordinal));
        return Some(Plan::new(Step::Await, why));
    }
    let relieved = group.voter(ordinal).and_then(|_| relieve(group));
    relieved.or_else(|| hand_over(group, ordinal))
}

/// A working pod goes, by eviction; the leader hands over first.
fn exchange(group: &Group, ordinal: Ordinal, pod: &Pod) -> Plan {
    if let Some(plan) = before(group, ordinal) {
        return plan;
    }
    if group.o.budget.is_some_and(|budget| budget.max_unavailable == 0) {
        return Plan::new(Step::Budget(Some(1)), "one pod may be away");
    }
    let step = Step::Evict { pod: ordinal, uid: pod.uid.clone() };
    Plan::new(step, format!("{} is to be exchanged", group.name(ordinal)))
}

/// Before the image of a running sidecar changes: it can be had on that node. The kubelet ends the
/// old container first, and fetches then.
fn fetch(o: &Observed, node: &str) -> Option<Plan> {
    let image = &o.cluster.image;
    let plan = match o.pulls.get(node) {
        Some(pull) if pull.deleting => {
            Plan::new(Step::Await, format!("a pod that fetched an image onto {node} is ending"))
        }
        Some(pull) if pull.image != *image => unpull(node, pull),
        Some(pull) if pull.done => return None,
        Some(pull) if pull.failed.is_empty() => {
            Plan::new(Step::Await, format!("{image} is being fetched onto {node}"))
        }
        Some(pull) => {
            let why = format!(
                "{image} does not start on {node}, and no sidecar was touched: {}. Set another \
                 image, or make this one available",
                pull.failed
            );
            Plan::new(Step::Blocked, why)
        }
        None => {
            let why = format!("{image} is fetched onto {node} before a sidecar there needs it");
            Plan::new(Step::Pull { node: node.to_owned() }, why)
        }
    };
    Some(plan)
}

fn unpull(node: &str, pull: &Pull) -> Plan {
    let step = Step::Unpull { node: node.to_owned(), uid: pull.uid.clone() };
    Plan::new(step, format!("nothing needs to be fetched onto {node} any more"))
}

/// What fetched an image goes, once nobody needs it any more.
fn fetched(o: &Observed) -> Option<Plan> {
    let (node, pull) = o.pulls.iter().find(|(_, pull)| !pull.deleting)?;
    Some(unpull(node, pull))
}

/// The sidecar alone starts anew, with another image, and the application runs on.
fn patch(group: &Group, ordinal: Ordinal, pod: &Pod) -> Plan {
    if let Some(plan) = fetch(group.o, &pod.node) {
        return plan;
    }
    if let Some(plan) = before(group, ordinal).or_else(|| nobody_away(group.o)) {
        return plan;
    }
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    let why = format!("the sidecar of {} is to run another image", group.name(ordinal));
    Plan::new(Step::Patch { pod: ordinal, uid, resource_version }, why)
}

/// If this pod leads: somebody else does first, best one whose pod is new already.
fn hand_over(group: &Group, ordinal: Ordinal) -> Option<Plan> {
    if ordinal != group.at || group.conf.voters.len() == 1 {
        return None;
    }
    let new = |id: Identity| {
        let pod = group.good.get(&id).and_then(|ordinal| group.o.pods.get(ordinal));
        pod.is_some_and(|pod| !pod.deleting && !out_of_date(group.o, pod))
    };
    let to = successor(group, new).or_else(|| successor(group, |_| true))?;
    let why = format!("{} leads, and is to go", group.name(ordinal));
    Some(Plan::new(Step::Transfer { leader: group.at, to }, why))
}

/// A disk of no use, whose member has left: its volume goes, and the pod, for an empty one to come.
/// The same for a pod that is no voter and whose volume is condemned.
pub(super) fn spoiled(group: &Group) -> Option<Plan> {
    let o = group.o;
    let votes = |id: &Identity| group.conf.voters.contains_key(id);
    let (ordinal, pod) = o.pods.iter().find(|(ordinal, pod)| {
        let member = o.members.get(ordinal);
        let spoiled =
            member.is_some_and(|member| !group.counts(**ordinal, member) && group.spoiled(member));
        let idle = group.condemned(**ordinal) && !pod.deleting;
        let idle = idle && member.is_some_and(|member| !votes(&member.id));
        let idle = idle && (!pod.ready || guarded(group, **ordinal).is_none());
        **ordinal < o.cluster.replicas() && (spoiled || idle)
    })?;
    let of = |plan: Plan| Some(plan.as_part_of(Work::Replace, [*ordinal]));
    let member = o.members.get(ordinal).filter(|member| group.spoiled(member));
    let why = match member.map(|member| member.unfit.as_str()) {
        None => "its volume is deleted",
        Some("") if member.is_some_and(|member| group.forsaken(member)) => {
            "its disk is of the group that was lost"
        }
        Some("") => "its disk lost what it had acknowledged, or is retired",
        Some(unfit) => unfit,
    };
    if let Some(claim) = o.claims.get(ordinal).filter(|claim| !claim.deleting) {
        return of(discard(*ordinal, claim, why));
    }
    if pod.deleting {
        return of(Plan::new(Step::Await, format!("{} is ending", group.name(*ordinal))));
    }
    if member.is_none() && pod.ready {
        return of(exchange(group, *ordinal, pod));
    }
    of(remove(*ordinal, pod, why))
}

fn remove(ordinal: Ordinal, pod: &Pod, why: &str) -> Plan {
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    Plan::new(Step::Delete { pod: ordinal, uid, resource_version }, why)
}

/// Somebody deleted the volume of a voter, or of one that does not answer: its pod goes, once all
/// other voters are well, and never that of the only one.
fn condemned(group: &Group) -> Option<Plan> {
    let o = group.o;
    let condemned = o.pods.iter().filter(|(ordinal, pod)| {
        **ordinal < o.cluster.replicas() && group.condemned(**ordinal) && !pod.deleting
    });
    // One that is not ready needs no leave of the budget, and may keep others from it.
    let (ordinal, pod) = condemned.min_by_key(|(ordinal, pod)| (pod.ready, **ordinal))?;
    let of = |plan: Plan| Some(plan.as_part_of(Work::Replace, [*ordinal]));
    let nobody = BTreeSet::new();
    let first = apart(group, *ordinal, &nobody).or_else(|| before(group, *ordinal));
    if let Some(plan) = first.or_else(|| coming(group, *ordinal)) {
        return of(plan);
    }
    let name = group.name(*ordinal);
    if group.conf.voters.len() == 1 && group.voter(*ordinal).is_some() {
        if o.cluster.replicas() > 1 {
            let why = format!("no spare is there yet to take over the vote of {name}");
            return of(Plan::new(Step::Await, why));
        }
        let why = format!(
            "the volume of {name} is deleted, and the whole group is on it: set spec.replicas to \
             2 or more, so that another member can take it over"
        );
        return of(Plan::new(Step::Blocked, why));
    }
    of(match group.heard(*ordinal) && pod.ready {
        true => guarded(group, *ordinal).unwrap_or_else(|| exchange(group, *ordinal, pod)),
        false => remove(*ordinal, pod, "its volume is deleted"),
    })
}

/// A disk of another group came into a pod: nobody but its user knows which of them is to live.
pub(super) fn foreign(group: &Group) -> Option<Plan> {
    let other =
        |member: &Member| member.cluster.is_some() && member.cluster != group.leader.cluster;
    let (ordinal, _) = group.o.members.iter().find(|(_, member)| other(member))?;
    let name = group.name(*ordinal);
    let why = format!(
        "the disk of {name} is in another group: delete the claim quorate-log-{name}, and an empty \
         one comes instead"
    );
    Some(Plan::new(Step::Blocked, why))
}

/// A spare that may take over the vote of a pod, once it has the log: then no vote is missing while
/// an empty disk comes. One that is lost is not waited for.
fn coming(group: &Group, ordinal: Ordinal) -> Option<Plan> {
    group.voter(ordinal)?;
    let name = group.coming()?;
    let voter = group.name(ordinal);
    let why = format!("{name} takes over the vote of {voter}, once it has the log");
    Some(Plan::new(Step::Await, why))
}

/// What a change of mind, a roll, or an earlier operator left behind.
pub(super) fn tidy(group: &Group) -> Option<Plan> {
    let o = group.o;
    let idle = o.members.iter().find(|(ordinal, member)| {
        let ends = o.pods.get(ordinal).is_none_or(|pod| pod.deleting);
        member.draining && !ends && **ordinal < o.cluster.replicas()
    });
    if let Some((ordinal, _)) = idle {
        let why = format!("{} stays, and may lead again", group.name(*ordinal));
        return Some(Plan::new(Step::Undrain(*ordinal), why));
    }
    // An image that was changed is in use once the container from before is gone.
    if o.pods.values().any(|pod| pod.restarting) {
        return None;
    }
    if let Some(plan) = fetched(o).filter(|_| old(group).is_empty()) {
        return Some(plan);
    }
    let wanted = (o.cluster.replicas() > 1 && o.rivals.is_empty()).then_some(1);
    if o.budget.map(|budget| budget.max_unavailable) != wanted {
        return Some(Plan::new(Step::Budget(wanted), "the disruption budget is not as wanted"));
    }
    None
}
