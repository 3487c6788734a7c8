//! `quorate members recover`: a running survivor of a lost group goes on alone.

use crate::admin::{Failure, Group, Result, hexadecimal};
use crate::cli::{Output, RecoverArgs};
use crate::command::print;
use quorate_proto::admin::maintenance_client::MaintenanceClient;
use quorate_proto::admin::{ConfirmStoppedRequest, RecoverRequest, RecoverResponse};
use serde_json::json;

pub async fn run(group: &Group, args: &RecoverArgs, output: Output) -> Result<()> {
    let one = group.named(Some(&args.member))?;
    let cluster = hexadecimal(&one.status.cluster_id);
    if cluster.is_empty() {
        let name = &one.status.name;
        let words = format!("{name} belongs to no group: there is nothing to recover");
        return Err(Failure::unavailable(words));
    }
    // The member checks it too; here for the words, before anything is asked.
    let words = format!("the other members of {cluster} are lost");
    if args.i_understand.as_ref() != Some(&words) {
        return Err(Failure::usage(format!(
            "this cannot be undone, and wants a confirmation; nothing was changed. If it is so, \
             say:\n  --i-understand \"{words}\""
        )));
    }
    let new = super::new_cluster()?;
    let stopped = args.confirm_old_members_stopped;
    let hold_off_ms = u64::try_from(args.hold_off.as_millis()).unwrap_or(u64::MAX);
    let hold_off_ms = if stopped { 0 } else { hold_off_ms };
    let request = RecoverRequest {
        member_id: one.status.member_id.clone(),
        cluster_id: one.status.cluster_id.clone(),
        new_cluster_id: new.to_vec(),
        epoch: 0,
        last_n: 0,
        hold_off_ms,
        old_members_stopped: stopped,
        confirmation: words,
        above_token: args.above_token,
    };
    let answer = MaintenanceClient::new(one.channel.clone()).recover(request).await?;
    let RecoverResponse { index, hold_off_ms: held_off_ms } = answer.into_inner();
    // A member of an earlier version does not say.
    let hold_off_ms = held_off_ms.max(hold_off_ms);
    let (name, new) = (&one.status.name, hexadecimal(&new));
    print(&[match output {
        Output::Json => json!({
            "recovered": name,
            "cluster_id": new,
            "index": index,
            "hold_off_ms": hold_off_ms,
        })
        .to_string(),
        Output::Text => format!(
            "{name} is the only member of cluster {new} now, from entry {index} on, and starts \
             anew\n{}\nnext: add members: quorate members change --help",
            match hold_off_ms {
                0 => "grants are made at once".to_owned(),
                ms => format!("nothing is granted for {} s", ms.div_ceil(1_000)),
            }
        ),
    }]);
    Ok(())
}

/// What has to be said before the hold-off ends early.
const STOPPED: &str = "every old member has stopped";

pub async fn confirm_stopped(group: &Group, said: Option<&str>, output: Output) -> Result<()> {
    let leader = group.leader()?;
    if said != Some(STOPPED) {
        return Err(Failure::usage(format!(
            "whoever still holds a name in the old group would share it with the new one: of every \
             old member its applications must have stopped, or a TTL have passed since it did; \
             nothing was changed. If it is so, say:\n  --i-understand \"{STOPPED}\""
        )));
    }
    let cluster_id = leader.status.cluster_id.clone();
    let mut maintenance = MaintenanceClient::new(leader.channel.clone());
    maintenance.confirm_stopped(ConfirmStoppedRequest { cluster_id }).await?;
    print(&[match output {
        Output::Json => json!({ "hold_off_ms": 0 }).to_string(),
        Output::Text => "grants are made from now on".to_owned(),
    }]);
    Ok(())
}
