//! The two threads behind [`super::FsDisk`], and what they share with its owner.
//!
//! Invariants: batches are taken in order, as many at once as may share a sync; progress is raised
//! before it is reported; after a failure both threads end and nothing more is reported. A lack of
//! room is no failure where a new file is made: the half of it goes, and it is made anew later.

use super::directory::{Cost, Writer};
use super::disk::{
    Batch, Completion, FileName, Job, JobKind, Op, Progress, Stats, begins_anew, is_full, merge,
};
use crate::planted::{self, Bug};
use quorate_raft::IoSeq;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// While there is no room, the next segment, or the leader's snapshot, is tried this often.
const RETRY: Duration = Duration::from_secs(1);
/// Empty batches kept for their memory; more are never on their way for long.
const POOL_MAX: usize = 8;
/// A batch that grew beyond this gives its memory back.
const POOL_BYTES_MAX: usize = 1024 * 1024;

#[derive(Default)]
struct State {
    queue: VecDeque<Batch>,
    pool: Vec<Batch>,
    jobs: VecDeque<Job>,
    progress: Progress,
    stats: Stats,
    stop_writer: bool,
    stop_helper: bool,
    failed: bool,
}

/// What the owner and the two threads share.
pub struct Shared {
    state: Mutex<State>,
    /// Something for the writer: a batch, or the segment that it waits for.
    writer: Condvar,
    /// Something for the helper.
    helper: Condvar,
    report: Mutex<Box<dyn FnMut(Completion) + Send>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({:?})", self.progress())
    }
}

impl Shared {
    pub(super) fn new(report: Box<dyn FnMut(Completion) + Send>) -> Shared {
        Shared {
            state: Mutex::default(),
            writer: Condvar::new(),
            helper: Condvar::new(),
            report: Mutex::new(report),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding the log's state")
    }

    fn tell(&self, completion: Completion) {
        let mut report = self.report.lock().expect("the report does not panic");
        report(completion);
    }

    pub(super) fn submit(&self, batch: Batch) {
        self.lock().queue.push_back(batch);
        self.writer.notify_one();
    }

    pub(super) fn start(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.helper.notify_one();
    }

    pub(super) fn progress(&self) -> Progress {
        self.lock().progress
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats
    }

    pub(super) fn batch(&self) -> Batch {
        self.lock().pool.pop().unwrap_or_default()
    }

    pub(super) fn stop_writer(&self) {
        self.lock().stop_writer = true;
        self.writer.notify_one();
    }

    pub(super) fn stop_helper(&self) {
        self.lock().stop_helper = true;
        self.helper.notify_one();
    }

    /// The first failure is told; after it nothing is.
    pub(super) fn fail(&self, error: &io::Error) {
        let first = !std::mem::replace(&mut self.lock().failed, true);
        self.writer.notify_one();
        self.helper.notify_one();
        if first {
            self.tell(Completion::Failed(error.to_string()));
        }
    }

    /// The next batches, as many as may share a sync. `false`: the end.
    fn take(&self, group: &mut Vec<Batch>) -> bool {
        let mut state = self.lock();
        loop {
            if state.failed {
                return false;
            }
            if let Some(first) = state.queue.pop_front() {
                let plain = first.is_plain();
                group.push(first);
                while plain && state.queue.front().is_some_and(Batch::is_plain) {
                    group.extend(state.queue.pop_front());
                }
                return true;
            }
            if state.stop_writer {
                return false;
            }
            state = self.writer.wait(state).expect("nobody panics while holding the log's state");
        }
    }

    /// Waits for the segment of that job. `false`: it will not come.
    fn await_segment(&self, job: u64) -> bool {
        let mut state = self.lock();
        while state.progress.segment < job {
            if state.failed || (state.stop_writer && state.progress.full) {
                return false;
            }
            state = self.writer.wait(state).expect("nobody panics while holding the log's state");
        }
        true
    }

    /// Waits until it is time to try again what found no room. `false`: it is not to be tried.
    fn await_retry(&self) -> bool {
        let until = Instant::now() + RETRY;
        let mut state = self.lock();
        while !state.failed && !state.stop_writer {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.writer.wait_timeout(state, left);
            state = waited.expect("nobody panics while holding the log's state").0;
        }
        false
    }

    /// Changes what there is room for. Both threads do: what they tell stays in the order of the
    /// changes.
    fn set_room(&self, change: impl FnOnce(&mut Progress)) {
        let mut report = self.report.lock().expect("the report does not panic");
        let mut state = self.lock();
        let before = state.progress.lacks_room();
        change(&mut state.progress);
        let full = state.progress.lacks_room();
        drop(state);
        // A writer that waits and is to stop must see it.
        self.writer.notify_one();
        if before != full {
            report(Completion::Space { full });
        }
    }

    /// The group is durable: say so, keep its memory.
    fn complete(&self, group: &mut Vec<Batch>, cost: Cost) {
        let seq = group.last().map_or(IoSeq(0), |batch| batch.seq);
        let mut state = self.lock();
        assert!(seq >= state.progress.durable, "batches complete in order");
        state.progress.durable = seq;
        state.stats.flushes += cost.flushes;
        state.stats.written_bytes += cost.written_bytes;
        for mut batch in group.drain(..) {
            if state.pool.len() < POOL_MAX && batch.bytes.capacity() <= POOL_BYTES_MAX {
                batch.clear();
                state.pool.push(batch);
            }
        }
        drop(state);
        self.tell(Completion::Durable(seq));
    }
}

/// A thread that ends by a panic is a failure like any other: nobody may wait for it.
struct Watch<'a>(&'a Shared);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&io::Error::other("a thread of the log panicked"));
        }
    }
}

/// The writer's thread.
pub(super) fn write(shared: &Shared, mut writer: Writer) {
    let _watch = Watch(shared);
    let mut group = Vec::new();
    let mut row = Vec::new();
    while shared.take(&mut group) {
        merge(&group, &mut row);
        match write_group(shared, &mut writer, &group, &row) {
            Ok(true) => shared.complete(&mut group, writer.take_cost()),
            Ok(false) => return,
            Err(_) if planted::is(Bug::FailedSyncPasses) => {
                shared.complete(&mut group, writer.take_cost());
            }
            Err(error) => return shared.fail(&error),
        }
    }
}

fn write_group(
    shared: &Shared,
    writer: &mut Writer,
    group: &[Batch],
    row: &[(usize, Op)],
) -> io::Result<bool> {
    let (mut next, mut waited) = (0, false);
    while let Some((at, op)) = row.get(next) {
        if matches!(op, Op::Await(_) | Op::Create { .. }) {
            // Records that still wait must not be lost with a file that finds no room.
            writer.settle()?;
        }
        if let Op::Await(job) = op
            && !shared.await_segment(*job)
        {
            return Ok(false);
        }
        let Err(error) = writer.apply(*op, &group[*at].bytes) else {
            next += 1;
            continue;
        };
        let again = begins_anew(row, next).filter(|_| is_full(&error));
        let Some((first, file)) = again else { return Err(error) };
        // Half a file would only hold room.
        writer.apply(Op::Unlink(file), &[])?;
        shared.set_room(|progress| progress.install_waits = true);
        if !shared.await_retry() {
            return Err(error);
        }
        (next, waited) = (first, true);
    }
    writer.settle()?;
    if waited {
        shared.set_room(|progress| progress.install_waits = false);
    }
    Ok(true)
}

/// The helper's thread.
pub(super) fn work(shared: &Shared, mut writer: Writer) {
    let _watch = Watch(shared);
    let mut held: Option<(Job, Instant)> = None;
    while let Some(job) = next_job(shared, &mut held) {
        match writer.run(&job.batch) {
            Ok(()) => done(shared, &job, false),
            Err(error) if is_full(&error) && job.kind != JobKind::Retire => {
                // Half a file would only hold room.
                let clean =
                    drafts(&job.batch).try_for_each(|file| writer.apply(Op::Unlink(file), &[]));
                if let Err(error) = clean {
                    return shared.fail(&error);
                }
                if job.kind == JobKind::Segment {
                    shared.set_room(|progress| progress.full = true);
                    held = Some((job, Instant::now() + RETRY));
                } else {
                    done(shared, &job, true);
                }
            }
            Err(error) => return shared.fail(&error),
        }
    }
}

/// The next job; a segment that had no room again when its time has come. `None`: the end.
fn next_job(shared: &Shared, held: &mut Option<(Job, Instant)>) -> Option<Job> {
    const POISON: &str = "nobody panics while holding the log's state";
    let mut state = shared.lock();
    loop {
        if state.failed || state.stop_helper {
            return None;
        }
        // Segments are made in order: none before the one that waits for room.
        let waits = held.is_some();
        let free = |job: &Job| !waits || job.kind != JobKind::Segment;
        if let Some(at) = state.jobs.iter().position(free) {
            return state.jobs.remove(at);
        }
        let Some((job, at)) = held.take() else {
            state = shared.helper.wait(state).expect(POISON);
            continue;
        };
        let now = Instant::now();
        if at <= now {
            return Some(job);
        }
        *held = Some((job, at));
        state = shared.helper.wait_timeout(state, at - now).expect(POISON).0;
    }
}

fn done(shared: &Shared, job: &Job, skipped: bool) {
    let mut state = shared.lock();
    match job.kind {
        JobKind::Segment => state.progress.segment = job.id,
        JobKind::Snapshot => state.progress.snapshot = job.id,
        JobKind::Retire => {}
    }
    if skipped {
        state.progress.skipped = job.id;
        state.stats.skipped_snapshots += 1;
    }
    drop(state);
    shared.writer.notify_one();
    if job.kind == JobKind::Segment {
        shared.set_room(|progress| progress.full = false);
    }
}

fn drafts(batch: &Batch) -> impl Iterator<Item = FileName> {
    batch.ops.iter().filter_map(|op| match op {
        Op::Create { file, .. } => Some(*file),
        _ => None,
    })
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
