//! Quorum scripts: `incoming 1=5 2=3`, `outgoing ...`, then `value`. And the rule against a naive
//! one on random input.

use quorate_raft::{Configuration, MemberId, quorum_value};
use std::collections::BTreeMap;
use std::fmt::Write;

pub fn run(input: &str) -> String {
    let mut configuration = Configuration::default();
    let mut values = BTreeMap::new();
    let mut text = String::new();
    for line in input.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let half = match words.next() {
            Some("incoming") => &mut configuration.incoming,
            Some("outgoing") => &mut configuration.outgoing,
            Some("value") => {
                let value = quorum_value(&configuration, |id| values[&id]);
                writeln!(text, "> {line}").unwrap();
                match value {
                    Some(value) => writeln!(text, "{value}").unwrap(),
                    None => writeln!(text, "nobody votes").unwrap(),
                }
                continue;
            }
            other => panic!("unknown word {other:?}"),
        };
        writeln!(text, "> {line}").unwrap();
        half.clear();
        for word in words {
            let (id, value) = word.split_once('=').unwrap();
            let id = MemberId(id.parse().unwrap());
            half.insert(id, String::new());
            values.insert(id, value.parse::<u64>().unwrap());
        }
    }
    text
}

/// By the definition: the largest value such that some set that is a majority of each half has it.
fn naive(halves: [&[usize]; 2], values: &[u64]) -> Option<u64> {
    let is_quorum = |set: u32| {
        halves.iter().all(|half| {
            let inside = half.iter().filter(|id| set & (1 << **id) != 0).count();
            half.is_empty() || inside * 2 > half.len()
        })
    };
    if halves.iter().all(|half| half.is_empty()) {
        return None;
    }
    let reach = |set: u32| {
        let inside = |id: &usize| set & (1 << *id) != 0;
        (0..values.len()).filter(inside).map(|id| values[id]).min().unwrap_or(0)
    };
    (1..1_u32 << values.len()).filter(|set| is_quorum(*set)).map(reach).max()
}

#[test]
fn equals_the_definition_on_random_input() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 33) % below
    };
    for _ in 0..20_000 {
        let members = usize::try_from(1 + random(6)).unwrap();
        let values: Vec<u64> = (0..members).map(|_| random(5)).collect();
        let mut pick = || (0..members).filter(|_| random(3) > 0).collect::<Vec<_>>();
        let (incoming, outgoing) = (pick(), pick());
        let half = |ids: &[usize]| {
            ids.iter().map(|id| (MemberId(*id as u128), String::new())).collect::<BTreeMap<_, _>>()
        };
        let configuration = Configuration {
            incoming: half(&incoming),
            outgoing: half(&outgoing),
            ..Configuration::default()
        };
        let got = quorum_value(&configuration, |id| values[usize::try_from(id.0).unwrap()]);
        // A set with nobody of the halves in it counts for neither; members outside only lower it.
        assert_eq!(got, naive([&incoming, &outgoing], &values), "{configuration:?} {values:?}");
    }
}
