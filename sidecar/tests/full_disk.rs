//! No room for more than one segment in a row: their order stays, and nothing is missing after it.

use quorate_raft::{Entry, IoSeq, Kind, LogId, MemberId, Time, Write};
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
