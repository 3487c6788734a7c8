//! The words of a relay as messages of `quorate.peer.v1`, and back. Every field is checked; nothing
//! here panics on what the other side sends.

use super::{Relayed, Said};
use crate::frame::PeerMessage;
use crate::peer::convert::{BadFrame, CHUNK_BYTES_MAX, Received, from_frame, to_frame};
use prost::bytes::Bytes;
use quorate_locks::Attachment;
use quorate_locks::limits::SESSIONS_MAX;
use quorate_proto::peer as wire;
use quorate_proto::peer::frame::Frame as Framed;
use quorate_proto::peer::relay_event::Event;
use quorate_proto::peer::relay_request::Request;
use quorate_raft::{Configuration, Entry, LogId, MemberId, Term};
use std::sync::Arc;

/// Bytes of a whole state, at most: far more than the limits of sessions and names allow.
pub const STATE_BYTES_MAX: u64 = 1 << 30;

/// What an attached sidecar hears of its relay.
#[derive(Clone, Debug)]
pub enum Heard {
    /// First.
    Welcome(Welcome),
    /// All but a state, which comes in parts.
    Relayed(Relayed),
    /// A part of a state.
    Part(Part),
}

/// How a relay introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Its group.
    pub cluster: u128,
    /// The member.
    pub member: MemberId,
    /// Its name.
    pub name: String,
    /// The group's election timeout, in ms.
    pub election_timeout_ms: u64,
}

/// A part of a state.
#[derive(Clone, Debug)]
pub struct Part {
    /// The last entry of the state.
    pub last: LogId,
    /// Where the part begins.
    pub offset: u64,
    /// Bytes of the whole, at most [`STATE_BYTES_MAX`].
    pub total: u64,
    /// The part.
    pub chunk: Bytes,
}

fn id(bytes: &[u8], field: &'static str) -> Result<u128, BadFrame> {
    let id = <[u8; 16]>::try_from(bytes).map_err(|_| BadFrame::Field(field))?;
    let id = u128::from_le_bytes(id);
    if id == 0 { Err(BadFrame::Field(field)) } else { Ok(id) }
}

fn request(request: Request) -> wire::RelayRequest {
    wire::RelayRequest { request: Some(request) }
}

fn event(event: Event) -> wire::RelayEvent {
    wire::RelayEvent { event: Some(event) }
}

/// The first word of an attached sidecar.
#[must_use]
pub fn introduction(own: Attachment, name: &str) -> wire::RelayRequest {
    request(Request::Introduction(wire::Introduction {
        sidecar: own.member.to_le_bytes().to_vec(),
        boot_bits: own.boot,
        name: name.to_owned(),
    }))
}

/// Its other words. None: it is not one that is said.
#[must_use]
pub fn said(said: &Said) -> Option<wire::RelayRequest> {
    let framed = |message: PeerMessage| match to_frame(&message).frame? {
        Framed::Forward(forward) => Some(request(Request::Forward(forward))),
        Framed::Heartbeat(beat) => Some(request(Request::Heartbeat(beat))),
        _ => None,
    };
    match said {
        Said::Began(_) | Said::Ended => None,
        Said::Follow(applied) => {
            Some(request(Request::Follow(wire::Follow { applied: applied.0 })))
        }
        Said::Ping(number) => Some(request(Request::Ping(wire::Ping { number: *number }))),
        Said::Forward(forward) => framed(PeerMessage::Forward(forward.clone())),
        Said::Heartbeat(beat) => framed(PeerMessage::Heartbeat(beat.clone())),
    }
}

/// Takes what an attached sidecar says. Its name is for people.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn from_request(asked: wire::RelayRequest) -> Result<(Said, String), BadFrame> {
    let framed = |frame| match from_frame(wire::Frame { frame: Some(frame) })? {
        Received::Message(PeerMessage::Forward(forward)) => Ok(Said::Forward(forward)),
        // With what this member adds it is still a frame.
        Received::Message(PeerMessage::Heartbeat(beat)) if beat.sessions.len() > SESSIONS_MAX => {
            Err(BadFrame::Field("heartbeat.sessions"))
        }
        Received::Message(PeerMessage::Heartbeat(beat)) => Ok(Said::Heartbeat(beat)),
        _ => Err(BadFrame::Missing("request")),
    };
    let said = match asked.request.ok_or(BadFrame::Missing("request"))? {
        Request::Introduction(own) => {
            if own.name.len() > Configuration::NAME_BYTES_MAX {
                return Err(BadFrame::Field("introduction.name"));
            }
            let member = id(&own.sidecar, "introduction.sidecar")?;
            return Ok((Said::Began(Attachment { member, boot: own.boot_bits }), own.name));
        }
        Request::Follow(follow) => Said::Follow(quorate_raft::Index(follow.applied)),
        Request::Ping(ping) => Said::Ping(ping.number),
        Request::Forward(forward) => framed(Framed::Forward(forward))?,
        Request::Heartbeat(beat) => framed(Framed::Heartbeat(beat))?,
    };
    Ok((said, String::new()))
}

/// The first word of a relay.
#[must_use]
pub fn welcome(welcome: &Welcome) -> wire::RelayEvent {
    event(Event::Welcome(wire::Welcome {
        cluster_id: welcome.cluster.to_le_bytes().to_vec(),
        member_id: welcome.member.0.to_le_bytes().to_vec(),
        name: welcome.name.clone(),
        election_timeout_ms: welcome.election_timeout_ms,
    }))
}

/// Its other words: a state in parts, each made when it is taken; anything else in one.
pub fn events(relayed: &Relayed) -> Box<dyn Iterator<Item = wire::RelayEvent> + Send + '_> {
    match relayed {
        Relayed::State(last, bytes) => Box::new(parts(*last, bytes)),
        relayed => Box::new(one(relayed).into_iter()),
    }
}

fn one(relayed: &Relayed) -> Option<wire::RelayEvent> {
    let framed = |message: PeerMessage| match to_frame(&message).frame {
        Some(Framed::ForwardReply(reply)) => Some(event(Event::ForwardReply(reply))),
        Some(Framed::HeartbeatAck(ack)) => Some(event(Event::HeartbeatAck(ack))),
        _ => None,
    };
    match relayed {
        Relayed::State(..) => None,
        Relayed::Leads(term, leader) => {
            let leader = leader.map(|id| id.0.to_le_bytes().to_vec()).unwrap_or_default();
            Some(event(Event::Leads(wire::Leads { term: term.0, leader })))
        }
        Relayed::Members(members) => Some(event(Event::Members(members.encode()))),
        Relayed::Entries(entries) => {
            let entries = entries.iter().map(|entry| entry.bytes().to_vec()).collect();
            Some(event(Event::Entries(wire::Entries { entries })))
        }
        Relayed::Reply(reply) => framed(PeerMessage::ForwardReply(reply.clone())),
        Relayed::Ack(ack) => framed(PeerMessage::HeartbeatAck(ack.clone())),
        Relayed::Pong(number) => Some(event(Event::Pong(wire::Ping { number: *number }))),
        Relayed::Goodbye => Some(event(Event::Goodbye(wire::Goodbye {}))),
    }
}

fn parts(last: LogId, bytes: &[u8]) -> impl Iterator<Item = wire::RelayEvent> {
    let size = |bytes: &[u8]| u64::try_from(bytes.len()).expect("memory is smaller than that");
    let (mut offset, total) = (0, size(bytes));
    bytes.chunks(CHUNK_BYTES_MAX).map(move |chunk| {
        let at = Some(wire::LogId { term: last.term.0, index: last.index.0 });
        let part = wire::StatePart { last: at, offset, total, chunk: chunk.to_vec() };
        offset += size(chunk);
        event(Event::State(part))
    })
}

/// Takes what a relay says.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn from_event(heard: wire::RelayEvent) -> Result<Heard, BadFrame> {
    let framed = |frame| match from_frame(wire::Frame { frame: Some(frame) })? {
        Received::Message(PeerMessage::ForwardReply(reply)) => Ok(Relayed::Reply(reply)),
        Received::Message(PeerMessage::HeartbeatAck(ack)) => Ok(Relayed::Ack(ack)),
        _ => Err(BadFrame::Missing("event")),
    };
    Ok(Heard::Relayed(match heard.event.ok_or(BadFrame::Missing("event"))? {
        Event::Welcome(welcome) => return from_welcome(welcome).map(Heard::Welcome),
        Event::State(part) => return from_part(part).map(Heard::Part),
        Event::Leads(leads) => {
            let known = !leads.leader.is_empty();
            let leader = known.then(|| id(&leads.leader, "leads.leader")).transpose()?;
            Relayed::Leads(Term(leads.term), leader.map(MemberId))
        }
        Event::Members(bytes) => match Configuration::decode(&bytes) {
            Ok((members, [])) => Relayed::Members(members),
            Ok(_) => return Err(BadFrame::Field("members")),
            Err(why) => return Err(BadFrame::Encoding("members", why)),
        },
        Event::Entries(entries) => {
            let entry = |bytes: Vec<u8>| {
                let entry = Entry::decode(Arc::from(bytes));
                entry.map_err(|why| BadFrame::Encoding("entries.entries", why))
            };
            Relayed::Entries(entries.entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        Event::ForwardReply(reply) => framed(Framed::ForwardReply(reply))?,
        Event::HeartbeatAck(ack) => framed(Framed::HeartbeatAck(ack))?,
        Event::Pong(ping) => Relayed::Pong(ping.number),
        Event::Goodbye(_) => Relayed::Goodbye,
    }))
}

fn from_welcome(welcome: wire::Welcome) -> Result<Welcome, BadFrame> {
    if welcome.name.len() > Configuration::NAME_BYTES_MAX {
        return Err(BadFrame::Field("welcome.name"));
    }
    if !(1..=60_000).contains(&welcome.election_timeout_ms) {
        return Err(BadFrame::Field("welcome.election_timeout_ms"));
    }
    Ok(Welcome {
        cluster: id(&welcome.cluster_id, "welcome.cluster_id")?,
        member: MemberId(id(&welcome.member_id, "welcome.member_id")?),
        name: welcome.name,
        election_timeout_ms: welcome.election_timeout_ms,
    })
}

fn from_part(part: wire::StatePart) -> Result<Part, BadFrame> {
    let last = part.last.ok_or(BadFrame::Missing("state.last"))?;
    if part.chunk.is_empty() || part.chunk.len() > CHUNK_BYTES_MAX {
        return Err(BadFrame::Field("state.chunk"));
    }
    let end = u64::try_from(part.chunk.len()).ok().and_then(|len| part.offset.checked_add(len));
    if part.total > STATE_BYTES_MAX || end.is_none_or(|end| end > part.total) {
        return Err(BadFrame::Field("state.total"));
    }
    let last = LogId::new(last.term, last.index);
    Ok(Part { last, offset: part.offset, total: part.total, chunk: part.chunk.into() })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
