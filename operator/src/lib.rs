//! The Kubernetes operator: a `RaftCluster` becomes pods whose sidecars are one Raft group.
//!
//! One pass over one resource: `observe` reads, `plan` decides on at most one step, `apply` does it,
//! `status` tells. Only `observe`, `apply` and `controller` have clients; the rest is pure.

pub mod crd;
pub mod observed;
pub mod plan;
pub mod step;
