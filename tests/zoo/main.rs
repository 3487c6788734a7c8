//! `quorate-zoo`: every planted bug, run until a script or a simulator catches it.
//!
//! All bugs are in ONE build, of the feature `planted`, and at most one is planted in a process:
//! `QUORATE_PLANTED` names it. So each try is a process of its own, which may also hang or die.
//! `cargo xtask zoo` makes the builds; what each bug is: `docs/zoo.md`.

mod bugs;
mod catchers;
mod kept;
mod trial;

use bugs::Bug;
use catchers::{Catcher, Caught, Limits};
use quorate_tests::say;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "\
Plants one bug after the other, and runs each until a script or a simulator catches it.

  cargo xtask zoo [--only NAME] [--seeds N] [--kept]
      --only NAME   this bug alone
      --seeds N     seeds of a simulator at most (1000)
      --kept        each bug only on what is known to catch it

The exit code is 0 only if every bug is caught.";

/// Processes at once.
const WORKERS: usize = 2;

#[derive(Debug, Default)]
struct Options {
    only: Option<String>,
    seeds: Option<u64>,
    kept: bool,
    /// Test binaries, by what they are called here.
    binaries: BTreeMap<String, PathBuf>,
    /// Run as a child: seeds of the product's simulator, from and how many.
    product: Option<(u64, u64)>,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(name) = args.next() {
        if name == "--kept" {
            options.kept = true;
            continue;
        }
        if matches!(name.as_str(), "--help" | "-h") {
            return Err(USAGE.to_owned());
        }
        let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = |text: &str| {
            text.parse::<u64>().map_err(|_| format!("{name} is {text:?}, not a number"))
        };
        match name.as_str() {
            "--only" => options.only = Some(value),
            "--seeds" => options.seeds = Some(number(&value)?),
            "--binary" => {
                let (binary, path) = value.split_once('=').ok_or("--binary wants NAME=PATH")?;
                options.binaries.insert(binary.to_owned(), PathBuf::from(path));
            }
            "--product" => {
                let (from, count) = value.split_once('+').ok_or("--product wants FROM+COUNT")?;
                options.product = Some((number(from)?, number(count)?));
            }
            other => return Err(format!("{other:?} is not known\n\n{USAGE}")),
        }
    }
    Ok(options)
}

/// One bug's row.
struct Row {
    bug: Bug,
    caught: Vec<(Catcher, Caught)>,
    took: Duration,
    note: String,
}

impl Row {
    fn print(&self) {
        let by = |wanted: fn(Catcher) -> bool| {
            let mut found = self.caught.iter().filter(|(catcher, _)| wanted(*catcher));
            found.next().map_or("-".to_owned(), |(_, caught)| caught.by.clone())
        };
        let script = by(|catcher| catcher == Catcher::Scripts);
        let core = by(|catcher| catcher == Catcher::Core);
        let product = by(|catcher| catcher == Catcher::Product);
        let word = if self.caught.is_empty() { "MISSED" } else { "caught" };
        let (name, seconds) = (self.bug.name, self.took.as_secs_f64());
        say(&format!("{word}  {name:<32} {core:<10} {product:<10} {seconds:>6.1} s  {script}"));
        let how = self.caught.iter().rev().find(|(catcher, _)| *catcher != Catcher::Scripts);
        if let Some((_, caught)) = how {
            say(&format!("        {}", caught.how));
        }
        if !self.note.is_empty() {
            say(&format!("        {}", self.note));
        }
    }
}

/// Every catcher in turn: the product's simulator only where nothing random found it sooner.
fn hunt(bug: Bug, limits: &Limits) -> Result<Row, String> {
    let begun = Instant::now();
    let mut caught = Vec::new();
    for catcher in [Catcher::Scripts, Catcher::Core, Catcher::Product] {
        let sooner = caught.iter().any(|(by, _)| *by == Catcher::Core);
        if catcher == Catcher::Product && sooner {
            break;
        }
        caught.extend(catchers::run(catcher, bug, 1, limits)?.map(|found| (catcher, found)));
    }
    Ok(Row { bug, caught, took: begun.elapsed(), note: String::new() })
}

/// Only what is known to catch it. A seed that does so no more, because the simulator changed, is
/// looked for anew.
fn hunt_kept(bug: Bug, limits: &Limits) -> Result<Row, String> {
    let begun = Instant::now();
    let (catcher, seed) = kept::of(bug.name);
    let one = Limits { seeds: 1, ..limits.clone() };
    let mut found = catchers::run(catcher, bug, seed, &one)?;
    let mut note = String::new();
    if found.is_none() && catcher != Catcher::Scripts {
        found = catchers::run(catcher, bug, 1, limits)?;
        note = format!("seed {seed} of tests/zoo/kept.rs catches it no more");
    }
    let caught = found.into_iter().map(|found| (catcher, found)).collect();
    Ok(Row { bug, caught, took: begun.elapsed(), note })
}

fn run(options: &Options) -> Result<(), String> {
    let all = bugs::all();
    bugs::documented(&all)?;
    let wanted = |bug: &&Bug| options.only.as_ref().is_none_or(|only| only == bug.name);
    let chosen: Vec<Bug> = all.iter().filter(wanted).copied().collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|bug| bug.name).collect();
        return Err(format!("no such bug; there are {}", names.join(", ")));
    }
    let limits = Limits {
        binaries: options.binaries.clone(),
        seeds: options.seeds.unwrap_or(1000),
        // A whole zoo takes half an hour at most.
        patience: Duration::from_secs(if options.kept { 60 } else { 90 }),
    };
    let begun = Instant::now();
    say("        bug                              core       product       time    script");
    let (next, missed, failed) =
        (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(bug) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let hunt = if options.kept { hunt_kept } else { hunt };
                    match hunt(*bug, &limits) {
                        Err(why) => failed.lock().expect("nobody panics").push(why),
                        Ok(row) => {
                            let mut missed = missed.lock().expect("nobody panics");
                            row.print();
                            missed.extend(row.caught.is_empty().then_some(bug.name));
                        }
                    }
                }
            });
        }
    });
    let (missed, failed) = (missed.into_inner(), failed.into_inner());
    let (missed, failed) = (missed.unwrap_or_default(), failed.unwrap_or_default());
    let (count, seconds) = (chosen.len(), begun.elapsed().as_secs());
    say(&format!("{count} bugs, {} caught, in {seconds} s", count - missed.len() - failed.len()));
    if let Some(why) = failed.first() {
        return Err(why.clone());
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught: {}", missed.join(", "))) }
}

fn main() -> ExitCode {
    let result = options(std::env::args().skip(1)).and_then(|options| match options.product {
        Some(range) => {
            catchers::product(&options.only.unwrap_or_default(), range);
            Ok(())
        }
        None => run(&options),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("quorate-zoo: {why}");
            ExitCode::FAILURE
        }
    }
}
