//! `cargo xtask demo | check | simulate | bench`: builds a program and all that it starts, and
//! becomes it. The same programs are levels of `cargo xtask test`.

use crate::cargo;
use crate::outcome::Outcome;
use crate::watch::{End, watch};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// A program of the project that tests or shows it.
#[derive(Debug)]
pub struct Program {
    binary: &'static str,
    /// Whether it has the planted bugs, and can play the next version: then it is built in a folder
    /// of its own below the target directory, with a sidecar of the same kind, so that no other
    /// binary can have one.
    planted: bool,
}

/// What the programs start.
const STARTED: [&str; 2] = ["quorate-sidecar", "quorate"];

const fn program(binary: &'static str) -> Program {
    Program { binary, planted: false }
}

/// The demo.
pub const DEMO: Program = program("quorate-demo");
/// The simulator.
pub const SIMULATE: Program = program("quorate-simulate");
/// The load program.
pub const BENCH: Program = program("quorate-bench");
const CHECK: Program = program("quorate-check");
const PLANTED: Program = Program { planted: true, ..CHECK };

/// The exit code of a program that this machine cannot run; its stderr then has a line
/// `skipped: needs X`.
const SKIPPED: i32 = 77;

/// Which build of the checks runs the check that `args` name.
pub fn checker(args: &[&str]) -> &'static Program {
    let apart = args.first().is_some_and(|check| ["planted", "mixed-versions"].contains(check));
    if apart { &PLANTED } else { &CHECK }
}

impl Program {
    /// Builds it, saying so, and returns where it is.
    fn build(&self) -> Result<PathBuf, String> {
        let mut target = cargo::target_dir()?;
        let mut args = vec!["build", "--release"];
        if self.planted {
            target.push("planted");
            args.extend(["-p", "quorate-tests", "-p", "quorate-sidecar", "--bins"]);
            args.extend(["--features", "quorate-tests/planted"]);
        } else {
            // All of these are named, so that their crates are built with the same features
            // whatever is built of them, and once.
            args.extend(cargo::BESIDE);
            args.extend(["--bin", self.binary]);
            args.extend(STARTED.iter().flat_map(|binary| ["--bin", *binary]));
        }
        eprintln!("building {} in release mode", self.binary);
        let mut build = cargo::command(&args);
        build.env("CARGO_TARGET_DIR", &target);
        let status = build.status().map_err(|e| format!("cargo: {e}"))?;
        if !status.success() {
            return Err(format!("cargo {} failed", args.join(" ")));
        }
        Ok(target.join("release").join(self.binary))
    }
}

/// Builds what is to run, and completes its arguments: the check of planted bugs also looks into
/// the release build, where there must be none; that of mixed versions runs both.
fn prepare(program: &Program, args: &[&str]) -> Result<Command, String> {
    let binary = program.build()?;
    let mut command = Command::new(binary);
    command.args(args);
    if program.planted {
        command.arg("--release-build").arg(CHECK.build()?);
    }
    Ok(command)
}

/// The verb: this process becomes the program, with its terminal, signals and exit code.
pub fn start(program: &Program, args: &[&str]) -> Result<ExitCode, String> {
    let mut command = prepare(program, args)?;
    let failed = command.exec();
    Err(format!("{}: {failed}", program.binary))
}

/// A level: `check ARGS`.
pub fn check(args: &[&str]) -> Outcome {
    let program = checker(args);
    judge(program.binary, prepare(program, args), args)
}

/// A level: `simulate ARGS`.
pub fn simulate(args: &[&str]) -> Outcome {
    judge(SIMULATE.binary, prepare(&SIMULATE, args), args)
}

/// A level: `demo ARGS`.
pub fn demo(args: &[&str]) -> Outcome {
    judge(DEMO.binary, prepare(&DEMO, args), args)
}

/// A level: `bench ARGS`.
pub fn bench(args: &[&str]) -> Outcome {
    judge(BENCH.binary, prepare(&BENCH, args), args)
}

/// Runs the program, its output shown, and judges its exit code.
pub fn judge(name: &str, program: Result<Command, String>, args: &[&str]) -> Outcome {
    let said = format!("{name} {}", args.join(" "));
    let end = program.and_then(|mut command| watch(&mut command));
    match end {
        Ok(End { code: Some(0), .. }) => Outcome::of(Ok(said)),
        Ok(End { code: Some(SKIPPED), needs, .. }) => Outcome::skipped(&needs),
        Ok(End { how, last, .. }) => {
            let last = Vec::from(last).join("\n");
            Outcome::of(Err(format!("{last}\n{said}: {how}").trim_start().to_owned()))
        }
        Err(why) => Outcome::of(Err(format!("{said}: {why}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_comes_before_the_verdict() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 1"]);
        assert_eq!(judge("sh", Ok(command), &["-c"]).words, "why\nsh -c: exit status: 1");
    }

    #[test]
    fn planted_bugs_are_built_apart() {
        assert!(checker(&["planted"]).planted);
        assert!(!checker(&["restart", "--rounds", "1"]).planted);
    }
}
