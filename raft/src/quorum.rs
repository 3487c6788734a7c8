//! The one quorum rule: commit, votes, read rounds and activity all ask it, for simple and joint
//! configurations alike.
//!
//! Invariant: two answers under the same configuration always share a voter in each half. Must not
//! know what the values mean.

use crate::configuration::Configuration;
use crate::planted::{self, Bug};
use crate::types::MemberId;
use std::collections::BTreeMap;

/// The largest value that a majority of both halves has reached; an empty half agrees with
/// everything. `None` if nobody votes: then nothing is ever decided.
///
/// Allocates nothing; quadratic in voters, of which there are single digits.
pub fn quorum_value<T: Ord + Copy>(
    configuration: &Configuration,
    value: impl Fn(MemberId) -> T,
) -> Option<T> {
    if planted::is(Bug::QuorumOfUnion) {
        let union =
            configuration.incoming.clone().into_iter().chain(configuration.outgoing.clone());
        return majority_value(&union.collect(), &value);
    }
    let incoming = majority_value(&configuration.incoming, &value);
    let outgoing = majority_value(&configuration.outgoing, &value);
    match (incoming, outgoing) {
        (Some(a), Some(_)) if planted::is(Bug::HalfAlone) => Some(a),
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// Whether a quorum agrees.
pub fn has_quorum(configuration: &Configuration, agrees: impl Fn(MemberId) -> bool) -> bool {
    quorum_value(configuration, agrees) == Some(true)
}

/// Whether a majority of one half agrees; an empty half does.
pub(crate) fn half_agrees(
    half: &BTreeMap<MemberId, String>,
    agrees: impl Fn(MemberId) -> bool,
) -> bool {
    majority_value(half, &agrees) != Some(false)
}

fn majority_value<T: Ord + Copy>(
    half: &BTreeMap<MemberId, String>,
    value: &impl Fn(MemberId) -> T,
) -> Option<T> {
    let majority = half.len() / 2 + 1;
    if planted::is(Bug::QuorumInOrder) {
        return half.keys().map(|id| value(*id)).nth(half.len().saturating_sub(majority));
    }
    let reached = |least: T| half.keys().filter(|id| value(**id) >= least).count();
    half.keys().map(|id| value(*id)).filter(|candidate| reached(*candidate) >= majority).max()
}
