//! Where the outer parts hand over: peers, clients' connections and probes, into the driver's
//! inbox.

use crate::agent::ConnectionId;
use crate::clock;
use crate::driver::{Inbox, StatusView, Work};
use crate::frame::PeerMessage;
use crate::http::Health;
use crate::local_socket::ConnectionSink;
use crate::member::Event;
use crate::metrics::Metrics;
use crate::peer::{PeerSink, Peers};
use crate::replica::Event as ReplicaEvent;
use crate::tls::{Report, Tls};
use crate::transport::PeerInfo;
use quorate_raft::{MemberId, RoleName};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tonic::{Request, Status};

/// A blank member's disk takes this long, at most, to remember its cluster.
const LEARN_MAX: Duration = Duration::from_secs(10);
/// The driver turns at least this often while somebody asks.
const STUCK_NS: u64 = 10_000_000_000;

/// What peers say goes to the driver.
pub struct Sink {
    inbox: Inbox,
    report: Report,
}

impl Sink {
    pub fn new(inbox: Inbox, report: Report) -> Sink {
        Sink { inbox, report }
    }
}

impl PeerSink for Sink {
    fn received(&self, from: MemberId, message: PeerMessage) {
        // Dropped when too many wait: every message is sent again by its sender.
        let _ = self.inbox.peer(from, message);
    }

    fn lost(&self, peer: MemberId) {
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::PeerLost(peer))));
    }

    fn restarted(&self, peer: MemberId) {
        self.inbox.push(Work::Event(Event::Replica(ReplicaEvent::PeerRestarted(peer))));
    }

    fn cluster_learned(&self, cluster: u128) -> bool {
        let (sender, receiver) = mpsc::channel();
        self.inbox.push(Work::LearnCluster(cluster, sender));
        receiver.recv_timeout(LEARN_MAX).unwrap_or(false)
    }

    fn name_learned(&self, _peer: MemberId, _name: &str) {
        // Names come from the configuration; until there is one, the transport keeps them itself.
    }

    fn reported(&self, line: String) {
        (self.report)(line);
    }
}

/// How clients' connections end goes to the driver.
pub struct ClientSink {
    inbox: Inbox,
}

impl ClientSink {
    pub fn new(inbox: Inbox) -> ClientSink {
        ClientSink { inbox }
    }
}

impl ConnectionSink for ClientSink {
    fn ended(&self, connection: ConnectionId, by_peer: bool) {
        self.inbox.client(Event::ConnectionEnded { connection, by_peer });
    }

    fn process_dead(&self, connection: ConnectionId) {
        self.inbox.client(Event::ProcessDead(connection));
    }
}

/// What the probes see.
pub struct HealthView {
    inbox: Inbox,
    peers: Peers,
    metrics: Arc<Metrics>,
    /// Since when the driver owes an answer, boottime in ns; 0: it does not.
    asked: Arc<AtomicU64>,
    /// Latched: true once this member was caught up, until the process ends.
    ready: AtomicBool,
}

impl HealthView {
    pub fn new(inbox: Inbox, peers: Peers, metrics: &Arc<Metrics>) -> Arc<HealthView> {
        let view = Arc::new(HealthView {
            inbox,
            peers,
            metrics: Arc::clone(metrics),
            asked: Arc::default(),
            ready: AtomicBool::new(false),
        });
        tokio::spawn(latch(Arc::clone(&view)));
        view
    }

    async fn look(&self) -> Option<StatusView> {
        self.inbox.status().await
    }
}

/// Looks until this member is caught up, then never again: an idle member is not woken by it.
async fn latch(view: Arc<HealthView>) {
    while let Some(status) = view.look().await {
        if status.leader.is_some() && status.applied >= status.commit && status.commit.0 > 0 {
            view.ready.store(true, Ordering::Release);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tonic::async_trait]
impl Health for HealthView {
    fn started(&self) -> Result<(), &'static str> {
        // This port is served only once the log is read and the sockets are open.
        Ok(())
    }

    fn live(&self) -> Result<(), &'static str> {
        let asked = self.asked.load(Ordering::Acquire);
        if asked == 0 {
            // Asked for the next probe to see: this one must not wait.
            self.asked.store(clock::now().0, Ordering::Release);
            let (inbox, asked) = (self.inbox.clone(), Arc::clone(&self.asked));
            tokio::spawn(async move {
                if inbox.status().await.is_some() {
                    asked.store(0, Ordering::Release);
                }
            });
        } else if clock::now().0.saturating_sub(asked) > STUCK_NS {
            return Err("the driver does not answer");
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), &'static str> {
        if self.ready.load(Ordering::Acquire) { Ok(()) } else { Err("not caught up yet") }
    }

    async fn refresh(&self) {
        let Some(view) = self.look().await else { return };
        let shown = &self.metrics.shown;
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        shown.flushes_total.set(view.flushes);
        shown.log_written_bytes_total.set(view.written_bytes);
        shown.elections_total.set(view.counts.elections);
        shown.leader_changes_total.set(view.counts.leader_changes);
        shown.snapshots_built_total.set(view.counts.snapshots_built);
        shown.snapshots_installed_total.set(view.counts.snapshots_installed);
        shown.sessions_expired_total.set(view.counts.expired);
        shown.refused_full_total.set(view.counts.refused_full);
        shown.inbox_dropped_total.set(self.inbox.dropped());
        shown.term.set(view.term.0);
        shown.is_leader.set(u64::from(view.role == RoleName::Leader));
        shown.has_leader.set(u64::from(view.leader.is_some()));
        shown.commit_index.set(view.commit.0);
        shown.applied_index.set(view.applied.0);
        shown.last_index.set(view.last.0);
        shown.durable_index.set(view.durable.0);
        shown.sessions.set(count(view.sessions));
        shown.local_sessions.set(count(view.local_sessions));
        shown.names.set(count(view.names));
        shown.calls.set(count(view.calls));
        let peers = self.peers.connected();
        shown.peers_connected.set(count(peers.iter().filter(|p| p.outbound).count()));
        shown.draining.set(u64::from(view.draining));
    }
}

/// Who may use the admin port: with certificates, an operator, an administrator or a member;
/// without, whoever reaches loopback.
pub fn admin_guard(
    tls: Option<Tls>,
    members: Vec<String>,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| {
        let Some(tls) = &tls else { return Ok(request) };
        let certificate =
            request.extensions().get::<PeerInfo>().and_then(|i| i.certificate.clone());
        let allowed =
            certificate.is_some_and(|c| tls.may_administer(&c, members.iter().map(String::as_str)));
        if allowed {
            return Ok(request);
        }
        Err(Status::permission_denied(
            "the certificate is no operator's, administrator's or member's of this cluster",
        ))
    }
}
