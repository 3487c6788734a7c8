//! What only the operator sees of a template: each fault is named, with what to write instead.

use quorate_operator::crd::RaftClusterSpec;
use quorate_operator::validate::fault;

fn spec(pod: &str) -> RaftClusterSpec {
    let lines = pod.lines().map(|line| format!("    {line}\n"));
    let pod: String = lines.collect();
    let text = format!("storage: {{size: 1Gi}}\ntemplate:\n  spec:\n{pod}");
    serde_yaml::from_str(&text).expect("a spec")
}

#[test]
fn a_template_without_a_fault_has_none() {
    let usual = "terminationGracePeriodSeconds: 10
restartPolicy: Always
volumes: [{name: cache, emptyDir: {}}]
initContainers: [{name: migrate, image: app}]
containers:
- name: app
  image: app
  ports: [{containerPort: 8080, hostPort: 7405}, {containerPort: 7399}]
  volumeMounts: [{name: cache, mountPath: /run}, {name: cache, mountPath: /run/quorates}]";
    assert_eq!(fault(&spec(usual)), None);
    assert_eq!(fault(&RaftClusterSpec::default()), None);
}

#[test]
fn every_fault_says_what_to_write_instead() {
    let app = "containers: [{name: app, image: app}]";
    let with = |part: &str| format!("containers: [{{name: app, image: app, {part}}}]");
    let cases = [
        (format!("{app}\nvolumes: [{{name: quorate-log}}]"), "volumes: the name quorate-log"),
        (format!("{app}\nterminationGracePeriodSeconds: 9"), "is 9, and the sidecar needs 10"),
        (format!("{app}\nrestartPolicy: Never"), "restartPolicy is Never: write Always"),
        (format!("{app}\nhostNetwork: true"), "hostNetwork is set"),
        (format!("{app}\ninitContainers: [{{name: quorate}}]"), "initContainers: the name quorate"),
        ("containers: [{name: quorate-x}]".to_owned(), "containers: the name quorate-x"),
        (with("volumeMounts: [{name: a, mountPath: /run/quorate}]"), "write another mountPath"),
        (with("volumeMounts: [{name: a, mountPath: /run/quorate/}]"), "write another mountPath"),
        (with("volumeMounts: [{name: a, mountPath: /run/quorate/bin}]"), "another mountPath"),
        (with("volumeMounts: [{name: a, mountPath: /var/lib/quorate}]"), "/var/lib/quorate is the"),
        (with("volumeMounts: [{name: quorate-run, mountPath: /a}]"), "app mounts quorate-run"),
        (with("ports: [{containerPort: 7400}]"), "listens on port 7400"),
        (with("ports: [{containerPort: 7404}]"), "write another containerPort"),
        (with("ports: [{containerPort: 80, hostPort: 7401}]"), "write another hostPort"),
        (
            format!("{app}\ninitContainers: [{{name: a, ports: [{{containerPort: 7402}}]}}]"),
            "initContainers: a listens on port 7402",
        ),
        (
            format!(
                "{app}\ninitContainers: [{{name: a, ports: [{{containerPort: 1, \
                 hostPort: 7403}}]}}]"
            ),
            "initContainers: a takes port 7403 of the node",
        ),
    ];
    for (pod, words) in cases {
        let told = fault(&spec(&pod)).unwrap_or_else(|| panic!("no fault in {pod}"));
        assert!(told.contains(words), "{pod}: {told}");
    }
}

#[test]
fn volumes_of_the_application_have_other_names() {
    let text = "storage: {size: 1Gi}\nvolumeClaimTemplates: [{metadata: {name: quorate-data}}]";
    let spec: RaftClusterSpec = serde_yaml::from_str(text).expect("a spec");
    let told = fault(&spec).expect("a fault");
    assert!(told.starts_with("spec.volumeClaimTemplates: the name quorate-data"), "{told}");
}
