//! Simulated files: what a process sees, what a power cut leaves.
//!
//! A sector (512 bytes) is written whole or not at all. Since the last sync a sector may reach the
//! disk in any of its versions, or in none, apart from all others. Names reach it in their order.
//! Must not know time.

use super::disk::{FileName, Op, narrow, wide};
use super::format::SECTOR_BYTES;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const SECTOR: usize = 512;

/// splitmix64 (Steele, Lea and Flood, 2014).
pub(super) fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type Sector = Arc<[u8; SECTOR]>;

/// A file without its name. Sectors that are not there are zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct File {
    synced: BTreeMap<u64, Sector>,
    synced_bytes: u64,
    /// Versions since the last sync, the newest last.
    cached: BTreeMap<u64, Vec<Sector>>,
    bytes: u64,
}

impl File {
    fn sector(&self, at: u64) -> Option<&Sector> {
        let newest = self.cached.get(&at).and_then(|versions| versions.last());
        newest.or_else(|| self.synced.get(&at))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes = self.bytes.max(offset + wide(bytes.len()));
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let start = narrow(at % SECTOR_BYTES);
            let length = rest.len().min(SECTOR - start);
            let number = at / SECTOR_BYTES;
            let mut sector = self.sector(number).map_or([0; SECTOR], |sector| **sector);
            sector[start..start + length].copy_from_slice(&rest[..length]);
            self.cached.entry(number).or_default().push(Arc::new(sector));
            rest = &rest[length..];
            at += wide(length);
        }
    }

    fn sync(&mut self) {
        for (number, versions) in std::mem::take(&mut self.cached) {
            self.synced.extend(versions.last().map(|newest| (number, Arc::clone(newest))));
        }
        self.synced_bytes = self.bytes;
    }

    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; narrow(self.bytes)];
        let cached = self.cached.iter().filter_map(|(at, versions)| Some((at, versions.last()?)));
        for (number, sector) in self.synced.iter().chain(cached) {
            let start = narrow(*number) * SECTOR;
            if let Some(rest) = bytes.get_mut(start..) {
                let length = rest.len().min(SECTOR);
                rest[..length].copy_from_slice(&sector[..length]);
            }
        }
        bytes
    }

    /// A power cut: each sector keeps one of its versions.
    fn crash(&mut self, random: &mut impl FnMut() -> u64) {
        if self.bytes != self.synced_bytes && random().is_multiple_of(2) {
            self.bytes = self.synced_bytes;
        }
        let end = self.bytes.div_ceil(SECTOR_BYTES);
        for (number, versions) in std::mem::take(&mut self.cached) {
            let chosen = random() % wide(versions.len() + 1);
            if number < end && chosen > 0 {
                self.synced.insert(number, Arc::clone(&versions[narrow(chosen) - 1]));
            }
        }
        self.synced_bytes = self.bytes;
    }
}

/// A change of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    Link(FileName, usize),
    Rename(FileName, FileName),
    Unlink(FileName),
}

type Names = BTreeMap<FileName, usize>;

fn change(names: &mut Names, change: Change) {
    match change {
        Change::Link(file, at) => {
            names.insert(file, at);
        }
        Change::Rename(from, to) => {
            if let Some(at) = names.remove(&from) {
                names.insert(to, at);
            }
        }
        Change::Unlink(file) => {
            names.remove(&file);
        }
    }
}

/// A directory of simulated files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Files {
    files: BTreeMap<usize, File>,
    next: usize,
    names: Names,
    synced_names: Names,
    changes: Vec<Change>,
    /// Bytes that all files together may have; 0: any.
    pub(super) capacity: u64,
}

impl Files {
    pub(super) fn list(&self) -> Vec<String> {
        self.names.keys().map(FileName::to_string).collect()
    }

    pub(super) fn read(&self, name: FileName) -> io::Result<Vec<u8>> {
        Ok(self.file(name)?.read())
    }

    pub(super) fn size(&self, name: FileName) -> io::Result<u64> {
        Ok(self.file(name)?.bytes)
    }

    fn at(&self, name: FileName) -> io::Result<usize> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there"));
        self.names.get(&name).copied().ok_or_else(missing)
    }

    fn file(&self, name: FileName) -> io::Result<&File> {
        let at = self.at(name)?;
        Ok(self.files.get(&at).expect("a name leads to a file"))
    }

    fn file_mut(&mut self, name: FileName) -> io::Result<&mut File> {
        let at = self.at(name)?;
        Ok(self.files.get_mut(&at).expect("a name leads to a file"))
    }

    /// Bytes in all files that have a name.
    pub(super) fn used(&self) -> u64 {
        let files = self.names.values().filter_map(|at| self.files.get(at));
        files.map(|file| file.bytes).sum()
    }

    /// Does one operation at once.
    pub(super) fn apply(&mut self, op: Op, bytes: &[u8]) -> io::Result<()> {
        match op {
            Op::Create { file, bytes } => self.create(file, bytes)?,
            Op::Write { file, offset, from, to } | Op::Mark { file, offset, from, to } => {
                let end = offset + wide(to - from);
                let grown = end.saturating_sub(self.file(file)?.bytes);
                self.room(grown)?;
                self.file_mut(file)?.write(offset, &bytes[from..to]);
            }
            Op::Sync(file) => self.file_mut(file)?.sync(),
            Op::Rename { from, to } => {
                self.at(from)?;
                self.change(Change::Rename(from, to));
            }
            Op::Unlink(file) => self.change(Change::Unlink(file)),
            Op::SyncDir => {
                self.synced_names.clone_from(&self.names);
                self.changes.clear();
                self.collect();
            }
            Op::Await(_) => {}
        }
        Ok(())
    }

    fn create(&mut self, name: FileName, bytes: u64) -> io::Result<()> {
        // An old file of this name stays what it was until the new name is durable.
        self.change(Change::Unlink(name));
        let at = self.next;
        self.next += 1;
        self.files.insert(at, File::default());
        self.change(Change::Link(name, at));
        self.room(bytes)?;
        self.file_mut(name)?.bytes = bytes;
        Ok(())
    }

    fn room(&self, bytes: u64) -> io::Result<()> {
        if bytes > 0 && self.capacity > 0 && self.used() + bytes > self.capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full"));
        }
        Ok(())
    }

    fn change(&mut self, what: Change) {
        change(&mut self.names, what);
        self.changes.push(what);
    }

    /// Files that no name leads to any more.
    fn collect(&mut self) {
        let (names, synced) = (&self.names, &self.synced_names);
        self.files.retain(|at, _| {
            names.values().any(|named| named == at) || synced.values().any(|named| named == at)
        });
    }

    /// A power cut.
    pub(super) fn crash(&mut self, random: &mut impl FnMut() -> u64) {
        let kept = narrow(random() % wide(self.changes.len() + 1));
        let mut names = std::mem::take(&mut self.synced_names);
        for what in self.changes.drain(..).take(kept) {
            change(&mut names, what);
        }
        self.names.clone_from(&names);
        self.synced_names = names;
        self.collect();
        for file in self.files.values_mut() {
            file.crash(random);
        }
    }

    /// Changes bytes of a file, on the disk itself.
    pub(super) fn overwrite(&mut self, name: FileName, at: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file_mut(name)?;
        file.write(at, bytes);
        file.sync();
        Ok(())
    }

    /// Cuts a file, on the disk itself.
    pub(super) fn cut(&mut self, name: FileName, bytes: u64) -> io::Result<()> {
        let file = self.file_mut(name)?;
        let kept = file.read();
        let kept = &kept[..kept.len().min(narrow(bytes))];
        *file = File::default();
        file.write(0, kept);
        file.bytes = bytes;
        file.sync();
        Ok(())
    }

    /// Takes a file away, on the disk itself.
    pub(super) fn remove(&mut self, name: FileName) {
        self.names.remove(&name);
        self.synced_names.remove(&name);
        self.changes.clear();
    }
}
