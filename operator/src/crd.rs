//! The resource: what a user writes as a `RaftCluster`, and what its status tells.
//!
//! Invariants: every list and string that a rule of the API server looks at has a bound, so that
//! the rules fit its cost limit; what is fixed for life is refused when it changes; descriptions of
//! the pod template are left out, so that the definition stays small enough for `kubectl apply`.
//! `crds/` is generated from here (`quorate-operator crd`).

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Annotations and labels of ours begin with this.
pub const GROUP: &str = "quorate.dev";
/// The longest name of a `RaftCluster`: pods and Services add to it, and a label has 63 bytes.
pub const NAME_BYTES_MAX: usize = 40;

/// What a user asks for.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "quorate.dev",
    version = "v1alpha1",
    kind = "RaftCluster",
    plural = "raftclusters",
    shortname = "raft",
    category = "all",
    namespaced,
    status = "RaftClusterStatus",
    derive = "PartialEq",
    doc = "Pods of an application, each with a Quorate sidecar; the sidecars are one Raft group.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Voters", type_ = "integer", json_path = ".status.voters"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 40 && \
        self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("the name is 1 to 40 of a-z, 0-9 and -, begins with a letter and ends with none \
            of -: pods and Services add to it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'Managed' ? has(self.template) : !has(self.template)")
        .message("mode Managed needs template, the pods of your application; Standalone takes \
            none"),
    validation = Rule::new("self.mode == oldSelf.mode")
        .message("mode is fixed for life; make another RaftCluster"),
    validation = Rule::new("(has(self.volumeClaimTemplates) ? self.volumeClaimTemplates : []) == \
        (has(oldSelf.volumeClaimTemplates) ? oldSelf.volumeClaimTemplates : [])")
        .message("volumeClaimTemplates is fixed for life; patch the PersistentVolumeClaims \
            themselves"),
    validation = Rule::new("self.maxVoters in [1, 3, 5, 7]")
        .message("maxVoters is odd, 1, 3, 5 or 7: an even number of voters tolerates no more \
            failures than one less"),
    validation = Rule::new("!has(self.template) || !has(self.template.spec) || \
        !has(self.template.spec.hostNetwork) || !self.template.spec.hostNetwork")
        .message("template.spec.hostNetwork is refused: two members on one node would share \
            their ports; remove it"),
    validation = Rule::new("!has(self.template) || !has(self.template.spec) || \
        !has(self.template.spec.terminationGracePeriodSeconds) || \
        self.template.spec.terminationGracePeriodSeconds >= 10")
        .message("template.spec.terminationGracePeriodSeconds is at least 10: the sidecar hands \
            over before it ends; write 30, or leave it out"),
    validation = Rule::new("!has(self.template) || !has(self.template.spec) || \
        self.template.spec.containers.all(c, !c.name.startsWith('quorate'))")
        .message("names of containers that begin with quorate are the sidecar's; take another"),
    validation = Rule::new("!has(self.template) || !has(self.template.spec) || \
        self.template.spec.containers.all(c, !has(c.ports) || \
        c.ports.all(p, p.containerPort < 7400 || p.containerPort > 7404))")
        .message("ports 7400 to 7404 of the pod are the sidecar's; take another containerPort"),
    validation = Rule::new("!has(self.template) || !has(self.template.metadata) || \
        !has(self.template.metadata.labels) || \
        self.template.metadata.labels.all(k, !k.startsWith('quorate.dev/'))")
        .message("labels of template that begin with quorate.dev/ are the operator's; remove them"),
)]
pub struct RaftClusterSpec {
    /// Managed: pods of your application, from template, each with a sidecar. Standalone: sidecars
    /// alone.
    #[serde(default)]
    pub mode: Mode,
    /// Pods. The largest odd number of them, at most maxVoters, vote; the rest are hot spares.
    /// 0 stops all of them and keeps their disks.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 99))]
    pub replicas: i32,
    /// The most pods that vote: 1, 3, 5 or 7.
    #[serde(default = "five")]
    #[schemars(range(min = 1, max = 7))]
    pub max_voters: i32,
    /// The pods of your application, as in a StatefulSet. The operator adds the sidecar, the socket
    /// at /run/quorate and QUORATE_ENDPOINT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplateSpec>,
    /// Volumes of the application's own, as in a StatefulSet. Fixed for life: patch the
    /// PersistentVolumeClaims themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub volume_claim_templates: Vec<PersistentVolumeClaim>,
    /// The sidecar's container.
    #[serde(default)]
    pub sidecar: Sidecar,
    /// The volume of each member's log.
    pub storage: Storage,
    /// A Service that leads to the pod that holds an election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_service: Option<LeaderService>,
    /// When a pod counts as ready.
    #[serde(default)]
    pub readiness_policy: ReadinessPolicy,
    /// Who reaches the ports of the members. None: whoever reaches the pods, since certificates
    /// guard the ports all the same. PortsOnly: a NetworkPolicy lets peers to 7401, the operator's
    /// namespace to 7402 and pods of this namespace to 7403; all other ports stay open to all.
    #[serde(default)]
    pub network_policy: NetworkAccess,
    /// Any change of this text restarts the pods, one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub restarted_at: Option<String>,
    /// The operator looks and tells, and changes nothing.
    #[serde(default)]
    pub paused: bool,
    /// Take over volumes that an earlier RaftCluster of this name left.
    #[serde(default)]
    pub adopt_existing: bool,
    /// What the operator does about lost members by itself.
    #[serde(default)]
    pub repair: Repair,
    /// The way back after a majority of the voters is lost for ever: one member goes on alone. The
    /// operator never does that by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
}

fn three() -> i32 {
    3
}

fn five() -> i32 {
    5
}

/// Whose pods the members are in.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The application's, from a template.
    #[default]
    Managed,
    /// Their own.
    Standalone,
}

/// When a pod counts as ready.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadinessPolicy {
    /// Once it has caught up after its start, for good: a lost quorum takes no pod out of a
    /// Service.
    #[default]
    Member,
    /// While it also knows a leader.
    Quorum,
}

/// Who reaches the ports of the members.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkAccess {
    /// Whoever reaches the pods.
    #[default]
    None,
    /// By a NetworkPolicy: peers, the operator, and pods of the namespace.
    PortsOnly,
}

/// The Service NAME-leader: it leads to the pod whose application holds an election, and to none
/// while nobody does. Whoever it leads to may have lost the election a moment ago: use the token.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.ports.all(p, has(p.name) || self.ports.size() == 1)")
        .message("of several leaderService.ports each has a name"),
)]
pub struct LeaderService {
    /// Its name, as in `quorate elect NAME`.
    #[schemars(length(min = 1, max = 255))]
    pub election: String,
    /// Where the Service listens, and the application does.
    #[schemars(length(min = 1, max = 32))]
    pub ports: Vec<LeaderPort>,
}

/// One port of the Service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LeaderPort {
    /// Needed if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Of the application; the same where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<i32>,
}

/// The sidecar's container.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// The image; the operator's own release, as of the creation, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// As in any container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub image_pull_policy: Option<String>,
    /// As in any container; 50m and 64Mi, at most 256Mi of memory, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// What the sidecar says: error, warn, info or debug.
    #[serde(default)]
    pub log: Log,
}

/// How much is said.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// Only what ends the process.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Everything.
    Debug,
}

impl Log {
    /// As the sidecar takes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Log::Error => "error",
            Log::Warn => "warn",
            Log::Info => "info",
            Log::Debug => "debug",
        }
    }
}

/// The volume of each member's log.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("quantity(self.size).isGreaterThan(quantity('99Mi'))")
        .message("storage.size is at least 100Mi: the log keeps a reserve; write 1Gi, say"),
    validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0")
        .message("storage.size can only grow: no volume becomes smaller; write the former size \
            or more"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && \
        (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storage.storageClassName is fixed for life; make another RaftCluster"),
)]
pub struct Storage {
    /// 100Mi or more: 1Gi, say. It may grow while the group works, if the storage class allows
    /// that; the volumes that are there grow with it.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti)$"))]
    pub size: String,
    /// The cluster's default class where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// What the operator does about lost members by itself.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// A voter that nobody reaches for so long is replaced by a spare; without one nothing is.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 10, max = 86400))]
    pub unreachable_seconds: i64,
}

fn five_minutes() -> i64 {
    300
}

impl Default for Repair {
    fn default() -> Repair {
        Repair { unreachable_seconds: five_minutes() }
    }
}

/// One member goes on alone, as another group: what only the lost ones knew is gone, all sessions
/// end, and tokens go on above all earlier ones. Of force only in the outage in which it was
/// written.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// The pod whose member goes on; the others come back as new members, with empty volumes.
    #[schemars(length(min = 1, max = 63))]
    pub survivor: String,
    /// Word for word: `the other members of CLUSTER are lost`, where CLUSTER is
    /// status.birth.clusterId of the lost group. So it is done once, and to this group.
    #[schemars(length(min = 1, max = 100))]
    pub confirm: String,
    /// Pods whose former members, on the disks that are lost, have stopped as you know, and the
    /// operator cannot: of a node that is gone, say. Pods of these names that are there now may be
    /// new. If one of the former still runs, two may hold a lock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub accept_running: Vec<String>,
    /// Nothing is granted for so long: at least the longest TTL of any session. The default is
    /// always enough.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 1200))]
    pub hold_off_seconds: i64,
}

fn ten_minutes() -> i64 {
    600
}

/// What is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RaftClusterStatus {
    /// The generation of the resource that the rest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The newest generation of the resource that was seen while a member led: what spec.recovery
    /// said by then is of no force in a later outage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led_generation: Option<i64>,
    /// One word: Creating, Ready, Scaling, Rolling, Enlarging, Repairing, Recovering, Degraded,
    /// NoQuorum, Stopped, Paused, Blocked.
    #[serde(default)]
    pub phase: String,
    /// The pods that `replicas` counts, as a label selector.
    #[serde(default)]
    pub selector: String,
    /// Pods that are there.
    #[serde(default)]
    pub replicas: i32,
    /// Pods that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Members that vote.
    #[serde(default)]
    pub voters: i32,
    /// Members that listen.
    #[serde(default)]
    pub learners: i32,
    /// The pod whose sidecar is the Raft leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The sidecar image of pods to come, if the spec names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How the group was founded; changes afterwards only if a survivor of it goes on alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth: Option<Birth>,
    /// The configuration that the rest was read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_index: Option<i64>,
    /// The members, by pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub members: Vec<MemberStatus>,
    /// What the operator is about; written before it acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// As usual.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// How the group was founded.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Birth {
    /// The pod whose member was the first one.
    pub seed: String,
    /// That member, 32 hexadecimal digits.
    pub member_id: String,
    /// The group, 32 hexadecimal digits.
    pub cluster_id: String,
    /// The life of the tokens that it began.
    pub epoch: i32,
    /// And where in it, as a decimal number: it does not fit a JSON number.
    pub last_n: String,
    /// Whether the seed has confirmed.
    #[serde(default)]
    pub confirmed: bool,
    /// It was no foundation: the seed survived another group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<Recovers>,
}

/// What a group goes on from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Recovers {
    /// The group that was lost, 32 hexadecimal digits.
    pub cluster_id: String,
    /// How long nothing is granted.
    pub hold_off_seconds: i64,
}

/// One member.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Its pod, and its name in the group.
    pub name: String,
    /// 32 hexadecimal digits.
    pub member_id: String,
    /// Voter, Learner, or None.
    pub role: String,
    /// The sidecar's version, as last told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Since when nobody reaches it, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since: Option<i64>,
}

/// What the operator is about.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Bootstrap, Scale, Roll, Replace, Recover, Enlarge.
    #[serde(rename = "type")]
    pub kind: String,
    /// The pods that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub targets: Vec<String>,
    /// Since when, in seconds since 1970.
    pub started_at: i64,
}

/// The definition of the resource, as it is applied to a cluster.
///
/// # Panics
/// Never: the derived definition is what is edited.
#[must_use]
pub fn definition() -> apiextensions::CustomResourceDefinition {
    let mut definition = serde_json::to_value(RaftCluster::crd()).expect("it is JSON");
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    for place in ["template", "volumeClaimTemplates"] {
        let part = definition.pointer_mut(&format!("{schema}/{place}"));
        let part = part.expect("the field is there");
        let words = part["description"].clone();
        strip(part);
        part["description"] = words;
    }
    let pod = format!("{schema}/template/properties/spec/properties");
    let pod = definition.pointer_mut(&pod).expect("a template has a pod");
    for list in ["containers", "initContainers"] {
        pod[list]["maxItems"] = json!(16);
        let container = &mut pod[list]["items"]["properties"];
        container["name"]["maxLength"] = json!(63);
        container["ports"]["maxItems"] = json!(32);
    }
    let labels = format!("{schema}/template/properties/metadata/properties/labels");
    let labels = definition.pointer_mut(&labels).expect("a template has labels");
    labels["maxProperties"] = json!(64);
    labels["additionalProperties"]["maxLength"] = json!(63);
    serde_json::from_value(definition).expect("it is still a definition")
}

/// Takes descriptions out: they are of no use to the server, and are most of the bytes.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property may be called description; a description is text.
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
