//! What happens by itself, in plain words, while the demo breaks things.

use super::super::leaders::Leaders;
use super::super::space::{Pod, Space, holds};
use quorate_load::screen::Screen;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(150);

/// Tells without end: what Kubernetes shows, and what the sidecars and the applications say.
pub(super) async fn tell(
    space: &Space<'_>,
    screen: &Screen,
    leaders: &RefCell<Leaders>,
) -> Infallible {
    // Apart, since the API server may be silent for long.
    futures_util::future::join(objects(space, screen), group(space, screen, leaders)).await.0
}

async fn objects(space: &Space<'_>, screen: &Screen) -> Infallible {
    let mut seen = Seen::default();
    loop {
        if let (Ok(raft), Ok(pods)) = (space.raft().await, space.pods().await) {
            seen.look(&raft, &pods).iter().for_each(|line| screen.news(line));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn group(space: &Space<'_>, screen: &Screen, leaders: &RefCell<Leaders>) -> Infallible {
    let mut last = String::new();
    loop {
        if let Ok(leader) = space.leader().await
            && leader != last
        {
            screen.news(&format!("{leader} leads the Raft group"));
            last = leader;
        }
        for term in leaders.borrow_mut().look(space) {
            let (pod, token) = (term.pod, term.token);
            screen.good(&format!("the application in {pod} leads with token {token}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A pod, as it was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    uid: String,
    node: String,
    deleting: bool,
    restarts: u64,
}

/// What was told last.
#[derive(Debug, Default)]
struct Seen {
    pods: BTreeMap<String, Told>,
    /// Roles, by member and the name of its pod.
    roles: BTreeMap<(String, String), String>,
    ready: bool,
}

impl Seen {
    /// What is new, a line each.
    fn look(&mut self, raft: &Value, pods: &[Pod]) -> Vec<String> {
        let mut lines = Vec::new();
        self.look_at_pods(pods, &mut lines);
        self.look_at_members(&raft["status"], &mut lines);
        let ready = holds(raft, "Ready");
        if ready != self.ready {
            let voters = &raft["status"]["voters"];
            lines.push(if ready {
                format!("raft/demo is Ready: {voters} voters")
            } else {
                format!("raft/demo is not Ready: {}", why(raft))
            });
        }
        self.ready = ready;
        lines
    }

    fn look_at_pods(&mut self, pods: &[Pod], lines: &mut Vec<String>) {
        let mut now = BTreeMap::new();
        for pod in pods {
            let (name, node) = (&pod.name, &pod.node);
            let restarts = pod.restarts("quorate");
            let (uid, deleting) = (pod.uid.clone(), pod.deleting);
            let told = Told { uid, node: node.clone(), deleting, restarts };
            let old = self.pods.get(name).filter(|old| old.uid == told.uid);
            if !node.is_empty() && old.is_none_or(|old| old.node.is_empty()) {
                lines.push(format!("{name} starts on {node}"));
            }
            if deleting && old.is_some_and(|old| !old.deleting) {
                lines.push(format!("{name} is told to end"));
            }
            if old.is_some_and(|old| old.restarts < restarts) {
                lines.push(format!("the sidecar of {name} is back"));
            }
            now.insert(name.clone(), told);
        }
        let gone = self.pods.keys().filter(|name| !now.contains_key(*name));
        lines.extend(gone.map(|name| format!("{name} is gone")));
        self.pods = now;
    }

    fn look_at_members(&mut self, status: &Value, lines: &mut Vec<String>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let members = status["members"].as_array().into_iter().flatten();
        let roles: BTreeMap<_, _> = members
            .map(|one| ((text(&one["name"]), text(&one["memberId"])), text(&one["role"])))
            .collect();
        for (member, role) in &roles {
            let before = self.roles.get(member).map_or("None", String::as_str);
            let name = &member.0;
            match (before, role.as_str()) {
                ("None", "Learner") => lines.push(format!("{name} listens, and gets the log")),
                ("None" | "Learner", "Voter") => lines.push(format!("{name} votes")),
                ("Voter", "Learner") => lines.push(format!("{name} votes no longer")),
                ("Voter" | "Learner", "None") => lines.push(format!("{name} left the group")),
                _ => {}
            }
        }
        let left = self
            .roles
            .iter()
            .filter(|(member, role)| role.as_str() != "None" && !roles.contains_key(*member));
        lines.extend(left.map(|((name, _), _)| format!("{name} left the group")));
        self.roles = roles;
    }
}

/// The sentence of the condition.
fn why(raft: &Value) -> &str {
    let conditions = raft["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|one| one["type"] == "Ready");
    ready.and_then(|one| one["message"].as_str()).unwrap_or("nothing is known yet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raft(ready: &str, members: &[(&str, &str, &str)]) -> Value {
        let member = |(name, id, role): &(&str, &str, &str)| {
            json!({
                "name": name, "memberId": id, "role": role,
            })
        };
        json!({"status": {
            "voters": 3,
            "conditions": [{"type": "Ready", "status": ready, "message": "wait"}],
            "members": members.iter().map(member).collect::<Vec<_>>(),
        }})
    }

    #[test]
    fn each_change_is_told_once() {
        let mut seen = Seen::default();
        let first = raft("True", &[("demo-0", "a", "Voter"), ("demo-1", "b", "Learner")]);
        let told = seen.look(&first, &[]);
        let words =
            ["demo-0 votes", "demo-1 listens, and gets the log", "raft/demo is Ready: 3 voters"];
        assert_eq!(told, words);
        assert!(seen.look(&first, &[]).is_empty());
        // Another member under the name of one whose disk is lost.
        let next = raft("False", &[("demo-0", "a", "Voter"), ("demo-1", "c", "Voter")]);
        let told = seen.look(&next, &[]);
        assert_eq!(told, ["demo-1 votes", "demo-1 left the group", "raft/demo is not Ready: wait"]);
    }
}
