//! `cargo xtask test`: runs levels in order and counts. The last line of the output is the plain
//! line `N passed, N failed`, with `, N skipped` behind it if there were any.

use crate::levels::{LEVELS, Level};
use crate::outcome::{Outcome, Tally};
use crate::show::{Tone, paint, say};
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    long: bool,
    only: Vec<String>,
}

fn usage() -> String {
    let mut text = "\
Runs every test there is. Exit code 0 only if nothing failed.

  cargo xtask test                  the levels below, the checks at reduced counts
  cargo xtask test --quick          those with a star, for daily work
  cargo xtask test --long           the checks at their full counts, and those with a plus
  cargo xtask test --only LEVEL     only this one, a plus or not; may be repeated

A level that this machine cannot run says `skipped: needs ...`; with CI=true it fails.

Levels, in order:
"
    .to_owned();
    LEVELS.iter().for_each(|level| text.push_str(&row(level)));
    text
}

fn row(level: &Level) -> String {
    let mark = match level {
        Level { quick: true, .. } => '*',
        Level { rare: true, .. } => '+',
        _ => ' ',
    };
    format!("  {mark} {:<16}{}\n", level.name, level.what)
}

fn parse(args: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--quick" => options.quick = true,
            "--long" => options.long = true,
            "--only" => {
                let name = args.next().ok_or("--only wants the name of a level")?;
                if !LEVELS.iter().any(|level| level.name == *name) {
                    return Err(format!("{name:?} is not a level\n\n{}", usage()));
                }
                options.only.push((*name).to_owned());
            }
            other => return Err(format!("{other:?} is not known\n\n{}", usage())),
        }
    }
    if options.quick && options.long {
        return Err("--quick and --long exclude each other".to_owned());
    }
    Ok(options)
}

fn chosen(options: &Options) -> Vec<&'static Level> {
    let named = |level: &&Level| options.only.iter().any(|name| name == level.name);
    if options.only.is_empty() {
        let wanted = |level: &&Level| match options {
            Options { quick: true, .. } => level.quick,
            Options { long, .. } => *long || !level.rare,
        };
        return LEVELS.iter().filter(wanted).collect();
    }
    LEVELS.iter().filter(named).collect()
}

/// The verb.
pub fn run(args: &[&str]) -> Result<ExitCode, String> {
    if args.iter().any(|arg| matches!(*arg, "--help" | "-h")) {
        say(usage().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    let options = parse(args)?;
    let strict = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let (begun, mut total, mut failed) = (Instant::now(), Tally::default(), Vec::new());
    for level in chosen(&options) {
        let outcome = run_level(level, &options, strict);
        total.add(outcome.tally);
        if outcome.tally.failed > 0 {
            failed.push((level.name, outcome));
        }
    }
    say(&format!("\nall in {}", seconds(begun.elapsed())));
    for (name, outcome) in &failed {
        say(&paint(Tone::Bad, &format!("failed: {name}")));
        outcome.last_lines().iter().for_each(|line| say(&format!("  {line}")));
    }
    say(&total.to_string());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_level(level: &Level, options: &Options, strict: bool) -> Outcome {
    say(&paint(Tone::Strong, &format!("\n{}: {}", level.name, level.what)));
    let args = if options.long { level.long } else { level.short };
    let begun = Instant::now();
    let outcome = match (level.needs)() {
        Ok(()) => (level.run)(args),
        Err(needs) => Outcome::skipped(&needs),
    };
    report(&outcome, begun.elapsed(), strict);
    Outcome { tally: judged(outcome.tally, strict), ..outcome }
}

fn report(outcome: &Outcome, took: Duration, strict: bool) {
    let tally = judged(outcome.tally, strict);
    let (tone, verdict) = match tally {
        Tally { failed: 1.., .. } => (Tone::Bad, "failed"),
        Tally { passed: 0, skipped: 1.., .. } => (Tone::Warn, "skipped"),
        _ => (Tone::Good, "passed"),
    };
    for line in outcome.words.lines() {
        say(&format!("  {line}"));
    }
    let took = paint(Tone::Faint, &format!("in {}", seconds(took)));
    say(&format!("  {} {took}", paint(tone, verdict)));
}

/// In CI what is skipped has failed: nobody would look.
fn judged(tally: Tally, strict: bool) -> Tally {
    if !strict {
        return tally;
    }
    Tally { failed: tally.failed + tally.skipped, skipped: 0, ..tally }
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(60) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(args: &[&str]) -> Vec<&'static str> {
        let options = parse(args).expect("these are options");
        chosen(&options).iter().map(|level| level.name).collect()
    }

    #[test]
    fn quick_is_a_part_of_all() {
        assert_eq!(names(&["--quick"]), ["style", "fmt", "codegen", "arrows", "unit"]);
        assert_eq!(names(&["--long"]).len(), LEVELS.len());
        let rare = LEVELS.iter().filter(|level| level.rare).map(|level| level.name);
        assert!(rare.clone().all(|name| !names(&[]).contains(&name)));
        assert_eq!(names(&[]).len() + rare.count(), LEVELS.len());
        assert_eq!(names(&["--only", "kubernetes"]), ["kubernetes"]);
        assert_eq!(names(&["--only", "unit", "--only", "style"]), ["style", "unit"]);
    }

    #[test]
    fn a_wrong_option_is_named() {
        assert!(parse(&["--slow"]).is_err_and(|why| why.contains("--slow")));
        assert!(parse(&["--only", "none"]).is_err_and(|why| why.contains("\"none\"")));
        assert!(parse(&["--quick", "--long"]).is_err());
    }

    #[test]
    fn in_ci_a_skipped_level_has_failed() {
        let skipped = Outcome::skipped("root").tally;
        assert_eq!(judged(skipped, true), Tally { failed: 1, ..Tally::default() });
        assert_eq!(judged(skipped, false), skipped);
    }

    #[test]
    fn no_two_levels_share_a_name() {
        let mut names: Vec<&str> = LEVELS.iter().map(|level| level.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LEVELS.len());
    }

    #[test]
    fn the_last_line_is_plain() {
        let tally = Tally { passed: 12, failed: 0, skipped: 0 };
        assert_eq!(tally.to_string(), "12 passed, 0 failed");
        let tally = Tally { skipped: 1, ..tally };
        assert_eq!(tally.to_string(), "12 passed, 0 failed, 1 skipped");
    }
}
