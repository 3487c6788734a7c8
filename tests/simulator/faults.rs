//! The faults, each counted: a kind that never happens proves nothing.

use crate::simulator::checker::Broken;
use crate::simulator::random::Random;
use crate::simulator::world::{CLIENTS, MEMBERS, World};
use quorate_raft::RoleName;
use quorate_sidecar::member::Event;
use quorate_sidecar::replica::Event as ReplicaEvent;

/// A sync of a healthy disk, in ns.
pub const LATENCY_NS: u64 = 100_000;
const MILLI: u64 = 1_000_000;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of one member.
    Crash,
    /// kill -9 of the leader.
    CrashLeader,
    /// kill -9 of all members at once.
    CrashAll,
    /// The power of one member fails: what was not synced is lost, torn, or partly there.
    PowerOne,
    /// The power of all members fails at once.
    PowerAll,
    /// A member is stopped for a while, its clients are not.
    Pause,
    /// One member is cut off, both ways.
    Partition,
    /// One direction between two members carries nothing.
    OneWay,
    /// The network loses messages.
    Loss,
    /// The network repeats messages, late.
    Copies,
    /// The network delays and reorders messages.
    Disorder,
    /// The network works again.
    Repair,
    /// A disk does not finish its syncs for a while.
    Stall,
    /// A disk is slow for a while.
    Slow,
    /// A client's process dies.
    ClientDies,
    /// A client's connection breaks.
    Disconnect,
    /// A client cancels a stream while its connection lives.
    Cancel,
    /// Leadership is handed over.
    Transfer,
    /// A member crashes again and again, while the others hear nothing of each other: who leads
    /// hangs on what it remembers.
    CrashLoop,
    /// Each new leader is killed, and the one killed before it comes back: logs grow apart, and
    /// what was only old is replicated late (Raft paper, figure 8).
    Turns,
}

const KINDS: [(Fault, &str, u64); 20] = [
    (Fault::Crash, "member killed", 8),
    (Fault::CrashLeader, "leader killed", 12),
    (Fault::CrashAll, "all members killed", 3),
    (Fault::PowerOne, "power cut, one member", 5),
    (Fault::PowerAll, "power cut, all members", 3),
    (Fault::Pause, "member stopped", 8),
    (Fault::Partition, "member cut off", 7),
    (Fault::OneWay, "one direction cut", 6),
    (Fault::Loss, "messages lost", 5),
    (Fault::Copies, "messages copied", 5),
    (Fault::Disorder, "messages out of order", 5),
    (Fault::Repair, "network repaired", 14),
    (Fault::Stall, "disk stalled", 4),
    (Fault::Slow, "disk slow", 5),
    (Fault::ClientDies, "client killed", 12),
    (Fault::Disconnect, "client disconnected", 12),
    (Fault::Cancel, "client cancelled", 10),
    (Fault::Transfer, "leadership handed over", 6),
    (Fault::CrashLoop, "crash loop of the swing voter", 8),
    (Fault::Turns, "new leaders killed in turns", 8),
];

impl Fault {
    /// One of them, by weight.
    pub fn choose(random: &mut Random) -> Fault {
        let total = KINDS.iter().map(|(.., weight)| weight).sum();
        let mut at = random.between(1, total);
        for (fault, _, weight) in KINDS {
            if at <= weight {
                return fault;
            }
            at -= weight;
        }
        Fault::Repair
    }

    /// What it is called in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(fault, ..)| *fault == self).map_or("", |(_, name, _)| name)
    }

    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let young = ["new leader killed", "new leader cut off", "voter killed as it votes"];
        KINDS.iter().map(|(_, name, _)| *name).chain(young)
    }
}

impl World {
    fn any_node(&mut self) -> usize {
        usize::try_from(self.random.between(0, 99)).expect("small") % MEMBERS
    }

    fn leader(&mut self) -> usize {
        let leads = |n: &crate::simulator::node::SimNode| {
            n.member.as_ref().is_some_and(|m| m.replica().node().role() == RoleName::Leader)
        };
        match self.nodes.iter().position(leads) {
            Some(leader) => leader,
            None => self.any_node(),
        }
    }

    pub(super) fn inflict(&mut self, fault: Fault) -> Result<(), Broken> {
        let node = self.any_node();
        match fault {
            Fault::Crash => self.crash(node, false)?,
            Fault::CrashLeader => {
                let leader = self.leader();
                self.crash(leader, false)?;
            }
            Fault::PowerOne => self.crash(node, true)?,
            Fault::CrashAll | Fault::PowerAll => {
                for node in 0..MEMBERS {
                    self.crash(node, fault == Fault::PowerAll)?;
                }
            }
            Fault::Pause => {
                let node = if self.random.permille(500) { self.leader() } else { node };
                let nanos = self.random.between(50, 6_000) * MILLI;
                self.nodes[node].paused_until = self.now + nanos;
            }
            Fault::Stall => {
                let nanos = self.random.between(200, 2_500) * MILLI;
                self.stall_disk(node, nanos, nanos);
            }
            Fault::Slow => {
                let latency = self.random.between(2, 60) * MILLI;
                self.stall_disk(node, latency, 3_000 * MILLI);
            }
            Fault::Transfer => {
                let leader = self.leader();
                self.deliver(leader, Event::Replica(ReplicaEvent::Transfer(None)));
            }
            Fault::CrashLoop => {
                let node = if self.random.permille(800) { self.leader() } else { node };
                self.crash_loop(node);
            }
            Fault::Turns => {
                self.turns = self.random.between(3, 8);
                let leader = self.leader();
                self.turn(leader)?;
            }
            Fault::ClientDies | Fault::Disconnect | Fault::Cancel => self.bother(fault)?,
            _ => self.disturb(node, fault),
        }
        Ok(())
    }

    /// Kills a voter as its vote leaves, often: if that is not durable yet, nobody may have it.
    pub(super) fn after_a_vote(&mut self, node: usize) {
        let often = if self.swing == Some(node) { 800 } else { 30 };
        if self.healed || !self.random.permille(often) {
            return;
        }
        *self.faults.entry("voter killed as it votes").or_default() += 1;
        // While the write of it is under way, often after the vote arrived.
        let dies = self.random.between(0, self.usual_latency[node]);
        self.crash_after(node, dies);
        let down = self.random.between(MILLI, 10 * MILLI);
        self.start_after(node, dies + down);
    }

    /// Kills a new leader; the one killed before it starts again.
    pub(super) fn turn(&mut self, node: usize) -> Result<(), Broken> {
        if self.healed {
            return Ok(());
        }
        self.kill(node, false)?;
        if let Some(before) = self.out.replace(node).filter(|before| *before != node) {
            let down = self.random.between(0, 50 * MILLI);
            self.start_after(before, down);
        }
        self.turns = self.turns.saturating_sub(1);
        if self.turns == 0 {
            self.out = None;
            let down = self.random.between(0, 500 * MILLI);
            self.start_after(node, down);
        }
        Ok(())
    }

    fn crash_loop(&mut self, node: usize) {
        self.swing = Some(node);
        let (one, other) = ((node + 1) % MEMBERS, (node + 2) % MEMBERS);
        self.network.cut(one, other);
        self.network.cut(other, one);
        // A slow disk, often: then what it says and what it keeps lie far apart.
        self.usual_latency[node] = *self.random.pick(&[LATENCY_NS, 20 * MILLI, 60 * MILLI]);
        if self.random.permille(700) {
            // What was asked before the crash arrives after it.
            self.network.jitter_ns = self.random.between(5, 150) * MILLI;
            self.network.copy_permille = 200;
        }
        if self.random.permille(600) {
            // All begin anew: then both of the others may win by this one's vote, and stand at
            // about the same time.
            for whom in [one, other] {
                self.crash_after(whom, 0);
                let down = self.random.between(MILLI, 20 * MILLI);
                self.start_after(whom, down);
            }
        }
        let mut at = 0;
        for _ in 0..10 {
            at += self.random.between(0, 90 * MILLI);
            self.crash_after(node, at);
            at += self.random.between(2 * MILLI, 15 * MILLI);
            self.start_after(node, at);
        }
        at += self.random.between(0, 1_500 * MILLI);
        self.uncut_after(one, at);
    }

    fn disturb(&mut self, node: usize, fault: Fault) {
        match fault {
            Fault::Partition => {
                let node = if self.random.permille(500) { self.leader() } else { node };
                for other in (0..MEMBERS).filter(|other| *other != node) {
                    self.network.cut(node, other);
                    self.network.cut(other, node);
                }
            }
            Fault::OneWay => {
                let other = (node + 1) % MEMBERS;
                if self.random.permille(500) {
                    self.network.cut(node, other);
                } else {
                    self.network.cut(other, node);
                }
            }
            Fault::Loss => self.network.loss_permille = self.random.between(10, 300),
            Fault::Copies => self.network.copy_permille = self.random.between(10, 200),
            Fault::Disorder => self.network.jitter_ns = self.random.between(1, 80) * MILLI,
            _ => self.network.heal(self.profile.copy_permille),
        }
    }

    fn bother(&mut self, fault: Fault) -> Result<(), Broken> {
        let client = usize::try_from(self.random.between(0, 999)).expect("small") % CLIENTS;
        let deeds = match fault {
            Fault::ClientDies => self.clients[client].die(),
            Fault::Disconnect => self.clients[client].disconnect(false),
            _ => self.clients[client].cancel(),
        };
        self.carry_out(client, deeds)
    }
}
