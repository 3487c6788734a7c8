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
    /// The leader ends sessions in its own state, and not by an entry.
    ExpiryOutsideTheLog = "expiry-outside-the-log",
    /// A heartbeat is acknowledged without a read round that began after it.
    AckWithoutRound = "ack-without-round",
    /// A new leader acknowledges heartbeats before it has applied its own no-op.
    AckBeforeNoOp = "ack-before-no-op",
    /// A heartbeat of a session is acknowledged though its Expire is under way.
    AckOfTheEnding = "ack-of-the-ending",
    /// A new leader gives no session its TTL anew.
    NewLeaderRestartsNothing = "new-leader-restarts-nothing",
    /// A message leaves before the write that it waits for is durable.
    FenceIgnored = "fence-ignored",
    /// A member without room takes entries until nothing else fits, votes included.
    ReserveSpent = "reserve-spent",
    /// A leader without room takes a release no longer than anything else.
    FullRefusesEnds = "full-refuses-ends",
    /// A follower without room takes no command at all, nor what comes before one.
    CrampedTakesNothing = "cramped-takes-nothing",
    /// A snapshot holds the state of a later entry than its own.
    StateAheadOfSnapshot = "state-ahead-of-snapshot",
    /// A deadline counts from when the acknowledgement came, not from the heartbeat.
    DeadlineFromReceipt = "deadline-from-receipt",
    /// An acknowledgement counts for the last heartbeat sent, whichever it answers.
    AckOfTheLatestBeat = "ack-of-the-latest-beat",
    /// An acknowledgement counts before the own apply has reached the leader's.
    AckBeforeOwnApply = "ack-before-own-apply",
    /// An Open earns a deadline from its answer on, not from its first forward.
    OpenEarnsAtItsAnswer = "open-earns-at-its-answer",
    /// A grant is announced though the deadline of its session has passed.
    GrantPastDeadline = "grant-past-deadline",
    /// A session whose deadline passed here is renewed, and not closed.
    DeadSessionRenewed = "dead-session-renewed",
    /// A session that moved elsewhere is still served here.
    MovedSessionStays = "moved-session-stays",
    /// A client that came back in time still loses its session.
    BreakForgetsReturn = "break-forgets-return",
    /// Any end of a connection shortens a session, and not only one by the peer.
    AnyBreakCounts = "any-break-counts",
    /// A wait ends, and its claim stays in the queue.
    WaitEndsWithoutCancel = "wait-ends-without-cancel",
    /// The claim of a client that went away stays in the queue.
    GoneClaimStays = "gone-claim-stays",
    /// A cancel, release or close of the sidecar's own is forgotten once a full leader refuses it.
    RefusedEndForgotten = "refused-end-forgotten",
    /// A grant that an earlier attachment may have handed over is given back.
    OlderGrantGivenBack = "older-grant-given-back",
    /// A grant whose token was told is given back, when an earlier call of its claim is gone.
    HandedGrantGivenBack = "handed-grant-given-back",
    /// A refused claim of which another copy may follow is not withdrawn.
    RefusedCopyStays = "refused-copy-stays",
    /// An entry of an older leader is waited for.
    OlderReplyParks = "older-reply-parks",
    /// A command whose entry another leader replaced is not sent again.
    LostEntryNotAskedAgain = "lost-entry-not-asked-again",
    /// A read is answered before the own apply has reached the leader's commit.
    ReadBeforeOwnApply = "read-before-own-apply",
    /// A batch counts as durable without a sync.
    BatchNotSynced = "batch-not-synced",
    /// The mark that proves a sync is written before it.
    MarkBeforeSync = "mark-before-sync",
    /// A write or sync that failed is reported as done.
    FailedSyncPasses = "failed-sync-passes",
    /// A snapshot gets its name before its content is durable.
    SnapshotNamedUnsynced = "snapshot-named-unsynced",
    /// The name of a new segment is not made durable.
    NameNotSynced = "name-not-synced",
    /// A segment goes before the snapshot that covers it is durable.
    RetiredTooEarly = "retired-too-early",
    /// A segment does not repeat the vote, which goes with the segment before it.
    VoteLostWithItsSegment = "vote-lost-with-its-segment",
    /// Damage before the synced mark is cut as if a write had been torn.
    RotTakenForTornTail = "rot-taken-for-torn-tail",
}

/// Whether this process plays the next version of the product, of a log format one higher. `dev`
/// keeps variables that begin with QUORATE_ from its members.
#[cfg(feature = "planted")]
pub(crate) fn is_next_version() -> bool {
    static NEXT: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *NEXT.get_or_init(|| std::env::var_os("NEXT_QUORATE_VERSION").is_some())
}

/// Whether this process plays the next version of the product: never.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is_next_version() -> bool {
    false
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
