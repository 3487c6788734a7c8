//! The driver: one task that owns the member, takes batches from the inbox, and carries out what
//! comes of them. It shares the thread of the sockets, so that a message costs no hand-over.
//!
//! No lock is held around the member, and nothing calls back into it: events in, actions out.
//! Whatever arrived while a batch ran forms the next one; so batches grow with load, and a lone
//! request never waits for company.

mod alarm;
mod ask;
pub mod attached;
mod calls;
mod inbox;
mod status;
pub mod unfit;

pub use ask::{Asks, Compacted, Recover, Recovered, Retire};
pub use status::{ElectionLeader, StatusView};

use crate::agent::{CallId, ConnectionId, Request, Told};
use crate::backup::Backup;
use crate::clock;
use crate::frame::PeerMessage;
use crate::lines;
use crate::member::{Action, Event, Member};
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::reason::{Failure, Reason};
use crate::recovery;
use crate::relay::{self, RelayId, Relayed, Said};
use crate::replica::{Event as ReplicaEvent, Stage};
use crate::wal::{Completion, DataDir, FsDisk, OpenError};
use alarm::Alarm;
use calls::Calls;
use inbox::{Lane, Queue};
use quorate_locks::{Attachment, Command};
use quorate_raft::{Change, Configuration, Index, MemberId, Node, Outcome, Time};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use tokio::sync::{mpsc, oneshot};

/// Items of one call that wait for its client, at most: a client that does not read is cut then.
pub const STREAM_ITEMS_MAX: usize = 64;

/// The last word of a call, or an item before it.
pub type Item = Result<Told, Failure>;

/// One item of the inbox.
#[derive(Debug)]
pub enum Work {
    /// For the member.
    Event(Event),
    /// A call, and where its answers go.
    Call(CallId, ConnectionId, Request, OpenCall),
    /// The log's disk.
    Completion(Completion),
    /// Somebody wants to know.
    Status(oneshot::Sender<StatusView>),
    /// Who holds these elections.
    Leaders(Vec<String>, oneshot::Sender<Vec<ElectionLeader>>),
    /// Become the first member of a group.
    Bootstrap(Box<Bootstrap>, oneshot::Sender<Result<(), String>>),
    /// Change the membership.
    Change(Change, oneshot::Sender<Outcome>),
    /// Stop taking part, for ever.
    Retire(Retire, oneshot::Sender<Result<(), String>>),
    /// A backup of the state.
    Backup(oneshot::Sender<Result<Backup, String>>),
    /// Take a snapshot now.
    Compact(oneshot::Sender<Compacted>),
    /// The old members have stopped: hold grants off no longer.
    Lift(u128, oneshot::Sender<Result<(), String>>),
    /// Go on alone, as another group.
    Recover(Box<Recover>, oneshot::Sender<Result<Recovered, String>>),
    /// The first authenticated message of a cluster reached this blank member: true once the id is
    /// durable.
    LearnCluster(u128, std_mpsc::Sender<bool>),
    /// An attached sidecar is there, and hears this member here.
    Attached(RelayId, Attachment, relay::Words),
    /// End the log cleanly, and the loop.
    Stop,
}

/// Where a call's answers go, and what is measured of it.
#[derive(Debug)]
pub struct OpenCall {
    items: mpsc::Sender<Item>,
    arrived: Time,
    answered: bool,
}

/// The founding of a group.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The group's identity.
    pub cluster: u128,
    /// The member that is called.
    pub member: MemberId,
    /// Its voters.
    pub configuration: Configuration,
    /// The life of its tokens.
    pub start: Command,
}

/// A handle on the driver's inbox.
#[derive(Clone, Debug)]
pub struct Inbox {
    queue: Arc<Queue>,
    next_call: Arc<AtomicU64>,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { queue: Arc::default(), next_call: Arc::new(AtomicU64::new(1)) }
    }
}

impl Inbox {
    /// Starts a call; its answers come on the receiver.
    ///
    /// # Errors
    /// Too many calls wait already.
    pub fn call(
        &self,
        connection: ConnectionId,
        request: Request,
    ) -> Result<(CallId, mpsc::Receiver<Item>), Failure> {
        let id = CallId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel(STREAM_ITEMS_MAX + 1);
        let call = OpenCall { items: sender, arrived: clock::now(), answered: false };
        if self.queue.push(Lane::Call, Work::Call(id, connection, request, call)) {
            return Ok((id, receiver));
        }
        Err(Failure::new(
            Reason::TooManyRequests,
            "too many requests wait at this sidecar; try again",
        ))
    }

    /// Something happened to a call or a connection: never refused, bounded by the calls
    /// themselves, and never before the call.
    pub fn client(&self, event: Event) {
        let pushed = self.queue.push(Lane::AfterCalls, Work::Event(event));
        assert!(pushed, "this lane has no limit");
    }

    /// A message of a peer. Dropped when too many wait.
    pub fn peer(&self, from: MemberId, message: PeerMessage) -> bool {
        let event = Event::Replica(ReplicaEvent::Peer(from, message));
        self.queue.push(Lane::Message, Work::Event(event))
    }

    /// Something happened to a peer: never refused, and never before what it said.
    pub fn after_messages(&self, event: ReplicaEvent) {
        let work = Work::Event(Event::Replica(event));
        let pushed = self.queue.push(Lane::AfterMessages, work);
        assert!(pushed, "this lane has no limit");
    }

    /// What an attached sidecar has for the leader, or a ping. Dropped when too many wait; its
    /// commands wait with the calls of clients, behind consensus.
    pub fn relay(&self, id: RelayId, said: Said) {
        let lane = if matches!(said, Said::Forward(_)) { Lane::Call } else { Lane::Message };
        // Counted as dropped; it is said again.
        let _ = self.queue.push(lane, Work::Event(Event::Relay(id, said)));
    }

    /// Anything else that must not be refused.
    pub fn push(&self, work: Work) {
        let pushed = self.queue.push(Lane::Completion, work);
        assert!(pushed, "this lane has no limit");
    }

    /// Who holds these elections, as of what is applied; none if the driver is gone, or has no log.
    pub async fn leaders(&self, elections: Vec<String>) -> Option<Vec<ElectionLeader>> {
        let (sender, receiver) = oneshot::channel();
        self.push(Work::Leaders(elections, sender));
        receiver.await.ok()
    }

    /// The member as it is now; none if the driver is gone.
    pub async fn status(&self) -> Option<StatusView> {
        let (sender, receiver) = oneshot::channel();
        self.push(Work::Status(sender));
        receiver.await.ok()
    }

    /// Items refused because a lane was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

/// The driver's world. See the module.
#[derive(Debug)]
pub struct Driver {
    member: Member<FsDisk>,
    inbox: Inbox,
    peers: Peers,
    directory: DataDir,
    metrics: Arc<Metrics>,
    calls: Calls,
    /// Where attached sidecars hear this member.
    relays: BTreeMap<RelayId, relay::Words>,
    draining: bool,
    /// Those who founded the group and wait for the disk.
    founders: Vec<oneshot::Sender<Result<(), String>>>,
    /// Changes of the membership under way.
    changes: BTreeMap<u64, oneshot::Sender<Outcome>>,
    next_change: u64,
    /// Who waits for a snapshot or a backup.
    asks: Asks,
    /// Why the loop ends.
    end: Option<End>,
}

/// Why the driver's loop ends, and who is told of it afterwards.
#[derive(Debug)]
enum End {
    Stop,
    Retire(oneshot::Sender<Result<(), String>>),
    Recover(Box<Recover>, oneshot::Sender<Result<Recovered, String>>),
}

/// What the process has to do after the driver's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// End too.
    Stopped,
    /// Begin anew: the directory is another group's.
    Recovered,
}

impl Driver {
    /// Puts the parts together; [`Driver::run`] is the task.
    #[must_use]
    pub fn new(
        member: Member<FsDisk>,
        inbox: Inbox,
        peers: Peers,
        directory: DataDir,
        metrics: Arc<Metrics>,
    ) -> Driver {
        Driver {
            member,
            inbox,
            peers,
            directory,
            calls: Calls::new(Arc::clone(&metrics)),
            metrics,
            relays: BTreeMap::new(),
            draining: false,
            founders: Vec::new(),
            changes: BTreeMap::new(),
            next_change: 0,
            asks: Asks::default(),
            end: None,
        }
    }

    /// Runs until [`Work::Stop`]; then the log is closed cleanly.
    pub async fn run(mut self) -> Ended {
        let queue = Arc::clone(&self.inbox.queue);
        let configuration = self.member.replica().node().configuration().clone();
        self.dial(&configuration);
        let (mut batch, mut actions) = (Vec::new(), Vec::new());
        let mut alarm = Alarm::new();
        while self.end.is_none() {
            alarm.set(self.member.deadline());
            tokio::select! {
                biased;
                () = queue.take(&mut batch) => {}
                () = alarm.ring() => {}
            }
            let now = clock::now();
            for work in batch.drain(..) {
                self.work(now, work, &mut actions);
            }
            self.member.flush(now, &mut actions);
            while !actions.is_empty() {
                self.carry_out(&mut actions);
            }
            self.measure();
            self.founded();
            self.asks.answer(self.member.replica(), self.directory.cluster_id());
        }
        self.finish_up().await
    }

    /// Closes the log, and does what can only be done then.
    async fn finish_up(self) -> Ended {
        let Driver { member, mut directory, end, inbox, peers, .. } = self;
        // Waits for the disk, and the sockets' goodbyes must not wait with it.
        let _ = tokio::task::spawn_blocking(move || member.close()).await;
        match end {
            None | Some(End::Stop) => Ended::Stopped,
            Some(End::Retire(sender)) => {
                peers.goodbye();
                // Whoever asked may be gone by now.
                let _ = sender.send(Ok(()));
                unfit::run(&inbox, &StatusView::retired(&directory), &unfit::retired()).await;
                Ended::Stopped
            }
            Some(End::Recover(recover, sender)) => {
                peers.goodbye();
                let work = move || recovery::recover(&mut directory, recover.plan);
                let result = match tokio::task::spawn_blocking(work).await {
                    Ok(Ok(begun)) => {
                        let (index, hold_off_ms) = (begun.entry.index, begun.hold_off_ms);
                        Ok(Recovered { index, hold_off_ms })
                    }
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                let _ = sender.send(result); // As above.
                Ended::Recovered
            }
        }
    }

    fn work(&mut self, now: Time, work: Work, actions: &mut Vec<Action>) {
        match work {
            Work::Event(event) => {
                self.draining |= matches!(event, Event::Drain);
                if let Event::Relay(id, Said::Ended) = &event {
                    self.relays.remove(id);
                }
                self.member.handle(now, event, actions);
            }
            Work::Call(id, connection, request, call) => {
                self.calls.begin(now, id, call);
                self.member.handle(now, Event::Call(id, connection, request), actions);
            }
            Work::Completion(completion) => self.completed(completion, actions),
            // Whoever asked may be gone by now.
            Work::Status(sender) => drop(sender.send(self.status())),
            Work::Leaders(names, sender) => {
                drop(sender.send(ElectionLeader::of(self.member.replica().machine(), &names)));
            }
            Work::Bootstrap(bootstrap, sender) => match self.bootstrap(&bootstrap, actions) {
                Ok(()) => self.founders.push(sender),
                // Whoever asked may be gone by now.
                Err(why) => drop(sender.send(Err(why))),
            },
            Work::Change(change, sender) => {
                self.next_change += 1;
                self.changes.insert(self.next_change, sender);
                let event = ReplicaEvent::Change(self.next_change, change);
                self.member.handle(now, Event::Replica(event), actions);
            }
            Work::Retire(retire, sender) => match self.retire(&retire) {
                Ok(()) => self.end = Some(End::Retire(sender)),
                Err(why) => drop(sender.send(Err(why))), // As above.
            },
            Work::Backup(sender) => self.asks.backup(sender),
            Work::Compact(sender) => self.asks.compact(self.member.replica_mut(), sender),
            Work::Lift(cluster, sender) => match self.may_lift(cluster) {
                Ok(()) => {
                    self.asks.lift(sender);
                    self.member.handle(now, Event::Replica(ReplicaEvent::Lift), actions);
                }
                Err(why) => drop(sender.send(Err(why))), // As above.
            },
            Work::Recover(recover, sender) => match self.may_recover(&recover) {
                Ok(None) => self.end = Some(End::Recover(recover, sender)),
                Ok(Some(begun)) => drop(sender.send(Ok(begun))),
                Err(why) => drop(sender.send(Err(why))), // As above.
            },
            Work::LearnCluster(cluster, sender) => {
                let known = self.learn_cluster(cluster);
                let _ = sender.send(known.is_ok()); // Whoever asked may have given up.
            }
            Work::Attached(id, attachment, sender) => {
                self.relays.insert(id, sender);
                self.member.handle(now, Event::Relay(id, Said::Began(attachment)), actions);
            }
            Work::Stop => self.end = Some(End::Stop),
        }
    }

    fn completed(&mut self, completion: Completion, actions: &mut Vec<Action>) {
        let event = match completion {
            Completion::Durable(seq) => ReplicaEvent::Durable(seq),
            Completion::Space { full } => ReplicaEvent::Space { full },
            Completion::Failed(why) => {
                give_up(&format!("the log cannot be written: {why}"));
            }
        };
        self.member.handle(clock::now(), Event::Replica(event), actions);
    }

    /// Founds the group; whoever asked is answered by [`Driver::founded`].
    fn bootstrap(
        &mut self,
        bootstrap: &Bootstrap,
        actions: &mut Vec<Action>,
    ) -> Result<(), String> {
        let own = self.member.replica().node().id();
        if bootstrap.member != own {
            return Err(format!(
                "member_id is {}, and this member is {own}: the call reached the wrong member",
                bootstrap.member
            ));
        }
        if !bootstrap.configuration.incoming.contains_key(&own) {
            return Err(format!("voters do not name the member that is called, {own}"));
        }
        let node = self.member.replica().node();
        let log_is_blank = node.last().index.0 == 0;
        if log_is_blank && node.term().0 > 0 {
            return Err("this member has voted in its group already, and waits for its log; \
                        nothing was changed"
                .to_owned());
        }
        match self.directory.cluster_id() {
            Some(known) if known != bootstrap.cluster => {
                return Err(format!(
                    "this member belongs to cluster {known:032x}, not {:032x}; nothing was changed",
                    bootstrap.cluster
                ));
            }
            Some(_) if !log_is_blank => return same_start(node, bootstrap),
            _ => self.learn_cluster(bootstrap.cluster)?,
        }
        let Bootstrap { configuration, start, .. } = bootstrap.clone();
        let event = ReplicaEvent::Bootstrap(configuration, start);
        self.member.handle(clock::now(), Event::Replica(event), actions);
        Ok(())
    }

    /// Answers those who founded the group, once its first entry is durable here.
    fn founded(&mut self) {
        if self.member.replica().node().durable().0 == 0 {
            return;
        }
        for sender in self.founders.drain(..) {
            drop(sender.send(Ok(()))); // Whoever asked may be gone by now.
        }
    }

    fn learn_cluster(&mut self, cluster: u128) -> Result<(), String> {
        self.directory.set_cluster_id(cluster).map_err(not_stored)?;
        self.peers.set_cluster(cluster);
        Ok(())
    }

    fn carry_out(&mut self, actions: &mut Vec<Action>) {
        let mut more = Vec::new();
        for action in actions.drain(..) {
            match action {
                Action::Send(to, message) => {
                    if matches!(message, PeerMessage::Heartbeat(_)) {
                        self.metrics.heartbeats.add_one();
                    }
                    self.peers.send(to, message);
                }
                Action::Tell(call, told) => {
                    if !self.calls.tell(call, told) {
                        self.member.handle(clock::now(), Event::Gone(call), &mut more);
                    }
                }
                Action::Finish(call, end) => self.calls.finish(call, end),
                Action::Relay(id, relayed) => self.relay(id, relayed, &mut more),
                Action::Configuration(configuration) => self.dial(&configuration),
                Action::Changed(request, outcome) => {
                    if let Some(sender) = self.changes.remove(&request) {
                        let _ = sender.send(outcome); // Whoever asked may be gone by now.
                    }
                }
                Action::Ignored(from, why) => self.metrics.peer_ignored(from, why),
                Action::Quarantine { member, holds, acknowledged } => {
                    self.peers.quarantine(member, holds, acknowledged);
                }
            }
        }
        actions.append(&mut more);
    }

    /// One that does not read is cut: it goes on at another member, or here, from what it has.
    fn relay(&mut self, id: RelayId, relayed: Relayed, more: &mut Vec<Action>) {
        let Some(words) = self.relays.get(&id) else { return };
        if !words.put(relayed) {
            self.relays.remove(&id);
            self.member.handle(clock::now(), Event::Relay(id, Said::Ended), more);
        }
    }

    fn dial(&self, configuration: &Configuration) {
        let members = configuration.members().map(|(id, name)| (id, name.to_owned())).collect();
        self.peers.configuration(members);
    }

    fn measure(&mut self) {
        for stage in self.member.replica_mut().stages_mut().drain() {
            match stage {
                Stage::Durable(nanos) => self.metrics.durable.observe_nanos(nanos),
                Stage::Applied(nanos) => self.metrics.applied.observe_nanos(nanos),
            }
        }
    }

    fn status(&self) -> StatusView {
        StatusView::of(&self.member, &self.directory, self.draining)
    }
}

/// The same call again is answered the same; another one is refused. After a compaction entry 1 is
/// not there to compare with, and the cluster's id alone decides.
fn same_start(node: &Node, bootstrap: &Bootstrap) -> Result<(), String> {
    let Some(first) = node.entry(Index(1)) else { return Ok(()) };
    let mut payload = bootstrap.configuration.encode();
    payload.extend_from_slice(&bootstrap.start.encode());
    if first.payload() == payload {
        return Ok(());
    }
    Err("this member's log begins with other voters or another start; nothing was changed"
        .to_owned())
}

/// Ends the process: a write or sync failed. It is never tried again, for what it left on the disk
/// is not known any more.
fn give_up(why: &str) -> ! {
    lines::say(format!("quorate-sidecar: {why}; exiting"));
    lines::drain(lines::LAST_WORDS);
    std::process::exit(74);
}

/// Why something about this member's directory is not stored, which may be tried again: there was
/// no room, or it is refused. Anything else ends the process.
pub fn not_stored(error: OpenError) -> String {
    if error.is_failure() {
        give_up(&error.to_string());
    }
    error.to_string()
}

/// Disk completions go to the inbox.
#[must_use]
pub fn completion_sink(inbox: &Inbox) -> Box<dyn FnMut(Completion) + Send> {
    let inbox = inbox.clone();
    Box::new(move |completion| inbox.push(Work::Completion(completion)))
}
