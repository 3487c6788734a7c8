//! What goes in, what comes out, and what travels between members.

use crate::configuration::Configuration;
use crate::types::{Entry, Index, IoSeq, LogId, MemberId, Round, Term, Ticket};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A snapshot of the state machine, and the configuration as of its index and nothing later.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub last: LogId,
    /// The configuration in effect at `last`.
    pub configuration: Configuration,
    /// The state machine's own bytes.
    pub data: Arc<[u8]>,
}

/// One thing that happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The clock reached [`crate::Node::deadline`]. Early or late is harmless.
    Timer,
    /// A message from a peer whose identity the host has checked.
    Recv(MemberId, Message),
    /// The host saw the current connection to this peer end, without a goodbye and without a
    /// successor. A hint: it may cost an election and nothing else.
    PeerLost(MemberId),
    /// A newer process of this peer was met, and its messages follow. What the one before it sent
    /// may come as late as now, but in order.
    PeerRestarted(MemberId),
    /// All writes up to here are durable.
    Durable(IoSeq),
    /// The state machine has applied all entries up to here.
    Applied(Index),
    /// The host built a snapshot at an applied and durable index.
    SnapshotBuilt(Snapshot),
    /// Become the first member of a group: makes entry 1 of this configuration and the host's
    /// context.
    Bootstrap(Configuration, Arc<[u8]>),
    /// Append a command.
    Propose(Ticket, Arc<[u8]>),
    /// Find the index that a linearizable read must wait for.
    Read(Ticket),
    /// Change the membership, or give up the change under way.
    Change(Ticket, Change),
    /// Hand leadership to this voter; without a name to the most caught-up one.
    Transfer(Ticket, Option<MemberId>),
    /// Give up leadership, and stand only if nobody else can be elected, until [`Input::Undrain`].
    Drain,
    /// Stand again.
    Undrain,
}

/// A change of the membership. `expected` is the index of the configuration that the asker means
/// to change ([`crate::Node::configuration_index`]): two askers never overwrite each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Make this the membership. Other voters make it a joint change of any size; each new one is
    /// a learner before. The same voters: learners come and go with one entry. A voter that is
    /// named as a learner is demoted.
    To {
        /// The configuration in effect, as the asker knows it.
        expected: Index,
        /// Who shall vote.
        voters: BTreeMap<MemberId, String>,
        /// Who shall listen.
        learners: BTreeMap<MemberId, String>,
    },
    /// Give up a joint change: its old voters decide alone again, and all others listen.
    Abort {
        /// The joint configuration.
        expected: Index,
    },
}

/// What a step asks of the host. Reused from step to step: the host drains it.
#[derive(Debug, Default)]
pub struct Output {
    /// To be made durable, in this order.
    pub writes: Vec<(IoSeq, Write)>,
    /// To be sent, each once its fence is durable.
    pub sends: Vec<Envelope>,
    /// To be applied, in order; entries are at [`crate::Node::entry`]. They may not be durable here
    /// yet.
    pub apply: Option<RangeInclusive<Index>>,
    /// Answers: every ticket gets exactly one.
    pub done: Vec<(Ticket, Outcome)>,
    /// What the host may want to know. A `SnapshotInstalled` comes before `apply`.
    pub events: Vec<Event>,
}

/// A message, held by the host until the write `after` is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whom to.
    pub to: MemberId,
    /// What.
    pub message: Message,
    /// The fence; [`IoSeq`] 0 means at once.
    pub after: IoSeq,
}

/// One write of the ordered log of writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Term and vote.
    HardState {
        /// The current term.
        term: Term,
        /// Whom this member voted for in it.
        vote: Option<MemberId>,
    },
    /// Entries; whatever the log held from the first of them on is replaced.
    Append(Vec<Entry>),
    /// A snapshot that this member built; afterwards entries up to `drop_to` are not needed.
    Snapshot {
        /// What to keep.
        snapshot: Snapshot,
        /// The last entry that may go; at most `snapshot.last`.
        drop_to: Index,
    },
    /// A snapshot from the leader. The log before it goes; the log after it stays only if
    /// `keep_suffix`.
    Install {
        /// What to keep.
        snapshot: Snapshot,
        /// Whether the log holds `snapshot.last`.
        keep_suffix: bool,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the leader's log; whether it commits, the origin sees from its own apply.
    Appended(LogId),
    /// A read of state at or after this index is linearizable.
    ReadAt(Index),
    /// Leadership is going to this member; or it is not: see events.
    Transferring(MemberId),
    /// The configuration at this index is committed, as asked for.
    Changed(Index),
    /// Definitely not changed.
    NotChanged(Refused),
    /// Leadership was lost while this configuration entry was under way: the change may come or
    /// not. The configuration at a later leader tells.
    Unknown(LogId),
    /// Definitely not done; safe to try anywhere. With the leader, where one is known.
    NotAppended(Why, Option<MemberId>),
}

/// Why the membership was definitely not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The leader has not committed an entry of its own term yet: ask again within moments.
    NotReady,
    /// Another change is under way, or not committed yet.
    UnderWay,
    /// Another configuration than the expected one is in effect: the one at this index.
    Moved(Index),
    /// It is the present membership.
    Unchanged,
    /// Nobody would vote.
    NoVoters,
    /// This member would both vote and listen.
    VoterAndLearner(MemberId),
    /// More members, or longer names, than a configuration holds while both halves are in force.
    TooLarge,
    /// This new voter is no learner yet.
    NotLearner(MemberId),
    /// This new voter's log did not come within one window of the leader's in time.
    NotCaughtUp(MemberId),
    /// No majority of the new voters answered in time.
    IncomingSilent,
    /// No majority of the present voters answered in time.
    OutgoingSilent,
    /// Nothing to give up: the configuration in effect is not joint.
    NotJoint,
    /// It was begun and given up; the voters from before decide.
    GivenUp,
}

/// Why something was definitely not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// This member does not lead.
    NotLeader,
    /// Leadership is being handed over.
    Transferring,
    /// The window of uncommitted entries is full: 4 MiB or 4,096 entries.
    Busy,
    /// Nobody to hand over to: no voter, or not the one named, was heard of within T.
    NoTarget,
    /// The request reached a leader of another term than it was routed under.
    OtherTerm,
    /// The disk has no room for commands.
    DiskFull,
    /// The command is larger than one entry may be.
    TooLarge,
    /// This member is no part of a group yet.
    Blank,
    /// The payload is no command of this version.
    Malformed,
}

/// What the host may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The leader changed, as far as this member knows; `None`: nobody known. Includes this member
    /// itself.
    Leader {
        /// The term.
        term: Term,
        /// Its leader.
        leader: Option<MemberId>,
    },
    /// This member's own no-op of its term has been handed to `apply`: from here on it may expire
    /// and acknowledge.
    LeaderReady(Term),
    /// The log of this member ends before what an earlier process of it acknowledged in this term:
    /// its disk forgot, and may have forgotten a vote as well. This leader counts it for nothing
    /// any more.
    Quarantined {
        /// Whose disk forgot.
        member: MemberId,
        /// It holds nothing of this leader's log after this.
        holds: Index,
        /// What it had acknowledged.
        acknowledged: Index,
    },
    /// Put the state machine back to this; entries after it follow.
    SnapshotInstalled(Snapshot),
    /// A configuration took effect.
    Configuration(Configuration),
    /// An election began here: for counting.
    Campaign {
        /// The term stood for.
        term: Term,
        /// Asked before the vote.
        pre: bool,
    },
    /// A peer broke the protocol, or its message makes no sense: dropped. For counting and one log
    /// line.
    Ignored {
        /// Who.
        from: MemberId,
        /// What.
        why: &'static str,
    },
}

/// A message between members: a term and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender's term; in `PreVote` the term that it would stand in.
    pub term: Term,
    /// The rest.
    pub body: Body,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me in this term? Handling it changes no state (dissertation, section
    /// 9.6).
    PreVote {
        /// The end of the sender's log.
        last: LogId,
    },
    /// The answer. `term` is the answerer's own.
    PreVoteReply {
        /// Yes.
        granted: bool,
        /// The term asked for.
        asked: Term,
    },
    /// Vote for me.
    Vote {
        /// The end of the sender's log.
        last: LogId,
        /// The leader asked for this election: stickiness does not apply.
        transfer: bool,
    },
    /// The answer.
    VoteReply {
        /// Yes.
        granted: bool,
    },
    /// Entries after `prev`; none: a heartbeat or a probe.
    Append {
        /// The entry before the first of `entries`.
        prev: LogId,
        /// Consecutive, from `prev.index + 1`.
        entries: Vec<Entry>,
        /// Committed: the receiver advances to it only if its log holds it.
        commit: LogId,
        /// The read round that an answer acknowledges.
        round: Round,
    },
    /// The answer.
    AppendReply {
        /// The round of the message answered.
        round: Round,
        /// How far.
        answer: Answer,
    },
    /// A part of a snapshot.
    Snapshot {
        /// The snapshot's last entry.
        last: LogId,
        /// The configuration as of it.
        configuration: Configuration,
        /// Where this part begins.
        offset: u64,
        /// The length of the whole.
        total: u64,
        /// The part; at most 256 KiB.
        chunk: Arc<[u8]>,
        /// The read round that an answer acknowledges.
        round: Round,
    },
    /// The answer.
    SnapshotReply {
        /// The snapshot.
        last: LogId,
        /// Bytes held; the whole only once installed and durable.
        received: u64,
        /// The round of the message answered.
        round: Round,
    },
    /// The leader committed up to here: for a log that streams. Never answered, and never repeated:
    /// each append says it again.
    Commit {
        /// The receiver advances to it only if its log holds it.
        commit: LogId,
    },
    /// Stand now, without waiting; only if your log ends here.
    TimeoutNow {
        /// The end of the leader's log.
        last: LogId,
    },
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The log equals the leader's up to here, durably.
    Durable(Index),
    /// The log does not hold `prev`.
    Mismatch {
        /// What was refused.
        prev: LogId,
        /// The last entry that may match: at most `prev.index - 1`.
        hint: LogId,
    },
}
