//! One operator at a time: a Lease of the API server, held by its rules.
//!
//! Invariants: what is counted for the own hold is the monotonic clock, from before the request
//! left; a hold that is not renewed in time ends the process, so that nothing half done goes on; at
//! most one write in 10 s.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// How long a hold lasts.
const HOLD: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// How often one that waits looks.
const LOOK: Duration = Duration::from_secs(3);
/// A request to the API server ends within this.
pub const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Its name.
const NAME: &str = "quorate-operator";

/// The hold, as the rest of the process sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hold {
    begun: Instant,
    /// Milliseconds after `begun`; 0: none.
    until: Arc<AtomicU64>,
}

impl Hold {
    fn new() -> Hold {
        Hold { begun: Instant::now(), until: Arc::default() }
    }

    fn set(&self, sent: Instant) {
        let until = sent.duration_since(self.begun) + HOLD;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::SeqCst);
    }

    /// Whether a request that leaves now ends within the hold.
    #[must_use]
    pub fn outlives_a_request(&self) -> bool {
        let end = self.begun.elapsed() + REQUEST_MAX;
        end.as_millis() < u128::from(self.until.load(Ordering::SeqCst))
    }
}

/// Waits until this process may act, then keeps the hold in the background. The task ends when the
/// hold is lost; the process must end then. What fails is tried again.
pub async fn acquire(
    api: Api<Lease>,
    own: String,
    report: impl Fn(String) + Send + 'static,
) -> (Hold, tokio::task::JoinHandle<()>) {
    let hold = Hold::new();
    let mut seen: Option<(String, Instant)> = None;
    loop {
        let sent = Instant::now();
        match attempt(&api, &own, &mut seen).await {
            Ok(true) => {
                hold.set(sent);
                break;
            }
            Ok(false) => {}
            Err(error) => report(format!("the Lease cannot be taken: {error}")),
        }
        sleep(LOOK).await;
    }
    let kept = hold.clone();
    (hold, tokio::spawn(async move { keep(&api, &own, &kept, report).await }))
}

/// Renews the hold, until it is lost.
async fn keep(api: &Api<Lease>, own: &str, hold: &Hold, report: impl Fn(String)) {
    let mut pause = RENEW;
    loop {
        sleep(pause).await;
        let sent = Instant::now();
        pause = Duration::from_secs(1);
        match timeout(REQUEST_MAX, attempt(api, own, &mut None)).await {
            Ok(Ok(true)) => {
                hold.set(sent);
                pause = RENEW;
            }
            Ok(Ok(false)) => return,
            Ok(Err(error)) => report(format!("the Lease is not renewed: {error}")),
            Err(_) => report("the Lease is not renewed: no answer".to_owned()),
        }
        if !hold.outlives_a_request() {
            return;
        }
    }
}

/// Gives it up, so that the next one need not wait. What fails is of no matter.
pub async fn release(api: Api<Lease>, own: &str) {
    let Ok(Some(mut lease)) = api.get_opt(NAME).await else { return };
    let Some(spec) = lease.spec.as_mut() else { return };
    if spec.holder_identity.as_deref() == Some(own) {
        spec.holder_identity = None;
        let _ = timeout(Duration::from_secs(2), api.replace(NAME, &PostParams::default(), &lease))
            .await;
    }
}

/// One try. `seen`: the state of somebody else's hold, and since when it is the same.
async fn attempt(
    api: &Api<Lease>,
    own: &str,
    seen: &mut Option<(String, Instant)>,
) -> Result<bool, kube::Error> {
    let Some(mut lease) = api.get_opt(NAME).await? else {
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(renewed(LeaseSpec::default(), own)) };
        return taken(api.create(&PostParams::default(), &lease).await);
    };
    let spec = lease.spec.take().unwrap_or_default();
    let free = spec.holder_identity.as_deref().is_none_or(|holder| holder == own);
    if !free {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let same = seen.as_ref().is_some_and(|(last, _)| *last == version);
        if !same {
            *seen = Some((version, Instant::now()));
        }
        // Their clock is not ours: what counts is how long nothing changed here.
        if seen.as_ref().is_none_or(|(_, since)| since.elapsed() < HOLD + RENEW) {
            return Ok(false);
        }
    }
    lease.spec = Some(renewed(spec, own));
    // The state that was read guards against another who writes meanwhile.
    taken(api.replace(NAME, &PostParams::default(), &lease).await)
}

fn taken(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

fn renewed(spec: LeaseSpec, own: &str) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let same = spec.holder_identity.as_deref() == Some(own);
    let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!same);
    LeaseSpec {
        holder_identity: Some(own.to_owned()),
        lease_duration_seconds: i32::try_from(HOLD.as_secs()).ok(),
        acquire_time: if same { spec.acquire_time } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..spec
    }
}
