//! Planted bugs: each must be found by the simulator, or the checkers have a hole.
//!
//! The bugs are in ONE build, of the feature `planted` in a target directory of its own, and chosen
//! at run time. The release build has none: this check looks for their code in it.

use super::Options;

/// What is in a binary only if bugs can be planted in it: the mangled name of `planted::plant`.
#[cfg(feature = "planted")]
const MARK: &[u8] = b"7planted5plant";

#[cfg(feature = "planted")]
mod bugs {
    use quorate_raft::planted::{Bug as RaftBug, plant};

    /// The bugs, and a seed that is known to find each.
    pub const BUGS: [(&str, u64); 5] = [
        ("vote answered before it is durable", 102),
        ("entries answered before the sync", 10),
        ("old-term entry committed by counting", 157),
        ("expiry outside the log", 1),
        ("token not from replicated state", 1),
    ];

    /// Plants the bug at this place, and no other; `None`: none.
    pub fn plant_only(bug: Option<usize>) {
        plant(match bug {
            Some(0) => Some(RaftBug::VoteBeforeDurable),
            Some(1) => Some(RaftBug::EntriesBeforeSync),
            Some(2) => Some(RaftBug::OldTermByCounting),
            _ => None,
        });
        quorate_sidecar::replica::planted::plant(bug == Some(3));
        quorate_locks::planted::plant(bug == Some(4));
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
    for (bug, (name, kept)) in bugs::BUGS.iter().enumerate() {
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
