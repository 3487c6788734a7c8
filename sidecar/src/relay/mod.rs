//! Attached sidecars as a member sees them: sidecars without a log, beside applications that are no
//! part of the group.
//!
//! An attached sidecar has a state machine of its own and answers its clients from there. A member
//! relays for it: what the group decides goes down, entry by entry, or as a whole state where the
//! entries are gone; its commands and heartbeats go up, to the leader, and the answers come back.
//! Nothing of it is kept here but how far it was told. So it can go on at any other member, with
//! the same sessions, and what it acknowledged to its clients was committed.
//!
//! Its numbers (tickets, heartbeats) begin at the random bits of its boot, as this member's own do
//! at those of its own: an answer finds its way by them.
//!
//! Architecture invariant: no thread, no socket, no clock, no async runtime. An attached sidecar
//! speaks for its own sessions alone: a command that could touch another's goes no further.

mod service;
pub mod wire;

pub use service::{RelayService, Words};

use crate::frame::{Ask, Forward, ForwardReply, Heartbeat, HeartbeatAck, Reply};
use crate::replica::COMMAND_BYTES_MAX;
use quorate_locks::{Attachment, Command, Generation, Machine, SessionId};
use quorate_raft::{Configuration, Entry, Index, LogId, MemberId, Node, Term, Why};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many numbers belong to one boot: nobody draws its own within them.
const NUMBERS: u64 = 1 << 36;
/// Bytes of the entries that go down in one piece, about.
const ENTRIES_BYTES: usize = 256 * 1024;

/// One connection of an attached sidecar, by its number in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(pub u64);

/// What an attached sidecar says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is there, with these numbers; they are another one's no more.
    Began(Attachment),
    /// Tell it what was decided after this.
    Follow(Index),
    /// For the leader.
    Forward(Forward),
    /// For the leader.
    Heartbeat(Heartbeat),
    /// Answer this.
    Ping(u64),
    /// It is gone.
    Ended,
}

/// What an attached sidecar is told.
#[derive(Clone, Debug)]
pub enum Relayed {
    /// Who leads.
    Leads(Term, Option<MemberId>),
    /// The membership.
    Members(Configuration),
    /// What was decided.
    Entries(Vec<Entry>),
    /// The state as of this entry, encoded.
    State(LogId, Arc<[u8]>),
    /// An answer of the leader's.
    Reply(ForwardReply),
    /// The leader's word on a heartbeat.
    Ack(HeartbeatAck),
    /// An answer to a ping.
    Pong(u64),
    /// Go elsewhere.
    Goodbye,
}

impl Relayed {
    /// Bytes that it keeps, about.
    fn weight(&self) -> usize {
        let bytes = match self {
            Relayed::Entries(entries) => entries.iter().map(|entry| entry.bytes().len()).sum(),
            Relayed::State(_, bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Relayed>() + bytes
    }
}

/// Something for one of them.
pub type Out = (RelayId, Relayed);

/// What a word of theirs asks of this member.
#[derive(Debug)]
pub enum Up {
    /// To the leader.
    Forward(Forward),
    /// To the leader.
    Heartbeat(Heartbeat),
}

#[derive(Debug)]
struct Relay {
    id: RelayId,
    sidecar: u128,
    /// What it has, once it follows.
    told: Option<Index>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Relays {
    /// The bits of this member's own boot.
    own: u64,
    by_boot: BTreeMap<u64, Relay>,
    boots: BTreeMap<RelayId, u64>,
    /// This member is stopping.
    closed: bool,
}

impl Relays {
    /// Those of a member of this boot: none.
    #[must_use]
    pub fn new(own: u64) -> Relays {
        Relays { own, ..Relays::default() }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_boot.len()
    }

    /// Takes what one of them said.
    pub fn hear(
        &mut self,
        (id, said): (RelayId, Said),
        node: &Node,
        machine: &Machine,
        out: &mut Vec<Out>,
    ) -> Option<Up> {
        match said {
            Said::Began(attachment) => self.begin(id, attachment, node, out),
            Said::Ended => self.end(id),
            Said::Ping(number) => out.push((id, Relayed::Pong(number))),
            Said::Follow(applied) => {
                if let Some(relay) = self.relay_mut(id) {
                    relay.told = Some(applied);
                }
            }
            // Under another's number its answer would reach that one.
            Said::Forward(Forward { ticket: number, .. })
            | Said::Heartbeat(Heartbeat { seq: number, .. })
                if self.owner(number) != Some(id) => {}
            Said::Forward(forward) => {
                let own = self.attachment(id)?;
                let why = match may_ask(own, &forward, machine, node.applied()) {
                    Ok(()) => return Some(Up::Forward(forward)),
                    Err(why) => why,
                };
                let reply = Reply::NotAppended(why);
                out.push((id, Relayed::Reply(ForwardReply { ticket: forward.ticket, reply })));
            }
            Said::Heartbeat(beat) => {
                let Attachment { member, boot } = self.attachment(id)?;
                return Some(Up::Heartbeat(Heartbeat { boot, sidecar: Some(member), ..beat }));
            }
        }
        None
    }

    /// It is refused, by a goodbye, if this member is no part of its group, or stops; or if another
    /// one has its numbers: nobody draws them twice. Of one sidecar the newest connection counts.
    fn begin(&mut self, id: RelayId, own: Attachment, node: &Node, out: &mut Vec<Out>) {
        let older = self.by_boot.get(&own.boot).filter(|older| older.sidecar == own.member);
        let mut others = self.by_boot.iter().filter(|(_, other)| other.sidecar != own.member);
        let near = near(self.own, own.boot) || others.any(|(boot, _)| near(*boot, own.boot));
        // Its sessions would be a member's.
        let member = node.configuration().contains(MemberId(own.member));
        let useless = self.closed || !node.configuration().contains(node.id());
        if near || member || useless {
            out.push((id, Relayed::Goodbye));
            return;
        }
        if let Some(older) = older.map(|older| older.id) {
            self.boots.remove(&older);
            out.push((older, Relayed::Goodbye));
        }
        self.by_boot.insert(own.boot, Relay { id, sidecar: own.member, told: None });
        self.boots.insert(id, own.boot);
        out.push((id, Relayed::Members(node.configuration().clone())));
        out.push((id, Relayed::Leads(node.term(), node.leader())));
    }

    fn end(&mut self, id: RelayId) {
        if let Some(boot) = self.boots.remove(&id) {
            self.by_boot.remove(&boot);
        }
    }

    fn relay_mut(&mut self, id: RelayId) -> Option<&mut Relay> {
        self.by_boot.get_mut(self.boots.get(&id)?)
    }

    fn attachment(&self, id: RelayId) -> Option<Attachment> {
        let boot = *self.boots.get(&id)?;
        self.by_boot.get(&boot).map(|relay| Attachment { member: relay.sidecar, boot })
    }

    /// Whose number this is; none: this member's own. It is the one whose boot comes next below it,
    /// round the whole circle.
    #[must_use]
    pub fn owner(&self, number: u64) -> Option<RelayId> {
        let below = self.by_boot.range(..=number).next_back();
        let (boot, relay) = below.or_else(|| self.by_boot.last_key_value())?;
        (number.wrapping_sub(*boot) < number.wrapping_sub(self.own)).then_some(relay.id)
    }

    /// The leader's answer, if one of them asked.
    pub fn reply(&self, reply: &ForwardReply, out: &mut Vec<Out>) -> bool {
        let owner = self.owner(reply.ticket);
        out.extend(owner.map(|id| (id, Relayed::Reply(reply.clone()))));
        owner.is_some()
    }

    /// The leader's word, if it is about one of their heartbeats.
    pub fn ack(&self, ack: &HeartbeatAck, out: &mut Vec<Out>) -> bool {
        let owner = self.owner(ack.seq);
        out.extend(owner.map(|id| (id, Relayed::Ack(ack.clone()))));
        owner.is_some()
    }

    /// All hear who leads.
    pub fn leads(&self, term: Term, leader: Option<MemberId>, out: &mut Vec<Out>) {
        out.extend(self.boots.keys().map(|id| (*id, Relayed::Leads(term, leader))));
    }

    /// All hear of a new membership; if `own` is no part of it, this member has nothing to relay.
    pub fn members(&self, own: MemberId, members: &Configuration, out: &mut Vec<Out>) {
        let told = |id: &RelayId| match members.contains(own) {
            true => (*id, Relayed::Members(members.clone())),
            false => (*id, Relayed::Goodbye),
        };
        out.extend(self.boots.keys().map(told));
    }

    /// All are sent elsewhere, and those that come.
    pub fn goodbye(&mut self, out: &mut Vec<Out>) {
        self.closed = true;
        out.extend(self.boots.keys().map(|id| (*id, Relayed::Goodbye)));
    }

    /// Whoever follows is told what was applied here since. One that knows more than this member
    /// waits until this member does too.
    pub fn catch_up(&mut self, node: &Node, machine: &Machine, out: &mut Vec<Out>) {
        let applied = node.applied();
        let mut state = None;
        for relay in self.by_boot.values_mut() {
            let Some(told) = relay.told.filter(|told| *told < applied) else { continue };
            if told.next() >= node.first_index() {
                entries(node, told, relay.id, out);
            } else {
                let whole = || last(node).map(|last| (last, Arc::from(machine.encode())));
                if state.is_none() {
                    state = whole();
                }
                let Some((last, bytes)) = &state else { continue };
                out.push((relay.id, Relayed::State(*last, Arc::clone(bytes))));
            }
            relay.told = Some(applied);
        }
    }
}

/// Whether one of two boots might use up numbers of the other.
fn near(one: u64, other: u64) -> bool {
    one.wrapping_sub(other).min(other.wrapping_sub(one)) < NUMBERS
}

/// The entries from there to the last one applied.
fn entries(node: &Node, told: Index, id: RelayId, out: &mut Vec<Out>) {
    let (mut piece, mut bytes) = (Vec::new(), 0);
    for index in told.0 + 1..=node.applied().0 {
        let entry = node.entry(Index(index)).expect("entries from the first on are in memory");
        bytes += entry.bytes().len();
        piece.push(entry.clone());
        if bytes >= ENTRIES_BYTES {
            out.push((id, Relayed::Entries(std::mem::take(&mut piece))));
            bytes = 0;
        }
    }
    if !piece.is_empty() {
        out.push((id, Relayed::Entries(piece)));
    }
}

/// The last entry applied.
fn last(node: &Node) -> Option<LogId> {
    let applied = node.applied();
    let snapshot = || node.snapshot().map(|s| s.last).filter(|last| last.index == applied);
    node.entry(applied).map(Entry::id).or_else(snapshot)
}

/// Whether this attachment may ask for that. A command about a session that is not there, or that
/// has moved on, does nothing, and its answer says so: it may pass. One that this member has not
/// met yet has to wait.
fn may_ask(
    own: Attachment,
    forward: &Forward,
    machine: &Machine,
    applied: Index,
) -> Result<(), Why> {
    let Ask::Command(bytes) = &forward.what else { return Ok(()) };
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(Why::TooLarge);
    }
    let touches = |id: SessionId, generation: Generation| match machine.session(id) {
        None if id.0 > applied.0 => Err(Why::NotLeader),
        Some(session) if generation > session.generation() => Err(Why::NotLeader),
        Some(session) if generation == session.generation() && session.attachment() != own => {
            Err(Why::Malformed)
        }
        _ => Ok(()),
    };
    match Command::decode(bytes) {
        Ok(Command::Open { attachment, .. } | Command::Resume { attachment, .. })
            if attachment == own =>
        {
            Ok(())
        }
        Ok(Command::Claim(claim)) => touches(claim.session, claim.generation),
        Ok(
            Command::Close { session, generation }
            | Command::Cancel { session, generation, .. }
            | Command::Release { session, generation, .. },
        ) => touches(session, generation),
        _ => Err(Why::Malformed),
    }
}

#[cfg(test)]
mod tests;
