//! The disk on files: one thread that writes and syncs batches, one for jobs beside it.
//!
//! Invariants: a batch is reported only after its syncs returned; after a failure nothing is done
//! and nothing is reported any more. What comes in while a sync runs is one write and one sync.

use super::directory::{Directory, Writer};
use super::disk::{Batch, Completion, Disk, FileName, Job, Progress, Source, Stats};
use super::format::newest_version;
use super::worker::{self, Shared};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How a disk behaves.
#[derive(Clone, Copy, Debug)]
pub struct FsOptions {
    /// Bytes of a new segment; at least 64 KiB and more than four times the largest entry.
    pub segment_bytes: u64,
    /// For measurements: every sync of a batch takes so much longer.
    pub flush_delay: Duration,
    /// Whether a log was once begun here; see [`super::DataDir::has_log`].
    pub expects_log: bool,
}

impl Default for FsOptions {
    fn default() -> FsOptions {
        FsOptions {
            // Rare enough to rotate, small enough to keep two spare.
            segment_bytes: 16 * 1024 * 1024,
            flush_delay: Duration::ZERO,
            expects_log: false,
        }
    }
}

/// The files of one directory.
#[derive(Debug)]
pub struct FsDisk {
    directory: Directory,
    options: FsOptions,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    helper: Option<JoinHandle<()>>,
}

impl FsDisk {
    /// Opens the directory, which exists. `report` is called by the disk's own threads and must
    /// not block.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new(
        path: &Path,
        options: FsOptions,
        report: Box<dyn FnMut(Completion) + Send>,
    ) -> io::Result<FsDisk> {
        assert!(options.segment_bytes >= 64 * 1024, "a segment holds at least 64 KiB");
        let directory = Directory::new(path);
        let shared = Arc::new(Shared::new(report));
        let mut disk = FsDisk { directory, options, shared, writer: None, helper: None };
        let shared = Arc::clone(&disk.shared);
        let writer = Writer::new(disk.directory.clone(), false, options.flush_delay);
        let builder = std::thread::Builder::new().name("log-writer".to_owned());
        disk.writer = Some(builder.spawn(move || worker::write(&shared, writer))?);
        let shared = Arc::clone(&disk.shared);
        let writer = Writer::new(disk.directory.clone(), true, Duration::ZERO);
        let builder = std::thread::Builder::new().name("log-files".to_owned());
        disk.helper = Some(builder.spawn(move || worker::work(&shared, writer))?);
        Ok(disk)
    }

    /// Ends both threads; batches that were submitted are finished.
    fn stop(&mut self) {
        self.shared.stop_writer();
        if let Some(writer) = self.writer.take() {
            // A panic there was reported there.
            drop(writer.join());
        }
        self.shared.stop_helper();
        if let Some(helper) = self.helper.take() {
            drop(helper.join());
        }
    }
}

impl Source for FsDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn read(&self, file: FileName) -> io::Result<Vec<u8>> {
        self.directory.read(file)
    }

    fn size(&self, file: FileName) -> io::Result<u64> {
        self.directory.size(file)
    }
}

impl Disk for FsDisk {
    fn run(&mut self, batch: &Batch) -> io::Result<()> {
        Writer::new(self.directory.clone(), false, Duration::ZERO).run(batch)
    }

    fn submit(&mut self, batch: Batch) {
        self.shared.submit(batch);
    }

    fn start(&mut self, job: Job) {
        self.shared.start(job);
    }

    fn progress(&self) -> Progress {
        self.shared.progress()
    }

    fn stats(&self) -> Stats {
        self.shared.stats()
    }

    fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    fn format_version(&self) -> u32 {
        newest_version()
    }

    fn expects_log(&self) -> bool {
        self.options.expects_log
    }

    fn batch(&mut self) -> Batch {
        self.shared.batch()
    }

    fn close(&mut self, last: FileName) {
        self.stop();
        let mut writer = Writer::new(self.directory.clone(), false, Duration::ZERO);
        let mut batch = Batch::default();
        batch.ops.push(super::disk::Op::Sync(last));
        if let Err(error) = writer.run(&batch) {
            self.shared.fail(&error);
        }
    }
}

impl Drop for FsDisk {
    fn drop(&mut self) {
        self.stop();
    }
}
