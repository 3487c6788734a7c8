//! One name: its holder and the queue behind it.
//!
//! Invariants: the queue is in order of arrival (the index of the claim's entry, unique in the
//! whole machine); a name with neither holder nor waiter does not exist. Enqueue, grant and
//! removal are O(log n); only a question for a position counts, at most 10,000.
//!
//! Must not know sessions beyond their ids.

use std::collections::{BTreeMap, btree_map};

use crate::command::{NameKind, RequestId, SessionId, Token};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) session: SessionId,
    pub(crate) request: RequestId,
    pub(crate) token: Token,
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) session: SessionId,
    pub(crate) request: RequestId,
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) kind: NameKind,
    /// None only while the epoch has no token left for the first waiter, or grants are held off.
    pub(crate) holder: Option<Holder>,
    /// By arrival.
    pub(crate) queue: BTreeMap<u64, Waiter>,
}

impl Name {
    pub(crate) fn new(kind: NameKind) -> Name {
        Name { kind, holder: None, queue: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holder.is_none() && self.queue.is_empty()
    }

    /// How many waiters came before this one.
    pub(crate) fn position(&self, arrival: u64) -> u32 {
        assert!(self.queue.contains_key(&arrival), "asked for the place of a claim not queued");
        let ahead = self.queue.range(..arrival).count();
        u32::try_from(ahead).expect("a queue has at most 10,000 waiters")
    }

    pub(crate) fn view(&self) -> NameView<'_> {
        let holder = self.holder.as_ref().map(|holder| HolderView {
            session: holder.session,
            token: holder.token,
            request: holder.request,
            value: &holder.value,
        });
        NameView { kind: self.kind, holder, waiters: Waiters { queue: self.queue.values() } }
    }
}

/// A name as readers see it.
#[derive(Clone, Debug)]
pub struct NameView<'a> {
    /// Lock or election.
    pub kind: NameKind,
    /// Who holds it; none only when the epoch has no token left for the first waiter, or while
    /// grants are held off.
    pub holder: Option<HolderView<'a>>,
    /// Who waits for it, the next one first; an iterator that knows its length.
    pub waiters: Waiters<'a>,
}

/// The holder of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderView<'a> {
    /// Whose claim it is.
    pub session: SessionId,
    /// Under which token.
    pub token: Token,
    /// The request id of the claim.
    pub request: RequestId,
    /// An election's value, at most 4 KiB; empty for a lock.
    pub value: &'a [u8],
}

/// One claim in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// Whose claim it is.
    pub session: SessionId,
    /// Its request id.
    pub request: RequestId,
}

/// The waiters of a name in queue order.
#[derive(Clone, Debug)]
pub struct Waiters<'a> {
    queue: btree_map::Values<'a, u64, Waiter>,
}

impl Iterator for Waiters<'_> {
    type Item = WaiterView;

    fn next(&mut self) -> Option<WaiterView> {
        let waiter = self.queue.next()?;
        Some(WaiterView { session: waiter.session, request: waiter.request })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.queue.size_hint()
    }
}

impl ExactSizeIterator for Waiters<'_> {}
