//! What all passes share: the client, the authority, and what was applied last.
//!
//! Invariant: what is remembered here saves writes and decides nothing else: after a restart
//! everything is applied once more, which changes nothing where it is as wanted.

use crate::admin::Admins;
use crate::authority::Current;
use crate::build::{ATTACH_SETTINGS, Wanted, hash};
use crate::certificates::is_due;
use crate::lease::Hold;
use crate::observed::Route;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The field manager of what the operator applies.
pub const MANAGER: &str = "quorate-operator";
/// On a Secret with a certificate: the day from which on it is made anew.
const RENEW_ON: &str = "quorate.dev/renew-on";
/// On a Secret with a certificate: who signed it, and who is trusted, as a hash.
const AUTHORITY: &str = "quorate.dev/authority";

/// On a Secret with a certificate: what is in it beside the certificate, as a hash.
const MADE_FOR: &str = "quorate.dev/made-for";

/// See the module.
pub struct Context {
    /// Towards the API server; it repeats nothing by itself.
    pub client: Client,
    /// Towards the sidecars.
    pub admins: Admins,
    /// The sidecar image of this release.
    pub image: String,
    /// Where the operator is.
    pub namespace: String,
    /// Vouches for all groups.
    pub authority: Current,
    /// Whether this process may act.
    pub hold: Hold,
    applied: Mutex<BTreeMap<String, Mark>>,
}

/// What is fixed for a process.
pub struct Release {
    /// The sidecar image of this release.
    pub image: String,
    /// Where the operator is.
    pub namespace: String,
}

/// What was applied, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    wanted: String,
    live: String,
}

impl Context {
    /// With nothing applied yet.
    #[must_use]
    pub fn new(
        client: Client,
        admins: Admins,
        release: Release,
        authority: Current,
        hold: Hold,
    ) -> Context {
        let Release { image, namespace } = release;
        Context { client, admins, image, namespace, authority, hold, applied: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Mark>> {
        // Nothing panics while it is held.
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was applied for a resource that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let of = format!("/{namespace}/{name}/");
        self.lock().retain(|key, _| !key.starts_with(&of));
    }

    fn is_fresh(&self, wanted: &Wanted, kind: &str, mark: &Mark) -> bool {
        self.lock().get(&key(wanted, kind)) == Some(mark)
    }

    fn mark(&self, wanted: &Wanted, kind: &str, mark: Mark) {
        self.lock().insert(key(wanted, kind), mark);
    }

    /// Objects beside a resource.
    pub fn api<K>(&self, wanted: &Wanted) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        let namespace = wanted.cluster.namespace().unwrap_or_default();
        Api::namespaced(self.client.clone(), &namespace)
    }

    /// Where the leader's Service leads, if one is wanted.
    ///
    /// # Errors
    /// The API server's.
    pub async fn route(&self, wanted: &Wanted<'_>) -> Result<Option<Route>, kube::Error> {
        // Its ports are compared; where it leads is of no matter here.
        let Some(like) = wanted.leader_slice(("", "", IpAddr::from([0; 4]))) else {
            return Ok(None);
        };
        let slices: Api<EndpointSlice> = self.api(wanted);
        let slice = slices.get_opt(&wanted.leader()).await?;
        let slice = slice.filter(|slice| is_owned(slice, wanted));
        Ok(Some(slice.map_or_else(Route::default, |slice| {
            let pod = slice.endpoints.first().and_then(|one| one.target_ref.as_ref()?.uid.clone());
            Route { pod: pod.unwrap_or_default(), current: ports(&slice) == ports(&like) }
        })))
    }

    /// The plain objects that are missing or not as wanted, by name.
    ///
    /// # Errors
    /// The API server's.
    pub async fn stale(&self, wanted: &Wanted<'_>) -> Result<Vec<String>, kube::Error> {
        let services: Api<Service> = self.api(wanted);
        let maps: Api<ConfigMap> = self.api(wanted);
        let secrets: Api<Secret> = self.api(wanted);
        let (peers, clients, map) =
            (wanted.service(), wanted.client_service(), wanted.config_map());
        let [to_peers, to_clients, settings] =
            [peers.name_any(), clients.name_any(), map.name_any()];
        let leader = wanted.leader();
        let [(_, of_members), (_, of_clients)] = certificates(wanted);
        // All at once: each is a way to the API server and back, in every pass.
        let (live_peers, live_clients, led, policy, live_map, members, attached) = tokio::try_join!(
            services.get_opt(&to_peers),
            services.get_opt(&to_clients),
            services.get_opt(&leader),
            self.policy(wanted),
            maps.get_opt(&settings),
            secrets.get_opt(&of_members),
            secrets.get_opt(&of_clients),
        )?;
        let mut stale = Vec::new();
        self.compare(wanted, &peers, live_peers.as_ref(), &mut stale);
        self.compare(wanted, &clients, live_clients.as_ref(), &mut stale);
        self.compare_optional(wanted, wanted.leader_service(), led, &mut stale);
        self.compare_optional(wanted, wanted.network_policy(), policy, &mut stale);
        self.compare(wanted, &map, live_map.as_ref(), &mut stale);
        for (name, secret) in [(of_members, members), (of_clients, attached)] {
            let good = secret.filter(|secret| self.is_good(secret, wanted));
            let kind = format!("Secret {name}");
            let same = good.is_some_and(|live| {
                self.is_fresh(wanted, &kind, &mark(&wanted.certified(), &live))
            });
            if !same {
                stale.push(kind);
            }
        }
        Ok(stale)
    }

    /// Notes an object that is not there as it was applied last.
    fn compare<K>(&self, wanted: &Wanted, object: &K, live: Option<&K>, stale: &mut Vec<String>)
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let kind = kind(object);
        let same = |live: &K| self.is_fresh(wanted, &kind, &mark(object, live));
        if !live.is_some_and(same) {
            stale.push(kind);
        }
    }

    /// The same for one that need not be wanted; what is somebody else's is of no matter.
    fn compare_optional<K>(
        &self,
        wanted: &Wanted,
        object: Option<K>,
        live: Option<K>,
        stale: &mut Vec<String>,
    ) where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let live = live.filter(|live| is_owned(live, wanted));
        match object {
            Some(object) => self.compare(wanted, &object, live.as_ref(), stale),
            None => stale.extend(live.as_ref().map(kind)),
        }
    }

    fn is_good(&self, secret: &Secret, wanted: &Wanted) -> bool {
        let told = secret.annotations();
        let ours = is_owned(secret, wanted);
        let due = told.get(RENEW_ON).is_none_or(|day| is_due(day));
        let made_for = told.get(MADE_FOR) == Some(&hash(&wanted.certified()));
        ours && !due && made_for && told.get(AUTHORITY) == Some(&self.authority.get().mark())
    }

    /// Whether both Secrets of a resource are of who signs and who is trusted now; `None`: one of
    /// them is not there.
    ///
    /// # Errors
    /// The API server's.
    pub async fn is_certified(&self, wanted: &Wanted<'_>) -> Result<Option<bool>, kube::Error> {
        let secrets: Api<Secret> = self.api(wanted);
        let (now, mut all) = (self.authority.get().mark(), true);
        for (_, name) in certificates(wanted) {
            let Some(secret) = secrets.get_opt(&name).await? else { return Ok(None) };
            all &= secret.annotations().get(AUTHORITY) == Some(&now);
        }
        Ok(Some(all))
    }

    /// Makes the plain objects as wanted. Certificates stay as long as they are good.
    ///
    /// # Errors
    /// The API server's, or the cryptography's in words.
    pub async fn settle(&self, wanted: &Wanted<'_>) -> Result<(), String> {
        // First of all: nothing that is wrong with the others keeps old trust alive.
        self.settle_certificates(wanted).await?;
        for service in [wanted.service(), wanted.client_service()] {
            self.put(wanted, &service).await?;
        }
        self.settle_leader(wanted).await?;
        self.put(wanted, &wanted.config_map()).await?;
        self.settle_policy(wanted).await
    }

    async fn settle_certificates(&self, wanted: &Wanted<'_>) -> Result<(), String> {
        let secrets: Api<Secret> = self.api(wanted);
        for (part, name) in certificates(wanted) {
            let now = secrets.get_opt(&name).await.map_err(|e| e.to_string())?;
            // A write that was held up must not bring back what was trusted when it began.
            let version = now.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
            let live = match now.filter(|secret| self.is_good(secret, wanted)) {
                Some(secret) => secret,
                None => {
                    let mut secret = self.secret(wanted, part, &name)?;
                    secret.metadata.resource_version = version;
                    self.apply(wanted, &secret).await?
                }
            };
            let mark = mark(&wanted.certified(), &live);
            self.mark(wanted, &format!("Secret {name}"), mark);
        }
        Ok(())
    }

    async fn settle_leader(&self, wanted: &Wanted<'_>) -> Result<(), String> {
        if let Some(service) = wanted.leader_service() {
            return self.put(wanted, &service).await;
        }
        // Not wanted any more; the slice goes with it.
        self.remove::<Service>(&wanted.leader(), wanted).await?;
        self.remove::<EndpointSlice>(&wanted.leader(), wanted).await
    }

    async fn settle_policy(&self, wanted: &Wanted<'_>) -> Result<(), String> {
        if let Some(policy) = wanted.network_policy() {
            return self.put(wanted, &policy).await;
        }
        match self.policy(wanted).await.map_err(|e| e.to_string())? {
            Some(_) => self.remove::<NetworkPolicy>(&wanted.ports(), wanted).await,
            None => Ok(()),
        }
    }

    /// What limits who reaches the members' ports. Roles that others keep may be of a time before
    /// there was any: who may not look finds none.
    async fn policy(&self, wanted: &Wanted<'_>) -> Result<Option<NetworkPolicy>, kube::Error> {
        let policies: Api<NetworkPolicy> = self.api(wanted);
        match policies.get_opt(&wanted.ports()).await {
            Err(kube::Error::Api(refused)) if refused.code == 403 => Ok(None),
            found => found,
        }
    }

    /// Applies an object, and remembers what came of it.
    async fn put<K>(&self, wanted: &Wanted<'_>, object: &K) -> Result<(), String>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let live = self.apply(wanted, object).await?;
        self.mark(wanted, &kind(object), mark(object, &live));
        Ok(())
    }

    /// Removes what was made for this resource; what is somebody else's stays.
    ///
    /// # Errors
    /// The API server's, in words.
    pub async fn remove<K>(&self, name: &str, wanted: &Wanted<'_>) -> Result<(), String>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api(wanted);
        let failed = |error: kube::Error| error.to_string();
        let live = api.get_opt(name).await.map_err(failed)?;
        let Some(live) = live.filter(|live| is_owned(live, wanted)) else { return Ok(()) };
        let uid = live.uid().unwrap_or_default();
        api.delete(name, &exactly(&uid, None)).await.map_err(failed)?;
        Ok(())
    }

    fn secret(&self, wanted: &Wanted, part: &str, name: &str) -> Result<Secret, String> {
        let trust = self.authority.get();
        let issued = trust.signer.issue(part, &wanted.certificate_label());
        let issued = issued.map_err(|error| error.to_string())?;
        let mut secret = Secret {
            metadata: wanted.config_map().metadata,
            type_: Some("kubernetes.io/tls".to_owned()),
            string_data: Some(BTreeMap::from([
                ("tls.crt".to_owned(), issued.cert),
                ("tls.key".to_owned(), issued.key),
                ("ca.crt".to_owned(), trust.bundle()),
            ])),
            ..Secret::default()
        };
        secret.metadata.name = Some(name.to_owned());
        if name == wanted.clients() {
            let settings = (ATTACH_SETTINGS.to_owned(), wanted.attach_settings());
            secret.string_data.get_or_insert_default().extend([settings]);
        }
        secret.annotations_mut().insert(RENEW_ON.to_owned(), issued.renew_on);
        secret.annotations_mut().insert(AUTHORITY.to_owned(), trust.mark());
        secret.annotations_mut().insert(MADE_FOR.to_owned(), hash(&wanted.certified()));
        Ok(secret)
    }

    /// Applies an object that nobody is disturbed by.
    ///
    /// # Errors
    /// The API server's, in words.
    pub async fn apply<K>(&self, wanted: &Wanted<'_>, object: &K) -> Result<K, String>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize,
        K: std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.api(wanted);
        let params = PatchParams::apply(MANAGER).force();
        let name = object.name_any();
        api.patch(&name, &params, &Patch::Apply(object)).await.map_err(|error| error.to_string())
    }

    /// Whether a StatefulSet is as it was when the wanted one was written last.
    #[must_use]
    pub fn is_current(&self, set: &StatefulSet, wanted: &Wanted) -> bool {
        self.is_fresh(wanted, "StatefulSet", &set_mark(set, wanted))
    }

    /// Remembers what came of writing the wanted StatefulSet.
    pub fn wrote(&self, set: &StatefulSet, wanted: &Wanted) {
        self.mark(wanted, "StatefulSet", set_mark(set, wanted));
    }
}

/// Deletes only the object with this UID, and only in this state if there is one.
#[must_use]
pub fn exactly(uid: &str, resource_version: Option<&str>) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: resource_version.map(str::to_owned),
    })
}

fn is_owned(object: &impl Resource, wanted: &Wanted) -> bool {
    let uid = wanted.cluster.metadata.uid.as_ref();
    object.meta().owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid)
}

/// Names and numbers of a slice's ports.
fn ports(slice: &EndpointSlice) -> Vec<(String, Option<i32>)> {
    let ports = slice.ports.iter().flatten();
    ports.map(|port| (port.name.clone().unwrap_or_default(), port.port)).collect()
}

/// The number of pods is not compared: it is changed by steps of its own.
fn set_mark(set: &StatefulSet, wanted: &Wanted) -> Mark {
    let mut live = object(&set.spec);
    live["replicas"] = Value::Null;
    let owners = object(&set.metadata.owner_references);
    Mark { wanted: hash(&object(&wanted.stateful_set(0))), live: hash(&json!([live, owners])) }
}

/// Whom each certificate is for, and the Secret that it is in.
fn certificates(wanted: &Wanted) -> [(&'static str, String); 2] {
    [("member", wanted.certificate()), ("client", wanted.clients())]
}

/// An object as `Kind name`.
fn kind<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

fn mark<K: Resource>(wanted: &impl Serialize, live: &K) -> Mark {
    let live = live.meta().resource_version.clone().unwrap_or_default();
    Mark { wanted: hash(&object(wanted)), live }
}

fn key(wanted: &Wanted, kind: &str) -> String {
    let namespace = wanted.cluster.namespace().unwrap_or_default();
    format!("/{namespace}/{}/{kind}/{}", wanted.name(), wanted.certificate_label())
}

fn object(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}
