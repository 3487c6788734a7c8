//! What the probes see.
//!
//! Started: the log is read, whatever was found, and the sockets are open. Live: the driver
//! answers. Ready: this process has caught up once; by choice, a leader is known now, too.

use crate::agent::{ConnectionId, Query, Request};
use crate::api::Node;
use crate::clock;
use crate::config::Readiness;
use crate::driver::{Inbox, StatusView};
use crate::http::Health;
use crate::metrics::Metrics;
use crate::peer::Peers;
use quorate_raft::RoleName;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The driver turns at least this often while somebody asks.
const STUCK_NS: u64 = 10_000_000_000;
/// How often a member that is not caught up looks whether it can be.
const LOOK: Duration = Duration::from_millis(50);
/// A probe waits so long for the driver.
const ASK_MAX: Duration = Duration::from_millis(500);

/// See the module.
pub struct HealthView {
    inbox: Inbox,
    /// None: there are none, this is an attached sidecar.
    peers: Option<Peers>,
    metrics: Arc<Metrics>,
    node: Arc<Node>,
    readiness: Readiness,
    /// Since when the driver owes an answer, boottime in ns; 0: it does not.
    asked: Arc<AtomicU64>,
}

impl HealthView {
    /// The view of a member, which from now on tries to learn when it has caught up.
    pub fn new(
        (inbox, peers): (Inbox, Option<Peers>),
        metrics: &Arc<Metrics>,
        node: &Arc<Node>,
        readiness: Readiness,
    ) -> Arc<HealthView> {
        tokio::spawn(latch(inbox.clone(), Arc::clone(node)));
        let (metrics, node) = (Arc::clone(metrics), Arc::clone(node));
        Arc::new(HealthView { inbox, peers, metrics, node, readiness, asked: Arc::default() })
    }
}

/// Looks until this member has caught up, then never again: an idle member is not woken by it.
async fn latch(inbox: Inbox, node: Arc<Node>) {
    while let Some(status) = inbox.status().await {
        let is_member = status.attached || status.configuration.contains(status.member);
        if status.leader.is_some() && is_member && has_applied(&inbox).await {
            node.caught_up.store(true, Ordering::Release);
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether this member has applied all that was committed when a leader was asked: what is known
/// here of the commit may be from before the last start.
async fn has_applied(inbox: &Inbox) -> bool {
    let read = Request::Read(Query::Name(String::new()));
    let Ok((_, mut items)) = inbox.call(ConnectionId(0), read) else { return false };
    matches!(items.recv().await, Some(Ok(_)))
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

    async fn ready(&self) -> Result<(), &'static str> {
        if !self.node.caught_up.load(Ordering::Acquire) {
            return Err("not caught up yet");
        }
        if self.readiness == Readiness::Latched {
            return Ok(());
        }
        let status = tokio::time::timeout(ASK_MAX, self.inbox.status()).await;
        let Ok(Some(status)) = status else { return Err("the driver does not answer") };
        // A leader without a majority gives up, and is forgotten where it is not heard.
        status.leader.map(|_| ()).ok_or("no leader is known")
    }

    async fn refresh(&self) {
        let Some(view) = self.inbox.status().await else { return };
        show(&self.metrics, &view, &self.inbox);
        let peers = self.peers.as_ref().map(Peers::connected).unwrap_or_default();
        let connected = peers.iter().filter(|peer| peer.outbound).count();
        self.metrics.shown.peers_connected.set(count(connected));
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn show(metrics: &Metrics, view: &StatusView, inbox: &Inbox) {
    let shown = &metrics.shown;
    shown.flushes_total.set(view.flushes);
    shown.log_written_bytes_total.set(view.written_bytes);
    shown.elections_total.set(view.counts.elections);
    shown.leader_changes_total.set(view.counts.leader_changes);
    shown.snapshots_built_total.set(view.counts.snapshots_built);
    shown.snapshots_installed_total.set(view.counts.snapshots_installed);
    shown.sessions_expired_total.set(view.counts.expired);
    shown.refused_full_total.set(view.counts.refused_full);
    shown.inbox_dropped_total.set(inbox.dropped());
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
    shown.draining.set(u64::from(view.draining));
}
