//! The conditions, as tools read them: `Ready`, `Reconciling` and `Stalled` above all.
//!
//! Invariants: each has a reason in one word and a sentence; its time moves only when it flips;
//! conditions of other types stay as they are.

use crate::crd::RaftClusterStatus;
use crate::observed::{Observed, Ordinal};
use crate::step::{Plan, Step, Work};
use crate::validate;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// A condition's type; what it says; why, in one word and in a sentence.
type Told = (&'static str, Says, &'static str, String);

/// Told once there was one.
const CONFLICT: &str = "BudgetConflict";

/// What a condition says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    Unknown,
}

impl Says {
    fn of(yes: bool) -> Says {
        if yes { Says::Yes } else { Says::No }
    }

    fn word(self) -> &'static str {
        match self {
            Says::Yes => "True",
            Says::No => "False",
            Says::Unknown => "Unknown",
        }
    }
}

/// All conditions of this status.
pub(super) fn conditions(o: &Observed, plan: &Plan, told: &RaftClusterStatus) -> Vec<Condition> {
    let ours = [
        ready(o, plan, told),
        reconciling(o, plan, told),
        stalled(o, plan),
        quorum(o),
        degraded(o),
        paused(o),
    ];
    let before = &o.cluster.status.conditions;
    let foreign = before.iter().filter(|one| ours.iter().all(|ours| ours.0 != one.type_));
    let foreign = foreign.filter(|one| one.type_ != CONFLICT).cloned();
    let foreign: Vec<Condition> = foreign.collect();
    ours.into_iter().chain(conflict(o)).map(|told| condition(o, told)).chain(foreign).collect()
}

fn condition(o: &Observed, (kind, says, reason, message): Told) -> Condition {
    let before = o.cluster.status.conditions.iter().find(|one| one.type_ == kind);
    let same = before.filter(|one| one.status == says.word());
    let now = || Time(Timestamp::from_second(o.now_s).unwrap_or(Timestamp::UNIX_EPOCH));
    Condition {
        last_transition_time: same.map_or_else(now, |one| one.last_transition_time.clone()),
        message,
        observed_generation: Some(o.cluster.generation),
        reason: reason.to_owned(),
        status: says.word().to_owned(),
        type_: kind.to_owned(),
    }
}

/// What of that which is wanted is not so; `None`: all is as wanted.
pub(super) fn unmet(o: &Observed) -> Option<String> {
    let Some((_, leader)) = o.leader() else {
        return Some("no member leads with a majority behind it".to_owned());
    };
    let known = &leader.configuration;
    let wanted = o.cluster.voters();
    if known.voters.len() != wanted || !known.outgoing.is_empty() {
        return Some(format!("{} members vote, and {wanted} are to", known.voters.len()));
    }
    (0..o.cluster.replicas()).find_map(|ordinal| missing(o, ordinal))
}

fn missing(o: &Observed, ordinal: Ordinal) -> Option<String> {
    let name = o.cluster.pod_name(ordinal);
    let (_, leader) = o.leader()?;
    match (o.pods.get(&ordinal), o.members.get(&ordinal)) {
        (None, _) => Some(format!("{name} is not there")),
        (Some(pod), _) if pod.deleting => Some(format!("{name} is ending")),
        (Some(pod), _) if pod.restarting => {
            Some(format!("{name} still runs its image from before"))
        }
        (Some(pod), _) if !pod.ready => Some(format!("{name} is not ready")),
        (_, None) => Some(format!("{name} does not answer")),
        (_, Some(member)) if !leader.configuration.members().any(|(id, _)| id == member.id) => {
            Some(format!("{name} is no member"))
        }
        (_, Some(member)) if !leader.hears(member.id) => {
            Some(format!("the leader does not hear {name}"))
        }
        _ => None,
    }
}

fn ready(o: &Observed, plan: &Plan, told: &RaftClusterStatus) -> Told {
    if told.phase == "Stopped" {
        return ("Ready", Says::Yes, "Stopped", "no pods are wanted".to_owned());
    }
    // What disturbs nobody, like a certificate's renewal, is no work.
    let rests = plan.step != Step::Blocked && plan.work.is_none();
    let (says, reason, message) = match unmet(o) {
        _ if told.phase == "Recovering" => (Says::No, "UnderWay", plan.why.clone()),
        _ if o.born().is_none() => (Says::No, "Creating", "the group is not founded".to_owned()),
        Some(unmet) if told.leader.is_none() => (Says::No, "NoQuorum", unmet),
        Some(unmet) => (Says::No, "NotAsWanted", unmet),
        None if !rests => (Says::No, "UnderWay", plan.why.clone()),
        None => (Says::Yes, "AsWanted", "all that are wanted are members and ready".to_owned()),
    };
    ("Ready", says, reason, message)
}

fn reconciling(o: &Observed, plan: &Plan, told: &RaftClusterStatus) -> Told {
    let no = |reason, message: &str| ("Reconciling", Says::No, reason, message.to_owned());
    match &plan.step {
        _ if o.cluster.spec.paused => no("Paused", "spec.paused is set"),
        Step::Rest => no("AsWanted", "nothing is under way"),
        Step::Blocked => no("Stalled", "nothing can be done before somebody acts"),
        _ => {
            let phases = [
                "Creating",
                "Scaling",
                "Rolling",
                "Enlarging",
                "Repairing",
                "Recovering",
                "NoQuorum",
            ];
            let reason = phases.into_iter().find(|phase| *phase == told.phase);
            ("Reconciling", Says::Yes, reason.unwrap_or("Settling"), plan.why.clone())
        }
    }
}

fn stalled(o: &Observed, plan: &Plan) -> Told {
    if let Some(fault) = validate::fault(&o.cluster.spec) {
        return ("Stalled", Says::Yes, "TemplateInvalid", fault);
    }
    match (&plan.step, plan.work) {
        (Step::Blocked, Some(Work::Roll)) => {
            ("Stalled", Says::Yes, "UpdateHalted", plan.why.clone())
        }
        (Step::Blocked, _) => ("Stalled", Says::Yes, "Blocked", plan.why.clone()),
        _ => ("Stalled", Says::No, "NotBlocked", "nobody needs to act".to_owned()),
    }
}

fn quorum(o: &Observed) -> Told {
    let kind = "QuorumAvailable";
    let ours = |cluster| o.born().is_some() && cluster == o.born();
    if o.leader().is_some() {
        return (kind, Says::Yes, "Led", "a member leads with a majority behind it".to_owned());
    }
    if o.members.values().any(|member| ours(member.cluster)) {
        return (kind, Says::No, "NoLeader", "no member leads with a majority".to_owned());
    }
    if o.born().is_none() && o.lost_group().is_some() {
        return (kind, Says::No, "Recovering", "one member is to go on alone".to_owned());
    }
    let stopped = o.cluster.replicas() == 0;
    let reason = if stopped { "Stopped" } else { "NobodyAnswers" };
    (kind, Says::Unknown, reason, "no member of the group answers".to_owned())
}

/// Whether fewer failures are survived than the spec asks for.
fn degraded(o: &Observed) -> Told {
    let kind = "Degraded";
    let wanted = o.cluster.voters();
    if o.born().is_none() || o.cluster.replicas() == 0 {
        return (kind, Says::No, "NoGroup", "there is no group that could be".to_owned());
    }
    let Some((_, leader)) = o.leader() else {
        return (kind, Says::Yes, "NoQuorum", "no majority has contact".to_owned());
    };
    let voters = leader.configuration.voters.keys();
    let heard = voters.filter(|id| leader.hears(**id)).count();
    let message = format!("{heard} of {wanted} voters have contact");
    let less = heard < wanted;
    let reason = if less { "VotersMissing" } else { "AllVotersThere" };
    (kind, Says::of(less), reason, message)
}

fn conflict(o: &Observed) -> Option<Told> {
    let told = o.cluster.status.conditions.iter().any(|one| one.type_ == CONFLICT);
    let Some(rival) = o.rivals.first() else {
        let words = "no other disruption budget matches the pods".to_owned();
        return told.then_some((CONFLICT, Says::No, "NoRival", words));
    };
    let words = format!(
        "the disruption budget {rival} matches pods of this group, so the operator keeps none of \
         its own: delete that one, or narrow its selector"
    );
    Some((CONFLICT, Says::Yes, "RivalBudget", words))
}

fn paused(o: &Observed) -> Told {
    match o.cluster.spec.paused {
        true => ("Paused", Says::Yes, "Asked", "spec.paused is set: nothing is changed".to_owned()),
        false => ("Paused", Says::No, "NotAsked", "spec.paused is not set".to_owned()),
    }
}
