//! All that must hold of a machine between two commands, in one place: a snapshot is judged by
//! it, and so is every step in the simulator.
//!
//! Must not change anything, and must not panic but in [`Machine::check`].

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::claims::{name_fits, value_fits};
use crate::command::{RequestId, SessionId, Token};
use crate::limits::{
    HOLD_OFF_MS_MAX, LABEL_BYTES_MAX, OUTCOMES_MAX, QUEUE_MAX, REQUEST_MAX, SESSIONS_MAX,
    TTL_MS_MAX, TTL_MS_MIN,
};
use crate::machine::Machine;
use crate::name::Name;
use crate::requests::{Kept, Live, Place, Requests};
use crate::session::Session;
use crate::tokens::Tokens;

type Verdict = Result<(), &'static str>;

impl Machine {
    /// Asserts every invariant of the state. For tests and the simulator: O(size of the state).
    ///
    /// # Panics
    /// If one is broken, naming it. No input can bring that about.
    pub fn check(&self) {
        let verdict = self.validate();
        assert_eq!(verdict, Ok(()), "an invariant of the machine is broken");
    }

    pub(crate) fn validate(&self) -> Verdict {
        let Some(tokens) = self.tokens else {
            let blank = self.sessions.is_empty() && self.keys.is_empty() && self.names.is_empty();
            holds(self.hold_off_ms.is_none(), "only a life that began holds off")?;
            return holds(blank, "nothing exists before the Start");
        };
        holds(Tokens::start(tokens.epoch, tokens.start_n).is_ok(), "the Start is in range")?;
        holds(tokens.start_n <= tokens.last_n, "n only rises")?;
        holds(Tokens::start(tokens.epoch, tokens.last_n).is_ok(), "n is below 2^48")?;
        holds(self.last_index > 0, "the Start has an index")?;
        let bounded = self.hold_off_ms.is_none_or(|ms| (1..=HOLD_OFF_MS_MAX).contains(&ms));
        holds(bounded, "a hold-off is in range")?;
        holds(self.sessions.len() <= SESSIONS_MAX, "at most 100,000 sessions")?;
        holds(self.sessions.len() == self.keys.len(), "a session has one key")?;
        let mut live = 0;
        for (id, session) in &self.sessions {
            self.validate_session(*id, session)?;
            live += session.requests.live.len();
        }
        self.validate_names(tokens, live)
    }

    fn validate_session(&self, id: SessionId, session: &Session) -> Verdict {
        holds((1..=self.last_index).contains(&id.0), "a session was opened by an entry")?;
        holds(self.keys.get(&session.key) == Some(&id), "a key leads to its session")?;
        holds((TTL_MS_MIN..=TTL_MS_MAX).contains(&session.ttl_ms), "ttl_ms is in range")?;
        holds(session.label.len() <= LABEL_BYTES_MAX, "a label is at most 256 bytes")?;
        let entries = self.last_index - id.0 + 1;
        let possible = (1..=entries).contains(&session.generation.0);
        holds(possible, "each generation took an entry")?;
        validate_requests(&session.requests)?;
        session
            .requests
            .live
            .iter()
            .try_for_each(|(request, live)| self.validate_live(id, *request, live))
    }

    /// A live claim stands in its name, at the place that it says.
    fn validate_live(&self, session: SessionId, request: RequestId, live: &Live) -> Verdict {
        let name = self.names.get(&live.name).ok_or("a live claim keeps its name")?;
        holds(name.kind == live.kind, "a claim is of the kind of its name")?;
        let there = match live.place {
            Place::Granted { token } => name.holder.as_ref().is_some_and(|holder| {
                (holder.session, holder.request, holder.token) == (session, request, token)
            }),
            Place::Queued { arrival } => name
                .queue
                .get(&arrival)
                .is_some_and(|waiter| (waiter.session, waiter.request) == (session, request)),
        };
        holds(there, "a live claim stands where it says")
    }

    /// Every place in a name belongs to a live claim: each live claim has one (see above), and
    /// there are as many of the one as of the other.
    fn validate_names(&self, tokens: Tokens, live: usize) -> Verdict {
        let mut places = 0;
        let mut given: BTreeSet<Token> = BTreeSet::new();
        let mut arrivals: BTreeSet<u64> = BTreeSet::new();
        for (name, entry) in &self.names {
            self.validate_name(tokens, name, entry)?;
            places += usize::from(entry.holder.is_some()) + entry.queue.len();
            if let Some(holder) = &entry.holder {
                holds(given.insert(holder.token), "a token is given once")?;
            }
            for arrival in entry.queue.keys() {
                holds(arrivals.insert(*arrival), "an entry makes one claim")?;
            }
        }
        holds(places == live, "every place belongs to a live claim")
    }

    fn validate_name(&self, tokens: Tokens, name: &Arc<str>, entry: &Name) -> Verdict {
        holds(name_fits(name), "a name is 1 to 256 bytes")?;
        holds(!entry.is_empty(), "an empty name vanishes")?;
        holds(entry.queue.len() <= QUEUE_MAX, "at most 10,000 wait")?;
        match &entry.holder {
            None => {
                let nobody = self.hold_off_ms.is_some() || tokens.exhausted(self.last_index);
                holds(nobody, "the first waiter holds the name")?;
            }
            Some(holder) => {
                let token = holder.token;
                holds(token.epoch() == u64::from(tokens.epoch), "a token is of the epoch")?;
                let range = tokens.start_n + 1..=tokens.last_n;
                holds(range.contains(&token.n()), "a token was given in this life")?;
                holds(value_fits(entry.kind, &holder.value), "a value fits its kind")?;
            }
        }
        entry.queue.iter().try_for_each(|(arrival, waiter)| {
            let after_open = *arrival > waiter.session.0 && *arrival <= self.last_index;
            holds(after_open, "a claim came after its session")?;
            holds(value_fits(entry.kind, &waiter.value), "a value fits its kind")
        })
    }
}

fn validate_requests(requests: &Requests) -> Verdict {
    let Requests { floor, next, live, by_name, kept } = requests;
    holds(floor.0 >= 1 && next.0 >= 1, "requests count from 1")?;
    holds(*next == RequestId(1) && floor.0 == 1 || floor < next, "the floor was used")?;
    let mut used = live.keys().chain(kept.keys());
    let in_range = used.all(|id| id.0 >= 1 && id < next && *id <= REQUEST_MAX);
    holds(in_range, "a known request id was used")?;
    holds(kept.keys().all(|id| id >= floor), "nothing is kept below the floor")?;
    holds(!kept.keys().any(|id| live.contains_key(id)), "a request has one outcome")?;
    let bounded = kept.len() + live.range(floor..).count();
    holds(bounded <= OUTCOMES_MAX, "at most 256 outcomes")?;
    let named = kept.values().all(|kept| match kept {
        Kept::Claim { name, .. } | Kept::Release { name, .. } => name_fits(name),
        Kept::Void => true,
    });
    holds(named, "an outcome has a name in range")?;
    let both = live.iter().all(|(id, live)| by_name.get(&live.name) == Some(id));
    holds(both && live.len() == by_name.len(), "one live claim a name and session")
}

fn holds(condition: bool, what: &'static str) -> Verdict {
    if condition { Ok(()) } else { Err(what) }
}
