//! What is known to catch each bug, for the daily run: its scripts, unless it has a row here.

use crate::catchers::Catcher;

/// Bugs that no script catches, and a seed that does.
const SEEDS: &[(&str, Catcher, u64)] = &[
    ("quorum-of-the-live", Catcher::Core, 19),
    ("install-keeps-configuration", Catcher::Core, 739),
    ("state-ahead-of-snapshot", Catcher::Product, 1),
];

/// The catcher to try, and the seed.
pub fn of(name: &str) -> (Catcher, u64) {
    let row = SEEDS.iter().find(|(bug, ..)| *bug == name);
    row.map_or((Catcher::Scripts, 1), |(_, catcher, seed)| (*catcher, *seed))
}
