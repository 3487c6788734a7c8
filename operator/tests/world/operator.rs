//! The operator's passes, and what the API server and the members make of its steps. Every guard
//! that a step carries is looked at, as they would, and what must never come of a step is checked.

use crate::kube::BAD_IMAGE;
use crate::raft::{Entry, SCALE};
use crate::world::{Seen, StatefulSet, World};
use quorate_operator::crd::Birth;
use quorate_operator::observed::{Budget, Configuration, Identity, Observed, Ordinal, Pull};
use quorate_operator::plan::plan;
use quorate_operator::status::status;
use quorate_operator::step::{Plan, Step};

/// A step that an operator is about to do.
#[derive(Clone)]
pub struct Pending {
    pub plan: Plan,
    pub seen: Seen,
}

impl World {
    /// An operator looks, decides, and writes down what it is about; `late`: from an older view.
    pub fn decide(&mut self, late: bool) -> Option<Pending> {
        let fresh = self.observe();
        self.seen.push(fresh.clone());
        if self.seen.len() > 12 {
            self.seen.remove(0);
        }
        let length = u64::try_from(self.seen.len()).unwrap();
        let at = usize::try_from(self.dice.below(length)).unwrap();
        let seen = if late { self.seen[at].clone() } else { fresh };
        let plan = plan(&seen.o);
        self.check_status(&seen.o, &plan);
        let mut told = status(&seen.o, &plan);
        self.found(&seen.o, &plan, &mut told.birth);
        if told != seen.o.cluster.status {
            if seen.resource != self.resource {
                self.refused += 1;
                return None;
            }
            self.cluster.status = told;
            self.resource += 1;
        }
        self.note(format!("{:?} [{}]", plan.step, plan.why));
        Some(Pending { plan, seen })
    }

    fn check_status(&self, o: &Observed, plan: &Plan) {
        let mut again = o.clone();
        again.cluster.status = status(o, plan);
        let next = quorate_operator::plan::plan(&again);
        if next == *plan {
            assert_eq!(status(&again, &next), again.cluster.status, "a status that changes alone");
        }
    }

    fn found(&mut self, o: &Observed, plan: &Plan, birth: &mut Option<Birth>) {
        let born = |seed: Ordinal, member: Identity, cluster: Identity| Birth {
            seed: o.cluster.pod_name(seed),
            member_id: member.to_string(),
            cluster_id: cluster.to_string(),
            epoch: 1,
            last_n: "0".to_owned(),
            confirmed: false,
            recovers: None,
        };
        match &plan.step {
            Step::Conceive { seed, member } => {
                let before = birth.as_ref().is_some_and(|birth| birth.confirmed);
                assert!(!before, "a second foundation");
                let cluster = Identity(u128::from(self.version()));
                // Nothing was promised by a group whose foundation was never confirmed.
                self.group.committed.clear();
                *birth = Some(born(*seed, *member, cluster));
            }
            Step::Adopt { seed, member, cluster } => {
                *birth = Some(Birth { confirmed: true, ..born(*seed, *member, *cluster) });
            }
            Step::Born => birth.iter_mut().for_each(|birth| birth.confirmed = true),
            _ => {}
        }
    }

    /// The step is done, or refused.
    pub fn act(&mut self, Pending { plan, seen }: Pending) {
        let done = match &plan.step {
            Step::Rest | Step::Await | Step::Blocked => return,
            Step::Conceive { .. } | Step::Adopt { .. } | Step::Born => true,
            Step::Settle => std::mem::take(&mut self.stale),
            Step::Budget(most) => {
                let budget = |max_unavailable| Budget { max_unavailable, observed: false };
                self.budget = most.map(budget);
                true
            }
            Step::Template { replicas } => self.template(&seen.o, *replicas),
            Step::Scale { uid, resource_version, replicas } => {
                let fresh = seen.faults == self.faults;
                let before = self.set.as_ref().map_or(0, |set| set.replicas);
                self.scale((uid.as_str(), resource_version.as_str()), *replicas)
                    && self.check_size(before, fresh)
            }
            Step::Evict { .. } | Step::Delete { .. } | Step::Patch { .. } => {
                self.touch(&plan.step, &seen)
            }
            Step::Pull { node } => self.pull(node, &seen.o.cluster.image),
            Step::Unpull { node, uid } => {
                let same = self.pulls.get(node).is_some_and(|pull| pull.uid == *uid);
                same && self.pulls.remove(node).is_some()
            }
            Step::Discard { claim, uid, resource_version } => {
                self.discard(*claim, uid, resource_version)
            }
            Step::Enlarge { claim, uid, resource_version } => self.enlarge(
                *claim,
                uid,
                resource_version,
                seen.o.cluster.spec.storage.size.clone(),
            ),
            _ => self.tell(&plan.step, &seen.o),
        };
        if done {
            *self.done.entry(kind(&plan.step)).or_default() += 1;
        } else {
            self.refused += 1;
        }
        let outcome = if done { "done" } else { "refused" };
        self.note(format!("{outcome} {:?}", plan.step));
    }

    fn template(&mut self, o: &Observed, replicas: u32) -> bool {
        let rv = self.version();
        let wanted = o.cluster.spec.replicas;
        let (template, image) = (o.cluster.template_hash.clone(), o.cluster.image.clone());
        let uid = match (&self.set, &o.set) {
            (None, None) => self.fresh("set"),
            (Some(set), Some(seen)) if set.rv.to_string() == seen.resource_version => {
                set.uid.clone()
            }
            _ => return false,
        };
        self.set = Some(StatefulSet { uid, rv, replicas, template, image, wanted });
        true
    }

    fn pull(&mut self, node: &str, image: &str) -> bool {
        let (uid, image) = (self.fresh("pull"), image.to_owned());
        let free = !self.pulls.contains_key(node);
        if free {
            self.pulls.insert(node.to_owned(), Pull { uid, image, ..Pull::default() });
        }
        free
    }

    fn scale(&mut self, (uid, rv): (&str, &str), replicas: u32) -> bool {
        let version = self.version();
        let Some(set) = &mut self.set else { return false };
        if set.uid != uid || set.rv.to_string() != rv {
            return false;
        }
        (set.replicas, set.rv) = (replicas, version);
        true
    }

    /// Who votes has a pod, or all have none; and then a majority's disks last.
    fn check_size(&self, before: u32, fresh: bool) -> bool {
        let replicas = self.set.as_ref().map_or(0, |set| set.replicas);
        if replicas >= before {
            return true;
        }
        for known in self.group.possible() {
            for (id, name) in known.voters.iter().chain(&known.outgoing) {
                let kept = self.cluster.ordinal(name).is_some_and(|at| at < replicas);
                assert!(kept || replicas == 0, "the pod of voter {name} ({id}) is scaled away");
            }
            let halves = [&known.voters, &known.outgoing];
            let born = self.cluster.status.birth.as_ref().is_some_and(|birth| birth.confirmed);
            for half in halves.into_iter().filter(|_| replicas == 0 && fresh && born) {
                let left = half.keys().filter(|id| self.lasts(id)).count();
                assert!(half.is_empty() || left * 2 > half.len(), "stopped, and never to start");
            }
        }
        true
    }

    fn touch(&mut self, step: &Step, seen: &Seen) -> bool {
        let (ordinal, uid, rv) = match step {
            Step::Evict { pod, uid } => (*pod, uid, None),
            Step::Delete { pod, uid, resource_version }
            | Step::Patch { pod, uid, resource_version } => (*pod, uid, Some(resource_version)),
            _ => return false,
        };
        let Some(pod) = self.pods.get(&ordinal).filter(|pod| pod.uid == *uid) else { return false };
        if rv.is_some_and(|rv| pod.rv.to_string() != *rv) || pod.deleting {
            return false;
        }
        let evict = matches!(step, Step::Evict { .. });
        if evict && !self.may_evict(ordinal) {
            return false;
        }
        self.check_majority(ordinal, seen.faults == self.faults);
        let patch = matches!(step, Step::Patch { .. });
        if !patch && self.claims.get(&ordinal).is_some_and(|claim| claim.deleting) {
            let disk = self.claims[&ordinal].disk;
            let left = disk.and_then(|id| self.left_without(id));
            let fresh = seen.faults == self.faults;
            let birth = self.cluster.status.birth.as_ref();
            let promised = birth.map_or(self.cluster.spec.adopt_existing, |birth| birth.confirmed);
            assert!(left.is_none() || !fresh || !promised, "a disk that the group needs: {left:?}");
        }
        if !patch {
            self.end(ordinal);
            return true;
        }
        let (version, image) = (self.version(), seen.o.cluster.image.clone());
        let pod = self.pods.get_mut(&ordinal).expect("it is there");
        let runs = pod.container != 0 && pod.image != BAD_IMAGE;
        assert!(image != BAD_IMAGE || !runs, "an image that nobody can pull, under a sidecar");
        (pod.image, pod.rv, pod.patched) = (image, version, pod.container);
        true
    }

    /// What is left without a pod is a majority, if there was one; a lone voter is alone.
    fn check_majority(&self, ordinal: Ordinal, fresh: bool) {
        let Some(known) = self.group.led().filter(|_| fresh) else { return };
        let id = self.claims.get(&ordinal).and_then(|claim| claim.disk);
        let works = |other: &&Identity| {
            let pod = self.pods.iter().find(|(at, _)| self.member(**at) == Some(**other));
            let disk = self.group.disks.get(*other);
            let stays = pod.is_some_and(|(_, pod)| {
                let restarting = pod.patched == pod.container;
                !pod.deleting && !pod.cut && !restarting
            });
            stays && disk.is_some_and(|disk| disk.intact()) && Some(**other) != id
        };
        // One whose disk lost something counts for nothing before, too.
        let worked = id.is_some_and(|id| self.group.up.contains(&id) && self.group.intact(&id));
        let halves = [&known.voters, &known.outgoing];
        for half in halves.into_iter().filter(|half| half.len() > 1 && worked) {
            let touched = half.keys().any(|other| Some(*other) == id);
            let left = half.keys().filter(works).count();
            assert!(!touched || left * 2 > half.len(), "{left} of {half:?} without {ordinal}");
        }
    }

    fn enlarge(&mut self, ordinal: Ordinal, uid: &str, rv: &str, size: String) -> bool {
        let version = self.version();
        let Some(claim) = self.claims.get_mut(&ordinal) else { return false };
        if claim.uid != uid || claim.rv.to_string() != rv {
            return false;
        }
        assert!(claim.size < size, "a volume of {} becomes {size}", claim.size);
        (claim.size, claim.rv) = (size, version);
        true
    }

    fn discard(&mut self, ordinal: Ordinal, uid: &str, rv: &str) -> bool {
        let version = self.version();
        let possible = self.group.possible();
        let Some(claim) = self.claims.get_mut(&ordinal) else { return false };
        if claim.uid != uid || claim.rv.to_string() != rv {
            return false;
        }
        (claim.deleting, claim.rv) = (true, version);
        let votes = |known: &Configuration| {
            let mut all = known.voters.keys().chain(known.outgoing.keys());
            all.any(|id| Some(*id) == claim.disk)
        };
        assert!(!possible.iter().any(votes), "the volume of a voter is discarded");
        true
    }

    /// What is told to a member; `expected_pod_uid` guards it.
    fn tell(&mut self, step: &Step, o: &Observed) -> bool {
        let ordinal = match step {
            Step::Bootstrap { seed } => *seed,
            Step::Change { leader, .. } | Step::Transfer { leader, .. } => *leader,
            Step::Drain(pod) | Step::Undrain(pod) | Step::Retire { pod, .. } => *pod,
            _ => return false,
        };
        let meant = o.pods.get(&ordinal).map(|pod| &pod.uid);
        let there = self.pods.get(&ordinal).filter(|pod| !pod.cut && Some(&pod.uid) == meant);
        let Some(id) = there.and_then(|_| self.member(ordinal)) else { return false };
        match step {
            Step::Bootstrap { .. } => self.bootstrap(id, ordinal, o),
            Step::Change { expected, voters, learners, .. } => {
                let (voters, learners) = (voters.clone(), learners.clone());
                let to = Configuration { voters, learners, ..Default::default() };
                self.group.change(id, *expected / SCALE, &to)
            }
            Step::Transfer { to, .. } => self.group.transfer(id, *to),
            Step::Drain(_) => {
                self.group.drain(id);
                true
            }
            Step::Undrain(_) => self.group.draining.remove(&id),
            Step::Retire { member, .. } if *member == id => {
                assert!(self.group.leader != Some(id), "a leader is retired");
                let disk = self.group.disks.get_mut(&id).expect("it runs");
                assert!(disk.quarantined, "a good disk is retired");
                disk.retired = true;
                true
            }
            _ => false,
        }
    }

    fn bootstrap(&mut self, id: Identity, ordinal: Ordinal, o: &Observed) -> bool {
        let Some(birth) = &o.cluster.status.birth else { return false };
        let cluster = Identity::parse(&birth.cluster_id);
        let disk = self.group.disks.get_mut(&id).expect("it runs");
        if Identity::parse(&birth.member_id) != Some(id) || disk.unfit {
            return false;
        }
        if disk.cluster.is_some() {
            return disk.cluster == cluster;
        }
        let voters = [(id, o.cluster.pod_name(ordinal))].into();
        let configuration = Some(Configuration { voters, index: 1, ..Default::default() });
        disk.cluster = cluster;
        (disk.term, disk.log) = (1, vec![Entry { term: 1, configuration }]);
        true
    }
}

/// A step's kind, for the count.
pub fn kind(step: &Step) -> &'static str {
    match step {
        Step::Rest => "Rest",
        Step::Await => "Await",
        Step::Blocked => "Blocked",
        Step::Settle => "Settle",
        Step::Template { .. } => "Template",
        Step::Scale { .. } => "Scale",
        Step::Budget(_) => "Budget",
        Step::Conceive { .. } => "Conceive",
        Step::Adopt { .. } => "Adopt",
        Step::Bootstrap { .. } => "Bootstrap",
        Step::Born => "Born",
        Step::Forsake { .. } => "Forsake",
        Step::Recover { .. } => "Recover",
        Step::Change { .. } => "Change",
        Step::Transfer { .. } => "Transfer",
        Step::Drain(_) => "Drain",
        Step::Undrain(_) => "Undrain",
        Step::Retire { .. } => "Retire",
        Step::Evict { .. } => "Evict",
        Step::Delete { .. } => "Delete",
        Step::Patch { .. } => "Patch",
        Step::Route(_) => "Route",
        Step::Pull { .. } => "Pull",
        Step::Unpull { .. } => "Unpull",
        Step::Enlarge { .. } => "Enlarge",
        Step::Discard { .. } => "Discard",
    }
}
