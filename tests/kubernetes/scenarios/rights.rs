//! What the chart lets the operator do, against what it did: the API server's roles and its audit
//! log.
//!
//! Only calls that came from pods count, so that an operator of this machine, which has the same
//! account and may do everything, proves nothing.

use super::stage::{ACCOUNT, SYSTEM, Stage};
use crate::control::audit_log;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// Rights that no call of the scenarios needs, each with its reason.
const UNUSED: &[(&str, &str)] = &[
    (
        "update quorate.dev/raftclusters/finalizers",
        "asked by an admission plugin alone, when something is made in a RaftCluster's name",
    ),
    ("patch events.k8s.io/events", "only if the same thing happens twice within six minutes"),
];

/// One right, or one call. The resource has its group before it, and its part behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    resource: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// What the roles of the chart grant.
struct Granted {
    /// In the operator's namespace.
    own: BTreeSet<Right>,
    /// Everywhere; the webhook's configuration among it.
    watched: BTreeSet<Right>,
}

fn words<'a>(of: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    of[list].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn granted(role: &Value) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                let resource = format!("{group}/{resource}");
                rights.extend(words(rule, "verbs").map(|verb| {
                    let (verb, resource) = (verb.to_owned(), resource.clone());
                    Right { verb, resource }
                }));
            }
        }
    }
    rights
}

/// A call of the operator's.
#[derive(Clone, Debug)]
pub(super) struct Call {
    namespace: String,
    name: String,
    rights: Vec<Right>,
    /// Whether it was refused as something that the operator may not do.
    forbidden: bool,
}

/// The call in a line of the audit log; `None`: somebody else's, or none about objects.
fn call(line: &Value) -> Option<Call> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let from_a_pod = line["user"]["extra"].get("authentication.kubernetes.io/pod-name").is_some();
    if line["user"]["username"] != ACCOUNT || !from_a_pod {
        return None;
    }
    let of = line.get("objectRef")?;
    let mut resource = format!("{}/{}", text(&of["apiGroup"]), text(&of["resource"]));
    if let Some(part) = of["subresource"].as_str() {
        resource = format!("{resource}/{part}");
    }
    let code = line["responseStatus"]["code"].as_u64().unwrap_or(0);
    let mut verbs = vec![text(&line["verb"])];
    // What is applied and not there yet is made, and the right to make it is asked for.
    if code == 201 && verbs[0] == "patch" {
        verbs.push("create".to_owned());
    }
    let right = |verb| Right { verb, resource: resource.clone() };
    let rights = verbs.into_iter().map(right).collect();
    // Into a namespace that is being removed nobody writes.
    let answer = text(&line["responseStatus"]["message"]);
    let forbidden = code == 403 && !answer.contains("because it is being terminated");
    Some(Call { namespace: text(&of["namespace"]), name: text(&of["name"]), rights, forbidden })
}

/// What was used of what is granted; no call was forbidden, or went beyond.
fn used(granted: &Granted, calls: &[Call]) -> Result<Granted, String> {
    let mut used = Granted { own: BTreeSet::new(), watched: BTreeSet::new() };
    for call in calls {
        if call.forbidden {
            let (right, name) = (&call.rights[0], &call.name);
            return Err(format!("{right} {}/{name} was forbidden to the operator", call.namespace));
        }
        for right in &call.rights {
            if call.namespace == SYSTEM && granted.own.contains(right) {
                used.own.insert(right.clone());
            } else if granted.watched.contains(right) {
                used.watched.insert(right.clone());
            } else {
                return Err(format!("no rule of the chart grants {right}, and it was done"));
            }
        }
    }
    Ok(used)
}

/// Everything that is granted was used, or is excused; nothing else is.
fn none_idle(granted: &Granted, used: &Granted) -> Result<(), String> {
    let roles =
        [("own.yaml", &granted.own, &used.own), ("watched.yaml", &granted.watched, &used.watched)];
    for (file, granted, used) in roles {
        let excused = |right: &Right| UNUSED.iter().any(|(what, _)| *what == right.to_string());
        let idle = granted.difference(used).filter(|right| !excused(right));
        let idle: Vec<String> = idle.map(Right::to_string).collect();
        if !idle.is_empty() {
            let idle = idle.join(", ");
            return Err(format!(
                "files/rules/{file} grants {idle}, and the operator did not need it: take it out, \
                 or say in scenarios/rights.rs why it stays"
            ));
        }
    }
    let there = |what: &str| granted.watched.iter().any(|right| right.to_string() == what);
    match UNUSED.iter().find(|(what, _)| !there(what)) {
        Some((what, _)) => Err(format!("scenarios/rights.rs excuses {what}: no rule grants it")),
        None => Ok(()),
    }
}

/// The chart's roles, as they are installed.
async fn roles(stage: &Stage) -> Result<Granted, String> {
    let role = async |path: &str| {
        let role = stage.get(&format!("/apis/rbac.authorization.k8s.io/v1/{path}")).await?;
        Ok::<_, String>(granted(&role.ok_or_else(|| format!("there is no {path}"))?))
    };
    let own = role(&format!("namespaces/{SYSTEM}/roles/quorate-operator-own")).await?;
    // Its second role is as much as everywhere.
    let mut watched = role("clusterroles/quorate-operator").await?;
    watched.extend(role("clusterroles/quorate-operator-webhook").await?);
    Ok(Granted { own, watched })
}

/// The calls of the operator's pods so far, but for the first `after`.
pub(super) fn calls(stage: &Stage, after: usize) -> Result<Vec<Call>, String> {
    let file = audit_log(&stage.instance);
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter_map(|line| call(&line)).skip(after).collect())
}

/// Each of the calls is granted, and none was forbidden.
pub(super) async fn enough(stage: &Stage, calls: &[Call]) -> Result<(), String> {
    used(&roles(stage).await?, calls).map(drop)
}

/// The same, and everything that is granted was used, or is excused. Gives how many rights were.
pub(super) async fn least(stage: &Stage, calls: &[Call]) -> Result<usize, String> {
    let granted = roles(stage).await?;
    let used = used(&granted, calls)?;
    none_idle(&granted, &used)?;
    Ok(used.own.len() + used.watched.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules() -> Granted {
        let rule = |group: &str, resources: &[&str], verbs: &[&str]| {
            let rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
            json!({"rules": [rule]})
        };
        let mut watched = granted(&rule("", &["secrets"], &["patch", "create"]));
        let finalizers = "raftclusters/finalizers";
        watched.extend(granted(&rule("quorate.dev", &[finalizers], &["update"])));
        watched.extend(granted(&rule("events.k8s.io", &["events"], &["patch"])));
        Granted { own: granted(&rule("", &["secrets"], &["get"])), watched }
    }

    fn line(verb: &str, namespace: &str, code: u64) -> Value {
        json!({
            "verb": verb,
            "user": {
                "username": ACCOUNT,
                "extra": {"authentication.kubernetes.io/pod-name": ["quorate-operator-0"]},
            },
            "objectRef": {"resource": "secrets", "namespace": namespace, "name": "demo"},
            "responseStatus": {"code": code},
        })
    }

    fn judged(lines: &[Value]) -> Result<usize, String> {
        let used = used(&rules(), &lines.iter().filter_map(call).collect::<Vec<_>>())?;
        none_idle(&rules(), &used)?;
        Ok(used.own.len() + used.watched.len())
    }

    #[test]
    fn what_is_granted_is_used_and_the_other_way_round() {
        let (get, apply) = (line("get", SYSTEM, 200), line("patch", "user", 201));
        assert_eq!(judged(&[get.clone(), apply.clone()]), Ok(3));
        let wrong = |lines: &[Value]| judged(lines).expect_err("it is wrong");
        assert!(wrong(std::slice::from_ref(&apply)).contains("own.yaml grants get /secrets"));
        let patched = line("patch", "user", 200);
        assert!(wrong(&[get.clone(), patched]).contains("watched.yaml grants create /secrets"));
        let elsewhere = line("get", "user", 200);
        assert!(wrong(&[elsewhere]).contains("no rule of the chart grants get /secrets"));
        assert!(wrong(&[get, line("patch", "user", 403)]).contains("forbidden"));
    }

    #[test]
    fn calls_that_did_not_come_from_a_pod_prove_nothing() {
        let mut here = line("get", SYSTEM, 200);
        here["user"]["extra"] = Value::Null;
        assert!(call(&here).is_none());
    }
}
