//! What this sidecar counts, as Prometheus text. Numbers only: no name, key or token of a client
//! ever appears here.
//!
//! Counters that others keep (the log's, the replica's) are copied in by `shown` when somebody
//! asks, so that nothing is written on the way of a request but a few atomics.

use quorate_raft::MemberId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Upper ends of the buckets of a stage, in microseconds: a loopback round trip to a stalled disk.
const BOUNDS_US: [u64; 16] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000,
];
/// Peers and sentences in the table of ignored messages.
const IGNORED_MAX: usize = 256;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long a stage takes: fixed buckets from 50 µs to 5 s.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One a bound, and one for what is longer.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// One measurement, in nanoseconds.
    pub fn observe_nanos(&self, nanos: u64) {
        let place = BOUNDS_US.partition_point(|bound| bound.saturating_mul(1_000) < nanos);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Measurements so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    fn render(&self, text: &mut String, stage: &str) {
        const NAME: &str = "quorate_stage_seconds";
        let mut sum = 0;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS_US) {
            sum += bucket.load(Ordering::Relaxed);
            let bound = seconds(bound.saturating_mul(1_000));
            line(text, format_args!("{NAME}_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {sum}"));
        }
        sum += self.buckets[BOUNDS_US.len()].load(Ordering::Relaxed);
        line(text, format_args!("{NAME}_bucket{{stage=\"{stage}\",le=\"+Inf\"}} {sum}"));
        let total = seconds(self.sum_nanos.load(Ordering::Relaxed));
        line(text, format_args!("{NAME}_sum{{stage=\"{stage}\"}} {total}"));
        line(text, format_args!("{NAME}_count{{stage=\"{stage}\"}} {sum}"));
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// See the module.
#[derive(Debug, Default)]
pub struct Metrics {
    /// From the arrival of a call to its place in the driver's batch.
    pub queued: Histogram,
    /// From the append at the leader to its own disk's word.
    pub durable: Histogram,
    /// From the append at the leader to the apply there.
    pub applied: Histogram,
    /// From the arrival of a call to its first answer.
    pub whole: Histogram,
    /// Messages handed to the sockets of peers.
    pub peer_sent: Counter,
    /// Messages taken from peers.
    pub peer_received: Counter,
    /// Messages to peers dropped because too many waited, or because the peer was away.
    pub peer_dropped: Counter,
    /// Heartbeats of sessions sent to the leader, when that is another member.
    pub heartbeats: Counter,
    /// Connections to peers made.
    pub peer_dials: Counter,
    /// Peers refused: another cluster, an older boot, a foreign name.
    pub peer_refused: Counter,
    /// Connections of peers that ended without a goodbye.
    pub peer_lost: Counter,
    /// Everything that is kept elsewhere.
    pub shown: Shown,
    ignored: Mutex<BTreeMap<(MemberId, &'static str), u64>>,
}

macro_rules! shown {
    ($($(#[$doc:meta])* $field:ident: $kind:literal, $help:literal;)*) => {
        /// Numbers of the log, the replica and the agent: set all of them before each rendering.
        #[derive(Debug, Default)]
        pub struct Shown { $($(#[$doc])* pub $field: Counter,)* }

        impl Shown {
            fn render(&self, text: &mut String) {
                $(family(text, concat!("quorate_", stringify!($field)), $kind, $help);
                line(text, format_args!(
                    concat!("quorate_", stringify!($field), " {}"), self.$field.get()
                ));)*
            }
        }
    };
}

shown! {
    /// Syncs of the log.
    flushes_total: "counter", "Syncs of the log since the start.";
    /// Bytes written to the log.
    log_written_bytes_total: "counter", "Bytes written to the log since the start.";
    /// Elections begun here.
    elections_total: "counter", "Elections begun by this member since the start.";
    /// Changes of the known leader.
    leader_changes_total: "counter", "Changes of the leader known here since the start.";
    /// Snapshots built.
    snapshots_built_total: "counter", "Snapshots built here since the start.";
    /// Snapshots installed.
    snapshots_installed_total: "counter", "Snapshots taken from a leader since the start.";
    /// Sessions expired by this leader.
    sessions_expired_total: "counter", "Sessions that this member expired as the leader.";
    /// Commands refused for lack of space.
    refused_full_total: "counter", "Commands refused because the disk is full.";
    /// Inbox items refused.
    inbox_dropped_total: "counter", "Messages and calls refused because too many waited.";
    /// The current term.
    term: "gauge", "The current term.";
    /// 1: this member leads.
    is_leader: "gauge", "1 while this member leads.";
    /// 1: a leader is known.
    has_leader: "gauge", "1 while this member knows a leader.";
    /// The commit index.
    commit_index: "gauge", "The last entry known to be committed.";
    /// The applied index.
    applied_index: "gauge", "The last entry applied.";
    /// The last index.
    last_index: "gauge", "The last entry of the log.";
    /// The durable index.
    durable_index: "gauge", "The last entry that is on this member's disk.";
    /// Sessions of the group.
    sessions: "gauge", "Sessions of the group.";
    /// Sessions attached here.
    local_sessions: "gauge", "Sessions attached to this sidecar.";
    /// Names in use.
    names: "gauge", "Names in use: held or waited for.";
    /// Calls open.
    calls: "gauge", "Calls of clients open here.";
    /// Peers connected.
    peers_connected: "gauge", "Peers whose messages can arrive.";
    /// 1: draining.
    draining: "gauge", "1 while this member is drained.";
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

impl Metrics {
    /// A peer's message made no sense: counted by peer and reason, `why` being one of the core's
    /// fixed sentences.
    pub fn peer_ignored(&self, from: MemberId, why: &'static str) {
        let mut ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        if ignored.len() < IGNORED_MAX || ignored.contains_key(&(from, why)) {
            *ignored.entry((from, why)).or_default() += 1;
        }
    }

    /// The text of `/metrics`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        family(&mut text, "quorate_build_info", "gauge", "1, labelled with the version.");
        let version = env!("CARGO_PKG_VERSION");
        line(&mut text, format_args!("quorate_build_info{{version=\"{version}\"}} 1"));
        self.shown.render(&mut text);
        self.render_own(&mut text);
        self.render_ignored(&mut text);
        let help = "How long each stage of a command takes.";
        family(&mut text, "quorate_stage_seconds", "histogram", help);
        let stages = [
            ("queued", &self.queued),
            ("durable", &self.durable),
            ("applied", &self.applied),
            ("whole", &self.whole),
        ];
        for (name, stage) in stages {
            stage.render(&mut text, name);
        }
        text
    }

    fn render_own(&self, text: &mut String) {
        let own = [
            ("peer_messages_sent_total", "Messages sent to peers.", &self.peer_sent),
            ("peer_messages_received_total", "Messages from peers.", &self.peer_received),
            ("peer_messages_dropped_total", "Messages to peers dropped.", &self.peer_dropped),
            (
                "session_heartbeats_total",
                "Heartbeats of sessions sent to the leader, when that is another member.",
                &self.heartbeats,
            ),
            ("peer_dials_total", "Connections to peers made.", &self.peer_dials),
            ("peer_refused_total", "Peers refused.", &self.peer_refused),
            ("peer_lost_total", "Connections of peers that broke.", &self.peer_lost),
        ];
        for (name, help, counter) in own {
            let name = format!("quorate_{name}");
            family(text, &name, "counter", help);
            line(text, format_args!("{name} {}", counter.get()));
        }
    }

    fn render_ignored(&self, text: &mut String) {
        let name = "quorate_peer_messages_ignored_total";
        family(text, name, "counter", "Messages of peers that made no sense.");
        let ignored = self.ignored.lock().unwrap_or_else(PoisonError::into_inner);
        for ((from, why), count) in &*ignored {
            line(text, format_args!("{name}{{from=\"{from}\",why=\"{why}\"}} {count}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_their_bounds_inclusive() {
        let histogram = Histogram::default();
        for nanos in [1, 50_000, 50_001, 4_999_999_999, 5_000_000_001] {
            histogram.observe_nanos(nanos);
        }
        let mut text = String::new();
        histogram.render(&mut text, "s");
        assert!(text.contains("_bucket{stage=\"s\",le=\"0.00005\"} 2\n"), "{text}");
        assert!(text.contains("_bucket{stage=\"s\",le=\"0.0001\"} 3\n"), "{text}");
        assert!(text.contains("_bucket{stage=\"s\",le=\"5\"} 4\n"), "{text}");
        assert!(text.contains("_bucket{stage=\"s\",le=\"+Inf\"} 5\n"), "{text}");
        assert!(text.contains("_count{stage=\"s\"} 5\n"), "{text}");
        assert!(text.contains("_sum{stage=\"s\"} 10.000100002\n"), "{text}");
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let metrics = Metrics::default();
        metrics.peer_ignored(MemberId(3), "an append of the past");
        metrics.shown.flushes_total.set(12);
        metrics.peer_sent.add_one();
        let text = metrics.render();
        for line in text.lines() {
            let sample = line.rsplit_once(' ').is_some_and(|(_, value)| {
                line.starts_with("quorate_") && value.parse::<f64>().is_ok()
            });
            assert!(sample || line.starts_with("# "), "{line}");
        }
        assert!(text.contains("\nquorate_flushes_total 12\n"));
        assert!(text.contains("\nquorate_peer_messages_sent_total 1\n"));
    }
}
