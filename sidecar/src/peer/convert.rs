//! Peer messages as frames of `quorate.peer.v1`, and back.
//!
//! To a frame: total, and entries are shared, not copied. From a frame: every field is checked,
//! whatever is wrong is a typed error, and nothing here panics on what a peer sends. Whether a
//! message makes sense at this moment is for the consensus core to say.

use super::address::can_be_dialled;
use super::known::Boot;
use crate::frame::{Ask, Forward, ForwardReply, Heartbeat, HeartbeatAck, PeerMessage, Reply};
use prost::bytes::Bytes;
use quorate_locks::{Generation, SessionId};
use quorate_proto::peer as wire;
use quorate_proto::peer::forward::What;
use quorate_proto::peer::forward_reply::Outcome;
use quorate_proto::peer::frame::Frame as Kind;
use quorate_proto::peer::raft::Body as WireBody;
use quorate_raft::{
    Answer, Body, Configuration, Entry, Index, LogId, Malformed, MemberId, Message, Round, Term,
    Why,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Bytes of one part of a snapshot, at most.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// How a member introduces itself, first thing on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The sender's cluster; none while it is blank.
    pub cluster: Option<u128>,
    /// The sender.
    pub from: MemberId,
    /// Whom it means to talk to; none if it knows only a name.
    pub to: Option<MemberId>,
    /// Its present boot.
    pub boot: Boot,
    /// Its last boots, the present one last.
    pub boots: Vec<Boot>,
    /// Its name.
    pub name: String,
    /// Where it may be dialled, if it says so.
    pub address: Option<SocketAddr>,
}

/// One frame from a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// An introduction.
    Hello(Greeting),
    /// Anything said afterwards.
    Message(PeerMessage),
    /// The end of this stream, on purpose.
    Goodbye,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// A part that must be there is not; or a part that this version does not know stands in its
    /// place.
    Missing(&'static str),
    /// A field outside its range.
    Field(&'static str),
    /// An entry or a configuration that does not decode.
    Encoding(&'static str, Malformed),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFrame::Missing(field) => write!(f, "{field} is missing or unknown"),
            BadFrame::Field(field) => write!(f, "{field} is out of range"),
            BadFrame::Encoding(field, why) => write!(f, "{field} does not decode: {why}"),
        }
    }
}

impl std::error::Error for BadFrame {}

/// An owner for [`Bytes::from_owner`].
struct Shared(Arc<[u8]>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn shared(bytes: &Arc<[u8]>) -> Bytes {
    Bytes::from_owner(Shared(Arc::clone(bytes)))
}

fn frame(kind: Kind) -> wire::Frame {
    wire::Frame { frame: Some(kind) }
}

fn log_id(id: LogId) -> Option<wire::LogId> {
    Some(wire::LogId { term: id.term.0, index: id.index.0 })
}

fn some_id(id: Option<u128>) -> Vec<u8> {
    id.map(|id| id.to_le_bytes().to_vec()).unwrap_or_default()
}

/// The frame of an introduction.
#[must_use]
pub fn hello(greeting: &Greeting) -> wire::Frame {
    let boot = |boot: &Boot| wire::Boot { seq: boot.seq, bits: boot.bits };
    frame(Kind::Hello(wire::Hello {
        cluster_id: some_id(greeting.cluster),
        from: some_id(Some(greeting.from.0)),
        to: some_id(greeting.to.map(|to| to.0)),
        boot: Some(boot(&greeting.boot)),
        boots: greeting.boots.iter().map(boot).collect(),
        name: greeting.name.clone(),
        address: greeting.address.map(|address| address.to_string()).unwrap_or_default(),
    }))
}

/// The frame that ends a stream on purpose.
#[must_use]
pub fn goodbye() -> wire::Frame {
    frame(Kind::Goodbye(wire::Goodbye {}))
}

/// The frame of a message.
#[must_use]
pub fn to_frame(message: &PeerMessage) -> wire::Frame {
    frame(match message {
        PeerMessage::Raft(message) => {
            Kind::Raft(wire::Raft { term: message.term.0, body: Some(to_body(&message.body)) })
        }
        PeerMessage::Forward(forward) => Kind::Forward(wire::Forward {
            ticket: forward.ticket,
            term: forward.term.0,
            what: Some(match &forward.what {
                Ask::Command(bytes) => What::Command(bytes.to_vec()),
                Ask::ReadIndex => What::Read(wire::ReadIndex {}),
            }),
        }),
        PeerMessage::ForwardReply(reply) => Kind::ForwardReply(wire::ForwardReply {
            ticket: reply.ticket,
            outcome: Some(match reply.reply {
                Reply::Appended(LogId { term, index }) => {
                    Outcome::Appended(wire::LogId { term: term.0, index: index.0 })
                }
                Reply::ReadAt(index) => Outcome::ReadAt(index.0),
                Reply::NotAppended(why) => {
                    Outcome::NotAppended(wire::NotAppended { why: why_number(why) })
                }
            }),
        }),
        PeerMessage::Heartbeat(beat) => Kind::Heartbeat(wire::Heartbeat {
            seq: beat.seq,
            term: beat.term.0,
            boot_bits: beat.boot,
            sessions: to_sessions(&beat.sessions),
            sidecar: some_id(beat.sidecar),
        }),
        PeerMessage::HeartbeatAck(ack) => Kind::HeartbeatAck(wire::HeartbeatAck {
            seq: ack.seq,
            term: ack.term.0,
            applied: ack.applied.0,
            sessions: to_sessions(&ack.sessions),
        }),
    })
}

fn to_sessions(sessions: &[(SessionId, Generation)]) -> Vec<wire::SessionGeneration> {
    let one = |(session, generation): &(SessionId, Generation)| wire::SessionGeneration {
        session: session.0,
        generation: generation.0,
    };
    sessions.iter().map(one).collect()
}

fn to_body(body: &Body) -> WireBody {
    match body {
        Body::PreVote { last } => WireBody::PreVote(wire::PreVote { last: log_id(*last) }),
        Body::PreVoteReply { granted, asked } => {
            WireBody::PreVoteReply(wire::PreVoteReply { granted: *granted, asked: asked.0 })
        }
        Body::Vote { last, transfer } => {
            WireBody::Vote(wire::Vote { last: log_id(*last), transfer: *transfer })
        }
        Body::VoteReply { granted } => WireBody::VoteReply(wire::VoteReply { granted: *granted }),
        Body::Append { prev, entries, commit, round } => WireBody::Append(wire::Append {
            prev: log_id(*prev),
            entries: entries.iter().map(|entry| shared(entry.bytes())).collect(),
            commit: log_id(*commit),
            round: round.0,
        }),
        Body::AppendReply { round, answer } => WireBody::AppendReply(wire::AppendReply {
            round: round.0,
            answer: Some(match answer {
                Answer::Durable(index) => wire::append_reply::Answer::Durable(index.0),
                Answer::Mismatch { prev, hint } => {
                    let (prev, hint) = (log_id(*prev), log_id(*hint));
                    wire::append_reply::Answer::Mismatch(wire::LogMismatch { prev, hint })
                }
            }),
        }),
        Body::Snapshot { last, configuration, offset, total, chunk, round } => {
            WireBody::Snapshot(wire::Snapshot {
                last: log_id(*last),
                configuration: configuration.encode(),
                offset: *offset,
                total: *total,
                chunk: chunk.to_vec(),
                round: round.0,
            })
        }
        Body::SnapshotReply { last, received, round } => {
            let (last, received, round) = (log_id(*last), *received, round.0);
            WireBody::SnapshotReply(wire::SnapshotReply { last, received, round })
        }
        Body::Commit { commit } => WireBody::Commit(wire::Commit { commit: log_id(*commit) }),
        Body::TimeoutNow { last } => WireBody::TimeoutNow(wire::TimeoutNow { last: log_id(*last) }),
    }
}

/// Takes a frame from a peer.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn from_frame(frame: wire::Frame) -> Result<Received, BadFrame> {
    let message = match frame.frame.ok_or(BadFrame::Missing("frame"))? {
        Kind::Hello(hello) => return from_hello(hello).map(Received::Hello),
        Kind::Goodbye(_) => return Ok(Received::Goodbye),
        Kind::Raft(raft) => PeerMessage::Raft(Message {
            term: Term(raft.term),
            body: from_body(raft.body.ok_or(BadFrame::Missing("raft.body"))?)?,
        }),
        Kind::Forward(forward) => PeerMessage::Forward(Forward {
            ticket: forward.ticket,
            term: Term(forward.term),
            what: match forward.what.ok_or(BadFrame::Missing("forward.what"))? {
                What::Command(bytes) => Ask::Command(bytes.into()),
                What::Read(_) => Ask::ReadIndex,
            },
        }),
        Kind::ForwardReply(reply) => PeerMessage::ForwardReply(ForwardReply {
            ticket: reply.ticket,
            reply: match reply.outcome.ok_or(BadFrame::Missing("forward_reply.outcome"))? {
                Outcome::Appended(id) => Reply::Appended(from_log_id(id)),
                Outcome::ReadAt(index) => Reply::ReadAt(Index(index)),
                Outcome::NotAppended(not) => Reply::NotAppended(why_of(not.why)?),
            },
        }),
        Kind::Heartbeat(beat) => PeerMessage::Heartbeat(Heartbeat {
            seq: beat.seq,
            term: Term(beat.term),
            boot: beat.boot_bits,
            sessions: from_sessions(&beat.sessions),
            sidecar: id_of("heartbeat.sidecar", &beat.sidecar)?,
        }),
        Kind::HeartbeatAck(ack) => PeerMessage::HeartbeatAck(HeartbeatAck {
            seq: ack.seq,
            term: Term(ack.term),
            applied: Index(ack.applied),
            sessions: from_sessions(&ack.sessions),
        }),
    };
    Ok(Received::Message(message))
}

fn from_hello(hello: wire::Hello) -> Result<Greeting, BadFrame> {
    let boot = |boot: wire::Boot| Boot { seq: boot.seq, bits: boot.bits };
    if hello.name.is_empty() || hello.name.len() > Configuration::NAME_BYTES_MAX {
        return Err(BadFrame::Field("hello.name"));
    }
    let from = id_of("hello.from", &hello.from)?.ok_or(BadFrame::Missing("hello.from"))?;
    Ok(Greeting {
        cluster: id_of("hello.cluster_id", &hello.cluster_id)?,
        from: MemberId(from),
        to: id_of("hello.to", &hello.to)?.map(MemberId),
        boot: hello.boot.map(boot).ok_or(BadFrame::Missing("hello.boot"))?,
        boots: hello.boots.into_iter().map(boot).collect(),
        name: hello.name,
        address: address_of(&hello.address)?,
    })
}

fn address_of(text: &str) -> Result<Option<SocketAddr>, BadFrame> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = text.parse().ok().filter(can_be_dialled);
    address.map(Some).ok_or(BadFrame::Field("hello.address"))
}

fn id_of(field: &'static str, bytes: &[u8]) -> Result<Option<u128>, BadFrame> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let id = <[u8; 16]>::try_from(bytes).map_err(|_| BadFrame::Field(field))?;
    match u128::from_le_bytes(id) {
        0 => Err(BadFrame::Field(field)),
        id => Ok(Some(id)),
    }
}

fn from_log_id(id: wire::LogId) -> LogId {
    LogId::new(id.term, id.index)
}

fn need(field: &'static str, id: Option<wire::LogId>) -> Result<LogId, BadFrame> {
    id.map(from_log_id).ok_or(BadFrame::Missing(field))
}

fn from_sessions(sessions: &[wire::SessionGeneration]) -> Vec<(SessionId, Generation)> {
    sessions.iter().map(|one| (SessionId(one.session), Generation(one.generation))).collect()
}

fn from_body(body: WireBody) -> Result<Body, BadFrame> {
    Ok(match body {
        WireBody::PreVote(vote) => Body::PreVote { last: need("pre_vote.last", vote.last)? },
        WireBody::PreVoteReply(reply) => {
            Body::PreVoteReply { granted: reply.granted, asked: Term(reply.asked) }
        }
        WireBody::Vote(vote) => {
            Body::Vote { last: need("vote.last", vote.last)?, transfer: vote.transfer }
        }
        WireBody::VoteReply(reply) => Body::VoteReply { granted: reply.granted },
        WireBody::Append(append) => from_append(append)?,
        WireBody::AppendReply(reply) => Body::AppendReply {
            round: Round(reply.round),
            answer: match reply.answer.ok_or(BadFrame::Missing("append_reply.answer"))? {
                wire::append_reply::Answer::Durable(index) => Answer::Durable(Index(index)),
                wire::append_reply::Answer::Mismatch(mismatch) => Answer::Mismatch {
                    prev: need("mismatch.prev", mismatch.prev)?,
                    hint: need("mismatch.hint", mismatch.hint)?,
                },
            },
        },
        WireBody::Snapshot(snapshot) => from_snapshot(snapshot)?,
        WireBody::SnapshotReply(reply) => Body::SnapshotReply {
            last: need("snapshot_reply.last", reply.last)?,
            received: reply.received,
            round: Round(reply.round),
        },
        WireBody::Commit(notice) => Body::Commit { commit: need("commit.commit", notice.commit)? },
        WireBody::TimeoutNow(now) => Body::TimeoutNow { last: need("timeout_now.last", now.last)? },
    })
}

fn from_append(append: wire::Append) -> Result<Body, BadFrame> {
    let mut entries = Vec::with_capacity(append.entries.len());
    for bytes in &append.entries {
        let entry = Entry::decode(Arc::from(&bytes[..]));
        entries.push(entry.map_err(|why| BadFrame::Encoding("append.entries", why))?);
    }
    Ok(Body::Append {
        prev: need("append.prev", append.prev)?,
        entries,
        commit: need("append.commit", append.commit)?,
        round: Round(append.round),
    })
}

fn from_snapshot(snapshot: wire::Snapshot) -> Result<Body, BadFrame> {
    let (configuration, rest) = Configuration::decode(&snapshot.configuration)
        .map_err(|why| BadFrame::Encoding("snapshot.configuration", why))?;
    if !rest.is_empty() {
        return Err(BadFrame::Field("snapshot.configuration"));
    }
    if snapshot.chunk.len() > CHUNK_BYTES_MAX {
        return Err(BadFrame::Field("snapshot.chunk"));
    }
    let end = u64::try_from(snapshot.chunk.len()).ok();
    if end.and_then(|end| end.checked_add(snapshot.offset)).is_none_or(|end| end > snapshot.total) {
        return Err(BadFrame::Field("snapshot.offset"));
    }
    Ok(Body::Snapshot {
        last: need("snapshot.last", snapshot.last)?,
        configuration,
        offset: snapshot.offset,
        total: snapshot.total,
        chunk: snapshot.chunk.into(),
        round: Round(snapshot.round),
    })
}

/// The numbers on the wire. Never reused; 0 is none.
const WHYS: [Why; 9] = [
    Why::NotLeader,
    Why::Transferring,
    Why::Busy,
    Why::NoTarget,
    Why::OtherTerm,
    Why::DiskFull,
    Why::TooLarge,
    Why::Blank,
    Why::Malformed,
];

fn why_number(why: Why) -> u32 {
    match why {
        Why::NotLeader => 1,
        Why::Transferring => 2,
        Why::Busy => 3,
        Why::NoTarget => 4,
        Why::OtherTerm => 5,
        Why::DiskFull => 6,
        Why::TooLarge => 7,
        Why::Blank => 8,
        Why::Malformed => 9,
    }
}

fn why_of(number: u32) -> Result<Why, BadFrame> {
    let unknown = BadFrame::Field("not_appended.why");
    let place = number.checked_sub(1).and_then(|place| usize::try_from(place).ok());
    place.and_then(|place| WHYS.get(place).copied()).ok_or(unknown)
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
