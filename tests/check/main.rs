//! `quorate-check NAME`: one property of the real product a file, on real processes.

mod beats;
mod frozen_sidecar;
mod full_disk;
mod idle;
mod mixed_versions;
mod mounted;
mod planted;
mod powercut;
mod restart;
mod stalled_disk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
Checks one property of the product on real processes.

  quorate-check restart [--rounds N]
      all members killed -9 under load: nothing acknowledged is lost (20)
  quorate-check powercut [--rounds N]
      the same with a power cut: needs root and loop devices (20)
  quorate-check full-disk
      claims are refused while the disk is full, and served again after: needs root
  quorate-check stalled-disk [--rounds N]
      the leader's disk stops for a while, and somebody else leads: needs root (5)
  quorate-check idle [--seconds N] [--no-bars]
      an idle group writes nothing and uses next to nothing (60); --no-bars judges the CPU only as
      a multiple of what heartbeats alone take: for machines that do other work too
  quorate-check frozen-sidecar [--runs N] [--ttl D]
      a holder whose sidecar is stopped ends before its deadline (50, 5s)
  quorate-check mixed-versions
      members of the next version join in every order, and there is no way back;
      `cargo xtask check mixed-versions` makes the builds for it
  quorate-check planted [--seeds N | --kept]
      the simulator finds planted bugs (300); `cargo xtask check planted` makes the build for it

It prints its figures, and exits with 0 only if the property held, with 77 if this machine cannot
show it.";

/// What this machine lacks: not a failure of the property.
const SKIPPED: u8 = 77;

/// What a check takes from the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    rounds: Option<u64>,
    runs: Option<u64>,
    seconds: Option<u64>,
    no_bars: bool,
    seeds: Option<u64>,
    ttl: Option<Duration>,
    kept: bool,
    release_build: Option<PathBuf>,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(name) = args.next() {
        if name == "--kept" {
            options.kept = true;
            continue;
        }
        if name == "--no-bars" {
            options.no_bars = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse().map_err(|_| format!("{name} is {value:?}, not a number"));
        match name.as_str() {
            "--rounds" => options.rounds = Some(number()?),
            "--runs" => options.runs = Some(number()?),
            "--seconds" => options.seconds = Some(number()?),
            "--seeds" => options.seeds = Some(number()?),
            "--release-build" => options.release_build = Some(PathBuf::from(&value)),
            "--ttl" => options.ttl = Some(duration(&value)?),
            other => return Err(format!("{other:?} is not known\n\n{USAGE}")),
        }
    }
    Ok(options)
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("--ttl is {text:?}; write 1s or 1500ms");
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().map(Duration::from_millis).map_err(|_| wrong());
    }
    let seconds = text.strip_suffix('s').ok_or_else(wrong)?;
    seconds.parse().map(Duration::from_secs).map_err(|_| wrong())
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let check = args.next().unwrap_or_default();
    let options = options(args)?;
    match check.as_str() {
        "restart" => restart::run(options.rounds.unwrap_or(20)),
        "powercut" => powercut::run(options.rounds.unwrap_or(20)),
        "full-disk" => full_disk::run(),
        "stalled-disk" => stalled_disk::run(options.rounds.unwrap_or(5)),
        "idle" => idle::run(options.seconds.unwrap_or(60), !options.no_bars),
        "frozen-sidecar" => frozen_sidecar::run(
            options.runs.unwrap_or(50),
            options.ttl.unwrap_or(Duration::from_secs(5)),
        ),
        "planted" => planted::run(&options),
        "mixed-versions" => match &options.release_build {
            Some(release) => mixed_versions::run(release),
            None => Err("run: cargo xtask check mixed-versions".to_owned()),
        },
        other => Err(format!("{other:?} is not a check\n\n{USAGE}")),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("quorate-check: {why}");
            if why.starts_with("skipped:") { ExitCode::from(SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}
