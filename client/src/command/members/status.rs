//! `quorate members status`.

use crate::admin::{Group, Reached, hexadecimal, known, names};
use crate::cli::Output;
use crate::command::{print, table};
use crate::paint::{Ink, ink, safe};
use quorate_proto::admin::{Follower, StatusResponse, Voter};
use serde_json::{Value, json};

/// One row a member; then what is true of the group as its leader, or else the first, sees it.
pub fn show(group: &Group, output: Output) {
    if output == Output::Json {
        let missing = group.missing.iter().map(
            |(address, why)| json!({ "admin": address.place, "name": address.name, "error": why }),
        );
        let all: Vec<Value> = group.reached.iter().map(as_json).chain(missing).collect();
        return print(&[Value::from(all).to_string()]);
    }
    let head = ["NAME", "ROLE", "TERM", "COMMIT", "APPLIED", "DURABLE", "SNAPSHOT", "NOTES"];
    let mut rows: Vec<Vec<String>> = group.reached.iter().map(|one| row(&one.status)).collect();
    for (address, why) in &group.missing {
        let name = address.name.as_ref().unwrap_or(&address.place);
        let mut cells = vec![safe(name), "-".to_owned()];
        cells.extend((0..5).map(|_| String::new()));
        cells.push(safe(why));
        rows.push(cells);
    }
    print(&table(&head, &rows));
    if let Some(one) = group.leader().ok().or(group.reached.first()) {
        print(&summary(&one.status));
    }
}

fn row(status: &StatusResponse) -> Vec<String> {
    let numbers = [status.term, status.commit, status.applied, status.durable, status.snapshot];
    let mut notes = Vec::new();
    if status.draining {
        notes.push("drained".to_owned());
    }
    if !status.unfit.is_empty() {
        notes.push(format!("unfit: {}", safe(&status.unfit)));
    }
    let mut cells = vec![safe(&status.name), safe(&status.role)];
    cells.extend(numbers.map(|number| number.to_string()));
    cells.push(notes.join(", "));
    cells
}

fn summary(status: &StatusResponse) -> Vec<String> {
    let list = |of: &[Voter]| {
        let mut sorted: Vec<&String> = of.iter().map(|one| &one.name).collect();
        sorted.sort();
        safe(&names(sorted.into_iter()))
    };
    let mut lines = vec![
        String::new(),
        format!("cluster        {}", hexadecimal(&status.cluster_id)),
        format!("configuration  {}", status.configuration_index),
        format!("voters         {}", list(&status.voters)),
    ];
    if !status.outgoing.is_empty() {
        let words = format!("voters until the change is done: {}", list(&status.outgoing));
        lines.push(ink(Ink::Yellow, &words));
    }
    if !status.learners.is_empty() {
        lines.push(format!("learners       {}", list(&status.learners)));
    }
    lines.push(format!(
        "tokens         up to {} (epoch {})",
        status.last_token,
        status.last_token >> 48
    ));
    for follower in status.followers.iter().filter(|follower| follower.quarantined) {
        let id = &follower.member_id;
        let name = known(status).find(|one| one.member_id == *id).map_or("", |one| &one.name);
        let words = format!(
            "in quarantine  {} {}: its disk lost what it had acknowledged; remove it, and add a \
             member with an empty disk",
            safe(name),
            hexadecimal(id)
        );
        lines.push(ink(Ink::Yellow, &words));
    }
    if status.hold_off_ms > 0 {
        let words = format!(
            "held off       nothing is granted until the leader has waited for {} s",
            status.hold_off_ms.div_ceil(1_000)
        );
        lines.push(ink(Ink::Yellow, &words));
    }
    lines
}

fn as_json(one: &Reached) -> Value {
    let status = &one.status;
    let list = |of: &[Voter]| -> Vec<Value> {
        let member =
            |one: &Voter| json!({ "name": one.name, "member_id": hexadecimal(&one.member_id) });
        of.iter().map(member).collect()
    };
    let follower = |one: &Follower| {
        json!({
            "member_id": hexadecimal(&one.member_id),
            "matched": one.matched,
            "silent_ms": one.silent_ms,
            "quarantined": one.quarantined,
        })
    };
    json!({
        "admin": one.address.place,
        "name": status.name,
        "member_id": hexadecimal(&status.member_id),
        "cluster_id": hexadecimal(&status.cluster_id),
        "role": status.role,
        "term": status.term,
        "leader_id": hexadecimal(&status.leader_id),
        "commit": status.commit,
        "applied": status.applied,
        "first": status.first,
        "last": status.last,
        "last_term": status.last_term,
        "durable": status.durable,
        "snapshot": status.snapshot,
        "configuration_index": status.configuration_index,
        "voters": list(&status.voters),
        "learners": list(&status.learners),
        "outgoing": list(&status.outgoing),
        "followers": status.followers.iter().map(follower).collect::<Vec<_>>(),
        "sessions": status.sessions,
        "epoch": status.last_token >> 48,
        "last_token": status.last_token.to_string(),
        "life": status.life.to_string(),
        "hold_off_ms": status.hold_off_ms,
        "draining": status.draining,
        "retired": status.retired,
        "unfit": status.unfit,
        "boot_seq": status.boot_seq,
        "version": status.version,
        "format_version": status.format_version,
    })
}
