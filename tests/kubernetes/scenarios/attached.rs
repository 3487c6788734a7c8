//! Pods that are no members: the webhook gives them a sidecar, and they elect and lock with the
//! rest.

use super::chart::installed;
use super::space::{PATIENCE, Space, managed, until};
use super::stage::{SYSTEM, Stage};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The command in a pod, whatever its image is.
const TOOL: &str = "/run/quorate/bin/quorate";
const SAY: &str = "echo I lead with token $QUORATE_TOKEN; exec sleep 100000";
/// One of a Job's pods is alone with its name: what it says begins and ends there.
const ONCE: &str = "echo begin $QUORATE_TOKEN; sleep 1; echo end $QUORATE_TOKEN";
/// Members, and pods of each kind.
const MEMBERS: usize = 3;
const NODES: usize = 3;

fn template(app: &str, command: &[&str], of_jobs: bool) -> Value {
    let command = [&[TOOL], command].concat();
    let container = json!({
        "name": "app",
        "image": "quorate.test/busybox:1",
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": {"runAsUser": 65532, "runAsGroup": 65532},
    });
    json!({
        "metadata": {"labels": {"app": app, "quorate.dev/attach": "demo"}},
        "spec": {
            "restartPolicy": if of_jobs { "Never" } else { "Always" },
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
        },
    })
}

fn apply(space: &Space<'_>, kind: &str, name: &str, spec: &Value) -> Result<(), String> {
    let group = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    let object = json!({
        "apiVersion": group,
        "kind": kind,
        "metadata": {"name": name, "namespace": space.namespace},
        "spec": spec,
    });
    space.stage.apply(&object).map(drop)
}

/// Tokens that pods of a kind said they lead with.
fn tokens(space: &Space<'_>, app: &str, words: &str) -> Result<Vec<u64>, String> {
    let of = format!("app={app}");
    let log = space.kubectl(&["logs", "-l", &of, "-c", "app", "--tail=-1"])?;
    let tokens = log.lines().filter_map(|line| line.strip_prefix(words)?.trim().parse().ok());
    Ok(tokens.collect())
}

async fn leads(space: &Space<'_>, app: &str, above: u64) -> Result<u64, String> {
    until(&format!("a pod of {app} leads"), PATIENCE, async || {
        let last = tokens(space, app, "I lead with token ")?.into_iter().max();
        last.filter(|token| *token > above).ok_or_else(|| "none says so".to_owned())
    })
    .await
}

/// A Job's pods take the same name, one after the other, and the Job ends.
async fn job(space: &Space<'_>) -> Result<(), String> {
    let command = ["lock", "migrate", "--", "sh", "-c", ONCE];
    let template = template("migrate", &command, true);
    let spec = json!({"completions": 3, "parallelism": 3, "template": template});
    apply(space, "Job", "migrate", &spec)?;
    space.kubectl(&["wait", "--for=condition=Complete", "--timeout=90s", "job/migrate"])?;
    let tokens: BTreeSet<u64> = tokens(space, "migrate", "end ")?.into_iter().collect();
    if tokens.len() == 3 { Ok(()) } else { Err(format!("its pods had the tokens {tokens:?}")) }
}

/// While no webhook answers, no pod is made without its sidecar; others are made as ever.
async fn webhook_down(space: &Space<'_>) -> Result<(), String> {
    let operator = ["-n", SYSTEM, "scale", "deployment/quorate-operator"];
    let scale = |replicas: &str| space.stage.kubectl(&[&operator[..], &[replicas]].concat());
    let run = |name: &str, label: &str| {
        let image = "--image=quorate.test/busybox:1";
        let words = ["run", name, image, "--image-pull-policy=Never", "-l", label];
        space.kubectl(&[&words, &["--dry-run=server"][..]].concat())
    };
    let before = space.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])?;
    scale("--replicas=0")?;
    let attach = "quorate.dev/attach=demo";
    until("pods that need a sidecar are refused", PATIENCE, async || match run("one", attach) {
        Err(why) if why.contains("failed calling webhook") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    run("other", "app=other")?;
    let after = space.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])?;
    if before != after {
        return Err(format!("pods that run were touched: {before}, {after}"));
    }
    scale("--replicas=2")?;
    until("the webhook is back", PATIENCE, async || run("one", attach).map(drop)).await
}

/// A Deployment, a DaemonSet and a Job beside the members.
pub(super) async fn all(stage: &Stage) -> Result<String, String> {
    installed(stage).await?;
    let space = Space::settled_new(stage, "attached", managed(3)).await?;
    let elect = |name| ["elect", name, "--again", "--", "sh", "-c", SAY];
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    let web = json!({"replicas": 2, "selector": selector("web"),
                     "template": template("web", &elect("web"), false)});
    apply(&space, "Deployment", "web", &web)?;
    let agent = json!({"selector": selector("agent"),
                       "template": template("agent", &elect("demo"), false)});
    apply(&space, "DaemonSet", "agent", &agent)?;
    let web = leads(&space, "web", 0).await?;
    space.kubectl(&["rollout", "status", "daemonset/agent", "--timeout=90s"])?;
    job(&space).await?;
    // Members and the DaemonSet stand for one name: with all members' applications gone, it leads.
    let led = space.said().await?.pop().ok_or("no member's application leads")?.0;
    let waits = tokens(&space, "agent", "I lead with token ")?;
    if !waits.is_empty() {
        return Err(format!("two lead for one name: {waits:?}, and a member with {led}"));
    }
    let first = space.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"])?;
    let first = first.lines().next().ok_or("there is no pod of web")?.to_owned();
    space.kubectl(&["delete", &first])?;
    webhook_down(&space).await?;
    space.scale(1)?;
    space.settled(1).await?;
    space.kubectl(&["delete", "pod", "demo-0"])?;
    let agent = leads(&space, "agent", led).await?;
    let kinds = format!("{MEMBERS} members, 2 of a Deployment, {NODES} of a DaemonSet, 3 of a Job");
    Ok(format!("{kinds}: web leads with {web}, demo with {led}, then an agent with {agent}"))
}
