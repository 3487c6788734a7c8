//! An attached sidecar: no log and no vote, beside an application that is no part of the group.
//!
//! It has a state machine of its own, to which it applies what a member relays to it, in the order
//! of the log; its agent answers clients from there alone, as a member's does. Commands, reads and
//! heartbeats go up through the relay to the leader. Deadlines are computed here, on the clock of
//! this machine, from the send times of its own heartbeats.
//!
//! Which member relays does not matter to anybody: sessions are attached to this boot of this
//! sidecar. When a relay ends, another one goes on after the last entry that was applied here, and
//! what had no answer is asked again, as after a change of leader.
//!
//! Architecture invariant: [`Attached`] has no thread, no socket, no clock, no async runtime. It
//! never applies an entry twice, out of order, or of another group.

pub mod link;

use crate::agent::{Agent, CallId, Effect, Input, Timing, Told};
use crate::member::Event;
use crate::reason::Failure;
use crate::relay::wire::{Part, Welcome};
use crate::relay::{Relayed, Said};
use crate::replica::logged;
use quorate_locks::{Attachment, Machine};
use quorate_raft::{Configuration, Entry, Index, LogId, MemberId, Term, Time};

const NANOS_PER_MS: u64 = 1_000_000;

/// What the world has to do.
#[derive(Debug)]
pub enum Action {
    /// Say to the relay.
    Say(Said),
    /// Tell a client.
    Tell(CallId, Told),
    /// Tell a client, and end its call.
    Finish(CallId, Result<Option<Told>, Failure>),
}

/// Why a relay is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// What it said makes no sense: another one may do better.
    Relay(String),
    /// It is of another group than the relay before: everything here is of the past.
    OtherGroup,
    /// What the group decided is of a newer version than this program.
    Newer(String),
}

/// See the module.
#[derive(Debug)]
pub struct Attached {
    agent: Agent,
    machine: Machine,
    /// The last entry applied.
    last: LogId,
    cluster: Option<u128>,
    election_timeout_ns: u64,
    /// The highest term heard of.
    term: Term,
    leader: Option<MemberId>,
    /// Since when no leader is known.
    leaderless: Option<Time>,
    members: Configuration,
    /// A relay relays.
    linked: bool,
    /// A state that is on its way, and its last entry.
    state: Option<(LogId, Vec<u8>)>,
    draining: bool,
    actions: Vec<Action>,
}

impl Attached {
    /// One of this boot, that has met nobody. The timeout is the group's, as far as known, in ns.
    #[must_use]
    pub fn new(own: Attachment, election_timeout_ns: u64) -> Attached {
        Attached {
            agent: Agent::new(own, Timing::new(election_timeout_ns)),
            machine: Machine::new(),
            last: LogId::ZERO,
            cluster: None,
            election_timeout_ns,
            term: Term(0),
            leader: None,
            leaderless: Some(Time(0)),
            members: Configuration::default(),
            linked: false,
            state: None,
            draining: false,
            actions: Vec::new(),
        }
    }

    /// What clients do. Of a member's events, those that an agent has.
    pub fn client(&mut self, now: Time, event: Event) {
        let input = match event {
            Event::Call(call, connection, request) => Input::Call(call, connection, request),
            Event::HalfClose(call) => Input::HalfClose(call),
            Event::Gone(call) => Input::Gone(call),
            Event::ConnectionEnded { connection, by_peer } => {
                Input::ConnectionEnded { connection, by_peer }
            }
            Event::ProcessDead(connection) => Input::ProcessDead(connection),
            Event::Drain => {
                self.draining = true;
                Input::Drain
            }
            // Of members alone.
            Event::Replica(_) | Event::Relay(..) => return,
        };
        self.input(now, input);
    }

    /// Fires what is due.
    pub fn timer(&mut self, now: Time) {
        if self.agent.deadline() <= now {
            self.input(now, Input::Timer);
        }
    }

    /// When [`Attached::timer`] wants to come.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.agent.deadline()
    }

    /// What is to be done now, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// A relay introduced itself, and is to relay from now on.
    ///
    /// # Errors
    /// It is of another group.
    pub fn linked(&mut self, now: Time, welcome: &Welcome) -> Result<(), Bad> {
        if self.cluster.is_some_and(|cluster| cluster != welcome.cluster) {
            return Err(Bad::OtherGroup);
        }
        self.cluster = Some(welcome.cluster);
        self.election_timeout_ns = welcome.election_timeout_ms.saturating_mul(NANOS_PER_MS);
        self.agent.set_timing(Timing::new(self.election_timeout_ns));
        self.linked = true;
        self.leaderless = Some(now);
        self.actions.push(Action::Say(Said::Follow(self.last.index)));
        Ok(())
    }

    /// The relay is gone: nobody leads, as far as known here.
    pub fn unlinked(&mut self, now: Time) {
        self.linked = false;
        self.state = None;
        self.leads(now, self.term, None);
    }

    /// What the relay said.
    ///
    /// # Errors
    /// It is of no use.
    pub fn heard(&mut self, now: Time, relayed: Relayed) -> Result<(), Bad> {
        match relayed {
            Relayed::Leads(term, leader) => self.leads(now, term, leader),
            Relayed::Members(members) => {
                self.input(now, Input::Configuration(&members));
                self.members = members;
            }
            Relayed::Entries(entries) => {
                for entry in entries {
                    self.apply(now, &entry)?;
                }
            }
            Relayed::State(last, bytes) => self.restore(now, last, &bytes)?,
            Relayed::Reply(reply) => self.input(now, Input::Reply(reply)),
            Relayed::Ack(ack) => self.input(now, Input::Ack(ack)),
            Relayed::Pong(_) | Relayed::Goodbye => {}
        }
        Ok(())
    }

    /// A part of a state: the last one makes it whole.
    ///
    /// # Errors
    /// It does not fit the parts before it, or the whole is of no use.
    pub fn part(&mut self, now: Time, part: &Part) -> Result<(), Bad> {
        let (last, mut bytes) = match self.state.take() {
            Some(begun) if part.offset > 0 => begun,
            _ => (part.last, Vec::new()),
        };
        if last != part.last || u64::try_from(bytes.len()) != Ok(part.offset) {
            return Err(Bad::Relay(format!("a part of the state at {last} does not fit")));
        }
        bytes.extend_from_slice(&part.chunk);
        if u64::try_from(bytes.len()) == Ok(part.total) {
            return self.restore(now, last, &bytes);
        }
        self.state = Some((last, bytes));
        Ok(())
    }

    /// A term that is older than one heard of before: that relay is behind, and knows of no leader.
    fn leads(&mut self, now: Time, term: Term, leader: Option<MemberId>) {
        let leader = leader.filter(|_| term >= self.term);
        self.term = self.term.max(term);
        self.leader = leader;
        self.leaderless = match leader {
            Some(_) => None,
            None => self.leaderless.or(Some(now)),
        };
        self.input(now, Input::Leader(self.term, leader));
    }

    fn apply(&mut self, now: Time, entry: &Entry) -> Result<(), Bad> {
        let id = entry.id();
        if id.index != self.last.index.next() || id.term < self.last.term {
            let why = format!("entry {id} does not follow {}", self.last);
            return Err(Bad::Relay(why));
        }
        // To skip it would make two truths.
        let logged = logged(entry).map_err(Bad::Newer)?;
        let mut events = Vec::new();
        let answer =
            logged.map(|command| self.machine.apply_logged(id.index.0, &command, &mut events));
        self.last = id;
        self.input(now, Input::Applied(id, answer.as_ref(), &events));
        Ok(())
    }

    fn restore(&mut self, now: Time, last: LogId, bytes: &[u8]) -> Result<(), Bad> {
        if last.index <= self.last.index {
            return Err(Bad::Relay(format!("a state at {last}, behind {}", self.last)));
        }
        let machine = Machine::decode(bytes)
            .map_err(|why| Bad::Newer(format!("the state at {last} cannot be read: {why}")))?;
        if machine.last_index() > last.index.0 {
            return Err(Bad::Relay(format!("the state at {last} is of a later entry")));
        }
        self.machine = machine;
        self.last = last;
        self.input(now, Input::Restored(last));
        Ok(())
    }

    fn input(&mut self, now: Time, input: Input<'_>) {
        self.agent.handle(now, input, &self.machine);
        for effect in self.agent.effects() {
            match effect {
                Effect::Forward(_, forward) if self.linked => {
                    self.actions.push(Action::Say(Said::Forward(forward)));
                }
                Effect::Heartbeat(_, beat) if self.linked => {
                    self.actions.push(Action::Say(Said::Heartbeat(beat)));
                }
                // Without a relay no leader is known, and what is asked waits for one.
                Effect::Forward(..) | Effect::Heartbeat(..) => {}
                Effect::Tell(call, told) => self.actions.push(Action::Tell(call, told)),
                Effect::Finish(call, end) => self.actions.push(Action::Finish(call, end)),
            }
        }
    }

    /// When the relay has known no leader for so long that another one may know better.
    #[must_use]
    pub fn lost_at(&self) -> Time {
        let since = self.leaderless.filter(|_| self.linked);
        since.map_or(Time::NEVER, |since| since.after(2 * self.election_timeout_ns))
    }

    /// Whether something here waits for the relay, or will soon.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.agent.session_count() > 0 || self.agent.call_count() > 0
    }

    /// The group's election timeout, in ns.
    #[must_use]
    pub fn election_timeout_ns(&self) -> u64 {
        self.election_timeout_ns
    }

    /// Whether it is stopping.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Its clients' half, to look at.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Its state, to look at.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What it knows of the group: its identity, the membership, who leads in which term, and the
    /// last entry applied here.
    #[must_use]
    pub fn group(&self) -> (Option<u128>, &Configuration, Option<MemberId>, Term, Index) {
        (self.cluster, &self.members, self.leader, self.term, self.last.index)
    }
}

#[cfg(test)]
mod tests;
