//! A process that stops before any single operation on its files loses nothing that it reported.
//!
//! Scripts run on the log's own code. Their operations are counted; then each script runs again
//! once for every operation, stops there, and its files are opened as they may be found then: as
//! the process left them, with the operation half done, without all that was not synced, and with
//! single sectors of that.

#[path = "crash_points/life.rs"]
mod life;
#[path = "wal/model.rs"]
mod model;
#[path = "crash_points/recorder.rs"]
mod recorder;
#[path = "crash_points/scripts.rs"]
mod scripts;
#[path = "crash_points/store.rs"]
mod store;

use life::Life;
use quorate_sidecar::wal::{DataDir, FsOptions, Verdict};
use scripts::{SCRIPTS, Script};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::{ENDINGS, Ending, Memory, Real};

const SEGMENT: u64 = 8 * 1024;

/// How many points of each kind, and how many files were opened again.
#[derive(Default)]
struct Tally {
    points: BTreeMap<&'static str, u64>,
    recoveries: u64,
}

fn run(script: Script, seed: u64, left: Option<u64>) -> Life<Memory> {
    let mut life = Life::new(Memory::new(SEGMENT), seed, left);
    script(&mut life);
    life
}

/// What is found, goes on: it holds what it must, holds it still after a power cut at once, and
/// takes new writes.
fn goes_on(store: Memory, life: &Life<Memory>, seed: u64) {
    let mut next = Life::after(store, life.model.clone(), seed, None);
    next.open();
    next.kill(Ending::Lost);
    next.open();
    next.append(2, 500);
    next.vote(Some(9));
    next.settle();
    next.kill(Ending::Lost);
    next.open();
    next.disk.with(|recorder| {
        assert_eq!(recorder.store.version_in_use(), recorder.store.format_version);
    });
}

/// A recovery that ends in a power cut of its own. A later version that was stopped so is tried
/// again: the log may have been sealed for it.
fn interrupted(store: Memory, life: &Life<Memory>, seed: u64) {
    let mut next = Life::after(store, life.model.clone(), seed, Some(seed % 12));
    next.open();
    let model = next.model.clone();
    next.disk.with(|recorder| {
        let stopped = recorder.stopped.take();
        recorder.store.end(Ending::Torn, stopped.as_ref(), seed);
    });
    let store = next.disk.with(|recorder| recorder.store.clone());
    Life::after(store, model, seed, None).open();
}

fn stop_everywhere(name: &str, script: Script, seed: u64, tally: &mut Tally) {
    let kinds = run(script, seed, None).disk.with(|recorder| recorder.done.clone());
    for (at, kind) in (0..).zip(&kinds) {
        let life = run(script, seed, Some(at));
        *tally.points.entry(kind).or_default() += 1;
        let (store, stopped) =
            life.disk.with(|recorder| (recorder.store.clone(), recorder.stopped.clone()));
        assert!(stopped.is_some(), "equal seeds give equal runs");
        for ending in ENDINGS {
            let place = format!("{name}, seed {seed}, before operation {at} ({kind}), {ending:?}");
            let mut store = store.clone();
            store.end(ending, stopped.as_ref(), at * 31 + seed);
            let mut later = store.clone();
            later.format_version += 1;
            tally.recoveries += 4;
            told(&place, || {
                for store in [store, later] {
                    goes_on(store.clone(), &life, seed);
                    interrupted(store, &life, at * 17 + seed);
                }
            });
        }
    }
}

/// Says where it was when it went wrong.
fn told(place: &str, check: impl FnOnce()) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
    assert!(result.is_ok(), "{place}");
}

#[test]
fn a_stop_before_any_operation_loses_nothing() {
    let mut tally = Tally::default();
    for (name, script, seeds) in SCRIPTS {
        for seed in 0..*seeds {
            stop_everywhere(name, *script, seed, &mut tally);
        }
    }
    let points: u64 = tally.points.values().sum();
    for (kind, count) in &tally.points {
        eprintln!("{count:6} points before a {kind}");
    }
    eprintln!("{points:6} points, survived in {} recoveries", tally.recoveries);
    assert!(points >= 1000 && tally.points.len() == 7, "{points} points");
    assert!(tally.points.values().all(|count| *count >= 20), "{:?}", tally.points);
}

/// A segment of an earlier length is retired while new ones have another: it must not become one.
#[test]
fn a_segment_of_another_length_is_never_recycled() {
    let mut life = Life::new(Memory::new(2 * SEGMENT), 1, None);
    life.open();
    life.append(40, 700);
    life.settle();
    life.kill(Ending::Lost);
    life.disk.with(|recorder| recorder.store.segment_bytes = SEGMENT);
    life.open();
    life.compact(0);
    for _ in 0..6 {
        life.append(8, 700);
        life.settle();
    }
    life.kill(Ending::Lost);
    life.open();
}

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn scratch(at: u64) -> Scratch {
    let path = std::env::temp_dir().join(format!("quorate-points-{}-{at}", std::process::id()));
    std::fs::create_dir(&path).expect("it works here");
    Scratch(path)
}

/// The product's own disk; what it did not sync is kept, for no power is cut here.
#[test]
fn a_stop_before_any_operation_on_real_files_loses_nothing() {
    let mut points = 0;
    loop {
        let scratch = scratch(points);
        let mut life = Life::new(Real::new(&scratch.0), 1, Some(points));
        scripts::short(&mut life);
        if !life.disk.is_stopped() {
            break;
        }
        let place = format!("before operation {points} on real files");
        told(&place, || {
            let mut next = Life::after(Real::new(&scratch.0), life.model.clone(), 1, None);
            next.open();
            next.append(1, 100);
            next.close();
            next.open();
        });
        points += 1;
    }
    eprintln!("{points:6} points on real files");
    assert!(points >= 60, "{points}");
}

fn boot(path: &Path) -> DataDir {
    DataDir::open(path, Duration::ZERO).expect("nothing is damaged")
}

/// An identity is written beside the old one, synced, renamed: what a stop leaves of that is
/// part of the new file beside the old one, or the new one alone.
#[test]
fn a_stop_while_an_identity_is_stored_loses_none() {
    let scratch = scratch(1 << 32);
    let path = scratch.0.join("data");
    drop(boot(&path));
    let old = std::fs::read(path.join("identity")).expect("it works here");
    let second = boot(&path);
    let (member, boots) = (second.member_id(), second.boots().to_vec());
    drop(second);
    let new = std::fs::read(path.join("identity")).expect("it works here");
    for bytes in 0..=new.len() {
        std::fs::write(path.join("identity"), &old).expect("it works here");
        std::fs::write(path.join("identity.new"), &new[..bytes]).expect("it works here");
        let next = boot(&path);
        assert_eq!((next.member_id(), &next.boots()[..1]), (member, &boots[..1]));
        assert_eq!(next.boots().len(), 2, "the boot that was not stored was never shown");
    }
    // The first identity of all: nobody has heard of the member yet.
    for bytes in [0, new.len() / 2, new.len()] {
        std::fs::remove_file(path.join("identity")).expect("it works here");
        std::fs::write(path.join("identity.new"), &new[..bytes]).expect("it works here");
        assert_eq!(boot(&path).boots().len(), 1);
    }
}

/// The log is begun, and the identity does not say so yet.
#[test]
fn a_stop_before_the_identity_tells_of_the_log_loses_nothing() {
    let scratch = scratch(1 << 33);
    let path = scratch.0.join("data");
    let mut directory = boot(&path);
    let before = std::fs::read(path.join("identity")).expect("it works here");
    let options = FsOptions { segment_bytes: 64 * 1024, ..FsOptions::default() };
    drop(directory.open_log(options, Box::new(drop)).expect("it works here"));
    drop(directory);
    std::fs::write(path.join("identity"), before).expect("it works here");
    let (_, recovered) = boot(&path).open_log(options, Box::new(drop)).expect("it works here");
    assert_eq!(recovered.verdict, Verdict::Clean);
}
