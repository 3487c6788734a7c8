//! The operator's probe port: `/livez`, `/readyz` and `/metrics`, the last in the text format of
//! Prometheus.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// What probes are told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health {
    flags: Arc<Flags>,
}

#[derive(Debug, Default)]
struct Flags {
    set_up: AtomicBool,
    /// Somebody waits for the webhook, which does not serve yet.
    webhook_due: AtomicBool,
    leads: AtomicBool,
    passes: AtomicU64,
    /// Of those.
    failures: AtomicU64,
    /// Of all passes, from their first question to their last answer.
    nanos: AtomicU64,
}

/// By this the kernel counts a process's time, on every machine that we build for.
const TICKS_A_SECOND: f64 = 100.0;

impl Health {
    /// The process is set up, and waits for its turn or works.
    pub fn set_up(&self) {
        self.flags.set_up.store(true, Ordering::Relaxed);
    }

    /// Not ready until [`Health::webhook_serves`].
    pub fn webhook_wanted(&self) {
        self.flags.webhook_due.store(true, Ordering::Relaxed);
    }

    /// The webhook serves.
    pub fn webhook_serves(&self) {
        self.flags.webhook_due.store(false, Ordering::Relaxed);
    }

    /// A pass over one resource ended.
    pub fn passed(&self, took: Duration, failed: bool) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.flags.passes.fetch_add(1, Ordering::Relaxed);
        self.flags.failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        self.flags.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// This one works.
    pub fn leads(&self) {
        self.flags.leads.store(true, Ordering::Relaxed);
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, health: Health) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    // An error of one connection is that connection's.
    let _ = axum::serve(listener, router).await;
}

/// One that waits for the Lease is as ready as one that has it: it serves the webhook, and takes
/// over when it may.
async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let flags = &health.flags;
    if flags.set_up.load(Ordering::Relaxed) && !flags.webhook_due.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not set up yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> String {
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed).to_string();
    let flags = &health.flags;
    let seconds = Duration::from_nanos(flags.nanos.load(Ordering::Relaxed)).as_secs_f64();
    let rows = [
        ("quorate_operator_leads", "gauge", "Whether this process holds the Lease.", {
            u8::from(flags.leads.load(Ordering::Relaxed)).to_string()
        }),
        (
            "quorate_operator_passes_total",
            "counter",
            "Passes over one RaftCluster.",
            count(&flags.passes),
        ),
        (
            "quorate_operator_pass_failures_total",
            "counter",
            "Those that ended with an error.",
            count(&flags.failures),
        ),
        (
            "quorate_operator_pass_seconds_total",
            "counter",
            "How long they took, answers of the API server and of sidecars included.",
            seconds.to_string(),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows.into_iter().chain(process()) {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
    }
    text
}

type Row = (&'static str, &'static str, &'static str, String);

/// What the kernel counts of this process; nothing where it does not say.
fn process() -> Vec<Row> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}"));
    let cpu = read("stat").ok().as_deref().and_then(cpu_seconds).map(|seconds| {
        ("process_cpu_seconds_total", "counter", "User and system time.", seconds.to_string())
    });
    let memory = read("status").ok().as_deref().and_then(resident_bytes).map(|bytes| {
        ("process_resident_memory_bytes", "gauge", "Resident memory.", bytes.to_string())
    });
    cpu.into_iter().chain(memory).collect()
}

/// proc_pid_stat(5): utime and stime, the 14th and 15th field; the second one may hold spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u32 = fields.get(11)?.parse().ok()?;
    Some(f64::from(ticks + fields.get(12)?.parse::<u32>().ok()?) / TICKS_A_SECOND)
}

/// proc_pid_status(5).
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_own_words_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 150 25 0 0 20 0 1 0 99 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2_097_152));
        assert_eq!(process().len(), 2);
    }

    #[tokio::test]
    async fn passes_are_counted() {
        let health = Health::default();
        health.passed(Duration::from_millis(1_500), false);
        health.passed(Duration::from_millis(500), true);
        let page = metrics(State(health)).await;
        for line in [
            "quorate_operator_leads 0",
            "quorate_operator_passes_total 2",
            "quorate_operator_pass_failures_total 1",
            "quorate_operator_pass_seconds_total 2",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is missing in {page}");
        }
    }
}
