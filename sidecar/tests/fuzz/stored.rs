//! What a disk holds: segments, snapshots, the machine in them, and the identity.

use crate::machine::machine;
use crate::model::Random;
use crate::mutate::{Corpus, mutate, place, run};
use quorate_locks::Machine;
use quorate_raft::{
    Configuration, Entry, Index, IoSeq, Kind, LogId, MemberId, Restored, Snapshot, Term, Write,
};
use quorate_sidecar::wal::{
    Batch, DataDir, Disk, FileName, FsOptions, Op, SimDisk, Source, Verdict, Wal, inspect,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ME: MemberId = MemberId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const SEGMENT: usize = 8 * 1024;
const PAGE: usize = 4096;
const RECORD: usize = 20;
const MARKS: [usize; 2] = [512, 1024];
/// The kind of a record that names a snapshot.
const SNAPSHOT: u8 = 3;

type Files = Vec<(FileName, Vec<u8>)>;

fn settle(disk: &mut SimDisk) {
    while let Some(at) = disk.next_completion() {
        disk.completed(at);
    }
}

fn appended(first: u64, count: u64, bytes: usize) -> Write {
    let entry = |index| Entry::new(LogId::new(2, index), Kind::Command, &vec![0xA5; bytes]);
    Write::Append((first..first + count).map(entry).collect())
}

fn snapshot(index: u64) -> Snapshot {
    let named = |id: u128| (MemberId(id), format!("member-{id}"));
    let configuration = Configuration {
        incoming: [named(1), named(2)].into(),
        outgoing: [named(2), named(3)].into(),
        learners: [named(4)].into(),
        index: Index(1),
    };
    Snapshot { last: LogId::new(2, index), configuration, data: machine().encode().into() }
}

/// What a log's files are after these writes, without the zeros at their ends.
fn written(name: &str, writes: Vec<Write>) -> Vec<(String, Vec<u8>)> {
    let mut disk = SimDisk::new(3);
    disk.set_segment_bytes(SEGMENT as u64);
    let (mut wal, _) = Wal::open(&mut disk, ME).expect("it works here");
    for (seq, write) in (1..).map(IoSeq).zip(writes) {
        wal.submit(&mut vec![(seq, write)]);
        settle(wal.disk_mut());
    }
    wal.close();
    let mut files = Vec::new();
    for file in disk.list().expect("it works here").iter().filter_map(|name| FileName::parse(name))
    {
        if matches!(file, FileName::Log(_) | FileName::Snapshot(_)) {
            let mut bytes = disk.read(file).expect("it works here");
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if matches!(file, FileName::Log(_)) {
                bytes.truncate(end);
            }
            files.push((format!("{name}.{file}"), bytes));
        }
    }
    files
}

fn voted() -> Write {
    Write::HardState { term: Term(2), vote: Some(MemberId(3)) }
}

fn segments() -> Vec<(String, Vec<u8>)> {
    let built = Write::Snapshot { snapshot: snapshot(9), drop_to: Index(5) };
    let install = Write::Install { snapshot: snapshot(3), keep_suffix: true };
    let mut all = written("first", vec![voted(), appended(1, 3, 20)]);
    all.extend(written("rolled", vec![voted(), appended(1, 20, 300), appended(15, 3, 30)]));
    let compacted = vec![appended(1, 10, 200), built, appended(11, 8, 200), appended(19, 1, 1)];
    all.extend(written("compacted", compacted));
    all.extend(written("installed", vec![voted(), appended(1, 5, 9), install]));
    all
}

fn snapshots() -> Vec<(String, Vec<u8>)> {
    let install = Write::Install { snapshot: snapshot(30), keep_suffix: false };
    let built = Write::Snapshot { snapshot: snapshot(2), drop_to: Index(2) };
    let small = Snapshot { configuration: Configuration::default(), ..snapshot(7) };
    let small =
        Write::Install { snapshot: Snapshot { data: (*b"").into(), ..small }, keep_suffix: false };
    let mut all = written("built", vec![appended(1, 3, 9), built, appended(4, 1, 1)]);
    all.extend(written("installed", vec![voted(), install, appended(31, 2, 5)]));
    all.extend(written("small", vec![small]));
    all
}

/// The files of one log each.
fn logs(corpus: &Corpus) -> Vec<Files> {
    let mut logs: Vec<(&str, Files)> = Vec::new();
    for (name, bytes) in &corpus.files {
        let (log, file) = name.split_once('.').expect("a log and a file of it");
        let file = FileName::parse(file).expect("a file of a log");
        let mut bytes = bytes.clone();
        if matches!(file, FileName::Log(_)) {
            bytes.resize(SEGMENT, 0);
        }
        match logs.last_mut() {
            Some((last, files)) if *last == log => files.push((file, bytes)),
            _ => logs.push((log, vec![(file, bytes)])),
        }
    }
    logs.into_iter().map(|(_, files)| files).collect()
}

fn disk(files: &Files) -> SimDisk {
    let mut disk = SimDisk::new(9);
    disk.set_segment_bytes(SEGMENT as u64);
    let mut batch = Batch::default();
    for (file, bytes) in files {
        let from = batch.bytes.len();
        batch.bytes.extend_from_slice(bytes);
        let (file, to) = (*file, batch.bytes.len());
        batch.ops.push(Op::Create { file, bytes: 0 });
        batch.ops.push(Op::Write { file, offset: 0, from, to });
        batch.ops.push(Op::Sync(file));
    }
    batch.ops.push(Op::SyncDir);
    disk.run(&batch).expect("it works here");
    disk
}

fn same(a: &Restored, b: &Restored) -> bool {
    (a.term, a.vote, &a.snapshot, &a.entries) == (b.term, b.vote, &b.snapshot, &b.entries)
}

/// Opens a log of any bytes. What is taken can be written on, and is found again.
fn lives_on(files: &Files) -> bool {
    let mut disk = disk(files);
    let (mut wal, recovered) = Wal::open(&mut disk, ME).expect("the disk itself works");
    if let Verdict::Unfit { reason } = recovered.verdict {
        assert!(!reason.is_empty());
        return false;
    }
    let mut state = recovered.restored;
    let covered = state.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
    let last = state.entries.last().map_or(covered, Entry::id);
    // The core refuses what comes near the ends of terms and indexes.
    if last.index.0 < 1 << 62 && state.term.0 < 1 << 62 {
        let id = LogId { term: last.term.max(Term(1)), index: last.index.next() };
        let entry = Entry::new(id, Kind::Command, &[1; 50]);
        state.term = state.term.next();
        state.vote = Some(MemberId(5));
        let hard_state = Write::HardState { term: state.term, vote: state.vote };
        state.entries.push(entry.clone());
        wal.submit(&mut vec![(IoSeq(1), hard_state), (IoSeq(2), Write::Append(vec![entry]))]);
        settle(wal.disk_mut());
    }
    wal.close();
    disk.crash(1, true);
    let (_, again) = Wal::open(&mut disk, ME).expect("the disk itself works");
    assert!(again.verdict == Verdict::Clean, "{:?}", again.verdict);
    assert!(same(&again.restored, &state), "{:?} after {state:?}", again.restored);
    true
}

/// An input is two bytes that choose a log and a file of it, and then the file.
fn mutated(
    logs: &[Files],
    random: &mut Random,
    wanted: fn(&FileName) -> bool,
    mend: fn(&mut Random, &mut [u8], FileName),
) -> Vec<u8> {
    let log = place(random, logs.len());
    let places: Vec<usize> = (0..logs[log].len()).filter(|at| wanted(&logs[log][*at].0)).collect();
    let file = places[place(random, places.len())];
    let (name, bytes) = &logs[log][file];
    let mut content = bytes.clone();
    let other = &logs[place(random, logs.len())][0].1;
    mutate(random, &mut content, other);
    if random.below(4) > 0 {
        mend(random, &mut content, *name);
    }
    let mut input = vec![log.to_le_bytes()[0], file.to_le_bytes()[0]];
    input.extend_from_slice(&content);
    input
}

fn put_in(logs: &[Files], input: &[u8]) -> Files {
    let mut files = logs[usize::from(input[0])].clone();
    files[usize::from(input[1])].1 = input[2..].to_vec();
    files
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn put_crc(bytes: &mut [u8], at: usize, over: std::ops::Range<usize>) {
    let crc = crc32c::crc32c(&bytes[over]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

/// The chain as `docs/wal-format.md` has it.
fn chain(previous: u64, kind: u8, body: &[u8]) -> u64 {
    let step = |h: u64, w: u64| (h ^ w).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let mut h = step(previous, (body.len() as u64) << 8 | u64::from(kind));
    let (words, rest) = body.as_chunks::<8>();
    for word in words {
        h = step(h, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    h = step(h, u64::from_le_bytes(last));
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ (h >> 32)
}

/// Makes checksums and chains right again, so that the records' content is what is judged. Gives
/// where the records end, and the chain there.
fn mend_records(bytes: &mut [u8], number: u64) -> (usize, u64) {
    put_crc(bytes, 508, 0..508);
    let mut link = chain(number, 0, &ME.0.to_le_bytes());
    let mut at = PAGE;
    while at + RECORD <= bytes.len() && bytes[at..at + RECORD].iter().any(|byte| *byte != 0) {
        let room = bytes.len() - at - RECORD;
        let length = usize::try_from(word(bytes, at + 4) & 0xffff_ffff).expect("a length");
        let length = length.min(room);
        let short = u32::try_from(length).expect("a small file");
        bytes[at + 4..at + 8].copy_from_slice(&short.to_le_bytes());
        let end = at + RECORD + length;
        link = chain(link, bytes[at + 8], &bytes[at + RECORD..end]);
        bytes[at + 12..at + 20].copy_from_slice(&link.to_le_bytes());
        put_crc(bytes, at, at + 4..end);
        at = end;
    }
    (at, link)
}

/// All of a segment; its marks are gone, or as they were, or right.
fn mend_segment(random: &mut Random, bytes: &mut [u8], name: FileName) {
    let FileName::Log(number) = name else { return };
    if bytes.len() < PAGE {
        return;
    }
    if random.below(2) == 0 {
        let length = bytes.len() as u64;
        bytes[24..32].copy_from_slice(&length.to_le_bytes());
    }
    let (end, link) = mend_records(bytes, number);
    for mark in MARKS {
        match random.below(3) {
            0 => bytes[mark..mark + 36].fill(0),
            1 => put_crc(bytes, mark + 32, mark..mark + 32),
            _ => {
                bytes[mark + 16..mark + 24].copy_from_slice(&(end as u64).to_le_bytes());
                bytes[mark + 24..mark + 32].copy_from_slice(&link.to_le_bytes());
                put_crc(bytes, mark + 32, mark..mark + 32);
            }
        }
    }
}

fn mend_snapshot(_: &mut Random, bytes: &mut [u8], _: FileName) {
    if bytes.len() >= 16 {
        put_crc(bytes, 12, 16..bytes.len());
    }
}

#[test]
fn any_segment_is_refused_or_lives_on() {
    let logs = logs(&Corpus::load("segment", segments));
    for log in &logs {
        assert!(lives_on(log), "{:?}", log[0].0);
    }
    let wanted = |file: &FileName| matches!(file, FileName::Log(_));
    run(
        "a segment",
        |random| mutated(&logs, random, wanted, mend_segment),
        |input| lives_on(&put_in(&logs, input)),
    );
}

/// Opens a log whose first segment was changed, and whose checksums are right; gives why it is
/// refused.
fn refused(mut files: Files, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let bytes = &mut files[0].1;
    change(bytes);
    mend_records(bytes, 1);
    MARKS.iter().for_each(|mark| bytes[*mark..mark + 36].fill(0));
    let (_, recovered) = Wal::open(disk(&files), ME).expect("the disk itself works");
    match recovered.verdict {
        Verdict::Unfit { reason } => reason,
        other => panic!("{other:?}"),
    }
}

/// To seal it would write beyond its end.
#[test]
fn a_segment_without_room_for_its_seal_is_refused() {
    let logs = logs(&Corpus::load("segment", segments));
    let first = logs.iter().find(|files| files.len() == 2).expect("a log of one segment");
    let end = first[0].1.iter().rposition(|byte| *byte != 0).expect("it has records") + 1;
    for room in [0, 1, 27] {
        let reason = refused(first.clone(), |bytes| {
            bytes.truncate(end + room);
            let length = bytes.len() as u64;
            bytes[24..32].copy_from_slice(&length.to_le_bytes());
        });
        assert!(reason.contains("no room is left to seal it"), "{room}: {reason}");
    }
}

/// The file covers 2.3, the log names it and has another entry there: what is appended behind it
/// would be lost at the next start.
#[test]
fn a_snapshot_that_the_log_names_and_does_not_hold_is_refused() {
    let logs = logs(&Corpus::load("segment", segments));
    let installed = |files: &&Files| files.len() == 3 && files[0].0 == FileName::Log(1);
    let installed = logs.iter().filter(installed).find(|files| files[2].0 != FileName::Log(3));
    let reason = refused(installed.expect("a log with a snapshot").clone(), |bytes| {
        let mut at = PAGE;
        while bytes[at + 8] != SNAPSHOT {
            at += RECORD + usize::try_from(word(bytes, at + 4) & 0xffff_ffff).expect("a length");
        }
        bytes[at + RECORD..at + RECORD + 8].copy_from_slice(&1_u64.to_le_bytes());
    });
    assert!(reason.contains("has no such entry"), "{reason}");
}

#[test]
fn any_snapshot_is_refused_or_lives_on() {
    let logs = logs(&Corpus::load("snapshot", snapshots));
    for log in &logs {
        assert!(lives_on(log), "{:?}", log[0].0);
    }
    let wanted = |file: &FileName| matches!(file, FileName::Snapshot(_));
    run(
        "a snapshot",
        |random| mutated(&logs, random, wanted, mend_snapshot),
        |input| lives_on(&put_in(&logs, input)),
    );
}

#[test]
fn any_machine_is_refused_or_is_its_own_encoding() {
    let make = || {
        let empty = Machine::new().encode();
        vec![("empty".to_owned(), empty), ("waiting".to_owned(), machine().encode())]
    };
    let corpus = Corpus::load("machine", make);
    let whole = |input: &[u8]| {
        let Ok(machine) = Machine::decode(input) else { return false };
        machine.check();
        assert_eq!(machine.encode(), input);
        true
    };
    assert!(corpus.files.iter().all(|(_, bytes)| whole(bytes)));
    let mutated = |random: &mut Random| {
        let mut input = corpus.any(random).to_vec();
        let other = corpus.any(random).to_vec();
        mutate(random, &mut input, &other);
        input
    };
    run("the machine in a snapshot", mutated, whole);
}

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("quorate-fuzz-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("it works here");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A new one, one of a cluster, one with a log, and one of many boots.
fn identities() -> Vec<(String, Vec<u8>)> {
    let scratch = Scratch::new("corpus");
    let path = scratch.0.join("data");
    let mut all = Vec::new();
    let mut keep = |name: &str| {
        let bytes = std::fs::read(path.join("identity")).expect("it works here");
        all.push((name.to_owned(), bytes));
    };
    let open = || DataDir::open(&path, Duration::ZERO).expect("it works here");
    drop(open());
    keep("new");
    open().set_cluster_id(0xC1).expect("it works here");
    keep("of-a-cluster");
    let mut directory = open();
    let options = FsOptions { segment_bytes: 64 * 1024, ..FsOptions::default() };
    drop(directory.open_log(options, Box::new(drop)).expect("it works here"));
    drop(directory);
    keep("with-a-log");
    (0..70).for_each(|_| drop(open()));
    keep("of-many-boots");
    all
}

fn shown(path: &Path) -> String {
    let mut text = Vec::new();
    // Without a log there is no more to show: that is an error, and no matter here.
    drop(inspect(path, &mut text, &|_| String::new()));
    String::from_utf8(text).expect("it is for people")
}

/// What an identity says but for its boots, and these.
fn said(directory: &DataDir) -> (MemberId, Option<u128>, bool, Vec<quorate_sidecar::wal::Boot>) {
    let boots = directory.boots().to_vec();
    (directory.member_id(), directory.cluster_id(), directory.has_log(), boots)
}

#[test]
fn any_identity_is_refused_or_found_again() {
    let corpus = Corpus::load("identity", identities);
    let scratch = Scratch::new("identity");
    let path = scratch.0.join("data");
    drop(DataDir::open(&path, Duration::ZERO).expect("it works here"));
    let found_again = |input: &[u8]| {
        // A new file: emptying the old one makes some file systems write it out.
        std::fs::remove_file(path.join("identity")).expect("it works here");
        std::fs::write(path.join("identity"), input).expect("it works here");
        let shown = shown(&path);
        // An opening of one that is taken costs syncs; what is shown is read by the same decoder.
        if shown.contains("identity: member") && !crc32c::crc32c(input).is_multiple_of(16) {
            return true;
        }
        let Ok(first) = DataDir::open(&path, Duration::ZERO) else { return false };
        let (member, cluster, has_log, boots) = said(&first);
        assert!(shown.contains(&format!("identity: member {member}\n")), "{shown}");
        drop(first);
        let again = said(&DataDir::open(&path, Duration::ZERO).expect("it was taken before"));
        assert_eq!((again.0, again.1, again.2), (member, cluster, has_log));
        assert!(boots.ends_with(&again.3[..again.3.len() - 1]) && again.3.len() <= 64);
        true
    };
    assert!(corpus.files.iter().all(|(_, bytes)| found_again(bytes)));
    let mutated = |random: &mut Random| {
        let mut input = corpus.any(random).to_vec();
        let other = corpus.any(random).to_vec();
        mutate(random, &mut input, &other);
        if input.len() >= 16 && random.below(4) > 0 {
            let end = input.len();
            put_crc(&mut input, 12, 16..end);
        }
        input
    };
    run("an identity", mutated, found_again);
}
