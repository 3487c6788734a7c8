//! The operator is killed at named points: just before or just after a write that moves a change
//! of the size on. What stands between it and the API server knows the write, and holds it or its
//! answer back until the operator is gone.

use super::load::Load;
use super::proxy;
use super::seconds;
use super::space::{PATIENCE, Space, standalone, until};
use super::stage::Stage;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use kube::Client;
use quorate_load::boottime_ns;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;

/// A write of the operator's, and whether it is done when the operator dies.
#[derive(Clone, Copy, Debug)]
struct Point {
    name: &'static str,
    method: &'static str,
    place: &'static str,
    words: &'static str,
    done: bool,
}

const fn before(name: &'static str, method: &'static str, place: &'static str) -> Point {
    Point { name, method, place, words: "", done: false }
}

const fn after(name: &'static str, method: &'static str, place: &'static str) -> Point {
    Point { done: true, ..before(name, method, place) }
}

/// Its size alone is patched; a template is put.
const SET: &str = "/statefulsets/demo";
const STATUS: &str = "/raftclusters/demo/status";
const CLAIM: &str = "/persistentvolumeclaims/quorate-log-demo-";

/// While three become five.
const GROWING: [Point; 3] = [
    before("pods to be made", "PATCH", SET),
    after("pods made", "PATCH", SET),
    Point { words: "\"learners\":2", ..after("new members listen", "PUT", STATUS) },
];

/// While five become three.
const SHRINKING: [Point; 3] = [
    before("voters gone", "PATCH", SET),
    after("pods gone", "PATCH", SET),
    after("a volume gone", "DELETE", CLAIM),
];

struct Ambush {
    client: Client,
    /// The points to come.
    next: Mutex<VecDeque<Point>>,
    met: mpsc::Sender<()>,
}

impl Ambush {
    /// The point that a request is, if it is the next one; it is met once.
    fn take_next(&self, method: &Method, place: &str, body: &[u8]) -> Option<Point> {
        // Nothing panics while it is held.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let body = String::from_utf8_lossy(body);
        let is = |point: &Point| {
            method == point.method && place.contains(point.place) && body.contains(point.words)
        };
        if next.front().is_some_and(is) { next.pop_front() } else { None }
    }

    async fn pass(&self, request: Request) -> Result<Response, String> {
        let (parts, body) = proxy::whole(request).await?;
        let point = self.take_next(&parts.method, parts.uri.path(), &body);
        if point.is_some_and(|point| !point.done) {
            return self.hold().await;
        }
        let (answer, body) = proxy::forward(&self.client, &parts, body).await?;
        match point {
            Some(_) => self.hold().await,
            None => Ok((answer.status, answer.headers, body).into_response()),
        }
    }

    /// Nobody is answered any more who is about to be killed.
    async fn hold(&self) -> Result<Response, String> {
        self.met.send(()).await.map_err(|e| e.to_string())?;
        std::future::pending().await
    }
}

async fn pass(State(ambush): State<Arc<Ambush>>, request: Request) -> Response {
    let passed = ambush.pass(request).await;
    passed.unwrap_or_else(|why| (StatusCode::BAD_GATEWAY, why).into_response())
}

/// See the module.
pub(super) async fn killed(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "operator", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let (met, mut meets) = mpsc::channel(1);
    let client = proxy::way(stage).await?;
    let ambush = Arc::new(Ambush { client, next: Mutex::default(), met });
    let routes = Router::new().fallback(pass).with_state(Arc::clone(&ambush));
    let work = async {
        let mut told = Vec::new();
        for (size, points) in [(5, GROWING), (3, SHRINKING)] {
            let doomed: Vec<String> = (size..5).map(|at| format!("demo-{at}")).collect();
            load.retire(&doomed, "demo-0").await?;
            let (from, begun) = (boottime_ns(), Instant::now());
            let names = points.map(|point| point.name).join(", ");
            ambush.next.lock().unwrap_or_else(PoisonError::into_inner).extend(points);
            space.scale(size)?;
            for point in points {
                let met = tokio::time::timeout(PATIENCE, meets.recv()).await;
                met.map_err(|_| format!("never met: {}", point.name))?.ok_or("the proxy ended")?;
                stage.kill_operator()?;
            }
            space.settled(size).await?;
            let volumes = format!("{size} volumes are left");
            until(&volumes, PATIENCE, async || {
                let left = space.claims().await?.len();
                if left == size { Ok(()) } else { Err(format!("{left}")) }
            })
            .await?;
            load.succeed().await?;
            let cost = load.planned(from, &[]).map_err(|why| format!("to {size}: {why}"))?;
            told.push(format!("to {size}, killed at: {names}: {:.1} s {cost}", seconds(begun)));
            load.follow().await?;
        }
        Ok::<_, String>(told.join("; "))
    };
    let told = proxy::between(stage, routes, work).await?;
    let checked = load.finish().await?;
    Ok(format!("{told}; {checked} acknowledged, 0 failed, 0 lost"))
}
