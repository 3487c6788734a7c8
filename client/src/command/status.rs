//! `quorate status`.

use super::{count, print};
use crate::cli::Output;
use crate::paint::{Ink, ink, safe};
use quorate_client::{Client, Error};
use serde_json::json;

pub async fn run(client: &Client, output: Output) -> Result<(), Error> {
    let status = client.status().await?;
    if output == Output::Json {
        let answer = json!({
            "endpoint": client.endpoint().to_string(),
            "member": status.member,
            "member_id": status.member_id,
            "cluster_id": status.cluster_id,
            "role": status.role,
            "term": status.term,
            "leader": status.leader,
            "commit": status.commit,
            "applied": status.applied,
            "last": status.last,
            "members": super::members::as_json(&status),
            "sessions": status.sessions,
            "names": status.names,
            "version": status.version,
            "unfit": status.unfit,
            "draining": status.draining,
            "hold_off_ms": status.hold_off_ms,
        });
        print(&[answer.to_string()]);
        return Ok(());
    }
    let leader = if status.leader.is_empty() {
        ink(Ink::Yellow, "none known")
    } else {
        ink(Ink::Green, &safe(&status.leader))
    };
    let members: Vec<String> = status.members.iter().map(|member| safe(&member.name)).collect();
    let mut lines = vec![
        format!("member    {} ({})", ink(Ink::Bold, &safe(&status.member)), safe(&status.role)),
        format!("leader    {leader}, term {}", status.term),
        format!("members   {}", members.join(", ")),
        format!(
            "log       commit {}, applied {}, last {}",
            status.commit, status.applied, status.last
        ),
        format!(
            "in use    {}, {}",
            count(status.sessions, "session", "sessions"),
            count(status.names, "name", "names")
        ),
        format!("cluster   {}", safe(&status.cluster_id)),
        format!("endpoint  {}", safe(&client.endpoint().to_string())),
        format!("version   {}", safe(&status.version)),
    ];
    if !status.unfit.is_empty() {
        lines.push(ink(Ink::Yellow, &format!("disk      unfit: {}", safe(&status.unfit))));
    }
    if status.hold_off_ms > 0 {
        let wait = status.hold_off_ms.div_ceil(1_000);
        let words = format!(
            "held off  the group was recovered or restored: nothing is granted until its leader \
             has waited for {wait} s"
        );
        lines.push(ink(Ink::Yellow, &words));
    }
    if status.draining {
        lines.push(ink(Ink::Yellow, "draining  it gives up leadership and is about to stop"));
    }
    print(&lines);
    Ok(())
}
