//! `quorate members list`, as the sidecar beside this command or an admin port tells it.

use crate::admin::{Reached, hexadecimal};
use crate::cli::Output;
use crate::command::{print, table};
use crate::paint::safe;
use quorate_client::{Client, Error, StatusResponse};
use quorate_proto::v1::Member;
use serde_json::{Value, json};

/// By the sidecar's local API.
pub async fn run(client: &Client, output: Output) -> Result<(), Error> {
    show(&client.status().await?, output);
    Ok(())
}

/// By an admin port.
pub fn of_admin(one: &Reached, output: Output) {
    let status = &one.status;
    let voters = status.voters.iter().chain(&status.outgoing);
    let mut members: Vec<Member> = voters
        .map(|voter| (voter, true))
        .chain(status.learners.iter().map(|learner| (learner, false)))
        .map(|(member, voter)| Member {
            name: member.name.clone(),
            member_id: hexadecimal(&member.member_id),
            voter,
            learner: !voter,
        })
        .collect();
    members.sort_by(|one, other| (&one.name, other.voter).cmp(&(&other.name, one.voter)));
    members.dedup_by(|later, first| later.member_id == first.member_id);
    let leader = hexadecimal(&status.leader_id);
    let leader = members.iter().find(|member| member.member_id == leader);
    let leader = leader.map(|leader| leader.name.clone()).unwrap_or_default();
    show(&StatusResponse { members, leader, ..StatusResponse::default() }, output);
}

fn show(status: &StatusResponse, output: Output) {
    if output == Output::Json {
        return print(&[as_json(status).to_string()]);
    }
    let rows: Vec<Vec<String>> = status
        .members
        .iter()
        .map(|member| {
            let vote = match (member.voter, member.learner) {
                (true, _) => "voter",
                (false, true) => "learner",
                (false, false) => "-",
            };
            let leads = if member.name == status.leader { "leader" } else { "" };
            let (name, id) = (safe(&member.name), safe(&member.member_id));
            vec![name, vote.to_owned(), id, leads.to_owned()]
        })
        .collect();
    print(&table(&["NAME", "VOTE", "MEMBER ID", "ROLE"], &rows));
}

/// One object a member.
pub fn as_json(status: &StatusResponse) -> Value {
    let members = status.members.iter().map(|member| {
        json!({
            "name": member.name,
            "member_id": member.member_id,
            "voter": member.voter,
            "learner": member.learner,
            "leader": member.name == status.leader,
        })
    });
    members.collect()
}
