//! What many runs showed together, and what they must have shown.

use crate::simulator::faults::Fault;
use crate::simulator::world::{Report, SECOND};
use std::collections::BTreeMap;

/// Buckets of a histogram of times: each twice as long as the one before, from 1 µs on.
const BUCKETS: usize = 40;
/// Each kind of fault must come so often, in a run of any length.
const FAULT_LEAST: u64 = 20;
/// So many seeds must fit into 20 minutes of two quiet cores, or the bars of [`Bars::of_minutes`]
/// are missed; 11,165 did beside other builds.
const SEEDS_IN_20_MINUTES: u64 = 13_000;

/// Times without a success, by length.
#[derive(Clone, Debug)]
pub struct Gaps {
    buckets: [u64; BUCKETS],
    /// The longest, in ns.
    pub worst: u64,
}

impl Default for Gaps {
    fn default() -> Gaps {
        Gaps { buckets: [0; BUCKETS], worst: 0 }
    }
}

impl Gaps {
    /// One more, in ns.
    pub fn add(&mut self, nanos: u64) {
        let bucket = usize::try_from((nanos / 1_000).max(1).ilog2()).unwrap_or(0);
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
        self.worst = self.worst.max(nanos);
    }

    fn merge(&mut self, other: &Gaps) {
        for (into, from) in self.buckets.iter_mut().zip(other.buckets) {
            *into += from;
        }
        self.worst = self.worst.max(other.worst);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Half of them are not longer, in ns; to a factor of two.
    #[must_use]
    pub fn median(&self) -> u64 {
        let (half, mut seen) = (self.count().div_ceil(2), 0);
        let at = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= half
        });
        (2_000 << at.unwrap_or(0)).min(self.worst)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Runs that were made twice, and were equal.
    pub twice: u64,
    /// Their sums.
    pub report: Report,
    /// Broken promises, by seed.
    pub broken: Vec<(u64, String)>,
    /// Processor time of the runs, in seconds.
    pub busy_seconds: f64,
    /// Time by the clock on the wall, in seconds.
    pub wall_seconds: f64,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        let sum = &mut self.report;
        sum.trace = report.trace;
        sum.nanos += report.nanos;
        sum.acknowledged += report.acknowledged;
        sum.leader_changes += report.leader_changes;
        sum.installs += report.installs;
        sum.events += report.events;
        for (into, from) in [(&mut sum.faults, report.faults), (&mut sum.checks, report.checks)] {
            for (kind, count) in from {
                *into.entry(kind).or_default() += count;
            }
        }
        for (kind, gaps) in report.gaps {
            sum.gaps.entry(kind).or_default().merge(&gaps);
        }
        if let Some(broken) = report.broken {
            self.broken.push((seed, broken));
        }
    }

    /// Faults that were inflicted: what only came of them is not counted.
    #[must_use]
    pub fn inflicted(&self) -> u64 {
        Fault::inflicted().filter_map(|kind| self.report.faults.get(kind)).sum()
    }

    /// What was not reached of what must be.
    #[must_use]
    pub fn missing(&self, bars: &Bars) -> Vec<String> {
        let report = &self.report;
        let mut missing = Vec::new();
        let mut need = |what: String, have: u64, least: u64| {
            if have < least {
                missing.push(format!("{what}: {have}, at least {least} are needed"));
            }
        };
        need("seeds".to_owned(), self.seeds, bars.seeds);
        need("seeds run twice".to_owned(), self.twice, bars.twice);
        need("simulated seconds".to_owned(), report.nanos / SECOND, bars.seconds);
        need("acknowledged operations".to_owned(), report.acknowledged, bars.acknowledged);
        need("faults".to_owned(), self.inflicted(), bars.faults);
        need("leader changes".to_owned(), report.leader_changes, bars.leader_changes);
        need("snapshot installs".to_owned(), report.installs, bars.installs);
        for kind in Fault::names() {
            let have = report.faults.get(kind).copied().unwrap_or(0);
            need(format!("fault {kind:?}"), have, bars.each_fault);
        }
        missing
    }
}

/// What a run of many seeds must have shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bars {
    seeds: u64,
    twice: u64,
    seconds: u64,
    acknowledged: u64,
    faults: u64,
    leader_changes: u64,
    installs: u64,
    each_fault: u64,
}

impl Bars {
    /// For so many seeds: shares of what 300 show.
    #[must_use]
    pub fn of_seeds(seeds: u64) -> Bars {
        let share = |whole: u64| whole * seeds / 300;
        Bars {
            seeds,
            twice: 0,
            seconds: share(36_000),
            acknowledged: share(100_000),
            faults: share(20_000),
            leader_changes: share(500),
            installs: share(50),
            each_fault: share(FAULT_LEAST),
        }
    }

    /// For so many fresh seeds: what as many minutes must show as two cores need for them. It is
    /// an amount of work, so that a slow machine takes longer and shows as much.
    #[must_use]
    pub fn of_fresh_seeds(seeds: u64) -> Bars {
        Bars { seeds, ..Bars::of_part(seeds, SEEDS_IN_20_MINUTES) }
    }

    /// For so many minutes on two cores.
    #[must_use]
    pub fn of_minutes(minutes: u64) -> Bars {
        Bars::of_part(minutes, 20)
    }

    /// A part of what 20 minutes on two cores show, and never fewer than 20 of a kind.
    fn of_part(part: u64, whole: u64) -> Bars {
        let share = |all: u64| all * part / whole;
        Bars {
            seeds: share(2_000),
            twice: share(100),
            seconds: share(300 * 3_600),
            acknowledged: share(20_000_000),
            faults: share(300_000),
            leader_changes: share(15_000),
            installs: share(1_500),
            each_fault: FAULT_LEAST,
        }
    }
}

/// Numbers by name, the largest first.
#[must_use]
pub fn sorted(rows: &BTreeMap<&'static str, u64>) -> Vec<(&'static str, u64)> {
    let mut rows: Vec<_> = rows.iter().map(|(kind, count)| (*kind, *count)).collect();
    rows.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
    rows
}
