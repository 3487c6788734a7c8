//! The bytes of a backup: a group's state at one durable index, with all that a restore needs.
//!
//! Layout, little endian: `QUORBACK`, version (4 bytes), the cluster and the member that made it
//! (16 each), term and index of the last entry (8 each), when it was made (8, seconds since 1970),
//! lengths of the configuration (4) and of the state (8), configuration, state, and the CRC32C of
//! all before it (4).
//!
//! Invariant: what decodes is whole, and its state is one that a machine can go on from. Must not
//! panic on any bytes.

use quorate_locks::Machine;
use quorate_raft::{Configuration, LogId, MemberId, Snapshot};
use std::io::{self, Read};

const MAGIC: [u8; 8] = *b"QUORBACK";
const VERSION: u32 = 1;
/// Everything before the configuration.
const HEAD_BYTES: usize = 80;
const CHECKSUM_BYTES: usize = 4;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The group.
    pub cluster: u128,
    /// Who made it.
    pub member: MemberId,
    /// When, in seconds since 1970, by that member's clock.
    pub made_unix_s: u64,
    /// State and membership, as of its last entry.
    pub snapshot: Snapshot,
}

impl Backup {
    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Snapshot { last, configuration, data } = &self.snapshot;
        let configuration = configuration.encode();
        let mut out = Vec::with_capacity(HEAD_BYTES + configuration.len() + data.len() + 4);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.cluster.to_le_bytes());
        out.extend_from_slice(&self.member.0.to_le_bytes());
        out.extend_from_slice(&last.term.0.to_le_bytes());
        out.extend_from_slice(&last.index.0.to_le_bytes());
        out.extend_from_slice(&self.made_unix_s.to_le_bytes());
        let length = u32::try_from(configuration.len()).expect("a configuration has 64 members");
        out.extend_from_slice(&length.to_le_bytes());
        let length = u64::try_from(data.len()).expect("memory is smaller");
        out.extend_from_slice(&length.to_le_bytes());
        assert!(out.len() == HEAD_BYTES);
        out.extend_from_slice(&configuration);
        out.extend_from_slice(data);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a whole file, and tries whether a machine can be made of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<(Backup, Machine), String> {
        let (fixed, length) = Fixed::decode(bytes)?;
        let Some((checked, crc)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err("it is cut off".to_owned());
        };
        if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
            return Err("its checksum is wrong: it is damaged or cut off".to_owned());
        }
        let rest = checked.get(HEAD_BYTES..).unwrap_or_default();
        let Some((configuration, data)) = rest.split_at_checked(length) else {
            return Err("its configuration is longer than the file".to_owned());
        };
        let Ok((configuration, [])) = Configuration::decode(configuration) else {
            return Err("its configuration does not decode".to_owned());
        };
        if u64::try_from(data.len()) != Ok(fixed.data_bytes) {
            return Err("its state has another length than it says".to_owned());
        }
        let machine = Machine::decode(data).map_err(|e| format!("its state: {e}"))?;
        if machine.last_index() > fixed.last.index.0 || machine.life().0 == 0 {
            return Err("its state and its last entry do not fit together".to_owned());
        }
        let Fixed { cluster, member, made_unix_s, last, .. } = fixed;
        let snapshot = Snapshot { last, configuration, data: data.into() };
        Ok((Backup { cluster, member, made_unix_s, snapshot }, machine))
    }

    /// Reads a file that is no longer than any backup can be.
    ///
    /// # Errors
    /// The operating system's, or it is longer.
    pub fn read(from: impl Read) -> io::Result<Vec<u8>> {
        /// Twice what a snapshot from a peer may have.
        const BYTES_MAX: u64 = 2 << 30;
        let mut bytes = Vec::new();
        from.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > BYTES_MAX {
            return Err(io::Error::other("it is larger than any backup"));
        }
        Ok(bytes)
    }
}

/// The fields before the configuration.
struct Fixed {
    cluster: u128,
    member: MemberId,
    made_unix_s: u64,
    last: LogId,
    data_bytes: u64,
}

impl Fixed {
    /// The fields, and the length of the configuration.
    fn decode(bytes: &[u8]) -> Result<(Fixed, usize), String> {
        if !bytes.starts_with(&MAGIC) {
            return Err("it does not start as a backup".to_owned());
        }
        let mut at = Fields { rest: &bytes[MAGIC.len()..] };
        let version = u32::from_le_bytes(at.take()?);
        if version != VERSION {
            return Err(format!("its version is {version}, and this reads {VERSION}"));
        }
        let cluster = u128::from_le_bytes(at.take()?);
        let member = MemberId(u128::from_le_bytes(at.take()?));
        let (term, index) = (u64::from_le_bytes(at.take()?), u64::from_le_bytes(at.take()?));
        let made_unix_s = u64::from_le_bytes(at.take()?);
        let length = u32::from_le_bytes(at.take()?);
        let data_bytes = u64::from_le_bytes(at.take()?);
        let last = LogId::new(term, index);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok((Fixed { cluster, member, made_unix_s, last, data_bytes }, length))
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or("it is cut off")?;
        self.rest = rest;
        Ok(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_locks::Command;

    fn backup() -> Backup {
        let mut machine = Machine::new();
        machine.apply(1, &Command::Start { epoch: 7, last_n: 9 }, &mut Vec::new());
        let voters = [(MemberId(5), "a".to_owned())];
        let configuration = Configuration::of_voters(voters);
        let last = LogId::new(3, 12);
        let snapshot = Snapshot { last, configuration, data: machine.encode().into() };
        Backup { cluster: 4, member: MemberId(5), made_unix_s: 1_800_000_000, snapshot }
    }

    #[test]
    fn what_was_written_is_read() {
        let (read, machine) = Backup::decode(&backup().encode()).expect("whole");
        assert_eq!(read, backup());
        assert_eq!(machine.last_token().epoch(), 7);
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_found() {
        let whole = backup().encode();
        for length in 0..whole.len() {
            assert!(Backup::decode(&whole[..length]).is_err(), "cut after {length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(Backup::decode(&damaged).is_err(), "byte {at}");
        }
        assert!(Backup::decode(&[&whole[..], &[0]].concat()).is_err(), "one byte more");
    }

    #[test]
    fn a_state_from_after_its_last_entry_is_refused() {
        let mut backup = backup();
        backup.snapshot.last = LogId::new(3, 0);
        let why = Backup::decode(&backup.encode()).expect_err("refused");
        assert!(why.contains("do not fit together"), "{why}");
    }
}
