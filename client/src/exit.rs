//! Exit codes, after sysexits.

use quorate_client::{Error, Reason};

/// Done.
pub const OK: u8 = 0;
/// Bad usage.
pub const USAGE: u8 = 64;
/// No sidecar, or it cannot serve.
pub const UNAVAILABLE: u8 = 69;
/// Not acquired in time.
pub const NOT_ACQUIRED: u8 = 75;
/// Lost while held.
pub const LOST: u8 = 76;
/// A file or directory cannot be made.
pub const CANNOT_CREATE: u8 = 73;
/// An answer could not be written to standard output.
pub const OUTPUT: u8 = 74;
/// What was read is damaged.
pub const DATA: u8 = 65;
/// The certificate may not do that.
pub const NOT_PERMITTED: u8 = 77;
/// The command is there and cannot be run; the shells' code.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command is not there; the shells' code.
pub const NOT_FOUND: u8 = 127;

/// Ended by this signal; the shells' code.
pub fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal).unwrap_or(0).saturating_add(128)
}

/// The code of a failure before anything was held.
pub fn of_error(error: &Error) -> u8 {
    match error {
        Error::BadEndpoint(_) => USAGE,
        Error::NotAcquired(_) => NOT_ACQUIRED,
        Error::Refused {
            reason:
                Reason::BadName
                | Reason::BadRequest
                | Reason::TtlOutOfRange
                | Reason::ValueTooLarge
                | Reason::KindMismatch,
            ..
        } => USAGE,
        _ => UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes() {
        assert_eq!(of_signal(9), 137);
        assert_eq!(of_signal(15), 143);
        assert_eq!(of_error(&Error::Unreachable(Vec::new())), 69);
        assert_eq!(of_error(&Error::NotAcquired(None)), 75);
        let (message, generation) = (String::new(), 0);
        let refused = Error::Refused { reason: Reason::BadName, message, generation };
        assert_eq!(of_error(&refused), 64);
    }
}
