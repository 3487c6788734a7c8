//! The levels of `cargo xtask test`, in order. This table is the one place to add one.

use crate::outcome::Outcome;
use crate::{arrows, cluster, codegen, licences, program, setup, style, unit, zoo};

/// One level.
pub struct Level {
    pub name: &'static str,
    /// What it tries, in one line.
    pub what: &'static str,
    /// Part of `--quick`.
    pub quick: bool,
    /// Runs only with `--long`, or when it is named.
    pub rare: bool,
    /// What this machine lacks, if it lacks something; may install it.
    pub needs: fn() -> Result<(), String>,
    pub run: fn(&[&str]) -> Outcome,
    /// Arguments by default.
    pub short: &'static [&'static str],
    /// Arguments with `--long`.
    pub long: &'static [&'static str],
}

/// A level of the source tree, without arguments.
const fn tree(name: &'static str, what: &'static str, run: fn(&[&str]) -> Outcome) -> Level {
    Level {
        name,
        what,
        quick: true,
        rare: false,
        needs: setup::nothing,
        run,
        short: &[],
        long: &[],
    }
}

/// A level on programs of the project.
const fn system(
    name: &'static str,
    what: &'static str,
    run: fn(&[&str]) -> Outcome,
    short: &'static [&'static str],
    long: &'static [&'static str],
) -> Level {
    Level { name, what, quick: false, rare: false, needs: setup::nothing, run, short, long }
}

/// What `cargo xtask test` runs.
pub const LEVELS: &[Level] = &[
    tree("style", "the rules of docs/testing.md, over every file", style::level),
    Level { needs: setup::rustfmt, ..tree("fmt", "cargo fmt --check", unit::fmt) },
    tree("codegen", "the generated code is what the contracts give", codegen::level),
    tree("arrows", "who may depend on whom, and which modules know no tokio", arrows::level),
    Level {
        quick: false,
        ..tree("licences", "every dependency may be used and passed on", licences::level)
    },
    Level {
        quick: false,
        needs: setup::clippy,
        ..tree("clippy", "cargo clippy, warnings are errors", unit::clippy)
    },
    tree("unit", "cargo test of the whole workspace", unit::level),
    system(
        "fuzz",
        "what comes from outside or from a disk, changed at random, for 15 s a decoder",
        unit::fuzz,
        &["15"],
        &["60"],
    ),
    system(
        "simulate",
        "the simulator finds nothing",
        program::simulate,
        &["--seeds", "3000", "--fresh"],
        &["--minutes", "20"],
    ),
    system(
        "planted",
        "the simulator finds every planted bug",
        program::check,
        &["planted", "--kept"],
        &["planted"],
    ),
    system(
        "scenarios",
        "each planted bug fails its scenario, and the exhaustive search",
        unit::scenarios,
        &[],
        &[],
    ),
    system("zoo", "every planted bug is caught by something", zoo::level, &["--kept"], &[]),
    system(
        "restart",
        "all members killed under load",
        program::check,
        &["restart", "--rounds", "5"],
        &["restart", "--rounds", "20"],
    ),
    system(
        "mixed-versions",
        "members of the next version join in every order, and there is no way back",
        program::check,
        &["mixed-versions"],
        &["mixed-versions"],
    ),
    Level {
        needs: setup::disk_tools,
        ..system(
            "powercut",
            "a power cut under load; needs root and loop devices",
            program::check,
            &["powercut", "--rounds", "5"],
            &["powercut", "--rounds", "20"],
        )
    },
    Level {
        needs: setup::disk_tools,
        ..system(
            "full-disk",
            "a full disk refuses, keeps, and serves again; needs root and loop devices",
            program::check,
            &["full-disk"],
            &["full-disk"],
        )
    },
    Level {
        needs: setup::disk_tools,
        ..system(
            "stalled-disk",
            "a leader whose disk stalls hands over; needs root and loop devices",
            program::check,
            &["stalled-disk", "--rounds", "2"],
            &["stalled-disk", "--rounds", "10"],
        )
    },
    system(
        "idle",
        "an idle group writes nothing",
        program::check,
        &["idle", "--seconds", "30", "--no-bars"],
        &["idle", "--seconds", "60"],
    ),
    system(
        "frozen-sidecar",
        "a holder whose sidecar is stopped ends in time",
        program::check,
        &["frozen-sidecar", "--runs", "10", "--ttl", "1s"],
        &["frozen-sidecar", "--runs", "50"],
    ),
    system(
        "demo",
        "the main job, every fault twice",
        program::demo,
        &["--rounds", "2", "--no-bars"],
        &["--rounds", "20"],
    ),
    system(
        "cluster",
        "a real Kubernetes starts, gives pods what they need, and leaves nothing",
        cluster::level,
        &["check"],
        &["check"],
    ),
    Level {
        rare: true,
        ..system(
            "kubernetes",
            "a RaftCluster on a real Kubernetes, in every scenario; needs root and Go",
            cluster::level,
            &["test"],
            &["test"],
        )
    },
    system(
        "bench",
        "what a lock costs, against this machine's own limits",
        program::bench,
        &["--quick", "--no-bars"],
        &["--quick"],
    ),
];
