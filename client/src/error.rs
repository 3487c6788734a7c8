//! What can go wrong, typed. A sidecar's refusals carry a reason from one table; a broken
//! connection carries none.

use std::fmt;
use tonic::Status;
use tonic_types::StatusExt as _;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// Why a sidecar refused, or why something ended: `ErrorInfo.reason`.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// One that this version does not know, or none at all (empty).
            Other(String),
        }

        impl Reason {
            /// From the word on the wire.
            #[must_use]
            pub fn parse(word: &str) -> Reason {
                match word {
                    $($text => Reason::$name,)*
                    other => Reason::Other(other.to_owned()),
                }
            }

            /// The word on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Reason::$name => $text,)*
                    Reason::Other(word) => word,
                }
            }
        }
    };
}

reasons! {
    /// No leader or no majority in time.
    NoQuorum = "NO_QUORUM";
    /// The session's TTL passed without a renewal.
    SessionExpired = "SESSION_EXPIRED";
    /// No session of this key.
    SessionUnknown = "SESSION_UNKNOWN";
    /// The session is attached elsewhere.
    SessionMoved = "SESSION_MOVED";
    /// The session was closed.
    SessionClosed = "SESSION_CLOSED";
    /// The session does not hold the name.
    NotHolder = "NOT_HOLDER";
    /// The token is not the present one.
    StaleToken = "STALE_TOKEN";
    /// The name is of another kind while in use.
    KindMismatch = "KIND_MISMATCH";
    /// The session has, or waits for, the name already.
    AlreadyHeld = "ALREADY_HELD";
    /// The TTL is out of range, or not the session's.
    TtlOutOfRange = "TTL_OUT_OF_RANGE";
    /// The name is empty, too long, or not UTF-8.
    BadName = "BAD_NAME";
    /// A field is missing or out of range.
    BadRequest = "BAD_REQUEST";
    /// The value is over 4 KiB.
    ValueTooLarge = "VALUE_TOO_LARGE";
    /// Too many wait for the name.
    QueueFull = "QUEUE_FULL";
    /// The session holds and waits for too many names.
    TooManyClaims = "TOO_MANY_CLAIMS";
    /// Too many names are in use.
    TooManyNames = "TOO_MANY_NAMES";
    /// Too many sessions are open.
    TooManySessions = "TOO_MANY_SESSIONS";
    /// Too many requests are open.
    TooManyRequests = "TOO_MANY_REQUESTS";
    /// The request id's outcome is forgotten; it was not executed.
    RequestTooOld = "REQUEST_TOO_OLD";
    /// The request id was used for something else.
    RequestReused = "REQUEST_REUSED";
    /// The wait ended.
    WaitExpired = "WAIT_EXPIRED";
    /// The sidecar is stopping.
    Draining = "DRAINING";
    /// The disks have no room for new commands.
    DiskFull = "DISK_FULL";
    /// The sidecar's own log is damaged: it takes no part in its group.
    DiskUnfit = "DISK_UNFIT";
    /// The sidecar was told to retire: it takes no part in its group any more.
    Retired = "RETIRED";
    /// This process reads another clock than the sidecar.
    ClockNamespace = "CLOCK_NAMESPACE";
    /// The stream was not read in time.
    SlowReader = "SLOW_READER";
    /// The group has no members yet.
    NotBootstrapped = "NOT_BOOTSTRAPPED";
    /// The sidecar's own fault.
    Internal = "INTERNAL";
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No sidecar answered at any endpoint. Each with what it said.
    Unreachable(Vec<(String, String)>),
    /// The endpoint is not of a known form.
    BadEndpoint(String),
    /// A sidecar refused.
    Refused {
        /// Why, for programs.
        reason: Reason,
        /// Why, for people: field, value, limit, what to do.
        message: String,
        /// With `SessionMoved`: the present attach generation; else 0.
        generation: u64,
    },
    /// The connection broke before an answer came; what was asked may be done or not.
    Broken(String),
    /// The session ended.
    SessionOver(Reason),
    /// The name is taken, and the claim was not to wait. A normal answer.
    NotAcquired(Option<Box<crate::Holder>>),
    /// The operating system refused something: descriptors, random bytes.
    System(String),
}

impl Error {
    /// Whether the same may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Broken(_) => true,
            Error::Refused { reason, .. } => matches!(
                reason,
                Reason::NoQuorum
                    | Reason::Draining
                    | Reason::NotBootstrapped
                    | Reason::SlowReader
                    | Reason::TooManyRequests
                    | Reason::TooManyClaims
                    | Reason::TooManyNames
                    | Reason::TooManySessions
                    | Reason::QueueFull
                    | Reason::DiskFull
            ),
            _ => false,
        }
    }

    /// Whether no sidecar is there.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable(_))
    }

    pub(crate) fn system(error: impl fmt::Display) -> Error {
        Error::System(error.to_string())
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        match status.get_details_error_info() {
            Some(info) => Error::Refused {
                reason: Reason::parse(&info.reason),
                message: status.message().to_owned(),
                generation: info
                    .metadata
                    .get("generation")
                    .and_then(|word| word.parse().ok())
                    .unwrap_or(0),
            },
            // Only what our own sidecar says has a reason: the rest is the transport.
            None if is_transport(status.code()) => Error::Broken(status.message().to_owned()),
            None => Error::Refused {
                reason: Reason::Other(String::new()),
                message: status.message().to_owned(),
                generation: 0,
            },
        }
    }
}

fn is_transport(code: tonic::Code) -> bool {
    use tonic::Code;
    matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreachable(tried) => {
                f.write_str("no sidecar answers; tried")?;
                for (endpoint, why) in tried {
                    write!(f, "\n  {endpoint}: {why}")?;
                }
                Ok(())
            }
            Error::BadEndpoint(message) | Error::System(message) => f.write_str(message),
            Error::Refused { reason, message, .. } if reason.as_str().is_empty() => {
                f.write_str(message)
            }
            Error::Refused { reason, message, .. } => write!(f, "{message} ({reason})"),
            Error::Broken(message) => write!(f, "the connection to the sidecar broke: {message}"),
            Error::SessionOver(reason) => write!(f, "the session ended ({reason})"),
            Error::NotAcquired(None) => f.write_str("not acquired: the name is taken"),
            Error::NotAcquired(Some(holder)) => {
                write!(f, "not acquired: held by {} with token {}", holder.who(), holder.token)
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    #[test]
    fn a_refusal_keeps_its_reason_and_generation() {
        let metadata = HashMap::from([("generation".to_owned(), "7".to_owned())]);
        let details = ErrorDetails::with_error_info("SESSION_MOVED", "quorate.dev", metadata);
        let code = tonic::Code::FailedPrecondition;
        let status = Status::with_error_details(code, "moved", details);
        let Error::Refused { reason, generation, .. } = Error::from(status) else {
            panic!("not a refusal");
        };
        assert_eq!((reason, generation), (Reason::SessionMoved, 7));
    }

    #[test]
    fn a_status_without_reason_is_a_broken_connection_or_a_plain_refusal() {
        assert!(Error::from(Status::unavailable("gone")).is_transient());
        let plain = Error::from(Status::unimplemented("no such method"));
        assert_eq!(plain.to_string(), "no such method");
        assert!(!plain.is_transient());
    }

    #[test]
    fn an_unknown_reason_survives() {
        assert_eq!(Reason::parse("NEW_ONE").as_str(), "NEW_ONE");
        assert_eq!(Reason::parse("NO_QUORUM"), Reason::NoQuorum);
    }
}
