//! What waits to be sent to one peer: filled by the driver, emptied by the stream that was
//! dialled last.
//!
//! Bounded by messages and bytes; what does not fit is dropped and counted, since Raft and the
//! agent send again. While the peer is known to be away nothing waits at all: it would be stale.
//! One wake-up a batch: a poll takes everything that is there before it sleeps.

use super::convert;
use crate::frame::{Ask, PeerMessage};
use crate::metrics::Metrics;
use quorate_proto::peer::Frame;
use quorate_raft::Body;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio_stream::Stream;

/// Messages that wait for one peer, at most.
pub const MESSAGES_MAX: usize = 1024;
/// Their bytes, at most; a message larger than this is never made.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a message costs beside its payload, about.
const OVERHEAD_BYTES: usize = 64;

/// How far the stream to the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No stream, and none being made: nothing waits.
    Away,
    /// A stream is being made: messages wait for it.
    Connecting,
    /// Messages leave.
    Open,
    /// What waits leaves, then a goodbye, then nothing more.
    Ending,
}

#[derive(Debug)]
struct Queue {
    messages: VecDeque<PeerMessage>,
    bytes: usize,
    phase: Phase,
    /// The number of the stream that may take messages; an older one ends.
    stream: u64,
    waker: Option<Waker>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    metrics: Arc<Metrics>,
}

impl Outbox {
    pub(super) fn new(metrics: Arc<Metrics>) -> Outbox {
        let queue = Queue {
            messages: VecDeque::new(),
            bytes: 0,
            // A link dials as soon as it is made.
            phase: Phase::Connecting,
            stream: 0,
            waker: None,
        };
        Outbox { queue: Mutex::new(queue), metrics }
    }

    /// Adds a message, or drops it. Never blocks for longer than a copy of a few words.
    pub(super) fn push(&self, message: PeerMessage) {
        let weight = weight(&message);
        let mut queue = self.lock();
        let room = queue.messages.len() < MESSAGES_MAX && queue.bytes + weight <= BYTES_MAX;
        if !room || matches!(queue.phase, Phase::Away | Phase::Ending) {
            drop(queue);
            self.metrics.peer_dropped.add_one();
            return;
        }
        queue.bytes += weight;
        queue.messages.push_back(message);
        wake(queue);
    }

    /// A stream is being made: its frames begin with `hello`, and go on once [`Outbox::open`] is
    /// called. Every earlier stream ends.
    pub(super) fn stream(self: &Arc<Self>, hello: Frame) -> Outgoing {
        let mut queue = self.lock();
        if queue.phase != Phase::Ending {
            queue.phase = Phase::Connecting;
        }
        queue.stream += 1;
        let number = queue.stream;
        wake(queue);
        Outgoing { outbox: Arc::clone(self), number, hello: Some(hello), over: false }
    }

    /// A stream is being made, or soon will be: messages wait.
    pub(super) fn connecting(&self) {
        let mut queue = self.lock();
        if queue.phase == Phase::Away {
            queue.phase = Phase::Connecting;
        }
    }

    /// The peer introduced itself and is the right one: messages leave.
    pub(super) fn open(&self) {
        let mut queue = self.lock();
        if queue.phase == Phase::Connecting {
            queue.phase = Phase::Open;
        }
        wake(queue);
    }

    /// The peer is away: what waits is dropped.
    pub(super) fn away(&self) {
        let mut queue = self.lock();
        if queue.phase != Phase::Ending {
            queue.phase = Phase::Away;
        }
        let dropped = queue.messages.len();
        queue.messages.clear();
        queue.bytes = 0;
        drop(queue);
        self.metrics.peer_dropped.add(u64::try_from(dropped).unwrap_or(u64::MAX));
    }

    /// Ends it: what waits still leaves, with a goodbye behind it.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.phase = Phase::Ending;
        wake(queue);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No panic can happen while the queue is half changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the stream's task, with the lock released first.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn weight(message: &PeerMessage) -> usize {
    const PAIR: usize = 16;
    let payload = match message {
        PeerMessage::Raft(message) => match &message.body {
            Body::Append { entries, .. } => {
                entries.iter().map(|entry| entry.bytes().len() + OVERHEAD_BYTES).sum()
            }
            Body::Snapshot { chunk, .. } => chunk.len(),
            _ => 0,
        },
        PeerMessage::Forward(forward) => match &forward.what {
            Ask::Command(bytes) => bytes.len(),
            Ask::ReadIndex => 0,
        },
        PeerMessage::Heartbeat(beat) => beat.sessions.len() * PAIR,
        PeerMessage::HeartbeatAck(ack) => ack.sessions.len() * PAIR,
        PeerMessage::ForwardReply(_) => 0,
    };
    payload + OVERHEAD_BYTES
}

/// The frames of one dialled stream. Encoding happens here, on the socket's side.
pub(super) struct Outgoing {
    outbox: Arc<Outbox>,
    number: u64,
    hello: Option<Frame>,
    over: bool,
}

impl Stream for Outgoing {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(hello));
        }
        if self.over {
            return Poll::Ready(None);
        }
        let mut queue = self.outbox.lock();
        if queue.stream != self.number {
            return Poll::Ready(None);
        }
        if matches!(queue.phase, Phase::Open | Phase::Ending)
            && let Some(message) = queue.messages.pop_front()
        {
            queue.bytes -= weight(&message);
            drop(queue);
            self.outbox.metrics.peer_sent.add_one();
            return Poll::Ready(Some(convert::to_frame(&message)));
        }
        if queue.phase == Phase::Ending {
            drop(queue);
            self.over = true;
            return Poll::Ready(Some(convert::goodbye()));
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Forward, Heartbeat};
    use quorate_proto::peer::frame::Frame as Kind;
    use quorate_raft::Term;

    fn forward(bytes: usize) -> PeerMessage {
        let what = Ask::Command(vec![0; bytes].into());
        PeerMessage::Forward(Forward { ticket: 1, term: Term(1), what })
    }

    fn beat(seq: u64) -> PeerMessage {
        let (term, sessions) = (Term(1), Vec::new());
        PeerMessage::Heartbeat(Heartbeat { seq, term, boot: 1, sessions, sidecar: None })
    }

    fn outbox() -> (Arc<Outbox>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        (Arc::new(Outbox::new(Arc::clone(&metrics))), metrics)
    }

    fn poll(stream: &mut Outgoing) -> Poll<Option<Kind>> {
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(stream).poll_next(&mut context).map(|frame| frame.and_then(|frame| frame.frame))
    }

    #[test]
    fn messages_wait_for_the_gate_and_leave_in_order() {
        let (outbox, _) = outbox();
        outbox.push(beat(1));
        let mut stream = outbox.stream(convert::goodbye());
        assert!(matches!(poll(&mut stream), Poll::Ready(Some(Kind::Goodbye(_)))), "the first");
        assert_eq!(poll(&mut stream), Poll::Pending);
        outbox.push(beat(2));
        outbox.open();
        for seq in 1..=2 {
            let Poll::Ready(Some(Kind::Heartbeat(beat))) = poll(&mut stream) else {
                panic!("a heartbeat")
            };
            assert_eq!(beat.seq, seq);
        }
        assert_eq!(poll(&mut stream), Poll::Pending);
        outbox.push(beat(3));
        outbox.end();
        assert!(matches!(poll(&mut stream), Poll::Ready(Some(Kind::Heartbeat(_)))));
        assert!(matches!(poll(&mut stream), Poll::Ready(Some(Kind::Goodbye(_)))));
        assert_eq!(poll(&mut stream), Poll::Ready(None));
    }

    #[test]
    fn too_many_messages_or_bytes_are_dropped_and_counted() {
        let (outbox, metrics) = outbox();
        for seq in 0..MESSAGES_MAX + 10 {
            outbox.push(beat(u64::try_from(seq).expect("small")));
        }
        assert_eq!(metrics.peer_dropped.get(), 10);
        outbox.away();
        assert_eq!(metrics.peer_dropped.get(), 10 + 1024);
        outbox.push(beat(0));
        assert_eq!(metrics.peer_dropped.get(), 11 + 1024, "nothing waits for one who is away");
        outbox.connecting();
        let half = BYTES_MAX / 2;
        outbox.push(forward(half));
        outbox.push(forward(half));
        assert_eq!(metrics.peer_dropped.get(), 12 + 1024, "the second does not fit");
    }

    #[test]
    fn an_older_stream_takes_nothing_from_a_newer_one() {
        let (outbox, _) = outbox();
        let mut old = outbox.stream(convert::goodbye());
        assert!(matches!(poll(&mut old), Poll::Ready(Some(_))));
        let mut new = outbox.stream(convert::goodbye());
        outbox.open();
        outbox.push(beat(1));
        assert_eq!(poll(&mut old), Poll::Ready(None));
        assert!(matches!(poll(&mut new), Poll::Ready(Some(Kind::Goodbye(_)))));
        assert!(matches!(poll(&mut new), Poll::Ready(Some(Kind::Heartbeat(_)))));
    }
}
