//! Random walks of the planner through a world of plain structs: edits, faults, old views, answers
//! that are lost, passes that are forgotten anywhere, two operators at once.
//!
//! Always: a step leaves a majority that has contact, no volume of a voter is discarded, no pod of
//! a voter scaled away, nothing acknowledged forgotten. In the end, when nothing goes wrong any
//! more: everything is as wanted within a bounded number of passes, and stays so without a step or
//! a write. `SEEDS=n` walks so many, from `SEED=n` on.

#[cfg(test)]
#[path = "../../../raft/tests/dice/mod.rs"]
mod dice;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod kube;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod raft;
#[cfg(test)]
mod world;

use quorate_operator::observed::Ordinal;
use quorate_operator::plan::plan;
use quorate_operator::step::Step;
use std::collections::BTreeMap;
use world::World;

/// Passes in which everything must be as wanted, once nothing goes wrong any more.
const PASSES_MAX: u32 = 1_500;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What came of some walks.
#[derive(Default)]
struct Outcome {
    done: BTreeMap<&'static str, u64>,
    refused: u64,
    /// By seed, with everything about it.
    failures: BTreeMap<u64, String>,
}

#[test]
fn every_walk_keeps_the_group_and_ends_as_wanted() {
    let (first, seeds) = (number("SEED", 0), number("SEEDS", 5_000));
    let lanes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let lane = |at: usize| move || walks((first..first + seeds).skip(at).step_by(lanes));
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..lanes).map(|at| scope.spawn(lane(at))).collect();
        started.into_iter().map(|lane| lane.join().expect("no walk ends a lane")).collect()
    });
    let mut all = Outcome::default();
    for of in outcomes {
        of.done.into_iter().for_each(|(kind, count)| *all.done.entry(kind).or_insert(0) += count);
        all.refused += of.refused;
        all.failures.extend(of.failures);
    }
    let Outcome { done, refused, failures } = all;
    eprintln!("{seeds} walks; steps done: {done:?}; refused: {refused}");
    if let Some(first) = failures.values().next() {
        panic!("seeds {:?} of {seeds}\n{first}", failures.keys());
    }
    let kinds = done.len();
    assert!(seeds < 1_000 || kinds >= 16, "only {kinds} kinds of steps: {done:?}");
}

fn walks(seeds: impl Iterator<Item = u64>) -> Outcome {
    let mut outcome = Outcome::default();
    for seed in seeds {
        let mut world = World::new(seed);
        let walk = std::panic::AssertUnwindSafe(|| walk(&mut world));
        if std::panic::catch_unwind(walk).is_err() {
            outcome.failures.insert(seed, format!("seed {seed}\n{}", world.show()));
        }
        for (kind, count) in &world.done {
            *outcome.done.entry(kind).or_insert(0) += count;
        }
        outcome.refused += world.refused;
    }
    outcome
}

fn walk(world: &mut World) {
    let trouble = world.dice.below(4);
    let length = 100 + world.dice.below(300);
    for _ in 0..length {
        match world.dice.below(100) {
            0..=3 => world.edit(),
            4..=8 if trouble > 0 => world.fault(),
            9 if trouble == 3 && world.dice.below(8) == 0 => remade(world),
            10..=49 => world.tick(),
            50..=64 => begin(world, 0),
            65..=74 if trouble > 1 => begin(world, 1),
            75..=84 => finish(world, 0),
            85..=92 => finish(world, 1),
            _ => pass(world, false),
        }
    }
    world.heal();
    settle(world);
}

fn remade(world: &mut World) {
    if world.claims.values().all(|claim| !claim.deleting) {
        world.again();
    }
}

/// One whole pass.
fn pass(world: &mut World, late: bool) {
    if let Some(pending) = world.decide(late) {
        world.act(pending);
    }
}

/// An operator decides, from an older view now and then; or is forgotten.
fn begin(world: &mut World, who: usize) {
    let late = world.dice.below(6) == 0;
    world.pending[who] = world.decide(late);
    if world.dice.below(10) == 0 {
        world.pending[who] = None;
    }
}

/// What it decided is done. That it was done may get lost: then nobody knows, and the next pass
/// finds out; nothing more need be done for that here, since an operator remembers nothing.
fn finish(world: &mut World, who: usize) {
    if let Some(pending) = world.pending[who].take() {
        world.act(pending);
    }
}

fn settle(world: &mut World) {
    world.pending = [None, None];
    let mut rested = 0;
    for _ in 0..PASSES_MAX {
        world.tick();
        world.tick();
        let before = (world.resource, world.done.clone());
        pass(world, false);
        let o = world.observe().o;
        let rests = plan(&o).step == Step::Rest && before == (world.resource, world.done.clone());
        rested = if rests { rested + 1 } else { 0 };
        if rested == 20 {
            return as_wanted(world);
        }
    }
    let now = plan(&world.observe().o);
    panic!("not as wanted after {PASSES_MAX} passes: {now:?}");
}

fn as_wanted(world: &mut World) {
    let o = world.observe().o;
    let replicas = o.cluster.replicas();
    let status = &o.cluster.status;
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").expect("it is told");
    assert_eq!(ready.status, "True", "at rest, and not ready: {}", ready.message);
    assert!(status.operation.is_none(), "at rest, and under way: {:?}", status.operation);
    if replicas == 0 {
        return assert!(o.pods.is_empty() && o.set.as_ref().is_none_or(|set| set.replicas == 0));
    }
    let wanted: Vec<Ordinal> = (0..replicas).collect();
    assert!(o.pods.keys().eq(&wanted), "pods {:?}", o.pods.keys());
    for pod in o.pods.values() {
        assert!(pod.ready && !pod.deleting && !pod.restarting, "{pod:?}");
        let now = (&pod.template_hash, &pod.image);
        assert_eq!(now, (&o.cluster.template_hash, &o.cluster.image));
    }
    let (_, leader) = o.leader().expect("a leader");
    let known = &leader.configuration;
    assert!(known.outgoing.is_empty() && known.voters.len() == o.cluster.voters(), "{known:?}");
    let mut names: Vec<Ordinal> =
        known.members().filter_map(|(_, name)| o.cluster.ordinal(name)).collect();
    names.sort_unstable();
    assert_eq!(names, wanted, "members");
    assert!(o.members.values().all(|member| !member.draining && !member.retired), "drained");
    let foreign = |ordinal: &Ordinal| o.claims[ordinal].made_for != o.cluster.uid;
    let left: Vec<_> = o.claims.keys().filter(|at| **at >= replicas && !foreign(at)).collect();
    assert!(left.is_empty(), "volumes {left:?} are left");
    assert!(o.claims.values().all(|claim| !claim.deleting), "condemned volumes");
    let adopts = o.cluster.spec.adopt_existing;
    let small = o.claims.iter().find(|(at, claim)| claim.small && (adopts || !foreign(at)));
    assert!(small.is_none(), "{small:?} is small");
    assert!(o.pulls.is_empty(), "{:?} are left", o.pulls);
    let budget = o.budget.map(|budget| budget.max_unavailable);
    assert_eq!(budget, (replicas > 1).then_some(1), "the budget");
}
