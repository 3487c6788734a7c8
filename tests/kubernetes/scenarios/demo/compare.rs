//! `demo --kubernetes --compare`: the same application, once under a Lease of the API server and
//! once under Quorate, through the same faults.
//!
//! Both print who leads, ten times a second; what is told of both comes from these lines and from
//! the audit log.

use super::super::chart;
use super::super::leaders::{self, Leaders, Term};
use super::super::space::{NAME, PATIENCE, Pod, Space, application_of, kill, managed, until};
use super::super::stage::{ACCOUNT, Stage};
use crate::control::audit_log;
use crate::{image, network, up};
use quorate_load::screen::{Screen, milliseconds, print};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// The image of the one that is led by a Lease.
const IMAGE: &str = "quorate.test/lease:1";
/// How long a node is cut off, and the API server stopped.
const AWAY: Duration = Duration::from_secs(30);
/// How long both are watched at rest.
const REST: Duration = Duration::from_secs(60);
/// Somebody who leads printed within this, in ns.
const FRESH: u64 = 500_000_000;
const LOOK: Duration = Duration::from_millis(50);

const KILLED: &str = "leading application killed -9";
const CUT: &str = "its node cut off for 30 s";
const STOPPED: &str = "API server stopped for 30 s";
const FAULTS: [&str; 3] = [KILLED, CUT, STOPPED];

/// What one of them came to.
#[derive(Debug, Default)]
struct Came {
    /// The longest time without a leader, in ns, by fault.
    silent: Vec<(&'static str, u64)>,
    /// Time with two leaders, in ns.
    overlap: u64,
    /// Leaders that there were.
    leaders: usize,
    /// Writes to the API server in an hour of rest.
    writes: usize,
}

/// Runs both, and prints them side by side; true if there never were two leaders of Quorate's.
pub(super) async fn run(stage: &Stage, screen: Screen, rounds: u32) -> Result<bool, String> {
    screen
        .news("first under a Lease: 15 s, given up after 10 s, tried every 2 s, as client-go does");
    let space = Space::of(stage, "lease")?;
    lease_pods(&space)?;
    let lease = contest(&space, screen, rounds).await?;
    stage.clear();
    chart::release(stage, "install", &["--create-namespace"])?;
    screen.news("now under Quorate: helm install quorate charts/quorate, and a RaftCluster");
    let space = Space::of(stage, "quorate")?;
    space.apply(raft())?;
    space.settled(3).await?;
    let quorate = contest(&space, screen, rounds).await?;
    table(&lease, &quorate);
    Ok(quorate.overlap == 0)
}

/// The same application as the other's: it prints, and nothing else.
fn raft() -> Value {
    let mut spec = managed(3);
    let words = "while true; do echo I lead with token $QUORATE_TOKEN; sleep 0.1; done";
    let command = &mut spec["template"]["spec"]["containers"][0]["command"];
    if let Some(last) = command.as_array_mut().and_then(|words| words.last_mut()) {
        *last = json!(words);
    }
    spec
}

fn lease_pods(space: &Space<'_>) -> Result<(), String> {
    let stage = space.stage;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let archive = stage.instance.dir.join("lease.tar");
    let statics = Vec::new();
    let product = image::Product { name: IMAGE.to_owned(), binaries: vec![own], statics };
    image::product(&product, &archive)?;
    up::load(&stage.instance, &archive)?;
    let of = |api: &str, kind: &str| {
        json!({
            "apiVersion": api,
            "kind": kind,
            "metadata": {"name": NAME, "namespace": space.namespace},
        })
    };
    let mut role = of("rbac.authorization.k8s.io/v1", "Role");
    role["rules"] = json!([{
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "update"],
    }]);
    let mut binding = of("rbac.authorization.k8s.io/v1", "RoleBinding");
    let group = "rbac.authorization.k8s.io";
    binding["roleRef"] = json!({"apiGroup": group, "kind": "Role", "name": NAME});
    binding["subjects"] =
        json!([{"kind": "ServiceAccount", "name": "default", "namespace": space.namespace}]);
    let mut set = of("apps/v1", "StatefulSet");
    // One a node, as RaftClusters are.
    let labels = json!({"app": NAME, "quorate.dev/component": "member"});
    let apart = json!({
        "labelSelector": {"matchLabels": {"app": NAME}},
        "topologyKey": "kubernetes.io/hostname",
    });
    set["spec"] = json!({
        "replicas": 3,
        "serviceName": NAME,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": {"app": NAME}},
        "template": {"metadata": {"labels": labels}, "spec": {
            "affinity": {"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [apart],
            }},
            "containers": [{
                "name": "app",
                "image": IMAGE,
                "args": ["lease"],
                "env": [{"name": "POD_NAME", "valueFrom": {
                    "fieldRef": {"fieldPath": "metadata.name"},
                }}],
            }],
        }},
    });
    for object in [role, binding, set] {
        stage.apply(&object)?;
    }
    Ok(())
}

/// Tells who leads, without end.
async fn watch(space: &Space<'_>, screen: &Screen, leaders: &RefCell<Leaders>) -> Infallible {
    loop {
        for term in leaders.borrow_mut().look(space) {
            let (pod, token) = (term.pod, term.token);
            screen.good(&format!("the application in {pod} leads with token {token}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn contest(space: &Space<'_>, screen: Screen, rounds: u32) -> Result<Came, String> {
    let leaders = RefCell::default();
    tokio::select! {
        ended = faults(space, screen, rounds, &leaders) => ended,
        never = watch(space, &screen, &leaders) => match never {},
    }
}

/// Waits until somebody leads, and says so.
async fn leading(
    space: &Space<'_>,
    leaders: &RefCell<Leaders>,
    above: u64,
) -> Result<(Term, Pod), String> {
    let term = until("an application leads", PATIENCE, async || {
        let last = leaders.borrow().last().cloned();
        let last = last.filter(|term| term.token > above && term.last + FRESH > leaders::now());
        last.ok_or_else(|| format!("none under a token above {above}"))
    })
    .await?;
    let pod = space.pod(&term.pod).await?;
    Ok((term, pod))
}

/// A pod that was just started has no container yet.
async fn process(space: &Space<'_>, pod: &str) -> Result<i32, String> {
    until("the application runs", PATIENCE, async || application_of(&space.pod(pod).await?)).await
}

async fn faults(
    space: &Space<'_>,
    screen: Screen,
    rounds: u32,
    leaders: &RefCell<Leaders>,
) -> Result<Came, String> {
    let instance = &space.stage.instance;
    let mut silent = Vec::new();
    let silence = |from: u64| leaders.borrow().silence(from, leaders::now());
    for _ in 0..rounds {
        let (term, pod) = leading(space, leaders, 0).await?;
        let from = leaders::now();
        screen.fault(&format!("the application in {} is killed -9", pod.name));
        kill(process(space, &pod.name).await?)?;
        leading(space, leaders, term.token).await?;
        silent.push((KILLED, silence(from)));
    }
    let (term, pod) = leading(space, leaders, 0).await?;
    let node = pod.node_number()?;
    let (from, begun) = (leaders::now(), Instant::now());
    screen.fault(&format!("node{node} is cut off, with {}", pod.name));
    network::link(instance, node, false)?;
    let next = leading(space, leaders, term.token).await;
    tokio::time::sleep(AWAY.saturating_sub(begun.elapsed())).await;
    network::link(instance, node, true)?;
    next?;
    screen.fault(&format!("node{node} is back"));
    silent.push((CUT, silence(from)));
    until("all nodes are ready", PATIENCE, async || {
        let ready = up::ready_nodes(&up::client(instance, "admin").await?).await?;
        if ready.len() == usize::from(instance.nodes) { Ok(()) } else { Err(ready.join(" ")) }
    })
    .await?;
    leading(space, leaders, 0).await?;
    let (from, begun) = (leaders::now(), Instant::now());
    screen.fault("the API server is stopped");
    space.stage.freeze(true)?;
    tokio::time::sleep(AWAY.saturating_sub(begun.elapsed())).await;
    screen.fault("the API server goes on");
    space.stage.freeze(false)?;
    leading(space, leaders, 0).await?;
    silent.push((STOPPED, silence(from)));
    screen.news(&format!("at rest for {} s", REST.as_secs()));
    let writes = rest(space).await?;
    let leaders = leaders.borrow();
    Ok(Came { silent, overlap: leaders.overlap(), leaders: leaders.count(), writes })
}

/// Writes in an hour, by what is there for the election alone: the pods, and the operator.
async fn rest(space: &Space<'_>) -> Result<usize, String> {
    let pods = format!("system:serviceaccount:{}:", space.namespace);
    let count = || {
        let file = audit_log(&space.stage.instance);
        let text = std::fs::read_to_string(&file);
        let text = text.map_err(|e| format!("{}: {e}", file.display()))?;
        let writes = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let writes = writes.filter(|line| {
            let user = line["user"]["username"].as_str().unwrap_or_default();
            let reads = ["get", "list", "watch"].iter().any(|verb| line["verb"] == *verb);
            !reads && (user == ACCOUNT || user.starts_with(&pods))
        });
        Ok::<_, String>(writes.count())
    };
    // What the faults brought has echoes.
    tokio::time::sleep(REST / 2).await;
    let before = count()?;
    tokio::time::sleep(REST).await;
    let hours = 3_600 / usize::try_from(REST.as_secs()).unwrap_or(1);
    Ok((count()? - before) * hours)
}

fn table(lease: &Came, quorate: &Came) {
    print("");
    print(&format!("{:<50}{:>12}{:>12}", "", "Lease", "Quorate"));
    let line = |what: &str, of: &dyn Fn(&Came) -> String| {
        print(&format!("{what:<50}{:>12}{:>12}", of(lease), of(quorate)));
    };
    let seconds = |nanos: u64| format!("{} s", milliseconds(nanos / 1_000));
    for fault in FAULTS {
        let of = |result: &Came| {
            let mut values: Vec<u64> =
                result.silent.iter().filter(|(f, _)| *f == fault).map(|(_, ns)| *ns).collect();
            values.sort_unstable();
            values.get(values.len().saturating_sub(1) / 2).map_or_else(String::new, |v| seconds(*v))
        };
        line(&format!("without a leader: {fault}"), &of);
    }
    line("two leaders at once", &|result| seconds(result.overlap));
    line("leaders", &|result| result.leaders.to_string());
    line("writes to the API server an hour, at rest", &|result| result.writes.to_string());
    print("");
}
