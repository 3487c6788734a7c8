//! The heartbeat: one a sidecar, for all its sessions, and what its acknowledgement is worth.

use super::alarm::Alarm;
use super::{Agent, Effect, NANOS_PER_MS, Told};
use crate::frame::{Heartbeat, HeartbeatAck};
use crate::planted::{self, Bug};
use quorate_raft::{Term, Time};
use std::collections::VecDeque;

/// Transmissions remembered; an acknowledgement of an older one is worthless by then.
const REMEMBERED_MAX: usize = 64;
/// Acknowledgements that wait for the own apply.
const WAITING_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Beats {
    /// Begins at the boot's random bits, as tickets do.
    seq: u64,
    /// When each transmission left, and under which term.
    sent: VecDeque<(u64, Time, Term)>,
    /// Acknowledgements that the own apply has not reached.
    waiting: VecDeque<HeartbeatAck>,
    alarm: Option<Time>,
}

impl Beats {
    pub(super) fn from(boot: u64) -> Beats {
        Beats { seq: boot, ..Beats::default() }
    }
}

impl Agent {
    /// How often a session of this TTL is renewed, in ns.
    #[must_use]
    pub fn heartbeat_ns(ttl_ms: u32) -> u64 {
        u64::from(ttl_ms) * NANOS_PER_MS / 5
    }

    /// Makes sure that a heartbeat leaves within `interval`.
    pub(super) fn schedule_beat(&mut self, now: Time, interval: u64) {
        let at = now.after(interval);
        if let Some(set) = self.beats.alarm {
            if set <= at {
                return;
            }
            self.alarms.cancel(set, Alarm::Beat);
        }
        self.beats.alarm = Some(at);
        self.alarms.set(at, Alarm::Beat);
    }

    pub(super) fn beat_due(&mut self, now: Time) {
        self.beats.alarm = None;
        self.beat(now);
    }

    /// Sends a heartbeat for all sessions that may be renewed; without a leader it comes with the
    /// next one.
    pub(super) fn beat(&mut self, now: Time) {
        let renewable = self.sessions.values().filter(|s| s.is_renewable(now));
        let sessions: Vec<_> = renewable.clone().map(|s| (s.id, s.generation)).collect();
        let Some(interval) = renewable.map(|s| Agent::heartbeat_ns(s.ttl_ms)).min() else {
            return;
        };
        self.schedule_beat(now, interval);
        let Some((leader, term)) = self.leader else { return };
        self.beats.seq = self.beats.seq.wrapping_add(1);
        let seq = self.beats.seq;
        if self.beats.sent.len() == REMEMBERED_MAX {
            self.beats.sent.pop_front();
        }
        self.beats.sent.push_back((seq, now, term));
        let beat = Heartbeat { seq, term, boot: self.own.boot, sessions, sidecar: None };
        self.effects.push(Effect::Heartbeat(leader, beat));
    }

    /// An acknowledgement is credited once the own apply has reached the leader's: what ended up to
    /// there is gone from here too by then.
    pub(super) fn ack(&mut self, now: Time, ack: HeartbeatAck) {
        if self.beats.waiting.len() == WAITING_MAX {
            self.beats.waiting.pop_front();
        }
        self.beats.waiting.push_back(ack);
        self.credit_due(now);
    }

    pub(super) fn credit_due(&mut self, now: Time) {
        let mut at = 0;
        while at < self.beats.waiting.len() {
            let early = planted::is(Bug::AckBeforeOwnApply);
            if self.beats.waiting[at].applied <= self.applied || early {
                if let Some(ack) = self.beats.waiting.remove(at) {
                    self.credit(now, &ack);
                }
            } else {
                at += 1;
            }
        }
    }

    fn credit(&mut self, now: Time, ack: &HeartbeatAck) {
        let Some((_, sent, term)) =
            self.beats.sent.iter().copied().find(|(seq, ..)| *seq == ack.seq)
        else {
            return;
        };
        if term != ack.term {
            return;
        }
        let latest = self.beats.sent.back().map(|(_, sent, _)| *sent);
        let latest = latest.filter(|_| planted::is(Bug::AckOfTheLatestBeat));
        let received = planted::is(Bug::DeadlineFromReceipt).then_some(now);
        let sent = received.or(latest).unwrap_or(sent);
        for (id, generation) in &ack.sessions {
            let Some(key) = self.by_id.get(id).copied() else { continue };
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            if session.generation != *generation || !session.is_renewable(now) {
                continue;
            }
            if session.earn(sent) {
                let deadline = session.deadline;
                for call in self.listeners(key) {
                    self.tell(call, Told::Renewed(deadline));
                }
            }
        }
    }
}
