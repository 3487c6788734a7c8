//! The trace: a running hash of every input, output, write and fault. Equal traces mean equal runs.

use std::fmt::{self, Write as _};

/// FNV-1a over the text of what happens, with the time of each.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    print: bool,
}

impl Trace {
    /// A trace that also prints, or only hashes.
    #[must_use]
    pub fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: 0, print }
    }

    /// Adds one thing that happened at `now` (simulated ns).
    pub fn line(&mut self, now: u64, what: fmt::Arguments<'_>) {
        self.lines += 1;
        if self.print {
            let (seconds, micros) = (now / 1_000_000_000, now / 1_000 % 1_000_000);
            eprintln!("{seconds:4}.{micros:06} {what}");
        }
        for byte in now.to_le_bytes() {
            self.byte(byte);
        }
        // Hashing cannot fail.
        let _ = Sink(self).write_fmt(what);
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Things that happened so far.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    fn byte(&mut self, byte: u8) {
        self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
}

struct Sink<'a>(&'a mut Trace);

impl fmt::Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0.byte(byte);
        }
        Ok(())
    }
}
