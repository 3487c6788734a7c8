//! Puts another authority into the place of the present one, in three phases that each outlive the
//! operator: trust both, sign with the next, drop the former.
//!
//! Invariant: a phase ends only when the Secrets of every RaftCluster are of this phase, attached
//! pods had the time to read theirs again, and every member was seen to be ready for the next one:
//! by a connection with a certificate, or a trust, as it will be. Attached pods cannot be asked.

use crate::admin::{Admins, Target};
use crate::authority::{Current, Phase, Store, Trust, is_asked};
use crate::build::{LABEL_CLUSTER, LABEL_COMPONENT, Wanted};
use crate::context::Context;
use crate::crd::RaftCluster;
use crate::observe::{image, target};
use crate::webhook;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use quorate_proto::admin::StatusRequest;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// How often the Secret is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// While a phase could end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Where there is a webhook, a phase lasts longer than its replicas take to hear of it.
const FOLLOWED: Duration = Duration::from_secs(30);
/// What it waits for is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(300);

/// What a change of the authority needs to know.
pub struct Rotation {
    /// What all passes share.
    pub context: Arc<Context>,
    /// Where the authority is kept.
    pub store: Store,
    /// Looks after these namespaces only; none: after all.
    pub namespaces: Vec<String>,
    /// The configuration of the webhook that the API server is to trust, if there is one.
    pub webhook: Option<String>,
    /// A phase lasts so long at least, from when every Secret is of it.
    pub settle: Duration,
}

/// Follows the Secret of the authority and does nothing else: of an operator that waits.
pub async fn follow(store: Store, current: Current, say: fn(String)) {
    let mut said = String::new();
    loop {
        sleep(LOOK).await;
        match store.look().await {
            Ok(Some((_, trust))) => drop(current.set(trust)),
            // Whoever holds the Lease makes it again.
            Ok(None) => {}
            Err(why) if why != said => {
                say(why.clone());
                said = why;
            }
            Err(_) => {}
        }
    }
}

/// What a phase waits for, and how soon that may have come.
struct Waits {
    why: String,
    pause: Duration,
}

impl Rotation {
    /// Works as long as the process has the Lease.
    pub async fn run(self, say: fn(String)) {
        let (mut said, mut ready) = ((String::new(), Instant::now()), None);
        loop {
            let (told, pause) = match self.look(&mut ready, say).await {
                Ok(None) => (String::new(), LOOK),
                Ok(Some(Waits { why, pause })) => (why, pause),
                Err(why) => (why, LOOK),
            };
            if !told.is_empty() && (told != said.0 || said.1.elapsed() > SAY_AGAIN) {
                say(told.clone());
                said = (told, Instant::now());
            }
            sleep(pause).await;
        }
    }

    /// One look: at most one phase further.
    async fn look(
        &self,
        ready: &mut Option<Instant>,
        say: fn(String),
    ) -> Result<Option<Waits>, String> {
        let Some((secret, trust)) = self.store.look().await? else {
            // Everybody trusts what is in here.
            let trust = self.context.authority.get();
            self.store.create(&trust).await?;
            return Ok(None);
        };
        if self.context.authority.set(trust) {
            self.context.admins.renew();
            *ready = None;
        }
        let trust = self.context.authority.get();
        self.tell_api_server(&trust).await?;
        let begin = is_asked(&secret);
        if matches!(trust.phase, Phase::Settled) && !begin {
            return Ok(None);
        }
        if let Some(Waits { why, pause }) = self.waits(&trust, ready).await? {
            let why = format!("the authority changes: {}: waits for {why}", trust.phase);
            return Ok(Some(Waits { why, pause }));
        }
        if !self.context.hold.outlives_a_request() {
            return Err("the Lease may end before this request does".to_owned());
        }
        if let Some(next) = trust.next(begin).map_err(|error| error.to_string())? {
            self.store.record(&secret, &next).await?;
            *ready = None;
            say(format!("the authority changes: {} to {}", trust.phase, next.phase));
        }
        Ok(Some(Waits { why: String::new(), pause: LOOK_AGAIN }))
    }

    async fn tell_api_server(&self, trust: &Trust) -> Result<(), String> {
        match &self.webhook {
            Some(name) => webhook::trust(&self.context.client, name, &trust.bundle()).await,
            None => Ok(()),
        }
    }

    fn settle(&self) -> Duration {
        let least = if self.webhook.is_some() { FOLLOWED } else { Duration::ZERO };
        self.settle.max(least)
    }

    /// What this phase waits for; `ready`: since when every Secret is of it.
    async fn waits(
        &self,
        trust: &Trust,
        ready: &mut Option<Instant>,
    ) -> Result<Option<Waits>, String> {
        let failed = |error: kube::Error| error.to_string();
        if matches!(trust.phase, Phase::Settled) {
            return Ok(None);
        }
        let mut members = Vec::new();
        for resource in self.resources().await.map_err(failed)? {
            if resource.metadata.deletion_timestamp.is_some() {
                continue;
            }
            match self.certified(&resource).await.map_err(failed)? {
                Ok(more) => members.extend(more),
                Err(why) => {
                    *ready = None;
                    return Ok(Some(Waits { why, pause: LOOK_AGAIN }));
                }
            }
        }
        let Some(probe) = probe(trust) else { return Ok(None) };
        let left = self.settle().saturating_sub(ready.get_or_insert_with(Instant::now).elapsed());
        if !left.is_zero() {
            let settle = self.settle().as_secs();
            let why = format!("{settle} s to pass, for attached pods to read their Secret again");
            return Ok(Some(Waits { why, pause: left.min(LOOK) }));
        }
        for member in members {
            let seen = match &member.target {
                Some(target) => probe.status(target, StatusRequest::default()).await.map(drop),
                None => Err("it has no address yet".to_owned()),
            };
            if let Err(why) = seen {
                let why = format!("pod {}: {why}", member.name);
                return Ok(Some(Waits { why, pause: LOOK_AGAIN }));
            }
        }
        Ok(None)
    }

    /// The members of a resource whose Secrets are of this phase, or why they are not.
    async fn certified(
        &self,
        resource: &RaftCluster,
    ) -> Result<Result<Vec<Member>, String>, kube::Error> {
        let image = image(resource, &self.context.image);
        let operator_namespace = &self.context.namespace;
        let wanted = Wanted { cluster: resource, image, operator_namespace };
        let members = self.members(&wanted).await?;
        let certified = match self.context.is_certified(&wanted).await? {
            Some(certified) => certified,
            // They are made for its first pods, by whoever signs then.
            None => members.is_empty(),
        };
        if certified {
            return Ok(Ok(members));
        }
        let (name, namespace) = (resource.name_any(), resource.namespace().unwrap_or_default());
        let paused = if resource.spec.paused { ", which is paused" } else { "" };
        Ok(Err(format!("the certificates of raft/{name} in {namespace}{paused}")))
    }

    async fn resources(&self) -> Result<Vec<RaftCluster>, kube::Error> {
        let (client, all) = (&self.context.client, ListParams::default());
        if self.namespaces.is_empty() {
            return Ok(Api::all(client.clone()).list(&all).await?.items);
        }
        let mut found = Vec::new();
        for namespace in &self.namespaces {
            found.extend(Api::namespaced(client.clone(), namespace).list(&all).await?.items);
        }
        Ok(found)
    }

    async fn members(&self, wanted: &Wanted<'_>) -> Result<Vec<Member>, kube::Error> {
        let namespace = wanted.cluster.namespace().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &namespace);
        let of = format!("{LABEL_CLUSTER}={},{LABEL_COMPONENT}=member", wanted.name());
        let pods = pods.list(&ListParams::default().labels(&of)).await?;
        let label = wanted.certificate_label();
        let member = |pod: &Pod| {
            let name = format!("{} in {namespace}", pod.name_any());
            Member { name, target: target(pod, &label) }
        };
        // One without a node has no Secret mounted yet.
        let has_node = |pod: &&Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        Ok(pods.items.iter().filter(has_node).map(member).collect())
    }
}

/// A member's pod.
struct Member {
    /// For people.
    name: String,
    /// `None`: it has no address yet.
    target: Option<Target>,
}

/// Who reaches exactly those that are ready for the next phase; `None`: they need not be.
///
/// While both are trusted, with a certificate of the next authority: who takes it trusts it. While
/// the next one signs, with trust in nobody else: who is believed shows a certificate of it.
fn probe(trust: &Trust) -> Option<Admins> {
    let (by, trusted) = match &trust.phase {
        Phase::Settled | Phase::DropOld => return None,
        Phase::TrustBoth(next) => (next, trust.bundle()),
        Phase::Reissue(_) => (&trust.signer, trust.signer.cert.clone()),
    };
    let by = Arc::clone(by);
    Some(Admins::new(move |label| {
        let issued = by.issue("operator", label).map_err(|error| error.to_string())?;
        Ok((issued, trusted.clone()))
    }))
}
