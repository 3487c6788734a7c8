//! Linearizable looks at the state, and observers.

use super::operation::Purpose;
use super::{Agent, Call, CallId, Told};
use crate::frame::Ask;
use quorate_locks::{Event as Change, Machine, NameKind, SessionId, Token};
use quorate_raft::Time;
use std::collections::BTreeSet;

/// A look at the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One name.
    Name(String),
    /// All names with this prefix.
    Names(String),
    /// All sessions.
    Sessions,
}

/// Who holds a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderInfo {
    /// The session.
    pub session: SessionId,
    /// For people.
    pub label: String,
    /// The token of its grant.
    pub token: Token,
    /// An election's value.
    pub value: Vec<u8>,
    /// The member that the session is attached to, if it is one of the configuration.
    pub member: String,
}

/// Who waits for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterInfo {
    /// The session.
    pub session: SessionId,
    /// For people.
    pub label: String,
    /// As in [`HolderInfo`].
    pub member: String,
}

/// A name in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameInfo {
    /// The name.
    pub name: String,
    /// What it is.
    pub kind: NameKind,
    /// Who holds it.
    pub holder: Option<HolderInfo>,
    /// Who waits, in order.
    pub waiters: Vec<WaiterInfo>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its public name.
    pub id: SessionId,
    /// For people.
    pub label: String,
    /// Its TTL.
    pub ttl_ms: u32,
    /// Its attachment's number.
    pub generation: u64,
    /// As in [`HolderInfo`].
    pub member: String,
    /// How many names it holds.
    pub grants: u32,
    /// Attached to this boot of this sidecar.
    pub local: bool,
}

impl Agent {
    pub(super) fn read(&mut self, now: Time, call: CallId, query: Query) {
        self.calls.insert(call, Call::Simple);
        self.start_asking(now, Ask::ReadIndex, Purpose::Read { call, query });
    }

    pub(super) fn observe(&mut self, now: Time, call: CallId, name: String) {
        self.calls.insert(call, Call::Observe { name, told: None });
        self.start_asking(now, Ask::ReadIndex, Purpose::Observe { call });
    }

    pub(super) fn answer_read(&mut self, call: CallId, query: &Query, machine: &Machine) {
        if !self.calls.contains_key(&call) {
            return;
        }
        let told = match query {
            Query::Name(name) => Told::Names(self.name_info(name, machine).into_iter().collect()),
            Query::Names(prefix) => Told::Names(
                machine
                    .names(prefix)
                    .filter_map(|(name, _)| self.name_info(name, machine))
                    .collect(),
            ),
            Query::Sessions => Told::Sessions(self.session_infos(machine)),
        };
        self.finish(call, Ok(Some(told)));
    }

    pub(super) fn answer_observe(&mut self, call: CallId, machine: &Machine) {
        let Some(Call::Observe { name, told }) = self.calls.get_mut(&call) else { return };
        let name = name.clone();
        *told = Some(machine.name(&name).and_then(|n| n.holder).map(|h| h.token));
        self.observers.entry(name.clone()).or_default().insert(call);
        let holder = self.holder(&name, machine);
        self.tell(call, Told::Leader(holder));
    }

    pub(super) fn drop_observer(&mut self, name: &str, call: CallId) {
        if let Some(calls) = self.observers.get_mut(name) {
            calls.remove(&call);
            if calls.is_empty() {
                self.observers.remove(name);
            }
        }
    }

    /// An entry changed something: its observers hear of it, once for each name.
    pub(super) fn observers_changed(&mut self, changes: &[Change], machine: &Machine) {
        if self.observers.is_empty() {
            return;
        }
        let names: BTreeSet<&str> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Granted { name, .. } | Change::Lost { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        for name in names {
            self.observed(name, machine);
        }
    }

    pub(super) fn observers_restored(&mut self, machine: &Machine) {
        let names: Vec<String> = self.observers.keys().cloned().collect();
        for name in names {
            self.observed(&name, machine);
        }
    }

    fn observed(&mut self, name: &str, machine: &Machine) {
        let Some(calls) = self.observers.get(name) else { return };
        let now = machine.name(name).and_then(|n| n.holder).map(|h| h.token);
        for call in calls.clone() {
            let Some(Call::Observe { told, .. }) = self.calls.get_mut(&call) else { continue };
            if *told != Some(now) {
                *told = Some(now);
                let holder = self.holder(name, machine);
                self.tell(call, Told::Leader(holder));
            }
        }
    }

    /// Who holds a name.
    pub(super) fn holder(&self, name: &str, machine: &Machine) -> Option<HolderInfo> {
        let holder = machine.name(name)?.holder?;
        let (label, member) = self.session_words(holder.session, machine);
        let (session, token, value) = (holder.session, holder.token, holder.value.to_vec());
        Some(HolderInfo { session, label, token, value, member })
    }

    fn session_words(&self, id: SessionId, machine: &Machine) -> (String, String) {
        let Some(session) = machine.session(id) else { return Default::default() };
        let member = self.names.get(&session.attachment().member).cloned().unwrap_or_default();
        (session.label().to_owned(), member)
    }

    fn name_info(&self, name: &str, machine: &Machine) -> Option<NameInfo> {
        let view = machine.name(name)?;
        let waiters = view.waiters.map(|waiter| {
            let (label, member) = self.session_words(waiter.session, machine);
            WaiterInfo { session: waiter.session, label, member }
        });
        Some(NameInfo {
            name: name.to_owned(),
            kind: view.kind,
            waiters: waiters.collect(),
            holder: self.holder(name, machine),
        })
    }

    fn session_infos(&self, machine: &Machine) -> Vec<SessionInfo> {
        machine
            .sessions()
            .map(|(id, session)| SessionInfo {
                id,
                label: session.label().to_owned(),
                ttl_ms: session.ttl_ms(),
                generation: session.generation().0,
                member: self.names.get(&session.attachment().member).cloned().unwrap_or_default(),
                grants: u32::try_from(session.grants().count()).unwrap_or(u32::MAX),
                local: session.attachment() == self.own,
            })
            .collect()
    }
}
