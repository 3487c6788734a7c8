//! The synchronous heart of a member: consensus, log and state machine as one thing.
//!
//! The only place that orders persist, send and apply. Events come in by [`Replica::handle`], in
//! batches that [`Replica::flush`] ends; what the world has to do comes out as [`Effect`]s. An
//! envelope leaves once the write that it waits for is durable; writes of a batch go to the disk as
//! one submission.
//!
//! Architecture invariant: no thread, no socket, no clock, no async runtime. Time is an argument.
//! The simulator runs exactly this.

mod liveness;
mod pending;
mod reserve;
mod snapshot;
mod stages;

use liveness::Liveness;
pub use stages::{Stage, Stages};

use crate::frame::{Ask, Forward, ForwardReply, Heartbeat, HeartbeatAck, PeerMessage, Reply};
use crate::planted::{self, Bug};
use crate::wal::{Disk, Wal};
use pending::{Pending, Tickets};
use quorate_locks::{
    Command, Generation, LifeCommand, Logged, Machine, Outcome as Answer, SessionId, Token,
};
use quorate_raft::{
    Body, Change, Configuration, Entry, Envelope, Event as RaftEvent, Index, Input, IoSeq, Kind,
    LogId, MemberId, Message, Node, Outcome, Output, RoleName, Snapshot, Term, Ticket, Time, Why,
    Write,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an encoded command at most: a name, a value and the fixed fields fit several times.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Messages that wait for the disk, at most. More pile up only behind a write that is stuck, and
/// whoever waits for one asks again: the oldest go.
const HELD_MAX: usize = 1024;

/// Where a request comes from, and so where its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This member's own agent.
    Local,
    /// Another member's.
    Peer(MemberId),
}

/// One thing that happens to a replica.
#[derive(Debug)]
pub enum Event {
    /// [`Replica::deadline`] is reached.
    Timer,
    /// A message from a member whose identity was checked.
    Peer(MemberId, PeerMessage),
    /// The connection from this member ended, and nothing says that it was on purpose.
    PeerLost(MemberId),
    /// A newer process of this member was met; its messages follow.
    PeerRestarted(MemberId),
    /// Writes up to here are on the disk.
    Durable(IoSeq),
    /// Whether the disk has room for more than the reserve.
    Space {
        /// No room.
        full: bool,
    },
    /// The own agent asks the leader, which is this member.
    Forward(Forward),
    /// The own agent's heartbeat to the leader, which is this member.
    Heartbeat(Heartbeat),
    /// Become the first member of a group.
    Bootstrap(Configuration, Command),
    /// Hand over Raft leadership, to this voter or to the most caught-up one.
    Transfer(Option<MemberId>),
    /// Hand over Raft leadership, and stand only if nobody else can be elected.
    Drain,
    /// Stand again.
    Undrain,
    /// As the leader: make grants from now on, whatever is left of the hold-off.
    Lift,
    /// Change the membership; answered under this number by [`Effect::Changed`].
    Change(u64, Change),
}

/// What an event asks of the world.
#[derive(Debug)]
pub enum Effect {
    /// To another member.
    Send(MemberId, PeerMessage),
    /// The answer to an own forward.
    Reply(ForwardReply),
    /// The acknowledgement of an own heartbeat.
    Ack(HeartbeatAck),
    /// An entry was applied here.
    Applied {
        /// Which.
        id: LogId,
        /// What its command came to; none for an entry without one.
        answer: Option<Answer>,
        /// What it changed.
        events: Vec<quorate_locks::Event>,
    },
    /// The machine was replaced by a snapshot that ends here.
    Restored(LogId),
    /// Who leads, as far as this member knows.
    Leader {
        /// In which term.
        term: Term,
        /// Who; this member itself included.
        leader: Option<MemberId>,
    },
    /// The membership changed.
    Configuration(Configuration),
    /// How a change of the membership ended, by its number.
    Changed(u64, Outcome),
    /// A peer's message made no sense: one log line.
    Ignored(MemberId, &'static str),
    /// This member's disk forgot what it had acknowledged: it is not to be heard any more.
    Quarantined {
        /// Whose.
        member: MemberId,
        /// It holds nothing of the leader's log after this.
        holds: Index,
        /// What it had acknowledged.
        acknowledged: Index,
    },
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Elections begun here, pre-votes not counted.
    pub elections: u64,
    /// Changes of the known leader.
    pub leader_changes: u64,
    /// Snapshots built here.
    pub snapshots_built: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// Sessions that this member expired as the leader.
    pub expired: u64,
    /// Commands refused because the disk is full.
    pub refused_full: u64,
}

/// A member's replicated half. See the module.
pub struct Replica<D: Disk> {
    node: Node,
    machine: Machine,
    wal: Wal<D>,
    liveness: Liveness,
    tickets: Tickets,
    stages: Stages,
    counts: Counts,
    /// Sends that wait for their fence, in order.
    held: VecDeque<Envelope>,
    durable: IoSeq,
    writes: Vec<(IoSeq, Write)>,
    output: Output,
    full: bool,
    /// The leader's own timers may fire in this flush: the inbox was drained before it.
    may_expire: bool,
    snapshot_policy: snapshot::Policy,
    /// Somebody wants one, due or not.
    snapshot_asked: bool,
    /// Built, and not durable up to its last entry.
    snapshot_waits: Option<Snapshot>,
}

impl<D: Disk> Replica<D> {
    /// Joins a node and the log it was restored from. The machine starts from the node's snapshot.
    ///
    /// # Errors
    /// The snapshot's state is not of this version, or damaged: a sentence.
    pub fn new(node: Node, wal: Wal<D>) -> Result<Replica<D>, String> {
        let machine = match node.snapshot() {
            Some(snapshot) => Machine::decode(&snapshot.data)
                .map_err(|e| format!("the snapshot at {} cannot be read: {e}", snapshot.last))?,
            None => Machine::new(),
        };
        Ok(Replica {
            node,
            machine,
            wal,
            liveness: Liveness::default(),
            tickets: Tickets::default(),
            stages: Stages::default(),
            counts: Counts::default(),
            held: VecDeque::new(),
            durable: IoSeq(0),
            writes: Vec::new(),
            output: Output::default(),
            full: false,
            may_expire: false,
            snapshot_policy: snapshot::Policy::default(),
            snapshot_asked: false,
            snapshot_waits: None,
        })
    }

    /// Takes one event. Effects appear here and in [`Replica::flush`], which must end each batch.
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Timer => {
                self.may_expire = true;
                self.step(now, Input::Timer, effects);
            }
            Event::Peer(from, message) => self.receive(now, from, message, effects),
            Event::PeerLost(peer) => self.step(now, Input::PeerLost(peer), effects),
            Event::PeerRestarted(peer) => self.step(now, Input::PeerRestarted(peer), effects),
            Event::Durable(seq) => self.durable(now, seq, effects),
            Event::Space { full } => {
                self.full = full;
                if full {
                    self.wal.give_up_spares();
                }
            }
            Event::Forward(forward) => self.forward(now, Origin::Local, forward, effects),
            Event::Heartbeat(beat) => self.heartbeat(now, Origin::Local, beat, effects),
            Event::Bootstrap(configuration, start) => {
                let context = start.encode().into();
                self.step(now, Input::Bootstrap(configuration, context), effects);
            }
            Event::Transfer(target) => {
                let ticket = self.tickets.put(Pending::Transfer);
                self.step(now, Input::Transfer(ticket, target), effects);
            }
            Event::Drain => self.step(now, Input::Drain, effects),
            Event::Undrain => self.step(now, Input::Undrain, effects),
            Event::Lift => self.lift(now, self.machine.life(), effects),
            Event::Change(request, change) => {
                let ticket = self.tickets.put(Pending::Change(request));
                self.step(now, Input::Change(ticket, change), effects);
            }
        }
    }

    /// Ends a batch: sends what it appended, gives its writes to the disk, applies what is
    /// committed.
    pub fn flush(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.may_expire) {
            self.expire(now, effects);
        }
        self.node.flush(now, &mut self.output);
        self.settle(now, effects);
        self.snapshot(now, effects);
        if !self.writes.is_empty() {
            self.wal.submit(&mut self.writes);
            assert!(self.writes.is_empty(), "the log takes all writes of a batch");
        }
    }

    /// Takes a snapshot when one is due. A disk that always lags behind what is applied gets to
    /// the one that waits for it.
    fn snapshot(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if self.snapshot_waits.is_none() {
            self.snapshot_waits = if self.snapshot_asked {
                snapshot::newer(&self.node, &self.machine)
            } else {
                self.snapshot_policy.due(&self.node, &self.machine)
            };
            self.snapshot_asked &= self.snapshot_waits.is_none();
        }
        let durable = self.node.durable();
        if let Some(snapshot) = self.snapshot_waits.take_if(|s| s.last.index <= durable) {
            self.counts.snapshots_built += 1;
            self.step(now, Input::SnapshotBuilt(snapshot), effects);
        }
    }

    /// When [`Event::Timer`] wants to come.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.node.deadline().min(self.liveness.deadline())
    }

    fn step(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        self.node.step(now, input, &mut self.output);
        self.settle(now, effects);
    }

    /// Carries out the node's output until there is none left: applying may make more.
    fn settle(&mut self, now: Time, effects: &mut Vec<Effect>) {
        let mut output = std::mem::take(&mut self.output);
        loop {
            self.writes.append(&mut output.writes);
            for event in output.events.drain(..) {
                self.raft_event(event, effects);
            }
            for envelope in output.sends.drain(..) {
                self.send(envelope, effects);
            }
            for (ticket, outcome) in output.done.drain(..) {
                self.done(now, ticket, outcome, effects);
            }
            let Some(range) = output.apply.take() else { break };
            let last = *range.end();
            self.apply(now, range, effects);
            self.node.step(now, Input::Applied(last), &mut output);
        }
        self.output = output;
        self.acknowledge(effects);
    }

    fn send(&mut self, envelope: Envelope, effects: &mut Vec<Effect>) {
        if envelope.after <= self.durable || planted::is(Bug::FenceIgnored) {
            effects.push(Effect::Send(envelope.to, PeerMessage::Raft(envelope.message)));
        } else {
            if self.held.len() >= HELD_MAX {
                self.held.pop_front();
            }
            self.held.push_back(envelope);
        }
    }

    fn durable(&mut self, now: Time, seq: IoSeq, effects: &mut Vec<Effect>) {
        assert!(seq >= self.durable, "writes complete in order");
        self.durable = seq;
        // Fences are not always rising (a heartbeat's answer waits for less than an append's), so
        // all are looked at.
        for _ in 0..self.held.len() {
            let Some(envelope) = self.held.pop_front() else { break };
            self.send(envelope, effects);
        }
        self.step(now, Input::Durable(seq), effects);
        self.stages.durable(now, self.node.durable());
    }

    fn receive(
        &mut self,
        now: Time,
        from: MemberId,
        message: PeerMessage,
        effects: &mut Vec<Effect>,
    ) {
        match message {
            PeerMessage::Raft(message) => self.raft_message(now, from, message, effects),
            PeerMessage::Forward(forward) => {
                self.forward(now, Origin::Peer(from), forward, effects);
            }
            PeerMessage::Heartbeat(beat) => self.heartbeat(now, Origin::Peer(from), beat, effects),
            PeerMessage::ForwardReply(reply) => effects.push(Effect::Reply(reply)),
            PeerMessage::HeartbeatAck(ack) => effects.push(Effect::Ack(ack)),
        }
    }

    fn raft_message(
        &mut self,
        now: Time,
        from: MemberId,
        mut message: Message,
        effects: &mut Vec<Effect>,
    ) {
        // The leader hears that this member lives, and sends what is left out again.
        if let Body::Append { entries, .. } = &mut message.body
            && !planted::is(Bug::ReserveSpent)
        {
            let taken = reserve::taken(&self.wal, entries);
            entries.truncate(taken);
        }
        self.step(now, Input::Recv(from, message), effects);
    }

    /// A command or read that some agent routed to this member.
    fn forward(&mut self, now: Time, origin: Origin, forward: Forward, effects: &mut Vec<Effect>) {
        let Forward { ticket, term, what } = forward;
        let refused = |why| ForwardReply { ticket, reply: Reply::NotAppended(why) };
        if self.node.role() != RoleName::Leader {
            return answer(origin, refused(Why::NotLeader), effects);
        }
        if term != self.node.term() {
            return answer(origin, refused(Why::OtherTerm), effects);
        }
        let input = match what {
            Ask::ReadIndex => {
                let pending = Pending::Forward { origin, ticket, closes: None };
                Input::Read(self.tickets.put(pending))
            }
            Ask::Command(bytes) => match self.admit(now, &bytes) {
                Err(why) => return answer(origin, refused(why), effects),
                Ok(closes) => {
                    let ticket = self.tickets.put(Pending::Forward { origin, ticket, closes });
                    Input::Propose(ticket, bytes)
                }
            },
        };
        self.step(now, input, effects);
    }

    /// Whether the leader appends a command; what it must know of it before it does. Gives the
    /// attachment that it closes.
    fn admit(
        &mut self,
        now: Time,
        bytes: &Arc<[u8]>,
    ) -> Result<Option<(SessionId, Generation)>, Why> {
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(Why::TooLarge);
        }
        let command = Command::decode(bytes).map_err(|_| Why::Malformed)?;
        let is_new = match &command {
            // Only entry 1 starts a life, and only the leader's own timer expires.
            Command::Start { .. } | Command::Expire { .. } => return Err(Why::Malformed),
            Command::Open { .. } => true,
            Command::Claim(claim) => !self.machine.knows(claim.session, claim.request),
            // What is held stays held, by whom it is: a client that comes back gets in.
            Command::Resume { .. } => false,
            Command::Close { .. } | Command::Release { .. } | Command::Cancel { .. } => false,
        };
        if (is_new && self.full) || !reserve::admits(&self.wal, &command) {
            self.counts.refused_full += 1;
            return Err(Why::DiskFull);
        }
        self.liveness.received(now, &command, &self.machine);
        Ok(match command {
            Command::Close { session, generation } => Some((session, generation)),
            _ => None,
        })
    }

    fn heartbeat(&mut self, now: Time, origin: Origin, beat: Heartbeat, effects: &mut Vec<Effect>) {
        let own = self.node.id();
        let member = if let Origin::Peer(from) = origin { from } else { own };
        let leads = self.node.role() == RoleName::Leader && beat.term == self.node.term();
        if leads && !self.liveness.is_active() && planted::is(Bug::AckBeforeNoOp) {
            return self.acknowledge_one(origin, &beat, effects);
        }
        if !self.leads_ready() || beat.term != self.node.term() {
            return;
        }
        if !self.liveness.heard(now, member, &beat, &self.machine) {
            return;
        }
        if planted::is(Bug::AckWithoutRound) {
            return self.acknowledge_one(origin, &beat, effects);
        }
        let ticket = self.tickets.put(Pending::Beat { origin, beat });
        self.step(now, Input::Read(ticket), effects);
    }

    fn leads_ready(&self) -> bool {
        self.node.role() == RoleName::Leader && self.liveness.is_active()
    }

    fn done(&mut self, now: Time, ticket: Ticket, outcome: Outcome, effects: &mut Vec<Effect>) {
        let Some(pending) = self.tickets.take(ticket) else { return };
        match (pending, outcome) {
            (Pending::Forward { origin, ticket, closes }, outcome) => {
                let reply = match outcome {
                    Outcome::Appended(id) => {
                        self.stages.appended(now, id);
                        if let Some(attachment) = closes {
                            self.liveness.close_appended(attachment, &self.machine);
                        }
                        Reply::Appended(id)
                    }
                    Outcome::ReadAt(index) => Reply::ReadAt(index),
                    Outcome::NotAppended(why, _) => Reply::NotAppended(why),
                    Outcome::Transferring(_)
                    | Outcome::Changed(_)
                    | Outcome::NotChanged(_)
                    | Outcome::Unknown(_) => return,
                };
                answer(origin, ForwardReply { ticket, reply }, effects);
            }
            (Pending::Beat { origin, beat }, Outcome::ReadAt(index)) => {
                self.liveness.confirmed(origin, beat, index);
            }
            (Pending::Expire(sessions), Outcome::NotAppended(..)) => {
                self.liveness.expiry_refused(&sessions);
            }
            (Pending::Lift(life), Outcome::NotAppended(..)) => {
                self.liveness.lift_refused(now, life);
            }
            (Pending::Change(request), outcome) => {
                effects.push(Effect::Changed(request, outcome));
            }
            (
                Pending::Beat { .. } | Pending::Expire(_) | Pending::Lift(_) | Pending::Transfer,
                _,
            ) => {}
        }
    }

    /// Sends the heartbeat acknowledgements whose reads are done.
    fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        if !self.leads_ready() {
            return;
        }
        while let Some((origin, beat)) = self.liveness.next_confirmed(self.node.applied()) {
            self.acknowledge_one(origin, &beat, effects);
        }
    }

    fn acknowledge_one(&self, origin: Origin, beat: &Heartbeat, effects: &mut Vec<Effect>) {
        let (term, applied) = (self.node.term(), self.node.applied());
        let speaker = match origin {
            Origin::Local => self.node.id(),
            Origin::Peer(from) => from,
        };
        let sessions = self.liveness.renewable((speaker, beat), &self.machine);
        let ack = HeartbeatAck { seq: beat.seq, term, applied, sessions };
        effects.push(match origin {
            Origin::Local => Effect::Ack(ack),
            Origin::Peer(to) => Effect::Send(to, PeerMessage::HeartbeatAck(ack)),
        });
    }

    /// Proposes the end of the sessions that were not heard of for a TTL, and of a hold-off.
    fn expire(&mut self, now: Time, effects: &mut Vec<Effect>) {
        if !self.leads_ready() {
            return;
        }
        if let Some(life) = self.liveness.lift_due(now) {
            self.lift(now, life, effects);
        }
        let sessions = self.liveness.due(now, &self.machine);
        if sessions.is_empty() {
            return;
        }
        if planted::is(Bug::ExpiryOutsideTheLog) {
            return self.expire_unlogged(sessions, effects);
        }
        let ticket = self.tickets.put(Pending::Expire(sessions.clone()));
        let command = Command::Expire { sessions };
        self.step(now, Input::Propose(ticket, command.encode().into()), effects);
    }

    /// How much is left, while this member leads, of the first part of a hold-off. Both in ms: all
    /// of it, and the part.
    #[must_use]
    pub fn own_hold_left(&self, now: Time, parts: (u32, u32)) -> Duration {
        self.liveness.own_hold_left(now, parts)
    }

    /// Proposes the end of this life's hold-off.
    fn lift(&mut self, now: Time, life: Token, effects: &mut Vec<Effect>) {
        let ticket = self.tickets.put(Pending::Lift(life));
        let lift = LifeCommand::Lift { life };
        self.step(now, Input::Propose(ticket, lift.encode().into()), effects);
    }

    #[cfg(feature = "planted")]
    fn expire_unlogged(
        &mut self,
        sessions: Vec<(SessionId, Generation)>,
        effects: &mut Vec<Effect>,
    ) {
        let mut events = Vec::new();
        let command = Command::Expire { sessions };
        let answer = Some(self.machine.apply_unlogged(&command, &mut events));
        let id = LogId { term: self.node.term(), index: self.node.applied() };
        effects.push(Effect::Applied { id, answer, events });
    }

    #[cfg(not(feature = "planted"))]
    fn expire_unlogged(
        &mut self,
        _sessions: Vec<(SessionId, Generation)>,
        _effects: &mut Vec<Effect>,
    ) {
        unreachable!("no bug is planted in this build");
    }

    fn raft_event(&mut self, event: RaftEvent, effects: &mut Vec<Effect>) {
        match event {
            RaftEvent::Leader { term, leader } => {
                self.counts.leader_changes += 1;
                self.liveness.stop();
                effects.push(Effect::Leader { term, leader });
            }
            RaftEvent::LeaderReady(_) => {} // The no-op's own apply makes liveness active.
            RaftEvent::SnapshotInstalled(snapshot) => {
                self.counts.snapshots_installed += 1;
                self.install(&snapshot, effects);
            }
            RaftEvent::Configuration(configuration) => {
                effects.push(Effect::Configuration(configuration));
            }
            RaftEvent::Campaign { pre, .. } => self.counts.elections += u64::from(!pre),
            RaftEvent::Quarantined { member, holds, acknowledged } => {
                effects.push(Effect::Quarantined { member, holds, acknowledged });
            }
            RaftEvent::Ignored { from, why } => effects.push(Effect::Ignored(from, why)),
        }
    }

    fn install(&mut self, snapshot: &Snapshot, effects: &mut Vec<Effect>) {
        match Machine::decode(&snapshot.data) {
            Ok(machine) => {
                let (inside, index) = (machine.last_index(), snapshot.last.index.0);
                assert!(inside <= index, "a snapshot at {index} holds state of {inside}");
                self.machine = machine;
                self.snapshot_waits = None;
                effects.push(Effect::Restored(snapshot.last));
            }
            // The leader's state is committed state: a member that cannot read it cannot go on, and
            // must not guess.
            Err(error) => panic!("the snapshot at {} cannot be read: {error}", snapshot.last),
        }
    }

    fn apply(
        &mut self,
        now: Time,
        range: std::ops::RangeInclusive<Index>,
        effects: &mut Vec<Effect>,
    ) {
        for index in range.start().0..=range.end().0 {
            let entry = self.node.entry(Index(index)).expect("committed entries are in memory");
            let id = entry.id();
            assert_eq!(id.index.0, index, "entries are applied at their own index");
            let mut events = Vec::new();
            // Committed by a quorum that knows it: to skip it would make two truths.
            let logged = logged(entry).unwrap_or_else(|why| panic!("{why}"));
            let answer =
                logged.map(|command| self.machine.apply_logged(index, &command, &mut events));
            let noop = entry.kind() == Kind::Noop;
            if noop && self.node.role() == RoleName::Leader && id.term == self.node.term() {
                self.liveness.start(now, &self.machine);
            }
            self.counts.expired += self.liveness.applied(now, &answer, &events);
            self.stages.applied(now, id);
            effects.push(Effect::Applied { id, answer, events });
        }
    }

    /// The consensus node, to look at.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The state machine, to read from.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The log, to count its writes.
    #[must_use]
    pub fn wal(&self) -> &Wal<D> {
        &self.wal
    }

    /// The log's disk: the simulator completes its writes.
    pub fn disk_mut(&mut self) -> &mut D {
        self.wal.disk_mut()
    }

    /// Counts since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How long each stage took, as the leader.
    pub fn stages_mut(&mut self) -> &mut Stages {
        &mut self.stages
    }

    /// Whether the disk has no room for more than the reserve.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// When to build snapshots: bytes and entries in the log. For tests.
    pub fn set_snapshot_policy(&mut self, bytes: u64, entries: u64) {
        self.snapshot_policy = snapshot::Policy { bytes, entries };
    }

    /// Takes a snapshot in the next flush, due or not.
    pub fn compact(&mut self) {
        self.snapshot_asked = true;
    }

    /// The state as of the last entry applied, with the configuration as of it. None if a later
    /// configuration is on its way, or nothing is applied yet.
    #[must_use]
    pub fn backup(&self) -> Option<Snapshot> {
        snapshot::now(&self.node, &self.machine)
    }

    /// Ends the log cleanly: its last synced mark is made durable.
    pub fn close(self) {
        self.wal.close();
    }
}

impl<D: Disk> std::fmt::Debug for Replica<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, term, role) = (self.node.id(), self.node.term(), self.node.role());
        write!(f, "Replica({id}, {role:?} in term {}, applied {})", term.0, self.node.applied().0)
    }
}

fn answer(origin: Origin, reply: ForwardReply, effects: &mut Vec<Effect>) {
    effects.push(match origin {
        Origin::Local => Effect::Reply(reply),
        Origin::Peer(to) => Effect::Send(to, PeerMessage::ForwardReply(reply)),
    });
}

/// What an entry means to the state machine. A configuration carries a life: the start of the
/// group's in entry 1, a forced one later.
///
/// # Errors
/// It is of a newer version, and must not be skipped.
pub(crate) fn logged(entry: &Entry) -> Result<Option<Logged>, String> {
    let bytes = match entry.kind() {
        Kind::Noop => return Ok(None),
        Kind::Command => entry.payload(),
        Kind::Configuration => match Configuration::decode(entry.payload()) {
            Ok((_, [])) | Err(_) => return Ok(None),
            Ok((_, context)) => context,
        },
    };
    Logged::decode(bytes).map(Some).map_err(|error| {
        let id = entry.id();
        format!("entry {id} is of a newer version, and must not be skipped: {error}")
    })
}

#[cfg(test)]
mod tests;
