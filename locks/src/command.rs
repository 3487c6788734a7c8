//! What the log carries to the machine, and what the machine answers.

use std::fmt;

/// The secret name of a session, 128 random bits of the client's choosing. What makes Open safe
/// to repeat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

/// The public name of a session: the index of its Open entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Counts the attachments of a session, from 1; every move raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// The client's number of a request, rising per session from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A fencing token: epoch (15 bits) above `n` (48 bits). Positive, fits a signed 64-bit column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One boot of one sidecar: what a session is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// The member's identity.
    pub member: u128,
    /// The random bits of its boot.
    pub boot: u64,
}

/// What a name is while anybody holds it or waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A lock.
    Lock,
    /// An election: a lock with a value and observers.
    Election,
}

/// How a claim shares its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One holder.
    Exclusive,
    /// With others that share. Carried, and refused by this version.
    Shared,
}

/// A request for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose.
    pub session: SessionId,
    /// Void if the session has moved on from it.
    pub generation: Generation,
    /// The same id is the same claim.
    pub request: RequestId,
    /// Outcomes below this may be forgotten.
    pub lowest_unacked: RequestId,
    /// 1 to 256 bytes of UTF-8.
    pub name: String,
    /// Lock or election.
    pub kind: NameKind,
    /// How it shares.
    pub mode: Mode,
    /// How many permits; 1.
    pub permits: u32,
    /// Higher goes first; 0.
    pub priority: i32,
    /// An election's value, at most 4 KiB.
    pub value: Vec<u8>,
    /// Wait in the queue if the name is taken; else answer `NotAcquired`.
    pub queue: bool,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new life of the cluster: tokens start at this epoch, after this `n`. The context of
    /// entry 1.
    Start {
        /// 1 to 32,766.
        epoch: u16,
        /// Below 2^48.
        last_n: u64,
    },
    /// A new session.
    Open {
        /// Its secret.
        key: Key,
        /// 1,000 to 600,000.
        ttl_ms: u32,
        /// Where.
        attachment: Attachment,
        /// For people; at most 256 bytes.
        label: String,
    },
    /// A session moves to another boot of a sidecar, or to another sidecar.
    Resume {
        /// Its secret.
        key: Key,
        /// The generation that this replaces: else refused, with the present one.
        replaces: Generation,
        /// Where to.
        attachment: Attachment,
    },
    /// A session ends because its client, or the sidecar for it, says so.
    Close {
        /// Which.
        session: SessionId,
        /// Void if it moved.
        generation: Generation,
    },
    /// Sessions end because the leader did not hear of them for a TTL. Each void if it moved.
    Expire {
        /// Which.
        sessions: Vec<(SessionId, Generation)>,
    },
    /// A name is asked for.
    Claim(Claim),
    /// A name is given back.
    Release {
        /// Whose.
        session: SessionId,
        /// Void if it moved.
        generation: Generation,
        /// The client's request; none when the sidecar gives back a grant that nobody took.
        request: Option<(RequestId, RequestId)>,
        /// Which name.
        name: String,
        /// Under which grant.
        token: Token,
    },
    /// A wait ends. If the claim is granted already, the answer is that grant, and nothing
    /// changes.
    Cancel {
        /// Whose.
        session: SessionId,
        /// Void if it moved.
        generation: Generation,
        /// The request id of the claim.
        request: RequestId,
    },
}

/// A grant that a session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The name.
    pub name: String,
    /// Its kind.
    pub kind: NameKind,
    /// The token.
    pub token: Token,
    /// The request id of its claim.
    pub request: RequestId,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The life began.
    Started,
    /// The session is there, attached as asked; the same for a repeated Open.
    Opened {
        /// Its public name.
        session: SessionId,
        /// Its attachment's number.
        generation: Generation,
        /// Its TTL.
        ttl_ms: u32,
    },
    /// The session moved.
    Resumed {
        /// Its public name.
        session: SessionId,
        /// The new attachment's number.
        generation: Generation,
        /// Its TTL.
        ttl_ms: u32,
        /// All that it holds, by name.
        grants: Vec<Grant>,
        /// The smallest request id that it has not used.
        next_request: RequestId,
    },
    /// The session ended; so many grants went with it.
    Closed {
        /// How many.
        released: u32,
    },
    /// So many sessions ended.
    Expired {
        /// How many.
        ended: u32,
    },
    /// The name is the session's.
    Granted {
        /// The token.
        token: Token,
    },
    /// In the queue.
    Queued {
        /// Claims ahead, the holder not counted.
        position: u32,
    },
    /// Taken, and the claim did not want to queue.
    NotAcquired,
    /// Given back.
    Released,
    /// The claim is out of the queue, or was never there.
    Cancelled,
    /// Not done, and why.
    Refused(Refusal),
}

/// Why the machine did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such session: never opened, ended, or the key is wrong.
    SessionUnknown,
    /// The session is attached elsewhere; this is its present generation.
    SessionMoved(Generation),
    /// The key is known with another TTL, in ms.
    TtlDiffers(u32),
    /// The name is of another kind while in use.
    KindMismatch {
        /// What it is.
        present: NameKind,
        /// What was asked for.
        asked: NameKind,
    },
    /// The session has, or waits for, this name under another request id.
    AlreadyHeld(RequestId),
    /// Below `lowest_unacked`: never executed now.
    RequestTooOld(RequestId),
    /// The request id was used for something else.
    RequestReused,
    /// 256 outcomes are kept already.
    TooManyOutcomes,
    /// The session does not hold the name.
    NotHolder,
    /// The session holds the name under this newer token.
    StaleToken(Token),
    /// 10,000 wait already.
    QueueFull,
    /// The session holds and waits for 65,536 names already.
    TooManyClaims,
    /// 1,000,000 names are in use already.
    TooManyNames,
    /// 100,000 sessions are open already.
    TooManySessions,
    /// A field is out of range: never made by a sidecar of this version.
    Invalid(&'static str),
    /// No token is left in this epoch.
    TokensExhausted,
    /// The life has begun already, or has not.
    NotStarted,
}

/// Why a session, claim or grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Released by its holder.
    Released,
    /// Cancelled by its waiter.
    Cancelled,
    /// The session was closed.
    Closed,
    /// The session expired.
    Expired,
}

/// What an applied command changed, for those who listen, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session moved to a new attachment.
    Moved {
        /// Which.
        session: SessionId,
        /// The new number.
        generation: Generation,
        /// Where to.
        attachment: Attachment,
    },
    /// A claim got its name, at once or from the queue.
    Granted {
        /// Whose.
        session: SessionId,
        /// Its claim's request id.
        request: RequestId,
        /// The name.
        name: String,
        /// The token.
        token: Token,
    },
    /// A grant ended.
    Lost {
        /// Whose.
        session: SessionId,
        /// Its claim's request id.
        request: RequestId,
        /// The name.
        name: String,
        /// The token.
        token: Token,
        /// Why.
        cause: Cause,
    },
    /// A waiting claim ended without a grant.
    Dequeued {
        /// Whose.
        session: SessionId,
        /// Its request id.
        request: RequestId,
        /// The name.
        name: String,
        /// Why.
        cause: Cause,
    },
    /// A session ended, after all that it had.
    Ended {
        /// Which.
        session: SessionId,
        /// Why.
        cause: Cause,
    },
}

impl fmt::Debug for Key {
    // A key is a secret: it does not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Token {
    /// The epoch part.
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.0 >> 48
    }

    /// The counting part.
    #[must_use]
    pub const fn n(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
