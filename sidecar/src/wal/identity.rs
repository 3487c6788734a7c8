//! The data directory: whose it is, who holds it, and which lives it had.
//!
//! Invariants: a member's identity is made once, together with the directory's first content, and
//! never again; the boot of this process is durable before anybody hears of it, and that it was
//! shown too; one process at a time holds the directory. Modes of what others made are never looked
//! at: volumes change them.

use super::directory::{FILE_MODE, sync_directory};
use super::disk::{Completion, FileName, narrow, wide};
use super::error::OpenError;
use super::format::{u32_at, u64_at, u128_at};
use super::fs::{FsDisk, FsOptions};
use super::log::Wal;
use super::open::{Recovered, Verdict};
use super::shown::IdentityFile;
use quorate_raft::{Index, MemberId};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Boots that are remembered: peers pin one of them.
const BOOTS_MAX: usize = 64;
const MAGIC: [u8; 8] = *b"QUORIDEN";
const VERSION: u32 = 1;
/// Magic, version, checksum, member, flags, cluster, number of boots.
const HEAD_BYTES: usize = 57;
const FORCED_BYTES: usize = 16;
const OWN_BYTES: usize = 4;
const BOOT_BYTES: usize = 16;
const HAS_CLUSTER: u8 = 1;
const HAS_LOG: u8 = 2;
/// Nobody can know the newest boot. Bit 3: files that know nothing of it have it clear.
const NOT_SHOWN: u8 = 8;
/// The cluster began by force; how, follows the boots.
const IS_FORCED: u8 = 16;
/// How long own applications may hold follows that. Clear where none does.
const OWN_HOLD: u8 = 32;
const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
const LOCK: &str = "lock";
/// Between two tries to lock.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// One life of a process on this directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Boot {
    /// Which, from 1.
    pub seq: u64,
    /// Chance: two directories copied from one differ here from their next boot on.
    pub bits: u64,
}

/// The entry by which a member became its cluster's first one, after its former cluster was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forced {
    /// Its index.
    pub index: Index,
    /// The life of tokens that it begins: in the log, unless a crash came before it.
    pub life: u64,
    /// How long applications of this member may hold names of the former cluster, from the force
    /// on, in ms: nothing is granted before. 0: none held any.
    pub own_ms: u32,
}

/// What the identity file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member: MemberId,
    pub(super) cluster: Option<u128>,
    pub(super) forced: Option<Forced>,
    pub(super) has_log: bool,
    /// The last ones, in order.
    pub(super) boots: Vec<Boot>,
    /// Whether somebody can know the newest of them.
    pub(super) shown: bool,
}

/// A data directory that this process holds, and in which it began no boot yet.
#[derive(Debug)]
pub struct HeldDir {
    path: PathBuf,
    identity: Identity,
    lock: File,
}

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    pub(super) identity: Identity,
    pub(super) file: Arc<IdentityFile>,
}

impl DataDir {
    /// Takes the directory as [`DataDir::hold`] does, and begins a boot that counts as shown.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed but perhaps an empty directory made.
    pub fn open(path: &Path, wait_for_lock: Duration) -> Result<DataDir, OpenError> {
        DataDir::hold(path, wait_for_lock)?.begin_as(true)
    }

    /// Takes the directory, waiting so long for another process to leave it.
    /// Makes it, with mode 0770, if it is not there; its parent must exist.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed but perhaps an empty directory made.
    pub fn hold(path: &Path, wait_for_lock: Duration) -> Result<HeldDir, OpenError> {
        make(path)?;
        let lock = lock(&path.join(LOCK), wait_for_lock)?;
        let identity = match read(path)? {
            Some(identity) => identity,
            None if has_log_files(path)? => {
                return Err(OpenError::IdentityMissing(path.to_owned()));
            }
            None => Identity {
                member: MemberId(random_identity()?),
                cluster: None,
                forced: None,
                has_log: false,
                boots: Vec::new(),
                shown: true,
            },
        };
        Ok(HeldDir { path: path.to_owned(), identity, lock })
    }

    /// Opens the log in this directory. `report` is called by the log's own threads and must not
    /// block. `options.expects_log` is set here.
    ///
    /// # Errors
    /// See [`OpenError`]. A damaged log is no error but [`Verdict::Unfit`].
    pub fn open_log(
        &mut self,
        mut options: FsOptions,
        report: Box<dyn FnMut(Completion) + Send>,
    ) -> Result<(Wal<FsDisk>, Recovered), OpenError> {
        options.expects_log = self.identity.has_log;
        let disk = FsDisk::new(&self.path, options, report)
            .map_err(|error| failed("start the threads of", &self.path, error))?;
        let (wal, recovered) = Wal::open(disk, self.identity.member)?;
        if !matches!(recovered.verdict, Verdict::Unfit { .. }) && !self.identity.has_log {
            self.identity.has_log = true;
            self.store()?;
        }
        Ok((wal, recovered))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who this member is, for ever.
    #[must_use]
    pub fn member_id(&self) -> MemberId {
        self.identity.member
    }

    /// Which cluster it belongs to; `None`: none yet.
    #[must_use]
    pub fn cluster_id(&self) -> Option<u128> {
        self.identity.cluster
    }

    /// How its cluster began, if this member was forced into it.
    #[must_use]
    pub fn forced(&self) -> Option<Forced> {
        self.identity.forced
    }

    /// Joins a cluster, durably. Again with the same one: nothing happens.
    ///
    /// # Errors
    /// It belongs to another one, or the operating system's.
    pub fn set_cluster_id(&mut self, cluster: u128) -> Result<(), OpenError> {
        match self.identity.cluster {
            Some(has) if has == cluster => Ok(()),
            Some(has) => {
                Err(OpenError::OtherCluster { path: self.path.clone(), has, asked: cluster })
            }
            None => {
                self.identity.cluster = Some(cluster);
                let stored = self.store();
                if stored.is_err() {
                    self.identity.cluster = None;
                }
                stored
            }
        }
    }

    /// Whether a log was begun here: then a directory without one is not new.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.identity.has_log
    }

    /// This process's boot.
    #[must_use]
    pub fn boot(&self) -> Boot {
        *self.identity.boots.last().expect("opening adds a boot")
    }

    /// The last 64 boots, in order; the last one is this process's.
    #[must_use]
    pub fn boots(&self) -> &[Boot] {
        &self.identity.boots
    }

    /// Makes what changed durable.
    pub(super) fn store(&self) -> Result<(), OpenError> {
        self.file.store(&self.identity)
    }
}

impl HeldDir {
    /// Begins a boot, in the place of the newest one if nobody can know that.
    pub(super) fn begin_as(self, shown: bool) -> Result<DataDir, OpenError> {
        let HeldDir { path, mut identity, lock } = self;
        let boots = &mut identity.boots;
        let newest = if identity.shown { boots.last().copied() } else { boots.pop() };
        // The number counts all starts.
        let seq = newest.map_or(0, |boot| boot.seq).saturating_add(1);
        boots.push(Boot { seq, bits: random_bits()? });
        let old = boots.len().saturating_sub(BOOTS_MAX);
        boots.drain(..old);
        identity.shown = shown;
        let file = Arc::new(IdentityFile::new(&path, identity.clone(), lock));
        let directory = DataDir { path, identity, file };
        directory.store()?;
        assert!(!directory.identity.boots.is_empty());
        Ok(directory)
    }
}

/// Content first, then the name, then the directory: each durable before the next.
pub(super) fn write(directory: &Path, identity: &Identity) -> Result<(), OpenError> {
    let new = directory.join(IDENTITY_NEW);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let mut file = options.open(&new)?;
        file.write_all(&encode(identity))?;
        file.sync_all()?;
        std::fs::rename(&new, directory.join(IDENTITY))?;
        sync_directory(directory)
    };
    write().map_err(|error| failed("store the identity in", directory, error))
}

pub(super) fn failed(doing: &'static str, path: &Path, error: io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_owned(), error }
}

/// Makes the directory, or checks whose it is.
fn make(path: &Path) -> Result<(), OpenError> {
    match DirBuilder::new().mode(0o770).create(path) {
        Ok(()) => {
            // The process's mask took bits away.
            std::fs::set_permissions(path, Permissions::from_mode(0o770))
                .map_err(|error| failed("set the mode of", path, error))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            return sync_directory(parent).map_err(|error| failed("sync", parent, error));
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("make the directory", path, error)),
    }
    let metadata = std::fs::metadata(path).map_err(|error| failed("look at", path, error))?;
    if !metadata.is_dir() {
        return Err(OpenError::NotADirectory(path.to_owned()));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(OpenError::Owner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    Ok(())
}

fn lock(path: &Path, wait: Duration) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = options.open(path).map_err(|error| failed("open the lock file", path, error))?;
    let start = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("lock", path, error.into())),
        }
        let waited = start.elapsed();
        if waited >= wait {
            let waited_ms = waited.as_millis();
            return Err(OpenError::Locked { path: path.to_owned(), waited_ms });
        }
        std::thread::sleep(LOCK_RETRY.min(wait - waited));
    }
}

fn has_log_files(path: &Path) -> Result<bool, OpenError> {
    let entries = std::fs::read_dir(path).map_err(|error| failed("list", path, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| failed("list", path, error))?;
        if entry.file_name().to_str().and_then(FileName::parse).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the identity file; `None`: there is none.
pub(super) fn read(path: &Path) -> Result<Option<Identity>, OpenError> {
    let path = path.join(IDENTITY);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", &path, error)),
    };
    decode(&bytes).map(Some).map_err(|why| OpenError::IdentityDamaged { path, why })
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + identity.boots.len() * BOOT_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&identity.member.0.to_le_bytes());
    let cluster = if identity.cluster.is_some() { HAS_CLUSTER } else { 0 };
    let shown = if identity.shown { 0 } else { NOT_SHOWN };
    let forced = if identity.forced.is_some() { IS_FORCED } else { 0 };
    let own = if identity.forced.is_some_and(|forced| forced.own_ms > 0) { OWN_HOLD } else { 0 };
    let has_log = if identity.has_log { HAS_LOG } else { 0 };
    out.push(cluster | shown | forced | own | has_log);
    out.extend_from_slice(&identity.cluster.unwrap_or_default().to_le_bytes());
    out.extend_from_slice(&wide(identity.boots.len()).to_le_bytes());
    assert!(out.len() == HEAD_BYTES && identity.boots.len() <= BOOTS_MAX);
    for boot in &identity.boots {
        out.extend_from_slice(&boot.seq.to_le_bytes());
        out.extend_from_slice(&boot.bits.to_le_bytes());
    }
    if let Some(Forced { index, life, own_ms }) = identity.forced {
        out.extend_from_slice(&index.0.to_le_bytes());
        out.extend_from_slice(&life.to_le_bytes());
        if own_ms > 0 {
            out.extend_from_slice(&own_ms.to_le_bytes());
        }
    }
    let crc = crc32c::crc32c(&out[16..]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Identity, &'static str> {
    if bytes.len() < HEAD_BYTES || bytes[..8] != MAGIC {
        return Err("it does not start as an identity");
    }
    if u32_at(bytes, 8) != VERSION {
        return Err("its version is not known");
    }
    if crc32c::crc32c(&bytes[16..]) != u32_at(bytes, 12) {
        return Err("its checksum is wrong");
    }
    let flags = bytes[32];
    let boots = u64_at(bytes, 49);
    if boots > wide(BOOTS_MAX) {
        return Err("its length is wrong");
    }
    let end = HEAD_BYTES + narrow(boots) * BOOT_BYTES;
    let is_forced = flags & IS_FORCED != 0;
    let own_hold = is_forced && flags & OWN_HOLD != 0;
    let forced_bytes = if is_forced { FORCED_BYTES } else { 0 };
    if bytes.len() != end + forced_bytes + if own_hold { OWN_BYTES } else { 0 } {
        return Err("its length is wrong");
    }
    let forced = || Forced {
        index: Index(u64_at(bytes, end)),
        life: u64_at(bytes, end + 8),
        own_ms: if own_hold { u32_at(bytes, end + FORCED_BYTES) } else { 0 },
    };
    let boot = |at: usize| Boot { seq: u64_at(bytes, at), bits: u64_at(bytes, at + 8) };
    let starts = (HEAD_BYTES..end).step_by(BOOT_BYTES);
    Ok(Identity {
        member: MemberId(u128_at(bytes, 16)),
        cluster: (flags & HAS_CLUSTER != 0).then(|| u128_at(bytes, 33)),
        forced: is_forced.then(forced),
        has_log: flags & HAS_LOG != 0,
        shown: flags & NOT_SHOWN == 0,
        boots: starts.map(boot).collect(),
    })
}

fn random_bits() -> Result<u64, OpenError> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Never 0, which means nobody.
fn random_identity() -> Result<u128, OpenError> {
    let mut bytes = [0; 16];
    fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes).max(1))
}

fn fill(bytes: &mut [u8]) -> Result<(), OpenError> {
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(failed("take random bytes from", Path::new("getrandom"), error.into()));
            }
        }
    }
    Ok(())
}
