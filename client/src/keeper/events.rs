//! Streams of the contract as the keeper reads them: an answer that is not here yet never blocks
//! the others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::{Response, Status, Streaming};

type Asking<T> = Pin<Box<dyn Future<Output = Result<Response<Streaming<T>>, Status>> + Send>>;

enum State<T> {
    Asking(Asking<T>),
    Open(Box<Streaming<T>>),
    Ended,
}

/// The answers of one call, from its request on. An end that the sidecar did not explain is an
/// error, said once.
pub(super) struct Events<T> {
    state: State<T>,
}

impl<T> Events<T> {
    /// Of a call that is on its way.
    pub(super) fn asking<F>(call: F) -> Events<T>
    where
        F: Future<Output = Result<Response<Streaming<T>>, Status>> + Send + 'static,
    {
        Events { state: State::Asking(Box::pin(call)) }
    }

    /// Of a call that was answered.
    pub(super) fn open(stream: Streaming<T>) -> Events<T> {
        Events { state: State::Open(Box::new(stream)) }
    }
}

impl<T: 'static> Stream for Events<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let end = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Asking(call) => match call.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(response)) => {
                        self.state = State::Open(Box::new(response.into_inner()));
                        continue;
                    }
                    Poll::Ready(Err(status)) => status,
                },
                State::Open(stream) => match Pin::new(stream.as_mut()).poll_next(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(event))) => return Poll::Ready(Some(Ok(event))),
                    Poll::Ready(Some(Err(status))) => status,
                    Poll::Ready(None) => Status::unavailable("the sidecar ended the stream"),
                },
            };
            self.state = State::Ended;
            return Poll::Ready(Some(Err(end)));
        }
    }
}

/// The client's side of a Hold or Participate: one message, then silence; the half-close when the
/// sender is dropped.
pub(super) struct Input<T> {
    first: Option<T>,
    open: oneshot::Receiver<()>,
}

impl<T> Input<T> {
    pub(super) fn new(first: T) -> (oneshot::Sender<()>, Input<T>) {
        let (sender, open) = oneshot::channel();
        (sender, Input { first: Some(first), open })
    }
}

impl<T: Unpin> Stream for Input<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        Pin::new(&mut self.open).poll(context).map(|_| None)
    }
}
