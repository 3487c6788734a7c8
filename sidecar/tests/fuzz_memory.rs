//! What a decoder takes of memory is in proportion to what it was given: frames and machines of
//! the smallest parts there are, and of counts that promise more. Alone in its process, so that
//! what is measured is its own.

use prost::Message as _;
use quorate_locks::Machine;
use quorate_proto::peer as wire;
use quorate_proto::peer::frame::Frame as Kind;
use quorate_raft::{Entry, LogId};
use quorate_sidecar::peer::convert::{Received, from_frame};

const INPUT: usize = 4 * 1024 * 1024;
/// Bytes of memory for each byte of input: an item of two bytes on the wire is a row of 16 here,
/// once as it came and once as it is meant, in lists that double as they grow.
const FACTOR: u64 = 64;
const SLACK: u64 = 4 * 1024 * 1024;

/// A line of the process's status, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("it works here");
    let line = text.lines().find(|line| line.starts_with(name)).expect("it is there");
    let number = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    number.expect("a number of kilobytes") * 1024
}

/// Peak of resident memory while `work` runs, on top of what was there before.
fn peak<T>(work: impl FnOnce() -> T) -> u64 {
    // Puts the peak back to what is now.
    std::fs::write("/proc/self/clear_refs", "5").expect("it works here");
    let before = status("VmRSS:");
    drop(std::hint::black_box(work()));
    status("VmHWM:").saturating_sub(before)
}

fn decode(bytes: &[u8]) -> Option<Received> {
    from_frame(wire::Frame::decode(bytes).ok()?).ok()
}

fn frame(kind: Kind) -> Vec<u8> {
    wire::Frame { frame: Some(kind) }.encode_to_vec()
}

/// Each of as many of the smallest parts as fit, and whether it is taken.
fn frames() -> Vec<(&'static str, Vec<u8>, bool)> {
    let sessions = vec![wire::SessionGeneration::default(); INPUT / 2];
    let beat = wire::Heartbeat { sessions, ..wire::Heartbeat::default() };
    let boots = vec![wire::Boot::default(); INPUT / 2];
    let hello = wire::Hello {
        from: vec![1; 16],
        boot: Some(wire::Boot::default()),
        boots,
        name: "a".to_owned(),
        ..wire::Hello::default()
    };
    let entry = Entry::new(LogId::new(1, 1), quorate_raft::Kind::Noop, &[]);
    let raft = |entries: Vec<prost::bytes::Bytes>| {
        let id = Some(wire::LogId::default());
        let append = wire::Append { prev: id, entries, commit: id, round: 0 };
        Kind::Raft(wire::Raft { term: 1, body: Some(wire::raft::Body::Append(append)) })
    };
    let entries = vec![prost::bytes::Bytes::copy_from_slice(entry.bytes()); INPUT / 19];
    let nothing = vec![prost::bytes::Bytes::new(); INPUT / 2];
    vec![
        ("sessions", frame(Kind::Heartbeat(beat)), true),
        ("boots", frame(Kind::Hello(hello)), true),
        ("entries", frame(raft(entries)), true),
        ("empty entries", frame(raft(nothing)), false),
    ]
}

#[test]
fn memory_is_in_proportion_to_the_input() {
    for (name, bytes, taken) in frames() {
        let mut found = false;
        let grown = peak(|| {
            let received = decode(&bytes);
            found = received.is_some();
            received
        });
        let bound = FACTOR * bytes.len() as u64 + SLACK;
        eprintln!("{name}: {} bytes, {grown} of memory", bytes.len());
        assert!(found == taken && grown <= bound, "{name}: {grown} of memory, taken: {found}");
    }
    // A machine that promises all sessions there can be, and ends.
    let mut promise = Machine::new().encode();
    let counts = promise.len() - 8;
    promise[counts..].fill(0xff);
    let grown = peak(|| Machine::decode(&promise).is_err());
    assert!(grown <= SLACK, "a machine of {} bytes: {grown} of memory", promise.len());
}
