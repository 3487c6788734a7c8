//! The API server through a bad connection: between it and the operator is one that refuses, loses
//! answers, tells what was true before, and ends watches. All by chance.
//!
//! The Lease alone passes: who cannot renew it ends, which other scenarios show.

use super::load::Load;
use super::proxy;
use super::seconds;
use super::space::{Space, standalone};
use super::stage::Stage;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http::{Method, StatusCode, header};
use kube::Client;
use quorate_load::boottime_ns;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Each fault is met so often at least.
const LEAST: u64 = 3;
/// Sizes change so many times over at most, until each was.
const ROUNDS: usize = 3;
/// A watch is cut after a time below this.
const WATCH_MAX_MS: u64 = 5_000;

/// What can go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A write is refused: somebody wrote before.
    Conflict,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// The server has an error, and nothing is done.
    Failed,
    /// What is read is what was true before.
    Stale,
    /// A watch ends.
    Cut,
    /// A watch cannot go on where it was.
    Gone,
}

const FAULTS: [Fault; 6] =
    [Fault::Conflict, Fault::AnswerLost, Fault::Failed, Fault::Stale, Fault::Cut, Fault::Gone];

impl Fault {
    /// Of a hundred requests that can meet it, so many do: there are few watches, and many reads.
    fn chance(self) -> u64 {
        match self {
            Fault::Failed => 3,
            Fault::Stale | Fault::Conflict | Fault::AnswerLost => 10,
            Fault::Gone => 30,
            Fault::Cut => 60,
        }
    }
}

struct Storm {
    client: Client,
    chance: Arc<Mutex<Chance>>,
}

#[derive(Default)]
struct Chance {
    state: u64,
    met: BTreeMap<Fault, u64>,
    /// What was read last, by where.
    before: BTreeMap<String, Bytes>,
}

impl Chance {
    /// SplitMix64.
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn is_to_meet(&mut self, fault: Fault) -> bool {
        self.below(100) < fault.chance()
    }

    fn meets(&mut self, fault: Fault) -> bool {
        let meets = self.is_to_meet(fault);
        *self.met.entry(fault).or_default() += u64::from(meets);
        meets
    }
}

impl Storm {
    fn chance(&self) -> MutexGuard<'_, Chance> {
        locked(&self.chance)
    }

    fn meets(&self, fault: Fault) -> bool {
        self.chance().meets(fault)
    }

    async fn pass(&self, request: Request) -> Result<Response, String> {
        let (parts, body) = proxy::whole(request).await?;
        let place = parts.uri.to_string();
        let (reads, watches) = (parts.method == Method::GET, place.contains("watch=true"));
        let calm = place.contains("/leases");
        if !calm {
            if watches && self.meets(Fault::Gone) {
                return Ok(status(StatusCode::GONE, "Expired"));
            }
            if !reads && self.meets(Fault::Conflict) {
                return Ok(status(StatusCode::CONFLICT, "Conflict"));
            }
            if self.meets(Fault::Failed) {
                return Ok(status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
            }
        }
        let (parts, body) = proxy::forward(&self.client, &parts, body).await?;
        if watches {
            return Ok((parts.status, self.cut(body)).into_response());
        }
        let mut bytes = proxy::bytes(body).await?;
        let done = !calm && parts.status.is_success();
        if reads && done {
            let mut chance = self.chance();
            let before = chance.before.insert(place, bytes.clone());
            if let Some(before) = before.filter(|before| *before != bytes)
                && chance.meets(Fault::Stale)
            {
                bytes = before;
            }
        }
        if !reads && done && self.meets(Fault::AnswerLost) {
            return Ok(status(StatusCode::GATEWAY_TIMEOUT, "Timeout"));
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        Ok((parts.status, json, bytes).into_response())
    }

    /// A watch that ends early now and then.
    fn cut(&self, body: Body) -> Body {
        if !self.chance().is_to_meet(Fault::Cut) {
            return body;
        }
        let (after, chance) = (self.chance().below(WATCH_MAX_MS), Arc::clone(&self.chance));
        let end = async move {
            tokio::time::sleep(Duration::from_millis(after)).await;
            // Of an operator that was killed before, no watch is cut.
            *locked(&chance).met.entry(Fault::Cut).or_default() += 1;
        };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(end)))
    }

    /// How often each fault was met.
    fn met(&self) -> Result<String, String> {
        let met = self.chance().met.clone();
        let times = |fault: &Fault| met.get(fault).copied().unwrap_or(0);
        let told: Vec<String> =
            FAULTS.iter().map(|fault| format!("{fault:?} {}", times(fault))).collect();
        let told = told.join(", ");
        let few = FAULTS.iter().any(|fault| times(fault) < LEAST);
        if few { Err(format!("too little went wrong: {told}")) } else { Ok(told) }
    }
}

fn locked(chance: &Mutex<Chance>) -> MutexGuard<'_, Chance> {
    // Nothing panics while it is held.
    chance.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As the API server says it.
fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": format!("the storm says {reason}"),
        "reason": reason,
        "code": code.as_u16(),
    });
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn pass(State(storm): State<Arc<Storm>>, request: Request) -> Response {
    let passed = storm.pass(request).await;
    passed.unwrap_or_else(|why| (StatusCode::BAD_GATEWAY, why).into_response())
}

/// Sizes change under load while most of what the operator does goes wrong now and then, and while
/// it is killed.
pub(super) async fn weathered(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "storm", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let chance = Chance { state: boottime_ns(), ..Chance::default() };
    let (client, chance) = (proxy::way(stage).await?, Arc::new(Mutex::new(chance)));
    let storm = Arc::new(Storm { client, chance });
    let routes = Router::new().fallback(pass).with_state(Arc::clone(&storm));
    let told = proxy::between(stage, routes, async {
        let mut told = sizes(&space, &mut load).await?;
        // One that is quick meets little.
        for _ in 1..ROUNDS {
            if storm.met().is_err() {
                told = format!("{told}, {}", sizes(&space, &mut load).await?);
            }
        }
        Ok(told)
    })
    .await?;
    space.settled(3).await?;
    let met = storm.met()?;
    let checked = load.finish().await?;
    Ok(format!("{told}; {met}; {checked} acknowledged, 0 failed, 0 lost"))
}

async fn sizes(space: &Space<'_>, load: &mut Load<'_>) -> Result<String, String> {
    let (mut told, mut now) = (Vec::new(), 3);
    for next in [5, 3, 1, 3] {
        let doomed: Vec<String> = (next..now).map(|ordinal| format!("demo-{ordinal}")).collect();
        load.retire(&doomed, "demo-0").await?;
        let (from, begun) = (boottime_ns(), Instant::now());
        space.scale(next)?;
        space.stage.kill_operator()?;
        space.settled(next).await?;
        load.succeed().await?;
        let cost = load.planned(from, &[]).map_err(|why| format!("{now} to {next}: {why}"))?;
        told.push(format!("{now}→{next} {:.1} s {cost}", seconds(begun)));
        load.follow().await?;
        now = next;
    }
    Ok(told.join(", "))
}
