//! A bug planted on purpose, to see that the tests find it. Only in builds with the feature
//! `planted`; in every other build [`local_n`] is `None` to the compiler, and nothing of this is
//! left.

#[cfg(feature = "planted")]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(feature = "planted")]
static CHOSEN: AtomicBool = AtomicBool::new(false);
#[cfg(feature = "planted")]
static COUNTER: AtomicU64 = AtomicU64::new(1 << 40);

/// Plants the bug in this process: tokens come from a counter of the process, not from replicated
/// state.
#[cfg(feature = "planted")]
pub fn plant(chosen: bool) {
    CHOSEN.store(chosen, Ordering::Relaxed);
}

/// The counter of the process, if the bug is planted.
#[cfg(feature = "planted")]
pub(crate) fn local_n() -> Option<u64> {
    CHOSEN.load(Ordering::Relaxed).then(|| COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// The counter of the process: there is none.
#[cfg(not(feature = "planted"))]
pub(crate) const fn local_n() -> Option<u64> {
    None
}
