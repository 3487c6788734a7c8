//! The disks whose bits are turned: one log, ended in four ways, and a map of its bytes.

use crate::machine::machine;
use crate::model::Random;
use quorate_raft::{
    Configuration, Entry, Index, IoSeq, Kind, LogId, MemberId, Restored, Snapshot, Term, Write,
};
use quorate_sidecar::wal::{FileName, SimDisk, Source, Verdict, Wal};
use std::ops::Range;

pub const ME: MemberId = MemberId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321);
const SEGMENT: u64 = 16 * 1024;
const PAGE: usize = 4096;
/// Where the two marks are.
const MARKS: [Range<usize>; 2] = [512..548, 1024..1060];
const RECORD: usize = 20;

/// Bytes of one kind.
pub struct Region {
    pub name: &'static str,
    pub file: FileName,
    pub bytes: Range<usize>,
}

/// A disk, and what it holds.
pub struct Base {
    pub name: &'static str,
    pub disk: SimDisk,
    pub state: Restored,
    pub regions: Vec<Region>,
    /// The one stretch that the format leaves out: records behind the newest mark, which a power
    /// cut took or which were never reported.
    pub exempt: (FileName, Range<usize>),
    /// Entries that lie before that stretch.
    pub marked: usize,
}

impl Base {
    /// Whether the format leaves this byte out.
    pub fn is_exempt(&self, file: FileName, at: usize) -> bool {
        file == self.exempt.0 && self.exempt.1.contains(&at)
    }
}

pub fn settle(disk: &mut SimDisk) {
    while let Some(at) = disk.next_completion() {
        disk.completed(at);
    }
}

pub fn restored(disk: &mut SimDisk) -> (Restored, Verdict) {
    let (_, recovered) = Wal::open(disk, ME).expect("it works here");
    (recovered.restored, recovered.verdict)
}

pub fn snapshot(last: LogId) -> Snapshot {
    let voters = [(ME, "member-0".to_owned()), (MemberId(2), "member-1".to_owned())];
    let configuration = Configuration { index: Index(1), ..Configuration::of_voters(voters) };
    Snapshot { last, configuration, data: machine().encode().into() }
}

pub fn entries(first: u64, count: u64, bytes: usize) -> Write {
    let mut random = Random(first);
    let mut entry = |index| {
        let payload: Vec<u8> = (0..bytes).map(|_| random.bits().to_le_bytes()[0]).collect();
        Entry::new(LogId::new(3, index), Kind::Command, &payload)
    };
    Write::Append((first..first + count).map(&mut entry).collect())
}

fn submit(wal: &mut Wal<&mut SimDisk>, seq: u64, write: Write) {
    wal.submit(&mut vec![(IoSeq(seq), write)]);
    settle(wal.disk_mut());
}

/// Votes, entries over several segments, two snapshots with recycled segments; up to entry 150 all
/// is reported.
fn grow(wal: &mut Wal<&mut SimDisk>) {
    let vote = Some(MemberId(2));
    submit(wal, 1, Write::HardState { term: Term(3), vote });
    let mut seq = 1;
    for first in (1..150).step_by(10) {
        seq += 1;
        submit(wal, seq, entries(first, 10, 230));
        if [41, 91, 141].contains(&first) {
            seq += 1;
            let last = LogId::new(3, first - 5);
            let drop_to = last.index;
            submit(wal, seq, Write::Snapshot { snapshot: snapshot(last), drop_to });
        }
    }
    // The record of the last snapshot goes with this one; then segments go.
    submit(wal, 89, Write::HardState { term: Term(4), vote: None });
    submit(wal, 90, Write::HardState { term: Term(4), vote: Some(ME) });
}

/// A log that grew, and then ends so.
fn grown(end: impl FnOnce(Wal<&mut SimDisk>)) -> SimDisk {
    let mut disk = SimDisk::new(11);
    disk.set_segment_bytes(SEGMENT);
    let (mut wal, _) = Wal::open(&mut disk, ME).expect("it works here");
    grow(&mut wal);
    end(wal);
    disk
}

/// One log, ended in four ways.
pub fn bases() -> Vec<Base> {
    let mut stopped = grown(|mut wal| {
        submit(&mut wal, 91, entries(151, 2, 90));
        wal.close();
    });
    stopped.crash(1, true);
    let mut killed = grown(|mut wal| submit(&mut wal, 91, entries(151, 2, 90)));
    killed.crash(1, false);
    vec![
        base("stopped in order", stopped),
        base("killed", killed),
        base("the last mark lost in a power cut", unmarked()),
        base("killed within a batch", torn()),
    ]
}

/// The last batch is reported and synced; its mark was not.
fn unmarked() -> SimDisk {
    let mut before = Vec::new();
    let mut disk = grown(|mut wal| {
        before = wal.disk().read(last_segment(wal.disk())).expect("it works here");
        submit(&mut wal, 91, entries(151, 2, 90));
    });
    disk.crash(1, false);
    let file = last_segment(&disk);
    for mark in MARKS {
        let at = u64::try_from(mark.start).expect("small");
        disk.overwrite(file, at, &before[mark]).expect("it works here");
    }
    disk
}

/// Of the last batch, which was never reported, the end is missing.
fn torn() -> SimDisk {
    let mut disk = grown(|mut wal| {
        wal.disk_mut().cut_after(Some(1));
        submit(&mut wal, 91, entries(151, 2, 90));
    });
    disk.crash(6, false);
    let file = last_segment(&disk);
    let end = end_of_records(&disk.read(file).expect("it works here"));
    let at = u64::try_from(end - 30).expect("small");
    disk.overwrite(file, at, &[0; 30]).expect("it works here");
    disk
}

fn word(bytes: &[u8], at: usize) -> usize {
    let word = bytes[at..at + 8].try_into().expect("eight bytes");
    usize::try_from(u64::from_le_bytes(word)).expect("a place in the file")
}

fn files(disk: &SimDisk) -> Vec<FileName> {
    let names = disk.list().expect("it works here");
    names.iter().filter_map(|name| FileName::parse(name)).collect()
}

fn is_begun(disk: &SimDisk, file: FileName) -> bool {
    disk.read(file).expect("it works here")[..8] != [0; 8]
}

fn last_segment(disk: &SimDisk) -> FileName {
    let logs = files(disk).into_iter().filter(|file| matches!(file, FileName::Log(_)));
    logs.filter(|file| is_begun(disk, *file)).max().expect("a log was begun")
}

/// Where the records of a segment end, by their lengths alone.
fn end_of_records(segment: &[u8]) -> usize {
    let mut at = PAGE;
    while segment[at..at + RECORD].iter().any(|byte| *byte != 0) {
        let length = segment[at + 4..at + 8].try_into().expect("four bytes");
        at += RECORD + usize::try_from(u32::from_le_bytes(length)).expect("a length");
        if segment.len() < at + RECORD {
            break;
        }
    }
    at
}

fn base(name: &'static str, mut disk: SimDisk) -> Base {
    let last = last_segment(&disk);
    let segment = disk.read(last).expect("it works here");
    let marked = MARKS.map(|mark| word(&segment, mark.start + 16)).into_iter().max();
    let marked = marked.expect("two marks");
    let exempt = (last, marked..end_of_records(&segment));
    let mut regions = Vec::new();
    for file in files(&disk) {
        let bytes = disk.read(file).expect("it works here");
        regions.extend(map(&disk, file, &bytes).into_iter().map(|(name, bytes)| Region {
            name,
            file,
            bytes,
        }));
    }
    let (state, verdict) = restored(&mut disk.clone());
    assert!(!matches!(verdict, Verdict::Unfit { .. }), "{verdict:?}");
    // What the marks cover: the log without all that is exempt.
    let zeros = vec![0; exempt.1.len()];
    let mut without = disk.clone();
    let at = u64::try_from(marked).expect("small");
    without.overwrite(last, at, &zeros).expect("it works here");
    let marked = restored(&mut without).0.entries.len();
    disk.set_expects_log(true);
    Base { name, disk, state, regions, exempt, marked }
}

fn is_newer(other: FileName, file: FileName) -> bool {
    matches!((other, file), (FileName::Snapshot(other), FileName::Snapshot(it)) if other > it)
}

/// What the bytes of a file are for.
fn map(disk: &SimDisk, file: FileName, bytes: &[u8]) -> Vec<(&'static str, Range<usize>)> {
    match file {
        FileName::Log(_) if is_begun(disk, file) => {
            let end = end_of_records(bytes);
            vec![
                ("header", 0..512),
                ("mark", MARKS[0].clone()),
                ("mark", MARKS[1].clone()),
                ("unused bytes of the first page", 548..1024),
                ("unused bytes of the first page", 1060..PAGE),
                ("records", PAGE..end),
                ("behind the records", end..bytes.len()),
            ]
        }
        FileName::Log(_) => vec![
            ("first page of a segment not begun", 0..PAGE),
            ("the rest of a segment not begun", PAGE..bytes.len()),
        ],
        FileName::Spare(_) => vec![("a spare segment", 0..bytes.len())],
        FileName::Snapshot(_) if files(disk).into_iter().any(|other| is_newer(other, file)) => {
            vec![("an older snapshot", 0..bytes.len())]
        }
        FileName::Snapshot(_) => {
            let length = bytes[48..52].try_into().expect("four bytes");
            let data = 60 + usize::try_from(u32::from_le_bytes(length)).expect("a length");
            vec![
                ("a snapshot's head", 0..60),
                ("a snapshot's configuration", 60..data),
                ("a snapshot's state", data..bytes.len()),
            ]
        }
        FileName::Draft(_) => vec![("a draft", 0..bytes.len())],
    }
}
