//! Bugs planted on purpose, to see that the tests find them. Only in builds with the feature
//! `planted`; in every other build [`is`] is `false` to the compiler, and nothing of this is left.

/// One planted bug of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A vote is answered before it is durable.
    VoteBeforeDurable,
    /// Entries are answered before they are synced.
    EntriesBeforeSync,
    /// An entry of an old term is committed by counting (Raft paper, figure 8).
    OldTermByCounting,
    /// A change is given up before an entry of the leader's own term is committed.
    AbortLoose,
    /// A joint configuration is left before an entry of the leader's own term is committed.
    LeaveLoose,
}

#[cfg(feature = "planted")]
static CHOSEN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a bug in this process; `None` removes it.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    let chosen = match bug {
        None => 0,
        Some(Bug::VoteBeforeDurable) => 1,
        Some(Bug::EntriesBeforeSync) => 2,
        Some(Bug::OldTermByCounting) => 3,
        Some(Bug::AbortLoose) => 4,
        Some(Bug::LeaveLoose) => 5,
    };
    CHOSEN.store(chosen, std::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub(crate) fn is(bug: Bug) -> bool {
    let chosen = match bug {
        Bug::VoteBeforeDurable => 1,
        Bug::EntriesBeforeSync => 2,
        Bug::OldTermByCounting => 3,
        Bug::AbortLoose => 4,
        Bug::LeaveLoose => 5,
    };
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed) == chosen
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_bug: Bug) -> bool {
    false
}
