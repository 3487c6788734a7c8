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
    /// A renewal that comes after the stop order takes the order back.
    RenewalAfterStopOrder = "renewal-after-stop-order",
    /// The holder is killed at its deadline, and not before.
    KillAtTheDeadline = "kill-at-the-deadline",
    /// A renewal that comes late moves the deadline to an earlier time.
    LateRenewalMovesBack = "late-renewal-moves-back",
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
