//! Golden scripts: one situation a file under `testdata/`; the input, a blank line, the output.
//! `REWRITE=1 cargo test -p quorate-raft --test golden` writes the outputs anew.
//!
//! The words of a script: `words.rs` for `log/` and `node/`, `quorum.rs` for `quorum/`.

#[cfg(test)]
#[path = "../disk/mod.rs"]
mod disk;
#[cfg(test)]
mod quorum;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod show;
#[cfg(test)]
mod words;
#[cfg(test)]
mod world;
