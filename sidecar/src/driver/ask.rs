//! What administrators ask of a member beyond its membership: a backup, a snapshot, its retirement,
//! its recovery.
//!
//! Must not write the directory of a running log: that waits for the end of the driver's loop.

use super::Driver;
use crate::backup::Backup;
use crate::clock;
use crate::recovery::{self, Plan, Start, unix_s};
use crate::replica::Replica;
use crate::wal::Disk;
use quorate_locks::Token;
use quorate_raft::{Index, MemberId, RoleName, Snapshot};
use tokio::sync::oneshot;

/// The last entry of the newest snapshot, or why there is none.
pub type Compacted = Result<Index, String>;

/// A member is told to retire.
#[derive(Clone, Copy, Debug)]
pub struct Retire {
    /// Which; it is called by this identity.
    pub member: MemberId,
    /// Even if the membership that it knows has it.
    pub still_a_member: bool,
}

/// A survivor is forced to go on alone.
#[derive(Clone, Copy, Debug)]
pub struct Recover {
    /// Which; it is called by this identity.
    pub member: MemberId,
    /// The group that is lost.
    pub cluster: u128,
    /// The new one.
    pub plan: Plan,
}

/// How a survivor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The entry by which it does.
    pub index: Index,
    /// How long nothing is granted, in ms; 0: not at all, or no longer.
    pub hold_off_ms: u32,
}

/// Who waits for the disk, or for an entry to be applied.
#[derive(Debug, Default)]
pub struct Asks {
    backups: Vec<oneshot::Sender<Result<Backup, String>>>,
    /// Taken, and perhaps not durable up to its last entry.
    taken: Vec<(Snapshot, oneshot::Sender<Result<Backup, String>>)>,
    compactions: Vec<(Index, oneshot::Sender<Compacted>)>,
    /// Who waits for grants to be made.
    lifts: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Asks {
    pub(super) fn backup(&mut self, sender: oneshot::Sender<Result<Backup, String>>) {
        self.backups.push(sender);
    }

    pub(super) fn lift(&mut self, sender: oneshot::Sender<Result<(), String>>) {
        self.lifts.push(sender);
    }

    pub(super) fn compact<D: Disk>(
        &mut self,
        replica: &mut Replica<D>,
        sender: oneshot::Sender<Compacted>,
    ) {
        let applied = replica.node().applied();
        if applied == Index(0) {
            let why = "this member has applied nothing: there is nothing to take a snapshot of";
            drop(sender.send(Err(why.to_owned()))); // Whoever asked may be gone by now.
            return;
        }
        if newest(replica) < applied {
            replica.compact();
        }
        self.compactions.push((applied, sender));
    }

    /// Answers whom it can, at the end of each batch. A caller that is gone needs no answer.
    pub(super) fn answer<D: Disk>(&mut self, replica: &Replica<D>, cluster: Option<u128>) {
        let (node, newest) = (replica.node(), newest(replica));
        for (_, sender) in self.compactions.extract_if(.., |(index, _)| *index <= newest) {
            drop(sender.send(Ok(newest)));
        }
        if replica.machine().hold_off_ms().is_none() {
            for sender in self.lifts.drain(..) {
                drop(sender.send(Ok(())));
            }
        }
        let Some(cluster) = cluster.filter(|_| node.applied() > Index(0)) else {
            for sender in self.backups.drain(..) {
                let why = "this member has applied nothing yet: there is nothing to back up";
                drop(sender.send(Err(why.to_owned())));
            }
            return;
        };
        // A membership on its way is waited for: a backup has the one as of its last entry.
        if !self.backups.is_empty()
            && let Some(snapshot) = replica.backup()
        {
            let taken = self.backups.drain(..).map(|sender| (snapshot.clone(), sender));
            self.taken.extend(taken);
        }
        let durable = node.durable();
        for (snapshot, sender) in self.taken.extract_if(.., |(s, _)| s.last.index <= durable) {
            let (member, made_unix_s) = (node.id(), unix_s());
            drop(sender.send(Ok(Backup { cluster, member, made_unix_s, snapshot })));
        }
    }
}

fn newest<D: Disk>(replica: &Replica<D>) -> Index {
    replica.node().snapshot().map_or(Index(0), |snapshot| snapshot.last.index)
}

impl Driver {
    /// Marks this member as retired, or says why not.
    pub(super) fn retire(&self, asked: &Retire) -> Result<(), String> {
        let node = self.member.replica().node();
        self.called(asked.member)?;
        let configuration = node.configuration();
        if configuration.contains(node.id()) && !asked.still_a_member {
            return Err(format!(
                "{} is a member of its group by its own log: remove it first, or say \
                 still_a_member; nothing was changed",
                configuration.name(node.id()).unwrap_or_default()
            ));
        }
        self.directory.retire().map_err(super::not_stored)
    }

    /// Whether this member may be forced to go on alone. Gives the entry that did, if the same was
    /// asked before and the answer was lost, say: whoever joined since stays.
    pub(super) fn may_recover(&self, asked: &Recover) -> Result<Option<Recovered>, String> {
        self.called(asked.member)?;
        let (node, machine) = (self.member.replica().node(), self.member.replica().machine());
        let Some(cluster) = self.directory.cluster_id() else {
            return Err("this member belongs to no group: there is nothing to recover".to_owned());
        };
        if cluster == asked.plan.cluster {
            let begun = recovery::begun_by(self.directory.forced(), machine, asked.plan.start)?;
            if let Some(index) = begun {
                let hold_off_ms = machine.hold_off_ms().unwrap_or(0);
                return Ok(Some(Recovered { index, hold_off_ms }));
            }
            // Not applied, or a crash came before it: the whole log tells.
        } else if cluster != asked.cluster {
            return Err(format!(
                "cluster_id is {:032x}, and this member belongs to {cluster:032x}; nothing was \
                 changed",
                asked.cluster
            ));
        }
        if let Some(leader) = node.leader() {
            return Err(format!(
                "the group has a leader, {leader}: it has a majority, and nothing is to be \
                 recovered; change the membership instead"
            ));
        }
        // The whole log decides in the end; what is known now saves a restart.
        if let Start::Given(life) = asked.plan.start
            && life.token() <= machine.last_token()
        {
            return Err(recovery::too_low(life, machine.last_token()));
        }
        Ok(None)
    }

    /// Whether this member may end the hold-off of its group.
    pub(super) fn may_lift(&self, cluster: u128) -> Result<(), String> {
        if self.directory.cluster_id() != Some(cluster) {
            return Err("cluster_id is not that of this member's group".to_owned());
        }
        let node = self.member.replica().node();
        if node.role() != RoleName::Leader {
            return Err("this member does not lead; ask the leader".to_owned());
        }
        let machine = self.member.replica().machine();
        let Some(hold_off_ms) = machine.hold_off_ms() else { return Ok(()) };
        // Only this file knows of applications that were attached here.
        let forced = self.directory.forced();
        let Some(forced) = forced.filter(|forced| Token(forced.life) == machine.life()) else {
            return Err("the hold-off began at another member, which alone knows what its own \
                        applications may hold: have that one lead and ask it, or wait; nothing \
                        was changed"
                .to_owned());
        };
        let left = self.member.replica().own_hold_left(clock::now(), (hold_off_ms, forced.own_ms));
        if left.is_zero() {
            return Ok(());
        }
        Err(format!(
            "applications of this member may hold names of the old group for {} s more; ask again \
             then; nothing was changed",
            left.as_secs_f64().ceil()
        ))
    }

    fn called(&self, asked: MemberId) -> Result<(), String> {
        let own = self.member.replica().node().id();
        if asked == own {
            return Ok(());
        }
        Err(format!(
            "member_id is {asked}, and this member is {own}: the call reached the wrong member"
        ))
    }
}
