//! The simulator: the product's own `Member`, agent and holder's deadline, on simulated clocks,
//! disks and networks.
//!
//! One seed decides everything: `cargo xtask simulate --seed N` replays one run exactly. What must
//! hold is in `checker.rs`, and shares no logic with what it checks; the lock service is replayed
//! through `model.rs`.

pub mod checker;
pub mod client;
mod clients;
mod disks;
mod eight;
pub mod faults;
pub mod history;
pub mod kept;
mod membership;
pub mod model;
pub mod network;
pub mod node;
mod power;
pub mod random;
pub mod report;
pub mod totals;
pub mod trace;
mod twice;
pub mod world;
