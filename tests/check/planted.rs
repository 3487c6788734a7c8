//! Planted bugs: each must be found by the simulator, or the checkers have a hole.
//!
//! The bugs are in ONE build, of the feature `planted` in a target directory of its own, and chosen
//! at run time. The release build has none: this check looks for their code in it.

use super::Options;

/// What is in a binary only if bugs can be planted in it: the variable that chooses one.
#[cfg(feature = "planted")]
const MARK: &[u8] = b"QUORATE_PLANTED";

#[cfg(feature = "planted")]
mod bugs {
    use quorate_locks::planted::Bug as LockBug;
    use quorate_raft::planted::Bug as RaftBug;
    use quorate_sidecar::planted::Bug as SidecarBug;

    /// A bug of one of the crates.
    pub enum Bug {
        Raft(RaftBug),
        Locks(LockBug),
        Sidecar(SidecarBug),
    }

    /// Some of the bugs, and a seed that is known to find each. All of them: `cargo xtask zoo`.
    pub const BUGS: [(&str, Bug, u64); 7] = [
        ("vote answered before it is durable", Bug::Raft(RaftBug::VoteBeforeDurable), 4),
        ("vote forgotten by a restart", Bug::Raft(RaftBug::VoteForgotten), 84),
        ("entries answered before the sync", Bug::Raft(RaftBug::EntriesBeforeSync), 1),
        ("old-term entry committed by counting", Bug::Raft(RaftBug::OldTermByCounting), 18),
        ("commit by index", Bug::Raft(RaftBug::CommitByIndex), 2),
        ("expiry outside the log", Bug::Sidecar(SidecarBug::ExpiryOutsideTheLog), 1),
        ("token not from replicated state", Bug::Locks(LockBug::TokenOfTheProcess), 1),
    ];

    /// Plants this bug, and no other; `None`: none.
    pub fn plant_only(bug: Option<&Bug>) {
        let raft = if let Some(Bug::Raft(bug)) = bug { Some(*bug) } else { None };
        let locks = if let Some(Bug::Locks(bug)) = bug { Some(*bug) } else { None };
        let sidecar = if let Some(Bug::Sidecar(bug)) = bug { Some(*bug) } else { None };
        quorate_raft::planted::plant(raft);
        quorate_locks::planted::plant(locks);
        quorate_sidecar::planted::plant(sidecar);
    }
}

/// See the module.
#[cfg(not(feature = "planted"))]
pub fn run(_options: &Options) -> Result<(), String> {
    Err("this build has no planted bugs; run: cargo xtask check planted".to_owned())
}

#[cfg(feature = "planted")]
fn holds_mark(path: &std::path::Path) -> Result<bool, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(bytes.windows(MARK.len()).any(|window| window == MARK))
}

/// The first seed that finds the planted bug, and how.
#[cfg(feature = "planted")]
fn caught(seeds: impl Iterator<Item = u64>) -> Option<(u64, String)> {
    use quorate_tests::simulator::world::run_seed;
    seeds.into_iter().find_map(|seed| Some((seed, run_seed(seed, 125, false).broken?)))
}

/// See the module.
#[cfg(feature = "planted")]
pub fn run(options: &Options) -> Result<(), String> {
    use quorate_tests::say;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    if !holds_mark(&own)? {
        return Err("this build's own planted bugs cannot be seen in it".to_owned());
    }
    if let Some(release) = &options.release_build {
        if holds_mark(release)? {
            return Err(format!("{} holds planted bugs", release.display()));
        }
        say("the release build holds no planted bug");
    }
    // What a caught bug prints on its way is not news.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (name, bug, kept) in &bugs::BUGS {
        bugs::plant_only(Some(bug));
        let found = if options.kept {
            caught([*kept].into_iter())
        } else {
            caught(1..=options.seeds.unwrap_or(300))
        };
        bugs::plant_only(None);
        match found {
            Some((seed, how)) => say(&format!("caught  {name:<38} seed {seed:>3}: {how}")),
            None => {
                say(&format!("MISSED  {name}"));
                missed.push(*name);
            }
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught: {}", missed.join(", "))) }
}
