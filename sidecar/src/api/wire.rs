//! What the agent tells, as messages of the contract.

use crate::agent::{Agent, HolderInfo, NameInfo, SessionInfo, SessionView, Told};
use crate::clock;
use crate::reason::Reason;
use quorate_locks::{Grant, NameKind};
use quorate_proto::v1 as proto;
use quorate_raft::Time;

fn valid_for_ms(deadline: Time) -> u64 {
    deadline.since(clock::now()) / 1_000_000
}

fn renewed(deadline: Time) -> proto::Renewed {
    proto::Renewed { deadline_boottime_ns: deadline.0, valid_for_ms: valid_for_ms(deadline) }
}

fn kind(kind: NameKind) -> i32 {
    match kind {
        NameKind::Lock => proto::Kind::Lock.into(),
        NameKind::Election => proto::Kind::Election.into(),
    }
}

fn grant(grant: Grant) -> proto::Grant {
    proto::Grant {
        name: grant.name,
        token: grant.token.0,
        request_id: grant.request.0,
        kind: kind(grant.kind),
    }
}

/// An item of Open or Resume.
pub(super) fn session_event(told: Told) -> Option<proto::SessionEvent> {
    use proto::session_event::Event;
    let event = match told {
        Told::Opened(view) => Event::Opened(proto::Opened {
            session_id: view.id.0,
            generation: view.generation.0,
            ttl_ms: u64::from(view.ttl_ms),
            deadline_boottime_ns: view.deadline.0,
            rides_through_failover: view.rides_through_failover,
            heartbeat_ms: Agent::heartbeat_ns(view.ttl_ms) / 1_000_000,
        }),
        Told::Resumed(view, grants, next) => Event::Resumed(proto::Resumed {
            session_id: view.id.0,
            generation: view.generation.0,
            ttl_ms: u64::from(view.ttl_ms),
            deadline_boottime_ns: view.deadline.0,
            grants: grants.into_iter().map(grant).collect(),
            next_request_id: next.0,
        }),
        Told::Renewed(deadline) => Event::Renewed(renewed(deadline)),
        Told::Jeopardy(deadline) => {
            Event::Jeopardy(proto::Jeopardy { deadline_boottime_ns: deadline.0 })
        }
        Told::Expired(reason) => Event::Expired(proto::Expired { reason: word(reason) }),
        Told::Draining => Event::Draining(proto::Draining {}),
        _ => return None,
    };
    Some(proto::SessionEvent { event: Some(event) })
}

fn word(reason: Reason) -> String {
    reason.name().to_owned()
}

pub(super) fn granted(token: u64, view: SessionView) -> proto::Granted {
    proto::Granted {
        token,
        deadline_boottime_ns: view.deadline.0,
        session_id: view.id.0,
        generation: view.generation.0,
        valid_for_ms: valid_for_ms(view.deadline),
    }
}

/// An item of Hold or Participate.
pub(super) fn claim_event(told: Told) -> Option<proto::ClaimEvent> {
    use proto::claim_event::Event;
    let event = match told {
        Told::Queued(position) => Event::Queued(proto::Queued { position }),
        Told::Granted(token, view) => Event::Granted(granted(token.0, view)),
        Told::Renewed(deadline) => Event::Renewed(renewed(deadline)),
        Told::Jeopardy(deadline) => {
            Event::Jeopardy(proto::Jeopardy { deadline_boottime_ns: deadline.0 })
        }
        Told::Lost(reason) | Told::Expired(reason) => {
            Event::Lost(proto::Lost { reason: word(reason) })
        }
        Told::NotAcquired(by) => Event::NotAcquired(proto::NotAcquired { holder: by.map(holder) }),
        Told::Draining => Event::Draining(proto::Draining {}),
        Told::Released => Event::Released(proto::Released {}),
        _ => return None,
    };
    Some(proto::ClaimEvent { event: Some(event) })
}

/// An item of Observe.
pub(super) fn leader_event(told: Told) -> Option<proto::LeaderEvent> {
    use proto::leader_event::Event;
    let Told::Leader(leader) = told else { return None };
    let event = match leader {
        Some(leader) => Event::Leader(holder(leader)),
        None => Event::Nobody(proto::Nobody {}),
    };
    Some(proto::LeaderEvent { event: Some(event) })
}

pub(super) fn tether_event(told: Told) -> Option<proto::TetherEvent> {
    // The response's headers say that it is bound; nothing is ever sent.
    let _ = told;
    None
}

pub(super) fn holder(holder: HolderInfo) -> proto::Holder {
    proto::Holder {
        session_id: holder.session.0,
        label: holder.label,
        token: holder.token.0,
        value: holder.value,
        member: holder.member,
    }
}

pub(super) fn name(info: NameInfo) -> proto::NameInfo {
    let waiters = info.waiters.into_iter().map(|waiter| proto::Waiter {
        session_id: waiter.session.0,
        label: waiter.label,
        member: waiter.member,
    });
    proto::NameInfo {
        name: info.name,
        kind: kind(info.kind),
        holder: info.holder.map(holder),
        waiters: waiters.collect(),
    }
}

pub(super) fn session(info: SessionInfo) -> proto::SessionInfo {
    proto::SessionInfo {
        session_id: info.id.0,
        label: info.label,
        ttl_ms: u64::from(info.ttl_ms),
        generation: info.generation,
        member: info.member,
        grants: info.grants,
        local: info.local,
    }
}
