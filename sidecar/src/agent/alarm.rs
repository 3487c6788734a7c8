//! The agent's timers: one ordered set.

use super::CallId;
use quorate_locks::{Generation, Key};
use quorate_raft::Time;
use std::collections::BTreeSet;

/// What a timer is for. Whoever is woken looks again at what is true by then: an alarm may be too
/// early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The next heartbeat.
    Beat,
    /// A session's jeopardy or deadline.
    Session(Key),
    /// The second of grace after a broken connection, for this generation.
    Break(Key, Generation),
    /// An operation without an answer.
    Operation(u64),
    /// A call's wait.
    Call(CallId),
}

#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: BTreeSet<(Time, Alarm)>,
}

impl Alarms {
    pub(super) fn set(&mut self, at: Time, alarm: Alarm) {
        self.set.insert((at, alarm));
    }

    pub(super) fn cancel(&mut self, at: Time, alarm: Alarm) {
        self.set.remove(&(at, alarm));
    }

    /// How many are set.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.set.len()
    }

    pub(super) fn next(&self) -> Time {
        self.set.first().map_or(Time::NEVER, |(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Time) -> Option<Alarm> {
        if self.set.first()?.0 > now {
            return None;
        }
        self.set.pop_first().map(|(_, alarm)| alarm)
    }
}
