//! Every refusal that a client can see: one table.
//!
//! A refusal is a gRPC status with a `google.rpc.ErrorInfo`; its `reason` is the name here, its
//! message says which field, which value, which limit, and what to do.

use quorate_locks::{NameKind, Refusal, RequestId, limits};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident;)*) => {
        /// Why a request was not done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All of them, for documents and tests.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The gRPC code.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Reason::$name => Code::$code,)* }
            }
        }
    };
}

/// The gRPC codes in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are gRPC's own.
pub enum Code {
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
}

reasons! {
    /// No leader, or no majority, in time. What was asked is not done, or unknown: `outcome` in the
    /// metadata.
    NoQuorum = "NO_QUORUM", Unavailable;
    /// The session's TTL passed without a renewal.
    SessionExpired = "SESSION_EXPIRED", FailedPrecondition;
    /// No session of this key.
    SessionUnknown = "SESSION_UNKNOWN", NotFound;
    /// The session is attached to another sidecar, or to another boot of this one: Resume it.
    SessionMoved = "SESSION_MOVED", FailedPrecondition;
    /// The session was closed.
    SessionClosed = "SESSION_CLOSED", FailedPrecondition;
    /// The session does not hold the name.
    NotHolder = "NOT_HOLDER", FailedPrecondition;
    /// The session holds the name under a newer token.
    StaleToken = "STALE_TOKEN", FailedPrecondition;
    /// The name is of another kind while in use.
    KindMismatch = "KIND_MISMATCH", FailedPrecondition;
    /// The session has, or waits for, the name under another request id.
    AlreadyHeld = "ALREADY_HELD", AlreadyExists;
    /// The TTL is out of range, or not the session's.
    TtlOutOfRange = "TTL_OUT_OF_RANGE", InvalidArgument;
    /// The name is empty or too long.
    BadName = "BAD_NAME", InvalidArgument;
    /// A field is missing or out of range.
    BadRequest = "BAD_REQUEST", InvalidArgument;
    /// The value is too large.
    ValueTooLarge = "VALUE_TOO_LARGE", InvalidArgument;
    /// Too many wait for the name.
    QueueFull = "QUEUE_FULL", ResourceExhausted;
    /// The session holds and waits for too many names.
    TooManyClaims = "TOO_MANY_CLAIMS", ResourceExhausted;
    /// Too many names are in use.
    TooManyNames = "TOO_MANY_NAMES", ResourceExhausted;
    /// Too many sessions are open.
    TooManySessions = "TOO_MANY_SESSIONS", ResourceExhausted;
    /// Too many requests at this sidecar, or too many outcomes kept for the session.
    TooManyRequests = "TOO_MANY_REQUESTS", ResourceExhausted;
    /// The request id is below the session's `lowest_unacked`: not executed.
    RequestTooOld = "REQUEST_TOO_OLD", FailedPrecondition;
    /// The request id was used for something else.
    RequestReused = "REQUEST_REUSED", InvalidArgument;
    /// The wait ended; the claim is out of the queue for certain.
    WaitExpired = "WAIT_EXPIRED", DeadlineExceeded;
    /// This sidecar is stopping.
    Draining = "DRAINING", Unavailable;
    /// The disks of the group have no room for new commands.
    DiskFull = "DISK_FULL", ResourceExhausted;
    /// This sidecar's own log is damaged: it takes no part in its group.
    DiskUnfit = "DISK_UNFIT", Unavailable;
    /// This sidecar was told to retire: it takes no part in its group any more.
    Retired = "RETIRED", Unavailable;
    /// The client's clock is not this sidecar's: another time namespace.
    ClockNamespace = "CLOCK_NAMESPACE", InvalidArgument;
    /// The client did not read its stream.
    SlowReader = "SLOW_READER", ResourceExhausted;
    /// The group has no members yet.
    NotBootstrapped = "NOT_BOOTSTRAPPED", Unavailable;
    /// Our own fault.
    Internal = "INTERNAL", Internal;
}

/// A refusal with its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub reason: Reason,
    /// Field, value, limit, what to do.
    pub message: String,
    /// Machine-readable details.
    pub metadata: Vec<(&'static str, String)>,
}

impl Failure {
    /// A refusal without details.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Failure {
        Failure { reason, message: message.into(), metadata: Vec::new() }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Failure {
        self.metadata.push((name, value.to_string()));
        self
    }

    /// The session is attached elsewhere.
    #[must_use]
    pub fn moved(generation: u64) -> Failure {
        Failure::new(
            Reason::SessionMoved,
            format!(
                "the session is attached to another sidecar or to an earlier boot of this one \
                 (generation {generation}); Resume it with that generation"
            ),
        )
        .with("generation", generation)
    }

    /// No session of this key is here.
    #[must_use]
    pub fn unknown() -> Failure {
        Failure::new(
            Reason::SessionUnknown,
            "no session has this key: it was never opened, or it ended; Open a new one",
        )
    }

    /// What the machine refused.
    #[must_use]
    pub fn refused(refusal: Refusal) -> Failure {
        use Refusal as R;
        let kind = |kind| if kind == NameKind::Lock { "a lock" } else { "an election" };
        match refusal {
            R::SessionUnknown => Failure::unknown(),
            R::SessionMoved(generation) => Failure::moved(generation.0),
            R::TtlDiffers(ttl) => Failure::new(
                Reason::TtlOutOfRange,
                format!("ttl_ms differs from the session's own, {ttl}; use that, or a new key"),
            )
            .with("ttl_ms", ttl),
            R::KindMismatch { present, asked } => Failure::new(
                Reason::KindMismatch,
                format!(
                    "name is {} while in use, and was asked for as {}; use another name",
                    kind(present),
                    kind(asked)
                ),
            ),
            R::AlreadyHeld(RequestId(id)) => Failure::new(
                Reason::AlreadyHeld,
                format!("the session has this name, or waits for it, under request_id {id}"),
            )
            .with("request_id", id),
            R::RequestTooOld(RequestId(floor)) => Failure::new(
                Reason::RequestTooOld,
                format!("request_id is below {floor}, whose outcomes are forgotten; not executed"),
            )
            .with("lowest", floor),
            R::NotHolder => Failure::new(
                Reason::NotHolder,
                "the session does not hold this name; nothing was released",
            ),
            R::StaleToken(token) => Failure::new(
                Reason::StaleToken,
                format!("token is not the session's present one, {token}; nothing was released"),
            )
            .with("token", token),
            other => Failure::refused_limit(other),
        }
    }

    fn refused_limit(refusal: Refusal) -> Failure {
        use Refusal as R;
        match refusal {
            R::RequestReused => Failure::new(
                Reason::RequestReused,
                "request_id was used for another name or verb; ids rise per session",
            ),
            R::TooManyOutcomes => Failure::new(
                Reason::TooManyRequests,
                format!(
                    "{} outcomes are kept for this session; raise lowest_unacked",
                    limits::OUTCOMES_MAX
                ),
            ),
            R::QueueFull => Failure::new(
                Reason::QueueFull,
                format!("{} claims wait for this name, the limit; try later", limits::QUEUE_MAX),
            ),
            R::TooManyClaims => Failure::new(
                Reason::TooManyClaims,
                format!(
                    "the session holds and waits for {} names, the limit; release some, or open \
                     another session",
                    limits::CLAIMS_MAX
                ),
            ),
            R::TooManyNames => Failure::new(
                Reason::TooManyNames,
                format!("{} names are in use, the limit; release some", limits::NAMES_MAX),
            ),
            R::TooManySessions => Failure::new(
                Reason::TooManySessions,
                format!("{} sessions are open, the limit; close some", limits::SESSIONS_MAX),
            ),
            R::Invalid(field) => {
                Failure::new(Reason::BadRequest, format!("{field} is out of range"))
            }
            R::TokensExhausted => Failure::new(
                Reason::Internal,
                "no token is left in this epoch; restore the cluster with a higher one",
            ),
            R::NotStarted => Failure::new(
                Reason::NotBootstrapped,
                "the group has no members yet; call Members.Bootstrap at one of them",
            ),
            // All others have a sentence of their own in `refused`.
            _ => Failure::new(Reason::Internal, "unexpected refusal"),
        }
    }
}
