//! The faults, each counted: a kind that never happens proves nothing.

use crate::simulator::checker::Broken;
use crate::simulator::node::Rot;
use crate::simulator::random::Random;
use crate::simulator::world::{CLIENTS, Happening, SEATS, World};
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
    /// A disk is gone for good; a new member takes the seat.
    DiskLost,
    /// A bit of a stopped member's files changes.
    Flip,
    /// A write is reported as done, and is not there.
    Astray,
    /// A write fails: the process must exit.
    Refused,
    /// A disk has no room for a while.
    Full,
    /// Two halves of the members hear each other only through one that hears all.
    Bridge,
    /// One member and the leader do not hear each other; all else works.
    FromLeader,
    /// Many directions are cut one after the other, and mended in another order.
    Swizzle,
    /// Two members lose and find each other again and again.
    Flap,
    /// A machine sleeps: member and clients stand still, their clock does not.
    Sleep,
    /// A clock runs at another rate from now on.
    Rate,
    /// See `eight.rs`.
    Eight,
    /// See `twice.rs`.
    Twice,
}

const KINDS: [(Fault, &str, u64); 33] = [
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
    (Fault::Repair, "network repaired", 30),
    (Fault::Stall, "disk stalled", 4),
    (Fault::Slow, "disk slow", 5),
    (Fault::ClientDies, "client killed", 12),
    (Fault::Disconnect, "client disconnected", 12),
    (Fault::Cancel, "client cancelled", 10),
    (Fault::Transfer, "leadership handed over", 6),
    (Fault::CrashLoop, "crash loop of the swing voter", 8),
    (Fault::Turns, "new leaders killed in turns", 8),
    (Fault::DiskLost, "disk lost", 5),
    (Fault::Flip, "bit flipped at rest", 5),
    (Fault::Astray, "write gone astray", 8),
    (Fault::Refused, "write refused by the device", 4),
    (Fault::Full, "disk full", 4),
    (Fault::Bridge, "two halves and a bridge", 5),
    (Fault::FromLeader, "member cut off from the leader", 5),
    (Fault::Swizzle, "links cut one by one", 5),
    (Fault::Flap, "flapping link", 5),
    (Fault::Sleep, "machine asleep", 5),
    (Fault::Rate, "clock rate changed", 5),
    (Fault::Eight, "figure 8", 12),
    (Fault::Twice, "vote asked for twice", 12),
];

/// What comes of faults and of the operator, and must come too.
const CONSEQUENCES: [&str; 19] = [
    "new leader killed",
    "new leader cut off",
    "voter killed as it votes",
    "message lost",
    "message copied",
    "message cut",
    "message of an older life",
    "message lost with its connection",
    "membership changed",
    "membership change refused",
    "membership change unknown",
    "snapshot over a configuration",
    "joint change given up by the operator",
    "damage found at the start",
    "damage that only others can see",
    "damage that changed nothing",
    "disk failed an operation",
    "disk found full",
    "disk has room again",
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

    /// Names of the faults themselves.
    pub fn inflicted() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(_, name, _)| *name)
    }

    /// All names, with those of what must come of them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Fault::inflicted().chain(CONSEQUENCES)
    }
}

impl World {
    fn any_node(&mut self) -> usize {
        self.random.index(SEATS)
    }

    fn leader(&mut self) -> usize {
        match self.leading() {
            Some(leader) => leader,
            None => self.any_node(),
        }
    }

    /// Carries out a fault, if it can be at the moment.
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
                for node in 0..SEATS {
                    self.crash(node, fault == Fault::PowerAll)?;
                }
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
            Fault::Pause | Fault::Sleep | Fault::Rate => {
                let node = if self.random.permille(400) { self.leader() } else { node };
                // Who sleeps reads its clock when it wakes.
                if self.nodes[node].asleep_until > self.now {
                    return Ok(());
                }
                self.delay(node, fault);
            }
            Fault::Eight => return self.draw_figure_eight(),
            Fault::Twice => return self.draw_a_vote_twice(),
            Fault::DiskLost | Fault::Flip | Fault::Astray => return self.spoil(fault),
            Fault::Stall | Fault::Slow | Fault::Full | Fault::Refused => self.hinder(node, fault),
            _ => self.disturb(node, fault),
        }
        self.count(fault.name());
        Ok(())
    }

    /// A disk fails for good, if the group can bear it.
    fn spoil(&mut self, fault: Fault) -> Result<(), Broken> {
        let node = if self.random.permille(300) { self.leader() } else { self.any_node() };
        if self.nodes[node].rot != Rot::None || !self.may_fail(node) {
            return Ok(());
        }
        self.count(fault.name());
        match fault {
            Fault::DiskLost => self.lose_disk(node)?,
            Fault::Flip => self.flip_a_bit(node)?,
            _ => self.lead_astray(node),
        }
        Ok(())
    }

    fn hinder(&mut self, node: usize, fault: Fault) {
        match fault {
            Fault::Stall => {
                let nanos = self.random.between(200, 2_500) * MILLI;
                self.stall_disk(node, nanos, nanos);
            }
            Fault::Slow => {
                let latency = self.random.between(2, 60) * MILLI;
                self.stall_disk(node, latency, 3_000 * MILLI);
            }
            Fault::Full => self.fill_disk(node),
            _ => {
                if let Some(member) = &mut self.nodes[node].member {
                    member.replica_mut().disk_mut().fail_next_write();
                }
            }
        }
    }

    fn delay(&mut self, node: usize, fault: Fault) {
        let until = self.now + self.random.between(50, 6_000) * MILLI;
        match fault {
            Fault::Rate => {
                let now = self.now;
                self.nodes[node].clock.change_rate(now, &mut self.random);
                // What it waits for is nearer or further by its new clock.
                self.wake_all(node);
            }
            Fault::Sleep => {
                self.nodes[node].paused_until = until;
                self.nodes[node].asleep_until = until;
            }
            _ => self.nodes[node].paused_until = until,
        }
    }

    /// Kills a voter as its vote leaves, often: if that is not durable yet, nobody may have it.
    pub(super) fn after_a_vote(&mut self, node: usize) {
        let often = if self.swing == Some(node) { 800 } else { 30 };
        if self.healed || !self.random.permille(often) {
            return;
        }
        self.count("voter killed as it votes");
        // While the write of it is under way, often after the vote arrived.
        let dies = self.random.between(0, self.usual_latency[node]);
        self.after(dies, Happening::Kill { seat: node, power: false });
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
        // Two halves that need this one: it votes for both, one after the other.
        let voter = |seat: &usize| self.votes(*seat) && *seat != node;
        let mut seats: Vec<usize> = (0..SEATS).filter(voter).collect();
        if seats.len() < 2 {
            return;
        }
        self.random.shuffle(&mut seats);
        let (left, right) = seats.split_at(seats.len() / 2);
        self.network.sever(left, right);
        // A slow disk, often: then what it says and what it keeps lie far apart.
        self.usual_latency[node] = *self.random.pick(&[LATENCY_NS, 20 * MILLI, 60 * MILLI]);
        self.usual_disk(node);
        if self.random.permille(700) {
            // What was asked before the crash arrives after it.
            self.network.jitter_ns = self.random.between(5, 150) * MILLI;
            self.network.copy_permille = 200;
        }
        if self.random.permille(600) {
            // All begin anew: then both halves may win by this one's vote, and stand at about the
            // same time.
            for whom in &seats {
                self.after(0, Happening::Kill { seat: *whom, power: false });
                let down = self.random.between(MILLI, 20 * MILLI);
                self.start_after(*whom, down);
            }
        }
        let mut at = 0;
        for _ in 0..10 {
            at += self.random.between(0, 90 * MILLI);
            self.after(at, Happening::Kill { seat: node, power: false });
            at += self.random.between(2 * MILLI, 15 * MILLI);
            self.start_after(node, at);
        }
        at += self.random.between(0, 1_500 * MILLI);
        for seat in left {
            self.after(at, Happening::Uncut(*seat));
        }
    }

    fn disturb(&mut self, node: usize, fault: Fault) {
        match fault {
            Fault::Partition => {
                let node = if self.random.permille(500) { self.leader() } else { node };
                self.separate(&[node]);
            }
            Fault::Bridge => {
                let bridge = self.any_node();
                self.cut_halves(bridge);
            }
            Fault::FromLeader => {
                let leader = self.leader();
                self.network.sever(&[node], &[leader]);
            }
            Fault::Swizzle => self.swizzle(),
            Fault::Flap => self.flap(node),
            Fault::OneWay => {
                let other = (node + 1 + self.random.index(SEATS - 1)) % SEATS;
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

    fn cut_halves(&mut self, bridge: usize) {
        let seats: Vec<usize> = (0..SEATS).filter(|seat| *seat != bridge).collect();
        for one in &seats {
            for other in seats.iter().filter(|other| *other % 2 != one % 2) {
                self.network.cut(*one, *other);
            }
        }
    }

    fn swizzle(&mut self) {
        for _ in 0..self.random.between(3, 12) {
            let from = self.any_node();
            let to = (from + 1 + self.random.index(SEATS - 1)) % SEATS;
            let cut = self.random.between(0, 1_500) * MILLI;
            let mended = cut + self.random.between(100, 3_000) * MILLI;
            self.after(cut, Happening::Link { from, to, works: false });
            self.after(mended, Happening::Link { from, to, works: true });
        }
    }

    fn flap(&mut self, node: usize) {
        let other = (node + 1 + self.random.index(SEATS - 1)) % SEATS;
        let mut at = 0;
        for _ in 0..self.random.between(3, 20) {
            for works in [false, true] {
                at += self.random.between(20, 400) * MILLI;
                for (from, to) in [(node, other), (other, node)] {
                    self.after(at, Happening::Link { from, to, works });
                }
            }
        }
    }

    fn bother(&mut self, fault: Fault) -> Result<(), Broken> {
        let client = self.random.index(CLIENTS);
        let deeds = match fault {
            Fault::ClientDies => self.clients[client].die(),
            Fault::Disconnect => self.clients[client].disconnect(false),
            _ => self.clients[client].cancel(),
        };
        self.carry_out(client, deeds)
    }
}
