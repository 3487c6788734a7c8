//! The objects that make a `RaftCluster` real, as pure functions of it.
//!
//! Invariants: equal resources give equal objects, byte for byte; what the sidecar's container
//! looks like is a contract ([`CONTRACT`]), so that a new operator restarts nobody's pods: only the
//! image may change in place, and all settings come from a ConfigMap.

use crate::crd::{Mode, NetworkAccess, RaftCluster, RaftClusterSpec, ReadinessPolicy};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use std::net::IpAddr;

/// What a pod is that fetches an image.
pub const PULL: &str = "pull";
/// Whose the objects are.
pub const OPERATOR: &str = "quorate-operator";
/// Carries the name of the resource.
pub const LABEL_CLUSTER: &str = "quorate.dev/cluster";
/// What a pod is in it: `member`, or `pull`.
pub const LABEL_COMPONENT: &str = "quorate.dev/component";
/// Who manages an object.
pub const LABEL_MANAGED: &str = "quorate.dev/managed-by";
/// On a volume: the UID of the resource that it was made for.
pub const LABEL_UID: &str = "quorate.dev/uid";
/// On a pod: what it was made from.
pub const TEMPLATE_HASH: &str = "quorate.dev/template-hash";
/// An annotation of the StatefulSet: the number of pods that was wanted when it was written.
pub const REPLICAS: &str = "quorate.dev/replicas";
/// An annotation of a pod: the container of the sidecar that ran when its image was changed.
pub const REPLACES: &str = "quorate.dev/replaces";
/// The sidecar's container.
pub const SIDECAR: &str = "quorate";
/// The claim of a member's log is called so, with the pod's name behind it.
pub const VOLUME: &str = "quorate-log";
/// Where members reach each other.
pub const PEER_PORT: u16 = 7401;
/// Of the admin port.
pub const ADMIN_PORT: u16 = 7402;
/// Of attached sidecars: pods that are no members.
pub const CLIENT_PORT: u16 = 7403;
/// Probes and metrics.
pub const PROBE_PORT: u16 = 7404;
// A NetworkPolicy opens all ports around these three.
const _: () = assert!(PEER_PORT + 2 == CLIENT_PORT && CLIENT_PORT + 1 == PROBE_PORT);
/// The settings of attached sidecars, in the Secret with their certificate.
pub const ATTACH_SETTINGS: &str = "attach.conf";
/// Counts changes of what the sidecar's container looks like, other than its image.
pub const CONTRACT: &str = "1";
/// Where the socket is, in every container.
pub(crate) const RUN: &str = "/run/quorate";
/// Where the volume is.
const STATE: &str = "/var/lib/quorate";
const SETTINGS: &str = "/etc/quorate/settings";
pub(crate) const CERTIFICATES: &str = "/etc/quorate/tls";
pub(crate) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A resource, with what the operator adds to it.
pub struct Wanted<'a> {
    /// The resource.
    pub cluster: &'a RaftCluster,
    /// The sidecar's image.
    pub image: String,
    /// Where the operator is.
    pub operator_namespace: &'a str,
}

impl Wanted<'_> {
    fn spec(&self) -> &RaftClusterSpec {
        &self.cluster.spec
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.cluster.name_any()
    }

    fn namespace(&self) -> String {
        self.cluster.namespace().unwrap_or_default()
    }

    fn uid(&self) -> String {
        self.cluster.uid().unwrap_or_default()
    }

    /// The headless Service of the peers.
    #[must_use]
    pub fn peers(&self) -> String {
        format!("{}-peers", self.name())
    }

    /// The settings of the sidecars.
    #[must_use]
    pub fn settings(&self) -> String {
        format!("{}-sidecar", self.name())
    }

    /// The certificate of the members.
    #[must_use]
    pub fn certificate(&self) -> String {
        format!("{}-member", self.name())
    }

    /// The headless Service of the members for attached sidecars, and their certificate.
    #[must_use]
    pub fn clients(&self) -> String {
        clients(&self.name())
    }

    /// The label of the group in certificates: no two resources share it, not one after the other.
    #[must_use]
    pub fn certificate_label(&self) -> String {
        let uid: String = self.uid().chars().take(8).collect();
        format!("{}-{uid}", self.name())
    }

    fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/name": "quorate",
            "app.kubernetes.io/instance": self.name(),
            LABEL_MANAGED: OPERATOR,
            LABEL_CLUSTER: self.name(),
        })
    }

    fn selector(&self) -> Value {
        json!({ LABEL_CLUSTER: self.name(), LABEL_COMPONENT: "member" })
    }

    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.namespace(),
            "labels": self.labels(),
            "ownerReferences": [{
                "apiVersion": "quorate.dev/v1alpha1",
                "kind": "RaftCluster",
                "name": self.name(),
                "uid": self.uid(),
                "controller": true,
                "blockOwnerDeletion": true,
            }],
        })
    }

    /// What pods are made from, as a hash: another one means that pods are to be exchanged. The
    /// image is not in it, as it can change in place.
    #[must_use]
    pub fn template_hash(&self) -> String {
        let spec = self.spec();
        hash(&json!([
            CONTRACT,
            spec.template,
            spec.sidecar.resources,
            spec.sidecar.image_pull_policy,
            spec.sidecar.log,
            spec.readiness_policy,
            spec.restarted_at,
        ]))
    }

    /// The Service by which members find each other, ready or not.
    #[must_use]
    pub fn service(&self) -> Service {
        typed(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(&self.peers()),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": self.selector(),
                "ports": [
                    { "name": "peer", "port": PEER_PORT, "protocol": "TCP",
                      "targetPort": PEER_PORT },
                    { "name": "admin", "port": ADMIN_PORT, "protocol": "TCP",
                      "targetPort": ADMIN_PORT },
                ],
            },
        }))
    }

    /// The Service of the leader, and what tells where it leads.
    #[must_use]
    pub fn leader(&self) -> String {
        format!("{}-leader", self.name())
    }

    /// The Service that leads to the holder of an election, if one is wanted. It selects nobody:
    /// the slice beside it does.
    #[must_use]
    pub fn leader_service(&self) -> Option<Service> {
        let wanted = self.spec().leader_service.as_ref()?;
        let ports = wanted.ports.iter().map(|port| {
            json!({ "name": port.name, "port": port.port, "protocol": "TCP",
                    "targetPort": port.target_port.unwrap_or(port.port) })
        });
        Some(typed(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(&self.leader()),
            "spec": { "ports": ports.collect::<Vec<_>>() },
        })))
    }

    /// Where that Service leads: to a pod of this name, UID and address. Without a slice it leads
    /// nowhere.
    #[must_use]
    pub fn leader_slice(&self, (name, uid, ip): (&str, &str, IpAddr)) -> Option<EndpointSlice> {
        let wanted = self.spec().leader_service.as_ref()?;
        let ports = wanted.ports.iter().map(|port| {
            json!({ "name": port.name.as_deref().unwrap_or_default(), "protocol": "TCP",
                    "port": port.target_port.unwrap_or(port.port) })
        });
        let endpoint = json!({
            "addresses": [ip.to_string()],
            "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": name, "uid": uid,
                           "namespace": self.namespace() },
        });
        let mut metadata = self.metadata(&self.leader());
        let of = json!({ "kubernetes.io/service-name": self.leader(),
                         "endpointslice.kubernetes.io/managed-by": OPERATOR });
        merge(&mut metadata["labels"], of);
        Some(typed(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata,
            "addressType": if ip.is_ipv6() { "IPv6" } else { "IPv4" },
            "endpoints": [endpoint],
            "ports": ports.collect::<Vec<_>>(),
        })))
    }

    /// The Service by which attached sidecars find members, ready or not: one that cannot relay
    /// says so.
    #[must_use]
    pub fn client_service(&self) -> Service {
        typed(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(&self.clients()),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": self.selector(),
                "ports": [
                    { "name": "client", "port": CLIENT_PORT, "protocol": "TCP",
                      "targetPort": CLIENT_PORT },
                ],
            },
        }))
    }

    /// The sidecars' settings, the same for all.
    #[must_use]
    pub fn config_map(&self) -> ConfigMap {
        let readiness = match self.spec().readiness_policy {
            ReadinessPolicy::Member => "latched",
            ReadinessPolicy::Quorum => "quorum",
        };
        let domain = format!("{}.{}.svc", self.peers(), self.namespace());
        let settings = [
            ("QUORATE_DATA_DIR", format!("{STATE}/data")),
            ("QUORATE_SOCKET", format!("{RUN}/quorate.sock")),
            ("QUORATE_SOCKET_MODE", "0660".to_owned()),
            ("QUORATE_PEER_LISTEN", "0.0.0.0:7401".to_owned()),
            ("QUORATE_ADMIN_LISTEN", format!("0.0.0.0:{ADMIN_PORT}")),
            ("QUORATE_CLIENT_LISTEN", format!("0.0.0.0:{CLIENT_PORT}")),
            ("QUORATE_PROBE_LISTEN", format!("0.0.0.0:{PROBE_PORT}")),
            ("QUORATE_PEER_DOMAIN", domain),
            ("QUORATE_CLUSTER", self.certificate_label()),
            ("QUORATE_TLS_CERT", format!("{CERTIFICATES}/tls.crt")),
            ("QUORATE_TLS_KEY", format!("{CERTIFICATES}/tls.key")),
            ("QUORATE_TLS_CA", format!("{CERTIFICATES}/ca.crt")),
            ("QUORATE_READINESS", readiness.to_owned()),
            ("QUORATE_TOOL_DIR", format!("{RUN}/bin")),
            ("QUORATE_LOG", self.spec().sidecar.log.as_str().to_owned()),
        ];
        let text: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        typed(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(&self.settings()),
            "data": { "sidecar.conf": text },
        }))
    }

    /// The settings of attached sidecars. They lie beside their certificate, so that a pod needs to
    /// know the resource's name alone.
    #[must_use]
    pub fn attach_settings(&self) -> String {
        let service = format!("{}.{}.svc:{CLIENT_PORT}", self.clients(), self.namespace());
        let settings = [
            ("QUORATE_SERVICE", service),
            ("QUORATE_CLUSTER", self.certificate_label()),
            ("QUORATE_TLS_CERT", format!("{CERTIFICATES}/tls.crt")),
            ("QUORATE_TLS_KEY", format!("{CERTIFICATES}/tls.key")),
            ("QUORATE_TLS_CA", format!("{CERTIFICATES}/ca.crt")),
            ("QUORATE_TOOL_DIR", format!("{RUN}/bin")),
            ("QUORATE_LOG", self.spec().sidecar.log.as_str().to_owned()),
        ];
        settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// What the Secrets with certificates are made for.
    #[must_use]
    pub fn certified(&self) -> Value {
        json!([self.certificate_label(), self.attach_settings()])
    }

    /// The disruption budget: so many members may be away.
    #[must_use]
    pub fn budget(&self, max_unavailable: u32) -> PodDisruptionBudget {
        typed(json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self.metadata(&self.name()),
            "spec": {
                "maxUnavailable": max_unavailable,
                "unhealthyPodEvictionPolicy": "IfHealthyBudget",
                "selector": { "matchLabels": self.selector() },
            },
        }))
    }

    /// What limits who reaches the members' ports.
    #[must_use]
    pub fn ports(&self) -> String {
        format!("{}-ports", self.name())
    }

    /// Who reaches the members' ports, if that is to be limited. A pod that any policy selects is
    /// closed but for what policies let in, so that this one lets in all that is not ours.
    #[must_use]
    pub fn network_policy(&self) -> Option<NetworkPolicy> {
        match self.spec().network_policy {
            NetworkAccess::None => return None,
            NetworkAccess::PortsOnly => {}
        }
        let members = json!({ "matchLabels": self.selector() });
        let name = json!({ "kubernetes.io/metadata.name": self.operator_namespace });
        let operator = json!({ "matchLabels": name });
        Some(typed(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata(&self.ports()),
            "spec": {
                "podSelector": members,
                "policyTypes": ["Ingress"],
                "ingress": [
                    only(PEER_PORT, json!({ "podSelector": members })),
                    only(ADMIN_PORT, json!({ "namespaceSelector": operator })),
                    only(CLIENT_PORT, json!({ "podSelector": {} })),
                    { "ports": [
                        all("TCP", 1, PEER_PORT - 1),
                        all("TCP", PROBE_PORT, u16::MAX),
                        all("UDP", 1, u16::MAX),
                        all("SCTP", 1, u16::MAX),
                    ] },
                ],
            },
        })))
    }

    /// The StatefulSet, with so many pods.
    #[must_use]
    pub fn stateful_set(&self, replicas: u32) -> StatefulSet {
        let storage = &self.spec().storage;
        let log = json!({
            "metadata": {
                "name": VOLUME,
                "labels": { LABEL_CLUSTER: self.name(), LABEL_MANAGED: OPERATOR,
                            LABEL_UID: self.uid() },
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": storage.storage_class_name,
                "resources": { "requests": { "storage": storage.size } },
            },
        });
        let mut claims = vec![log];
        claims.extend(self.spec().volume_claim_templates.iter().map(value));
        typed(json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": self.set_metadata(),
            "spec": {
                "replicas": replicas,
                "serviceName": self.peers(),
                "podManagementPolicy": "Parallel",
                "updateStrategy": { "type": "OnDelete" },
                "persistentVolumeClaimRetentionPolicy":
                    { "whenDeleted": "Retain", "whenScaled": "Retain" },
                "selector": { "matchLabels": self.selector() },
                "template": self.pod(),
                "volumeClaimTemplates": claims,
            },
        }))
    }

    /// The number of pods that is wanted is noted: so its edit changes the object, and whoever
    /// decided before it on fewer pods is refused.
    fn set_metadata(&self) -> Value {
        let mut metadata = self.metadata(&self.name());
        let wanted = self.spec().replicas.to_string();
        merge(&mut metadata["annotations"], json!({ REPLICAS: wanted }));
        metadata
    }

    fn pod(&self) -> Value {
        let mut pod = self.spec().template.as_ref().map_or_else(|| json!({}), value);
        let labels = [self.labels(), self.selector()];
        labels.into_iter().for_each(|more| merge(&mut pod["metadata"]["labels"], more));
        let annotations = json!({ TEMPLATE_HASH: self.template_hash(),
                                  "quorate.dev/contract": CONTRACT });
        merge(&mut pod["metadata"]["annotations"], annotations);
        let spec = &mut pod["spec"];
        for list in ["containers", "initContainers"] {
            let containers = spec[list].as_array_mut();
            containers.into_iter().flatten().for_each(beside);
        }
        match self.spec().mode {
            Mode::Managed => prepend(&mut spec["initContainers"], self.sidecar(true)),
            Mode::Standalone => prepend(&mut spec["containers"], self.sidecar(false)),
        }
        append(&mut spec["volumes"], self.volumes());
        default(&mut spec["securityContext"]["fsGroup"], json!(65532));
        default(&mut spec["securityContext"]["fsGroupChangePolicy"], json!("OnRootMismatch"));
        default(&mut spec["terminationGracePeriodSeconds"], json!(30));
        default(
            &mut spec["topologySpreadConstraints"],
            json!([{
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": { "matchLabels": self.selector() },
            }]),
        );
        if self.spec().mode == Mode::Standalone {
            spec["automountServiceAccountToken"] = json!(false);
        }
        pod
    }

    /// The name of the pod that fetches an image onto a node.
    #[must_use]
    pub fn pull_name(&self, node: &str) -> String {
        format!("{}-pull-{}", self.name(), hash(&json!(node)))
    }

    /// A pod that fetches the sidecar's image onto a node and starts it once, as what pulls there
    /// for a member would: with its account and its secrets.
    #[must_use]
    pub fn pull(&self, node: &str) -> Pod {
        let mut metadata = self.metadata(&self.pull_name(node));
        merge(&mut metadata["labels"], json!({ LABEL_COMPONENT: PULL }));
        let template = self.spec().template.as_ref().and_then(|template| template.spec.as_ref());
        let mut container = self.sidecar(false);
        let kept = ["name", "image", "imagePullPolicy", "securityContext"];
        if let Some(container) = container.as_object_mut() {
            container.retain(|key, _| kept.contains(&key.as_str()));
        }
        container["command"] = json!(["quorate-sidecar", "--version"]);
        container["resources"] = json!({ "requests": { "cpu": "10m", "memory": "32Mi" },
                                         "limits": { "memory": "32Mi" } });
        typed(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {
                "nodeName": node,
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "serviceAccountName": template.and_then(|spec| spec.service_account_name.as_ref()),
                "imagePullSecrets": template.and_then(|spec| spec.image_pull_secrets.as_ref()),
                "tolerations": [{ "operator": "Exists" }],
                "containers": [container],
            },
        }))
    }

    fn volumes(&self) -> Value {
        json!([
            { "name": "quorate-run", "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } },
            { "name": "quorate-settings", "configMap": { "name": self.settings() } },
            { "name": "quorate-tls", "secret": { "secretName": self.certificate() } },
            { "name": "quorate-no-account", "emptyDir": { "sizeLimit": "1Mi" } },
        ])
    }

    /// A native sidecar beside an application, or a container of its own.
    fn sidecar(&self, native: bool) -> Value {
        let sidecar = &self.spec().sidecar;
        let resources = sidecar.resources.as_ref().map_or_else(
            || {
                json!({ "requests": { "cpu": "50m", "memory": "64Mi" },
                        "limits": { "memory": "256Mi" } })
            },
            value,
        );
        let mut container = json!({
            "name": SIDECAR,
            "image": self.image,
            "imagePullPolicy": sidecar.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
            "command": ["quorate-sidecar", "run"],
            "env": [
                { "name": "QUORATE_CONFIG", "value": format!("{SETTINGS}/sidecar.conf") },
                field("QUORATE_NAME", "metadata.name"),
                field("QUORATE_POD_IP", "status.podIP"),
                field("QUORATE_POD_UID", "metadata.uid"),
            ],
            "ports": [
                { "name": "quorate-peer", "containerPort": PEER_PORT, "protocol": "TCP" },
                { "name": "quorate-admin", "containerPort": ADMIN_PORT, "protocol": "TCP" },
                { "name": "quorate-client", "containerPort": CLIENT_PORT, "protocol": "TCP" },
                { "name": "quorate-probe", "containerPort": PROBE_PORT, "protocol": "TCP" },
            ],
            "startupProbe": probe("/startupz", 1, 30),
            "livenessProbe": probe("/livez", 10, 6),
            "readinessProbe": probe("/readyz", 1, 3),
            "lifecycle": { "preStop": { "exec": { "command": ["quorate-sidecar", "drain"] } } },
            "resources": resources,
            "securityContext": restricted(),
            "volumeMounts": [
                { "name": VOLUME, "mountPath": STATE },
                { "name": "quorate-run", "mountPath": RUN },
                { "name": "quorate-settings", "mountPath": SETTINGS, "readOnly": true },
                { "name": "quorate-tls", "mountPath": CERTIFICATES, "readOnly": true },
                { "name": "quorate-no-account", "mountPath": SERVICE_ACCOUNT, "readOnly": true },
            ],
        });
        if native {
            container["restartPolicy"] = json!("Always");
        }
        container
    }
}

/// A port that these alone reach.
fn only(port: u16, from: Value) -> Value {
    json!({ "ports": [{ "protocol": "TCP", "port": port }], "from": [from] })
}

/// Ports as a NetworkPolicy has them.
fn all(protocol: &str, first: u16, last: u16) -> Value {
    json!({ "protocol": protocol, "port": first, "endPort": last })
}

/// An environment variable that holds a field of the pod.
pub(crate) fn field(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } })
}

/// The headless Service of a group's members for attached sidecars, and the Secret with their
/// certificate.
#[must_use]
pub fn clients(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// What the sidecar may do: nothing.
pub(crate) fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

pub(crate) fn probe(path: &str, period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": PROBE_PORT, "scheme": "HTTP" },
        "periodSeconds": period_seconds,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    })
}

/// What a container beside the sidecar gets: where the socket is.
pub(crate) fn beside(container: &mut Value) {
    let mount = json!([{ "name": "quorate-run", "mountPath": RUN, "readOnly": true }]);
    append(&mut container["volumeMounts"], mount);
    let env = json!([{ "name": "QUORATE_ENDPOINT", "value": format!("{RUN}/quorate.sock") }]);
    append(&mut container["env"], env);
}

fn merge(into: &mut Value, more: Value) {
    if !into.is_object() {
        *into = json!({});
    }
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

pub(crate) fn append(into: &mut Value, more: Value) {
    if !into.is_array() {
        *into = json!([]);
    }
    if let (Some(into), Value::Array(more)) = (into.as_array_mut(), more) {
        into.extend(more);
    }
}

pub(crate) fn prepend(into: &mut Value, first: Value) {
    if !into.is_array() {
        *into = json!([]);
    }
    if let Some(into) = into.as_array_mut() {
        into.insert(0, first);
    }
}

pub(crate) fn default(place: &mut Value, value: Value) {
    if place.is_null() {
        *place = value;
    }
}

fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).expect("objects of the API are plain JSON")
}

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("the object is built by the type's own fields")
}

/// 64 bits of a value (FNV-1a of its JSON, whose keys are in order), as 16 digits.
#[must_use]
pub fn hash(of: &impl serde::Serialize) -> String {
    let text = value(of).to_string();
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}
