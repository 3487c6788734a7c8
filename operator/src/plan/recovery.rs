//! The way back after a majority of the voters is lost for ever: one survivor goes on alone, as
//! another group.
//!
//! Only where the resource asks for it in words that name this very group; and only once every
//! other voter is known to be silent, for what it granted a moment ago must not be granted twice:
//! it was told to retire and says that it is, or its kubelet says that all containers of its pod
//! have ended, or the resource says so. The new identity and the new life of the tokens are written
//! down before the survivor is called, and the call may be repeated.

use super::pods::remembered;
use crate::crd::{Birth, Recovery};
use crate::observed::{Identity, Member, Observed, Ordinal};
use crate::step::{Plan, Step, Work};
use std::collections::BTreeMap;

/// What has to be said, word for word, before a survivor goes on without the others.
#[must_use]
pub fn confirmation(lost: Identity) -> String {
    format!("the other members of {lost} are lost")
}

/// The group is without a leader for at least so long before anything of this is done, in seconds.
const LEADERLESS_S: i64 = 10;

/// Where nobody leads: whether a survivor is to go on, and what comes before that.
pub(super) fn begin(o: &Observed) -> Option<Plan> {
    let lost = o.born()?;
    // What was asked for is done: it was said of the group before.
    let wish = o.cluster.spec.recovery.as_ref()?;
    let done = o.lost_group().is_some_and(|before| wish.confirm == confirmation(before));
    if done || follows(o, lost).is_some() || majority(o, lost) {
        return None;
    }
    let quorum = o.cluster.status.conditions.iter().find(|one| one.type_ == "QuorumAvailable");
    let since = quorum.filter(|one| one.status != "True");
    let since = since.map(|one| one.last_transition_time.0.as_second());
    Some(match since.filter(|since| o.now_s - since >= LEADERLESS_S) {
        None => {
            let why = format!("nobody leads; that is looked at for {LEADERLESS_S} s");
            Plan::new(Step::Await, why)
        }
        Some(_) => choose(o, wish, lost),
    })
}

/// Somebody of a group that knows of a leader, though the operator may not see that one: a majority
/// works, or did a moment ago.
fn follows(o: &Observed, group: Identity) -> Option<(Ordinal, Identity)> {
    let mut ours = o.members.iter().filter(|(_, member)| {
        member.cluster == Some(group) && member.unfit.is_empty() && !member.retired
    });
    let there = ours.find(|(_, member)| member.follows.is_some());
    there.map(|(ordinal, member)| (*ordinal, member.id))
}

/// Whether a majority of the voters of both halves answers.
fn majority(o: &Observed, group: Identity) -> bool {
    let Some(known) = o.configuration_of(group) else { return false };
    let works = |id: &Identity| {
        let mut members = o.members.values();
        members.any(|other| other.id == *id && other.unfit.is_empty() && !other.retired)
    };
    let of = |half: &BTreeMap<Identity, String>| {
        half.is_empty() || half.keys().filter(|id| works(id)).count() * 2 > half.len()
    };
    !known.voters.is_empty() && of(&known.voters) && of(&known.outgoing)
}

fn choose(o: &Observed, wish: &Recovery, lost: Identity) -> Plan {
    let survivor = o.cluster.ordinal(&wish.survivor);
    let plan = match survivor.map(|survivor| (survivor, fit(o, wish, lost, survivor))) {
        None => blocked(format!("spec.recovery.survivor {} is no pod of this one", wish.survivor)),
        Some((_, Err(plan))) => *plan,
        Some((survivor, Ok(member))) => alone(o, wish, lost, (survivor, member)),
    };
    plan.as_part_of(Work::Recover, survivor)
}

fn blocked(why: impl Into<String>) -> Plan {
    Plan::new(Step::Blocked, why)
}

/// Whether the survivor can go on, and is the right one.
fn fit<'a>(
    o: &'a Observed,
    wish: &Recovery,
    lost: Identity,
    survivor: Ordinal,
) -> Result<&'a Member, Box<Plan>> {
    let blocked = |why: String| Err(Box::new(blocked(why)));
    let words = confirmation(lost);
    if wish.confirm != words {
        return blocked(format!(
            "this cannot be undone: spec.recovery.confirm is to be \"{words}\""
        ));
    }
    let name = &wish.survivor;
    let Some(member) = o.members.get(&survivor) else {
        return Err(Box::new(Plan::new(Step::Await, format!("{name} does not answer"))));
    };
    let known = member.configuration.members().any(|(id, _)| id == member.id);
    if member.cluster != Some(lost) || !member.unfit.is_empty() || member.retired || !known {
        return blocked(format!("the disk of {name} is no member's of the group: name another"));
    }
    let ends = o.pods.get(&survivor).is_none_or(|pod| pod.deleting) || o.condemned(survivor);
    if ends {
        return blocked(format!("{name} is ending, or its volume is deleted: name another"));
    }
    // As Raft judges whose vote may go to whom (Raft dissertation, section 3.6.1).
    let far = |member: &Member| (member.last_term, member.last);
    let others = o.members.iter().filter(|(_, other)| other.cluster == Some(lost));
    let further = others.filter(|(_, other)| other.unfit.is_empty() && far(other) > far(member));
    if let Some((ordinal, _)) = further.max_by_key(|(_, other)| far(other)) {
        let other = o.cluster.pod_name(*ordinal);
        return blocked(format!(
            "{other} has more of the log than {name}: name it as the survivor"
        ));
    }
    Ok(member)
}

/// All who vote or may, as far as anybody knows: those who answer may know an older membership than
/// the status remembers.
fn voters(o: &Observed, group: Identity) -> BTreeMap<Identity, String> {
    let Some(known) = o.configuration_of(group) else { return remembered(o) };
    let told = o.cluster.status.configuration_index;
    let older = told.is_some_and(|told| u64::try_from(told).is_ok_and(|told| known.index < told));
    let before = if older { remembered(o) } else { BTreeMap::new() };
    let now = known.voters.iter().chain(&known.outgoing).map(|(id, name)| (*id, name.clone()));
    before.into_iter().chain(now).collect()
}

/// The others are silent, or become so; then it is written down who goes on.
fn alone(
    o: &Observed,
    wish: &Recovery,
    lost: Identity,
    (survivor, member): (Ordinal, &Member),
) -> Plan {
    let mut others = voters(o, lost);
    others.remove(&member.id);
    // One whose disk is of no use takes no word, and what it did before it failed is not known.
    let at = |id: Identity| {
        let mut fit = o.members.iter().filter(|(_, other)| other.unfit.is_empty());
        fit.find(|(_, other)| other.id == id)
    };
    let unknown = others.iter().filter(|(id, name)| {
        let ordinal = o.cluster.ordinal(name);
        let pod = ordinal.and_then(|ordinal| o.pods.get(&ordinal));
        let ended = pod.is_some_and(|pod| pod.ended);
        at(**id).is_none() && !ended && !wish.accept_running.contains(name)
    });
    let unknown: Vec<&str> = unknown.map(|(_, name)| name.as_str()).collect();
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        return blocked(format!(
            "nobody knows whether {names} still run, and grant what the survivor would grant \
             again: if you do, name them in spec.recovery.acceptRunning"
        ));
    }
    let runs = |id: &Identity| at(*id).filter(|(_, other)| !other.retired);
    if let Some((ordinal, other)) = others.keys().find_map(runs) {
        let why = format!("{} is to be silent before one goes on", o.cluster.pod_name(*ordinal));
        return Plan::new(Step::Retire { pod: *ordinal, member: other.id }, why);
    }
    let (member, hold_off) = (member.id, wish.hold_off_seconds);
    let why = format!("{} goes on alone: spec.recovery", wish.survivor);
    Plan::new(Step::Forsake { survivor, member, lost, hold_off }, why)
}

/// It is written down who goes on: that one is told, until it says that it did.
pub(super) fn go_on(o: &Observed, birth: &Birth, lost: Identity) -> Plan {
    let survivor = o.cluster.ordinal(&birth.seed).unwrap_or(0);
    let of = |plan: Plan| plan.as_part_of(Work::Recover, [survivor]);
    let (group, wanted) = (Identity::parse(&birth.cluster_id), Identity::parse(&birth.member_id));
    let member = o.members.get(&survivor);
    let ours = member.filter(|member| Some(member.id) == wanted);
    // A crash may leave the new identity without the membership that goes with it.
    let alone = |member: &&Member| {
        let known = &member.configuration;
        known.voters.keys().eq([&member.id]) && known.outgoing.is_empty()
    };
    let is_on = ours.filter(|member| member.cluster == group);
    if let Some(member) = is_on {
        return of(match alone(&member) {
            true => Plan::new(Step::Born, format!("{} goes on alone", birth.seed)),
            false => Plan::new(Step::Recover { survivor }, "half-way: it is told again"),
        });
    }
    // A majority came back before the survivor was told, which refuses then.
    if let Some((seed, member)) = follows(o, lost) {
        let why = "the lost group is back, and goes on";
        return of(Plan::new(Step::Adopt { seed, member, cluster: lost }, why));
    }
    let other = o.cluster.spec.recovery.as_ref().filter(|wish| wish.survivor != birth.seed);
    if let Some(wish) = other {
        return choose(o, wish, lost);
    }
    let Some(member) = member else {
        return of(Plan::new(Step::Await, format!("{} does not answer", birth.seed)));
    };
    let works = member.cluster == Some(lost) && member.unfit.is_empty() && !member.retired;
    if ours.is_none() || !works {
        let why = format!(
            "the disk of {}, which was to go on, is of no use: name another in \
             spec.recovery.survivor",
            birth.seed
        );
        return of(blocked(why));
    }
    of(Plan::new(Step::Recover { survivor }, format!("{} is to go on alone", birth.seed)))
}
