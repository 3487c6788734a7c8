//! The one clock: CLOCK_BOOTTIME. Containers of a pod share it, and it counts while the machine
//! sleeps.

use quorate_raft::Time;
use rustix::time::{ClockId, clock_gettime};

/// Now, in nanoseconds since the machine started.
#[must_use]
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
