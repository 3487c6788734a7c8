//! Adds the sidecar to pods that are no members: those with the label `quorate.dev/attach`.
//!
//! The webhook does it to pods, `quorate inject` to what pods are made from; both by [`pod`].
//!
//! Invariants: pure; equal input gives equal output, and what has the sidecar already stays as it
//! is, byte for byte. A pod knows of its group the name alone: all else is in the Secret
//! `NAME-client`, without which it does not start.

use crate::build::{
    ATTACH_SETTINGS, CERTIFICATES, LABEL_CLUSTER, LABEL_COMPONENT, PROBE_PORT, RUN,
    SERVICE_ACCOUNT, SIDECAR, append, beside, clients, field, prepend, probe, restricted,
};
use crate::validate;
use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize as _;
use serde_json::{Value, json};

/// Whose sidecar a pod wants: the name of a RaftCluster in its namespace.
pub const ATTACH: &str = "quorate.dev/attach";
/// On a pod that has it: [`CONTRACT`].
const INJECTED: &str = "quorate.dev/injected";
/// Counts changes of what is added.
const CONTRACT: &str = "1";
/// The longest name of a RaftCluster.
const NAME_BYTES_MAX: usize = 40;
/// Where the pod is in an object of these kinds, with the names below one another.
const KINDS: [(&str, &[&str]); 7] = [
    ("Pod", &[]),
    ("Deployment", TEMPLATE),
    ("ReplicaSet", TEMPLATE),
    ("StatefulSet", TEMPLATE),
    ("DaemonSet", TEMPLATE),
    ("Job", TEMPLATE),
    ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
];
const TEMPLATE: &[&str] = &["spec", "template"];

/// Adds the sidecar of this image to a pod, or to the template of pods, which stands at `at`. True:
/// it was added; false: the pod does not want it, or has it.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn pod(pod: &mut Value, at: &str, image: &str) -> Result<bool, String> {
    let labels = &pod["metadata"]["labels"];
    let Some(cluster) = labels.get(ATTACH) else { return Ok(false) };
    let cluster = name(cluster, at)?;
    if labels.get(LABEL_COMPONENT).is_some() || labels.get(LABEL_CLUSTER).is_some() {
        return Err(format!(
            "{}metadata.labels: {ATTACH} is set on a member of a RaftCluster, which has its \
             sidecar: remove the label",
            dotted(at)
        ));
    }
    if pod["metadata"]["annotations"][INJECTED].is_string() {
        return Ok(false);
    }
    let spec = PodSpec::deserialize(&pod["spec"])
        .map_err(|why| format!("{}spec is no spec of a pod: {why}", dotted(at)))?;
    if let Some(fault) = validate::attached_fault(&format!("{}spec", dotted(at)), &spec) {
        return Err(fault);
    }
    add(pod, &cluster, image, spec.host_network == Some(true));
    Ok(true)
}

fn dotted(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!("{at}.") }
}

fn name(value: &Value, at: &str) -> Result<String, String> {
    let good = |name: &&str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edges = !name.starts_with('-') && !name.ends_with('-');
        (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(inner) && edges
    };
    value.as_str().filter(good).map(str::to_owned).ok_or_else(|| {
        format!(
            "{}metadata.labels: {ATTACH} is {value}; it is the name of a RaftCluster in the pod's \
             namespace, at most {NAME_BYTES_MAX} of a-z, 0-9 and -: {ATTACH}: demo, say",
            dotted(at)
        )
    })
}

fn add(pod: &mut Value, cluster: &str, image: &str, host_network: bool) {
    if !pod["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = json!({});
    }
    pod["metadata"]["annotations"][INJECTED] = json!(CONTRACT);
    let spec = &mut pod["spec"];
    for list in ["containers", "initContainers"] {
        let containers = spec[list].as_array_mut();
        containers.into_iter().flatten().for_each(beside);
    }
    prepend(&mut spec["initContainers"], sidecar(image, host_network));
    // By the node's own DNS no Service is found.
    if host_network && (spec["dnsPolicy"].is_null() || spec["dnsPolicy"] == "ClusterFirst") {
        spec["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    }
    let volumes = json!([
        { "name": "quorate-run", "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } },
        { "name": "quorate-tls", "secret": { "secretName": clients(cluster) } },
        { "name": "quorate-no-account", "emptyDir": { "sizeLimit": "1Mi" } },
    ]);
    append(&mut spec["volumes"], volumes);
}

/// A native sidecar: it is there before the other containers start, and ends after them; a Job does
/// not wait for it. On the node's own network its ports are the node's: it has the socket alone.
fn sidecar(image: &str, host_network: bool) -> Value {
    let listen = if host_network { "127.0.0.1:0" } else { "0.0.0.0:7404" };
    let mut container = json!({
        "name": SIDECAR,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["quorate-sidecar", "attach"],
        "env": [
            { "name": "QUORATE_CONFIG", "value": format!("{CERTIFICATES}/{ATTACH_SETTINGS}") },
            { "name": "QUORATE_PROBE_LISTEN", "value": listen },
            field("QUORATE_NAME", "metadata.name"),
        ],
        "resources": {
            "requests": { "cpu": "20m", "memory": "32Mi" },
            "limits": { "memory": "128Mi" },
        },
        "securityContext": restricted(),
        "volumeMounts": [
            { "name": "quorate-run", "mountPath": RUN },
            { "name": "quorate-tls", "mountPath": CERTIFICATES, "readOnly": true },
            { "name": "quorate-no-account", "mountPath": SERVICE_ACCOUNT, "readOnly": true },
        ],
    });
    if host_network {
        container["startupProbe"] = json!({
            "exec": { "command": ["quorate", "status"] },
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 30,
        });
    } else {
        container["ports"] = json!([
            { "name": "quorate-probe", "containerPort": PROBE_PORT, "protocol": "TCP" },
        ]);
        container["startupProbe"] = probe("/startupz", 1, 30);
        container["livenessProbe"] = probe("/livez", 10, 6);
    }
    container
}

/// Adds the sidecar to whatever in a text of YAML documents wants it, lists included, and gives the
/// text anew; documents of other kinds stay.
///
/// # Errors
/// It is no YAML, nothing in it wants the sidecar, or what [`pod`] says, with the object's name.
pub fn documents(text: &str, image: &str) -> Result<String, String> {
    let (mut out, mut wanted) = (Vec::new(), 0);
    for (number, document) in (1..).zip(serde_yaml::Deserializer::from_str(text)) {
        let object = Value::deserialize(document)
            .map_err(|why| format!("document {number} is no YAML: {why}"))?;
        if object.is_null() {
            continue;
        }
        let mut object = object;
        wanted += self::object(&mut object, image)?;
        let yaml = serde_yaml::to_string(&object);
        out.push(yaml.map_err(|why| format!("document {number}: {why}"))?);
    }
    if wanted == 0 {
        let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        return Err(format!(
            "nothing here wants a sidecar: put the label {ATTACH}: NAME, the name of a \
             RaftCluster, on the pod, or on the template of pods ({})",
            kinds.join(", ")
        ));
    }
    Ok(out.join("---\n"))
}

/// Adds it to one object; gives how many pods of it want the sidecar.
fn object(object: &mut Value, image: &str) -> Result<usize, String> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind == "List" {
        let items = object["items"].as_array_mut().into_iter().flatten();
        return items.map(|item| self::object(item, image)).sum();
    }
    let Some((_, path)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        return match object["metadata"]["labels"].get(ATTACH) {
            None => Ok(0),
            Some(_) => Err(format!("{}: a {kind} is made into no pods", called(object))),
        };
    };
    let name = called(object);
    let own = object["metadata"]["labels"].get(ATTACH).is_some();
    let at = path.join(".");
    let place = path.iter().try_fold(&mut *object, |place, part| place.get_mut(*part));
    let template = place.ok_or_else(|| format!("{name}: {at} is missing"))?;
    let wants = template["metadata"]["labels"].get(ATTACH).is_some();
    if own && !wants {
        return Err(format!(
            "{name}: {ATTACH} is on the {kind} itself; put it on its pods, at {at}.metadata.labels"
        ));
    }
    pod(template, &at, image).map_err(|why| format!("{name}: {why}"))?;
    Ok(usize::from(wants))
}

fn called(object: &Value) -> String {
    let kind = object["kind"].as_str().filter(|kind| !kind.is_empty()).unwrap_or("an object");
    let name = &object["metadata"]["name"];
    let name = name.as_str().or(object["metadata"]["generateName"].as_str());
    format!("{kind} {}", name.unwrap_or("without a name"))
}
