//! A small simulator of nodes: one seed decides network, disks, crashes and clients.
//!
//! Checks election safety, log matching, leader completeness, that what was committed never
//! changes and is applied alike everywhere, that reads are not stale, that every ticket is answered
//! at most once, and that after the heal a leader commits. `SEEDS=n` runs that many.

mod checks;
#[path = "../dice/mod.rs"]
mod dice;
#[path = "../disk/mod.rs"]
mod disk;
mod faults;
mod world;

use world::{MS, World};

/// Names the seed of a run that fails.
struct Said(u64);

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

#[test]
fn nothing_breaks_and_everything_heals() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let (mut installs, mut reads, mut leaders, mut commits) = (0, 0, 0, 0);
    for seed in 0..seeds {
        let _said = Said(seed);
        let mut world = World::new(seed);
        world.run(15_000 * MS, World::trouble);
        world.heal();
        world.run(6_000 * MS, |_| {});
        let before = world.checks.last();
        world.run(1_000 * MS, |world| {
            let all: Vec<u64> = world.members.keys().copied().collect();
            all.into_iter().for_each(|id| world.ask(id));
        });
        world.run(3_000 * MS, |_| {});
        world.check_logs();
        let after = world.checks.last();
        assert!(after > before, "no leader commits after the heal");
        for (id, member) in &world.members {
            assert_eq!(member.applied, after, "{id} is left behind");
        }
        installs += world.checks.installs;
        reads += world.checks.confirmed_reads;
        leaders += world.checks.leaders.len();
        commits += world.checks.committed.len();
    }
    eprintln!("{leaders} leaders, {commits} entries, {reads} reads, {installs} installs");
    assert!(installs > 100 && reads > 10_000 && leaders > 1000 && commits > 50_000);
}
