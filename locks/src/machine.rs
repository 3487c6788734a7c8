//! The machine: dispatch, the life of sessions, and what readers see.
//!
//! Invariants: see the crate; `invariants.rs` checks them. The life of claims is in `claims.rs`.
//!
//! Must not refuse a command after it has begun to change something.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::command::{
    Attachment, Cause, Command, Event, Generation, Key, Outcome, Refusal, RequestId, SessionId,
    Token,
};
use crate::limits::{LABEL_BYTES_MAX, SESSIONS_MAX, TTL_MS_MAX, TTL_MS_MIN};
use crate::name::{Name, NameView};
use crate::planted::{self, Bug};
use crate::requests::{Known, Place};
use crate::session::Session;
use crate::tokens::Tokens;

/// The replicated state: sessions, names, tokens. The default one has not started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// None before the life began.
    pub(crate) tokens: Option<Tokens>,
    /// The index of the last applied command, 0 before the first.
    pub(crate) last_index: u64,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) keys: BTreeMap<Key, SessionId>,
    pub(crate) names: BTreeMap<Arc<str>, Name>,
    /// Nothing is granted until this is lifted: how long a leader waits for that, in ms.
    pub(crate) hold_off_ms: Option<u32>,
}

impl Machine {
    /// A machine that waits for its Start.
    #[must_use]
    pub fn new() -> Machine {
        Machine::default()
    }

    /// Applies a command that no entry carries: the planted bug of the sidecar, and nothing else.
    #[cfg(feature = "planted")]
    pub fn apply_unlogged(&mut self, command: &Command, events: &mut Vec<Event>) -> Outcome {
        let last = self.last_index;
        let outcome = self.apply(last + 1, command, events);
        self.last_index = last;
        outcome
    }

    /// Applies the command at log index `index`. Total; knows no clock. What changed for
    /// listeners is appended to `events`, in order. A refused command changes nothing.
    ///
    /// # Panics
    /// If `index` is not above [`Machine::last_index`]: an entry applied twice is a bug of ours.
    pub fn apply(&mut self, index: u64, command: &Command, events: &mut Vec<Event>) -> Outcome {
        self.enter(index);
        if self.tokens.is_none() && !matches!(command, Command::Start { .. }) {
            return Outcome::Refused(Refusal::NotStarted);
        }
        let announced = events.len();
        self.dispatch(command, events).unwrap_or_else(|refusal| {
            assert_eq!(events.len(), announced, "a refused command made events");
            Outcome::Refused(refusal)
        })
    }

    /// Begins the entry at this index.
    pub(crate) fn enter(&mut self, index: u64) {
        assert!(index > self.last_index, "entry {index} applied after {}", self.last_index);
        self.last_index = index;
    }

    fn dispatch(&mut self, command: &Command, events: &mut Vec<Event>) -> Result<Outcome, Refusal> {
        match command {
            Command::Start { epoch, last_n } => self.start(*epoch, *last_n),
            Command::Open { key, ttl_ms, attachment, label } => {
                self.open(*key, *ttl_ms, *attachment, label)
            }
            Command::Resume { key, replaces, attachment } => {
                self.resume(*key, *replaces, *attachment, events)
            }
            Command::Close { session, generation } => self.close(*session, *generation, events),
            Command::Expire { sessions } => Ok(self.expire(sessions, events)),
            Command::Claim(claim) => self.claim(claim, events),
            Command::Release { session, generation, request, name, token } => {
                self.attached(*session, *generation)?;
                self.release(*session, *request, (name, *token), events)
            }
            Command::Cancel { session, generation, request } => {
                self.attached(*session, *generation)?;
                self.cancel(*session, *request, events)
            }
        }
    }

    fn start(&mut self, epoch: u16, last_n: u64) -> Result<Outcome, Refusal> {
        let asked = Tokens::start(epoch, last_n)?;
        match self.tokens {
            None => {
                assert!(self.sessions.is_empty() && self.names.is_empty(), "state before a Start");
                self.tokens = Some(asked);
                Ok(Outcome::Started)
            }
            Some(present) if (present.epoch, present.start_n) == (epoch, last_n) => {
                Ok(Outcome::Started)
            }
            Some(_) => Err(Refusal::NotStarted),
        }
    }

    fn open(
        &mut self,
        key: Key,
        ttl_ms: u32,
        attachment: Attachment,
        label: &str,
    ) -> Result<Outcome, Refusal> {
        if !(TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) {
            return Err(Refusal::Invalid("ttl_ms"));
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err(Refusal::Invalid("label"));
        }
        if let Some((id, session)) = self.session_by_key(key) {
            return if session.ttl_ms != ttl_ms {
                Err(Refusal::TtlDiffers(session.ttl_ms))
            } else if session.attachment != attachment && planted::is(Bug::OpenTakesOver) {
                let session = self.sessions.get_mut(&id).expect("a known key has its session");
                session.attachment = attachment;
                Ok(session.opened(id))
            } else if session.attachment != attachment {
                Err(Refusal::SessionMoved(session.generation))
            } else {
                Ok(session.opened(id))
            };
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(Refusal::TooManySessions);
        }
        let id = SessionId(self.last_index);
        let session = Session::new(key, ttl_ms, attachment, label);
        let outcome = session.opened(id);
        let before = self.sessions.insert(id, session);
        assert!(before.is_none(), "two sessions of one entry");
        self.keys.insert(key, id);
        Ok(outcome)
    }

    fn resume(
        &mut self,
        key: Key,
        replaces: Generation,
        attachment: Attachment,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        let id = *self.keys.get(&key).ok_or(Refusal::SessionUnknown)?;
        let session = self.sessions.get_mut(&id).expect("a known key has its session");
        let replaces = match planted::is(Bug::OldResumeWins) {
            true => session.generation,
            false => replaces,
        };
        if session.generation == replaces {
            // Cannot overflow: each move takes an entry, and indexes are 64 bits as well.
            session.generation = Generation(replaces.0 + 1);
            session.attachment = attachment;
            let generation = session.generation;
            events.push(Event::Moved { session: id, generation, attachment });
            return Ok(session.resumed(id));
        }
        let repeated = replaces.0.checked_add(1) == Some(session.generation.0)
            && session.attachment == attachment;
        if repeated {
            return Ok(session.resumed(id));
        }
        Err(Refusal::SessionMoved(session.generation))
    }

    fn close(
        &mut self,
        id: SessionId,
        generation: Generation,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Refusal> {
        self.attached(id, generation)?;
        let released = self.end_sessions(&[id], Cause::Closed, events);
        Ok(Outcome::Closed { released })
    }

    /// Ends those that still are where the leader saw them; a session named twice ends once.
    fn expire(&mut self, sessions: &[(SessionId, Generation)], events: &mut Vec<Event>) -> Outcome {
        let mut seen = BTreeSet::new();
        let mut dead = Vec::new();
        for &(id, generation) in sessions {
            let there = planted::is(Bug::ExpireIgnoresMove) && self.sessions.contains_key(&id);
            if (self.attached(id, generation).is_ok() || there) && seen.insert(id) {
                dead.push(id);
            }
        }
        self.end_sessions(&dead, Cause::Expired, events);
        Outcome::Expired { ended: u32::try_from(dead.len()).expect("at most 100,000 sessions") }
    }

    /// Ends sessions in one step and returns how many grants went with them.
    ///
    /// All their waits leave the queues before the first grant is freed: none of the dead is
    /// granted anything. Then the names are freed in the order of names, over all the dead
    /// together: the order in which one entry gives tokens.
    pub(crate) fn end_sessions(
        &mut self,
        ids: &[SessionId],
        cause: Cause,
        events: &mut Vec<Event>,
    ) -> u32 {
        let mut freed = BTreeSet::new();
        for &id in ids {
            let session = self.sessions.remove(&id).expect("the dead are known and named once");
            let key = self.keys.remove(&session.key);
            assert_eq!(key, Some(id), "a session without its key");
            for (name, request) in session.requests.by_name {
                match session.requests.live[&request].place {
                    Place::Queued { arrival } => self.dequeue(&name, arrival, cause, events),
                    Place::Granted { .. } if planted::is(Bug::DeadSessionGranted) => {
                        self.free(&name, cause, events);
                    }
                    Place::Granted { .. } => {
                        let first = freed.insert(name);
                        assert!(first, "two holders of one name");
                    }
                }
            }
        }
        let released = u32::try_from(freed.len()).expect("grants take memory: far below 2^32");
        for name in &freed {
            self.free(name, cause, events);
        }
        events.extend(ids.iter().map(|&session| Event::Ended { session, cause }));
        released
    }

    /// The session, if it is still attached under this generation.
    pub(crate) fn attached(
        &self,
        id: SessionId,
        generation: Generation,
    ) -> Result<&Session, Refusal> {
        let session = self.sessions.get(&id).ok_or(Refusal::SessionUnknown)?;
        if session.generation != generation && !planted::is(Bug::GenerationIgnored) {
            return Err(Refusal::SessionMoved(session.generation));
        }
        Ok(session)
    }
}

/// Reads.
impl Machine {
    /// The open session with this id.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Whether this request of this session was executed: its repetition asks for nothing new.
    #[must_use]
    pub fn knows(&self, session: SessionId, request: RequestId) -> bool {
        let session = self.sessions.get(&session);
        session.is_some_and(|s| !matches!(s.requests.find(request), Known::Fresh))
    }

    /// The open session with this key.
    #[must_use]
    pub fn session_by_key(&self, key: Key) -> Option<(SessionId, &Session)> {
        let id = *self.keys.get(&key)?;
        Some((id, self.sessions.get(&id)?))
    }

    /// All open sessions, by id.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> + '_ {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// A name that is held or waited for.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<NameView<'_>> {
        self.names.get(name).map(Name::view)
    }

    /// All names in use that begin with `prefix`, in the order of their bytes.
    pub fn names<'a>(
        &'a self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a str, NameView<'a>)> + use<'a> {
        let prefix = prefix.to_owned();
        self.names
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(move |(name, _)| name.starts_with(&prefix))
            .map(|(name, entry)| (&**name, entry.view()))
    }

    /// The highest token ever given, or the one that the life began after; 0 before the Start.
    #[must_use]
    pub fn last_token(&self) -> Token {
        self.tokens.map_or(Token(0), |tokens| tokens.last())
    }

    /// The index of the last applied command, 0 before the first. A snapshot of a machine whose
    /// `last_index` is above the index that the snapshot claims is damaged.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// How many sessions are open.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// How many names are in use.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.names.len()
    }
}
