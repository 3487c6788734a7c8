//! The control plane: etcd, API server, controllers, scheduler, name server, and the provisioner.

use crate::binaries::Binaries;
use crate::certificates::file;
use crate::host::{text, write};
use crate::instance::Instance;
use crate::process;
use serde_json::json;

const ETCD: &str = "http://127.0.0.1:2379";
/// The network of Services.
const SERVICES: &str = "10.96.0.0/16";

/// Of the operator everything is written down, what it reads as well.
const OPERATOR: &str = "system:serviceaccounts:quorate-system";

/// What the control plane is made of, in the order of its start.
pub const COMPONENTS: [&str; 6] =
    ["etcd", "apiserver", "controller-manager", "scheduler", "coredns", "provisioner"];

/// Starts one component of it, unless it runs.
///
/// # Errors
/// It cannot be started.
pub fn start(instance: &Instance, binaries: &Binaries, component: &str) -> Result<(), String> {
    let (binary, arguments) = match component {
        "etcd" => ("etcd", etcd(instance)?),
        "apiserver" => ("kube-apiserver", api_server(instance)?),
        "controller-manager" => ("kube-controller-manager", controllers(instance)?),
        "scheduler" => ("kube-scheduler", scheduler(instance)?),
        "coredns" => ("coredns", names(instance)?),
        "provisioner" => return provisioner(instance),
        other => return Err(format!("{other} is no part of the control plane")),
    };
    let mut command = vec![text(&binaries.path(binary)?)?.to_owned()];
    command.extend(arguments);
    process::start(instance, component, &instance.group(), &command)
}

/// `--NAME=VALUE` for each pair.
fn options(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

/// Its data is thrown away with the cluster: no flush.
fn etcd(instance: &Instance) -> Result<Vec<String>, String> {
    let mut arguments = options(&[
        ("data-dir", text(&instance.dir.join("etcd"))?),
        ("listen-client-urls", ETCD),
        ("advertise-client-urls", ETCD),
        ("listen-peer-urls", "http://127.0.0.1:2380"),
    ]);
    arguments.push("--unsafe-no-fsync".to_owned());
    Ok(arguments)
}

fn api_server(instance: &Instance) -> Result<Vec<String>, String> {
    let policy = instance.dir.join("audit-policy.json");
    let writes = ["create", "update", "patch", "delete", "deletecollection"];
    let rules = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [OPERATOR]},
            {"level": "Metadata", "verbs": writes},
        ],
    });
    write(&policy, &rules.to_string())?;
    let pki = |name: &str| file(instance, name);
    Ok(options(&[
        ("etcd-servers", ETCD),
        ("advertise-address", &instance.control_address()),
        ("secure-port", "6443"),
        ("service-cluster-ip-range", SERVICES),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("client-ca-file", text(&pki("ca.crt"))?),
        ("tls-cert-file", text(&pki("apiserver.crt"))?),
        ("tls-private-key-file", text(&pki("apiserver.key"))?),
        ("kubelet-client-certificate", text(&pki("kubelet-client.crt"))?),
        ("kubelet-client-key", text(&pki("kubelet-client.key"))?),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", text(&pki("tokens.pub"))?),
        ("service-account-signing-key-file", text(&pki("tokens.key"))?),
        ("allow-privileged", "true"),
        ("enable-aggregator-routing", "true"),
        ("audit-policy-file", text(&policy)?),
        ("audit-log-path", text(&audit_log(instance))?),
    ]))
}

/// Where the API server writes who changed what, and what the operator asked, a line of JSON each.
#[must_use]
pub fn audit_log(instance: &Instance) -> std::path::PathBuf {
    instance.dir.join("log").join("audit.log")
}

fn controllers(instance: &Instance) -> Result<Vec<String>, String> {
    let pki = |name: &str| file(instance, name);
    Ok(options(&[
        ("kubeconfig", text(&instance.kubeconfig("controller-manager"))?),
        ("leader-elect", "false"),
        ("service-account-private-key-file", text(&pki("tokens.key"))?),
        ("root-ca-file", text(&pki("ca.crt"))?),
        ("cluster-signing-cert-file", text(&pki("ca.crt"))?),
        ("cluster-signing-key-file", text(&pki("ca.key"))?),
        ("use-service-account-credentials", "true"),
        ("node-monitor-grace-period", "20s"),
    ]))
}

fn scheduler(instance: &Instance) -> Result<Vec<String>, String> {
    let kubeconfig = instance.kubeconfig("scheduler");
    Ok(options(&[("kubeconfig", text(&kubeconfig)?), ("leader-elect", "false")]))
}

fn names(instance: &Instance) -> Result<Vec<String>, String> {
    let (address, kubeconfig) = (instance.control_address(), instance.kubeconfig("coredns"));
    let file = instance.dir.join("Corefile");
    let zones = format!(
        ".:53 {{\n  bind {address}\n  errors\n  kubernetes cluster.local in-addr.arpa {{\n    \
         kubeconfig {}\n    ttl 30\n  }}\n  cache 30\n}}\n",
        kubeconfig.display()
    );
    write(&file, &zones)?;
    Ok(vec!["-conf".to_owned(), text(&file)?.to_owned()])
}

fn provisioner(instance: &Instance) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let base = instance.dir.parent().ok_or("a cluster's folder is in another")?;
    let words = [text(&own)?, "provision", "--dir", text(base)?, "--instance", &instance.name];
    let command = words.map(str::to_owned);
    process::start(instance, "provisioner", &instance.group(), &command)
}
