//! The bytes of a whole machine.
//!
//! One byte of format version, the counter, a hold-off if there is one, the sessions by id with
//! what they keep, the names in order with holder and queue. Live claims are written once, with
//! their names; the sessions' tables of them are made again on reading.
//!
//! Invariants: equal machines have equal bytes; every machine that decodes passes
//! [`Machine::check`]; no bytes make the reader panic.
//!
//! Must not write anything that is not replicated state.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bytes::{DecodeError, Reader, Writer};
use crate::codec::{read_attachment, read_kind, read_request, write_attachment, write_kind};
use crate::command::{Generation, Key, RequestId, SessionId, Token};
use crate::machine::Machine;
use crate::name::{Holder, Name, Waiter};
use crate::planted::{self, Bug};
use crate::requests::{End, Kept, Live, Place, Requests};
use crate::session::Session;
use crate::tokens::Tokens;

/// The format of a machine that grants.
const VERSION: u8 = 1;
/// The same with the hold-off behind the counter. Written only while there is one: a version that
/// does not know it must not grant, and all others read on.
const VERSION_HELD_OFF: u8 = 2;

const NOT_ACQUIRED: u8 = 0;
const RELEASED: u8 = 1;
const CANCELLED: u8 = 2;
const VOID: u8 = 3;
const RELEASE: u8 = 4;

impl Machine {
    /// The machine as bytes: the same for equal machines, on every member.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(if self.hold_off_ms.is_some() { VERSION_HELD_OFF } else { VERSION });
        out.u64(self.last_index);
        out.bool(self.tokens.is_some());
        if let Some(tokens) = self.tokens {
            out.u16(tokens.epoch);
            out.u64(tokens.start_n);
            let forgets = planted::is(Bug::SnapshotForgetsTokens);
            out.u64(if forgets { tokens.start_n } else { tokens.last_n });
        }
        if let Some(hold_off_ms) = self.hold_off_ms {
            out.u32(hold_off_ms);
        }
        out.count(self.sessions.len());
        for (id, session) in &self.sessions {
            out.u64(id.0);
            write_session(&mut out, session);
        }
        out.count(self.names.len());
        for (name, entry) in &self.names {
            out.bytes(name.as_bytes());
            write_name(&mut out, entry);
        }
        out.finish()
    }

    /// The machine that these bytes are, all of them; everything is validated.
    ///
    /// # Errors
    /// An unknown version, missing or trailing bytes, or a state that no log can bring about.
    pub fn decode(bytes: &[u8]) -> Result<Machine, DecodeError> {
        let mut from = Reader::new(bytes);
        let version = from.u8()?;
        if version != VERSION && version != VERSION_HELD_OFF {
            return Err(DecodeError::Version(version));
        }
        let mut machine = Machine { last_index: from.u64()?, ..Machine::default() };
        if from.bool()? {
            let (epoch, start_n, last_n) = (from.u16()?, from.u64()?, from.u64()?);
            machine.tokens = Some(Tokens { epoch, start_n, last_n });
        }
        if version == VERSION_HELD_OFF {
            machine.hold_off_ms = Some(from.u32()?);
        }
        for _ in 0..from.u32()? {
            let id = SessionId(from.u64()?);
            let session = read_session(&mut from)?;
            rising(machine.sessions.last_key_value().map(|(last, _)| last), &id)?;
            machine.keys.insert(session.key, id);
            machine.sessions.insert(id, session);
        }
        for _ in 0..from.u32()? {
            let name: Arc<str> = Arc::from(from.text()?);
            let entry = read_name(&mut from)?;
            rising(machine.names.last_key_value().map(|(last, _)| last), &name)?;
            machine.link(&name, &entry)?;
            machine.names.insert(name, entry);
        }
        from.finish()?;
        machine.validate().map_err(DecodeError::Invalid)?;
        Ok(machine)
    }

    /// Tells the sessions of a name's claims.
    fn link(&mut self, name: &Arc<str>, entry: &Name) -> Result<(), DecodeError> {
        if let Some(Holder { session, request, token, .. }) = entry.holder {
            let live =
                Live { name: Arc::clone(name), kind: entry.kind, place: Place::Granted { token } };
            self.link_claim(session, request, live)?;
        }
        for (&arrival, waiter) in &entry.queue {
            let live =
                Live { name: Arc::clone(name), kind: entry.kind, place: Place::Queued { arrival } };
            self.link_claim(waiter.session, waiter.request, live)?;
        }
        Ok(())
    }

    fn link_claim(
        &mut self,
        session: SessionId,
        request: RequestId,
        live: Live,
    ) -> Result<(), DecodeError> {
        let unknown = DecodeError::Invalid("a claim has its session");
        let requests = &mut self.sessions.get_mut(&session).ok_or(unknown)?.requests;
        let other = requests.by_name.insert(Arc::clone(&live.name), request);
        let before = requests.live.insert(request, live);
        if other.is_some() || before.is_some() {
            return Err(DecodeError::Invalid("one live claim a name and request id"));
        }
        Ok(())
    }
}

/// One order only, so that equal machines have equal bytes; and nothing twice.
fn rising<T: Ord>(last: Option<&T>, next: &T) -> Result<(), DecodeError> {
    if last.is_some_and(|last| last >= next) {
        return Err(DecodeError::Invalid("keys rise"));
    }
    Ok(())
}

fn write_session(out: &mut Writer, session: &Session) {
    out.u128(session.key.0);
    out.u32(session.ttl_ms);
    out.u64(session.generation.0);
    write_attachment(out, session.attachment);
    out.bytes(session.label.as_bytes());
    out.u64(session.requests.floor.0);
    out.u64(session.requests.next.0);
    if planted::is(Bug::SnapshotForgetsOutcomes) {
        return out.count(0);
    }
    out.count(session.requests.kept.len());
    for (request, kept) in &session.requests.kept {
        out.u64(request.0);
        write_kept(out, kept);
    }
}

fn read_session(from: &mut Reader<'_>) -> Result<Session, DecodeError> {
    let key = Key(from.u128()?);
    let ttl_ms = from.u32()?;
    let generation = Generation(from.u64()?);
    let attachment = read_attachment(from)?;
    let label = from.text()?.to_owned();
    let (floor, next) = (read_request(from)?, read_request(from)?);
    let mut kept = BTreeMap::new();
    for _ in 0..from.u32()? {
        let request = read_request(from)?;
        rising(kept.last_key_value().map(|(last, _)| last), &request)?;
        kept.insert(request, read_kept(from)?);
    }
    let requests = Requests { floor, next, kept, ..Requests::new() };
    Ok(Session { key, ttl_ms, generation, attachment, label, requests })
}

fn write_kept(out: &mut Writer, kept: &Kept) {
    match kept {
        Kept::Claim { name, kind, end } => {
            out.u8(match end {
                End::NotAcquired => NOT_ACQUIRED,
                End::Released => RELEASED,
                End::Cancelled => CANCELLED,
            });
            write_kind(out, *kind);
            out.bytes(name.as_bytes());
        }
        Kept::Void => out.u8(VOID),
        Kept::Release { name, token } => {
            out.u8(RELEASE);
            out.bytes(name.as_bytes());
            out.u64(token.0);
        }
    }
}

fn read_kept(from: &mut Reader<'_>) -> Result<Kept, DecodeError> {
    let end = match from.u8()? {
        NOT_ACQUIRED => End::NotAcquired,
        RELEASED => End::Released,
        CANCELLED => End::Cancelled,
        VOID => return Ok(Kept::Void),
        RELEASE => {
            let name = Arc::from(from.text()?);
            return Ok(Kept::Release { name, token: Token(from.u64()?) });
        }
        _ => return Err(DecodeError::Invalid("kind of outcome")),
    };
    let kind = read_kind(from)?;
    Ok(Kept::Claim { name: Arc::from(from.text()?), kind, end })
}

fn write_name(out: &mut Writer, entry: &Name) {
    write_kind(out, entry.kind);
    out.bool(entry.holder.is_some());
    if let Some(holder) = &entry.holder {
        out.u64(holder.session.0);
        out.u64(holder.request.0);
        out.u64(holder.token.0);
        out.bytes(&holder.value);
    }
    out.count(entry.queue.len());
    for (arrival, waiter) in &entry.queue {
        out.u64(*arrival);
        out.u64(waiter.session.0);
        out.u64(waiter.request.0);
        out.bytes(&waiter.value);
    }
}

fn read_name(from: &mut Reader<'_>) -> Result<Name, DecodeError> {
    let mut entry = Name::new(read_kind(from)?);
    if from.bool()? {
        entry.holder = Some(Holder {
            session: SessionId(from.u64()?),
            request: read_request(from)?,
            token: Token(from.u64()?),
            value: from.bytes()?.to_vec(),
        });
    }
    for _ in 0..from.u32()? {
        let arrival = from.u64()?;
        rising(entry.queue.last_key_value().map(|(last, _)| last), &arrival)?;
        let waiter = Waiter {
            session: SessionId(from.u64()?),
            request: read_request(from)?,
            value: from.bytes()?.to_vec(),
        };
        entry.queue.insert(arrival, waiter);
    }
    Ok(entry)
}
