//! The bytes of a command: what a log entry carries.
//!
//! One byte of format version, one of kind, then the fields in the order of their declaration.
//! Invariants: decode(encode(c)) == c; no other bytes decode to c; an unknown version or kind is
//! an error, because a member that skipped an entry would differ from the others from then on.
//!
//! Must not judge the fields: what is out of range, the machine refuses, on every member alike.

use crate::bytes::{DecodeError, Reader, Writer};
use crate::command::{
    Attachment, Claim, Command, Generation, Key, Mode, NameKind, RequestId, SessionId, Token,
};

/// The format that this version writes, and the only one that it reads.
pub(crate) const VERSION: u8 = 1;

const START: u8 = 1;
const OPEN: u8 = 2;
const RESUME: u8 = 3;
const CLOSE: u8 = 4;
const EXPIRE: u8 = 5;
const CLAIM: u8 = 6;
const RELEASE: u8 = 7;
const CANCEL: u8 = 8;

impl Command {
    /// The command as bytes; the first one is the format version.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        match self {
            Command::Start { epoch, last_n } => {
                out.u8(START);
                out.u16(*epoch);
                out.u64(*last_n);
            }
            Command::Open { key, ttl_ms, attachment, label } => {
                out.u8(OPEN);
                out.u128(key.0);
                out.u32(*ttl_ms);
                write_attachment(&mut out, *attachment);
                out.bytes(label.as_bytes());
            }
            Command::Resume { key, replaces, attachment } => {
                out.u8(RESUME);
                out.u128(key.0);
                out.u64(replaces.0);
                write_attachment(&mut out, *attachment);
            }
            Command::Close { session, generation } => {
                write_owner(&mut out, CLOSE, *session, *generation);
            }
            Command::Expire { sessions } => write_expire(&mut out, sessions),
            Command::Claim(claim) => write_claim(&mut out, claim),
            Command::Release { session, generation, request, name, token } => {
                write_owner(&mut out, RELEASE, *session, *generation);
                out.bool(request.is_some());
                if let Some((request, lowest_unacked)) = request {
                    out.u64(request.0);
                    out.u64(lowest_unacked.0);
                }
                out.bytes(name.as_bytes());
                out.u64(token.0);
            }
            Command::Cancel { session, generation, request } => {
                write_owner(&mut out, CANCEL, *session, *generation);
                out.u64(request.0);
            }
        }
        out.finish()
    }

    /// The command that these bytes are, all of them.
    ///
    /// # Errors
    /// An unknown version or kind, missing or trailing bytes, text that is not UTF-8, a flag that
    /// is neither 0 nor 1.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let mut from = Reader::new(bytes);
        let version = from.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let kind = from.u8()?;
        let command = read_command(kind, &mut from)?;
        from.finish()?;
        Ok(command)
    }
}

fn read_command(kind: u8, from: &mut Reader<'_>) -> Result<Command, DecodeError> {
    Ok(match kind {
        START => Command::Start { epoch: from.u16()?, last_n: from.u64()? },
        OPEN => Command::Open {
            key: Key(from.u128()?),
            ttl_ms: from.u32()?,
            attachment: read_attachment(from)?,
            label: from.text()?.to_owned(),
        },
        RESUME => Command::Resume {
            key: Key(from.u128()?),
            replaces: Generation(from.u64()?),
            attachment: read_attachment(from)?,
        },
        CLOSE => {
            let (session, generation) = read_owner(from)?;
            Command::Close { session, generation }
        }
        EXPIRE => {
            let count = from.u32()?;
            // Grows as bytes are there to read, not as the count claims.
            let sessions = (0..count).map(|_| read_owner(from)).collect::<Result<_, _>>()?;
            Command::Expire { sessions }
        }
        CLAIM => Command::Claim(read_claim(from)?),
        RELEASE => {
            let (session, generation) = read_owner(from)?;
            let request =
                if from.bool()? { Some((read_request(from)?, read_request(from)?)) } else { None };
            let name = from.text()?.to_owned();
            Command::Release { session, generation, request, name, token: Token(from.u64()?) }
        }
        CANCEL => {
            let (session, generation) = read_owner(from)?;
            Command::Cancel { session, generation, request: read_request(from)? }
        }
        unknown => return Err(DecodeError::Kind(unknown)),
    })
}

fn write_owner(out: &mut Writer, kind: u8, session: SessionId, generation: Generation) {
    out.u8(kind);
    out.u64(session.0);
    out.u64(generation.0);
}

fn read_owner(from: &mut Reader<'_>) -> Result<(SessionId, Generation), DecodeError> {
    Ok((SessionId(from.u64()?), Generation(from.u64()?)))
}

fn write_expire(out: &mut Writer, sessions: &[(SessionId, Generation)]) {
    out.u8(EXPIRE);
    out.count(sessions.len());
    for (session, generation) in sessions {
        out.u64(session.0);
        out.u64(generation.0);
    }
}

fn write_claim(out: &mut Writer, claim: &Claim) {
    write_owner(out, CLAIM, claim.session, claim.generation);
    out.u64(claim.request.0);
    out.u64(claim.lowest_unacked.0);
    out.bytes(claim.name.as_bytes());
    write_kind(out, claim.kind);
    out.bool(claim.mode == Mode::Shared);
    out.u32(claim.permits);
    out.i32(claim.priority);
    out.bytes(&claim.value);
    out.bool(claim.queue);
}

fn read_claim(from: &mut Reader<'_>) -> Result<Claim, DecodeError> {
    let (session, generation) = read_owner(from)?;
    Ok(Claim {
        session,
        generation,
        request: read_request(from)?,
        lowest_unacked: read_request(from)?,
        name: from.text()?.to_owned(),
        kind: read_kind(from)?,
        mode: if from.bool()? { Mode::Shared } else { Mode::Exclusive },
        permits: from.u32()?,
        priority: from.i32()?,
        value: from.bytes()?.to_vec(),
        queue: from.bool()?,
    })
}

pub(crate) fn read_request(from: &mut Reader<'_>) -> Result<RequestId, DecodeError> {
    from.u64().map(RequestId)
}

pub(crate) fn write_attachment(out: &mut Writer, attachment: Attachment) {
    out.u128(attachment.member);
    out.u64(attachment.boot);
}

pub(crate) fn read_attachment(from: &mut Reader<'_>) -> Result<Attachment, DecodeError> {
    Ok(Attachment { member: from.u128()?, boot: from.u64()? })
}

pub(crate) fn write_kind(out: &mut Writer, kind: NameKind) {
    out.u8(match kind {
        NameKind::Lock => 0,
        NameKind::Election => 1,
    });
}

pub(crate) fn read_kind(from: &mut Reader<'_>) -> Result<NameKind, DecodeError> {
    match from.u8()? {
        0 => Ok(NameKind::Lock),
        1 => Ok(NameKind::Election),
        _ => Err(DecodeError::Invalid("kind of name")),
    }
}
