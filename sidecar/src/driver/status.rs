//! The member as it is at one moment, for people, the operator and metrics.

use crate::member::Member;
use crate::replica::Counts;
use crate::wal::{DataDir, Disk};
use quorate_locks::{Machine, NameKind, Token};
use quorate_raft::{Configuration, Index, MemberId, RoleName, Standing, Term};

/// See the module.
#[derive(Clone, Debug)]
pub struct StatusView {
    /// This member.
    pub member: MemberId,
    /// Its group; none while blank.
    pub cluster: Option<u128>,
    /// Starts of this member so far.
    pub boot_seq: u64,
    /// Its role.
    pub role: RoleName,
    /// Whether it is part of no group yet.
    pub blank: bool,
    /// Whether its log is damaged.
    pub unfit: bool,
    /// Whether it was told to retire.
    pub retired: bool,
    /// Whether this is no member at all, but an attached sidecar.
    pub attached: bool,
    /// The current term.
    pub term: Term,
    /// Who leads, if known.
    pub leader: Option<MemberId>,
    /// Committed, as far as known here.
    pub commit: Index,
    /// Applied here.
    pub applied: Index,
    /// The first entry in memory.
    pub first: Index,
    /// The last entry.
    pub last: Index,
    /// Its term.
    pub last_term: Term,
    /// Durable here.
    pub durable: Index,
    /// The membership.
    pub configuration: Configuration,
    /// Where it stands in the log.
    pub configuration_index: Index,
    /// Whether this member gave up standing.
    pub draining: bool,
    /// Whether commands are refused for lack of space.
    pub full: bool,
    /// Sessions of the group.
    pub sessions: usize,
    /// Sessions attached here.
    pub local_sessions: usize,
    /// Names in use.
    pub names: usize,
    /// While nothing is granted: for how long a leader waits, in ms.
    pub hold_off_ms: Option<u32>,
    /// The highest token known here.
    pub last_token: Token,
    /// The token after which the present life began.
    pub life: Token,
    /// The last entry of the newest snapshot.
    pub snapshot: Index,
    /// As the leader: what it knows of each other member.
    pub followers: Vec<(MemberId, Standing)>,
    /// Calls of clients open here.
    pub calls: usize,
    /// Flushes of the log since the start.
    pub flushes: u64,
    /// Bytes written to the log since the start.
    pub written_bytes: u64,
    /// Other counts since the start.
    pub counts: Counts,
}

/// Who holds an election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionLeader {
    /// Its name.
    pub election: String,
    /// The member that the holder's session is attached to.
    pub member: MemberId,
    /// The holder's token.
    pub token: Token,
}

impl ElectionLeader {
    /// Of these names, those that are elections and held.
    pub(super) fn of(machine: &Machine, names: &[String]) -> Vec<ElectionLeader> {
        let leader = |name: &String| {
            let view = machine.name(name).filter(|view| view.kind == NameKind::Election)?;
            let holder = view.holder?;
            let session = machine.session(holder.session)?;
            let member = MemberId(session.attachment().member);
            Some(ElectionLeader { election: name.clone(), member, token: holder.token })
        };
        names.iter().filter_map(leader).collect()
    }
}

impl StatusView {
    pub(super) fn of<D: Disk>(
        member: &Member<D>,
        directory: &DataDir,
        draining: bool,
    ) -> StatusView {
        let (replica, node) = (member.replica(), member.replica().node());
        StatusView {
            member: node.id(),
            cluster: directory.cluster_id(),
            boot_seq: directory.boot().seq,
            role: node.role(),
            blank: node.configuration().is_empty(),
            unfit: false,
            retired: false,
            attached: false,
            term: node.term(),
            leader: node.leader(),
            commit: node.commit().index,
            applied: node.applied(),
            first: node.first_index(),
            last: node.last().index,
            last_term: node.last().term,
            durable: node.durable(),
            configuration: node.configuration().clone(),
            configuration_index: node.configuration_index(),
            draining: draining || node.is_drained(),
            full: replica.is_full(),
            sessions: replica.machine().session_count(),
            local_sessions: member.agent().session_count(),
            names: replica.machine().name_count(),
            hold_off_ms: replica.machine().hold_off_ms(),
            last_token: replica.machine().last_token(),
            life: replica.machine().life(),
            snapshot: node.snapshot().map_or(Index(0), |snapshot| snapshot.last.index),
            followers: node.followers().collect(),
            calls: member.agent().call_count(),
            flushes: replica.wal().stats().flushes(),
            written_bytes: replica.wal().stats().written_bytes(),
            counts: replica.counts(),
        }
    }

    /// The view of a member whose log is unfit: it has an identity, and no more.
    #[must_use]
    pub fn unfit(directory: &DataDir) -> StatusView {
        StatusView {
            unfit: true,
            cluster: directory.cluster_id(),
            boot_seq: directory.boot().seq,
            ..StatusView::bare(directory.member_id())
        }
    }

    /// The view of who knows nothing.
    pub(super) fn bare(member: MemberId) -> StatusView {
        StatusView {
            member,
            cluster: None,
            boot_seq: 0,
            role: RoleName::Follower,
            blank: false,
            unfit: false,
            retired: false,
            attached: false,
            term: Term(0),
            leader: None,
            commit: Index(0),
            applied: Index(0),
            first: Index(0),
            last: Index(0),
            last_term: Term(0),
            durable: Index(0),
            configuration: Configuration::default(),
            configuration_index: Index(0),
            draining: false,
            full: false,
            sessions: 0,
            local_sessions: 0,
            names: 0,
            hold_off_ms: None,
            last_token: Token(0),
            life: Token(0),
            snapshot: Index(0),
            followers: Vec::new(),
            calls: 0,
            flushes: 0,
            written_bytes: 0,
            counts: Counts::default(),
        }
    }

    /// The view of a member that was told to retire: its log is not opened any more.
    #[must_use]
    pub fn retired(directory: &DataDir) -> StatusView {
        StatusView { unfit: false, retired: true, ..StatusView::unfit(directory) }
    }

    /// The role as a word; a blank member has none.
    #[must_use]
    pub fn role_name(&self) -> &'static str {
        if self.unfit {
            return "unfit";
        }
        if self.retired {
            return "retired";
        }
        if self.attached {
            return "attached";
        }
        if self.blank {
            return "blank";
        }
        match self.role {
            RoleName::Follower if !self.configuration.is_voter(self.member) => "learner",
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
        }
    }
}
