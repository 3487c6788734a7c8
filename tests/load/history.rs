//! What clients saw, and whether the group still has it.

use super::client::{Caller, Failed};
use std::collections::BTreeMap;

/// One thing that a client knows for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The name was granted under this token.
    Granted {
        /// The name.
        name: String,
        /// The token.
        token: u64,
    },
    /// The grant was given back, and that was acknowledged.
    Released {
        /// The name.
        name: String,
        /// The token.
        token: u64,
    },
    /// The release was sent, and its answer is not known.
    ReleaseUnknown {
        /// The name.
        name: String,
        /// The token.
        token: u64,
    },
}

/// The facts of all clients of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    facts: Vec<Fact>,
}

/// What must be true of one name.
#[derive(Clone, Copy, Debug)]
struct Expected {
    token: u64,
    released: bool,
    unknown: bool,
}

impl History {
    /// Adds a fact.
    pub fn add(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Adds all facts of another.
    pub fn merge(&mut self, other: History) {
        self.facts.extend(other.facts);
    }

    /// Acknowledged grants and releases.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.facts.iter().filter(|f| !matches!(f, Fact::ReleaseUnknown { .. })).count()
    }

    /// Tokens must be unique over all names, and rise for each name.
    ///
    /// # Errors
    /// A sentence about the first pair that does not.
    pub fn check_tokens(&self) -> Result<(), String> {
        let mut seen: BTreeMap<u64, &str> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for fact in &self.facts {
            let Fact::Granted { name, token } = fact else { continue };
            if let Some(other) = seen.insert(*token, name) {
                return Err(format!("token {token} was granted for {other} and for {name}"));
            }
            if let Some(before) = last.insert(name, *token)
                && before >= *token
            {
                return Err(format!("{name}: token {token} was granted after {before}"));
            }
        }
        Ok(())
    }

    fn expected(&self) -> BTreeMap<&str, Expected> {
        let mut names = BTreeMap::new();
        for fact in &self.facts {
            let (name, expected) = match fact {
                Fact::Granted { name, token } => {
                    (name, Expected { token: *token, released: false, unknown: false })
                }
                Fact::Released { name, token } => {
                    (name, Expected { token: *token, released: true, unknown: false })
                }
                Fact::ReleaseUnknown { name, token } => {
                    (name, Expected { token: *token, released: false, unknown: true })
                }
            };
            names.insert(name.as_str(), expected);
        }
        names
    }

    /// Asks the group about every name: an acknowledged grant is held under its token, an
    /// acknowledged release is not.
    ///
    /// # Errors
    /// A sentence about what is lost, or why it could not be asked.
    pub async fn verify(&self, caller: &mut Caller) -> Result<usize, String> {
        let mut checked = 0;
        for (name, expected) in self.expected() {
            let held = caller.holder(name).await.map_err(|Failed { message, .. }| message)?;
            let token = held.map(|holder| holder.token);
            let Expected { token: known, released, unknown } = expected;
            let right = match (released, unknown) {
                (true, _) => token != Some(known),
                (false, true) => token.is_none_or(|t| t >= known),
                // A newer claim of the same client may have been granted, unacknowledged.
                (false, false) => token.is_some_and(|t| t >= known),
            };
            if !right {
                return Err(format!(
                    "{name}: token {known} was acknowledged as {}; the group has {token:?}",
                    if released { "released" } else { "granted" }
                ));
            }
            checked += 1;
        }
        Ok(checked)
    }
}
