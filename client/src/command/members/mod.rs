//! `quorate members`: who they are, how they are, and what may be done to them.

mod bootstrap;
mod change;
mod list;
mod recover;
mod status;

pub use list::{as_json, run as list};

use crate::admin::{Failure, Group, Reached, Result, known};
use crate::cli::{MembersArgs, MembersVerb, Output};
use crate::command::print;
use quorate_proto::admin::maintenance_client::MaintenanceClient;
use quorate_proto::admin::{
    CompactRequest, DrainRequest, RetireRequest, StatusRequest, TransferLeadershipRequest,
    UndrainRequest,
};
use serde_json::json;

/// Whether the admin ports are asked. The list is not theirs alone: a sidecar tells it as well.
pub fn is_admin(args: &MembersArgs) -> bool {
    let list = matches!(args.verb, None | Some(MembersVerb::List));
    !list || args.admin.admin.iter().any(|address| !address.is_empty())
}

/// Runs a verb on the admin ports.
pub async fn administer(args: MembersArgs, output: Output) -> Result<()> {
    let group = Group::reach(&args.admin).await?;
    match args.verb.unwrap_or(MembersVerb::List) {
        MembersVerb::List => {
            let one = group.leader().ok().or(group.reached.first());
            one.into_iter().for_each(|one| list::of_admin(one, output));
            Ok(())
        }
        MembersVerb::Status => {
            status::show(&group, output);
            Ok(())
        }
        MembersVerb::Bootstrap => bootstrap::run(&group, output).await,
        MembersVerb::Change(args) => change::run(&group, &args, output).await,
        MembersVerb::Transfer { to } => transfer(&group, to.as_deref(), output).await,
        MembersVerb::Drain { member } => {
            let one = group.named(member.as_deref())?;
            one.members().drain(DrainRequest {}).await?;
            done(
                one,
                output,
                "drained",
                "is drained: it does not lead, and stands only if nobody else can",
            );
            Ok(())
        }
        MembersVerb::Undrain { member } => {
            let one = group.named(member.as_deref())?;
            one.members().undrain(UndrainRequest {}).await?;
            done(one, output, "undrained", "stands again");
            Ok(())
        }
        MembersVerb::Compact { member } => compact(group.named(member.as_deref())?, output).await,
        MembersVerb::Retire { member, still_a_member } => {
            let one = group.named(Some(&member))?;
            let member_id = one.status.member_id.clone();
            one.members().retire(RetireRequest { member_id, still_a_member }).await?;
            done(one, output, "retired", "is retired: it never votes or serves again");
            Ok(())
        }
        MembersVerb::Recover(args) => recover::run(&group, &args, output).await,
        MembersVerb::ConfirmStopped { i_understand } => {
            recover::confirm_stopped(&group, i_understand.as_deref(), output).await
        }
    }
}

/// The identity of a group that begins.
fn new_cluster() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    let filled = rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty());
    if filled == Ok(16) && id != [0; 16] {
        Ok(id)
    } else {
        Err(Failure::unavailable("the system gives no random bytes"))
    }
}

fn done(one: &Reached, output: Output, key: &str, words: &str) {
    let name = &one.status.name;
    print(&[match output {
        Output::Json => json!({ key: name }).to_string(),
        Output::Text => format!("{name} {words}"),
    }]);
}

async fn transfer(group: &Group, to: Option<&str>, output: Output) -> Result<()> {
    let leader = group.leader()?;
    let target = to.map(|word| group.voter(word)).transpose()?;
    let member_id = target.as_ref().map(|voter| voter.member_id.clone()).unwrap_or_default();
    leader.members().transfer_leadership(TransferLeadershipRequest { member_id }).await?;
    let from = &leader.status.name;
    let to = match target {
        Some(voter) => Some(voter.name),
        None => successor(leader).await,
    };
    print(&[match (output, to) {
        (Output::Json, to) => json!({ "from": from, "to": to }).to_string(),
        (Output::Text, Some(to)) => format!("{from} handed leadership to {to}"),
        (Output::Text, None) => format!("{from} handed leadership over"),
    }]);
    Ok(())
}

/// Who leads now, by the one that led before; none if it does not know yet.
async fn successor(before: &Reached) -> Option<String> {
    let status = before.members().status(StatusRequest::default()).await.ok()?.into_inner();
    let own = &before.status.member_id;
    let leader = known(&status).find(|one| one.member_id == status.leader_id)?;
    (leader.member_id != *own).then(|| leader.name.clone())
}

async fn compact(one: &Reached, output: Output) -> Result<()> {
    let mut maintenance = MaintenanceClient::new(one.channel.clone());
    let index = maintenance.compact(CompactRequest {}).await?.into_inner().index;
    let name = &one.status.name;
    print(&[match output {
        Output::Json => json!({ "compacted": name, "index": index }).to_string(),
        Output::Text => format!("{name} has a snapshot up to entry {index}"),
    }]);
    Ok(())
}
