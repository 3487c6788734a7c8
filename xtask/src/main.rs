//! `cargo xtask VERB`: every task of the project, started from one place, one verb a file.
//!
//! Invariant: nothing here knows how the product works; it builds, starts, counts and compares.
//! It must not use more than `std` and the few crates of `xtask/Cargo.toml`, so that it is built
//! in moments.

mod arrows;
mod attributes;
mod cargo;
mod cluster;
mod codegen;
mod install;
mod levels;
mod licences;
mod outcome;
mod program;
mod scan;
mod setup;
mod show;
mod style;
mod test;
mod tidy;
mod unit;
mod watch;
mod zoo;

use std::process::ExitCode;

const USAGE: &str = "\
Every task of the project. Everything is built in release mode, the one profile there is.

  cargo xtask test [--quick | --long] [--only LEVEL]
                                 every test there is; --quick is for daily work,
                                 --long runs the checks at their full counts
  cargo xtask demo [--seconds N | --rounds N]
                                 the main job, live: three sidecars, three applications,
                                 and one fault after the other; --kubernetes: on a real one
  cargo xtask check NAME [...]   one property on real processes: restart, powercut,
                                 full-disk, stalled-disk, idle, frozen-sidecar,
                                 mixed-versions; or planted: the simulator finds
                                 planted bugs
  cargo xtask zoo [--only NAME] [--kept]
                                 plants one bug after the other; each must be caught
  cargo xtask simulate [...]     seeded runs of the product's own code on simulated clocks,
                                 disks and networks; --seed N replays one
  cargo xtask bench [--quick]    what a lock costs, beside what this machine can do at best
  cargo xtask cluster up|down|load|status|test
                                 a real Kubernetes on this machine, for daily work and tests
  cargo xtask image [--out FILE] the image archive of the product, without a container engine
  cargo xtask install [--root D] puts quorate and quorate-sidecar into ~/.cargo/bin, or D/bin
  cargo xtask codegen [--check]  makes proto/src/generated from proto/proto; --check compares
  cargo xtask setup              installs the system's tools that the tests need, with apt-get
                                 where this is root; says what is missing where it is not

`cargo xtask VERB --help` says more. Levels, seeds, golden files: docs/testing.md.";

fn run(verb: &str, args: &[&str]) -> Result<ExitCode, String> {
    let done = |result: Result<(), String>| result.map(|()| ExitCode::SUCCESS);
    match verb {
        "test" => test::run(args),
        "demo" if args.contains(&"--kubernetes") => cluster::demo(args),
        "demo" => program::start(&program::DEMO, args),
        "check" => program::start(program::checker(args), args),
        "zoo" => zoo::start(args),
        "simulate" => program::start(&program::SIMULATE, args),
        "bench" => program::start(&program::BENCH, args),
        "cluster" => cluster::start(args),
        "image" => cluster::image(args),
        "install" => done(install::run(args)),
        "codegen" => done(codegen::run(args)),
        "setup" => done(setup::run(args)),
        "" | "help" | "--help" | "-h" => {
            show::say(USAGE);
            Ok(ExitCode::SUCCESS)
        }
        other => Err(format!("{other:?} is not a verb\n\n{USAGE}")),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (verb, rest) = args.split_first().map_or(("", &[][..]), |(verb, rest)| (*verb, rest));
    let result = cargo::enter_top().and_then(|()| run(verb, rest));
    result.unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        ExitCode::FAILURE
    })
}
