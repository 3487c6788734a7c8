//! The way back after a majority of the voters is lost for ever: one survivor goes on alone, as
//! another group.
//!
//! Only where the resource asks for it in words that name this very group, and asked in this very
//! outage: what stood there while somebody led is of no force. And only once every other voter is
//! known to be silent, for what it granted a moment ago must not be granted twice: it was told to
//! retire and says that it is, or the resource says so. The new identity and the new life of the
//! tokens are written down before the survivor is called, and the call may be repeated.

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
    let wish = o.cluster.spec.recovery.as_ref()?;
    // What was asked for is done: it was said of the group before.
    if o.lost_group().is_some_and(|before| wish.confirm == confirmation(before)) {
        return None;
    }
    let wait = |why: &str| Some(Plan::new(Step::Await, format!("spec.recovery waits: {why}")));
    if knows_a_leader(o, lost).is_some() {
        return wait("a member that answers knows of a leader, or did a moment ago");
    }
    if majority(o, lost) {
        return wait("a majority of the voters answers, and may elect");
    }
    let quorum = o.cluster.status.conditions.iter().find(|one| one.type_ == "QuorumAvailable");
    let since = quorum.filter(|one| one.status != "True");
    let since = since.map(|one| one.last_transition_time.0.as_second());
    if since.is_none_or(|since| o.now_s - since < LEADERLESS_S) {
        return wait("nobody leads since a moment ago");
    }
    if o.cluster.status.led_generation == Some(o.cluster.generation) {
        let why = "spec.recovery is of an earlier time, in which a member led: if it is still \
                   meant, remove it and write it again";
        return Some(blocked(why));
    }
    Some(choose(o, wish, lost))
}

/// A member of a group that knows of a leader, though the operator may not see that one: a majority
/// works, or did a moment ago.
fn knows_a_leader(o: &Observed, group: Identity) -> Option<(Ordinal, Identity)> {
    let mut ours =
        o.members.iter().filter(|(_, member)| member.cluster == Some(group) && member.is_fit());
    let there = ours.find(|(_, member)| member.leader.is_some());
    there.map(|(ordinal, member)| (*ordinal, member.id))
}

/// Whether a majority of the voters of both halves answers.
fn majority(o: &Observed, group: Identity) -> bool {
    let works = |id: &Identity| o.members.values().any(|other| other.id == *id && other.is_fit());
    o.configuration_of(group).is_some_and(|known| known.has_quorum(works))
}

fn blocked(why: impl Into<String>) -> Plan {
    Plan::new(Step::Blocked, why)
}

fn choose(o: &Observed, wish: &Recovery, lost: Identity) -> Plan {
    let (name, words) = (&wish.survivor, confirmation(lost));
    if wish.confirm != words {
        let why = format!("this cannot be undone: spec.recovery.confirm is to be \"{words}\"");
        return blocked(why).as_part_of(Work::Recover, []);
    }
    let at = o.cluster.ordinal(name);
    let at = at.filter(|at| o.pods.contains_key(at) || o.claims.contains_key(at));
    let Some(survivor) = at else {
        let why = format!("spec.recovery.survivor: there is no pod {name} of this RaftCluster");
        return blocked(why).as_part_of(Work::Recover, []);
    };
    let plan = match o.members.get(&survivor) {
        None => Plan::new(Step::Await, format!("{name} does not answer")),
        Some(member) => match objection(o, name, lost, (survivor, member)) {
            Some(why) => blocked(why),
            None => alone(o, wish, lost, (survivor, member)),
        },
    };
    plan.as_part_of(Work::Recover, [survivor])
}

/// Why a member cannot be the one that goes on.
fn objection(
    o: &Observed,
    name: &str,
    lost: Identity,
    (survivor, member): (Ordinal, &Member),
) -> Option<String> {
    let known = member.configuration.members().any(|(id, _)| id == member.id);
    if member.cluster != Some(lost) || !member.is_fit() || !known {
        return Some(format!("the disk of {name} is no member's of the group: name another"));
    }
    if o.pods.get(&survivor).is_none_or(|pod| pod.deleting) || o.condemned(survivor) {
        return Some(format!("{name} is ending, or its volume is deleted: name another"));
    }
    // As Raft judges whose vote may go to whom (Raft dissertation, section 3.6.1).
    let far = |member: &Member| (member.last_term, member.last);
    let others = o.members.iter().filter(|(_, other)| other.cluster == Some(lost));
    let further = others.filter(|(_, other)| other.unfit.is_empty() && far(other) > far(member));
    let (ordinal, _) = further.max_by_key(|(_, other)| far(other))?;
    let other = o.cluster.pod_name(*ordinal);
    Some(format!("{other} has more of the log than {name}: name it as the survivor"))
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
    let unknown = others
        .iter()
        .filter(|(id, name)| at(**id).is_none() && !wish.accept_running.contains(name));
    let unknown: Vec<&str> = unknown.map(|(_, name)| name.as_str()).collect();
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        return blocked(format!(
            "nobody knows whether {names} still run as voters of the lost group (pods of these \
             names that are there now may be new): if you know that none does, name them in \
             spec.recovery.acceptRunning"
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
    let is_on = ours.filter(|member| member.cluster == group && member.is_fit());
    if let Some(member) = is_on {
        return of(match alone(&member) {
            true => Plan::new(Step::Born, format!("{} goes on alone", birth.seed)),
            false => Plan::new(Step::Recover { survivor }, "half-way: it is told again"),
        });
    }
    // A majority came back: it is the group, and the survivor refuses what it is told.
    if let Some((seed, member)) = knows_a_leader(o, lost) {
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
    if ours.is_none() || member.cluster != Some(lost) || !member.is_fit() {
        let why = format!(
            "the disk of {}, which was to go on, is of no use: name another in \
             spec.recovery.survivor",
            birth.seed
        );
        return of(blocked(why));
    }
    of(Plan::new(Step::Recover { survivor }, format!("{} is to go on alone", birth.seed)))
}
