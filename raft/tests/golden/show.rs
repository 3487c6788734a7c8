//! How scripts print what a node does, in the words in which they also write messages.

use quorate_raft::*;

pub fn entry(entry: &Entry) -> String {
    let what = match entry.kind() {
        Kind::Noop => "noop".to_owned(),
        Kind::Command => String::from_utf8_lossy(entry.payload()).into_owned(),
        Kind::Configuration => "configuration".to_owned(),
    };
    format!("{}:{what}", entry.id())
}

pub fn entries<'a>(all: impl IntoIterator<Item = &'a Entry>) -> String {
    all.into_iter().map(entry).collect::<Vec<_>>().join(" ")
}

pub fn member(id: Option<MemberId>) -> String {
    id.map_or("nobody".to_owned(), |id| id.to_string())
}

pub fn write(write: &Write) -> String {
    match write {
        Write::HardState { term, vote } => format!("term {} vote {}", term.0, member(*vote)),
        Write::Append(all) => format!("append {}", entries(all)),
        Write::Snapshot { snapshot, drop_to } => {
            format!("snapshot {} drop to {}", snapshot.last, drop_to.0)
        }
        Write::Install { snapshot, keep_suffix: true } => {
            format!("install {} keep suffix", snapshot.last)
        }
        Write::Install { snapshot, .. } => format!("install {}", snapshot.last),
    }
}

pub fn message(message: &Message) -> String {
    let body = match &message.body {
        Body::PreVote { last } => format!("pre-vote last={last}"),
        Body::PreVoteReply { granted, asked } => {
            format!("pre-vote-reply {} asked={}", yes(*granted), asked.0)
        }
        Body::Vote { last, transfer } => {
            format!("vote last={last}{}", if *transfer { " transfer" } else { "" })
        }
        Body::VoteReply { granted } => format!("vote-reply {}", yes(*granted)),
        Body::Append { prev, entries: all, commit, round } => {
            format!("append prev={prev} [{}] commit={commit}{}", entries(all), in_round(*round))
        }
        Body::AppendReply { round, answer: Answer::Durable(index) } => {
            format!("durable {}{}", index.0, in_round(*round))
        }
        Body::AppendReply { round, answer: Answer::Mismatch { prev, hint } } => {
            format!("mismatch prev={prev} hint={hint}{}", in_round(*round))
        }
        Body::Snapshot { last, offset, total, chunk, round, .. } => format!(
            "snapshot last={last} offset={offset} bytes={} total={total}{}",
            chunk.len(),
            in_round(*round)
        ),
        Body::SnapshotReply { last, received, round } => {
            format!("snapshot-reply last={last} received={received}{}", in_round(*round))
        }
        Body::Commit { commit } => format!("commit {commit}"),
        Body::TimeoutNow { last } => format!("timeout-now last={last}"),
    };
    format!("term={} {body}", message.term.0)
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

fn in_round(round: Round) -> String {
    if round.0 == 0 { String::new() } else { format!(" round={}", round.0) }
}

pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Appended(id) => format!("appended {id}"),
        Outcome::ReadAt(index) => format!("read at {}", index.0),
        Outcome::Transferring(to) => format!("transferring to {to}"),
        Outcome::Changed(index) => format!("changed at {}", index.0),
        Outcome::NotChanged(why) => format!("not changed: {why:?}"),
        Outcome::Unknown(id) => format!("unknown, see {id}"),
        Outcome::NotAppended(why, leader) => {
            format!("not appended: {why:?}, leader {}", member(*leader))
        }
    }
}

pub fn event(event: &Event) -> String {
    match event {
        Event::Leader { term, leader } => format!("leader of {}: {}", term.0, member(*leader)),
        Event::LeaderReady(term) => format!("ready to lead {}", term.0),
        Event::Quarantined { member, holds, acknowledged } => {
            let (holds, had) = (holds.0, acknowledged.0);
            format!("quarantines {member}: it holds {holds}, and had acknowledged {had}")
        }
        Event::SnapshotInstalled(snapshot) => format!("installed {}", snapshot.last),
        Event::Configuration(configuration) => {
            format!("configuration {}", self::configuration(configuration))
        }
        Event::Campaign { term, pre: true } => format!("asks for pre-votes of {}", term.0),
        Event::Campaign { term, .. } => format!("asks for votes of {}", term.0),
        Event::Ignored { from, why } => format!("ignored from {from}: {why}"),
    }
}

pub fn configuration(configuration: &Configuration) -> String {
    let half = |half: &std::collections::BTreeMap<MemberId, String>| {
        half.keys().map(MemberId::to_string).collect::<Vec<_>>().join(",")
    };
    let mut text = format!("voters {}", half(&configuration.incoming));
    for (name, set) in
        [("outgoing", &configuration.outgoing), ("learners", &configuration.learners)]
    {
        if !set.is_empty() {
            text += &format!(" {name} {}", half(set));
        }
    }
    text
}
