//! Where operations end up: files in memory behind a cache that a power cut empties, or a real
//! directory. Written without the product's simulated disk: neither's mistake is the other's.

use crate::model::Random;
use quorate_raft::IoSeq;
use quorate_sidecar::wal::{Batch, Completion, Disk, FileName, FsDisk, FsOptions, Op, Source};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
/// Where a segment's records begin.
const PAGE: usize = 4096;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process is gone; what it wrote is there, synced or not.
    Kept,
    /// The same, in the middle of the operation.
    Half,
    /// The power is gone, and with it everything that was not synced.
    Lost,
    /// The power is gone; of what was not synced each sector is any of its versions.
    Torn,
}

pub const ENDINGS: [Ending; 4] = [Ending::Kept, Ending::Half, Ending::Lost, Ending::Torn];

/// Does operations one at a time.
pub trait Store: Source {
    fn apply(&mut self, op: Op, bytes: &[u8]) -> io::Result<()>;

    fn segment_bytes(&self) -> u64;

    /// The version of the format of new segments.
    fn format_version(&self) -> u32;
}

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Writes since the last sync: where, and what.
    since: Vec<(usize, Vec<u8>)>,
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.since.push((offset, bytes.to_vec()));
        lay(&mut self.now, offset, bytes);
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.now);
        self.since.clear();
    }

    fn lose(&mut self) {
        self.now.clone_from(&self.synced);
        self.since.clear();
    }

    fn tear(&mut self, random: &mut Random) {
        let since = std::mem::take(&mut self.since);
        let mut torn = self.synced.clone();
        if random.below(2) == 0 {
            torn.resize(self.now.len().max(torn.len()), 0);
        }
        let touches = |write: &(usize, Vec<u8>), start: usize| {
            write.0 < start + SECTOR && start < write.0 + write.1.len()
        };
        for start in (0..torn.len()).step_by(SECTOR) {
            if !since.iter().any(|write| touches(write, start)) {
                continue;
            }
            // As if the sector had been written out after this many of the writes.
            let mut version = self.synced.clone();
            for (offset, bytes) in &since[..place(random, since.len() + 1)] {
                lay(&mut version, *offset, bytes);
            }
            version.resize(version.len().max(torn.len()), 0);
            let end = torn.len().min(start + SECTOR);
            torn[start..end].copy_from_slice(&version[start..end]);
        }
        (self.now, self.synced) = (torn.clone(), torn);
    }
}

fn lay(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    file.resize(file.len().max(offset + bytes.len()), 0);
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn place(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("below a usize")
}

type Names = BTreeMap<FileName, usize>;

/// Files in memory.
#[derive(Clone, Default)]
pub struct Memory {
    pub segment_bytes: u64,
    pub format_version: u32,
    files: Vec<File>,
    names: Names,
    synced_names: Names,
    /// The names after each change since they were synced.
    changes: Vec<Names>,
}

impl Memory {
    pub fn new(segment_bytes: u64) -> Memory {
        Memory { segment_bytes, format_version: 1, ..Memory::default() }
    }

    /// The version of the format of the segment that the log goes on in.
    pub fn version_in_use(&self) -> u32 {
        let sector = |file: &FileName| match file {
            FileName::Log(number) => Some((*number, self.read(*file).expect("it is there"))),
            _ => None,
        };
        let logs: BTreeMap<u64, Vec<u8>> = self.names.keys().filter_map(sector).collect();
        // The next one is made beside what goes on, and not begun: its version is 0.
        let version =
            |bytes: &Vec<u8>| u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        logs.values().rev().map(version).find(|version| *version > 0).expect("a log is begun")
    }

    /// The end of a life, before or in the middle of `interrupted`.
    pub fn end(&mut self, ending: Ending, interrupted: Option<&(Op, Vec<u8>)>, seed: u64) {
        let mut random = Random(seed);
        let begun = match ending {
            Ending::Kept | Ending::Lost => None,
            Ending::Half => interrupted,
            Ending::Torn => interrupted.filter(|(op, _)| !matches!(op, Op::Sync(_) | Op::SyncDir)),
        };
        if let Some((op, bytes)) = begun {
            self.apply_half(*op, bytes, &mut random);
        }
        match ending {
            Ending::Kept | Ending::Half => {}
            Ending::Lost => self.files.iter_mut().for_each(File::lose),
            Ending::Torn => self.files.iter_mut().for_each(|file| file.tear(&mut random)),
        }
        if matches!(ending, Ending::Lost | Ending::Torn) {
            let most = if ending == Ending::Lost { 0 } else { self.changes.len() };
            // Names reach the disk in the order of their changes.
            if let Some(last) = place(&mut random, most + 1).checked_sub(1) {
                self.synced_names = self.changes.swap_remove(last);
            }
            self.names.clone_from(&self.synced_names);
            self.changes.clear();
        }
    }

    fn apply_half(&mut self, op: Op, bytes: &[u8], random: &mut Random) {
        let mut part = place(random, bytes.len() + 1);
        let op = match op {
            Op::Create { file, bytes } => Op::Create { file, bytes: random.below(bytes + 1) },
            Op::Write { file, offset, .. } | Op::Mark { file, offset, .. } => {
                let end = usize::try_from(offset).expect("small files only") + part;
                // Headers and marks rely on whole sectors. Records do not, and are cut anywhere.
                if end < PAGE {
                    part = part.saturating_sub(end % SECTOR);
                }
                Op::Write { file, offset, from: 0, to: part }
            }
            other => other,
        };
        self.apply(op, &bytes[..part]).expect("what the log asks for can be done");
    }

    fn file(&self, name: FileName) -> io::Result<usize> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"));
        self.names.get(&name).copied().ok_or_else(missing)
    }

    fn changed(&mut self) {
        self.changes.push(self.names.clone());
    }
}

impl Source for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.keys().map(FileName::to_string).collect())
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        Ok(self.files[self.file(file)?].now.clone())
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        Ok(self.files[self.file(file)?].now.len() as u64)
    }
}

impl Store for Memory {
    fn apply(&mut self, op: Op, bytes: &[u8]) -> io::Result<()> {
        match op {
            Op::Create { file, bytes } => {
                // An old file of this name stays what it was for as long as the old name may last.
                self.names.insert(file, self.files.len());
                let mut made = File::default();
                made.write(0, &vec![0; usize::try_from(bytes).expect("small files only")]);
                self.files.push(made);
                self.changed();
            }
            Op::Write { file, offset, .. } | Op::Mark { file, offset, .. } => {
                let at = self.file(file)?;
                self.files[at].write(usize::try_from(offset).expect("small files only"), bytes);
            }
            Op::Sync(file) => {
                let at = self.file(file)?;
                self.files[at].sync();
            }
            Op::Rename { from, to } => {
                let at = self.file(from)?;
                self.names.remove(&from);
                self.names.insert(to, at);
                self.changed();
            }
            Op::Unlink(file) => {
                self.names.remove(&file);
                self.changed();
            }
            Op::SyncDir => {
                self.synced_names.clone_from(&self.names);
                self.changes.clear();
            }
            Op::Await(_) => {}
        }
        Ok(())
    }

    fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    fn format_version(&self) -> u32 {
        self.format_version
    }
}

/// A real directory, through the product's own disk: each operation a batch of its own.
pub struct Real {
    disk: FsDisk,
}

impl Real {
    pub fn new(path: &Path) -> Real {
        let options = FsOptions { segment_bytes: 64 * 1024, ..FsOptions::default() };
        let report = Box::new(|completion: Completion| panic!("nothing was asked: {completion:?}"));
        Real { disk: FsDisk::new(path, options, report).expect("it works here") }
    }
}

impl Source for Real {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        self.disk.read(file)
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        self.disk.size(file)
    }
}

impl Store for Real {
    fn apply(&mut self, op: Op, bytes: &[u8]) -> io::Result<()> {
        let (from, to) = (0, bytes.len());
        let op = match op {
            Op::Write { file, offset, .. } => Op::Write { file, offset, from, to },
            Op::Mark { file, offset, .. } => Op::Mark { file, offset, from, to },
            other => other,
        };
        self.disk.run(&Batch { seq: IoSeq(0), bytes: bytes.to_vec(), ops: vec![op] })
    }

    fn segment_bytes(&self) -> u64 {
        self.disk.segment_bytes()
    }

    fn format_version(&self) -> u32 {
        self.disk.format_version()
    }
}
