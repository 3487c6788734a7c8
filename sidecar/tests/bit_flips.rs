//! One bit of a member's directory turns: that is found, or it changes nothing.
//!
//! Found: the log is refused with a reason, and not touched. Changes nothing: the recovered state
//! is the one of the directory before, and so it stays when the log goes on. `docs/wal-format.md`
//! leaves out the records behind the newest mark; nothing else is left out here.

#[path = "bit_flips/disks.rs"]
mod disks;
#[path = "bit_flips/machine.rs"]
mod machine;
#[path = "wal/model.rs"]
#[expect(dead_code, reason = "only its random numbers are used here")]
mod model;

use disks::{Base, ME, Region, bases, entries, restored, settle};
use machine::machine;
use model::Random;
use quorate_locks::Machine;
use quorate_raft::{IoSeq, Restored, Write};
use quorate_sidecar::wal::{
    DataDir, FileName, FsOptions, OpenError, SimDisk, Source, Verdict, Wal,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FLIPS: u64 = 10_000;

/// Found and harmless, by region.
type Tally = BTreeMap<&'static str, (u64, u64)>;

fn same(a: &Restored, b: &Restored) -> bool {
    (a.term, a.vote, &a.snapshot, &a.entries) == (b.term, b.vote, &b.snapshot, &b.entries)
}

fn place(random: &mut Random, from: usize, to: usize) -> usize {
    from + usize::try_from(random.below((to - from) as u64)).expect("below a usize")
}

fn flip(disk: &mut SimDisk, file: FileName, at: usize, bit: u64) {
    let byte = disk.read(file).expect("it works here")[at] ^ (1 << bit);
    disk.overwrite(file, at as u64, &[byte]).expect("it works here");
}

/// The log goes on over the turned bit: another entry, a power cut, and all is there.
fn goes_on(mut disk: SimDisk, state: &Restored) -> Result<(), String> {
    let (mut wal, _) = Wal::open(&mut disk, ME).map_err(|error| error.to_string())?;
    let last = state.entries.last().expect("the log has entries").id().index;
    let more = entries(last.0 + 1, 40, 300);
    let Write::Append(added) = more.clone() else { return Err("no entries".to_owned()) };
    wal.submit(&mut vec![(IoSeq(1), more)]);
    settle(wal.disk_mut());
    disk.crash(1, true);
    let (after, verdict) = restored(&mut disk);
    let expected = Restored { entries: [&state.entries[..], &added[..]].concat(), ..state.clone() };
    if same(&after, &expected) { Ok(()) } else { Err(format!("{verdict:?}")) }
}

/// Whether it was found; panics if an answer changed.
fn judge(base: &Base, region: &Region, at: usize, bit: u64) -> bool {
    let mut disk = base.disk.clone();
    flip(&mut disk, region.file, at, bit);
    let (before, names) = (disk.hash(), disk.list().expect("it works here"));
    let whole = disk.clone();
    let (state, verdict) = restored(&mut disk);
    let place = || format!("{}: {} byte {at} bit {bit}: {verdict:?}", base.name, region.file);
    if let Verdict::Unfit { reason } = &verdict {
        let untouched = disk.hash() == before && disk.list().expect("it works here") == names;
        assert!(!reason.is_empty() && untouched, "{}", place());
        return true;
    }
    assert!(same(&state, &base.state), "{}", place());
    if let Some(snapshot) = &state.snapshot {
        let found = Machine::decode(&snapshot.data);
        assert!(found.is_ok_and(|found| found == machine()), "{}", place());
    }
    if let Err(why) = goes_on(whole, &base.state) {
        panic!("{}, and then {why}", place());
    }
    false
}

#[test]
fn a_turned_bit_is_found_or_changes_nothing() {
    let bases = bases();
    let mut random = Random(2026);
    let mut tally = Tally::new();
    let mut turned = 0;
    while turned < FLIPS {
        let base = &bases[place(&mut random, 0, bases.len())];
        let region = &base.regions[place(&mut random, 0, base.regions.len())];
        let at = place(&mut random, region.bytes.start, region.bytes.end);
        if base.is_exempt(region.file, at) {
            continue;
        }
        let found = judge(base, region, at, random.below(8));
        let count = tally.entry(region.name).or_default();
        *(if found { &mut count.0 } else { &mut count.1 }) += 1;
        turned += 1;
    }
    for (region, (found, harmless)) in &tally {
        eprintln!("{found:6} found, {harmless:6} harmless: {region}");
    }
    for region in ["header", "records", "a snapshot's head", "a snapshot's state"] {
        assert!(tally[region].0 > 100 && tally[region].1 == 0, "{region}: {tally:?}");
    }
    assert!(tally.len() == 12, "a region is missing: {:?}", tally.keys());
    let total: (u64, u64) = tally.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    eprintln!("{:6} found, {:6} harmless, none changed an answer", total.0, total.1);
    assert_eq!(total.0 + total.1, FLIPS);
}

/// What is left out is exactly what is behind the newest mark, and even there nothing before it is
/// touched.
#[test]
fn what_is_left_out_loses_no_more_than_itself() {
    let mut left_out = 0;
    let mut cut = 0;
    for base in bases() {
        let (file, bytes) = base.exempt.clone();
        left_out += usize::from(!bytes.is_empty());
        for at in bytes {
            let mut disk = base.disk.clone();
            flip(&mut disk, file, at, at as u64 % 8);
            let (state, verdict) = restored(&mut disk);
            let count = state.entries.len();
            let prefix = state.entries[..] == base.state.entries[..count];
            let rest = Restored { entries: base.state.entries.clone(), ..state };
            assert!(prefix && same(&rest, &base.state) && count >= base.marked, "{verdict:?}");
            cut += u64::from(count < base.state.entries.len());
        }
    }
    assert!(left_out == 2 && cut > 100, "{left_out} of the disks, {cut} cut");
}

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("it works here");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn every_turned_bit_of_an_identity_is_found() {
    let scratch = Scratch::new("flips-identity");
    let path = scratch.0.join("data");
    for boot in 0..4 {
        let mut directory = DataDir::open(&path, Duration::ZERO).expect("it works here");
        if boot == 2 {
            directory.set_cluster_id(77).expect("it works here");
        }
    }
    let file = path.join("identity");
    let whole = std::fs::read(&file).expect("it works here");
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            std::fs::write(&file, &bytes).expect("it works here");
            let refused = DataDir::open(&path, Duration::ZERO);
            assert!(matches!(refused, Err(OpenError::IdentityDamaged { .. })), "byte {at}");
            assert_eq!(std::fs::read(&file).expect("it works here"), bytes, "it was touched");
        }
    }
    eprintln!("{:6} found: an identity", whole.len() * 8);
    std::fs::write(&file, &whole).expect("it works here");
    assert!(DataDir::open(&path, Duration::ZERO).is_ok());
}

fn open_real(path: &Path) -> (Restored, Verdict) {
    let mut directory = DataDir::open(path, Duration::ZERO).expect("it works here");
    let options = FsOptions { segment_bytes: 64 * 1024, ..FsOptions::default() };
    let (_, recovered) = directory.open_log(options, Box::new(drop)).expect("it works here");
    (recovered.restored, recovered.verdict)
}

/// Puts the files of `from` in place of all in `to`.
fn put_back(from: &BTreeMap<PathBuf, Vec<u8>>, to: &Path) {
    for entry in std::fs::read_dir(to).expect("it works here") {
        std::fs::remove_file(entry.expect("it works here").path()).expect("it works here");
    }
    for (path, bytes) in from {
        std::fs::write(path, bytes).expect("it works here");
    }
}

/// The same on real files, fewer: each bit costs an opening with its syncs.
#[test]
fn a_turned_bit_on_real_files_is_found_or_changes_nothing() {
    let scratch = Scratch::new("flips-files");
    let path = scratch.0.join("data");
    let mut directory = DataDir::open(&path, Duration::ZERO).expect("it works here");
    let options = FsOptions { segment_bytes: 64 * 1024, ..FsOptions::default() };
    let opened = directory.open_log(options, Box::new(drop)).expect("it works here");
    let mut wal = opened.0;
    wal.submit(&mut vec![(IoSeq(1), entries(1, 300, 300))]);
    let snapshot = disks::snapshot(quorate_raft::LogId::new(3, 290));
    wal.submit(&mut vec![(IoSeq(2), Write::Install { snapshot, keep_suffix: true })]);
    wal.close();
    drop(directory);
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&path).expect("it works here") {
        let path = entry.expect("it works here").path();
        let named = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            name.starts_with("log-") || name.starts_with("snapshot-") || name == "identity"
        });
        if named {
            files.insert(path.clone(), std::fs::read(&path).expect("it works here"));
        }
    }
    let state = open_real(&path).0;
    assert!(state.entries.len() == 10 && files.len() >= 4, "{:?}", files.keys());
    let logs: Vec<&PathBuf> = files.keys().filter(|path| !path.ends_with("identity")).collect();
    let mut random = Random(7);
    let (mut found, mut harmless) = (0, 0);
    for _ in 0..150 {
        let file = logs[place(&mut random, 0, logs.len())];
        let mut turned = files.clone();
        let bytes = turned.get_mut(file).expect("one of them");
        let at = place(&mut random, 0, bytes.len());
        bytes[at] ^= 1 << random.below(8);
        put_back(&turned, &path);
        let (after, verdict) = open_real(&path);
        if matches!(verdict, Verdict::Unfit { .. }) {
            found += 1;
        } else {
            assert!(same(&after, &state), "{} byte {at}: {verdict:?}", file.display());
            harmless += 1;
        }
    }
    eprintln!("{found:6} found, {harmless:6} harmless: on real files");
    assert!(found > 50, "{found} found, {harmless} harmless");
}

#[test]
fn the_machine_in_the_snapshot_is_not_empty() {
    assert!(machine().name_count() == 3 && machine().session_count() == 4);
}
