//! The Kubernetes operator: a `RaftCluster` becomes pods whose sidecars are one Raft group.
//!
//! One pass over one resource: `observe` reads, `plan` decides on at most one step, `status` tells
//! it, `apply` does it. Architecture invariant: `crd`, `observed`, `step`, `plan`, `status` and
//! `build` have no client, no clock and no randomness: equal observations give equal plans.

pub mod admin;
pub mod apply;
pub mod authority;
pub mod build;
pub mod certificates;
pub mod check;
pub mod context;
pub mod controller;
pub mod crd;
pub mod follow;
pub mod http;
pub mod inject;
pub mod lease;
pub mod observe;
pub mod observed;
pub mod plan;
pub mod rotation;
pub mod status;
pub mod step;
pub mod validate;
pub mod webhook;
