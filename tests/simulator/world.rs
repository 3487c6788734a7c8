//! The simulated world: members, network, disks, clients and faults, in one queue of events ordered
//! by time.
//!
//! One seed decides everything. Nothing here reads a clock, and nothing has an order that memory
//! addresses decide.

use crate::simulator::checker::{Broken, Checker};
use crate::simulator::client::Client;
use crate::simulator::eight::Eight;
use crate::simulator::faults::{self, Fault};
use crate::simulator::history::History;
use crate::simulator::membership::name_of;
use crate::simulator::network::Network;
use crate::simulator::node::SimNode;
use crate::simulator::random::Random;
use crate::simulator::totals::Gaps;
use crate::simulator::trace::Trace;
use crate::simulator::twice::Twice;
use quorate_locks::{Command, NameKind};
use quorate_raft::{Body, Configuration, Index, MemberId};
use quorate_sidecar::agent::CallId;
use quorate_sidecar::driver::Item;
use quorate_sidecar::frame::PeerMessage;
use quorate_sidecar::member::{Action, Event};
use quorate_sidecar::replica::Event as ReplicaEvent;
use quorate_sidecar::wal::SimDisk;
use std::collections::BTreeMap;

/// One second of simulated time.
pub const SECOND: u64 = 1_000_000_000;
const MICRO: u64 = 1_000;
const MILLI: u64 = 1_000_000;
/// Voters at the start.
pub const VOTERS: usize = 5;
/// Seats for members: some wait until the membership changes.
pub const SEATS: usize = 7;
/// Clients, each at a member.
pub const CLIENTS: usize = 14;
/// How long after the heal everybody must have been granted a name of his own.
const PROGRESS_NS: u64 = 5 * SECOND;

/// A process of a member. What it sent is its own, whoever sits in its seat when that arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    id: MemberId,
    boot: u64,
}

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// A member takes what waits in its inbox.
    Run(usize),
    /// A member's timer, if it is still that one.
    Alarm(usize, u64),
    /// A member's disk may have finished something.
    Disk(usize),
    /// A message arrives, sent by that boot of its sender.
    Message { from: usize, of: Life, sent: u64, to: MemberId, message: PeerMessage },
    /// A member hears that a peer's connection ended.
    Lost { at: usize, peer: usize },
    /// Something of a client's reaches its sidecar, if that is still the same boot.
    FromClient { node: usize, boot: u64, event: Box<Event> },
    /// An item of a call reaches its client.
    ToClient { call: CallId, item: Box<Item>, last: bool },
    /// A client wakes up.
    Wake(usize),
    /// A client's connection breaks.
    Break(usize),
    /// A leader that has just won, or one of its voters, dies or is cut off.
    Young(usize),
    /// The same, where new leaders are killed in turns.
    Turn(usize),
    /// The next step of figure 8, if it is still that one.
    Eight(u64),
    /// The next step of a vote asked for twice, if it is still that one.
    Twice(u64),
    /// A member that was cut off is connected again.
    Uncut(usize),
    /// One direction of the network fails, or works again.
    Link { from: usize, to: usize, works: bool },
    /// A full disk has room again.
    Room(usize),
    /// A member is killed, or its power fails, and it does not come back by itself.
    Kill { seat: usize, power: bool },
    /// The next fault.
    Fault,
    /// A stopped member starts again.
    Start(usize),
    /// A disk works normally again.
    DiskHeals(usize),
    /// The operator looks at the membership.
    Operate,
    /// The operator gives up the change that this leader is in, if it still is.
    GiveUp(usize),
    /// Everything works from here on.
    Heal,
}

/// What is different from seed to seed, for the whole run: mixes of faults find what no one mix
/// finds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    /// After so many of a thousand elections something happens at once.
    young_permille: u64,
    /// A sync of a disk that is not disturbed, in ns.
    pub(super) latency_ns: u64,
    /// Of a thousand messages so many come twice, whatever else happens.
    pub(super) copy_permille: u64,
    /// Of a thousand looks at the membership so many change it, though all is well.
    pub(super) churn_permille: u64,
}

impl Profile {
    fn choose(random: &mut Random) -> Profile {
        Profile {
            young_permille: *random.pick(&[0, 200, 400]),
            latency_ns: *random.pick(&[faults::LATENCY_NS, faults::LATENCY_NS, 4 * MILLI]),
            copy_permille: *random.pick(&[0, 0, 150]),
            churn_permille: *random.pick(&[0, 300, 300, 900]),
        }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Simulated ns.
    pub nanos: u64,
    /// Operations that clients saw acknowledged.
    pub acknowledged: u64,
    /// Changes of Raft leader.
    pub leader_changes: u64,
    /// Snapshots installed from a leader.
    pub installs: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Checks by kind.
    pub checks: BTreeMap<&'static str, u64>,
    /// Times without a success of anybody, by the first fault in them.
    pub gaps: BTreeMap<&'static str, Gaps>,
    /// The trace's hash.
    pub trace: u64,
    /// Things that happened.
    pub events: u64,
    /// The promise that was broken.
    pub broken: Option<Broken>,
}

/// See the module.
pub struct World {
    pub(super) now: u64,
    seq: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub(super) nodes: Vec<SimNode>,
    pub(super) network: Network,
    pub(super) clients: Vec<Client>,
    pub(super) random: Random,
    pub(super) trace: Trace,
    /// When the last of what clients said about each call arrives.
    pub(super) arrives: BTreeMap<CallId, u64>,
    /// The newest boot that each member has heard of each other.
    heard: BTreeMap<(MemberId, MemberId), u64>,
    /// A sync of each member's disk that is not disturbed, in ns.
    pub(super) usual_latency: [u64; SEATS],
    /// So many of the next new leaders are killed, and the one before each starts again.
    pub(super) turns: u64,
    /// Figure 8, while it is drawn.
    pub(super) eight: Option<Eight>,
    /// A vote that is asked for twice.
    pub(super) twice: Option<Twice>,
    /// Numbers of steps.
    serial: u64,
    /// The last of them.
    pub(super) out: Option<usize>,
    /// Who crashes in a loop.
    pub(super) swing: Option<usize>,
    /// Members that there ever were.
    pub(super) identities: u128,
    /// Voters that a leader was asked for, and has not answered about: (whom, voters).
    pub(super) asked: BTreeMap<u64, (usize, BTreeMap<MemberId, String>)>,
    /// Whose disk was lost, and up to where it was durable.
    pub(super) lost: BTreeMap<MemberId, Index>,
    /// Changes of the membership that were asked for.
    pub(super) changes: u64,
    /// Messages that each member sent before this are lost.
    pub(super) lost_before: [u64; SEATS],
    pub(super) connections: u64,
    /// When each client wakes up next; it says anew then.
    pub(super) wakes: Vec<u64>,
    pub(super) checker: Checker,
    pub(super) history: History,
    /// What it has come to so far.
    pub(super) report: Report,
    /// When somebody last succeeded, and the first fault since.
    pub(super) success: (u64, Option<&'static str>),
    pub(super) profile: Profile,
    pub(super) healed: bool,
    /// The last applied index at that time.
    healed_at: u64,
    pub(super) probed: Vec<bool>,
}

impl World {
    /// A blank group that has just been switched on.
    #[must_use]
    pub fn new(seed: u64, print: bool) -> World {
        let mut random = Random::new(seed);
        let profile = Profile::choose(&mut random);
        let nodes = (0..SEATS)
            .map(|i| {
                let id = MemberId(u128::try_from(i).expect("small") + 1);
                SimNode::new(id, SimDisk::new(random.bits()), &mut random)
            })
            .collect();
        let names = vec![
            ("alpha".to_owned(), NameKind::Lock),
            ("beta".to_owned(), NameKind::Lock),
            ("chair".to_owned(), NameKind::Election),
        ];
        let clients = (0..CLIENTS)
            .map(|i| Client::new(i, i % SEATS, names.clone(), random.split()))
            .collect();
        World {
            now: 0,
            seq: 0,
            queue: BTreeMap::new(),
            nodes,
            network: Network::new(random.split(), profile.copy_permille),
            clients,
            trace: Trace::new(print),
            random,
            heard: BTreeMap::new(),
            usual_latency: [profile.latency_ns; SEATS],
            turns: 0,
            eight: None,
            twice: None,
            serial: 0,
            out: None,
            swing: None,
            identities: u128::try_from(SEATS).expect("small"),
            asked: BTreeMap::new(),
            lost: BTreeMap::new(),
            changes: 0,
            lost_before: [0; SEATS],
            connections: 0,
            wakes: vec![u64::MAX; CLIENTS],
            checker: Checker::default(),
            history: History::default(),
            report: Report::default(),
            success: (0, None),
            arrives: BTreeMap::new(),
            profile,
            healed: false,
            healed_at: 0,
            probed: vec![false; CLIENTS],
        }
    }

    /// Runs for `seconds`: faults all the time, then a healthy end in which the group must make
    /// progress.
    pub fn run(mut self, seconds: u64) -> Report {
        assert!(seconds > 20, "there must be time to heal");
        self.begin();
        let end = seconds * SECOND;
        self.at(end - 12 * SECOND, Happening::Heal);
        while self.report.broken.is_none() {
            let Some(((time, _), happening)) = self.queue.pop_first() else { break };
            if time > end {
                break;
            }
            self.now = time;
            if let Err(broken) = self.happen(happening) {
                self.report.broken = Some(broken);
            }
        }
        if self.report.broken.is_none() {
            self.report.broken = self.orphaned().err();
        }
        let history = std::mem::take(&mut self.history);
        let explained = ("answer explained by one order", history.operations());
        *self.checker.checks.entry(explained.0).or_default() += explained.1;
        if self.report.broken.is_none() {
            self.report.broken = history.check().err();
        }
        self.finish(end)
    }

    /// After a healthy end longer than any TTL no session is left that its client gave up before.
    fn orphaned(&self) -> Result<(), Broken> {
        // Who left the group may know little of it.
        let running = self.nodes.iter().filter_map(|n| n.member.as_ref());
        let newest = running.max_by_key(|member| member.replica().node().applied());
        let Some(newest) = newest else { return Ok(()) };
        let machine = newest.replica().machine();
        let given_up = |key| self.clients.iter().all(|client| client.key() != key);
        let old = machine.sessions().filter(|(id, _)| id.0 <= self.healed_at);
        match old.map(|(id, session)| (id, session.key())).find(|(_, key)| given_up(*key)) {
            Some((id, _)) => Err(format!("session {} outlived its client and its TTL", id.0)),
            None => Ok(()),
        }
    }

    fn finish(mut self, end: u64) -> Report {
        for (kind, count) in [
            ("message lost", self.network.lost),
            ("message copied", self.network.copied),
            ("message cut", self.network.cut),
        ] {
            *self.report.faults.entry(kind).or_default() += count;
        }
        Report {
            nanos: end.min(self.now.max(1)),
            leader_changes: self.checker.leader_changes,
            checks: self.checker.checks,
            trace: self.trace.hash(),
            events: self.trace.lines(),
            ..self.report
        }
    }

    pub(super) fn begin(&mut self) {
        for i in 0..SEATS {
            if let Err(broken) = self.start(i) {
                self.report.broken = Some(broken);
                return;
            }
        }
        self.bootstrap();
        for i in 0..CLIENTS {
            let pause = self.random.between(1, 200) * MILLI;
            self.wake_after(i, pause);
        }
        let first = self.random.between(2, 4) * SECOND;
        self.after(first, Happening::Fault);
        self.after(first, Happening::Operate);
    }

    /// Begins the group at one member; the same call again does no harm.
    pub(super) fn bootstrap(&mut self) {
        let voters = self.nodes[..VOTERS].iter().map(|n| (n.id, name_of(n.id)));
        let configuration = Configuration::of_voters(voters);
        let start = Command::Start { epoch: 7, last_n: 0 };
        self.deliver(0, Event::Replica(ReplicaEvent::Bootstrap(configuration, start)));
    }

    pub(super) fn at(&mut self, time: u64, happening: Happening) {
        self.seq += 1;
        self.queue.insert((time.max(self.now), self.seq), happening);
    }

    pub(super) fn after(&mut self, nanos: u64, happening: Happening) {
        self.at(self.now + nanos, happening);
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        let now = self.now;
        match happening {
            Happening::Run(node) => self.run_node(node)?,
            Happening::Alarm(node, alarm) => {
                if self.nodes[node].alarm == alarm && self.nodes[node].member.is_some() {
                    self.schedule(node);
                }
            }
            Happening::Disk(node) => self.disk(node)?,
            // A connection that breaks takes what is under way with it.
            Happening::Message { from, sent, .. } if sent < self.lost_before[from] => {
                self.count("message lost with its connection");
            }
            Happening::Message { of, to, message, .. } => self.arrive(of, to, message),
            Happening::Lost { at, peer } => {
                self.trace.line(now, format_args!("{at} loses {peer}"));
                let peer = self.nodes[peer].id;
                self.deliver(at, Event::Replica(ReplicaEvent::PeerLost(peer)));
            }
            Happening::FromClient { node, boot, event } => {
                if self.nodes[node].boot == boot {
                    self.deliver(node, *event);
                }
            }
            Happening::ToClient { call, item, last } => self.client_told(call, &item, last)?,
            Happening::Wake(client) => self.wake(client)?,
            Happening::Break(client) => {
                let deeds = self.clients[client].disconnect(false);
                self.carry_out(client, deeds)?;
            }
            Happening::Young(node) => self.young_leader(node)?,
            Happening::Turn(node) => self.turn(node)?,
            Happening::Eight(of) => self.next_of_eight(of)?,
            Happening::Twice(of) => self.next_of_twice(of)?,
            Happening::Uncut(node) => {
                self.network.uncut(node);
                self.swing = None;
                self.usual_latency = [self.profile.latency_ns; SEATS];
            }
            Happening::Kill { seat, power } => {
                if !self.healed {
                    self.kill(seat, power)?;
                }
            }
            Happening::Fault => self.fault(),
            Happening::Operate => self.operate(),
            Happening::GiveUp(leader) => self.give_up(leader),
            Happening::Link { from, to, works } => {
                if works {
                    self.network.mend(from, to);
                } else if !self.healed {
                    self.network.cut(from, to);
                }
            }
            Happening::Room(node) => self.make_room(node),
            Happening::Start(node) => self.start(node)?,
            Happening::DiskHeals(node) => self.usual_disk(node),
            Happening::Heal => self.heal()?,
        }
        Ok(())
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Puts an event into a member's inbox.
    pub(super) fn deliver(&mut self, node: usize, event: Event) {
        if self.nodes[node].member.is_none() {
            return;
        }
        self.nodes[node].inbox.push(event);
        self.schedule(node);
    }

    fn schedule(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].scheduled, true) {
            return;
        }
        let busy = self.random.between(2, 40) * MICRO;
        let at = self.nodes[node].paused_until.max(self.now) + busy;
        self.at(at, Happening::Run(node));
    }

    /// One batch of a member, and everything that comes of it.
    fn run_node(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.now;
        let n = &mut self.nodes[node];
        if n.paused_until > now {
            let at = n.paused_until;
            self.at(at, Happening::Run(node));
            return Ok(());
        }
        n.scheduled = false;
        let Some(member) = &mut n.member else { return Ok(()) };
        let local = n.clock.local(now);
        let installs = member.replica().counts().snapshots_installed;
        let leaders = self.checker.leader_changes;
        let mut actions = Vec::new();
        member.replica_mut().disk_mut().set_now(quorate_raft::Time(now));
        for event in n.inbox.drain(..) {
            self.trace.line(now, format_args!("{node} < {event:?}"));
            member.handle(local, event, &mut actions);
            // Here too: what is applied may be compacted by the end of the batch.
            self.checker.member(member, &mut n.checked)?;
        }
        member.flush(local, &mut actions);
        let installed = member.replica().counts().snapshots_installed - installs;
        self.report.installs += installed;
        let disk = member.replica_mut().disk_mut();
        self.trace.line(now, format_args!("{node} disk {:016x}", disk.hash()));
        self.checker.member(member, &mut n.checked)?;
        let known = n.known.0;
        n.observe();
        let news = n.known.0 != known;
        if installed > 0 && news {
            *self.report.faults.entry("snapshot over a configuration").or_default() += 1;
        }
        if news {
            self.think_again(node);
        }
        let won = self.checker.leader_changes > leaders;
        self.durable_by_a_majority(node)?;
        self.arm(node);
        self.arm_disk(node);
        if self.figure_eight(node, won)? {
            return Ok(()); // It died, and nothing of this left it.
        }
        for action in actions {
            self.act(node, action);
        }
        // The moments after an election are where protocols break: often something happens in them.
        if won && self.turns > 0 {
            let pause = self.random.between(0, 4 * self.profile.latency_ns);
            self.after(pause, Happening::Turn(node));
        } else if won && !self.healed && self.random.permille(self.profile.young_permille) {
            let pause = self.random.between(0, 5 * self.profile.latency_ns);
            let pause = if self.random.permille(300) { 0 } else { pause };
            let voter = (node + 1 + self.random.index(SEATS - 1)) % SEATS;
            let whom = if self.random.permille(600) { node } else { voter };
            self.after(pause, Happening::Young(whom));
        }
        Ok(())
    }

    /// What a leader commits is on the disks of a majority, of both halves of a joint
    /// configuration: counted from the disks, and not by what the leader believes of them. (A disk
    /// that was lost since had what it had.)
    fn durable_by_a_majority(&mut self, node: usize) -> Result<(), Broken> {
        for (index, term) in self.checker.take_fresh() {
            let n = &self.nodes[node];
            let leads = n.member.as_ref().map(|m| m.replica().node().role());
            if leads != Some(quorate_raft::RoleName::Leader) {
                continue;
            }
            let has = |id: &MemberId| {
                let had = self.lost.get(id).is_some_and(|durable| *durable >= Index(index));
                had || self.nodes.iter().any(|n| n.id == *id && n.has_durable(Index(index), term))
            };
            let half = |half: &BTreeMap<MemberId, String>| {
                half.keys().filter(|id| has(id)).count() * 2 > half.len() || half.is_empty()
            };
            // A change may have begun or ended in the same batch.
            let mut known = [&n.known.1, &n.known.2].into_iter();
            if !known.any(|c| !c.is_empty() && half(&c.incoming) && half(&c.outgoing)) {
                return Err(format!("entry {index} is committed, and on no majority's disks"));
            }
            self.checker.count("durable by a majority");
        }
        Ok(())
    }

    fn young_leader(&mut self, node: usize) -> Result<(), Broken> {
        if self.healed {
            return Ok(());
        }
        if self.random.permille(500) {
            self.count("new leader killed");
            return self.crash(node, false);
        }
        self.count("new leader cut off");
        self.break_connections(node);
        self.separate(&[node]);
        let nanos = self.random.between(100, 2_500) * MILLI;
        self.after(nanos, Happening::Uncut(node));
        Ok(())
    }

    /// Sets the member's timer.
    pub(super) fn arm(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let Some(member) = &n.member else { return };
        let deadline = member.deadline();
        n.alarm += 1;
        let alarm = n.alarm;
        if deadline != quorate_raft::Time::NEVER {
            let at = n.clock.real(deadline);
            self.at(at, Happening::Alarm(node, alarm));
        }
    }

    fn arm_disk(&mut self, node: usize) {
        let Some(member) = &mut self.nodes[node].member else { return };
        if let Some(at) = member.replica_mut().disk_mut().next_completion() {
            self.at(at.0, Happening::Disk(node));
        }
    }

    fn disk(&mut self, node: usize) -> Result<(), Broken> {
        let now = quorate_raft::Time(self.now);
        let Some(member) = &mut self.nodes[node].member else { return Ok(()) };
        let disk = member.replica_mut().disk_mut();
        let (durable, space, failed) = (disk.completed(now), disk.space_changed(), disk.failed());
        if let Some(seq) = durable {
            self.deliver(node, Event::Replica(ReplicaEvent::Durable(seq)));
            if std::mem::take(&mut self.nodes[node].power_fails_once_durable) {
                // Once the member knows, and before the next sync.
                let soon = self.random.between(40, 100) * MICRO;
                self.after(soon, Happening::Kill { seat: node, power: true });
                self.start_after(node, soon + MILLI);
            }
        }
        if let Some(full) = space {
            self.count(if full { "disk found full" } else { "disk has room again" });
            self.deliver(node, Event::Replica(ReplicaEvent::Space { full }));
        }
        if failed {
            // A process whose disk fails exits at once.
            self.count("disk failed an operation");
            return self.crash(node, false);
        }
        // Not every such moment completes a write.
        self.arm_disk(node);
        Ok(())
    }

    fn act(&mut self, node: usize, action: Action) {
        self.trace.line(self.now, format_args!("{node} > {action:?}"));
        match action {
            Action::Send(to, message) => {
                let Some(at) = self.nodes.iter().position(|n| n.id == to) else { return };
                let of = Life { id: self.nodes[node].id, boot: self.nodes[node].boot };
                if let Some(term) = vote(&message) {
                    if let Err(broken) = self.checker.vote(self.nodes[node].id, term, to) {
                        self.report.broken = Some(broken);
                    }
                    self.after_a_vote(node);
                    self.voted(node, at);
                }
                for delay in self.network.route(node, at).into_iter().flatten() {
                    let (message, sent) = (message.clone(), self.now);
                    let from = node;
                    self.after(delay, Happening::Message { from, of, sent, to, message });
                }
            }
            Action::Tell(call, told) => self.tell(call, Ok(told), false),
            Action::Finish(call, Ok(Some(told))) => self.tell(call, Ok(told), true),
            Action::Finish(call, Err(failure)) => self.tell(call, Err(failure), true),
            Action::Changed(request, outcome) => self.changed(request, &outcome),
            Action::Quarantine { member, holds, acknowledged } => {
                let (holds, had) = (holds.0, acknowledged.0);
                self.report.broken =
                    Some(format!("{member} holds {holds}, and had acknowledged {had}"));
            }
            Action::Finish(_, Ok(None)) | Action::Configuration(_) | Action::Ignored(..) => {}
            // No attached sidecar is in this world.
            Action::Relay(..) => {}
        }
    }

    fn tell(&mut self, call: CallId, item: Item, last: bool) {
        let delay = self.random.between(3, 30) * MICRO;
        self.after(delay, Happening::ToClient { call, item: Box::new(item), last });
    }

    /// What the transport does: a boot older than the newest one heard of its sender is refused.
    fn arrive(&mut self, of: Life, to: MemberId, message: PeerMessage) {
        let Life { id, boot } = of;
        let heard = self.heard.entry((to, id)).or_default();
        let Some(to) = self.nodes.iter().position(|n| n.id == to) else { return };
        if boot < *heard {
            self.count("message of an older life");
            return;
        }
        let restarted = *heard > 0 && boot > *heard;
        *heard = boot;
        if restarted {
            self.deliver(to, Event::Replica(ReplicaEvent::PeerRestarted(id)));
        }
        self.deliver(to, Event::Replica(ReplicaEvent::Peer(id, message)));
    }

    /// One more of this kind happened.
    pub(super) fn count(&mut self, kind: &'static str) {
        *self.report.faults.entry(kind).or_default() += 1;
    }

    fn fault(&mut self) {
        if self.healed {
            return;
        }
        let next = self.random.between(300, 2_200) * MILLI;
        self.after(next, Happening::Fault);
        let fault = Fault::choose(&mut self.random);
        self.trace.line(self.now, format_args!("fault {fault:?}"));
        self.success.1.get_or_insert(fault.name());
        if let Err(broken) = self.inflict(fault) {
            self.report.broken = Some(broken);
        }
    }

    pub(super) fn start_after(&mut self, node: usize, nanos: u64) {
        self.after(nanos, Happening::Start(node));
    }

    /// A member and its clients look at their clock anew.
    pub(super) fn wake_all(&mut self, node: usize) {
        self.arm(node);
        for client in (0..CLIENTS).filter(|c| self.clients[*c].node == node).collect::<Vec<_>>() {
            self.wake_after(client, 1);
        }
    }

    pub(super) fn stall_disk(&mut self, node: usize, latency: u64, nanos: u64) {
        if let Some(member) = &mut self.nodes[node].member {
            member.replica_mut().disk_mut().set_latency(latency);
            self.after(nanos, Happening::DiskHeals(node));
        }
    }

    pub(super) fn usual_disk(&mut self, node: usize) {
        let usual = if self.healed { faults::LATENCY_NS } else { self.usual_latency[node] };
        if let Some(member) = &mut self.nodes[node].member {
            member.replica_mut().disk_mut().set_latency(usual);
        }
    }

    /// From here on everything works: and so must the group.
    fn heal(&mut self) -> Result<(), Broken> {
        if self.healed {
            let late: Vec<usize> = (0..CLIENTS).filter(|c| !self.probed[*c]).collect();
            if late.is_empty() {
                return Ok(());
            }
            return Err(format!("clients {late:?} were granted nothing in 5 s after the heal"));
        }
        self.trace.line(self.now, format_args!("heal"));
        self.healed = true;
        let applied = |n: &SimNode| n.member.as_ref().map(|m| m.replica().node().applied().0);
        self.healed_at = self.nodes.iter().filter_map(applied).max().unwrap_or(0);
        self.network.heal(0);
        (self.eight, self.twice) = (None, None);
        for node in 0..SEATS {
            (self.nodes[node].paused_until, self.nodes[node].asleep_until) = (0, 0);
            self.make_room(node);
            if let Some(member) = &mut self.nodes[node].member {
                member.replica_mut().disk_mut().write_truly();
            }
            self.start(node)?;
            self.usual_disk(node);
            self.nodes[node].scheduled = false;
            self.schedule(node);
        }
        for client in 0..CLIENTS {
            let deeds = self.clients[client].probe();
            self.carry_out(client, deeds)?;
        }
        self.after(PROGRESS_NS, Happening::Heal);
        Ok(())
    }
}

/// The term in which this message gives a vote.
fn vote(message: &PeerMessage) -> Option<u64> {
    let PeerMessage::Raft(message) = message else { return None };
    matches!(message.body, Body::VoteReply { granted: true }).then_some(message.term.0)
}

/// One run. A panic of the product is a broken promise like any other.
#[must_use]
pub fn run_seed(seed: u64, seconds: u64, print: bool) -> Report {
    let run = || World::new(seed, print).run(seconds);
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        let broken = Some(format!("it panicked: {}", words.unwrap_or_default()));
        Report { broken, ..Report::default() }
    })
}
