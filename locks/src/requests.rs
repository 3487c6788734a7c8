//! What a session remembers of its requests, so that a repeated one is not executed twice.
//!
//! Two tables. `live`: the claims that hold or wait; each stays known by its request id for as
//! long as it lives. `kept`: what ended, from the floor on, until the client acknowledges it.
//!
//! Invariants: an id is in at most one table; every id in a table was used, so it is below `next`;
//! nothing below the floor is kept; kept and live ids from the floor on are at most 256, because
//! one is added only after [`Requests::has_room`], and the floor only rises.
//!
//! Must not know names beyond their text, nor decide who gets one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::{NameKind, Refusal, RequestId, Token};
use crate::limits::{CLAIMS_MAX, OUTCOMES_MAX};
use crate::planted::{self, Bug};

/// Where a live claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Queued { arrival: u64 },
    Granted { token: Token },
}

/// A claim that holds or waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) name: Arc<str>,
    pub(crate) kind: NameKind,
    pub(crate) place: Place,
}

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    NotAcquired,
    Released,
    Cancelled,
}

/// A request that is over, and what its repetition is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Claim {
        name: Arc<str>,
        kind: NameKind,
        end: End,
    },
    /// A claim that was cancelled before it arrived: never to be executed, whatever it asks for.
    Void,
    Release {
        name: Arc<str>,
        token: Token,
    },
}

/// What is known of a request id.
pub(crate) enum Known<'a> {
    Fresh,
    /// Below the floor, and not a live claim.
    TooOld,
    Live(&'a Live),
    Kept(&'a Kept),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    /// The highest `lowest_unacked` of an executed request, at least 1.
    pub(crate) floor: RequestId,
    /// One above the highest id in use.
    pub(crate) next: RequestId,
    pub(crate) live: BTreeMap<RequestId, Live>,
    /// The live claims by name: a session has at most one on a name.
    pub(crate) by_name: BTreeMap<Arc<str>, RequestId>,
    pub(crate) kept: BTreeMap<RequestId, Kept>,
}

impl Requests {
    pub(crate) fn new() -> Requests {
        Requests {
            floor: RequestId(1),
            next: RequestId(1),
            live: BTreeMap::new(),
            by_name: BTreeMap::new(),
            kept: BTreeMap::new(),
        }
    }

    pub(crate) fn find(&self, request: RequestId) -> Known<'_> {
        if let Some(live) = self.live.get(&request) {
            return Known::Live(live);
        }
        if let Some(kept) = self.kept.get(&request) {
            return Known::Kept(kept);
        }
        if request < self.floor { Known::TooOld } else { Known::Fresh }
    }

    /// Whether one more outcome fits once everything below `unacked` is forgotten.
    /// Both counts stop at 256.
    pub(crate) fn has_room(&self, unacked: RequestId) -> bool {
        let floor = self.floor.max(unacked);
        let used = self.kept.range(floor..).count() + self.live.range(floor..).count();
        assert!(used <= OUTCOMES_MAX, "more outcomes than the bound");
        used < OUTCOMES_MAX
    }

    /// Refused if as many claims hold or wait as a session may have. A machine of an earlier
    /// version may have let in more: they stay.
    pub(crate) fn may_begin(&self) -> Result<(), Refusal> {
        if self.live.len() >= CLAIMS_MAX { Err(Refusal::TooManyClaims) } else { Ok(()) }
    }

    /// The client has the answers below `unacked`: they are forgotten, live claims excepted.
    pub(crate) fn acknowledge(&mut self, unacked: RequestId) {
        if unacked <= self.floor {
            return;
        }
        assert!(unacked < self.next, "acknowledged past the request that says so");
        self.floor = unacked;
        self.kept = self.kept.split_off(&unacked);
    }

    pub(crate) fn keep(&mut self, request: RequestId, kept: Kept) {
        assert!(request >= self.floor, "kept an outcome below the floor");
        let before = self.kept.insert(request, kept);
        assert!(before.is_none(), "a request ended twice");
        self.used(request);
    }

    pub(crate) fn begin(&mut self, request: RequestId, live: Live) {
        let other = self.by_name.insert(Arc::clone(&live.name), request);
        assert!(other.is_none(), "two live claims of a session on one name");
        let before = self.live.insert(request, live);
        assert!(before.is_none(), "a request began twice");
        self.used(request);
    }

    /// A queued claim got its name.
    pub(crate) fn grant(&mut self, request: RequestId, token: Token) {
        let live = self.live.get_mut(&request).expect("a queued claim is live");
        assert!(matches!(live.place, Place::Queued { .. }), "granted twice");
        live.place = Place::Granted { token };
    }

    /// A live claim is over. Its outcome is kept unless the client has acknowledged it already.
    pub(crate) fn end(&mut self, request: RequestId, end: End) {
        let live = self.live.remove(&request).expect("a claim that ends is live");
        let by_name = self.by_name.remove(&live.name);
        assert_eq!(by_name, Some(request), "the tables of live claims differ");
        if request >= self.floor && !planted::is(Bug::EndedClaimForgotten) {
            self.keep(request, Kept::Claim { name: live.name, kind: live.kind, end });
        }
    }

    fn used(&mut self, request: RequestId) {
        assert!(request.0 < u64::MAX, "a request id without a next one");
        self.next = self.next.max(RequestId(request.0 + 1));
    }
}
