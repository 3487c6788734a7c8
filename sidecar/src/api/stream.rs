//! Streams of a call: the agent's items out, and the client's half-close in.

use super::to_status;
use crate::agent::{CallId, Told};
use crate::driver::{Inbox, Item};
use crate::member::Event;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

/// Tells the agent that a call's client is gone, unless the call ended first.
#[derive(Debug)]
pub(super) struct Guard {
    inbox: Inbox,
    call: Option<CallId>,
}

impl Guard {
    pub(super) fn new(inbox: Inbox, call: CallId) -> Guard {
        Guard { inbox, call: Some(call) }
    }

    /// The call ended by itself.
    pub(super) fn disarm(&mut self) {
        self.call = None;
    }

    fn half_close(&self) {
        if let Some(call) = self.call {
            self.inbox.client(Event::HalfClose(call));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.inbox.client(Event::Gone(call));
        }
    }
}

/// The answers of a call as a stream of `T`.
pub struct Answers<T, R> {
    items: mpsc::Receiver<Item>,
    guard: Guard,
    convert: fn(Told) -> Option<T>,
    /// The client's side, of which only the end is awaited.
    requests: Option<Streaming<R>>,
}

impl<T, R> Answers<T, R> {
    pub(super) fn new(
        items: mpsc::Receiver<Item>,
        guard: Guard,
        convert: fn(Told) -> Option<T>,
        requests: Option<Streaming<R>>,
    ) -> Answers<T, R> {
        Answers { items, guard, convert, requests }
    }

    /// Looks for the end of the client's side.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Option<Status> {
        let requests = self.requests.as_mut()?;
        match Pin::new(requests).poll_next(context) {
            Poll::Pending => None,
            Poll::Ready(None) => {
                self.requests = None;
                self.guard.half_close();
                None
            }
            Poll::Ready(Some(Ok(_))) => {
                Some(Status::invalid_argument("only the first message of this stream may claim"))
            }
            // The stream broke or was cancelled: dropping this says so.
            Poll::Ready(Some(Err(status))) => Some(status),
        }
    }
}

impl<T, R> Stream for Answers<T, R> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(status) = self.poll_requests(context) {
            self.items.close();
            return Poll::Ready(Some(Err(status)));
        }
        loop {
            match self.items.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.guard.disarm();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(failure))) => {
                    self.guard.disarm();
                    return Poll::Ready(Some(Err(to_status(failure))));
                }
                Poll::Ready(Some(Ok(told))) => {
                    if let Some(event) = (self.convert)(told) {
                        return Poll::Ready(Some(Ok(event)));
                    }
                }
            }
        }
    }
}
