//! One member as a process: opens its directory, recovers, listens, serves, and ends in order.
//!
//! Everything that can be refused is refused before the first client is served: settings,
//! directory, ports. What can be wrong with settings is tried before a boot is begun: a member that
//! is started again and again with a wrong one does not use up the boots that peers know it by.
//! The order of the end: clients hear Draining, Raft leadership moves on, peers
//! hear goodbye, the log is closed.

mod attached;
mod health;
pub(crate) mod sinks;

pub use attached::run as attach;

use crate::admin::Admin;
use crate::agent::Timing;
use crate::api::{Api, MESSAGE_BYTES_MAX, Node as NodeInfo};
use crate::config::{Config, Level, Tool};
use crate::control::{self, Control};
use crate::descriptors::{self, Shares};
use crate::driver::{self, Driver, Inbox, StatusView, Work, completion_sink, unfit};
use crate::local_socket::{self, Connections, LocalListener};
use crate::maintenance::Maintenance;
use crate::member::{Event, Member};
use crate::metrics::Metrics;
use crate::peer::{Boot, PeerOptions, Peers};
use crate::reason::Failure;
use crate::relay::RelayService;
use crate::replica::Replica;
use crate::tls::{Report, Tls};
use crate::wal::{DataDir, FsDisk, FsOptions, Recovered, Unshown, Verdict, Wal};
use crate::{clock, http, lines, tool, transport};
use health::HealthView;
use quorate_proto::admin::maintenance_server::MaintenanceServer;
use quorate_proto::admin::members_server::MembersServer;
use quorate_proto::v1::elections_server::ElectionsServer;
use quorate_proto::v1::locks_server::LocksServer;
use quorate_proto::v1::sessions_server::SessionsServer;
use quorate_proto::v1::status_server::StatusServer;
use quorate_raft::Node;
use sinks::{ClientSink, Sink};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tonic::transport::Server;

/// How long another process may take to leave the data directory.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How long the Raft leader waits for a successor when it stops.
const HANDOVER_MAX: Duration = Duration::from_millis(1_500);
/// How often it looks.
const HANDOVER_LOOK: Duration = Duration::from_millis(2);
/// How long clients have to read that this sidecar is stopping.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long peers have to read the goodbye, and the log to close.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// Streams of one client connection at once.
const STREAMS_A_CONNECTION: u32 = 1_000;

/// A sentence, and the exit code that goes with it (sysexits).
#[derive(Debug)]
pub struct Failed {
    /// What was wrong, and what to do.
    pub why: String,
    /// 64 usage, 69 unavailable, 73 cannot create, 74 input or output.
    pub code: u8,
}

fn failed(code: u8, why: impl std::fmt::Display) -> Failed {
    Failed { why: why.to_string(), code }
}

/// The sockets of a member, bound.
struct Listeners {
    local: LocalListener,
    control: Option<LocalListener>,
    api: Option<TcpListener>,
    peer: TcpListener,
    admin: TcpListener,
    client: Option<TcpListener>,
    probe: TcpListener,
}

async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, Failed> {
    TcpListener::bind(address)
        .await
        .map_err(|e| failed(69, format!("{flag} {address} cannot be used: {e}")))
}

/// A file system that cannot have the socket (a full one, say) keeps no member from its group.
fn bind_control(config: &Config) -> Option<LocalListener> {
    let bound = local_socket::bind(&control::socket(&config.data_dir), control::MODE);
    let line =
        |why: &io::Error| format!("`quorate-sidecar drain` will not find this member: {why}");
    bound.inspect_err(|why| log_line(config, Level::Error, &line(why))).ok()
}

impl Listeners {
    /// Binds all of them. The caller holds the data directory, so that a socket at the path is
    /// stale.
    async fn bind(config: &Config) -> Result<Listeners, Failed> {
        let api = match config.api_listen {
            Some(address) => Some(bind("--api-port", address).await?),
            None => None,
        };
        let client = match config.client_listen {
            Some(address) => Some(bind("--client-listen", address).await?),
            None => None,
        };
        Ok(Listeners {
            local: local_socket::bind(&config.socket, config.socket_mode)
                .map_err(|e| failed(73, e))?,
            control: bind_control(config),
            api,
            peer: bind("--peer-listen", config.peer_listen).await?,
            admin: bind("--admin-listen", config.admin_listen).await?,
            client,
            probe: bind("--probe-listen", config.probe_listen).await?,
        })
    }
}

/// The parts of a member that has recovered.
struct Parts {
    config: Config,
    inbox: Inbox,
    metrics: Arc<Metrics>,
    node: Arc<NodeInfo>,
    peers: Peers,
    tls: Option<Tls>,
    shares: Shares,
    driver: Option<JoinHandle<driver::Ended>>,
}

impl Parts {
    /// Runs what takes the driver's place where there is nothing to drive. `held` is kept for as
    /// long as that runs: nobody else may open it.
    fn aside(&mut self, view: StatusView, why: Failure, held: impl Send + 'static) {
        let inbox = self.inbox.clone();
        self.driver = Some(tokio::spawn(async move {
            let _held = held;
            unfit::run(&inbox, &view, &why).await;
            driver::Ended::Stopped
        }));
    }
}

/// Why a member ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody asked for it.
    Asked,
    /// It was forced to go on alone: its directory is another group's, and it has to start anew.
    Recovered,
}

fn random_seed() -> Result<u64, Failed> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| failed(71, format!("no random bytes: {e}")))?;
    Ok(u64::from_le_bytes(seed))
}

fn log_line(config: &Config, level: Level, line: &str) {
    if level <= config.log {
        lines::say(format!("quorate-sidecar {}: {line}", config.name));
    }
}

fn report(config: &Config) -> Report {
    let config = config.clone();
    Arc::new(move |line| log_line(&config, Level::Warn, &line))
}

fn load_tls(config: &Config) -> Result<Option<Tls>, Failed> {
    let Some(files) = config.tls.clone() else { return Ok(None) };
    Tls::load(files, &config.name, &config.cluster, report(config))
        .map(Some)
        .map_err(|e| failed(64, e))
}

fn start_peers(
    config: &Config,
    (directory, unshown): (&DataDir, Unshown),
    inbox: &Inbox,
    (tls, shown): (Option<Tls>, Option<SocketAddr>),
    metrics: &Arc<Metrics>,
) -> Peers {
    let boot = |boot: &crate::wal::Boot| Boot { seq: boot.seq, bits: boot.bits };
    let options = PeerOptions {
        own: directory.member_id(),
        name: config.name.clone(),
        cluster: directory.cluster_id(),
        boot: boot(&directory.boot()),
        boots: directory.boots().iter().map(boot).collect(),
        show: Arc::new(move || unshown.show().map_err(driver::not_stored)),
        addresses: config.addresses.clone(),
        shown,
        tls,
        metrics: Arc::clone(metrics),
    };
    let sink = Arc::new(Sink::new(inbox.clone(), report(config)));
    Peers::start(options, sink, tokio::runtime::Handle::current())
}

fn recovered_member(
    config: &Config,
    directory: &DataDir,
    (wal, recovered): (Wal<FsDisk>, Recovered),
) -> Result<Member<FsDisk>, Failed> {
    let timeout = u64::try_from(config.election_timeout.as_nanos()).unwrap_or(u64::MAX);
    let raft = quorate_raft::Config::new(directory.member_id(), random_seed()?)
        .with_election_timeout(timeout);
    let node = Node::new(raft, clock::now(), recovered.restored);
    let replica = Replica::new(node, wal).map_err(|why| failed(74, why))?;
    Ok(Member::new(replica, directory.boot().bits, Timing::new(timeout)))
}

fn node_info(config: &Config, unfit: String) -> Arc<NodeInfo> {
    let (name, pod_uid) = (config.name.clone(), config.pod.uid.clone().unwrap_or_default());
    Arc::new(NodeInfo { name, unfit, pod_uid, ..NodeInfo::default() })
}

/// Recovers, and starts the driver. A damaged log, or a retired member, starts one that only
/// answers Status.
fn start(
    config: Config,
    (directory, unshown): (DataDir, Unshown),
    (tls, shown): (Option<Tls>, Option<SocketAddr>),
) -> Result<Parts, Failed> {
    let (inbox, metrics) = (Inbox::default(), Arc::new(Metrics::default()));
    let begun = (&directory, unshown);
    let peers = start_peers(&config, begun, &inbox, (tls.clone(), shown), &metrics);
    let mut parts = Parts {
        node: node_info(&config, String::new()),
        config,
        inbox,
        metrics,
        peers,
        tls,
        shares: Shares::of(descriptors::raise()),
        driver: None,
    };
    if directory.is_retired().map_err(|e| failed(74, e))? {
        log_line(&parts.config, Level::Warn, "this member is retired, nothing is voted");
        let view = StatusView::retired(&directory);
        parts.aside(view, unfit::retired(), directory);
        return Ok(parts);
    }
    open(parts, directory)
}

fn open(mut parts: Parts, mut directory: DataDir) -> Result<Parts, Failed> {
    let config = &parts.config;
    let options = FsOptions { flush_delay: config.flush_delay, ..FsOptions::default() };
    let opened = directory.open_log(options, completion_sink(&parts.inbox));
    let (wal, recovered) = opened.map_err(|e| failed(74, e))?;
    if let Verdict::Unfit { reason } = &recovered.verdict {
        let line = format!("the log is unfit, nothing is voted: {reason}");
        log_line(config, Level::Error, &line);
        parts.node = node_info(config, reason.clone());
        let view = StatusView::unfit(&directory);
        parts.aside(view, unfit::damaged(reason), (directory, wal));
        return Ok(parts);
    }
    log_line(config, Level::Info, &format!("log recovered: {:?}", recovered.verdict));
    let member = recovered_member(config, &directory, (wal, recovered))?;
    let known = member.replica().node().configuration().name(directory.member_id());
    if let Some(known) = known.filter(|known| *known != config.name) {
        let line = format!(
            "--name is {:?}, and the group knows the member of this directory as {known:?}: \
             give it that name, or it is not found",
            config.name
        );
        log_line(config, Level::Warn, &line);
    }
    let (inbox, peers) = (parts.inbox.clone(), parts.peers.clone());
    let driver = Driver::new(member, inbox, peers, directory, Arc::clone(&parts.metrics));
    parts.driver = Some(tokio::spawn(driver.run()));
    Ok(parts)
}

/// The services of the local API, with health and reflection.
fn local_router(api: &Api) -> Result<tonic::transport::server::Router, Failed> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTOR_SET)
        .build_v1()
        .map_err(|e| failed(70, e))?;
    let (_, health) = tonic_health::server::health_reporter();
    macro_rules! limited {
        ($service:ident) => {
            $service::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    Ok(Server::builder()
        .max_concurrent_streams(STREAMS_A_CONNECTION)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .add_service(limited!(SessionsServer))
        .add_service(limited!(LocksServer))
        .add_service(limited!(ElectionsServer))
        .add_service(limited!(StatusServer))
        .add_service(health)
        .add_service(reflection))
}

/// The admin port, and the control socket.
fn serve_admin(
    parts: &Parts,
    (port, control): (TcpListener, Option<LocalListener>),
    clients: &Connections,
    tasks: &mut JoinSet<()>,
) {
    let Parts { config, inbox, node, tls, shares, .. } = parts;
    let admin = Admin::new(inbox.clone(), Arc::clone(node), parts.peers.clone());
    if let Some(listener) = control {
        let service = MembersServer::new(Control::new(admin.clone()));
        let incoming = clients.unix(listener);
        tasks.spawn(async move {
            // Ends with its task; an error of one connection is that connection's.
            let _ = Server::builder().add_service(service).serve_with_incoming(incoming).await;
        });
    }
    let names: Vec<String> = config.addresses.named.keys().cloned().collect();
    let guard = sinks::admin_guard(tls.clone(), names, node.pod_uid.clone());
    let maintenance = Maintenance::new(inbox.clone());
    let maintenance = MaintenanceServer::with_interceptor(maintenance, guard.clone());
    let admin = MembersServer::with_interceptor(admin, guard);
    let incoming = transport::incoming((port, shares.peers), tls.clone(), report(config));
    tasks.spawn(async move {
        let server = Server::builder().add_service(admin).add_service(maintenance);
        let _ = server.serve_with_incoming(incoming).await; // As above.
    });
}

/// The port for attached sidecars, which there is only with TLS.
fn serve_relay(parts: &Parts, listener: Option<TcpListener>, tasks: &mut JoinSet<()>) {
    let (Some(listener), Some(tls)) = (listener, parts.tls.clone()) else { return };
    let Parts { config, inbox, shares, .. } = parts;
    let own = (config.name.as_str(), config.election_timeout);
    let service = RelayService::new(inbox.clone(), tls.clone(), own, report(config));
    let incoming = transport::incoming((listener, shares.peers), Some(tls), report(config));
    tasks.spawn(async move {
        let _ = service.serve(incoming).await; // As above.
    });
}

fn serve(
    parts: &Parts,
    listeners: Listeners,
    clients: &Connections,
) -> Result<JoinSet<()>, Failed> {
    let mut tasks = JoinSet::new();
    let api = Api::new(parts.inbox.clone(), Arc::clone(&parts.node));
    let incoming = clients.unix(listeners.local);
    let router = local_router(&api)?;
    tasks.spawn(async move {
        // Ends with its task; an error of one connection is that connection's.
        let _ = router.serve_with_incoming(incoming).await;
    });
    if let Some(listener) = listeners.api {
        let (incoming, router) = (clients.tcp(listener), local_router(&api)?);
        tasks.spawn(async move {
            let _ = router.serve_with_incoming(incoming).await; // As above.
        });
    }
    let tls = parts.tls.clone();
    let port = (listeners.peer, parts.shares.peers);
    let incoming = transport::incoming(port, tls.clone(), report(&parts.config));
    let peers = parts.peers.clone();
    tasks.spawn(async move {
        let _ = peers.serve(incoming).await; // As above.
    });
    serve_admin(parts, (listeners.admin, listeners.control), clients, &mut tasks);
    serve_relay(parts, listeners.client, &mut tasks);
    let (inbox, peers) = (parts.inbox.clone(), Some(parts.peers.clone()));
    let readiness = parts.config.pod.readiness;
    let health = HealthView::new((inbox, peers), &parts.metrics, &parts.node, readiness);
    let (metrics, port) = (Arc::clone(&parts.metrics), (listeners.probe, parts.shares.probes));
    tasks.spawn(async move {
        let _ = http::serve(port, metrics, health).await; // As above.
    });
    Ok(tasks)
}

/// Waits for SIGTERM or SIGINT.
async fn asked_to_end() -> io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// Ends in order; at most some three seconds.
async fn end(parts: Parts, mut tasks: JoinSet<()>, clients: &Connections) {
    // Whoever leaves from here on does so because we say so.
    clients.draining();
    parts.inbox.client(Event::Drain);
    let until = Instant::now() + HANDOVER_MAX;
    while let Some(view) = parts.inbox.status().await {
        if view.leader != Some(view.member) || Instant::now() >= until {
            break;
        }
        tokio::time::sleep(HANDOVER_LOOK).await;
    }
    tokio::time::sleep(FAREWELL).await;
    parts.peers.goodbye();
    parts.peers.closed(CLOSE_MAX).await;
    parts.inbox.push(Work::Stop);
    // Late is late: what was acknowledged is on the disk already.
    if let Some(driver) = parts.driver {
        let _ = timeout(CLOSE_MAX, driver).await;
    }
    tasks.abort_all();
}

/// Ends a member whose driver is over. The answer to whoever forced it leaves first.
async fn end_recovered(parts: &Parts, mut tasks: JoinSet<()>) {
    tokio::time::sleep(FAREWELL).await;
    parts.peers.closed(CLOSE_MAX).await;
    tasks.abort_all();
}

/// The end of the driver.
async fn over(driver: &mut Option<JoinHandle<driver::Ended>>) -> driver::Ended {
    match driver {
        // A driver that panicked has ended the process.
        Some(driver) => driver.await.unwrap_or(driver::Ended::Stopped),
        None => std::future::pending().await,
    }
}

/// Has other containers of the pod find the program `quorate`. They go on without it, too.
async fn place_tool(tool: Option<Tool>, log: impl Fn(Level, &str)) {
    let Some(tool) = tool else { return };
    let placed = tokio::task::spawn_blocking(move || tool::place(&tool)).await;
    match placed.unwrap_or_else(|why| Err(io::Error::other(why))) {
        Ok(path) => log(Level::Info, &format!("{} is ready to run", path.display())),
        Err(why) => log(Level::Error, &format!("no `quorate` for others: {why}")),
    }
}

/// Runs a member until it is asked to end.
///
/// # Errors
/// What kept it from starting.
pub async fn run(config: Config) -> Result<Ended, Failed> {
    place_tool(config.pod.tool.clone(), |level, line| log_line(&config, level, line)).await;
    let path = config.data_dir.clone();
    let held = tokio::task::spawn_blocking(move || DataDir::hold(&path, LOCK_WAIT));
    let held = held.await.map_err(|e| failed(70, e))?.map_err(|e| failed(73, e))?;
    let listeners = Listeners::bind(&config).await?;
    let tls = load_tls(&config)?;
    let begun = tokio::task::spawn_blocking(move || held.begin());
    let begun = begun.await.map_err(|e| failed(70, e))?.map_err(|e| failed(73, e))?;
    let port = listeners.peer.local_addr().map_err(|e| failed(71, e))?.port();
    let shown = config.pod.ip.map(|ip| SocketAddr::new(ip, port));
    let mut parts = start(config, begun, (tls, shown))?;
    let sink = Arc::new(ClientSink::new(parts.inbox.clone()));
    let clients = Connections::new(parts.shares, sink);
    let tasks = serve(&parts, listeners, &clients)?;
    let config = parts.config.clone();
    log_line(&config, Level::Info, &format!("listening on {}", config.socket.display()));
    tokio::select! {
        asked = asked_to_end() => asked.map_err(|e| failed(71, e))?,
        ended = over(&mut parts.driver) => {
            parts.driver = None;
            if ended == driver::Ended::Recovered {
                log_line(&config, Level::Warn, "forced to go on alone: starting anew");
                end_recovered(&parts, tasks).await;
                return Ok(Ended::Recovered);
            }
        }
    }
    log_line(&config, Level::Info, "asked to end");
    end(parts, tasks, &clients).await;
    Ok(Ended::Asked)
}
