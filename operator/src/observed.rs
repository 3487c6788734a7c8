//! What one pass looks at: plain data, read fresh, with no client in it.
//!
//! Invariants: everything that `validate`, `plan` and `status` decide from is in here, the time
//! too, so that equal observations give equal decisions. Pods and volumes are known by ordinal,
//! members by identity: a pod's name says nothing about its disk.

use crate::crd::{RaftClusterSpec, RaftClusterStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The number at the end of a pod's name.
pub type Ordinal = u32;

/// A member's identity, or a group's: 128 random bits, made with a disk or at a foundation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub u128);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Identity {
    /// From the 16 bytes of the contract; `None` for any other number of them, or all zero.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Identity> {
        let id = <[u8; 16]>::try_from(bytes).map(u128::from_le_bytes).ok()?;
        (id != 0).then_some(Identity(id))
    }

    /// As the contract carries it.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    /// From 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Identity> {
        u128::from_str_radix(text, 16).ok().filter(|id| *id != 0).map(Identity)
    }
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The resource.
    pub cluster: Cluster,
    /// Seconds since 1970.
    pub now_s: i64,
    /// Names of the plain objects that are missing or not as wanted: applying them disturbs nobody.
    pub stale: Vec<String>,
    /// The StatefulSet.
    pub set: Option<Set>,
    /// Pods of the set.
    pub pods: BTreeMap<Ordinal, Pod>,
    /// Volumes of members' logs.
    pub claims: BTreeMap<Ordinal, Claim>,
    /// Pods of ours that fetch an image onto a node, by node.
    pub pulls: BTreeMap<String, Pull>,
    /// What each pod's sidecar says of itself; absent: it did not answer.
    pub members: BTreeMap<Ordinal, Member>,
    /// Where the leader's Service leads; `None`: the resource asks for none, or there is none yet.
    pub route: Option<Route>,
    /// What the disruption budget allows now; `None`: there is none.
    pub budget: Option<Budget>,
    /// Names of other disruption budgets that match pods of ours. Two budgets over one pod make
    /// every eviction fail, so ours gives way.
    pub rivals: Vec<String>,
}

/// The resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub namespace: String,
    /// Which of all that had this name.
    pub uid: String,
    /// Counts edits of the spec.
    pub generation: i64,
    /// What is wanted.
    pub spec: RaftClusterSpec,
    /// What was last told.
    pub status: RaftClusterStatus,
    /// What pods are to be made from now: the hash of the template, without the sidecar's image.
    pub template_hash: String,
    /// The sidecar's image.
    pub image: String,
}

impl Cluster {
    /// The pod with this ordinal.
    #[must_use]
    pub fn pod_name(&self, ordinal: Ordinal) -> String {
        format!("{}-{ordinal}", self.name)
    }

    /// The ordinal of a pod, or member, of this name.
    #[must_use]
    pub fn ordinal(&self, pod: &str) -> Option<Ordinal> {
        let digits = pod.strip_prefix(&self.name)?.strip_prefix('-')?;
        let ordinal = digits.parse().ok()?;
        (self.pod_name(ordinal) == pod).then_some(ordinal)
    }

    /// Pods that are wanted.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        u32::try_from(self.spec.replicas).unwrap_or(0)
    }

    /// Members that are to vote: the largest odd number of the pods, at most `maxVoters`.
    #[must_use]
    pub fn voters(&self) -> usize {
        let most = u32::try_from(self.spec.max_voters).unwrap_or(1).max(1);
        let most = self.replicas().min(most);
        let odd = if most % 2 == 0 { most.saturating_sub(1) } else { most };
        usize::try_from(odd).unwrap_or(1)
    }
}

/// The StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Which of all that had this name.
    pub uid: String,
    /// The state that was read.
    pub resource_version: String,
    /// Pods that it makes.
    pub replicas: u32,
    /// Whether its template is the wanted one, and it notes the number of pods that is wanted now.
    /// So an edit of that number changes its state, and whoever still means to remove pods that
    /// were not wanted before is refused: the membership alone may have moved since.
    pub current: bool,
    /// On its way out.
    pub deleting: bool,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Which of all that had this name.
    pub uid: String,
    /// The state that was read.
    pub resource_version: String,
    /// On its way out.
    pub deleting: bool,
    /// As the kubelet judges.
    pub ready: bool,
    /// The hash of the template that it was made from.
    pub template_hash: String,
    /// The sidecar's image that it is to run.
    pub image: String,
    /// The image that its sidecar does run, as the kubelet tells; empty: none.
    pub running_image: String,
    /// Its image was changed in place, and the container from before is still the one that runs.
    pub restarting: bool,
    /// Where.
    pub node: String,
}

/// A pod that fetches an image onto a node, and starts it there once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pull {
    /// Which of all that had this name.
    pub uid: String,
    /// On its way out.
    pub deleting: bool,
    /// The image.
    pub image: String,
    /// It was fetched, and could be started.
    pub done: bool,
    /// Why not, so far; empty: it is under way, or done.
    pub failed: String,
}

/// The volume of a member's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Which of all that had this name.
    pub uid: String,
    /// The state that was read.
    pub resource_version: String,
    /// Somebody deleted it: it goes once no pod uses it.
    pub deleting: bool,
    /// The resource that it was made for.
    pub made_for: String,
    /// There is a volume, and the claim asks for less than is wanted now.
    pub small: bool,
}

/// Where the leader's Service leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The pod's UID; empty: nowhere.
    pub pod: String,
    /// Whether the ports are the wanted ones.
    pub current: bool,
}

/// The disruption budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Pods that may be away.
    pub max_unavailable: u32,
    /// Whether the controller has seen that.
    pub observed: bool,
}

/// What a sidecar says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Who, by its disk.
    pub id: Identity,
    /// Its group; `None` while it is blank.
    pub cluster: Option<Identity>,
    /// Its disk is of no use: it answers, and never votes.
    pub unfit: String,
    /// It was told to retire.
    pub retired: bool,
    /// It does not stand for leadership.
    pub draining: bool,
    /// It caught up since its start.
    pub caught_up: bool,
    /// It leads.
    pub leads: bool,
    /// Who leads, as it knows; itself, if it does.
    pub leader: Option<Identity>,
    /// Its term.
    pub term: u64,
    /// The last entry of its log.
    pub last: u64,
    /// The term of that entry.
    pub last_term: u64,
    /// The highest token that it knows of.
    pub last_token: u64,
    /// The last entry that it knows to be committed.
    pub commit: u64,
    /// The membership, as it knows it.
    pub configuration: Configuration,
    /// As the leader: what it knows of the others.
    pub followers: BTreeMap<Identity, Follower>,
    /// Its version.
    pub version: String,
    /// Who holds the elections that it was asked about.
    pub holders: BTreeMap<String, Identity>,
}

/// The membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The index of its entry; 0: none.
    pub index: u64,
    /// Who votes, with names.
    pub voters: BTreeMap<Identity, String>,
    /// During a change: who voted before.
    pub outgoing: BTreeMap<Identity, String>,
    /// Who listens.
    pub learners: BTreeMap<Identity, String>,
}

impl Configuration {
    /// All of them, with names.
    pub fn members(&self) -> impl Iterator<Item = (Identity, &str)> {
        let all = self.voters.iter().chain(&self.outgoing).chain(&self.learners);
        all.map(|(id, name)| (*id, name.as_str()))
    }

    /// Whether a majority of the voters of each half agrees.
    #[must_use]
    pub fn has_quorum(&self, agrees: impl Fn(&Identity) -> bool) -> bool {
        let of = |half: &BTreeMap<Identity, String>| {
            half.keys().filter(|id| agrees(id)).count() * 2 > half.len()
        };
        of(&self.voters) && (self.outgoing.is_empty() || of(&self.outgoing))
    }

    /// Names of all who vote in either half.
    #[must_use]
    pub fn voting(&self) -> BTreeSet<&str> {
        self.voters.values().chain(self.outgoing.values()).map(String::as_str).collect()
    }
}

/// What the leader knows of another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    /// Its log equals the leader's so far.
    pub matched: u64,
    /// Milliseconds since it answered last.
    pub silent_ms: u64,
    /// Its disk lost what it had acknowledged.
    pub quarantined: bool,
}

/// A follower that answered within this time has contact.
pub const CONTACT_MS: u64 = 2_000;
/// A log that ends so little before the leader's has caught up.
pub const LAG_MAX: u64 = 256;

impl Member {
    /// Whether this leader has contact with a member.
    #[must_use]
    pub fn hears(&self, member: Identity) -> bool {
        let heard = |of: &Follower| of.silent_ms < CONTACT_MS && !of.quarantined;
        member == self.id || self.followers.get(&member).is_some_and(heard)
    }

    /// Whether a member has contact with this leader, and almost all of its log.
    #[must_use]
    pub fn has_beside(&self, member: Identity) -> bool {
        // A short log is near by its length alone: something of it must be there.
        let near =
            |of: &Follower| of.matched > 0 && self.last.saturating_sub(of.matched) <= LAG_MAX;
        member == self.id || self.hears(member) && self.followers.get(&member).is_some_and(near)
    }

    /// Whether this leader's membership is committed. Before that another leader may bring the one
    /// from before back, and nothing may be built on it.
    #[must_use]
    pub fn committed(&self) -> bool {
        self.commit >= self.configuration.index
    }

    /// Whether a majority of these is heard, without those in `except`.
    #[must_use]
    pub fn majority<'a>(
        &self,
        of: impl IntoIterator<Item = &'a Identity>,
        except: &BTreeSet<Identity>,
    ) -> bool {
        let (mut all, mut heard) = (0, 0);
        for id in of {
            all += 1;
            heard += usize::from(self.hears(*id) && !except.contains(id));
        }
        heard * 2 > all
    }

    /// Whether its disk can still be one of a voter's.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        self.unfit.is_empty() && !self.retired
    }
}

impl Observed {
    /// The member that leads the group, with a majority of both halves behind it, and its ordinal.
    #[must_use]
    pub fn leader(&self) -> Option<(Ordinal, &Member)> {
        let born = self.born()?;
        let leads = |(_, member): &(&Ordinal, &Member)| {
            let known = &member.configuration;
            member.leads && member.cluster == Some(born) && known.has_quorum(|id| member.hears(*id))
        };
        let leader = self.members.iter().filter(leads).max_by_key(|(_, member)| member.term);
        let (ordinal, leader) = leader?;
        // A voter of a later term: somebody else leads, or will within moments.
        let votes = |id: &Identity| {
            let Configuration { voters, outgoing, .. } = &leader.configuration;
            voters.contains_key(id) || outgoing.contains_key(id)
        };
        let later = |member: &Member| member.term > leader.term && votes(&member.id);
        (!self.members.values().any(later)).then_some((*ordinal, leader))
    }

    /// The group, once it is founded.
    #[must_use]
    pub fn born(&self) -> Option<Identity> {
        let birth = self.cluster.status.birth.as_ref()?;
        birth.confirmed.then(|| Identity::parse(&birth.cluster_id)).flatten()
    }

    /// The group that was lost, if this one goes on from a survivor of it.
    #[must_use]
    pub fn lost_group(&self) -> Option<Identity> {
        let recovers = self.cluster.status.birth.as_ref()?.recovers.as_ref()?;
        Identity::parse(&recovers.cluster_id)
    }

    /// Whether somebody deleted the volume of a pod: whatever is on it goes with the pod.
    #[must_use]
    pub fn condemned(&self, ordinal: Ordinal) -> bool {
        self.claims.get(&ordinal).is_some_and(|claim| claim.deleting)
    }

    /// The newest membership that anybody of the group tells.
    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        self.configuration_of(self.born()?)
    }

    /// The newest membership that anybody of a group tells.
    #[must_use]
    pub fn configuration_of(&self, group: Identity) -> Option<&Configuration> {
        let ours = self.members.values().filter(|member| member.cluster == Some(group));
        ours.map(|member| &member.configuration).max_by_key(|known| known.index)
    }
}
