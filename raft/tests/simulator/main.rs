//! A small simulator of nodes: one seed decides network, disks, crashes and clients.
//!
//! Checks election safety, log matching, leader completeness, that what was committed never
//! changes and is applied alike everywhere, that reads are not stale, that every ticket is answered
//! once, that configurations which follow each other share their quorums, and that after the heal a
//! leader commits, also if all but one member heal. The membership changes all the while.
//! `SEEDS=n` runs that many, from `SEED=n` on.

mod checks;
#[path = "../dice/mod.rs"]
mod dice;
#[path = "../disk/mod.rs"]
mod disk;
mod faults;
mod partial;
mod world;

use checks::Endings;
use partial::Away;
use quorate_raft::MemberId;
use world::{MS, World};

/// Seeds for each way in which one member stays away.
const PARTIAL: u64 = 250;

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
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let mut endings = [0; 5];
    let (mut installs, mut reads, mut leaders, mut commits) = (0, 0, 0, 0);
    let first = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
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
        assert!(after > before, "no leader commits after the heal: {}", world.show());
        let configuration = world.configuration_in_effect();
        assert!(!configuration.is_joint(), "a joint configuration is never left");
        for (id, member) in &world.members {
            let inside = configuration.contains(MemberId((*id).into()));
            assert!(!inside || member.applied == after, "{id} is left behind");
        }
        assert!(world.checks.open.is_empty(), "never answered: {:?}", world.checks.open);
        let Endings { changed, given_up, refused, unknown, joint } = world.checks.endings;
        let ends = [changed, given_up, refused, unknown, joint];
        endings.iter_mut().zip(ends).for_each(|(sum, count)| *sum += count);
        installs += world.checks.installs;
        reads += world.checks.confirmed_reads;
        leaders += world.checks.leaders.len();
        commits += world.checks.committed.len();
    }
    eprintln!("{leaders} leaders, {commits} entries, {reads} reads, {installs} installs");
    eprintln!("changed, given up, refused, unknown, joint: {endings:?}");
    if seeds >= 500 {
        assert!(endings.iter().all(|count| *count > 20), "the membership hardly changes");
    }
    assert!(installs > 100 && reads > 10_000 && leaders > 1000 && commits > 50_000);
}

#[test]
fn a_majority_that_lives_goes_on() {
    for (i, away) in [Away::Down, Away::Hung, Away::Deaf, Away::Mute].into_iter().enumerate() {
        let count = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok());
        let count = count.unwrap_or(PARTIAL);
        let first = u64::try_from(i).expect("small") * count;
        let stuck = |seed: &u64| partial::goes_on(*seed, away, 1_000 * MS) == Some(false);
        let stuck: Vec<u64> = (first..first + count).filter(stuck).collect();
        assert!(stuck.is_empty(), "{away:?}: no progress, seeds {stuck:?}");
    }
}
