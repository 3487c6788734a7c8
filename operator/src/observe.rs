//! Reads everything that one pass decides from, from the API server and from each sidecar.
//!
//! Nothing here is from a cache: what is decided may destroy. Must not write anything.

use crate::admin::{Target, address};
use crate::build::{
    LABEL_CLUSTER, LABEL_COMPONENT, LABEL_UID, PULL, REPLACES, SIDECAR, TEMPLATE_HASH, VOLUME,
    Wanted,
};
use crate::context::Context;
use crate::crd::{MemberStatus, RaftCluster};
use crate::observed::{
    Budget, Claim, Cluster, Identity, Member, Observed, Ordinal, Pod, Pull, Set,
};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{self, PersistentVolumeClaim};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::core::{Selector, SelectorExt as _};
use quorate_proto::admin::{MemberAddress, StatusRequest};
use std::collections::BTreeMap;

/// What was read, and how to reach the sidecars.
pub struct Read {
    /// What `plan` sees.
    pub observed: Observed,
    /// Where each pod's admin port is.
    pub targets: BTreeMap<Ordinal, Target>,
}

/// Reads it all.
///
/// # Errors
/// The API server's.
pub async fn observe(context: &Context, wanted: &Wanted<'_>) -> Result<Read, kube::Error> {
    let resource = wanted.cluster;
    let namespace = resource.namespace().unwrap_or_default();
    let cluster = cluster(wanted);
    let name = cluster.name.clone();
    let client = &context.client;
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<v1::Pod> = Api::namespaced(client.clone(), &namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &namespace);
    let mine = ListParams::default().labels(&format!("{LABEL_CLUSTER}={name}"));
    let all = ListParams::default();
    let (route, set, pods, claims, budgets, stale) = tokio::try_join!(
        context.route(wanted),
        sets.get_opt(&name),
        pods.list(&mine),
        claims.list(&mine),
        budgets.list(&all),
        context.stale(wanted),
    )?;
    let is =
        |pod: &v1::Pod, what: &str| pod.labels().get(LABEL_COMPONENT).is_some_and(|it| it == what);
    let pulls = pods.items.iter().filter(|pod| is(pod, PULL)).map(read_pull).collect();
    let by_ordinal = |pod: v1::Pod| Some((cluster.ordinal(&pod.name_any())?, pod));
    let members = pods.items.into_iter().filter(|pod| is(pod, "member"));
    let pods: BTreeMap<Ordinal, v1::Pod> = members.filter_map(by_ordinal).collect();
    let label = wanted.certificate_label();
    let targets: BTreeMap<Ordinal, Target> =
        pods.iter().filter_map(|(ordinal, pod)| Some((*ordinal, target(pod, &label)?))).collect();
    let elections = cluster.spec.leader_service.iter().map(|of| of.election.clone()).collect();
    let question = StatusRequest { addresses: places(&cluster, &targets), elections };
    let members = ask(context, &targets, &question).await;
    let (ours, others): (Vec<_>, Vec<_>) =
        budgets.items.into_iter().partition(|budget| budget.name_any() == name);
    let rivals = others.iter().filter(|budget| pods.values().any(|pod| matches(budget, pod)));
    let observed = Observed {
        now_s: jiff::Timestamp::now().as_second(),
        stale,
        set: set.map(|set| read_set(context, &set, wanted)),
        pods: pods.iter().map(|(ordinal, pod)| (*ordinal, read_pod(pod))).collect(),
        pulls,
        claims: read_claims(&cluster, claims.items),
        members,
        route,
        budget: ours.first().map(read_budget),
        rivals: rivals.map(|budget| budget.name_any()).collect(),
        cluster,
    };
    Ok(Read { observed, targets })
}

fn cluster(wanted: &Wanted) -> Cluster {
    let resource = wanted.cluster;
    Cluster {
        name: resource.name_any(),
        namespace: resource.namespace().unwrap_or_default(),
        uid: resource.uid().unwrap_or_default(),
        generation: resource.metadata.generation.unwrap_or(0),
        spec: resource.spec.clone(),
        status: resource.status.clone().unwrap_or_default(),
        template_hash: wanted.template_hash(),
        image: wanted.image.clone(),
    }
}

/// The image that a resource's sidecars are to run: its own, the one it was created with, or ours.
#[must_use]
pub fn image(resource: &RaftCluster, default: &str) -> String {
    let told = resource.status.as_ref().and_then(|status| status.image.as_deref());
    resource.spec.sidecar.image.as_deref().or(told).unwrap_or(default).to_owned()
}

/// How to reach a pod of the group with this label in certificates; `None`: it has no address yet.
#[must_use]
pub fn target(pod: &v1::Pod, label: &str) -> Option<Target> {
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
    let ip = ip.parse().ok()?;
    Some(Target { pod: pod.name_any(), uid: pod.uid()?, ip, label: label.to_owned() })
}

/// Where the members are that were told last: where all pods are new, the DNS knows none of them.
fn places(cluster: &Cluster, targets: &BTreeMap<Ordinal, Target>) -> Vec<MemberAddress> {
    let members = cluster.status.members.iter().filter(|told| told.role != "None");
    let place = |told: &MemberStatus| {
        let target = targets.get(&cluster.ordinal(&told.name)?)?;
        Some(address(Identity::parse(&told.member_id)?, target))
    };
    members.filter_map(place).collect()
}

async fn ask(
    context: &Context,
    targets: &BTreeMap<Ordinal, Target>,
    question: &StatusRequest,
) -> BTreeMap<Ordinal, Member> {
    let asked: Vec<_> = targets
        .iter()
        .map(|(ordinal, target)| {
            let (admins, target) = (context.admins.clone(), target.clone());
            let question = question.clone();
            (*ordinal, tokio::spawn(async move { admins.status(&target, question).await }))
        })
        .collect();
    let mut members = BTreeMap::new();
    for (ordinal, answer) in asked {
        if let Ok(Ok(member)) = answer.await {
            members.insert(ordinal, member);
        }
    }
    members
}

fn read_set(context: &Context, set: &StatefulSet, wanted: &Wanted) -> Set {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    Set {
        uid: set.uid().unwrap_or_default(),
        resource_version: set.resource_version().unwrap_or_default(),
        replicas: u32::try_from(replicas).unwrap_or(0),
        current: context.is_current(set, wanted),
        deleting: set.metadata.deletion_timestamp.is_some(),
    }
}

fn read_pod(pod: &v1::Pod) -> Pod {
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let containers = spec
        .into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let sidecar = containers.into_iter().find(|container| container.name == SIDECAR);
    let runs = running(pod);
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Pod {
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        ready,
        template_hash: pod.annotations().get(TEMPLATE_HASH).cloned().unwrap_or_default(),
        image: sidecar.and_then(|sidecar| sidecar.image.clone()).unwrap_or_default(),
        running_image: runs.map(|status| status.image.clone()).unwrap_or_default(),
        restarting: container(pod).is_some_and(|id| pod.annotations().get(REPLACES) == Some(&id)),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
    }
}

/// Where a pod fetches an image, and how far it is.
fn read_pull(pod: &v1::Pod) -> (String, Pull) {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let told = |of: Option<&String>| of.cloned().unwrap_or_default();
    let phase = told(status.and_then(|status| status.phase.as_ref()));
    let container = status.and_then(|status| status.container_statuses.iter().flatten().next());
    let state = container.and_then(|container| container.state.as_ref());
    // It waits for nothing but its image; "ContainerCreating" is the one word for under way.
    let waits = state.and_then(|state| state.waiting.as_ref());
    let waits = waits.filter(|waits| waits.reason.as_deref() != Some("ContainerCreating"));
    let failed = match waits {
        _ if phase == "Failed" => {
            let ended = state.and_then(|state| state.terminated.as_ref());
            ended.map_or_else(
                || told(status.and_then(|status| status.message.as_ref())),
                |ended| format!("it ended with {}", ended.exit_code),
            )
        }
        Some(waits) => {
            let reason = told(waits.reason.as_ref());
            format!("{reason} {}", told(waits.message.as_ref())).trim().to_owned()
        }
        None => String::new(),
    };
    let image = spec.and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
    let pull = Pull {
        uid: pod.uid().unwrap_or_default(),
        deleting: pod.metadata.deletion_timestamp.is_some(),
        image,
        done: phase == "Succeeded",
        failed,
    };
    (told(spec.and_then(|spec| spec.node_name.as_ref())), pull)
}

/// What the kubelet tells of the sidecar's container, while it runs.
fn running(pod: &v1::Pod) -> Option<&v1::ContainerStatus> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let mut all = init.chain(status.container_statuses.iter().flatten());
    all.find(|status| status.name == SIDECAR)
        .filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
}

/// Which container of the sidecar runs.
#[must_use]
pub fn container(pod: &v1::Pod) -> Option<String> {
    running(pod)?.container_id.clone()
}

/// Whether a disruption budget is about a pod. An empty selector is about all, none about none.
fn matches(budget: &PodDisruptionBudget, pod: &v1::Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    let selector = selector.and_then(|selector| Selector::try_from(selector).ok());
    selector.is_some_and(|selector| selector.matches(pod.labels()))
}

fn read_claims(cluster: &Cluster, claims: Vec<PersistentVolumeClaim>) -> BTreeMap<Ordinal, Claim> {
    let read = |claim: PersistentVolumeClaim| {
        let name = claim.name_any();
        let pod = name.strip_prefix(VOLUME)?.strip_prefix('-')?;
        let read = Claim {
            uid: claim.uid().unwrap_or_default(),
            resource_version: claim.resource_version().unwrap_or_default(),
            deleting: claim.metadata.deletion_timestamp.is_some(),
            made_for: claim.labels().get(LABEL_UID).cloned().unwrap_or_default(),
            small: is_small(&claim, &cluster.spec.storage.size),
        };
        Some((cluster.ordinal(pod)?, read))
    };
    claims.into_iter().filter_map(read).collect()
}

/// Only a claim that has its volume can grow.
fn is_small(claim: &PersistentVolumeClaim, wanted: &str) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let asked = requests.and_then(|requests| bytes(&requests.get("storage")?.0));
    let less = asked.zip(bytes(wanted)).is_some_and(|(asked, wanted)| asked < wanted);
    phase == Some("Bound") && less
}

/// Of a quantity in a binary unit or without one; `None` for every other, which nobody of ours
/// writes.
fn bytes(quantity: &str) -> Option<u128> {
    let unit = quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at(unit);
    let times = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok().map(|number| u128::from(number) << times)
}

fn read_budget(budget: &PodDisruptionBudget) -> Budget {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let most = budget.spec.as_ref().and_then(|spec| spec.max_unavailable.as_ref());
    let max_unavailable = match most {
        Some(IntOrString::Int(most)) => u32::try_from(*most).unwrap_or(0),
        _ => u32::MAX,
    };
    let status = budget.status.as_ref();
    let seen = status.and_then(|status| status.observed_generation);
    let quiet = status.is_none_or(|status| {
        let disrupted = status.disrupted_pods.as_ref().is_none_or(|pods| pods.is_empty());
        max_unavailable > 0 || status.disruptions_allowed == 0 && disrupted
    });
    Budget { max_unavailable, observed: seen == budget.metadata.generation && quiet }
}
