//! `quorate-demo`: the main job, live. Three sidecars, three applications, and one fault after the
//! other.
//!
//! What it shows it also checks, from the applications' own records: no two tokens' times overlap,
//! tokens only rise, and nothing acknowledged is lost. A broken promise makes the exit code 1.

mod app;
mod fault;
mod interrupt;
mod record;
mod stage;
mod table;

use fault::Fault;
use quorate_tests::screen::{self, Screen};
use stage::{Stage, Verdict};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use table::Table;

const USAGE: &str = "\
Shows the main job on this machine: three applications, each beside a sidecar, one of them the
leader at any time, while applications and sidecars are killed, stopped and brought back.

  cargo xtask demo [--seconds N | --rounds N] [--no-bars] [--no-color]
  cargo xtask demo --kubernetes

  --seconds N   as many faults as fit into N seconds, each at least twice (60)
  --rounds N    N of each fault
  --no-bars     judge the promises alone, not the times: for machines that do other work too
  --kubernetes  the same on a real Kubernetes that it starts itself; more: --kubernetes --help

It ends with a table of the gaps and of the promises; the exit code is 0 only if every promise was
kept, and every gap within its bar.";

struct Options {
    seconds: u64,
    bars: bool,
    rounds: Option<u64>,
    color: bool,
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options =
        Options { seconds: 60, bars: true, rounds: None, color: screen::color_wanted() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} wants a number"))?;
            value.parse::<u64>().map_err(|_| format!("{arg} is {value:?}, not a number"))
        };
        match arg.as_str() {
            "--seconds" => options.seconds = number()?.max(10),
            "--rounds" => options.rounds = Some(number()?.max(1)),
            "--no-color" => options.color = false,
            "--no-bars" => options.bars = false,
            _ => return Err(format!("{arg:?} is not known\n\n{USAGE}")),
        }
    }
    Ok(options)
}

/// The order of faults: all kinds in turn, so that each comes at least twice in a minute.
fn run(options: &Options) -> Result<bool, String> {
    interrupt::watch()?;
    let screen = Screen::new(options.color);
    screen.title("Three sidecars, three applications, one leader. Now we break things.");
    let mut stage = Stage::new(&screen)?;
    let mut table = Table::default();
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut round = 0;
    loop {
        round += 1;
        for fault in Fault::ALL {
            let outcome = stage.inflict(fault)?;
            table.add(fault, &outcome);
        }
        let enough = match options.rounds {
            Some(rounds) => round >= rounds,
            None => round >= 2 && Instant::now() >= end,
        };
        if enough {
            break;
        }
    }
    let verdict = stage.finish()?;
    screen.table(&table.rows());
    let bars = if options.bars { table.broken_bars() } else { Vec::new() };
    judge(&screen, &verdict, &bars);
    Ok(verdict.broken.is_empty() && bars.is_empty())
}

/// The promises.
fn judge(screen: &Screen, verdict: &Verdict, bars: &[String]) {
    if verdict.broken.is_empty() {
        screen.kept(&format!(
            "one leader at a time, tokens only rise: {} leaders, {} records",
            verdict.leaders, verdict.records
        ));
        screen.kept(&format!(
            "nothing acknowledged was lost: {} grants and releases checked",
            verdict.acknowledged
        ));
        screen.kept(&format!(
            "a sidecar that came back kept its leader: {} times the same token and child",
            verdict.survived
        ));
    }
    verdict.broken.iter().for_each(|line| screen.broken(line));
    bars.iter().for_each(|line| screen.slow(line));
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "app") {
        return app::run(&args[1..]);
    }
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        screen::print(USAGE);
        return ExitCode::SUCCESS;
    }
    let result = options(&args).and_then(|options| run(&options));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("quorate-demo: {why}");
            ExitCode::from(2)
        }
    }
}
