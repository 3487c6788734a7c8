//! The log and its directory on real files.

use quorate_raft::{Entry, Index, IoSeq, Kind, LogId, MemberId, Snapshot, Term, Write};
use quorate_sidecar::peer::known::{self, Known, Met, Refusal};
use quorate_sidecar::wal::{
    Boot, Completion, DataDir, FsDisk, FsOptions, OpenError, Recovered, Verdict, Wal, inspect,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const SMALL: u64 = 64 * 1024;

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("quorate-wal-{}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("it works here");
        Scratch(path)
    }

    fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

struct Log {
    wal: Wal<FsDisk>,
    recovered: Recovered,
    completions: Receiver<Completion>,
    directory: DataDir,
}

fn open(path: &Path) -> Log {
    let mut directory = DataDir::open(path, Duration::ZERO).expect("it works here");
    let (sender, completions) = channel();
    let options = FsOptions { segment_bytes: SMALL, ..FsOptions::default() };
    let report = Box::new(move |completion| drop(sender.send(completion)));
    let (wal, recovered) = directory.open_log(options, report).expect("it works here");
    Log { wal, recovered, completions, directory }
}

impl Log {
    fn write(&mut self, seq: u64, write: Write) {
        self.wal.submit(&mut vec![(IoSeq(seq), write)]);
    }

    fn wait(&self, seq: u64) {
        loop {
            match self.completions.recv_timeout(Duration::from_secs(20)).expect("it works here") {
                Completion::Durable(durable) if durable.0 >= seq => return,
                Completion::Durable(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn entries(&self) -> usize {
        self.recovered.restored.entries.len()
    }
}

fn entries(indexes: std::ops::RangeInclusive<u64>, bytes: usize) -> Write {
    let payload = vec![7; bytes];
    let entry = |index| Entry::new(LogId::new(2, index), Kind::Command, &payload);
    Write::Append(indexes.map(entry).collect())
}

fn snapshot(index: u64) -> Snapshot {
    let last = LogId::new(2, index);
    Snapshot { last, configuration: Default::default(), data: vec![1; 5000].into() }
}

#[test]
fn what_was_written_is_there_after_a_clean_stop_and_after_none() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    assert_eq!(log.recovered.verdict, Verdict::Blank);
    let vote = Some(MemberId(9));
    log.write(1, Write::HardState { term: Term(2), vote });
    log.write(2, entries(1..=10, 100));
    log.wait(2);
    assert!(log.wal.stats().flushes() >= 1 && log.wal.stats().written_bytes() > 1000);
    log.wal.close();
    drop(log.directory);
    let mut log = open(&scratch.data());
    assert_eq!((&log.recovered.verdict, log.entries()), (&Verdict::Clean, 10));
    assert_eq!((log.recovered.restored.term, log.recovered.restored.vote), (Term(2), vote));
    log.write(1, entries(11..=12, 100));
    log.wait(1);
    drop(log);
    let log = open(&scratch.data());
    assert_eq!((&log.recovered.verdict, log.entries()), (&Verdict::Clean, 12));
}

#[test]
fn segments_are_recycled_and_snapshots_replaced() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    let mut seq = 0;
    for round in 1..=20 {
        for batch in 0..5 {
            seq += 1;
            let first = (round - 1) * 50 + batch * 10 + 1;
            log.write(seq, entries(first..=first + 9, 1000));
        }
        log.wait(seq);
        seq += 1;
        let snapshot = snapshot(round * 50);
        log.write(seq, Write::Snapshot { snapshot, drop_to: Index(round * 50) });
        log.wait(seq);
    }
    log.wal.close();
    drop(log.directory);
    let names: Vec<_> = fs::read_dir(scratch.data()).unwrap().map(|e| e.unwrap()).collect();
    assert!(names.len() < 15, "a megabyte of entries, and what is left of it: {names:?}");
    let log = open(&scratch.data());
    let restored = &log.recovered.restored;
    assert_eq!(log.recovered.verdict, Verdict::Clean);
    let covered = restored.snapshot.as_ref().unwrap().last.index.0;
    assert_eq!(covered + u64::try_from(log.entries()).unwrap(), 1000);
}

#[test]
fn an_installed_snapshot_replaces_the_log() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    log.write(1, entries(1..=10, 10));
    log.write(2, Write::Install { snapshot: snapshot(500), keep_suffix: false });
    log.write(3, entries(501..=502, 10));
    log.wait(3);
    drop(log);
    let log = open(&scratch.data());
    assert_eq!(log.recovered.restored.snapshot, Some(snapshot(500)));
    assert_eq!(log.entries(), 2);
}

#[test]
fn many_small_writes_share_syncs() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    for seq in 1..=2000 {
        log.write(seq, entries(seq..=seq, 20));
    }
    log.wait(2000);
    let flushes = log.wal.stats().flushes();
    assert!(flushes < 1500, "{flushes} syncs");
    drop(log);
    assert_eq!(open(&scratch.data()).entries(), 2000);
}

#[test]
fn a_second_process_is_refused_and_a_patient_one_gets_the_lock() {
    let scratch = Scratch::new();
    let path = scratch.data();
    let first = DataDir::open(&path, Duration::ZERO).unwrap();
    let error = DataDir::open(&path, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains("another process") && text.contains(path.to_str().unwrap()), "{text}");
    let (ready, started) = channel();
    let waiting = path.clone();
    let second = std::thread::spawn(move || {
        ready.send(()).unwrap();
        DataDir::open(&waiting, Duration::from_secs(20)).unwrap().boot().seq
    });
    started.recv().unwrap();
    drop(first);
    assert_eq!(second.join().unwrap(), 2, "a refused opening is no boot");
}

#[test]
fn an_identity_is_made_once_and_remembers_boots() {
    let scratch = Scratch::new();
    let mut member = None;
    for seq in 1..=70 {
        let directory = DataDir::open(&scratch.data(), Duration::ZERO).unwrap();
        let first = *member.get_or_insert(directory.member_id());
        assert!(first == directory.member_id() && first.0 != 0);
        assert_eq!((directory.boot().seq, directory.cluster_id()), (seq, None));
        assert_eq!(directory.boots().last(), Some(&directory.boot()));
    }
    let mut directory = DataDir::open(&scratch.data(), Duration::ZERO).unwrap();
    assert_eq!((directory.boots().len(), directory.boots()[0].seq), (64, 8));
    directory.set_cluster_id(5).unwrap();
    directory.set_cluster_id(5).unwrap();
    assert!(matches!(directory.set_cluster_id(6), Err(OpenError::OtherCluster { .. })));
    drop(directory);
    let directory = DataDir::open(&scratch.data(), Duration::ZERO).unwrap();
    assert_eq!(directory.cluster_id(), Some(5));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(scratch.data()).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o770);
}

/// A start of a member, and what stands in its list of boots.
fn start(path: &Path, shows: bool) -> Vec<Boot> {
    let (directory, unshown) = DataDir::hold(path, Duration::ZERO)
        .expect("the directory is free")
        .begin()
        .expect("it can be written");
    if shows {
        unshown.show().expect("it can be written");
    }
    directory.boots().to_vec()
}

/// What a peer makes of a start of this member.
fn judge(peer: &mut Known, boots: &[Boot]) -> Result<Met, Refusal> {
    let seen = |boot: &Boot| known::Boot { seq: boot.seq, bits: boot.bits };
    let boots: Vec<known::Boot> = boots.iter().map(seen).collect();
    peer.meet(MemberId(7), boots[boots.len() - 1], &boots, |_| true)
}

#[test]
fn boots_that_nobody_saw_leave_no_trace_but_their_number() {
    let scratch = Scratch::new();
    let path = scratch.data();
    drop(DataDir::hold(&path, Duration::ZERO).unwrap());
    assert!(!path.join("identity").exists(), "to hold a directory is no boot");
    let (first, mut peer) = (start(&path, true), Known::default());
    assert_eq!(judge(&mut peer, &first), Ok(Met::AsBefore));
    for seq in 2..=80 {
        let boots = start(&path, false);
        assert_eq!((&boots[..boots.len() - 1], boots[boots.len() - 1].seq), (&first[..], seq));
    }
    let second = start(&path, true);
    assert_eq!((second.len(), second[0], second[1].seq), (2, first[0], 81));
    assert_eq!(judge(&mut peer, &second), Ok(Met::Restarted), "an honest disk");
    // Shown ones stay to the limit, and those between them push none of them out.
    let mut shown = second;
    for seq in 1..=70 {
        (0..3).for_each(|_| drop(start(&path, false)));
        shown = start(&path, true);
        assert_eq!(shown[shown.len() - 1].seq, 81 + 4 * seq);
    }
    assert_eq!((shown.len(), shown[0].seq), (64, 81 + 4 * 7));
}

/// What a peer pinned is on the disk as shown; a disk from before does not know it, and never will.
#[test]
fn a_disk_put_back_to_before_its_boot_was_shown_lacks_that_boot() {
    let scratch = Scratch::new();
    let path = scratch.data();
    let first = start(&path, true);
    let (directory, unshown) = DataDir::hold(&path, Duration::ZERO).unwrap().begin().unwrap();
    let before = fs::read(path.join("identity")).unwrap();
    unshown.show().unwrap();
    let after = fs::read(path.join("identity")).unwrap();
    unshown.show().unwrap();
    assert!(before != after && fs::read(path.join("identity")).unwrap() == after);
    let (pinned, mut peer) = (directory.boot(), Known::default());
    assert_eq!(judge(&mut peer, directory.boots()), Ok(Met::AsBefore));
    drop(directory);
    let gone = unshown.show().expect_err("another process may hold it by now");
    assert!(!gone.is_failure(), "{gone}");
    assert!(start(&path, false).contains(&pinned));
    fs::write(path.join("identity"), before).unwrap();
    let back: Vec<Vec<Boot>> = (0..70).map(|_| start(&path, true)).collect();
    assert!(back[0].starts_with(&first) && !back.iter().any(|boots| boots.contains(&pinned)));
    let refused = Err(Refusal::Forgot { known: pinned.seq });
    assert!(back.iter().all(|boots| judge(&mut peer, boots) == refused));
}

#[test]
fn an_identity_that_cannot_be_stored_is_a_failure() {
    let scratch = Scratch::new();
    let path = scratch.data();
    let (mut directory, unshown) = DataDir::hold(&path, Duration::ZERO).unwrap().begin().unwrap();
    directory.set_cluster_id(5).unwrap();
    let refused = directory.set_cluster_id(6).expect_err("it has one");
    assert!(!refused.is_failure(), "{refused}");
    fs::create_dir(path.join("identity.new")).unwrap();
    let failed = unshown.show().expect_err("its file cannot be opened");
    assert!(failed.is_failure() && !failed.is_full(), "{failed}");
}

/// A cluster and a shown boot are stored by different threads: neither undoes the other.
#[test]
fn what_the_identity_says_and_that_its_boot_is_shown_are_stored_side_by_side() {
    let scratch = Scratch::new();
    let path = scratch.data();
    let (mut directory, unshown) = DataDir::hold(&path, Duration::ZERO).unwrap().begin().unwrap();
    let shows = std::thread::spawn(move || unshown.show().unwrap());
    directory.set_cluster_id(5).unwrap();
    shows.join().unwrap();
    let boot = directory.boot();
    drop(directory);
    let (directory, unshown) = DataDir::hold(&path, Duration::ZERO).unwrap().begin().unwrap();
    assert_eq!((directory.cluster_id(), directory.boots()[0]), (Some(5), boot));
    unshown.show().unwrap();
    let mut directory = directory;
    let options = FsOptions { segment_bytes: SMALL, ..FsOptions::default() };
    drop(directory.open_log(options, Box::new(drop)).unwrap());
    drop(directory);
    assert_eq!(start(&path, false).len(), 3, "shown is shown, whatever else is stored after it");
}

#[test]
fn a_damaged_identity_is_refused_at_every_byte() {
    let scratch = Scratch::new();
    drop(DataDir::open(&scratch.data(), Duration::ZERO).unwrap());
    let file = scratch.data().join("identity");
    let good = fs::read(&file).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        fs::write(&file, &bad).unwrap();
        let error = DataDir::open(&scratch.data(), Duration::ZERO).unwrap_err();
        assert!(matches!(error, OpenError::IdentityDamaged { .. }), "byte {at}: {error}");
    }
    fs::write(&file, &good[..good.len() - 1]).unwrap();
    assert!(DataDir::open(&scratch.data(), Duration::ZERO).is_err());
}

#[test]
fn a_log_without_identity_and_an_identity_without_log_are_no_new_members() {
    let scratch = Scratch::new();
    drop(open(&scratch.data()));
    let identity = scratch.data().join("identity");
    let kept = fs::read(&identity).unwrap();
    fs::remove_file(&identity).unwrap();
    let error = DataDir::open(&scratch.data(), Duration::ZERO).unwrap_err();
    assert!(matches!(error, OpenError::IdentityMissing(_)), "{error}");
    assert!(!identity.exists());
    fs::write(&identity, kept).unwrap();
    for entry in fs::read_dir(scratch.data()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("log-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let log = open(&scratch.data());
    let Verdict::Unfit { reason } = &log.recovered.verdict else { panic!() };
    assert!(reason.contains("the log is gone"), "{reason}");
}

#[test]
fn a_path_that_cannot_be_a_data_directory_is_refused() {
    let scratch = Scratch::new();
    let missing = scratch.0.join("no").join("data");
    let error = DataDir::open(&missing, Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains(missing.to_str().unwrap()), "{error}");
    let file = scratch.0.join("file");
    fs::write(&file, "x").unwrap();
    let error = DataDir::open(&file, Duration::ZERO).unwrap_err();
    assert!(matches!(error, OpenError::NotADirectory(_)), "{error}");
}

/// The file that the leader's snapshot is made in is a device without room; made anew, it is not.
fn without_room(data: &Path) {
    let draft = data.join("draft-0000000000000002");
    std::os::unix::fs::symlink("/dev/full", draft).expect("the folder is there");
}

#[test]
fn an_install_without_room_is_tried_again() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    log.write(1, entries(1..=3, 10));
    log.wait(1);
    without_room(&scratch.data());
    log.write(2, Write::Install { snapshot: snapshot(500), keep_suffix: false });
    log.write(3, entries(501..=502, 10));
    let next = || log.completions.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(next(), Completion::Space { full: true });
    assert!(log.wal.full());
    assert_eq!(next(), Completion::Space { full: false });
    assert_eq!(next(), Completion::Durable(IoSeq(2)));
    assert_eq!(next(), Completion::Durable(IoSeq(3)));
    assert!(!log.wal.full());
    log.wal.close();
    drop(log.directory);
    let log = open(&scratch.data());
    assert_eq!(log.recovered.restored.snapshot, Some(snapshot(500)));
    assert_eq!(log.entries(), 2);
}

#[test]
fn an_install_without_room_at_the_end_is_a_failure() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    without_room(&scratch.data());
    log.write(1, Write::Install { snapshot: snapshot(500), keep_suffix: false });
    log.wal.close();
    let told: Vec<Completion> = log.completions.try_iter().collect();
    let failed = matches!(told.last(), Some(Completion::Failed(why)) if why.contains("draft-"));
    assert!(failed && !told.contains(&Completion::Durable(IoSeq(1))), "{told:?}");
    drop(log.directory);
    assert_eq!(open(&scratch.data()).recovered.restored.snapshot, None);
}

#[test]
fn a_disk_that_fails_says_so_once_and_completes_nothing() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    log.write(1, entries(1..=1, 10));
    log.wait(1);
    // The next segment cannot be made, nor can anything else: the directory is gone.
    fs::remove_dir_all(scratch.data()).unwrap();
    log.write(2, Write::Install { snapshot: snapshot(9), keep_suffix: false });
    let completion = log.completions.recv_timeout(Duration::from_secs(20)).unwrap();
    let Completion::Failed(why) = completion else { panic!("{completion:?}") };
    assert!(why.contains("draft-"), "{why}");
    log.write(3, Write::HardState { term: Term(3), vote: None });
    log.wal.close();
    assert!(log.completions.try_recv().is_err());
}

#[test]
fn inspection_shows_records_and_writes_nothing() {
    let scratch = Scratch::new();
    let mut log = open(&scratch.data());
    log.write(1, Write::HardState { term: Term(2), vote: Some(MemberId(4)) });
    log.write(2, entries(1..=2, 3));
    log.wait(2);
    let names = || {
        let all = fs::read_dir(scratch.data()).unwrap().map(|e| e.unwrap().path());
        let mut all: Vec<_> = all.map(|path| (fs::read(&path).unwrap(), path)).collect();
        all.sort();
        all
    };
    log.wal.close();
    let before = names();
    let mut out = Vec::new();
    inspect(&scratch.data(), &mut out, &|payload| format!("<{payload:?}>")).unwrap();
    assert_eq!(names(), before);
    let text = String::from_utf8(out).unwrap();
    let member = log.directory.member_id().to_string();
    for part in
        ["term 2, vote 4", "entry 2.1 command, 3 bytes: <[7, 7, 7]>", "verdict: clean", &member]
    {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}
