//! Where tokens come from: one counter for the whole life of the cluster.
//!
//! Invariants: `n` only rises, is never below the index of its entry, and stays below 2^48. It
//! follows from the first that no token is given twice, and from the second that a token is above
//! every one that an earlier entry gave.
//!
//! Must not depend on anything that is not replicated.

use crate::command::{Refusal, Token};
use crate::limits::{EPOCH_MAX, TOKEN_N_END};
use crate::planted::{self, Bug};

/// The counter of one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) epoch: u16,
    /// The `last_n` that the life began with: a repeated Start has to name it.
    pub(crate) start_n: u64,
    pub(crate) last_n: u64,
}

impl Tokens {
    pub(crate) fn start(epoch: u16, last_n: u64) -> Result<Tokens, Refusal> {
        if !(1..=EPOCH_MAX).contains(&epoch) {
            return Err(Refusal::Invalid("epoch"));
        }
        if last_n >= TOKEN_N_END {
            return Err(Refusal::Invalid("last_n"));
        }
        Ok(Tokens { epoch, start_n: last_n, last_n })
    }

    /// The next token of the entry at `index`; none when the epoch has none left, and from then
    /// on for ever, because neither `last_n` nor the index goes back.
    pub(crate) fn mint(&mut self, index: u64) -> Option<Token> {
        assert!(self.last_n < TOKEN_N_END, "the counter left its 48 bits");
        let mut n = (self.last_n + 1).max(index);
        if planted::is(Bug::TokenByIndex) {
            n = index;
        }
        if planted::is(Bug::TokenOfTheProcess) {
            n = planted::count();
        }
        if n >= TOKEN_N_END {
            return None;
        }
        assert!(n > self.last_n || planted::is(Bug::TokenByIndex), "a token went back");
        self.last_n = n;
        Some(self.last())
    }

    /// Whether [`Tokens::mint`] gives nothing at this index and later ones.
    pub(crate) fn exhausted(&self, index: u64) -> bool {
        (self.last_n + 1).max(index) >= TOKEN_N_END
    }

    pub(crate) fn last(&self) -> Token {
        Token(u64::from(self.epoch) << 48 | self.last_n)
    }
}
