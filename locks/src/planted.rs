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
    /// Tokens come from a counter of the process, not from replicated state.
    TokenOfTheProcess = "token-of-the-process",
    /// A token is the index of its entry, though one entry may make many grants.
    TokenByIndex = "token-by-index",
    /// A snapshot forgets how far tokens were counted.
    SnapshotForgetsTokens = "snapshot-forgets-tokens",
    /// A snapshot forgets the outcomes that are kept for repeated requests.
    SnapshotForgetsOutcomes = "snapshot-forgets-outcomes",
    /// A claim that ended is not remembered: a late copy of it is executed again.
    EndedClaimForgotten = "ended-claim-forgotten",
    /// A cancel that comes before its claim is not remembered.
    EarlyCancelForgotten = "early-cancel-forgotten",
    /// Of sessions that end together, one may be granted what another held.
    DeadSessionGranted = "dead-session-granted",
    /// An Expire ends a session that moved on since the leader looked.
    ExpireIgnoresMove = "expire-ignores-move",
    /// A command of an older attachment of a session still counts.
    GenerationIgnored = "generation-ignored",
    /// A delayed copy of an old Resume takes the session back.
    OldResumeWins = "old-resume-wins",
    /// An Open of a known key moves the session, where only a Resume may.
    OpenTakesOver = "open-takes-over",
    /// A release under an old token ends the present grant.
    StaleTokenReleases = "stale-token-releases",
    /// The last waiter of a queue is the next holder.
    LastWaiterFirst = "last-waiter-first",
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

/// A counter of the process, for [`Bug::TokenOfTheProcess`].
#[cfg(feature = "planted")]
pub(crate) fn count() -> u64 {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 40);
    COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// A counter of the process: there is none.
#[cfg(not(feature = "planted"))]
pub(crate) const fn count() -> u64 {
    0
}
