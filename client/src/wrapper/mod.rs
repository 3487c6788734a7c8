//! A command that runs only while its grant is held.
//!
//! Invariants: the process group of the command is gone before the grant's deadline, whatever the
//! sidecar does, and before the grant is released; a wrapper that is killed leaves that to the
//! guardian. Processes that leave the group (`setsid`) leave the promise. Must not wait on any path
//! that ends the command: for the sidecar, or for whoever reads its words.

pub mod campaign;
pub mod child;
pub mod exec;
pub mod guardian;
pub mod hold;
pub mod notice;
mod program;
pub mod signals;
pub mod terminal;
pub mod wait;
