//! The log on a simulated disk: what was reported is there after any crash, and nothing else is.

#[path = "wal/model.rs"]
mod model;

use model::{Model, Random, snapshot};
use quorate_raft::{Entry, IoSeq, Kind, LogId, MemberId, Restored, Term, Time, Write};
use quorate_sidecar::wal::table::{
    self, Content, Decision, End, Expected, Files, Fit, Headers, Marks, Sealed, Situation,
    Snapshots,
};
use quorate_sidecar::wal::{FileName, SimDisk, Source, Verdict, Wal};

const ME: MemberId = MemberId(7);
const SEGMENT: u64 = 8 * 1024;

fn disk(seed: u64) -> SimDisk {
    let mut disk = SimDisk::new(seed);
    disk.set_segment_bytes(SEGMENT);
    disk
}

fn entry(term: u64, index: u64, payload: &[u8]) -> Entry {
    Entry::new(LogId::new(term, index), Kind::Command, payload)
}

fn append(wal: &mut Wal<SimDisk>, seq: u64, term: u64, indexes: std::ops::RangeInclusive<u64>) {
    let entries = indexes.map(|index| entry(term, index, b"0123456789")).collect();
    wal.submit(&mut vec![(IoSeq(seq), Write::Append(entries))]);
}

/// Lets everything that was submitted happen.
fn settle(disk: &mut SimDisk) -> Option<IoSeq> {
    let mut durable = None;
    while let Some(at) = disk.next_completion() {
        durable = disk.completed(at).or(durable);
    }
    durable
}

fn restored(disk: SimDisk) -> (SimDisk, Restored, Verdict) {
    let (wal, recovered) = Wal::open(disk, ME).expect("it works here");
    (wal.into_disk(), recovered.restored, recovered.verdict)
}

fn all_situations() -> Vec<Situation> {
    let mut all = Vec::new();
    for files in [Files::None, Files::Unbegun, Files::Begun, Files::Gap] {
        for expected in [Expected::No, Expected::Yes] {
            for headers in [Headers::Sound, Headers::Damaged, Headers::Foreign] {
                for sealed in [Sealed::Whole, Sealed::Broken] {
                    for (marks, end) in tails() {
                        for (content, snapshots, fit) in contents() {
                            all.push(Situation {
                                files,
                                expected,
                                headers,
                                sealed,
                                marks,
                                end,
                                content,
                                snapshots,
                                fit,
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

fn tails() -> Vec<(Marks, End)> {
    let ends = [End::Clean, End::Torn, End::BeforeMark];
    let both = |end| [(Marks::Sound, end), (Marks::Damaged, end)];
    ends.into_iter().flat_map(both).collect()
}

fn contents() -> Vec<(Content, Snapshots, Fit)> {
    let mut all = Vec::new();
    for content in [Content::Sound, Content::Unknown] {
        for snapshots in [Snapshots::None, Snapshots::Sound, Snapshots::Damaged, Snapshots::Missing]
        {
            all.extend([(content, snapshots, Fit::Whole), (content, snapshots, Fit::Gap)]);
        }
    }
    all
}

#[test]
fn every_situation_matches_exactly_one_row() {
    let all = all_situations();
    assert_eq!(all.len(), 4 * 2 * 3 * 2 * 6 * 16);
    for situation in &all {
        let rows = table::ROWS.iter().filter(|row| row.matches(situation)).count();
        assert_eq!(rows, 1, "{situation:?}");
    }
    let used = |row: &table::Row| all.iter().any(|situation| row.matches(situation));
    assert!(table::ROWS.iter().all(used), "a row that nothing matches");
}

#[test]
fn nothing_damaged_is_ever_written_on() {
    for situation in all_situations() {
        let writes = !matches!(table::decide(&situation), Decision::Unfit(_));
        let good = situation.files != Files::Gap
            && (situation.files != Files::Begun
                || (situation.headers == Headers::Sound
                    && situation.sealed == Sealed::Whole
                    && situation.end != End::BeforeMark
                    && situation.content == Content::Sound
                    && matches!(situation.snapshots, Snapshots::None | Snapshots::Sound)));
        assert!(good || !writes, "{situation:?}");
    }
}

/// One life: some batches, time passing or not, up to a cut or the end. Gives what was reported.
fn live(wal: &mut Wal<&mut SimDisk>, model: &mut Model, random: &mut Random) -> IoSeq {
    let mut durable = IoSeq(0);
    for _ in 0..2 + random.below(12) {
        wal.submit(&mut model.writes(random, 400));
        let disk = wal.disk_mut();
        for _ in 0..random.below(4) {
            let Some(at) = disk.next_completion() else { break };
            durable = disk.completed(at).unwrap_or(durable);
            model.durable = durable;
        }
        if disk.is_cut() {
            break;
        }
        assert!(!disk.failed());
    }
    durable
}

/// Opens, lives, crashes, again and again; each opening must find what the life before left.
fn lives(seed: u64, cut: Option<u64>, count: u64) -> u64 {
    let mut random = Random(seed);
    let mut disk = disk(seed);
    let mut model = Model::new();
    let mut durable = IoSeq(0);
    let mut spares = 0;
    for life in 0..count {
        let late = Some(random.below(90)).filter(|_| random.below(2) == 0);
        disk.cut_after(if life == 0 { cut.or(late) } else { late });
        let opened = Wal::open(&mut disk, ME);
        if let Ok((mut wal, recovered)) = opened {
            let verdict = &recovered.verdict;
            assert!(
                !matches!(verdict, Verdict::Unfit { .. }),
                "seed {seed} cut {cut:?} life {life}: {verdict:?}"
            );
            if let Err(why) = model.check(durable, &recovered.restored) {
                panic!("seed {seed} cut {cut:?} life {life}: {why}");
            }
            model = Model::restart(&recovered.restored);
            durable = live(&mut wal, &mut model, &mut random);
        } else {
            assert!(disk.is_cut(), "only a cut may stop an opening here");
        }
        let names = disk.list().expect("it works here");
        spares += u64::from(names.iter().any(|name| name.starts_with("spare-")));
        disk.crash(random.bits(), random.below(3) > 0);
    }
    spares
}

#[test]
fn many_lives_with_crashes_lose_nothing_that_was_reported() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let spares: u64 = (0..seeds).map(|seed| lives(seed, None, 12)).sum();
    assert!(spares > 50, "segments were recycled: {spares}");
}

#[test]
fn a_cut_after_every_operation_of_a_life_loses_nothing() {
    for seed in 1000..1012 {
        for cut in 0..140 {
            lives(seed, Some(cut), 3);
        }
    }
}

#[test]
fn equal_seeds_give_equal_disks() {
    let run = |seed: u64| {
        let mut random = Random(3);
        let mut disk = disk(seed);
        let (mut wal, _) = Wal::open(&mut disk, ME).unwrap();
        live(&mut wal, &mut Model::new(), &mut random);
        drop(wal);
        disk.crash(1, true);
        disk.hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_blank_disk_is_begun_and_then_clean() {
    let (disk, state, verdict) = restored(disk(1));
    assert_eq!(verdict, Verdict::Blank);
    assert_eq!((state.term, state.vote, state.entries.len()), (Term(0), None, 0));
    let (_, state, verdict) = restored(disk);
    assert_eq!(verdict, Verdict::Clean);
    assert!(state.snapshot.is_none() && state.entries.is_empty());
}

#[test]
fn an_idle_log_writes_nothing() {
    let (mut wal, _) = Wal::open(disk(1), ME).unwrap();
    append(&mut wal, 1, 1, 1..=3);
    settle(wal.disk_mut());
    let (stats, hash) = (wal.stats(), wal.disk().hash());
    wal.submit(&mut Vec::new());
    let day = Time(86_400_000_000_000);
    wal.disk_mut().set_now(day);
    assert_eq!(wal.disk_mut().next_completion(), None);
    assert_eq!((wal.stats(), wal.disk().hash()), (stats, hash));
}

#[test]
fn what_comes_in_during_a_sync_shares_the_next_one() {
    let (mut wal, _) = Wal::open(disk(1), ME).unwrap();
    for seq in 1..=20 {
        append(&mut wal, seq, 1, seq..=seq);
    }
    assert_eq!(settle(wal.disk_mut()), Some(IoSeq(20)));
    assert_eq!(wal.stats().flushes(), 2, "the first alone, nineteen together");
    let (_, state, _) = restored(wal.into_disk());
    assert_eq!(state.entries.len(), 20);
}

/// A log with three segments, a snapshot and a vote, ended cleanly.
fn sample() -> (SimDisk, Restored) {
    let mut disk = disk(5);
    let (mut wal, _) = Wal::open(&mut disk, ME).expect("it works here");
    let vote = Some(MemberId(2));
    wal.submit(&mut vec![(IoSeq(1), Write::HardState { term: Term(3), vote })]);
    for seq in 2..=9 {
        let entries = (0..20).map(|n| entry(3, (seq - 2) * 20 + n + 1, &[9; 30])).collect();
        wal.submit(&mut vec![(IoSeq(seq), Write::Append(entries))]);
        settle(wal.disk_mut());
    }
    let snapshot = snapshot(LogId::new(3, 20));
    let drop_to = quorate_raft::Index(10);
    wal.submit(&mut vec![(IoSeq(10), Write::Snapshot { snapshot, drop_to })]);
    settle(wal.disk_mut());
    wal.submit(&mut vec![(IoSeq(11), Write::HardState { term: Term(4), vote: None })]);
    settle(wal.disk_mut());
    wal.close();
    disk.crash(0, true);
    let (_, state, verdict) = restored(disk.clone());
    assert_eq!(verdict, Verdict::Clean);
    assert_eq!((state.term, state.entries.len()), (Term(4), 140));
    (disk, state)
}

fn same(a: &Restored, b: &Restored) -> bool {
    (a.term, a.vote, &a.snapshot, &a.entries) == (b.term, b.vote, &b.snapshot, &b.entries)
}

fn damaged(mut disk: SimDisk, file: FileName, at: u64, byte: u8) -> (Restored, Verdict) {
    disk.overwrite(file, at, &[byte]).expect("it works here");
    let (_, state, verdict) = restored(disk);
    (state, verdict)
}

#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let (disk, state) = sample();
    let names = disk.list().unwrap();
    let (mut found, mut harmless) = (0, 0);
    for file in names.iter().filter_map(|name| FileName::parse(name)) {
        let bytes = disk.read(file).unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            // Inside a long row of zeros one bit in 64 bytes will do.
            let from = at.saturating_sub(8);
            if at % 64 != 0 && bytes[from..bytes.len().min(at + 9)].iter().all(|b| *b == 0) {
                continue;
            }
            let bit = 1 << (at % 8);
            let offset = u64::try_from(at).unwrap();
            let (after, verdict) = damaged(disk.clone(), file, offset, byte ^ bit);
            if matches!(verdict, Verdict::Unfit { .. }) {
                found += 1;
            } else {
                assert!(same(&after, &state), "{file} byte {at}: {verdict:?}");
                harmless += 1;
            }
        }
    }
    assert!(found > 10_000 && harmless > 100, "{found} found, {harmless} harmless");
}

#[test]
fn a_cut_file_is_found() {
    let (disk, _) = sample();
    for file in disk.list().unwrap().iter().filter_map(|name| FileName::parse(name)) {
        let size = disk.size(file).unwrap();
        for bytes in [0, 1, 511, 512, 4096, size - 1] {
            let mut disk = disk.clone();
            disk.truncate(file, bytes.min(size - 1)).unwrap();
            let (_, _, verdict) = restored(disk);
            // Only the segment that was not begun holds nothing.
            let spare = file == FileName::Log(4) && bytes >= 4096;
            assert!(matches!(verdict, Verdict::Unfit { .. }) || spare, "{file} {bytes}");
        }
    }
}

#[test]
fn a_missing_file_is_found() {
    let (disk, _) = sample();
    let names = disk.list().unwrap();
    assert!(names.iter().filter(|name| name.starts_with("log-")).count() >= 3, "{names:?}");
    for file in names.iter().filter_map(|name| FileName::parse(name)) {
        let mut disk = disk.clone();
        disk.remove(file);
        let (_, _, verdict) = restored(disk);
        let spare = file == FileName::Log(4);
        assert!(matches!(verdict, Verdict::Unfit { .. }) || spare, "{file}: {verdict:?}");
    }
}

#[test]
fn a_log_of_another_member_is_found() {
    let (disk, _) = sample();
    let (_, recovered) = Wal::open(disk, MemberId(8)).unwrap();
    let Verdict::Unfit { reason } = recovered.verdict else { panic!() };
    assert!(reason.contains("does not belong here"), "{reason}");
}

#[test]
fn a_log_that_is_gone_is_not_a_new_one() {
    let mut disk = disk(1);
    disk.set_expects_log(true);
    let (_, _, verdict) = restored(disk);
    assert!(matches!(verdict, Verdict::Unfit { .. }), "{verdict:?}");
}

#[test]
fn an_unfit_log_is_not_touched() {
    let (mut disk, _) = sample();
    disk.remove(FileName::Log(2));
    let (hash, names) = (disk.hash(), disk.list().unwrap());
    let (disk, _, verdict) = restored(disk);
    assert!(matches!(verdict, Verdict::Unfit { .. }));
    assert_eq!((disk.hash(), disk.list().unwrap()), (hash, names));
}

/// Two records that were written and not synced when the process ended, cut at every byte.
#[test]
fn the_last_two_records_may_be_cut_anywhere() {
    let mut disk = disk(1);
    let (mut wal, _) = Wal::open(&mut disk, ME).unwrap();
    let entries = |indexes: std::ops::RangeInclusive<u64>| {
        Write::Append(indexes.map(|index| entry(1, index, b"payload")).collect())
    };
    wal.submit(&mut vec![(IoSeq(1), entries(1..=3))]);
    settle(wal.disk_mut());
    let synced = wal.disk().read(FileName::Log(1)).unwrap();
    wal.disk_mut().cut_after(Some(1));
    wal.submit(&mut vec![(IoSeq(2), entries(4..=5))]);
    settle(wal.disk_mut());
    disk.crash(0, false);
    let written = disk.read(FileName::Log(1)).unwrap();
    let differs = |at: &usize| synced[*at] != written[*at];
    let start = (0..written.len()).find(differs).unwrap();
    let end = (0..written.len()).rfind(differs).unwrap() + 1;
    let record = 20 + 17 + 7;
    assert!(end - start <= 2 * record && end - start > record);
    for cut in start..=end {
        let mut disk = disk.clone();
        let zeros = vec![0; end - cut + 1];
        disk.overwrite(FileName::Log(1), u64::try_from(cut).unwrap(), &zeros).unwrap();
        let (disk, state, verdict) = restored(disk);
        assert!(!matches!(verdict, Verdict::Unfit { .. }), "{verdict:?}");
        let count = state.entries.len();
        assert!((3..=5).contains(&count) && (count == 5) == (cut == end), "{count} at {cut}");
        let (_, again, verdict) = restored(disk);
        assert!(same(&again, &state) && verdict == Verdict::Clean);
    }
}

/// The first record of the lost batch is lost, the second is not; the next life writes the first
/// one again, bit for bit. The second must not follow it.
#[test]
fn what_lies_behind_a_cut_never_comes_back() {
    let mut disk = disk(1);
    let (mut wal, _) = Wal::open(&mut disk, ME).unwrap();
    wal.submit(&mut vec![(IoSeq(1), Write::Append(vec![entry(1, 1, b"kept")]))]);
    settle(wal.disk_mut());
    wal.disk_mut().cut_after(Some(1));
    let before = wal.disk().read(FileName::Log(1)).unwrap();
    let lost = Write::Append(vec![entry(1, 2, &[5; 2000]), entry(1, 3, b"ghost")]);
    wal.submit(&mut vec![(IoSeq(2), lost)]);
    settle(wal.disk_mut());
    disk.crash(0, false);
    let after = disk.read(FileName::Log(1)).unwrap();
    let start = (0..after.len()).find(|at| before[*at] != after[*at]).unwrap();
    let sector = start / 512 * 512;
    let zeros = vec![0; sector + 512 - start];
    disk.overwrite(FileName::Log(1), u64::try_from(start).unwrap(), &zeros).unwrap();
    let (mut wal, recovered) = Wal::open(&mut disk, ME).unwrap();
    assert_eq!(recovered.restored.entries.len(), 1);
    wal.submit(&mut vec![(IoSeq(1), Write::Append(vec![entry(1, 2, &[5; 2000])]))]);
    settle(wal.disk_mut());
    disk.crash(0, true);
    let (_, state, _) = restored(disk);
    assert_eq!(state.entries.len(), 2);
}

/// Term and vote outlive the segments that recorded them.
#[test]
fn recycling_keeps_term_and_vote() {
    let mut disk = disk(1);
    let (mut wal, _) = Wal::open(&mut disk, ME).unwrap();
    let vote = Some(MemberId(3));
    wal.submit(&mut vec![(IoSeq(1), Write::HardState { term: Term(5), vote })]);
    settle(wal.disk_mut());
    let mut seq = 1;
    for index in 1..=400 {
        seq += 1;
        wal.submit(&mut vec![(IoSeq(seq), Write::Append(vec![entry(1, index, &[1; 200])]))]);
        settle(wal.disk_mut());
        if index % 50 == 0 {
            seq += 1;
            let snapshot = snapshot(LogId::new(1, index));
            let drop_to = snapshot.last.index;
            wal.submit(&mut vec![(IoSeq(seq), Write::Snapshot { snapshot, drop_to })]);
            settle(wal.disk_mut());
        }
    }
    let names = disk.list().unwrap();
    assert!(names.len() <= 8 && !names.contains(&FileName::Log(1).to_string()), "{names:?}");
    disk.crash(0, true);
    let (disk, state, verdict) = restored(disk);
    assert_eq!((state.term, state.vote, verdict), (Term(5), vote, Verdict::Clean));
    assert!(state.snapshot.is_some_and(|snapshot| snapshot.last.index.0 >= 350));
    assert!(disk.used() < 8 * SEGMENT);
}

/// Vote in term 5, a snapshot of term 4 that replaces the log, a crash: the vote is still there.
#[test]
fn an_install_keeps_the_vote() {
    let mut disk = disk(1);
    let (mut wal, _) = Wal::open(&mut disk, ME).unwrap();
    let vote = Some(MemberId(1));
    wal.submit(&mut vec![(IoSeq(1), Write::HardState { term: Term(5), vote })]);
    settle(wal.disk_mut());
    let install = Write::Install { snapshot: snapshot(LogId::new(4, 90)), keep_suffix: false };
    wal.submit(&mut vec![(IoSeq(2), install)]);
    assert_eq!(settle(wal.disk_mut()), Some(IoSeq(2)));
    disk.crash(0, true);
    let (_, state, _) = restored(disk);
    assert_eq!((state.term, state.vote), (Term(5), vote));
    assert_eq!(state.snapshot, Some(snapshot(LogId::new(4, 90))));
}

/// No room for the segment after the next: said so, the rest still goes on; room: said so.
#[test]
fn a_full_disk_leaves_a_reserve_and_recovers() {
    let mut disk = disk(1);
    disk.set_capacity(3 * SEGMENT);
    let (mut wal, _) = Wal::open(disk, ME).unwrap();
    settle(wal.disk_mut());
    assert!(!wal.full());
    let mut seq = 0;
    let mut index = 0;
    let mut grow = |wal: &mut Wal<SimDisk>| {
        (seq, index) = (seq + 1, index + 1);
        let write = Write::Append(vec![entry(1, index, &[2; 300])]);
        wal.submit(&mut vec![(IoSeq(seq), write)]);
        let now = wal.disk_mut().next_completion().unwrap();
        let mut durable = wal.disk_mut().completed(now);
        while durable.is_none_or(|durable| durable.0 < seq) {
            let now = wal.disk_mut().next_completion().unwrap();
            durable = wal.disk_mut().completed(now);
        }
    };
    while !wal.full() {
        grow(&mut wal);
    }
    assert_eq!(wal.disk_mut().space_changed(), Some(true));
    // Nearly a whole segment is left for what must go on.
    for _ in 0..8 {
        grow(&mut wal);
    }
    let skipped = Write::Snapshot { snapshot: snapshot(LogId::new(1, 5)), drop_to: 5.into_index() };
    seq += 1;
    wal.submit(&mut vec![(IoSeq(seq), skipped)]);
    let second = Time(10_000_000_000);
    wal.disk_mut().set_now(second);
    assert!(wal.full() && wal.stats().skipped_snapshots() == 1);
    wal.disk_mut().set_capacity(0);
    wal.disk_mut().set_now(second.after(2_000_000_000));
    assert!(!wal.full());
    assert_eq!(wal.disk_mut().space_changed(), Some(false));
    let mut disk = wal.into_disk();
    disk.crash(0, true);
    let (_, state, verdict) = restored(disk);
    assert_eq!(verdict, Verdict::Clean);
    assert_eq!(state.entries.len(), usize::try_from(index).unwrap());
}

trait IntoIndex {
    fn into_index(self) -> quorate_raft::Index;
}

impl IntoIndex for u64 {
    fn into_index(self) -> quorate_raft::Index {
        quorate_raft::Index(self)
    }
}

#[test]
fn a_clean_end_is_durable_without_a_further_sync() {
    let mut disk = disk(1);
    let (mut wal, _) = Wal::open(&mut disk, ME).unwrap();
    wal.submit(&mut vec![(IoSeq(1), Write::Append(vec![entry(1, 1, b"x")]))]);
    wal.close();
    let marked = disk.read(FileName::Log(1)).unwrap();
    disk.crash(3, true);
    assert_eq!(disk.read(FileName::Log(1)).unwrap(), marked);
}

#[test]
fn names_are_read_as_they_are_written() {
    let names = [
        FileName::Log(1),
        FileName::Spare(u64::MAX),
        FileName::Draft(0),
        FileName::Snapshot(LogId::new(3, 0xabc)),
    ];
    for name in names {
        assert_eq!(FileName::parse(&name.to_string()), Some(name));
    }
    for foreign in ["log-1", "log-000000000000000G", "log-", "snapshot-0000000000000001", "lock"] {
        assert_eq!(FileName::parse(foreign), None);
    }
    let text = FileName::Log(1).to_string();
    assert_eq!(text, "log-0000000000000001");
}
