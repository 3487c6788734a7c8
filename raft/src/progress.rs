//! What a leader knows of one other member, and what it may send it next.
//!
//! Invariants: `matched < next <= last + 1`; `matched` never falls but to 0, for good, when the
//! member's disk is seen to have forgotten; what is on the way stays within the window. Must not
//! know the clock's use or the quorum.

use crate::config::Config;
use crate::log::Log;
use crate::message::Snapshot;
use crate::planted::{self, Bug};
use crate::types::{Index, LogId, Round, Time};
use std::collections::VecDeque;

/// What a leader knows of another member, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its log equals the leader's up to here, durably; 0 where that is not known.
    pub matched: Index,
    /// When it answered last in this term, or when the leader began to count.
    pub heard: Time,
    /// Its disk forgot what it had acknowledged: it counts for nothing.
    pub quarantined: bool,
}

#[derive(Clone, Hash)]
pub(crate) struct Progress {
    /// The member's log equals ours up to here, durably there.
    pub(crate) matched: Index,
    /// What earlier processes of the member acknowledged; the present one holds as much.
    pub(crate) acknowledged: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    pub(crate) state: State,
    /// When it last answered in this term.
    pub(crate) heard: Time,
    /// The last read round that it acknowledged.
    pub(crate) acked: Round,
    /// The last read round that it was sent.
    pub(crate) asked: Round,
    /// The last commit index that it was sent.
    pub(crate) told: Index,
    /// A heartbeat is due.
    pub(crate) due: bool,
    /// It answered, and had not taken the entries that it was sent: its disk has no room, or they
    /// were lost. Until it takes one it is sent one with each heartbeat.
    pub(crate) stuck: bool,
}

#[derive(Clone, Hash)]
pub(crate) enum State {
    /// Where its log and ours part is not known: one message at a time.
    Probe {
        /// A message with entries is on its way; until it is answered only heartbeats follow.
        waiting: bool,
    },
    /// Its log holds `next - 1` and takes entries as they come.
    Stream(Window),
    /// Its log ends before ours begins.
    Snapshot(Sending),
    /// Its disk forgot what it had acknowledged: it counts for nothing, and is sent nothing.
    Quarantine,
}

/// Messages on their way: the last index and the bytes of each.
#[derive(Clone, Default, Hash)]
pub(crate) struct Window {
    messages: VecDeque<(Index, u64)>,
    bytes: u64,
}

/// A snapshot on its way, one part at a time. Holds the snapshot itself: a newer one may be taken
/// meanwhile.
#[derive(Clone, Hash)]
pub(crate) struct Sending {
    pub(crate) snapshot: Snapshot,
    /// Where the part begins that is on its way, or is to be sent.
    pub(crate) offset: u64,
    /// When the part left; `None`: not yet.
    pub(crate) sent: Option<Time>,
    /// Until then what left takes at the highest rate.
    pub(crate) paid: Time,
}

impl Sending {
    /// From when on the next part may leave: up to one window ahead of the rate.
    pub(crate) fn leaves(&self, config: &Config) -> Time {
        Time(self.paid.0.saturating_sub(config.part_ns(config.window_bytes)))
    }

    /// The length of the whole.
    pub(crate) fn total(&self) -> u64 {
        u64::try_from(self.snapshot.data.len()).unwrap_or(u64::MAX)
    }
}

impl Progress {
    /// Of a member about which a new leader knows nothing; `next` follows the old end of the log.
    pub(crate) fn new(next: Index, now: Time) -> Progress {
        assert!(next > Index(0));
        Progress {
            matched: Index(0),
            acknowledged: Index(0),
            next,
            state: State::Probe { waiting: false },
            heard: now,
            acked: Round(0),
            asked: Round(0),
            told: Index(0),
            due: false,
            stuck: false,
        }
    }

    /// Whether what it lacks of a log that ends at `last` is on its way and fits in one window.
    pub(crate) fn is_caught_up(&self, last: Index, window_entries: u64) -> bool {
        matches!(self.state, State::Stream(_)) && last.0 - self.matched.0 <= window_entries
    }

    /// Entries and bytes that may be sent now.
    pub(crate) fn room(&self, config: &Config) -> Option<(u64, u64)> {
        match &self.state {
            State::Probe { waiting } if self.stuck => {
                (self.due || !waiting).then_some((1, config.frame_bytes))
            }
            State::Probe { waiting: false } => Some((config.window_entries, config.frame_bytes)),
            State::Stream(window) => {
                let on_way = self.next.0 - 1 - self.matched.0;
                let entries = config.window_entries.saturating_sub(on_way);
                let bytes = config.window_bytes.saturating_sub(window.bytes);
                let empty = window.messages.is_empty() && entries > 0;
                (empty || (entries > 0 && bytes > 0))
                    .then_some((entries, bytes.min(config.frame_bytes)))
            }
            State::Probe { waiting: true } | State::Snapshot(_) | State::Quarantine => None,
        }
    }

    /// Entries up to `last` have left.
    pub(crate) fn sent(&mut self, last: Index, bytes: u64) {
        self.due = false;
        match &mut self.state {
            State::Probe { waiting } => *waiting = true,
            State::Stream(window) => {
                assert!(last >= self.next, "entries leave in order");
                window.messages.push_back((last, bytes));
                window.bytes += bytes;
                self.next = last.next();
            }
            State::Snapshot(_) | State::Quarantine => {}
        }
    }

    /// A newer process of it is up; what was on its way to the one before is lost.
    pub(crate) fn restarted(&mut self) {
        self.acknowledged = self.matched;
        self.stuck = false;
        if let State::Probe { .. } | State::Stream(_) = self.state {
            self.next = self.matched.next();
            self.state = State::Probe { waiting: false };
        }
    }

    /// Whether a refusal says that the log ends before what an earlier process acknowledged in this
    /// term. Within the term nothing deletes that, so the disk did.
    pub(crate) fn forgot(&self, prev: LogId, hint: LogId) -> bool {
        prev.index >= self.acknowledged && hint.index < self.acknowledged
    }

    pub(crate) fn standing(&self) -> Standing {
        let quarantined = matches!(self.state, State::Quarantine);
        Standing { matched: self.matched, heard: self.heard, quarantined }
    }

    /// Counts for nothing from now on.
    pub(crate) fn quarantine(&mut self) {
        *self = Progress { state: State::Quarantine, ..Progress::new(self.next, Time(0)) };
    }

    /// Its log equals ours up to `index`, durably. An old answer lowers nothing, and one of 0
    /// says nothing of the log, unless 0 is what was asked about.
    pub(crate) fn acknowledge(&mut self, index: Index) {
        if index == Index(0) && self.next > Index(1) {
            return;
        }
        let news = index > self.matched;
        self.stuck &= !news;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched.next());
        match &mut self.state {
            // Once more at once, for a message that was lost.
            State::Probe { waiting: waiting @ true }
                if !news && !self.stuck && !planted::is(Bug::StuckIsSentAll) =>
            {
                (self.stuck, *waiting) = (true, false);
            }
            State::Probe { .. } if self.stuck => {}
            State::Probe { .. } => self.state = State::Stream(Window::default()),
            State::Stream(window) => {
                while let Some((last, bytes)) = window.messages.front()
                    && *last <= self.matched
                {
                    window.bytes -= bytes;
                    window.messages.pop_front();
                }
            }
            State::Snapshot(sending) => {
                if self.matched >= sending.snapshot.last.index {
                    self.next = self.matched.next();
                    self.state = State::Stream(Window::default());
                }
            }
            State::Quarantine => {}
        }
    }

    /// Its log does not hold `prev`; it holds nothing of a term up to `prev.term` after `hint`.
    /// Skips a whole term of ours as well. Old answers are known by their `prev`; one that denies
    /// what was acknowledged since is old as well, or its sender is not to be helped.
    pub(crate) fn reject(&mut self, prev: LogId, hint: LogId, log: &Log) {
        let old = match self.state {
            State::Snapshot(_) | State::Quarantine => true,
            State::Probe { .. } => prev.index.next() != self.next,
            State::Stream(_) => prev.index >= self.next,
        };
        if old || prev.index <= self.matched {
            return;
        }
        // Below what is in memory only a snapshot helps; `Index(0)` says so to the sender.
        let common = log.last_at_most(hint.term, hint.index).map_or(Index(0), |id| id.index);
        self.next = common.max(self.matched).next();
        self.state = State::Probe { waiting: false };
    }

    /// When the next part of a snapshot may leave, if nothing else keeps it.
    pub(crate) fn part_ready(&self, config: &Config) -> Time {
        match &self.state {
            State::Snapshot(sending) if sending.sent.is_none() => sending.leaves(config),
            _ => Time::NEVER,
        }
    }

    /// Begins to send a snapshot.
    pub(crate) fn start_snapshot(&mut self, snapshot: Snapshot) {
        self.next = snapshot.last.index.next();
        self.state = State::Snapshot(Sending { snapshot, offset: 0, sent: None, paid: Time(0) });
    }

    /// It holds so many bytes of the snapshot that ends at `last`. An answer to a part that was
    /// sent twice moves nothing: else each of the two would bring about a part of its own for ever.
    /// Gives false if the answer makes no sense.
    pub(crate) fn received(&mut self, last: LogId, received: u64) -> bool {
        let State::Snapshot(sending) = &mut self.state else { return true };
        if sending.snapshot.last != last {
            return true;
        }
        if received > sending.total() {
            return false;
        }
        if received == sending.total() {
            self.acknowledge(last.index);
        } else if received != sending.offset {
            sending.offset = received;
            sending.sent = None;
        }
        true
    }

    pub(crate) fn check(&self, last: Index) {
        assert!(self.matched < self.next && self.next <= last.next());
        assert!(self.acked <= self.asked, "nobody acknowledges what was not asked");
        let counted = self.matched > Index(0) || self.acked > Round(0);
        assert!(!counted || !matches!(self.state, State::Quarantine));
        if let State::Stream(window) = &self.state {
            assert!(window.bytes == window.messages.iter().map(|(_, bytes)| bytes).sum());
            assert!(window.messages.iter().is_sorted());
            assert!(window.messages.back().is_none_or(|(last, _)| *last < self.next));
        }
    }
}
