//! Where the tokens of a new life of a group begin: docs/reference/tokens.md.
//!
//! A life begins at the epoch of the day (days since 2025-01-01 UTC) and at the count of the second
//! (seconds since that midnight, times 2^31), so that a later life is above an earlier one without
//! knowing of it, as long as the clock is right. Where that is not well above every token known,
//! the epoch after the highest known one begins at 0.

use quorate_locks::{Token, limits};

/// Midnight of 2025-01-01 UTC, in seconds since 1970.
const EPOCH_ZERO_S: u64 = 1_735_689_600;
const DAY_S: u64 = 86_400;
/// Counts of one second: more than any group grants in it.
const SECOND: u32 = 31;

/// The beginning of a life of tokens: all of them are above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// 1 to 32,766.
    pub epoch: u16,
    /// Below 2^48.
    pub last_n: u64,
}

impl Life {
    /// Of a group founded at this moment, in seconds since 1970.
    #[must_use]
    pub fn founded(unix_s: u64) -> Life {
        let since = unix_s.saturating_sub(EPOCH_ZERO_S);
        let epoch = u16::try_from(since / DAY_S).unwrap_or(u16::MAX).clamp(1, limits::EPOCH_MAX);
        Life { epoch, last_n: (since % DAY_S) << SECOND }
    }

    /// Of a group that goes on at this moment, above `known`: the highest token that anybody knows
    /// of. In the same epoch it has to be a second's worth above: whoever was lost may have granted
    /// some more. None: no epoch is left.
    #[must_use]
    pub fn after(known: Token, unix_s: u64) -> Option<Life> {
        let founded = Life::founded(unix_s);
        let margin = known.n().saturating_add(1 << SECOND);
        let above = match u64::from(founded.epoch).cmp(&known.epoch()) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => founded.last_n >= margin,
            std::cmp::Ordering::Greater => true,
        };
        if above {
            return Some(founded);
        }
        let epoch = u16::try_from(known.epoch() + 1).ok().filter(|e| *e <= limits::EPOCH_MAX)?;
        Some(Life { epoch, last_n: 0 })
    }

    /// As a token: every one of this life is above it.
    #[must_use]
    pub fn token(self) -> Token {
        Token(u64::from(self.epoch) << 48 | self.last_n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-01, at midnight.
    const DAY: u64 = 424;
    const MIDNIGHT: u64 = EPOCH_ZERO_S + DAY * DAY_S;

    fn token(epoch: u64, n: u64) -> Token {
        Token(epoch << 48 | n)
    }

    #[test]
    fn a_life_is_founded_at_the_day_and_the_second() {
        assert_eq!(Life::founded(0), Life { epoch: 1, last_n: 0 });
        let life = Life::founded(MIDNIGHT + 61);
        assert_eq!((u64::from(life.epoch), life.last_n), (DAY, 61 << 31));
        let last = Life::founded(MIDNIGHT + DAY_S - 1);
        assert!(last.last_n < limits::TOKEN_N_END);
    }

    #[test]
    fn a_later_life_is_above_without_knowing_more_than_the_clock() {
        let known = token(DAY - 1, (1 << 48) - 1);
        assert_eq!(Life::after(known, MIDNIGHT), Some(Life::founded(MIDNIGHT)));
        let known = token(DAY, 60 << 31);
        assert_eq!(Life::after(known, MIDNIGHT + 61), Some(Life::founded(MIDNIGHT + 61)));
        assert_eq!(Life::after(Token(0), MIDNIGHT), Some(Life::founded(MIDNIGHT)));
    }

    #[test]
    fn a_clock_that_is_not_well_above_what_is_known_gives_the_next_epoch() {
        let next = |epoch: u64| Some(Life { epoch: u16::try_from(epoch).unwrap(), last_n: 0 });
        // Less than a second's worth above.
        assert_eq!(Life::after(token(DAY, (60 << 31) + 1), MIDNIGHT + 61), next(DAY + 1));
        assert_eq!(Life::after(token(DAY, 61 << 31), MIDNIGHT + 60), next(DAY + 1), "back");
        assert_eq!(Life::after(token(DAY + 7, 0), MIDNIGHT), next(DAY + 8), "a day back");
        assert_eq!(Life::after(token(32_766, 5), MIDNIGHT), None, "no epoch left");
    }

    #[test]
    fn whatever_is_known_the_life_is_above_it() {
        for epoch in [0, 1, DAY - 1, DAY, DAY + 1, 32_765] {
            for n in [0, 1, 5 << 31, (1 << 48) - 1] {
                let known = token(epoch, n);
                let life = Life::after(known, MIDNIGHT + 5).expect("an epoch is left");
                assert!(life.token() > known, "{life:?} after {known}");
            }
        }
    }
}
