//! The log as it is written: records into segments, batches to the disk.
//!
//! Invariants: the records of a batch are synced before its mark is written, and both before it
//! counts as complete; a segment is synced whole before the next one is begun; a segment goes only
//! after a snapshot covers its entries and a later, durable segment repeats term and vote. Must not
//! wait for anything.

use super::disk::{Batch, Disk, FileName, Job, JobKind, Op, Stats, narrow, wide};
use super::format::{self, Header, Mark};
use super::snapshot;
use super::survey::Tail;
use crate::planted::{self, Bug};
use quorate_raft::{Entry, Index, IoSeq, LogId, MemberId, Snapshot, Term, Write};
use std::collections::VecDeque;

/// Retired segments that are kept for the next ones: more would only hold room.
const SPARES_MAX: usize = 1;

/// Shares that a segment is cut into to say how much of the last one is left: 512 KiB of 16 MiB.
const SHARES: u64 = 32;

/// The log of one member on one disk.
#[derive(Debug)]
pub struct Wal<D: Disk> {
    pub(super) disk: D,
    pub(super) member: MemberId,
    /// Damaged: nothing is ever written.
    pub(super) unfit: bool,
    pub(super) term: Term,
    pub(super) vote: Option<MemberId>,
    /// The last entry written.
    pub(super) last: LogId,
    /// The newest snapshot that a record names.
    pub(super) snapshot: LogId,
    pub(super) tail: Tail,
    /// Segments before the last.
    pub(super) sealed: VecDeque<Sealed>,
    /// Segments before this one hold nothing that counts but term and vote.
    pub(super) void_before: u64,
    pub(super) snapshots: Vec<LogId>,
    pub(super) spares: Vec<u64>,
    /// The newest job, and the one that makes the segment after the last.
    pub(super) job: u64,
    pub(super) next_job: u64,
    pub(super) building: Option<Building>,
    pub(super) waiting: Option<(Snapshot, Index)>,
    pub(super) retire: Option<Retire>,
    pub(super) submitted: IoSeq,
    pub(super) batch: Batch,
    /// Where in `batch.bytes` the records began that have no operation yet, and where they go.
    pub(super) run: Option<(usize, u64)>,
    /// A record's body in the making.
    pub(super) body: Vec<u8>,
}

/// A segment that is written whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// The file's length.
    pub(super) bytes: u64,
    /// The highest index that an entry of it has.
    pub(super) highest: Index,
    /// With this the next segment's header, and in it term and vote, is durable.
    pub(super) after: IoSeq,
}

/// A snapshot of our own that is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Building {
    job: u64,
    last: LogId,
    drop_to: Index,
}

/// What may go once `after` is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retire {
    pub(super) after: IoSeq,
    pub(super) drop_to: Index,
}

impl<D: Disk> Wal<D> {
    /// Hands writes to the disk as one batch, and returns at once. Empties the vector. The disk
    /// reports [`super::Completion::Durable`] with the last number.
    pub fn submit(&mut self, writes: &mut Vec<(IoSeq, Write)>) {
        assert!(!self.unfit, "a damaged log is never written");
        let Some((seq, _)) = writes.last() else { return };
        let seq = *seq;
        assert!(seq > self.submitted, "writes are numbered in order");
        self.submitted = seq;
        self.batch = self.disk.batch();
        self.end_building(seq);
        for (_, write) in writes.drain(..) {
            match write {
                Write::HardState { term, vote } => self.hard_state(term, vote),
                Write::Append(entries) => entries.iter().for_each(|entry| self.entry(entry)),
                Write::Snapshot { snapshot, drop_to } => {
                    self.waiting = Some((snapshot, drop_to));
                }
                Write::Install { snapshot, keep_suffix } => {
                    self.install(&snapshot, keep_suffix, seq);
                }
            }
        }
        self.end_batch(seq);
        let batch = std::mem::take(&mut self.batch);
        self.disk.submit(batch);
        self.start_building();
        self.start_retiring();
    }

    /// Whether there is no room for the next segment, or for the leader's snapshot: nothing that
    /// makes state grow may be appended, so that the current segment serves what has to go on.
    #[must_use]
    pub fn full(&self) -> bool {
        self.disk.progress().lacks_room()
    }

    /// Something waits for room: the segments that are kept for later ones go.
    pub fn give_up_spares(&mut self) {
        let mut batch = Batch::default();
        batch.ops.extend(self.spares.drain(..).map(|spare| Op::Unlink(FileName::Spare(spare))));
        self.start_retire(batch);
    }

    /// Whether so many of the 32 shares of a segment are left; while there is room, any number is.
    #[must_use]
    pub fn has_left(&self, shares: u64) -> bool {
        let left = self.tail.bytes.saturating_sub(self.tail.offset);
        left >= self.tail.bytes / SHARES * shares || !self.full()
    }

    /// Counts since the log was opened.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.disk.stats()
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// The disk: a simulator completes its batches.
    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Gives the disk back, as it is.
    #[must_use]
    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Ends the log: everything submitted and the last mark are durable afterwards. What waits for
    /// room is a failure then.
    pub fn close(mut self) {
        if !self.unfit {
            self.disk.close(FileName::Log(self.tail.number));
        }
    }

    pub(super) fn hard_state(&mut self, term: Term, vote: Option<MemberId>) {
        assert!(term >= self.term, "terms never fall");
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        format::put_hard_state(term, vote, &mut body);
        self.record(format::HARD_STATE, &body);
        self.body = body;
        // Not before: a segment that starts here is headed by what came before the record.
        (self.term, self.vote) = (term, vote);
    }

    fn entry(&mut self, entry: &Entry) {
        let id = entry.id();
        assert!(id.index <= self.last.index.next(), "the log has no gaps");
        self.record(format::ENTRY, entry.bytes());
        self.last = id;
        self.tail.highest = self.tail.highest.max(id.index);
    }

    pub(super) fn snapshot_record(&mut self, last: LogId, how: u8) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        format::put_log_id(last, &mut body);
        body.push(how);
        self.record(format::SNAPSHOT, &body);
        self.body = body;
        if last.index > self.snapshot.index {
            self.snapshot = last;
        }
        if how == format::INSTALLED {
            self.last = last;
            self.void_before = self.tail.number;
        }
    }

    /// Appends a record; begins the next segment first if it does not fit in this one.
    pub(super) fn record(&mut self, kind: u8, body: &[u8]) {
        let length = wide(format::RECORD_BYTES + body.len());
        if self.tail.offset + length + format::SEAL_BYTES > self.tail.bytes {
            self.rotate();
        }
        let end = self.tail.offset + length;
        assert!(end + format::SEAL_BYTES <= self.tail.bytes, "a segment holds the largest record");
        self.put(kind, body);
        assert!(self.tail.offset == end);
    }

    fn put(&mut self, kind: u8, body: &[u8]) {
        let start = self.batch.bytes.len();
        if self.run.is_none() {
            self.run = Some((start, self.tail.offset));
        }
        self.tail.chain = format::put_record(self.tail.chain, kind, body, &mut self.batch.bytes);
        self.tail.offset += wide(self.batch.bytes.len() - start);
    }

    /// Seals the segment and begins the next.
    pub(super) fn rotate(&mut self) {
        assert!(!self.tail.sealed);
        let number = self.tail.number + 1;
        // A seal without a next segment would read as a loss: that one's name is durable first.
        if self.disk.progress().segment < self.next_job {
            self.batch.ops.push(Op::Await(self.next_job));
        }
        self.put(format::SEAL, &number.to_le_bytes());
        self.end_run();
        self.begin(number);
    }

    /// Begins segment `number`, whose file is there or on its way.
    pub(super) fn begin(&mut self, number: u64) {
        assert!(self.run.is_none(), "the segment before it is written");
        if self.tail.number > 0 {
            self.batch.ops.push(Op::Sync(FileName::Log(self.tail.number)));
            let Tail { number, bytes, highest, .. } = self.tail;
            self.sealed.push_back(Sealed { number, bytes, highest, after: self.submitted });
        }
        let header = Header {
            version: self.disk.format_version(),
            number,
            bytes: self.disk.segment_bytes(),
            member: self.member,
            term: self.term,
            vote: self.vote.filter(|_| !planted::is(Bug::VoteLostWithItsSegment)),
            snapshot: self.snapshot,
            last: self.last,
            previous: self.tail.chain,
        };
        self.run = Some((self.batch.bytes.len(), 0));
        header.encode(&mut self.batch.bytes);
        self.tail = Tail {
            number,
            bytes: header.bytes,
            offset: format::PAGE_BYTES,
            chain: format::seed(number, self.member),
            version: header.version,
            ..Tail::default()
        };
        self.prepare(number + 1);
    }

    /// Has the file of segment `number` made, beside what goes on.
    pub(super) fn prepare(&mut self, number: u64) {
        self.job += 1;
        self.next_job = self.job;
        let batch = prepared(number, self.job, self.spares.pop(), self.disk.segment_bytes());
        self.disk.start(Job { id: self.job, kind: JobKind::Segment, batch });
    }

    /// Turns the records gathered into one write, with zeros behind them.
    fn end_run(&mut self) {
        let Some((from, offset)) = self.run.take() else { return };
        let zeros = wide(format::RECORD_BYTES).min(self.tail.bytes - self.tail.offset);
        let to = self.batch.bytes.len() + narrow(zeros);
        self.batch.bytes.resize(to, 0);
        let file = FileName::Log(self.tail.number);
        self.batch.ops.push(Op::Write { file, offset, from, to });
    }

    pub(super) fn end_batch(&mut self, seq: IoSeq) {
        self.batch.seq = seq;
        if self.run.is_none() {
            return;
        }
        self.end_run();
        let file = FileName::Log(self.tail.number);
        let mark = Mark {
            number: self.tail.number,
            count: self.tail.marks,
            offset: self.tail.offset,
            chain: self.tail.chain,
        };
        self.tail.marks += 1;
        let from = self.batch.bytes.len();
        mark.encode(&mut self.batch.bytes);
        let to = self.batch.bytes.len();
        if !planted::is(Bug::BatchNotSynced) && !planted::is(Bug::MarkBeforeSync) {
            self.batch.ops.push(Op::Sync(file));
        }
        self.batch.ops.push(Op::Mark { file, offset: mark.place(), from, to });
        if planted::is(Bug::MarkBeforeSync) {
            self.batch.ops.push(Op::Sync(file));
        }
    }

    /// The leader's snapshot: its file is durable before the record that names it. Without room for
    /// it the disk tries again every second, and all that is submitted later waits behind it.
    fn install(&mut self, snapshot: &Snapshot, keep_suffix: bool, seq: IoSeq) {
        self.end_run();
        self.job += 1;
        write_snapshot(self.member, snapshot, self.job, &mut self.batch);
        self.snapshots.push(snapshot.last);
        let how = if keep_suffix { format::INSTALLED_INSIDE } else { format::INSTALLED };
        self.snapshot_record(snapshot.last, how);
        // A snapshot of our own that waits is older.
        self.waiting = None;
        self.retire = Some(Retire { after: seq, drop_to: snapshot.last.index });
    }

    /// Starts writing the newest snapshot of our own, one at a time, beside what goes on.
    fn start_building(&mut self) {
        if self.building.is_some() {
            return;
        }
        let Some((snapshot, drop_to)) = self.waiting.take() else { return };
        assert!(drop_to <= snapshot.last.index);
        self.job += 1;
        let mut batch = Batch::default();
        write_snapshot(self.member, &snapshot, self.job, &mut batch);
        self.disk.start(Job { id: self.job, kind: JobKind::Snapshot, batch });
        self.building = Some(Building { job: self.job, last: snapshot.last, drop_to });
    }

    /// Records a snapshot of our own whose file became durable.
    fn end_building(&mut self, seq: IoSeq) {
        let Some(building) = self.building else { return };
        let progress = self.disk.progress();
        if progress.snapshot < building.job {
            return;
        }
        self.building = None;
        if progress.skipped >= building.job {
            return;
        }
        self.snapshots.push(building.last);
        // One that an install overtook is only in the way.
        if building.last.index > self.snapshot.index {
            self.snapshot_record(building.last, format::BUILT);
            self.retire = Some(Retire { after: seq, drop_to: building.drop_to });
        }
    }

    /// Lets segments and snapshots go that a durable snapshot made superfluous.
    pub(super) fn start_retiring(&mut self) {
        let Some(retire) = self.retire else { return };
        let progress = self.disk.progress();
        if retire.after > progress.durable && !planted::is(Bug::RetiredTooEarly) {
            return;
        }
        self.retire = None;
        let mut batch = Batch::default();
        while let Some(Sealed { number, bytes, highest, after }) = self.sealed.front().copied()
            && (highest <= retire.drop_to || number < self.void_before)
            && (after <= progress.durable || planted::is(Bug::RetiredTooEarly))
        {
            self.sealed.pop_front();
            let from = FileName::Log(number);
            // One of another length, from another version, would not serve.
            let fits = bytes == self.disk.segment_bytes();
            if fits && self.spares.len() < SPARES_MAX && !progress.lacks_room() {
                batch.ops.push(Op::Rename { from, to: FileName::Spare(number) });
                self.spares.push(number);
            } else {
                batch.ops.push(Op::Unlink(from));
            }
            // One name at a time: a later segment must never go before an earlier one.
            batch.ops.push(Op::SyncDir);
        }
        let newest = self.snapshot;
        for last in self.snapshots.extract_if(.., |last| last.index < newest.index) {
            batch.ops.push(Op::Unlink(FileName::Snapshot(last)));
        }
        self.start_retire(batch);
    }

    fn start_retire(&mut self, batch: Batch) {
        if !batch.ops.is_empty() {
            self.job += 1;
            self.disk.start(Job { id: self.job, kind: JobKind::Retire, batch });
        }
    }
}

/// A batch that makes the file of a segment: from a spare one, or new.
pub(super) fn prepared(number: u64, job: u64, spare: Option<u64>, bytes: u64) -> Batch {
    let mut batch = Batch::default();
    let from = match spare {
        Some(spare) => {
            let file = FileName::Spare(spare);
            // Its header and marks go before it gets a segment's name; old records may stay.
            let to = narrow(format::PAGE_BYTES) + format::RECORD_BYTES;
            batch.bytes.resize(to, 0);
            batch.ops.push(Op::Write { file, offset: 0, from: 0, to });
            file
        }
        None => {
            let file = FileName::Draft(job);
            batch.ops.push(Op::Create { file, bytes });
            file
        }
    };
    batch.ops.push(Op::Sync(from));
    batch.ops.push(Op::Rename { from, to: FileName::Log(number) });
    if !planted::is(Bug::NameNotSynced) {
        batch.ops.push(Op::SyncDir);
    }
    batch
}

/// Appends what makes a snapshot file durable under its name.
fn write_snapshot(member: MemberId, snapshot: &Snapshot, job: u64, batch: &mut Batch) {
    let file = FileName::Draft(job);
    let from = batch.bytes.len();
    snapshot::encode(member, snapshot, &mut batch.bytes);
    let to = batch.bytes.len();
    batch.ops.push(Op::Create { file, bytes: 0 });
    batch.ops.push(Op::Write { file, offset: 0, from, to });
    if !planted::is(Bug::SnapshotNamedUnsynced) {
        batch.ops.push(Op::Sync(file));
    }
    batch.ops.push(Op::Rename { from: file, to: FileName::Snapshot(snapshot.last) });
    batch.ops.push(Op::SyncDir);
}
