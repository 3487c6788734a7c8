//! Opening a log: read it, decide, and make what was read durable before anybody relies on it.
//!
//! Invariants: a log that is unfit is not touched; opening writes and syncs one record of its own
//! before anything else follows, behind a seal if the log goes on in another version, so that what
//! an earlier life left behind never continues the log.

use super::disk::{Batch, Disk, FileName, Op, wide};
use super::error::OpenError;
use super::format;
use super::log::{Retire, Sealed, Wal, prepared};
use super::survey::{Survey, Tail, survey};
use super::table::{Decision, Expected};
use quorate_raft::{IoSeq, LogId, MemberId, Restored};
use std::io;

/// What the disk had.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The state for a node; a blank one's if the verdict is `Blank` or `Unfit`.
    pub restored: Restored,
    /// What to think of it.
    pub verdict: Verdict,
}

/// What to think of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There was none. One is begun.
    Blank,
    /// It ends as it was written.
    Clean,
    /// Its end was being written when the machine stopped; nothing that was reported is lost.
    TornTail {
        /// The segment's number.
        segment: u64,
        /// Where in it the log was cut, in bytes.
        offset: u64,
        /// What lay there.
        detail: String,
    },
    /// It is damaged. The files stay as they are; this member must not take part.
    Unfit {
        /// A sentence.
        reason: String,
    },
}

impl<D: Disk> Wal<D> {
    /// Opens the log on a disk, or begins one.
    ///
    /// # Errors
    /// The operating system's refusals. A damaged log is no error but [`Verdict::Unfit`].
    pub fn open(disk: D, member: MemberId) -> Result<(Wal<D>, Recovered), OpenError> {
        let expected = if disk.expects_log() { Expected::Yes } else { Expected::No };
        let mut found = survey(&disk, member, expected, disk.format_version())?;
        let mut wal = Wal::new(disk, member);
        let verdict = match found.decision {
            Decision::Unfit(what) => {
                wal.unfit = true;
                let reason = if found.detail.is_empty() {
                    what.to_owned()
                } else {
                    format!("{what}: {}", found.detail)
                };
                let restored = Restored::default();
                return Ok((wal, Recovered { restored, verdict: Verdict::Unfit { reason } }));
            }
            Decision::Begin => Verdict::Blank,
            Decision::Continue => Verdict::Clean,
            Decision::Cut => Verdict::TornTail {
                segment: found.tail.number,
                offset: found.tail.offset,
                detail: std::mem::take(&mut found.detail),
            },
        };
        wal.take(&found);
        wal.go_on(&found).map_err(|error| OpenError::Log {
            doing: "begin to write",
            file: Some(FileName::Log(wal.tail.number)),
            error,
        })?;
        let restored = found.replay.restore(found.snapshot.take());
        Ok((wal, Recovered { restored, verdict }))
    }

    fn new(disk: D, member: MemberId) -> Wal<D> {
        Wal {
            disk,
            member,
            unfit: false,
            term: Default::default(),
            vote: None,
            last: LogId::ZERO,
            snapshot: LogId::ZERO,
            tail: Tail::default(),
            sealed: Default::default(),
            void_before: 0,
            snapshots: Vec::new(),
            spares: Vec::new(),
            job: 0,
            next_job: 0,
            building: None,
            waiting: None,
            retire: None,
            submitted: IoSeq(0),
            batch: Batch::default(),
            run: None,
            body: Vec::new(),
        }
    }

    fn take(&mut self, found: &Survey) {
        let replay = &found.replay;
        (self.term, self.vote) = (replay.term, replay.vote);
        (self.last, self.snapshot) = (replay.last(), replay.snapshot);
        self.tail = found.tail;
        let after = IoSeq(0);
        let sealed = found.sealed.iter();
        self.sealed = sealed
            .map(|&Tail { number, bytes, highest, .. }| Sealed { number, bytes, highest, after })
            .collect();
        self.void_before = replay.void_before;
        self.snapshots.clone_from(&found.snapshots);
    }

    /// Makes durable what was read, tidies up, and writes the first records.
    fn go_on(&mut self, found: &Survey) -> io::Result<()> {
        self.tidy(found)?;
        let next = self.tail.number + 1;
        let usable = |number: u64| -> io::Result<bool> {
            let there = found.unbegun.contains(&number);
            let size = if there { self.disk.size(FileName::Log(number))? } else { 0 };
            Ok(size == self.disk.segment_bytes())
        };
        let ready = usable(next)?;
        let room = wide(4 * (format::RECORD_BYTES + 32)) + format::SEAL_BYTES;
        let begins = next == 1 || self.tail.sealed;
        // A segment is of one version throughout.
        let older = !begins && self.tail.version != self.disk.format_version();
        let needed = begins || older || self.tail.offset + room > self.tail.bytes;
        if needed && !ready {
            self.disk.run(&prepared(next, 0, self.spares.pop(), self.disk.segment_bytes()))?;
        }
        if begins {
            self.begin(next);
        } else if older {
            self.rotate();
        } else if !needed && !ready {
            self.prepare(next);
        }
        self.opened(found);
        self.disk.run(&std::mem::take(&mut self.batch))?;
        self.start_retiring();
        assert!(!self.tail.sealed && self.run.is_none());
        Ok(())
    }

    /// What a process left behind counts as durable only once it is.
    fn tidy(&mut self, found: &Survey) -> io::Result<()> {
        let mut batch = Batch::default();
        if let Some(before) = found.sealed.last() {
            batch.ops.push(Op::Sync(FileName::Log(before.number)));
        }
        if found.tail.number > 0 {
            batch.ops.push(Op::Sync(FileName::Log(found.tail.number)));
        }
        if let Some(last) = found.snapshots.last() {
            batch.ops.push(Op::Sync(FileName::Snapshot(*last)));
        }
        for draft in &found.drafts {
            batch.ops.push(Op::Unlink(FileName::Draft(*draft)));
        }
        // The latest first: names never have a hole.
        for number in found.unbegun.iter().skip(1).rev() {
            batch.ops.push(Op::Unlink(FileName::Log(*number)));
        }
        for spare in &found.spares {
            let size = self.disk.size(FileName::Spare(*spare))?;
            if size == self.disk.segment_bytes() && self.spares.is_empty() {
                self.spares.push(*spare);
            } else {
                batch.ops.push(Op::Unlink(FileName::Spare(*spare)));
            }
        }
        batch.ops.push(Op::SyncDir);
        self.disk.run(&batch)
    }

    /// The first records of this life.
    fn opened(&mut self, found: &Survey) {
        let count = found.replay.opened.saturating_add(1);
        self.record(format::OPENED, &count.to_le_bytes());
        if let Some(snapshot) = &found.snapshot {
            let last = snapshot.last;
            if last.index > self.snapshot.index {
                let held = found.replay.holds(last);
                let how = if held { format::BUILT } else { format::INSTALLED };
                self.snapshot_record(last, how);
            }
            self.retire = Some(Retire { after: IoSeq(0), drop_to: last.index });
        }
        self.end_batch(IoSeq(0));
    }
}
