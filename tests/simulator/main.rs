//! `quorate-simulate`: runs seeds, and says what they showed.

use quorate_tests::simulator::faults::Fault;
use quorate_tests::simulator::world::{Report, SECOND, run_seed};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const USAGE: &str = "\
Runs the product's own code on simulated clocks, disks and networks, and checks its promises.

  quorate-simulate --seeds N [--from S] [--seconds T]
      N seeds from S on (60 from 1), each of T simulated seconds (125)
  quorate-simulate --seed S [--seconds T] [--trace]
      one seed; --trace prints everything that happens

Equal seeds give equal runs: a violation is replayed with the line that it prints.";

struct Options {
    from: u64,
    seeds: u64,
    seconds: u64,
    trace: bool,
    single: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { from: 1, seeds: 60, seconds: 125, trace: false, single: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |name: &str| -> Result<u64, String> {
            let value = args.next().ok_or_else(|| format!("{name} wants a number"))?;
            value.parse().map_err(|_| format!("{name} is {value:?}; it wants a number"))
        };
        match arg.as_str() {
            "--seeds" => options.seeds = number("--seeds")?.max(1),
            "--from" => options.from = number("--from")?,
            "--seconds" => options.seconds = number("--seconds")?,
            "--seed" => {
                options.from = number("--seed")?;
                (options.seeds, options.single) = (1, true);
            }
            "--trace" => options.trace = true,
            other => return Err(format!("{other:?} is not known\n\n{USAGE}")),
        }
    }
    if options.seconds < 30 {
        return Err(format!("--seconds is {}; at least 30 are needed", options.seconds));
    }
    Ok(options)
}

#[derive(Default)]
struct Totals {
    seeds: u64,
    report: Report,
    broken: Vec<(u64, String)>,
}

impl Totals {
    fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.report.trace = report.trace;
        self.report.nanos += report.nanos;
        self.report.acknowledged += report.acknowledged;
        self.report.leader_changes += report.leader_changes;
        self.report.installs += report.installs;
        self.report.events += report.events;
        for (into, from) in
            [(&mut self.report.faults, report.faults), (&mut self.report.checks, report.checks)]
        {
            for (kind, count) in from {
                *into.entry(kind).or_default() += count;
            }
        }
        if let Some(broken) = report.broken {
            self.broken.push((seed, broken));
        }
    }
}

fn run_all(options: &Options) -> (Totals, f64) {
    let (next, totals) = (AtomicU64::new(options.from), Mutex::new(Totals::default()));
    let (end, stop) = (options.from + options.seeds, AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let busy = Mutex::new(0.0_f64);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let begun = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let report = run_seed(seed, options.seconds, options.trace);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.add(seed, report);
                    stop.store(totals.broken.len() >= 5, Ordering::Relaxed);
                    if totals.seeds.is_multiple_of(20) {
                        let mut out = std::io::stderr();
                        // Progress is for people; nobody misses it.
                        let _ = writeln!(out, "  {} seeds", totals.seeds);
                    }
                }
                *busy.lock().unwrap_or_else(PoisonError::into_inner) +=
                    begun.elapsed().as_secs_f64();
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    (totals, busy.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What a run of many seeds must have shown, per 300 seeds.
fn missing(totals: &Totals) -> Vec<String> {
    let share = |whole: u64| whole * totals.seeds / 300;
    let report = &totals.report;
    let mut missing = Vec::new();
    let mut need = |what: String, have: u64, least: u64| {
        if have < least {
            missing.push(format!("{what}: {have}, at least {least} are needed"));
        }
    };
    need("simulated hours × 100".to_owned(), report.nanos / SECOND / 36, share(1_000));
    need("acknowledged operations".to_owned(), report.acknowledged, share(100_000));
    need("leader changes".to_owned(), report.leader_changes, share(500));
    need("snapshot installs".to_owned(), report.installs, share(50));
    for kind in Fault::names() {
        need(format!("fault {kind:?}"), report.faults.get(kind).copied().unwrap_or(0), share(20));
    }
    missing
}

fn print(totals: &Totals, busy: f64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let report = &totals.report;
    let seconds = report.nanos / SECOND;
    let hours = format!("{}.{:02}", seconds / 3600, seconds % 3600 / 36);
    writeln!(out, "seeds                    {}", totals.seeds)?;
    writeln!(out, "simulated hours          {hours}")?;
    writeln!(out, "acknowledged operations  {}", report.acknowledged)?;
    writeln!(out, "leader changes           {}", report.leader_changes)?;
    writeln!(out, "snapshot installs        {}", report.installs)?;
    writeln!(out, "events                   {}", report.events)?;
    if totals.seeds == 1 {
        writeln!(out, "trace                    {:016x}", report.trace)?;
    }
    let speed = std::time::Duration::from_nanos(report.nanos).as_secs_f64() / busy.max(1e-9);
    writeln!(out, "speed                    {speed:.0} × real time a core")?;
    table(&mut out, "faults", &report.faults)?;
    table(&mut out, "checks", &report.checks)?;
    writeln!(out, "violations               {}", totals.broken.len())
}

fn table(
    out: &mut impl std::io::Write,
    title: &str,
    rows: &BTreeMap<&'static str, u64>,
) -> std::io::Result<()> {
    writeln!(out, "{title}")?;
    for (kind, count) in rows {
        writeln!(out, "  {kind:<22} {count}")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("quorate-simulate: {why}");
            return ExitCode::from(64);
        }
    };
    let (totals, busy) = run_all(&options);
    // A closed pipe ends the report, not the verdict.
    let _ = print(&totals, busy);
    for (seed, broken) in &totals.broken {
        eprintln!("seed {seed}: {broken}");
        eprintln!("  replay: cargo xtask simulate --seed {seed} --seconds {}", options.seconds);
    }
    let missing = if options.single { Vec::new() } else { missing(&totals) };
    for line in &missing {
        eprintln!("not enough: {line}");
    }
    if totals.broken.is_empty() && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
