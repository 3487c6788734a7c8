//! The objects that a resource becomes: golden files in `testdata/build`, a resource, a line `---`,
//! and what is made of it. `REWRITE=1` writes them anew.

use quorate_operator::build::Wanted;
use quorate_operator::crd::RaftCluster;
use std::fs;
use std::path::{Path, PathBuf};

const RULE: &str = "\n---\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/build")
}

fn resource(text: &str) -> RaftCluster {
    serde_yaml::from_str(text).expect("the input is a RaftCluster")
}

fn wanted(cluster: &RaftCluster) -> Wanted<'_> {
    Wanted {
        cluster,
        image: "quorate.dev/quorate:1".to_owned(),
        operator_namespace: "quorate-system",
    }
}

fn made(input: &str) -> String {
    let cluster = resource(input);
    let wanted = wanted(&cluster);
    let yaml = |text: Result<String, _>| text.expect("objects are plain data");
    let led = wanted.leader_service().map(|service| {
        let slice = wanted.leader_slice(("demo-0", "0000", [10, 0, 0, 7].into()));
        [yaml(serde_yaml::to_string(&service)), yaml(serde_yaml::to_string(&slice))].join("---\n")
    });
    let mut all = vec![
        yaml(serde_yaml::to_string(&wanted.service())),
        yaml(serde_yaml::to_string(&wanted.client_service())),
        yaml(serde_yaml::to_string(&wanted.config_map())),
        yaml(serde_yaml::to_string(&wanted.budget(1))),
        yaml(serde_yaml::to_string(&wanted.stateful_set(3))),
        yaml(serde_yaml::to_string(&wanted.pull("node-1"))),
    ];
    all.extend(led);
    all.extend(wanted.network_policy().map(|policy| yaml(serde_yaml::to_string(&policy))));
    all.join("---\n")
}

#[test]
fn a_resource_becomes_these_objects() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("it can be read").path();
        let text = fs::read_to_string(&path).expect("it is text");
        let input = text.split(RULE).next().expect("there is an input").trim_end();
        let now = format!("{input}{RULE}{}", made(input));
        if std::env::var_os("REWRITE").is_some() {
            fs::write(&path, now).expect("it can be written");
        } else {
            assert_eq!(text, now, "{}: REWRITE=1 writes it anew", path.display());
        }
        count += 1;
    }
    assert!(count >= 2, "the golden files are gone");
}

#[test]
fn only_what_asks_for_new_pods_changes_the_hash() {
    let text = fs::read_to_string(folder().join("managed.yaml")).expect("it is there");
    let before = resource(text.split(RULE).next().expect("there is an input"));
    let hash = |cluster: &RaftCluster| wanted(cluster).template_hash();
    let mut same = before.clone();
    same.spec.replicas = 5;
    same.spec.max_voters = 3;
    same.spec.paused = true;
    same.spec.sidecar.image = Some("another:2".to_owned());
    assert_eq!(hash(&before), hash(&same), "these change nothing about a pod but its image");
    let mut other = before.clone();
    other.spec.restarted_at = Some("now".to_owned());
    assert_ne!(hash(&before), hash(&other), "a restart was asked for");
    let mut other = before.clone();
    let template = other.spec.template.as_mut().expect("it is managed");
    let pod = template.spec.as_mut().expect("it has a pod");
    pod.containers[0].image = Some("app:2".to_owned());
    assert_ne!(hash(&before), hash(&other), "the application is another");
}

#[test]
fn two_resources_of_one_name_share_no_label() {
    let text = fs::read_to_string(folder().join("standalone.yaml")).expect("it is there");
    let one = resource(text.split(RULE).next().expect("there is an input"));
    let mut two = one.clone();
    two.metadata.uid = Some("9f0e7c11-0000-4000-8000-000000000000".to_owned());
    let label = |cluster: &RaftCluster| wanted(cluster).certificate_label();
    assert_ne!(label(&one), label(&two));
    assert!(label(&one).len() <= 63, "it is a DNS label");
}
