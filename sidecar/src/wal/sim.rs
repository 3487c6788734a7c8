//! The simulated disk: no thread, no clock; a seed decides what a crash leaves.
//!
//! Invariants: equal seeds and calls give equal disks; an operation takes effect when its time has
//! come, in the order of its lane; batches that wait together share a sync, as on files.

use super::disk::{
    Batch, Disk, FileName, Job, JobKind, Op, Progress, Source, Stats, begins_anew, is_full, merge,
    wide,
};
use super::format::{SECTOR_BYTES, newest_version};
use super::sim_files::{Files, mix};
use quorate_raft::{IoSeq, Time};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::io;

/// Between two tries to make the next segment, or to store the leader's snapshot.
const RETRY_NS: u64 = 1_000_000_000;
/// A sync, unless set otherwise: a good device's.
const LATENCY_NS: u64 = 100_000;
/// Small, so that a simulation sees many of them.
const SEGMENT_BYTES: u64 = 128 * 1024;

/// A row of operations, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Running {
    batches: Vec<Batch>,
    row: Vec<(usize, Op)>,
    at: usize,
    /// When the operation at `at` is over.
    until: Time,
    /// `None`: batches. The kind otherwise, and the job's number.
    job: Option<(JobKind, u64)>,
}

/// Where a write goes that is reported as done and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Astray {
    Nowhere,
    Elsewhere,
    /// The device says that it failed.
    Refused,
}

/// See the module. Cheap to copy: sectors are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SimDisk {
    files: Files,
    now: Time,
    random: u64,
    latency_ns: u64,
    stalled_until: Time,
    segment_bytes: u64,
    expects_log: bool,
    queue: VecDeque<Batch>,
    jobs: VecDeque<Job>,
    batches: Option<Running>,
    job: Option<Running>,
    held: Option<(Job, Time)>,
    progress: Progress,
    stats: Stats,
    told: IoSeq,
    told_full: bool,
    /// Operations that are left before the power is cut; none: no cut.
    operations_left: Option<u64>,
    /// What becomes of the next write to a segment; none: it is done.
    astray: Option<Astray>,
    failed: bool,
    /// Everything that was done so far.
    trace: u64,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            files: Files::default(),
            now: Time(0),
            random: mix(seed),
            latency_ns: LATENCY_NS,
            stalled_until: Time(0),
            segment_bytes: SEGMENT_BYTES,
            expects_log: false,
            queue: VecDeque::new(),
            jobs: VecDeque::new(),
            batches: None,
            job: None,
            held: None,
            progress: Progress::default(),
            stats: Stats::default(),
            told: IoSeq(0),
            told_full: false,
            operations_left: None,
            astray: None,
            failed: false,
            trace: mix(seed ^ 1),
        }
    }

    /// Sets the clock; what is over by then has happened.
    pub fn set_now(&mut self, now: Time) {
        self.advance(now);
    }

    /// Nanoseconds that a sync takes from now on, up to a half more by chance. One that runs takes
    /// no longer than that either: a disk that heals is done with what held it up.
    pub fn set_latency(&mut self, nanos: u64) {
        self.latency_ns = nanos.max(1);
        let latest = self.now.after(self.latency_ns.saturating_add(self.latency_ns / 2));
        for running in [&mut self.batches, &mut self.job].into_iter().flatten() {
            running.until = running.until.min(latest);
        }
    }

    /// No sync ends before this moment.
    pub fn stall(&mut self, until: Time) {
        self.stalled_until = until;
        for running in [&mut self.batches, &mut self.job].into_iter().flatten() {
            if matches!(running.row.get(running.at), Some((_, Op::Sync(_)))) {
                running.until = running.until.max(until);
            }
        }
    }

    /// The length of new segments in bytes; at least 8 KiB.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        assert!(bytes >= 8 * 1024);
        self.segment_bytes = bytes;
    }

    /// Whether the member's identity has a log.
    pub fn set_expects_log(&mut self, expects: bool) {
        self.expects_log = expects;
    }

    /// Bytes that all files together may have; 0: any number.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.files.capacity = bytes;
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.files.used()
    }

    /// Cuts the power after so many more operations: from then on nothing happens any more.
    pub fn cut_after(&mut self, operations: Option<u64>) {
        self.operations_left = operations;
    }

    /// The next write of records to a segment is reported as done, and goes to another place of
    /// the file or nowhere.
    pub fn lead_astray(&mut self, elsewhere: bool) {
        self.astray = Some(if elsewhere { Astray::Elsewhere } else { Astray::Nowhere });
    }

    /// Every write is done from here on.
    pub fn write_truly(&mut self) {
        self.astray = None;
    }

    /// The next write of records to a segment fails.
    pub fn fail_next_write(&mut self) {
        self.astray = Some(Astray::Refused);
    }

    /// Whether the power is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.operations_left == Some(0)
    }

    /// Whether an operation failed otherwise than for lack of room: the process must end.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// What became durable up to `now`, each once.
    pub fn completed(&mut self, now: Time) -> Option<IoSeq> {
        self.advance(now);
        let durable = self.progress.durable;
        let news = durable > self.told;
        self.told = durable;
        news.then_some(durable)
    }

    /// Whether room went or came back, each once: the new [`Progress::lacks_room`].
    pub fn space_changed(&mut self) -> Option<bool> {
        let full = self.progress.lacks_room();
        let news = full != self.told_full;
        self.told_full = full;
        news.then_some(full)
    }

    /// When something happens next: what is durable and not told yet is due at once. Not every
    /// such moment completes a write.
    #[must_use]
    pub fn next_completion(&self) -> Option<Time> {
        if self.failed || self.is_cut() {
            return None;
        }
        if self.progress.durable > self.told {
            return Some(self.now);
        }
        self.next_event()
    }

    /// A hash of everything that this disk did so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.trace
    }

    /// The process ends; with `power`, the machine too, and of what was not synced each sector is
    /// kept or lost by chance. Gives the disk as the next process finds it.
    pub fn crash(&mut self, bits: u64, power: bool) {
        self.random ^= bits;
        for running in [self.batches.take(), self.job.take()].into_iter().flatten() {
            self.abandon(&running);
        }
        if power {
            let mut random = self.random;
            self.files.crash(&mut || {
                random = mix(random);
                random
            });
            self.random = random;
        }
        self.queue.clear();
        self.jobs.clear();
        self.held = None;
        self.progress = Progress::default();
        self.stats = Stats::default();
        (self.told, self.told_full) = (IoSeq(0), false);
        self.operations_left = None;
        self.astray = None;
        self.failed = false;
        self.stalled_until = Time(0);
        self.note(u64::from(power), bits);
    }

    /// Changes bytes of a file behind the log's back, durably.
    ///
    /// # Errors
    /// There is no such file.
    pub fn overwrite(&mut self, file: FileName, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.overwrite(file, at, bytes)
    }

    /// Cuts a file to so many bytes.
    ///
    /// # Errors
    /// There is no such file.
    pub fn truncate(&mut self, file: FileName, bytes: u64) -> io::Result<()> {
        self.files.cut(file, bytes)
    }

    /// Takes a file away.
    pub fn remove(&mut self, file: FileName) {
        self.files.remove(file);
    }

    fn chance(&mut self) -> u64 {
        self.random = mix(self.random);
        self.random
    }

    fn note(&mut self, a: u64, b: u64) {
        self.trace = mix(self.trace ^ mix(a ^ mix(b)));
    }

    /// What a process had begun when it ended: some more of it may have been done, without syncs.
    fn abandon(&mut self, running: &Running) {
        let more = self.chance() % 3;
        let left = running.row.iter().skip(running.at);
        for (at, op) in left.take(usize::try_from(more).unwrap_or(0)) {
            if matches!(op, Op::Sync(_) | Op::SyncDir | Op::Await(_) | Op::Mark { .. }) {
                break;
            }
            if self.files.apply(*op, &running.batches[*at].bytes).is_err() {
                break;
            }
        }
    }

    fn next_event(&self) -> Option<Time> {
        let awaits = |running: &&Running| {
            let Some((_, Op::Await(job))) = running.row.get(running.at) else { return true };
            self.progress.segment >= *job
        };
        let batches = self.batches.as_ref().filter(awaits).map(|running| running.until);
        let job = self.job.as_ref().map(|running| running.until);
        let held = self.held.as_ref().map(|(_, at)| *at).filter(|_| self.job.is_none());
        [batches, job, held].into_iter().flatten().min()
    }

    fn advance(&mut self, now: Time) {
        self.begin();
        while let Some(at) = self.next_event().filter(|at| *at <= now)
            && !self.failed
            && !self.is_cut()
        {
            self.now = self.now.max(at);
            if !self.step_batches() && !self.step_job() {
                break;
            }
            self.begin();
        }
        self.now = self.now.max(now);
    }

    /// Takes up what waits.
    fn begin(&mut self) {
        if self.batches.is_none()
            && let Some(first) = self.queue.pop_front()
        {
            let plain = first.is_plain();
            let mut batches = vec![first];
            while plain && self.queue.front().is_some_and(Batch::is_plain) {
                batches.extend(self.queue.pop_front());
            }
            self.batches = Some(self.running(batches, None));
        }
        if self.job.is_none() {
            let due = self.held.as_ref().is_some_and(|(_, at)| *at <= self.now);
            let held = if due { self.held.take().map(|(job, _)| job) } else { None };
            // Segments are made in order: none before the one that waits for room.
            let waits = self.held.is_some();
            let free = |job: &Job| !waits || job.kind != JobKind::Segment;
            let next = self.jobs.iter().position(free);
            if let Some(job) = held.or_else(|| self.jobs.remove(next?)) {
                self.job = Some(self.running(vec![job.batch], Some((job.kind, job.id))));
            }
        }
    }

    fn running(&mut self, batches: Vec<Batch>, job: Option<(JobKind, u64)>) -> Running {
        let mut row = Vec::new();
        merge(&batches, &mut row);
        let mut running = Running { batches, row, at: 0, until: self.now, job };
        running.until = self.over(&running);
        running
    }

    /// When the operation that a row is at will be over.
    fn over(&mut self, running: &Running) -> Time {
        let slow = matches!(running.row.get(running.at), Some((_, Op::Sync(_) | Op::SyncDir)));
        if !slow {
            return self.now;
        }
        let nanos = self.latency_ns + self.chance() % (self.latency_ns / 2 + 1);
        self.now.after(nanos).max(self.stalled_until)
    }

    /// One operation of the batches, if its time has come.
    fn step_batches(&mut self) -> bool {
        let Some(mut running) = self.batches.take_if(|running| running.until <= self.now) else {
            return false;
        };
        let Some((at, op)) = running.row.get(running.at).copied() else {
            let seq = running.batches.last().map_or(IoSeq(0), |batch| batch.seq);
            assert!(seq >= self.progress.durable, "batches complete in order");
            self.progress.durable = seq;
            self.progress.install_waits = false;
            self.note(2, seq.0);
            return true;
        };
        if let Op::Await(job) = op
            && self.progress.segment < job
        {
            self.batches = Some(running);
            return false;
        }
        match self.apply(op, &running.batches[at].bytes) {
            Ok(()) => self.stats.flushes += u64::from(matches!(op, Op::Sync(_))),
            Err(error) => {
                let again = begins_anew(&running.row, running.at).filter(|_| is_full(&error));
                let Some((first, file)) = again else {
                    self.failed = !self.is_cut();
                    return false;
                };
                self.files.apply(Op::Unlink(file), &[]).expect("a name always goes");
                self.progress.install_waits = true;
                (running.at, running.until) = (first, self.now.after(RETRY_NS));
                self.batches = Some(running);
                return true;
            }
        }
        if let Op::Write { from, to, .. } | Op::Mark { from, to, .. } = op {
            self.stats.written_bytes += wide(to - from);
        }
        running.at += 1;
        running.until = self.over(&running);
        self.batches = Some(running);
        true
    }

    /// One operation of the job, if its time has come.
    fn step_job(&mut self) -> bool {
        let Some(mut running) = self.job.take_if(|running| running.until <= self.now) else {
            return self.held.as_ref().is_some_and(|(_, at)| *at <= self.now);
        };
        let (kind, id) = running.job.expect("a job has a kind");
        let Some((at, op)) = running.row.get(running.at).copied() else {
            self.done(kind, id, false);
            return true;
        };
        match self.apply(op, &running.batches[at].bytes) {
            Ok(()) => {
                running.at += 1;
                running.until = self.over(&running);
                self.job = Some(running);
                true
            }
            Err(error) if is_full(&error) && kind != JobKind::Retire => {
                self.no_room(running, kind, id);
                true
            }
            Err(_) => {
                self.failed = !self.is_cut();
                false
            }
        }
    }

    fn no_room(&mut self, running: Running, kind: JobKind, id: u64) {
        for (_, op) in &running.row {
            if let Op::Create { file, .. } = op {
                self.files.apply(Op::Unlink(*file), &[]).expect("a name always goes");
            }
        }
        if kind == JobKind::Segment {
            self.progress.full = true;
            let batch = running.batches.into_iter().next().expect("a job is one batch");
            self.held = Some((Job { id, kind, batch }, self.now.after(RETRY_NS)));
        } else {
            self.done(kind, id, true);
        }
    }

    fn done(&mut self, kind: JobKind, id: u64, skipped: bool) {
        match kind {
            JobKind::Segment => (self.progress.segment, self.progress.full) = (id, false),
            JobKind::Snapshot => self.progress.snapshot = id,
            JobKind::Retire => {}
        }
        if skipped {
            self.progress.skipped = id;
            self.stats.skipped_snapshots += 1;
        }
        self.note(3, id);
    }

    /// Whether the batches wait for room.
    fn is_stuck(&self) -> bool {
        let at = self.batches.as_ref().and_then(|running| running.row.get(running.at));
        match at {
            Some((_, Op::Await(job))) => self.progress.segment < *job && self.held.is_some(),
            Some((_, Op::Create { .. })) => self.progress.install_waits,
            _ => false,
        }
    }

    fn apply(&mut self, op: Op, bytes: &[u8]) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => return Err(io::Error::other("the simulated power is cut")),
            Some(left) => *left -= 1,
            None => {}
        }
        let mut hasher = Trace(self.trace);
        op.hash(&mut hasher);
        if let Op::Write { from, to, .. } | Op::Mark { from, to, .. } = op {
            hasher.write(&bytes[from..to]);
        }
        let what = hasher.finish();
        self.note(what, self.now.0);
        if let Op::Write { file: FileName::Log(_), .. } = op
            && let Some(astray) = self.astray.take()
        {
            return self.misdirect(op, astray, bytes);
        }
        self.files.apply(op, bytes)
    }
}

impl SimDisk {
    fn misdirect(&mut self, op: Op, astray: Astray, bytes: &[u8]) -> io::Result<()> {
        let Op::Write { file, from, to, .. } = op else { return Ok(()) };
        match astray {
            Astray::Nowhere => return Ok(()),
            Astray::Refused => return Err(io::Error::other("the simulated device failed")),
            Astray::Elsewhere => {}
        }
        let room = self.files.size(file)?.saturating_sub(wide(to - from));
        let offset = self.chance() % (room / SECTOR_BYTES + 1) * SECTOR_BYTES;
        self.files.apply(Op::Write { file, offset, from, to }, bytes)
    }
}

/// A hash that is the same everywhere, unlike the standard library's.
struct Trace(u64);

impl Hasher for Trace {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = mix(self.0 ^ u64::from(crc32c::crc32c(bytes)) ^ (wide(bytes.len()) << 32));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Source for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.list())
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        self.files.read(file)
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        self.files.size(file)
    }
}

impl Disk for SimDisk {
    fn run(&mut self, batch: &Batch) -> io::Result<()> {
        batch.ops.iter().try_for_each(|op| self.apply(*op, &batch.bytes))
    }

    fn submit(&mut self, batch: Batch) {
        self.queue.push_back(batch);
        self.begin();
    }

    fn start(&mut self, job: Job) {
        self.jobs.push_back(job);
        self.begin();
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    fn format_version(&self) -> u32 {
        newest_version()
    }

    fn expects_log(&self) -> bool {
        self.expects_log
    }

    fn batch(&mut self) -> Batch {
        Batch::default()
    }

    fn close(&mut self, last: FileName) {
        while let Some(at) = self.next_event()
            && (self.batches.is_some() || !self.queue.is_empty())
            && !self.failed
            && !self.is_cut()
            && !self.is_stuck()
        {
            self.advance(at.max(self.now));
        }
        self.failed |= self.is_stuck() || self.apply(Op::Sync(last), &[]).is_err();
    }
}
