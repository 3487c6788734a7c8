//! A second connection, bound to a session, whose descriptor a process tree inherits.
//!
//! While anybody of the tree lives, the socket stays open, and the sidecar knows that the
//! application is not all dead. Must not carry a ping or a request after the first: a frozen tree
//! would look dead.

use crate::error::Error;
use crate::link::Link;
use quorate_proto::v1::sessions_client::SessionsClient;
use quorate_proto::v1::{TetherEvent, TetherRequest};
use std::io;
use std::os::fd::OwnedFd;
use tonic::Streaming;

/// The bond of a process tree with a session.
#[derive(Debug)]
pub struct Tether {
    link: Link,
    events: Streaming<TetherEvent>,
}

impl Tether {
    /// Binds this link to the session with this key. Done when the sidecar's headers are here: from
    /// then on whoever inherits the socket is covered from its first instruction.
    pub(crate) async fn bind(link: Link, key: [u8; 16]) -> Result<Tether, Error> {
        let mut sessions = SessionsClient::new(link.channel.clone());
        let events = sessions.tether(TetherRequest { key: key.to_vec() }).await?.into_inner();
        Ok(Tether { link, events })
    }

    /// Whether the sidecar still holds the other end.
    pub async fn is_live(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.events.message() => false,
            () = tokio::task::yield_now() => true,
        }
    }

    /// A copy of the socket's descriptor that children of this process inherit, for as long as it
    /// is open.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn inheritable(&self) -> io::Result<OwnedFd> {
        let copy = rustix::io::dup(self.link.socket())?;
        rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty())?;
        Ok(copy)
    }
}
