//! The bytes of a segment: header, marks, records. `docs/wal-format.md` is the reference.
//!
//! Invariants: a record counts only if its checksum is right and its chain continues the record
//! before it, from a seed that no other segment shares: what a recycled file holds never follows.
//! Must not panic on any bytes.

use super::disk::{narrow, wide};
use crate::planted;
use quorate_raft::{Index, LogId, MemberId, Term};

/// The first page of a segment: a header sector and two mark sectors.
pub const PAGE_BYTES: u64 = 4096;
/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: u64 = 512;
/// Where the two marks are: each in its own sector.
pub const MARK_OFFSETS: [u64; 2] = [512, 1024];
/// Bytes of a mark.
pub const MARK_BYTES: usize = 36;
/// Bytes of a record before its body; as many zeros follow the last record.
pub const RECORD_BYTES: usize = 20;
/// Bytes of the record that ends a segment; kept free in each.
pub const SEAL_BYTES: u64 = 28;
const VERSION: u32 = 1;

/// The version of the format that this program writes. It reads those before it, too.
#[must_use]
pub fn newest_version() -> u32 {
    VERSION + u32::from(planted::is_next_version())
}

const MAGIC: [u8; 8] = *b"QUORWAL\0";
const HEADER_CRC: usize = 508;

/// Record kind: term and vote.
pub const HARD_STATE: u8 = 1;
/// Record kind: an entry; the body is the entry's encoding.
pub const ENTRY: u8 = 2;
/// Record kind: a snapshot file is durable.
pub const SNAPSHOT: u8 = 3;
/// Record kind: the log was opened.
pub const OPENED: u8 = 4;
/// Record kind: the segment ends here, the log goes on in the next.
pub const SEAL: u8 = 5;

/// Snapshot record: built by this member.
pub const BUILT: u8 = 0;
/// Snapshot record: the leader's; the log before this record is void.
pub const INSTALLED: u8 = 1;
/// Snapshot record: the leader's; the log goes on after the snapshot's last entry.
pub const INSTALLED_INSIDE: u8 = 2;

/// What a segment starts with: enough to do without all segments before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version of its format.
    pub version: u32,
    /// The segment's number, from 1.
    pub number: u64,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Whose log.
    pub member: MemberId,
    /// The term as of the start.
    pub term: Term,
    /// The vote as of the start.
    pub vote: Option<MemberId>,
    /// The newest durable snapshot as of the start; zero: none.
    pub snapshot: LogId,
    /// The log's last entry as of the start; zero: none.
    pub last: LogId,
    /// The chain at the end of the segment before; zero: this is the first.
    pub previous: u64,
}

/// What the first sector of a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFound {
    /// Zeros: not begun.
    Zero,
    /// A header.
    Valid(Header),
    /// A header of a version that this program does not know.
    Version(u32),
    /// Neither.
    Damaged,
}

impl Header {
    /// Appends the whole first page: this header, and no marks.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.member.0.to_le_bytes());
        put_hard_state(self.term, self.vote, out);
        put_log_id(self.snapshot, out);
        put_log_id(self.last, out);
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.resize(start + HEADER_CRC, 0);
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(start + narrow(PAGE_BYTES), 0);
    }

    /// Reads the first sector of a segment, of a version up to this one.
    #[must_use]
    pub fn decode(segment: &[u8], newest: u32) -> HeaderFound {
        let Some(sector) = segment.get(..narrow(SECTOR_BYTES)) else {
            return HeaderFound::Damaged;
        };
        if sector.iter().all(|byte| *byte == 0) {
            return HeaderFound::Zero;
        }
        let crc = crc32c::crc32c(&sector[..HEADER_CRC]);
        if sector[..8] != MAGIC || crc != u32_at(sector, HEADER_CRC) {
            return HeaderFound::Damaged;
        }
        let version = u32_at(sector, 8);
        if !(1..=newest).contains(&version) {
            return HeaderFound::Version(version);
        }
        let (term, vote) = hard_state_at(sector, 48);
        HeaderFound::Valid(Header {
            version,
            number: u64_at(sector, 16),
            bytes: u64_at(sector, 24),
            member: MemberId(u128_at(sector, 32)),
            term,
            vote,
            snapshot: log_id_at(sector, 73),
            last: log_id_at(sector, 89),
            previous: u64_at(sector, 105),
        })
    }
}

/// A proof that everything before an offset was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The segment.
    pub number: u64,
    /// How many marks the segment had before.
    pub count: u64,
    /// Where the synced records end.
    pub offset: u64,
    /// The chain there.
    pub chain: u64,
}

/// What a mark sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkFound {
    /// Zeros: none yet.
    Zero,
    /// A mark.
    Valid(Mark),
    /// Neither: a sector is written whole, so only rot does that.
    Damaged,
}

impl Mark {
    /// Where this mark goes.
    #[must_use]
    pub fn place(&self) -> u64 {
        MARK_OFFSETS[usize::from(self.count % 2 == 1)]
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for word in [self.number, self.count, self.offset, self.chain] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        assert!(out.len() - start == MARK_BYTES);
    }

    /// Reads the mark at `offset` of a segment that has a whole first page.
    #[must_use]
    pub fn decode(segment: &[u8], number: u64, offset: u64) -> MarkFound {
        let start = narrow(offset);
        let Some(bytes) = segment.get(start..start + MARK_BYTES) else {
            return MarkFound::Damaged;
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return MarkFound::Zero;
        }
        let mark = Mark {
            number: u64_at(bytes, 0),
            count: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            chain: u64_at(bytes, 24),
        };
        let crc = crc32c::crc32c(&bytes[..32]);
        let valid = crc == u32_at(bytes, 32) && mark.number == number && mark.place() == offset;
        if valid { MarkFound::Valid(mark) } else { MarkFound::Damaged }
    }
}

/// What lies at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// The record that follows the chain.
    Record {
        /// Its kind.
        kind: u8,
        /// Its body.
        body: &'a [u8],
        /// Where the next one starts.
        end: usize,
        /// The chain after it.
        chain: u64,
    },
    /// Zeros: nothing follows.
    End,
    /// No record that follows the chain: why.
    Broken(&'static str),
}

/// Appends a record and gives the chain after it.
pub fn put_record(previous: u64, kind: u8, body: &[u8], out: &mut Vec<u8>) -> u64 {
    let start = out.len();
    let length = u32::try_from(body.len()).expect("a record is smaller than its segment");
    let chain = chain(previous, kind, body);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[kind, 0, 0, 0]);
    out.extend_from_slice(&chain.to_le_bytes());
    out.extend_from_slice(body);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    assert!(kind != 0 && out.len() - start == RECORD_BYTES + body.len());
    chain
}

/// Reads what lies at `at`, after a record that left the chain at `previous`.
#[must_use]
pub fn next_record(segment: &[u8], at: usize, previous: u64) -> Next<'_> {
    let rest = segment.get(at..).unwrap_or_default();
    let Some(head) = rest.get(..RECORD_BYTES) else {
        let zero = rest.iter().all(|byte| *byte == 0);
        return if zero { Next::End } else { Next::Broken("too short for a record") };
    };
    if head.iter().all(|byte| *byte == 0) {
        return Next::End;
    }
    let length = usize::try_from(u32_at(head, 4)).unwrap_or(usize::MAX);
    let Some(body) = rest.get(RECORD_BYTES..).and_then(|body| body.get(..length)) else {
        return Next::Broken("its length is beyond the segment");
    };
    let crc = crc32c::crc32c(&rest[4..RECORD_BYTES + length]);
    if crc != u32_at(head, 0) {
        return Next::Broken("its checksum is wrong");
    }
    let kind = head[8];
    let chain = chain(previous, kind, body);
    if chain != u64_at(head, 12) {
        return Next::Broken("it does not continue the chain: it is from before");
    }
    Next::Record { kind, body, end: at + RECORD_BYTES + length, chain }
}

/// Where a segment's chain starts.
#[must_use]
pub fn seed(number: u64, member: MemberId) -> u64 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&member.0.to_le_bytes());
    chain(number, 0, &bytes)
}

/// Each step is a bijection of the state, so two different states never meet on the same body.
fn chain(previous: u64, kind: u8, body: &[u8]) -> u64 {
    let mut state = step(previous, (wide(body.len()) << 8) | u64::from(kind));
    let (words, rest) = body.as_chunks::<8>();
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = step(state, u64::from_le_bytes(last));
    state ^= state >> 32;
    state = state.wrapping_mul(0xd6e8_feb8_6659_fd93);
    state ^ (state >> 32)
}

fn step(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Appends term and vote: 25 bytes.
pub fn put_hard_state(term: Term, vote: Option<MemberId>, out: &mut Vec<u8>) {
    out.extend_from_slice(&term.0.to_le_bytes());
    out.push(u8::from(vote.is_some()));
    out.extend_from_slice(&vote.unwrap_or_default().0.to_le_bytes());
}

/// Reads a hard state record's body.
#[must_use]
pub fn hard_state(body: &[u8]) -> Option<(Term, Option<MemberId>)> {
    (body.len() == 25).then(|| hard_state_at(body, 0))
}

fn hard_state_at(bytes: &[u8], at: usize) -> (Term, Option<MemberId>) {
    let vote = (bytes[at + 8] == 1).then(|| MemberId(u128_at(bytes, at + 9)));
    (Term(u64_at(bytes, at)), vote)
}

/// Appends 16 bytes.
pub fn put_log_id(id: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.term.0.to_le_bytes());
    out.extend_from_slice(&id.index.0.to_le_bytes());
}

/// Reads a snapshot record's body: which, and how it came.
#[must_use]
pub fn snapshot_record(body: &[u8]) -> Option<(LogId, u8)> {
    (body.len() == 17 && body[16] <= INSTALLED_INSIDE).then(|| (log_id_at(body, 0), body[16]))
}

/// Reads a body of one number.
#[must_use]
pub fn number_record(body: &[u8]) -> Option<u64> {
    (body.len() == 8).then(|| u64_at(body, 0))
}

pub(super) fn log_id_at(bytes: &[u8], at: usize) -> LogId {
    LogId { term: Term(u64_at(bytes, at)), index: Index(u64_at(bytes, at + 8)) }
}

/// The caller knows that the bytes are there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

pub(super) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    let mut word = [0; 16];
    word.copy_from_slice(&bytes[at..at + 16]);
    u128::from_le_bytes(word)
}
