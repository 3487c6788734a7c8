//! The transport between members: who they are, and bounded streams to and from them.
//!
//! Each member dials each other one and sends on the stream that it dialled; the acceptor answers
//! with its own hello and nothing else. [`Peers::send`] never blocks and promises nothing: Raft and
//! the agent send again. The end of a peer's stream without a goodbye is told at once
//! ([`PeerSink::lost`]): a hint that its process died.
//!
//! Invariants: no message is taken from, or sent to, anyone who did not prove cluster, name and
//! member; nothing from an older boot once a newer one was seen; no hello leaves before the disk
//! knows that the present boot is shown; of one peer at most one stream is heard; memory is bounded
//! a peer.
//!
//! What must not be here: consensus. A message's meaning is the replica's business.

mod address;
mod client;
pub mod convert;
pub mod known;
mod outbox;
mod server;

pub use address::Addresses;
pub(crate) use address::can_be_dialled;
pub use known::Boot;
pub use server::PeerService;

use crate::frame::PeerMessage;
use crate::metrics::Metrics;
use crate::tls::Tls;
use crate::transport::Wire;
use client::Link;
use convert::Greeting;
use known::{Known, Met, Refusal};
use quorate_proto::peer::peer_server::PeerServer;
use quorate_raft::{Index, MemberId};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio_stream::Stream;
use tonic::transport::Server;

/// Bytes of one frame from a peer, at most. Senders stay below 1 MiB and one entry.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the one frame that an acceptor answers.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// An introduction that takes longer ends the stream.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// The same line of the log comes back no sooner.
const REPORT_AGAIN: Duration = Duration::from_secs(10);
/// Different lines within that time.
const REPORTS_MAX: usize = 64;
/// A stream may carry so much before the reader's word; a snapshot's part and a full window of
/// entries fit.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Larger HTTP/2 frames than the usual 16 KiB: fewer of them for a batch of entries.
const HTTP2_FRAME_BYTES: u32 = 256 * 1024;
/// A peer opens one stream a connection.
pub(crate) const STREAMS_A_CONNECTION: u32 = 4;

/// Makes durable that peers may know the present boot. May wait for the disk.
pub type Show = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a member says of itself, and whom it may dial.
#[derive(Clone)]
pub struct PeerOptions {
    /// This member.
    pub own: MemberId,
    /// Its name.
    pub name: String,
    /// Its cluster; none while it is blank.
    pub cluster: Option<u128>,
    /// The present boot, durable.
    pub boot: Boot,
    /// The boots that the identity file keeps, oldest first; the present one is added if it is not
    /// there.
    pub boots: Vec<Boot>,
    /// Called before the first hello leaves, and again for the next one if it fails: it fails only
    /// if that may be.
    pub show: Show,
    /// Where members are.
    pub addresses: Addresses,
    /// What peers are told to dial before they ask the DNS.
    pub shown: Option<SocketAddr>,
    /// Mutual TLS; none: plain connections.
    pub tls: Option<Tls>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// Whoever hears what peers say. Called on the thread of the sockets: nothing here may block, but
/// for [`PeerSink::cluster_learned`].
pub trait PeerSink: Send + Sync + 'static {
    /// A message from a member that proved who it is.
    fn received(&self, from: MemberId, message: PeerMessage);
    /// The stream from this member ended without a goodbye, and no newer one is up.
    fn lost(&self, peer: MemberId);
    /// A newer process of this member was met; nothing of it was told yet.
    fn restarted(&self, peer: MemberId);
    /// This blank member was called by its id in the name of this cluster. True once that is
    /// durable. May wait for the disk.
    fn cluster_learned(&self, cluster: u128) -> bool;
    /// One line for the log.
    fn reported(&self, line: String);
}

/// One peer, for status and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Who.
    pub member: MemberId,
    /// Its name; empty if it only dialled us and said goodbye.
    pub name: String,
    /// Whether what we send can arrive.
    pub outbound: bool,
    /// Whether what it sends can arrive.
    pub inbound: bool,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Own {
    id: MemberId,
    name: String,
    boot: Boot,
    boots: Vec<Boot>,
    address: Option<SocketAddr>,
}

/// What the tasks share.
struct Shared {
    own: Own,
    show: Show,
    shown: OnceCell<()>,
    addresses: Addresses,
    tls: Option<Tls>,
    metrics: Arc<Metrics>,
    sink: Arc<dyn PeerSink>,
    handle: Handle,
    cluster: watch::Sender<Option<u128>>,
    /// Tasks of links that run.
    tasks: watch::Sender<usize>,
    next: AtomicU64,
    state: Mutex<State>,
    reports: Mutex<BTreeMap<String, Instant>>,
}

#[derive(Default)]
struct State {
    links: BTreeMap<MemberId, Arc<Link>>,
    configured: BTreeMap<MemberId, String>,
    inbound: BTreeMap<MemberId, Inbound>,
    /// Where peers said that they are.
    shown: BTreeMap<MemberId, SocketAddr>,
    known: Known,
    closing: bool,
}

impl State {
    fn meet(&mut self, peer: MemberId, boot: Boot, boots: &[Boot]) -> Result<Met, Refusal> {
        let State { known, links, configured, inbound, .. } = self;
        known.meet(peer, boot, boots, |peer| is_in_use(peer, configured, inbound, links))
    }

    /// A peer that proved who it is says where it is, or nothing of that.
    fn learn_address(&mut self, peer: MemberId, address: Option<SocketAddr>) {
        match address {
            Some(address) => self.shown.insert(peer, address),
            None => self.shown.remove(&peer),
        };
    }

    fn quarantine(&mut self, peer: MemberId, holds: Index, acknowledged: Index) {
        let State { known, links, configured, inbound, .. } = self;
        let in_use = |peer| is_in_use(peer, configured, inbound, links);
        known.quarantine(peer, (holds, acknowledged), in_use);
    }
}

/// Whether a peer is configured or connected.
fn is_in_use(
    peer: MemberId,
    configured: &BTreeMap<MemberId, String>,
    inbound: &BTreeMap<MemberId, Inbound>,
    links: &BTreeMap<MemberId, Arc<Link>>,
) -> bool {
    let dialled = links.get(&peer).is_some_and(|link| link.connected.load(Ordering::Relaxed));
    dialled || configured.contains_key(&peer) || inbound.contains_key(&peer)
}

/// The stream that is heard of one peer.
struct Inbound {
    number: u64,
    name: String,
    /// Dropped or used: the stream ends.
    replaced: oneshot::Sender<()>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peers of {}", self.shared.own.name)
    }
}

impl Peers {
    /// The transport of one member. Its tasks run on `handle`.
    #[must_use]
    pub fn start(options: PeerOptions, sink: Arc<dyn PeerSink>, handle: Handle) -> Peers {
        let PeerOptions { own, name, cluster, boot, mut boots, .. } = options;
        let PeerOptions { show, addresses, shown: address, tls, metrics, .. } = options;
        if boots.last() != Some(&boot) {
            boots.push(boot);
        }
        boots.drain(..boots.len().saturating_sub(known::BOOTS_MAX));
        let shared = Shared {
            own: Own { id: own, name, boot, boots, address },
            show,
            shown: OnceCell::new(),
            addresses,
            tls,
            metrics,
            sink,
            handle,
            cluster: watch::Sender::new(cluster),
            tasks: watch::Sender::new(0),
            next: AtomicU64::new(1),
            state: Mutex::default(),
            reports: Mutex::default(),
        };
        Peers { shared: Arc::new(shared) }
    }

    /// Sends a message, or drops it: the peer is away or unknown, or too much waits for it. Never
    /// blocks; from any thread.
    pub fn send(&self, to: MemberId, message: PeerMessage) {
        let link = self.shared.lock().links.get(&to).map(Arc::clone);
        match link {
            Some(link) => link.outbox.push(message),
            None => self.shared.metrics.peer_dropped.add_one(),
        }
    }

    /// The membership: whom to dial. This member itself may be among them. Peers that are not, and
    /// do not dial us either, are left with a goodbye.
    pub fn configuration(&self, members: Vec<(MemberId, String)>) {
        let own = self.shared.own.id;
        let mut state = self.shared.lock();
        state.configured = members.into_iter().filter(|(id, _)| *id != own).collect();
        let wanted = state.configured.clone();
        for (member, name) in &wanted {
            self.shared.link(&mut state, *member, name);
        }
        let State { links, inbound, shown, .. } = &mut *state;
        shown.retain(|member, _| wanted.contains_key(member) || inbound.contains_key(member));
        links.retain(|member, link| {
            let keep = wanted.contains_key(member) || inbound.contains_key(member);
            if !keep {
                link.end();
            }
            keep
        });
    }

    /// Somebody who may knows where a member is. What it says itself counts more, and comes later.
    pub fn told_address(&self, member: MemberId, address: SocketAddr) {
        self.shared.lock().shown.entry(member).or_insert(address);
    }

    /// Somebody who may sees where a member is now. One that is not connected is dialled there at
    /// once: what it said of itself was before.
    pub fn found_at(&self, member: MemberId, address: SocketAddr) {
        let mut state = self.shared.lock();
        let Some(name) = state.configured.get(&member).cloned() else { return };
        let connected = |link: &Arc<Link>| link.connected.load(Ordering::Relaxed);
        let settled = state.links.get(&member).is_some_and(connected);
        if settled || state.shown.insert(member, address) == Some(address) {
            return;
        }
        self.shared.dial_now(&mut state, member, &name);
    }

    /// This member belongs to this cluster now.
    pub fn set_cluster(&self, cluster: u128) {
        self.shared.set_cluster(cluster);
    }

    /// Hears this member no more, nor any later process of it: its log lost entries that it had
    /// acknowledged.
    pub fn quarantine(&self, member: MemberId, holds: Index, acknowledged: Index) {
        let mut state = self.shared.lock();
        state.quarantine(member, holds, acknowledged);
        // Dropping the entry ends the stream that is heard.
        let name = state.inbound.remove(&member).map(|inbound| inbound.name).unwrap_or_default();
        drop(state);
        let why = Refusal::Lost { holds, acknowledged };
        self.shared.report(format!("member {member} {name:?} is in quarantine: {why}"));
    }

    /// A planned end: every peer is sent what waits for it, then a goodbye; nothing is dialled or
    /// sent any more.
    pub fn goodbye(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        for link in std::mem::take(&mut state.links).into_values() {
            link.end();
        }
    }

    /// Waits, after [`Peers::goodbye`], until all of it left; at most `limit`.
    pub async fn closed(&self, limit: Duration) {
        let mut tasks = self.shared.tasks.subscribe();
        // Late is late: the peers then see a broken stream.
        let _ = tokio::time::timeout(limit, tasks.wait_for(|tasks| *tasks == 0)).await;
    }

    /// Every peer that is dialled or heard.
    #[must_use]
    pub fn connected(&self) -> Vec<PeerState> {
        let state = self.shared.lock();
        let mut peers: BTreeMap<MemberId, PeerState> = BTreeMap::new();
        for (member, link) in &state.links {
            let (name, outbound) = (link.name.clone(), link.connected.load(Ordering::Relaxed));
            peers.insert(*member, PeerState { member: *member, name, outbound, inbound: false });
        }
        for (member, inbound) in &state.inbound {
            let name = inbound.name.clone();
            let fresh = PeerState { member: *member, name, outbound: false, inbound: true };
            peers.entry(*member).or_insert(fresh).inbound = true;
        }
        peers.into_values().collect()
    }

    /// The service of the peer port, for a server of one's own; [`Peers::serve`] is the usual way.
    #[must_use]
    pub fn service(&self) -> PeerServer<PeerService> {
        PeerServer::new(PeerService::new(Arc::clone(&self.shared)))
            .max_decoding_message_size(FRAME_BYTES_MAX)
    }

    /// Serves the peer port on connections of [`crate::transport::incoming`]. Ends only when they
    /// do; peers stay connected for as long as they like, so a stopping process drops this.
    ///
    /// # Errors
    /// The transport's.
    pub async fn serve(
        &self,
        incoming: impl Stream<Item = io::Result<Wire>>,
    ) -> Result<(), tonic::transport::Error> {
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .max_concurrent_streams(STREAMS_A_CONNECTION)
            .serve_with_incoming(self.service(), incoming)
            .await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of ours ends the process; peers cannot cause one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn cluster(&self) -> Option<u128> {
        *self.cluster.borrow()
    }

    fn set_cluster(&self, cluster: u128) {
        self.cluster.send_if_modified(|known| {
            let first = known.is_none();
            *known = Some(known.unwrap_or(cluster));
            first
        });
    }

    async fn cluster_known(&self) {
        // The sender lives as long as `self`.
        let _ = self.cluster.subscribe().wait_for(Option::is_some).await;
    }

    /// Before a hello: the disk knows afterwards that the present boot is shown.
    async fn boot_shown(&self) -> Result<(), String> {
        let first = || async {
            let show = Arc::clone(&self.show);
            let shown = tokio::task::spawn_blocking(move || show()).await;
            shown.unwrap_or_else(|error| Err(error.to_string()))
        };
        let shown = self.shown.get_or_try_init(first).await;
        shown.map(|_| ()).map_err(|why| format!("this member cannot say who it is: {why}"))
    }

    fn greeting(&self, to: Option<MemberId>) -> Greeting {
        let Own { id, name, boot, boots, address } = &self.own;
        let (boots, name, address) = (boots.clone(), name.clone(), *address);
        Greeting { cluster: self.cluster(), from: *id, to, boot: *boot, boots, name, address }
    }

    fn meet(&self, peer: MemberId, boot: Boot, boots: &[Boot]) -> Result<(), Refusal> {
        let met = self.lock().meet(peer, boot, boots)?;
        if met == Met::Restarted {
            self.sink.restarted(peer);
        }
        Ok(())
    }

    /// Makes sure that a task dials this peer.
    fn link(self: &Arc<Self>, state: &mut State, member: MemberId, name: &str) {
        if state.closing || state.links.get(&member).is_some_and(|link| link.name == name) {
            return;
        }
        let shown = state.shown.get(&member).copied();
        if self.addresses.to_dial(name, shown).is_empty() {
            self.report(format!(
                "neither --peer nor --peer-domain gives the address of {name:?}: it is not dialled"
            ));
            return;
        }
        let link = Arc::new(Link::new(self, member, name));
        if let Some(old) = state.links.insert(member, Arc::clone(&link)) {
            old.end();
        }
        self.tasks.send_modify(|tasks| *tasks += 1);
        let shared = Arc::clone(self);
        self.handle.spawn(async move {
            client::run(Arc::clone(&shared), link).await;
            shared.tasks.send_modify(|tasks| *tasks -= 1);
        });
    }

    /// Makes sure that a task dials this peer, and that it does not pause before it does.
    fn dial_now(self: &Arc<Self>, state: &mut State, member: MemberId, name: &str) {
        self.link(state, member, name);
        if let Some(link) = state.links.get(&member) {
            link.poke.notify_one();
        }
    }

    /// Where a peer said that it is.
    fn shown(&self, member: MemberId) -> Option<SocketAddr> {
        self.lock().shown.get(&member).copied()
    }

    /// If the peer said that it is there, that is forgotten.
    fn forget_address(&self, member: MemberId, address: &str) {
        let mut state = self.lock();
        if state.shown.get(&member).is_some_and(|shown| shown.to_string() == address) {
            state.shown.remove(&member);
        }
    }

    /// A peer is admitted: its earlier stream ends, and it is dialled back at once. Unless a newer
    /// boot of it was met while this one waited for the disk.
    fn inbound_began(
        self: &Arc<Self>,
        greeting: &Greeting,
    ) -> Result<(u64, oneshot::Receiver<()>), Refusal> {
        let (member, name) = (greeting.from, greeting.name.clone());
        let (replaced, sign) = oneshot::channel();
        let number = self.number();
        let mut state = self.lock();
        let met = state.meet(member, greeting.boot, &greeting.boots)?;
        state.learn_address(member, greeting.address);
        // Dropping the former entry is the sign.
        state.inbound.insert(member, Inbound { number, name: name.clone(), replaced });
        self.dial_now(&mut state, member, &name);
        drop(state);
        if met == Met::Restarted {
            self.sink.restarted(member);
        }
        Ok((number, sign))
    }

    /// Whether the stream that ended was the one that is heard.
    fn inbound_ended(&self, member: MemberId, number: u64) -> bool {
        let mut state = self.lock();
        if state.inbound.get(&member).is_none_or(|inbound| inbound.number != number) {
            return false;
        }
        if let Some(inbound) = state.inbound.remove(&member) {
            // Its own task is ending already.
            drop(inbound.replaced);
        }
        if !state.configured.contains_key(&member) {
            state.shown.remove(&member);
            if let Some(link) = state.links.remove(&member) {
                link.end();
            }
        }
        true
    }

    /// One line for the log; the same one not again for a while.
    fn report(&self, line: String) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.retain(|_, since| since.elapsed() < REPORT_AGAIN);
        if reports.len() >= REPORTS_MAX || reports.contains_key(&line) {
            return;
        }
        reports.insert(line.clone(), Instant::now());
        drop(reports);
        self.sink.reported(line);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
