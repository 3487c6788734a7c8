//! The local API: decodes, checks limits, asks the agent, and puts its answers on the wire. No
//! logic beyond that.
//!
//! One file a service. Every refusal is a [`Failure`] from the one table in `reason.rs`.

mod check;
mod elections;
mod locks;
mod sessions;
mod status;
mod stream;
mod wire;

pub use status::Node;

use crate::agent::{ConnectionId, Request, Told};
use crate::driver::Inbox;
use crate::local_socket::ConnectionInfo;
use crate::reason::{Code, Failure, Reason};
use std::sync::Arc;
use stream::Guard;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

/// Bytes of one message of a client, at most.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The domain of every `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "quorate.dev";

/// One implementation of all services of `quorate.v1`.
#[derive(Clone, Debug)]
pub struct Api {
    inbox: Inbox,
    node: Arc<Node>,
}

impl Api {
    /// An API in front of this inbox.
    #[must_use]
    pub fn new(inbox: Inbox, node: Arc<Node>) -> Api {
        Api { inbox, node }
    }

    /// Asks, and waits for the one answer.
    async fn ask(&self, connection: ConnectionId, request: Request) -> Result<Told, Status> {
        let (call, mut items) = self.inbox.call(connection, request).map_err(to_status)?;
        let mut guard = Guard::new(self.inbox.clone(), call);
        let item = items.recv().await;
        guard.disarm();
        match item {
            Some(Ok(told)) => Ok(told),
            Some(Err(failure)) => Err(to_status(failure)),
            None => Err(to_status(Failure::new(
                Reason::Draining,
                "this sidecar is stopping; connect again when it is back",
            ))),
        }
    }
}

/// Which connection a request came on.
fn connection<T>(request: &tonic::Request<T>) -> ConnectionId {
    request.extensions().get::<ConnectionInfo>().map_or(ConnectionId(0), |info| info.id())
}

/// A refusal as a gRPC status.
#[must_use]
pub fn to_status(failure: Failure) -> Status {
    let code = match failure.reason.code() {
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Internal => tonic::Code::Internal,
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
    };
    let metadata = failure.metadata.into_iter().map(|(name, value)| (name.to_owned(), value));
    let details = ErrorDetails::with_error_info(
        failure.reason.name(),
        ERROR_DOMAIN,
        metadata.collect::<std::collections::HashMap<_, _>>(),
    );
    Status::with_error_details(code, failure.message, details)
}

/// An answer that its request cannot have: our own fault, said rather than guessed.
fn unexpected(told: &Told) -> Status {
    to_status(Failure::new(Reason::Internal, format!("unexpected answer {told:?}")))
}
