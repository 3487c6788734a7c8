//! Every order of events, to closure, over the real [`quorate_raft::Node`]: what is explored, what
//! is bounded and loosened, and what that can miss stands in `docs/exhaustive.md`.
//!
//! `LONG=1` takes the deeper bounds. `STATES=n` is the number of states that cuts a search off;
//! then it has failed.

#[cfg(test)]
mod change;
#[cfg(test)]
mod crash;
#[cfg(test)]
#[path = "../disk/mod.rs"]
mod disk;
#[cfg(all(test, feature = "planted"))]
mod planted;
#[cfg(test)]
mod print;
#[cfg(test)]
mod search;
#[cfg(test)]
mod sound;
#[cfg(test)]
mod truth;
#[cfg(test)]
mod words;

#[cfg(test)]
const TARGETS: [&[u8]; 5] = [&[1], &[4], &[3, 4], &[2, 3, 4], &[1, 2, 3, 4]];

#[cfg(test)]
fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// A planted bug is in the whole process: one test at a time where there may be one.
#[cfg(test)]
fn alone() -> Option<std::sync::MutexGuard<'static, ()>> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let lock = || ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    cfg!(feature = "planted").then(lock)
}
