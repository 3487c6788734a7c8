//! The holder's own end: when to tell it to stop, and when to kill it, before its deadline.
//!
//! Purpose: whoever holds a grant must be gone before the deadline, whatever the sidecar does. This
//! struct says when. Invariants: stop point < kill point < deadline; a renewal only moves points
//! later; once stop was ordered nothing takes it back, so the kill point of that moment stands;
//! once kill was ordered it is ordered for ever. Must not: read a clock, arm a timer, touch a
//! process. Time is an argument: absolute nanoseconds of CLOCK_BOOTTIME.

use crate::planted::{self, Bug};

/// Kill this long before the deadline, in ns: what a SIGKILL and the reaping of a tree take.
pub const KILL_MARGIN_NS: u64 = 50_000_000;
/// Order the stop at least this long before the deadline, in ns.
pub const STOP_MARGIN_MIN_NS: u64 = 100_000_000;

const NANOS_PER_MS: u64 = 1_000_000;
/// The stop margin is 5 % of the TTL, where that is more than the least.
const STOP_MARGIN_DIVISOR: u64 = 20;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing until this instant, in ns; then ask again.
    Wait(u64),
    /// Tell the holder to stop. Said once.
    Stop,
    /// Kill the holder.
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Holding,
    Stopping,
    Killed,
}

/// The points in time of one grant.
#[derive(Clone, Debug)]
pub struct Deadline {
    deadline_ns: u64,
    stop_margin_ns: u64,
    phase: Phase,
}

impl Deadline {
    /// Of a session with this TTL (1,000 to 600,000 ms) and a grant held until `deadline_ns`.
    #[must_use]
    pub fn new(ttl_ms: u64, deadline_ns: u64) -> Deadline {
        let share = ttl_ms.saturating_mul(NANOS_PER_MS) / STOP_MARGIN_DIVISOR;
        let stop_margin_ns = share.max(STOP_MARGIN_MIN_NS);
        assert!(stop_margin_ns > KILL_MARGIN_NS, "a stop order comes before the kill");
        Deadline { deadline_ns, stop_margin_ns, phase: Phase::Holding }
    }

    /// The grant is held until `deadline_ns`. An earlier one than known is a late message and moves
    /// nothing; after the stop order none counts.
    pub fn renewed(&mut self, deadline_ns: u64) {
        if planted::is(Bug::LateRenewalMovesBack) {
            self.deadline_ns = deadline_ns;
        }
        if self.phase == Phase::Stopping && planted::is(Bug::RenewalAfterStopOrder) {
            self.phase = Phase::Holding;
        }
        if self.phase == Phase::Holding {
            self.deadline_ns = self.deadline_ns.max(deadline_ns);
        }
    }

    /// Held until then, in ns.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns
    }

    /// When the holder is told to stop, in ns.
    #[must_use]
    pub fn stop_at_ns(&self) -> u64 {
        self.deadline_ns.saturating_sub(self.stop_margin_ns)
    }

    /// When the holder is killed, in ns.
    #[must_use]
    pub fn kill_at_ns(&self) -> u64 {
        if planted::is(Bug::KillAtTheDeadline) {
            return self.deadline_ns;
        }
        self.deadline_ns.saturating_sub(KILL_MARGIN_NS)
    }

    /// What to do at `now_ns`. A reader that slept through the stop point and the kill point is
    /// told to kill.
    #[must_use = "the stop order is said once"]
    pub fn decide(&mut self, now_ns: u64) -> Act {
        assert!(
            self.stop_at_ns() <= self.kill_at_ns(),
            "the stop point is not after the kill point"
        );
        if self.phase == Phase::Killed || now_ns >= self.kill_at_ns() {
            self.phase = Phase::Killed;
            return Act::Kill;
        }
        match self.phase {
            Phase::Holding if now_ns >= self.stop_at_ns() => {
                self.phase = Phase::Stopping;
                Act::Stop
            }
            Phase::Holding => Act::Wait(self.stop_at_ns()),
            Phase::Stopping | Phase::Killed => Act::Wait(self.kill_at_ns()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = NANOS_PER_MS;

    #[test]
    fn the_points_of_each_ttl() {
        // (ttl_ms, deadline_ms, stop_ms, kill_ms)
        let table = [
            (1_000, 10_000, 9_900, 9_950),
            (2_000, 10_000, 9_900, 9_950),
            (2_001, 100_000, 99_899, 99_950),
            (5_000, 100_000, 99_750, 99_950),
            (600_000, 700_000, 670_000, 699_950),
        ];
        for (ttl_ms, deadline, stop, kill) in table {
            let points = Deadline::new(ttl_ms, deadline * MS);
            let stop_ms = points.stop_at_ns() / MS;
            assert_eq!((stop_ms, points.kill_at_ns() / MS), (stop, kill), "ttl {ttl_ms}");
        }
    }

    #[test]
    fn the_orders_in_their_order() {
        let mut points = Deadline::new(1_000, 10_000 * MS);
        assert_eq!(points.decide(0), Act::Wait(9_900 * MS));
        assert_eq!(points.decide(9_900 * MS - 1), Act::Wait(9_900 * MS));
        assert_eq!(points.decide(9_900 * MS), Act::Stop);
        assert_eq!(points.decide(9_900 * MS), Act::Wait(9_950 * MS));
        assert_eq!(points.decide(9_950 * MS), Act::Kill);
        assert_eq!(points.decide(0), Act::Kill, "for ever");
    }

    #[test]
    fn asleep_through_both_points() {
        let mut points = Deadline::new(1_000, 10_000 * MS);
        assert_eq!(points.decide(20_000 * MS), Act::Kill);
    }

    #[test]
    fn only_a_later_renewal_before_the_stop_counts() {
        let mut points = Deadline::new(1_000, 10_000 * MS);
        points.renewed(9_000 * MS);
        assert_eq!(points.deadline_ns(), 10_000 * MS);
        points.renewed(11_000 * MS);
        assert_eq!(points.decide(9_950 * MS), Act::Wait(10_900 * MS));
        assert_eq!(points.decide(10_900 * MS), Act::Stop);
        points.renewed(20_000 * MS);
        assert_eq!(points.decide(10_950 * MS), Act::Kill);
    }

    /// A small generator, so that each failure has its seed.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn whatever_comes_the_holder_is_killed_in_time() {
        for seed in 1..2_000_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let ttl_ms = 1_000 + next(&mut state) % 599_001;
            let mut now = next(&mut state) % (1_000_000 * MS);
            let mut latest = now + ttl_ms * MS * 95 / 100;
            let mut points = Deadline::new(ttl_ms, latest);
            let mut stops = 0;
            for _ in 0..200 {
                match points.decide(now) {
                    Act::Kill => break,
                    Act::Stop => {
                        stops += 1;
                        assert!(now >= points.stop_at_ns() && now < points.kill_at_ns());
                    }
                    Act::Wait(until) => {
                        assert!(until > now && until < latest, "seed {seed}");
                        now += next(&mut state) % (until - now + 1);
                    }
                }
                if next(&mut state).is_multiple_of(3) {
                    let sent = now.saturating_sub(next(&mut state) % (ttl_ms * MS));
                    let renewed = sent + ttl_ms * MS * 95 / 100;
                    points.renewed(renewed);
                    if stops == 0 {
                        latest = latest.max(renewed);
                    }
                    assert_eq!(points.deadline_ns(), latest, "seed {seed}");
                }
            }
            assert!(stops <= 1, "seed {seed}");
            let kill_at = points.kill_at_ns();
            assert_eq!(points.decide(kill_at), Act::Kill, "seed {seed}");
            assert!(kill_at < latest, "seed {seed}");
        }
    }
}
