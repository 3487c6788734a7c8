//! Recorded clients against real sidecars, and the checker of what they recorded.
//!
//! They speak the contract itself, not the client library: what they record is what was on the
//! wire. Every answer is one of three: done, definitely not done, unknown; only the first two are
//! judged.

mod client;
mod history;
mod prober;
mod worker;

pub use client::{Attached, Caller, Failed, channel};
pub use history::{Fact, History};
pub use prober::{Failure, Gaps, Prober, boottime_ns};
pub use worker::work;
