//! Leading: replication, commitment, reads, activity.
//!
//! Invariants: a leader never deletes from its own log; it commits by counting only entries of its
//! own term; its own match is what its own disk has; it steps down once a quorum was silent for T,
//! or its own disk. Sends leave in `flush` only, so that a batch costs one message a member.

use crate::log::entry_cost;
use crate::membership::Membership;
use crate::message::{Answer, Body, Event, Outcome, Output, Why};
use crate::node::{Node, Role, ignore};
use crate::planted::{self, Bug};
use crate::progress::{Progress, State};
use crate::quorum::{has_quorum, quorum_value};
use crate::read::Reads;
use crate::transfer::Handover;
use crate::types::{Entry, Index, IoSeq, Kind, LogId, MemberId, Round, Term, Ticket, Time};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Hash)]
pub(crate) struct Leader {
    /// Everybody else in the configuration, and who left and is still told so.
    pub(crate) progress: BTreeMap<MemberId, Progress>,
    /// The first entry of this term.
    pub(crate) noop: Index,
    /// The no-op was handed to apply, and the host was told.
    pub(crate) ready: bool,
    pub(crate) reads: Reads,
    pub(crate) membership: Membership,
    /// When the next heartbeat is due.
    heartbeat: Time,
    pub(crate) handover: Option<Handover>,
    /// Who did not take an offer since each was made one.
    pub(crate) declined: BTreeSet<MemberId>,
    /// When a drained leader offers leadership again.
    pub(crate) offer: Time,
    /// Bytes of the entries after the commit index.
    pub(crate) uncommitted: u64,
}

impl Node {
    /// Won the election of this term.
    pub(crate) fn lead(&mut self, out: &mut Output) {
        assert!(self.vote == Some(self.config.id), "a leader voted for itself");
        let me = self.config.id;
        let next = self.log.last().index.next();
        let members = self.log.configuration().members();
        let others = members.filter(|(id, _)| *id != me);
        let progress = others.map(|(id, _)| (id, Progress::new(next, self.now))).collect();
        let noop = Entry::new(LogId { term: self.term, index: next }, Kind::Noop, &[]);
        self.append(noop, out);
        self.term_leader = Some(me);
        self.role = Role::Leader(Box::new(Leader {
            progress,
            noop: next,
            ready: false,
            reads: Reads::default(),
            membership: Membership::default(),
            heartbeat: self.now.after(self.config.heartbeat_ns),
            handover: None,
            declined: BTreeSet::new(),
            offer: self.now,
            uncommitted: self.log.bytes_after(self.commit.index),
        }));
    }

    pub(crate) fn step_down(&mut self, out: &mut Output) {
        self.follow(self.term, None, out);
    }

    pub(crate) fn leader_deadline(&self, leader: &Leader) -> Time {
        let handover = leader.handover.as_ref().filter(|_| !planted::is(Bug::TransferForEver));
        let handover = handover.map_or(Time::NEVER, |handover| handover.deadline);
        let oldest = self.writes.oldest().filter(|_| !planted::is(Bug::StalledDiskLeads));
        let stall = oldest
            .map_or(Time::NEVER, |since| since.after(self.config.election_timeout_ns).after(1));
        let parts = leader.progress.values().map(|progress| progress.part_ready(&self.config));
        let part = parts.min().unwrap_or(Time::NEVER);
        leader.heartbeat.min(handover).min(stall).min(part).min(leader.membership.deadline())
    }

    /// Whether the oldest unfinished write is older than T.
    pub(crate) fn is_disk_stalled(&self) -> bool {
        let timeout = self.config.election_timeout_ns;
        let stalled = self.writes.oldest().is_some_and(|since| self.now.since(since) > timeout);
        stalled && !planted::is(Bug::StalledDiskLeads)
    }

    pub(crate) fn leader_timer(&mut self, out: &mut Output) {
        let silent =
            |node: &mut Node, out: &mut Output| !node.is_active() && !node.give_up_for_silence(out);
        if self.is_disk_stalled() || silent(self, out) {
            return self.step_down(out);
        }
        self.resume_in_time();
        self.offer_again();
        let Role::Leader(leader) = &mut self.role else { return };
        if self.now >= leader.heartbeat {
            leader.heartbeat = self.now.after(self.config.heartbeat_ns);
            for progress in leader.progress.values_mut() {
                progress.due = true;
            }
            if let Some(handover) = &mut leader.handover {
                handover.told = false;
            }
        }
    }

    /// Whether a quorum was heard of within T.
    fn is_active(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        has_quorum(self.log.configuration(), |id| self.is_heard(leader, id))
    }

    /// Whether this member was heard of within T.
    pub(crate) fn is_heard(&self, leader: &Leader, id: MemberId) -> bool {
        let heard = leader.progress.get(&id).map_or(Time(0), |progress| progress.heard);
        id == self.config.id || self.now.since(heard) <= self.config.election_timeout_ns
    }

    /// Whether a command may be appended now.
    pub(crate) fn admit(&self, command: &[u8]) -> Result<(), Why> {
        let Role::Leader(leader) = &self.role else { return Err(self.not_leading()) };
        let length = u64::try_from(command.len()).unwrap_or(u64::MAX);
        if length > self.config.command_bytes {
            return Err(Why::TooLarge);
        }
        if leader.handover.is_some() {
            return Err(Why::Transferring);
        }
        let entries = self.log.last().index.0 - self.commit.index.0;
        let full = entries >= self.config.uncommitted_entries
            || leader.uncommitted.saturating_add(length) > self.config.uncommitted_bytes;
        if full { Err(Why::Busy) } else { Ok(()) }
    }

    pub(crate) fn append_command(&mut self, command: &[u8], out: &mut Output) -> LogId {
        self.append_own(Kind::Command, command, out)
    }

    /// Appends an entry of this term.
    pub(crate) fn append_own(&mut self, kind: Kind, payload: &[u8], out: &mut Output) -> LogId {
        let id = LogId { term: self.term, index: self.log.last().index.next() };
        let entry = Entry::new(id, kind, payload);
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted += entry_cost(&entry);
        }
        self.append(entry, out);
        id
    }

    pub(crate) fn read(&mut self, ticket: Ticket, out: &mut Output) {
        if planted::is(Bug::ReadByLease) && self.is_active() && self.commit.term == self.term {
            return out.done.push((ticket, Outcome::ReadAt(self.commit.index)));
        }
        if let Role::Leader(leader) = &mut self.role {
            return leader.reads.add(ticket);
        }
        let refused = Outcome::NotAppended(self.not_leading(), self.leader());
        out.done.push((ticket, refused));
    }

    /// What the member acknowledged must be on its disk: its next answer tells.
    pub(crate) fn peer_restarted(&mut self, peer: MemberId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&peer)
        {
            progress.restarted();
        }
    }

    /// A follower's answer in this term.
    pub(crate) fn follower_answered(&mut self, from: MemberId, body: Body, out: &mut Output) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else {
            return ignore(from, "an answer of no member", out);
        };
        let (Body::AppendReply { round, .. } | Body::SnapshotReply { round, .. }) = &body else {
            return;
        };
        if *round > progress.asked {
            return ignore(from, "an answer to a round that was not asked", out);
        }
        if let State::Quarantine = progress.state {
            return ignore(from, "an answer of a member in quarantine", out);
        }
        if let Body::AppendReply { answer: Answer::Mismatch { prev, hint }, .. } = &body
            && progress.forgot(*prev, *hint)
            && !planted::is(Bug::ForgetfulCounts)
        {
            let (holds, acknowledged) = (hint.index, progress.matched);
            progress.quarantine();
            return out.events.push(Event::Quarantined { member: from, holds, acknowledged });
        }
        progress.heard = self.now;
        progress.acked = progress.acked.max(*round);
        let last = self.log.last().index;
        let why = match body {
            Body::AppendReply { answer: Answer::Durable(index), .. } => {
                if index <= last {
                    progress.acknowledge(index);
                    None
                } else {
                    Some("an acknowledgement after the end of the log")
                }
            }
            Body::AppendReply { answer: Answer::Mismatch { prev, hint }, .. } => {
                if hint.index < prev.index && prev.index <= last {
                    progress.reject(prev, hint, &self.log);
                    None
                } else {
                    Some("a refusal of what was not sent")
                }
            }
            Body::SnapshotReply { last, received, .. } => {
                (!progress.received(last, received)).then_some("more of a snapshot than there is")
            }
            _ => None,
        };
        if let Some(why) = why {
            ignore(from, why, out);
        }
        self.advance_commit();
        self.confirm_reads(out);
    }

    /// Commits what a quorum has durably, if it is of this term (Raft paper, section 5.4.2).
    pub(crate) fn advance_commit(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (me, own) = (self.config.id, self.log.durable());
        let flushed = !planted::is(Bug::OwnEntryBeforeFlush);
        let own = if flushed { own } else { self.log.last().index };
        let since = Time(self.now.0.saturating_sub(self.config.election_timeout_ns));
        let dead = |p: &Progress| planted::is(Bug::QuorumOfTheLive) && p.heard < since;
        let matched = |p: &Progress| if dead(p) { own } else { p.matched };
        let matched = |id| leader.progress.get(&id).map_or(Index(0), matched);
        let matched = |id| if id == me { own } else { matched(id) };
        let Some(index) = quorum_value(self.log.configuration(), matched) else { return };
        let Some(id) = self.log.id_at(index) else { return };
        let own_term = id.term == self.term || planted::is(Bug::OldTermByCounting);
        if id.index > self.commit.index && own_term {
            let mut index = self.commit.index;
            while index < id.index {
                index = index.next();
                leader.uncommitted -= self.log.entry(index).map_or(0, entry_cost);
            }
            self.commit = id;
        }
    }

    /// Says once a term that everything of earlier terms was handed to apply.
    pub(crate) fn announce_ready(&mut self, out: &mut Output) {
        if let Role::Leader(leader) = &mut self.role
            && !leader.ready
            && self.handed >= leader.noop
        {
            leader.ready = true;
            out.events.push(Event::LeaderReady(self.term));
        }
    }

    fn confirm_reads(&mut self, out: &mut Output) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (me, own) = (self.config.id, leader.reads.last());
        let acked = |id| leader.progress.get(&id).map_or(Round(0), |progress| progress.acked);
        let acked = |id| if id == me { own } else { acked(id) };
        if let Some(round) = quorum_value(self.log.configuration(), acked) {
            leader.reads.confirm(round, out);
        }
    }

    pub(crate) fn flush_leader(&mut self, out: &mut Output) {
        let Role::Leader(leader) = &mut self.role else { return };
        if self.applied >= leader.noop || planted::is(Bug::ReadBeforeNoOp) {
            leader.reads.start(self.commit.index);
        }
        let round = leader.reads.last();
        // Taken out for the loop, which reads the rest of the node.
        let mut all = std::mem::take(&mut leader.progress);
        for (id, progress) in &mut all {
            self.replicate(*id, progress, round, out);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.progress = all;
        }
        self.confirm_reads(out);
        self.order_target(out);
        self.retire(out);
    }

    /// Everything that may leave for one member now.
    fn replicate(&self, to: MemberId, progress: &mut Progress, round: Round, out: &mut Output) {
        let base = self.log.base().index;
        let asleep = matches!(progress.state, State::Probe { .. }) && progress.next == base;
        if asleep && base > Index(0) && planted::is(Bug::BehindByOne) {
            progress.due = false;
            return;
        }
        let behind = progress.next <= base;
        if let State::Quarantine = progress.state {
            return;
        }
        if behind
            && !matches!(progress.state, State::Snapshot(_))
            && let Some(snapshot) = self.log.snapshot()
        {
            progress.start_snapshot(snapshot.clone());
        }
        let mut sent = self.send_part(to, progress, round, out);
        while let Some((count, bytes)) = progress.room(&self.config) {
            let entries = self.log.entries_from(progress.next, count, bytes);
            let Some(last) = entries.last().map(Entry::id) else { break };
            let cost = entries.iter().map(entry_cost).sum();
            self.send_append(to, progress, (entries, round), out);
            progress.sent(last.index, cost);
            sent = true;
        }
        if !sent && (progress.due || progress.asked < round) {
            self.send_append(to, progress, (Vec::new(), round), out);
        }
        progress.due = false;
        self.send_notice(to, progress, out);
    }

    /// Tells of a commit that no append of this flush has told of.
    fn send_notice(&self, to: MemberId, progress: &mut Progress, out: &mut Output) {
        let held = self.commit.index < progress.next;
        let news = progress.told < self.commit.index;
        if matches!(progress.state, State::Stream(_)) && held && news {
            progress.told = self.commit.index;
            self.send(to, Body::Commit { commit: self.commit }, IoSeq(0), out);
        }
    }

    /// An append of what follows `next - 1`; without entries a heartbeat or a probe.
    fn send_append(
        &self,
        to: MemberId,
        progress: &mut Progress,
        (entries, round): (Vec<Entry>, Round),
        out: &mut Output,
    ) {
        let before = progress.next.previous();
        let prev = match &progress.state {
            State::Snapshot(sending) => sending.snapshot.last,
            _ => self.log.id_at(before).expect("a member behind the log is sent a snapshot"),
        };
        let end = entries.last().map_or(prev, Entry::id);
        let commit = if self.commit.index <= end.index { self.commit } else { end };
        progress.told = progress.told.max(commit.index);
        progress.asked = round;
        self.send(to, Body::Append { prev, entries, commit, round }, IoSeq(0), out);
    }

    /// The next part of a snapshot, or the last one again if it was not answered for two
    /// heartbeats. A part leaves once the one before it was answered, and not before the rate
    /// allows. Gives whether anything left.
    fn send_part(
        &self,
        to: MemberId,
        progress: &mut Progress,
        round: Round,
        out: &mut Output,
    ) -> bool {
        let patience = self.config.heartbeat_ns.saturating_mul(2);
        let State::Snapshot(sending) = &mut progress.state else { return false };
        let from =
            sending.sent.map_or_else(|| sending.leaves(&self.config), |sent| sent.after(patience));
        if self.now < from {
            return false;
        }
        sending.sent = Some(self.now);
        let data = &sending.snapshot.data;
        let start = usize::try_from(sending.offset).unwrap_or(usize::MAX).min(data.len());
        let length = usize::try_from(self.config.snapshot_chunk_bytes).unwrap_or(usize::MAX);
        let end = start.saturating_add(length.max(1)).min(data.len());
        let bytes = u64::try_from(end - start).unwrap_or(u64::MAX);
        sending.paid = sending.paid.max(self.now).after(self.config.part_ns(bytes));
        let body = Body::Snapshot {
            last: sending.snapshot.last,
            configuration: sending.snapshot.configuration.clone(),
            offset: sending.offset,
            total: sending.total(),
            chunk: data[start..end].into(),
            round,
        };
        progress.asked = round;
        self.send(to, body, IoSeq(0), out);
        true
    }

    pub(crate) fn check_leader(&self, leader: &Leader) {
        let last = self.log.last();
        assert!(self.vote == Some(self.config.id) && self.term > Term(0));
        assert!(self.log.id_at(leader.noop).is_none_or(|id| id.term == self.term));
        assert!(leader.noop <= last.index && last.term == self.term, "a leader only appends");
        assert!(leader.uncommitted == self.log.bytes_after(self.commit.index));
        let members = self.log.configuration().members().map(|(id, _)| id);
        let known: BTreeSet<MemberId> = members.chain(leader.membership.departing()).collect();
        let others = known.iter().filter(|id| **id != self.config.id);
        assert!(others.eq(leader.progress.keys()), "it knows whom it sends to");
        self.check_membership(leader);
        for progress in leader.progress.values() {
            progress.check(last.index);
        }
        leader.reads.check();
    }
}
