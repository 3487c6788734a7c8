//! The chart and the examples against the resource: what is written twice is written the same.
//!
//! `REWRITE=1` writes the definition into `crds/` and into the chart. What Helm and an API server
//! say of the chart is tried on a real Kubernetes.

use quorate_operator::build;
use quorate_operator::crd::{self, RaftCluster};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DEFINITIONS: [&str; 2] =
    ["crds/raftclusters.quorate.dev.yaml", "charts/quorate/files/raftclusters.quorate.dev.yaml"];
const RULES: [&str; 2] =
    ["charts/quorate/files/rules/watched.yaml", "charts/quorate/files/rules/own.yaml"];
/// Resources that the operator never touches, by the beginning of `group/resource`.
const NEVER: [&str; 4] =
    ["/nodes", "/pods/exec", "certificates.k8s.io", "rbac.authorization.k8s.io"];
/// The most that `kubectl apply` writes into its annotation, in bytes.
const ANNOTATION_MAX: usize = 262_144;

fn place(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn text(file: &str) -> String {
    std::fs::read_to_string(place(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn yaml(file: &str) -> Value {
    serde_yaml::from_str(&text(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn list<'a>(of: &'a Value, name: &str) -> Vec<&'a str> {
    let items = of[name].as_array().unwrap_or_else(|| panic!("no list {name} in {of}"));
    items.iter().map(|item| item.as_str().expect("a list of words")).collect()
}

#[test]
fn the_definition_is_the_same_everywhere() {
    let wanted = serde_yaml::to_string(&crd::definition()).expect("a definition is plain data");
    for file in DEFINITIONS {
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(place(file), &wanted).expect("the checkout can be written");
        }
        assert!(text(file) == wanted, "{file} is not what the code says: run with REWRITE=1");
    }
}

#[test]
fn kubectl_can_apply_the_definition() {
    assert!(text(DEFINITIONS[0]).len() < ANNOTATION_MAX);
}

#[test]
fn the_chart_installs_this_version() {
    let chart = yaml("charts/quorate/Chart.yaml");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], chart["appVersion"]);
    assert_eq!(chart["kubeVersion"], ">=1.33.0-0");
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// Every name in a tree of values: `image.tag`. A list, and what has no fields, is a leaf.
fn leaves(values: &Value, at: &str, found: &mut BTreeSet<String>) {
    let Some(fields) = values.as_object().filter(|fields| !fields.is_empty()) else {
        // What is in `resources` is Kubernetes' own below its two halves.
        let mut half = ["resources.requests", "resources.limits"].into_iter();
        let half = half.rfind(|half| at.starts_with(half));
        found.insert(half.unwrap_or(at).to_owned());
        return;
    };
    fields.iter().for_each(|(name, value)| leaves(value, &below(at, name), found));
}

/// Every name in a schema, likewise; what takes names takes no others.
fn named(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let Some(fields) = schema["properties"].as_object() else {
        assert!(schema["description"].is_string(), "{at} is not described");
        found.insert(at.to_owned());
        return;
    };
    assert_eq!(schema["additionalProperties"], false, "{at:?} takes any name");
    fields.iter().for_each(|(name, part)| named(part, &below(at, name), found));
}

#[test]
fn every_value_is_in_the_schema_and_in_the_table() {
    let (mut values, mut schema) = (BTreeSet::new(), BTreeSet::new());
    leaves(&yaml("charts/quorate/values.yaml"), "", &mut values);

    let file = text("charts/quorate/values.schema.json");
    named(&serde_json::from_str(&file).expect("it is JSON"), "", &mut schema);
    for without_default in ["global", "resources.claims"] {
        assert!(schema.remove(without_default), "{without_default} is refused");
    }
    assert_eq!(values, schema, "values.yaml, values.schema.json");

    let page = text("charts/quorate/README.md");
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    let table: BTreeSet<String> = page.lines().filter_map(row).collect();
    assert_eq!(values, table, "values.yaml, README.md");
}

/// Rights as `group/resource` and a verb.
fn rights(file: &str) -> Vec<(String, String)> {
    let mut rights = Vec::new();
    for rule in yaml(file).as_array().expect("a list of rules") {
        for group in list(rule, "apiGroups") {
            for resource in list(rule, "resources") {
                let verbs = list(rule, "verbs").into_iter();
                rights.extend(verbs.map(|verb| (format!("{group}/{resource}"), verb.to_owned())));
            }
        }
    }
    rights
}

#[test]
fn the_rights_are_the_least() {
    for file in RULES {
        let rights = rights(file);
        let unique: BTreeSet<_> = rights.iter().collect();
        assert_eq!(unique.len(), rights.len(), "{file}: nothing is said twice");
        for (resource, verb) in &rights {
            let right = format!("{file}: {verb} {resource}");
            assert!(!right.contains('*'), "{right}");
            assert!(!NEVER.iter().any(|never| resource.starts_with(never)), "{right}");
            match resource.as_str() {
                "/secrets" => assert!(!["list", "watch", "delete"].contains(&&**verb), "{right}"),
                // A pod may be made, to fetch an image: who makes StatefulSets makes pods anyway.
                "/persistentvolumeclaims" => assert_ne!(verb, "create", "{right}"),
                _ => {}
            }
        }
    }
}

#[test]
fn the_guard_looks_for_the_labels_that_objects_get() {
    let guard = text("charts/quorate/templates/guard.yaml");
    let managed = format!("{}: {}", build::LABEL_MANAGED, build::OPERATOR);
    assert!(guard.contains(&managed), "{managed}");
    let cluster = format!("contains('{}=')", build::LABEL_CLUSTER);
    assert!(guard.contains(&cluster), "{cluster}");
}

/// The first thing in `part` that is not in `whole`.
fn missing(part: &Value, whole: &Value, at: &str) -> Option<String> {
    match (part, whole) {
        (Value::Object(part), Value::Object(_)) => part
            .iter()
            .find_map(|(name, value)| missing(value, &whole[name.as_str()], &below(at, name))),
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            let mut pairs = part.iter().zip(whole);
            pairs.find_map(|(part, whole)| missing(part, whole, at))
        }
        _ => (part != whole).then(|| format!("{at}: {part}")),
    }
}

#[test]
fn the_resource_knows_all_that_the_examples_say() {
    for file in ["examples/kubernetes/raftcluster.yaml", "examples/kubernetes/standalone.yaml"] {
        let written = yaml(file);
        let read: RaftCluster = serde_json::from_value(written.clone()).expect(file);
        let known = serde_json::to_value(&read).expect("it is JSON");
        assert_eq!(missing(&written, &known, ""), None, "{file}");
    }
}
