//! The seam between the log and what keeps bytes: batches of file operations go in, how far they
//! got comes out.
//!
//! Invariants: operations of one batch happen in order; batches complete in order; a batch is
//! complete only when each of its syncs has returned. Jobs run beside the batches, in their own
//! order, and never delay them but through [`Op::Await`]. Must not know records.

use quorate_raft::{IoSeq, LogId};
use std::fmt;
use std::io;

/// A file of the log's directory. A word of its own, so that steady state makes no strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A segment: `log-` and its number, 16 hexadecimal digits.
    Log(u64),
    /// A segment that is no longer needed, kept for its blocks: `spare-` and its old number.
    Spare(u64),
    /// A snapshot: `snapshot-`, the term and the index that it covers, 16 digits each.
    Snapshot(LogId),
    /// A file in the making; means nothing to recovery: `draft-` and a number.
    Draft(u64),
}

impl FileName {
    /// The name that this file has in its directory; `None`: not one of the log's.
    #[must_use]
    pub fn parse(name: &str) -> Option<FileName> {
        let (kind, rest) = name.split_once('-')?;
        match kind {
            "log" => Some(FileName::Log(number(rest)?)),
            "spare" => Some(FileName::Spare(number(rest)?)),
            "draft" => Some(FileName::Draft(number(rest)?)),
            "snapshot" => {
                let (term, index) = rest.split_once('-')?;
                Some(FileName::Snapshot(LogId::new(number(term)?, number(index)?)))
            }
            _ => None,
        }
    }
}

/// Exactly 16 lower-case hexadecimal digits.
fn number(digits: &str) -> Option<u64> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 16 || !digits.bytes().all(hex) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Log(number) => write!(f, "log-{number:016x}"),
            FileName::Spare(number) => write!(f, "spare-{number:016x}"),
            FileName::Draft(number) => write!(f, "draft-{number:016x}"),
            FileName::Snapshot(last) => {
                write!(f, "snapshot-{:016x}-{:016x}", last.term.0, last.index.0)
            }
        }
    }
}

/// One operation. Bytes lie in [`Batch::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Makes the file, or empties it, and fills it with that many zeros, really written.
    Create {
        /// Which.
        file: FileName,
        /// Its length in bytes.
        bytes: u64,
    },
    /// Writes, and lets the file grow if it ends before.
    Write {
        /// Which; it exists.
        file: FileName,
        /// Where in the file.
        offset: u64,
        /// Where in the batch's bytes it starts.
        from: usize,
        /// Where it ends.
        to: usize,
    },
    /// A write that tells of the sync before it and has none of its own. It may be left out if
    /// another sync of the same file follows.
    Mark {
        /// Which; it was just synced.
        file: FileName,
        /// Where in the file.
        offset: u64,
        /// Where in the batch's bytes it starts.
        from: usize,
        /// Where it ends.
        to: usize,
    },
    /// Makes the file's content durable. It is never tried twice.
    Sync(FileName),
    /// Gives the file another name, over whatever had that name.
    Rename {
        /// The name that it has.
        from: FileName,
        /// The name that it gets.
        to: FileName,
    },
    /// Takes the name away; without such a file nothing happens.
    Unlink(FileName),
    /// Makes names durable.
    SyncDir,
    /// Waits until the [`JobKind::Segment`] job of this number is done.
    Await(u64),
}

/// Operations, in order, and the bytes that they write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    /// All writes up to here are durable when the batch is complete.
    pub seq: IoSeq,
    /// What the operations write.
    pub bytes: Vec<u8>,
    /// What to do.
    pub ops: Vec<Op>,
}

impl Batch {
    /// Empties it; its memory stays.
    pub fn clear(&mut self) {
        self.seq = IoSeq(0);
        self.bytes.clear();
        self.ops.clear();
    }

    /// Whether it may share a sync with others: nothing in it waits or changes names.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.ops.iter().all(|op| matches!(op, Op::Write { .. } | Op::Mark { .. } | Op::Sync(_)))
    }
}

/// What a job is for, and with that what happens when there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// The next segment. No room: tried again every second, [`Progress::full`] meanwhile.
    Segment,
    /// A snapshot of our own. No room: skipped; the log stays whole.
    Snapshot,
    /// Old files go. Needs no room.
    Retire,
}

/// Work beside the batches, slow and not urgent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// Rises with every job.
    pub id: u64,
    /// What for.
    pub kind: JobKind,
    /// What to do; its `seq` means nothing.
    pub batch: Batch,
}

/// How far a disk got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// All writes up to here are durable.
    pub durable: IoSeq,
    /// The newest [`JobKind::Segment`] job that is done.
    pub segment: u64,
    /// The newest [`JobKind::Snapshot`] job that is over.
    pub snapshot: u64,
    /// The newest of those that was skipped for lack of room.
    pub skipped: u64,
    /// No room for the next segment.
    pub full: bool,
    /// No room for the leader's snapshot: its batch waits, and those after it.
    pub install_waits: bool,
}

impl Progress {
    /// Whether anything waits for room.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        self.full || self.install_waits
    }
}

/// Counts since a disk was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stats {
    pub(super) flushes: u64,
    pub(super) written_bytes: u64,
    pub(super) skipped_snapshots: u64,
}

impl Stats {
    /// Syncs of segments on the way of a commit.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Bytes written on that way, marks included.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Snapshots of our own that were skipped for lack of room. Nothing is lost: the log is whole.
    #[must_use]
    pub fn skipped_snapshots(&self) -> u64 {
        self.skipped_snapshots
    }
}

/// What a disk tells its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// All writes up to here are durable.
    Durable(IoSeq),
    /// Room for the next segment, or for the leader's snapshot: gone, or back. While it is gone the
    /// host refuses commands that make state grow; what has to go on still fits in the current
    /// segment, behind that snapshot.
    Space {
        /// It is gone.
        full: bool,
    },
    /// The disk failed: the process must exit, non-zero, at once. A sync is never tried again.
    Failed(String),
}

/// What recovery and inspection read. Nothing here writes.
pub trait Source {
    /// The names in the directory, in any order; foreign ones too.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A whole file.
    ///
    /// # Errors
    /// The operating system's.
    fn read(&self, file: FileName) -> io::Result<Vec<u8>>;
    /// A file's length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn size(&self, file: FileName) -> io::Result<u64>;
}

/// Keeps bytes: on files ([`super::FsDisk`]) or simulated ([`super::SimDisk`]).
pub trait Disk: Source {
    /// Does a batch at once; everything that its syncs cover is durable afterwards. For opening.
    ///
    /// # Errors
    /// The operating system's; part of the batch may be done.
    fn run(&mut self, batch: &Batch) -> io::Result<()>;
    /// Takes a batch and returns at once.
    fn submit(&mut self, batch: Batch);
    /// Takes a job and returns at once.
    fn start(&mut self, job: Job);
    /// How far it got.
    fn progress(&self) -> Progress;
    /// Counts since it was opened.
    fn stats(&self) -> Stats;
    /// The length of a new segment in bytes.
    fn segment_bytes(&self) -> u64;
    /// The version of the format of new segments: the program's own. Later ones are not read.
    fn format_version(&self) -> u32;
    /// Whether a log was once begun here: then none at all is not a new one.
    fn expects_log(&self) -> bool;
    /// An empty batch, with the memory of one that is complete if there is one.
    fn batch(&mut self) -> Batch;
    /// Ends all batches, drops jobs that have not begun, and syncs this file. What fails here is
    /// reported as any other failure.
    fn close(&mut self, last: FileName);
}

impl<D: Source> Source for &mut D {
    fn list(&self) -> io::Result<Vec<String>> {
        D::list(self)
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        D::read(self, file)
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        D::size(self, file)
    }
}

/// A log on a borrowed disk: the disk survives the log, and its failed opening.
impl<D: Disk> Disk for &mut D {
    fn run(&mut self, batch: &Batch) -> io::Result<()> {
        D::run(self, batch)
    }

    fn submit(&mut self, batch: Batch) {
        D::submit(self, batch);
    }

    fn start(&mut self, job: Job) {
        D::start(self, job);
    }

    fn progress(&self) -> Progress {
        D::progress(self)
    }

    fn stats(&self) -> Stats {
        D::stats(self)
    }

    fn segment_bytes(&self) -> u64 {
        D::segment_bytes(self)
    }

    fn format_version(&self) -> u32 {
        D::format_version(self)
    }

    fn expects_log(&self) -> bool {
        D::expects_log(self)
    }

    fn batch(&mut self) -> Batch {
        D::batch(self)
    }

    fn close(&mut self, last: FileName) {
        D::close(self, last);
    }
}

/// Puts the operations of several plain batches in one row, and leaves out a sync, with its mark,
/// where the same file is written on at once: the later sync covers both.
pub(super) fn merge(batches: &[Batch], out: &mut Vec<(usize, Op)>) {
    out.clear();
    for (at, batch) in batches.iter().enumerate() {
        let first = batch.ops.first();
        if let (Some(Op::Write { file, .. }), Some((_, Op::Mark { file: marked, .. }))) =
            (first, out.last())
            && file == marked
        {
            out.pop();
            let sync = out.pop();
            assert!(matches!(sync, Some((_, Op::Sync(_)))), "a mark follows a sync");
        }
        out.extend(batch.ops.iter().map(|op| (at, *op)));
    }
}

/// The operation that begins to make the new file that the one at `at` is part of, and the file. As
/// long as it has no other name than its own a new file means nothing: what finds no room there may
/// be begun anew. `None`: the operation is of another kind.
pub(super) fn begins_anew(row: &[(usize, Op)], at: usize) -> Option<(usize, FileName)> {
    let made = |(place, (_, op)): (usize, &(usize, Op))| match op {
        Op::Create { file, .. } => Some((place, *file)),
        _ => None,
    };
    let (first, file) = row[..=at].iter().enumerate().rev().find_map(made)?;
    let part = |(_, op): &(usize, Op)| match op {
        Op::Create { file: of, .. } | Op::Write { file: of, .. } | Op::Sync(of) => *of == file,
        Op::Rename { from, .. } => *from == file,
        Op::SyncDir => true,
        Op::Mark { .. } | Op::Unlink(_) | Op::Await(_) => false,
    };
    row[first..=at].iter().all(part).then_some((first, file))
}

/// Lengths on the disk are 64-bit.
pub(super) fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("memory is smaller than 2^64 bytes")
}

/// A length of something that lies in memory.
pub(super) fn narrow(length: u64) -> usize {
    usize::try_from(length).expect("what lies in memory has a length of its word size")
}

/// Whether an error only means that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
