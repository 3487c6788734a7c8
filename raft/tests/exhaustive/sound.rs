//! The searches that must find nothing, and come by everything.

use crate::change::{self, Change};
use crate::crash::{self, Crash};
use crate::search::{Failed, Witnesses, exhaust, require, shortest};
use crate::{TARGETS, alone, number};
use quorate_raft::Term;

const CHANGES: [&str; 18] = [
    "a change carried through and committed",
    "a change ended by a leader that did not begin it",
    "a change given up and committed",
    "a change given up and not committed",
    "a joint configuration that is not committed",
    "a leader under a joint configuration of an earlier one",
    "a leader without a vote",
    "a learner that became a voter",
    "a second change begun",
    "a second change carried through and committed",
    "a second change given up",
    "a server that lost its vote for good",
    "elected without a vote of its own",
    "giving up refused as too early",
    "logs of two ends of one change",
    "the last term's leader under a change begun before",
    "two leaders at once",
    "two simple memberships at once",
];

const CRASHES: [&str; 16] = [
    "a command committed under a later leader",
    "a commit that the leader's own disk does not have",
    "a crash that lost a vote",
    "a disk lost that had what is committed",
    "a follower's crash that lost entries",
    "a leader elected after a disk was lost and another crashed",
    "a leader's crash that lost entries",
    "a read answered",
    "a read asked of a leader that has a successor",
    "a restart that remembers a vote for another",
    "all that can happen to disks, and both commands committed",
    "both commands committed",
    "commands of two leaders committed",
    "entries replaced by a later leader's",
    "two leaders at once",
    "two leaders of one server's life, a crash between them",
];

fn is_long() -> bool {
    number("LONG", 0) > 0
}

fn most() -> usize {
    number("STATES", if is_long() { 200_000_000 } else { 5_000_000 })
}

#[test]
fn no_change_of_the_membership_makes_two_truths() {
    let _alone = alone();
    let mut seen = Witnesses::new();
    let whole = change::Bound { first: &[], second: &[], terms: Term(3), restarts: false };
    for (first, second) in TARGETS.into_iter().zip(TARGETS.into_iter().rev()) {
        // After a change to one voter a second one doubles what there is to explore.
        let second = if first.len() > 1 || is_long() { second } else { &[] };
        let bound = change::Bound { first, second, ..whole };
        let name = format!("to {first:?}, then to {second:?}");
        exhaust(&name, &Change::new(bound), most(), &mut seen);
    }
    for first in TARGETS.into_iter().filter(|_| is_long()) {
        let longer = change::Bound { first, terms: Term(4), ..whole };
        exhaust(&format!("to {first:?}, 4 terms"), &Change::new(longer), most(), &mut seen);
        let restarts = change::Bound { first, restarts: true, ..whole };
        exhaust(&format!("to {first:?}, restarts"), &Change::new(restarts), most(), &mut seen);
    }
    let longer: &[&str] = if is_long() { &["three leaders at once"] } else { &[] };
    require(&[&CHANGES, longer].concat(), &seen);
}

#[test]
fn no_crash_and_no_lost_disk_makes_two_truths() {
    let _alone = alone();
    let mut seen = Witnesses::new();
    let bound = crash::Bound {
        terms: Term(3),
        crashes: 1,
        disks: 1,
        commands: 1,
        reads: 0,
        late: 0,
        again: false,
        blank_votes: false,
    };
    let alone = crash::Bound { terms: Term(5), crashes: 0, disks: 0, commands: 0, ..bound };
    exhaust("no crash, 5 terms", &Crash::new(alone), most(), &mut seen);
    let two = crash::Bound { commands: 2, ..bound };
    exhaust("a crash, a lost disk, two commands", &Crash::new(two), most(), &mut seen);
    let read = crash::Bound { reads: 1, ..bound };
    exhaust("a crash, a lost disk, a command, a read", &Crash::new(read), most(), &mut seen);
    if is_long() {
        let all = crash::Bound { commands: 2, reads: 1, ..bound };
        exhaust("a crash, a lost disk, two commands, a read", &Crash::new(all), most(), &mut seen);
        let again = crash::Bound { late: 1, again: true, ..bound };
        exhaust("messages out of order and again", &Crash::new(again), most(), &mut seen);
        let bound = crash::Bound { terms: Term(4), ..bound };
        exhaust("a crash, a lost disk, 4 terms", &Crash::new(bound), most(), &mut seen);
    }
    require(&CRASHES, &seen);
}

/// The rule that a lost disk is a lost member is what this rests on: without it, the search must
/// find two truths.
#[test]
fn a_blank_disk_under_an_old_id_would_make_two_truths() {
    let _alone = alone();
    let bound = crash::Bound {
        terms: Term(3),
        crashes: 0,
        disks: 1,
        commands: 1,
        reads: 0,
        late: 0,
        again: false,
        blank_votes: true,
    };
    let failed = shortest(&Crash::new(bound), most()).expect_err("nothing was found");
    eprintln!("{failed}");
    assert!(matches!(failed, Failed::Broken { .. }), "{failed}");
}

#[test]
fn a_search_that_is_cut_off_or_saw_too_little_fails() {
    let _alone = alone();
    let bound = change::Bound { first: &[1], second: &[], terms: Term(3), restarts: false };
    let cut = || exhaust("cut", &Change::new(bound), 100, &mut Witnesses::new());
    std::panic::catch_unwind(cut).expect_err("a search of 100 states passed");
    let blind = || require(&["what is never seen"], &Witnesses::new());
    std::panic::catch_unwind(blind).expect_err("a search that saw nothing passed");
}
