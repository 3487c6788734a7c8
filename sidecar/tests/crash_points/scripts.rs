//! What a member's log goes through. Each script is a few lives on one disk.

use crate::life::Life;
use crate::store::{Ending, Memory, Store};

pub type Script = fn(&mut Life<Memory>);

/// Each with the number of its seeds.
pub const SCRIPTS: &[(&str, Script, u64)] = &[
    ("batches and roll-over", batches, 2),
    ("terms and votes", votes, 2),
    ("a divergent tail", divergent, 2),
    ("snapshots and recycled segments", compaction, 3),
    ("installed snapshots", installs, 3),
    ("clean stops", stops, 2),
    ("kills and power cuts", kills, 3),
    ("entries that fill half a segment", large, 1),
    ("segments of another length", other_lengths, 2),
    ("later versions of the format", other_versions, 2),
    ("anything", anything, 6),
];

/// Batches of all sizes, that wait for each other or not.
fn batches(life: &mut Life<Memory>) {
    life.open();
    life.vote(Some(1));
    for round in 0..40 {
        life.append(1 + round % 4, [3, 40, 300, 0][usize::try_from(round % 4).unwrap_or(0)]);
        let steps = life.random.below(6);
        life.steps(steps);
    }
    life.settle();
}

fn votes(life: &mut Life<Memory>) {
    life.open();
    for round in 0..12 {
        life.vote(None);
        life.vote_now(round % 3);
        let steps = life.random.below(8);
        life.steps(steps);
        life.append(3, 150);
        life.vote((round % 2 == 0).then_some(2));
        life.settle();
    }
}

/// Entries that no quorum had give way to a new leader's, again and again, over segments.
fn divergent(life: &mut Life<Memory>) {
    life.open();
    life.append(20, 200);
    for round in 1..12 {
        life.append(6, 220);
        let steps = life.random.below(5);
        life.steps(steps);
        life.replace(4 + round % 3, 1 + round % 5, 180);
        let steps = life.random.below(5);
        life.steps(steps);
    }
    life.settle();
    life.replace(15, 2, 20);
    life.settle();
}

fn compaction(life: &mut Life<Memory>) {
    life.open();
    life.vote(Some(3));
    for round in 0..9 {
        life.append(6, 300);
        life.append(9, 250);
        life.compact(round % 4);
        let steps = life.random.below(12);
        life.steps(steps);
        // The record of the snapshot goes with what is written next.
        life.append(1, 10);
        life.settle();
        if round % 3 == 2 {
            life.vote(None);
        }
        life.append(1, 10);
    }
    life.settle();
}

fn installs(life: &mut Life<Memory>) {
    life.open();
    life.vote(Some(2));
    for round in 0..6 {
        life.append(8, 200);
        let steps = life.random.below(4);
        life.steps(steps);
        life.install(30);
        life.append(12, 200);
        let steps = life.random.below(10);
        life.steps(steps);
        life.install_inside(4);
        life.append(3, 60);
        if round % 2 == 0 {
            life.compact(1);
            life.install(5);
        }
        let steps = life.random.below(10);
        life.steps(steps);
    }
    life.settle();
}

/// Ends in good order, with batches and jobs still to do or none.
fn stops(life: &mut Life<Memory>) {
    for round in 0..9 {
        life.open();
        life.vote(Some(round));
        life.append(7, 260);
        if round % 3 == 1 {
            life.compact(2);
        }
        life.append(2, 30);
        let steps = life.random.below(7);
        life.steps(steps);
        life.append(1, 30);
        life.close();
    }
}

/// Ends at any moment, one after another.
fn kills(life: &mut Life<Memory>) {
    for round in 0..14 {
        life.open();
        life.append(5, 310);
        if round % 4 == 3 {
            life.compact(1);
        }
        life.vote(Some(1));
        let steps = life.random.below(9);
        life.steps(steps);
        life.append(2, 40);
        let steps = life.random.below(5);
        life.steps(steps);
        life.kill([Ending::Lost, Ending::Kept, Ending::Torn][round % 3]);
    }
    life.open();
    life.settle();
}

fn large(life: &mut Life<Memory>) {
    life.open();
    for round in 0..9 {
        life.append(1, 3900);
        life.append(1, 3000);
        if round % 4 == 3 {
            life.compact(1);
        }
        let steps = life.random.below(9);
        life.steps(steps);
    }
    life.settle();
}

/// The length of new segments is another one in each life; old ones are recycled or not.
fn other_lengths(life: &mut Life<Memory>) {
    for round in 0..6 {
        life.disk.with(|recorder| recorder.store.segment_bytes = [16, 8, 12][round % 3] * 1024);
        life.open();
        for _ in 0..3 {
            life.append(8, 350);
            life.append(8, 350);
            life.compact(1);
            life.settle();
            life.append(1, 10);
            let steps = life.random.below(9);
            life.steps(steps);
        }
        life.kill(Ending::Lost);
    }
    life.open();
}

/// Each life is of a later version of the product, and old segments are recycled.
fn other_versions(life: &mut Life<Memory>) {
    for version in 1..5 {
        life.disk.with(|recorder| recorder.store.format_version = version);
        life.open();
        life.append(7, 350);
        life.vote(Some(u128::from(version)));
        if version % 2 == 0 {
            life.compact(2);
        }
        let steps = life.random.below(9);
        life.steps(steps);
        life.append(1, 10);
        life.kill(if version % 2 == 0 { Ending::Lost } else { Ending::Torn });
    }
    life.open();
}

fn anything(life: &mut Life<Memory>) {
    for _ in 0..4 {
        life.open();
        for _ in 0..10 {
            life.submit_any();
            let steps = life.random.below(8);
            life.steps(steps);
        }
        match life.random.below(3) {
            0 => life.close(),
            1 => life.kill(Ending::Torn),
            _ => life.kill(Ending::Lost),
        }
    }
}

/// On real files, where a sync costs: all kinds of writes once, over two segments.
pub fn short<S: Store>(life: &mut Life<S>) {
    life.open();
    life.vote(Some(1));
    life.append(6, 12_000);
    life.steps(7);
    life.replace(2, 1, 9_000);
    life.compact(1);
    life.settle();
    life.append(1, 100);
    life.install(9);
    life.append(2, 100);
    life.settle();
    life.close();
    life.open();
    life.append(1, 100);
    life.close();
}
