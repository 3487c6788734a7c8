//! `quorate members change`.

use crate::admin::{Group, Result, known, names};
use crate::cli::{ChangeArgs, Output};
use crate::command::print;
use quorate_proto::admin::{ChangeMembershipRequest, Voter};
use serde_json::json;

/// Asks the leader, once: it answers when the change is committed, or says why it is not.
pub async fn run(group: &Group, args: &ChangeArgs, output: Output) -> Result<()> {
    let leader = group.leader()?;
    let status = &leader.status;
    let found = |words: &[String]| {
        let words = words.iter().filter(|word| !word.is_empty());
        words.map(|word| group.voter(word)).collect::<Result<Vec<Voter>>>()
    };
    let (voters, learners) = (found(&args.voters)?, found(&args.learners)?);
    let request = ChangeMembershipRequest {
        expected_configuration_index: args.expected_index.unwrap_or(status.configuration_index),
        voters: voters.clone(),
        learners: learners.clone(),
        abort: args.abort,
        addresses: Vec::new(),
    };
    let answer = leader.members().change_membership(request).await?;
    let index = answer.into_inner().configuration_index;
    if output == Output::Json {
        let list = |of: &[Voter]| of.iter().map(|voter| voter.name.clone()).collect::<Vec<_>>();
        let answer = json!({
            "configuration_index": index,
            "voters": list(&voters),
            "learners": list(&learners),
            "aborted": args.abort,
        });
        print(&[answer.to_string()]);
        return Ok(());
    }
    if args.abort {
        print(&[format!("the change is given up: configuration {index}")]);
        return Ok(());
    }
    let mut lines = vec![format!("configuration {index}")];
    lines.push(format!("voters    {}", names(voters.iter().map(|voter| &voter.name))));
    if !learners.is_empty() {
        lines.push(format!("learners  {}", names(learners.iter().map(|one| &one.name))));
    }
    let stays = |one: &Voter| voters.iter().chain(&learners).any(|s| s.member_id == one.member_id);
    let left = known(status).filter(|one| !stays(one)).map(|one| &one.name);
    let left = names(left);
    if !left.is_empty() {
        lines.push(format!("left      {left}: stop it, and keep it stopped"));
    }
    print(&lines);
    Ok(())
}
