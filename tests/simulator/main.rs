//! `quorate-simulate`: runs seeds, and says what they showed.

use quorate_tests::simulator::kept::KEPT;
use quorate_tests::simulator::report;
use quorate_tests::simulator::totals::{Bars, Totals};
use quorate_tests::simulator::world::run_seed;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const USAGE: &str = "\
Runs the product's own code on simulated clocks, disks and networks, and checks its promises.

  quorate-simulate --minutes M [--from S] [--seconds T] [--report]
      every kept seed, then fresh ones for M minutes; S is from the clock if it is not given
  quorate-simulate --seeds N [--from S | --fresh] [--seconds T] [--report]
      N seeds from S on (60 from 1), each of T simulated seconds (125); --fresh: every kept
      seed, then N that nobody ran before
  quorate-simulate --seed S [--seconds T] [--trace]
      one seed; --trace prints everything that happens

--report also writes report.html and report.txt into the target directory.
Equal seeds give equal runs: a violation is replayed with the line that it prints.";

/// After so many violations no more are looked for.
const ENOUGH: usize = 5;
/// Every so many seeds one is run twice.
const TWICE_EVERY: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Seeds(u64),
    Minutes(u64),
}

struct Options {
    length: Length,
    from: Option<u64>,
    fresh: bool,
    seconds: u64,
    trace: bool,
    single: bool,
    report: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        length: Length::Seeds(60),
        from: None,
        fresh: false,
        seconds: 125,
        trace: false,
        single: false,
        report: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |name: &str| -> Result<u64, String> {
            let value = args.next().ok_or_else(|| format!("{name} wants a number"))?;
            value.parse().map_err(|_| format!("{name} is {value:?}; it wants a number"))
        };
        match arg.as_str() {
            "--seeds" => options.length = Length::Seeds(number("--seeds")?.max(1)),
            "--minutes" => options.length = Length::Minutes(number("--minutes")?.max(1)),
            "--from" => options.from = Some(number("--from")?),
            "--fresh" => options.fresh = true,
            "--seconds" => options.seconds = number("--seconds")?,
            "--seed" => {
                options.from = Some(number("--seed")?);
                (options.length, options.single) = (Length::Seeds(1), true);
            }
            "--trace" => options.trace = true,
            "--report" => options.report = true,
            other => return Err(format!("{other:?} is not known\n\n{USAGE}")),
        }
    }
    if options.seconds < 30 {
        return Err(format!("--seconds is {}; at least 30 are needed", options.seconds));
    }
    if options.fresh && options.from.is_some() {
        return Err("--fresh takes its first seed from the clock, --from gives it".to_owned());
    }
    options.fresh |= matches!(options.length, Length::Minutes(_));
    Ok(options)
}

/// What the threads share.
struct Runs<'a> {
    options: &'a Options,
    begun: Instant,
    /// Kept seeds come first, then those from here on.
    next: AtomicU64,
    from: u64,
    kept: usize,
    stop: AtomicBool,
    totals: Mutex<Totals>,
}

impl<'a> Runs<'a> {
    fn new(options: &'a Options) -> Runs<'a> {
        let fresh = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // Room for every seed of a run before the next second's.
            now.as_secs() * 100_000
        };
        let (from, kept) = match options.fresh {
            false => (options.from.unwrap_or(1), 0),
            true => (options.from.unwrap_or_else(fresh), KEPT.len()),
        };
        let totals = Mutex::new(Totals::default());
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        Runs { options, begun: Instant::now(), next, from, kept, stop, totals }
    }

    /// The next seed; none if it is enough.
    fn seed(&self) -> Option<u64> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let kept = usize::try_from(at).ok().and_then(|at| KEPT[..self.kept].get(at));
        if let Some((seed, _)) = kept {
            return Some(*seed);
        }
        let fresh = at - u64::try_from(self.kept).unwrap_or(0);
        let more = match self.options.length {
            Length::Seeds(seeds) => fresh < seeds,
            Length::Minutes(minutes) => self.begun.elapsed() < Duration::from_secs(minutes * 60),
        };
        more.then_some(self.from + fresh)
    }

    fn run(&self) {
        let begun = Instant::now();
        while let Some(seed) = self.seed() {
            let report = run_seed(seed, self.options.seconds, self.options.trace);
            let again = (self.options.fresh && seed.is_multiple_of(TWICE_EVERY))
                .then(|| run_seed(seed, self.options.seconds, false).trace);
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            if again.is_some_and(|again| again != report.trace) {
                totals.broken.push((seed, "the second run was another".to_owned()));
            }
            totals.twice += u64::from(again.is_some());
            totals.add(seed, report);
            self.stop.fetch_or(totals.broken.len() >= ENOUGH, Ordering::Relaxed);
            self.progress(&totals);
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.busy_seconds += begun.elapsed().as_secs_f64();
    }

    /// For people; nobody misses it.
    fn progress(&self, totals: &Totals) {
        let often = if std::io::stderr().is_terminal() { 20 } else { 1_000 };
        if !self.options.single && totals.seeds.is_multiple_of(often) {
            let elapsed = self.begun.elapsed().as_secs();
            let (acked, broken) = (totals.report.acknowledged, totals.broken.len());
            let _ = writeln!(
                std::io::stderr(),
                "  {elapsed:>5} s  {} seeds, {acked} operations, {broken} violations",
                totals.seeds
            );
        }
    }
}

fn run_all(options: &Options) -> Totals {
    let runs = Runs::new(options);
    if options.fresh {
        eprintln!("fresh seeds from {}", runs.from);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| runs.run());
        }
    });
    let wall = runs.begun.elapsed().as_secs_f64();
    let mut totals = runs.totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.wall_seconds = wall;
    totals
}

/// Beside the release build that this is of.
fn write_report(totals: &Totals) -> std::io::Result<()> {
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(|release| release.parent());
    let target = target.map_or_else(PathBuf::new, PathBuf::from);
    for (name, content) in
        [("report.html", report::html(totals)), ("report.txt", report::text(totals))]
    {
        let path = target.join(name);
        std::fs::write(&path, content)?;
        eprintln!("{}", path.display());
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
    let totals = run_all(&options);
    // A closed pipe ends the report, not the verdict.
    let _ = std::io::stdout().write_all(report::text(&totals).as_bytes());
    if options.report
        && let Err(error) = write_report(&totals)
    {
        eprintln!("quorate-simulate: the report cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    for (seed, _) in &totals.broken {
        eprintln!("replay: cargo xtask simulate --seed {seed} --seconds {}", options.seconds);
    }
    let missing = match options.length {
        _ if options.single => Vec::new(),
        Length::Seeds(seeds) if options.fresh => totals.missing(&Bars::of_fresh_seeds(seeds)),
        Length::Seeds(seeds) => totals.missing(&Bars::of_seeds(seeds)),
        Length::Minutes(minutes) => totals.missing(&Bars::of_minutes(minutes)),
    };
    for line in &missing {
        eprintln!("not enough: {line}");
    }
    if totals.broken.is_empty() && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
