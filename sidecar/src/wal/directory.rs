//! A directory of the log's files: the operations of a batch as system calls.
//!
//! Invariants: a failed operation ends its batch; nothing is tried twice. Must not know threads or
//! records.

use super::disk::{Batch, FileName, Op, Source, narrow};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Written, and in slow work also synced, at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Open files: the segment being written and the one before it.
const OPEN_MAX: usize = 2;
/// Owner and group: an operator's pod may read; nobody else.
pub(super) const FILE_MODE: u32 = 0o640;

/// Reads only.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Of this path, which exists.
    #[must_use]
    pub fn new(path: &Path) -> Directory {
        Directory { path: path.to_owned() }
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.path.join(file.to_string())
    }
}

impl Source for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is no text is not one of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(file))
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        Ok(std::fs::metadata(self.path(file))?.len())
    }
}

/// What a row of operations cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Syncs of files.
    pub flushes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// Does operations, one after another.
#[derive(Debug)]
pub struct Writer {
    directory: Directory,
    open: Vec<(FileName, File)>,
    /// Contiguous writes that wait for each other.
    pending: Option<(FileName, u64)>,
    buffer: Vec<u8>,
    /// Syncs every chunk, so that what goes on beside never waits for much.
    gentle: bool,
    /// For measurements: each sync takes so much longer.
    delay: Duration,
    cost: Cost,
}

impl Writer {
    /// Of this directory.
    #[must_use]
    pub fn new(directory: Directory, gentle: bool, delay: Duration) -> Writer {
        let (open, buffer) = (Vec::new(), Vec::new());
        Writer { directory, open, pending: None, buffer, gentle, delay, cost: Cost::default() }
    }

    /// Does a whole batch.
    ///
    /// # Errors
    /// The operating system's, with the operation named.
    pub fn run(&mut self, batch: &Batch) -> io::Result<()> {
        batch.ops.iter().try_for_each(|op| self.apply(*op, &batch.bytes))?;
        self.settle()
    }

    /// What was done since the last call.
    pub fn take_cost(&mut self) -> Cost {
        std::mem::take(&mut self.cost)
    }

    /// Does one operation; a write may wait for the next one, up to [`Writer::settle`].
    ///
    /// # Errors
    /// The operating system's, with the operation named.
    pub fn apply(&mut self, op: Op, bytes: &[u8]) -> io::Result<()> {
        match op {
            Op::Write { file, offset, from, to } => {
                return self.gather(file, offset, &bytes[from..to]);
            }
            Op::Mark { file, offset, from, to } => {
                self.settle()?;
                return self.write(file, offset, &bytes[from..to]);
            }
            _ => self.settle()?,
        }
        match op {
            Op::Create { file, bytes } => named(self.create(file, bytes), "make", file),
            Op::Sync(file) => named(self.sync(file), "sync", file),
            Op::Rename { from, to } => {
                self.forget(from);
                self.forget(to);
                let (old, new) = (self.directory.path(from), self.directory.path(to));
                named(std::fs::rename(old, new), "rename", from)
            }
            Op::Unlink(file) => {
                self.forget(file);
                match std::fs::remove_file(self.directory.path(file)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    result => named(result, "remove", file),
                }
            }
            Op::SyncDir => sync_directory(&self.directory.path),
            Op::Write { .. } | Op::Mark { .. } | Op::Await(_) => Ok(()),
        }
    }

    /// Does the writes that wait.
    ///
    /// # Errors
    /// The operating system's.
    pub fn settle(&mut self) -> io::Result<()> {
        let Some((file, offset)) = self.pending.take() else { return Ok(()) };
        let buffer = std::mem::take(&mut self.buffer);
        let result = self.write(file, offset, &buffer);
        self.buffer = buffer;
        self.buffer.clear();
        result
    }

    /// A write that starts within the one before it, and ends at or behind its end, joins it: the
    /// zeros behind one batch's records are where the next batch's begin.
    fn gather(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some((pending, start)) = self.pending
            && pending == file
            && let Some(at) = offset.checked_sub(start)
            && narrow(at) <= self.buffer.len()
            && narrow(at) + bytes.len() >= self.buffer.len()
        {
            self.buffer.truncate(narrow(at));
        } else {
            self.settle()?;
            self.pending = Some((file, offset));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, file: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.cost.written_bytes += super::disk::wide(bytes.len());
        let gentle = self.gentle;
        let open = named(self.file(file), "open", file)?;
        if !gentle {
            return named(open.write_all_at(bytes, offset), "write", file);
        }
        named(write_gently(open, offset, bytes), "write", file)
    }

    fn create(&mut self, name: FileName, bytes: u64) -> io::Result<()> {
        self.forget(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let file = options.open(self.directory.path(name))?;
        if bytes > 0 {
            // Room first, in one piece where the file system can; then zeros really written, so
            // that a later sync has no metadata to write.
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            let zeros = vec![0; CHUNK_BYTES];
            let mut at = 0;
            while at < bytes {
                let length = narrow((bytes - at).min(super::disk::wide(CHUNK_BYTES)));
                file.write_all_at(&zeros[..length], at)?;
                if self.gentle {
                    file.sync_data()?;
                }
                at += super::disk::wide(length);
            }
        }
        self.keep(name, file);
        Ok(())
    }

    fn sync(&mut self, name: FileName) -> io::Result<()> {
        let delay = self.delay;
        let file = self.file(name)?;
        file.sync_data()?;
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        self.cost.flushes += 1;
        Ok(())
    }

    fn file(&mut self, name: FileName) -> io::Result<&File> {
        if !self.open.iter().any(|(open, _)| *open == name) {
            let file = OpenOptions::new().write(true).open(self.directory.path(name))?;
            self.keep(name, file);
        }
        let found = self.open.iter().find(|(open, _)| *open == name);
        Ok(&found.expect("it was opened just now").1)
    }

    fn keep(&mut self, name: FileName, file: File) {
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push((name, file));
    }

    fn forget(&mut self, name: FileName) {
        self.open.retain(|(open, _)| *open != name);
    }
}

fn write_gently(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut at = offset;
    for chunk in bytes.chunks(CHUNK_BYTES) {
        file.write_all_at(chunk, at)?;
        file.sync_data()?;
        at += super::disk::wide(chunk.len());
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Says what failed; the kind of the error stays.
fn named<T>(result: io::Result<T>, doing: &str, file: FileName) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{doing} {file}: {error}")))
}
