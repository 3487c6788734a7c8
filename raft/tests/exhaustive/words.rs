//! Messages in plain words.

use quorate_raft::*;
use std::collections::BTreeMap;

fn entry(entry: &Entry) -> String {
    let id = entry.id();
    match entry.kind() {
        Kind::Noop => format!("{id} no-op"),
        Kind::Command => format!("{id} command {:?}", entry.payload()),
        Kind::Configuration => match Configuration::decode(entry.payload()) {
            Ok((all, _)) if all.is_joint() => {
                format!("{id} joint {:?} and {:?}", ids(&all.outgoing), ids(&all.incoming))
            }
            Ok((all, _)) => format!("{id} voters {:?}", ids(&all.incoming)),
            Err(_) => format!("{id} damaged"),
        },
    }
}

fn ids<V>(half: &BTreeMap<MemberId, V>) -> Vec<u128> {
    half.keys().map(|id| id.0).collect()
}

/// What a message says.
pub fn of(message: &Message) -> String {
    let term = message.term.0;
    let what = match &message.body {
        Body::Append { prev, entries, commit, round } => {
            let all: Vec<String> = entries.iter().map(entry).collect();
            let (all, round) = (all.join(", "), round.0);
            format!("entries [{all}] after {prev}, commit {commit}, round {round}")
        }
        Body::AppendReply { round, answer: Answer::Durable(index) } => {
            format!("that its log is durable up to {}, round {}", index.0, round.0)
        }
        Body::AppendReply { answer: Answer::Mismatch { prev, hint }, .. } => {
            format!("that it does not hold {prev} but perhaps {hint}")
        }
        Body::Commit { commit } => format!("that {commit} is committed"),
        Body::Vote { last, .. } => format!("a plea for its vote, with a log up to {last}"),
        Body::VoteReply { granted } => format!("{} vote", if *granted { "its" } else { "no" }),
        other => format!("{other:?}"),
    };
    format!("(term {term}) {what}")
}
