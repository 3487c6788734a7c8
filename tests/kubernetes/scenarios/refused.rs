//! Manifests that cannot be right are refused when they are applied, with a sentence.

use super::space::{managed, standalone};
use super::stage::Stage;
use serde_json::{Value, json};

type Change = fn(&mut Value);

/// What is wrong, what makes it so, and words of the refusal.
const BAD: &[(&str, Change, &str)] = &[
    ("even maxVoters", |spec| spec["maxVoters"] = json!(4), "maxVoters is odd"),
    ("hostNetwork", |spec| pod(spec)["hostNetwork"] = json!(true), "hostNetwork is refused"),
    (
        "grace of 5 s",
        |spec| pod(spec)["terminationGracePeriodSeconds"] = json!(5),
        "terminationGracePeriodSeconds is at least 10",
    ),
    (
        "a port of the sidecar",
        |spec| pod(spec)["containers"][0]["ports"] = json!([{"containerPort": 7401}]),
        "take another containerPort",
    ),
    (
        "a name of the sidecar",
        |spec| pod(spec)["containers"][0]["name"] = json!("quorate"),
        "names of containers that begin with quorate",
    ),
    (
        "a label of the operator",
        |spec| spec["template"]["metadata"] = json!({"labels": {"quorate.dev/cluster": "x"}}),
        "labels of template that begin with quorate.dev/",
    ),
    ("1Mi", |spec| spec["storage"]["size"] = json!("1Mi"), "storage.size is at least 100Mi"),
    (
        "a template with Standalone",
        |spec| spec["mode"] = json!("Standalone"),
        "Standalone takes none",
    ),
    ("no template", |spec| spec["template"] = Value::Null, "mode Managed needs template"),
    ("an unknown field", |spec| spec["replica"] = json!(3), "unknown field \"spec.replica\""),
];

fn pod(spec: &mut Value) -> &mut Value {
    &mut spec["template"]["spec"]
}

fn object(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "RaftCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

/// Whether it was refused, with these words.
pub(super) fn refused(
    what: &str,
    answer: Result<String, String>,
    words: &str,
) -> Result<(), String> {
    match answer {
        Ok(_) => Err(format!("{what} was taken")),
        Err(why) if why.contains(words) => Ok(()),
        Err(why) => Err(format!("{what}: {words:?} is not in the refusal: {why}")),
    }
}

/// Each of them; gives how many. One without pods, `fixed`, is taken and left.
pub(super) fn refuses(
    namespace: &str,
    apply: impl Fn(&Value) -> Result<String, String>,
) -> Result<usize, String> {
    let take = |name: &str, spec: &Value| apply(&object(namespace, name, spec));
    for (what, change, words) in BAD {
        let mut spec = managed(3);
        change(&mut spec);
        refused(what, take("bad", &spec), words)?;
    }
    refused("a long name", take(&"a".repeat(41), &standalone(1)), "the name is 1 to 40")?;
    // What is fixed for life; the first is taken, so this also shows that the manifest was right.
    take("fixed", &standalone(0))?;
    refused("another mode", take("fixed", &managed(0)), "mode is fixed for life")?;
    let mut other = standalone(0);
    other["storage"]["size"] = json!("100Mi");
    refused("a smaller size", take("fixed", &other), "storage.size can only grow")?;
    let mut other = standalone(0);
    other["volumeClaimTemplates"] = json!([{
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }]);
    refused("another volume", take("fixed", &other), "volumeClaimTemplates is fixed for life")?;
    Ok(BAD.len() + 4)
}

/// See the module.
pub(super) async fn all(stage: &Stage) -> Result<String, String> {
    stage.enter("refused")?;
    let refused = refuses("refused", |object| stage.apply(object))?;
    let list = stage.get("/apis/quorate.dev/v1alpha1/namespaces/refused/raftclusters").await?;
    let there = list.and_then(|list| list["items"].as_array().map(Vec::len));
    if there != Some(1) {
        return Err(format!("one was taken, and there are {there:?}"));
    }
    Ok(format!("{refused} manifests refused, each with its sentence"))
}
