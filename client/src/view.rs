//! What a sidecar shows of names and holders.

use quorate_proto::v1;

/// Who holds a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its session.
    pub session_id: u64,
    /// What that session calls itself.
    pub label: String,
    /// The fencing token of its grant.
    pub token: u64,
    /// The value it gave; empty for locks.
    pub value: Vec<u8>,
    /// The member that the session is attached to; empty if that is none.
    pub member: String,
}

impl Holder {
    /// In words: its label, else its session.
    #[must_use]
    pub fn who(&self) -> String {
        who(&self.label, self.session_id)
    }
}

fn who(label: &str, session_id: u64) -> String {
    if label.is_empty() { format!("session {session_id}") } else { label.to_owned() }
}

impl From<v1::Holder> for Holder {
    fn from(holder: v1::Holder) -> Holder {
        let v1::Holder { session_id, label, token, value, member } = holder;
        Holder { session_id, label, token, value, member }
    }
}

/// Who waits for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Its session.
    pub session_id: u64,
    /// What that session calls itself.
    pub label: String,
    /// The member that the session is attached to; empty if that is none.
    pub member: String,
}

impl Waiter {
    /// In words: its label, else its session.
    #[must_use]
    pub fn who(&self) -> String {
        who(&self.label, self.session_id)
    }
}

/// What a name is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lock.
    Lock,
    /// An election.
    Election,
    /// Something of a later version.
    Unknown,
}

impl Kind {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Lock => "lock",
            Kind::Election => "election",
            Kind::Unknown => "unknown",
        }
    }
}

/// A name in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameInfo {
    /// The name.
    pub name: String,
    /// What it is used as.
    pub kind: Kind,
    /// Who holds it; none while nobody does.
    pub holder: Option<Holder>,
    /// Who waits, in order.
    pub waiters: Vec<Waiter>,
}

impl From<v1::NameInfo> for NameInfo {
    fn from(info: v1::NameInfo) -> NameInfo {
        let kind = match info.kind() {
            v1::Kind::Lock => Kind::Lock,
            v1::Kind::Election => Kind::Election,
            v1::Kind::Unspecified => Kind::Unknown,
        };
        let waiters = info.waiters.into_iter().map(|waiter| Waiter {
            session_id: waiter.session_id,
            label: waiter.label,
            member: waiter.member,
        });
        NameInfo {
            name: info.name,
            kind,
            holder: info.holder.map(Holder::from),
            waiters: waiters.collect(),
        }
    }
}
