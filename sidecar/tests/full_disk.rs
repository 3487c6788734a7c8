//! No room: segments stay in their order, a leader's snapshot waits and what comes after it waits
//! behind it; nothing that was reported is missing after it.

use quorate_raft::{
    Configuration, Entry, IoSeq, Kind, LogId, MemberId, Snapshot, Term, Time, Write,
};
use quorate_sidecar::wal::{FileName, SimDisk, Source, Verdict, Wal};

const ME: MemberId = MemberId(7);
const SEGMENT: u64 = 8 * 1024;

fn append(wal: &mut Wal<&mut SimDisk>, seq: u64) {
    let entry = Entry::new(LogId::new(1, seq), Kind::Command, &[seq.to_le_bytes()[0]; 900]);
    wal.submit(&mut vec![(IoSeq(seq), Write::Append(vec![entry]))]);
}

/// Writes go on while there is no room, until they reach beyond the segment that waits for it; then
/// there is room, at once or late, and the power is cut at some moment after.
fn outlives(room_after_ns: u64, cut_after_ns: u64) {
    let mut disk = SimDisk::new(5);
    disk.set_segment_bytes(SEGMENT);
    disk.set_capacity(2 * SEGMENT);
    let (mut wal, _) = Wal::open(&mut disk, ME).expect("it works here");
    // Four entries fill a segment: these end in the fifth.
    for seq in 1..=18 {
        append(&mut wal, seq);
    }
    let room = Time(0).after(room_after_ns);
    let cut = room.after(cut_after_ns);
    let mut durable = wal.disk_mut().completed(room);
    assert!(wal.full(), "three segments are on their way, and room is there for none");
    drop(wal);
    disk.set_capacity(0);
    durable = disk.completed(cut).or(durable);
    assert!(!disk.failed(), "nothing failed but for room");
    let logs: Vec<String> = disk.list().expect("it works here");
    let made = (1..).take_while(|number| logs.contains(&FileName::Log(*number).to_string()));
    let names = logs.iter().filter(|name| name.starts_with("log-")).count();
    assert_eq!(made.count(), names, "{logs:?}");
    disk.crash(cut_after_ns, true);
    let (_, recovered) = Wal::open(&mut disk, ME).expect("it works here");
    let verdict = recovered.verdict;
    assert!(!matches!(verdict, Verdict::Unfit { .. }), "{verdict:?}");
    let reported = durable.map_or(0, |seq| usize::try_from(seq.0).expect("a small number"));
    let found = recovered.restored.entries.len();
    assert!(found >= reported, "{found} entries after {reported} were reported");
    assert!(cut_after_ns < 5_000_000_000 || reported == 18, "{reported} reported in the end");
}

#[test]
fn segments_that_wait_for_room_are_made_in_order() {
    for room_after_ns in [10_000_000, 999_900_000, 1_500_000_000, 3_000_000_000] {
        for cut_after_ns in [0, 200_000, 500_000, 1_000_000, 1_000_300_000, 9_000_000_000] {
            outlives(room_after_ns, cut_after_ns);
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// A member's disk that cannot take the snapshot that its leader sent, nor forget it: an entry and
/// a vote are ordered behind it.
fn install_without_room(disk: &mut SimDisk) -> Wal<&mut SimDisk> {
    disk.set_segment_bytes(SEGMENT);
    disk.set_capacity(2 * SEGMENT);
    let (mut wal, _) = Wal::open(disk, ME).expect("it works here");
    append(&mut wal, 1);
    wal.submit(&mut vec![(IoSeq(2), Write::Install { snapshot: snapshot(), keep_suffix: false })]);
    let vote = Write::HardState { term: Term(2), vote: Some(MemberId(3)) };
    wal.submit(&mut vec![(IoSeq(3), vote)]);
    let entry = Entry::new(LogId::new(2, 51), Kind::Command, b"behind it");
    wal.submit(&mut vec![(IoSeq(4), Write::Append(vec![entry]))]);
    wal
}

fn snapshot() -> Snapshot {
    let data = vec![7; 4 * 8 * 1024].into();
    Snapshot { last: LogId::new(1, 50), configuration: Configuration::default(), data }
}

fn drafts(disk: &SimDisk) -> usize {
    let names = disk.list().expect("it works here");
    names.iter().filter(|name| name.starts_with("draft-")).count()
}

#[test]
fn an_install_without_room_waits_and_goes_on_when_there_is_room() {
    let mut disk = SimDisk::new(5);
    let mut wal = install_without_room(&mut disk);
    let ten_minutes = Time(600 * SECOND_NS);
    assert_eq!(wal.disk_mut().completed(ten_minutes), Some(IoSeq(1)), "nothing behind it is told");
    assert!(wal.full(), "whoever appends must know");
    drop(wal);
    assert!(!disk.failed(), "no room for a peer's snapshot is no failure");
    assert_eq!((disk.space_changed(), drafts(&disk)), (Some(true), 0), "half a file holds no room");
    disk.set_capacity(0);
    let retried = ten_minutes.after(2 * SECOND_NS);
    assert_eq!(disk.completed(retried), Some(IoSeq(4)), "it was not tried again within a second");
    assert_eq!((disk.space_changed(), disk.failed()), (Some(false), false));
    disk.crash(1, true);
    let (_, recovered) = Wal::open(&mut disk, ME).expect("it works here");
    let restored = recovered.restored;
    assert_eq!((restored.snapshot, restored.entries.len()), (Some(snapshot()), 1));
    assert_eq!((restored.term, restored.vote), (Term(2), Some(MemberId(3))));
}

#[test]
fn a_crash_around_an_install_without_room_loses_nothing_reported() {
    for room_after_ns in [0, 300_000, SECOND_NS, 5 * SECOND_NS + 300_000] {
        for cut_after_ns in [0, 150_000, 400_000, SECOND_NS, 2 * SECOND_NS] {
            let mut disk = SimDisk::new(room_after_ns ^ cut_after_ns);
            drop(install_without_room(&mut disk));
            let room = Time(room_after_ns);
            let mut durable = disk.completed(room);
            disk.set_capacity(0);
            durable = disk.completed(room.after(cut_after_ns)).or(durable);
            disk.crash(cut_after_ns, true);
            let (_, recovered) = Wal::open(&mut disk, ME).expect("it works here");
            let (restored, verdict) = (recovered.restored, recovered.verdict);
            assert!(!matches!(verdict, Verdict::Unfit { .. }), "{verdict:?}");
            let reported = durable.map_or(0, |seq| seq.0);
            let found = match (&restored.snapshot, restored.vote, restored.entries.len()) {
                (Some(_), Some(_), 1) => 4,
                (Some(_), Some(_), 0) => 3,
                (Some(_), None, 0) => 2,
                (None, None, 1) => 1,
                (None, None, 0) => 0,
                other => panic!("no state that there was: {other:?}"),
            };
            assert!(found >= reported, "{found} of {reported}");
            assert!(cut_after_ns < 2 * SECOND_NS || found == 4, "{found} in the end");
        }
    }
}

/// Both lack room: it is there again only once it is there for both.
#[test]
fn room_for_the_segment_alone_is_not_enough_for_an_install() {
    let mut disk = SimDisk::new(5);
    disk.set_segment_bytes(SEGMENT);
    disk.set_capacity(2 * SEGMENT);
    let (mut wal, _) = Wal::open(&mut disk, ME).expect("it works here");
    // These end in the second segment, and the third has no room.
    for seq in 1..=5 {
        append(&mut wal, seq);
    }
    wal.submit(&mut vec![(IoSeq(6), Write::Install { snapshot: snapshot(), keep_suffix: false })]);
    drop(wal);
    assert_eq!(disk.completed(Time(10 * SECOND_NS)), Some(IoSeq(5)));
    assert_eq!(disk.space_changed(), Some(true));
    disk.set_capacity(3 * SEGMENT);
    assert_eq!(disk.completed(Time(20 * SECOND_NS)), None);
    let names = disk.list().expect("it works here");
    assert!(names.contains(&FileName::Log(3).to_string()), "{names:?}");
    assert_eq!(disk.space_changed(), None, "room for the segment, and none for the snapshot");
    disk.set_capacity(0);
    assert_eq!(disk.completed(Time(30 * SECOND_NS)), Some(IoSeq(6)));
    assert_eq!(disk.space_changed(), Some(false));
}

#[test]
fn a_log_that_is_closed_while_an_install_waits_says_that_it_failed() {
    let mut disk = SimDisk::new(5);
    let mut wal = install_without_room(&mut disk);
    assert_eq!(wal.disk_mut().completed(Time(10 * SECOND_NS)), Some(IoSeq(1)));
    wal.close();
    assert!(disk.failed(), "what was submitted is not durable");
    disk.crash(1, false);
    disk.set_capacity(0);
    let (_, recovered) = Wal::open(&mut disk, ME).expect("it works here");
    assert_eq!((recovered.verdict, recovered.restored.entries.len()), (Verdict::Clean, 1));
}
