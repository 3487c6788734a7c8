//! What Kubernetes does: a StatefulSet that makes and ends pods, a kubelet that starts containers,
//! volumes that go once no pod uses them, a disruption budget that is in force a little later.

use crate::world::{Claim, Pod, World};
use quorate_operator::observed::{Budget, Identity, Ordinal};

/// An image that no node can pull.
pub const BAD_IMAGE: &str = "bad";
/// A template whose application never becomes ready.
pub const BAD_TEMPLATE: &str = "bad";

impl World {
    /// One of the controllers acts on one thing.
    pub fn kubernetes(&mut self) {
        match self.dice.below(6) {
            0 | 1 => self.stateful_set(),
            2..=4 => self.kubelet(),
            _ => {
                if let Some(budget) = &mut self.budget {
                    budget.observed = true;
                }
            }
        }
        self.collect();
    }

    fn stateful_set(&mut self) {
        let Some(set) = self.set.clone() else { return };
        for ordinal in 0..set.replicas {
            let going = self.claims.get(&ordinal).is_some_and(|claim| claim.deleting);
            if self.pods.contains_key(&ordinal) || going || self.dice.below(3) == 0 {
                continue;
            }
            let (uid, rv) = (self.fresh("pod"), self.version());
            if !self.claims.contains_key(&ordinal) {
                let claim = Claim {
                    uid: self.fresh("claim"),
                    rv,
                    made_for: self.cluster.uid.clone(),
                    size: "1Gi".to_owned(),
                    ..Claim::default()
                };
                self.claims.insert(ordinal, claim);
            }
            let (template, image) = (set.template.clone(), set.image.clone());
            let node = u32::try_from(self.dice.below(4)).unwrap();
            self.pods.insert(ordinal, Pod { uid, rv, template, image, node, ..Pod::default() });
        }
        for ordinal in set.replicas..100 {
            self.end(ordinal);
        }
    }

    /// A pod is asked to end.
    pub fn end(&mut self, ordinal: Ordinal) {
        let version = self.version();
        if let Some(pod) = self.pods.get_mut(&ordinal)
            && !pod.deleting
        {
            pod.deleting = true;
            pod.rv = version;
        }
    }

    fn kubelet(&mut self) {
        for pull in self.pulls.values_mut() {
            match pull.image == BAD_IMAGE {
                true => pull.failed = "it cannot be pulled".to_owned(),
                false => pull.done = true,
            }
        }
        let ordinals: Vec<Ordinal> = self.pods.keys().copied().collect();
        for ordinal in ordinals {
            let pod = &self.pods[&ordinal];
            if pod.cut || self.dice.below(2) == 0 {
                continue;
            }
            let pod = pod.clone();
            let version = self.version();
            let now = match () {
                () if pod.deleting => {
                    self.stop(ordinal);
                    self.pods.remove(&ordinal);
                    continue;
                }
                () if pod.container != 0 && pod.patched == pod.container => {
                    self.stop(ordinal);
                    Pod { container: 0, runs: String::new(), ready: false, ..pod.clone() }
                }
                () if pod.container == 0 && pod.image != BAD_IMAGE => self.start(ordinal, &pod),
                () => Pod { ready: pod.ready || self.is_ready(ordinal), ..pod.clone() },
            };
            let rv = if now == pod { pod.rv } else { version };
            self.pods.insert(ordinal, Pod { rv, ..now });
        }
    }

    fn start(&mut self, ordinal: Ordinal, pod: &Pod) -> Pod {
        let container = self.version();
        let behind = self.dice.below(6);
        let id = self.claims.get(&ordinal).and_then(|claim| claim.disk);
        let id = id.unwrap_or_else(|| Identity(u128::from(container)));
        self.claims.get_mut(&ordinal).expect("a pod has its volume").disk = Some(id);
        self.group.disks.entry(id).or_default().behind = behind;
        Pod { container, runs: pod.image.clone(), ..pod.clone() }
    }

    fn is_ready(&self, ordinal: Ordinal) -> bool {
        let caught = self.member(ordinal).is_some_and(|id| self.group.caught_up.contains(&id));
        caught && self.pods[&ordinal].template != BAD_TEMPLATE
    }

    /// The process of a pod ends.
    pub fn stop(&mut self, ordinal: Ordinal) {
        if let Some(id) = self.member(ordinal) {
            self.group.draining.remove(&id);
            self.group.caught_up.remove(&id);
            if self.group.leader == Some(id) {
                self.group.leader = None;
            }
        }
        let version = self.version();
        if let Some(pod) = self.pods.get_mut(&ordinal) {
            (pod.container, pod.ready, pod.rv) = (0, false, version);
            pod.runs.clear();
        }
        self.connect();
    }

    /// Volumes that are deleted and that no pod uses go, and what is on them.
    fn collect(&mut self) {
        let unused = |(ordinal, claim): (&Ordinal, &Claim)| {
            (claim.deleting && !self.pods.contains_key(ordinal)).then_some(*ordinal)
        };
        let unused: Vec<Ordinal> = self.claims.iter().filter_map(unused).collect();
        for ordinal in unused {
            let claim = self.claims.remove(&ordinal).expect("it is there");
            if let Some(id) = claim.disk {
                self.group.disks.remove(&id);
            }
        }
    }

    /// Whether the disruption budget lets a pod go.
    pub fn may_evict(&self, ordinal: Ordinal) -> bool {
        let Some(Budget { max_unavailable, observed }) = self.budget else { return true };
        let expected = self.set.as_ref().map_or(0, |set| set.replicas);
        let healthy = self.pods.values().filter(|pod| pod.ready && !pod.deleting).count();
        let healthy = u32::try_from(healthy).unwrap();
        let wanted = expected.saturating_sub(max_unavailable);
        let ready = self.pods[&ordinal].ready;
        // Before the controller has seen a change, the number from before is in force: 0 or 1.
        let most = if observed { max_unavailable } else { 1 };
        most > 0 && if ready { healthy > wanted } else { healthy >= wanted }
    }
}
