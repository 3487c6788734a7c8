//! When the driver has to act without being told to: a timer of the kernel's, on the one clock.
//!
//! The runtime's own timers lie in slots of 1 ms and of 64 ms, and one that is further away wakes
//! the thread twice: once to move it from slot to slot, and when it is due. A member at rest does
//! little else than wake up, so that was a fifth of what it cost.

use super::give_up;
use quorate_raft::Time;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// See the module.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    /// When it rings next.
    set: Option<Time>,
}

impl Alarm {
    /// One that is not set. Must be called within a runtime. Ends the process if there is no
    /// descriptor for it.
    pub(super) fn new() -> Alarm {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags).map_err(io::Error::from);
        #[allow(deprecated, reason = "its successor is unsafe; see process.rs")]
        let timer = timer.and_then(|timer| AsyncFd::with_interest(timer, Interest::READABLE));
        Alarm { timer: timer.unwrap_or_else(|why| failed(&why)), set: None }
    }

    /// Has it ring at `deadline` at the latest. One that is set already is left alone if it rings
    /// before: deadlines move away with every message, and one ring for nothing, once an election
    /// timeout, costs less than a system call for each of them.
    pub(super) fn set(&mut self, deadline: Time) {
        if self.set.is_some_and(|set| set <= deadline) {
            return;
        }
        // Zero would mean "never"; the past means "now".
        let at = Duration::from_nanos(deadline.0.max(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        match timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once) {
            Ok(_) => self.set = Some(deadline),
            Err(why) => failed(&why.into()),
        }
    }

    /// Ends when it rings. Nothing is lost when the future is dropped.
    pub(super) async fn ring(&mut self) {
        match self.timer.readable().await {
            // What it counted is not read: it counts anew when it is set, and is heard of once a
            // ring.
            Ok(mut ready) => ready.clear_ready(),
            Err(why) => failed(&why),
        }
        self.set = None;
    }
}

fn failed(why: &io::Error) -> ! {
    give_up(&format!("no timer: {why}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use tokio::time::timeout;

    const SOON: u64 = 20_000_000;
    const LONG: Duration = Duration::from_secs(10);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    async fn rings(alarm: &mut Alarm) -> Time {
        timeout(LONG, alarm.ring()).await.expect("it rings");
        clock::now()
    }

    #[test]
    fn rings_when_it_is_due_and_once_a_setting() {
        runtime().block_on(async {
            let mut alarm = Alarm::new();
            for _ in 0..3 {
                let due = Time(clock::now().0 + SOON);
                alarm.set(due);
                assert!(rings(&mut alarm).await >= due);
                let again = timeout(Duration::from_nanos(SOON), alarm.ring()).await;
                assert!(again.is_err(), "it was not set again");
            }
        });
    }

    #[test]
    fn what_is_past_rings_now() {
        runtime().block_on(async {
            let mut alarm = Alarm::new();
            for past in [Time(0), Time(1), clock::now()] {
                alarm.set(past);
                rings(&mut alarm).await;
            }
        });
    }

    #[test]
    fn earlier_deadline_counts_and_a_later_one_rings_early() {
        runtime().block_on(async {
            let mut alarm = Alarm::new();
            let (soon, never) = (Time(clock::now().0 + SOON), Time(u64::MAX));
            alarm.set(never);
            alarm.set(soon);
            alarm.set(never);
            assert!(rings(&mut alarm).await >= soon);
            // Nothing but the later one is left then.
            alarm.set(never);
            assert!(timeout(Duration::from_nanos(SOON), alarm.ring()).await.is_err());
        });
    }
}
