//! The cluster's own certificate authority, and who it vouches for.

use crate::instance::Instance;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The group that may do everything.
const MASTERS: &str = "system:masters";
/// Users with a kubeconfig: file name, common name, group.
const USERS: [(&str, &str, &str); 6] = [
    ("admin", "admin", MASTERS),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", ""),
    ("coredns", "coredns", MASTERS),
    ("provisioner", "local-volumes", MASTERS),
];

/// A file below the cluster's `pki` folder.
#[must_use]
pub fn file(instance: &Instance, name: &str) -> PathBuf {
    instance.dir.join("pki").join(name)
}

struct Authority<'a> {
    instance: &'a Instance,
    issuer: Issuer<'static, KeyPair>,
}

/// Makes all keys, certificates and kubeconfigs of a new cluster. If all are there, they stay.
///
/// # Errors
/// One cannot be made or written.
pub fn make(instance: &Instance) -> Result<(), String> {
    // The last one that is written.
    if instance.kubeconfig("admin").exists() {
        return Ok(());
    }
    let authority = authority(instance)?;
    let control = instance.control_address();
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let mut names: Vec<String> = names.map(str::to_owned).into();
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    names.extend([control, "10.96.0.1".to_owned(), "127.0.0.1".to_owned()]);
    authority.vouch("apiserver", ("kube-apiserver", ""), names)?;
    authority.vouch("kubelet-client", ("kube-apiserver-kubelet-client", MASTERS), vec![])?;
    for node in instance.node_numbers() {
        let (file, name) = (format!("node{node}"), format!("system:node:node{node}"));
        let names = vec![file.clone(), instance.node_address(node)];
        authority.vouch(&file, (&name, "system:nodes"), names)?;
        kubeconfig(instance, &file)?;
    }
    let tokens = KeyPair::generate().map_err(|e| e.to_string())?;
    write(&file(instance, "tokens.key"), &tokens.serialize_pem())?;
    write(&file(instance, "tokens.pub"), &tokens.public_key_pem())?;
    for (file, name, group) in USERS.into_iter().rev() {
        authority.vouch(file, (name, group), vec![])?;
        kubeconfig(instance, file)?;
    }
    Ok(())
}

fn authority(instance: &Instance) -> Result<Authority<'_>, String> {
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(("test-ca", ""));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(|e| e.to_string())?;
    write(&file(instance, "ca.crt"), &certificate.pem())?;
    write(&file(instance, "ca.key"), &key.serialize_pem())?;
    Ok(Authority { instance, issuer: Issuer::new(params, key) })
}

fn subject((name, group): (&str, &str)) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if !group.is_empty() {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    subject
}

impl Authority<'_> {
    /// Writes `FILE.crt` and `FILE.key` for who this is, reachable by these names and addresses.
    fn vouch(&self, of: &str, who: (&str, &str), names: Vec<String>) -> Result<(), String> {
        let failed = |e: rcgen::Error| format!("the certificate of {of}: {e}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = subject(who);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        write(&file(self.instance, &format!("{of}.crt")), &certificate.pem())?;
        write(&file(self.instance, &format!("{of}.key")), &key.serialize_pem())
    }
}

/// JSON is YAML, so every client reads it.
fn kubeconfig(instance: &Instance, user: &str) -> Result<(), String> {
    let file = |name: &str| file(instance, name);
    let cluster = json!({"server": instance.server(), "certificate-authority": file("ca.crt")});
    let own = |end: &str| file(&format!("{user}.{end}"));
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": instance.name, "cluster": cluster}],
        "users": [{
            "name": user,
            "user": {"client-certificate": own("crt"), "client-key": own("key")},
        }],
        "contexts": [{
            "name": instance.name,
            "context": {"cluster": instance.name, "user": user},
        }],
        "current-context": instance.name,
    });
    write(&instance.kubeconfig(user), &format!("{config:#}\n"))
}

/// For root's eyes only.
fn write(path: &Path, content: &str) -> Result<(), String> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|e| format!("{}: {e}", path.display()))
}
