//! What must hold in every state, judged from what nodes say and hold, not from how they do it.

use crate::print::print;
use quorate_raft::*;
use std::hash::Hash;

const TERMS_MAX: usize = 8;

/// The hash of the entry there.
fn held(node: &Node, index: usize) -> Option<u64> {
    let index = Index(u64::try_from(index).expect("small"));
    node.entry(index).map(|entry| print(|into| entry.bytes().hash(into)))
}

/// What was committed anywhere, and who led.
#[derive(Clone, Default, Hash)]
pub struct Truth {
    /// Hashes of the entries.
    committed: Vec<u64>,
    /// By term; 0: nobody.
    leaders: [u8; TERMS_MAX],
}

impl Truth {
    /// How far anybody committed.
    pub fn last(&self) -> Index {
        Index(u64::try_from(self.committed.len()).expect("small"))
    }

    /// What is committed anywhere is the same for ever; one leader a term, and it has all of it.
    pub fn judge(&mut self, server: u8, node: &Node) {
        for index in 0..usize::try_from(node.commit().index.0).expect("small") {
            let entry = held(node, index + 1).expect("all is in memory");
            match self.committed.get(index) {
                Some(truth) => assert_eq!(*truth, entry, "two truths, one by {server}"),
                None => self.committed.push(entry),
            }
        }
        if node.role() == RoleName::Leader {
            let term = usize::try_from(node.term().0).expect("small");
            let first = self.leaders[term];
            assert!(first == 0 || first == server, "two leaders of term {term}");
            self.leaders[term] = server;
            if self.leaders[term + 1..].iter().all(|later| *later == 0) {
                let all = self.committed.iter().zip(1..);
                let lacks = all.filter(|(entry, at)| held(node, *at) != Some(**entry)).count();
                assert_eq!(lacks, 0, "leader {server} lacks what is committed");
            }
        }
    }

    /// Who led this term; 0: nobody.
    pub fn leader(&self, term: Term) -> u8 {
        self.leaders[usize::try_from(term.0).expect("small")]
    }

    /// Whether a leader came after this term.
    pub fn is_past(&self, term: Term) -> bool {
        let term = usize::try_from(term.0).expect("small");
        self.leaders[term + 1..].iter().any(|later| *later != 0)
    }

    /// If two logs share an entry, they share all before it.
    pub fn compare(a: &Node, b: &Node) {
        let mut same = false;
        for index in (1..=a.last().index.0.min(b.last().index.0)).rev().map(Index) {
            let (Some(x), Some(y)) = (a.entry(index), b.entry(index)) else { break };
            same |= x.id() == y.id();
            assert!(!same || x == y, "{} and {} differ at {}", a.id(), b.id(), index.0);
        }
    }

    /// What a leader commits by counting is on the disks of a majority of each half, by the
    /// definition and not by the rule of the crate.
    pub fn counted(node: &Node, entry: &Entry, on_disk: impl Fn(MemberId) -> bool) {
        let Configuration { incoming, outgoing, .. } = node.configuration();
        for half in [incoming, outgoing] {
            let have = half.keys().filter(|id| on_disk(**id)).count();
            let majority = half.is_empty() || have * 2 > half.len();
            assert!(majority, "{} commits {} on {have} disks of a half", node.id(), entry.id());
        }
    }
}
