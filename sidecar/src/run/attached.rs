//! An attached sidecar as a process: listens, finds a relay, serves, and ends in order. It keeps
//! nothing on the disk.

use super::health::HealthView;
use super::sinks::ClientSink;
use super::{
    Ended, FAREWELL, Failed, asked_to_end, bind, failed, local_router, place_tool, random_seed,
};
use crate::api::{Api, Node as NodeInfo};
use crate::attach::link::Links;
use crate::config::{AttachConfig, Level, Readiness};
use crate::descriptors::{self, Shares};
use crate::driver::attached::{AttachedDriver, Ended as DriverEnded};
use crate::driver::{Inbox, Work};
use crate::http;
use crate::lines;
use crate::local_socket::{self, Connections, LocalListener};
use crate::member::Event;
use crate::metrics::Metrics;
use crate::tls::{CLIENT, Report, Tls};
use quorate_locks::Attachment;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// What is taken for the group's election timeout until a member says it.
const ELECTION_TIMEOUT_NS: u64 = 800_000_000;
/// How long the driver has to end.
const END_MAX: Duration = Duration::from_secs(1);

/// The sockets, bound.
struct Listeners {
    local: LocalListener,
    api: Option<TcpListener>,
    probe: TcpListener,
}

fn log_line(config: &AttachConfig, level: Level, line: &str) {
    if level <= config.log {
        lines::say(format!("quorate-sidecar {}: {line}", config.name));
    }
}

fn report(config: &AttachConfig) -> Report {
    let config = config.clone();
    Arc::new(move |line| log_line(&config, Level::Warn, &line))
}

async fn listeners(config: &AttachConfig) -> Result<Listeners, Failed> {
    let api = match config.api_listen {
        Some(address) => Some(bind("--api-port", address).await?),
        None => None,
    };
    let local = local_socket::bind(&config.socket, config.socket_mode);
    let local = local.map_err(|why| failed(73, why))?;
    Ok(Listeners { local, api, probe: bind("--probe-listen", config.probe_listen).await? })
}

/// Drawn anew at each start: nothing of an earlier one is taken up but by Resume.
fn attachment() -> Result<Attachment, Failed> {
    let high = u128::from(random_seed()?) << 64;
    Ok(Attachment { member: high | u128::from(random_seed()? | 1), boot: random_seed()? })
}

fn serve(
    config: &AttachConfig,
    (inbox, metrics): (&Inbox, &Arc<Metrics>),
    listeners: Listeners,
    (clients, shares): (&Connections, Shares),
) -> Result<JoinSet<()>, Failed> {
    let mut tasks = JoinSet::new();
    let node = Arc::new(NodeInfo { name: config.name.clone(), ..NodeInfo::default() });
    let api = Api::new(inbox.clone(), Arc::clone(&node));
    let (incoming, router) = (clients.unix(listeners.local), local_router(&api)?);
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
    let health = HealthView::new((inbox.clone(), None), metrics, &node, Readiness::Latched);
    let (metrics, port) = (Arc::clone(metrics), (listeners.probe, shares.probes));
    tasks.spawn(async move {
        let _ = http::serve(port, metrics, health).await; // As above.
    });
    Ok(tasks)
}

/// Ends in order: clients hear Draining, and the last heartbeat leaves.
async fn end(
    inbox: &Inbox,
    driver: JoinHandle<DriverEnded>,
    (mut tasks, clients): (JoinSet<()>, &Connections),
) {
    // Whoever leaves from here on does so because we say so.
    clients.draining();
    inbox.client(Event::Drain);
    tokio::time::sleep(FAREWELL).await;
    inbox.push(Work::Stop);
    // Nothing is on a disk; late is late.
    let _ = timeout(END_MAX, driver).await;
    tasks.abort_all();
}

/// Runs an attached sidecar until it is asked to end.
///
/// # Errors
/// What kept it from starting, or the group is of a newer version.
pub async fn run(config: AttachConfig) -> Result<Ended, Failed> {
    place_tool(config.tool.clone(), |level, line| log_line(&config, level, line)).await;
    let tls = Tls::load(config.tls.clone(), CLIENT, &config.cluster, report(&config));
    let tls = tls.map_err(|why| failed(64, why))?;
    let listeners = listeners(&config).await?;
    let (inbox, metrics) = (Inbox::default(), Arc::new(Metrics::default()));
    let own = attachment()?;
    let links = Links::start(config.members.clone(), tls, (own, &config.name), report(&config));
    let driver = AttachedDriver::new(
        (own, ELECTION_TIMEOUT_NS),
        inbox.clone(),
        links,
        Arc::clone(&metrics),
        report(&config),
    );
    let mut driver = tokio::spawn(driver.run());
    let shares = Shares::of(descriptors::raise());
    let clients = Connections::new(shares, Arc::new(ClientSink::new(inbox.clone())));
    let tasks = serve(&config, (&inbox, &metrics), listeners, (&clients, shares))?;
    log_line(&config, Level::Info, &format!("listening on {}", config.socket.display()));
    let ended = tokio::select! {
        asked = asked_to_end() => {
            asked.map_err(|why| failed(71, why))?;
            log_line(&config, Level::Info, "asked to end");
            end(&inbox, driver, (tasks, &clients)).await;
            return Ok(Ended::Asked);
        }
        // A driver that panicked has ended the process.
        ended = &mut driver => ended.map_err(|why| failed(70, why))?,
    };
    match ended {
        DriverEnded::Stopped => Ok(Ended::Asked),
        DriverEnded::OtherGroup => {
            log_line(&config, Level::Warn, "the group is another one now: starting anew");
            Ok(Ended::Recovered)
        }
        DriverEnded::Newer(why) => Err(failed(70, why)),
    }
}
