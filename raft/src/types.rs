//! The words of consensus as types: terms, indexes, identities, entries.

use std::fmt;
use std::sync::Arc;

/// A moment, in nanoseconds on the host's clock. Ours rather than `std::time::Instant`, which no
/// seed could make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// A moment that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// This moment plus `nanos`; stops at [`Time::NEVER`].
    #[must_use]
    pub const fn after(self, nanos: u64) -> Time {
        Time(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to this moment; 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A leader's period of office; at most one leader a term (Raft paper, section 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The next term. Saturates: a peer that claims the last term must not make us panic.
    #[must_use]
    pub const fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}

/// A place in the log, from 1; 0 is before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

impl Index {
    /// The next place.
    #[must_use]
    pub const fn next(self) -> Index {
        Index(self.0.saturating_add(1))
    }

    /// The place before; 0 stays 0.
    #[must_use]
    pub const fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

/// An entry's identity: no two different entries share one. Ordered as logs are compared in
/// elections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its place.
    pub index: Index,
}

impl LogId {
    /// Before the first entry.
    pub const ZERO: LogId = LogId { term: Term(0), index: Index(0) };

    /// The entry of `term` at `index`.
    #[must_use]
    pub const fn new(term: u64, index: u64) -> LogId {
        LogId { term: Term(term), index: Index(index) }
    }
}

/// A member, for ever: 128 random bits made with its data directory; small numbers in scripts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(pub u128);

/// The host's handle of one request to the core. The core only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The number of one write. Writes complete strictly in this order; 0 is always complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoSeq(pub u64);

/// The number of one read round, rising within a term and never reused in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new leader's first entry: commits what came before it.
    Noop,
    /// A command of the state machine.
    Command,
    /// A configuration, and a context of the host's (see [`crate::Configuration`]).
    Configuration,
}

/// An entry, encoded once: these bytes are the log record's body and travel to peers as they are.
///
/// Layout: kind (1 byte), term (8, little endian), index (8), payload.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    bytes: Arc<[u8]>,
}

/// Bytes that are no entry: why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than the fixed part.
    Short,
    /// A kind that this version does not know: never skipped.
    UnknownKind(u8),
    /// A field outside its range, named.
    Field(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Short => f.write_str("too short"),
            Malformed::UnknownKind(kind) => write!(f, "unknown kind {kind}"),
            Malformed::Field(name) => write!(f, "{name} is out of range"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Entry {
    /// Bytes before the payload.
    pub const HEADER_BYTES: usize = 17;

    /// Encodes an entry.
    #[must_use]
    pub fn new(id: LogId, kind: Kind, payload: &[u8]) -> Entry {
        let mut bytes = Vec::with_capacity(Self::HEADER_BYTES + payload.len());
        bytes.push(match kind {
            Kind::Noop => 0,
            Kind::Command => 1,
            Kind::Configuration => 2,
        });
        bytes.extend_from_slice(&id.term.0.to_le_bytes());
        bytes.extend_from_slice(&id.index.0.to_le_bytes());
        bytes.extend_from_slice(payload);
        Entry { bytes: bytes.into() }
    }

    /// Takes bytes from a peer or the disk.
    ///
    /// # Errors
    /// What is wrong with them; an entry that decodes has a valid kind and an index of at least 1.
    pub fn decode(bytes: Arc<[u8]>) -> Result<Entry, Malformed> {
        if bytes.len() < Self::HEADER_BYTES {
            return Err(Malformed::Short);
        }
        if bytes[0] > 2 {
            return Err(Malformed::UnknownKind(bytes[0]));
        }
        let entry = Entry { bytes };
        if entry.id().index == Index(0) {
            return Err(Malformed::Field("index"));
        }
        if entry.id().term == Term(0) {
            return Err(Malformed::Field("term"));
        }
        Ok(entry)
    }

    /// Term and index.
    #[must_use]
    pub fn id(&self) -> LogId {
        LogId { term: Term(self.word(1)), index: Index(self.word(9)) }
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.bytes[0] {
            0 => Kind::Noop,
            1 => Kind::Command,
            _ => Kind::Configuration,
        }
    }

    /// The command or configuration; empty for a no-op.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[Self::HEADER_BYTES..]
    }

    /// The whole encoding.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    fn word(&self, at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(word)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term.0, self.index.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Scripts use small numbers; a real one is always long.
        if self.0 < 1_000_000 { write!(f, "{}", self.0) } else { write!(f, "{:032x}", self.0) }
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberId({self})")
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} {:?} {} bytes)", self.id(), self.kind(), self.payload().len())
    }
}
