//! The simulated network between members: delay, loss, copies, disorder, cuts in one direction.

use crate::simulator::random::Random;
use std::collections::BTreeSet;

const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;

/// What the network does to messages at the moment.
#[derive(Clone, Debug)]
pub struct Network {
    random: Random,
    /// Directions that carry nothing: (from, to).
    cuts: BTreeSet<(usize, usize)>,
    /// Of a thousand messages, so many are lost.
    pub loss_permille: u64,
    /// Of a thousand messages, so many come twice, the second much later.
    pub copy_permille: u64,
    /// Added to each message at most, in ns: more than the time between messages makes disorder.
    pub jitter_ns: u64,
    /// What happened so far, by kind: lost, copied, cut.
    pub lost: u64,
    /// Messages that came twice.
    pub copied: u64,
    /// Messages that met a cut.
    pub cut: u64,
}

impl Network {
    /// A healthy network.
    #[must_use]
    pub fn new(random: Random, copy_permille: u64) -> Network {
        Network {
            random,
            cuts: BTreeSet::new(),
            loss_permille: 0,
            copy_permille,
            jitter_ns: 100 * MICRO,
            lost: 0,
            copied: 0,
            cut: 0,
        }
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Connects one direction again.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    /// Cuts both directions between each of these and each of those.
    pub fn sever(&mut self, these: &[usize], those: &[usize]) {
        self.cuts.extend(between(these, those));
    }

    /// Connects both directions between each of these and each of those again.
    pub fn join(&mut self, these: &[usize], those: &[usize]) {
        for direction in between(these, those) {
            self.cuts.remove(&direction);
        }
    }

    /// Connects a member again with everybody.
    pub fn uncut(&mut self, node: usize) {
        self.cuts.retain(|(from, to)| *from != node && *to != node);
    }

    /// Everything works again, but for so many copies.
    pub fn heal(&mut self, copy_permille: u64) {
        self.cuts.clear();
        self.loss_permille = 0;
        self.copy_permille = copy_permille;
        self.jitter_ns = 100 * MICRO;
    }

    /// The delays after which a message arrives, in ns: none, one or two.
    pub fn route(&mut self, from: usize, to: usize) -> [Option<u64>; 2] {
        if self.cuts.contains(&(from, to)) {
            self.cut += 1;
            return [None, None];
        }
        if self.random.permille(self.loss_permille) {
            self.lost += 1;
            return [None, None];
        }
        let delay = 30 * MICRO + self.random.between(0, self.jitter_ns);
        let copy = self.random.permille(self.copy_permille).then(|| {
            self.copied += 1;
            delay + self.random.between(MILLI, 3_000 * MILLI)
        });
        [Some(delay), copy]
    }
}

/// Both directions between each of these and each of those.
fn between<'a>(
    these: &'a [usize],
    those: &'a [usize],
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let pairs = these.iter().flat_map(move |one| those.iter().map(move |other| (*one, *other)));
    pairs.flat_map(|(one, other)| [(one, other), (other, one)])
}
