//! The bytes of a snapshot file.
//!
//! Invariant: a file under a snapshot's name was synced before it got the name, so one that does
//! not read as a whole is rotten. Must not panic on any bytes.

use super::disk::wide;
use super::format::{log_id_at, put_log_id, u32_at, u64_at, u128_at};
use quorate_raft::{Configuration, LogId, MemberId, Snapshot};

const MAGIC: [u8; 8] = *b"QUORSNAP";
const VERSION: u32 = 1;
/// Magic, version, checksum, member, last entry, lengths of configuration and data.
const HEAD_BYTES: usize = 60;

/// Appends the whole file.
pub fn encode(member: MemberId, snapshot: &Snapshot, out: &mut Vec<u8>) {
    let start = out.len();
    let configuration = snapshot.configuration.encode();
    let length =
        u32::try_from(configuration.len()).expect("a configuration has 64 members at most");
    out.reserve(HEAD_BYTES + configuration.len() + snapshot.data.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&member.0.to_le_bytes());
    put_log_id(snapshot.last, out);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&wide(snapshot.data.len()).to_le_bytes());
    assert!(out.len() - start == HEAD_BYTES);
    out.extend_from_slice(&configuration);
    out.extend_from_slice(&snapshot.data);
    let crc = crc32c::crc32c(&out[start + 16..]);
    out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a whole file.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8], member: MemberId, last: LogId) -> Result<Snapshot, &'static str> {
    if bytes.len() < HEAD_BYTES || bytes[..8] != MAGIC {
        return Err("it does not start as a snapshot");
    }
    if u32_at(bytes, 8) != VERSION {
        return Err("its version is not known");
    }
    if crc32c::crc32c(&bytes[16..]) != u32_at(bytes, 12) {
        return Err("its checksum is wrong");
    }
    if u128_at(bytes, 16) != member.0 {
        return Err("it belongs to another member");
    }
    if log_id_at(bytes, 32) != last {
        return Err("its name and its content disagree");
    }
    let length = usize::try_from(u32_at(bytes, 48)).unwrap_or(usize::MAX);
    let rest = &bytes[HEAD_BYTES..];
    let Some((configuration, data)) = rest.split_at_checked(length) else {
        return Err("its configuration is too long");
    };
    let Ok((configuration, [])) = Configuration::decode(configuration) else {
        return Err("its configuration does not decode");
    };
    if wide(data.len()) != u64_at(bytes, 52) {
        return Err("its length is wrong");
    }
    Ok(Snapshot { last, configuration, data: data.into() })
}
