//! What waits for the driver: three lanes, and one sleeper to wake.
//!
//! Completions are never refused (bounded by the writes in flight). Messages of peers are dropped
//! when too many wait: every one of them is sent again by its sender. Calls are refused, and their
//! clients told so.

use super::Work;
use quorate_raft::Time;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Messages of peers that wait, at most.
const MESSAGES_MAX: usize = 16_384;
/// Calls that wait, at most.
const CALLS_MAX: usize = 8_192;

/// Which lane an item takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Completion,
    Message,
    Call,
}

#[derive(Debug, Default)]
struct Lanes {
    completions: Vec<Work>,
    messages: Vec<Work>,
    calls: Vec<Work>,
    sleeping: bool,
    dropped: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    wake: Condvar,
}

impl Queue {
    /// Adds an item and wakes the driver if it sleeps. False, and the item is gone, if its lane is
    /// full.
    #[must_use]
    pub(super) fn push(&self, lane: Lane, work: Work) -> bool {
        let mut lanes = self.lock();
        let (queue, most) = match lane {
            Lane::Completion => (&mut lanes.completions, usize::MAX),
            Lane::Message => (&mut lanes.messages, MESSAGES_MAX),
            Lane::Call => (&mut lanes.calls, CALLS_MAX),
        };
        if queue.len() >= most {
            lanes.dropped += 1;
            return false;
        }
        queue.push(work);
        let wake = std::mem::take(&mut lanes.sleeping);
        drop(lanes);
        if wake {
            self.wake.notify_one();
        }
        true
    }

    /// Moves all that waits into `batch`, completions first; sleeps until `deadline` while there is
    /// nothing.
    pub(super) fn take(&self, batch: &mut Vec<Work>, now: Time, deadline: Time) {
        let mut lanes = self.lock();
        if lanes.is_empty() && deadline > now {
            lanes.sleeping = true;
            lanes = if deadline == Time::NEVER {
                self.wake
                    .wait_while(lanes, |lanes| lanes.is_empty())
                    .unwrap_or_else(PoisonError::into_inner)
            } else {
                let timeout = Duration::from_nanos(deadline.since(now));
                self.wake
                    .wait_timeout_while(lanes, timeout, |lanes| lanes.is_empty())
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            };
            lanes.sleeping = false;
        }
        let Lanes { completions, messages, calls, .. } = &mut *lanes;
        batch.append(completions);
        batch.append(messages);
        batch.append(calls);
    }

    /// Items refused so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // A panic elsewhere ends the process; the lanes themselves are always whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn is_empty(&self) -> bool {
        self.completions.is_empty() && self.messages.is_empty() && self.calls.is_empty()
    }
}
