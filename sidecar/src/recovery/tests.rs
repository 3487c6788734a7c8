//! Recoveries and restores on real directories, without a process.

use super::*;
use crate::wal::{FsOptions, OpenError};
use quorate_locks::{
    Attachment, Claim, Command, Generation, Key, Mode, NameKind, RequestId, SessionId,
};
use quorate_raft::{IoSeq, Snapshot, Term};
use std::path::PathBuf;
use std::time::Duration;

const OLD: u128 = 0xaa;
const NEW: u128 = 0xbb;
const EPOCH: u16 = 9;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("quorate-recovery-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path); // Of an earlier process of this number.
        Scratch(path)
    }

    fn open(&self) -> DataDir {
        DataDir::open(&self.0, Duration::ZERO).expect("opened")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // What stays is in the system's place for it.
    }
}

fn command(index: u64, command: &Command) -> Entry {
    Entry::new(LogId::new(2, index), Kind::Command, &command.encode())
}

/// The log of one of three: the start, one session, and one entry that is only appended here.
fn entries(me: MemberId) -> Vec<Entry> {
    let names = [(me, "a"), (MemberId(2), "b"), (MemberId(3), "c")];
    let group = Configuration::of_voters(names.map(|(id, name)| (id, name.to_owned())));
    let start = Command::Start { epoch: EPOCH, last_n: 100 };
    let first = [group.encode(), start.encode()].concat();
    let attachment = Attachment { member: me.0, boot: 1 };
    let (ttl_ms, label) = (5_000, String::new());
    let open = |key| Command::Open { key: Key(key), ttl_ms, attachment, label: label.clone() };
    vec![
        Entry::new(LogId::new(1, 1), Kind::Configuration, &first),
        command(2, &open(1)),
        command(3, &open(2)),
    ]
}

/// Writes a log as a member that crashed leaves it.
fn written(scratch: &Scratch, entries: Vec<Entry>) -> MemberId {
    let mut directory = scratch.open();
    directory.set_cluster_id(OLD).expect("blank");
    let entries = if entries.is_empty() { self::entries(directory.member_id()) } else { entries };
    let opened = directory.open_log(FsOptions::default(), Box::new(|_| {})).expect("opened");
    let (mut wal, _) = opened;
    let state = Write::HardState { term: Term(2), vote: Some(MemberId(2)) };
    wal.submit(&mut vec![(IoSeq(1), Write::Append(entries)), (IoSeq(2), state)]);
    wal.close();
    directory.member_id()
}

fn plan(start: Start) -> Plan {
    Plan { cluster: NEW, start, hold_off_ms: 7_000 }
}

fn life(epoch: u16, last_n: u64) -> Start {
    Start::Given(Life { epoch, last_n })
}

/// What a member that starts on it finds.
fn found(scratch: &Scratch) -> (Node, Machine, Option<u128>) {
    let mut directory = scratch.open();
    let (member, cluster) = (directory.member_id(), directory.cluster_id());
    let opened = directory.open_log(FsOptions::default(), Box::new(|_| {})).expect("opened");
    let (wal, recovered) = opened;
    wal.close();
    let survivor = Survivor::replay(member, &recovered.restored).expect("it has a group");
    (survivor.node, survivor.machine, cluster)
}

#[test]
fn a_survivor_goes_on_alone_with_all_that_it_has() {
    let scratch = Scratch::new("alone");
    let me = written(&scratch, Vec::new());
    let begun = recover(&mut scratch.open(), plan(life(EPOCH, 500))).expect("recovered");
    assert_eq!((begun.entry, begun.sessions), (LogId::new(3, 4), 2));
    assert_eq!((begun.member, begun.name.as_str()), (me, "a"));
    let (node, machine, cluster) = found(&scratch);
    assert_eq!(cluster, Some(NEW));
    assert_eq!(node.configuration().members().collect::<Vec<_>>(), [(me, "a")]);
    assert!(node.configuration().is_voter(me));
    assert_eq!((node.term(), node.vote()), (Term(3), None));
    assert_eq!((machine.session_count(), machine.hold_off_ms()), (0, Some(7_000)));
    assert_eq!(machine.life(), Token(u64::from(EPOCH) << 48 | 500));
}

fn open(index: u64, member: MemberId, ttl_ms: u32) -> Entry {
    let attachment = Attachment { member: member.0, boot: 1 };
    let key = Key(u128::from(index));
    command(index, &Command::Open { key, ttl_ms, attachment, label: String::new() })
}

fn claim(index: u64, session: u64) -> Entry {
    let claim = Claim {
        session: SessionId(session),
        generation: Generation(1),
        request: RequestId(1),
        lowest_unacked: RequestId(1),
        name: "n".to_owned(),
        kind: NameKind::Lock,
        mode: Mode::Exclusive,
        permits: 1,
        priority: 0,
        value: Vec::new(),
        queue: true,
    };
    command(index, &Command::Claim(claim))
}

/// A directory whose log has, after the start, sessions with these TTLs: two of this member that
/// hold and wait, one of it that does neither, one of another member that waits.
fn with_claims(scratch: &Scratch, [holds, waits, idle, other]: [u32; 4]) -> MemberId {
    let me = scratch.open().member_id();
    let mut log = entries(me);
    log.truncate(1);
    log.extend([open(2, me, holds), open(3, me, waits), open(4, me, idle)]);
    log.extend([open(5, MemberId(2), other), claim(6, 2), claim(7, 3), claim(8, 5)]);
    written(scratch, log)
}

/// Nor does anybody answer for pods that are no members, which may run anywhere.
#[test]
fn grants_wait_for_attached_applications() {
    let at_once = Plan { hold_off_ms: 0, ..plan(life(EPOCH, 500)) };
    let scratch = Scratch::new("own-attached");
    let me = scratch.open().member_id();
    let mut log = entries(me);
    log.truncate(1);
    log.extend([open(2, MemberId(2), 90_000), open(3, MemberId(99), 80_000)]);
    log.extend([claim(4, 2), claim(5, 3)]);
    written(&scratch, log);
    let begun = recover(&mut scratch.open(), at_once).expect("recovered");
    assert_eq!(begun.hold_off_ms, 80_000);
    assert_eq!(found(&scratch).1.hold_off_ms(), Some(80_000));
}

/// Nobody but they can know that applications of the survivor have stopped.
#[test]
fn grants_wait_for_the_survivors_own_applications() {
    let at_once = Plan { hold_off_ms: 0, ..plan(life(EPOCH, 500)) };
    for (ttls, own_ms) in
        [([60_000, 5_000, 90_000, 80_000], 60_000), ([5_000, 70_000, 90_000, 80_000], 70_000)]
    {
        let scratch = Scratch::new("own");
        with_claims(&scratch, ttls);
        let begun = recover(&mut scratch.open(), at_once).expect("recovered");
        assert_eq!(begun.hold_off_ms, own_ms);
        assert_eq!(scratch.open().forced().map(|forced| forced.own_ms), Some(own_ms));
        assert_eq!(found(&scratch).1.hold_off_ms(), Some(own_ms));
        let again = recover(&mut scratch.open(), at_once).expect("as before");
        assert_eq!(again.hold_off_ms, own_ms);
    }
    // Forced once more while they may still hold.
    let scratch = Scratch::new("own-again");
    with_claims(&scratch, [60_000, 5_000, 90_000, 80_000]);
    recover(&mut scratch.open(), at_once).expect("recovered");
    let once_more = Plan { cluster: NEW + 1, start: life(EPOCH, 600), ..at_once };
    let begun = recover(&mut scratch.open(), once_more).expect("recovered");
    assert_eq!(begun.hold_off_ms, 60_000);
    // A hold-off that was asked for stays, and what it must not end before is known.
    let scratch = Scratch::new("own-asked");
    with_claims(&scratch, [60_000, 5_000, 90_000, 80_000]);
    let begun = recover(&mut scratch.open(), plan(life(EPOCH, 500))).expect("recovered");
    assert_eq!(begun.hold_off_ms, 7_000);
    assert_eq!(scratch.open().forced().map(|forced| forced.own_ms), Some(60_000));
    // Nobody of this member holds or waits.
    let scratch = Scratch::new("own-none");
    written(&scratch, Vec::new());
    let begun = recover(&mut scratch.open(), at_once).expect("recovered");
    assert_eq!((begun.hold_off_ms, found(&scratch).1.hold_off_ms()), (0, None));
}

#[test]
fn the_same_plan_again_changes_nothing() {
    let scratch = Scratch::new("again");
    written(&scratch, Vec::new());
    for start in [life(EPOCH, 500), Start::Above(Token(0))] {
        let first = recover(&mut scratch.open(), plan(start)).expect("recovered");
        let again = recover(&mut scratch.open(), plan(start)).expect("as before");
        assert_eq!((again.entry, again.life), (first.entry, first.life));
    }
}

/// The group has grown since it was recovered.
fn joined(scratch: &Scratch, after: LogId) {
    let mut directory = scratch.open();
    let names = [(directory.member_id(), "a"), (MemberId(12), "b"), (MemberId(13), "c")];
    let group = Configuration::of_voters(names.map(|(id, name)| (id, name.to_owned())));
    let entry = Entry::new(
        LogId { index: after.index.next(), ..after },
        Kind::Configuration,
        &group.encode(),
    );
    let opened = directory.open_log(FsOptions::default(), Box::new(|_| {})).expect("opened");
    let (mut wal, _) = opened;
    wal.submit(&mut vec![(IoSeq(1), Write::Append(vec![entry]))]);
    wal.close();
}

#[test]
fn the_same_plan_again_leaves_those_who_joined_since() {
    for start in [life(EPOCH, 500), Start::Above(Token(0))] {
        let scratch = Scratch::new("joined");
        written(&scratch, Vec::new());
        let first = recover(&mut scratch.open(), plan(start)).expect("recovered");
        joined(&scratch, first.entry);
        let again = recover(&mut scratch.open(), plan(start)).expect("as before");
        assert_eq!((again.entry.index, again.life), (first.entry.index, first.life));
        let (node, _, cluster) = found(&scratch);
        assert_eq!((node.configuration().members().count(), cluster), (3, Some(NEW)));
    }
}

#[test]
fn a_cluster_begins_one_life_and_no_other() {
    let scratch = Scratch::new("one-life");
    written(&scratch, Vec::new());
    recover(&mut scratch.open(), plan(life(EPOCH, 500))).expect("recovered");
    let refused = recover(&mut scratch.open(), plan(life(EPOCH + 1, 0))).expect_err("refused");
    assert!(refused.to_string().contains("another new_cluster_id"), "{refused}");
    // A group that was never forced.
    let founded = Scratch::new("founded");
    written(&founded, Vec::new());
    let own = Plan { cluster: OLD, ..plan(Start::Above(Token(0))) };
    let refused = recover(&mut founded.open(), own).expect_err("refused");
    assert!(refused.to_string().contains("another new_cluster_id"), "{refused}");
    assert_eq!(found(&founded).0.configuration().members().count(), 3);
}

#[test]
fn a_crash_between_identity_and_log_is_gone_on_from() {
    let scratch = Scratch::new("between");
    written(&scratch, Vec::new());
    let mut directory = scratch.open();
    let forced = Forced { index: Index(4), life: u64::from(EPOCH) << 48 | 500, own_ms: 0 };
    let writes = vec![Write::HardState { term: Term(3), vote: None }];
    directory.rewrite(NEW, |_| Ok(Some(Rewrite { forced, writes }))).expect("");
    drop(directory);
    // Three voters still, and none of them will hear of it: it can do no harm.
    let (node, machine, cluster) = found(&scratch);
    assert_eq!((node.configuration().members().count(), cluster), (3, Some(NEW)));
    assert_eq!(machine.life(), Token(u64::from(EPOCH) << 48 | 100));
    let begun = recover(&mut scratch.open(), plan(life(EPOCH, 500))).expect("recovered");
    assert_eq!(begun.entry, LogId::new(4, 4));
    assert_eq!(found(&scratch).0.configuration().members().count(), 1);
}

#[test]
fn a_life_that_is_not_above_what_is_known_is_refused_and_changes_nothing() {
    let scratch = Scratch::new("low");
    written(&scratch, Vec::new());
    for start in [life(EPOCH, 100), life(EPOCH - 1, 1 << 40)] {
        let refused = recover(&mut scratch.open(), plan(start)).expect_err("refused");
        assert!(refused.to_string().contains("nothing was changed"), "{refused}");
    }
    let (node, _, cluster) = found(&scratch);
    assert_eq!((node.configuration().members().count(), cluster), (3, Some(OLD)));
}

#[test]
fn who_was_removed_or_never_had_a_part_cannot_be_recovered() {
    let scratch = Scratch::new("removed");
    let stranger = entries(MemberId(77));
    written(&scratch, stranger);
    let refused = recover(&mut scratch.open(), plan(Start::Above(Token(0)))).expect_err("refused");
    assert!(refused.to_string().contains("is no member of the membership"), "{refused}");
    let blank = Scratch::new("blank");
    let refused = recover(&mut blank.open(), plan(Start::Above(Token(0)))).expect_err("refused");
    assert!(refused.to_string().contains("no state of any group"), "{refused}");
}

#[test]
fn a_damaged_log_is_left_as_it_is() {
    let scratch = Scratch::new("unfit");
    written(&scratch, Vec::new());
    let segment = scratch.0.join("log-0000000000000001");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    // Within the first record.
    bytes[4096 + 30] ^= 1;
    std::fs::write(&segment, &bytes).expect("written");
    let refused = recover(&mut scratch.open(), plan(Start::Above(Token(0)))).expect_err("refused");
    assert!(matches!(refused, RewriteError::Unfit(_)), "{refused}");
    assert_eq!(std::fs::read(&segment).expect("a segment"), bytes);
    assert_eq!(scratch.open().cluster_id(), Some(OLD));
}

#[test]
fn a_backup_becomes_the_log_of_another_member() {
    let source = Scratch::new("source");
    let old = written(&source, Vec::new());
    let (node, machine, _) = found(&source);
    let snapshot = Snapshot {
        last: node.last(),
        configuration: node.configuration().clone(),
        data: machine.encode().into(),
    };
    let backup = Backup { cluster: OLD, member: old, made_unix_s: 5, snapshot };
    let target = Scratch::new("target");
    let mut directory = target.open();
    let me = directory.member_id();
    let begun = restore(&mut directory, &backup, "new", plan(Start::Above(Token(0))));
    let begun = begun.expect("restored");
    assert_eq!((begun.entry.index, begun.sessions), (Index(4), 2));
    let refused = restore(&mut directory, &backup, "new", plan(Start::Above(Token(0))));
    assert!(refused.expect_err("refused").to_string().contains("has a log already"));
    drop(directory);
    let (node, machine, cluster) = found(&target);
    assert_eq!(node.configuration().members().collect::<Vec<_>>(), [(me, "new")]);
    assert_eq!((cluster, machine.session_count()), (Some(NEW), 0));
    assert!(machine.last_token() > begun.known, "{begun:?}");
    assert_ne!(me, old);
}

#[test]
fn a_retired_member_stays_so() {
    let scratch = Scratch::new("retired");
    let directory = scratch.open();
    let retired = |of: &DataDir| of.is_retired().map_err(|error: OpenError| error.to_string());
    assert_eq!(retired(&directory), Ok(false));
    directory.retire().expect("retired");
    directory.retire().expect("again");
    drop(directory);
    assert_eq!(retired(&scratch.open()), Ok(true));
}
