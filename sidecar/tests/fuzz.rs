//! Mutated bytes into every decoder: it never panics, never believes a length, and what it takes
//! it gives again.
//!
//! Each loop starts from a corpus that the real encoders wrote (`corpus/`; `REWRITE=1` writes it
//! anew) and runs for `QUORATE_FUZZ_SECONDS`, by default 1. An input depends on its number alone.

#[path = "fuzz/fields.rs"]
mod fields;
#[path = "fuzz/frames.rs"]
mod frames;
#[path = "bit_flips/machine.rs"]
mod machine;
#[path = "wal/model.rs"]
#[expect(dead_code, reason = "only its random numbers are used here")]
mod model;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/relay.rs"]
mod relay;
#[path = "fuzz/stored.rs"]
mod stored;
