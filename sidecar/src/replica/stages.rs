//! How long each stage of a command takes at the leader: from append to durable, and to applied.

use quorate_raft::{Index, LogId, Time};
use std::collections::VecDeque;

/// Entries followed at once; further ones are not timed.
const FOLLOWED_MAX: usize = 1024;

/// A measured stage of one entry, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the append to the own disk's word.
    Durable(u64),
    /// From the append to the apply.
    Applied(u64),
}

/// Follows the entries that this member appended as the leader.
#[derive(Debug, Default)]
pub struct Stages {
    open: VecDeque<(LogId, Time, bool)>,
    measured: Vec<Stage>,
}

impl Stages {
    /// An entry was appended by this member.
    pub fn appended(&mut self, now: Time, id: LogId) {
        if self.open.len() < FOLLOWED_MAX {
            self.open.push_back((id, now, false));
        }
    }

    /// The own disk holds the log up to here.
    pub(super) fn durable(&mut self, now: Time, upto: Index) {
        for (id, since, durable) in &mut self.open {
            if id.index > upto {
                break;
            }
            if !*durable {
                *durable = true;
                self.measured.push(Stage::Durable(now.since(*since)));
            }
        }
        self.measured.truncate(FOLLOWED_MAX);
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, now: Time, applied: LogId) {
        while let Some((id, since, _)) = self.open.front().copied() {
            if id.index > applied.index {
                break;
            }
            self.open.pop_front();
            // Another entry at that index: the appended one lost its place.
            if id == applied && self.measured.len() < FOLLOWED_MAX {
                self.measured.push(Stage::Applied(now.since(since)));
            }
        }
    }

    /// Takes what was measured since the last call.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Stage> {
        self.measured.drain(..)
    }
}
