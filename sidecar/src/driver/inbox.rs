//! What waits for the driver: three lanes, and one sleeper to wake.
//!
//! Completions are never refused (bounded by the writes in flight). Messages of peers are dropped
//! when too many wait: every one of them is sent again by its sender; what happens to a peer stays
//! behind its messages, and is never refused (bounded by its connections). Calls are refused, and
//! their clients told so; what happens to a call or its connection stays behind the call, and is
//! never refused.

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
    /// The messages' lane, without its limit.
    AfterMessages,
    Call,
    /// The calls' lane, without its limit.
    AfterCalls,
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
            Lane::AfterMessages => (&mut lanes.messages, usize::MAX),
            Lane::Call => (&mut lanes.calls, CALLS_MAX),
            Lane::AfterCalls => (&mut lanes.calls, usize::MAX),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{CallId, ConnectionId, Request};
    use crate::driver::Inbox;
    use crate::frame::{Heartbeat, PeerMessage};
    use crate::member::Event;
    use crate::peer::PeerSink as _;
    use crate::replica::Event as ReplicaEvent;
    use crate::run::sinks::Sink;
    use quorate_locks::Key;
    use quorate_raft::{MemberId, Term};
    use std::sync::Arc;

    fn message() -> PeerMessage {
        let term = Term(1);
        let heartbeat = Heartbeat { seq: 1, term, boot: 1, sessions: Vec::new(), sidecar: None };
        PeerMessage::Heartbeat(heartbeat)
    }

    #[test]
    fn end_of_a_call_stays_behind_the_call() {
        let inbox = Inbox::default();
        let (id, _items) = inbox.call(ConnectionId(1), Request::Close(Key(1))).expect("room");
        inbox.client(Event::HalfClose(id));
        inbox.push(Work::Stop);
        let (mut batch, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
        assert_eq!(inbox.queue.poll_take(&mut batch, &mut context), Poll::Ready(()));
        let [Work::Stop, Work::Call(call, ..), Work::Event(Event::HalfClose(end))] = &batch[..]
        else {
            panic!("{batch:?}")
        };
        assert_eq!((*call, *end), (CallId(1), CallId(1)));
    }

    /// An end that overtook the last Append would have this member stand for leadership, and then
    /// take the dead leader's word for a sign of life.
    #[test]
    fn end_of_a_peer_stays_behind_its_messages() {
        let inbox = Inbox::default();
        let sink = Sink::new(inbox.clone(), Arc::new(|_| {}));
        let (dead, new) = (MemberId(2), MemberId(3));
        sink.received(dead, message());
        sink.lost(dead);
        sink.restarted(new);
        sink.received(new, message());
        inbox.push(Work::Stop);
        let (mut batch, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
        assert_eq!(inbox.queue.poll_take(&mut batch, &mut context), Poll::Ready(()));
        let replica = |work: &Work| match work {
            Work::Stop => "stop".to_owned(),
            Work::Event(Event::Replica(ReplicaEvent::Peer(from, _))) => format!("said by {from}"),
            Work::Event(Event::Replica(ReplicaEvent::PeerLost(peer))) => format!("lost {peer}"),
            Work::Event(Event::Replica(ReplicaEvent::PeerRestarted(peer))) => format!("new {peer}"),
            other => panic!("{other:?}"),
        };
        let order: Vec<String> = batch.iter().map(replica).collect();
        let (said, lost) = (|peer| format!("said by {peer}"), format!("lost {dead}"));
        let expected = ["stop".to_owned(), said(dead), lost, format!("new {new}"), said(new)];
        assert_eq!(order, expected);
    }

    #[test]
    fn end_of_a_peer_is_heard_however_much_waits() {
        let inbox = Inbox::default();
        while inbox.peer(MemberId(2), message()) {}
        inbox.after_messages(ReplicaEvent::PeerLost(MemberId(2)));
        let (mut batch, mut context) = (Vec::new(), Context::from_waker(Waker::noop()));
        assert_eq!(inbox.queue.poll_take(&mut batch, &mut context), Poll::Ready(()));
        assert_eq!(batch.len(), MESSAGES_MAX + 1);
        let last = batch.last();
        let lost = |work: &Work| {
            matches!(work, Work::Event(Event::Replica(ReplicaEvent::PeerLost(MemberId(2)))))
        };
        assert!(last.is_some_and(lost), "{last:?}");
    }
}
