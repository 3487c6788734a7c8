//! Recorded clients against real sidecars, the checker of what they recorded, and what people see
//! of a demo. A crate of its own, so that what runs beside a real Kubernetes needs nothing else of
//! the tests.
//!
//! They speak the contract itself, not the client library: what they record is what was on the
//! wire. Every answer is one of three: done, definitely not done, unknown; only the first two are
//! judged.

mod client;
mod history;
mod metrics;
mod prober;
pub mod screen;
mod worker;

pub use client::{Attached, Caller, Failed, channel};
pub use history::{Fact, History};
pub use metrics::metric_at;
pub use prober::{Failure, Gaps, Prober, boottime_ns};
pub use worker::work;
