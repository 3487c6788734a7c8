//! A bug planted on purpose, to see that the tests find it. Only in builds with the feature
//! `planted`; in every other build [`expires_outside_the_log`] is `false` to the compiler, and
//! nothing of this is left.

#[cfg(feature = "planted")]
static CHOSEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Plants the bug in this process: the leader ends sessions in its own state, and not by an entry.
#[cfg(feature = "planted")]
pub fn plant(chosen: bool) {
    CHOSEN.store(chosen, std::sync::atomic::Ordering::Relaxed);
}

/// Whether the bug is planted.
#[cfg(feature = "planted")]
pub(super) fn expires_outside_the_log() -> bool {
    CHOSEN.load(std::sync::atomic::Ordering::Relaxed)
}

/// Whether the bug is planted: never.
#[cfg(not(feature = "planted"))]
pub(super) const fn expires_outside_the_log() -> bool {
    false
}
