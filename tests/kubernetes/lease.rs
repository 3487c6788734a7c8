//! Leader election by a Lease of the API server, by the rules of client-go, to compare with: a hold
//! is good for 15 s, its holder gives up when it could not renew for 10 s, and everybody tries
//! every 2 s.
//!
//! Like the application of the example it prints who leads, but ten times a second, and it ends
//! when it leads no longer, as programs with client-go do.

use crate::say;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Config};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

/// A hold that nobody changed for so long is free: client-go's LeaseDuration.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long gives up: its RenewDeadline.
const DEADLINE: Duration = Duration::from_secs(10);
/// Everybody tries so often: its RetryPeriod.
const RETRY: Duration = Duration::from_secs(2);
/// A request ends within this, as in controller-runtime: half of the deadline.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// What the leader prints, and how often.
const EVERY: Duration = Duration::from_millis(100);
/// The Lease.
const NAME: &str = "demo";

/// What was seen of the Lease last, and when.
type Seen = Option<(LeaseSpec, Instant)>;

/// Takes the Lease in the name of this pod, and leads until it is lost, or until asked to end.
///
/// # Errors
/// It is lost, or there is no API server to ask.
pub async fn elect(pod: &str) -> Result<(), String> {
    let mut asked = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut config = Config::infer().await.map_err(|e| e.to_string())?;
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|e| e.to_string())?;
    let leases = Api::default_namespaced(client);
    // One that starts again is another one, as with client-go.
    let identity = format!("{pod}_{}", jiff::Timestamp::now().as_nanosecond());
    tokio::select! {
        _ = asked.recv() => Ok(()),
        () = campaign(&leases, &identity) => {
            Err(format!("{identity} leads no longer"))
        }
    }
}

async fn campaign(leases: &Api<Lease>, identity: &str) {
    let mut seen = None;
    let token = loop {
        if let Ok(Some(token)) = attempt(leases, identity, &mut seen).await {
            break token;
        }
        sleep(RETRY).await;
    };
    tokio::select! {
        never = lead(token) => match never {},
        () = keep(leases, identity, &mut seen) => {}
    }
}

async fn lead(token: i32) -> std::convert::Infallible {
    loop {
        say(&format!("I lead with token {token}"));
        sleep(EVERY).await;
    }
}

/// Renews until that did not work for too long.
async fn keep(leases: &Api<Lease>, identity: &str, seen: &mut Seen) {
    let mut renewed = Instant::now();
    while renewed.elapsed() < DEADLINE {
        sleep(RETRY).await;
        let left = DEADLINE.saturating_sub(renewed.elapsed());
        match timeout(left, attempt(leases, identity, seen)).await {
            Ok(Ok(Some(_))) => renewed = Instant::now(),
            Ok(Ok(None)) => return,
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// One try: the token if it is held now, nothing if somebody else has it.
async fn attempt(
    leases: &Api<Lease>,
    identity: &str,
    seen: &mut Seen,
) -> Result<Option<i32>, String> {
    let tried = timeout(REQUEST_MAX, take(leases, identity, seen)).await;
    tried.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())
}

async fn take(
    leases: &Api<Lease>,
    identity: &str,
    seen: &mut Seen,
) -> Result<Option<i32>, kube::Error> {
    let post = PostParams::default();
    let Some(mut lease) = leases.get_opt(NAME).await? else {
        let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
        let spec = renewed(LeaseSpec::default(), identity);
        let lease = Lease { metadata, spec: Some(spec.clone()) };
        leases.create(&post, &lease).await?;
        *seen = Some((spec, Instant::now()));
        return Ok(Some(1));
    };
    let spec = lease.spec.clone().unwrap_or_default();
    let since = match seen {
        Some((last, since)) if *last == spec => *since,
        _ => Instant::now(),
    };
    *seen = Some((spec.clone(), since));
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if !holder.is_empty() && holder != identity && since.elapsed() < DURATION {
        return Ok(None);
    }
    let spec = renewed(spec, identity);
    lease.spec = Some(spec.clone());
    leases.replace(NAME, &post, &lease).await?;
    let token = spec.lease_transitions.unwrap_or(0) + 1;
    *seen = Some((spec, Instant::now()));
    Ok(Some(token))
}

fn renewed(spec: LeaseSpec, identity: &str) -> LeaseSpec {
    let now = MicroTime(jiff::Timestamp::now());
    let before = spec.holder_identity.as_deref();
    let same = before == Some(identity);
    let moved = before.is_some() && !same;
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if same { spec.acquire_time } else { Some(now.clone()) },
        renew_time: Some(now),
        lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(moved)),
        ..spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_a_higher_token() {
        let first = renewed(LeaseSpec::default(), "a");
        assert_eq!(first.lease_transitions, Some(0));
        let again = renewed(first.clone(), "a");
        assert_eq!(
            (again.lease_transitions, again.acquire_time),
            (Some(0), first.acquire_time.clone())
        );
        assert_eq!(renewed(first, "b").lease_transitions, Some(1));
    }
}
