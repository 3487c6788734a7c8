//! `quorate members bootstrap`.

use crate::admin::{Failure, Group, Reached, Result, hexadecimal, names};
use crate::cli::Output;
use crate::command::print;
use quorate_proto::admin::{BootstrapRequest, Voter};
use serde_json::json;
use std::time::{Duration, SystemTime};

/// Where the tokens of a new group begin (docs/reference/tokens.md): at the day since 2025-01-01
/// UTC, and within it at the second, times 2^31.
const EPOCH_ZERO_S: u64 = 1_735_689_600;
const DAY_S: u64 = 86_400;
const SECOND: u32 = 31;
const EPOCH_MAX: u64 = 32_766;

/// Everybody who was named founds one group, and votes in it.
pub async fn run(group: &Group, output: Output) -> Result<()> {
    let founders = founders(group)?;
    let voter = |one: &&Reached| Voter {
        member_id: one.status.member_id.clone(),
        name: one.status.name.clone(),
    };
    let voters: Vec<Voter> = founders.iter().map(voter).collect();
    let (cluster_id, (epoch, last_n)) = (super::new_cluster()?.to_vec(), life(SystemTime::now()));
    let member_id = voters[0].member_id.clone();
    let cluster = hexadecimal(&cluster_id);
    let request = BootstrapRequest { cluster_id, member_id, voters: voters.clone(), epoch, last_n };
    founders[0].members().bootstrap(request).await?;
    let list: Vec<&String> = voters.iter().map(|voter| &voter.name).collect();
    print(&[match output {
        Output::Json => json!({ "cluster_id": cluster, "voters": list }).to_string(),
        Output::Text => {
            format!("cluster {cluster} is founded by {}", names(list.into_iter()))
        }
    }]);
    Ok(())
}

/// All of them are there, and in no group.
fn founders(group: &Group) -> Result<Vec<&Reached>> {
    if let Some((address, why)) = group.missing.first() {
        return Err(Failure::unavailable(format!(
            "every member that is named founds the group, and {address} does not answer: {why}"
        ))
        .hint("start it, or leave it out and add it later; nothing was changed"));
    }
    let mut seen = std::collections::BTreeSet::new();
    for one in &group.reached {
        let (name, role) = (&one.status.name, one.status.role.as_str());
        if role != "blank" {
            return Err(Failure::unavailable(format!(
                "{name} is not blank but {role}: it cannot found a group"
            ))
            .hint("see `quorate members status`; to an existing group it is added by `change`"));
        }
        if !seen.insert(name) {
            return Err(Failure::usage(format!("two members are called {name}")));
        }
    }
    Ok(group.reached.iter().collect())
}

fn life(now: SystemTime) -> (u32, u64) {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let since = now.as_secs().saturating_sub(EPOCH_ZERO_S);
    let epoch = (since / DAY_S).clamp(1, EPOCH_MAX);
    (u32::try_from(epoch).expect("it has 15 bits"), (since % DAY_S) << SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_begin_at_the_day_and_the_second() {
        let at = |seconds| life(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(EPOCH_ZERO_S + 3 * DAY_S + 7), (3, 7 << SECOND));
        assert_eq!(at(0), (1, 0), "a clock that was never set");
        assert_eq!(at(u64::MAX / 4).0, 32_766);
    }
}
