//! What waits for the driver: three lanes, and one sleeper to wake.
//!
//! Completions are never refused (bounded by the writes in flight). Messages of peers are dropped
//! when too many wait: every one of them is sent again by its sender. Calls are refused, and their
//! clients told so.

use super::Work;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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
    /// Of the driver, while it sleeps.
    waker: Option<Waker>,
    dropped: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
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
        let waker = lanes.waker.take();
        drop(lanes);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Moves all that waits into `batch`, completions first; waits while there is nothing. Nothing
    /// is lost when the future is dropped.
    pub(super) async fn take(&self, batch: &mut Vec<Work>) {
        poll_fn(|context| self.poll_take(batch, context)).await;
    }

    fn poll_take(&self, batch: &mut Vec<Work>, context: &mut Context<'_>) -> Poll<()> {
        let mut lanes = self.lock();
        let Lanes { completions, messages, calls, waker, .. } = &mut *lanes;
        if completions.is_empty() && messages.is_empty() && calls.is_empty() {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        batch.append(completions);
        batch.append(messages);
        batch.append(calls);
        Poll::Ready(())
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
