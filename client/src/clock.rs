//! CLOCK_BOOTTIME: the clock of every deadline. Containers of a pod share it, and it counts while
//! the machine sleeps.
//!
//! Must not be mixed with `Instant`, which stands still while the machine sleeps: a grant would
//! look younger than it is.

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Now, in nanoseconds since the machine started.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos)
}

/// A timer at absolute instants of CLOCK_BOOTTIME: a timerfd. Belongs to the tokio runtime that it
/// was made in.
#[derive(Debug)]
pub struct Timer {
    fd: AsyncFd<OwnedFd>,
    armed_ns: u64,
}

impl Timer {
    /// An unarmed timer.
    ///
    /// # Errors
    /// No descriptor is left, or there is no tokio runtime with IO.
    pub fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Boottime, flags)?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd keeps what that asks for"
        )]
        Ok(Timer { fd: AsyncFd::new(fd)?, armed_ns: 0 })
    }

    /// Waits until `at_ns`. May be dropped and called again with another instant.
    ///
    /// # Errors
    /// The kernel refused the timer: our own bug, or no memory.
    pub async fn wait_until(&mut self, at_ns: u64) -> io::Result<()> {
        // An expiry of zero would disarm the timer, so that it never fires.
        let at_ns = at_ns.max(1);
        while now_ns() < at_ns {
            if self.armed_ns != at_ns {
                self.arm(at_ns)?;
            }
            let mut ready = self.fd.readable().await?;
            let mut expiries = [0; 8];
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expiries)?));
            // Would-block is an old readiness: the timer was moved since. A timer that has fired
            // does not fire again: if this clock is behind the timer's, it is armed anew.
            if read.is_ok() {
                self.armed_ns = 0;
            }
        }
        Ok(())
    }

    fn arm(&mut self, at_ns: u64) -> io::Result<()> {
        let value = Timespec {
            tv_sec: i64::try_from(at_ns / NANOS_PER_SECOND).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(at_ns % NANOS_PER_SECOND).unwrap_or(0),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)?;
        self.armed_ns = at_ns;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fires_not_before_its_instant_and_again_when_moved() {
        let mut timer = Timer::new().unwrap();
        let started = now_ns();
        timer.wait_until(started + 20_000_000).await.unwrap();
        assert!(now_ns() >= started + 20_000_000);
        timer.wait_until(1).await.unwrap();
        let far = now_ns() + 3_600 * NANOS_PER_SECOND;
        tokio::select! {
            biased;
            _ = timer.wait_until(far) => panic!("an hour has passed"),
            () = tokio::task::yield_now() => {}
        }
        let soon = now_ns() + 5_000_000;
        timer.wait_until(soon).await.unwrap();
        assert!(now_ns() >= soon);
    }

    /// The kernel's timer may run a little ahead of the clock that we read on another core: what
    /// it said too early must not be the last that it says.
    #[tokio::test]
    async fn a_timer_that_fires_early_fires_again() {
        let mut timer = Timer::new().unwrap();
        let at = now_ns() + 30_000_000;
        timer.arm(now_ns() + 1_000_000).unwrap();
        timer.armed_ns = at;
        timer.wait_until(at).await.unwrap();
        assert!(now_ns() >= at);
    }
}
