//! The sidecar: one member of a Raft group that lives beside an application, and its local API.
//!
//! The way of a request, each hop once: `api` decodes and checks limits, `driver` batches, `member`
//! runs the pure halves (`agent`, `replica`), `wal` syncs, `peer` carries; and back. See
//! ARCHITECTURE.md.

pub mod admin;
pub mod agent;
pub mod api;
pub mod attach;
pub mod backup;
pub mod clock;
pub mod config;
pub mod control;
pub mod descriptors;
pub mod dev;
pub mod driver;
pub mod frame;
pub mod http;
pub mod life;
pub mod lines;
pub mod local_socket;
pub mod maintenance;
pub mod member;
pub mod metrics;
pub mod peer;
pub mod planted;
pub mod process;
pub mod reason;
pub mod recovery;
pub mod relay;
pub mod replica;
pub mod run;
pub mod tls;
pub mod tool;
pub mod transport;
pub mod wal;
