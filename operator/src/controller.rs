//! The loop: a change of a resource, or of what is made for it, brings one pass.
//!
//! One pass: read afresh, plan at most one step, tell it in the status, do it. What is about to be
//! done is in the status before it is done. Passes of one resource never overlap.

use crate::apply::{Pass, apply};
use crate::build::{LABEL_CLUSTER, LABEL_COMPONENT, Wanted};
use crate::context::Context;
use crate::crd::{Birth, RaftCluster, RaftClusterStatus, Recovers};
use crate::follow::{Follow, Wake};
use crate::http::Health;
use crate::observe::{Read, image, observe};
use crate::observed::{Identity, Observed};
use crate::plan::plan;
use crate::status::status;
use crate::step::{Plan, Step};
use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, PostParams};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Client, Resource as _, ResourceExt as _};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A resource at rest is looked at again after this, without any sign.
const REST: Duration = Duration::from_secs(30);
/// Something is on its way.
const AWAIT: Duration = Duration::from_secs(1);
/// Soon after a step, or a change: a member has the log, a joint configuration is left, or somebody
/// is elected within moments.
const AWAIT_SOON: Duration = Duration::from_millis(200);
const SOON: Duration = Duration::from_secs(10);
/// After a step: what comes next may be possible at once.
const NEXT: Duration = Duration::from_millis(50);
/// Where only somebody else can help, and after a failure that came again and again.
const AGAIN: Duration = Duration::from_secs(2);
/// After a first failure; twice as long after each further one.
const AGAIN_SOON: Duration = Duration::from_millis(200);
/// A token is a life's epoch, and below it 48 bits of what counts in it.
const N_BITS: u32 = 48;
/// The API server takes 1,024 bytes.
const NOTE_CHARS_MAX: usize = 250;
/// Resources that are worked on at once.
const CONCURRENCY: u16 = 8;
/// Seconds of a day, and the day on which epochs begin: 2025-01-01.
const DAY_S: i64 = 86_400;
const EPOCH_BEGIN_S: i64 = 1_735_689_600;

/// Why a pass ended early.
#[derive(Debug)]
pub struct Failed(String);

impl Failed {
    /// Whether the whole namespace is going: nothing can be made in it, and nothing needs to be.
    fn is_of_the_end(&self) -> bool {
        self.0.contains("because it is being terminated")
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl From<kube::Error> for Failed {
    fn from(error: kube::Error) -> Failed {
        Failed(error.to_string())
    }
}

/// What a controller carries.
struct Shared {
    context: Arc<Context>,
    recorder: Recorder,
    report: fn(String),
    follow: Follow,
    health: Health,
    recent: Mutex<HashMap<ObjectRef<RaftCluster>, Recent>>,
}

/// What is remembered of a resource from pass to pass.
#[derive(Default)]
struct Recent {
    /// When something was done, or was another than before.
    acted: Option<Instant>,
    /// After the last pass, if it failed.
    pause: Duration,
}

impl Shared {
    /// A resource that is gone.
    fn forget(&self, namespace: &str, name: &str) {
        let of = ObjectRef::new(name).within(namespace);
        self.context.forget(namespace, name);
        self.follow.forget(&of);
        self.recent().remove(&of);
    }

    fn recent(&self) -> MutexGuard<'_, HashMap<ObjectRef<RaftCluster>, Recent>> {
        // Nothing panics while it is held.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acted(&self, resource: &RaftCluster) {
        let mut recent = self.recent();
        recent.entry(ObjectRef::from_obj(resource)).or_default().acted = Some(Instant::now());
    }

    /// When to look again at one whose pass failed.
    fn failed(&self, resource: &RaftCluster) -> Duration {
        let mut recent = self.recent();
        let pause = &mut recent.entry(ObjectRef::from_obj(resource)).or_default().pause;
        *pause = (*pause * 2).clamp(AGAIN_SOON, AGAIN);
        *pause
    }
}

/// Works until `end` comes, in these namespaces; none: in all. Passes are counted in `health`.
pub async fn run(
    context: Arc<Context>,
    health: Health,
    namespaces: &[String],
    report: fn(String),
    end: impl Future<Output = ()> + Send + Sync + Clone + 'static,
) {
    let client = context.client.clone();
    let reporter = Reporter { controller: "quorate-operator".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let follow = Follow::default();
    let (looked, recent) = (follow.clone(), Mutex::default());
    let shared = Arc::new(Shared { context, recorder, report, follow: looked, health, recent });
    let scopes: Vec<Option<&str>> = match namespaces {
        [] => vec![None],
        some => some.iter().map(|name| Some(name.as_str())).collect(),
    };
    let (wakes, woken): (Vec<Wake>, Vec<_>) =
        scopes.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let looks = tokio::spawn(follow.run(shared.context.admins.clone(), wakes));
    let loops = scopes.into_iter().zip(woken).map(|(namespace, woken)| {
        one(&client, (namespace, woken), Arc::clone(&shared), end.clone())
    });
    futures_util::future::join_all(loops).await;
    looks.abort();
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The resource that a labelled object belongs to.
fn owner(
    labels: &std::collections::BTreeMap<String, String>,
    namespace: Option<String>,
) -> Option<ObjectRef<RaftCluster>> {
    let name = labels.get(LABEL_CLUSTER)?;
    Some(ObjectRef::new(name).within(&namespace?))
}

async fn one(
    client: &Client,
    (namespace, mut woken): (Option<&str>, mpsc::UnboundedReceiver<ObjectRef<RaftCluster>>),
    shared: Arc<Shared>,
    end: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let ours = watcher::Config::default().labels(&format!("{LABEL_COMPONENT} in (member,pull)"));
    let labelled = watcher::Config::default().labels(LABEL_CLUSTER);
    let pods = api::<Pod>(client, namespace);
    let claims = api::<PersistentVolumeClaim>(client, namespace);
    let (report, forgetful) = (shared.report, Arc::clone(&shared));
    Controller::new(api::<RaftCluster>(client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(api::<StatefulSet>(client, namespace), watcher::Config::default())
        .watches(pods, ours, |pod: Pod| owner(pod.labels(), pod.namespace()))
        .watches(claims, labelled, |claim: PersistentVolumeClaim| {
            owner(claim.labels(), claim.namespace())
        })
        .reconcile_on(futures_util::stream::poll_fn(move |context| woken.poll_recv(context)))
        // Every member's certificate has to be of the authority that is now.
        .reconcile_all_on(shared.context.authority.changes())
        .graceful_shutdown_on(end)
        .run(counted, |of, _, shared| Action::requeue(shared.failed(&of)), shared)
        .for_each(|done| {
            match done {
                // A resource that was deleted meanwhile is no failure.
                Err(kube::runtime::controller::Error::ObjectNotFound(gone)) => {
                    forgetful.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
                Err(error) => report(error.to_string()),
                Ok(_) => {}
            }
            std::future::ready(())
        })
        .await;
}

async fn counted(resource: Arc<RaftCluster>, shared: Arc<Shared>) -> Result<Action, Failed> {
    let begun = Instant::now();
    let of = ObjectRef::from_obj(&*resource);
    let ended = pass(resource, Arc::clone(&shared)).await;
    shared.health.passed(begun.elapsed(), ended.is_err());
    if ended.is_ok()
        && let Some(recent) = shared.recent().get_mut(&of)
    {
        recent.pause = Duration::ZERO;
    }
    ended
}

/// One pass over one resource.
async fn pass(resource: Arc<RaftCluster>, shared: Arc<Shared>) -> Result<Action, Failed> {
    let namespace = resource.namespace().unwrap_or_default();
    let api: Api<RaftCluster> = Api::namespaced(shared.context.client.clone(), &namespace);
    let Some(resource) = api.get_opt(&resource.name_any()).await? else {
        shared.forget(&namespace, &resource.name_any());
        return Ok(Action::await_change());
    };
    if resource.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let image = image(&resource, &shared.context.image);
    let wanted =
        Wanted { cluster: &resource, image, operator_namespace: &shared.context.namespace };
    let read = observe(&shared.context, &wanted).await?;
    shared.follow.saw(ObjectRef::from_obj(&resource), &read);
    let plan = plan(&read.observed);
    let told = told(&read.observed, &plan, &wanted.image).map_err(Failed)?;
    let before = resource.status.clone().unwrap_or_default();
    let resource = if told == before {
        resource.clone()
    } else {
        shared.acted(&resource);
        write(&api, &resource, told, &shared).await?
    };
    announce(&shared, &resource, &before, &plan).await;
    if let Err(failed) = act(&shared, &wanted, &read, &plan).await {
        if failed.is_of_the_end() {
            return Ok(Action::requeue(REST));
        }
        publish(&shared, &resource, EventType::Warning, "StepFailed", &failed.0).await;
        return Err(failed);
    }
    Ok(Action::requeue(match plan.step {
        Step::Rest => REST,
        Step::Await => {
            let at = shared.recent().get(&ObjectRef::from_obj(&resource)).and_then(|of| of.acted);
            if at.is_some_and(|at| at.elapsed() < SOON) { AWAIT_SOON } else { AWAIT }
        }
        Step::Blocked => AGAIN,
        _ => {
            shared.acted(&resource);
            NEXT
        }
    }))
}

async fn act(shared: &Shared, wanted: &Wanted<'_>, read: &Read, plan: &Plan) -> Result<(), Failed> {
    let pass = Pass { context: &shared.context, wanted, read };
    let name = wanted.name();
    if !matches!(plan.step, Step::Rest | Step::Await | Step::Blocked) {
        (shared.report)(format!("{name}: {:?}: {}", plan.step, plan.why));
    }
    apply(&pass, &plan.step).await.map_err(|why| Failed(format!("{name}: {why}")))
}

/// The status to be: what is seen, and what the step itself writes down.
fn told(o: &Observed, plan: &Plan, image: &str) -> Result<RaftClusterStatus, String> {
    let mut told = status(o, plan);
    told.image.get_or_insert_with(|| image.to_owned());
    match &plan.step {
        Step::Conceive { seed, member } => {
            told.birth = Some(conceived(o, *seed, *member)?);
        }
        Step::Adopt { seed, member, cluster } => {
            let seed = o.cluster.pod_name(*seed);
            let (member_id, cluster_id) = (member.to_string(), cluster.to_string());
            // No life that was written down is forgotten: the next one is above it.
            let life = told.birth.take().map(|before| (before.epoch, before.last_n));
            let (epoch, last_n) = life.unwrap_or_else(|| (0, "0".to_owned()));
            let (confirmed, recovers) = (true, None);
            told.birth =
                Some(Birth { seed, member_id, cluster_id, epoch, last_n, confirmed, recovers });
        }
        Step::Forsake { survivor, member, lost, hold_off } => {
            let recovers = Recovers { cluster_id: lost.to_string(), hold_off_seconds: *hold_off };
            let birth = conceived(o, *survivor, *member)?;
            told.birth = Some(Birth { recovers: Some(recovers), ..birth });
        }
        Step::Born => {
            if let Some(birth) = told.birth.as_mut() {
                birth.confirmed = true;
            }
        }
        _ => {}
    }
    Ok(told)
}

/// A new group, in a life of the tokens above every earlier one of this resource, and above all
/// that its first member knows of.
fn conceived(o: &Observed, seed: u32, member: Identity) -> Result<Birth, String> {
    let mut bits = [0; 16];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bits)
        .map_err(|_| "no random bytes".to_owned())?;
    let cluster = Identity::from_bytes(&bits).ok_or("no random bytes")?;
    let since = o.now_s - EPOCH_BEGIN_S;
    let epoch = i32::try_from(since / DAY_S).map_err(|_| "the clock is wrong")?;
    let last_n = u64::try_from(since % DAY_S).map_err(|_| "the clock is wrong")? << 31;
    let birth = o.cluster.status.birth.as_ref();
    let told = birth.map(|before| (before.epoch, before.last_n.parse().unwrap_or(u64::MAX)));
    let known = o.members.get(&seed).map(|member| member.last_token);
    let known = known.and_then(|token| {
        Some((i32::try_from(token >> N_BITS).ok()?, token & ((1 << N_BITS) - 1)))
    });
    let mut life = (epoch, last_n);
    if let Some(earlier) = told.max(known).filter(|earlier| life <= *earlier) {
        life = (earlier.0 + 1, 0);
    }
    Ok(Birth {
        seed: o.cluster.pod_name(seed),
        member_id: member.to_string(),
        cluster_id: cluster.to_string(),
        epoch: life.0,
        last_n: life.1.to_string(),
        confirmed: false,
        recovers: None,
    })
}

/// With the state that was read: a status that somebody else wrote meanwhile refuses this one.
async fn write(
    api: &Api<RaftCluster>,
    resource: &RaftCluster,
    told: RaftClusterStatus,
    shared: &Shared,
) -> Result<RaftCluster, Failed> {
    if !shared.context.hold.outlives_a_request() {
        return Err(Failed("the Lease may end before this request does".to_owned()));
    }
    let mut resource = resource.clone();
    resource.status = Some(told);
    let name = resource.name_any();
    Ok(api.replace_status(&name, &PostParams::default(), &resource).await?)
}

/// An Event for each step, and for each new reason to be blocked.
async fn announce(
    shared: &Shared,
    resource: &RaftCluster,
    before: &RaftClusterStatus,
    plan: &Plan,
) {
    let reason = match &plan.step {
        Step::Rest | Step::Await | Step::Settle | Step::Budget(_) | Step::Unpull { .. } => return,
        Step::Blocked => {
            let told = before.conditions.iter().any(|condition| condition.message == plan.why);
            if told {
                return;
            }
            "Blocked"
        }
        Step::Template { .. } => "PodsDefined",
        Step::Scale { .. } => "Scaled",
        Step::Conceive { .. } | Step::Bootstrap { .. } => "Bootstrapping",
        Step::Adopt { .. } => "Adopted",
        Step::Born => "Bootstrapped",
        Step::Forsake { .. } => "RecoveryBegun",
        Step::Recover { .. } => "Recovering",
        Step::Change { .. } => "MembershipChange",
        Step::Transfer { .. } => "LeaderTransfer",
        Step::Drain(_) => "Draining",
        Step::Undrain(_) => "Undraining",
        Step::Retire { .. } => "Retired",
        Step::Evict { .. } => "PodEvicted",
        Step::Delete { .. } => "PodDeleted",
        Step::Patch { .. } => "SidecarImageChanged",
        Step::Pull { .. } => "ImageFetched",
        Step::Route(_) => "LeaderRouted",
        Step::Enlarge { .. } => "VolumeEnlarged",
        Step::Discard { .. } => "VolumeDiscarded",
    };
    let type_ = if plan.step == Step::Blocked { EventType::Warning } else { EventType::Normal };
    publish(shared, resource, type_, reason, &plan.why).await;
}

/// An Event that is lost is only a line less to read; one that comes again is counted.
async fn publish(
    shared: &Shared,
    resource: &RaftCluster,
    type_: EventType,
    reason: &str,
    note: &str,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note.chars().take(NOTE_CHARS_MAX).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let _ = shared.recorder.publish(&event, &resource.object_ref(&())).await; // As said.
}
