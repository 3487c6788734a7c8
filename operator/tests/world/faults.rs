//! What users do, and what goes wrong.

use crate::kube::{BAD_IMAGE, BAD_TEMPLATE};
use crate::operator::Pending;
use crate::raft::Disk;
use crate::world::{Claim, World};
use quorate_operator::observed::{Cluster, Identity, Ordinal};
use quorate_operator::step::Step;
use std::collections::BTreeMap;

impl World {
    /// Somebody edits the resource.
    pub fn edit(&mut self) {
        // A disk that goes bad after its leader heard of it last is seen by no operator: whoever
        // stops all then, while condemned volumes go with their pods, is beyond help.
        let least = u64::from(self.hides_a_loss());
        let spec = &mut self.cluster.spec;
        match self.dice.below(13) {
            0..=5 => spec.replicas = i32::try_from(self.dice.below(8).max(least)).unwrap(),
            6 => {
                spec.max_voters = [1, 3, 5, 7][usize::try_from(self.dice.below(4)).unwrap()];
            }
            7 | 8 => {
                let bad = self.dice.below(3) == 0;
                let good = format!("t{}", self.dice.below(1000));
                self.cluster.template_hash = if bad { BAD_TEMPLATE.to_owned() } else { good };
            }
            9 | 10 => {
                let bad = self.dice.below(3) == 0;
                let good = format!("i{}", self.dice.below(1000));
                self.cluster.image = if bad { BAD_IMAGE.to_owned() } else { good };
            }
            11 => spec.paused = !spec.paused,
            // Sizes of one digit, so that they compare as texts.
            _ => {
                let now: u32 = spec.storage.size[..1].parse().unwrap();
                spec.storage.size = format!("{}Gi", (now + 1).min(9));
            }
        }
        self.cluster.generation += 1;
        self.resource += 1;
        let Cluster { spec, template_hash, image, .. } = &self.cluster;
        let (replicas, most) = (spec.replicas, spec.max_voters);
        self.note(format!("edit: {replicas} of {most}, {template_hash}, {image}, {}", spec.paused));
    }

    /// Whether a disk is there when all pods have stopped, and can be counted on.
    pub fn lasts(&self, id: &Identity) -> bool {
        let kept = |claim: &Claim| claim.disk == Some(*id) && !claim.deleting;
        self.claims.values().any(kept) && self.group.intact(id)
    }

    /// Whether no majority would be left if all stopped now, and that does not show.
    fn hides_a_loss(&self) -> bool {
        // That a disk lost something is known to a leader, and that it is of no use to itself.
        let told = |id: &Identity| self.group.led().is_some() && self.group.up.contains(id);
        let untold = |id: Identity| !self.group.intact(&id) && !told(&id);
        let hidden = self.claims.values().any(|claim| claim.disk.is_some_and(untold));
        let fewer = |half: &BTreeMap<Identity, String>| {
            !half.is_empty() && half.keys().filter(|id| self.lasts(id)).count() * 2 <= half.len()
        };
        let all = self.group.possible();
        hidden && all.iter().any(|known| fewer(&known.voters) || fewer(&known.outgoing))
    }

    /// The resource is deleted and made again, and takes over what is there.
    pub fn again(&mut self) {
        self.cluster.uid = self.fresh("resource");
        self.cluster.status = Default::default();
        self.cluster.spec.adopt_existing = true;
        self.cluster.generation = 1;
        self.resource += 1;
        (self.set, self.budget) = (None, None);
        self.note("the resource is made again".to_owned());
        let ordinals: Vec<Ordinal> = self.pods.keys().copied().collect();
        ordinals.into_iter().for_each(|ordinal| self.end(ordinal));
    }

    /// Something goes wrong with one pod, or all.
    pub fn fault(&mut self) {
        let pods: Vec<Ordinal> = self.pods.keys().copied().collect();
        if pods.is_empty() {
            return;
        }
        let length = u64::try_from(pods.len()).unwrap();
        let ordinal = pods[usize::try_from(self.dice.below(length)).unwrap()];
        self.faults += 1;
        let kind = self.dice.below(13);
        self.note(format!("fault {kind} at {ordinal}"));
        match kind {
            0 | 1 => self.kill(ordinal),
            2 => pods.into_iter().for_each(|ordinal| self.kill(ordinal)),
            3 | 4 => self.stop(ordinal),
            5 => self.pods.get_mut(&ordinal).unwrap().cut ^= true,
            6 => self.pods.get_mut(&ordinal).unwrap().deaf ^= true,
            7 => self.condemn(ordinal),
            8 => self.ruin(ordinal, |world, ordinal| {
                world.stop(ordinal);
                if let Some(claim) = world.claims.get_mut(&ordinal)
                    && let Some(id) = claim.disk.take()
                {
                    world.group.disks.remove(&id);
                }
            }),
            9 => self.spoil(ordinal, |disk| disk.unfit = true),
            // An empty disk has acknowledged nothing.
            10 => self.spoil(ordinal, |disk| disk.quarantined = disk.cluster.is_some()),
            11 => {
                if self.may_evict(ordinal) {
                    self.kill(ordinal);
                }
            }
            _ => self.stale = true,
        }
        self.connect();
    }

    /// Somebody deletes a pod. What is on a condemned volume goes with it.
    fn kill(&mut self, ordinal: Ordinal) {
        let condemned = self.claims.get(&ordinal).is_some_and(|claim| claim.deleting);
        if !condemned || self.may_lose(ordinal) {
            self.end(ordinal);
        }
    }

    fn condemn(&mut self, ordinal: Ordinal) {
        // Whoever takes volumes over does not delete them.
        let birth = self.cluster.status.birth.as_ref();
        if self.cluster.spec.adopt_existing && birth.is_none_or(|birth| !birth.confirmed) {
            return;
        }
        // A pod that is about to be removed takes it along: no guard tells of that.
        let removes = |pending: &Pending| match pending.plan.step {
            Step::Evict { pod, .. } | Step::Delete { pod, .. } => pod == ordinal,
            Step::Scale { replicas, .. } => replicas <= ordinal,
            _ => false,
        };
        // Nor does any tell of a vote that is about to be given, if another operator removes the
        // pod meanwhile: the Lease keeps two from that.
        let disk = self.claims.get(&ordinal).and_then(|claim| claim.disk);
        if disk.is_some_and(|id| self.is_to_vote(id)) {
            return;
        }
        let beyond = self.set.as_ref().is_none_or(|set| set.replicas <= ordinal);
        let ending = beyond || self.pods.get(&ordinal).is_none_or(|pod| pod.deleting);
        let ending = ending || self.pending.iter().flatten().any(removes);
        let ending = ending || self.cluster.spec.replicas == 0;
        if ending && !self.may_lose(ordinal) {
            return;
        }
        let version = self.version();
        if let Some(claim) = self.claims.get_mut(&ordinal) {
            (claim.deleting, claim.rv) = (true, version);
        }
    }

    /// Faults leave an intact majority: a group that lost it is for people.
    fn ruin(&mut self, ordinal: Ordinal, how: impl Fn(&mut World, Ordinal)) {
        if self.may_lose(ordinal) {
            how(self, ordinal);
        }
    }

    /// A disk goes bad that others can do without.
    fn spoil(&mut self, ordinal: Ordinal, how: impl Fn(&mut Disk)) {
        let id = self.claims.get(&ordinal).and_then(|claim| claim.disk);
        if id.is_none_or(|id| self.left_without(id).is_some()) {
            return;
        }
        self.stop(ordinal);
        self.disk(ordinal).into_iter().for_each(how);
    }

    /// Whether a vote is about to be given to a disk.
    fn is_to_vote(&self, id: Identity) -> bool {
        let gives = |pending: &Pending| match &pending.plan.step {
            Step::Change { voters, .. } => voters.contains_key(&id),
            _ => false,
        };
        self.pending.iter().flatten().any(gives)
    }

    fn may_lose(&mut self, ordinal: Ordinal) -> bool {
        let birth = self.cluster.status.birth.as_ref();
        let Some(id) = self.claims.get(&ordinal).and_then(|claim| claim.disk) else { return true };
        // Without a confirmed foundation nothing was promised, unless the resource is a new one.
        let founded =
            birth.is_some_and(|birth| birth.confirmed) || self.cluster.spec.adopt_existing;
        let safe = self.left_without(id).is_none() && !self.is_to_vote(id);
        if !safe && !founded {
            // An operator that saw the foundation is not to confirm it any more.
            self.seen.clear();
        }
        safe || !founded
    }

    /// The half that would have no intact majority without this disk.
    pub fn left_without(&self, id: Identity) -> Option<String> {
        let goes = |other: &Identity| {
            self.claims.iter().any(|(ordinal, claim)| {
                let ends = self.pods.get(ordinal).is_none_or(|pod| pod.deleting);
                let ends = ends || self.cluster.spec.replicas == 0;
                claim.disk == Some(*other) && claim.deleting && ends
            })
        };
        let good = |other: &&Identity| {
            let disk = self.group.disks.get(other);
            disk.is_some_and(|disk| disk.intact()) && !goes(other) && **other != id
        };
        for known in self.group.possible() {
            for half in [&known.voters, &known.outgoing] {
                let left = half.keys().filter(good).count();
                if half.contains_key(&id) && left * 2 <= half.len() {
                    return Some(format!("{left} of {half:?}"));
                }
            }
        }
        None
    }

    /// Nothing goes wrong any more, and the last edit is one that can be met.
    pub fn heal(&mut self) {
        for pod in self.pods.values_mut() {
            (pod.cut, pod.deaf) = (false, false);
        }
        if self.cluster.template_hash == BAD_TEMPLATE {
            self.cluster.template_hash = "good".to_owned();
        }
        if self.cluster.image == BAD_IMAGE {
            self.cluster.image = "good".to_owned();
        }
        let spec = &mut self.cluster.spec;
        spec.paused = false;
        self.trace.push("healed".to_owned());
        // A group on one condemned volume waits for its user to want a second one.
        let condemned = self.claims.values().any(|claim| claim.deleting);
        if condemned && spec.replicas < 3 {
            spec.replicas = 3;
        }
        self.cluster.generation += 1;
        self.resource += 1;
        // A first disk that is of no use is its user's to delete.
        let born = self.cluster.status.birth.as_ref().is_some_and(|birth| birth.confirmed);
        let unfit = self.disk(0).is_some_and(|disk| disk.unfit);
        if unfit && !born {
            self.end(0);
            self.claims.get_mut(&0).unwrap().deleting = true;
        }
        self.connect();
    }
}
