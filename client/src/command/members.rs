//! `quorate members`.

use super::{print, table};
use crate::cli::Output;
use crate::paint::safe;
use quorate_client::{Client, Error, StatusResponse};
use serde_json::{Value, json};

pub async fn run(client: &Client, output: Output) -> Result<(), Error> {
    let status = client.status().await?;
    if output == Output::Json {
        print(&[as_json(&status).to_string()]);
        return Ok(());
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
    Ok(())
}

/// One object a member.
pub(super) fn as_json(status: &StatusResponse) -> Value {
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
