//! One session: who it is, where it is attached, and what it asked for.
//!
//! Invariants: the key never changes; every move raises the generation by one.
//!
//! Must not know whether it is alive: deadlines belong to the leader, outside the machine.

use crate::command::{Attachment, Generation, Grant, Key, Outcome, RequestId, SessionId};
use crate::requests::{Place, Requests};

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub(crate) key: Key,
    pub(crate) ttl_ms: u32,
    pub(crate) generation: Generation,
    pub(crate) attachment: Attachment,
    pub(crate) label: String,
    pub(crate) requests: Requests,
}

impl Session {
    pub(crate) fn new(key: Key, ttl_ms: u32, attachment: Attachment, label: &str) -> Session {
        let label = label.to_owned();
        let requests = Requests::new();
        Session { key, ttl_ms, generation: Generation(1), attachment, label, requests }
    }

    /// The secret that names the session to its client.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Its time to live in ms, 1,000 to 600,000.
    #[must_use]
    pub fn ttl_ms(&self) -> u32 {
        self.ttl_ms
    }

    /// The number of its present attachment, from 1.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The sidecar boot that it is attached to.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// What its client calls itself, at most 256 bytes; for people.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What it holds, by name.
    pub fn grants(&self) -> impl Iterator<Item = Grant> + '_ {
        self.live().filter_map(|(name, request, place)| {
            let Place::Granted { token } = place else { return None };
            let kind = self.requests.live[&request].kind;
            Some(Grant { name: name.to_owned(), kind, token, request })
        })
    }

    /// What it waits for, by name: the name and the request id of the claim.
    pub fn waits(&self) -> impl Iterator<Item = (&str, RequestId)> + '_ {
        self.live().filter_map(|(name, request, place)| {
            matches!(place, Place::Queued { .. }).then_some((name, request))
        })
    }

    /// One above the highest request id that it used; 1 when it used none.
    #[must_use]
    pub fn next_request(&self) -> RequestId {
        self.requests.next
    }

    fn live(&self) -> impl Iterator<Item = (&str, RequestId, Place)> + '_ {
        let place = |request| self.requests.live[request].place;
        self.requests.by_name.iter().map(move |(name, request)| (&**name, *request, place(request)))
    }

    pub(crate) fn opened(&self, session: SessionId) -> Outcome {
        Outcome::Opened { session, generation: self.generation, ttl_ms: self.ttl_ms }
    }

    pub(crate) fn resumed(&self, session: SessionId) -> Outcome {
        Outcome::Resumed {
            session,
            generation: self.generation,
            ttl_ms: self.ttl_ms,
            grants: self.grants().collect(),
            next_request: self.next_request(),
        }
    }
}
