//! The flags.

use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DevArgs,
}

fn check(flags: &[&str]) -> Result<Plan, Failure> {
    Plan::check(Line::try_parse_from([&["dev"], flags].concat()).unwrap().args)
}

#[test]
fn every_bad_flag_is_reported_at_once() {
    let flags = ["--members=10", "--restart-after=x", "--election-timeout=1h", "--dir=/d"];
    let failure = check(&flags).err().unwrap();
    assert_eq!(failure.code, USAGE);
    let lines: Vec<&str> = failure.text.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("--members is 10; it is 1 to 9"), "{lines:?}");
}

#[test]
fn restart_and_no_restart_exclude_each_other() {
    assert!(Line::try_parse_from(["dev", "--no-restart", "--restart-after", "2s"]).is_err());
    assert_eq!(check(&["--no-restart", "--dir=/d"]).unwrap().restart_after, None);
    let half = check(&["--restart-after=500ms", "--dir=/d"]).unwrap();
    assert_eq!(half.restart_after, Some(Duration::from_millis(500)));
}
