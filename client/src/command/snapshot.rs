//! `quorate snapshot save`: a backup from a running member, checked, and named once it is whole.

use super::print;
use crate::admin::{Failure, Group, Reached, Result};
use crate::cli::{Output, SnapshotArgs, SnapshotVerb};
use crate::{command, exit};
use quorate_proto::admin::SnapshotRequest;
use quorate_proto::admin::maintenance_client::MaintenanceClient;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of the checksum at a backup's end.
const CHECKSUM_BYTES: usize = 4;
const MAGIC: &[u8] = b"QUORBACK";

/// Runs the verb.
pub async fn run(args: SnapshotArgs, output: Output) -> Result<()> {
    let (file, from, force) = match args.verb {
        SnapshotVerb::Save { file, from, force } => (file, from, force),
        SnapshotVerb::Inspect(rest) => return sibling("inspect", rest.arguments, output),
        SnapshotVerb::Restore(rest) => return sibling("restore", rest.arguments, output),
    };
    if file.exists() && !force {
        let words = format!("{} is there already: another name, or --force", file.display());
        return Err(Failure::new(exit::CANNOT_CREATE, words));
    }
    let group = Group::reach(&args.admin).await?;
    let one = match from {
        Some(word) => group.named(Some(&word))?,
        None => group.leader().or_else(|_| applied_most(&group))?,
    };
    let bytes = save(one, &file).await?;
    let name = &one.status.name;
    let answer = json!({ "file": file.display().to_string(), "from": name, "bytes": bytes });
    print(&[match output {
        Output::Json => answer.to_string(),
        Output::Text => format!(
            "{}: {bytes} bytes from {name}, whole\nsee: quorate snapshot inspect {0}",
            file.display()
        ),
    }]);
    Ok(())
}

/// Their flags are not ours: only reached behind a global flag, where the words were read here.
fn sibling(verb: &str, rest: Vec<std::ffi::OsString>, output: Output) -> Result<()> {
    let words = std::iter::once(verb.into()).chain(rest).collect();
    Err(command::sibling::start("snapshot", words, output))
}

/// Without a leader: whoever has the most.
fn applied_most(group: &Group) -> Result<&Reached> {
    let most = group.reached.iter().max_by_key(|one| one.status.applied);
    most.filter(|one| one.status.applied > 0)
        .ok_or_else(|| Failure::unavailable("no member that was reached has any state"))
}

/// Gives the length of the file.
async fn save(one: &Reached, file: &Path) -> Result<u64> {
    let named = |path: &Path, error: io::Error| {
        Failure::new(exit::CANNOT_CREATE, format!("{}: {error}", path.display()))
    };
    let mut making = file.as_os_str().to_owned();
    making.push(".new");
    let making = PathBuf::from(making);
    let mut options = OpenOptions::new();
    // It holds the secrets of sessions.
    let out = options.write(true).create(true).truncate(true).mode(0o600).open(&making);
    let mut out = out.map_err(|error| named(&making, error))?;
    let written = receive(one, &mut out, |error| named(&making, error)).await;
    let length = match written {
        Ok(length) => length,
        Err(failure) => {
            // What is there is of no use to anybody.
            let _ = std::fs::remove_file(&making);
            return Err(failure);
        }
    };
    out.sync_all().map_err(|error| named(&making, error))?;
    std::fs::rename(&making, file).map_err(|error| named(file, error))?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|error| named(parent, error))?;
    Ok(length)
}

/// Writes what comes, in order, and checks it: one chunk in memory at a time.
async fn receive(
    one: &Reached,
    out: &mut File,
    named: impl Fn(io::Error) -> Failure,
) -> Result<u64> {
    let mut maintenance = MaintenanceClient::new(one.channel.clone());
    let mut stream = maintenance.snapshot(SnapshotRequest {}).await?.into_inner();
    let (mut check, mut total) = (Check::default(), 0);
    while let Some(answer) = stream.message().await? {
        total = answer.total_bytes;
        check.take(&answer.chunk);
        out.write_all(&answer.chunk).map_err(&named)?;
    }
    if check.length != total || !check.is_whole() {
        let words = format!("{} of {total} bytes came, and they are not whole", check.length);
        return Err(Failure::new(exit::DATA, words));
    }
    Ok(total)
}

/// The checksum of all bytes but the last four, which are it.
#[derive(Default)]
struct Check {
    length: u64,
    crc: u32,
    /// The last bytes, not counted yet.
    held: Vec<u8>,
    bad_start: bool,
}

impl Check {
    fn take(&mut self, chunk: &[u8]) {
        if self.length == 0 {
            self.bad_start = !chunk.starts_with(MAGIC);
        }
        self.length += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.held.extend_from_slice(chunk);
        let counted = self.held.len().saturating_sub(CHECKSUM_BYTES);
        self.crc = crc32c::crc32c_append(self.crc, &self.held[..counted]);
        self.held.drain(..counted);
    }

    fn is_whole(&self) -> bool {
        !self.bad_start && self.held == self.crc.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_however_it_was_cut_in_pieces() {
        let mut file = [MAGIC, &[7; 100]].concat();
        file.extend_from_slice(&crc32c::crc32c(&file).to_le_bytes());
        let is_whole = |bytes: &[u8], pieces: usize| {
            let mut check = Check::default();
            bytes.chunks(pieces).for_each(|chunk| check.take(chunk));
            check.is_whole()
        };
        for pieces in [8, 50, 109, 110, 1_000] {
            assert!(is_whole(&file, pieces), "{pieces}");
            assert!(!is_whole(&file[..file.len() - 1], pieces), "{pieces}");
        }
        file[50] ^= 1;
        assert!(!is_whole(&file, 50));
        assert!(!is_whole(&[], 50));
    }
}
