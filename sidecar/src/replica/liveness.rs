//! The leader's deadlines: which sessions are alive, by what this leader heard in its own term.
//!
//! Nothing here is replicated. A new leader starts every session at its full TTL, so a deadline can
//! only move later by a change of leader. A session ends through a log entry alone; this only says
//! when to propose one.
//!
//! The trace that this answers: a leader appends Expire and
//! dies; the next acknowledges a heartbeat of that session before it applies the Expire; the holder
//! feels safe for most of a TTL while somebody else is granted. So no acknowledgement leaves before
//! a read round that began after the heartbeat came is confirmed and applied, nor for a session
//! whose end this leader has proposed.

use super::Origin;
use crate::frame::Heartbeat;
use crate::planted::{self, Bug};
use quorate_locks::{Command, Event, Generation, Machine, Outcome, Session, SessionId, Token};
use quorate_raft::{Index, MemberId, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Sessions ended by one entry at most: bounds the entry and the step that applies it.
const EXPIRE_MAX: usize = 256;

const NANOS_PER_MS: u64 = 1_000_000;
/// Between two tries to lift a hold-off.
const LIFT_AGAIN_NS: u64 = 100 * NANOS_PER_MS;

/// A heartbeat whose read is confirmed at this index.
type Confirmed = (Index, Origin, Heartbeat);

/// The deadlines of one term. Empty unless this member leads and has applied its own no-op.
#[derive(Debug, Default)]
pub struct Liveness {
    active: bool,
    deadlines: BTreeMap<SessionId, Time>,
    /// The same by time; without those whose end is proposed.
    order: BTreeSet<(Time, SessionId)>,
    /// Sessions whose Expire or Close this leader appended and has not applied.
    ending: BTreeSet<SessionId>,
    /// Heartbeats whose read is confirmed, in the order of their reads.
    confirmed: VecDeque<Confirmed>,
    /// When grants need be held off no longer, and in which life.
    lift: Option<(Time, Token)>,
}

/// Whether this heartbeat, passed on by this member, is of the sidecar that has the session.
fn speaks_for(beat: &Heartbeat, member: MemberId, session: &Session) -> bool {
    let attachment = session.attachment();
    attachment.member == beat.sidecar.unwrap_or(member.0) && attachment.boot == beat.boot
}

impl Liveness {
    /// Begins a term: this leader's own no-op is applied. Every session gets its full TTL.
    pub(super) fn start(&mut self, now: Time, machine: &Machine) {
        self.stop();
        self.active = true;
        for (id, session) in machine.sessions() {
            let ttl = u64::from(session.ttl_ms()) * NANOS_PER_MS;
            let ttl = if planted::is(Bug::NewLeaderRestartsNothing) { 0 } else { ttl };
            self.extend(id, now.after(ttl));
        }
        self.lift = machine.hold_off_ms().map(|ms| {
            let ttl = u64::from(ms) * NANOS_PER_MS;
            (now.after(ttl), machine.life())
        });
    }

    /// Ends it: another leader, or none.
    pub(super) fn stop(&mut self) {
        *self = Liveness::default();
    }

    /// Whether this member may acknowledge and expire.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// When the next session is due, or the end of a hold-off.
    #[must_use]
    pub fn deadline(&self) -> Time {
        let session = self.order.first().map_or(Time::NEVER, |(time, _)| *time);
        self.lift.map_or(session, |(time, _)| session.min(time))
    }

    /// The life whose hold-off is over: the caller proposes its end now.
    pub(super) fn lift_due(&mut self, now: Time) -> Option<Token> {
        self.lift.take_if(|(time, _)| *time <= now).map(|(_, life)| life)
    }

    /// How much is left, while this member leads, of the first `own_ms` of a hold-off of `ms`.
    pub(super) fn own_hold_left(&self, now: Time, (ms, own_ms): (u32, u32)) -> Duration {
        let [all, own] = [ms, own_ms].map(|ms| Duration::from_millis(u64::from(ms)));
        match self.lift {
            Some((end, _)) => {
                let over = all.saturating_sub(Duration::from_nanos(end.since(now)));
                own.saturating_sub(over)
            }
            // Its end is proposed.
            None if self.active => Duration::ZERO,
            None => own,
        }
    }

    /// The node did not append the end of a hold-off (it is handing over, say): again, soon.
    pub(super) fn lift_refused(&mut self, now: Time, life: Token) {
        self.lift = self.active.then_some((now.after(LIFT_AGAIN_NS), life));
    }

    /// A command reached this leader. What names a session extends it on receipt.
    pub(super) fn received(&mut self, now: Time, command: &Command, machine: &Machine) {
        if !self.active {
            return;
        }
        match command {
            Command::Open { key, .. } | Command::Resume { key, .. } => {
                if let Some((id, session)) = machine.session_by_key(*key) {
                    self.extend_live(id, now.after(u64::from(session.ttl_ms()) * NANOS_PER_MS));
                }
            }
            _ => {}
        }
    }

    /// A Close of this session was appended: no acknowledgement of it follows. Not before: a Close
    /// that was refused may never come again, and the session must still expire.
    pub(super) fn close_appended(
        &mut self,
        (session, generation): (SessionId, Generation),
        machine: &Machine,
    ) {
        let current = machine.session(session).is_some_and(|s| s.generation() == generation);
        if self.active && current {
            self.end(session);
        }
    }

    /// A heartbeat came: extends each session that it may speak for. False if there is none. A
    /// member speaks for itself, and for the attached sidecar that it says it relays.
    pub(super) fn heard(
        &mut self,
        now: Time,
        member: MemberId,
        beat: &Heartbeat,
        machine: &Machine,
    ) -> bool {
        let mut any = false;
        for (id, generation) in &beat.sessions {
            let Some(session) = machine.session(*id) else { continue };
            if speaks_for(beat, member, session) && session.generation() == *generation {
                any = true;
                self.extend_live(*id, now.after(u64::from(session.ttl_ms()) * NANOS_PER_MS));
            }
        }
        any
    }

    /// The read round that began after this heartbeat came is confirmed at `index`.
    pub(super) fn confirmed(&mut self, origin: Origin, beat: Heartbeat, index: Index) {
        if self.active {
            self.confirmed.push_back((index, origin, beat));
        }
    }

    /// The next heartbeat whose read is applied.
    pub(super) fn next_confirmed(&mut self, applied: Index) -> Option<(Origin, Heartbeat)> {
        if self.confirmed.front()?.0 > applied {
            return None;
        }
        self.confirmed.pop_front().map(|(_, origin, beat)| (origin, beat))
    }

    /// The sessions of a heartbeat that its acknowledgement extends, at this moment.
    pub(super) fn renewable(
        &self,
        (member, beat): (MemberId, &Heartbeat),
        machine: &Machine,
    ) -> Vec<(SessionId, Generation)> {
        let lives = |(id, generation): &&(SessionId, Generation)| {
            (!self.ending.contains(id) || planted::is(Bug::AckOfTheEnding))
                && machine.session(*id).is_some_and(|session| {
                    session.generation() == *generation && speaks_for(beat, member, session)
                })
        };
        beat.sessions.iter().filter(lives).copied().collect()
    }

    /// The sessions that are due, at most [`EXPIRE_MAX`]: the caller proposes their end now.
    pub(super) fn due(&mut self, now: Time, machine: &Machine) -> Vec<(SessionId, Generation)> {
        let mut due = Vec::new();
        while let Some((time, id)) = self.order.first().copied() {
            if time > now || due.len() == EXPIRE_MAX {
                break;
            }
            self.end(id);
            let session = machine.session(id).expect("a deadline is of a live session");
            due.push((id, session.generation()));
        }
        due
    }

    /// The node did not append an expiry (it is handing over, or full): its sessions are due again.
    pub(super) fn expiry_refused(&mut self, sessions: &[(SessionId, Generation)]) {
        for (id, _) in sessions {
            if self.ending.remove(id)
                && let Some(time) = self.deadlines.get(id)
            {
                self.order.insert((*time, *id));
            }
        }
    }

    /// An entry was applied here. Gives the number of sessions that it expired.
    pub(super) fn applied(&mut self, now: Time, answer: &Option<Outcome>, events: &[Event]) -> u64 {
        if !self.active {
            return 0;
        }
        match answer {
            // An Open of a session whose end is in the log already does not call that end off.
            Some(Outcome::Opened { session, ttl_ms, .. }) => {
                self.extend_live(*session, now.after(u64::from(*ttl_ms) * NANOS_PER_MS));
            }
            // A move does: the proposed end names the older generation, and is void.
            Some(Outcome::Resumed { session, ttl_ms, .. }) => {
                self.ending.remove(session);
                self.extend(*session, now.after(u64::from(*ttl_ms) * NANOS_PER_MS));
            }
            _ => {}
        }
        for event in events {
            if let Event::Ended { session, .. } = event {
                self.forget(*session);
            }
        }
        if let Some(Outcome::Expired { ended }) = answer { u64::from(*ended) } else { 0 }
    }

    fn extend_live(&mut self, id: SessionId, to: Time) {
        if !self.ending.contains(&id) {
            self.extend(id, to);
        }
    }

    /// Moves a deadline later; never earlier.
    fn extend(&mut self, id: SessionId, to: Time) {
        let known = self.deadlines.get(&id).copied();
        let to = known.map_or(to, |known| known.max(to));
        if let Some(known) = known {
            self.order.remove(&(known, id));
        }
        self.deadlines.insert(id, to);
        self.order.insert((to, id));
    }

    fn end(&mut self, id: SessionId) {
        if let Some(time) = self.deadlines.get(&id) {
            self.order.remove(&(*time, id));
        }
        self.ending.insert(id);
    }

    fn forget(&mut self, id: SessionId) {
        self.ending.remove(&id);
        if let Some(time) = self.deadlines.remove(&id) {
            self.order.remove(&(time, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_locks::{LifeCommand, Logged};

    const SECOND: u64 = 1_000 * NANOS_PER_MS;

    fn held_off(ms: u32) -> Machine {
        let mut machine = Machine::new();
        let start = Command::Start { epoch: 1, last_n: 0 };
        machine.apply(1, &start, &mut Vec::new());
        let begin = LifeCommand::Begin { epoch: 2, last_n: 0, hold_off_ms: ms };
        machine.apply_logged(2, &Logged::Life(begin), &mut Vec::new());
        machine
    }

    #[test]
    fn every_leader_waits_for_the_whole_hold_off() {
        let machine = held_off(5_000);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.lift_due(Time(100 * SECOND)), None, "no leader");
        liveness.start(Time(SECOND), &machine);
        assert_eq!(liveness.deadline(), Time(6 * SECOND));
        assert_eq!(liveness.lift_due(Time(6 * SECOND - 1)), None);
        liveness.stop();
        liveness.start(Time(4 * SECOND), &machine);
        assert_eq!(liveness.lift_due(Time(9 * SECOND - 1)), None, "a new leader waits anew");
        assert_eq!(liveness.lift_due(Time(9 * SECOND)), Some(machine.life()));
        assert_eq!(liveness.lift_due(Time(10 * SECOND)), None, "proposed once");
    }

    #[test]
    fn a_part_of_the_hold_off_is_counted_from_the_same_moment() {
        let machine = held_off(5_000);
        let mut liveness = Liveness::default();
        let left = |liveness: &Liveness, now: u64| {
            liveness.own_hold_left(Time(now), (5_000, 3_000)).as_millis()
        };
        assert_eq!(left(&liveness, 90 * SECOND), 3_000, "no leader");
        liveness.start(Time(SECOND), &machine);
        assert_eq!(left(&liveness, SECOND), 3_000);
        assert_eq!(left(&liveness, 3 * SECOND), 1_000);
        assert_eq!(left(&liveness, 4 * SECOND), 0);
        liveness.stop();
        liveness.start(Time(8 * SECOND), &machine);
        assert_eq!(left(&liveness, 9 * SECOND), 2_000, "a new leader counts anew");
        assert!(liveness.lift_due(Time(13 * SECOND)).is_some());
        assert_eq!(left(&liveness, 13 * SECOND), 0, "its end is proposed");
    }

    #[test]
    fn a_refused_lift_is_proposed_again_by_whoever_leads() {
        let machine = held_off(1);
        let mut liveness = Liveness::default();
        liveness.start(Time(0), &machine);
        let life = liveness.lift_due(Time(SECOND)).expect("due");
        liveness.lift_refused(Time(SECOND), life);
        assert_eq!(liveness.lift_due(Time(2 * SECOND)), Some(life));
        liveness.stop();
        liveness.lift_refused(Time(SECOND), life);
        assert_eq!(liveness.deadline(), Time::NEVER, "another one leads");
    }
}
