//! A cluster of plain structs: what is, what the operator sees of it, and time.

use crate::dice::Dice;
use crate::raft::{Disk, Group};
use quorate_operator::crd::{RaftClusterSpec, Repair, Storage};
use quorate_operator::observed::{self, Budget, Cluster, Identity, Observed, Ordinal, Pull, Set};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    pub uid: String,
    pub rv: u64,
    pub deleting: bool,
    pub template: String,
    pub image: String,
    /// Which container runs; 0: none.
    pub container: u64,
    /// The container that ran when the image was changed.
    pub patched: u64,
    pub runs: String,
    pub ready: bool,
    /// Its node is cut off from everything.
    pub cut: bool,
    /// The operator does not reach it.
    pub deaf: bool,
    pub node: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub uid: String,
    pub rv: u64,
    pub deleting: bool,
    pub made_for: String,
    pub size: String,
    pub disk: Option<Identity>,
}

#[derive(Clone, Debug)]
pub struct StatefulSet {
    pub uid: String,
    pub rv: u64,
    pub replicas: u32,
    pub template: String,
    pub image: String,
    /// The number of pods that was wanted when it was written: an edit makes an older view of it
    /// useless for whoever still means to act on that.
    pub wanted: i32,
}

/// See the module.
pub struct World {
    pub dice: Dice,
    pub now_s: i64,
    pub cluster: Cluster,
    /// The resource's version.
    pub resource: u64,
    pub set: Option<StatefulSet>,
    pub pods: BTreeMap<Ordinal, Pod>,
    pub claims: BTreeMap<Ordinal, Claim>,
    pub pulls: BTreeMap<String, Pull>,
    pub budget: Option<Budget>,
    pub group: Group,
    pub stale: bool,
    /// Faults so far: what was seen before one may be wrong.
    pub faults: u64,
    /// What was seen lately, for those who act on old views.
    pub seen: Vec<Seen>,
    /// Steps decided on, and not done yet, by operator.
    pub pending: [Option<crate::operator::Pending>; 2],
    pub done: BTreeMap<&'static str, u64>,
    pub refused: u64,
    pub trace: Vec<String>,
    versions: u64,
}

/// What was seen, at which version of the resource, after how many faults.
#[derive(Clone)]
pub struct Seen {
    pub o: Observed,
    pub resource: u64,
    pub faults: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let repair = Repair { unreachable_seconds: 30 };
        let replicas = i32::try_from(dice.below(7) + 1).unwrap();
        let storage = Storage { size: "1Gi".to_owned(), ..Storage::default() };
        let spec =
            RaftClusterSpec { replicas, max_voters: 5, repair, storage, ..Default::default() };
        let cluster = Cluster {
            name: "demo".to_owned(),
            namespace: "default".to_owned(),
            uid: "resource-0".to_owned(),
            generation: 1,
            spec,
            template_hash: "t".to_owned(),
            image: "i".to_owned(),
            ..Default::default()
        };
        World {
            dice,
            now_s: 1_000_000,
            cluster,
            resource: 1,
            set: None,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            pulls: BTreeMap::new(),
            budget: None,
            group: Group::default(),
            stale: true,
            faults: 0,
            seen: Vec::new(),
            pending: [None, None],
            done: BTreeMap::new(),
            refused: 0,
            trace: Vec::new(),
            versions: 0,
        }
    }

    pub fn version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    /// Remembers what happened, and says the same only once.
    pub fn note(&mut self, what: String) {
        let last = self.trace.last().and_then(|line| line.split_once(' '));
        if last.is_none_or(|(_, last)| last != what) {
            self.trace.push(format!("{} {what}", self.now_s));
        }
    }

    pub fn fresh(&mut self, what: &str) -> String {
        format!("{what}-{}", self.version())
    }

    /// The member in a pod, while its container runs.
    pub fn member(&self, ordinal: Ordinal) -> Option<Identity> {
        self.pods.get(&ordinal).filter(|pod| pod.container != 0)?;
        self.claims.get(&ordinal)?.disk
    }

    pub fn disk(&mut self, ordinal: Ordinal) -> Option<&mut Disk> {
        let id = self.claims.get(&ordinal)?.disk?;
        self.group.disks.get_mut(&id)
    }

    /// Tells the group who runs and is connected.
    pub fn connect(&mut self) {
        let up = { self.pods.iter() }.filter(|(_, pod)| !pod.cut);
        self.group.up = up.filter_map(|(ordinal, _)| self.member(*ordinal)).collect();
    }

    /// Time goes on by a little, for the group too.
    pub fn tick(&mut self) {
        self.now_s += i64::try_from(self.dice.below(6)).unwrap();
        self.kubernetes();
        self.connect();
        if self.dice.below(3) > 0 {
            self.group.step(&mut self.dice);
        }
    }

    /// What an operator sees.
    pub fn observe(&mut self) -> Seen {
        let members = self.pods.iter().filter(|(_, pod)| !pod.cut && !pod.deaf);
        let members = members.filter_map(|(ordinal, _)| {
            let id = self.member(*ordinal)?;
            self.group.disks.contains_key(&id).then(|| (*ordinal, self.group.tells(id)))
        });
        let pod = |pod: &Pod| observed::Pod {
            uid: pod.uid.clone(),
            resource_version: pod.rv.to_string(),
            deleting: pod.deleting,
            ready: pod.ready,
            template_hash: pod.template.clone(),
            image: pod.image.clone(),
            running_image: pod.runs.clone(),
            restarting: pod.container != 0 && pod.patched == pod.container,
            node: format!("node{}", pod.node),
        };
        let claim = |claim: &Claim| observed::Claim {
            uid: claim.uid.clone(),
            resource_version: claim.rv.to_string(),
            deleting: claim.deleting,
            made_for: claim.made_for.clone(),
            small: claim.size < self.cluster.spec.storage.size,
        };
        let Cluster { template_hash, image, spec, .. } = &self.cluster;
        let set = |set: &StatefulSet| Set {
            uid: set.uid.clone(),
            resource_version: set.rv.to_string(),
            replicas: set.replicas,
            current: (&set.template, &set.image, set.wanted)
                == (template_hash, image, spec.replicas),
            deleting: false,
        };
        let o = Observed {
            cluster: self.cluster.clone(),
            now_s: self.now_s,
            stale: if self.stale { vec!["ConfigMap".to_owned()] } else { Vec::new() },
            set: self.set.as_ref().map(set),
            pods: self.pods.iter().map(|(at, it)| (*at, pod(it))).collect(),
            claims: self.claims.iter().map(|(at, it)| (*at, claim(it))).collect(),
            members: members.collect(),
            pulls: self.pulls.clone(),
            route: None,
            budget: self.budget,
            rivals: Vec::new(),
        };
        Seen { o, resource: self.resource, faults: self.faults }
    }

    /// Everything, for whoever reads a failure.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let lines = if std::env::var_os("TRACE").is_some() { usize::MAX } else { 40 };
        let tail = self.trace.len().saturating_sub(lines);
        for line in &self.trace[tail..] {
            text.push_str(&format!("  {line}\n"));
        }
        let spec = &self.cluster.spec;
        text.push_str(&format!(
            "replicas {} maxVoters {} set {:?} budget {:?}\nbirth {:?}\nleader {:?} led {:?}\n",
            spec.replicas,
            spec.max_voters,
            self.set,
            self.budget,
            self.cluster.status.birth,
            self.group.leader,
            self.group.led(),
        ));
        for (ordinal, pod) in &self.pods {
            text.push_str(&format!("pod {ordinal} {pod:?}\n"));
        }
        for (ordinal, claim) in &self.claims {
            let disk = claim.disk.and_then(|id| self.group.disks.get(&id));
            let disk = disk.map(|disk| {
                let Disk { cluster, unfit, quarantined, retired, .. } = disk;
                format!("{cluster:?} unfit {unfit} quarantined {quarantined} retired {retired}")
            });
            text.push_str(&format!("claim {ordinal} {claim:?} {disk:?}\n"));
        }
        text
    }
}
