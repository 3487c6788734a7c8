//! Random logs: the machine against a model that shares no code with it, equal logs against each
//! other, and a log cut by a snapshot against the whole one.

#[cfg(test)]
mod generate;
#[cfg(test)]
mod model;

use std::collections::BTreeMap;

use generate::Generator;
use model::Model;
use quorate_locks::{Command, Event, Machine, Outcome, Token};

const SEEDS: u64 = 80;
/// Enough for a session to come to its 256 outcomes.
const STEPS: u64 = 2_000;

#[test]
fn machine_answers_what_the_model_answers() {
    let mut seen = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut generator = Generator::new(seed);
        let (mut machine, mut model) = (Machine::new(), Model::default());
        let mut last = Token(0);
        for step in 0..STEPS {
            let (index, command) = generator.entry(&machine);
            let before = machine.clone();
            let mut events = Vec::new();
            let outcome = machine.apply(index, &command, &mut events);
            let expected = model.apply(index, &command);
            assert_eq!(
                (&outcome, &events),
                (&expected.0, &expected.1),
                "{seed}/{step} {command:?}"
            );
            machine.check();
            model.compare(&machine);
            only_the_index_moved_if_refused(&before, &machine, &outcome);
            last = tokens_rise(last, &events);
            *seen.entry(label(&outcome)).or_insert(0_u64) += 1;
        }
    }
    assert_reached(&seen);
}

fn only_the_index_moved_if_refused(before: &Machine, after: &Machine, outcome: &Outcome) {
    if matches!(outcome, Outcome::Refused(_)) {
        // The format begins with its version and the index: 9 bytes.
        assert_eq!(before.encode()[9..], after.encode()[9..]);
    }
}

fn tokens_rise(mut last: Token, events: &[Event]) -> Token {
    for event in events {
        if let Event::Granted { token, .. } = event {
            assert!(*token > last, "{token} after {last}");
            assert!(i64::try_from(token.0).is_ok(), "{token} is not a positive 64-bit number");
            last = *token;
        }
    }
    last
}

fn label(outcome: &Outcome) -> String {
    let text = format!("{outcome:?}");
    let end = text.find([' ', '{']).unwrap_or(text.len());
    match outcome {
        Outcome::Refused(refusal) => {
            let text = format!("{refusal:?}");
            text[..text.find([' ', '(', '{']).unwrap_or(text.len())].to_owned()
        }
        _ => text[..end].to_owned(),
    }
}

/// The random logs come everywhere but to the four large limits, which have tests of their own.
fn assert_reached(seen: &BTreeMap<String, u64>) {
    let all = "Started Opened Resumed Closed Expired Granted Queued NotAcquired Released Cancelled \
        SessionUnknown SessionMoved TtlDiffers KindMismatch AlreadyHeld RequestTooOld \
        RequestReused TooManyOutcomes NotHolder StaleToken Invalid TokensExhausted NotStarted";
    for outcome in all.split_whitespace() {
        assert!(seen.get(outcome).is_some_and(|count| *count >= 10), "{outcome}: {seen:?}");
    }
}

fn log(seed: u64) -> Vec<(u64, Command)> {
    let mut generator = Generator::new(seed);
    let mut machine = Machine::new();
    let entry = |_| {
        let (index, command) = generator.entry(&machine);
        machine.apply(index, &command, &mut Vec::new());
        (index, command)
    };
    (0..STEPS).map(entry).collect()
}

fn replay(machine: &mut Machine, log: &[(u64, Command)]) -> Vec<(Outcome, Vec<Event>)> {
    let apply = |(index, command): &(u64, Command)| {
        let mut events = Vec::new();
        (machine.apply(*index, command, &mut events), events)
    };
    log.iter().map(apply).collect()
}

#[test]
fn equal_logs_give_equal_bytes() {
    for seed in 0..20 {
        let log = log(seed);
        let (mut one, mut other) = (Machine::new(), Machine::new());
        assert_eq!(replay(&mut one, &log), replay(&mut other, &log));
        assert_eq!(one, other);
        assert_eq!(one.encode(), other.encode());
    }
}

#[test]
fn snapshot_and_the_rest_of_the_log_are_the_whole_log() {
    for seed in 0..20 {
        let log = log(seed);
        let mut whole = Machine::new();
        let answers = replay(&mut whole, &log);
        for cut in (0..log.len()).step_by(41) {
            let mut first = Machine::new();
            replay(&mut first, &log[..cut]);
            let mut second = Machine::decode(&first.encode()).unwrap();
            assert_eq!(second, first, "seed {seed} cut {cut}");
            second.check();
            assert_eq!(replay(&mut second, &log[cut..]), answers[cut..], "seed {seed} cut {cut}");
            assert_eq!(second, whole);
        }
    }
}
