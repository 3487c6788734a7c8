//! The operator's probe port: `/livez`, `/readyz` and `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
}

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

/// One that waits for the Lease is as ready as one that has it: it takes over at once.
async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let flags = &health.flags;
    if flags.set_up.load(Ordering::Relaxed) && !flags.webhook_due.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not set up yet\n")
    }
}

async fn metrics(State(health): State<Health>) -> String {
    let leads = u8::from(health.flags.leads.load(Ordering::Relaxed));
    format!(
        "# HELP quorate_operator_leads Whether this process holds the Lease.\n\
         # TYPE quorate_operator_leads gauge\n\
         quorate_operator_leads {leads}\n"
    )
}
