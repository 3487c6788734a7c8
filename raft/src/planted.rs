//! Bugs planted on purpose, to see that the tests find them. Only in builds with the feature
//! `planted`; in every other build [`is`] is `false` to the compiler, and nothing of this is left.
//! Where each was seen in the world, and what finds it: `docs/zoo.md`.

macro_rules! bugs {
    ($($(#[$what:meta])+ $bug:ident = $name:literal,)+) => {
        /// One planted bug of this crate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$what])+ $bug,)+
        }

        #[cfg(feature = "planted")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug,)+];

            /// Its stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Bug::$bug => $name,)+
                }
            }
        }
    };
}

bugs! {
    /// A vote is answered before it is durable.
    VoteBeforeDurable = "vote-before-durable",
    /// Entries are answered before they are synced.
    EntriesBeforeSync = "entries-before-sync",
    /// A leader counts its own copy of an entry before its disk has it.
    OwnEntryBeforeFlush = "own-entry-before-flush",
    /// A write that a truncation overtook still counts for the indexes that it once had.
    OldWriteCounts = "old-write-counts",
    /// An entry of an old term is committed by counting (Raft paper, figure 8).
    OldTermByCounting = "old-term-by-counting",
    /// A follower acknowledges its whole log, and not only up to the end of the append.
    AcknowledgesMore = "acknowledges-more",
    /// A leader counts acknowledgements that were meant for its earlier term.
    StaleAcknowledgement = "stale-acknowledgement",
    /// A follower deletes what follows an append, though nothing in it conflicts.
    AppendAlwaysTruncates = "append-always-truncates",
    /// A follower commits up to an index, whatever entry it has there.
    CommitByIndex = "commit-by-index",
    /// A follower takes entries behind any entry at the right index.
    PreviousByIndex = "previous-by-index",
    /// A vote goes to the longer log, whatever the terms at the ends.
    VoteByLength = "vote-by-length",
    /// A restart forgets whom this member voted for.
    VoteForgotten = "vote-forgotten",
    /// Granting a pre-vote forgets the vote of this term.
    PreVoteFreesVote = "pre-vote-frees-vote",
    /// A candidate does not take a later term from the refusal of a pre-vote.
    PreVoteTermIgnored = "pre-vote-term-ignored",
    /// A vote is refused to whoever is no voter in the own configuration.
    VoteByOwnConfiguration = "vote-by-own-configuration",
    /// A leader that lives does not protect itself from candidates.
    NoStickiness = "no-stickiness",
    /// A leader whose disk hangs goes on leading.
    StalledDiskLeads = "stalled-disk-leads",
    /// The value of a quorum is looked up as if members were sorted by value.
    QuorumInOrder = "quorum-in-order",
    /// Who is silent counts for what the leader has.
    QuorumOfTheLive = "quorum-of-the-live",
    /// The majority of a joint configuration is one over both halves together.
    QuorumOfUnion = "quorum-of-union",
    /// The new half of a joint configuration decides alone.
    HalfAlone = "half-alone",
    /// A change begins before an entry of the own term, and the one before it, is committed.
    BeginLoose = "begin-loose",
    /// A change is given up before an entry of the leader's own term is committed.
    AbortLoose = "abort-loose",
    /// A joint configuration is left before an entry of the leader's own term is committed.
    LeaveLoose = "leave-loose",
    /// A joint configuration stays though its new half is silent.
    SilentHalfKept = "silent-half-kept",
    /// A restart does not know the last configuration of the log.
    RestartForgetsConfiguration = "restart-forgets-configuration",
    /// A configuration stays in effect though its entry was deleted.
    TruncationKeepsConfiguration = "truncation-keeps-configuration",
    /// A configuration stays in effect though a snapshot replaced its entry.
    InstallKeepsConfiguration = "install-keeps-configuration",
    /// A snapshot carries a configuration that came after it.
    SnapshotOfLaterConfiguration = "snapshot-of-later-configuration",
    /// A snapshot drops the entries after it that belong to the same log.
    InstallDropsSuffix = "install-drops-suffix",
    /// A member whose next entry is the last one compacted is not sent a snapshot.
    BehindByOne = "behind-by-one",
    /// A read is answered before the no-op of the term is applied.
    ReadBeforeNoOp = "read-before-no-op",
    /// A read is confirmed by a round that began before it.
    ReadJoinsOlderRound = "read-joins-older-round",
    /// A leader that heard of a quorum within T answers reads without a round.
    ReadByLease = "read-by-lease",
    /// A member whose disk forgot what it had acknowledged counts as before.
    ForgetfulCounts = "forgetful-counts",
    /// A drained voter never stands.
    DrainedNeverStands = "drained-never-stands",
    /// A member that took nothing is sent a whole window again with each heartbeat.
    StuckIsSentAll = "stuck-is-sent-all",
    /// A transfer that is not taken is never given up.
    TransferForEver = "transfer-for-ever",
}

#[cfg(feature = "planted")]
const NONE: usize = usize::MAX;
/// Nobody chose: the environment does, at the first question.
#[cfg(feature = "planted")]
const OPEN: usize = NONE - 1;
#[cfg(feature = "planted")]
static CHOSEN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(OPEN);

/// Plants a bug in this process; `None` removes it. Without this `QUORATE_PLANTED` names it.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    let place = |bug| Bug::ALL.iter().position(|known| *known == bug);
    CHOSEN.store(bug.and_then(place).unwrap_or(NONE), std::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "planted")]
fn ask_environment() -> usize {
    let name = std::env::var("QUORATE_PLANTED").unwrap_or_default();
    plant(Bug::ALL.iter().copied().find(|bug| bug.name() == name));
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed)
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub(crate) fn is(bug: Bug) -> bool {
    let chosen = CHOSEN.load(std::sync::atomic::Ordering::Relaxed);
    let chosen = if chosen == OPEN { ask_environment() } else { chosen };
    Bug::ALL.get(chosen) == Some(&bug)
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_bug: Bug) -> bool {
    false
}
