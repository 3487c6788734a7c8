//! A disk that does one operation at a time, counts them, and stops for ever before a given one.

use crate::model::Random;
use crate::store::Store;
use quorate_raft::IoSeq;
use quorate_sidecar::wal::{Batch, Disk, FileName, Job, JobKind, Op, Progress, Source, Stats};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// What an operation is called where it is counted.
pub fn kind(op: Op) -> &'static str {
    match op {
        Op::Create { .. } => "create or empty",
        Op::Write { .. } => "write",
        Op::Mark { .. } => "write of a mark",
        Op::Sync(_) => "sync",
        Op::Rename { .. } => "rename",
        Op::Unlink(_) => "unlink",
        Op::SyncDir => "sync of the directory",
        Op::Await(_) => "wait",
    }
}

/// What is complete when all operations of a row are done.
#[derive(Clone, Copy)]
enum Then {
    Durable(IoSeq),
    Done(JobKind, u64),
}

/// Operations, each with its bytes.
struct Row {
    ops: VecDeque<(Op, Vec<u8>)>,
    then: Then,
}

impl Row {
    fn new(batches: &[Batch], then: Then) -> Row {
        let mut ops: VecDeque<(Op, Vec<u8>)> = VecDeque::new();
        for batch in batches {
            // Who writes on at once syncs later, and marks then.
            if let (Some(Op::Write { file, .. }), Some((Op::Mark { file: marked, .. }, _))) =
                (batch.ops.first(), ops.back())
                && file == marked
            {
                ops.truncate(ops.len() - 2);
            }
            ops.extend(batch.ops.iter().map(|op| (*op, bytes_of(*op, batch))));
        }
        Row { ops, then }
    }

    fn waits(&self, progress: &Progress) -> bool {
        matches!(self.ops.front(), Some((Op::Await(job), _)) if progress.segment < *job)
    }
}

fn bytes_of(op: Op, batch: &Batch) -> Vec<u8> {
    match op {
        Op::Write { from, to, .. } | Op::Mark { from, to, .. } => batch.bytes[from..to].to_vec(),
        _ => Vec::new(),
    }
}

/// See the module.
pub struct Recorder<S> {
    pub store: S,
    /// Every operation that was done, by its kind.
    pub done: Vec<&'static str>,
    /// Operations that are left; none: no end.
    left: Option<u64>,
    /// The operation before which everything stopped.
    pub stopped: Option<(Op, Vec<u8>)>,
    /// Which of two lanes goes on.
    random: Random,
    queue: VecDeque<Batch>,
    jobs: VecDeque<Job>,
    batches: Option<Row>,
    job: Option<Row>,
    progress: Progress,
}

impl<S: Store> Recorder<S> {
    /// What was reported.
    pub fn durable(&self) -> IoSeq {
        self.progress.durable
    }

    /// One operation. `false`: nothing is left to do, or everything stopped.
    fn step(&mut self) -> bool {
        self.begin();
        let ready = self.batches.as_ref().is_some_and(|row| !row.waits(&self.progress));
        let beside = match (ready, self.job.is_some()) {
            (false, false) => return false,
            (true, true) => self.random.below(2) == 0,
            (ready, _) => !ready,
        };
        let lane = if beside { &mut self.job } else { &mut self.batches };
        let Some(mut row) = lane.take() else { return false };
        if let Some((op, bytes)) = row.ops.pop_front()
            && self.perform(op, &bytes).is_err()
        {
            return false;
        }
        if !row.ops.is_empty() {
            *(if beside { &mut self.job } else { &mut self.batches }) = Some(row);
            return true;
        }
        match row.then {
            Then::Durable(seq) => self.progress.durable = seq,
            Then::Done(JobKind::Segment, id) => self.progress.segment = id,
            Then::Done(JobKind::Snapshot, id) => self.progress.snapshot = id,
            Then::Done(JobKind::Retire, _) => {}
        }
        true
    }

    /// Takes up what waits: batches together where they may share a sync.
    fn begin(&mut self) {
        if self.stopped.is_some() {
            (self.batches, self.job) = (None, None);
            return;
        }
        if self.batches.is_none()
            && let Some(first) = self.queue.pop_front()
        {
            let plain = first.is_plain();
            let mut group = vec![first];
            while plain && self.queue.front().is_some_and(Batch::is_plain) {
                group.extend(self.queue.pop_front());
            }
            let seq = group.last().map_or(IoSeq(0), |batch| batch.seq);
            self.batches = Some(Row::new(&group, Then::Durable(seq)));
        }
        if self.job.is_none()
            && let Some(job) = self.jobs.pop_front()
        {
            self.job = Some(Row::new(&[job.batch], Then::Done(job.kind, job.id)));
        }
    }

    fn perform(&mut self, op: Op, bytes: &[u8]) -> io::Result<()> {
        if matches!(op, Op::Await(_)) {
            return Ok(());
        }
        if self.left == Some(0) {
            self.stopped.get_or_insert((op, bytes.to_vec()));
            return Err(io::Error::other("the process was stopped"));
        }
        self.left = self.left.map(|left| left - 1);
        self.done.push(kind(op));
        if let Err(error) = self.store.apply(op, bytes) {
            panic!("{op:?} cannot be done: {error}");
        }
        Ok(())
    }
}

/// A disk for a log that leaves it behind.
pub struct Handle<S>(Rc<RefCell<Recorder<S>>>);

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Handle<S> {
        Handle(Rc::clone(&self.0))
    }
}

impl<S: Store> Handle<S> {
    pub fn new(store: S, seed: u64, left: Option<u64>) -> Handle<S> {
        Handle(Rc::new(RefCell::new(Recorder {
            store,
            done: Vec::new(),
            left,
            stopped: None,
            random: Random(seed),
            queue: VecDeque::new(),
            jobs: VecDeque::new(),
            batches: None,
            job: None,
            progress: Progress::default(),
        })))
    }

    pub fn step(&self) -> bool {
        self.0.borrow_mut().step()
    }

    pub fn is_stopped(&self) -> bool {
        self.0.borrow().stopped.is_some()
    }

    /// The process is gone, and with it what it had not done yet. The files stay.
    pub fn forget(&self) {
        let mut recorder = self.0.borrow_mut();
        recorder.queue.clear();
        recorder.jobs.clear();
        (recorder.batches, recorder.job) = (None, None);
        recorder.progress = Progress::default();
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut Recorder<S>) -> T) -> T {
        look(&mut self.0.borrow_mut())
    }
}

impl<S: Store> Source for Handle<S> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.borrow().store.list()
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        self.0.borrow().store.read(file)
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        self.0.borrow().store.size(file)
    }
}

impl<S: Store> Disk for Handle<S> {
    fn run(&mut self, batch: &Batch) -> io::Result<()> {
        let mut recorder = self.0.borrow_mut();
        batch.ops.iter().try_for_each(|op| recorder.perform(*op, &bytes_of(*op, batch)))
    }

    fn submit(&mut self, batch: Batch) {
        self.0.borrow_mut().queue.push_back(batch);
    }

    fn start(&mut self, job: Job) {
        self.0.borrow_mut().jobs.push_back(job);
    }

    fn progress(&self) -> Progress {
        self.0.borrow().progress
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn segment_bytes(&self) -> u64 {
        self.0.borrow().store.segment_bytes()
    }

    fn format_version(&self) -> u32 {
        self.0.borrow().store.format_version()
    }

    fn expects_log(&self) -> bool {
        false
    }

    fn batch(&mut self) -> Batch {
        Batch::default()
    }

    fn close(&mut self, last: FileName) {
        let mut recorder = self.0.borrow_mut();
        while recorder.batches.is_some() || !recorder.queue.is_empty() {
            if !recorder.step() {
                break;
            }
        }
        // An error stopped everything: nobody is left to be told.
        drop(recorder.perform(Op::Sync(last), &[]));
    }
}
