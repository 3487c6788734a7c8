//! What must hold over the whole node after each step. A broken one is a bug of ours, whatever the
//! peers sent, and stops the process before it can harm anybody.
//!
//! Must not change anything.

use crate::node::{Node, Role};

/// Entries looked at from the end of the log: a step changes no others but by truncation.
const WINDOW: usize = 64;

impl Node {
    /// Asserts every invariant that one node can see. Runs after each step in debug builds, and
    /// where [`crate::Config::check`] asks for it.
    pub fn check(&self) {
        self.log.check(WINDOW);
        self.writes.check(self.log.last().index);
        assert!(self.log.last().term <= self.term, "no entry is of a later term");
        assert!(self.log.holds(self.commit), "what is committed is in the log");
        assert!(self.log.snapshot_index() <= self.commit.index);
        assert!(self.applied <= self.handed && self.handed <= self.commit.index);
        match &self.role {
            Role::Follower(follower) => {
                assert!(follower.leader != Some(self.config.id), "nobody follows itself");
                assert!(follower.leader.is_none() || follower.leader == self.term_leader);
            }
            Role::PreCandidate(candidate) => {
                assert!(candidate.votes.contains(&self.config.id));
            }
            Role::Candidate(_) => {
                assert!(self.vote == Some(self.config.id), "a candidate voted for itself");
            }
            Role::Leader(leader) => self.check_leader(leader),
        }
    }
}
