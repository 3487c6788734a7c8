//! A member as one synchronous thing: its replica, its agent, and the way between them.
//!
//! What the driver runs, and what the simulator runs. A forward to the leader stays inside
//! when this member leads; all else leaves as an [`Action`].

use crate::agent::{
    self, Agent, CallId, ConnectionId, Effect as AgentEffect, Input, Request, Timing, Told,
};
use crate::frame::{Forward, ForwardReply, Heartbeat, PeerMessage, Reply};
use crate::reason::Failure;
use crate::relay::{RelayId, Relayed, Relays, Said, Up};
use crate::replica::{self, Effect, Event as ReplicaEvent, Replica};
use crate::wal::Disk;
use quorate_locks::Attachment;
use quorate_raft::{Configuration, Index, MemberId, Outcome, Time, Why};

/// One thing that happens to a member.
#[derive(Debug)]
pub enum Event {
    /// For the replica: messages, completions, admin requests.
    Replica(ReplicaEvent),
    /// A client's call.
    Call(CallId, ConnectionId, Request),
    /// A client's stream was half-closed.
    HalfClose(CallId),
    /// A client's call ended.
    Gone(CallId),
    /// A client's connection ended.
    ConnectionEnded {
        /// Which.
        connection: ConnectionId,
        /// See [`agent::Input::ConnectionEnded`].
        by_peer: bool,
    },
    /// The process behind a client's connection is dead.
    ProcessDead(ConnectionId),
    /// An attached sidecar said something.
    Relay(RelayId, Said),
    /// This sidecar is stopping.
    Drain,
}

/// What the world has to do.
#[derive(Debug)]
pub enum Action {
    /// Send to another member.
    Send(MemberId, PeerMessage),
    /// Tell a client.
    Tell(CallId, Told),
    /// Tell a client, and end its call.
    Finish(CallId, Result<Option<Told>, Failure>),
    /// Tell an attached sidecar.
    Relay(RelayId, Relayed),
    /// The membership, for whoever dials.
    Configuration(Configuration),
    /// How a change of the membership ended, by its number.
    Changed(u64, Outcome),
    /// A peer's message made no sense.
    Ignored(MemberId, &'static str),
    /// Hear this member no more: its log ends before what it had acknowledged.
    Quarantine {
        /// Whose disk forgot.
        member: MemberId,
        /// It holds nothing of this leader's log after this.
        holds: Index,
        /// What it had acknowledged.
        acknowledged: Index,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Member<D: Disk> {
    replica: Replica<D>,
    agent: Agent,
    relays: Relays,
    effects: Vec<Effect>,
    agent_effects: Vec<AgentEffect>,
}

impl<D: Disk> Member<D> {
    /// A member of this boot, around a recovered replica.
    #[must_use]
    pub fn new(replica: Replica<D>, boot: u64, timing: Timing) -> Member<D> {
        let own = Attachment { member: replica.node().id().0, boot };
        let mut agent = Agent::new(own, timing);
        let configuration = replica.node().configuration().clone();
        agent.handle(Time(0), Input::Configuration(&configuration), replica.machine());
        let relays = Relays::new(boot);
        Member { replica, agent, relays, effects: Vec::new(), agent_effects: Vec::new() }
    }

    /// Takes one event. [`Member::flush`] must end each batch.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        let input = match event {
            Event::Replica(event) => {
                self.replica.handle(now, event, &mut self.effects);
                return self.pump(now, actions);
            }
            Event::Call(call, connection, request) => Input::Call(call, connection, request),
            Event::HalfClose(call) => Input::HalfClose(call),
            Event::Gone(call) => Input::Gone(call),
            Event::ConnectionEnded { connection, by_peer } => {
                Input::ConnectionEnded { connection, by_peer }
            }
            Event::ProcessDead(connection) => Input::ProcessDead(connection),
            Event::Relay(id, said) => {
                self.relay(now, (id, said), actions);
                return self.pump(now, actions);
            }
            Event::Drain => {
                self.replica.handle(now, ReplicaEvent::Drain, &mut self.effects);
                let mut out = Vec::new();
                self.relays.goodbye(&mut out);
                told(out, actions);
                Input::Drain
            }
        };
        self.agent.handle(now, input, self.replica.machine());
        self.pump(now, actions);
    }

    /// Ends a batch. Timers that are due fire here, after the inbox: what came before a deadline
    /// counts before it.
    pub fn flush(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.agent.deadline() <= now {
            self.agent.handle(now, Input::Timer, self.replica.machine());
        }
        if self.replica.deadline() <= now {
            self.replica.handle(now, ReplicaEvent::Timer, &mut self.effects);
        }
        self.pump(now, actions);
        self.replica.flush(now, &mut self.effects);
        while !self.effects.is_empty() {
            self.pump(now, actions);
            self.replica.flush(now, &mut self.effects);
        }
        let mut out = Vec::new();
        self.relays.catch_up(self.replica.node(), self.replica.machine(), &mut out);
        told(out, actions);
    }

    /// An attached sidecar speaks: what it has for the leader goes there, on its behalf.
    fn relay(&mut self, now: Time, said: (RelayId, Said), actions: &mut Vec<Action>) {
        let (mut out, id) = (Vec::new(), said.0);
        let node = self.replica.node();
        let up = self.relays.hear(said, node, self.replica.machine(), &mut out);
        let leader = node.leader();
        match (up, leader) {
            (Some(Up::Forward(forward)), Some(leader)) => {
                self.forward(now, leader, forward, actions)
            }
            (Some(Up::Forward(Forward { ticket, .. })), None) => {
                let reply = Reply::NotAppended(Why::NotLeader);
                out.push((id, Relayed::Reply(ForwardReply { ticket, reply })));
            }
            (Some(Up::Heartbeat(beat)), Some(leader)) => self.beat(now, leader, beat, actions),
            // The next one finds a leader, or it ends with its deadline.
            (Some(Up::Heartbeat(_)), None) | (None, _) => {}
        }
        told(out, actions);
    }

    /// When [`Member::flush`] wants to be called, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.replica.deadline().min(self.agent.deadline())
    }

    /// Carries effects between the two halves until there is none left.
    fn pump(&mut self, now: Time, actions: &mut Vec<Action>) {
        loop {
            let effects = std::mem::take(&mut self.effects);
            let none = effects.is_empty();
            for effect in effects {
                self.replica_effect(now, effect, actions);
            }
            self.agent_effects.extend(self.agent.effects());
            if none && self.agent_effects.is_empty() {
                return;
            }
            for effect in std::mem::take(&mut self.agent_effects) {
                self.agent_effect(now, effect, actions);
            }
        }
    }

    fn replica_effect(&mut self, now: Time, effect: Effect, actions: &mut Vec<Action>) {
        let (machine, own) = (self.replica.machine(), self.replica.node().id());
        let mut out = Vec::new();
        let input = match &effect {
            Effect::Reply(reply) if self.relays.reply(reply, &mut out) => None,
            Effect::Ack(ack) if self.relays.ack(ack, &mut out) => None,
            Effect::Send(..)
            | Effect::Ignored(..)
            | Effect::Quarantined { .. }
            | Effect::Changed(..) => None,
            Effect::Reply(reply) => Some(Input::Reply(reply.clone())),
            Effect::Ack(ack) => Some(Input::Ack(ack.clone())),
            Effect::Applied { id, answer, events } => {
                Some(Input::Applied(*id, answer.as_ref(), events))
            }
            Effect::Restored(last) => Some(Input::Restored(*last)),
            Effect::Leader { term, leader } => Some(Input::Leader(*term, *leader)),
            Effect::Configuration(configuration) => Some(Input::Configuration(configuration)),
        };
        if let Some(input) = input {
            self.agent.handle(now, input, machine);
        }
        match &effect {
            Effect::Leader { term, leader } => self.relays.leads(*term, *leader, &mut out),
            Effect::Configuration(members) => self.relays.members(own, members, &mut out),
            _ => {}
        }
        told(out, actions);
        match effect {
            Effect::Send(to, message) => actions.push(Action::Send(to, message)),
            Effect::Ignored(from, why) => actions.push(Action::Ignored(from, why)),
            Effect::Quarantined { member, holds, acknowledged } => {
                actions.push(Action::Quarantine { member, holds, acknowledged });
            }
            Effect::Changed(request, outcome) => actions.push(Action::Changed(request, outcome)),
            Effect::Configuration(configuration) => {
                actions.push(Action::Configuration(configuration));
            }
            Effect::Reply(_)
            | Effect::Ack(_)
            | Effect::Applied { .. }
            | Effect::Restored(_)
            | Effect::Leader { .. } => {}
        }
    }

    fn agent_effect(&mut self, now: Time, effect: AgentEffect, actions: &mut Vec<Action>) {
        match effect {
            AgentEffect::Forward(to, forward) => self.forward(now, to, forward, actions),
            AgentEffect::Heartbeat(to, beat) => self.beat(now, to, beat, actions),
            AgentEffect::Tell(call, told) => actions.push(Action::Tell(call, told)),
            AgentEffect::Finish(call, end) => actions.push(Action::Finish(call, end)),
        }
    }

    /// To the leader, which may be this member.
    fn forward(&mut self, now: Time, to: MemberId, forward: Forward, actions: &mut Vec<Action>) {
        if to == self.replica.node().id() {
            self.replica.handle(now, ReplicaEvent::Forward(forward), &mut self.effects);
        } else {
            actions.push(Action::Send(to, PeerMessage::Forward(forward)));
        }
    }

    /// As [`Member::forward`].
    fn beat(&mut self, now: Time, to: MemberId, beat: Heartbeat, actions: &mut Vec<Action>) {
        if to == self.replica.node().id() {
            self.replica.handle(now, ReplicaEvent::Heartbeat(beat), &mut self.effects);
        } else {
            actions.push(Action::Send(to, PeerMessage::Heartbeat(beat)));
        }
    }

    /// The replicated half, to look at.
    #[must_use]
    pub fn replica(&self) -> &Replica<D> {
        &self.replica
    }

    /// The replicated half, to complete its disk's writes or to tune it.
    pub fn replica_mut(&mut self) -> &mut Replica<D> {
        &mut self.replica
    }

    /// The clients' half, to look at.
    #[must_use]
    pub fn agent(&self) -> &agent::Agent {
        &self.agent
    }

    /// The attached sidecars that this member relays for.
    #[must_use]
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Ends the log cleanly.
    pub fn close(self) {
        replica::Replica::close(self.replica);
    }
}

fn told(out: Vec<(RelayId, Relayed)>, actions: &mut Vec<Action>) {
    actions.extend(out.into_iter().map(|(id, relayed)| Action::Relay(id, relayed)));
}
