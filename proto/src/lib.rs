//! The contracts as Rust types: messages, clients and servers, generated from `proto/proto/` and
//! committed.
//!
//! `cargo xtask codegen` makes `src/generated` anew; `cargo xtask test` fails when it is stale. No
//! `protoc` is needed.
//!
//! Architecture invariant: nothing here but generated code and the descriptor set. Limits, defaults
//! and conversions belong to those who use the types.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
mod generated {
    pub mod quorate_v1 { include!("generated/quorate.v1.rs"); }
    pub mod admin_v1 { include!("generated/quorate.admin.v1.rs"); }
    pub mod peer_v1 { include!("generated/quorate.peer.v1.rs"); }
}

/// `quorate.v1`: the local API.
pub use generated::quorate_v1 as v1;

/// `quorate.admin.v1`: for the operator and people.
pub use generated::admin_v1 as admin;

/// `quorate.peer.v1`: between members.
pub use generated::peer_v1 as peer;

/// Every service and message as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor_set.bin");
