//! A command that runs only while its grant is held.
//!
//! Invariants: the process group of the command is gone before the grant's deadline, whatever the
//! sidecar does, and before the grant is released; it dies with the wrapper. Processes that leave
//! the group (`setsid`) leave the promise. Must not wait for the sidecar on any path that ends the
//! command.

pub mod campaign;
pub mod child;
pub mod exec;
pub mod hold;
pub mod notice;
mod program;
pub mod signals;
pub mod terminal;
