//! What one pass does: at most one of these.

use crate::observed::{Identity, Ordinal};
use std::collections::BTreeMap;

/// One step. What can destroy names exactly what it was decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Rest,
    /// Something is on its way: look again soon.
    Await,
    /// Nothing can be done before somebody acts.
    Blocked,
    /// Makes the plain objects as wanted: Services, settings, certificates.
    Settle,
    /// Makes the StatefulSet, or makes its template the wanted one; `replicas` as they are. From
    /// the state that was read, or only if there still is none.
    Template {
        /// Pods that it is to have.
        replicas: u32,
    },
    /// More, or fewer, pods.
    Scale {
        /// From the set that was read.
        uid: String,
        /// And its state.
        resource_version: String,
        /// Pods that it is to have.
        replicas: u32,
    },
    /// Makes the disruption budget allow so many pods to be away; `None`: removes it.
    Budget(Option<u32>),
    /// Writes down who founds the group, and as what. The identity of the group is made there.
    Conceive {
        /// The pod.
        seed: Ordinal,
        /// Its member.
        member: Identity,
    },
    /// Writes down that an existing group, left on disks, is this resource's.
    Adopt {
        /// A pod that is in it.
        seed: Ordinal,
        /// Its member.
        member: Identity,
        /// The group.
        cluster: Identity,
    },
    /// Writes down who goes on alone where a majority is lost. The new identity is made there.
    Forsake {
        /// Its pod.
        survivor: Ordinal,
        /// Who.
        member: Identity,
        /// The group that is lost.
        lost: Identity,
        /// Seconds for which nothing is granted.
        hold_off: i64,
    },
    /// Has the survivor that is written down go on alone.
    Recover {
        /// Its pod.
        survivor: Ordinal,
    },
    /// Founds the group that is written down.
    Bootstrap {
        /// The pod.
        seed: Ordinal,
    },
    /// Writes down that the group is founded.
    Born,
    /// Changes the membership, at the leader.
    Change {
        /// The leader's pod.
        leader: Ordinal,
        /// The membership that this was decided about.
        expected: u64,
        /// Who shall vote.
        voters: BTreeMap<Identity, String>,
        /// Who shall listen.
        learners: BTreeMap<Identity, String>,
    },
    /// Hands Raft leadership over.
    Transfer {
        /// The leader's pod.
        leader: Ordinal,
        /// Whom to.
        to: Identity,
    },
    /// Tells a member not to stand.
    Drain(Ordinal),
    /// Tells a member that it may stand again.
    Undrain(Ordinal),
    /// Tells a member to be none for ever: it is none any more, or its disk lost what it had
    /// acknowledged and the leader listens to it no more. It may believe that it still is one.
    Retire {
        /// Its pod.
        pod: Ordinal,
        /// Who.
        member: Identity,
    },
    /// Removes a working pod, as the disruption budget allows.
    Evict {
        /// Which.
        pod: Ordinal,
        /// And which of that name.
        uid: String,
    },
    /// Removes a pod that does not work.
    Delete {
        /// Which.
        pod: Ordinal,
        /// And which of that name.
        uid: String,
        /// And its state: one that works by now stays.
        resource_version: String,
    },
    /// Changes the sidecar's image in a running pod.
    Patch {
        /// Which.
        pod: Ordinal,
        /// And which of that name.
        uid: String,
        /// And its state.
        resource_version: String,
    },
    /// Fetches the sidecar's image onto a node, before any pod there needs it.
    Pull {
        /// Its name.
        node: String,
    },
    /// Removes the pod that fetched an image onto a node.
    Unpull {
        /// Its name.
        node: String,
        /// Which pod of that name.
        uid: String,
    },
    /// Makes the leader's Service lead to this pod; `None`: to nobody.
    Route(Option<Ordinal>),
    /// Has a volume grow to the wanted size.
    Enlarge {
        /// Of which pod.
        claim: Ordinal,
        /// And which of that name.
        uid: String,
        /// And its state.
        resource_version: String,
    },
    /// Deletes the volume of a member that is gone for good.
    Discard {
        /// Of which pod.
        claim: Ordinal,
        /// And which of that name.
        uid: String,
        /// And its state.
        resource_version: String,
    },
}

/// What the operator is about, for people and for the operator that comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Founding the group.
    Bootstrap,
    /// Changing the number of pods.
    Scale,
    /// Replacing pods by newer ones.
    Roll,
    /// Replacing a lost member.
    Replace,
    /// Going on from one survivor.
    Recover,
    /// Making volumes greater.
    Enlarge,
}

impl Work {
    /// As it stands in `status.operation.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Work::Bootstrap => "Bootstrap",
            Work::Scale => "Scale",
            Work::Roll => "Roll",
            Work::Replace => "Replace",
            Work::Recover => "Recover",
            Work::Enlarge => "Enlarge",
        }
    }
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// What it is part of.
    pub work: Option<Work>,
    /// The pods that the work is about.
    pub targets: Vec<Ordinal>,
    /// Why, in a sentence; what is waited for, or what blocks.
    pub why: String,
}

impl Plan {
    /// A step, and why.
    #[must_use]
    pub fn new(step: Step, why: impl Into<String>) -> Plan {
        Plan { step, work: None, targets: Vec::new(), why: why.into() }
    }

    /// The same, as part of this work on these pods.
    #[must_use]
    pub fn as_part_of(self, work: Work, targets: impl IntoIterator<Item = Ordinal>) -> Plan {
        Plan { work: Some(work), targets: targets.into_iter().collect(), ..self }
    }
}
