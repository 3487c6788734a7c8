//! What ends the program without what was asked for: an exit code, a reason for programs, words
//! and a hint for people.
//!
//! Invariant: the one way to say so. In JSON it is one object on one line, with the same fields
//! whatever went wrong: `error`, `reason`, `exit`, and `hint` if there is one.

use crate::cli::Output;
use crate::{exit, paint};
use quorate_client::{Error, Reason};
use tonic::Status;
use tonic_types::StatusExt as _;

const NO_SIDECAR: &str =
    "start a group with `quorate dev`, or say where the sidecar is: --endpoint";

/// A member names fields of the request; here they are flags.
const FLAGS: [(&str, &str); 3] = [
    ("still_a_member", "--still-a-member"),
    ("expected_configuration_index", "--expected-index"),
    ("above_token", "--above-token"),
];

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// For programs: a word of `docs/reference/errors.md`.
    pub reason: String,
    pub words: String,
    /// What to do.
    pub hint: Option<String>,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// With the reason that goes with the exit code.
    pub fn new(code: u8, words: impl Into<String>) -> Failure {
        let reason = reason(code).to_owned();
        Failure { code, reason, words: words.into(), hint: None }
    }

    pub fn usage(words: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, words)
    }

    pub fn unavailable(words: impl Into<String>) -> Failure {
        Failure::new(exit::UNAVAILABLE, words)
    }

    #[must_use]
    pub fn because(self, reason: &str) -> Failure {
        Failure { reason: reason.to_owned(), ..self }
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// Says it on standard error; the exit code.
    pub fn say(&self, output: Output) -> u8 {
        match output {
            Output::Json => paint::raw(&self.as_json().to_string()),
            Output::Text => {
                let hint = self.hint.iter().flat_map(|hint| hint.lines());
                for line in self.words.lines().chain(hint) {
                    paint::say(&paint::safe(line));
                }
            }
        }
        self.code
    }

    fn as_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "error": self.words,
            "reason": self.reason,
            "exit": self.code,
        });
        if let Some(hint) = &self.hint {
            object["hint"] = hint.as_str().into();
        }
        object
    }
}

fn reason(code: u8) -> &'static str {
    match code {
        exit::USAGE => "BAD_USAGE",
        exit::DATA => "DAMAGED",
        exit::CANNOT_CREATE => "CANNOT_CREATE",
        exit::OUTPUT => "OUTPUT_FAILED",
        exit::NOT_ACQUIRED => "NOT_ACQUIRED",
        exit::LOST => "LOST",
        exit::NOT_PERMITTED => "NOT_PERMITTED",
        exit::NOT_EXECUTABLE => "CANNOT_EXECUTE",
        exit::NOT_FOUND => "NO_SUCH_COMMAND",
        _ => "UNAVAILABLE",
    }
}

/// The library's words, for people who have no keys and request ids.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let failure = Failure::new(exit::of_error(&error), error.to_string());
        match error {
            Error::Unreachable(_) => failure.because("NO_SIDECAR").hint(NO_SIDECAR),
            Error::Refused { reason: Reason::NoQuorum, message, .. } => {
                let what = message.split(';').next().unwrap_or_default();
                let words = format!("{what} (NO_QUORUM)");
                let failure = Failure { words, ..failure.because("NO_QUORUM") };
                failure.hint("try again, and see `quorate status`")
            }
            Error::Refused { reason, .. } | Error::SessionOver(reason)
                if !reason.as_str().is_empty() =>
            {
                failure.because(reason.as_str())
            }
            Error::Broken(_) => failure.because("DISCONNECTED"),
            Error::System(_) => failure.because("SYSTEM"),
            _ => failure,
        }
    }
}

/// What a member refused at its admin port.
impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let flag = |words: String, (field, flag): &(&str, &str)| words.replace(field, flag);
        let words = FLAGS.iter().fold(status.message().to_owned(), flag);
        let failure = match status.code() {
            tonic::Code::InvalidArgument => Failure::usage(words),
            tonic::Code::PermissionDenied => Failure::new(exit::NOT_PERMITTED, words)
                .hint("the certificate's name must be admin.CLUSTER.quorate"),
            _ => Failure::unavailable(words),
        };
        match status.get_details_error_info() {
            Some(info) if !info.reason.is_empty() => failure.because(&info.reason),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let failure = Failure::from(Error::Unreachable(Vec::new()));
        let object = failure.as_json();
        assert_eq!((&object["reason"], &object["exit"]), (&"NO_SIDECAR".into(), &69.into()));
        let hint = object["hint"].as_str().unwrap();
        assert!(hint.contains("quorate dev") && hint.contains("--endpoint"), "{hint}");
        let message = "no leader for 5 s; try again with the same request_id".to_owned();
        let refused = Error::Refused { reason: Reason::NoQuorum, message, generation: 0 };
        let object = Failure::from(refused).as_json();
        assert_eq!(object["error"], "no leader for 5 s (NO_QUORUM)");
        assert_eq!(object["reason"], "NO_QUORUM");
    }

    #[test]
    fn every_failure_has_a_reason() {
        let other = Reason::Other(String::new());
        let message = "no such method".to_owned();
        for error in [
            Error::BadEndpoint("x".to_owned()),
            Error::NotAcquired(None),
            Error::Broken("x".to_owned()),
            Error::System("x".to_owned()),
            Error::SessionOver(Reason::SessionExpired),
            Error::SessionOver(other.clone()),
            Error::Refused { reason: other, message, generation: 0 },
        ] {
            let failure = Failure::from(error.clone());
            assert!(!failure.reason.is_empty(), "{error:?}");
            assert_eq!(failure.as_json().get("hint"), None, "{error:?}");
        }
        let refused = Failure::from(Status::permission_denied("not yours"));
        assert_eq!((refused.code, refused.reason.as_str()), (77, "NOT_PERMITTED"));
    }

    #[test]
    fn a_member_is_heard_in_the_words_of_the_command() {
        let moved = "expected_configuration_index is not that of the present configuration";
        let words = Failure::from(Status::failed_precondition(moved)).words;
        assert_eq!(words, "--expected-index is not that of the present configuration");
        let words = Failure::from(Status::failed_precondition("say still_a_member;")).words;
        assert_eq!(words, "say --still-a-member;");
    }
}
